"""A data directory made of a backup: the same keys and history in a new cluster.

Every member is restored from the same file and begins at the same place, so none has to be sent anything. What becomes
of the parts of a store:

- keys, history, what compaction has come to: as they were;
- **revisions** go up by `bump`, and all below may be marked compacted. Clients may have seen newer revisions than the
  backup holds; they must not see them again with other contents, and a watch that would go on from one must be told;
- leases: kept, each with its full TTL from the start, as in etcd: nobody knows when they were last kept alive;
- members: those of the new cluster, with new ids, so that nobody takes it for the old one;
- sessions: gone, and the horizon (core/mvcc/sessions.py) is set behind all of them, so that a write that was under way
  to the old cluster is not made again in the new one without its client knowing;
- the place in the log: one entry further, so that log indexes, which name sessions, go up too.

All of it is made beside the data directory and renamed into place at the end; the source is read through and checked
before anything is made.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zkv.actors import datadir, store_copy
from zkv.actors.point_in_time import replayed
from zkv.actors.rocks_engine import RocksEngine
from zkv.core.mvcc import layout
from zkv.core.mvcc.layout import Lease, Place
from zkv.errors import ConfigError, CorruptionError
from zkv.files import sync_directory
from zkv.limits import LEASE_SLACK_MS
from zkv.snapshot_file import SnapshotReader
from zkv.stream_file import Point, is_stream
from zkv.wire.codec import pack, unpack
from zkv.wire.messages import ConfState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zkv.actors.datadir import Identity
    from zkv.config import NodeConfig
    from zkv.snapshot_file import Pairs

BATCH_BYTES = 1 << 20
RESTORED_TERM = 1
"""Of the place that the members begin at; the first leader's is the next."""
_LEFT_OUT = (layout.MEMBER, layout.REMOVED_MEMBER, layout.SESSION, layout.SESSION_QUEUE)


class Restored(NamedTuple):
    cluster_id: int
    member_id: int
    revision: int
    pairs: int
    as_of: int = 0
    """The revision that was asked for, or found in a directory."""
    taken_back: bool = False
    """A copy lacked files of the newest states of its store."""


def restore(
    source: Path,
    config: NodeConfig,
    *,
    check_digest: bool,
    bump: int,
    mark_compacted: bool,
    progress: Callable[[int], object],
    point: Point | None = None,
) -> Restored:
    """Make `config.data_dir` of `source`: a snapshot file, or the storage directory (member/snap/db) of a member.

    Or of a directory that followed a cluster, as it was at a `point` in time; then the revision goes up by what came
    after that point, too.

    `progress` is told the bytes written so far. Raises ConfigError (the directory exists, or the settings do not fit),
    CorruptionError (the source is damaged, or none), OSError.
    """
    target, identity = new_home(config)
    if is_stream(source):
        with (
            being_made(target, identity) as (engine, scratch),
            replayed(source, point or Point(), scratch, progress) as found,
        ):
            further = bump + found.later if bump else 0
            restored = build(engine, found.pairs, identity, bump=further, mark_compacted=mark_compacted, progress=int)
            return restored._replace(as_of=found.revision)
    if point is not None:
        raise ConfigError(f"{source} is no directory of `zkv snapshot stream`, which --to-revision and --to-time need")
    if source.is_dir():
        if check_digest:
            raise ConfigError(
                f"{source} is a storage directory, which has no digest: restore it with --skip-hash-check"
            )
    else:
        with source.open("rb") as file:
            for _ in SnapshotReader(file, check_digest=check_digest):
                pass
    with (
        being_made(target, identity) as (engine, scratch),
        _pairs_of(source, scratch, check_digest=check_digest) as (chunks, taken_back),
    ):
        restored = build(engine, chunks, identity, bump=bump, mark_compacted=mark_compacted, progress=progress)
        as_of = restored.revision - bump if source.is_dir() else 0
        return restored._replace(as_of=as_of, taken_back=taken_back)


def new_home(config: NodeConfig) -> tuple[Path, Identity]:
    """Where the data directory is to be, and whose. Raises ConfigError."""
    target = Path(config.data_dir).absolute()
    if target.exists():
        raise ConfigError(f'data-dir "{config.data_dir}" exists')
    return target, datadir.new_identity(config)


