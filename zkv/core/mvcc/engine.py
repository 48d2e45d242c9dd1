"""The ordered map of bytes that MVCC lies on: the port, and its twin in memory.

The adapter on disk is `actors/rocks_engine.py` (RocksDB by rocksdict; nobody else imports it). Small writes gather
before they come to it (`gathering.py`).

`MemoryEngine` serves tests, the simulator and `zkv server --storage memory`. It is a list of *leaves*, each a sorted
list of at most `LEAF_KEYS_MAX` keys beside their values. A leaf is never changed: a write copies the leaves that it
touches, and the list of leaves too if somebody holds it. So a snapshot is a reference, and
a power loss is a return to the last one that `flush` kept.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

LEAF_KEYS_MAX: Final = 256


class Cursor(Protocol):
    """Single steps through the map as it was when the cursor was made, for who must jump."""

    def seek(self, key: bytes) -> tuple[bytes, bytes] | None:
        """The first pair at or after `key`."""

    def seek_before(self, key: bytes) -> tuple[bytes, bytes] | None:
        """The last pair before `key`."""


class Reader(Protocol):
    """Keys in the order of their bytes. Any call raises CorruptionError for damaged data, OSError of a failing disk."""

    def get(self, key: bytes) -> bytes | None: ...

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]: ...

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Pairs start <= key < end; lazily, so that who stops early pays for what it took only.

        The iterator sees the map as it was when `scan` was called.
        """

    def keys(self, start: bytes, end: bytes) -> Iterator[bytes]:
        """As `scan`, without the values: the cheap way to count."""

    def cursor(self) -> Cursor: ...


class Engine(Reader, Protocol):
    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes]) -> None:
        """All of it at once, or after a crash none of it. Deletes come first. Visible on return, durable after a flush.

        What survives a crash is always what the writes up to some point left, and never less than was flushed.
        """

    def settle(self) -> None:
        """Keep nothing back of what was written, for who calls `flush` next."""

    def snapshot(self, *, once: bool = False) -> Reader:
        """A view that stands still; it is released when nobody holds it any more.

        `once`: much of it is read, and once: what others read often is not to leave a cache for it.
        """

    def flush(self) -> None:
        """What was written, and settled, before this call is on stable storage when it returns.

        With `defragment`, a call that another thread may make while the owner reads and writes.
        """

    def defragment(self) -> None:
        """Give back what deleted and superseded pairs still take on the disk. Blocks neither reads nor writes."""

    def size(self) -> int:
        """Bytes on disk."""

    def size_in_use(self) -> int:
        """About how many of them a defragmentation would leave."""

    def close(self) -> None: ...


class _Leaf:
    """Sorted keys and their values, side by side. Never changed once it is in a tree."""

    __slots__ = ("keys", "values")

    def __init__(self, keys: list[bytes], values: list[bytes]) -> None:
        self.keys = keys
        self.values = values


class _View:
    """A tree of two levels that stands still: the first key of each leaf, and the leaves. The first is b""."""

    __slots__ = ("_firsts", "_leaves")

    def __init__(self, firsts: list[bytes], leaves: list[_Leaf]) -> None:
        self._firsts = firsts
        self._leaves = leaves

    def get(self, key: bytes) -> bytes | None:
        leaf = self._leaves[bisect_right(self._firsts, key) - 1]
        at = bisect_left(leaf.keys, key)
        return leaf.values[at] if at < len(leaf.keys) and leaf.keys[at] == key else None

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        low, high = bisect_right(self._firsts, start) - 1, bisect_left(self._firsts, end)
        leaves = self._leaves[low : max(high, low)]
        for leaf in reversed(leaves) if reverse else leaves:
            keys = leaf.keys
            at = range(bisect_left(keys, start), bisect_left(keys, end))
            for i in reversed(at) if reverse else at:
                yield keys[i], leaf.values[i]

    def keys(self, start: bytes, end: bytes) -> Iterator[bytes]:
        return (key for key, _ in self.scan(start, end))

    def seek(self, key: bytes) -> tuple[bytes, bytes] | None:
        for number in range(bisect_right(self._firsts, key) - 1, len(self._leaves)):
            leaf = self._leaves[number]
            at = bisect_left(leaf.keys, key)
            if at < len(leaf.keys):
                return leaf.keys[at], leaf.values[at]
        return None

    def seek_before(self, key: bytes) -> tuple[bytes, bytes] | None:
        for number in range(max(bisect_left(self._firsts, key), 1) - 1, -1, -1):
            leaf = self._leaves[number]
            at = bisect_left(leaf.keys, key)
            if at:
                return leaf.keys[at - 1], leaf.values[at - 1]
        return None

    def cursor(self) -> _View:
        return self


