"""Who votes for whom, and when (Raft sections 5.2 and 5.4.1; thesis 3.10, 4.2.3, 6.2 and 9.6)."""

from __future__ import annotations

import random

import pytest

from tests.harness.raft_cores import Cores, conf_of, core_of, log_of, message, sent, settle
from zkv.core.raft.log import MemoryLog
from zkv.core.raft.raft import Raft, RaftConfig, Role
from zkv.errors import NoLeader, NotCapable
from zkv.wire.messages import HardState, MessageKind

FOREVER = 10_000


def test_a_single_voter_leads_at_once() -> None:
    """Raft 5.2 with a majority of one; its own vote still has to reach the disk first."""
    core = core_of(MemoryLog(conf_of(1)))
    core.tick(0)
    before_sync = core.ready()
    assert (core.role, before_sync.must_sync) == (Role.CANDIDATE, True)
    core.synced()
    assert core.role is Role.LEADER


def test_three_members_elect_one_leader_whom_all_know() -> None:
    """Raft 5.2: election safety, and heartbeats establish authority."""
    cores = Cores(3)
    cores.run(3000)
    assert len({core.leader for core in cores.cores.values()} - {0}) == 1
    assert [core.role for core in cores.cores.values()].count(Role.LEADER) == 1


def test_timeouts_differ_and_lie_between_one_and_two_election_timeouts() -> None:
    """Raft 5.2: randomized election timeouts make split votes rare."""
    waits = set()
    for seed in range(50):
        core = Raft(RaftConfig(1), MemoryLog(conf_of(3)), random.Random(seed), 0)
        core.step(message(MessageKind.HEARTBEAT, 1), 0)
        waits.add(core.next_wakeup())
    assert len(waits) > 40
    assert min(waits) >= 1000
    assert max(waits) < 2000


@pytest.mark.parametrize(
    ("own", "index", "log_term", "granted"),
    [
        pytest.param((1, 1), 2, 1, True, id="equal logs"),
        pytest.param((1, 1), 1, 1, False, id="shorter, same term"),
        pytest.param((1, 1), 3, 1, True, id="longer, same term"),
        pytest.param((1, 1), 1, 2, True, id="shorter, greater last term"),
        pytest.param((1, 2), 9, 1, False, id="longer, lesser last term"),
    ],
)
@pytest.mark.parametrize("kind", [MessageKind.VOTE, MessageKind.PRE_VOTE])
def test_a_vote_goes_only_to_a_log_at_least_as_up_to_date(
    own: tuple[int, ...], index: int, log_term: int, granted: bool, kind: int
) -> None:
    """Raft 5.4.1: the later last term wins, then the longer log; a pre-vote is asked by the same rule (thesis 9.6)."""
    core = core_of(log_of(*own, conf=conf_of(3)))
    core.step(message(kind, 5, index=index, log_term=log_term), 0)
    [answer] = sent(core)
    assert answer.reject is not granted


def test_one_vote_a_term_first_come_first_served() -> None:
    """Raft 5.2; the same candidate may ask again, for the answer may have been lost."""
    core = core_of(MemoryLog(conf_of(3)))
    for candidate in (2, 3, 2):
        core.step(message(MessageKind.VOTE, 1, sender=candidate), 0)
    assert [(answer.to, answer.reject) for answer in sent(core)] == [(2, False), (3, True), (2, False)]


def test_a_vote_survives_a_restart() -> None:
    """Raft figure 2: votedFor is persistent state."""
    core = core_of(log_of(conf=conf_of(3), hard_state=HardState(4, 2, 0)))
    core.step(message(MessageKind.VOTE, 4, sender=3), 0)
    [answer] = sent(core)
    assert answer.reject


def test_a_vote_leaves_after_the_sync_only() -> None:
    """Raft figure 2: updated on stable storage before responding."""
    core = core_of(MemoryLog(conf_of(3)))
    core.step(message(MessageKind.VOTE, 1), 0)
    ready = core.ready()
    assert (ready.messages, ready.must_sync) == ([], True)
    [answer] = core.synced().messages
    assert answer.kind == MessageKind.VOTE_ANSWER


def test_requests_for_votes_leave_after_the_sync_of_the_own_vote_only() -> None:
    """Else a candidate elected by others could forget the term and win it again, with another log (replica.py)."""
    core = core_of(MemoryLog(conf_of(3)))
    core.step(message(MessageKind.TIMEOUT_NOW, 0), 0)
    assert core.ready().messages == []
    assert {asked.kind for asked in core.synced().messages} == {MessageKind.VOTE}


