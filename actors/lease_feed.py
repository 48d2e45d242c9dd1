"""Storage's half of leases' lives: what the log did to them, for the lease actor, which holds the clocks.

A batch that granted or renewed leases is told at once, and before the answers to its requests: keep-alives wait for
renewals, and who has been granted a lease may keep it alive with his next word. That leases are gone can wait a little,
for others to go with them.

Whoever does not know the table is told all of it: slice by slice, one a turn, so that a million leases hold up no
write. What changes meanwhile is told between the slices, and a slice says how things are when it is read, so whoever
takes all of it in the order it comes knows the table. A message that found no room is not sent again: the table is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zkv.core.mvcc.leases import table
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NamedTuple

    from zkv.core.mvcc.layout import Lease
    from zkv.core.mvcc.machine import StateMachine

SLICE_LEASES: Final = 1000
"""In one message."""
GONE_MS: Final = 20
"""That leases are gone is told so much later at most; a full queue is tried again after as long."""


class LeaseFeed:
    def __init__(self, machine: StateMachine, post: Callable[[str, NamedTuple], bool]) -> None:
        self._post = post
        self.serve(machine)

    def serve(self, machine: StateMachine) -> None:
        """The store is this one now."""
        self._machine = machine
        self.restart()

    def restart(self, at: int = 0) -> None:
        """The lease actor knows nothing (any more): tell it the table, from the time `at` on."""
        self._news: dict[int, Lease | None] = {}
        self._news_at: int | None = None
        self._fresh = True
        self._told: int | None = None  # the last lease of the slice before
        self._table_at: int | None = at

    def applied(self, news: dict[int, Lease | None], now: int) -> None:
        """A batch has changed these leases (None: gone)."""
        if not news or self._fresh:  # the table, of which nothing is told yet, will have it
            return
        self._news |= news
        if any(news.values()):
            self._say(now)
        elif self._news_at is None:
            self._news_at = now + GONE_MS

    def step(self, now: int) -> None:
        """Tell what is due: news, one slice of the table."""
        if self._news_at is not None and self._news_at <= now:
            self._say(now)
        if self._table_at is not None and self._table_at <= now:
            self._say_slice(now)

    def wakeup(self) -> int | None:
        """When `step` has something to do, at the latest."""
        return min((at for at in (self._news_at, self._table_at) if at is not None), default=None)

    def _say(self, now: int) -> None:
        news = list(self._news.items())
        self._news, self._news_at = {}, None
        for at in range(0, len(news), SLICE_LEASES):
            part = news[at : at + SLICE_LEASES]
            known = tuple((id_, lease.ttl, lease.until) for id_, lease in part if lease is not None)
            gone = tuple(id_ for id_, lease in part if lease is None)
            if not self._post_news(known, gone):
                self.restart(now + GONE_MS)
                return

    def _say_slice(self, now: int) -> None:
        leases = table(self._machine.engine, self._told, SLICE_LEASES)
        more = len(leases) == SLICE_LEASES
        known = tuple((id_, lease.ttl, lease.until) for id_, lease in leases)
        if not self._post_news(known, (), fresh=self._fresh, more=more):
            self.restart(now + GONE_MS)
            return
        self._fresh = False
        self._told = leases[-1][0] if leases else None
        self._table_at = now if more else None

    def _post_news(
        self, known: tuple[tuple[int, int, int], ...], gone: tuple[int, ...], *, fresh: bool = False, more: bool = False
    ) -> bool:
        machine = self._machine
        news = m.LeaseNews(machine.applied, known, gone, fresh, more, machine.revision, machine.term)
        return self._post("lease", news)
