"""Claims about watches when something goes wrong, or is many: as test_watching.py."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from tests.harness.watch_world import WatchWorld, events, kinds
from zkv.actors.event_feed import WINDOW
from zkv.core.watch.watching import LINGER_MS
from zkv.errors import Compacted
from zkv.wire import messages as m
from zkv.wire.messages import ClientKind, Compact, DeleteRange, Put, Watch, WatchKind


@pytest.fixture
def world() -> WatchWorld:
    world = WatchWorld()
    world.settle()
    return world


# --- what goes wrong -----------------------------------------------------------------------------------


def test_a_compacted_start_is_told_with_the_revision_to_begin_from(world: WatchWorld) -> None:
    """From there on nothing is missing, deletes of that very revision included."""
    world.write(Put(b"a", b"1"), Put(b"a", b"2"), DeleteRange(b"a"), Compact(4))
    while world.store.compaction_step():
        pass
    (seen,) = world.watch(1, Watch(1, b"a", start_revision=2))
    world.settle()
    assert seen.ended == (Compacted.code, 4, 0)
    assert kinds(world) == [((1,), WatchKind.CREATED, 4), ((1,), WatchKind.CANCELLED, 4)]
    world.watch(1, Watch(2, b"a", start_revision=4))
    world.settle()
    assert events(world) == [((2,), 4, [("-", b"a", 4)])]


@pytest.mark.parametrize("start", [-1, -2])
def test_a_negative_start_is_what_etcd_makes_of_it(world: WatchWorld, start: int) -> None:
    """-1: nothing of the past, while nothing is compacted; less: compacted, as of revision -1. Seen of etcd 3.5.1."""
    world.write(Put(b"a", b""))
    (seen,) = world.watch(1, Watch(1, b"a", start_revision=start))
    world.settle()
    assert (seen.ended, events(world)) == (None if start == -1 else (Compacted.code, -1, 0), [])


def test_what_storage_did_not_tell_is_read_as_history(world: WatchWorld) -> None:
    """The actor's queue was full for a while: it learns that something is missing, and asks for it."""
    world.watch(1, Watch(1, b"a", prev_kv=True))
    world.settle()
    world.full.add("watch")
    world.write(Put(b"a", b"1"))
    world.write(Put(b"a", b"2"))
    world.full.clear()
    world.write(Put(b"a", b"3"))
    world.settle()
    assert world.listeners[1].watches[1].count == 3
    world.check_all_told()


def test_a_busy_watch_actor_is_sent_a_window_of_batches_and_then_larger_ones(world: WatchWorld) -> None:
    """What happens meanwhile gathers; nothing is lost, and nothing need be read again."""
    world.watch(1, Watch(1, b"a"))
    world.settle()
    sent = 0
    for _ in range(5 * WINDOW):
        world.write(Put(b"a", b""))
        while world.to_watch:
            world.to_watch.popleft()
            sent += 1
    assert sent == WINDOW
    assert len(world.feed._events) == 4 * WINDOW


def test_what_gathers_has_a_bound() -> None:
    """Beyond it the events are dropped, to be read as history."""
    world = WatchWorld(feed_bytes_max=10_000)
    world.watch(1, Watch(1, b"a"))
    world.settle()
    under_way: list[Any] = []
    for _ in range(100):
        world.write(Put(b"a", bytes(1000)))
        under_way += world.to_watch
        world.to_watch.clear()
        assert len(world.feed._events) <= 10
    assert len(under_way) == WINDOW
    world.to_watch.extend(under_way)
    world.settle()
    assert world.listeners[1].watches[1].count == 100


