"""The bare HTTP/2 of the benchmark, against a whole one: what it says is HTTP/2, what it is told it takes."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
import pytest

from tests.bench.http2_line import Line, LoadError, Unpacker, message

if TYPE_CHECKING:
    from collections.abc import Iterator

HEADERS = [(":status", "200"), ("content-type", "application/grpc")]
TRAILERS = [("grpc-status", "0"), ("grpc-message", "")]


class World:
    """A line, and at its other end the `h2` library as server."""

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self.data: list[tuple[int, bytes]] = []
        self.ended: list[tuple[int, bool]] = []
        self.line = Line(
            ours,
            "host:1",
            lambda stream, payload: self.data.append((stream, bytes(payload))),
            lambda stream, had_data: self.ended.append((stream, had_data)),
        )
        self.socket = theirs
        self.server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.server.initiate_connection()

    def asked(self) -> list[h2.events.Event]:
        """What the server hears."""
        self.line.flush()
        return self.server.receive_data(self.socket.recv(1 << 20))

    def answer(self) -> None:
        """What the server has to say reaches the line."""
        self.socket.sendall(self.server.data_to_send())
        self.line.receive()


@pytest.fixture
def world() -> Iterator[World]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield World(ours, theirs)


def headers(events: list[h2.events.Event]) -> list[dict[bytes, bytes]]:
    found = [event for event in events if isinstance(event, h2.events.RequestReceived)]
    return [{_bytes(name): _bytes(value) for name, value in event.headers} for event in found]


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def test_every_call_has_the_same_headers_however_few_bytes_it_takes(world: World) -> None:
    """Spelled out once, then by their places in the table; a second path does not move them."""
    for path in (b"/a/B", b"/a/B", b"/c/D", b"/a/B", b"/c/D"):
        world.line.call(path, message(b"body"))
    events = world.asked()
    assert [found[b":path"] for found in headers(events)] == [b"/a/B", b"/a/B", b"/c/D", b"/a/B", b"/c/D"]
    assert all(found[b"content-type"] == b"application/grpc" for found in headers(events))
    assert all(found[b":authority"] == b"host:1" and found[b"te"] == b"trailers" for found in headers(events))
    bodies = [event.data for event in events if isinstance(event, h2.events.DataReceived)]
    assert bodies == [b"\0\0\0\0\4body"] * 5
    assert sum(isinstance(event, h2.events.StreamEnded) for event in events) == 5


def test_an_open_call_says_more_and_is_not_ended(world: World) -> None:
    """As streams of keep-alives and watches are."""
    stream = world.line.call(b"/a/B", message(b"one"), end=False)
    world.line.say(stream, message(b"two"))
    events = world.asked()
    assert len([event for event in events if isinstance(event, h2.events.DataReceived)]) == 2
    assert not [event for event in events if isinstance(event, h2.events.StreamEnded)]


def test_a_call_that_failed_ends_without_data(world: World) -> None:
    """And one that was answered with: that is how they are told apart."""
    good, bad = world.line.call(b"/a/B"), world.line.call(b"/a/B")
    world.asked()
    world.server.send_headers(good, HEADERS)
    world.server.send_data(good, message(b"fine"))
    world.server.send_headers(good, TRAILERS, end_stream=True)
    world.server.send_headers(bad, [*HEADERS, *TRAILERS], end_stream=True)
    world.answer()
    assert world.data == [(good, message(b"fine"))]
    assert world.ended == [(good, True), (bad, False)]


def test_frames_may_come_in_any_pieces(world: World) -> None:
    """What is cut off waits for its rest."""
    stream = world.line.call(b"/a/B")
    world.asked()
    world.server.send_headers(stream, HEADERS)
    for _ in range(3):
        world.server.send_data(stream, message(b"x" * 100))
    data = world.server.data_to_send()
    for at in range(len(data)):
        world.socket.sendall(data[at : at + 1])
        world.line.receive()
    assert world.data == [(stream, message(b"x" * 100))] * 3


def test_pings_and_settings_are_answered(world: World) -> None:
    """grpc-go measures the way by pings, and gives a client up that does not answer."""
    world.server.ping(b"12345678")
    world.answer()
    events = world.asked()
    assert [event.ping_data for event in events if isinstance(event, h2.events.PingAckReceived)] == [b"12345678"]
    assert [event for event in events if isinstance(event, h2.events.SettingsAcknowledged)]


def test_a_stream_that_is_reset_ends_the_load(world: World) -> None:
    """As does a server that goes away: no figure comes of half a load."""
    stream = world.line.call(b"/a/B")
    world.asked()
    world.server.reset_stream(stream, 8)
    with pytest.raises(LoadError, match="was reset: 8"):
        world.answer()
    world.server.close_connection()
    with pytest.raises(LoadError, match="goes away"):
        world.answer()


def test_messages_are_told_whole_wherever_frames_cut_them() -> None:
    """Two in one frame, or one in three."""
    unpacker = Unpacker()
    data = message(b"one") + message(b"") + message(b"three")
    found = [bytes(each) for at in range(len(data)) for each in unpacker.messages(memoryview(data[at : at + 1]))]
    assert found == [b"one", b"", b"three"]
    assert [bytes(each) for each in unpacker.messages(memoryview(data))] == found
