"""Streams at the native door: how watches of clients begin, are passed on, and end."""

from __future__ import annotations

from typing import Any

import pytest

from zkv import errors
from zkv.gateway import watches
from zkv.gateway.doors import PLAIN_DOOR
from zkv.gateway.native import NativeGateway
from zkv.limits import Limits
from zkv.mailbox import GONE, Stop
from zkv.wire import codec
from zkv.wire import messages as m
from zkv.wire.messages import ClientKind, WatchKind

INCARNATION, LEADERLESS = 33, 3000
ALICE, BOB = b"\0alic", b"\0bobb"
SILENCE = Limits().watch_silence_ms
ALL = (0,)
FROM_NOW = (7, b"k")
FULL = (8, b"k", b"l", 5, True, False, True, True, True)


class Desk:
    """A gateway among fakes: what it posts to the watch actor, and what its clients hear."""

    def __init__(self, **limits: int) -> None:
        self.now = 1000
        self.full: set[object] = set()  # addresses whose queue is full
        self._words: list[tuple[int, int, Any]] = []
        self._heard: list[tuple[bytes, m.Answers]] = []
        self.gateway = NativeGateway(
            limits=Limits(**limits), member_id=11, cluster_id=22, incarnation=INCARNATION, request_timeout_ms=7000,
            leaderless_ms=LEADERLESS, post=self._post,
        )  # fmt: skip
        self.put_in(m.LeaderIs(5, 1), m.Hello("raft", 1), m.Hello("storage", 1), m.Hello("watch", 1))

    def _post(self, address: Any, message: Any) -> bool:
        if address in self.full or (isinstance(address, tuple) and address[1] in self.full):
            return False
        if address == "watch":
            sent = codec.decode(codec.encode(message))
            assert isinstance(sent, m.WatchWords)
            assert sent.incarnation == INCARNATION
            self._words += sent.words
        elif not isinstance(address, str):
            self._heard.append((address[1], m.Answers(*codec.unpack(message))))
        return True

    def put_in(self, *mail: object) -> None:
        self.gateway.handle([("supervisor" if isinstance(each, Stop) else "node", each) for each in mail], self.now)

    def say(self, client: bytes, kind: int, *fields: Any) -> None:
        packed = codec.pack((m.PROTOCOL_VERSION, kind, *fields))
        self.gateway.handle([(PLAIN_DOOR, (client, packed))], self.now)

    def watch(self, client: bytes, *asked: Any) -> None:
        self.say(client, ClientKind.WATCH, asked)

    def out(self, stream: int, *answers: Any, incarnation: int = INCARNATION) -> None:
        packed = codec.pack(m.Answers(m.PROTOCOL_VERSION, 22, 11, 5, (), 0, answers))
        self.put_in(m.WatchOut(incarnation, ((stream, packed),)))

    def wait(self, ms: int) -> None:
        """Time passes, and the gateway is woken whenever it wants to be."""
        end = self.now + ms
        while (wakeup := self.gateway.next_wakeup(self.now)) is not None and wakeup <= end:
            self.now = max(self.now, wakeup)
            self.put_in()
        self.now = end

    def words(self) -> list[tuple[int, int, Any]]:
        """(stream, kind, fields) that reached the watch actor since the last call."""
        words, self._words = self._words, []
        return words

    def heard(self, client: bytes = ALICE) -> list[Any]:
        """Watch answers that reached a client since the last call, as (ids, kind, code or body)."""
        found: list[Any] = [w for who, answers in self._heard if who == client for w in answers.watches]
        self._heard = [each for each in self._heard if each[0] != client]
        return [(ids, kind, body[0] if kind == WatchKind.CANCELLED else body) for ids, kind, _, body in found]

    def refused(self, client: bytes = ALICE) -> list[tuple[int, int]]:
        """(id, code) of other answers."""
        found = [(a[0], a[1]) for who, answers in self._heard if who == client for a in answers.answers]
        self._heard = [each for each in self._heard if each[0] != client]
        return found


