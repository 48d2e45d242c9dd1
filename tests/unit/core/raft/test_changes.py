"""Members come, go, and are promoted, while the cluster runs (Raft section 6, thesis chapter 4)."""

from __future__ import annotations

import pytest

from tests.harness.raft_cores import Cores, conf_of, core_of, log_of, message, settle
from zkv.core.raft.log import MemoryLog
from zkv.core.raft.raft import Raft, Role
from zkv.errors import InvalidRequest, NoLeader, TooManyRequests
from zkv.wire import codec
from zkv.wire.messages import (
    ConfChange,
    ConfChangeKind,
    ConfState,
    Entry,
    EntryKind,
    HardState,
    MessageKind,
    SnapshotMeta,
)

ADD, LEARN, REMOVE = ConfChangeKind.ADD_VOTER, ConfChangeKind.ADD_LEARNER, ConfChangeKind.REMOVE


def change(*changes: tuple[ConfChangeKind, int]) -> ConfChange:
    return ConfChange(tuple((kind, member, ()) for kind, member in changes))


def conf_entry(index: int, term: int, *changes: tuple[ConfChangeKind, int]) -> Entry:
    return Entry(index, term, EntryKind.CONF_CHANGE, 0, codec.pack(change(*changes)))


def voters_of(core: Raft) -> set[int]:
    return set(core.conf.voters)


def stream_snapshot(cores: Cores, sender: int, to: int) -> None:
    """What storage would do: install the sender's state, then tell both cores."""
    core, log = cores.cores[sender], cores.logs[sender]
    last = log.entries(core.commit, core.commit + 1, 0)[0]
    cores.cores[to].restore(SnapshotMeta(last.index, last.term, last.time, core.conf))
    core.report_snapshot(to)
    cores.deliver()


def test_a_change_comes_into_force_when_it_is_committed() -> None:
    """All members follow; the new one is sent the log."""
    cores = Cores(3)
    leader = cores.elect(1)
    leader.propose_conf_change(change((REMOVE, 3)), cores.now)
    assert leader.conf.voters == (1, 2, 3)
    cores.deliver()
    assert [core.conf.voters for core in cores.cores.values()] == [(1, 2)] * 3, "the removed one is told as well"


def test_a_joining_member_starts_from_a_snapshot() -> None:
    """Thesis 4.2.1: it joins as a learner, catches up, is promoted; its first configuration comes with the state."""
    cores = Cores(1)
    leader = cores.elect(1)
    leader.propose_conf_change(change((LEARN, 2)), cores.now)
    cores.add(2, MemoryLog(ConfState(())))
    cores.deliver()
    assert cores.snapshots_wanted == [2]
    stream_snapshot(cores, 1, 2)
    leader.propose_conf_change(change((ADD, 2)), cores.now)
    cores.run(300)
    assert [core.conf.voters for core in cores.cores.values()] == [(1, 2), (1, 2)]
    assert leader.commit == cores.cores[2].commit


def test_one_change_at_a_time() -> None:
    """Thesis 4.1: the next may begin when the last is committed."""
    cores = Cores(3)
    leader = cores.elect(1)
    cores.cut = {2, 3}
    leader.propose_conf_change(change((LEARN, 4)), cores.now)
    with pytest.raises(TooManyRequests):
        leader.propose_conf_change(change((LEARN, 5)), cores.now)
    cores.cut = set()
    cores.run(200)
    leader.propose_conf_change(change((LEARN, 5)), cores.now)


def test_a_new_leader_changes_nothing_before_its_first_entry_is_committed() -> None:
    """A change left over by its predecessor may be among the entries before that."""
    core = core_of(log_of(1, conf=conf_of(3)))
    core.step(message(MessageKind.TIMEOUT_NOW, 1), 0)
    settle(core)
    core.step(message(MessageKind.VOTE_ANSWER, 2), 0)
    settle(core)
    with pytest.raises(TooManyRequests):
        core.propose_conf_change(change((LEARN, 4)), 0)


def test_a_change_that_makes_no_sense_does_not_reach_the_log() -> None:
    """And a follower proposes none at all."""
    cores = Cores(1, learners=(2,))
    leader = cores.elect(1)
    with pytest.raises(InvalidRequest):
        leader.propose_conf_change(change((REMOVE, 1)), cores.now)
    assert cores.logs[1].last_index == 1
    with pytest.raises(NoLeader):
        cores.cores[2].propose_conf_change(change((REMOVE, 1)), cores.now)


def test_several_voters_change_through_a_joint_configuration_which_the_leader_leaves() -> None:
    """Raft 6: C-old,new is committed by both majorities, then C-new."""
    cores = Cores(5)
    leader = cores.elect(1)
    leader.propose_conf_change(change((REMOVE, 4), (REMOVE, 5)), cores.now)
    cores.deliver()
    assert leader.conf == ConfState((1, 2, 3), (), (), cores.logs[1].last_index)
    kinds = [entry.kind for entry in cores.logs[1].entries(1, 9, 1 << 20)]
    assert kinds == [EntryKind.BATCH, EntryKind.CONF_CHANGE, EntryKind.CONF_CHANGE]


