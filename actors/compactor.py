"""When the next step of a physical compaction is done, beside what a member has to do for others.

A step takes about a millisecond (core/mvcc/compaction.py). While nothing is written one follows upon the other; else
there is a rest after each, so that a write seldom meets one, and not all members' steps take the machine. Whatever was
compacted is forgotten by and by: nobody waits for it but who asked to (--physical), and then the rests are as short as
it takes to be done before a command's patience is at an end. Yet writes must not outrun it, so the longer one lasts,
the shorter the rests.
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
PATIENCE_MS = 3_000
"""Who waits for the end of one is to see it within this, if it can be; commands, as etcd's, wait for five seconds."""
LOOK_MS = 1_000
"""How far a step comes differs with what is there: nothing is made of it before some dozens have been done."""


class _Waited:
    """Since when somebody has waited, and what has been done since."""

    def __init__(self, now: int, revision: int) -> None:
        self._look_at = now + LOOK_MS
        self._until = now + PATIENCE_MS
        self._revision = revision
        self._steps = 0

    def rest(self, machine: StateMachine, now: int, took_ms: int) -> int:
        """After another step: as long as the steps that are left may rest, if each comes as far as those before."""
        self._steps += 1
        if now < self._look_at:
            return REST_MS
        at = machine.compaction.revision
        steps_left = (machine.store.compacted - at) * self._steps // max(1, at - self._revision)
        return max(0, (self._until - now) // max(1, steps_left) - took_ms)


class Compactor:
    """`at`: when the next step may be done."""

    def __init__(self) -> None:
        self.at = 0
        self._applied = 0  # at the last step
        self._since: int | None = None  # the compaction under way
        self._waited: _Waited | None = None
        self._pauses, self._lasted = Histogram(), Histogram()
        self._ended = 0

    def step(self, machine: StateMachine, now: int, *, waited_for: bool = False) -> None:
        """Of what is due. Raises OSError."""
        since = self._since = now if self._since is None else self._since
        if not waited_for:
            self._waited = None
        elif self._waited is None:
            self._waited = _Waited(now, machine.compaction.revision)
        busy = machine.applied != self._applied
        self._applied = machine.applied
        began = time.monotonic_ns()
        more = machine.compaction_step()
        took = time.monotonic_ns() - began
        self._pauses.observe(took)
        rest = max(1, REST_MS - (now - since) // HASTE_MS)
        if self._waited is not None:
            rest = min(rest, self._waited.rest(machine, now, took // 1_000_000))
        self.at = now + rest if busy else now
        if not more:
            self._since = self._waited = None
            self._lasted.observe((now - since) * 1_000_000)
            self._ended = int(time.time())

    def gauges(self) -> Sequence[Value]:
        return [
            ("compaction step", "", self._pauses.counts),
            ("compaction", "", self._lasted.counts),
            ("compaction ended", "", self._ended),
        ]
