"""The most frequent of many keys, in room for a few of them (Metwally, Agrawal, El Abbadi: Space-Saving, 2005).

There are `capacity` counters. A key that has one is counted there; another takes over the smallest, and goes on from
its count. So a key that came more often than one in `capacity` has a counter, no key is counted too low, and none too
high by more than what its counter stood at when it was taken over (`error`).
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

Key = TypeVar("Key")


class Counted(NamedTuple, Generic[Key]):
    key: Key
    count: int  # type: ignore[assignment] # hides tuple's method, as meant
    error: int


class SpaceSaving(Generic[Key]):
    def __init__(self, capacity: int) -> None:
        assert capacity > 0
        self._capacity = capacity
        self._counters: dict[Key, list[int]] = {}  # count, error

    def add(self, key: Key, weight: int = 1) -> None:
        counter = self._counters.get(key)
        if counter is not None:
            counter[0] += weight
        elif len(self._counters) < self._capacity:
            self._counters[key] = [weight, 0]
        else:
            smallest = min(self._counters, key=self._count_of)
            count, _ = self._counters.pop(smallest)
            self._counters[key] = [count + weight, count]

    def top(self, most: int) -> list[Counted[Key]]:
        """The most frequent first."""
        ranked = sorted(self._counters.items(), key=lambda item: item[1][0], reverse=True)
        return [Counted(key, count, error) for key, (count, error) in ranked[:most]]

    def _count_of(self, key: Key) -> int:
        return self._counters[key][0]
