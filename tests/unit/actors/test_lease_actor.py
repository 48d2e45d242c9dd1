"""The lease actor: groups of keep-alives in, answers out, by way of the leader's."""

from __future__ import annotations

from typing import Any, TypeVar

from zkv.actors.lease_actor import LeaseActor
from zkv.errors import Code, LeaderChanged, LeaseNotFound, NoLeader, TooManyRequests
from zkv.limits import LEASE_SLACK_MS, Limits
from zkv.mailbox import Stop
from zkv.wire import codec
from zkv.wire import messages as m

T = TypeVar("T")

CLUSTER, GATEWAY = 9, 6
TTL, UNTIL = 10, 10_000 + LEASE_SLACK_MS
LEASE = (7, TTL, UNTIL)


def frame(*groups: tuple[int, ...], member: int = 1, incarnation: int = GATEWAY) -> bytes:
    """Groups 1, 2, .. of keep-alives of these leases."""
    payloads = [
        codec.pack(
            (1, m.ClientKind.REQUESTS, b"", 0, [(10 + lease, m.Op.LEASE_KEEP_ALIVE, (lease,)) for lease in group])
        )
        for group in groups
    ]
    return codec.pack(m.Frame(member, incarnation, tuple(enumerate(payloads, 1))))


class House:
    """Member 1's lease actor; `full`: actors that take nothing."""

    def __init__(self) -> None:
        self.posted: list[tuple[str, Any]] = []
        self.full: set[str] = set()
        self.now = 0
        self.actor = LeaseActor(limits=Limits(), cluster_id=CLUSTER, member_id=1, incarnation=99, post=self._post)
        self.hear(m.LeaseNews(0, (LEASE,), fresh=True, revision=40))

    def _post(self, to: str, message: Any) -> bool:
        if to in self.full:
            return False
        self.posted.append((to, codec.decode(codec.encode(message))))
        return True

    def hear(self, *messages: object) -> None:
        self.actor.handle([("node", message) for message in messages], self.now)

    def take(self, to: str, kind: type[T]) -> list[T]:
        taken = [message for other, message in self.posted if other == to and isinstance(message, kind)]
        self.posted = [each for each in self.posted if not (each[0] == to and isinstance(each[1], kind))]
        return taken

    def answers(self) -> list[tuple[int, m.Answers]]:
        """(gid, answers) to the own gateway."""
        found = []
        for message in self.take("gateway", m.GatewayAnswers):
            assert message.incarnation == GATEWAY
            assert all(last for _, _, last in message.answers)
            found += [(gid, m.Answers(*codec.unpack(payload))) for gid, payload, _ in message.answers]
        return found

    def proposed(self) -> list[tuple[int, Any]]:
        """(Op, fields) of the requests proposed."""
        requests = []
        for message in self.take("raft", m.Propose):
            _, incarnation, ((_, group),) = codec.unpack(message.frame)
            assert incarnation == 0, "no gateway waits for these"
            requests += [(op, fields) for _, op, fields in codec.unpack(group)[4]]
        return requests


def leading() -> House:
    house = House()
    house.hear(m.LeaderIs(3, 1, 0))
    return house


# --- the leader's ----------------------------------------------------------------------------------


def test_a_group_is_answered_when_all_its_keep_alives_are() -> None:
    """In one message, with the ids of its requests; others are not held up by it."""
    house = leading()
    house.hear(m.LeaseRequests(frame((7,), (7, 8))))
    ((gid, answers),) = house.answers()
    assert gid == 1
    assert answers[:4] == (m.PROTOCOL_VERSION, CLUSTER, 1, 3)
    assert answers.answers == ((17, Code.OK, 40, (7, TTL)),)
    (read,) = house.take("raft", m.Read)
    _, incarnation, ((ticket, _),) = codec.unpack(read.frame)
    assert incarnation == 0
    body = codec.pack(m.Answers(1, CLUSTER, 1, 3, ((1, Code.OK, 40, m.LeaseTimeToLiveAnswer(8, -1, 0)),)))
    house.hear(m.GatewayAnswers(0, ((ticket, body, True),)))
    ((gid, answers),) = house.answers()
    assert gid == 2
    assert answers.answers == ((17, Code.OK, 40, (7, TTL)), (18, LeaseNotFound.code, 40, ()))


