"""Storage's half of watching: events as they are applied, and slices of history, for the watch actor.

While nobody watches, nothing is gathered: the watch actor hears now and then where the store is. While somebody does,
the events of each applied batch leave at once, before the answers to its requests do, so that who has been answered and
then begins to watch is not told what it did itself. At most a window of batches is on its way; what happens meanwhile
gathers, up to a bound, and is then left out, for the watch actor to read as history: it learns from `since` that
something is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zkv.core.mvcc import history
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NamedTuple

    from zkv.core.mvcc.machine import StateMachine

WINDOW: Final = 16
"""Batches of events that the watch actor has not yet worked off."""


class EventFeed:
    """`gathered_bytes_max`: events beyond it are dropped, and told later as missing."""

    def __init__(self, machine: StateMachine, gathered_bytes_max: int, post: Callable[[str, NamedTuple], bool]) -> None:
        self._post = post
        self._bytes_max = gathered_bytes_max
        self._needs = m.WatchNeeds(False, False)
        self._in_flight = 0
        self._unsent: m.History | None = None
        self._wanted: m.HistoryWanted | None = None
        self.serve(machine)

    def serve(self, machine: StateMachine) -> None:
        """The store is this one now. A slice under way is read anew: the watch actor waits for it."""
        self._machine = machine
        machine.store.want_events, machine.store.want_prev_kv = self._needs[:2]
        self._events: list[tuple[int, tuple[m.Event, ...]]] = []
        self._gathered = 0
        self._since = machine.revision
        self._slice: Iterator[m.History | None] | None = None
        self.is_due = True
        """There is something to be told."""

    def restarted(self) -> None:
        """The watch actor is another."""
        self._needs = m.WatchNeeds(False, False)
        self._in_flight = 0
        self._unsent = self._wanted = None
        self.serve(self._machine)

    def needs(self, needs: m.WatchNeeds) -> None:
        self._in_flight = max(0, self._in_flight - needs.taken)
        if needs[:2] != self._needs[:2]:
            if self._events:
                self._leave_out()  # they were gathered for other needs
            self._needs = needs
            self._machine.store.want_events, self._machine.store.want_prev_kv = needs[:2]
            self.is_due = True
        if self.is_due:
            self.say()

    def applied(self, events: list[tuple[int, tuple[m.Event, ...]]]) -> None:
        if not events:
            self.is_due |= self._machine.revision != self._since  # nobody watches: that may wait
            return
        self._events += events
        self.is_due = True
        self.say()
        if self._events:  # no room: they gather
            self._gathered += sum(history.event_bytes(event) for _, some in events for event in some)
            if self._gathered > self._bytes_max:
                self._leave_out()

    def say(self) -> bool:
        """Tell how far the store has come, and what happened since; False when there was no room for it."""
        if self._events and self._in_flight >= WINDOW:
            return False
        machine = self._machine
        revision = machine.revision
        if not self._events:
            self._since = revision  # nothing was gathered, if anything happened
        wanted, with_prev_kv, _ = self._needs
        told = revision, tuple(self._events), self._since, machine.term, wanted, with_prev_kv
        if not self._post("watch", tuple.__new__(m.Applied, told)):
            self._leave_out()
            return False
        self._in_flight += bool(self._events)
        self._events.clear()
        self._gathered = 0
        self._since = revision
        self.is_due = False
        return True

    def _leave_out(self) -> None:
        self._events.clear()
        self._gathered = 0
        self._since = self._machine.revision
        self.is_due = True

    # --- history ---------------------------------------------------------------------------------------

    def want(self, wanted: m.HistoryWanted) -> None:
        self._wanted = wanted
        self._slice = None

    @property
    def can_step(self) -> bool:
        """Is there a slice to be read on? One that begins behind the store, which is being fed again, waits for it."""
        wanted = self._wanted
        return self._unsent is None and wanted is not None and wanted.first <= self._machine.revision

    @property
    def is_stuck(self) -> bool:
        """Has a slice found no room in the watch actor's queue?"""
        return self._unsent is not None

    def step(self) -> None:
        """Read a bounded part of the slice, and send it when it is whole."""
        if self._unsent is not None and self._post("watch", self._unsent):
            self._unsent = None
        if not self.can_step:
            return
        if self._slice is None:
            assert self._wanted is not None
            store = self._machine.store
            self._slice = history.read(store.engine.snapshot(), self._wanted, store.revision, store.compacted)
        read = next(self._slice)
        if read is not None:
            self._wanted = self._slice = None
            if not self._post("watch", read):
                self._unsent = read
