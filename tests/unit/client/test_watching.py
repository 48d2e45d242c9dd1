"""What a client's watch half does, message by message, with a member played by hand."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.client.wire import Wire
from zkv import errors
from zkv.client.feed import ASIDE, DELAYED, LIVE, SENT, WANTED, Feed
from zkv.client.retry import RetryPolicy
from zkv.client.watching import HUNG_MS, TELL_MS
from zkv.limits import Limits
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack
from zkv.wire.messages import ClientKind, WatchKind

if TYPE_CHECKING:
    from zkv.client.watch_events import WatchResponse

ALL = (0,)
WINDOW = 8000
LIMITS = Limits(watch_window_bytes=WINDOW)
THIRD = LIMITS.watch_silence_ms // 3


def kv(key: bytes, revision: int, value: bytes = b"v", created: int = 0) -> tuple[Any, ...]:
    return (key, created or revision, revision, 1, value, 0)


def put(revision: int, key: bytes = b"k", value: bytes = b"v") -> tuple[Any, ...]:
    return (False, kv(key, revision, value), None)


class Line(Wire):
    """A session with watches, and a member's hand."""

    def __init__(self, endpoints: int = 2, *, limits: Limits = LIMITS, retry: RetryPolicy | None = None) -> None:
        super().__init__(endpoints, limits=limits, retry=retry)
        self.watching = self.session.watching

    def open(self, key: bytes = b"k", revision: int = 1) -> Feed:
        return self.watching.open(m.Watch(0, key, start_revision=revision), None)

    def said(self) -> list[tuple[int, ClientKind, Any]]:
        """(endpoint, kind, fields) that leave now."""
        found = []
        for endpoint, data in self.session.outgoing(self.now):
            _, kind, *fields = unpack(data)
            found.append((endpoint, ClientKind(kind), fields[0] if fields else None))
        return found

    def said_else(self) -> list[tuple[int, ClientKind, Any]]:
        """The same, without what was taken."""
        return [word for word in self.said() if word[1] != ClientKind.WATCH_CREDIT]

    def watches(self) -> list[tuple[int, int, int]]:
        """(endpoint, id, start) of watches that are begun now; nothing else is said."""
        found = []
        for endpoint, kind, asked in self.said():
            assert kind == ClientKind.WATCH
            found += [(endpoint, fields[0], m.Watch(*fields).start_revision) for fields in asked]
        return found

    def hear(self, endpoint: int, *watches: tuple[Any, ...]) -> int:
        """The member says something; how many bytes."""
        data = pack(m.Answers(m.PROTOCOL_VERSION, 77, 11, 3, (), 0, watches))
        self.session.received(endpoint, data, self.now)
        return len(data)

    def live(self, key: bytes = b"k", revision: int = 1) -> tuple[Feed, int]:
        """A feed that has begun, and where."""
        feed = self.open(key, revision)
        ((endpoint, id_, _),) = self.watches()
        self.hear(endpoint, ((id_,), WatchKind.CREATED, 9, ()))
        assert feed.state is LIVE
        return feed, endpoint

    def events(self, feed: Feed, *revisions: int, upto: int = 0, size: int = 1) -> int:
        assert feed.line is not None
        body = tuple(put(revision, value=bytes(size)) for revision in revisions)
        return self.hear(feed.line.endpoint, ((feed.id,), WatchKind.EVENTS, upto or revisions[-1], body))

    def read(self, feed: Feed) -> list[WatchResponse]:
        """All that can be read."""
        found: list[WatchResponse] = []
        while (batch := self.watching.take(feed, self.now)) is not None:
            found += batch.responses
        return found

    def revisions(self, feed: Feed) -> list[int]:
        return [response.revision for response in self.read(feed)]

    def pass_to(self, ms: int) -> None:
        """Time passes, and what is to be said is not looked at."""
        until = self.now + ms
        while (wakeup := self.session.next_wakeup()) is not None and wakeup <= until:
            self.now = max(self.now, wakeup)
            self.session.tick(self.now)
            self.session.outgoing(self.now)
        self.now = until


@pytest.fixture
def line() -> Line:
    return Line()


