"""Linearizable reads by ReadIndex (thesis section 6.4)."""

from __future__ import annotations

import pytest

from tests.harness.raft_cores import Cores, conf_of, core_of, log_of, message, settle
from zkv.core.raft.leader import ROUND_PATIENCE_MS
from zkv.core.raft.log import MemoryLog
from zkv.core.raft.read_index import ReadQuestions, ReadRounds
from zkv.errors import NoLeader
from zkv.wire.messages import MessageKind


def heartbeats(cores: Cores) -> int:
    return sum(one.kind == MessageKind.HEARTBEAT for one in cores.passed)


@pytest.mark.parametrize("reader", [1, 2, 3])
def test_every_member_serves_reads_at_the_commit_index(reader: int) -> None:
    """Thesis 6.4: a follower asks the leader for the read index, and serves the read itself."""
    cores = Cores(3)
    leader = cores.elect(1)
    leader.propose([b"x"], cores.now)
    cores.deliver()
    cores.cores[reader].read_index(77, cores.now)
    cores.deliver()
    assert cores.reads[reader] == [(77, 2)]


def test_a_learner_serves_reads_too() -> None:
    """It needs no vote for that."""
    cores = Cores(1, learners=(2,))
    cores.elect(1)
    cores.run(200)
    cores.cores[2].read_index(77, cores.now)
    cores.deliver()
    assert cores.reads[2] == [(77, 1)]


def test_many_reads_share_one_round() -> None:
    """Thesis 6.4: any number of read-only queries that have accumulated cost one round of heartbeats, to a quorum."""
    cores = Cores(3)
    leader = cores.elect(1)
    before = heartbeats(cores)
    for context in range(100):
        leader.read_index(context, cores.now)
    cores.deliver()
    assert len(cores.reads[1]) == 100
    assert heartbeats(cores) - before == 1


def test_who_asks_of_three_is_answered_without_a_round() -> None:
    """Its question says, after the read came, what a heartbeat's answer would; with the leader that is a majority."""
    cores = Cores(3)
    cores.elect(1)
    before = heartbeats(cores)
    cores.cores[2].read_index(77, cores.now)
    cores.deliver()
    assert cores.reads[2] == [(77, 1)]
    assert heartbeats(cores) == before


@pytest.mark.parametrize(("voters", "learners", "asker"), [(5, (), 2), (3, (4,), 4)])
def test_a_question_that_makes_no_quorum_waits_for_a_round(voters: int, learners: tuple[int, ...], asker: int) -> None:
    """One voice of five, or of a learner, who has none, leaves it open who leads."""
    cores = Cores(voters, learners=learners)
    cores.elect(1)
    cores.run(200)
    before = heartbeats(cores)
    others = set(range(2, voters + 1)) - {asker}
    cores.cut = others
    cores.cores[asker].read_index(77, cores.now)
    cores.deliver()
    assert cores.reads[asker] == []
    cores.cut = set()
    cores.run(ROUND_PATIENCE_MS)
    assert [context for context, _ in cores.reads[asker]] == [77]
    assert heartbeats(cores) > before


def test_a_question_of_a_term_that_is_over_is_no_word_for_the_leader_of_another() -> None:
    """It came late: who asked has voted since, and what the new leader has committed is not known to the old one."""
    cores = Cores(3)
    old = cores.elect(1)
    cores.cores[2].read_index(5, cores.now)
    late = next(one for one in settle(cores.cores[2])[0].messages if one.kind == MessageKind.READ_INDEX)
    cores.cut = {1}
    cores.elect(2).propose([b"x"], cores.now)
    cores.deliver()
    old.step(late, cores.now)
    answers = [one for ready in settle(old) for one in ready.messages if one.kind == MessageKind.READ_INDEX_ANSWER]
    for answer in answers:
        cores.cores[2].step(answer, cores.now)
    settle(cores.cores[2])
    assert cores.reads[2] == []


@pytest.mark.parametrize("silent", [2, 3])
def test_a_round_is_taken_to_all_when_who_was_asked_is_silent(silent: int) -> None:
    """And the next one begins with who answered."""
    cores = Cores(3)
    leader = cores.elect(1)
    cores.deliver()
    cores.cut = {silent}
    leader.read_index(5, cores.now)
    cores.deliver()
    cores.run(ROUND_PATIENCE_MS)
    assert [context for context, _ in cores.reads[1]] == [5]
    before = heartbeats(cores)
    leader.read_index(6, cores.now)
    cores.deliver()
    assert [context for context, _ in cores.reads[1]] == [5, 6]
    assert heartbeats(cores) - before == 1


