"""Claims about watches, one by one: the real actor, feed and store, with the mail in the hands of the test."""

from __future__ import annotations

import pytest

from tests.harness.watch_world import GATEWAY, WatchWorld, events, kinds
from zkv.errors import InvalidRequest, SlowWatcher, TooManyRequests
from zkv.mailbox import Stop
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack
from zkv.wire.messages import ClientKind, DeleteRange, Put, Txn, Watch, WatchKind


@pytest.fixture
def world() -> WatchWorld:
    world = WatchWorld()
    world.settle()
    return world


# --- from now on, from then on ---------------------------------------------------------------------


def test_a_watch_is_told_what_happens_from_now_on(world: WatchWorld) -> None:
    world.write(Put(b"a", b"before"))
    world.watch(1, Watch(7, b"a"))
    world.settle()
    world.write(Put(b"a", b"1"), Put(b"b", b""), DeleteRange(b"a"))
    world.settle()
    assert kinds(world)[0] == ((7,), WatchKind.CREATED, 2)
    assert events(world) == [((7,), 5, [("+", b"a", 3), ("-", b"a", 5)])]


def test_who_was_answered_and_then_watches_is_not_told_of_his_own_write() -> None:
    """While nobody watches, the actor hears late where the store is: the first watch waits until it knows."""
    world = WatchWorld()
    world.settle()
    world.write(Put(b"a", b"mine"))
    world.watch(1, Watch(1, b"a"))
    assert kinds(world) == []
    world.settle()
    assert kinds(world) == [((1,), WatchKind.CREATED, 2)]


def test_a_watch_from_the_past_is_told_what_was_and_what_is(world: WatchWorld) -> None:
    world.write(*(Put(b"a", b"%d" % number) for number in range(3)))
    world.watch(1, Watch(1, b"a", start_revision=3))
    world.write(Put(b"a", b"now"))
    world.settle()
    (seen,) = world.listeners[1].watches.values()
    assert (seen.count, seen.told) == (3, 5)


def test_a_watch_from_a_revision_to_come_waits_for_it(world: WatchWorld) -> None:
    """Events before it are not told, whatever else the stream is told."""
    world.watch(1, Watch(1, b"a", start_revision=4), Watch(2, b"a"))
    world.settle()
    for number in range(4):
        world.write(Put(b"a", b"%d" % number))
    world.settle()
    of_one = [each for ids, _, told in events(world) if 1 in ids for each in told]
    assert of_one == [("+", b"a", 4), ("+", b"a", 5)]


def test_all_events_of_a_revision_come_together(world: WatchWorld) -> None:
    world.watch(1, Watch(1, b"", b"\0"))
    world.settle()
    world.write(Txn((), ((2, Put(b"a", b"")), (2, Put(b"b", b"")), (2, Put(b"c", b""))), ()))
    world.settle()
    assert events(world) == [((1,), 2, [("+", b"a", 2), ("+", b"b", 2), ("+", b"c", 2)])]


@pytest.mark.parametrize(
    ("key", "range_end", "told"),
    [
        (b"b", b"", [b"b"]),
        (b"b", b"b\0", [b"b"]),
        (b"a", b"c", [b"a", b"b", b"bx"]),
        (b"b", b"\0", [b"b", b"bx", b"c", b"d"]),
        (b"", b"\0", [b"\0", b"a", b"b", b"bx", b"c", b"d"]),
        (b"", b"", [b"\0"]),
        (b"e", b"\0", []),
    ],
)
def test_a_range_is_what_it_is_in_etcd(world: WatchWorld, key: bytes, range_end: bytes, told: list[bytes]) -> None:
    """One key, up to an end, all from a key on, all; no key at all is the first one there can be (00)."""
    world.watch(1, Watch(1, key, range_end))
    world.settle()
    world.write(*(Put(each, b"") for each in (b"\0", b"a", b"b", b"bx", b"c", b"d")))
    world.settle()
    assert [each for _, _, some in events(world) for _, each, _ in some] == told


