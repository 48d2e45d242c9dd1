"""History, read again: what was told when it happened, in whole revisions and bounded steps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.kv_log import Feeder, entry, group, machine
from zkv.core.mvcc import history
from zkv.core.mvcc.history import STEP_EVENTS
from zkv.wire.messages import Compact, DeleteRange, Event, History, HistoryWanted, Put, Range, Txn

if TYPE_CHECKING:
    from zkv.core.mvcc.machine import StateMachine

KEYS = st.sampled_from([b"a", b"b", b"c"])
WRITES = st.one_of(
    st.tuples(KEYS, st.binary(max_size=3)).map(lambda fields: Put(*fields)),  # builds would make up the other fields
    st.tuples(KEYS, st.sampled_from([b"", b"\0"])).map(lambda fields: DeleteRange(*fields)),
    st.builds(lambda a, b: Txn((), ((2, Put(b"a", a)), (2, Put(b"b", b))), ()), st.binary(max_size=3), st.binary()),
)


def read(store: StateMachine, wanted: HistoryWanted) -> tuple[History, int]:
    """The slice, and in how many steps."""
    steps = list(history.read(store.engine.snapshot(), wanted, store.revision, store.store.compacted))
    assert steps[-1] is not None
    assert steps[:-1] == [None] * (len(steps) - 1)
    return steps[-1], len(steps)


def whole(store: StateMachine, first: int, *, bytes_max: int, prev_kv: bool) -> list[Any]:
    """All from `first` on, slice by slice."""
    found: list[Any] = []
    while first <= store.revision:
        part, _ = read(store, HistoryWanted(1, first, bytes_max, prev_kv))
        assert part.upto >= first
        found += part.events
        first = part.upto + 1
    return found


@given(st.lists(WRITES, min_size=1, max_size=20), st.integers(1, 400), st.booleans(), st.integers(0, 25))
@settings(max_examples=80, deadline=None)
def test_history_is_what_was_told_live(writes: list[Any], bytes_max: int, prev_kv: bool, first: int) -> None:
    """Slices of any size, put together, are the events of the live feed from the revision asked for on."""
    store = machine(want_events=True, want_prev_kv=prev_kv)
    told: list[tuple[int, tuple[Event, ...]]] = []
    for index, write in enumerate(writes, 1):
        told += store.apply([entry(index, group(write))], 1).events
    expected = [each for each in told if each[0] >= first]
    assert whole(store, first, bytes_max=bytes_max, prev_kv=prev_kv) == expected


def test_a_slice_holds_whole_revisions_and_one_at_least() -> None:
    """However small the bound is: a revision is never told in parts."""
    feeder = Feeder()
    feeder.ask(Put(b"a", b"1"), Txn((), ((2, Put(b"b", bytes(500))), (2, Put(b"c", bytes(500)))), ()), Put(b"d", b""))
    part, _ = read(feeder.machine, HistoryWanted(1, 3, 100, False))
    assert (part.first, part.upto, [(at, len(events)) for at, events in part.events]) == (3, 3, [(3, 2)])


def test_it_is_read_in_bounded_steps() -> None:
    """A revision that deletes thousands of keys does not hold up the writes that come meanwhile."""
    feeder = Feeder()
    feeder.ask(*(Put(b"%05d" % number, b"") for number in range(1000)))
    feeder.ask(*(Put(b"%05d" % number, b"") for number in range(1000, 2000)), DeleteRange(b"", b"\0"))
    part, steps = read(feeder.machine, HistoryWanted(1, 2002, 1, True))
    assert steps > 2000 // STEP_EVENTS
    assert len(part.events[0][1]) == 2000
    assert all(event.prev_kv is not None for event in part.events[0][1])


@pytest.mark.parametrize("physically", [False, True])
def test_what_is_compacted_is_refused_and_the_rest_is_whole(physically: bool) -> None:
    """From the compacted revision on everything is told, deletes too; what its own events superseded nobody knows.

    And it makes no difference whether the records are gone already.
    """
    feeder = Feeder()
    feeder.ask(Put(b"a", b"1"), Put(b"b", b"1"), DeleteRange(b"a"), Put(b"b", b"2"), Compact(4))
    while physically and feeder.machine.compaction_step():
        pass
    refused, _ = read(feeder.machine, HistoryWanted(1, 3, 1 << 20, True))
    assert (refused.compacted, refused.events) == (4, ())
    part, _ = read(feeder.machine, HistoryWanted(1, 4, 1 << 20, True))
    seen = [(at, event.deleted, event.kv.key, event.prev_kv and event.prev_kv.value) for at, (event,) in part.events]
    assert seen == [(4, True, b"a", None), (5, False, b"b", b"1")]
    assert feeder.read(Range(b"a", revision=4)) == ((), False, 0)


def test_a_slice_stands_still_while_compaction_goes_on() -> None:
    """It is read from a snapshot: what is compacted between two of its steps is told whole, or not begun."""
    feeder = Feeder()
    feeder.ask(*(Put(b"a", b"%d" % number) for number in range(1000)))
    store = feeder.machine
    steps = history.read(store.engine.snapshot(), HistoryWanted(1, 2, 1 << 20, True), store.revision, -1)
    assert next(steps) is None
    feeder.ask(Compact(1001))
    while store.compaction_step():
        pass
    *_, part = steps
    assert part is not None
    assert [(at, event.prev_kv and event.prev_kv.mod_revision) for at, (event,) in part.events] == [
        (at, at - 1 if at > 2 else None) for at in range(2, 1002)
    ]


def test_negative_revisions_are_what_etcd_makes_of_them() -> None:
    """Below -1: compacted, as of -1. -1 itself, while nothing is compacted: nothing is found."""
    feeder = Feeder()
    feeder.ask(Put(b"a", b""))
    assert read(feeder.machine, HistoryWanted(1, -2, 1, False))[0].compacted == -1
    assert read(feeder.machine, HistoryWanted(1, -1, 1, False))[0] == History(1, -1, 2, ())
