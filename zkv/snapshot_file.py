"""A store in a file: what `zkv snapshot save` writes, and what is read again.

    magic      8 bytes  "zkvsnap" and the format
    record*    4 bytes length (big endian), 4 bytes CRC-32 of what follows, the packed pairs
    end        length 0, then a record with the packed `Summary`
    padding    zeros, up to a multiple of 512 bytes
    digest     32 bytes: SHA-256 over all before

The padding is for etcdctl, whose `snapshot save` takes a file for whole if it is that long: so a file that it has saved
from a member is the same as one of `zkv snapshot save`.

All of a file is read and checked before anything is made of it (`verify`): a damaged, truncated or foreign one is
refused whole. A record is one chunk of the store, so neither side ever holds more of it than that.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import IO, TYPE_CHECKING, NamedTuple, TypeAlias

from zkv.errors import CorruptionError
from zkv.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zkv.files import Steady

MAGIC = b"zkvsnap\x02"
RECORD_BYTES_MAX = 1 << 30
"""A record announced to be larger is damage, and no reason to make room for it."""
_BBOLT = bytes(8)
"""How a file of etcd's begins, with the number of its first page."""
DIGEST_BYTES = 32
PAGE_BYTES = 512
_EVENT = b"E"  # engine keys of revisions; core/mvcc/layout.py
_HEAD = struct.Struct(">II")

Pairs: TypeAlias = tuple[tuple[bytes, bytes], ...]


class Summary(NamedTuple):
    """What is in the file. `pairs` and `bytes` count what lies in the store, `keys` the live keys of users."""

    cluster_id: int
    member_id: int
    revision: int
    keys: int
    pairs: int
    bytes: int


class SnapshotWriter:
    """Writes to `out`, which the caller makes durable."""

    def __init__(self, out: IO[bytes] | Steady) -> None:
        self._out = out
        self._digest = hashlib.sha256()
        self._size = 0
        self._write(MAGIC)
        self.pairs = 0
        self.keys = 0
        self.bytes = 0

    def add(self, pairs: Pairs) -> None:
        if not pairs:
            return
        self._record(codec.pack(pairs))
        self.pairs += len(pairs)
        self.keys += sum(key[:1] == _EVENT for key, _ in pairs)
        self.bytes += sum(len(key) + len(value) for key, value in pairs)

    def end(self, *, cluster_id: int, member_id: int, revision: int) -> Summary:
        summary = Summary(cluster_id, member_id, revision, self.keys, self.pairs, self.bytes)
        self._write(_HEAD.pack(0, 0))
        self._record(codec.pack(summary))
        self._write(bytes(-self._size % PAGE_BYTES))
        self._out.write(self._digest.digest())
        return summary

    def _record(self, body: bytes) -> None:
        self._write(_HEAD.pack(len(body), zlib.crc32(body)))
        self._write(body)

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._size += len(data)
        self._out.write(data)


class SnapshotReader:
    """Reads what SnapshotWriter wrote: iterate once over its chunks of pairs, then look at `summary` and `sha256`.

    Every step raises CorruptionError where the file is not what was written. With `check_digest` False the digest may
    not fit, or be missing (--skip-hash-check).
    """

    def __init__(self, file: IO[bytes], *, check_digest: bool = True) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._check_digest = check_digest
        self.summary: Summary | None = None
        self.sha256 = ""
        magic = self._read(len(MAGIC))
        if magic == _BBOLT:
            raise CorruptionError("it is no snapshot of zkv: if it is etcd's, use zkv snapshot import-etcd")
        if magic != MAGIC:
            raise CorruptionError("it is no snapshot of zkv, or of another version")

    def __iter__(self) -> Iterator[Pairs]:
        pairs = 0
        while (body := self._record()) is not None:
            chunk = codec.unpack(body)
            pairs += len(chunk)
            yield chunk
        body = self._record()
        try:
            self.summary = Summary(*codec.unpack(body or b""))
        except TypeError:
            raise CorruptionError("the snapshot has no end") from None
        if self.summary.pairs != pairs:
            raise CorruptionError(f"the snapshot holds {pairs} records of {self.summary.pairs}")
        rest = self._file.read(PAGE_BYTES + DIGEST_BYTES)
        padding, digest = rest[:-DIGEST_BYTES], rest[-DIGEST_BYTES:]
        self._digest.update(padding)
        self.sha256 = self._digest.hexdigest()
        if self._check_digest and (padding.strip(b"\0") or digest != self._digest.digest()):
            raise CorruptionError("the digest of the snapshot does not fit")

    def _record(self) -> bytes | None:
        size, checksum = _HEAD.unpack(self._read(_HEAD.size))
        if not size:
            return None
        if size > RECORD_BYTES_MAX:
            raise CorruptionError("a record of the snapshot is damaged")
        body = self._read(size)
        if zlib.crc32(body) != checksum:
            raise CorruptionError("the checksum of a record of the snapshot does not fit")
        return body

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) != size:
            raise CorruptionError("the snapshot is cut short")
        self._digest.update(data)
        return data


def verify(file: IO[bytes], *, check_digest: bool = True) -> tuple[Summary, str]:
    """Read a snapshot to its end: what is in it, and its SHA-256 in hex. Raises CorruptionError."""
    reader = SnapshotReader(file, check_digest=check_digest)
    for _ in reader:
        pass
    assert reader.summary is not None
    return reader.summary, reader.sha256