def test_what_the_lessor_wants_logged_is_proposed() -> None:
    """Renewals, expiries and ticks, as members' requests, each in its own term only."""
    house = leading()
    house.now = LEASE_SLACK_MS + 1
    house.hear(m.LeaseRequests(frame((7,))))
    assert house.proposed() == [(m.Op.LEASE_RENEW, (3, ((7, UNTIL + house.now),)))]
    house.now = 2_000
    house.hear(m.LeaseNews(1, ((7, TTL, UNTIL + 900),)))
    assert house.proposed() == [(m.Op.LEASE_RENEW, (3, ()))]
    house.now = 60_000
    house.hear()
    assert house.proposed() == [(m.Op.LEASE_EXPIRE, (3, ((7, UNTIL + 900),)))]


def test_another_members_gateway_is_answered_through_raft() -> None:
    """Under that member's name."""
    house = leading()
    house.hear(m.LeaseRequests(frame((7,), member=2, incarnation=66)))
    (relay,) = house.take("raft", m.Relay)
    assert relay[:2] == (2, "gateway")
    message = codec.decode(relay.message)
    assert isinstance(message, m.GatewayAnswers)
    assert message.incarnation == 66
    ((gid, payload, _),) = message.answers
    assert gid == 1
    assert codec.unpack(payload)[2] == 2


def test_who_waits_when_the_leader_is_deposed_is_told_once() -> None:
    """A group of several waits as one."""
    house = leading()
    house.hear(m.LeaseRequests(frame((8, 9), (8,))))
    house.hear(m.LeaderIs(4, 2, 0))
    assert house.take("gateway", m.Refused) == [m.Refused(GATEWAY, LeaderChanged.code, (1, 2))]


def test_a_restart_of_raft_ends_the_leadership() -> None:
    """It leads no more when it comes back, and has lost what it was given."""
    house = leading()
    house.hear(m.LeaseRequests(frame((8,))))
    house.hear(m.Hello("raft", 2))
    assert house.take("gateway", m.Refused) == [m.Refused(GATEWAY, LeaderChanged.code, (1,))]


def test_what_is_no_frame_of_keep_alives_is_dropped() -> None:
    """Whatever another member sends, the actor lives on."""
    house = leading()
    for junk in (
        b"",
        b"junk",
        codec.pack((1, 2, 3)),
        codec.pack((2, 6, ((1, b"\xc1"),))),
        codec.pack((2, 6, ((1, b"\x90"),))),
    ):
        house.hear(m.LeaseRequests(junk))
    assert house.posted == []


# --- the others' -----------------------------------------------------------------------------------


def test_who_does_not_lead_passes_keep_alives_on() -> None:
    """To the leader's lease actor, as they came."""
    house = House()
    house.hear(m.LeaderIs(3, 2), m.LeaseRequests(frame((7,))))
    assert house.take("raft", m.Relay) == [m.Relay(2, "lease", codec.encode(m.LeaseRequests(frame((7,)))))]


def test_what_was_passed_on_is_not_passed_on_again() -> None:
    """Two members that each believe the other to lead must not play ball."""
    house = House()
    house.hear(m.LeaderIs(3, 2), m.LeaseRequests(frame((7,), member=3)))
    (relay,) = house.take("raft", m.Relay)
    assert relay[:2] == (3, "gateway")
    assert codec.decode(relay.message) == m.Refused(GATEWAY, NoLeader.code, (1,))


def test_without_a_leader_or_room_keep_alives_are_refused() -> None:
    """At once; they may be asked again."""
    house = House()
    house.hear(m.LeaseRequests(frame((7,), (7,))))
    assert house.take("gateway", m.Refused) == [m.Refused(GATEWAY, NoLeader.code, (1, 2))]
    house.full = {"raft"}
    house.hear(m.LeaderIs(3, 2), m.LeaseRequests(frame((7,))))
    assert house.take("gateway", m.Refused) == [m.Refused(GATEWAY, TooManyRequests.code, (1,))]


def test_it_stops_when_told_to() -> None:
    """There is nothing to finish."""
    house = House()
    house.actor.handle([("supervisor", Stop())], 0)
    assert house.actor.finished
