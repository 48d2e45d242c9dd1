"""How much room the disk has that a member's data lie on.

A member needs room besides its data: for the next segment of its log, for what it flushes, and for RocksDB to
rewrite files before it removes the old ones. Below that the disk counts as *short*: the leader hands over or
raises the alarm NOSPACE (housekeeper.py), while everything still works. Where others fill the disk faster than that,
writes to it fail; what happens then stands in storage_actor.py and raft_actor.py.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

RESERVE_BYTES_MIN: Final = 64 << 20
RESERVE_BYTES_MAX: Final = 512 << 20
RESERVE_PART: Final = 4
"""A quarter of the store, between those two: RocksDB rewrites a level at a time."""
ENOUGH_PERCENT: Final = 125
"""Of the reserve, until the disk no longer counts as short: so it does not flutter."""


class Space:
    """Of the file systems of `paths`."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = tuple(paths)
        self._short = False

    def free(self) -> int:
        """Bytes, of the one that has least."""
        states = [os.statvfs(path) for path in self._paths]
        return min(state.f_bavail * state.f_frsize for state in states)

    def is_short(self, store_bytes: int) -> bool:
        reserve = min(max(store_bytes // RESERVE_PART, RESERVE_BYTES_MIN), RESERVE_BYTES_MAX)
        percent = ENOUGH_PERCENT if self._short else 100
        self._short = self.free() * 100 < reserve * percent
        return self._short