def gone(error: type[errors.ZkvError], ids: tuple[int, ...] = ALL) -> list[Any]:
    return [(ids, WatchKind.CANCELLED, error.code)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def watched(desk: Desk) -> Desk:
    """Alice has a stream, number 1, with a watch."""
    desk.watch(ALICE, FROM_NOW)
    desk.words()
    return desk


# --- the way there and back ------------------------------------------------------------------------------


def test_watches_begun_at_once_are_passed_on_at_once(desk: Desk) -> None:
    """One connection is one stream, whatever it says later."""
    desk.watch(ALICE, FROM_NOW, FULL)
    desk.watch(BOB, FROM_NOW)
    desk.say(ALICE, ClientKind.UNWATCH, 7)
    desk.say(ALICE, ClientKind.WATCH_CREDIT, 99)
    desk.say(ALICE, ClientKind.WATCH_PROGRESS)
    assert desk.words() == [
        (1, ClientKind.WATCH, ((FROM_NOW, FULL),)),
        (2, ClientKind.WATCH, ((FROM_NOW,),)),
        (1, ClientKind.UNWATCH, (7,)),
        (1, ClientKind.WATCH_CREDIT, (99,)),
        (1, ClientKind.WATCH_PROGRESS, ()),
    ]
    assert desk.heard() == []


def test_a_word_that_only_says_i_am_here_stays_here(watched: Desk) -> None:
    watched.say(ALICE, ClientKind.WATCH_CREDIT, 0)
    assert watched.words() == []


def test_what_the_actor_says_goes_to_the_streams_client(watched: Desk) -> None:
    """Of another gateway's time, or of a stream that has ended, it goes nowhere."""
    created = ((7,), int(WatchKind.CREATED), 9, ())
    watched.out(1, created)
    watched.out(2, created)
    watched.out(1, created, incarnation=INCARNATION - 1)
    assert watched.heard() == [((7,), WatchKind.CREATED, ())]


# --- what is refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        (7,),
        (7, "k"),
        (7, b"k", b"", -1),
        (7, b"k", b"", 1 << 63),
        (7, b"k", b"", 0, 1),
        (*FULL[:8], True, 0),
        (7, b"k", None),
    ],
)
def test_a_bad_watch_is_refused_under_its_id_and_the_others_begin(desk: Desk, bad: Any) -> None:
    desk.watch(ALICE, (bad[0] + 100, *bad[1:]), FROM_NOW)
    assert desk.heard() == gone(errors.InvalidRequest, (bad[0] + 100,))
    assert desk.words() == [(1, ClientKind.WATCH, ((FROM_NOW,),))]


@pytest.mark.parametrize("bad", [(), (0, b"k"), (-1, b"k"), (True, b"k"), (1 << 63, b"k"), 7, None, b"k"])
def test_a_watch_without_an_id_is_refused_under_none(desk: Desk, bad: Any) -> None:
    desk.watch(ALICE, bad)
    assert desk.refused() == [(0, errors.InvalidRequest.code)]
    assert (desk.words(), len(desk.gateway._watches)) == ([], 0)


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (ClientKind.WATCH, ()),
        (ClientKind.WATCH, (None,)),
        (ClientKind.WATCH, ((), ())),
        (ClientKind.UNWATCH, ()),
        (ClientKind.UNWATCH, (-1,)),
        (ClientKind.UNWATCH, (b"7",)),
        (ClientKind.WATCH_CREDIT, (-1,)),
        (ClientKind.WATCH_CREDIT, (1 << 63,)),
        (ClientKind.WATCH_CREDIT, (True,)),
        (ClientKind.WATCH_PROGRESS, (1,)),
    ],
)
def test_a_malformed_word_is_refused_and_changes_nothing(watched: Desk, kind: int, fields: Any) -> None:
    watched.say(ALICE, kind, *fields)
    assert watched.refused() == [(0, errors.InvalidRequest.code)]
    assert watched.words() == []


