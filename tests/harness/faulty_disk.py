"""A directory on a disk that forgets and tears: the twin of actors/disk.py in memory.

    what the process sees    files and names, all writes at once
    what the disk holds      what was synced; and of every write since then, each piece of it or not

`crash` picks what survives by chance: of every write that was not synced any runs of its bytes (a torn write, at any
byte and out of order), of the names changed since the last `sync_directory` any (a rename is whole or did not happen).
`fail_at` makes the disk refuse from the n-th call on, having done or half done it: the process must not go on. After a
refused sync the data reads well, and syncing again would not bring it to the disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv.errors import DiskError, DiskFull

if TYPE_CHECKING:
    import random


class _File:
    def __init__(self, size: int) -> None:
        self.seen = bytearray(size)
        self.durable = bytearray(size)
        self.unsynced: list[tuple[int, bytes]] = []


class FaultyDisk:
    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self._names: dict[str, _File] = {}
        self._durable_names: dict[str, _File] = {}
        self._renames: list[tuple[str | None, str | None, _File]] = []  # (name gone, name come, file), in order
        self._open: dict[int, _File] = {}
        self._tokens = 0
        self.calls = 0
        """Changes asked for so far."""
        self.fail_at: int | None = None
        self.is_full = False
        """There is no room for another file."""

    # --- the port ------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        return sorted(self._names)

    def where(self, name: str) -> str:
        return f"wal/{name}"

    def open(self, name: str) -> int:
        return self._handle(self._names[name])

    def create(self, name: str, size: int) -> int:
        assert name not in self._names
        if self.is_full:
            raise DiskFull(f"create {name}")
        self._change()
        file = self._names[name] = _File(size)
        self._renames.append((None, name, file))
        return self._handle(file)

    def close(self, file: int) -> None:
        del self._open[file]

    def size(self, file: int) -> int:
        return len(self._open[file].seen)

    def read(self, file: int, size: int, offset: int) -> bytes:
        return bytes(self._open[file].seen[offset : offset + size])

    def write(self, file: int, data: bytes, offset: int) -> None:
        target = self._open[file]
        _put(target.seen, offset, data)
        target.unsynced.append((offset, data))
        self._change()

    def sync(self, file: int) -> None:
        target = self._open[file]
        try:
            self._change()
        except DiskError:
            self._drop(target)
            raise
        for offset, data in target.unsynced:
            _put(target.durable, offset, data)
        target.unsynced.clear()

    def rename(self, old: str, new: str) -> None:
        assert new not in self._names
        file = self._names[new] = self._names.pop(old)
        self._renames.append((old, new, file))
        self._change()

    def unlink(self, name: str) -> None:
        self._renames.append((name, None, self._names.pop(name)))
        self._change()

    def sync_directory(self) -> None:
        self._change()
        self._durable_names = dict(self._names)
        self._renames.clear()

    def token(self) -> bytes:
        self._tokens += 1
        return self._random.randbytes(4) + self._tokens.to_bytes(4, "big")

    # --- what may happen to it -----------------------------------------------------------------------

    def crash(self) -> None:
        """Power is lost and comes back. A process that was using the disk must not go on doing so."""
        names = dict(self._durable_names)
        for old, new, file in self._renames:
            if self._random.random() < 0.5:
                if old is not None:
                    names.pop(old, None)
                if new is not None:
                    names[new] = file
        for file in {id(file): file for file in (*names.values(), *self._names.values())}.values():
            self._drop(file)
            file.seen = bytearray(file.durable)
        self._names, self._durable_names = names, dict(names)
        self.restart()
        self._renames.clear()

    def restart(self) -> None:
        """The process was killed: its files are closed, what it wrote is there, and no more durable than it was."""
        self._open.clear()
        self.fail_at = None

    def flip(self, name: str, position: int, mask: int) -> None:
        """Damage one byte of a file."""
        file = self._names[name]
        file.seen[position] ^= mask
        file.durable[position] ^= mask

    def content(self, name: str) -> bytes:
        return bytes(self._names[name].seen)

    # --- how -----------------------------------------------------------------------------------------

    def _change(self) -> None:
        self.calls += 1
        if self.fail_at is not None and self.calls >= self.fail_at:
            raise DiskError(f"call {self.calls}")

    def _handle(self, file: _File) -> int:
        handle = max(self._open, default=0) + 1
        self._open[handle] = file
        return handle

    def _drop(self, file: _File) -> None:
        """What was not synced is forgotten, wherever parts of it have come to lie."""
        for offset, data in file.unsynced:
            self._tear(file.durable, offset, data)
        file.unsynced.clear()

    def _tear(self, durable: bytearray, offset: int, data: bytes) -> None:
        """Some of the bytes: all, none, a prefix, or any runs of them."""
        cuts = sorted(self._random.randrange(len(data) + 1) for _ in range(self._random.choice((0, 1, 1, 4))))
        kept = self._random.random() < 0.5
        for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
            if kept and start < end:
                _put(durable, offset + start, data[start:end])
            kept = not kept


def _put(content: bytearray, offset: int, data: bytes) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data
