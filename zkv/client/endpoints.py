"""Which endpoint to talk to.

An endpoint is connected or not, and for a while after a failure it is *suspect*: taken only when no sound one is
connected. Traffic stays with the current endpoint until that one is no longer sound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


class Endpoints:
    def __init__(self, count: int, rng: Random, suspect_ms: int) -> None:
        assert count > 0
        self._rng = rng
        self._suspect_ms = suspect_ms
        self.connected = [False] * count
        self.heard_at = [0] * count
        self._suspect_until = [0] * count
        self._current: int | None = None

    def suspect(self, endpoint: int, now: int) -> None:
        self._suspect_until[endpoint] = now + self._suspect_ms

    def sound(self, endpoint: int, now: int) -> bool:
        return self.connected[endpoint] and self._suspect_until[endpoint] <= now

    def others_than(self, endpoint: int) -> bool:
        """Is any other one connected?"""
        return any(connected for index, connected in enumerate(self.connected) if index != endpoint)

    def pick(self, now: int, avoid: int | None = None) -> int | None:
        """One that is connected (None: there is none); neither suspect nor `avoid` as far as there is a choice."""
        current = self._current
        if current is not None and current != avoid and self.sound(current, now):
            return current
        connected = [index for index, up in enumerate(self.connected) if up]
        if not connected:
            return None
        others = [index for index in connected if index != avoid]
        sound = [index for index in others if self.sound(index, now)]
        endpoint = self._rng.choice(sound or others or connected)
        if current is None or not self.sound(current, now):
            self._current = endpoint
        return endpoint
