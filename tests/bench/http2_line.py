"""gRPC calls on bare HTTP/2 frames: as little as will drive a server, so that the load is not what is measured.

A Python gRPC client measures itself: it spends more on a call than etcd does. Here a request is a few dozen bytes
put together from prepared ones, an answer is recognised by its frame headers, and what is in it is looked at only where
a figure rests on it. What a frame costs is in `make bench`'s output, as the load's share of a core.

What is left out, and why that may be: answers' headers are not decoded (gRPC tells a failure without any DATA, so a
failed call shows by that); the peer's windows are not counted (callers keep what is on its way far below the smallest,
65,535 bytes); our own are as large as can be, so that no flow control of ours holds an answer back.

RFC 9113 (HTTP/2), RFC 7541 (HPACK), and gRPC's "PROTOCOL-HTTP2" say what the bytes are.
"""

from __future__ import annotations

import select
import socket
import struct
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
NO_ERROR = bytes(4)  # the code of a reset behind a whole answer, by a server that has not yet seen the request's end
WINDOW_MAX = (1 << 31) - 1
WINDOW_START = 65_535
FRAME_MAX = 16_384
RECEIVE_BYTES = 1 << 18
STREAM_ID_MAX = (1 << 31) - 1

_FRAME = struct.Struct(">HBBBI")  # length in 16 + 8 bits, type, flags, stream
_HEAD = _FRAME.size
_GRPC, _TRAILERS = (b"content-type", b"application/grpc"), (b"te", b"trailers")