class MemoryEngine:
    """The twin in memory. `power_loss` gives what a crash would leave."""

    def __init__(self) -> None:
        self._firsts: list[bytes] = [b""]
        self._leaves = [_Leaf([], [])]
        self._shared = False
        self._bytes = 0
        self._durable = self._share()

    def _share(self) -> _View:
        self._shared = True
        return _View(self._firsts, self._leaves)

    def get(self, key: bytes) -> bytes | None:
        return _View(self._firsts, self._leaves).get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return _View(self._firsts, self._leaves).get_many(keys)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return self._share().scan(start, end, reverse=reverse)

    def keys(self, start: bytes, end: bytes) -> Iterator[bytes]:
        return self._share().keys(start, end)

    def cursor(self) -> Cursor:
        return self._share()

    def snapshot(self, *, once: bool = False) -> Reader:  # noqa: ARG002 - there is no cache
        return self._share()

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes]) -> None:
        changes: dict[bytes, bytes | None] = dict.fromkeys(deletes)
        changes.update(puts)
        if self._shared:
            self._firsts, self._leaves = self._firsts.copy(), self._leaves.copy()
            self._shared = False
        order = sorted(changes)
        done = 0
        while done < len(order):
            number = bisect_right(self._firsts, order[done]) - 1
            upto = len(order)
            if number + 1 < len(self._firsts):
                upto = bisect_left(order, self._firsts[number + 1], done)
            self._change_leaf(number, [(key, changes[key]) for key in order[done:upto]])
            done = upto

    def _change_leaf(self, number: int, changes: list[tuple[bytes, bytes | None]]) -> None:
        leaf = self._leaves[number]
        keys, values = leaf.keys.copy(), leaf.values.copy()
        for key, value in changes:
            at = bisect_left(keys, key)
            present = at < len(keys) and keys[at] == key
            if present:
                self._bytes -= len(key) + len(values[at])
            if value is None:
                if present:
                    del keys[at], values[at]
                continue
            self._bytes += len(key) + len(value)
            if present:
                values[at] = value
            else:
                keys.insert(at, key)
                values.insert(at, value)
        if not keys and number:
            del self._firsts[number], self._leaves[number]
            return
        # Into halves, so that the next keys find room.
        cuts = list(range(0, len(keys), LEAF_KEYS_MAX // 2)) if len(keys) > LEAF_KEYS_MAX else [0]
        ends = [*cuts[1:], len(keys)]
        parts = [_Leaf(keys[low:high], values[low:high]) for low, high in zip(cuts, ends, strict=True)]
        self._leaves[number : number + 1] = parts
        self._firsts[number + 1 : number + 1] = [part.keys[0] for part in parts[1:]]

    def settle(self) -> None:
        """Nothing is kept back here."""

    def flush(self) -> None:
        self._durable = self._share()

    def power_loss(self) -> MemoryEngine:
        """A new engine that holds what was flushed; this one must not be used any more."""
        engine = MemoryEngine()
        engine.write(self._durable.scan(b"", b"\xff" * 64), ())
        engine.flush()
        return engine

    def defragment(self) -> None:
        pass  # what is deleted is gone at once

    def size(self) -> int:
        return self._bytes

    def size_in_use(self) -> int:
        return self._bytes

    def close(self) -> None:
        self._durable = _View([b""], [_Leaf([], [])])
        self._firsts, self._leaves, self._bytes = [b""], [_Leaf([], [])], 0
