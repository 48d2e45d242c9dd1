"""What is meant becomes what is: the leader's conf changes, and what it refuses to log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness.raft_cores import Cores
from zkv.actors.member_desk import MemberDesk, check
from zkv.actors.reconciler import HEALTH_MS, LOOK_MS, Reconciler
from zkv.core.raft.config import RaftConfig
from zkv.core.raft.log import MemoryLog
from zkv.errors import (
    BadLeaderTransferee,
    LeaderTransferTimeout,
    LearnerNotReady,
    NotEnoughStarted,
    RequestError,
    UnhealthyCluster,
)
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack
from zkv.wire.groups import judged_request

if TYPE_CHECKING:
    from zkv.core.raft.raft import Raft

GATEWAY = 7


def member(id_: int, *, learner: bool = False, started: bool = True) -> m.Member:
    name, urls = (f"m{id_}", (f"tcp://c{id_}:1",)) if started else ("", ())
    return m.Member(id_, name, (f"tcp://m{id_}:1",), urls, learner)


class Play:
    """Cores 1 to `voters`, the first of which leads, and a table that is as new as can be."""

    def __init__(self, voters: int = 3) -> None:
        self.cores = Cores(voters)
        self.leader = self.cores.elect(1)
        self.table = {id_: member(id_) for id_ in range(1, voters + 1)}
        self.reconciler = Reconciler()
        self.forgetful: set[int] = set()

    def join(self, id_: int) -> None:
        """A server with an empty log, which knows nobody, is there."""
        self.cores.add(id_, MemoryLog(m.ConfState(())))

    def step(self, *, table_index: int | None = None) -> m.ConfState:
        """One step, and all that comes of it; the configuration then."""
        self.cores.run(LOOK_MS)
        index = self.leader.commit if table_index is None else table_index
        self.reconciler.step(self.leader, self.table, index, self.forgetful, self.cores.now)
        self.cores.deliver()
        return self.leader.conf

    def silence(self, id_: int) -> None:
        self.cores.cut.add(id_)
        self.cores.run(HEALTH_MS + 100)


def test_a_new_member_is_a_learner_first_and_votes_when_it_has_caught_up() -> None:
    play = Play()
    play.table[4] = member(4, started=False)
    assert play.step().learners == (4,)
    assert play.step().learners == (4,), "nobody is there yet"
    play.join(4)
    play.leader.propose([b"x"], play.cores.now)
    play.cores.run(500)
    assert play.cores.snapshots_wanted == [4], "who begins with nothing is sent the state"
    meta = m.SnapshotMeta(play.leader.commit, play.leader.term, 0, play.leader.conf)
    play.cores.cores[4].restore(meta)
    play.leader.report_snapshot(4)
    play.cores.run(500)
    assert play.step().learners == (4,), "it has not told its name"
    play.table[4] = member(4)
    play.forgetful = {4}
    assert play.step().learners == (4,), "it has just said that it forgot"
    play.forgetful.clear()
    assert play.step().voters == (1, 2, 3, 4)


def test_nothing_is_done_by_a_table_older_than_the_configuration() -> None:
    """It would undo what is newer."""
    play = Play()
    play.table[4] = member(4, started=False)
    play.step()
    del play.table[4]
    assert play.step(table_index=play.leader.conf.index - 1).learners == (4,)
    assert play.step().learners == ()


def test_a_leader_that_is_to_go_hands_over_and_the_next_one_removes_it() -> None:
    play = Play()
    del play.table[1]
    play.step()
    play.cores.run(500)
    successor = next(core for core in play.cores.cores.values() if core.leader == core.id)
    assert successor.id != 1
    play.leader, play.reconciler = successor, Reconciler()
    assert play.step().voters == (2, 3)


def test_only_the_leader_acts() -> None:
    play = Play()
    play.table[4] = member(4, started=False)
    play.leader = play.cores.cores[2]
    assert play.step().learners == ()


def refusal(play: Play, op: m.Op, fields: tuple[object, ...]) -> type[RequestError] | None:
    try:
        check(play.leader, play.table, judged_request(op, fields, []), play.cores.now)
    except RequestError as error:
        return type(error)
    return None


ADD = (("tcp://m9:1",),)


def test_a_voter_is_not_added_while_one_is_down() -> None:
    """etcd's strict-reconfig-check; a learner may come."""
    play = Play()
    assert refusal(play, m.Op.MEMBER_ADD, ADD) is None
    play.silence(3)
    assert refusal(play, m.Op.MEMBER_ADD, ADD) is UnhealthyCluster
    assert refusal(play, m.Op.MEMBER_ADD, (*ADD, True)) is None


