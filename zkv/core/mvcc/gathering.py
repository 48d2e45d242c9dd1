"""An engine that keeps small writes back, and hands them on many at once.

A lone put is a batch of five records, and the engine's way in costs as much as all the rest of applying it; half of the
five (a session's record, the store's place, the current record of a key that is written again and again) are
overwritten by the next one. So what is written gathers in a table beside the engine until it is worth a batch of its
own; a large write is one as it comes. Whoever asks for single keys is answered out of both. Whoever wants an order over
keys, or a view that stands still, has all of it handed on first: a write and a scan in turns cost what they did.

Nothing survives a crash that would not have: what is gathered is lost as the engine's own memory is, and as it is
handed on in one batch, what is left is still what the writes up to some point left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from zkv.core.mvcc.engine import Cursor, Engine, Reader

SMALL_MAX: Final = 32
"""Keys of a write that is kept back; a larger one is worth a batch of its own."""
GATHERED_MAX: Final = 256
"""Keys: some eighty puts of one client."""
GATHERED_BYTES_MAX: Final = 256 << 10


class GatheringEngine:
    """Raises what `engine` does, from any call that hands on what was gathered: that is forgotten then."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._gathered: dict[bytes, bytes | None] = {}
        """None: deleted."""
        self._bytes = 0

    def get(self, key: bytes) -> bytes | None:
        gathered = self._gathered
        return gathered[key] if key in gathered else self.engine.get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        gathered = self._gathered
        unknown = [key for key in keys if key not in gathered]
        found = self.engine.get_many(unknown) if unknown else []
        if len(unknown) == len(keys):
            return found
        others = iter(found)
        return [gathered[key] if key in gathered else next(others) for key in keys]

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes]) -> None:
        pairs, gone = [*puts], [*deletes]
        if len(pairs) + len(gone) > SMALL_MAX:
            self.settle()
            self.engine.write(pairs, gone)
            return
        gathered = self._gathered
        for key in gone:
            gathered[key] = None
            self._bytes += len(key)
        for key, value in pairs:
            gathered[key] = value
            self._bytes += len(key) + len(value)  # what it takes the place of is not taken off: this is but a bound
        if len(gathered) > GATHERED_MAX or self._bytes > GATHERED_BYTES_MAX:
            self.settle()

    def settle(self) -> None:
        gathered = self._gathered
        if not gathered:
            return
        self._gathered, self._bytes = {}, 0  # first: what finds no room is in no part there, nor here
        puts = [(key, value) for key, value in gathered.items() if value is not None]
        deletes = [key for key, value in gathered.items() if value is None] if len(puts) < len(gathered) else ()
        self.engine.write(puts, deletes)

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        self.settle()
        return self.engine.scan(start, end, reverse=reverse)

    def keys(self, start: bytes, end: bytes) -> Iterator[bytes]:
        self.settle()
        return self.engine.keys(start, end)

    def cursor(self) -> Cursor:
        self.settle()
        return self.engine.cursor()

    def snapshot(self, *, once: bool = False) -> Reader:
        self.settle()
        return self.engine.snapshot(once=once)

    def flush(self) -> None:
        self.engine.flush()

    def defragment(self) -> None:
        self.engine.defragment()

    def size(self) -> int:
        return self.engine.size()

    def size_in_use(self) -> int:
        return self.engine.size_in_use()

    def close(self) -> None:
        self._gathered = {}
        self.engine.close()