def test_events_not_wanted_are_left_out(world: WatchWorld) -> None:
    world.watch(
        1, Watch(1, b"a", no_put=True), Watch(2, b"a", no_delete=True), Watch(3, b"a", b"", 0, False, True, True)
    )
    world.settle()
    world.write(Put(b"a", b""), DeleteRange(b"a"))
    world.settle()
    assert sorted(events(world)) == [((1,), 3, [("-", b"a", 3)]), ((2,), 3, [("+", b"a", 2)])]


# --- shared work -------------------------------------------------------------------------------------


def test_watches_that_get_the_same_share_one_answer(world: WatchWorld) -> None:
    """Their options alike or not, one key or a range: what is the same is packed and sent once to a stream."""
    world.watch(1, Watch(1, b"a"), Watch(2, b"a"), Watch(3, b"a", b"b"), Watch(4, b"a", prev_kv=True))
    world.watch(2, Watch(1, b"a"))
    world.settle()
    world.write(Put(b"a", b"1"))
    world.settle()
    assert events(world, 1) == [((1, 2, 3, 4), 2, [("+", b"a", 2)])]
    world.write(Put(b"a", b"2"))
    world.settle()
    assert events(world, 1)[1:] == [((1, 2, 3), 3, [("+", b"a", 3)]), ((4,), 3, [("+", b"a", 3)])]
    assert events(world, 2) == [((1,), 2, [("+", b"a", 2)]), ((1,), 3, [("+", b"a", 3)])]


def test_streams_that_are_told_the_same_share_its_bytes_and_no_more(world: WatchWorld) -> None:
    """Those with the same ids get one and the same message; nobody is told by the ids of another, or of its keys."""
    ids = {1: 7, 2: 7, 3: 8, 4: 7, 5: 7}
    for stream, id_ in ids.items():
        world.watch(stream, Watch(id_, b"b" if stream == 5 else b"a"))
    world.settle()
    for revision, key in enumerate((b"a", b"b", b"a"), 2):
        world.write(Put(key, b"x"))
        world.watch_turn()
        for stream in [5] if key == b"b" else [1, 2, 3, 4]:
            assert events(world, stream)[-1] == ((ids[stream],), revision, [("+", key, revision)])
    assert [len(events(world, stream)) for stream in ids] == [2, 2, 2, 2, 1]
    world.write(Put(b"a", b"y"))
    world.watching.applied(world.to_watch.pop(), world.now)
    told = dict(world.watching.outgoing())
    assert told.keys() == {1, 2, 3, 4}
    assert told[1] is told[2]
    assert told[3] != told[1] == told[4]


def test_an_answer_is_what_packing_it_whole_would_give(world: WatchWorld) -> None:
    """It is joined from parts; who reads it cannot tell."""
    heard: list[bytes] = []

    def hear(packed: bytes) -> None:
        heard.append(packed)
        before(packed)

    world.watch(1, Watch(1, b"a", prev_kv=True), *(Watch(at, b"b", b"c") for at in range(2, 70_000, 1000)))
    before = world.listeners[1].hear
    world.listeners[1].hear = hear  # type: ignore[method-assign,assignment]
    world.settle()
    world.write(Put(b"a", bytes(70_000)), *(Put(b"b", b"%d" % number) for number in range(20)))
    world.write(Put(b"a", b""))
    world.settle()
    assert len(heard) >= 2
    for packed in heard:
        assert pack(m.Answers(*unpack(packed))) == packed