def cancelled(error: type[errors.ZkvError], ids: tuple[int, ...] = ALL, compacted: int = 0) -> tuple[Any, ...]:
    return ids, WatchKind.CANCELLED, 9, (error.code, compacted, 0)


# --- beginning and reading ---------------------------------------------------------------------------------


def test_watches_of_one_moment_begin_in_one_message(line: Line) -> None:
    feeds = [line.open(b"a"), line.open(b"b", 5)]
    ((_, kind, asked),) = line.said()
    assert kind == ClientKind.WATCH
    assert [m.Watch(*fields)[:4] for fields in asked] == [(1, b"a", b"", 1), (2, b"b", b"", 5)]
    assert [feed.state for feed in feeds] == [SENT, SENT]


def test_events_come_one_response_per_revision(line: Line) -> None:
    feed, endpoint = line.live()
    body = (put(3, b"a"), (True, kv(b"b", 3), kv(b"b", 2)), put(5, b"a"))
    line.hear(endpoint, ((feed.id,), WatchKind.EVENTS, 7, body))
    first, second = line.read(feed)
    assert first.header == (77, 11, 3, 3)
    assert [(e.type, e.key, e.revision, e.prev_kv and e.prev_kv.value) for e in first.events] == [
        ("PUT", b"a", 3, None),
        ("DELETE", b"b", 3, b"v"),
    ]
    assert (second.revision, len(second.events), second.progress) == (5, 1, False)


def test_creation_and_change_are_told_apart(line: Line) -> None:
    feed, endpoint = line.live()
    line.hear(endpoint, ((feed.id,), WatchKind.EVENTS, 7, (put(3), (False, kv(b"k", 4, created=3), None))))
    line.hear(endpoint, ((feed.id,), WatchKind.EVENTS, 8, ((True, (b"k", 0, 8, 0, b"", 0), None),)))
    events = [event for response in line.read(feed) for event in response.events]
    assert [(event.is_create, event.is_modify) for event in events] == [(True, False), (False, True), (False, False)]


def test_a_watch_from_now_on_goes_on_from_where_it_began(line: Line) -> None:
    """Once it has begun; before that nobody knows better than now."""
    feed = line.open(revision=0)
    ((endpoint, _, start),) = line.watches()
    assert (start, feed.begun) == (0, False)
    line.session.disconnected(endpoint, line.now)
    ((endpoint, id_, start),) = line.watches()
    assert start == 0
    line.hear(endpoint, ((id_,), WatchKind.CREATED, 9, ()))
    assert feed.begun
    line.pass_to(1000)
    line.session.disconnected(endpoint, line.now)
    line.session.connected(1 - endpoint, line.now)
    assert [start for _, _, start in line.watches()] == [10]


def test_fragments_of_a_revision_are_read_as_one(line: Line) -> None:
    """With the revisions told along with them."""
    feed, endpoint = line.live()
    line.hear(endpoint, ((feed.id,), WatchKind.FRAGMENT, 3, (put(2), put(3, b"a"))))
    line.hear(endpoint, ((feed.id,), WatchKind.FRAGMENT, 3, (put(3, b"b"),)))
    assert line.read(feed) == []
    line.hear(endpoint, ((feed.id,), WatchKind.EVENTS, 4, (put(3, b"c"), put(4))))
    responses = line.read(feed)
    assert [(r.revision, [e.key for e in r.events]) for r in responses] == [
        (2, [b"k"]),
        (3, [b"a", b"b", b"c"]),
        (4, [b"k"]),
    ]


# --- going on elsewhere --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [errors.StreamLost, errors.NoLeader, errors.Unavailable, errors.Stopped, errors.SlowWatcher]
)
def test_after_a_retryable_end_it_goes_on_from_the_next_revision(line: Line, error: type[errors.ZkvError]) -> None:
    """Of what it was told: the revision an answer names counts, not that of its last event."""
    feed, endpoint = line.live()
    line.events(feed, 3, 5, upto=7)
    line.hear(endpoint, cancelled(error))
    line.pass_to(0)
    if feed.state is DELAYED:
        line.now = feed.due
        line.session.tick(line.now)
    if feed.state is WANTED:
        ((where, id_, start),) = line.watches()
        assert start == 8
        assert id_ != 1
        assert (where == endpoint) == (error in {errors.StreamLost, errors.SlowWatcher})
    assert feed.state is SENT
    assert line.revisions(feed) == [3, 5]


