"""The watch half of a client's session: watches in, words out, events in, batches of responses out. As pure as it is.

    feed = watching.open(watch, context)               a caller watches
    batch = watching.take(feed, now)                   ... reads: None if nothing is there (yet)
    watching.cancel(feed)                              ... and wants no more

All else `Session` passes on: outgoing(), received(), lost(), tick(). News of a feed (something to read, begun, ended)
come out with the session's.

**No gap, no repeat.** A feed always knows the revision it would go on from, `next`: one more than a member has said to
have told it all up to. Whatever ends it at a member and may be tried again (a lost connection, StreamLost, NoLeader,
..) leads to the same: it begins anew, there or elsewhere, from `next`, under an id that was never used. What still
comes for the old id is dropped. A revision of which only some fragments came is dropped, and told anew.

**A member that hangs** is noticed by what does not come: CREATED in answer to a WATCH, PROGRESS in answer to the
question that is asked every third of `watch_silence_ms`. The answer also carries `next` on, so that a quiet watch does
not come to depend on revisions long compacted; and asking tells the member that somebody is there.

**Memory** is bounded by the member's window (`shelf.py`). A watch that is not read, while others are, is put *aside*:
ended at the member, and what lies here for it is dropped. It costs a revision then, as at the member, and begins anew
from there when its reader comes back; if that is so late that the history is gone, it ends with Compacted, like any
watch that is too slow. After a failure, too, a feed with something to read waits aside while much lies here already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from zkv.client import watch_events
from zkv.client.feed import ASIDE, DELAYED, ENDED, LIVE, SENT, WANTED, Feed, Line
from zkv.client.retry import RETRY_AFTER_MS_MAX
from zkv.client.shelf import SLOW_MS, Shelf
from zkv.client.ticket import FOREVER, Header
from zkv.client.watch_events import Batch, WatchResponse
from zkv.errors import (
    AuthOldRevision,
    ClientClosed,
    Compacted,
    CorruptionError,
    LeaderChanged,
    RequestTooLarge,
    SlowWatcher,
    StreamLost,
    TooManyRequests,
    Unavailable,
    UnsupportedVersion,
    ZkvError,
    from_code,
)
from zkv.wire import messages as m
from zkv.wire.codec import pack

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from random import Random

    from zkv.client.endpoints import Endpoints
    from zkv.client.login import Login
    from zkv.client.retry import RetryPolicy
    from zkv.limits import Limits

    Origin: TypeAlias = tuple[int, int, int]
    Out: TypeAlias = list[tuple[int, bytes]]

STABLE_MS = 1_000
"""A watch that was there for so long begins counting its failures anew."""
HUNG_MS = 10_000
"""A member that tells no progress for so long, and nothing else, is passed over for another."""
TELL_MS = 200
"""What was taken is acknowledged after this at the latest."""
WATCHES_PER_MESSAGE = 1_000
PROGRESS_SIZE = 64
ALL = (0,)

BLAMELESS = (AuthOldRevision, LeaderChanged, SlowWatcher, StreamLost, TooManyRequests)
"""Ends of watches that say nothing against the member as a whole."""


class Watching:
    def __init__(
        self, endpoints: Endpoints, limits: Limits, retry: RetryPolicy, rng: Random, login: Login | None = None
    ) -> None:
        self._endpoints = endpoints
        self._limits = limits
        self._retry = retry
        self._rng = rng
        self._login = login
        self._shelf = Shelf(limits)
        self._lines: dict[int, Line] = {}  # by endpoint, while it is connected
        self._feeds: dict[Feed, None] = {}  # all that have not ended
        self._wanted: dict[Feed, None] = {}
        self._delayed: dict[Feed, None] = {}
        self._sent: dict[Feed, None] = {}
        self._asking: dict[Feed, None] = {}  # that want to know how far they are, and wait for their turn to ask
        self._last_id = 0
        self._news: dict[Feed, None] = {}
        self._wake = FOREVER
        self._closed = False
        self._why_closed = ""
        self.pressing = False
        """There is something to go out."""

    # --- what callers do -------------------------------------------------------------------------------

    def open(self, asked: m.Watch, context: object) -> Feed:
        """Watch. `asked.start_revision` 0: from when it has begun, which is news."""
        feed = Feed(asked, context)
        self._feeds[feed] = None
        if self._closed:
            self._end(feed, ClientClosed(self._why_closed))
        else:
            self._want(feed)
        return feed

    def take(self, feed: Feed, now: int) -> Batch | None:
        """What is to be read next. What was taken before counts as read."""
        line = feed.reading.line if feed.reading is not None else None
        batch = self._shelf.take(feed, now)
        if batch is None and feed.state is ASIDE:
            self._want(feed)
        if line is not None and (line.tell_at == FOREVER or self._shelf.unacknowledged(line, now)):
            line.tell_at = min(line.tell_at, now)
            self.pressing = True
        return batch

    def cancel(self, feed: Feed) -> None:
        """The caller wants no more; what was not read is dropped."""
        self._shelf.put_back(feed)
        self._shelf.drop(feed)
        if feed.state is not ENDED:
            self._leave(feed)
            self._end(feed, ClientClosed("the watch was cancelled"))

    def ask_progress(self, feed: Feed) -> None:
        """A response that tells how far the watch is shall come, behind all events up to there."""
        if feed.state is not ENDED:
            self._asking[feed] = None
            self.pressing = True

    def close(self, why: str = "") -> None:
        """All watches end, and members are told so."""
        self._closed = True
        self._why_closed = self._why_closed or why
        for feed in list(self._feeds):
            self._leave(feed)
            self._end(feed, ClientClosed(self._why_closed))
        for line in self._lines.values():
            line.words = list(ALL) if line.words else []

    def news(self) -> list[Feed]:
        """Feeds with something to read, begun, or ended, since the last call."""
        news = list(self._news)
        self._news.clear()
        return news

    # --- time ------------------------------------------------------------------------------------------

    def next_wakeup(self) -> int:
        return self._wake

    def tick(self, now: int) -> None:
        if now < self._wake:
            return
        for feed in [feed for feed in self._delayed if feed.due <= now]:
            self._want(feed)
        for feed in [feed for feed in self._sent if feed.due <= now]:
            assert feed.line is not None
            feed.avoid = feed.line.endpoint
            self._endpoints.suspect(feed.avoid, now)
            self._leave(feed)
            self._again(feed, Unavailable("no answer"), now)
        for line in list(self._lines.values()):
            if line.feeds and now >= line.asked_at + HUNG_MS and self._shelf.has_room(line):
                self.lost(line.endpoint, now, Unavailable("no answer"), gone=False)
            elif now >= line.full_since + SLOW_MS:
                line.full_since = now
                for feed in self._shelf.slow(line, now):
                    self._put_aside(feed)
        self._wake = min(
            min((feed.due for feed in self._delayed), default=FOREVER),
            min((feed.due for feed in self._sent), default=FOREVER),
            min((self._line_wakeup(line) for line in self._lines.values() if line.feeds), default=FOREVER),
        )

    def _line_wakeup(self, line: Line) -> int:
        hung = line.asked_at + HUNG_MS if self._shelf.has_room(line) else FOREVER
        return min(line.progress_at + self._limits.watch_silence_ms // 3, line.full_since + SLOW_MS, line.tell_at, hung)

    # --- words out -------------------------------------------------------------------------------------

    def outgoing(self, now: int, out: Out) -> None:
        """Add what is to be said."""
        self.pressing = False
        for line in self._lines.values():
            self._speak(line, now, out)
        if self._wanted:
            self._begin(now, out)

    def _speak(self, line: Line, now: int, out: Out) -> None:
        for id_ in line.words:
            self._say(line, out, m.ClientKind.UNWATCH, id_)
        line.words.clear()
        taken = self._shelf.unacknowledged(line, now)
        if taken:
            line.received -= taken
            self._say(line, out, m.ClientKind.WATCH_CREDIT, taken)
        if taken or now >= line.tell_at:
            line.tell_at = now + TELL_MS if taken and line.received else FOREVER
        if not line.feeds:
            return
        if self._asking and line.asked_at == FOREVER:  # one question at a time: so it is clear what is answered
            line.askers = [feed for feed in self._asking if feed.line is line and feed.state is LIVE]
            for feed in line.askers:
                del self._asking[feed]
        if (line.askers and line.asked_at == FOREVER) or now >= line.progress_at + self._limits.watch_silence_ms // 3:
            self._say(line, out, m.ClientKind.WATCH_PROGRESS)
            line.progress_at = now
            line.asked_at = min(line.asked_at, now)
            self._wake = min(self._wake, self._line_wakeup(line))

    def _say(self, line: Line, out: Out, kind: int, *fields: object) -> None:
        out.append((line.endpoint, pack((m.PROTOCOL_VERSION, int(kind), *fields))))

    def _begin(self, now: int, out: Out) -> None:
        """Ask for what is wanted: behind all other words, so that who was forgotten hears of it first."""
        chosen: dict[int, list[Feed]] = {}
        picked: dict[int | None, int | None] = {}
        for feed in self._wanted:
            if feed.avoid not in picked:
                picked[feed.avoid] = self._endpoints.pick(now, feed.avoid)
            endpoint = picked[feed.avoid]
            if endpoint is None:
                return
            chosen.setdefault(endpoint, []).append(feed)
        self._wanted.clear()
        for endpoint, feeds in chosen.items():
            line = self._lines.get(endpoint)
            if line is None:
                line = self._lines[endpoint] = Line(endpoint, now)
            if not line.feeds:
                line.progress_at = now
            for start in range(0, len(feeds), WATCHES_PER_MESSAGE):
                self._ask(line, feeds[start : start + WATCHES_PER_MESSAGE], now, out)
            self._wake = min(self._wake, self._line_wakeup(line))

    def _ask(self, line: Line, feeds: list[Feed], now: int, out: Out) -> None:
        watches = []
        for feed in feeds:
            self._last_id += 1
            feed.id = self._last_id
            watches.append(feed.asked._replace(id=feed.id, start_revision=feed.next))
        token = self._login.token if self._login is not None else None
        data = pack((m.PROTOCOL_VERSION, int(m.ClientKind.WATCH), watches, *((token,) if token else ())))
        if len(data) > self._limits.request_bytes_max:
            half = len(feeds) // 2
            if half:
                self._ask(line, feeds[:half], now, out)
                self._ask(line, feeds[half:], now, out)
            else:
                self._end(feeds[0], RequestTooLarge())
            return
        due = now + (self._retry.silence_ms << min(max(feed.tries for feed in feeds), 4))
        for feed in feeds:
            feed.state = SENT
            feed.line = line
            feed.due = due
            line.feeds[feed.id] = feed
            self._sent[feed] = None
        self._wake = min(self._wake, due)
        out.append((line.endpoint, data))

    # --- answers in --------------------------------------------------------------------------------------

    def received(self, endpoint: int, origin: Origin, watches: Iterable[Sequence[Any]], size: int, now: int) -> None:
        """Watch answers from a member, `size` bytes with all around them.

        Raises CorruptionError, TypeError, ValueError or LookupError for what makes no sense.
        """
        line = self._lines.get(endpoint)
        if line is None:
            return
        line.received += size
        if line.asked_at != FOREVER:
            line.asked_at = now
        for answer in watches:
            ids, kind, revision, body = answer[:4]
            if type(revision) is not int or type(ids) is not tuple:
                raise TypeError("watch answer")
            if kind in {m.WatchKind.EVENTS, m.WatchKind.FRAGMENT}:
                self._events(line, origin, answer, now)
            elif kind == m.WatchKind.PROGRESS:
                self._progress(line, origin, answer, now)
            elif kind == m.WatchKind.CREATED:
                self._created(line, ids, revision, now)
            elif kind == m.WatchKind.CANCELLED:
                line = self._cancelled(line, ids, body, now)
        line.tell_at = min(line.tell_at, now + TELL_MS)
        self._wake = min(self._wake, line.full_since + SLOW_MS, line.tell_at)
        self.pressing |= bool(line.words or self._asking or self._shelf.unacknowledged(line, now))

    def _created(self, line: Line, ids: tuple[int, ...], revision: int, now: int) -> None:
        for id_ in ids:
            feed = line.feeds.get(id_)
            if feed is None:
                if id_ not in line.ending:  # begun before the member told that all had ended
                    line.ending.add(id_)
                    line.words.append(id_)
            elif feed.state is SENT:
                del self._sent[feed]
                feed.state = LIVE
                feed.due = FOREVER
                feed.began = now
                feed.begun = True
                feed.next = feed.next or revision + 1
                self._news[feed] = None

    def _events(self, line: Line, origin: Origin, answer: Sequence[Any], now: int) -> None:
        ids, kind, revision, body = answer[:4]
        feeds = [feed for id_ in ids if (feed := line.feeds.get(id_)) is not None]
        if not feeds:
            return
        batch = watch_events.parse(line, origin, revision, body)
        for feed in feeds:
            torn = feed.pieces[-1].responses[-1].revision if feed.pieces else None
            fits = batch.first == torn if torn is not None else batch.first >= feed.next
            if feed.state is not LIVE or not fits:
                raise CorruptionError("events of a watch are out of order")
        batch.left = len(feeds)
        self._shelf.hold(line, batch.size, now)
        for feed in feeds:
            if kind == m.WatchKind.FRAGMENT:
                feed.pieces.append(batch)
                continue
            whole = watch_events.joined((*feed.pieces, batch)) if feed.pieces else batch
            feed.pieces = []
            feed.next = revision + 1
            self._put(feed, whole, now)

    def _progress(self, line: Line, origin: Origin, answer: Sequence[Any], now: int) -> None:
        """All up to `revision` has been told: to some, or to all."""
        ids, _, revision, _ = answer[:4]
        cluster_id, member_id, raft_term = origin
        response = WatchResponse(Header(cluster_id, member_id, revision, raft_term), (), progress=True)
        feeds = [feed for id_ in ids if (feed := line.feeds.get(id_)) is not None]
        if ids == ALL:
            for feed in line.feeds.values():
                if feed.state is LIVE and not feed.pieces:
                    feed.next = max(feed.next, revision + 1)
            feeds, line.askers = line.askers, []
            line.asked_at = FOREVER
        for feed in feeds:
            if feed.state is LIVE and feed.line is line and feed.next <= revision + 1 and not feed.pieces:
                feed.next = revision + 1
                self._shelf.hold(line, PROGRESS_SIZE, now)
                self._put(feed, Batch(line, PROGRESS_SIZE, (response,), 1), now)

    def _put(self, feed: Feed, batch: Batch, now: int) -> None:
        self._shelf.put(feed, batch, now)
        self._news[feed] = None

    def _cancelled(self, line: Line, ids: tuple[int, ...], body: Any, now: int) -> Line:
        code, compacted = body[:2]
        hint = body[3] if len(body) > 3 else 0
        if {type(code), type(compacted), type(hint)} != {int}:
            raise TypeError("end of a watch")
        if ids == ALL:  # the member has forgotten this line: another one begins
            self._lines[line.endpoint] = fresh = Line(line.endpoint, now)
            self._fail(line, _error(code, compacted, hint), now)
            return fresh
        for id_ in ids:
            line.ending.discard(id_)
            feed = line.feeds.pop(id_, None)
            if feed is not None:
                self._failed(feed, line, _error(code, compacted, hint), now)
        return line

    # --- failures ----------------------------------------------------------------------------------------

    def lost(self, endpoint: int, now: int, error: ZkvError, *, gone: bool) -> None:
        """Nothing is expected from `endpoint` any more: its connection is `gone`, or what it says makes no sense."""
        line = self._lines.get(endpoint)
        if line is None:
            return
        if gone:
            del self._lines[endpoint]
        else:
            line.ending.update(line.feeds)
            line.words.extend(line.feeds)
            line.asked_at = FOREVER
        hopeless = isinstance(error, CorruptionError | UnsupportedVersion) and not self._endpoints.others_than(endpoint)
        self._endpoints.suspect(endpoint, now)
        self._fail(line, error if hopeless else Unavailable(error.detail), now)
        self.pressing = True

    def _fail(self, line: Line, error: ZkvError, now: int) -> None:
        """All feeds of a line have ended there."""
        feeds, line.feeds = list(line.feeds.values()), {}
        self._asking.update(dict.fromkeys(line.askers))
        line.askers = []
        for feed in feeds:
            self._failed(feed, line, error, now)

    @property
    def is_wanted(self) -> bool:
        """Watches are to be begun."""
        return bool(self._wanted)

    def refuse(self, error: ZkvError) -> None:
        """Watches that are to be begun cannot be, for nobody knows whose they are."""
        for feed in list(self._wanted):
            del self._wanted[feed]
            self._end(feed, type(error)(error.detail))

    def _failed(self, feed: Feed, line: Line, error: ZkvError, now: int) -> None:
        if self._login is not None:
            error = self._login.refused(error, first=feed.tries == 0)
        feed.line = None
        if feed in line.askers:
            line.askers.remove(feed)
            self._asking[feed] = None
        if self._retry.covers(error) and not isinstance(error, BLAMELESS):
            self._endpoints.suspect(line.endpoint, now)
            feed.avoid = line.endpoint
        else:
            feed.avoid = line.endpoint if isinstance(error, TooManyRequests) else None
        self._again(feed, error, now)

    def _again(self, feed: Feed, error: ZkvError, now: int) -> None:
        """It has ended at a member: it begins anew, at once or later, or never."""
        self._sent.pop(feed, None)
        self._shelf.drop_pieces(feed)
        if not self._retry.covers(error):
            self._end(feed, error)
            return
        if now - feed.began >= STABLE_MS:
            feed.tries = 0
        feed.began = FOREVER
        feed.tries += 1
        delay = self._retry.delay_ms(error, feed.tries, self._rng)
        if feed.queue and self._shelf.is_half_full:
            feed.state = ASIDE
        elif delay:
            feed.state = DELAYED
            feed.due = now + delay
            self._delayed[feed] = None
            self._wake = min(self._wake, feed.due)
        else:
            self._want(feed)

    # --- the life of a feed ------------------------------------------------------------------------------

    def _want(self, feed: Feed) -> None:
        self._delayed.pop(feed, None)
        feed.state = WANTED
        feed.due = FOREVER
        self._wanted[feed] = None
        self.pressing = True

    def _put_aside(self, feed: Feed) -> None:
        self._leave(feed)
        if any(batch.responses[0].progress for batch in feed.queue):  # whoever asked how far it is, is still to be told
            self._asking[feed] = None
        self._shelf.drop(feed)
        feed.state = ASIDE

    def _leave(self, feed: Feed) -> None:
        """Its member, if it is at one, is to tell it no more."""
        line, feed.line = feed.line, None
        if line is not None:
            del line.feeds[feed.id]
            line.ending.add(feed.id)
            line.words.append(feed.id)
            if feed in line.askers:
                line.askers.remove(feed)
                self._asking[feed] = None
            self.pressing = True
        for places in (self._sent, self._wanted, self._delayed):
            places.pop(feed, None)

    def _end(self, feed: Feed, error: ZkvError) -> None:
        self._shelf.drop_pieces(feed)
        self._asking.pop(feed, None)
        del self._feeds[feed]
        feed.state = ENDED
        feed.error = error
        self._news[feed] = None


def _error(code: int, compacted: int, hint: int) -> ZkvError:
    if not code:  # by nobody's wish here
        return StreamLost()
    error = from_code(code, "", min(max(hint, 0), RETRY_AFTER_MS_MAX))
    if isinstance(error, Compacted):
        error.compact_revision = compacted
    return error
