"""What a leader knows about one follower, and so what it may send it.

    PROBE ──── an append is accepted ───▶ REPLICATE
      ▲  ◀── one is rejected, or lost ───     │
      │                                       │ the entries it needs next are gone from the log
      └── the snapshot has ended ── SNAPSHOT ◀┘ (from PROBE too)

- PROBE: where the logs agree is not known (or doubtful): one append at a time, then wait for its answer, or for
  any sign of life (a heartbeat answer).
- REPLICATE: the logs agree; appends follow each other without waiting, `next` running ahead of `match`, as many in
  flight as the window holds, in number and in bytes (thesis section 10.2.2).
- SNAPSHOT: the follower is being sent the state itself; no appends.

What is committed it is told with the next append; sooner where somebody at the follower waits for it, and TELL_MS later
at the latest: a message for that alone costs both members a turn for each batch.

Invariant: match < next. `match` is what the follower has said to hold on disk; it alone counts for commits.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import Final

TELL_MS: Final = 2
"""So long a commit waits at most for the next append, to a follower at which nobody waits for it. Little more than one
writer's next write takes to come: what is read or watched there from now on, by whom it does not know yet, is as old.
"""


class State(Enum):
    PROBE = auto()
    REPLICATE = auto()
    SNAPSHOT = auto()


class Progress:
    """Indexes of log entries; `heard` in ms."""

    __slots__ = (
        "_appends_max",
        "_bytes",
        "_bytes_max",
        "_in_flight",
        "_waits",
        "heard",
        "match",
        "next",
        "nudged",
        "patient",
        "read_round",
        "state",
        "tell_at",
        "told",
    )

    def __init__(self, next_index: int, now: int, *, appends_max: int, bytes_max: int) -> None:
        self.state = State.PROBE
        self.match = 0
        self.next = next_index
        self.heard = now
        """When it last sent anything. A new leader grants everybody one election timeout."""
        self.told = 0
        """The commit index it has been sent, were nothing lost."""
        self.tell_at = 0
        """When it is to be told what it has not been, ms; 0: there is nothing that waits."""
        self.patient = False
        """Nobody at its member waits for what is committed, says its last answer."""
        self.read_round = 0
        """The last round of reads in which it confirmed the leader."""
        self.nudged = False
        """Whether it gets an append even if that has to be an empty one: its answer tells what got lost."""
        self._appends_max = appends_max
        self._bytes_max = bytes_max
        self._in_flight: deque[tuple[int, int]] = deque()  # (last index, bytes) of appends not answered, REPLICATE only
        self._bytes = 0  # of all those
        self._waits = False  # an append is on its way, PROBE only

    def may_append(self) -> bool:
        if self.state is State.REPLICATE:
            return len(self._in_flight) < self._appends_max and self._bytes < self._bytes_max
        return self.state is State.PROBE and not self._waits

    def must_be_told(self, commit: int, now: int) -> bool:
        """Of the commit index, by an append of its own; `tell_at` says when, if that is later."""
        if self.state is not State.REPLICATE or self.told >= min(commit, self.next - 1):
            return False
        if not self.patient:
            return True
        if not self.tell_at:
            self.tell_at = now + TELL_MS
        return now >= self.tell_at

    def sent(self, last: int, size: int, commit: int) -> None:
        """An append is under way: entries up to `last` (next - 1 for an empty one), their bytes, the commit index."""
        self.told = max(self.told, min(commit, last))
        self.tell_at = 0
        self.nudged = False
        if self.state is State.PROBE:
            self._waits = True
        elif last >= self.next:
            self._in_flight.append((last, size))
            self._bytes += size
            self.next = last + 1

    def accepted(self, index: int) -> bool:
        """It holds entries up to `index`, says its answer. Returns whether that is news."""
        self._waits = False
        while self._in_flight and self._in_flight[0][0] <= index:
            self._bytes -= self._in_flight.popleft()[1]
        news = index > self.match
        self.match = max(self.match, index)
        self.next = max(self.next, index + 1)
        return news

    def rejected(self, index: int, agree: int) -> None:
        """It does not hold the leader's entry at `index`; the logs may agree at `agree` at best.

        Answers come late and doubled, so a rejection of an append that is not the one last sent is
        taken for an old one - unless it says that the follower holds less than it once did: a
        member without a disk has restarted empty. To believe that of an old answer costs some appends twice, not to
        believe it would shut that member out for ever.
        """
        if agree < self.match:
            self.match = agree
        elif index <= self.match or (self.state is State.PROBE and index != self.next - 1):
            return
        if self.state is State.SNAPSHOT:
            return  # that is why it gets one
        self.probe(max(min(index, agree + 1), self.match + 1))

    def replicate(self) -> None:
        self.state = State.REPLICATE
        self.next = self.match + 1
        self._forget_flight()

    def probe(self, next_index: int, *, waits: bool = False) -> None:
        """Find out where the logs agree, from `next_index` on; `waits`: not before it gives a sign of life."""
        self.state = State.PROBE
        self.next = next_index
        self._forget_flight()
        self._waits = waits
        self.told = min(self.told, self.match)

    def snapshot(self) -> None:
        self.state = State.SNAPSHOT
        self._forget_flight()

    def _forget_flight(self) -> None:
        self._in_flight.clear()
        self._bytes = self.tell_at = 0

    def alive(self, last_index: int) -> None:
        """It answered a heartbeat. If it has not confirmed all of the log, something may have been lost."""
        self._waits = False
        self.nudged = self.match < last_index