def test_a_lost_connection_leads_elsewhere_and_old_events_are_dropped(line: Line) -> None:
    """Also those of a revision that had not come whole."""
    feed, endpoint = line.live()
    line.events(feed, 3)
    line.hear(endpoint, ((feed.id,), WatchKind.FRAGMENT, 4, (put(4, b"a"),)))
    old = feed.id
    line.session.disconnected(endpoint, line.now)
    ((where, id_, start),) = line.watches()
    assert (where, start) == (1 - endpoint, 4)
    line.hear(where, ((id_,), WatchKind.CREATED, 9, ()))
    line.hear(where, ((old,), WatchKind.EVENTS, 4, (put(4),)))
    line.events(feed, 4)
    assert line.revisions(feed) == [3, 4]


def test_compacted_ends_a_watch_with_the_revision_that_is_kept(line: Line) -> None:
    """Behind what came before."""
    feed, endpoint = line.live()
    line.events(feed, 3)
    line.hear(endpoint, cancelled(errors.Compacted, (feed.id,), 42))
    assert line.revisions(feed) == [3]
    assert feed.done
    assert isinstance(feed.error, errors.Compacted)
    assert feed.error.compact_revision == 42
    assert line.said()[0][1] == ClientKind.WATCH_CREDIT  # and nothing more


def test_progress_moves_the_place_of_all_that_have_begun(line: Line) -> None:
    """So that a quiet watch does not fall back to a revision long compacted."""
    (feed, endpoint), (other, _) = line.live(), line.live(b"x")
    late = line.open(b"y")
    line.said()
    line.hear(endpoint, (ALL, WatchKind.PROGRESS, 1000, ()))
    assert (feed.next, other.next, late.next) == (1001, 1001, 1)
    assert line.read(feed) == []
    line.hear(endpoint, (ALL, WatchKind.PROGRESS, 999, ()))
    assert feed.next == 1001


def test_progress_is_told_to_who_asked(line: Line) -> None:
    """By the answer to a question that was asked afterwards."""
    (feed, endpoint), (other, _) = line.live(), line.live(b"x")
    line.watching.ask_progress(feed)
    assert [kind for _, kind, _ in line.said()] == [ClientKind.WATCH_PROGRESS]
    line.watching.ask_progress(other)
    assert line.said() == []
    line.hear(endpoint, (ALL, WatchKind.PROGRESS, 20, ()))
    assert [(r.revision, r.progress) for r in line.read(feed)] == [(20, True)]
    assert line.read(other) == []
    assert [kind for _, kind, _ in line.said()] == [ClientKind.WATCH_PROGRESS]
    line.hear(endpoint, (ALL, WatchKind.PROGRESS, 21, ()))
    assert line.revisions(other) == [21]


def test_who_asked_for_progress_is_told_after_a_failure(line: Line) -> None:
    feed, endpoint = line.live()
    line.watching.ask_progress(feed)
    line.said()
    line.session.disconnected(endpoint, line.now)
    ((where, id_, _),) = line.watches()
    line.hear(where, ((id_,), WatchKind.CREATED, 9, ()))
    assert (where, ClientKind.WATCH_PROGRESS, None) in line.said()


def test_a_member_that_does_not_begin_the_watch_is_left(line: Line) -> None:
    """It is told so, should it do it later."""
    feed = line.open()
    ((endpoint, id_, _),) = line.watches()
    line.now += RetryPolicy().silence_ms
    line.session.tick(line.now)
    assert line.said() == [
        (endpoint, ClientKind.UNWATCH, id_),
        (1 - endpoint, ClientKind.WATCH, (tuple(m.Watch(2, b"k", start_revision=1)),)),
    ]
    assert feed.state is SENT


def test_a_member_that_hangs_is_left(line: Line) -> None:
    """It tells no progress, nor anything else, though it may."""
    feed, endpoint = line.live()
    line.pass_to(THIRD + HUNG_MS + 1)
    assert feed.line is not None
    assert feed.line.endpoint == 1 - endpoint


