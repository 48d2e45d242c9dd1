"""What etcd keeps in a snapshot file (`etcdctl snapshot save`) or its database (member/snap/db), read and checked.

Of its buckets matter here:

    key      revision -> mvccpb.KeyValue: every version of every key that was not compacted away. A revision is
             main u64, "_", sub u64, big endian, and a "t" behind it where the key was deleted
    lease    id u64, big endian -> leasepb.Lease
    meta     how far compaction was asked for (scheduledCompactRev) and has come (finishedCompactRev)
    auth     authEnabled: 1, authRevision: u64, big endian
    authUsers, authRoles
             name -> authpb.User, its password hashed by bcrypt; authpb.Role

A snapshot ends with the SHA-256 of all before it, which a database has not (etcd tells them by their size: 32 bytes
beyond a multiple of 512).
"""

from __future__ import annotations

import hashlib
import os
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from google.protobuf.message import DecodeError

from zkv.ctl.bbolt import Bbolt
from zkv.errors import CorruptionError
from zkv.gateway.pb.auth_pb2 import Permission as PbPermission
from zkv.gateway.pb.auth_pb2 import Role as PbRole
from zkv.gateway.pb.auth_pb2 import User as PbUser
from zkv.gateway.pb.backend_pb2 import Lease as PbLease
from zkv.gateway.pb.kv_pb2 import KeyValue as PbKeyValue
from zkv.wire.messages import KeyValue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Kept = TypeVar("Kept", PbUser, PbRole)

DIGEST_BYTES: Final = 32
_SECTOR: Final = 512
_READ_BYTES: Final = 1 << 20
REVISION: Final = Struct(">QcQ")
TOMBSTONE: Final = b"t"
ID: Final = Struct(">q")
_SIZE_OF_NUMBER: Final = 8
_INT64_MAX: Final = (1 << 63) - 1
_SUB_MAX: Final = (1 << 32) - 1
_TTL_MAX: Final = 9_000_000_000
_PROGRESS_CHANGES: Final = 1000


class Change(NamedTuple):
    """What one revision did to one key. `kv` of a deletion has nothing but the key."""

    revision: int
    sub: int
    deleted: bool
    kv: KeyValue


