"""Streams and their watches: made, held until they can begin, ended; and told how far the store is.

While there are no watches storage tells no events, and only now and then where it is. So the first watch must not
begin at what was last heard: a client that puts a key and then watches it would be told its own put. Until storage has
said that it tells events at once (`at_once`), new watches are *held*; it is asked to, and answers with where it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zkv.core.watch.index import Index
from zkv.core.watch.outbox import ALL, Outbox
from zkv.core.watch.parties import LIVE, PARKED, Claim, Cohort, Stream
from zkv.core.watch.places import Places
from zkv.errors import InvalidRequest, TooManyRequests
from zkv.wire import messages as m
from zkv.wire.codec import pack

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zkv.limits import Limits


class Roster:
    def __init__(self, limits: Limits, *, cluster_id: int, member_id: int) -> None:
        self.head = 0
        """The newest revision that storage has spoken of."""
        self.at_once = False
        """Storage tells events at once."""
        self.now = 0
        self.count = 0
        """Watches, those held included."""
        self.prev_kvs = 0
        """Of them, those that want prev_kv."""
        self.index = Index()
        self.outbox = Outbox(cluster_id, member_id, limits.chunk_bytes)
        self.places = Places(limits, self.index, self.outbox)
        self.streams: dict[int, Stream] = {}
        self.holding: dict[Stream, None] = {}
        """Those with watches held, or a question about their progress."""
        self.progress: dict[Stream, int] = {}
        """When to look for watches to be told how far the store is, the next first."""
        self._limits = limits

    # --- what clients say -------------------------------------------------------------------------------

    def word(self, number: int, kind: int, fields: Sequence[Any]) -> None:
        """Of stream `number`; checked by the door."""
        if kind == m.ClientKind.WATCH:
            self._watch(number, fields[0])
            return
        stream = self.streams.get(number)
        if kind == m.ClientKind.WATCH_PROGRESS:
            self._ask_progress(stream or self._stream(number))
        elif stream is None:
            pass  # it has ended meanwhile
        elif kind == m.ClientKind.UNWATCH:
            self._unwatch(stream, fields[0])
        elif kind == m.ClientKind.WATCH_CREDIT:
            self.places.taken(stream, fields[0], self.now)
            self.settle(stream)
        elif kind == m.ClientKind.CANCEL:
            self.end(stream)
        else:
            raise AssertionError(f"unexpected word {kind}")

    def _stream(self, number: int) -> Stream:
        return self.streams.setdefault(number, Stream(number))

    def _watch(self, number: int, asked: Iterable[Sequence[Any]]) -> None:
        limits = self._limits
        if number not in self.streams and len(self.streams) >= limits.watch_streams_max:
            self.outbox.refuse(number, [each[0] for each in asked], self.head, TooManyRequests.code)
            return
        stream = self._stream(number)
        created: list[int] = []
        for fields in asked:
            watch = m.Watch(*fields)
            if self.count >= limits.watches_max:
                self.cancel(stream, (watch.id,), TooManyRequests.code)
            elif watch.id in stream.watches or watch.id in stream.held or not _holds_keys(watch):
                self.cancel(stream, (watch.id,), InvalidRequest.code)
            else:
                self.count += 1
                self.prev_kvs += watch.prev_kv
                if self.at_once:
                    self._begin(stream, watch)
                    created.append(watch.id)
                else:
                    stream.held[watch.id] = watch
                    self.holding[stream] = None
        if created:
            self.outbox.say(stream, created, m.WatchKind.CREATED, self.head)
        self.settle(stream)

    def _begin(self, stream: Stream, watch: m.Watch) -> None:
        _, key, range_end, start, prev_kv, no_put, no_delete, progress, fragment = watch
        key = key or b"\0"  # the first key there can be
        if range_end == key + b"\0":
            range_end = b""  # the same in other words
        claim = Claim(key, range_end, prev_kv, no_put, no_delete, progress, fragment)
        party = self._cohort_from(stream, start).party(claim, self.index)
        party.add(watch.id)
        stream.watches[watch.id] = party
        if progress:
            party.quiet = True
            stream.progress += 1
            self.progress.setdefault(stream, self.now + self._limits.watch_progress_ms)

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
            self.places.stay_ahead(cohort)
        else:
            self.places.fall_behind(cohort)
        return cohort

    def release(self) -> None:
        """Storage tells events at once from `head` on: what was held begins."""
        holding, self.holding = self.holding, {}
        for stream in holding:
            held, stream.held = stream.held, {}
            for watch in held.values():
                self._begin(stream, watch)
            if held:
                self.outbox.say(stream, list(held), m.WatchKind.CREATED, self.head)
            if stream.asks:
                stream.asks = False
                self._ask_progress(stream)
            self.settle(stream)

    def _unwatch(self, stream: Stream, watch: int) -> None:
        held = stream.held.pop(watch, None)
        if held is not None:
            self.count -= 1
            self.prev_kvs -= held.prev_kv
        elif watch in stream.watches:
            self._forget(stream, watch)
        else:
            return  # it was ended already, and told so
        self.cancel(stream, (watch,), 0)
        self.settle(stream)

    def end_watches(self, stream: Stream, ids: Sequence[int], code: int) -> None:
        """Those of the stream that are named, with this error."""
        for watch in ids:
            held = stream.held.pop(watch, None)
            if held is None:
                self._forget(stream, watch)
            else:
                self.count -= 1
                self.prev_kvs -= held.prev_kv
        if ids:
            self.cancel(stream, ids, code)
            self.settle(stream)

    def _forget(self, stream: Stream, watch: int) -> None:
        party = stream.watches.pop(watch)
        party.remove(watch)
        self._count_out(stream, party.claim, 1)
        if party.ids:
            return
        cohort = party.cohort
        cohort.drop(party, self.index)
        if not cohort.parties:
            self.places.leave(cohort)

    def _count_out(self, stream: Stream, claim: Claim, watches: int) -> None:
        self.count -= watches
        self.prev_kvs -= watches * claim.prev_kv
        stream.progress -= watches * claim.progress
        if not stream.progress:
            self.progress.pop(stream, None)

    def forget_all(self, cohort: Cohort) -> None:
        """All watches of it."""
        stream = cohort.stream
        for party in cohort.parties.values():
            self.index.remove(party)
            self._count_out(stream, party.claim, len(party.ids))
            for watch in party.ids:
                del stream.watches[watch]
        cohort.parties = {}
        self.places.leave(cohort)

    def end(self, stream: Stream) -> None:
        for cohort in stream.cohorts():
            self.forget_all(cohort)
        self.count -= len(stream.held)
        self.prev_kvs -= sum(watch.prev_kv for watch in stream.held.values())
        self.holding.pop(stream, None)
        self.outbox.forget(stream)
        del self.streams[stream.number]
        self.places.freed(stream.flight)

    # --- progress ----------------------------------------------------------------------------------------

    def _ask_progress(self, stream: Stream) -> None:
        if self.at_once:
            stream.asked = (stream.asked[0] if stream.asked else self.head), self.head
            self.settle(stream)
        else:
            stream.asks = True
            self.holding[stream] = None

    def tell_progress(self, stream: Stream) -> None:
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
            self.outbox.say(stream, sorted(ids), m.WatchKind.PROGRESS, self.head)

    def settle(self, stream: Stream) -> None:
        """Answer what it asked, if nothing older is owed any more; forget it when nothing is to be known of it."""
        if stream.asked is not None:
            oldest, newest = stream.asked
            place = min(stream.behind, default=self.head)
            if place >= oldest:
                stream.asked = (newest, newest) if place < newest else None
                self.outbox.say(stream, ALL, m.WatchKind.PROGRESS, place)
        if not (stream.watches or stream.flight or stream.held or stream.asks or stream.asked):
            self.end(stream)

    def cancel(self, stream: Stream, ids: Iterable[int], code: int, *, compacted: int = 0, resume: int = 0) -> None:
        self.outbox.say(stream, ids, m.WatchKind.CANCELLED, self.head, pack((code, compacted, resume)))


def _holds_keys(watch: m.Watch) -> bool:
    return watch.range_end in {b"", b"\0"} or watch.range_end > watch.key