class LoadError(Exception):
    """The server did not do what the load counts on."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return _FRAME.pack(len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def message(body: bytes) -> bytes:
    """A gRPC message: not compressed, length, body."""
    return b"\0" + len(body).to_bytes(4, "big") + body


def dial(endpoint: str) -> socket.socket:
    """`endpoint`: host:port."""
    host, _, port = endpoint.rpartition(":")
    connected = socket.create_connection((host, int(port)))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


class Line:
    """One connection to `authority`. Calls on it are its streams, numbered 1, 3, 5, ...

    `on_data(stream, payload)` is called for every DATA frame that is not empty, `on_end(stream, had_data)` when the
    server has ended a stream.
    """

    def __init__(
        self,
        connected: socket.socket,
        authority: str,
        on_data: Callable[[int, memoryview], object],
        on_end: Callable[[int, bool], object],
    ) -> None:
        self.socket = connected
        self._on_data = on_data
        self._on_end = on_end
        self._out: list[bytes] = []
        self._rest = b""
        self._headers: list[tuple[bytes, bytes]] = []  # the HPACK table, oldest first
        self._blocks: dict[bytes, bytes] = {}  # a path's header fields, while all stand where they did
        self._authority = authority.encode()
        self._next_stream = 1
        self._credit = 0  # bytes received and not yet given back to the connection's window
        self._spoken: set[int] = set()  # streams that have had DATA
        settings = b"".join(struct.pack(">HI", key, value) for key, value in ((2, 0), (4, WINDOW_MAX)))
        self._out += [
            PREFACE,
            frame(SETTINGS, 0, 0, settings),
            frame(WINDOW_UPDATE, 0, 0, (WINDOW_MAX - WINDOW_START).to_bytes(4, "big")),
        ]

    def close(self) -> None:
        self.socket.close()

    # --- asking ---

    def call(self, path: bytes, body: bytes = b"", *, end: bool = True) -> int:
        """Begin a call of `path` with `body` (gRPC messages); not `end`: more will be said. Leaves with `flush`."""
        stream = self._next_stream
        self._next_stream += 2
        assert stream < STREAM_ID_MAX
        assert len(body) <= FRAME_MAX
        block = self._blocks.get(path) or self._block(path)
        self._out.append(_FRAME.pack(0, len(block), HEADERS, END_HEADERS, stream) + block)
        if body or end:
            self._out.append(frame(DATA, END_STREAM if end else 0, stream, body))
        return stream

    def say(self, stream: int, body: bytes) -> None:
        """More of an open call."""
        self._out.append(frame(DATA, 0, stream, body))

    def _block(self, path: bytes) -> bytes:
        """The header fields of a call: spelled out the first time, then a few bytes."""
        fields = ((b":path", path), (b":authority", self._authority), _GRPC, _TRAILERS)
        known = all(field in self._headers for field in fields)
        block = b"\x83\x86" + b"".join(self._field(*field) for field in fields)  # first :method POST, :scheme http
        if known:
            self._blocks[path] = block
        return block

    def _field(self, name: bytes, value: bytes) -> bytes:
        """A header field: by its place in the table once it is there, else spelled out and put there."""
        if (name, value) in self._headers:
            return bytes([0x80 | (61 + len(self._headers) - self._headers.index((name, value)))])
        self._headers.append((name, value))
        self._blocks.clear()  # the others have moved
        assert len(self._headers) < 60
        assert len(value) < 127
        return b"\x40" + bytes([len(name)]) + name + bytes([len(value)]) + value

    def flush(self) -> None:
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self.socket.sendall(data)

    # --- hearing ---

    def receive(self) -> None:
        """Read what there is and tell of it.

        Raises LoadError when the server ends the connection, or a call before its time.
        """
        data = self.socket.recv(RECEIVE_BYTES)
        if not data:
            raise LoadError("the server has closed the connection")
        if self._rest:
            data = self._rest + data
        view = memoryview(data)
        at, end = 0, len(data)
        head, on_data, spoken = _FRAME.unpack_from, self._on_data, self._spoken
        while at + _HEAD <= end:
            high, low, kind, flags, stream = head(data, at)
            length = high << 8 | low
            begin = at + _HEAD
            if begin + length > end:
                break
            at = begin + length
            if kind == DATA:
                self._credit += length
                if length:
                    spoken.add(stream)
                    on_data(stream, view[begin:at])
                if flags & END_STREAM:
                    self._ended(stream)
            elif kind == HEADERS:
                if flags & END_STREAM:
                    self._ended(stream)
            else:
                self._control(kind, flags, stream, data[begin:at])
        self._rest = data[at:]
        if self._credit > WINDOW_MAX // 2:
            self._out.append(frame(WINDOW_UPDATE, 0, 0, self._credit.to_bytes(4, "big")))
            self._credit = 0

    def _ended(self, stream: int) -> None:
        had_data = stream in self._spoken
        self._spoken.discard(stream)
        self._on_end(stream, had_data)

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind in {SETTINGS, PING} and not flags & ACK:
            self._out.append(frame(kind, ACK, 0, payload if kind == PING else b""))
        elif kind == RST_STREAM and payload != NO_ERROR:
            raise LoadError(f"stream {stream} was reset: {int.from_bytes(payload, 'big')}")
        elif kind == GOAWAY:
            raise LoadError(f"the server goes away: {payload[8:]!r}")


class Lines:
    """Several lines and one loop. A context manager."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._lines: dict[int, Line] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for line in self._lines.values():
            line.close()
        self._epoll.close()

    def add(self, line: Line) -> None:
        self._lines[line.socket.fileno()] = line
        self._epoll.register(line.socket, select.EPOLLIN)

    def turn(self, seconds: float) -> None:
        """Send what is due, wait until something comes (so long at most), and take it."""
        for line in self._lines.values():
            line.flush()
        for number, _ in self._epoll.poll(seconds):
            self._lines[number].receive()


class Unpacker:
    """gRPC messages out of DATA frames, which may cut them anywhere."""

    def __init__(self) -> None:
        self._rest = b""

    def messages(self, payload: memoryview) -> Iterator[memoryview]:
        if self._rest:
            payload = memoryview(self._rest + payload)
            self._rest = b""
        at, end = 0, len(payload)
        while at + 5 <= end:
            after = at + 5 + int.from_bytes(payload[at + 1 : at + 5], "big")
            if after > end:
                break
            yield payload[at + 5 : after]
            at = after
        if at < end:
            self._rest = bytes(payload[at:])
