"""The watch actor: who is owed which event.

Storage hands it every applied batch once. zkv has no watchers yet: the actor keeps the revision that was
reached, from which a watcher's history ends and its live events begin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv.mailbox import Mailbox, Stop
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NamedTuple

    from zkv.actors.node import Node


class WatchActor:
    def __init__(self, post: Callable[[str, NamedTuple], bool]) -> None:
        self.finished = False
        self.revision = 0
        self._post = post

    def handle(self, inbox: Sequence[tuple[str, object]], now: int) -> None:  # noqa: ARG002 - every actor's face
        for _, message in inbox:
            if isinstance(message, m.Applied):
                self.revision = max(self.revision, message.revision)
            elif isinstance(message, Stop):
                self.finished = True

    def next_wakeup(self, now: int) -> int | None:  # noqa: ARG002
        return None


def start(node: Node, incarnation: int) -> tuple[WatchActor, Mailbox]:
    mailbox = Mailbox(node.rundir, "watch", ("storage",))
    mailbox.post("storage", m.Hello("watch", incarnation))
    return WatchActor(mailbox.post), mailbox