def test_watches_that_meet_are_one_party_and_can_still_be_told_apart(world: WatchWorld) -> None:
    """They began at different revisions and came live together; each can be ended, and has the options it had."""
    world.write(Put(b"a", b"1"), Put(b"a", b"2"))
    world.watch(1, Watch(1, b"a"), Watch(2, b"b"), Watch(3, b"c"))
    world.watch(1, Watch(4, b"a", start_revision=2), Watch(5, b"a", start_revision=2), Watch(6, b"a", b"", 3, True))
    world.settle()
    assert len(world.watching._roster.streams[1].live.parties) == 4
    world.full.add("watch")  # all fall behind, and what was superseded is asked for again for those who want it
    world.write(Put(b"a", b"3"))
    world.settle()
    world.write(Put(b"a", b"4"))
    world.settle()
    world.check_all_told()
    assert [ids for ids, revision, _ in events(world) if revision == 5] == [(1, 4, 5), (6,)]
    for watch in (4, 1, 6, 5):
        world.say(1, ClientKind.UNWATCH, watch)
        world.write(Put(b"a", b""))
        world.settle()
        world.check_all_told()
    for watch in (2, 3):
        world.say(1, ClientKind.UNWATCH, watch)
    world.settle()
    assert not any(world.kept())


# --- words -------------------------------------------------------------------------------------------


def test_unwatch_is_answered_and_nothing_follows(world: WatchWorld) -> None:
    """A second one is not: the watch was ended, and its client told so."""
    world.watch(1, Watch(1, b"a"), Watch(2, b"a"))
    world.settle()
    world.say(1, ClientKind.UNWATCH, 1)
    world.say(1, ClientKind.UNWATCH, 1)
    world.write(Put(b"a", b""))
    world.settle()
    assert [entry for entry in world.listeners[1].entries if entry[1] == WatchKind.CANCELLED] == [
        ((1,), WatchKind.CANCELLED, 1, (0, 0, 0))
    ]
    assert events(world) == [((2,), 2, [("+", b"a", 2)])]


def test_a_watch_can_be_ended_before_it_began() -> None:
    world = WatchWorld()
    world.watch(1, Watch(1, b"a", prev_kv=True), Watch(2, b"a"))
    world.say(1, ClientKind.UNWATCH, 1)
    world.settle()
    assert kinds(world) == [((1,), WatchKind.CANCELLED, 0), ((2,), WatchKind.CREATED, 1)]
    world.end(1)
    assert not any(world.kept())


@pytest.mark.parametrize("early", [False, True])
def test_an_id_twice_is_refused_and_the_first_goes_on(early: bool) -> None:
    world = WatchWorld()
    if not early:
        world.settle()
    world.watch(1, Watch(1, b"a"))
    if not early:
        world.settle()
    world.say(1, ClientKind.WATCH, ((1, b"b"),))
    refused = [entry for entry in world.listeners[1].entries if entry[1] == WatchKind.CANCELLED]
    assert [(ids, body) for ids, _, _, body in refused] == [((1,), (InvalidRequest.code, 0, 0))]
    world.listeners[1].watches[1].ended = None
    world.settle()
    world.write(Put(b"a", b""), Put(b"b", b""))
    world.settle()
    assert events(world) == [((1,), 3, [("+", b"a", 2)])]


def test_a_range_that_holds_no_key_is_refused(world: WatchWorld) -> None:
    seen = world.watch(1, Watch(1, b"b", b"a"), Watch(2, b"b", b"b"), Watch(3, b"b", b"\0"))
    world.settle()
    assert [each.ended and each.ended[0] for each in seen] == [InvalidRequest.code, InvalidRequest.code, None]


def test_there_are_no_more_watches_and_streams_than_may_be() -> None:
    """The next is refused as TooManyRequests; when one ends there is room again."""
    world = WatchWorld(watches_max=2, watch_streams_max=2)
    world.settle()
    first = world.watch(1, Watch(1, b"a"), Watch(2, b"a"), Watch(3, b"a"))
    world.settle()
    assert [each.ended and each.ended[0] for each in first] == [None, None, TooManyRequests.code]
    world.say(1, ClientKind.UNWATCH, 1)
    (fourth,) = world.watch(2, Watch(1, b"a"))
    (fifth,) = world.watch(3, Watch(1, b"a"))
    world.settle()
    assert (fourth.ended, fifth.ended and fifth.ended[0]) == (None, TooManyRequests.code)