def test_what_gathered_for_other_needs_is_read_again() -> None:
    """It does not hold what was superseded, and must not look as if there had been nothing."""
    world = WatchWorld()
    world.watch(1, Watch(1, b"a"))
    world.settle()
    under_way: list[Any] = []
    for number in range(WINDOW + 3):
        world.write(Put(b"a", b"%d" % number))
        under_way += world.to_watch
        world.to_watch.clear()
    assert len(world.feed._events) == 3
    world.to_watch.extend(under_way)  # worked off in the same turn in which prev_kv is wanted for the first time
    (seen,) = world.watch(1, Watch(2, b"a", prev_kv=True))
    world.settle()
    world.check_all_told()
    assert seen.count == 3


def test_a_question_that_found_no_room_is_put_again(world: WatchWorld) -> None:
    world.write(Put(b"a", b""))
    world.watch(1, Watch(1, b"b"))
    world.settle()
    world.full.add("storage")
    (seen,) = world.watch(1, Watch(2, b"a", start_revision=1))
    assert world.watch_actor.next_wakeup(world.now) == world.now + 20
    world.settle()
    assert seen.count == 1


def test_storage_that_restarts_tells_again_and_nobody_hears_twice(world: WatchWorld) -> None:
    """It lost what was not flushed, and is fed the same entries again."""
    world.watch(1, Watch(1, b"a"))
    world.settle()
    world.write(Put(b"a", b"1"))
    assert hasattr(world.store.engine, "power_loss")
    world.store.engine.flush()
    world.write(Put(b"a", b"2"))
    world.write(Put(b"a", b"3"))
    world.settle()
    world.restart_storage(world.store.engine.power_loss())
    world.watch(1, Watch(2, b"a", start_revision=3))
    world.settle()
    world.feed_again()
    world.settle()
    world.write(Put(b"a", b"4"))
    world.settle()
    assert [seen.count for seen in world.listeners[1].watches.values()] == [4, 3]
    world.check_all_told()


def test_nobody_pays_while_nobody_watches(world: WatchWorld) -> None:
    """Events are gathered, and what they superseded is looked at, only while somebody wants it, and a moment longer."""
    store = world.store.store
    assert (store.want_events, store.want_prev_kv) == (False, False)
    world.watch(1, Watch(1, b"a"), Watch(2, b"a", prev_kv=True))
    world.settle()
    assert (store.want_events, store.want_prev_kv) == (True, True)
    world.say(1, ClientKind.UNWATCH, 2)
    world.watch_turn(after_ms=LINGER_MS)
    world.settle()
    assert (store.want_events, store.want_prev_kv) == (True, False)
    world.say(1, ClientKind.UNWATCH, 1)
    world.settle()
    assert store.want_events, "the next watch may come at once"
    assert world.watch_actor.next_wakeup(world.now) == world.now + LINGER_MS
    world.watch_turn(after_ms=LINGER_MS)
    world.settle()
    assert (store.want_events, store.want_prev_kv) == (False, False)
    world.write(Put(b"a", b""))
    assert world.feed._events == []


def test_the_first_watch_that_wants_prev_kv_gets_it_from_the_first_event_on(world: WatchWorld) -> None:
    """Events that storage gathered before it knew are read again, with what they superseded."""
    world.watch(1, Watch(1, b"a"))
    world.settle()
    world.write(Put(b"a", b"1"))
    world.watch(1, Watch(2, b"a", prev_kv=True))
    world.write(Put(b"a", b"2"))
    world.settle()
    last = world.listeners[1].watches[2]
    assert last.told == 3
    world.check_all_told()


def test_a_watch_to_come_that_wants_prev_kv_gets_it_from_its_first_event_on(world: WatchWorld) -> None:
    """The batch it begins in was gathered before storage knew."""
    world.write(Put(b"a", b"1"))
    world.watch(1, Watch(1, b"b"))
    world.settle()
    world.watch(1, Watch(2, b"a", b"", 4, True))
    world.write(Put(b"a", b"2"), Put(b"a", b"3"))
    assert not world.to_watch[0].prev_kv
    world.settle()
    assert world.listeners[1].watches[2].count == 1


