"""Which prefixes clients ask for most, told from a sample, and only while somebody looks.

One message of clients in EVERY is opened, and one of its requests taken for all of them. Its key counts for the
*prefix* it lies under: what stands before its last separator, early in the key. While nobody looks, a message costs one
comparison.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from zkv.gateway.space_saving import SpaceSaving
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    import random

    from zkv.gauges import Value

EVERY: Final = 16
COUNTERS: Final = 256
TOLD: Final = 32
"""Prefixes told at a time."""
PREFIX_BYTES_MAX: Final = 64
_PREFIX: Final = re.compile(rb"(?s).*[/:]")
_KEYED: Final = frozenset((m.Op.RANGE, m.Op.PUT, m.Op.DELETE_RANGE))


def prefix_of(key: bytes) -> str:
    """Up to the last `/` or `:` that is not the end; a key without counts for itself. Readable, whatever its bytes."""
    found = _PREFIX.match(key, 0, min(len(key) - 1, PREFIX_BYTES_MAX)) if key else None
    return (found[0] if found else key[:PREFIX_BYTES_MAX]).decode("utf-8", "backslashreplace")


def key_of(op: int, fields: Any) -> bytes | None:
    """The first key that a request which was checked names; None where it names none."""
    if op in _KEYED:
        key = fields[0]
        assert isinstance(key, bytes)
        return key
    if op == m.Op.TXN:
        for part in (fields[1], fields[2]):
            for inner, its_fields in part:
                return key_of(inner, its_fields)
    return None


class Sampler:
    """`awake`: somebody looks, and what comes in is to be given to `message` or `request`."""

    def __init__(self, rng: random.Random) -> None:
        self.awake = False
        self._rng = rng
        self._skip = 0
        self._sketch: SpaceSaving[str] = SpaceSaving(COUNTERS)

    def look(self, awake: bool) -> None:
        """Somebody has begun to look, or nobody does any more. What was counted is forgotten in between."""
        if awake and not self.awake:
            self._sketch = SpaceSaving(COUNTERS)
        self.awake = awake

    def message(self, payload: bytes, requests: int) -> None:
        """A packed `Requests` of so many, which was checked."""
        if self._due():
            _, op, fields = codec.unpack(payload)[4][self._rng.randrange(requests)]
            self._count(op, fields, requests)

    def request(self, op: int, fields: Any) -> None:
        """One that came by itself, and was checked."""
        if self._due():
            self._count(op, fields, 1)

    def gauges(self) -> list[Value]:
        """About how many requests there were under each prefix since somebody began to look."""
        return [("hot", counted.key, counted.count) for counted in self._sketch.top(TOLD)] if self.awake else []

    def _due(self) -> bool:
        if self._skip:
            self._skip -= 1
            return False
        self._skip = self._rng.randrange(2 * EVERY - 1)  # EVERY on average, and in step with nobody
        return True

    def _count(self, op: int, fields: Any, requests: int) -> None:
        key = key_of(op, fields)
        if key is not None:
            self._sketch.add(prefix_of(key), requests * EVERY)
