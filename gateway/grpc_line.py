"""One client connection of the gRPC door, and the calls on it: events in, answers out; no socket.

The door's owner gives it what was read (`receive`), and writes what `to_send` returns. Lines with something to send
tell the desk (`dirty`), so that all answers of one turn to one client leave in one write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from zkv.gateway.grpc_tally import CANCELED
from zkv.gateway.http2 import grpc
from zkv.gateway.shares import Share  # noqa: TC001 - compiled, a NamedTuple looks at the types of its fields

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zkv.gateway.grpc_tally import CallTally
    from zkv.gateway.http2.grpc import Call, Event
    from zkv.gateway.http2.grpc_words import Methods
    from zkv.gateway.http2.limits import Http2Limits
    from zkv.gateway.web.http2 import PlainStreams


PUSHBACK: Final = b"grpc-retry-pushback-ms"
"""gRPC's own word (gRFC A6) for when a call may be tried again; its clients keep to it where they retry."""


class Served(Protocol):
    """A call that is being served. After `cancelled` nothing more is heard of it."""

    def received(self, data: bytes, now: int) -> None: ...
    def half_closed(self) -> None: ...
    def drained(self) -> None: ...
    def cancelled(self) -> None: ...


class Peer(NamedTuple):
    """Who is at the other end, known before anything is received."""

    common_name: str = ""
    """Of the certificate it has shown; empty where it has shown none."""
    address: str = ""
    secure: bool = False
    share: Share | None = None
    """What it has of this door; None where nobody counts."""


class Answers(Protocol):
    """Where the answers of a call go to."""

    common_name: str
    address: str
    share: Share | None

    def reply(self, call: Call, message: bytes) -> None:
        """All of a unary call's answer."""

    def send(self, call: Call, message: bytes) -> bool:
        """One of many. False: wait for `Served.drained`, or for nothing if the call is over."""

    def finish(self, call: Call, status: int, text: str, retry_ms: int = 0) -> None:
        """`retry_ms`: before that it need not be tried again; 0: nobody says."""


class Desk(Protocol):
    """Who serves the calls of all lines."""

    methods: Methods
    dirty: set[Connection]

    def called(self, line: Answers, call: Call, message: bytes, now: int) -> Served | None: ...
    def opened(self, line: Answers, call: Call, now: int) -> Served | None: ...


class Connection(Protocol):
    """What is spoken on a socket, as its owner sees it."""

    @property
    def finished(self) -> bool:
        """Write what `to_send` gives, then close the socket."""

    @property
    def wants_more(self) -> bool:
        """The socket is to be read."""

    def receive(self, data: bytes, now: int) -> None: ...
    def to_send(self) -> bytes: ...
    def written(self) -> None:
        """What was given is in the socket, and it takes more."""

    def hold(self) -> None:
        """The socket takes no more for now."""

    def release(self, now: int) -> None: ...
    def tick(self, now: int) -> None: ...
    def lost(self, now: int) -> None: ...
    def drain(self, now: int) -> None:
        """No more calls; those that are being served go on."""


class Line:
    """A Connection by HTTP/2. `calls`: those being served, and not yet answered. `web`: serves what is not gRPC."""

    wants_more = True

    def __init__(
        self,
        desk: Desk,
        limits: Http2Limits,
        now: int,
        peer: Peer | None = None,
        *,
        web: PlainStreams | None = None,
        tally: CallTally | None = None,
    ) -> None:
        peer = peer or Peer()
        self.common_name, self.address, self.share = peer.common_name, peer.address, peer.share
        self.connection = grpc.GrpcConnection(desk.methods, limits, now, web)
        self.calls: dict[Call, Served] = {}
        self._desk = desk
        self._web = web
        self._tally = tally
        if web is not None:
            web.http = self.connection.http
            web.dirty = lambda: desk.dirty.add(self)

    # --- from the socket -----------------------------------------------------------------------------

    @property
    def finished(self) -> bool:
        return self.connection.finished

    def receive(self, data: bytes, now: int) -> None:
        if self._web is not None:
            self._web.now = now
        self._serve(self.connection.receive(data, now), now)

    def to_send(self) -> bytes:
        return self.connection.to_send()

    def written(self) -> None:
        """HTTP/2 has windows, and needs no such word."""

    def tick(self, now: int) -> None:
        self._serve(self.connection.tick(now), now)

    def hold(self) -> None:
        self.connection.http.hold()

    def release(self, now: int) -> None:
        """The socket takes more again."""
        self._serve(self.connection.release(), now)

    def lost(self, now: int) -> None:
        self._serve(self.connection.lost(), now)
        self.calls.clear()

    def drain(self, now: int) -> None:
        self.connection.http.drain(now)
        self._desk.dirty.add(self)

    def _serve(self, events: Iterable[Event], now: int) -> None:
        self._desk.dirty.add(self)
        calls = self.calls
        tally = self._tally
        for event in events:
            if isinstance(event, grpc.Called):
                if tally is not None:
                    tally.called(event.call)
                served = self._desk.called(self, event.call, event.message, now)
                if served is not None:
                    calls[event.call] = served
                continue
            if tally is not None:
                _count(tally, event)
            kind = event.__class__
            call = event.call
            if kind is grpc.Opened:
                served = self._desk.opened(self, call, now)
                if served is not None:
                    calls[call] = served
            else:
                served = calls.get(call)
                if served is None:
                    continue
                if isinstance(event, grpc.Received):
                    served.received(event.message, now)
                elif kind is grpc.HalfClosed:
                    served.half_closed()
                elif kind is grpc.Drained:
                    served.drained()
                else:
                    del calls[call]
                    served.cancelled()

    # --- answers -------------------------------------------------------------------------------------

    def reply(self, call: Call, message: bytes) -> None:
        self.calls.pop(call, None)
        if self._tally is not None and not call.stream.closing:
            self._tally.replied(call)
        self.connection.reply(call, message)
        self._desk.dirty.add(self)

    def send(self, call: Call, message: bytes) -> bool:
        self._desk.dirty.add(self)
        if self._tally is not None:
            self._tally.sent(call)
        return self.connection.send(call, message)

    def finish(self, call: Call, status: int, text: str, retry_ms: int = 0) -> None:
        self.calls.pop(call, None)
        if self._tally is not None and not call.stream.closing:
            self._tally.handled(call, status)
        self.connection.finish(call, status, text, ((PUSHBACK, b"%d" % retry_ms),) if retry_ms else ())
        self._desk.dirty.add(self)


def _count(tally: CallTally, event: Event) -> None:
    match event:
        case grpc.Opened(call=call):
            tally.started(call)
        case grpc.Received(call=call):
            tally.received(call)
        case grpc.Cancelled(call=call):
            tally.handled(call, CANCELED)
