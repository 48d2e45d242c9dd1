"""The lease actor: who expires when, on the leader's monotonic clock.

zkv grants no leases yet, so there is nothing to expire: the actor follows who leads, and whatever it is to
propose will begin with that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv.mailbox import Mailbox, Stop
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NamedTuple

    from zkv.actors.node import Node


class LeaseActor:
    def __init__(self, member_id: int, post: Callable[[str, NamedTuple], bool]) -> None:
        self.finished = False
        self.leading = False
        self._member_id = member_id
        self._post = post

    def handle(self, inbox: Sequence[tuple[str, object]], now: int) -> None:  # noqa: ARG002 - every actor's face
        for _, message in inbox:
            if isinstance(message, m.LeaderIs):
                self.leading = message.leader == self._member_id
            elif isinstance(message, Stop):
                self.finished = True

    def next_wakeup(self, now: int) -> int | None:  # noqa: ARG002
        return None


def start(node: Node, incarnation: int) -> tuple[LeaseActor, Mailbox]:
    mailbox = Mailbox(node.rundir, "lease", ("raft",))
    mailbox.post("raft", m.Hello("lease", incarnation))
    return LeaseActor(node.member_id, mailbox.post), mailbox
