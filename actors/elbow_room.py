"""Members that share a machine: while there is little to do, a follower's raft works beside its leader's.

The kernel wakes a follower where the leader's packet to it is worked off, which is the leader's core, and unless there
is little to do on all cores it looks for no other one. The follower then runs at once, before the leader has sent to
the next or has begun to write; and as who is woken is woken where it ran last, three members' turns and syncs follow
one another on one core for good, beside idle ones (docs/decisions/0015). So a follower keeps from the core that its
leader's packets come from. That is no choice of a core: among the others the kernel does as it thinks, and among all of
them where there is much to do, or where the leader is on another machine.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LOOK_MS: Final = 100
LITTLE_BYTES: Final = 256 << 10
"""Of entries, from one look to the next: a few writers make less, and many make more."""


class ElbowRoom:
    """Of the thread that makes it. `core_of`: the core on which a member works, if it is one of this machine.

    By Linux's means; elsewhere, and where there is one core, nothing happens.
    """

    def __init__(self, core_of: Callable[[int], int | None]) -> None:
        self._core_of = core_of
        self._cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
        self._allowed = self._cores
        self._look_at = self._fed_bytes = 0

    def look_about(self, leader: int, fed_bytes: int, now: int) -> None:
        """Now and then. `leader`: who leads, if known; `fed_bytes`: of entries, so far; `now`: ms, monotonic."""
        if now < self._look_at:
            return
        self._look_at = now + LOOK_MS
        has_little = fed_bytes - self._fed_bytes <= LITTLE_BYTES
        self._fed_bytes = fed_bytes
        allowed = self._cores - {self._core_of(leader)} if has_little else self._cores
        if allowed and allowed != self._allowed:
            self._allowed = allowed
            with contextlib.suppress(OSError):  # the machine has other cores than it had: those it has are all allowed
                os.sched_setaffinity(0, allowed)
