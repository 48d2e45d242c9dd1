"""One client connection of the gRPC door, and the calls on it: events in, answers out; no socket.

The door's owner gives it what was read (`receive`), and writes what `to_send` returns. Lines with something to send
tell the desk (`dirty`), so that all answers of one turn to one client leave in one write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from zkv.gateway.http2 import grpc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zkv.gateway.http2.grpc import Call, Event
    from zkv.gateway.http2.grpc_words import Methods
    from zkv.gateway.http2.limits import Http2Limits


class Served(Protocol):
    """A call that is being served. After `cancelled` nothing more is heard of it."""

    def received(self, data: bytes, now: int) -> None: ...
    def half_closed(self) -> None: ...
    def drained(self) -> None: ...
    def cancelled(self) -> None: ...


class Desk(Protocol):
    """Who serves the calls of all lines."""

    methods: Methods
    dirty: set[Line]

    def called(self, line: Line, call: Call, message: bytes, now: int) -> Served | None: ...
    def opened(self, line: Line, call: Call, now: int) -> Served | None: ...


class Line:
    """`calls`: those being served, and not yet answered. `common_name`: of the certificate that the client has shown,
    "" where it has shown none; `address`: where it is. Both are known before anything is received.
    """

    def __init__(self, desk: Desk, limits: Http2Limits, now: int) -> None:
        self.connection = grpc.GrpcConnection(desk.methods, limits, now)
        self.calls: dict[Call, Served] = {}
        self.common_name = ""
        self.address = ""
        self._desk = desk

    # --- from the socket -----------------------------------------------------------------------------

    def receive(self, data: bytes, now: int) -> None:
        self._serve(self.connection.receive(data, now), now)

    def tick(self, now: int) -> None:
        self._serve(self.connection.tick(now), now)

    def release(self, now: int) -> None:
        """The socket takes more again."""
        self._serve(self.connection.release(), now)

    def lost(self, now: int) -> None:
        self._serve(self.connection.lost(), now)
        self.calls.clear()

    def drain(self, now: int) -> None:
        """No more calls; those that are being served go on."""
        self.connection.http.drain(now)
        self._desk.dirty.add(self)

    def _serve(self, events: Iterable[Event], now: int) -> None:
        self._desk.dirty.add(self)
        calls = self.calls
        for event in events:
            kind = event.__class__
            call = event.call
            if kind is grpc.Called:
                assert isinstance(event, grpc.Called)
                served = self._desk.called(self, call, event.message, now)
                if served is not None:
                    calls[call] = served
            elif kind is grpc.Opened:
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
        self.connection.reply(call, message)
        self._desk.dirty.add(self)

    def send(self, call: Call, message: bytes) -> bool:
        """False: wait for `drained`, or for nothing if the call is over."""
        self._desk.dirty.add(self)
        return self.connection.send(call, message)

    def finish(self, call: Call, status: int, text: str) -> None:
        self.calls.pop(call, None)
        self.connection.finish(call, status, text)
        self._desk.dirty.add(self)