def test_a_new_gateway_begins_with_nothing_and_late_words_of_the_old_are_not_heard(world: WatchWorld) -> None:
    """They come through a queue of their own, after it has gone."""
    word = (1, int(ClientKind.WATCH), (((1, b"a"),),))
    world.watch(1, Watch(1, b"a"))
    world.watch_turn(m.Hello("gateway", GATEWAY + 1))
    assert not any(world.kept())
    world.watch_turn(m.WatchWords(GATEWAY, (word,)))
    assert not any(world.kept())
    world.watch_turn(m.WatchWords(GATEWAY + 1, (word,)))
    assert world.watching.count == 1


def test_it_stops_when_told(world: WatchWorld) -> None:
    world.watch_turn(Stop())
    assert world.watch_actor.finished


# --- windows -----------------------------------------------------------------------------------------


def test_a_client_that_takes_nothing_is_sent_a_window_and_no_more() -> None:
    """What is beyond is not kept for it: it holds a revision, and reads history when it has taken."""
    world = WatchWorld(watch_window_bytes=5_000)
    world.watch(1, Watch(1, b"a"))
    world.settle()
    for _ in range(100):
        world.write(Put(b"a", bytes(1_000)))
        world.storage_turn()
        world.watch_turn()
    assert 5_000 <= world.listeners[1].untaken <= 5_000 + 2_000
    assert world.watching._outbox.flight == world.listeners[1].untaken
    assert sum(len(stream.behind) for stream in world.watching._roster.streams.values()) == 1
    world.settle()
    (seen,) = world.listeners[1].watches.values()
    assert seen.count == 100


def test_a_slow_client_costs_the_others_nothing() -> None:
    world = WatchWorld(watch_window_bytes=5_000)
    world.watch(1, Watch(1, b"a"))
    world.watch(2, Watch(1, b"a"))
    world.settle()
    world.take(1)
    for _ in range(50):
        world.write(Put(b"a", bytes(1_000)))
        world.storage_turn()
        world.watch_turn()
        world.take(2)
    assert world.listeners[2].watches[1].count == 50
    assert world.listeners[1].watches[1].count < 10
    assert world.watching._asked is None, "nobody reads history for a client that takes nothing"


def test_a_full_window_owes_nothing_while_nothing_happens() -> None:
    """A client may be slow for hours if there is nothing it misses; it is told again as soon as it takes."""
    world = WatchWorld(watch_window_bytes=1_000)
    world.watch(1, Watch(1, b"a"))
    world.settle()
    world.write(Put(b"a", bytes(2_000)))
    world.settle(take=False)
    for _ in range(5):
        world.write(Put(b"else", b""))
        world.settle(take=False)
        world.watch_turn(after_ms=100_000)
    assert world.listeners[1].watches[1].ended is None
    world.take(1)
    world.write(Put(b"a", b""))
    world.settle(take=False)
    assert world.listeners[1].watches[1].count == 2


def test_who_is_owed_events_and_takes_none_for_too_long_loses_its_watches() -> None:
    """It is told from where to begin anew, without losing an event. Taking a little keeps it."""
    world = WatchWorld(watch_window_bytes=1_000, watch_silence_ms=60_000)
    world.watch(1, Watch(1, b"a"), Watch(2, b"b"), Watch(3, b"c", start_revision=50))
    world.settle()
    world.write(Put(b"a", bytes(2_000)), Put(b"a", bytes(2_000)))
    world.settle(take=False)
    world.write(Put(b"a", b"owed"))
    world.settle(take=False)
    world.watch_turn(after_ms=50_000)
    world.say(1, ClientKind.WATCH_CREDIT, 1)
    world.say(1, ClientKind.WATCH_CREDIT, 0)
    assert world.watch_actor.next_wakeup(world.now) == world.now + 60_000
    world.watch_turn(after_ms=59_999)
    listener = world.listeners[1]
    assert [seen.ended for seen in listener.watches.values()] == [None] * 3
    world.watch_turn(after_ms=1)
    assert [seen.ended for seen in listener.watches.values()] == [
        (SlowWatcher.code, 0, 3),
        (SlowWatcher.code, 0, 3),
        (SlowWatcher.code, 0, 50),
    ]
    assert world.watching.count == 0
    world.take(1)
    (again,) = world.watch(1, Watch(9, b"a", start_revision=3))
    world.settle()
    assert again.count == 2


