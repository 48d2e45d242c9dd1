"""The cluster clock: what time the log says it is, and how a new leader comes to know it.

A leader's clock is its machine's monotonic clock plus an *offset* that is settled when it is elected and stays for its
term; it stamps every entry with it. Leases end by it (core/lease.py), and all that they need of it is this:

    no leader's clock is ever ahead of the clock of the leader before it in the log.

For a time that was promised by one leader has then not come for the next one, either. Behind it may be, by little:
then leases live longer by as much.

Each member keeps an *anchor* for that: when it appends an entry, the leader's clock shows at least `entry.time`. So
`entry.time - now` is an offset that the leader's is not below, and the greatest one seen (the entry that took the
least time to come) is the best known; `now` plus that is what an elected member goes on from, or its last entry's time,
if that is greater. Three rules make it safe:

- *An anchor is of one term, the one of the last entry in the log*, and of no use for another. Were it the greatest
  of all terms: A leads, B follows, C too. B restarts on a machine that has restarted, has but the last entry's time,
  which is an hour old, and is elected. It grants a lease of a minute by its clock. C, elected next, would remember A's
  clock, an hour ahead of B's: the lease would end at once. Clocks of terms that follow each other in the log go down;
  those of the terms in between, which left nothing in it, bound nobody, for what they promised was never committed.
- *It ages.* Clocks differ in rate; each is off by 500 ppm at worst where it is disciplined at all (what adjtime
  allows). So an anchor loses one part in `DRIFT` of the time since it was taken. A leader of leases says the time each
  second, which keeps the loss at a millisecond.
- *It is of one boot of its machine*, for monotonic clocks are. The actor keeps it in a file with the boot's id, so that
  processes which start again lose nothing; a machine that starts again has the last entry's time.
"""

from __future__ import annotations

from typing import Final

DRIFT: Final = 1000
"""Two clocks go apart by less than one part in so many."""


class Anchor:
    """While `term` is that of the log's last entry: the leader's clock showed at least `time` when mine showed `seen`.

    Both ms; `seen` is of this machine's monotonic clock. (Each append makes one.)
    """

    def __init__(self, term: int, time: int, seen: int) -> None:
        self.term = term
        self.time = time
        self.seen = seen

    def fields(self) -> tuple[int, int, int]:
        return self.term, self.time, self.seen

    def bound(self, now: int) -> int:
        """What the leader's clock shows `now` at least."""
        since = now - self.seen
        return self.time + since - (since + DRIFT - 1) // DRIFT

    def better(self, other: Anchor) -> Anchor:
        """This one or a younger one, whichever says more."""
        if other.term == self.term and self.bound(other.seen) > other.time:
            return self
        return other
