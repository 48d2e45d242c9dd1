"""Requests that change the membership, as the raft actor sees them: looked at by the leader before they are logged.

Whether a change makes sense, the state machine decides, the same on every member (core/mvcc/members.py). What depends
on who is reachable at this moment it cannot decide; so such requests pass `examine` on their way into the log: etcd's
strict-reconfig-check, with its errors (etcd:server/etcdserver/server.go, mayAddMember and its sisters).

A request to move the leader never reaches the log. The leader begins the transfer; the member at which the request
came in answers it, when it sees the target lead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from zkv.actors.reconciler import HEALTH_MS
from zkv.core.raft import membership
from zkv.errors import (
    BadLeaderTransferee,
    LeaderTransferTimeout,
    LearnerNotReady,
    NotEnoughStarted,
    UnhealthyCluster,
    ZkvError,
)
from zkv.wire import codec
from zkv.wire import messages as m
from zkv.wire.groups import judged

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from zkv.core.raft.config import RaftConfig
    from zkv.core.raft.raft import Raft

READY_PERCENT = 90
"""How much of the leader's log a learner must hold for a client to promote it (etcd's readyPercent)."""
MOVES_MAX = 1_000
"""Requests to move the leader that wait at once."""
MOVE_ELECTIONS = 3
"""Election timeouts that a move may take."""


class _Move(NamedTuple):
    """A request to move the leader, to be answered when `target` leads, or refused at `deadline`."""

    incarnation: int
    gid: int
    request: int
    target: int
    deadline: int


class MemberDesk:
    def __init__(self, cluster_id: int, config: RaftConfig, post: Callable[[str, NamedTuple], bool]) -> None:
        self._cluster_id = cluster_id
        self._config = config
        self._post = post
        self._moves: list[_Move] = []

    def examine(
        self, core: Raft, table: Mapping[int, m.Member], frames: Sequence[bytes], now: int
    ) -> tuple[list[bytes], list[tuple[bytes, type[ZkvError]]]]:
        """Frames of one group each: those to be logged, and those refused, with the error."""
        passed: list[bytes] = []
        refused: list[tuple[bytes, type[ZkvError]]] = []
        for packed in frames:
            frame = codec.decode_frame(packed)
            self.note_moves(frame, now)
            for gid, payload in frame.groups:
                group = codec.pack(m.Frame(frame.member_id, frame.incarnation, ((gid, payload),)))
                try:
                    asked = judged(payload).asked
                    for _, _, one in asked:
                        if isinstance(one, m.MoveLeader):
                            _transfer(core, one.target, now)
                        else:
                            check(core, table, one, now)
                except ZkvError as error:
                    refused.append((group, type(error)))
                else:
                    if not any(isinstance(one, m.MoveLeader) for _, _, one in asked):
                        passed.append(group)
        return passed, refused

    def note_moves(self, frame: m.Frame, now: int) -> None:
        """Who asks here to move the leader is answered here, once it has moved."""
        if frame.member_id != self._config.member:
            return
        for gid, payload in frame.groups:
            for request, _, one in judged(payload).asked:
                if isinstance(one, m.MoveLeader) and len(self._moves) < MOVES_MAX:
                    deadline = now + MOVE_ELECTIONS * self._config.election_ms
                    self._moves.append(_Move(frame.incarnation, gid, request, one.target, deadline))

    def tend(self, core: Raft, now: int) -> None:
        """Answer the moves that have happened, or will not."""
        if not self._moves:
            return
        waiting = []
        for move in self._moves:
            door = m.door_of(move.incarnation)
            if core.leader == move.target:
                head = (m.PROTOCOL_VERSION, self._cluster_id, self._config.member, core.term)
                answers = codec.pack(m.Answers(*head, ((move.request, 0, 0, m.MoveLeaderAnswer()),)))
                self._post(door, m.GatewayAnswers(move.incarnation, ((move.gid, answers, True),)))
            elif now >= move.deadline:
                self._post(door, m.Refused(move.incarnation, LeaderTransferTimeout.code, (move.gid,)))
            else:
                waiting.append(move)
        self._moves = waiting


def _transfer(core: Raft, target: int, now: int) -> None:
    """Raises BadLeaderTransferee, NoLeader."""
    if not membership.is_voter(core.conf, target):
        raise BadLeaderTransferee
    if target != core.id:
        core.transfer_leadership(target, now)


def check(core: Raft, table: Mapping[int, m.Member], asked: object, now: int) -> None:
    """Raises NotEnoughStarted, UnhealthyCluster, LearnerNotReady for a request that would cost the quorum."""
    if isinstance(asked, m.MemberAdd):
        _check_add(core, table, now, is_learner=asked.is_learner)
    elif isinstance(asked, m.MemberRemove):
        _check_remove(core, table, asked.id, now)
    elif isinstance(asked, m.MemberPromote):
        _check_promote(core, table, asked.id)


def _check_add(core: Raft, table: Mapping[int, m.Member], now: int, *, is_learner: bool) -> None:
    if is_learner:
        return
    voters = [member for member in table.values() if not member.is_learner]
    started = sum(bool(member.name) for member in voters)
    grown = len(voters) + 1
    if started < grown // 2 + 1 and (started, grown) != (1, 2):
        raise NotEnoughStarted
    if any(core.silence_ms(member.id, now) > HEALTH_MS for member in voters):
        raise UnhealthyCluster


def _check_remove(core: Raft, table: Mapping[int, m.Member], gone: int, now: int) -> None:
    member = table.get(gone)
    if member is None or member.is_learner:
        return
    left = [other for other in table.values() if not other.is_learner and other.id != gone]
    if sum(bool(other.name) for other in left) < len(left) // 2 + 1:
        raise NotEnoughStarted
    if core.silence_ms(gone, now) > HEALTH_MS:
        return  # it is down, and no part of the quorum that works
    active = 1 + sum(core.silence_ms(other.id, now) <= HEALTH_MS for other in left)
    if active - 1 < 1 + len(left) // 2:
        raise UnhealthyCluster


def _check_promote(core: Raft, table: Mapping[int, m.Member], id_: int) -> None:
    member = table.get(id_)
    if member is None or not member.is_learner:
        return  # the state machine says what is wrong
    if core.match(id_) * 100 < core.commit * READY_PERCENT:
        raise LearnerNotReady