def test_a_member_that_answers_is_not_left(line: Line) -> None:
    feed, endpoint = line.live()
    for revision in range(20, 30):
        line.pass_to(THIRD)
        line.hear(endpoint, (ALL, WatchKind.PROGRESS, revision, ()))
    assert feed.id == 1


def test_a_busy_line_is_asked_for_progress_too(line: Line) -> None:
    """One of its watches may be quiet for long, and would depend on revisions long compacted."""
    (feed, endpoint), (quiet, _) = line.live(), line.live(b"x")
    asked = 0
    for revision in range(10, 110):
        line.events(feed, revision)
        line.read(feed)
        line.now += THIRD // 10
        line.session.tick(line.now)
        if ClientKind.WATCH_PROGRESS in [kind for _, kind, _ in line.said()]:
            asked += 1
            line.hear(endpoint, (ALL, WatchKind.PROGRESS, revision, ()))
            assert quiet.next == revision + 1
    assert asked == 10


def test_a_watch_speaks_every_third_of_what_silence_may_last(line: Line) -> None:
    _, endpoint = line.live()
    line.now += THIRD - 1
    assert line.said_else() == []
    line.now += 1
    assert line.said_else() == [(endpoint, ClientKind.WATCH_PROGRESS, None)]


def test_who_was_silent_speaks_before_it_begins_a_watch(line: Line) -> None:
    """A member that has forgotten it says so in answer to that, and nothing is taken for alive that is not."""
    feed, endpoint = line.live()
    line.now += 10 * THIRD  # as after a long sleep
    other = line.open(b"x")
    assert [kind for _, kind, _ in line.said_else()] == [ClientKind.WATCH_PROGRESS, ClientKind.WATCH]
    line.hear(endpoint, cancelled(errors.StreamLost))
    assert [start for _, _, start in line.watches()] == [1, 1]
    assert (feed.state, other.state) == (SENT, SENT)
    line.hear(endpoint, ((2,), WatchKind.CREATED, 9, ()))  # of the word that was under way
    assert (endpoint, ClientKind.UNWATCH, 2) in line.said()


def test_nonsense_discredits_a_member(line: Line) -> None:
    """It is told to end what it began."""
    feed, endpoint = line.live()
    line.events(feed, 5)
    line.events(feed, 5)  # again
    assert line.said_else() == [
        (endpoint, ClientKind.UNWATCH, 1),
        (1 - endpoint, ClientKind.WATCH, (tuple(m.Watch(2, b"k", start_revision=6)),)),
    ]
    assert line.revisions(feed) == [5]


@pytest.mark.parametrize(
    "answer",
    [
        ((1,), WatchKind.EVENTS, 5, ()),
        ((1,), WatchKind.EVENTS, 5, (put(6),)),
        ((1,), WatchKind.EVENTS, 5, (put(5), put(4))),
        ((1,), WatchKind.EVENTS, 5, ((False, (b"k",), None),)),
        ((1,), WatchKind.EVENTS, 5, ((False, kv(b"k", 5)),)),
        ((1,), WatchKind.EVENTS, 5, 7),
        ((1,), WatchKind.EVENTS, None, (put(5),)),
        (1, WatchKind.EVENTS, 5, (put(5),)),
        ((1,), WatchKind.CANCELLED, 5, ()),
        ((1,), WatchKind.CANCELLED, 5, ("x", 0, 0)),
        ((1,), WatchKind.CREATED),
    ],
)
def test_no_answer_breaks_the_client(line: Line, answer: Any) -> None:
    """What makes no sense sends the watch elsewhere, from where it was."""
    feed, endpoint = line.live()
    line.hear(endpoint, answer)
    assert feed.state is WANTED
    assert [asked[0][3] for where, kind, asked in line.said() if kind == ClientKind.WATCH and where != endpoint] == [1]


def test_answers_of_a_newer_member_may_say_more(line: Line) -> None:
    feed, endpoint = line.live()
    line.hear(endpoint, ((feed.id,), WatchKind.EVENTS, 5, ((False, (*kv(b"k", 5), 1), None, 2),), "more"))
    line.hear(endpoint, ((feed.id,), 99, 5, ()))
    assert line.revisions(feed) == [5]