def test_what_is_told_again_together_with_what_is_new_is_told_once(world: WatchWorld) -> None:
    """Storage has restarted, and tells in one batch what it had told before it died and what came after."""
    world.watch(1, Watch(1, b"a"))
    world.settle()
    world.write(Put(b"a", b"1"))
    told = world.to_watch[-1]
    world.settle()
    world.write(Put(b"a", b"2"))
    new = world.to_watch.pop()
    world.watch_turn(m.Applied(3, (*told.events, *new.events), 1, 1, True, True))
    assert world.listeners[1].watches[1].count == 2


def test_a_slice_that_reaches_beyond_what_was_told_leaves_nobody_behind_or_twice_told(world: WatchWorld) -> None:
    """The word of the new revision found no room, and the slice did."""
    world.write(Put(b"a", b"1"))
    world.watch(1, Watch(1, b"b"))
    world.settle()
    world.watch(1, Watch(2, b"a", start_revision=1), Watch(3, b"a"))
    world.full.add("watch")
    world.write(Put(b"a", b"2"))
    world.full.clear()
    wanted = world.to_storage.popleft()
    world.feed.want(wanted)
    for _ in range(3):
        world.feed.step()
    world.watch_turn()
    world.settle()
    world.write(Put(b"a", b"3"))
    world.settle()
    assert [seen.count for seen in world.listeners[1].watches.values()] == [0, 3, 2]


def test_only_who_begins_before_the_compacted_revision_is_told_so(world: WatchWorld) -> None:
    """Who waits for history beside it, from that very revision on, gets all."""
    world.write(Put(b"a", b"1"), Put(b"a", b"2"), Put(b"a", b"3"), Compact(3))
    early, there = world.watch(1, Watch(1, b"a", start_revision=2), Watch(2, b"a", start_revision=3))
    world.settle()
    assert (early.ended, there.ended, there.count) == ((Compacted.code, 3, 0), None, 2)


def test_a_question_dies_with_the_storage_it_was_put_to(world: WatchWorld) -> None:
    """It is put to the next one, and an answer that comes late is not taken for another's."""
    world.write(Put(b"a", b"1"))
    (seen,) = world.watch(1, Watch(1, b"a", start_revision=1))
    world.settle(take=False)
    world.watch(1, Watch(2, b"a", start_revision=2))
    world.restart_storage()
    world.watch_turn()
    while world.watching._asked is None:
        world.storage_turn()
        world.watch_turn()
    wrong = m.Event(False, m.KeyValue(b"a", 2, 2, 1, b"wrong", 0), None)
    world.watch_turn(m.History(world.watching._asked.ticket - 1, 2, 2, ((2, (wrong,)),)))
    world.settle()
    world.check_all_told()
    assert seen.count == 1


def test_a_full_gateway_is_told_later(world: WatchWorld) -> None:
    world.watch(1, Watch(1, b"a"))
    world.settle()
    world.full.add("gateway")
    world.write(Put(b"a", b"1"))
    world.storage_turn()
    world.watch_turn()
    world.write(Put(b"a", b"2"))
    world.storage_turn()
    world.watch_turn()
    wakeup = world.watch_actor.next_wakeup(world.now)
    assert wakeup is not None
    assert world.now < wakeup <= world.now + 20
    world.full.clear()
    world.watch_turn(after_ms=20)
    assert world.listeners[1].watches[1].count == 2


# --- many ------------------------------------------------------------------------------------------------


def test_thousands_of_watches_leave_nothing_behind() -> None:
    """Created, told, ended in every way there is: nothing of them is kept."""
    world = WatchWorld()
    world.settle()
    for stream in range(1, 6):
        wanted: list[Any] = []
        for number in range(1, 601):
            key = b"k%d" % (number % 200)
            end = (b"", b"\0", b"l%d" % number)[number % 3]
            wanted.append(Watch(number, key, end, number % 4, *((number >> bit) & 1 == 1 for bit in range(5))))
        world.watch(stream, *wanted)
        world.settle()
        world.write(*(Put(b"k%d" % number, b"") for number in range(20)))
        world.settle()
    for watch in range(1, 601):
        world.say(1, ClientKind.UNWATCH, watch)
    world.settle()
    world.check_all_told()
    for stream in range(2, 6):
        world.end(stream)
    world.settle()
    assert not any(world.kept())
    assert world.watching._roster.index._keys == {}


