"""What things cost, counted in engine operations and keys held, never in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.harness.kv_log import Feeder, everything, group
from zkv.core.mvcc.engine import MemoryEngine
from zkv.core.mvcc.ranges import STEP_KEYS
from zkv.errors import RangeTooLarge
from zkv.limits import Limits
from zkv.wire.codec import unpack
from zkv.wire.messages import Compact, DeleteRange, HashKV, Put, Range, SortOrder, SortTarget

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from zkv.core.mvcc.engine import Cursor


class CountingCursor:
    def __init__(self, cursor: Cursor, count: Counting) -> None:
        self._cursor = cursor
        self._count = count

    def seek(self, key: bytes) -> tuple[bytes, bytes] | None:
        self._count.operations += 1
        return self._cursor.seek(key)

    def seek_before(self, key: bytes) -> tuple[bytes, bytes] | None:
        self._count.operations += 1
        return self._cursor.seek_before(key)


class Counting(MemoryEngine):
    """Counts what is read: a get, a seek and a pair of a scan are one each."""

    operations = 0

    def snapshot(self, *, once: bool = False) -> Counting:  # one thread, nothing written meanwhile
        return self

    def get(self, key: bytes) -> bytes | None:
        self.operations += 1
        return super().get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.operations += len(keys)
        return super().get_many(keys)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        for pair in super().scan(start, end, reverse=reverse):
            self.operations += 1
            yield pair

    def keys(self, start: bytes, end: bytes) -> Iterator[bytes]:
        return (key for key, _ in self.scan(start, end))

    def cursor(self) -> Cursor:
        return CountingCursor(super().cursor(), self)


def cost(feeder: Feeder, request: Any) -> int:
    engine = feeder.machine.engine
    assert isinstance(engine, Counting)
    engine.operations = 0
    feeder.read(request)
    return engine.operations


def test_versions_do_not_make_a_key_dearer() -> None:
    """Read now or in the past, alone or among others, a key of 1000 versions costs what a key of one costs."""
    young, old = Feeder(engine=Counting()), Feeder(engine=Counting())
    for feeder, versions in ((young, 1), (old, 1000)):
        feeder.ask(*[Put(b"b", b"%d" % i) for i in range(versions)], Put(b"a", b""), Put(b"c", b""))
    last = old.machine.revision
    for past_young, past_old in ((0, 0), (4, last), (3, last - 1)):
        for order in SortOrder:
            dear = cost(old, Range(b"a", b"\0", revision=past_old, sort_order=order))
            assert dear == cost(young, Range(b"a", b"\0", revision=past_young, sort_order=order))
        assert cost(old, Range(b"b", revision=past_old)) == cost(young, Range(b"b", revision=past_young))
    assert cost(old, Range(b"b", revision=500)) <= 4


def test_a_store_opens_with_a_handful_of_reads() -> None:
    """Whatever it holds: there is no index to rebuild."""
    feeder = Feeder(engine=Counting())
    feeder.ask(*[Put(b"%d" % i, b"") for i in range(1000)], session=bytes(16))
    engine = feeder.machine.engine
    assert isinstance(engine, Counting)
    engine.operations = 0
    Feeder(engine=engine)
    assert engine.operations <= 5


def filled(keys: int, **limits: int) -> Feeder:
    feeder = Feeder(limits=Limits()._replace(**limits), engine=Counting())
    feeder.ask(*[Put(b"%06d" % i, b"v" * 20) for i in range(keys)])
    return feeder


def test_a_big_range_comes_in_chunks_and_each_step_is_bounded() -> None:
    feeder = filled(5000, chunk_bytes=10_000)
    engine = feeder.machine.engine
    assert isinstance(engine, Counting)
    outcome = feeder.machine.read(group(Range(b"", b"\0")), None)
    [stream] = outcome.streams
    parts = list(outcome.parts)
    while not stream.done:
        before = engine.operations
        part = stream.step()
        assert engine.operations - before <= STEP_KEYS + 1
        if part is not None:
            assert len(part) <= 2 * 10_000
            parts.append(part)
    kvs = [kv for part in parts for kv in unpack(part)[3][0]]
    assert [kv[0] for kv in kvs] == [b"%06d" % i for i in range(5000)]
    assert [unpack(part)[1] for part in parts] == [1] * (len(parts) - 1) + [0]
    assert unpack(parts[-1])[3][1:] == (False, 5000)


def test_a_stream_does_not_see_what_is_written_meanwhile() -> None:
    feeder = Feeder(limits=Limits()._replace(chunk_bytes=100))
    feeder.ask(*[Put(b"%06d" % i, b"v" * 20) for i in range(50)])
    outcome = feeder.machine.read(group(Range(b"", b"\0")), None)
    feeder.ask(DeleteRange(b"", b"\0"), Put(b"x", b""), Compact(52))
    while feeder.machine.compaction_step():
        pass
    [stream] = outcome.streams
    parts = list(outcome.parts)
    while not stream.done:
        part = stream.step()
        parts += [] if part is None else [part]
    assert sum(len(unpack(part)[3][0]) for part in parts) == unpack(parts[-1])[3][2] == 50


def test_sorting_holds_no_more_than_it_may() -> None:
    """With a limit only that many are kept; without one, too many are refused."""
    feeder = filled(4000, sorted_keys_max=3500)
    by_mod = Range(b"", b"\0", 3, 0, SortOrder.DESCEND, SortTarget.MOD)
    kvs, more, count = feeder.read(by_mod)
    assert ([kv[0] for kv in kvs], more, count) == ([b"003999", b"003998", b"003997"], True, 4000)
    assert isinstance(feeder.read(by_mod._replace(limit=0)), RangeTooLarge)


def test_compaction_leaves_what_can_still_be_read_and_nothing_else() -> None:
    """The hash waits for it, and a store that never had the old revisions has the same one."""
    feeder = Feeder()
    for i in range(40):
        feeder.ask(Put(b"a", b"%d" % i), Put(b"b", b""), DeleteRange(b"b"))
    last = feeder.machine.revision
    feeder.ask(Compact(last))
    answer = feeder.read(HashKV())
    assert answer[1] == last
    rest = [key for key, _ in everything(feeder.machine.engine) if key[:1] in {b"k", b"E", b"h"}]
    # key a: now, its event, its history entry; that b was deleted, which who watches from `last` on must be told
    assert len(rest) == 5
    assert feeder.read(Range(b"", b"\0", revision=last))[2] == 1
    feeder.ask(Put(b"a", b""))
    assert feeder.read(HashKV(last + 1)) != answer


def test_compaction_goes_on_after_a_restart_in_bounded_steps() -> None:
    feeder = filled(2500)
    feeder.ask(DeleteRange(b"", b"\0"), Compact(2502))
    steps = 1
    while feeder.machine.compaction_step():
        feeder = Feeder(engine=feeder.machine.engine)
        steps += 1
    assert steps >= 5

    def left() -> int:
        return len([key for key, _ in everything(feeder.machine.engine) if key[:1] in {b"k", b"E", b"h"}])

    assert left() == 2 * 2500  # who watches from there on is owed that the keys went
    feeder.ask(Put(b"x", b""), Compact(2503))
    while feeder.machine.compaction_step():
        pass
    assert left() == 3
