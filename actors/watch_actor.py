"""The watch actor: who is owed which event.

    gateway  -- WatchWords ------> watch    what clients with watches say
    gateway <-- WatchOut --------- watch    their answers, packed: the gateway passes them on unopened
    storage  -- Applied, History-> watch    events as they happen, and those of the past that were asked for
    storage  -- AuthNews --------> watch    who may watch what, where users are asked who they are
    storage <-- WatchNeeds,
                HistoryWanted ---- watch

The thinking is in `zkv/core/watch`. Nothing here is kept anywhere else: when the actor restarts, the gateway tells its
clients that their watches are gone, and they begin anew where they were.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from zkv.core.watch.watching import Watching
from zkv.mailbox import Mailbox, Stop
from zkv.wire import messages as m
from zkv.wire.doors import door_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NamedTuple

    from zkv.actors.node import Node
    from zkv.gauges import Value
    from zkv.limits import Limits

RETRY_MS: Final = 20  # a neighbour whose queue was full is tried again after this long
OUT_BYTES: Final = 1 << 20  # messages for streams go to the gateway in letters of about this size
TAKEN_STEP: Final = 12  # so many batches of events, of its WINDOW, are worked off before storage hears of it
GONE_MAX: Final = 16  # gateways of before that are remembered as such


class _Gateway:
    """One of them, and what it is to be told: `letters`, which wait where its queue takes none (windows bound them)."""

    def __init__(self, incarnation: int) -> None:
        self.incarnation = incarnation
        self.letters: deque[m.WatchOut] = deque()
        self._open: list[Any] = []
        self._size = 0

    def add(self, message: Any) -> None:
        """(stream, bytes)."""
        self._open.append(message)
        self._size += len(message[1])
        if self._size >= OUT_BYTES:
            self.close()

    def close(self) -> None:
        """What has been added is a letter."""
        if self._open:
            self.letters.append(tuple.__new__(m.WatchOut, (self.incarnation, tuple(self._open))))
            self._open = []
            self._size = 0


class WatchActor:
    def __init__(
        self, *, limits: Limits, cluster_id: int, member_id: int, post: Callable[[str, NamedTuple], bool]
    ) -> None:
        self.finished = False
        self.watching = Watching(limits, cluster_id=cluster_id, member_id=member_id)
        self._post = post
        self._gateways: dict[str, _Gateway] = {}  # by door
        self._gone: deque[int] = deque(maxlen=GONE_MAX)
        self._told: tuple[bool, bool] | None = None  # what storage was told to be needed
        self._taken = 0  # batches of events worked off since then
        self._retry = False

    def handle(self, inbox: Sequence[tuple[str, object]], now: int) -> None:
        watching = self.watching
        for _, message in inbox:
            match message:
                case m.Applied():
                    watching.applied(message, now)
                    self._taken += bool(message.events)
                case m.WatchWords(incarnation=incarnation, words=words):
                    if self._meet(incarnation):
                        watching.words(words, now)
                case m.History():
                    watching.history(message, now)
                case m.AuthNews():
                    watching.permissions(message, now)
                case m.Hello(actor="storage"):
                    watching.storage_restarted()
                    self._told = None
                    self._taken = 0
                case m.Hello(actor="gateway" | "grpc", incarnation=incarnation):
                    self._meet(incarnation)
                case Stop():
                    self.finished = True
                case _:
                    raise AssertionError(f"unexpected mail {type(message).__name__}")
        watching.tick(now)
        self._speak()

    def next_wakeup(self, now: int) -> int | None:
        wakeup = self.watching.next_wakeup()
        if not self._retry:
            return wakeup
        return now + RETRY_MS if wakeup is None else min(wakeup, now + RETRY_MS)

    def gauges(self) -> Sequence[Value]:
        return [(name, "", number) for name, number in self.watching.numbers().items()]

    def _meet(self, incarnation: int) -> bool:
        """Is this the gateway of now, at its door? A new one knows nothing of the streams of the one before.

        Words of the old one may come late, through a queue of their own; who was replaced never comes back.
        """
        if incarnation in self._gone:
            return False
        door = door_of(incarnation)
        before = self._gateways.get(door)
        if before is None or incarnation != before.incarnation:
            if before is not None:
                self._gone.append(before.incarnation)
                self.watching.end_all(lambda stream: door_of(stream) == door)
            self._gateways[door] = _Gateway(incarnation)
        return True

    def _speak(self) -> None:
        watching = self.watching
        self._retry = False
        if (needs := watching.needs) != self._told or self._taken >= TAKEN_STEP:
            if self._post("storage", m.WatchNeeds(*needs, self._taken)):
                self._told, self._taken = needs, 0
            else:
                self._retry = True
        question = watching.question()
        if question is not None and not self._post("storage", question):
            watching.unasked()
            self._retry = True
        messages: Sequence[Any] = watching.outgoing()  # compiled, tuples of known types would be made anew
        for message in messages:
            self._gateways[door_of(message[0])].add(message)
        for door, gateway in self._gateways.items():
            gateway.close()
            letters = gateway.letters
            while letters and self._post(door, letters[0]):
                letters.popleft()
            self._retry |= bool(letters)


def start(node: Node, incarnation: int) -> tuple[WatchActor, Mailbox]:
    mailbox = Mailbox(node.rundir, "watch", ("storage", *node.doors), reports=node.reports)
    for neighbour in ("storage", *node.doors):
        mailbox.post(neighbour, m.Hello("watch", incarnation))
    actor = WatchActor(limits=node.limits, cluster_id=node.cluster_id, member_id=node.member_id, post=mailbox.post)
    return actor, mailbox
