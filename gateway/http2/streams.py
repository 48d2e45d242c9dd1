"""A stream, and the life it may lead (RFC 9113 section 5.1), as a table.

Streams are opened by the client alone: this server pushes nothing, so the reserved states are not there.

              HEADERS                          END_STREAM sent
    IDLE -------------------> OPEN -------------------> HALF_CLOSED_LOCAL
      |                        |                               |
      | HEADERS with           | END_STREAM received           | END_STREAM received
      | END_STREAM             v                               v
      +--------------> HALF_CLOSED_REMOTE ----------------> CLOSED        (RST_STREAM, either way: CLOSED)
                                         END_STREAM sent

Only streams in one of the three states between are kept, as `Stream`. What the id of a frame says of a stream that is
not: above the highest id opened it is IDLE, else CLOSED. The table is asked for every frame received; what is not
allowed says which error it is, and whether the stream or the whole connection bears it.

An invariant the rest rests on: a `Stream` is in `Connection.streams` if and only if its state is none of IDLE and
CLOSED.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from zkv.gateway.http2.words import ConnectionFault, ErrorCode, StreamFault

if TYPE_CHECKING:
    from collections import deque

IDLE: Final = 0
OPEN: Final = 1
HALF_CLOSED_REMOTE: Final = 2
HALF_CLOSED_LOCAL: Final = 3
CLOSED: Final = 4
STATES: Final = ("IDLE", "OPEN", "HALF_CLOSED_REMOTE", "HALF_CLOSED_LOCAL", "CLOSED")

RECEIVE_HEADERS: Final = 0
RECEIVE_HEADERS_END: Final = 1  # with END_STREAM
RECEIVE_DATA: Final = 2
RECEIVE_DATA_END: Final = 3
RECEIVE_RST: Final = 4
RECEIVE_WINDOW_UPDATE: Final = 5
SEND_END: Final = 6
SEND_RST: Final = 7
EVENTS: Final = (
    "RECEIVE_HEADERS", "RECEIVE_HEADERS_END", "RECEIVE_DATA", "RECEIVE_DATA_END", "RECEIVE_RST",
    "RECEIVE_WINDOW_UPDATE", "SEND_END", "SEND_RST",
)  # fmt: skip


class Breach(NamedTuple):
    """What a frame is that came in a state where it may not."""

    fatal: bool
    """Of the connection, not of the stream."""
    code: ErrorCode
    reason: str

    def fault(self) -> ConnectionFault | StreamFault:
        return (ConnectionFault if self.fatal else StreamFault)(self.code, self.reason)


_idle = Breach(True, ErrorCode.PROTOCOL_ERROR, "a frame on a stream nobody opened")
_ended = Breach(False, ErrorCode.STREAM_CLOSED, "a frame after END_STREAM")
_gone = Breach(True, ErrorCode.STREAM_CLOSED, "a frame on a closed stream")
_endless = Breach(False, ErrorCode.PROTOCOL_ERROR, "trailers without END_STREAM")
_ours: Final = None  # a thing we do not do; that we try it is a bug

# TABLE[event][state] is the next state, or a Breach.
TABLE: Final[tuple[tuple[int | Breach | None, ...], ...]] = (
    # IDLE              OPEN                HALF_CLOSED_REMOTE  HALF_CLOSED_LOCAL  CLOSED
    (OPEN,               _endless,           _ended,             _endless,          _gone),  # RECEIVE_HEADERS
    (HALF_CLOSED_REMOTE, HALF_CLOSED_REMOTE, _ended,             CLOSED,            _gone),  # RECEIVE_HEADERS_END
    (_idle,              OPEN,               _ended,             HALF_CLOSED_LOCAL, _gone),  # RECEIVE_DATA
    (_idle,              HALF_CLOSED_REMOTE, _ended,             CLOSED,            _gone),  # RECEIVE_DATA_END
    (_idle,              CLOSED,             CLOSED,             CLOSED,            CLOSED),  # RECEIVE_RST
    (_idle,              OPEN,               HALF_CLOSED_REMOTE, HALF_CLOSED_LOCAL, CLOSED),  # RECEIVE_WINDOW_UPDATE
    (_ours,              HALF_CLOSED_LOCAL,  CLOSED,             _ours,             _ours),  # SEND_END
    (_ours,              CLOSED,             CLOSED,             CLOSED,            _ours),  # SEND_RST
)  # fmt: skip


def step(event: int, state: int) -> int:
    """The state after `event`. Raises ConnectionFault or StreamFault where a peer may not, asserts where we may not."""
    after = TABLE[event][state]
    if after.__class__ is int:
        return after
    assert isinstance(after, Breach), f"{EVENTS[event]} in {STATES[state]}"
    raise after.fault()


class Stream:
    """One that is neither idle nor closed."""

    __slots__ = (
        "answered", "aside", "body_left", "closing", "full", "id", "moved_at", "owner", "queue", "queued",
        "receive_window", "send_window", "state", "trailers",
    )  # fmt: skip

    def __init__(self, id_: int, state: int, receive_window: int, send_window: int, body_left: int | None) -> None:
        self.id = id_
        self.state = state
        self.receive_window = receive_window
        """Bytes of DATA the peer may still send."""
        self.send_window = send_window
        """Bytes of DATA we may still send; below zero when the peer took windows back (6.9.2)."""
        self.body_left = body_left
        """What content-length says is still to come; None if it said nothing."""
        self.aside = b""
        """The value of the request's field that was set aside."""
        self.owner: Any = None
        """The layer above puts here what it wants to find again. Taken away when the stream is closed and nothing more
        will be told of it: otherwise each would be a circle with its owner, and wait for the garbage collector."""
        self.answered = False
        """HEADERS were sent."""
        self.closing = False
        """All of the answer has been given to us; END_STREAM may still be queued."""
        self.queue: deque[bytes | memoryview] | None = None
        """DATA given to us that no window has been there for. None until that happens first."""
        self.queued = 0
        """Its bytes."""
        self.full = False
        """Whoever answers was told to wait."""
        self.trailers: bytes | None = None
        """The block to send after the queue, if it is not to end with DATA."""
        self.moved_at = 0
        """When the queue last got shorter, or came to be."""