def test_failures_that_are_not_to_be_retried_end_the_watch() -> None:
    line = Line(retry=RetryPolicy(errors=()))
    feed, endpoint = line.live()
    line.hear(endpoint, cancelled(errors.StreamLost))
    assert isinstance(feed.error, errors.StreamLost)


def test_a_watch_that_fails_again_and_again_waits_longer_each_time(line: Line) -> None:
    """And counts anew once it has lasted."""
    feed, endpoint = line.live()
    waits = []
    for _ in range(6):
        started = line.now
        line.hear(endpoint, cancelled(errors.StreamLost))
        while not line.said():
            line.now = max(line.now, line.session.next_wakeup() or 0)
            line.session.tick(line.now)
        waits.append(line.now - started)
        line.hear(endpoint, ((feed.id,), WatchKind.CREATED, 9, ()))
    assert waits[0] == 0
    assert waits[-1] >= 200
    line.now += 1000
    line.hear(endpoint, cancelled(errors.StreamLost))
    assert feed.state is WANTED


# --- ending --------------------------------------------------------------------------------------------------


def test_a_cancelled_watch_is_over_at_once(line: Line) -> None:
    """What still comes for it is dropped, and counts as taken."""
    feed, endpoint = line.live()
    line.events(feed, 3)
    id_ = feed.id
    line.session.cancel(feed)
    assert feed.done
    assert line.read(feed) == []
    line.hear(endpoint, ((id_,), WatchKind.EVENTS, 4, (put(4),)))
    words = line.said()
    assert words[0] == (endpoint, ClientKind.UNWATCH, id_)
    assert words[1][1] == ClientKind.WATCH_CREDIT
    size = line.hear(endpoint, ((id_,), WatchKind.CANCELLED, 9, (0, 0, 0)))
    assert line.said() == [(endpoint, ClientKind.WATCH_CREDIT, size)]


def test_nothing_is_left_of_many_watches(line: Line) -> None:
    for round_ in range(300):
        feed = line.open(revision=round_ % 2)
        if round_ % 3:
            ((endpoint, id_, _),) = line.watches()
            if round_ % 5:
                line.hear(endpoint, ((id_,), WatchKind.CREATED, 9, ()))
                line.events(feed, 10 + round_)
            line.watching.ask_progress(feed)
            line.session.cancel(feed)
            line.said()
            line.hear(endpoint, ((id_,), WatchKind.CANCELLED, 9, (0, 0, 0)))
        else:
            line.session.cancel(feed)
        line.said()
    line.session.news()
    watching = line.watching
    for places in (
        watching._feeds, watching._wanted, watching._delayed, watching._sent, watching._asking, watching._news,
    ):  # fmt: skip
        assert not places
    assert watching._shelf.held == 0
    for each in watching._lines.values():
        assert [*each.feeds, *each.ending, *each.words, *each.askers, each.held, each.received] == [0, 0]
    line.session.tick(line.now + 10 * THIRD)
    assert line.session.next_wakeup() is None


def test_close_ends_all_watches_and_members_hear_of_it(line: Line) -> None:
    (feed, endpoint), (other, _) = line.live(), line.live(b"x")
    line.session.close()
    assert isinstance(feed.error, errors.ClientClosed)
    assert {feed, other} <= set(line.session.news())
    assert line.said_else() == [(endpoint, ClientKind.UNWATCH, 0)]
    late = line.open()
    assert isinstance(late.error, errors.ClientClosed)


# --- memory --------------------------------------------------------------------------------------------------


def test_bytes_are_acknowledged_as_they_are_read(line: Line) -> None:
    """What lies here unread, or was just given to the reader, is not."""
    feed, _ = line.live()
    revisions = count(10)
    sent = sum(line.events(feed, next(revisions), size=500) for _ in range(10))
    line.now += TELL_MS
    assert 0 < sum(taken for _, _, taken in line.said()) < sent / 5
    acknowledged = 0
    while line.watching.take(feed, line.now) is not None:
        acknowledged += sum(taken for _, _, taken in line.said())
    acknowledged += sum(taken for _, _, taken in line.said())
    assert sent * 0.8 < acknowledged <= sent + 100


