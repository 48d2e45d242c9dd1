"""Calls by JSON, as calls of the gRPC desk: a body becomes protobuf, an answer JSON, as etcd's grpc-gateway makes them.

    one answer      its JSON, or an error with the HTTP status that belongs to its gRPC status
    many answers    {"result":{..}} and a line's end each; an error later on stands there too: {"error":{..}}

Of a body of one request what follows the first value is passed over; where the client streams, values follow one
another, each handed on when it is whole. What is no JSON, or not of the message, ends the call with Go's words.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from zkv.gateway.http2.grpc import Call
from zkv.gateway.http2.grpc_words import TIMEOUT, GrpcFault, Head, Method, Status, binary, timeout_ms
from zkv.gateway.http2.requests import Request
from zkv.gateway.http2.streams import OPEN, Stream
from zkv.gateway.web import go_json, protojson
from zkv.gateway.web.exchange import JSON, answer
from zkv.gateway.web.go_json import JsonFault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.message import Message

    from zkv.gateway.grpc_line import Desk, Served
    from zkv.gateway.web.exchange import Asked, Exchange, Fields

HTTP_STATUS: Final = {
    Status.OK: HTTPStatus.OK,
    Status.CANCELLED: HTTPStatus.REQUEST_TIMEOUT,
    Status.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    Status.DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
    Status.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Status.ALREADY_EXISTS: HTTPStatus.CONFLICT,
    Status.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    Status.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    Status.RESOURCE_EXHAUSTED: HTTPStatus.TOO_MANY_REQUESTS,
    Status.FAILED_PRECONDITION: HTTPStatus.BAD_REQUEST,
    Status.ABORTED: HTTPStatus.CONFLICT,
    Status.OUT_OF_RANGE: HTTPStatus.BAD_REQUEST,
    Status.UNIMPLEMENTED: HTTPStatus.NOT_IMPLEMENTED,
    Status.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""The others are 500."""
METADATA_PREFIX: Final = "grpc-metadata-"
"""A field of this name is metadata of the call, by the rest of its name."""
FROM_GRPC: Final = ("Grpc-Metadata-Content-Type", "application/grpc")
_NAME: Final = re.compile(r"[0-9a-z_.-]+")


class Route(NamedTuple):
    """What a path of etcd's JSON means."""

    path: bytes
    """gRPC's."""
    method: Method
    asks: type[Message]
    answers: type[Message]


class Bodies:
    """What bodies of requests that are not whole may take, one, and all of them together."""

    def __init__(self, one_max: int, all_max: int, message_max: int) -> None:
        self.one_max = one_max
        self.all_max = all_max
        self.message_max = message_max
        self.held = 0


