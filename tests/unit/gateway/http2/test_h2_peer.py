"""python-hyper's h2 as the client, led by Hypothesis: what it may say is served, and what nobody may say is told so.

h2 keeps its own account of every stream and window, and refuses to say what is not legal, and what it hears that is
not; so two implementations that know nothing of each other must agree on each frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import http2_shell
from tests.harness import http2_wire as wire
from zkv.gateway.http2 import words
from zkv.gateway.http2.grpc import GrpcConnection
from zkv.gateway.http2.limits import Http2Limits
from zkv.gateway.http2.words import ErrorCode, frame

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = [
    (":method", "POST"), (":scheme", "http"), (":authority", "localhost"),
    ("content-type", "application/grpc"), ("te", "trailers"),
]  # fmt: skip
BIG = 1 << 20


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def _frames(data: bytes) -> Iterator[bytes]:
    while data:
        end = words.FRAME_HEADER_BYTES + int.from_bytes(data[:3], "big")
        yield data[:end]
        data = data[end:]


class Peer:
    """h2 on one side, ours on the other, and what each call is to be answered with."""

    def __init__(self) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.server = GrpcConnection(http2_shell.METHODS, Http2Limits(), 0)
        self.desk = http2_shell.EchoDesk(self.server)
        self.unsent: dict[int, bytes] = {}
        self.wanted: dict[int, bytes] = {}
        self.got: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaway: int | None = None
        self.h2.initiate_connection()
        self.exchange()

    def exchange(self, raw: bytes = b"") -> None:
        """Until neither has anything more to say. `raw`: what h2 would not."""
        out = self.h2.data_to_send() + raw
        while out:
            self.desk.serve(self.server.receive(out, 0))
            for each in _frames(
                self.server.to_send()
            ):  # h2 takes larger frames from the read after its setting's ACK on
                for event in self.h2.receive_data(each):
                    self._take(event)
            out = self.h2.data_to_send()

    def _take(self, event: Any) -> None:
        match event:
            case h2.events.DataReceived(stream_id=stream_id, data=data, flow_controlled_length=size):
                self.got[stream_id] = self.got.get(stream_id, b"") + data
                self.h2.acknowledge_received_data(size, stream_id)
            case h2.events.StreamEnded(stream_id=stream_id):
                self.ended.add(stream_id)
            case h2.events.StreamReset(stream_id=stream_id, error_code=code):
                self.resets[stream_id] = int(code or 0)
            case h2.events.ConnectionTerminated(error_code=code):
                self.goaway = int(code or 0)

    # --- what may be said ---

    def open(self, path: str, messages: list[bytes], *, priority: bool) -> None:
        if len(self.unsent) >= 50:
            return
        stream_id = self.h2.get_next_available_stream_id()
        extra: Any = {"priority_weight": 16, "priority_depends_on": 0, "priority_exclusive": False} if priority else {}
        self.h2.send_headers(stream_id, [*HEAD[:3], (":path", path), *HEAD[3:]], **extra)
        if path.endswith("Unary"):
            messages = messages[:1]
        self.unsent[stream_id] = b"".join(map(framed, messages))
        whole = b"".join(messages)
        self.wanted[stream_id] = self.unsent[stream_id] if path.endswith("Chat") else framed(whole)

    def send(self, which: int, size: int, padding: int) -> None:
        """Some of a call's DATA, as far as windows go; the end of it with the last."""
        if not self.unsent:
            return
        stream_id = sorted(self.unsent)[which % len(self.unsent)]
        pad = padding + 1 if padding else 0
        room = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size) - pad
        body = self.unsent[stream_id]
        size = min(size, room, len(body))
        if size < 0 or (size == 0 and body):
            return
        self.unsent[stream_id] = body[size:]
        end = size == len(body)
        self.h2.send_data(stream_id, body[:size], end_stream=end, pad_length=padding or None)
        if end:
            del self.unsent[stream_id]

    def reset(self, which: int) -> None:
        if self.unsent:
            stream_id = sorted(self.unsent)[which % len(self.unsent)]
            del self.unsent[stream_id], self.wanted[stream_id]
            self.h2.reset_stream(stream_id, 8)

    def finish(self) -> None:
        while self.unsent:
            before = sum(map(len, self.unsent.values())), len(self.unsent)
            for _ in list(self.unsent):
                self.send(0, BIG, 0)
            self.exchange()
            assert (sum(map(len, self.unsent.values())), len(self.unsent)) != before, "no more may come"


# A message, or how many zeros it is made of: a play is told in full where it fails.
messages = st.lists(st.one_of(st.binary(max_size=20), st.integers(0, 70_000)), min_size=1, max_size=3)
steps = st.one_of(
    st.tuples(
        st.just("open"),
        st.sampled_from(["/echo.Echo/Unary", "/echo.Echo/Collect", "/echo.Echo/Chat"]),
        messages,
        st.booleans(),
    ),
    st.tuples(st.just("send"), st.integers(0, 50), st.integers(0, 30_000), st.sampled_from([0, 0, 1, 255])),
    st.tuples(st.just("send"), st.integers(0, 50), st.just(BIG), st.just(0)),
    st.tuples(st.just("reset"), st.integers(0, 50)),
    st.tuples(st.just("ping"), st.binary(min_size=8, max_size=8)),
    st.tuples(st.just("window"), st.sampled_from([1, 1_000, 100_000])),
    st.tuples(
        st.just("settings"),
        st.dictionaries(
            st.sampled_from([1, 3, 4, 5, 6]),
            st.sampled_from([0, 1, 16_384, 70_000, BIG]),
            max_size=3,
        ),
    ),
    st.tuples(st.just("priority"), st.integers(1, 256)),
    st.tuples(st.just("exchange")),
)
plays = st.lists(steps, max_size=25)


