"""The lease actor: keep-alives in, and, where its member leads, expiries out.

    gateway  -- LeaseRequests --> lease                  keep-alives, in groups
    gateway <-- GatewayAnswers -- lease
    storage  -- LeaseNews ------> lease                  what the log did to leases
    raft     -- LeaderIs -------> lease                  who leads, and the cluster clock
    raft    <-- Propose, Read --- lease                  renewals, expiries, ticks; does this lease exist?
    storage  -- GatewayAnswers -> lease                  (that it does)

The thinking is in `zkv/core/lease.py`. Only the leader's lease actor answers; other members' gateways ask it through
raft's connections (`Relay`), and are answered in the same way. Who asks a member that has just lost the leadership is
passed on. Nothing here is kept:
after a restart the table comes from storage, and gateways tell their clients to ask again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zkv import errors
from zkv.core.lease import Lessor
from zkv.core.lease_askers import DEPOSED, FULL, GONE
from zkv.errors import CorruptionError, LeaderChanged, LeaseNotFound, NoLeader, TooManyRequests
from zkv.mailbox import Mailbox, Stop
from zkv.wire import codec
from zkv.wire import messages as m
from zkv.wire.groups import judged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NamedTuple

    from zkv.actors.node import Node
    from zkv.gauges import Value
    from zkv.limits import Limits

NO_GATEWAY: Final = 0
"""The incarnation under which it proposes and reads: no gateway waits for these answers."""
_OK: Final = int(errors.Code.OK)
_NOT_FOUND: Final = int(LeaseNotFound.code)
_VERSION: Final = m.PROTOCOL_VERSION
_REFUSALS: Final = {DEPOSED: LeaderChanged.code, FULL: TooManyRequests.code}


class _Group:
    """A group of keep-alives on its way; answered once all of them are."""

    __slots__ = ("gid", "incarnation", "left", "member", "parts")

    def __init__(self, member: int, incarnation: int, gid: int, left: int) -> None:
        self.member = member
        self.incarnation = incarnation
        self.gid = gid
        self.left = left
        self.parts: list[tuple[int, int, int, object]] = []


class LeaseActor:
    """See the module. `post` reaches the other actors of this node."""

    def __init__(
        self,
        *,
        limits: Limits,
        cluster_id: int,
        member_id: int,
        incarnation: int,
        post: Callable[[str, NamedTuple], bool],
    ) -> None:
        self.finished = False
        self.lessor = Lessor(limits, member_id, ticket=incarnation >> 1)
        self._cluster_id = cluster_id
        self._member_id = member_id
        self._post = post
        # (member, incarnation of its gateway) -> what it is to be told
        self._answers: dict[tuple[int, int], list[tuple[int, bytes, bool]]] = {}
        self._refused: dict[tuple[int, int, int], list[int]] = {}  # the same with an error's code

    def handle(self, inbox: Sequence[tuple[str, object]], now: int) -> None:
        lessor = self.lessor
        requests: list[bytes] = []
        for _, message in inbox:
            match message:
                case m.LeaseRequests(frame=frame):
                    requests.append(frame)
                case m.LeaseNews():
                    lessor.news(message, now)
                case m.LeaderIs(term=term, leader=leader, clock=clock):
                    lessor.leader_is(term, leader, clock, now)
                case m.GatewayAnswers(incarnation=0):
                    self._looked_up(message, now)
                case m.Hello(actor="raft"):
                    lessor.leader_is(lessor.term, 0, 0, now)
                case Stop():
                    self.finished = True
                case m.Hello() | m.Refused() | m.GatewayAnswers():
                    pass  # a question that was refused is asked again
                case _:
                    raise AssertionError(f"unexpected mail {type(message).__name__}")
        for frame in requests:
            self._requests(frame, now)
        lessor.step(now)
        for proposal in lessor.take_proposals():
            op = m.Op.LEASE_RENEW if isinstance(proposal, m.LeaseRenew) else m.Op.LEASE_EXPIRE
            self._post("raft", m.Propose(self._frame(0, [(op, proposal)])))  # what is lost is proposed again
        question = lessor.askers.question(now)
        if question is not None:
            reads = [(m.Op.LEASE_TIME_TO_LIVE, m.LeaseTimeToLive(lease)) for lease in question.leases]
            self._post("raft", m.Read(self._frame(question.ticket, reads)))
        self._answer()

    def next_wakeup(self, now: int) -> int | None:  # noqa: ARG002 - every actor has this face
        return self.lessor.next_wakeup()

    def gauges(self) -> Sequence[Value]:
        lessor = self.lessor
        return [
            ("leases", "", len(lessor)),
            ("granted", "", lessor.granted),
            ("ended", "", lessor.ended),
            ("expired", "", lessor.expired),
            ("renewed", "", lessor.renewed),
            ("ttls", "", lessor.ttls.counts),
        ]

    def _frame(self, gid: int, requests: Sequence[tuple[m.Op, NamedTuple]]) -> bytes:
        numbered = [(id_, int(op), fields) for id_, (op, fields) in enumerate(requests, 1)]
        group = codec.pack((m.PROTOCOL_VERSION, int(m.ClientKind.REQUESTS), b"", 0, numbered))
        return codec.pack(m.Frame(self._member_id, NO_GATEWAY, ((gid, group),)))

    def _looked_up(self, answers: m.GatewayAnswers, now: int) -> None:
        for ticket, payload, _ in answers.answers:
            bodies = [body for _, code, _, body in codec.unpack(payload)[4] if code == errors.Code.OK]
            exist = [answer.id for answer in (m.LeaseTimeToLiveAnswer(*body) for body in bodies) if answer.ttl >= 0]
            self.lessor.answered(ticket, exist, now)

    # --- keep-alives ---------------------------------------------------------------------------------

    def _requests(self, packed: bytes, now: int) -> None:
        """Raises for nothing that another member sends."""
        lessor = self.lessor
        try:
            frame = codec.decode_frame(packed)
            groups = [(gid, judged(payload).asked) for gid, payload in frame.groups] if lessor.leading else []
        except CorruptionError:
            return  # not from a gateway of ours
        if not lessor.leading:
            self._pass_on(frame, packed, [gid for gid, _ in frame.groups])
            return
        for gid, asked in groups:
            group = _Group(frame.member_id, frame.incarnation, gid, len(asked))
            for id_, _, keep_alive in asked:
                if isinstance(keep_alive, m.LeaseKeepAlive):
                    lessor.keep_alive(keep_alive.id, (group, id_, keep_alive.id), now)

    def _pass_on(self, frame: m.Frame, packed: bytes, gids: list[int]) -> None:
        """To the leader's lease actor; what has been passed on already is not once more."""
        leader = self.lessor.leader
        if not leader or frame.member_id != self._member_id:
            code = NoLeader.code
        elif self._post("raft", m.Relay(leader, "lease", codec.encode(m.LeaseRequests(packed)))):
            return
        else:
            code = TooManyRequests.code
        self._refused.setdefault((frame.member_id, frame.incarnation, code), []).extend(gids)

    def _answer(self) -> None:
        """Tell gateways what is settled, all of one gateway in one message."""
        lessor, revision = self.lessor, self.lessor.revision
        settled, lessor.askers.settled = lessor.askers.settled, []
        for (group, id_, lease), ttl in settled:
            if ttl in _REFUSALS:
                if group.left > 0:
                    refused = (group.member, group.incarnation, _REFUSALS[ttl])
                    self._refused.setdefault(refused, []).append(group.gid)
                group.left = 0
                continue
            # an Answers and a LeaseKeepAliveAnswer each, as the tuples they are packed as
            group.parts.append((id_, _NOT_FOUND, revision, ()) if ttl == GONE else (id_, _OK, revision, (lease, ttl)))
            group.left -= 1
            if group.left == 0:
                payload = codec.pack((_VERSION, self._cluster_id, group.member, lessor.term, group.parts, 0, ()))
                self._answers.setdefault((group.member, group.incarnation), []).append((group.gid, payload, True))
        for (member, incarnation), answers in self._answers.items():
            self._tell(member, m.GatewayAnswers(incarnation, tuple(answers)))
        for (member, incarnation, code), gids in self._refused.items():
            self._tell(member, m.Refused(incarnation, code, tuple(gids)))
        self._answers.clear()
        self._refused.clear()

    def _tell(self, member: int, message: m.GatewayAnswers | m.Refused) -> None:
        """A member's gateway. What finds no room is lost, and asked for again."""
        door = m.door_of(message.incarnation)
        if member == self._member_id:
            self._post(door, message)
        else:
            self._post("raft", m.Relay(member, door, codec.encode(message)))


def start(node: Node, incarnation: int) -> tuple[LeaseActor, Mailbox]:
    mailbox = Mailbox(node.rundir, "lease", ("raft", "storage", *node.doors), reports=node.reports)
    for neighbour in ("raft", "storage", *node.doors):
        mailbox.post(neighbour, m.Hello("lease", incarnation))
    actor = LeaseActor(
        limits=node.limits,
        cluster_id=node.cluster_id,
        member_id=node.member_id,
        incarnation=incarnation,
        post=mailbox.post,
    )
    return actor, mailbox
