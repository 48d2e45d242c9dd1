"""What a client knows of one of its watches, and of a connection that carries watches. Only `Watching` moves them."""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING

from zkv.client.ticket import FOREVER

if TYPE_CHECKING:
    from zkv.client.watch_events import Batch
    from zkv.errors import ZkvError
    from zkv.wire.messages import Watch


class FeedState(IntEnum):
    WANTED = 0
    """To be begun, as soon as an endpoint is connected."""
    DELAYED = 1
    """The same, but not before `due`."""
    SENT = 2
    """Asked for; to be answered by `due`."""
    LIVE = 3
    """There, at a member."""
    ASIDE = 4
    """Nowhere: to be begun when its reader has read what is here."""
    ENDED = 5
    """For good, with `error`."""


WANTED, DELAYED, SENT, LIVE, ASIDE, ENDED = FeedState


class Feed:
    """A watch. `context` belongs to the caller: whatever it wakes.

    `asked` is the watch as the caller wants it, but for id and start. `next`: the revision to go on from should it
    begin anew; 0: not yet known, from whenever it begins. `begun`: a member has begun it once. `queue`: what came and
    was not read yet; `reading`: what the reader was given last (it counts as read when he comes for more); `pieces` of
    a revision that is not here whole.
    """

    __slots__ = (
        "asked", "avoid", "began", "begun", "buffered", "context", "due", "error", "id", "line", "next", "pieces",
        "queue", "read_at", "reading", "state", "tries",
    )  # fmt: skip

    def __init__(self, asked: Watch, context: object) -> None:
        self.asked = asked
        self.context = context
        self.next = asked.start_revision
        self.state: FeedState = WANTED
        self.id = 0
        self.line: Line | None = None
        self.due = FOREVER
        self.tries = 0
        self.avoid: int | None = None
        self.began = FOREVER
        self.begun = False
        self.queue: deque[Batch] = deque()
        self.reading: Batch | None = None
        self.pieces: list[Batch] = []
        self.buffered = 0
        self.read_at = 0
        self.error: ZkvError | None = None

    @property
    def done(self) -> bool:
        """It has ended; what is in the queue can still be read."""
        return self.state is ENDED

    def __repr__(self) -> str:
        return f"<Feed {self.id} {self.state.name} from {self.next}>"


class Line:
    """A connection that carries watches: what a member calls a stream.

    `feeds`: by id, SENT and LIVE ones. `ending`: ids for which UNWATCH was said and CANCELLED has not come; `words`:
    ids for which it is to be said. `received`: bytes that came and were not acknowledged; `held`: of those, what lies
    in queues; `full_since`: since when that is much; `tell_at`: when to acknowledge however little was taken (FOREVER:
    as soon as there is something). `progress_at`: when WATCH_PROGRESS was said last; `asked_at`: since when its answer
    is waited for, by the `askers`, and to know that the member is there.
    """

    __slots__ = (
        "asked_at", "askers", "ending", "endpoint", "feeds", "full_since", "held", "progress_at", "received", "tell_at",
        "words",
    )  # fmt: skip

    def __init__(self, endpoint: int, now: int) -> None:
        self.endpoint = endpoint
        self.feeds: dict[int, Feed] = {}
        self.ending: set[int] = set()
        self.received = 0
        self.held = 0
        self.full_since = FOREVER
        self.progress_at = now
        self.tell_at = FOREVER
        self.asked_at = FOREVER
        self.askers: list[Feed] = []
        self.words: list[int] = []
