"""HTTP/2 by hand: frames built one by one, right or wrong, and a server's answers taken apart again."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple

from zkv.gateway.http2 import words
from zkv.gateway.http2.connection import Connection
from zkv.gateway.http2.header_blocks import Fields, HeaderDecoder, encode
from zkv.gateway.http2.limits import Http2Limits
from zkv.gateway.http2.words import ErrorCode, frame

if TYPE_CHECKING:
    from zkv.gateway.http2.requests import Request
    from zkv.gateway.http2.streams import Stream

GET: Fields = ((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a"))
POST: Fields = ((b":method", b"POST"), *GET[1:])
GREETING = words.PREFACE + frame(words.SETTINGS, 0, 0) + frame(words.SETTINGS, words.ACK, 0)


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes


def parse(data: bytes) -> list[Frame]:
    """Whole frames only."""
    found = []
    while data:
        upper, lower, kind, flags, stream_id = struct.unpack_from(">HBBBI", data)
        stop = 9 + (upper << 8 | lower)
        assert len(data) >= stop
        found.append(Frame(kind, flags, stream_id, data[9:stop]))
        data = data[stop:]
    return found


def headers(stream_id: int, fields: Fields = GET, flags: int = words.END_HEADERS | words.END_STREAM) -> bytes:
    return frame(words.HEADERS, flags, stream_id, encode(fields))


def open_headers(stream_id: int, fields: Fields = POST) -> bytes:
    """Of a request whose body follows."""
    return headers(stream_id, fields, words.END_HEADERS)


def data(stream_id: int, payload: bytes = b"", *, end: bool = False) -> bytes:
    return frame(words.DATA, words.END_STREAM if end else 0, stream_id, payload)


def setting(identifier: int, value: int) -> bytes:
    return words.settings({identifier: value})


class Recorder:
    """A handler that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.streams: dict[int, Stream] = {}
        self.requests: dict[int, Request] = {}
        self.bodies: dict[int, bytes] = {}

    def on_request(self, stream: Stream, request: Request, end: bool) -> None:
        self.told.append(("request", stream.id, request.method, request.path, request.fields, stream.aside, end))
        self.streams[stream.id] = stream
        self.requests[stream.id] = request
        self.bodies[stream.id] = b""

    def on_data(self, stream: Stream, data: bytes, end: bool) -> None:
        assert isinstance(data, bytes)
        self.bodies[stream.id] += data
        self.told.append(("data", stream.id, data, end))

    def on_trailers(self, stream: Stream, fields: Fields) -> None:
        self.told.append(("trailers", stream.id, fields))

    def on_reset(self, stream: Stream, code: int) -> None:
        self.told.append(("reset", stream.id, code))

    def on_drained(self, stream: Stream) -> None:
        self.told.append(("drained", stream.id))


class Wire:
    """A server's connection and its recorder, driven by raw frames."""

    def __init__(self, limits: Http2Limits | None = None, *, greet: bool = True) -> None:
        self.limits = (limits or Http2Limits()).checked()
        self.handler = Recorder()
        self.now = 0
        self.connection = Connection(self.handler, self.limits, self.now)
        self.decoder = HeaderDecoder(1 << 20)
        if greet:
            self.send(GREETING)

    def send(self, *frames: bytes) -> list[Frame]:
        """All in one read; what the server says to it."""
        self.connection.receive(b"".join(frames), self.now)
        return self.answers()

    def answers(self) -> list[Frame]:
        return parse(self.connection.to_send())

    def tick(self, now: int) -> list[Frame]:
        self.now = now
        self.connection.tick(now)
        return self.answers()

    def fields(self, answer: Frame) -> Fields:
        assert answer.kind == words.HEADERS
        return self.decoder.decode(answer.payload)

    @property
    def told(self) -> list[tuple[object, ...]]:
        return self.handler.told

    def stream(self, stream_id: int) -> Stream:
        return self.handler.streams[stream_id]


def of_kind(answers: list[Frame], kind: int) -> list[Frame]:
    return [answer for answer in answers if answer.kind == kind]


def reset_codes(answers: list[Frame]) -> dict[int, ErrorCode]:
    """Stream id -> code, of the RST_STREAM frames among them."""
    return {
        answer.stream_id: ErrorCode(int.from_bytes(answer.payload, "big"))
        for answer in of_kind(answers, words.RST_STREAM)
    }


def goaway_code(answers: list[Frame]) -> ErrorCode | None:
    """Of the last GOAWAY among them."""
    found = of_kind(answers, words.GOAWAY)
    return ErrorCode(int.from_bytes(found[-1].payload[4:8], "big")) if found else None