class EtcdSnapshot:
    """A file, open under `descriptor`, that was read to its end and found whole.

    `revision`: the newest; `compacted`: up to which history was compacted, -1 if it never was. `progress` is told the
    bytes read so far: all are read once for the digest, and once more for what they say.

    Raises CorruptionError, OSError.
    """

    def __init__(self, descriptor: int, *, check_digest: bool, progress: Callable[[int], object]) -> None:
        size = os.fstat(descriptor).st_size
        if size % _SECTOR == DIGEST_BYTES:
            size -= DIGEST_BYTES
            if check_digest:
                _check_digest(descriptor, size, progress)
        elif check_digest:
            raise CorruptionError("snapshot missing hash but --skip-hash-check=false")
        self._file = Bbolt(descriptor, size)
        if b"key" not in self._file or b"meta" not in self._file:
            raise CorruptionError("it is a file of bbolt, but not etcd's")
        self.auth = self._auth()
        self.compacted = self._compacted()
        self.revision = max(1, self.compacted)
        self.lease_count, self.user_count, self.role_count = (
            sum(1 for _ in each) for each in (self.leases(), self.users(), self.roles())
        )
        self.change_count = 0
        seen = size
        for change in self.changes():
            self.change_count += 1
            self.revision = max(self.revision, change.revision)
            seen += len(change.kv.key) + len(change.kv.value)
            if self.change_count % _PROGRESS_CHANGES == 0:
                progress(seen)

    def changes(self) -> Iterator[Change]:
        """Every version of every key, in the order they were made."""
        parse = PbKeyValue.FromString
        for name, record in self._file.items(b"key"):
            revision, sub, deleted = _revision(name)
            try:
                kv = parse(record)
            except DecodeError:
                raise CorruptionError(f"the key of revision {revision} is damaged") from None
            if not kv.key or (not deleted and not 0 < kv.create_revision <= kv.mod_revision == revision):
                raise CorruptionError(f"the key of revision {revision} is damaged")
            if not deleted and kv.version < 1:
                raise CorruptionError(f"the key of revision {revision} is damaged")
            yield Change(
                revision,
                sub,
                deleted,
                KeyValue(kv.key, kv.create_revision, revision, kv.version, kv.value, kv.lease)
                if not deleted
                else KeyValue(kv.key, 0, revision, 0, b"", 0),
            )

    def leases(self) -> Iterator[tuple[int, int]]:
        """Id, and the seconds it was granted for."""
        for name, record in self._file.items(b"lease"):
            try:
                lease = PbLease.FromString(record)
            except DecodeError:
                raise CorruptionError("a lease is damaged") from None
            if len(name) != ID.size or ID.unpack(name)[0] != lease.ID or not 0 < lease.TTL <= _TTL_MAX:
                raise CorruptionError("a lease is damaged")
            yield lease.ID, lease.TTL

    def users(self) -> Iterator[tuple[str, bytes, bool, tuple[str, ...]]]:
        """Name, the password's hash, is there none, and roles."""
        for name, record in self._file.items(b"authUsers"):
            user = _parsed(PbUser, record, name, "a user")
            roles = tuple(sorted(set(user.roles)))
            yield _text(name), user.password, user.options.no_password, roles

    def roles(self) -> Iterator[tuple[str, tuple[tuple[int, bytes, bytes], ...]]]:
        """Name and permissions."""
        for name, record in self._file.items(b"authRoles"):
            role = _parsed(PbRole, record, name, "a role")
            if any(permission.permType not in PbPermission.Type.values() for permission in role.keyPermission):
                raise CorruptionError("a role is damaged")
            yield _text(name), tuple((each.permType, each.key, each.range_end) for each in role.keyPermission)

    def _auth(self) -> tuple[bool, int]:
        """Is it enabled, and the auth revision."""
        revision = self._file.get(b"auth", b"authRevision") or b"\0"
        if len(revision) > _SIZE_OF_NUMBER:
            raise CorruptionError("the auth revision is damaged")
        return self._file.get(b"auth", b"authEnabled") == b"\1", int.from_bytes(revision, "big")

    def _compacted(self) -> int:
        """What was asked for counts: what of it was still there is compacted by whoever holds it next."""
        marks = (self._file.get(b"meta", name) for name in (b"scheduledCompactRev", b"finishedCompactRev"))
        return max((_revision(mark)[0] for mark in marks if mark is not None), default=-1)


def _parsed(kind: type[Kept], record: bytes, name: bytes, what: str) -> Kept:
    try:
        found = kind.FromString(record)
    except DecodeError:
        raise CorruptionError(f"{what} is damaged") from None
    if found.name != name or not name:
        raise CorruptionError(f"{what} is damaged")
    return found


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise CorruptionError("the name of a user or a role is no UTF-8") from None


def _check_digest(descriptor: int, size: int, progress: Callable[[int], object]) -> None:
    digest = hashlib.sha256()
    done = 0
    while done < size:
        data = os.pread(descriptor, min(_READ_BYTES, size - done), done)
        if not data:
            raise CorruptionError("it is cut short")
        digest.update(data)
        done += len(data)
        progress(done)
    if os.pread(descriptor, DIGEST_BYTES, size) != digest.digest():
        raise CorruptionError("the digest of the snapshot does not fit")


def _revision(name: bytes) -> tuple[int, int, bool]:
    deleted = len(name) == REVISION.size + 1 and name.endswith(TOMBSTONE)
    if len(name) != REVISION.size + deleted:
        raise CorruptionError("a revision is damaged")
    revision, mark, sub = REVISION.unpack_from(name)
    if mark != b"_" or revision > _INT64_MAX or sub > _SUB_MAX:
        raise CorruptionError("a revision is damaged")
    return revision, sub, deleted