def test_who_takes_a_part_and_then_nothing_is_as_slow() -> None:
    """Its window has room, but not enough to go on: without an end to it, it would be owed events for ever."""
    world = WatchWorld(watch_window_bytes=1_000, watch_silence_ms=60_000)
    (seen,) = world.watch(1, Watch(1, b"a"))
    world.settle()
    world.write(Put(b"a", bytes(1_000)), Put(b"a", b"owed"))
    world.settle(take=False)
    world.say(1, ClientKind.WATCH_CREDIT, 400)
    world.watch_turn(after_ms=60_000)
    assert seen.ended == (SlowWatcher.code, 0, 3)


def test_all_clients_together_have_a_bound_and_none_is_blamed_for_the_others() -> None:
    """Beyond it, each is sent one revision at a time; who takes all it is sent is not slow."""
    world = WatchWorld(watch_window_bytes=50_000, watch_flight_bytes_max=20_000)
    for stream in range(1, 11):
        world.watch(stream, Watch(1, b"a"))
    world.settle()
    for _ in range(20):
        world.write(Put(b"a", bytes(1_000)))
        world.storage_turn()
        world.watch_turn()
    assert world.watching._outbox.flight < 20_000 + 10 * 1_200
    for _ in range(3):
        for stream in range(2, 11):
            world.take(stream)
        world.storage_turn()
        world.watch_turn(after_ms=50_000)
    ended = [listener.watches[1].ended for listener in world.listeners.values()]
    assert ended[1:] == [None] * 9
    world.settle()
    world.check_all_told()


def test_who_has_nothing_in_flight_and_was_stopped_by_the_others_need_not_say_anything_to_go_on() -> None:
    world = WatchWorld(watch_window_bytes=1_000, watch_flight_bytes_max=2_000)
    world.watch(1, Watch(1, b"a"))
    world.watch(2, Watch(1, b"b"))
    world.settle()
    world.write(Put(b"b", bytes(9_000)), Put(b"a", b"owed"))
    world.settle(take=False)
    assert (world.listeners[1].watches[1].count, world.listeners[1].untaken) == (0, 0)
    world.take(2)
    world.settle(take=False)
    world.check_all_told()


def test_credit_for_more_than_was_sent_buys_nothing() -> None:
    world = WatchWorld(watch_window_bytes=1_000)
    world.watch(1, Watch(1, b"a"))
    world.settle()
    world.say(1, ClientKind.WATCH_CREDIT, 1 << 60)
    for _ in range(10):
        world.write(Put(b"a", bytes(900)))
        world.settle(take=False)
    assert world.listeners[1].watches[1].count <= 2


def test_a_revision_is_told_whole_though_the_window_fills_in_the_middle_of_it() -> None:
    """The window is overrun by one revision, and no revision is torn."""
    world = WatchWorld(watch_window_bytes=500)
    (seen,) = world.watch(1, Watch(1, b"", b"\0"))
    world.settle()
    world.write(Txn((), tuple((2, Put(b"%d" % number, bytes(400))) for number in range(4)), ()), Put(b"a", b""))
    world.settle(take=False)
    assert (seen.count, seen.told) == (4, 2)
    world.settle()
    world.check_all_told()


def test_a_stream_that_is_stopped_stops_for_watches_that_were_to_begin_behind_it_too() -> None:
    """One batch: the window is full after its first revision; another watch of the stream begins with its last."""
    world = WatchWorld(watch_window_bytes=500)
    world.watch(1, Watch(1, b"a"), Watch(2, b"b", start_revision=4))
    world.settle()
    both = Txn((), ((2, Put(b"a", b"3")), (2, Put(b"b", b"3"))), ())
    world.write(Put(b"a", bytes(600)), both, Put(b"b", b"4"), Put(b"b", b"5"))
    world.settle(take=False)
    assert [seen.count for seen in world.listeners[1].watches.values()] == [1, 0]
    world.settle()
    assert [seen.count for seen in world.listeners[1].watches.values()] == [2, 2]