def test_little_is_acknowledged_after_a_while(line: Line) -> None:
    """A member's window may be smaller than this side's."""
    feed, endpoint = line.live()
    line.pass_to(1000)
    for revision in (10, 11):
        size = line.events(feed, revision)
        assert line.revisions(feed) == [revision]
        line.pass_to(TELL_MS - 1)
        assert line.said() == []
        line.now += 1
        line.session.tick(line.now)
        assert line.said() == [(endpoint, ClientKind.WATCH_CREDIT, size)]
    size = line.events(feed, 12)
    line.pass_to(THIRD - 1000)
    assert line.revisions(feed) == [12]
    assert sum(taken for _, _, taken in line.said()) > 0
    assert size > 0


def test_who_does_not_read_is_put_aside_for_who_does(line: Line) -> None:
    """What lies here for it is dropped, and told anew when its reader comes back: no event is lost."""
    (slow, endpoint), (quick, _) = line.live(), line.live(b"x")
    for revision in range(10, 20):
        line.events(slow, revision, size=500)
    id_ = slow.id
    line.pass_to(999)
    assert slow.state is LIVE
    line.now += 1
    line.session.tick(line.now)
    assert slow.state is ASIDE
    words = line.said()
    assert (endpoint, ClientKind.UNWATCH, id_) in words
    assert any(kind == ClientKind.WATCH_CREDIT and taken > 4000 for _, kind, taken in words)
    line.events(quick, 20)
    assert line.revisions(quick) == [20]
    assert line.read(slow) == []  # its reader is back
    assert [start for _, _, start in line.watches()] == [10]


def test_who_reads_though_slowly_is_not_put_aside(line: Line) -> None:
    """Half a window lies here all the time, but he takes some of it every now and then."""
    (slow, _), (quick, _) = line.live(), line.live(b"x")
    revisions = count(10)
    for _ in range(9):
        line.events(slow, next(revisions), size=500)
    for _ in range(10):
        line.pass_to(900)
        assert line.watching.take(slow, line.now) is not None
        line.events(slow, next(revisions), size=500)
    assert slow.state is LIVE
    assert quick.state is LIVE


def test_if_all_are_slow_nobody_is_put_aside(line: Line) -> None:
    """The member waits for credit: that is what the window is for."""
    (one, _), (other, _) = line.live(), line.live(b"x")
    for revision in range(10, 15):
        line.events(one, revision, size=500)
        line.events(other, revision, size=500)
    line.pass_to(5000)
    assert (one.state, other.state) == (LIVE, LIVE)


def test_events_shared_by_watches_count_once(line: Line) -> None:
    feeds = [line.open() for _ in range(100)]
    line.said()
    ids = tuple(feed.id for feed in feeds)
    line.hear(0, (ids, WatchKind.CREATED, 9, ()))
    line.hear(1, (ids, WatchKind.CREATED, 9, ()))
    endpoint = feeds[0].line.endpoint  # type: ignore[union-attr]
    line.hear(endpoint, (ids, WatchKind.EVENTS, 10, (put(10, value=bytes(1000)),)))
    assert 1000 < line.watching._shelf.held < 1100
    for feed in feeds:
        assert line.revisions(feed) == [10]
    assert line.watching._shelf.held == 0


def test_after_a_failure_no_more_than_one_and_a_half_windows_lie_here(line: Line) -> None:
    """A watch with unread events begins anew once they are read, if much lies here."""
    feed, endpoint = line.live()
    for revision in range(10, 20):
        line.events(feed, revision, size=500)
    line.session.disconnected(endpoint, line.now)
    assert feed.state is ASIDE
    assert line.said() == []
    assert line.revisions(feed) == list(range(10, 20))
    assert [start for _, _, start in line.watches()] == [20]


def test_a_watch_larger_than_a_message_is_refused_here() -> None:
    line = Line(limits=Limits(request_bytes_max=1000))
    large, small = line.open(bytes(2000)), line.open()
    assert len(line.watches()) == 1
    assert isinstance(large.error, errors.RequestTooLarge)
    assert small.state is SENT
