"""A store as it was at a point in time: a base, and the log since applied to it as members did (zkv/stream_file.py).

Of the bases the newest one before that point is taken. Entries are applied by the very state machine that members run,
so what comes out is what they held, byte for byte. An entry holds many requests, and with them revisions: up to a
revision it is applied one request at a time, and the rest of it is left out.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from zkv.actors.rocks_engine import RocksEngine
from zkv.core.mvcc import layout
from zkv.core.mvcc.machine import StateMachine
from zkv.errors import ConfigError, CorruptionError
from zkv.limits import Limits
from zkv.snapshot_file import SnapshotReader, verify
from zkv.stream_file import Base, Point, bases, logs, records
from zkv.wire import codec
from zkv.wire import messages as m
from zkv.wire.groups import Group, judged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from zkv.snapshot_file import Pairs


class Replayed(NamedTuple):
    """`pairs`: the store, to be read once. `later`: at most so many revisions came after it."""

    pairs: Iterator[Pairs]
    revision: int
    later: int


class _UpTo(StateMachine):
    """Takes nothing more once it has come to `last_revision`."""

    last_revision = 0

    def _apply_group(
        self, entry: m.Entry, now: int, group: Group, number: int, skip: int, *, mine: bool
    ) -> tuple[list[bytes], int]:
        for at, one in enumerate(group.asked):
            if self.revision < self.last_revision:
                alone = Group(group.session, group.floor, [one], group.keys, group.caller)
                super()._apply_group(entry, now, alone, number + at, skip, mine=mine)
        return [], 0


@contextlib.contextmanager
def replayed(directory: Path, point: Point, scratch: Path, progress: Callable[[int], object]) -> Iterator[Replayed]:
    """The store at that point, made in `scratch`; `progress` is told the bytes of log gone through.

    Raises ConfigError when the directory does not hold that point, CorruptionError, OSError.
    """
    base, revision = _base_for(directory, point)
    engine = RocksEngine(scratch / "replay")
    try:
        with base.path.open("rb") as file:
            for pairs in SnapshotReader(file):
                engine.write(pairs, ())
        engine.flush()
        machine = (_UpTo if point.revision else StateMachine)(engine, Limits(), cluster_id=0, member_id=0)
        if machine.applied != base.index:
            raise CorruptionError(f"{base.path} holds entry {machine.applied}, which is not what its name says")
        later = _apply(directory, machine, point, progress)
        if point.revision and machine.revision < point.revision:
            raise ConfigError(f"{directory} ends at revision {machine.revision}, before {point.revision}")
        yield Replayed(_chunks(engine), machine.revision, max(later, revision - machine.revision))
    finally:
        engine.close()


def _base_for(directory: Path, point: Point) -> tuple[Base, int]:
    """The newest base that is not after the point, and the revision of the newest of all; each is read and checked."""
    chosen, newest = None, 0
    first = ""
    for base in bases(directory):
        with base.path.open("rb") as file:
            try:
                revision = verify(file)[0].revision
            except CorruptionError as error:
                raise CorruptionError(f"{base.path}: {error.detail}") from None
        newest = max(newest, revision)
        first = first or f"revision {revision} at {shown(base.wall)}"
        if (not point.revision or revision <= point.revision) and (not point.wall or base.wall <= point.wall):
            chosen = base
    if chosen is None:
        raise ConfigError(f"{directory} begins with {first}, after what is asked for" if first else "no base there")
    return chosen, newest


def _apply(directory: Path, machine: StateMachine, point: Point, progress: Callable[[int], object]) -> int:
    """Apply what the point wants, go through the rest, and tell how many revisions that may be."""
    done = later = 0
    ended = False
    if isinstance(machine, _UpTo):
        machine.last_revision = point.revision
        ended = machine.revision >= point.revision
    files = [path for _, path in logs(directory)]
    for path in files:
        for record, _ in records(path, last=path == files[-1]):
            for entry in record.opened():
                done += len(entry.body)
                if entry.index <= machine.applied and not ended:
                    continue
                if not ended and entry.index > machine.applied + 1:
                    raise ConfigError(
                        f"{directory} lacks entries {machine.applied + 1} to {entry.index - 1}: what is before them "
                        f"ends at revision {machine.revision}, and another base begins behind them, if one was made"
                    )
                if not ended and point.wall and record.wall_of(entry) > point.wall:
                    ended = True
                if ended:
                    later += _requests_in(entry)
                    continue
                machine.apply([entry], entry.term)
                if point.revision and machine.revision >= point.revision:
                    ended, later = True, later + _requests_in(entry)
            progress(done)
    return later


def _requests_in(entry: m.Entry) -> int:
    """How many revisions an entry may have made: each request one; each lease that ends, one."""
    if entry.kind != m.EntryKind.BATCH or not entry.body:
        return 0
    count = 0
    for packed in codec.unpack(entry.body):
        for _, payload in codec.decode_frame(packed).groups:
            with contextlib.suppress(CorruptionError):  # which nobody has applied
                for _, _, asked in judged(payload).asked:
                    count += len(asked.leases) if isinstance(asked, m.LeaseExpire) else 1
    return count


def _chunks(engine: RocksEngine) -> Iterator[Pairs]:
    return ((pair,) for pair in engine.scan(b"", layout.BOUND))


def shown(wall: int) -> str:
    """A time as people, and --to-time, write it."""
    return datetime.fromtimestamp(wall / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
