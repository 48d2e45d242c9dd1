"""gRPC's calls over one HTTP/2 connection.

A call is a stream. What its client sends becomes events, returned by `receive` and `tick`:

    the client sends one message                  the client streams
    (unary, server streaming)                     (client streaming, bidirectional)
      Called(call, message)                         Opened(call)
                                                    Received(call, message), any number
                                                    HalfClosed(call)
    Cancelled(call, code)                         Cancelled(call, code)         instead of the rest, at any time
    Drained(call)                                 Drained(call)                 after `send` returned False

Of a call refused here (no such method, not gRPC, too large, ...) nothing is heard, or, if it was heard of before,
Cancelled. Called, and Opened, are each heard once; after Cancelled nothing more is; and whoever serves the call then
need do nothing, and whatever it still answers is void. Otherwise it answers

    reply(call, message)                            one message and OK, or
    send(call, message), any number                 streamed ...
    finish(call, status, text)                      ... and the end of it; alone it is an answer of trailers only

Deadlines are the server's to keep: `call.deadline` is in the `now` of its `receive`. gRPC's rule for
compression is kept simple: a client that compresses is answered compressed.

Memory. A message that is not whole is kept here; all of a connection together have `held_bytes_max`. The first
`stream_window_bytes` of each call may come unasked. What a message needs beyond is known from its first five bytes, and
granted whole, as long as half of `held_bytes_max` is not granted; other calls wait their turn, in order. Calls that
hold what was not granted share the other half; who finds it full is refused with RESOURCE_EXHAUSTED. So no two calls
wait for each other: who was granted room can always finish, for the connection's window is given back at once.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from librt.strings import read_i32_be

from zkv.gateway.http2.connection import Connection, Handler
from zkv.gateway.http2.grpc_messages import PREFIX_BYTES, Assembler, decompress, message, prefixed
from zkv.gateway.http2.grpc_words import (
    ANSWER,
    ANSWER_GZIP,
    NOT_GRPC,
    OK,
    TIMEOUT,
    GrpcFault,
    Head,
    Method,
    Methods,
    Status,
    encode_metadata,
    read_head,
    timeout_ms,
    trailers,
)
from zkv.gateway.http2.patience import Patience
from zkv.gateway.http2.words import ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zkv.gateway.http2.header_blocks import Fields
    from zkv.gateway.http2.limits import Http2Limits
    from zkv.gateway.http2.requests import Request
    from zkv.gateway.http2.streams import Stream


RATIO_FREE: Final = 32
"""A message may become so many times larger; what it is beyond, its client has only so much of."""
_UNREAD: Final = trailers(Status.RESOURCE_EXHAUSTED, "grpc: too many answers wait for this client to read them")


class Call:
    """One call, for as long as it lasts."""

    __slots__ = (
        "announced", "assembler", "deadline", "granted", "head", "kept", "message", "method",
        "request", "stream", "waits",
    )  # fmt: skip

    def __init__(self, stream: Stream, request: Request, head: Head, method: Method) -> None:
        self.stream = stream
        self.request = request
        self.head = head
        self.method = method
        self.deadline: int | None = None
        """Milliseconds, on the clock of `receive`; None if the client set none."""
        self.announced = False
        """Its server has heard of it."""
        self.assembler: Assembler | None = None
        self.message: tuple[int, bytes] | None = None
        """The one message of a client that does not stream, as it came, until it has half-closed."""
        self.kept = 0
        """Bytes held for it, if none were granted."""
        self.granted = 0
        """Bytes of room for a message larger than a window."""
        self.waits = False
        """For that."""

    @property
    def over(self) -> bool:
        """Whatever is still answered is void."""
        return self.stream.closing

    def __repr__(self) -> str:
        return f"<Call {self.stream.id} {self.request.path.decode()}>"


class Called:
    """(No tuple as the others: of nearly all calls it is the one event, and takes a third of the time so.)"""

    __slots__ = ("call", "message")

    def __init__(self, call: Call, message: bytes) -> None:
        self.call = call
        self.message = message


class Opened(NamedTuple):
    call: Call


class Received(NamedTuple):
    call: Call
    message: bytes


class HalfClosed(NamedTuple):
    call: Call


class Cancelled(NamedTuple):
    call: Call
    code: int
    """HTTP/2's."""


class Drained(NamedTuple):
    call: Call


Event: TypeAlias = Called | Opened | Received | HalfClosed | Cancelled | Drained


