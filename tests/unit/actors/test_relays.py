"""What members relay for each other's lease actors and doors, and what they do not."""

from __future__ import annotations

from typing import Any

import pytest

from zkv.actors.relays import LEADERS_LEASE, Relays
from zkv.wire import codec
from zkv.wire import messages as m

KEEP_ALIVES = codec.encode(m.LeaseRequests(b"frame"))


class House:
    """Member 1; `full`: nothing can be sent to peers."""

    def __init__(self, bytes_max: int = 1000) -> None:
        self.posted: list[tuple[str | int, Any]] = []
        self.full = False
        self.relays = Relays(1, bytes_max, post=self._post, post_peer=self._post_peer)

    def _post(self, to: str, message: Any) -> bool:
        self.posted.append((to, message))
        return True

    def _post_peer(self, to: int, message: Any) -> bool:
        if not self.full:
            self.posted.append((to, message))
        return not self.full


def test_keep_alives_pass_to_the_leaders_lease_actor() -> None:
    """From there they come out as they went in."""
    here, leader = House(), House()
    relay = m.Relay(1, "lease", KEEP_ALIVES)
    assert here.relays.pass_on(relay) is None
    assert here.posted == [(1, relay)]
    leader.relays.take_in(2, relay)
    assert leader.posted == [("lease", m.LeaseRequests(b"frame"))]


def test_keep_alives_that_cannot_leave_come_back_to_be_refused() -> None:
    """No connection, or too much for one message. Of answers nothing comes back: whoever waits asks again."""
    cut_off, small = House(), House(bytes_max=3)
    cut_off.full = True
    for house in (cut_off, small):
        assert house.relays.pass_on(m.Relay(2, "lease", KEEP_ALIVES)) == b"frame"
        assert house.relays.pass_on(m.Relay(2, "gateway", codec.encode(m.Refused(5, 1, (1,))))) is None
        assert house.posted == []


@pytest.mark.parametrize(
    "relay",
    [
        m.Relay(2, "lease", KEEP_ALIVES),  # for another member
        m.Relay(1, "storage", KEEP_ALIVES),
        m.Relay(1, "gateway", KEEP_ALIVES),
        m.Relay(1, "lease", codec.encode(m.Refused(5, 1, (1,)))),
        m.Relay(1, "gateway", codec.encode(m.Propose(b"frame"))),
        m.Relay(1, "lease", b"nonsense"),
        m.Relay(1, "lease", b""),
    ],
)
def test_nothing_else_is_relayed(relay: m.Relay) -> None:
    """Members trust each other, and still this is no way into any actor."""
    house = House()
    house.relays.take_in(2, relay)
    assert house.posted == []


def test_other_members_doors_hear_of_a_new_lease_actor_of_the_leader() -> None:
    """It had their keep-alives."""
    house, other = House(), House()
    house.relays.tell_lease_restarted((1, 2), 77)
    assert [to for to, _ in house.posted] == [2, 2]
    for _, relay in house.posted:
        other.relays.take_in(1, relay._replace(member=1))
    assert other.posted == [(door, m.Hello(LEADERS_LEASE, 77)) for door in ("gateway", "grpc")]