def test_a_round_of_five_asks_two() -> None:
    cores = Cores(5)
    leader = cores.elect(1)
    before = heartbeats(cores)
    leader.read_index(5, cores.now)
    cores.deliver()
    assert len(cores.reads[1]) == 1
    assert heartbeats(cores) - before == 2


def test_a_leader_that_was_replaced_serves_no_read() -> None:
    """Thesis 6.4: it must make sure that it has not been superseded by a newer leader."""
    cores = Cores(3)
    old = cores.elect(1)
    cores.cut = {1}
    old.read_index(5, cores.now)
    cores.elect(2).propose([b"x"], cores.now)
    cores.deliver()
    assert cores.reads[1] == []
    cores.cut = set()
    cores.run(300)
    assert cores.reads[1] == []
    assert cores.refused_reads[1] == [5]


def test_reads_wait_for_the_first_entry_of_the_leaders_term() -> None:
    """Thesis 6.4: before that the leader does not know which entries are committed."""
    core = core_of(log_of(1, 1, conf=conf_of(3)))
    core.step(message(MessageKind.TIMEOUT_NOW, 1), 0)
    settle(core)
    core.step(message(MessageKind.VOTE_ANSWER, 2), 0)
    settle(core)
    core.read_index(5, 0)
    core.step(message(MessageKind.HEARTBEAT_ANSWER, 2), 0)
    assert [ready.reads for ready in settle(core)] == [[]]
    core.step(message(MessageKind.APPEND_ANSWER, 2, index=3), 0)
    settle(core)
    core.step(message(MessageKind.HEARTBEAT_ANSWER, 2, context=1), 0)
    assert [ready.reads for ready in settle(core)] == [[(5, 3)]]


def test_a_single_voter_answers_at_once() -> None:
    """A majority of one has confirmed already."""
    core = core_of(MemoryLog(conf_of(1)))
    core.tick(0)
    settle(core)
    core.read_index(5, 0)
    assert [ready.reads for ready in settle(core)] == [[(5, 1)]]


def test_without_a_leader_reads_are_refused() -> None:
    """Nobody can tell what is committed."""
    core = core_of(MemoryLog(conf_of(3)))
    with pytest.raises(NoLeader):
        core.read_index(5, 0)


def test_a_follower_that_loses_its_leader_refuses_the_reads_that_wait() -> None:
    """They may be asked again, here or elsewhere."""
    cores = Cores(3)
    cores.elect(1)
    cores.cut = {1}
    cores.cores[2].read_index(5, cores.now)
    cores.run(3_000)
    assert cores.refused_reads[2] == [5]


def test_a_lost_question_is_asked_again() -> None:
    """The heartbeat interval later; the answer serves as well."""
    cores = Cores(3)
    cores.elect(1)
    cores.cut = {2}
    cores.cores[2].read_index(5, cores.now)
    cores.deliver()
    cores.cut = set()
    cores.run(200)
    assert cores.reads[2] == [(5, 1)]


def test_a_question_that_gets_no_answer_is_given_up_after_an_election_timeout() -> None:
    """The leader is heard, but does not hear: the reads must not wait for ever."""
    core = core_of(MemoryLog(conf_of(3)))
    for now in range(0, 1_200, 100):
        core.step(message(MessageKind.HEARTBEAT, 1), now)
        if now == 0:
            core.read_index(5, now)
        core.tick(now)
        refused = [context for ready in settle(core) for context in ready.refused_reads]
        assert refused == ([5] if now == 1_000 else [])


def test_one_round_is_in_flight_and_the_next_gathers() -> None:
    """A read joins the next round, never the running one: that round may have been confirmed before it was asked."""
    rounds = ReadRounds()
    rounds.add(1, 10)
    assert rounds.begin(7)
    rounds.add(1, 11)
    assert not rounds.begin(8)
    assert rounds.confirm(1) == (7, [(1, 10)])
    assert rounds.begin(9)
    assert rounds.confirm(1) == (0, [])
    assert rounds.confirm(2) == (9, [(1, 11)])


def test_an_answer_to_another_question_serves_nobody() -> None:
    """It may be from before a restart, and its index too low."""
    questions = ReadQuestions(100)
    questions.add(5)
    assert questions.begin(0)
    assert questions.answer(questions.number - 1) == []
    assert questions.answer(questions.number) == [5]
    assert questions.answer(questions.number) == []
