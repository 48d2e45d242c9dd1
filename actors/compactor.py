"""When the next step of a physical compaction is done, beside what a member has to do for others.

A step takes about a millisecond (core/mvcc/compaction.py). While nothing is written one follows upon the other; else
there is a rest after each, so that a write seldom meets one, and not all members' steps take the machine. Whatever was
compacted is forgotten by and by: nobody waits for it but who asked to (--physical). Yet writes must not outrun it, so
the longer one lasts, the shorter the rests.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from zkv.gauges import Histogram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.core.mvcc.machine import StateMachine
    from zkv.gauges import Value

REST_MS = 20
HASTE_MS = 1_000
"""With each time that a compaction has lasted so long, the rests are a millisecond shorter."""


class Compactor:
    """`at`: when the next step may be done."""

    def __init__(self) -> None:
        self.at = 0
        self._applied = 0  # at the last step
        self._since: int | None = None  # the compaction under way
        self._pauses, self._lasted = Histogram(), Histogram()
        self._ended = 0

    def step(self, machine: StateMachine, now: int) -> None:
        """Of what is due. Raises OSError."""
        since = self._since = now if self._since is None else self._since
        busy = machine.applied != self._applied
        self._applied = machine.applied
        began = time.monotonic_ns()
        more = machine.compaction_step()
        self._pauses.observe(time.monotonic_ns() - began)
        self.at = now + max(1, REST_MS - (now - since) // HASTE_MS) if busy else now
        if not more:
            self._since = None
            self._lasted.observe((now - since) * 1_000_000)
            self._ended = int(time.time())

    def gauges(self) -> Sequence[Value]:
        return [
            ("compaction step", "", self._pauses.counts),
            ("compaction", "", self._lasted.counts),
            ("compaction ended", "", self._ended),
        ]
