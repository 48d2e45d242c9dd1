"""A directory that follows a cluster: what `zkv snapshot stream` writes, and a point in time is restored from.

    base-INDEX-TIME.zkv      the store with entry INDEX applied, as it was at TIME (snapshot_file.py, with sessions)
    log-INDEX.zkv            committed entries from INDEX on
    lock                     held by who writes

    log    = magic, cluster id (8 bytes, big endian), record*
    record = 4 bytes length (big endian), 4 bytes CRC-32 of the body, 4 bytes CRC-32 of these eight, the packed `Record`

INDEX is 16 hex digits, TIME the wall clock of who wrote, Unix milliseconds. Records of one file follow each other
without a gap, and so do files, unless the cluster no longer kept what would have come next: then another base lies
behind the gap. The log that follows a base begins before it: what lies in the base is passed over.

A record is written whole and synced; one cut short at the end of the last file, or with zeros there instead of its end,
is what a crash leaves, and is cut off by who goes on. Any other damage is told, with its place.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import zlib
from itertools import pairwise
from typing import IO, TYPE_CHECKING, NamedTuple

from zkv.errors import ConfigError, CorruptionError
from zkv.files import sync_directory
from zkv.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Self

    from zkv.wire.messages import Entry

MAGIC = b"zkvlog\x00\x01"
FILE_BYTES = 64 << 20
"""A log file that is larger is ended, and another one begun."""
RECORD_BYTES_MAX = 1 << 30
_HEAD = struct.Struct(">III")
_ID_BYTES = 8
_BASE = re.compile(r"base-([0-9a-f]{16})-([0-9]+)\.zkv")
_LOG = re.compile(r"log-([0-9a-f]{16})\.zkv")


class Record(NamedTuple):
    """What was committed since the record before, as it was learnt at `wall` (Unix ms).

    `clock`: the cluster clock then; an entry is as much older as its own time is behind that.
    """

    wall: int
    clock: int
    entries: tuple[bytes, ...]

    def opened(self) -> list[Entry]:
        """Raises CorruptionError."""
        return [codec.decode_entry(entry)[0] for entry in self.entries]

    def wall_of(self, entry: Entry) -> int:
        return self.wall - max(0, self.clock - entry.time)


class Point(NamedTuple):
    """In time: up to this revision, or what was committed at this time (Unix ms); 0: all there is."""

    revision: int = 0
    wall: int = 0


class Base(NamedTuple):
    path: Path
    index: int  # type: ignore[assignment] # hides tuple's method, as meant
    wall: int


def is_stream(directory: Path) -> bool:
    return directory.is_dir() and any(_BASE.fullmatch(name) for name in os.listdir(directory))


def bases(directory: Path) -> list[Base]:
    """In their order."""
    found = ((directory / name, _BASE.fullmatch(name)) for name in sorted(os.listdir(directory)))
    return [Base(path, int(match[1], 16), int(match[2])) for path, match in found if match]


def logs(directory: Path) -> list[tuple[int, Path]]:
    """The index each begins at, in their order."""
    found = ((directory / name, _LOG.fullmatch(name)) for name in sorted(os.listdir(directory)))
    return [(int(match[1], 16), path) for path, match in found if match]


def superseded(directory: Path, wall: int) -> list[Path]:
    """The files that no point from `wall` on needs, in the order to remove them in: no base outlives its logs."""
    needed = next((base for base in reversed(bases(directory)) if base.wall <= wall), None)
    if needed is None:
        return []
    files = logs(directory)
    passed_over = [path for (_, path), (following, _) in pairwise(files) if following <= needed.index + 1]
    return [*(base.path for base in bases(directory) if base.index < needed.index), *passed_over]


def base_name(index: int, wall: int) -> str:
    return f"base-{index:016x}-{wall}.zkv"


def records(path: Path, *, last: bool) -> Iterator[tuple[Record, int]]:
    """Those of one log file, and where each ends; of the `last` file, one that is cut short is none.

    Raises CorruptionError.
    """
    with path.open("rb") as file:
        _read_head(file, path)
        while head := file.read(_HEAD.size):
            where = file.tell() - len(head)
            body = _body(head, file)
            if body is None and last and _is_cut_off(path, where):
                return
            if body is None:
                raise CorruptionError(f"{path} at byte {where}: a record is damaged, or cut short")
            yield Record(*codec.unpack(body)), file.tell()


def _body(head: bytes, file: IO[bytes]) -> bytes | None:
    if len(head) < _HEAD.size:
        return None
    size, checksum, head_checksum = _HEAD.unpack(head)
    if zlib.crc32(head[:8]) != head_checksum or size > RECORD_BYTES_MAX:
        return None
    body = file.read(size)
    return body if len(body) == size and zlib.crc32(body) == checksum else None


def _is_cut_off(path: Path, where: int) -> bool:
    """Is what begins there the beginning of a record, and nothing, or zeros, behind it?"""
    with path.open("rb") as file:
        file.seek(where)
        head = file.read(_HEAD.size).ljust(_HEAD.size, b"\0")
        size, _, head_checksum = _HEAD.unpack(head)
        if zlib.crc32(head[:8]) == head_checksum:  # else its own end may be missing, and zeros must follow
            body = file.read(size)
            if len(body) == size and body[-1]:
                return False
        while rest := file.read(1 << 20):
            if any(rest):
                return False
    return True


def cluster_of(path: Path) -> int:
    """Whose log it is. Raises CorruptionError."""
    with path.open("rb") as file:
        return _read_head(file, path)


def _read_head(file: IO[bytes], path: Path) -> int:
    head = file.read(len(MAGIC) + _ID_BYTES)
    if len(head) < len(MAGIC) + _ID_BYTES or not head.startswith(MAGIC):
        raise CorruptionError(f"{path} is no log of zkv, or of a newer version")
    return int.from_bytes(head[len(MAGIC) :], "big")


class StreamWriter:
    """Goes on where the directory ends; `next_index` is what it wants next (0: it holds nothing).

    Raises ConfigError when another process writes to it, or it holds another cluster's; CorruptionError, OSError.
    """

    def __init__(self, directory: Path, cluster_id: int) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self._cluster_id = cluster_id
        self.next_index = 0
        self.last_entry = b""
        """The newest one held, as it lies in the log; empty where none is, or it lies in a base."""
        self._file: IO[bytes] | None = None
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take_lock()
            self._go_on()
        except BaseException:
            self.close()
            raise

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"{self.directory} is in use by another process") from None

    def _go_on(self) -> None:
        if found := bases(self.directory):
            self.next_index = found[-1].index + 1
        files = logs(self.directory)
        if not files:
            return
        first, path = files[-1]
        other = cluster_of(path)
        if other != self._cluster_id:
            raise ConfigError(f"{self.directory} follows cluster {other:x}, not {self._cluster_id:x}")
        upto, end = first - 1, len(MAGIC) + _ID_BYTES
        for record, behind in records(path, last=True):
            upto, end, self.last_entry = record.opened()[-1].index, behind, record.entries[-1]
        self._file = path.open("r+b")
        self._file.truncate(end)
        self._file.seek(end)
        self.next_index = max(self.next_index, upto + 1)
        if upto + 1 < self.next_index:
            self._end_file()  # what comes next lies behind a base, not behind this log
            self.last_entry = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def has_base(self) -> bool:
        return bool(bases(self.directory))

    def append(self, record: Record) -> int:
        """Durable on return; the bytes written."""
        if self._file is not None and self._file.tell() > FILE_BYTES:
            self._end_file()
        entries = record.opened()
        if self._file is None:
            self._begin_file(entries[0].index)
        assert self._file is not None
        body = codec.pack(record)
        head = _HEAD.pack(len(body), zlib.crc32(body), 0)[:8]
        data = head + zlib.crc32(head).to_bytes(4, "big") + body
        start = self._file.tell()
        try:
            self._file.write(data)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError:
            self._file.truncate(start)  # nothing half-written stays where there was no room
            raise
        self.next_index = entries[-1].index + 1
        self.last_entry = record.entries[-1]
        return len(data)

    def skip_to(self, index: int) -> None:
        """What lies before is not to be had any more: a base has to be made behind the gap."""
        self._end_file()
        self.next_index = index
        self.last_entry = b""
        self._begin_file(index)

    def _begin_file(self, index: int) -> None:
        path = self.directory / f"log-{index:016x}.zkv"
        part = path.with_suffix(".part")
        with part.open("wb") as file:
            file.write(MAGIC + self._cluster_id.to_bytes(_ID_BYTES, "big"))
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        sync_directory(self.directory)
        self._file = path.open("r+b", buffering=0)
        self._file.seek(0, os.SEEK_END)

    def _end_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def close(self) -> None:
        self._end_file()
        os.close(self._lock)
