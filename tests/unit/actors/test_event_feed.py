"""What storage tells the watch actor: the storage actor without its sockets, turn by turn."""

from __future__ import annotations

import pytest

from tests.unit.actors.test_storage_actor import House
from zkv.actors.storage_actor import SAY_LITTLE_MS, SAY_MS
from zkv.core.mvcc.history import STEP_EVENTS
from zkv.wire import messages as m


@pytest.fixture
def house() -> House:
    """Storage has just started, and told where it is."""
    house = House(flush_bytes=1 << 30)
    house.hear()
    house.hear(after_ms=SAY_MS)
    return house


def told(house: House) -> list[tuple[int, int, list[int], bool]]:
    """(since, revision, revisions with events, at once) of each word to the watch actor."""
    return [
        (applied.since, applied.revision, [revision for revision, _ in applied.events], applied.at_once)
        for applied in house.take("watch", m.Applied)
    ]


def test_while_nobody_watches_it_tells_now_and_then_where_it_is(house: House) -> None:
    """No events, and one word for all that happened meanwhile."""
    assert told(house) == [(1, 1, [], False)]
    house.write(m.Put(b"a", b""))
    house.write(m.Put(b"a", b""))
    assert told(house) == []
    house.hear(after_ms=SAY_LITTLE_MS)
    assert told(house) == [(3, 3, [], False)]
    house.hear(after_ms=SAY_LITTLE_MS)
    assert told(house) == []


def test_events_leave_at_once_and_before_the_answers(house: House) -> None:
    """So who is answered, and then begins to watch, is not told of what he did."""
    house.hear(m.WatchNeeds(True, True))
    house.posted.clear()
    house.write(m.Put(b"a", b"1"), m.Put(b"a", b"2"))
    assert [to for to, _ in house.posted][:2] == ["watch", "gateway"]
    (applied,) = house.take("watch", m.Applied)
    assert (applied.since, applied.revision, applied.prev_kv) == (1, 3, True)
    assert [[event.prev_kv and event.prev_kv.value for event in events] for _, events in applied.events] == [
        [None],
        [b"1"],
    ]


def test_it_says_where_it_is_when_events_are_asked_for(house: House) -> None:
    """From there on they are told; what was before is for history. Asked again for the same, it says nothing."""
    house.write(m.Put(b"a", b""))
    told(house)
    house.hear(m.WatchNeeds(True, False))
    assert told(house) == [(2, 2, [], True)]
    house.hear(m.WatchNeeds(True, False, 3))
    assert told(house) == []


def test_that_events_are_told_is_not_lost_to_a_full_queue(house: House) -> None:
    """Watches wait for that word: though nothing else happens, it is said again."""
    house.hear(after_ms=SAY_LITTLE_MS)
    house.write(m.Put(b"a", b""))
    house.hear(after_ms=SAY_LITTLE_MS)
    house.posted.clear()
    house.full.add("watch")
    house.hear(m.WatchNeeds(True, False))
    house.full.clear()
    assert told(house) == []
    for _ in range(3):
        wakeup = house.actor.next_wakeup(house.now)
        if wakeup is not None:
            house.hear(after_ms=wakeup - house.now)
    assert told(house) == [(2, 2, [], True)]


def test_what_the_watch_actor_has_worked_off_is_no_cause_to_look_after_all_else(house: House) -> None:
    """It says so again and again where there is one event after the other."""
    house.hear(m.WatchNeeds(True, False))
    house.write(m.Put(b"a", b""))
    wakeup = house.actor.next_wakeup(house.now)
    house.posted.clear()
    house.hear(m.WatchNeeds(True, False, 1), after_ms=1)
    assert house.posted == []
    assert house.actor.next_wakeup(house.now) == wakeup


def test_a_new_watch_actor_has_no_needs_yet(house: House) -> None:
    house.hear(m.WatchNeeds(True, True))
    house.hear(m.Hello("watch", 9))
    told(house)
    house.write(m.Put(b"a", b""))
    assert told(house) == []
    house.hear(after_ms=SAY_LITTLE_MS)
    assert told(house) == [(2, 2, [], False)]


def test_history_is_read_between_other_work(house: House) -> None:
    """A long slice takes many turns, and a write that comes meanwhile is applied in the next one."""
    house.write(*(m.Put(b"%d" % number, b"") for number in range(1000)))
    house.write(*(m.Put(b"%d" % number, b"") for number in range(1000)))
    house.hear(m.HistoryWanted(7, 2, 1 << 20, True))
    assert house.take("watch", m.History) == []
    assert house.actor.next_wakeup(house.now) == house.now
    house.write(m.Put(b"a", b""))
    assert house.answers()
    turns = 0
    while not (slices := house.take("watch", m.History)):
        house.hear()
        turns += 1
    assert turns + 2 >= 2000 // STEP_EVENTS
    assert [(each.ticket, each.first, each.upto, len(each.events)) for each in slices] == [(7, 2, 2001, 2000)]
    assert house.actor.next_wakeup(house.now) != house.now


def test_a_slice_is_not_lost_to_a_full_queue(house: House) -> None:
    house.write(m.Put(b"a", b""))
    house.full.add("watch")
    house.hear(m.HistoryWanted(1, 2, 100, False))
    for _ in range(5):
        house.hear()
    assert house.actor.next_wakeup(house.now) == house.now + SAY_MS
    house.full.clear()
    house.hear(after_ms=SAY_MS)
    assert [each.upto for each in house.take("watch", m.History)] == [2]


def test_history_beyond_the_store_waits_until_it_is_there(house: House) -> None:
    """It was asked of the process before, which was further; this one is fed again. It does not spin meanwhile."""
    house.hear(m.HistoryWanted(1, 3, 100, False))
    house.hear()
    assert house.actor.next_wakeup(house.now) != house.now
    house.write(m.Put(b"a", b""))
    assert house.take("watch", m.History) == []
    house.write(m.Put(b"a", b""))
    for _ in range(3):
        house.hear()
    assert [(each.first, each.upto) for each in house.take("watch", m.History)] == [(3, 3)]