def play(peer: Peer, play_: list[Any]) -> None:
    for name, *arguments in play_:
        match name:
            case "open":
                peer.open(arguments[0], list(map(bytes, arguments[1])), priority=arguments[2])
            case "send":
                peer.send(*arguments)
            case "reset":
                peer.reset(*arguments)
            case "ping":
                peer.h2.ping(*arguments)
            case "window":
                peer.h2.increment_flow_control_window(*arguments)
            case "settings":
                wanted = dict(arguments[0])
                if 5 in wanted:
                    wanted[5] = max(16_384, wanted[5])
                if wanted.get(4) == 1:  # who takes byte after byte, at no time at all, is told to calm down
                    wanted[4] = 16_384
                if 6 in wanted:
                    wanted[6] = max(16_384, wanted[6])
                if wanted:
                    peer.h2.update_settings(wanted)
            case "priority":
                stream_id = max(peer.wanted, default=1)
                peer.h2.prioritize(stream_id, weight=arguments[0])
            case _:
                peer.exchange()
    peer.exchange()


@settings(max_examples=80, deadline=None)
@given(plays)
def test_whatever_is_legal_is_served(play_: list[Any]) -> None:
    """Calls of all kinds at once, in pieces of any size, padded, with windows, settings and pings between: each is
    answered with what it asked, and nobody finds fault with anybody."""
    peer = Peer()
    play(peer, play_)
    peer.h2.update_settings({4: BIG})  # windows that were shut are opened, and all is brought to its end
    peer.exchange()
    peer.finish()
    assert peer.goaway is None
    assert not peer.resets
    for stream_id, wanted in peer.wanted.items():
        assert stream_id in peer.ended
        assert peer.got.get(stream_id, b"") == wanted
    assert not peer.server.http.streams


CONNECTION = {
    "DATA of nobody's stream": (wire.data(0, b"x"), ErrorCode.PROTOCOL_ERROR),
    "DATA of a stream not opened": (wire.data(9_999, b"x"), ErrorCode.PROTOCOL_ERROR),
    "HEADERS on an even stream": (wire.headers(2), ErrorCode.PROTOCOL_ERROR),
    "a block that is none": (frame(words.HEADERS, 5, 9_999, b"\xff\xff\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
    "an index beyond the table": (frame(words.HEADERS, 5, 9_999, b"\xfe"), ErrorCode.COMPRESSION_ERROR),
    "CONTINUATION of nothing": (frame(words.CONTINUATION, 4, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "a frame too large": (frame(words.DATA, 0, 1, bytes(16_385)), ErrorCode.FRAME_SIZE_ERROR),
    "PING too short": (frame(words.PING, 0, 0, b"short"), ErrorCode.FRAME_SIZE_ERROR),
    "PING of a stream": (frame(words.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "SETTINGS of a stream": (frame(words.SETTINGS, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
    "SETTINGS cut short": (frame(words.SETTINGS, 0, 0, b"12345"), ErrorCode.FRAME_SIZE_ERROR),
    "a window beyond all": (wire.setting(4, 1 << 31), ErrorCode.FLOW_CONTROL_ERROR),
    "a frame size below all": (wire.setting(5, 100), ErrorCode.PROTOCOL_ERROR),
    "push": (frame(words.PUSH_PROMISE, 4, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
    "nothing more of a window": (words.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
    "a window that overflows": (words.window_update(0, words.WINDOW_MAX), ErrorCode.FLOW_CONTROL_ERROR),
    "GOAWAY of a stream": (frame(words.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM of nobody's stream": (words.rst_stream(0, 8), ErrorCode.PROTOCOL_ERROR),
    "RST_STREAM of a stream not opened": (words.rst_stream(9_999, 8), ErrorCode.PROTOCOL_ERROR),
    "PRIORITY of the connection": (frame(words.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
    "padding larger than its frame": (frame(words.DATA, 8, 1, b"\xff"), ErrorCode.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("name", CONNECTION)
@settings(max_examples=8, deadline=None)
@given(play_=plays)
def test_what_nobody_may_say_ends_the_connection_with_its_error(name: str, play_: list[Any]) -> None:
    """Whatever was legal before it; h2 reads the GOAWAY."""
    raw, code = CONNECTION[name]
    peer = Peer()
    play(peer, play_)
    peer.exchange(raw)
    assert peer.goaway == code
    assert peer.server.finished


@settings(max_examples=30, deadline=None)
@given(plays, st.sampled_from(["content-length", "upper case", "te", "no path", "late pseudo field", "empty value"]))
def test_a_request_that_is_malformed_costs_its_stream_only(play_: list[Any], fault: str) -> None:
    """What was under way goes on, and is answered."""
    peer = Peer()
    play(peer, play_)
    stream_id = peer.h2.get_next_available_stream_id()
    fields = {
        "content-length": [*wire.GET, (b"content-length", b"5")],
        "upper case": [*wire.GET, (b"Name", b"v")],
        "te": [*wire.GET, (b"te", b"gzip")],
        "no path": [field for field in wire.GET if field[0] != b":path"],
        "late pseudo field": [*wire.GET, (b"name", b"v"), (b":path", b"/")],
        "empty value": [*wire.GET, (b"name", b"v\r")],
    }[fault]
    said = peer.server.receive(wire.headers(stream_id, tuple(fields)), 0)
    assert not said
    answers = wire.parse(peer.server.to_send())
    assert wire.reset_codes(answers) == {stream_id: ErrorCode.PROTOCOL_ERROR}
    assert not peer.server.finished
    peer.h2.update_settings({4: BIG})
    for stream in list(peer.unsent):
        peer.reset(0)
        assert stream not in peer.wanted
    peer.exchange()
    assert peer.goaway is None
