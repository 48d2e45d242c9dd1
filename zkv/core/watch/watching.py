"""The machine of the watches of one node: words of clients, events and history in; answers, needs and questions out.

What the owner brings                       what it then takes out
    words       what clients said               outgoing()   messages for streams
    applied     events as they happen           needs        are events wanted, at once, with prev_kv?
    history     a slice that was asked for      question()   the next slice to be asked for, if any
    tick        time has passed
    permissions users or roles are others now

Streams and their watches are the roster's (`roster.py`), who stands where is for `places.py`; here is what moves them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from zkv.core.auth import Book
from zkv.core.watch import telling
from zkv.core.watch.parties import LIVE, PARKED
from zkv.core.watch.roster import Roster
from zkv.core.watch.warrants import Warrants
from zkv.errors import Compacted, SlowWatcher
from zkv.limits import NEVER
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from zkv.core.watch.parties import Cohort, Stream
    from zkv.limits import Limits

LINGER_MS: Final = 1_000
"""How long events are still asked for when nobody watches any more: watches that come and go would switch them."""


class _Want:
    """Something that storage is to tell: for as long as somebody wants it, and LINGER_MS longer.

    `until`: how long at least (ms), as of the last look; 0: nobody wants it.
    """

    def __init__(self) -> None:
        self.until = 0
        self._is_wanted = False

    def look(self, is_wanted: bool, now: int) -> None:
        if is_wanted or self._is_wanted:
            self.until = now + LINGER_MS
        elif self.until <= now:
            self.until = 0
        self._is_wanted = is_wanted

    @property
    def due(self) -> int:
        """When it may be wanted no more."""
        return self.until if self.until and not self._is_wanted else NEVER


class Watching:
    def __init__(self, limits: Limits, *, cluster_id: int, member_id: int) -> None:
        self._limits = limits
        self._roster = Roster(limits, cluster_id=cluster_id, member_id=member_id)
        self._places = self._roster.places
        self._outbox = self._roster.outbox
        self._warrants = Warrants(Book(), self._roster)
        self._term = 0
        self._events = _Want()
        self._prev_kvs = _Want()
        self._asked: m.HistoryWanted | None = None
        self._last_ticket = 0
        self._matched = 0  # events

    @property
    def head(self) -> int:
        """The newest revision that storage has spoken of."""
        return self._roster.head

    @property
    def count(self) -> int:
        """Watches, those not yet begun included."""
        return self._roster.count

    def numbers(self) -> dict[str, int]:
        """For metrics. `behind`: cohorts that wait for history; `lag`: by how many revisions the last of them is."""
        places, head = self._places, self._roster.head
        return {
            "watches": self._roster.count,
            "streams": len(self._roster.streams),
            "behind": len(places.behind),
            "lag": head - min((cohort.place for cohort in places.behind), default=head),
            "blocked": len(places.blocked),
            "flight": self._outbox.flight,
            "events": self._matched,
        }

    # --- what clients say -------------------------------------------------------------------------------

    def words(self, words: Iterable[tuple[int, int, Sequence[Any]]], now: int) -> None:
        """(stream, ClientKind, fields) each, checked by the door."""
        self._roster.now = now
        for number, kind, fields in words:
            if kind == m.ClientKind.WATCH:
                fields = (self._warrants.permitted(number, *fields),)  # noqa: PLW2901 - what is left of it
            self._roster.word(number, kind, fields)

    def end_all(self, which: Callable[[int], bool] = lambda _: True) -> None:
        """The gateway of these streams is another: nobody is there to be told."""
        for stream in [stream for number, stream in self._roster.streams.items() if which(number)]:
            self._roster.end(stream)

    def permissions(self, news: m.AuthNews, now: int) -> None:
        """Whoever may not watch any more what he watches is told nothing more of it."""
        self._roster.now = now
        self._warrants.news(news)

    # --- events as they happen -------------------------------------------------------------------------------

    def applied(self, applied: m.Applied, now: int) -> None:
        self._roster.now = now
        revision, events, since, term, at_once, has_prev_kv = applied
        if term != self._term:
            self._term = term
            self._outbox.set_term(term)
        if since > self._roster.head:
            self._gap(revision)
        elif revision > self._roster.head:
            self._tell_live(revision, events, has_prev_kv=has_prev_kv)
        self._roster.at_once = at_once
        if at_once and self._roster.holding:
            self._roster.release()

    def _gap(self, head: int) -> None:
        """What happened up to the new head was not told: it is to be read."""
        for stream in self._roster.streams.values():
            if stream.live is not None:
                self._places.step_back(stream, self._roster.head)
        for cohort in self._places.reached(head):
            self._places.fall_behind(cohort)
        self._roster.head = head

    def _tell_live(self, revision: int, events: Sequence[tuple[int, Sequence[Any]]], *, has_prev_kv: bool) -> None:
        head, places = self._roster.head, self._places
        if self._roster.prev_kvs and not has_prev_kv:  # this was gathered before storage knew
            for stream in self._roster.streams.values():
                if stream.live is not None and stream.live.prev_kvs:
                    places.step_back(stream, head)
        reached: dict[Stream, list[Cohort]] = {}
        for cohort in places.reached(revision):
            if cohort.prev_kvs and not has_prev_kv:
                places.fall_behind(cohort)
            else:
                cohort.turn = LIVE
                reached.setdefault(cohort.stream, []).append(cohort)
        stopped: dict[Stream, int] = {}

        def stop(stream: Stream, place: int) -> None:
            stopped[stream] = place
            for cohort in (stream.live, *reached.get(stream, ())):
                if cohort is not None:
                    cohort.turn = PARKED

        batch = [each for each in events if each[0] > head]
        self._outbox.tell(self._tell(batch, LIVE, stop), revision, stopped)
        self._roster.head = revision
        for stream, place in stopped.items():
            places.block(stream, self._roster.now)
            if stream.live is not None:
                places.step_back(stream, place)
        for stream, cohorts in reached.items():
            for cohort in cohorts:
                if stream in stopped:
                    cohort.place = max(cohort.place, stopped[stream])
                    places.fall_behind(cohort)
                else:
                    places.come_live(cohort, self._roster.head)

    def _tell(
        self, batch: Sequence[tuple[int, Sequence[Any]]], turn: int, stop: Callable[[Stream, int], None]
    ) -> list[Stream]:
        limits = self._limits
        for _, events in batch:
            self._matched += len(events)
        return telling.tell(
            batch,
            turn=turn,
            index=self._roster.index,
            window=limits.watch_window_bytes,
            budget=limits.watch_flight_bytes_max,
            flight=self._outbox.flight,
            stop=stop,
        )

    # --- history ------------------------------------------------------------------------------------------------

    def question(self) -> m.HistoryWanted | None:
        """The slice to be asked for next, once: of who has waited longest, and all who stand where it lies get it."""
        behind = self._places.behind
        if self._asked is not None or not behind or not self._roster.at_once:
            return None
        cohort = next(iter(behind))
        self._last_ticket += 1
        limits = self._limits
        self._asked = m.HistoryWanted(self._last_ticket, cohort.place + 1, limits.history_bytes, cohort.prev_kvs > 0)
        return self._asked

    def unasked(self) -> None:
        """The question could not be posted."""
        self._asked = None

    def history(self, history: m.History, now: int) -> None:
        self._roster.now = now
        asked = self._asked
        if asked is None or asked.ticket != history.ticket:
            return
        self._asked = None
        if history.compacted:
            self._compacted(history.compacted)
            return
        first, upto, turn = history.first, history.upto, history.ticket
        if upto > self._roster.head:
            self._gap(upto)
        served = [
            cohort
            for cohort in self._places.behind
            if first - 1 <= cohort.place < upto and (asked.prev_kv or not cohort.prev_kvs)
        ]
        for cohort in served:
            cohort.turn = turn
        stopped: dict[Stream, int] = {}

        def stop(stream: Stream, place: int) -> None:
            stopped[stream] = place
            for cohort in stream.behind.values():
                if cohort.turn == turn:
                    cohort.turn = PARKED

        self._outbox.tell(self._tell(history.events, turn, stop), upto, stopped)
        for stream in stopped:
            self._places.block(stream, self._roster.now)
        self._places.advance(served, stopped, upto, self._roster.head)
        for stream in {cohort.stream: None for cohort in served}:
            self._roster.settle(stream)

    def _compacted(self, compacted: int) -> None:
        for cohort in [cohort for cohort in self._places.behind if cohort.place + 1 < compacted]:
            stream = cohort.stream
            ids = sorted(watch for party in cohort.parties.values() for watch in party.ids)
            self._roster.forget_all(cohort)
            self._roster.cancel(stream, ids, Compacted.code, compacted=compacted)
            self._roster.settle(stream)

    def storage_restarted(self) -> None:
        """It does not know what was asked of its predecessor, and may be behind what that one told."""
        self._asked = None
        self._roster.at_once = False

    # --- time ---------------------------------------------------------------------------------------------------

    def tick(self, now: int) -> None:
        self._roster.now = now
        self._events.look(self._roster.count > 0 or bool(self._roster.holding), now)
        self._prev_kvs.look(self._roster.prev_kvs > 0, now)
        blocked = self._places.blocked
        while blocked:
            stream, since = next(iter(blocked.items()))
            if since + self._limits.watch_silence_ms > now:
                break
            if not stream.flight:  # it is others who take nothing
                self._places.wait_on(stream, now)
            else:
                self._slow(stream)
        while self._roster.progress:
            stream, due = next(iter(self._roster.progress.items()))
            if due > now:
                break
            del self._roster.progress[stream]
            self._roster.progress[stream] = now + self._limits.watch_progress_ms
            self._roster.tell_progress(stream)

    def next_wakeup(self) -> int | None:
        due = min(self._events.due, self._prev_kvs.due)
        if self._places.blocked:
            due = min(due, next(iter(self._places.blocked.values())) + self._limits.watch_silence_ms)
        if self._roster.progress:
            due = min(due, next(iter(self._roster.progress.values())))
        return due if due < NEVER else None

    @property
    def needs(self) -> tuple[bool, bool]:
        """Are events wanted, and with what they superseded? As of the last tick."""
        return self._events.until > 0, self._prev_kvs.until > 0

    def _slow(self, stream: Stream) -> None:
        """It was owed events, and took none for too long: it may begin anew where each of its watches ended."""
        for cohort in stream.cohorts():
            place = self._roster.head if cohort.turn == LIVE else cohort.place
            ids = sorted(watch for party in cohort.parties.values() for watch in party.ids)
            self._roster.forget_all(cohort)
            self._roster.cancel(stream, ids, SlowWatcher.code, resume=place + 1)
        self._roster.settle(stream)

    # --- what goes out ------------------------------------------------------------------------------------------

    def outgoing(self) -> list[tuple[int, bytes]]:
        """Messages for streams, each once. A stream's come in order."""
        return self._outbox.take_out()
