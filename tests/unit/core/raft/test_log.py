"""The log's port, on its twins in memory; and what the one that crashes loses."""

from __future__ import annotations

import random

import pytest

from tests.harness.raft_cores import BYTES_UNBOUNDED, entries, terms
from tests.harness.raft_disk import FaultyLog
from zkv.core.raft.log import LogCompacted, MemoryLog
from zkv.wire.messages import ConfState, HardState, SnapshotMeta

CONF = ConfState((1, 2, 3))


@pytest.fixture(params=[MemoryLog, FaultyLog])
def log(request: pytest.FixtureRequest) -> MemoryLog:
    made = request.param(CONF)
    assert isinstance(made, MemoryLog)
    made.append(entries(1, 1, 2, 3))
    return made


def test_entries_come_back_by_index(log: MemoryLog) -> None:
    """Entries low <= index < high."""
    assert (log.first_index, log.last_index) == (1, 4)
    assert log.entries(2, 4, BYTES_UNBOUNDED) == entries(1, 2, first=2)
    assert log.entries(5, 9, BYTES_UNBOUNDED) == []


@pytest.mark.parametrize(("bytes_max", "count"), [(0, 1), (1, 1), (2, 2), (3, 3), (99, 4)])
def test_a_byte_bound_lets_one_entry_through_at_least(log: MemoryLog, bytes_max: int, count: int) -> None:
    """An entry larger than the bound must not stop replication."""
    assert len(log.entries(1, 5, bytes_max)) == count


def test_an_append_cuts_off_what_stood_there(log: MemoryLog) -> None:
    """Raft 5.3: the conflicting entry and all that follow it are deleted."""
    log.append(entries(4, first=3))
    assert terms(log) == [1, 1, 4]


def test_compaction_moves_the_base(log: MemoryLog) -> None:
    """Raft 7: the last included index and term stay known."""
    log.compact(3)
    assert (log.first_index, log.last_index, log.base.index, log.base.term, log.term(3)) == (4, 4, 3, 2, 2)
    with pytest.raises(LogCompacted):
        log.term(2)
    with pytest.raises(LogCompacted):
        log.entries(3, 5, BYTES_UNBOUNDED)
    with pytest.raises(IndexError):
        log.term(5)


def test_a_snapshot_replaces_the_log(log: MemoryLog) -> None:
    """Raft 7: the follower discards its entire log."""
    meta = SnapshotMeta(9, 5, 77, ConfState((1, 2), index=8))
    log.reset(meta)
    assert (log.first_index, log.last_index, log.base, log.conf) == (10, 9, meta, meta.conf)


def test_a_crash_loses_a_tail_of_what_was_not_synced_and_nothing_else() -> None:
    """What survives is a prefix of the calls since the last sync, the last one perhaps in part."""
    outcomes = set()
    for seed in range(200):
        log = FaultyLog(CONF)
        log.append(entries(1, 1))
        log.sync()
        log.append(entries(2, 2, first=3))
        log.set_hard_state(HardState(2, 3, 1))
        log.append(entries(3, first=4))
        log.crash(random.Random(seed))
        outcomes.add((tuple(terms(log)), log.hard_state.term))
    assert outcomes == {((1, 1), 0), ((1, 1, 2), 0), ((1, 1, 2, 2), 0), ((1, 1, 2, 2), 2), ((1, 1, 2, 3), 2)}
