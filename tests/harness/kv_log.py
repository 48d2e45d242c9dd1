"""Log entries by hand, and state machines fed with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zkv.core.mvcc.engine import MemoryEngine
from zkv.core.mvcc.machine import StateMachine
from zkv.errors import ZkvError, from_code
from zkv.limits import Limits
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zkv.core.mvcc.engine import Reader

OP_OF = {cls: int(op) for op, cls in m.REQUEST_CLASSES.items()}
TOP = b"\xff" * 8


def machine(engine: Any = None, member: int = 1, limits: Limits | None = None, **options: Any) -> StateMachine:
    engine = MemoryEngine() if engine is None else engine
    return StateMachine(engine, limits or Limits(), cluster_id=9, member_id=member, **options)


def group(
    *requests: Any, session: bytes = b"", floor: int = 0, first: int = 1, caller: m.Caller | None = None
) -> bytes:
    numbered = tuple((first + at, OP_OF[type(request)], request) for at, request in enumerate(requests))
    head = (m.PROTOCOL_VERSION, m.ClientKind.REQUESTS, session, floor, numbered)
    return pack(head if caller is None else (*head, caller))


def entry(index: int, *groups: bytes, time: int = 0, member: int = 1, term: int = 1) -> m.Entry:
    frame = pack(m.Frame(member, 1, tuple(enumerate(groups, index * 1000))))
    return m.Entry(index, term, m.EntryKind.BATCH, time, pack((frame,)))


def entries_of(groups: Sequence[bytes], size: int, *, member: int = 1) -> list[m.Entry]:
    """The groups, `size` of them to an entry."""
    cut = [groups[at : at + size] for at in range(0, len(groups), size)]
    return [entry(index, *part, time=index * 100, member=member) for index, part in enumerate(cut, 1)]


def answers_of(packed: bytes) -> list[tuple[int, Any]]:
    """(revision, body or error) each."""
    return [(revision, body if code < 100 else from_code(code, *body)) for _, code, revision, body in unpack(packed)[4]]


class Feeder:
    """One machine, asked one group at a time."""

    def __init__(self, **options: Any) -> None:
        self.machine = machine(**options)
        self.time = 0

    def ask(self, *requests: Any, **options: Any) -> list[Any]:
        """Bodies, or errors."""
        return [body for _, body in self.tell(group(*requests, **options))]

    def tell(self, payload: bytes) -> list[tuple[int, Any]]:
        """(revision, body or error) each of what a packed group asks."""
        outcome = self.machine.apply([entry(self.machine.applied + 1, payload, time=self.time)], 1)
        return answers_of(outcome.answers[0].answers)

    def read(self, request: Any, caller: m.Caller | None = None) -> Any:
        """The body (kvs of all chunks together), or the error."""
        outcome = self.machine.read(group(request, caller=caller), None)
        parts = [*outcome.parts]
        for stream in outcome.streams:
            while not stream.done:
                part = stream.step()
                if part is None:
                    self.machine.compaction_step()
                else:
                    parts.append(part)
        _, code, _, body = unpack(parts[-1])
        if code >= 100:
            return from_code(code, *body)
        if len(parts) > 1:
            return (tuple(kv for part in parts for kv in unpack(part)[3][0]), *body[1:])
        return body


def same(answer: Any, expected: Any) -> bool:
    """Equal, errors by their class."""
    if isinstance(answer, ZkvError) or isinstance(expected, ZkvError):
        return type(answer) is type(expected)
    return bool(answer == expected)


class Crash(Exception):
    pass


class Crashing(MemoryEngine):
    """Loses power in place of write number `writes_left`, having flushed before write `flush_at`."""

    writes_left = 1 << 30
    flush_at = 0

    def write(self, puts: Any, deletes: Any) -> None:
        if self.writes_left == self.flush_at:
            self.flush()
        if not self.writes_left:
            raise Crash
        self.writes_left -= 1
        super().write(puts, deletes)


def fed(machine: StateMachine, entries: Sequence[m.Entry], sizes: int) -> None:
    """Apply them, so many at once, and forget what was compacted."""
    for at in range(0, len(entries), sizes):
        machine.apply(entries[at : at + sizes], 1)
    while machine.compaction_step():
        pass


def everything(reader: Reader) -> Iterator[tuple[bytes, bytes]]:
    return reader.scan(b"", TOP)
