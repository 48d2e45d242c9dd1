"""Between the raft actor's mailbox and the actor: what is said of links, and over them, before it is a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zkv.actors.acquaintances import USHER
from zkv.actors.peers import DOOR
from zkv.mailbox import LOST
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.actors.peers import PeerLinks
    from zkv.actors.raft_actor import RaftActor
    from zkv.gauges import Value


_USHERS_WORDS = frozenset({m.Admit, m.Dismiss, m.PeerKeyIs, m.Hello})


class AtTheDoor:
    """Between the mailbox and the actor: raw frames of the peers' door become messages, or are refused; what the usher
    says is about links.
    """

    def __init__(self, actor: RaftActor, links: PeerLinks) -> None:
        self._actor = actor
        self._links = links

    @property
    def finished(self) -> bool:
        return self._actor.finished

    def next_wakeup(self, now: int) -> int | None:
        return self._actor.next_wakeup(now)

    def gauges(self) -> Sequence[Value]:
        return self._actor.gauges()

    def handle(self, inbox: Sequence[tuple[str, Any]], now: int) -> None:
        opened: list[tuple[str, object]] = []
        for source, item in inbox:
            message = item
            if source == DOOR:
                connection, frame = item
                message = self._links.receive(connection, frame)
                if message is None:
                    continue
            elif source == LOST:
                self._links.lost(int(item))
            elif type(item) in _USHERS_WORDS and (type(item) is not m.Hello or item.actor == USHER):
                self._links.from_usher(item)
                continue
            opened.append((source, message))
        self._actor.handle(opened, now)
