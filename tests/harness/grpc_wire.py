"""gRPC by hand, upon `http2_wire`: calls built frame by frame, and their answers taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.harness import http2_wire as wire
from zkv.gateway.http2 import grpc, words
from zkv.gateway.http2.grpc_words import Method, Methods
from zkv.gateway.http2.header_blocks import Fields, HeaderDecoder
from zkv.gateway.http2.limits import Http2Limits

if TYPE_CHECKING:
    from zkv.gateway.http2.connection import Handler

METHODS: Methods = {
    b"/s.S/Unary": Method(),
    b"/s.S/Down": Method(server_streams=True),
    b"/s.S/Up": Method(client_streams=True),
    b"/s.S/Both": Method(client_streams=True, server_streams=True),
}


def head(path: bytes = b"/s.S/Unary", *fields: tuple[bytes, bytes], method: bytes = b"POST") -> Fields:
    return (
        (b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"a"),
        (b"content-type", b"application/grpc"), (b"te", b"trailers"), *fields,
    )  # fmt: skip


def message(data: bytes, flag: int = 0) -> bytes:
    return bytes([flag]) + len(data).to_bytes(4, "big") + data


class Answer(NamedTuple):
    """What a client has got on one stream."""

    fields: dict[bytes, bytes]
    """Of its head and its trailers."""
    body: bytes
    ended: bool
    reset: int | None

    @property
    def status(self) -> int | None:
        return int(self.fields[b"grpc-status"]) if b"grpc-status" in self.fields else None


class GrpcWire:
    """A server's connection, driven by raw frames."""

    def __init__(self, limits: Http2Limits | None = None, plain: Handler | None = None) -> None:
        self.limits = (limits or Http2Limits()).checked()
        self.now = 0
        self.grpc = grpc.GrpcConnection(METHODS, self.limits, 0, plain)
        self.decoder = HeaderDecoder(1 << 20)
        self.answers: dict[int, Answer] = {}
        self.windows: dict[int, int] = {}
        """What the server gave, by stream; 0 is the connection."""
        self.goaway: words.ErrorCode | None = None
        self.send(wire.GREETING, wire.setting(words.INITIAL_WINDOW_SIZE, 1 << 30), words.window_update(0, 1 << 30))

    def send(self, *frames: bytes) -> list[grpc.Event]:
        """All in one read, and the events of it."""
        events = self.grpc.receive(b"".join(frames), self.now)
        self.look()
        return events

    def look(self) -> None:
        """Take in what the server has said."""
        frames = wire.parse(self.grpc.to_send())
        self.goaway = wire.goaway_code(frames) or self.goaway
        for frame in frames:
            before = self.answers.get(frame.stream_id, Answer({}, b"", False, None))
            if frame.kind == words.HEADERS:
                fields = dict(self.decoder.decode(frame.payload))
                before = before._replace(fields=before.fields | fields, ended=bool(frame.flags & words.END_STREAM))
            elif frame.kind == words.DATA:
                before = before._replace(body=before.body + frame.payload)
            elif frame.kind == words.RST_STREAM:
                before = before._replace(reset=int.from_bytes(frame.payload, "big"))
            elif frame.kind == words.WINDOW_UPDATE:
                self.windows[frame.stream_id] = self.windows.get(frame.stream_id, 0) + int.from_bytes(
                    frame.payload, "big"
                )
                continue
            else:
                continue
            self.answers[frame.stream_id] = before

    def open(self, stream_id: int, path: bytes = b"/s.S/Unary", *fields: tuple[bytes, bytes]) -> list[grpc.Event]:
        return self.send(wire.open_headers(stream_id, head(path, *fields)))

    def call(self, stream_id: int, path: bytes, data: bytes, *fields: tuple[bytes, bytes]) -> grpc.Call:
        """A whole call of one message; it must be understood."""
        events = self.send(
            wire.open_headers(stream_id, head(path, *fields)), wire.data(stream_id, message(data), end=True)
        )
        (event,) = events
        assert isinstance(event, grpc.Called)
        assert event.message == data
        return event.call

    def upload(self, stream_id: int, body: bytes) -> list[grpc.Event]:
        """All of a body, as far as the server lets it come at once; `body` must fit into its windows."""
        return self.send(*(wire.data(stream_id, body[i : i + 16_384]) for i in range(0, len(body), 16_384)))