def test_a_pre_vote_changes_no_term() -> None:
    """Thesis 9.6: who cannot win must not disturb by its term."""
    core = core_of(MemoryLog(conf_of(3)))
    core.tick(FOREVER)
    asked = sent(core)
    assert core.role is Role.PRE_CANDIDATE
    assert {(request.kind, request.term) for request in asked} == {(MessageKind.PRE_VOTE, 1)}
    assert core.term == 0
    core.step(message(MessageKind.PRE_VOTE, 9, sender=3), FOREVER)
    assert core.term == 0


def test_a_majority_of_pre_votes_begins_the_election() -> None:
    """Thesis 9.6: only then the term is incremented."""
    core = core_of(MemoryLog(conf_of(3)))
    core.tick(FOREVER)
    core.step(message(MessageKind.PRE_VOTE_ANSWER, 1), FOREVER)
    assert (core.role, core.term) == (Role.CANDIDATE, 1)


def test_a_member_cut_off_does_not_depose_the_leader_when_it_comes_back() -> None:
    """Thesis 9.6 and 4.2.3: its term has not grown, and nobody in the lease votes."""
    cores = Cores(3)
    leader = cores.elect(1)
    cores.cut = {3}
    cores.run(20_000)
    cores.cut = set()
    cores.run(2_000)
    assert {core.term for core in cores.cores.values()} == {leader.term}
    assert {core.leader for core in cores.cores.values()} == {1}


@pytest.mark.parametrize("kind", [MessageKind.VOTE, MessageKind.PRE_VOTE])
def test_who_hears_a_leader_does_not_vote(kind: int) -> None:
    """Thesis 4.2.3: a request within the minimum election timeout of hearing from a leader is dropped."""
    core = core_of(MemoryLog(conf_of(3)))
    core.step(message(MessageKind.HEARTBEAT, 1), 0)
    sent(core)
    core.step(message(kind, 5, sender=3), 999)
    assert sent(core) == []
    assert core.term == 1
    core.step(message(kind, 5, sender=3), 1000)
    assert [answer.reject for answer in sent(core)] == [False]


def test_a_leader_that_hears_no_quorum_steps_down() -> None:
    """Thesis 6.2: a leader steps down if an election timeout elapses without a successful round of heartbeats."""
    cores = Cores(3)
    leader = cores.elect(1)
    cores.cut = {1}
    cores.run(1_100)
    assert leader.role is Role.FOLLOWER
    with pytest.raises(NoLeader):
        leader.propose([b"x"], cores.now)


def test_a_leader_without_a_quorum_refuses_at_once() -> None:
    """Even before a tick tells it: a process that was paused must not take a proposal it cannot commit."""
    cores = Cores(3)
    leader = cores.elect(1)
    with pytest.raises(NoLeader):
        leader.propose([b"x"], FOREVER)
    assert leader.role is Role.FOLLOWER


def test_a_greater_term_ends_a_leadership() -> None:
    """Raft 5.1: if its term is out of date, a leader reverts to follower."""
    cores = Cores(3)
    leader = cores.elect(1)
    leader.step(message(MessageKind.APPEND_ANSWER, 9, reject=True), 0)
    assert (leader.role, leader.term) == (Role.FOLLOWER, 9)


@pytest.mark.parametrize("kind", [MessageKind.APPEND, MessageKind.HEARTBEAT])
def test_a_leader_of_the_past_is_told(kind: int) -> None:
    """Raft 5.1: a request with a stale term is rejected; the answer's term deposes its sender."""
    core = core_of(log_of(conf=conf_of(3), hard_state=HardState(5, 0, 0)))
    core.step(message(kind, 4), 0)
    [answer] = sent(core)
    assert (answer.term, answer.reject) == (5, True)


def test_a_candidate_follows_a_leader_of_its_term() -> None:
    """Raft 5.2: if the leader's term is at least as large, the candidate returns to follower state."""
    core = core_of(MemoryLog(conf_of(3)))
    core.step(message(MessageKind.TIMEOUT_NOW, 0), 0)
    settle(core)
    core.step(message(MessageKind.APPEND, 1, sender=3), 0)
    assert (core.role, core.leader) == (Role.FOLLOWER, 3)