class JsonCall:
    """One call. It is the Receiver of its request, and to the desk the line that its answers go to."""

    def __init__(self, desk: Desk, bodies: Bodies, exchange: Exchange, route: Route, asked: Asked) -> None:
        peer = asked.peer
        self.common_name, self.address, self.share = peer.common_name, peer.address, peer.share
        self._desk = desk
        self._bodies = bodies
        self._exchange = exchange
        self._route = route
        self._call = call_of(route, asked)
        self._served: Served | None = None
        self._body = bytearray()
        self._documents: go_json.Documents | None = None
        self._counted = 0  # of its body, in `bodies.held`
        self._answered = False  # its head was sent
        self._closed = False  # the client says no more, or what it says is no longer read
        self._rest: Iterator[str] | None = None  # of an answer that is being written

    # --- the request -----------------------------------------------------------------------------------

    def begin(self, asked: Asked, now: int) -> bool:
        """False: it is over already."""
        timeout = asked.fields.get(TIMEOUT.decode())
        if timeout:
            try:
                self._call.deadline = now + timeout_ms(timeout.encode())
            except GrpcFault:
                self._fail(Status.INVALID_ARGUMENT, f"invalid grpc-timeout: {timeout}")
                return False
        if self._route.method.client_streams:
            self._documents = go_json.Documents()
        return True

    def data(self, data: bytes, now: int) -> None:
        if self._call.over or self._closed:
            return
        if self._documents is not None:
            for document in self._documents.feed(data):
                self._document(document, now)
            held = self._documents.held
        else:
            self._body += data
            held = len(self._body)
        bodies = self._bodies
        bodies.held += held - self._counted
        self._counted = held
        if held > bodies.one_max or bodies.held > bodies.all_max:
            self._too_large(held, bodies.message_max)

    def ended(self, now: int) -> None:
        if self._call.over or self._closed:
            return
        if self._documents is None:
            body, self._body = self._body, bytearray()
            self._let_go()
            message = self._read(bytes(body), Status.INVALID_ARGUMENT)
            if message is not None:
                self._served = self._desk.called(self, self._call, message, now)
            return
        rest = self._documents.rest()
        self._let_go()
        if rest:
            self._document(rest, now)
        self._close(now)

    def gone(self) -> None:
        self._let_go()
        self._call.stream.closing = True
        served, self._served = self._served, None
        if served is not None:
            served.cancelled()

    def drained(self) -> None:
        if self._rest is not None:
            self._write_on()
        elif self._served is not None:
            self._served.drained()

    def _document(self, document: bytes, now: int) -> None:
        """One of several messages. The call begins with the first that can be read; one that cannot is the last."""
        if self._call.over or self._closed:
            return
        first = self._served is None
        message = self._read(document, Status.UNKNOWN if first else None)
        if message is None:
            self._close(now)
            return
        if first:
            self._open(now)
        if self._served is not None:
            self._served.received(message, now)

    def _open(self, now: int) -> None:
        self._served = self._desk.opened(self, self._call, now)

    def _close(self, now: int) -> None:
        if self._closed or self._call.over:
            return
        self._closed = True
        if self._served is None:
            self._open(now)
        if self._served is not None:
            self._served.half_closed()

    def _read(self, text: bytes, status: Status | None) -> bytes | None:
        """The message, or None, and then the call has ended with `status`, if there is one."""
        message = self._route.asks()
        try:
            found = go_json.first(go_json.decode(text))
            if found is not None:
                protojson.read(message, found[0])
        except JsonFault as fault:
            if status is not None:
                self._fail(status, go_json.valid(fault.text))
            return None
        data = message.SerializeToString()
        if len(data) > self._bodies.message_max:
            self._too_large(len(data), self._bodies.message_max)
            return None
        return data

    def _too_large(self, size: int, most: int) -> None:
        served, self._served = self._served, None
        if served is not None:
            served.cancelled()
        self._fail(Status.RESOURCE_EXHAUSTED, f"grpc: received message larger than max ({size} vs. {most})")

    def _let_go(self) -> None:
        self._bodies.held -= self._counted
        self._counted = 0

    # --- the answer: a line's face ---------------------------------------------------------------------

    def reply(self, call: Call, message: bytes) -> None:
        """The one answer of a unary call, in pieces if it is large."""
        if call.over:
            return
        self._served = None
        self._rest = protojson.pieces(self._route.answers.FromString(message))
        first = next(self._rest)
        second = next(self._rest, None)
        if second is None:
            self._over()
            answer(self._exchange, HTTPStatus.OK, JSON, first.encode(), (FROM_GRPC,))
            return
        self._head(HTTPStatus.OK)
        self._exchange.body(first.encode())
        if self._exchange.body(second.encode()):
            self._write_on()

    def _write_on(self) -> None:
        assert self._rest is not None
        for piece in self._rest:
            if not self._exchange.body(piece.encode()):
                return
        self._over()
        self._exchange.end()

    def send(self, call: Call, message: bytes) -> bool:
        """One answer of many. False: wait for `drained`."""
        if call.over:
            return False
        if not self._answered:
            self._head(HTTPStatus.OK)
        text = protojson.write(self._route.answers.FromString(message))
        return self._exchange.body(f'{{"result":{text}}}\n'.encode())

    def finish(self, call: Call, status: int, text: str, retry_ms: int = 0) -> None:
        if call.over:
            return
        self._served = None
        if status == Status.OK:
            if not self._answered:
                self._exchange.head(HTTPStatus.OK, (("Content-Type", JSON),))
            self._over()
            self._exchange.end()
        elif self._route.method.server_streams:
            self._end_stream(status, text, retry_ms)
        else:
            self._fail(status, text, retry_ms)

    def _end_stream(self, status: int, text: str, retry_ms: int = 0) -> None:
        http = HTTP_STATUS.get(Status(status), HTTPStatus.INTERNAL_SERVER_ERROR)
        if not self._answered:
            self._head(http, _retry(retry_ms))
        told = (
            f'{{"error":{{"grpc_code":{int(status)},"http_code":{http.value},"message":{protojson.quote(text)},'
            f'"http_status":"{http.phrase}"}}}}'
        )
        self._exchange.body(told.encode())
        self._over()
        self._exchange.end()

    def _fail(self, status: int, text: str, retry_ms: int = 0) -> None:
        """An error instead of an answer."""
        if self._answered:
            self._end_stream(status, text)
            return
        http = HTTP_STATUS.get(Status(status), HTTPStatus.INTERNAL_SERVER_ERROR)
        quoted = protojson.quote(text)
        told = f'{{"error":{quoted},"code":{int(status)},"message":{quoted}}}'
        self._over()
        answer(self._exchange, http, JSON, told.encode(), _retry(retry_ms))

    def _head(self, status: HTTPStatus, fields: Fields = ()) -> None:
        self._answered = True
        self._exchange.head(status, (("Content-Type", JSON), FROM_GRPC, *fields))

    def _over(self) -> None:
        self._let_go()
        self._call.stream.closing = True
        self._rest = None


def _retry(retry_ms: int) -> Fields:
    """HTTP has whole seconds for it."""
    return (("Retry-After", str(-(-retry_ms // 1000))),) if retry_ms else ()


def call_of(route: Route, asked: Asked) -> Call:
    """The call, with what of the request's head is metadata: as grpc-gateway has it."""
    metadata = []
    for name, value in asked.fields.items():
        if name == "authorization":
            metadata.append((b"authorization", value.encode()))
        elif name.startswith(METADATA_PREFIX) and _NAME.fullmatch(name):
            key, text = name.removeprefix(METADATA_PREFIX).encode(), value.encode()
            try:
                metadata.append((key, binary(text) if key.endswith(b"-bin") else text))
            except GrpcFault:
                continue  # the gateway passes over what it cannot read
    request = Request(
        method=b"POST", scheme=b"http", path=route.path, authority=b"", fields=(), content_length=None
    )  # fmt: skip
    stream = Stream(0, OPEN, 0, 0, None)
    return Call(stream, request, Head(route.method, b"", tuple(metadata), None), route.method)