def test_more_connections_with_watches_than_the_limit_are_refused() -> None:
    """And let in when another one has ended."""
    desk = Desk(watch_streams_max=1)
    desk.watch(ALICE, FROM_NOW)
    desk.watch(BOB, FROM_NOW, FULL)
    assert desk.heard(BOB) == gone(errors.TooManyRequests, (7, 8))
    desk.watch(ALICE, FULL)  # she has hers already
    assert [word[0] for word in desk.words()] == [1, 1]
    desk.full.add(ALICE)
    desk.out(1, (ALL, 3, 9, ()))
    desk.full.clear()
    desk.say(ALICE, ClientKind.WATCH_CREDIT, 0)
    desk.watch(BOB, FROM_NOW)
    assert desk.heard(BOB) == []


# --- how streams end -------------------------------------------------------------------------------------


def test_a_message_that_cannot_be_sent_ends_the_stream_and_the_next_word_is_told(watched: Desk) -> None:
    """WATCH, too, is answered only: the client takes all its watches for gone, this one included."""
    watched.full.add(ALICE)
    watched.out(1, ((7,), int(WatchKind.EVENTS), 9, ()))
    watched.out(1, ((7,), int(WatchKind.EVENTS), 10, ()))
    assert watched.words() == [(1, ClientKind.CANCEL, ())]
    watched.watch(ALICE, FULL)  # not even that can be answered
    watched.full.clear()
    watched.watch(ALICE, FULL)
    assert watched.heard() == gone(errors.StreamLost)
    assert watched.words() == []
    watched.watch(ALICE, (9, b"k"))
    assert watched.words() == [(2, ClientKind.WATCH, (((9, b"k"),),))]


def test_who_has_no_stream_learns_it_by_any_word(desk: Desk) -> None:
    for word in ((ClientKind.UNWATCH, 7), (ClientKind.WATCH_CREDIT, 0), (ClientKind.WATCH_PROGRESS,)):
        desk.say(ALICE, *word)
        assert desk.heard() == gone(errors.StreamLost)
    assert desk.words() == []


def test_a_client_that_says_nothing_for_long_is_taken_to_be_gone(watched: Desk) -> None:
    watched.wait(SILENCE + watches.GRACE_MS - 1)
    assert watched.words() == []
    watched.wait(1)
    assert watched.words() == [(1, ClientKind.CANCEL, ())]
    assert watched.heard() == gone(errors.StreamLost)
    assert (len(watched.gateway._watches), watched.gateway.next_wakeup(watched.now)) == (0, None)


@pytest.mark.parametrize("word", [(ClientKind.WATCH_CREDIT, 0), (ClientKind.PING, 1), (99,)])
def test_any_message_of_a_client_keeps_its_stream(watched: Desk, word: Any) -> None:
    for _ in range(10):
        watched.wait(SILENCE)
        watched.say(ALICE, *word)
    assert watched.words() == []


def test_without_watches_a_stream_is_soon_forgotten(watched: Desk) -> None:
    """A connection that once had a watch does not hold a stream for the rest of its days; nobody is told."""
    watched.say(ALICE, ClientKind.UNWATCH, 7)
    watched.wait(watches.IDLE_MS - 1)
    watched.say(ALICE, ClientKind.PING, 1)
    assert watched.words() == [(1, ClientKind.UNWATCH, (7,))]
    watched.wait(1)
    assert watched.words() == [(1, ClientKind.CANCEL, ())]
    assert (len(watched.gateway._watches), watched.heard()) == (0, [])


def test_watches_that_come_and_go_keep_their_stream_and_cost_no_more(watched: Desk) -> None:
    for number in range(100, 1100):
        watched.watch(ALICE, (number, b"k"))
        watched.say(ALICE, ClientKind.UNWATCH, number)
        watched.wait(50)
    assert {word[:2] for word in watched.words()} == {(1, ClientKind.WATCH), (1, ClientKind.UNWATCH)}
    assert len(watched.gateway._watches._checks) <= 2


def test_a_client_that_says_farewell_is_forgotten_at_once(watched: Desk) -> None:
    watched.watch(ALICE, FULL)
    watched.words()
    watched.say(ALICE, ClientKind.UNWATCH, 0)
    assert watched.words() == [(1, ClientKind.CANCEL, ())]
    assert (len(watched.gateway._watches), watched.heard()) == (0, [])