def test_thousands_that_catch_up_from_everywhere_become_one_cohort() -> None:
    """Each holds a place of its own at first; slices bring them together."""
    world = WatchWorld(history_bytes=20_000)
    world.write(*(Put(b"k%d" % (number % 50), bytes(50)) for number in range(1000)))
    world.settle()
    for stream in (1, 2):
        world.watch(stream, *(Watch(at, b"k%d" % (at % 50), b"", at) for at in range(2, 1000)))
    world.settle()
    world.check_all_told()
    streams = world.watching._roster.streams.values()
    assert [(stream.behind, len(stream.live.parties)) for stream in streams] == [({}, 50)] * 2


def test_catching_up_is_fair() -> None:
    """Who is a little behind does not wait for who begins at the beginning."""
    world = WatchWorld(history_bytes=1)
    world.write(*(Put(b"a", b"") for _ in range(200)))
    world.watch(1, Watch(1, b"a", start_revision=1))
    world.watch(2, Watch(1, b"a", start_revision=199))
    one, other = world.listeners[1].watches[1], world.listeners[2].watches[1]
    for turn in itertools.count():
        assert turn < 60
        world.storage_turn()
        world.watch_turn()
        if other.told == 201:
            break
    assert one.told is not None
    assert one.told < 50


# --- found by chance, kept as claims ------------------------------------------------------------------------


def test_a_client_that_was_told_more_elsewhere_is_not_told_that_its_place_is_compacted() -> None:
    """It comes from a member that is further on; what this one has still to learn before does not concern it."""
    world = WatchWorld()
    world.write(Put(b"a", b"1"))
    (seen,) = world.watch(1, Watch(1, b"a", start_revision=5, prev_kv=True))
    world.settle()
    world.full.add("watch")  # the member is given a snapshot, or storage was not heard for a while
    world.write(*(Put(b"a", b"%d" % number) for number in range(2, 8)), Compact(5))
    world.settle()
    assert (seen.ended, seen.count) == (None, 4)
    world.check_all_told()


def test_a_slice_asked_for_is_read_from_the_store_that_took_the_place_of_the_old() -> None:
    """A snapshot came while it was read; the watch actor, which waits for it, is not left waiting."""
    world = WatchWorld(history_bytes=1)
    world.write(Put(b"a", b"1"), Put(b"a", b"2"))
    world.watch(1, Watch(1, b"a", start_revision=1))
    world.storage_turn()
    world.watch_turn()
    assert world.to_storage, "it has asked"
    world.feed.want(world.to_storage.pop())
    world.feed.serve(world.store)
    world.settle()
    assert world.listeners[1].watches[1].count == 2


def test_who_was_stopped_by_its_own_window_and_then_by_all_the_others_goes_on_when_there_is_room() -> None:
    """It has taken all it was sent while the others had not; nobody else tells it when they have."""
    world = WatchWorld(watch_window_bytes=1_000, watch_flight_bytes_max=2_000)
    world.watch(1, Watch(1, b"a"))
    world.watch(2, Watch(1, b"b"))
    world.settle()
    world.write(Put(b"a", bytes(1_500)), Put(b"a", b"owed"), Put(b"b", bytes(9_000)))
    world.settle(take=False)
    world.take(1)
    world.watch_turn(after_ms=world.limits.watch_silence_ms + 1)
    first = world.listeners[1].watches[1]
    assert (first.count, first.ended) == (1, None), "it is not the one that takes nothing"
    world.take(2)
    world.settle(take=False)
    world.check_all_told()
