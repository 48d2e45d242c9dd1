"""What a snapshot of zkv holds, as a snapshot of etcd's: the way back. etcd_snapshot.py tells what etcd keeps where.

The events of our store (core/mvcc/layout.py) lie in the order of etcd's bucket `key`, leases, roles and users in that
of theirs, so all of it is written in one pass. Passwords are bcrypt's on both sides, and go along as they are. What
compaction had still to forget, etcd forgets with its next one. Members, and the place in the log, it makes anew when it
restores.
"""

from __future__ import annotations

from struct import Struct
from typing import IO, TYPE_CHECKING, Any, Final

from zkv.core.auth import User
from zkv.core.mvcc import layout
from zkv.core.mvcc.layout import Place
from zkv.ctl.bbolt_writer import BboltWriter
from zkv.ctl.etcd_snapshot import ID, REVISION, TOMBSTONE
from zkv.gateway.pb.auth_pb2 import Permission as PbPermission
from zkv.gateway.pb.auth_pb2 import Role as PbRole
from zkv.gateway.pb.auth_pb2 import User as PbUser
from zkv.gateway.pb.auth_pb2 import UserAddOptions as PbOptions
from zkv.gateway.pb.backend_pb2 import Lease as PbLease
from zkv.gateway.pb.kv_pb2 import KeyValue as PbKeyValue
from zkv.wire.codec import unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from zkv.ctl.bbolt_writer import Bucket
    from zkv.snapshot_file import Pairs

VERSION: Final = b"3.5.0"
"""Of the cluster: what etcd must be at least to read it."""
_NUMBER: Final = Struct(">Q")
_BUCKETS: Final = {layout.LEASE: b"lease", layout.ROLE: b"authRoles", layout.EVENT: b"key", layout.USER: b"authUsers"}
"""Which records go into which."""
_EMPTY: Final = (b"alarm", b"members", b"members_removed")


class Exported:
    """`changes`: how many revisions' parts were written, `revision`: the newest."""

    def __init__(self) -> None:
        self.changes = self.leases = self.users = 0
        self.revision = 1


def export(chunks: Iterable[Pairs], out: IO[bytes], progress: Callable[[int], object]) -> Exported:
    """`out` can be read again. `progress` is told the changes written. Raises CorruptionError, OSError."""
    done = Exported()
    writer = BboltWriter(out)
    written: set[bytes] = set()
    place: Place | None = None
    auth: tuple[bool, int] = (False, 0)
    kind, bucket = b"", None
    for chunk in chunks:
        for name, record in chunk:
            if name[:1] != kind:
                kind = name[:1]
                bucket = _next(writer, bucket, _BUCKETS.get(kind), written)
            if kind == layout.EVENT:
                assert bucket is not None
                bucket.add(*_change(name, record))
                done.changes += 1
            elif bucket is not None:
                _add(bucket, kind, name, record, done)
            elif name == layout.PLACE:
                place = Place(*unpack(record))
            elif name == layout.AUTH:
                auth = unpack(record)
        progress(done.changes)
    _next(writer, bucket, None, written)
    if place is not None:
        done.revision = place.revision
    for missing in {*_BUCKETS.values(), *_EMPTY} - written:
        writer.fill(missing, ())
    writer.fill(b"auth", ((b"authEnabled", bytes((auth[0],))), (b"authRevision", _NUMBER.pack(auth[1] or 1))))
    writer.fill(b"cluster", ((b"clusterVersion", VERSION),))
    writer.fill(b"meta", _meta(place))
    writer.end()
    writer.add_digest()
    return done


def _next(writer: BboltWriter, bucket: Bucket | None, name: bytes | None, written: set[bytes]) -> Bucket | None:
    if bucket is not None:
        bucket.end()
    if name is None:
        return None
    written.add(name)
    return writer.bucket(name)


def _change(name: bytes, record: bytes) -> tuple[bytes, bytes]:
    event = layout.event_record(name, record)
    revision = REVISION.pack(event.revision, b"_", event.sub)
    if event.tombstone:
        return revision + TOMBSTONE, PbKeyValue(key=event.kv.key).SerializeToString()
    key, create, mod, version, value, lease = event.kv
    kept = PbKeyValue(key=key, create_revision=create, mod_revision=mod, version=version, value=value, lease=lease)
    return revision, kept.SerializeToString()


def _add(bucket: Bucket, kind: bytes, name: bytes, record: bytes, done: Exported) -> None:
    if kind == layout.LEASE:
        lease = layout.lease_as_kept(record)
        if lease.until:  # else it has ended, and its keys are being deleted
            id_ = layout.lease_of(name)
            bucket.add(ID.pack(id_), PbLease(ID=id_, TTL=lease.ttl).SerializeToString())
            done.leases += 1
    elif kind == layout.USER:
        user = User(*unpack(record))
        options = PbOptions(no_password=user.no_password)
        kept = PbUser(name=user.name.encode(), password=user.password, roles=sorted(user.roles), options=options)
        bucket.add(kept.name, kept.SerializeToString())
        done.users += 1
    else:
        permissions: Any = unpack(record)
        role = PbRole(
            name=name[1:],
            keyPermission=[PbPermission(permType=how, key=key, range_end=end) for how, key, end in permissions],
        )
        bucket.add(role.name, role.SerializeToString())


def _meta(place: Place | None) -> list[tuple[bytes, bytes]]:
    if place is None:
        return []
    meta = [(b"consistent_index", _NUMBER.pack(place.applied)), (b"term", _NUMBER.pack(place.term))]
    if place.compacted > 0:
        mark = REVISION.pack(place.compacted, b"_", 0)
        meta += [(b"scheduledCompactRev", mark), (b"finishedCompactRev", mark)]
    return meta