def test_a_suspected_leader_is_replaced_within_a_few_heartbeats() -> None:
    """A broken connection tells sooner than a timeout; both others see it."""
    cores = Cores(3)
    cores.elect(1)
    cores.cut = {1}
    for member in (2, 3):
        cores.cores[member].suspect_leader(cores.now)
    cores.run(250)
    assert cores.cores[2].leader in {2, 3}


def test_a_wrong_suspicion_does_no_harm() -> None:
    """The others are within the leader's lease and refuse the pre-vote."""
    cores = Cores(3)
    leader = cores.elect(1)
    cores.cores[2].suspect_leader(cores.now)
    cores.run(1_000)
    assert {core.leader for core in cores.cores.values()} == {1}
    assert leader.term == 1


def test_leadership_goes_to_who_is_asked_to_take_it() -> None:
    """Thesis 3.10: the target, caught up, is told to start an election at once, past everybody's lease."""
    cores = Cores(3)
    leader = cores.elect(1)
    leader.transfer_leadership(3, cores.now)
    cores.deliver()
    assert {core.leader for core in cores.cores.values()} == {3}


def test_a_transfer_waits_until_the_target_holds_the_log() -> None:
    """Thesis 3.10: the prior leader sends its log entries first; meanwhile it takes no new requests."""
    cores = Cores(3)
    leader = cores.elect(1)
    cores.cut = {3}
    leader.propose([b"x"], cores.now)
    cores.deliver()
    leader.transfer_leadership(3, cores.now)
    cores.deliver()
    assert leader.leader == 1
    with pytest.raises(NoLeader):
        leader.propose([b"y"], cores.now)
    cores.cut = set()
    cores.run(200)
    assert {core.leader for core in cores.cores.values()} == {3}


def test_a_transfer_that_does_not_succeed_is_given_up() -> None:
    """Thesis 3.10: after about an election timeout the prior leader resumes."""
    cores = Cores(3)
    leader = cores.elect(1)
    cores.cut = {3}
    leader.propose([b"x"], cores.now)
    leader.transfer_leadership(3, cores.now)
    cores.run(1_100)
    assert leader.propose([b"y"], cores.now)


def test_only_another_voter_can_take_over() -> None:
    """A learner cannot lead."""
    cores = Cores(2, learners=(3,))
    leader = cores.elect(1)
    assert leader.successor() == 2
    for nobody in (0, 1, 3):
        with pytest.raises(NotCapable):
            leader.transfer_leadership(nobody, cores.now)


def test_a_learner_does_not_stand_for_election_but_votes() -> None:
    """It may have been promoted without knowing it yet, and its vote be needed."""
    core = core_of(MemoryLog(conf_of(2)._replace(learners=(3,))), 3)
    core.tick(FOREVER)
    core.step(message(MessageKind.TIMEOUT_NOW, 0, to=3), FOREVER)
    assert sent(core) == []
    core.step(message(MessageKind.VOTE, 1, to=3), FOREVER)
    [answer] = sent(core)
    assert not answer.reject


def test_a_voter_tells_a_candidate_what_is_committed() -> None:
    """A removed leader that alone knows of its removal must not block those who still believe to need its vote."""
    core = core_of(log_of(1, 1, conf=conf_of(3)))
    core.step(message(MessageKind.TIMEOUT_NOW, 1), 0)
    settle(core)
    refusal = message(MessageKind.VOTE_ANSWER, 2, reject=True, commit=2, log_term=1)
    core.step(refusal, 0)
    assert core.commit == 2


def test_a_voter_behind_in_terms_tells_it_too() -> None:
    """A refused pre-vote of a lesser term than the candidate's would be dropped, and what is committed with it."""
    core = core_of(log_of(1, 1, conf=conf_of(3), hard_state=HardState(1, 0, 2)))
    core.step(message(MessageKind.PRE_VOTE, 6, index=1, log_term=1), 0)
    [answer] = sent(core)
    assert (answer.reject, answer.term, answer.commit, answer.log_term) == (True, 5, 2, 1)
    assert core.term == 1


def test_when_the_leader_falls_silent_the_others_elect_one_of_themselves() -> None:
    """Raft 5.2: a follower that receives no communication over the election timeout begins an election."""
    cores = Cores(5)
    cores.elect(1)
    cores.cut = {1}
    cores.run(3_000)
    leaders = {cores.cores[member].leader for member in (2, 3, 4, 5)}
    assert len(leaders) == 1
    assert 1 not in leaders
