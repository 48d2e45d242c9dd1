"""A follower whose next entries are gone from the log gets the state itself (Raft section 7)."""

from __future__ import annotations

from tests.harness.raft_cores import Cores, conf_of, core_of, log_of, message, sent
from zkv.core.raft.log import MemoryLog
from zkv.core.raft.raft import Raft, Role
from zkv.wire import codec
from zkv.wire.messages import (
    ConfChange,
    ConfChangeKind,
    Entry,
    EntryKind,
    HardState,
    MessageKind,
    SnapshotMeta,
)


def behind_a_compacted_log() -> Cores:
    """Member 1 leads and has forgotten entries that 3 does not hold."""
    cores = Cores(3)
    leader = cores.elect(1)
    cores.cut = {3}
    leader.propose([b"x"] * 9, cores.now)
    cores.deliver()
    leader.compact(8)
    cores.cut = set()
    cores.run(200)
    return cores


def test_who_needs_entries_that_are_gone_is_sent_a_snapshot() -> None:
    """Raft 7: the leader sends snapshots to followers that lag behind - and asks for it once."""
    cores = behind_a_compacted_log()
    cores.run(500)
    assert cores.snapshots_wanted == [3]


def test_after_a_snapshot_the_log_goes_on_behind_it() -> None:
    """Raft 7; the follower's answer tells the leader where."""
    cores = behind_a_compacted_log()
    meta = SnapshotMeta(9, 1, 0, cores.conf)
    cores.cores[3].restore(meta)
    cores.deliver()
    assert cores.logs[3].base == meta
    assert cores.commits() == [10, 10, 10]


def test_a_snapshot_that_did_not_arrive_is_sent_again() -> None:
    """The stream broke: the leader asks the follower where it is, and finds that it still needs one."""
    cores = behind_a_compacted_log()
    cores.cores[1].report_snapshot(3)
    cores.run(300)
    assert cores.snapshots_wanted == [3, 3]


def test_nobody_streams_to_a_follower_that_is_away() -> None:
    """It would be for nothing; heartbeats show when it is back."""
    cores = Cores(3)
    leader = cores.elect(1)
    cores.cut = {3}
    cores.run(1_500)
    leader.propose([b"x"] * 9, cores.now)
    cores.deliver()
    leader.compact(8)
    cores.run(1_000)
    assert cores.snapshots_wanted == []
    cores.cut = set()
    cores.run(300)
    assert cores.snapshots_wanted == [3]


def test_heartbeats_go_on_while_a_snapshot_is_sent() -> None:
    """Or the follower would stand for election in the middle of it."""
    cores = behind_a_compacted_log()
    cores.run(5_000)
    assert {core.leader for core in cores.cores.values()} == {1}


def test_a_snapshot_of_the_past_changes_nothing() -> None:
    """It arrived late or twice; the state must not go backwards."""
    log = log_of(1, 1, 1, conf=conf_of(3), hard_state=HardState(1, 0, 3))
    core = core_of(log)
    core.restore(SnapshotMeta(2, 1, 0, conf_of(3)))
    assert (core.commit, log.last_index) == (3, 3)


def test_a_snapshot_the_log_agrees_with_keeps_what_follows() -> None:
    """Raft 7: entries following the snapshot are retained: they may be on this disk as part of a quorum."""
    log = log_of(1, 1, 1, conf=conf_of(3), hard_state=HardState(1, 0, 0))
    core = core_of(log)
    core.restore(SnapshotMeta(2, 1, 0, conf_of(3)))
    assert (core.commit, log.last_index) == (2, 3)


def test_a_snapshot_the_log_contradicts_replaces_it() -> None:
    """Raft 7: the follower discards its entire log."""
    log = log_of(1, 1, 1, conf=conf_of(3), hard_state=HardState(2, 0, 0))
    core = core_of(log)
    meta = SnapshotMeta(2, 2, 0, conf_of(4)._replace(index=2))
    core.restore(meta)
    assert (log.base, log.last_index, core.commit, core.conf) == (meta, 2, 2, meta.conf)


def test_a_member_started_with_its_state_ahead_of_its_log_goes_on_from_the_state() -> None:
    """It went down after the snapshot was installed and before the log knew."""
    log = MemoryLog(conf_of(3))
    core = core_of(log)
    core.restore(SnapshotMeta(5, 2, 0, conf_of(3)))
    core.step(message(MessageKind.APPEND, 2, index=5, log_term=2), 0)
    assert [(answer.index, answer.reject) for answer in sent(core)] == [(5, False)]


def leading_before_it_knows_of(kind: ConfChangeKind, *, voters: int) -> Raft:
    """Member 1 leads; in its log, and committed by now, which it does not know, `kind` is done to member 4.

    A snapshot was under way to it when its log came from another leader, and then it was elected.
    """
    log = log_of(1, conf=conf_of(voters))
    log.append([Entry(2, 1, EntryKind.CONF_CHANGE, 0, codec.pack(ConfChange(((kind, 4, ()),))))])
    core = core_of(log)
    core.step(message(MessageKind.TIMEOUT_NOW, 1), 0)
    sent(core)
    for member in (2, 3):
        core.step(message(MessageKind.VOTE_ANSWER, 2, member), 0)
    sent(core)
    core.step(message(MessageKind.APPEND_ANSWER, 2, 3), 0)
    assert (core.role, core.commit) == (Role.LEADER, 0)
    return core


def test_a_leader_learns_of_a_new_member_by_a_snapshot_that_was_under_way() -> None:
    core = leading_before_it_knows_of(ConfChangeKind.ADD_VOTER, voters=3)
    core.restore(SnapshotMeta(2, 1, 0, conf_of(4)._replace(index=2)))
    assert 4 in {one.to for one in sent(core) if one.kind == MessageKind.APPEND}
    for member in (2, 4):
        core.step(message(MessageKind.APPEND_ANSWER, 2, member, index=3), 0)
    sent(core)
    assert core.commit == 3


def test_what_is_enough_for_fewer_voters_is_committed_once_a_snapshot_has_told_of_them() -> None:
    core = leading_before_it_knows_of(ConfChangeKind.REMOVE, voters=4)
    core.step(message(MessageKind.APPEND_ANSWER, 2, 2, index=3), 0)
    sent(core)
    assert core.commit == 0
    core.restore(SnapshotMeta(2, 1, 0, conf_of(3)._replace(index=2)))
    sent(core)
    assert core.commit == 3