class GrpcConnection:
    """See the module. `plain` serves requests that are not gRPC (etcd's JSON comes in by the same door)."""

    def __init__(self, methods: Methods, limits: Http2Limits, now: int, plain: Handler | None = None) -> None:
        self._methods = methods
        self._limits = limits
        self._message_bytes_max, self._queued_bytes_max = limits.message_bytes_max, limits.queued_bytes_max
        self._plain = plain
        self._now = now
        self._events: list[Event] = []
        self._kept = 0  # the sum of the calls' `kept`
        self._granted = 0  # the sum of the calls' `granted`
        self._waiting: deque[Call] = deque()  # for a grant
        self._bombs = Patience(
            "too much compressed into too little", limits.bomb_kib_burst, limits.bomb_kib_per_s, 0, now
        )
        self.http = Connection(self, limits, now, aside=TIMEOUT)
        self.to_send = self.http.to_send

    @property
    def finished(self) -> bool:
        """Write what `to_send` gives, then close the socket."""
        return self.http.finished

    def receive(self, data: bytes, now: int) -> list[Event]:
        """What was read from the socket."""
        self._now = now
        self.http.receive(data, now)
        return self._take()

    def tick(self, now: int) -> list[Event]:
        """To be called about once a second."""
        self._now = now
        self.http.tick(now)
        return self._take()

    def lost(self) -> list[Event]:
        """The socket is gone."""
        self.http.lost()
        return self._take()

    def release(self) -> list[Event]:
        """The socket takes more again, after `http.hold`."""
        self.http.release()
        return self._take()

    def _take(self) -> list[Event]:
        events = self._events
        if events:
            self._events = []
        return events

    # --- answers -----------------------------------------------------------------------------------

    def reply(self, call: Call, data: bytes) -> None:
        """The whole answer of a unary call. It may be called for a call that is over."""
        stream = call.stream
        if stream.closing:
            return
        call.announced = False
        gzip = call.head.encoding != b""
        framed = message(data, gzip=True) if gzip else prefixed(0, data)
        if not self._has_room(framed):
            self._end(call, _UNREAD)
        elif stream.answered:
            self.http.send_data(stream, framed)
            self.http.send_headers(stream, OK, end=True)
        else:
            self.http.send_whole(stream, ANSWER_GZIP if gzip else ANSWER, framed, OK)
        if call.assembler is not None:
            self._forget(call)

    def begin(self, call: Call, metadata: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """The head of an answer, ahead of its first message; once. No name in `metadata` is gRPC's or HTTP's own."""
        if not call.stream.closing:
            assert not call.stream.answered
            block = ANSWER_GZIP if call.head.encoding else ANSWER
            self.http.send_headers(call.stream, block + encode_metadata(metadata))

    def send(self, call: Call, data: bytes) -> bool:
        """One message of an answer. False: wait for Drained, or for nothing if the call is `over`."""
        stream = call.stream
        if stream.closing:
            return False
        framed = message(data, gzip=call.head.encoding != b"")
        if not self._has_room(framed):
            self._end(call, _UNREAD)
            self._cancel(call, ErrorCode.ENHANCE_YOUR_CALM)
            return False
        if not stream.answered:
            self.begin(call)
        return self.http.send_data(stream, framed)

    def finish(self, call: Call, status: int = 0, text: str = "", metadata: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """The end of an answer, `metadata` with it. It may be called for a call that is over."""
        if not call.stream.closing:
            call.announced = False
            self._end(call, trailers(status, text, metadata))

    def _end(self, call: Call, block: bytes) -> None:
        stream = call.stream
        self.http.send_headers(stream, block if stream.answered else ANSWER + block, end=True)
        self._forget(call)

    def _has_room(self, framed: bytes) -> bool:
        return self.http.outflow.queued + len(framed) <= self._queued_bytes_max

    # --- what comes in: the Handler of `http` ------------------------------------------------------------

    def on_request(self, stream: Stream, request: Request, end: bool) -> None:
        head: Head | None = request.note
        if head is None:
            head = request.note = read_head(request, self._methods)
        method = head.method
        if method is None:
            if self._plain is not None and head.refusal is NOT_GRPC:
                self._plain.on_request(stream, request, end)
            else:
                assert head.refusal is not None
                self.http.send_headers(stream, head.refusal, end=True)
            return
        call = Call(stream, request, head, method)
        stream.owner = call
        if stream.aside:
            try:
                call.deadline = self._now + timeout_ms(stream.aside)
            except GrpcFault as fault:
                self._refuse(call, fault)
                return
        if method.client_streams:
            call.announced = True
            self._events.append(Opened(call))
        if end:
            self._half_closed(call)

    def on_data(self, stream: Stream, data: bytes, end: bool) -> None:
        call = stream.owner
        if call.__class__ is not Call:
            assert self._plain is not None
            self._plain.on_data(stream, data, end)
            return
        if end and call.assembler is None and not call.method.client_streams:
            size = len(data) - PREFIX_BYTES  # nearly always: one message, in one frame, and the end
            if 0 <= size <= self._message_bytes_max and not data[0] and read_i32_be(data, 1) == size:
                call.announced = True
                self._events.append(Called(call, data[PREFIX_BYTES:]))
                return
        if stream.closing:
            return  # it was answered, and only waits for the client to read that
        try:
            self._assemble(call, data)
            if not end:
                self._refill(call)
        except GrpcFault as fault:
            self._refuse(call, fault)
            return
        if end:
            self._half_closed(call)

    def on_trailers(self, stream: Stream, fields: Fields) -> None:
        call = stream.owner
        if call.__class__ is Call:
            self._half_closed(call)
        elif self._plain is not None:
            self._plain.on_trailers(stream, fields)

    def on_reset(self, stream: Stream, code: int) -> None:
        call = stream.owner
        if call.__class__ is Call:
            self._forget(call)
            self._cancel(call, code)
        elif self._plain is not None:
            self._plain.on_reset(stream, code)

    def on_drained(self, stream: Stream) -> None:
        call = stream.owner
        if call.__class__ is not Call:
            assert self._plain is not None
            self._plain.on_drained(stream)
        elif call.announced:
            self._events.append(Drained(call))

    # --- inside ----------------------------------------------------------------------------------------

    def _assemble(self, call: Call, data: bytes) -> None:
        """Raises GrpcFault, ConnectionFault."""
        assembler = call.assembler
        if assembler is None:
            assembler = call.assembler = Assembler(self._limits.message_bytes_max)
        found = assembler.feed(data)
        for flag, body in found:
            if call.method.client_streams:
                self._events.append(Received(call, self._inflated(call, flag, body)))
            elif call.message is None:
                call.message = (flag, body)  # still compressed: it may be kept for long
            else:
                raise GrpcFault(Status.INTERNAL, "grpc: more than one message from a client that does not stream")
        if found and call.granted and call.message is None:
            self._ungrant(call)
        self._count(call)
        if self._kept > self._limits.held_bytes_max // 2 and call.kept:
            raise GrpcFault(Status.RESOURCE_EXHAUSTED, "grpc: too many messages of this client are not whole")

    def _half_closed(self, call: Call) -> None:
        if call.stream.closing:
            return
        if call.assembler is not None and call.assembler.held:
            self._refuse(call, GrpcFault(Status.INTERNAL, "unexpected EOF"))
        elif call.method.client_streams:
            self._events.append(HalfClosed(call))
        elif call.message is None:
            self._refuse(call, GrpcFault(Status.INTERNAL, "grpc: no message from the client"))
        else:
            try:
                self._events.append(Called(call, self._inflated(call, *call.message)))
                call.announced = True
            except GrpcFault as fault:
                self._refuse(call, fault)
        self._forget(call)

    def _inflated(self, call: Call, flag: int, body: bytes) -> bytes:
        """Raises GrpcFault, ConnectionFault."""
        if not flag:
            return body
        if not call.head.encoding:
            raise GrpcFault(Status.INTERNAL, "grpc: compressed flag set with identity or empty encoding")
        data = decompress(body, self._limits.message_bytes_max)
        excess = len(data) - RATIO_FREE * len(body)
        if excess > 0:
            self._bombs.spend(1 + excess // 1024, self._now, 0)
        return data

    def _refuse(self, call: Call, fault: GrpcFault) -> None:
        self._end(call, trailers(fault.status, fault.text))
        self._cancel(call, ErrorCode.CANCEL)

    def _cancel(self, call: Call, code: int) -> None:
        if call.announced:
            call.announced = False
            self._events.append(Cancelled(call, code))

    def _forget(self, call: Call) -> None:
        """What it kept, and what it was granted."""
        call.assembler = call.message = None
        if call.granted:
            self._ungrant(call)
        self._count(call)

    # --- room for messages: see the module -------------------------------------------------------------

    def _count(self, call: Call) -> None:
        """Keep `_kept` the sum of the calls' `kept`: of those without a grant, for a grant counts whole."""
        kept = 0
        if not call.granted:
            kept = call.assembler.held if call.assembler is not None else 0
            if call.message is not None:
                kept += len(call.message[1])
        self._kept += kept - call.kept
        call.kept = kept

    def _refill(self, call: Call) -> None:
        """Let the client send what there is room for."""
        stream = call.stream
        assert call.assembler is not None
        free = self._limits.stream_window_bytes - stream.receive_window - call.kept
        if free >= self._limits.stream_window_bytes // 2 and not call.granted:
            self.http.grant(stream, free)
        if call.assembler.missing > stream.receive_window and not call.granted and not call.waits:
            call.waits = True
            self._waiting.append(call)
            self._serve_waiting()

    def _serve_waiting(self) -> None:
        waiting = self._waiting
        while waiting:
            call = waiting[0]
            assembler = call.assembler
            if assembler is not None:
                size = assembler.held + assembler.missing
                if self._granted + size > self._limits.held_bytes_max // 2:
                    return
                call.granted = size
                self._granted += size
                self._count(call)
                self.http.grant(call.stream, assembler.missing - call.stream.receive_window)
            call.waits = False
            waiting.popleft()

    def _ungrant(self, call: Call) -> None:
        self._granted -= call.granted
        call.granted = 0
        self._serve_waiting()
