"""Where cohorts stand: live, behind, behind and blocked by a full window, or ahead; and who reads history next.

Slices are read for who has waited longest, not for who is furthest behind: a watch from the first revision of a large
store takes minutes, and must not keep those waiting who missed a moment.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

from zkv.core.watch.parties import LIVE, PARKED, joined

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zkv.core.watch.index import Index
    from zkv.core.watch.outbox import Outbox
    from zkv.core.watch.parties import Cohort, Stream
    from zkv.limits import Limits


class Places:
    def __init__(self, limits: Limits, index: Index, outbox: Outbox) -> None:
        self.behind: dict[Cohort, None] = {}
        """Those that want history, the next to be served first."""
        self.blocked: dict[Stream, int] = {}
        """Streams with full windows that are owed events, and since when they took nothing; the longest first."""
        self._ahead: list[tuple[int, int, Cohort]] = []  # place, stream number (which make it unique), cohort; sorted
        self._window = limits.watch_window_bytes
        self._budget = limits.watch_flight_bytes_max
        self._index = index
        self._outbox = outbox
        self._scarce = False  # somebody was stopped because all together have too much in flight

    # --- from place to place ---

    def fall_behind(self, cohort: Cohort) -> Cohort:
        """It stands at its place and waits for history; with those of its stream who stand there already."""
        stream = cohort.stream
        cohort.turn = PARKED
        there = stream.behind.get(cohort.place)
        if there is not None:
            self.behind.pop(there, None)
            cohort = joined(there, cohort, self._index)
        stream.behind[cohort.place] = cohort
        if not stream.blocked:
            self.behind[cohort] = None
        return cohort

    def step_back(self, stream: Stream, place: int) -> None:
        """What was live is behind."""
        cohort, stream.live = stream.live, None
        assert cohort is not None
        cohort.place = place
        self.fall_behind(cohort)

    def come_live(self, cohort: Cohort, head: int) -> None:
        """Of a cohort that is nowhere now."""
        stream = cohort.stream
        if stream.live is not None:
            cohort = joined(stream.live, cohort, self._index)
        cohort.turn, cohort.place = LIVE, head
        stream.live = cohort

    def advance(self, served: Iterable[Cohort], stopped: dict[Stream, int], upto: int, head: int) -> None:
        """Who was served stands where the slice ended, or where its window was full; it waits behind all others."""
        served = list(served)
        for cohort in served:
            del cohort.stream.behind[cohort.place]
            self.behind.pop(cohort, None)
        for cohort in served:
            cohort.place = max(cohort.place, stopped.get(cohort.stream, upto))
            if cohort.place >= head:
                self.come_live(cohort, head)
            else:
                self.fall_behind(cohort)

    def stay_ahead(self, cohort: Cohort) -> None:
        """Its place is beyond the head: until the head comes there, nothing happens for it."""
        stream = cohort.stream
        stream.ahead[cohort.place] = cohort
        insort(self._ahead, (cohort.place, stream.number, cohort))

    def reached(self, head: int) -> list[Cohort]:
        """Those that were ahead of a place before `head`. They are nowhere now."""
        if not self._ahead:
            return []
        upto = bisect_left(self._ahead, (head,))
        found = [cohort for _, _, cohort in self._ahead[:upto]]
        del self._ahead[:upto]
        for cohort in found:
            del cohort.stream.ahead[cohort.place]
        return found

    def leave(self, cohort: Cohort) -> None:
        """It has no parties any more."""
        stream = cohort.stream
        if stream.live is cohort:
            stream.live = None
        elif stream.ahead.get(cohort.place) is cohort:
            del stream.ahead[cohort.place]
            del self._ahead[bisect_left(self._ahead, (cohort.place, stream.number))]
        else:
            del stream.behind[cohort.place]
        self.behind.pop(cohort, None)
        if stream.blocked and not stream.behind:
            self._unblock(stream)

    # --- windows ---

    def block(self, stream: Stream, now: int) -> None:
        if not stream.blocked:
            stream.blocked = True
            self.blocked[stream] = now
            self._scarce |= stream.flight < self._window
            for cohort in stream.behind.values():
                self.behind.pop(cohort, None)

    def _unblock(self, stream: Stream) -> None:
        stream.blocked = False
        del self.blocked[stream]
        self.behind.update(dict.fromkeys(stream.behind.values()))

    def taken(self, stream: Stream, size: int, now: int) -> None:
        """The client has taken so many bytes."""
        size = min(size, stream.flight)
        if not size:
            return
        stream.flight -= size
        self.freed(size)
        if stream.blocked:
            self.wait_on(stream, now)
            if self._may_go_on(stream):
                self._unblock(stream)
            else:  # if it is for the others, it goes on when they have taken something
                self._scarce |= stream.flight <= self._window // 2

    def freed(self, size: int) -> None:
        """So many bytes are in flight no more."""
        self._outbox.flight -= size
        if self._scarce and self._outbox.flight < self._budget:
            self._scarce = False
            for stream in [stream for stream in self.blocked if self._may_go_on(stream)]:
                self._unblock(stream)

    def _may_go_on(self, stream: Stream) -> bool:
        """Half a window, so that a slice of history is worth its reading."""
        budget = self._budget if stream.flight else 2 * self._budget
        return stream.flight <= self._window // 2 and self._outbox.flight < budget

    def wait_on(self, stream: Stream, now: int) -> None:
        """A blocked stream is not to blame, up to now."""
        del self.blocked[stream]
        self.blocked[stream] = now
