"""What may be logged of things that can come by the thousand."""

from __future__ import annotations

from typing import Final


class Sparingly:
    """Lets so many a second be logged, and counts the others."""

    PER_SECOND: Final = 10

    def __init__(self) -> None:
        self._second = -1
        self._logged = 0
        self._left_out = 0

    def ask(self, now_ms: int) -> int | None:
        """How many were left out since the last that was not; None: so is this one."""
        second = now_ms // 1000
        if second != self._second:
            self._second, self._logged = second, 0
        if self._logged >= self.PER_SECOND:
            self._left_out += 1
            return None
        self._logged += 1
        left_out, self._left_out = self._left_out, 0
        return left_out