def test_voters_that_never_started_may_not_outnumber_those_that_did() -> None:
    play = Play(1)
    assert refusal(play, m.Op.MEMBER_ADD, ADD) is None, "one may become two"
    play.table[2] = member(2, started=False)
    assert refusal(play, m.Op.MEMBER_ADD, ADD) is NotEnoughStarted
    assert refusal(play, m.Op.MEMBER_REMOVE, (1,)) is NotEnoughStarted
    assert refusal(play, m.Op.MEMBER_REMOVE, (2,)) is None


def test_who_is_down_may_be_removed_and_who_is_needed_may_not() -> None:
    play = Play()
    assert refusal(play, m.Op.MEMBER_REMOVE, (2,)) is None
    play.silence(3)
    assert refusal(play, m.Op.MEMBER_REMOVE, (3,)) is None
    assert refusal(play, m.Op.MEMBER_REMOVE, (2,)) is UnhealthyCluster
    assert refusal(play, m.Op.MEMBER_REMOVE, (9,)) is None, "the state machine says that there is none"


def test_a_learner_that_lags_is_not_promoted() -> None:
    play = Play()
    play.table[4] = member(4, learner=True)
    play.step()
    assert refusal(play, m.Op.MEMBER_PROMOTE, (4,)) is LearnerNotReady
    assert refusal(play, m.Op.MEMBER_PROMOTE, (2,)) is None, "the state machine says that it is none"


def move(target: int) -> bytes:
    payload = pack((1, m.ClientKind.REQUESTS, b"", 0, ((5, int(m.Op.MOVE_LEADER), (target,)),)))
    return pack(m.Frame(1, GATEWAY, ((33, payload),)))


class Desk:
    def __init__(self) -> None:
        self.posted: list[object] = []
        self.desk = MemberDesk(9, RaftConfig(1), self._post)

    def _post(self, to: str, message: object) -> bool:
        assert to == "gateway"
        self.posted.append(message)
        return True

    def examine(self, core: Raft, frame: bytes, now: int) -> tuple[list[bytes], list[type]]:
        passed, refused = self.desk.examine(core, {}, [frame], now)
        return passed, [error for _, error in refused]


def test_who_asks_to_move_the_leader_is_answered_when_it_has_moved() -> None:
    """Nothing of it goes into the log."""
    play, desk = Play(), Desk()
    assert desk.examine(play.leader, move(2), play.cores.now) == ([], [])
    desk.desk.tend(play.leader, play.cores.now)
    assert desk.posted == []
    play.cores.run(500)
    desk.desk.tend(play.leader, play.cores.now)
    [answers] = desk.posted
    assert isinstance(answers, m.GatewayAnswers)
    [(gid, payload, last)] = answers.answers
    assert (answers.incarnation, gid, last) == (GATEWAY, 33, True)
    assert unpack(payload)[4] == ((5, 0, 0, ()),)


def test_a_move_that_does_not_come_about_is_refused_in_the_end() -> None:
    play, desk = Play(), Desk()
    play.cores.cut.add(2)
    desk.examine(play.leader, move(2), play.cores.now)
    desk.desk.tend(play.leader, play.cores.now + 60_000)
    assert desk.posted == [m.Refused(GATEWAY, LeaderTransferTimeout.code, (33,))]


@pytest.mark.parametrize("target", [4, 0])
def test_only_a_voter_can_be_given_the_leadership(target: int) -> None:
    play, desk = Play(), Desk()
    assert desk.examine(play.leader, move(target), play.cores.now) == ([], [BadLeaderTransferee])
