"""Who waits for an answer to a keep-alive, and for what (core/lease.py decides).

    waiting   for news of the lease: a renewal, the outcome of an expiry
    unknown   the lease is not in the table, or no more: to be asked about
    asked     a linearizable read is under way: does it exist? Only that may say no, for the table here may be behind
              what a client has been told elsewhere, and an id may have been given out again

One question is under way at a time, and what comes up meanwhile makes the next one. Who was told that a lease exists
of which there are no news yet waits for them, and has it asked again after a while, should it have ended since.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

RETRY_MS: Final = 500
"""A proposal, or question, without an outcome for so long may be lost, and is made again; twice does no harm."""

GONE: Final = -1
"""Instead of seconds: there is no such lease."""
DEPOSED: Final = -2
"""Instead of seconds: this member leads no more; its successor may know better."""
FULL: Final = -3
"""Instead of seconds: too many wait already."""

Asker: TypeAlias = Any
"""Whoever wants a keep-alive answered: comes back with the answer, unopened."""


class Question(NamedTuple):
    """Which of these leases exist? To be asked as a linearizable read; `Askers.answered` takes the answer."""

    ticket: int
    leases: list[int]


class Askers:
    """`ticket`: where the numbers of questions start. `most`: that may wait; `leases_max`: in one question."""

    def __init__(self, ticket: int, most: int, leases_max: int) -> None:
        self.settled: list[tuple[Asker, int]] = []
        """(who asked, seconds that the lease lives on, or GONE, DEPOSED, FULL) each; whoever reads it takes it away."""
        self._ticket = ticket
        self._most = most
        self._leases_max = leases_max
        self._count = 0
        self._waiting: dict[int, list[tuple[Asker, int]]] = {}
        self._unknown: dict[int, list[Asker]] = {}
        self._asked: dict[int, list[Asker]] = {}
        self._ask_again_at = 0
        self._expected: list[int] = []  # leases that exist, without news of them
        self._expected_until = 0

    def settle(self, asker: Asker, ttl: int) -> None:
        """The answer to one who does not wait."""
        self.settled.append((asker, ttl))

    def wait(self, lease: int, asker: Asker, owed: int) -> bool:
        """For news of the lease; `owed`: until when it is to live, then. False if there is no room: that is settled."""
        if not self._enter(asker):
            return False
        self._waiting.setdefault(lease, []).append((asker, owed))
        return True

    def inquire(self, lease: int, asker: Asker) -> None:
        if self._enter(asker):
            self._unknown.setdefault(lease, []).append(asker)

    def _enter(self, asker: Asker) -> bool:
        if self._count >= self._most:
            self.settled.append((asker, FULL))
            return False
        self._count += 1
        return True

    def waits(self, lease: int) -> bool:
        return lease in self._waiting

    def serve(self, lease: int, until: int, ttl: int, owed_now: int) -> int:
        """Answer who waits and is owed no more than `until` (0 stands for `owed_now`): the most that any is owed."""
        waiting = self._waiting.pop(lease, [])
        served = [owed or owed_now for _, owed in waiting if (owed or owed_now) <= until]
        rest = [(asker, owed or owed_now) for asker, owed in waiting if (owed or owed_now) > until]
        self.settled += [(asker, ttl) for asker, owed in waiting if (owed or owed_now) <= until]
        self._count -= len(served)
        if rest:
            self._waiting[lease] = rest
        return max(served, default=0)

    def look_up(self, lease: int) -> None:
        """It is gone, or so it seems: whoever waits is to be told for certain."""
        waiting = self._waiting.pop(lease, None)
        if waiting:
            self._unknown.setdefault(lease, []).extend(asker for asker, _ in waiting)

    def look_up_all(self) -> None:
        for lease in list(self._waiting):
            self.look_up(lease)

    def depose(self) -> None:
        """Nobody is answered here any more."""
        self.settled += [(asker, DEPOSED) for waiting in self._waiting.values() for asker, _ in waiting]
        for askers in (*self._unknown.values(), *self._asked.values()):
            self.settled += [(asker, DEPOSED) for asker in askers]
        self._waiting, self._unknown, self._asked = {}, {}, {}
        self._expected.clear()
        self._count = 0

    # --- questions -------------------------------------------------------------------------------------

    def question(self, now: int) -> Question | None:
        """To be asked now, if there is one."""
        if self._asked and now < self._ask_again_at:
            return None
        for lease, askers in self._asked.items():
            self._unknown[lease] = askers + self._unknown.get(lease, [])
        self._asked = {}
        if self._expected and now >= self._expected_until:
            for lease in self._expected:
                self.look_up(lease)
            self._expected.clear()
        if not self._unknown:
            return None
        for lease in list(islice(self._unknown, self._leases_max)):
            self._asked[lease] = self._unknown.pop(lease)
        self._ask_again_at = now + RETRY_MS
        self._ticket += 1
        return Question(self._ticket, list(self._asked))

    def answered(self, ticket: int, exist: Iterable[int]) -> list[int]:
        """Of the leases asked about, these exist. Returns those that are waited for now."""
        if ticket != self._ticket or not self._asked:
            return []
        existing = set(exist)
        asked, self._asked = self._asked, {}
        for lease, askers in asked.items():
            if lease not in existing:
                self._count -= len(askers)
                self.settled += [(asker, GONE) for asker in askers]
                continue
            self._waiting.setdefault(lease, []).extend((asker, 0) for asker in askers)
        return [lease for lease in asked if lease in existing]

    def expect(self, lease: int, now: int) -> None:
        """It exists, and there are no news of it."""
        if not self._expected:
            self._expected_until = now + RETRY_MS
        self._expected.append(lease)

    def next_wakeup(self) -> int | None:
        """When there may be a question to ask without anything having come, ms."""
        wakeups = [self._ask_again_at] if self._asked else []
        if self._expected:
            wakeups.append(self._expected_until)
        return min(wakeups, default=None)
