"""LOOK at a gateway: who is asked, when it is answered, and what of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv import errors
from zkv.gateway.looking import FRESH_MS, PATIENCE_MS, Looking
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from typing import Any

ACTORS = ("raft", "storage")


class House:
    """Actors that tell when the test says so."""

    def __init__(self) -> None:
        self.rings = 0
        self.answers: dict[int, Any] = {}
        self.looking = Looking(
            actors=ACTORS, cluster_id=9, member_id=7, ring=self._ring, answer=self._answer,
            processes=lambda pids: [("pids", ",".join(sorted(pids)), len(pids))],
        )  # fmt: skip

    def _ring(self) -> None:
        self.rings += 1

    def _answer(self, gid: int, payload: bytes) -> None:
        self.answers[gid] = codec.unpack(payload)

    def ask(self, gid: int, now: int, request: int = 5) -> None:
        requests = ((request, int(m.Op.LOOK), ()),)
        payload = codec.pack((m.PROTOCOL_VERSION, int(m.ClientKind.REQUESTS), b"", 0, requests))
        self.looking.asked([(gid, payload)], now)

    def tell(self, actor: str, number: int) -> None:
        self.looking.told(m.Gauges(actor, 100 + number, (("revision", "", number),)))


def test_who_looks_is_answered_when_all_have_told() -> None:
    house = House()
    house.ask(1, now=0, request=5)
    house.tell("raft", 3)
    house.looking.tend(10, term=4)
    assert (house.rings, house.answers) == (1, {})
    house.tell("storage", 8)
    house.looking.tend(20, term=4)
    version, cluster, member, term, ((id_, code, revision, (told,)),), *_ = house.answers[1]
    assert (version, cluster, member, term) == (m.PROTOCOL_VERSION, 9, 7, 4)
    assert (id_, code, revision) == (5, errors.Code.OK, 8)
    assert told == (
        ("raft", (("revision", "", 3),)),
        ("storage", (("revision", "", 8),)),
        ("processes", (("pids", "raft,storage,supervisor", 3),)),
    )
    assert not house.looking.waits


def test_who_does_not_tell_in_time_is_left_out() -> None:
    house = House()
    house.ask(1, now=0)
    house.tell("raft", 3)
    assert house.looking.next_wakeup() == PATIENCE_MS
    house.looking.tend(PATIENCE_MS, term=4)
    ((_, _, revision, (told,)),) = house.answers[1][4]
    assert (revision, [actor for actor, _ in told]) == (0, ["raft", "processes"])


def test_many_who_look_at_once_cost_the_actors_one_report() -> None:
    house = House()
    for gid in range(100):
        house.ask(gid, now=gid)
    house.tell("raft", 3)
    house.tell("storage", 3)
    house.looking.tend(100, term=1)
    house.ask(100, now=FRESH_MS - 1)
    house.looking.tend(FRESH_MS - 1, term=1)
    assert (house.rings, len(house.answers)) == (1, 101)
    house.ask(101, now=FRESH_MS)
    house.looking.tend(FRESH_MS, term=1)
    assert (house.rings, 101 in house.answers) == (2, False)