def test_while_joint_both_halves_must_agree() -> None:
    """Raft 6: with the outgoing half silent nothing is committed."""
    cores = Cores(4)
    leader = cores.elect(1)
    leader.propose_conf_change(change((REMOVE, 3), (REMOVE, 4)), cores.now)
    cores.logs[1].sync()
    cores.cut = {2}
    cores.deliver()
    joint_at = leader.conf
    assert joint_at.voters_outgoing == (1, 2, 3, 4)
    commit = leader.commit
    leader.propose([b"x"], cores.now)
    cores.deliver()
    assert leader.commit == commit, "1, 3 and 4 are a majority of the outgoing half, 1 alone none of the incoming"
    cores.cut = set()
    cores.run(300)
    assert leader.conf.voters_outgoing == ()
    assert leader.commit == cores.logs[1].last_index


def test_who_was_heard_from_does_not_count_once_it_is_removed() -> None:
    """The quorum behind a leader is one of the configuration in force, not of the one it was last counted in."""
    cores = Cores(3)
    leader = cores.elect(1)
    cores.cut = {3}
    for cores.now in (500, 1_000):
        leader.tick(cores.now)
        cores.deliver()
    leader.propose_conf_change(change((REMOVE, 2)), cores.now)
    cores.deliver()
    assert leader.conf.voters == (1, 3)
    with pytest.raises(NoLeader):
        leader.propose([b"x"], cores.now)


def test_the_next_leader_leaves_the_joint_configuration_if_the_first_could_not() -> None:
    """Raft 6: the change survives its leader."""
    joint = ConfState((1, 2, 3), (), (1, 2, 3, 4, 5), 2)
    cores = Cores(5)
    for member in cores.conf.voters:
        log = log_of(1, conf=cores.conf)
        log.append([conf_entry(2, 1, (REMOVE, 4), (REMOVE, 5))])
        log.set_hard_state(HardState(1, 0, 2))
        log.set_conf(joint)
        cores.add(member, log)
    leader = cores.elect(3)
    assert leader.conf.voters == (1, 2, 3)
    assert leader.conf.voters_outgoing == ()


def test_a_removed_leader_steps_down_and_another_takes_over_at_once() -> None:
    """Raft 6: the leader may not be part of the new configuration; it steps down once that is committed."""
    cores = Cores(3)
    leader = cores.elect(1)
    leader.propose_conf_change(change((REMOVE, 1)), cores.now)
    cores.deliver()
    assert leader.role is Role.FOLLOWER
    successor = cores.cores[2].leader
    assert successor in {2, 3}
    assert cores.cores[successor].propose([b"x"], cores.now)


def test_a_removed_member_does_not_disturb() -> None:
    """Raft 6, third issue: servers not in C-new stand for no election once they know, and are not heard before."""
    cores = Cores(4)
    leader = cores.elect(1)
    cores.cut = {4}
    leader.propose_conf_change(change((REMOVE, 4)), cores.now)
    cores.deliver()
    cores.cut = set()
    assert cores.cores[4].conf.voters == (1, 2, 3, 4), "it does not know"
    cores.run(10_000)
    assert {cores.cores[member].term for member in (1, 2, 3)} == {1}


def test_a_second_change_in_the_log_proves_the_first_committed() -> None:
    """So two members that act are one change apart at most, and their quorums overlap (membership.py)."""
    core = core_of(log_of(conf=conf_of(3), hard_state=HardState(1, 0, 0)))
    first, second = conf_entry(1, 1, (ADD, 4)), conf_entry(2, 1, (ADD, 5))
    core.step(message(MessageKind.APPEND, 1, entries=(first,)), 0)
    assert voters_of(core) == {1, 2, 3}
    core.step(message(MessageKind.APPEND, 1, index=1, log_term=1, entries=(second,)), 0)
    assert voters_of(core) == {1, 2, 3, 4}


def test_a_restart_finds_the_configuration_and_the_change_that_waits() -> None:
    """The same holds for what is read from disk."""
    log = MemoryLog(conf_of(3))
    log.append([conf_entry(1, 1, (ADD, 4)), conf_entry(2, 1, (ADD, 5))])
    log.set_hard_state(HardState(1, 0, 0))
    core = core_of(log)
    assert voters_of(core) == {1, 2, 3, 4}
    core.step(message(MessageKind.HEARTBEAT, 1, commit=2), 0)
    assert voters_of(core) == {1, 2, 3, 4, 5}


def test_a_change_that_is_cut_off_never_comes_into_force() -> None:
    """Another leader's entry stands in its place."""
    core = core_of(log_of(conf=conf_of(3), hard_state=HardState(1, 0, 0)))
    core.step(message(MessageKind.APPEND, 1, entries=(conf_entry(1, 1, (ADD, 4)),)), 0)
    other = Entry(1, 2, EntryKind.BATCH, 0, b"")
    core.step(message(MessageKind.APPEND, 2, sender=3, entries=(other,), commit=1), 0)
    assert (core.commit, core.conf.voters) == (1, (1, 2, 3))
