"""The ordered map of bytes that MVCC lies on: the port, and its twin in memory.

The adapter on disk is `actors/rocks_engine.py` (RocksDB by rocksdict; nobody else imports it).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


class Reader(Protocol):
    """Keys in the order of their bytes."""

    def get(self, key: bytes) -> bytes | None: ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Pairs start <= key < end; lazily, so that who stops early pays for what it took only.

        The iterator sees the map as it was when `scan` was called.
        """


class Engine(Reader, Protocol):
    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes]) -> None:
        """All of it, at once, or after a crash none of it. Deletes come first. Visible on return, durable after a flush."""

    def snapshot(self) -> Reader:
        """A view that stands still; it is released when nobody holds it any more."""

    def flush(self) -> None:
        """What was written before this call is on stable storage when it returns.

        The one call that another thread may make while the owner reads and writes.
        """

    def size(self) -> int:
        """Bytes on disk."""

    def close(self) -> None: ...
