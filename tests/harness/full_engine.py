"""An engine whose disk is full when the test says so."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from zkv.core.mvcc.engine import MemoryEngine

if TYPE_CHECKING:
    from collections.abc import Iterable


class FullEngine(MemoryEngine):
    """Its disk has no room, as long as `is_full`."""

    is_full = False

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes]) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, "no room")
        super().write(puts, deletes)
