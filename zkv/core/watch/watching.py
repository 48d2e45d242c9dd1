"""The machine of the watches of one node: words of clients, events and history in; answers, needs and questions out.

What the owner brings                       what it then takes out
    words       what clients said               outgoing()   messages for streams
    applied     events as they happen           needs        are events wanted, at once, with prev_kv?
    history     a slice that was asked for      question()   the next slice to be asked for, if any
    tick        time has passed

While there are no watches storage tells no events, and only now and then where it is. So the first watch must not
begin at what was last heard: a client that puts a key and then watches it would be told its own put. Until storage has
said that it tells events at once, new watches are *held*; it is asked to, and answers with where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from zkv.core.watch import telling
from zkv.core.watch.index import Index
from zkv.core.watch.outbox import ALL, Outbox
from zkv.core.watch.parties import LIVE, PARKED, Claim, Cohort, Stream
from zkv.core.watch.places import Places
from zkv.errors import Compacted, InvalidRequest, SlowWatcher, TooManyRequests
from zkv.wire import messages as m
from zkv.wire.codec import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from zkv.limits import Limits

LINGER_MS: Final = 1_000
"""How long events are still asked for when nobody watches any more: watches that come and go would switch them."""


class Watching:
    def __init__(self, limits: Limits, *, cluster_id: int, member_id: int) -> None:
        self.head = 0
        """The newest revision that storage has spoken of."""
        self.count = 0
        """Watches, those held included."""
        self._limits = limits
        self._term = 0
        self._now = 0
        self._index = Index()
        self._outbox = Outbox(cluster_id, member_id, limits.chunk_bytes)
        self._places = Places(limits, self._index, self._outbox)
        self._streams: dict[int, Stream] = {}
        self._holding: dict[Stream, None] = {}  # those with watches held
        self._at_once = False  # storage tells events at once
        self._prev_kvs = 0  # watches that want prev_kv
        self._wanted = (False, False)  # are events, and prev_kv, wanted; as of the last tick, and ...
        self._wanted_until = (0, 0)  # ... how long they are asked for at least
        self._asked: m.HistoryWanted | None = None
        self._last_ticket = 0
        self._progress: dict[Stream, int] = {}  # when to look for watches to be told how far the store is

    # --- what clients say -------------------------------------------------------------------------------

    def words(self, words: Iterable[tuple[int, int, Sequence[Any]]], now: int) -> None:
        """(stream, ClientKind, fields) each, checked by the door."""
        self._now = now
        for number, kind, fields in words:
            if kind == m.ClientKind.WATCH:
                self._watch(number, fields[0])
                continue
            stream = self._streams.get(number)
            if kind == m.ClientKind.WATCH_PROGRESS:
                self._ask_progress(stream or self._stream(number))
            elif stream is None:
                continue  # it has ended meanwhile
            elif kind == m.ClientKind.UNWATCH:
                self._unwatch(stream, fields[0])
            elif kind == m.ClientKind.WATCH_CREDIT:
                self._places.taken(stream, fields[0], now)
                self._settle(stream)
            elif kind == m.ClientKind.CANCEL:
                self._end(stream)
            else:
                raise AssertionError(f"unexpected word {kind}")

    def end_all(self) -> None:
        """The gateway is another: nobody is there to be told."""
        for stream in list(self._streams.values()):
            self._end(stream)

    def _stream(self, number: int) -> Stream:
        return self._streams.setdefault(number, Stream(number))

    def _watch(self, number: int, asked: Iterable[Sequence[Any]]) -> None:
        limits = self._limits
        if number not in self._streams and len(self._streams) >= limits.watch_streams_max:
            self._outbox.refuse(number, [each[0] for each in asked], self.head, TooManyRequests.code)
            return
        stream = self._stream(number)
        created: list[int] = []
        for fields in asked:
            watch = m.Watch(*fields)
            if self.count >= limits.watches_max:
                self._cancel(stream, (watch.id,), TooManyRequests.code)
            elif watch.id in stream.watches or watch.id in stream.held or not _holds_keys(watch):
                self._cancel(stream, (watch.id,), InvalidRequest.code)
            else:
                self.count += 1
                self._prev_kvs += watch.prev_kv
                if self._at_once:
                    self._begin(stream, watch)
                    created.append(watch.id)
                else:
                    stream.held[watch.id] = watch
                    self._holding[stream] = None
        if created:
            self._outbox.say(stream, created, m.WatchKind.CREATED, self.head)
        self._settle(stream)

    def _begin(self, stream: Stream, watch: m.Watch) -> None:
        _, key, range_end, start, prev_kv, no_put, no_delete, progress, fragment = watch
        key = key or b"\0"  # the first key there can be
        if range_end == key + b"\0":
            range_end = b""  # the same in other words
        claim = Claim(key, range_end, prev_kv, no_put, no_delete, progress, fragment)
        party = self._cohort_from(stream, start).party(claim, self._index)
        party.add(watch.id)
        stream.watches[watch.id] = party
        if progress:
            party.quiet = True
            stream.progress += 1
            self._progress.setdefault(stream, self._now + self._limits.watch_progress_ms)

    def _cohort_from(self, stream: Stream, start: int) -> Cohort:
        """Whose next events are those of revision `start`; 0: of the next one."""
        if start in {0, self.head + 1}:
            if stream.live is None:
                stream.live = Cohort(stream, self.head, LIVE)
            return stream.live
        there = (stream.ahead if start > self.head else stream.behind).get(start - 1)
        if there is not None:
            return there
        cohort = Cohort(stream, start - 1, PARKED)
        if start > self.head:
            self._places.stay_ahead(cohort)
        else:
            self._places.fall_behind(cohort)
        return cohort

    def _release(self) -> None:
        """Storage tells events at once from `head` on: what was held begins."""
        holding, self._holding = self._holding, {}
        for stream in holding:
            held, stream.held = stream.held, {}
            for watch in held.values():
                self._begin(stream, watch)
            if held:
                self._outbox.say(stream, list(held), m.WatchKind.CREATED, self.head)
            if stream.asks:
                stream.asks = False
                self._ask_progress(stream)
            self._settle(stream)

    def _unwatch(self, stream: Stream, watch: int) -> None:
        held = stream.held.pop(watch, None)
        if held is not None:
            self.count -= 1
            self._prev_kvs -= held.prev_kv
        elif watch in stream.watches:
            self._forget(stream, watch)
        else:
            return  # it was ended already, and told so
        self._cancel(stream, (watch,), 0)
        self._settle(stream)

    def _forget(self, stream: Stream, watch: int) -> None:
        party = stream.watches.pop(watch)
        party.remove(watch)
        self._count_out(stream, party.claim, 1)
        if party.ids:
            return
        cohort = party.cohort
        cohort.drop(party, self._index)
        if not cohort.parties:
            self._places.leave(cohort)

    def _count_out(self, stream: Stream, claim: Claim, watches: int) -> None:
        self.count -= watches
        self._prev_kvs -= watches * claim.prev_kv
        stream.progress -= watches * claim.progress
        if not stream.progress:
            self._progress.pop(stream, None)

    def _forget_all(self, cohort: Cohort) -> None:
        """All watches of it."""
        stream = cohort.stream
        for party in cohort.parties.values():
            self._index.remove(party)
            self._count_out(stream, party.claim, len(party.ids))
            for watch in party.ids:
                del stream.watches[watch]
        cohort.parties = {}
        self._places.leave(cohort)

    def _end(self, stream: Stream) -> None:
        for cohort in stream.cohorts():
            self._forget_all(cohort)
        self.count -= len(stream.held)
        self._prev_kvs -= sum(watch.prev_kv for watch in stream.held.values())
        self._holding.pop(stream, None)
        self._outbox.forget(stream)
        del self._streams[stream.number]
        self._places.freed(stream.flight)

    # --- events as they happen -------------------------------------------------------------------------------

    def applied(self, applied: m.Applied, now: int) -> None:
        self._now = now
        if applied.term != self._term:
            self._term = applied.term
            self._outbox.set_term(applied.term)
        if applied.since > self.head:
            self._gap(applied.revision)
        elif applied.revision > self.head:
            self._tell_live(applied)
        self._at_once = applied.at_once
        if applied.at_once and self._holding:
            self._release()

    def _gap(self, head: int) -> None:
        """What happened up to the new head was not told: it is to be read."""
        for stream in self._streams.values():
            if stream.live is not None:
                self._places.step_back(stream, self.head)
        for cohort in self._places.reached(head):
            self._places.fall_behind(cohort)
        self.head = head

    def _tell_live(self, applied: m.Applied) -> None:
        head, places = self.head, self._places
        if self._prev_kvs and not applied.prev_kv:  # this was gathered before storage knew
            for stream in self._streams.values():
                if stream.live is not None and stream.live.prev_kvs:
                    places.step_back(stream, head)
        reached: dict[Stream, list[Cohort]] = {}
        for cohort in places.reached(applied.revision):
            if cohort.prev_kvs and not applied.prev_kv:
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

        batch = [each for each in applied.events if each[0] > head]
        for stream in self._tell(batch, LIVE, stop):
            self._outbox.tell(stream, stopped.get(stream, applied.revision))
        self.head = applied.revision
        for stream, place in stopped.items():
            places.block(stream, self._now)
            if stream.live is not None:
                places.step_back(stream, place)
        for stream, cohorts in reached.items():
            for cohort in cohorts:
                if stream in stopped:
                    cohort.place = max(cohort.place, stopped[stream])
                    places.fall_behind(cohort)
                else:
                    places.come_live(cohort, self.head)

    def _tell(
        self, batch: Iterable[tuple[int, Iterable[Any]]], turn: int, stop: Callable[[Stream, int], None]
    ) -> list[Stream]:
        limits = self._limits
        room = telling.Room(limits.watch_window_bytes, limits.watch_flight_bytes_max, self._outbox.flight)
        return telling.tell(batch, turn=turn, index=self._index, room=room, stop=stop)

    # --- history ------------------------------------------------------------------------------------------------

    def question(self) -> m.HistoryWanted | None:
        """The slice to be asked for next, once: of who has waited longest, and all who stand where it lies get it."""
        behind = self._places.behind
        if self._asked is not None or not behind or not self._at_once:
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
        self._now = now
        asked = self._asked
        if asked is None or asked.ticket != history.ticket:
            return
        self._asked = None
        if history.compacted:
            self._compacted(history.compacted)
            return
        first, upto, turn = history.first, history.upto, history.ticket
        if upto > self.head:
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

        for stream in self._tell(history.events, turn, stop):
            self._outbox.tell(stream, stopped.get(stream, upto))
        for stream in stopped:
            self._places.block(stream, self._now)
        self._places.advance(served, stopped, upto, self.head)
        for stream in {cohort.stream: None for cohort in served}:
            self._settle(stream)

    def _compacted(self, compacted: int) -> None:
        for cohort in [cohort for cohort in self._places.behind if cohort.place + 1 < compacted]:
            stream = cohort.stream
            ids = sorted(watch for party in cohort.parties.values() for watch in party.ids)
            self._forget_all(cohort)
            self._cancel(stream, ids, Compacted.code, compacted=compacted)
            self._settle(stream)

    def storage_restarted(self) -> None:
        """It does not know what was asked of its predecessor, and may be behind what that one told."""
        self._asked = None
        self._at_once = False

    # --- time ---------------------------------------------------------------------------------------------------

    def tick(self, now: int) -> None:
        self._now = now
        wanted = self.count > 0 or bool(self._holding), self._prev_kvs > 0
        until = [
            now + LINGER_MS if is_wanted or was_wanted else before if before > now else 0
            for is_wanted, was_wanted, before in zip(wanted, self._wanted, self._wanted_until, strict=True)
        ]
        self._wanted, self._wanted_until = wanted, (until[0], until[1])
        blocked = self._places.blocked
        while blocked:
            stream, since = next(iter(blocked.items()))
            if since + self._limits.watch_silence_ms > now:
                break
            if stream.flight < self._limits.watch_window_bytes:  # it is others who take nothing
                self._places.wait_on(stream, now)
            else:
                self._slow(stream)
        while self._progress:
            stream, due = next(iter(self._progress.items()))
            if due > now:
                break
            del self._progress[stream]
            self._progress[stream] = now + self._limits.watch_progress_ms
            self._tell_progress(stream)

    def next_wakeup(self) -> int | None:
        wakeups = [since + self._limits.watch_silence_ms for since in list(self._places.blocked.values())[:1]]
        wakeups += list(self._progress.values())[:1]
        wakeups += [
            until for until, wanted in zip(self._wanted_until, self._wanted, strict=True) if until and not wanted
        ]
        return min(wakeups, default=None)

    @property
    def needs(self) -> tuple[bool, bool]:
        """Are events wanted, and with what they superseded? As of the last tick."""
        events, prev_kv = self._wanted_until
        return events > 0, prev_kv > 0

    def _slow(self, stream: Stream) -> None:
        """It was owed events, and took none for too long: it may begin anew where each of its watches ended."""
        for cohort in stream.cohorts():
            place = self.head if cohort.turn == LIVE else cohort.place
            ids = sorted(watch for party in cohort.parties.values() for watch in party.ids)
            self._forget_all(cohort)
            self._cancel(stream, ids, SlowWatcher.code, resume=place + 1)
        self._settle(stream)

    # --- progress -----------------------------------------------------------------------------------------------

    def _ask_progress(self, stream: Stream) -> None:
        if self._at_once:
            stream.asked = (stream.asked[0] if stream.asked else self.head), self.head
            self._settle(stream)
        else:
            stream.asks = True
            self._holding[stream] = None

    def _tell_progress(self, stream: Stream) -> None:
        """Live watches that had no events since they were last told anything."""
        if stream.live is None or stream.blocked:
            return
        ids = []
        for party in stream.live.parties.values():
            if party.claim.progress:
                if party.quiet:
                    ids += party.ids
                party.quiet = True
        if ids:
            self._outbox.say(stream, sorted(ids), m.WatchKind.PROGRESS, self.head)

    def _settle(self, stream: Stream) -> None:
        """Answer what it asked, if nothing older is owed any more; forget it when nothing is to be known of it."""
        if stream.asked is not None:
            oldest, newest = stream.asked
            place = min(stream.behind, default=self.head)
            if place >= oldest:
                stream.asked = (newest, newest) if place < newest else None
                self._outbox.say(stream, ALL, m.WatchKind.PROGRESS, place)
        if not (stream.watches or stream.flight or stream.held or stream.asks or stream.asked):
            self._end(stream)

    # --- what goes out ------------------------------------------------------------------------------------------

    def _cancel(self, stream: Stream, ids: Iterable[int], code: int, *, compacted: int = 0, resume: int = 0) -> None:
        self._outbox.say(stream, ids, m.WatchKind.CANCELLED, self.head, pack((code, compacted, resume)))

    def outgoing(self) -> list[tuple[int, bytes]]:
        """Messages for streams, each once. A stream's come in order."""
        return self._outbox.take_out()


def _holds_keys(watch: m.Watch) -> bool:
    return watch.range_end in {b"", b"\0"} or watch.range_end > watch.key