# --- large answers -------------------------------------------------------------------------------------


def test_a_large_revision_is_cut_only_for_who_asked_for_fragments() -> None:
    world = WatchWorld(chunk_bytes=2_000)
    world.watch(1, Watch(1, b"", b"\0", fragment=True), Watch(2, b"", b"\0"))
    world.settle()
    world.write(Txn((), tuple((2, Put(b"%d" % number, bytes(900))) for number in range(7)), ()))
    world.settle()
    found = [(ids, kind) for ids, kind, _, _ in world.listeners[1].entries[1:]]
    assert found == [((1,), WatchKind.FRAGMENT)] * 3 + [((1,), WatchKind.EVENTS), ((2,), WatchKind.EVENTS)]
    assert max(len(body) for _, _, _, body in world.listeners[1].entries[1:5]) <= 2


def test_many_revisions_come_in_answers_of_bounded_size() -> None:
    """Cut between two revisions; each names the revision it brings the watch to."""
    world = WatchWorld(chunk_bytes=2_000)
    world.write(*(Put(b"a", bytes(900)) for _ in range(8)))
    world.watch(1, Watch(1, b"a", start_revision=1))
    world.settle()
    assert [(revision, len(some)) for _, revision, some in events(world)] == [(3, 2), (5, 2), (7, 2), (9, 2)]


# --- progress ------------------------------------------------------------------------------------------


def test_progress_is_told_when_nothing_else_was() -> None:
    world = WatchWorld(watch_progress_ms=1_000)
    world.watch(1, Watch(1, b"a", progress_notify=True), Watch(2, b"a"), Watch(3, b"b", progress_notify=True))
    world.settle()
    assert world.watch_actor.next_wakeup(world.now) == world.now + 1_000
    world.write(Put(b"a", b""))
    world.settle()
    world.watch_turn(after_ms=1_000)
    assert kinds(world)[2:] == [((3,), WatchKind.PROGRESS, 2)]
    world.watch_turn(after_ms=1_000)
    assert kinds(world)[3:] == [((1, 3), WatchKind.PROGRESS, 2)]
    for watch in (1, 3):
        world.say(1, ClientKind.UNWATCH, watch)
    assert world.watch_actor.next_wakeup(world.now) is None


def test_progress_asked_for_is_told_once_nothing_older_is_owed() -> None:
    """Not while a watch still reads history; for all watches of the stream at once, id 0."""
    world = WatchWorld(history_bytes=1)
    world.write(*(Put(b"a", b"%d" % number) for number in range(5)))
    world.watch(1, Watch(1, b"a", start_revision=1), Watch(2, b"b"))
    world.settle()
    world.watch(1, Watch(3, b"a", start_revision=3))
    world.say(1, ClientKind.WATCH_PROGRESS)
    world.say(1, ClientKind.WATCH_PROGRESS)
    assert kinds(world)[-1][1] != WatchKind.PROGRESS
    world.settle()
    assert [entry for entry in kinds(world) if entry[1] == WatchKind.PROGRESS] == [((0,), WatchKind.PROGRESS, 6)]
    assert kinds(world)[-1][1] == WatchKind.PROGRESS
    world.say(1, ClientKind.WATCH_PROGRESS)
    assert kinds(world)[-1] == ((0,), WatchKind.PROGRESS, 6)


def test_progress_of_nothing_is_where_the_store_is() -> None:
    world = WatchWorld()
    world.write(Put(b"a", b""))
    world.watch(1)
    world.say(1, ClientKind.WATCH_PROGRESS)
    assert kinds(world) == []
    world.settle()
    assert kinds(world) == [((0,), WatchKind.PROGRESS, 2)]
