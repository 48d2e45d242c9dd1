"""Which parties a key concerns: a dict for those that watch one key, an interval tree for those that watch a range.

So a put costs one look into a dict however many single keys are watched, and of ranges only those that hold the key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from zkv.core.watch.intervals import Intervals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.core.watch.parties import Party

_Several: TypeAlias = "dict[Party, None]"
_Parties: TypeAlias = "tuple[Party] | _Several"
"""Most keys have one party: a dict for it would be the largest thing about it."""


class Index:
    def __init__(self) -> None:
        self._keys: dict[bytes, _Parties] = {}
        self._ranges: Intervals[_Several] = Intervals()

    def __len__(self) -> int:
        """Distinct keys and ranges."""
        return len(self._keys) + len(self._ranges)

    def add(self, party: Party) -> None:
        key, range_end = party.claim[:2]
        if not range_end:
            there = self._keys.get(key)
            if there is None:
                self._keys[key] = (party,)
            elif isinstance(there, tuple):
                self._keys[key] = {there[0]: None, party: None}
            else:
                there[party] = None
            return
        bounds = key, None if range_end == b"\0" else range_end
        several = self._ranges.get(*bounds)
        if several is None:
            self._ranges.put(*bounds, {party: None})
        else:
            several[party] = None

    def remove(self, party: Party) -> None:
        key, range_end = party.claim[:2]
        if not range_end:
            there = self._keys[key]
            if isinstance(there, tuple):
                assert there[0] is party
                del self._keys[key]
                return
            del there[party]
            if len(there) == 1:
                self._keys[key] = (next(iter(there)),)
            return
        bounds = key, None if range_end == b"\0" else range_end
        several = self._ranges.get(*bounds)
        assert several is not None
        del several[party]
        if not several:
            self._ranges.remove(*bounds)

    def matching(self, key: bytes) -> Sequence[Party] | _Several:
        """All parties that watch `key`, wherever they stand."""
        here = self._keys.get(key, ())
        if not self._ranges:
            return here
        holding = self._ranges.holding(key)
        if not holding:
            return here
        if not here and len(holding) == 1:
            return holding[0]
        return [*here, *(party for parties in holding for party in parties)]