def test_the_watches_of_a_client_that_is_gone_end_at_once(watched: Desk) -> None:
    """And nobody is told; of one that had none nothing is known."""
    for _ in range(2):
        watched.gateway.handle([(GONE, (PLAIN_DOOR, ALICE)), (GONE, (PLAIN_DOOR, BOB))], watched.now)
    assert watched.words() == [(1, ClientKind.CANCEL, ())]
    assert watched.heard() == []
    watched.watch(ALICE, FROM_NOW)
    assert watched.words() == [(2, ClientKind.WATCH, ((FROM_NOW,),))]


def test_a_lost_client_that_never_comes_back_is_forgotten(watched: Desk) -> None:
    watched.full.add(ALICE)
    watched.out(1, ((7,), int(WatchKind.EVENTS), 9, ()))
    watched.wait(SILENCE + watches.GRACE_MS)
    assert (len(watched.gateway._watches), watched.gateway.next_wakeup(watched.now)) == (0, None)


def test_when_the_actor_starts_anew_all_streams_end(watched: Desk) -> None:
    """It is told so too: words that were on their way may have reached the new one."""
    watched.put_in(m.Hello("watch", 1))
    assert watched.heard() == []  # that one is known
    watched.put_in(m.Hello("watch", 2))
    assert watched.heard() == gone(errors.StreamLost)
    assert watched.words() == [(1, ClientKind.CANCEL, ())]


def test_three_elections_without_a_leader_end_all_streams(watched: Desk) -> None:
    """However often the election is begun; and nothing begins then."""
    watched.put_in(m.LeaderIs(6, 0))
    watched.wait(LEADERLESS - 1)
    watched.put_in(m.LeaderIs(7, 0))
    assert watched.heard() == []
    watched.wait(1)
    assert watched.heard() == gone(errors.NoLeader)
    assert watched.words() == [(1, ClientKind.CANCEL, ())]
    watched.watch(ALICE, FULL)
    assert watched.heard() == gone(errors.NoLeader, (8,))
    watched.put_in(m.LeaderIs(8, 1))
    watched.watch(ALICE, FULL)
    assert watched.words() == [(2, ClientKind.WATCH, ((FULL,),))]


def test_a_leader_found_in_time_saves_the_streams(watched: Desk) -> None:
    for term in range(6, 12):
        watched.put_in(m.LeaderIs(term, 0))
        watched.wait(LEADERLESS - 1)
        watched.put_in(m.LeaderIs(term, 1))
        watched.wait(10 * watches.RETRY_MS)
    assert watched.heard() == []


def test_when_the_door_closes_clients_are_told_to_go_elsewhere(watched: Desk) -> None:
    watched.put_in(Stop())
    assert watched.heard() == gone(errors.Stopped)
    watched.watch(ALICE, FULL)
    assert watched.heard() == gone(errors.Stopped, (8,))


# --- a full queue to the actor -----------------------------------------------------------------------------


def test_words_wait_while_the_actors_queue_is_full(watched: Desk) -> None:
    """Nothing begins meanwhile, nothing is lost, and the order stays."""
    watched.full.add("watch")
    watched.say(ALICE, ClientKind.WATCH_CREDIT, 5)
    watched.watch(BOB, FROM_NOW)
    assert watched.heard(BOB) == gone(errors.TooManyRequests, (7,))
    watched.say(ALICE, ClientKind.UNWATCH, 7)
    watched.wait(watches.RETRY_MS)
    assert watched.words() == []
    watched.full.clear()
    watched.wait(watches.RETRY_MS)
    assert watched.words() == [(1, ClientKind.WATCH_CREDIT, (5,)), (1, ClientKind.UNWATCH, (7,))]


@pytest.mark.patches
def test_beyond_the_backlog_streams_end(watched: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded, and the actor learns of the end."""
    monkeypatch.setattr(watches, "BACKLOG_MAX", 3)
    watched.full.add("watch")
    for _ in range(9):
        watched.say(ALICE, ClientKind.WATCH_CREDIT, 5)
    assert watched.heard()[:1] == gone(errors.TooManyRequests)
    watched.full.clear()
    watched.wait(watches.RETRY_MS)
    assert watched.words() == [(1, ClientKind.WATCH_CREDIT, (5,))] * 3 + [(1, ClientKind.CANCEL, ())]
