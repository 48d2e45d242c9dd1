"""Mail between a member's gateway and the lease actor of the leader, over raft's connections.

And between the storages of members that compare what they hold (auditor.py).

    gateway -> Relay ->  raft ... raft -> lease               keep-alives, to the leader
                         raft ... raft <- Relay <- lease      their answers, to the gateway that asked
               gateway <- raft

Members of one cluster trust each other, and still: only what has to go this way does, and only one step.
What finds no room is lost; whoever asked will ask again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog

from zkv.errors import CorruptionError
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NamedTuple

ALLOWED: Final[dict[str, tuple[type, ...]]] = {
    "lease": (m.LeaseRequests,),
    "storage": (m.HashWanted, m.HashIs, m.DigestsWanted, m.DigestsAre),
    "gateway": (m.GatewayAnswers, m.Refused, m.Hello),
    "grpc": (m.GatewayAnswers, m.Refused, m.Hello),
}
DOORS: Final = ("gateway", "grpc")
LEADERS_LEASE: Final = "leader's lease"
"""As such the lease actor of the leader says Hello to other members' doors."""


class Relays:
    """`post` reaches the actors of this node, `post_peer` the other members' raft actors."""

    def __init__(
        self,
        member_id: int,
        bytes_max: int,
        *,
        post: Callable[[str, NamedTuple], bool],
        post_peer: Callable[[int, NamedTuple], bool],
    ) -> None:
        self._member_id = member_id
        self._bytes_max = bytes_max
        self._post = post
        self._post_peer = post_peer
        self._logger = structlog.get_logger().bind(actor="raft")

    def pass_on(self, relay: m.Relay) -> bytes | None:
        """To its member. The frame of keep-alives that cannot leave is returned: they are to be refused at once."""
        if len(relay.message) <= self._bytes_max and self._post_peer(relay.member, relay):
            return None
        message = codec.decode(relay.message)
        return message.frame if type(message) is m.LeaseRequests else None

    def take_in(self, sender: int, relay: m.Relay) -> None:
        """From a peer, for an actor here."""
        allowed = ALLOWED.get(relay.actor, ())
        try:
            message = codec.decode(relay.message)
        except CorruptionError:
            allowed = ()
        if relay.member != self._member_id or not allowed or type(message) not in allowed:
            self._logger.warning("unexpected relay from a peer", peer=f"{sender:x}")
        else:
            self._post(relay.actor, message)

    def tell_lease_restarted(self, members: Iterable[int], incarnation: int) -> None:
        """All keep-alives were with the leader's lease actor: other members' doors are to know that it is another."""
        message = codec.encode(m.Hello(LEADERS_LEASE, incarnation))
        for member in members:
            if member != self._member_id:
                for door in DOORS:
                    self._post_peer(member, m.Relay(member, door, message))
