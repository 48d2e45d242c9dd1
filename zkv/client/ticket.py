"""What a session knows of one request.

A ticket moves QUEUED -> SENT -> DONE; a failure that is tried again leads from SENT back to QUEUED, or to DELAYED when
the retry waits. Only `Session` moves it. Whoever submitted it reads `done`, then `error` or `answer`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from zkv.client.ledger import Ledger
    from zkv.client.stream import StoreStream, Stream
    from zkv.errors import ZkvError
    from zkv.wire.messages import AnswerBody, Request

FOREVER: Final = 1 << 61
"""A time (ms) that never comes. Compiled, what is greater is an object."""


class State(IntEnum):
    QUEUED = 0
    SENT = 1
    DELAYED = 2
    DONE = 3


QUEUED: Final = State.QUEUED
SENT: Final = State.SENT
DELAYED: Final = State.DELAYED
DONE: Final = State.DONE


class Header(NamedTuple):
    """Who answered: the cluster, the member, the store's revision and the raft term there."""

    cluster_id: int
    member_id: int
    revision: int
    raft_term: int


class Ticket:
    """One request on its way. `context` belongs to the caller: a lock, a future, whatever it wakes."""

    __slots__ = (
        "answer", "avoid", "context", "deadline", "doubt", "due", "endpoint", "error", "first_sent", "id", "lane",
        "ledger", "op", "origin", "past", "pinned", "request", "revision", "sent_at", "state", "stream", "tries",
    )  # fmt: skip

    def __init__(self, request: Request, op: int, lane: int, deadline: int, context: object) -> None:
        self.request: Request = request
        self.op = op
        self.lane = lane
        self.deadline = deadline
        self.context = context
        self.state: State = QUEUED
        self.id = 0
        self.tries = 0
        self.due = FOREVER
        self.doubt = False
        self.pinned: int | None = None
        self.avoid: int | None = None
        self.past: tuple[tuple[int, int], ...] = ()
        self.stream: Stream | StoreStream | None = None
        self.ledger: Ledger | None = None
        self.error: ZkvError | None = None

    endpoint: int
    """Where the present attempt went."""
    sent_at: int
    first_sent: int
    answer: AnswerBody
    revision: int
    origin: tuple[int, int, int]
    """cluster id, member id, raft term of whoever answered"""

    @property
    def done(self) -> bool:
        return self.state is DONE

    @property
    def header(self) -> Header:
        """Who answered. Only for a ticket that has an answer, or a chunk."""
        cluster_id, member_id, raft_term = self.origin
        return tuple.__new__(Header, (cluster_id, member_id, self.revision, raft_term))

    def __repr__(self) -> str:
        return f"<Ticket {self.id} {type(self.request).__name__} {self.state.name}>"