@contextlib.contextmanager
def being_made(target: Path, identity: Identity) -> Iterator[tuple[RocksEngine, Path]]:
    """An empty store to fill, and room beside it; all of it becomes `target` at the end, and nothing if that fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    staging = scratch / "data"
    member_dir = staging / "member"
    try:  # before it is there: a signal may come at any moment
        scratch.mkdir(mode=0o700)
        (member_dir / "wal").mkdir(mode=0o700, parents=True)
        for made in (staging, member_dir):
            made.chmod(0o700)
        engine = RocksEngine(member_dir / "snap" / "db")
        try:
            yield engine, scratch
            engine.flush()
        finally:
            engine.close()
        datadir.write_identity(member_dir / "identity", identity)
        staging.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    sync_directory(target.parent)


@contextlib.contextmanager
def _pairs_of(source: Path, scratch: Path, *, check_digest: bool) -> Iterator[tuple[Iterator[Pairs], bool]]:
    if source.is_dir():
        engine, taken_back = store_copy.opened(source, scratch)
        try:
            yield ((pair,) for pair in engine.scan(b"", layout.BOUND)), taken_back
        finally:
            engine.close()
    else:
        with source.open("rb") as file:
            yield iter(SnapshotReader(file, check_digest=check_digest)), False


def build(
    engine: RocksEngine,
    chunks: Iterator[Pairs],
    identity: Identity,
    *,
    bump: int,
    mark_compacted: bool,
    progress: Callable[[int], object],
) -> Restored:
    """Fill the empty store `engine` with what another held. Raises CorruptionError, OSError."""
    place: Place | None = None
    leases: list[tuple[bytes, bytes]] = []
    batch: list[tuple[bytes, bytes]] = []
    held = written = count = 0
    for chunk in chunks:
        for key, value in chunk:
            if key == layout.PLACE:
                place = Place(*unpack(value))
            elif key[:1] == layout.LEASE:
                leases.append((key, value))
            elif key[:1] not in _LEFT_OUT:
                batch.append((key, value))
                held += len(key) + len(value)
        if held >= BATCH_BYTES:
            engine.write(batch, ())
            written, count = written + held, count + len(batch)
            progress(written)
            batch, held = [], 0
    if place is None:
        raise CorruptionError(
            "no state of this store is there whole. Either nothing was flushed into it yet: take a snapshot of the "
            "member (zkv snapshot save). Or it was copied while its member wrote: restore the member's own "
            "member/snap/db, which may be in use, or stop the member before it is copied"
        )
    begun = begin(place, identity, bump=bump, mark_compacted=mark_compacted)
    batch += ((key, _full_ttl(value, begun.time)) for key, value in leases)
    batch += first_records(begun, identity)
    engine.write(batch, ())
    progress(written + held)
    return Restored(identity.cluster_id, identity.member_id, begun.revision, count + len(batch))


def first_records(place: Place, identity: Identity) -> list[tuple[bytes, bytes]]:
    """Of a cluster that begins: who is in it, and where it stands."""
    members = [(layout.member_key(member.id), pack(member)) for member in identity.bootstrap]
    return [*members, (layout.PLACE, pack(place))]


def begin(place: Place, identity: Identity, *, bump: int, mark_compacted: bool) -> Place:
    """Where the new cluster begins that is made of a store at `place`."""
    applied = place.applied + 1
    revision = place.revision + bump
    voters = tuple(sorted(member.id for member in identity.bootstrap))
    return Place(
        applied=applied,
        begun=0,
        term=RESTORED_TERM,
        time=place.time,
        revision=revision,
        compacted=revision if mark_compacted else place.compacted,
        sessions=0,
        horizon=applied,
        conf=pack(ConfState(voters, index=applied)),
    )


def _full_ttl(record: bytes, time: int) -> bytes:
    """A lease that had ended already (its keys were still being deleted) stays ended."""
    lease = layout.lease_as_kept(record)
    return (
        layout.lease_record(Lease(lease.ttl, time + lease.ttl * 1000 + LEASE_SLACK_MS, lease.keys))
        if lease.until
        else record
    )
