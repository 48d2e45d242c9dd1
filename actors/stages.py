"""When entries came how far, for requests that took long: which stage of their way took the time.

A request that took long says so when it is answered (gateway/slow.py): gateway -> raft -> storage, which logs it. On
that way each process adds what it knows. For that they keep when, lately, the log had come to which index in which
stage, a mark a turn, to a millisecond, and nothing of any request; so what a slow request's entry was is found by its
time: the first that was appended after the request was taken. All times are of the machine's monotonic clock, in ns.

    taken    gateway: the request came in
    raft     until the entry was in this member's log (in a follower: by way of the leader)
    fsync    until the log was synced here
    quorum   until it was known to be agreed on (for a read: until a quorum had confirmed the leader)
    queue    until the storage actor turned to it
    apply    until it was applied
    gateway  until the answer was taken there
"""

from __future__ import annotations

from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

import structlog

from zkv.sparingly import Sparingly

if TYPE_CHECKING:
    from zkv.wire import messages as m

MARKS_MAX: Final = 4096
STEP_NS: Final = 1_000_000
"""Marks are so far apart at least: the last of them then stands for more."""
MS: Final = 1e6


class Marks:
    """When something had come to which index."""

    __slots__ = ("_kept", "_last_at", "last")

    def __init__(self) -> None:
        self._kept: deque[tuple[int, int]] = deque(maxlen=MARKS_MAX)
        self.last = 0
        self._last_at = 0

    def reach(self, index: int, now: int) -> None:
        if index <= self.last:
            return
        self.last = index
        if now - self._last_at < STEP_NS and self._kept:
            self._kept[-1] = (index, self._last_at)
        else:
            self._last_at = now
            self._kept.append((index, now))

    def at(self, index: int) -> int | None:
        """When it had come to `index`; None: that is not known (any more)."""
        if not self._kept or index > self.last:
            return None
        return next(at for reached, at in self._kept if reached >= index)

    def first_after(self, moment: int) -> int | None:
        """The first index it came to then or later."""
        before = 0
        for reached, at in self._kept:
            if at >= moment - STEP_NS:
                return before + 1 if before else reached
            before = reached
        return None


class RaftStages:
    """Raft's part. `appended` and `turned` are called each turn."""

    def __init__(self) -> None:
        self._appended, self._synced, self._committed = Marks(), Marks(), Marks()
        self._rounds: dict[int, int] = {}  # of reads, under way: context -> when asked
        self._confirmed: deque[tuple[int, int]] = deque(maxlen=MARKS_MAX)  # when asked, and when confirmed

    def appended(self, index: int) -> None:
        if index > self._appended.last:
            self._appended.reach(index, monotonic_ns())

    def turned(self, synced: int, committed: int) -> None:
        if synced > self._synced.last or committed > self._committed.last:
            now = monotonic_ns()
            self._synced.reach(synced, now)
            self._committed.reach(committed, now)

    def read_asked(self, context: int) -> None:
        self._rounds[context] = monotonic_ns()

    def read_ended(self, context: int, *, confirmed: bool) -> None:
        asked = self._rounds.pop(context, None)
        if asked is not None and confirmed:
            self._confirmed.append((asked, monotonic_ns()))

    def explained(self, slow: m.Slow) -> m.Slow:
        """With raft's stages, as far as they are known."""
        moments: tuple[tuple[str, int | None], ...] = ()
        index = slow.index
        if slow.way == "write" and index:
            index = min(self._appended.first_after(slow.taken) or index, index)
            appended, synced, committed = [marks.at(index) for marks in (self._appended, self._synced, self._committed)]
            moments = (("raft", appended), ("fsync", synced), ("quorum", committed))
        elif slow.way == "linearizable":
            found = next(((asked, done) for asked, done in self._confirmed if asked >= slow.taken), (None, None))
            moments = (("raft", found[0]), ("quorum", found[1]))
        return _lengthened(slow, moments)._replace(index=index)


def _lengthened(slow: m.Slow, moments: tuple[tuple[str, int | None], ...]) -> m.Slow:
    """With stages that ended at these moments, one behind the other; unknown ones belong to the next that is known."""
    stages, at = list(slow.stages), slow.at or slow.taken
    for name, moment in moments:
        if moment is not None:
            stages.append((name, max(0, moment - at)))
            at = max(at, moment)
    return slow._replace(stages=tuple(stages), at=at)


class SlowLog:
    """Storage's part: its own stages, and the log lines. `apply_ms`, `request_ms`: what is taken for slow."""

    def __init__(self, apply_ms: int, request_ms: int) -> None:
        self._apply_ns = apply_ms * STEP_NS
        self._apply_ms = apply_ms
        self._request_ms = request_ms
        self._batches: deque[tuple[int, int, int]] = deque(maxlen=MARKS_MAX)  # last index, began, ended
        self._logger = structlog.get_logger().bind(actor="storage")
        self._may_log = Sparingly()

    def applied(self, last: int, began: int, ended: int, entries: int, size: int) -> bool:
        """A batch of so many entries up to `last`, of `size` bytes, was applied; was that slow?"""
        batches = self._batches
        if not batches or began - batches[-1][1] >= STEP_NS:
            batches.append((last, began, ended))
        else:
            batches[-1] = (last, batches[-1][1], ended)
        if ended - began <= self._apply_ns:
            return False
        left_out = self._may_log.ask(ended // STEP_NS)
        if left_out is not None:
            self._logger.warning(
                "apply took too long", took=_shown(ended - began), expected=f"{self._apply_ms}ms", entries=entries,
                bytes=size, index=last, left_out=left_out,
            )  # fmt: skip
        return True

    def tell(self, slow: m.Slow) -> None:
        """The line in the log. Of keys and values there is nothing in it."""
        if slow.index:
            batch = next((batch for batch in self._batches if batch[0] >= slow.index), None)
            if batch is not None:
                slow = _lengthened(slow, (("queue", batch[1]), ("apply", batch[2])))
            slow = _lengthened(slow, (("gateway", slow.answered),))
        else:
            slow = _lengthened(slow, (("storage", slow.answered),))
        self._logger.warning(
            "slow request", way=slow.way, door=slow.door, requests=slow.requests, bytes=slow.bytes,
            took=_shown(slow.answered - slow.taken), expected=f"{self._request_ms}ms",
            **{name: _shown(duration) for name, duration in slow.stages}, index=slow.index, left_out=slow.left_out,
        )  # fmt: skip


def _shown(duration_ns: int) -> str:
    return f"{duration_ns / MS:.1f}ms"
