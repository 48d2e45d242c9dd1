"""Keeping leases alive, for all leases of one client, without a thread or a task of its own.

The shells tick the keeper as they tick the session. Whatever keep-alives are due at that moment go into the session,
which sends them together; the answers come back by the tickets' contexts.

Fails closed: a lease counts as alive only until its TTL has passed since the last acknowledged keep-alive (or the
grant) was *sent*: the cluster cannot have begun to count before. The clock (zkv/client/clock.py) goes on while the
process is stopped and the machine asleep. Once lost, a lease is lost for good, so that nobody who was told so is
contradicted. What the clock cannot show (the moment between a check and the deed it was for) only a guard can: see
docs/CLIENT.md.
"""

from __future__ import annotations

from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING

from zkv.errors import ClientClosed, LeaseNotFound
from zkv.wire.messages import LeaseKeepAlive, LeaseKeepAliveAnswer

if TYPE_CHECKING:
    from zkv.client.session import Session
    from zkv.client.ticket import Ticket

RENEWALS_PER_TTL = 3
"""As etcd's client does: two in a row may fail."""
RETRY_MS = 200
"""After a keep-alive that failed for good (as the retry policy has it), the next one waits so long."""

CLOCKS_APART = 1
"""Per thousand: what two clocks' rates may differ by, this machine's and the leader's (an adjusted one is off by half
that at worst)."""


class Kept:
    """A lease as its holder may know it. Times in ms, by the client's clock; `ttl` in seconds."""

    __slots__ = ("due", "id", "lost", "stopped", "sure_until", "ttl")

    def __init__(self, id_: int, ttl: int, sent: int) -> None:
        self.id = id_
        self.lost = False
        self.stopped = False
        self.acknowledged(ttl, sent)

    def acknowledged(self, ttl: int, sent: int) -> None:
        """The cluster has granted or renewed it; it was asked at `sent`."""
        self.ttl = ttl
        self.sure_until = sent + ttl * (1000 - CLOCKS_APART)
        self.due = sent + ttl * 1000 // RENEWALS_PER_TTL

    def alive(self, now: int) -> bool:
        """Can its holder be sure of it? Once not, never again."""
        if now >= self.sure_until:
            self.lost = True
        return not (self.lost or self.stopped)

    def stop(self) -> None:
        """No more keep-alives. Safe from any thread, and from a finalizer."""
        self.stopped = True


class Keeper:
    """The leases of one client that are kept alive: a heap by when the next keep-alive is due."""

    def __init__(self) -> None:
        self._due: list[tuple[int, int, Kept]] = []
        self._numbers = count()

    def keep(self, kept: Kept) -> None:
        heappush(self._due, (kept.due, next(self._numbers), kept))

    def tick(self, now: int, session: Session) -> None:
        """Hand the session all keep-alives that are due. An attempt may go on for as long as the lease is sure."""
        while self._due and self._due[0][0] <= now:
            kept = heappop(self._due)[2]
            if kept.alive(now):
                ticket = session.submit(LeaseKeepAlive(kept.id), kept.sure_until)
                ticket.context = partial(self._answered, kept, ticket)

    def next_wakeup(self) -> int | None:
        """When `tick` has something to do, if nothing else happens before."""
        return self._due[0][0] if self._due else None

    def _answered(self, kept: Kept, ticket: Ticket) -> None:
        error = ticket.error
        if error is None:
            answer = ticket.answer
            assert isinstance(answer, LeaseKeepAliveAnswer)
            # If it was tried more than once, nobody knows which attempt was answered: the first one is certain.
            kept.acknowledged(answer.ttl, ticket.first_sent)
        elif isinstance(error, LeaseNotFound):
            kept.lost = True
        else:
            kept.due += RETRY_MS
        if not (kept.lost or kept.stopped or isinstance(error, ClientClosed)):
            self.keep(kept)
