"""RFC 9113, sections 3 to 6: what each frame must be, and what comes of it if it is not. Names cite the section."""

from __future__ import annotations

import pytest

from tests.harness import http2_wire as wire
from tests.harness.http2_wire import Wire
from zkv.gateway.http2 import words
from zkv.gateway.http2.header_blocks import encode
from zkv.gateway.http2.words import ErrorCode, frame

PROTOCOL = ErrorCode.PROTOCOL_ERROR
SIZE = ErrorCode.FRAME_SIZE_ERROR
FLOW = ErrorCode.FLOW_CONTROL_ERROR
COMPRESSION = ErrorCode.COMPRESSION_ERROR
CLOSED = ErrorCode.STREAM_CLOSED
BLOCK = encode(wire.GET)
HALF = BLOCK[:3]
PING = frame(words.PING, 0, 0, bytes(8))


def u32(number: int) -> bytes:
    return words.pack_u32(number)


# --- 3: starting -------------------------------------------------------------------------------------


def test_3_4_the_server_speaks_first_with_its_settings() -> None:
    """The server's preface is SETTINGS, and comes without waiting for the client's."""
    first, window = Wire(greet=False).answers()
    assert (first.kind, first.flags, first.stream_id) == (words.SETTINGS, 0, 0)
    told = dict(words.iter_settings(first.payload))
    assert told[words.MAX_CONCURRENT_STREAMS] == 1_000
    assert told[words.INITIAL_WINDOW_SIZE] == words.DEFAULT_WINDOW
    assert words.ENABLE_PUSH not in told
    assert window.kind == words.WINDOW_UPDATE


@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSX", b"\x16\x03\x01"])
def test_3_4_what_is_not_the_preface_is_no_http2(start: bytes) -> None:
    """As soon as it can be told."""
    server = Wire(greet=False)
    assert wire.goaway_code(server.send(start)) == PROTOCOL
    assert server.connection.finished


@pytest.mark.parametrize(
    "first", [frame(words.PING, 0, 0, bytes(8)), frame(words.SETTINGS, words.ACK, 0), wire.headers(1)]
)
def test_3_4_the_first_frame_is_settings(first: bytes) -> None:
    """And no acknowledgement."""
    assert wire.goaway_code(Wire(greet=False).send(words.PREFACE, first)) == PROTOCOL


# --- 4: frames -----------------------------------------------------------------------------------------


def test_4_1_unknown_types_flags_and_the_reserved_bit_are_ignored() -> None:
    """They may be extensions."""
    server = Wire()
    assert server.send(frame(0xFA, 0xFF, 0, b"?"), frame(0x10, 0, 7)) == []
    assert wire.of_kind(server.send(frame(words.PING, 0xFE, 0, bytes(8))), words.PING)
    headers = frame(words.HEADERS, 0x5 | 0x50, 1, BLOCK)
    server.send(headers[:5] + b"\x80" + headers[6:])
    assert server.told[0][:2] == ("request", 1)


def test_4_2_a_frame_of_the_maximum_size_is_taken_and_one_larger_is_not() -> None:
    """Whatever its type."""
    server = Wire()
    assert wire.goaway_code(server.send(wire.open_headers(1), wire.data(1, bytes(16_384)))) is None
    assert wire.goaway_code(server.send(frame(0xFA, 0, 0, bytes(16_384)))) is None
    assert wire.goaway_code(server.send(frame(0xFA, 0, 0, bytes(16_385)))) == SIZE


def test_4_2_an_oversized_frame_is_refused_by_its_header_alone() -> None:
    """Nobody waits for, or keeps, what will not be taken."""
    assert wire.goaway_code(Wire().send(frame(words.DATA, 0, 1, bytes(16_385))[:9])) == SIZE


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",  # index 0
        b"\xff\xff\x01",  # an index nobody gave
        b"\x40\x01",  # truncated
        b"\x00\x81\xff\x00",  # Huffman: padding too long
        BLOCK + b"\x20",  # a size update after a field
        b"\x3f\xe2\x1f",  # a table larger than the default
        b"\x20\x20\x20" + BLOCK,  # three size updates
        b"\xff\xff\xff\xff\xff\xff\xff\xff",  # an integer without end
    ],
)
def test_4_3_a_block_that_cannot_be_decoded_ends_the_connection(block: bytes) -> None:
    """For the tables are not the same any more."""
    assert wire.goaway_code(Wire().send(frame(words.HEADERS, 5, 1, block))) == COMPRESSION


def test_4_3_a_block_may_come_in_fragments() -> None:
    """HEADERS and CONTINUATION, cut anywhere."""
    server = Wire()
    server.send(
        frame(words.HEADERS, words.END_STREAM, 1, b""),
        *(frame(words.CONTINUATION, 0, 1, bytes([byte])) for byte in BLOCK[:5]),
        frame(words.CONTINUATION, words.END_HEADERS, 1, BLOCK[5:]),
    )
    assert server.told == [("request", 1, b"GET", b"/", (), b"", True)]


@pytest.mark.parametrize(
    "within",
    [
        wire.data(1),
        frame(words.CONTINUATION, 4, 3, HALF),
        wire.headers(3),
        frame(words.PING, 0, 0, bytes(8)),
        frame(0xFA, 0, 1),
    ],
)
def test_4_3_nothing_comes_between_the_fragments(within: bytes) -> None:
    """Not even of an unknown type (5.5), or on another stream."""
    server = Wire()
    assert wire.goaway_code(server.send(frame(words.HEADERS, 0, 1, HALF), within)) == PROTOCOL


# --- 6: each frame ---------------------------------------------------------------------------------------

OPEN = wire.open_headers(1)


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        # DATA
        pytest.param([wire.data(0, b"x")], PROTOCOL, id="6.1 DATA of the connection"),
        pytest.param([OPEN, frame(words.DATA, words.PADDED, 1)], SIZE, id="6.1 DATA without its pad length"),
        pytest.param([OPEN, frame(words.DATA, words.PADDED, 1, b"\x01")], PROTOCOL, id="6.1 DATA all padding and more"),
        # HEADERS
        pytest.param([wire.headers(0)], PROTOCOL, id="6.2 HEADERS of the connection"),
        pytest.param([wire.headers(2)], PROTOCOL, id="5.1.1 HEADERS on a server's stream"),
        pytest.param([frame(words.HEADERS, 0xD, 1)], SIZE, id="6.2 HEADERS without their pad length"),
        pytest.param([frame(words.HEADERS, 0xD, 1, b"\x05" + HALF)], PROTOCOL, id="6.2 HEADERS all padding and more"),
        pytest.param([frame(words.HEADERS, 0x25, 1, b"1234")], SIZE, id="6.2 HEADERS without their priority"),
        # PRIORITY
        pytest.param([frame(words.PRIORITY, 0, 0, bytes(5))], PROTOCOL, id="6.3 PRIORITY of the connection"),
        pytest.param([OPEN, frame(words.PRIORITY, 0, 1, bytes(4))], SIZE, id="6.3 PRIORITY too short"),
        # RST_STREAM
        pytest.param([words.rst_stream(0, 8)], PROTOCOL, id="6.4 RST_STREAM of the connection"),
        pytest.param([words.rst_stream(1, 8)], PROTOCOL, id="6.4 RST_STREAM of an idle stream"),
        pytest.param([OPEN, frame(words.RST_STREAM, 0, 1, bytes(3))], SIZE, id="6.4 RST_STREAM too short"),
        # SETTINGS
        pytest.param([frame(words.SETTINGS, words.ACK, 0, bytes(6))], SIZE, id="6.5 SETTINGS acknowledged with more"),
        pytest.param([frame(words.SETTINGS, words.ACK, 0)], PROTOCOL, id="6.5 SETTINGS acknowledged twice"),
        pytest.param([frame(words.SETTINGS, 0, 1)], PROTOCOL, id="6.5 SETTINGS of a stream"),
        pytest.param([frame(words.SETTINGS, 0, 0, bytes(7))], SIZE, id="6.5 SETTINGS of a broken length"),
        pytest.param([wire.setting(words.ENABLE_PUSH, 2)], PROTOCOL, id="6.5.2 ENABLE_PUSH"),
        pytest.param([wire.setting(words.INITIAL_WINDOW_SIZE, 1 << 31)], FLOW, id="6.5.2 INITIAL_WINDOW_SIZE"),
        pytest.param([wire.setting(words.MAX_FRAME_SIZE, 16_383)], PROTOCOL, id="6.5.2 MAX_FRAME_SIZE too small"),
        pytest.param([wire.setting(words.MAX_FRAME_SIZE, 1 << 24)], PROTOCOL, id="6.5.2 MAX_FRAME_SIZE too large"),
        pytest.param([wire.setting(words.NO_RFC7540_PRIORITIES, 2)], PROTOCOL, id="RFC 9218 2.1"),
        # PUSH_PROMISE
        pytest.param([OPEN, frame(words.PUSH_PROMISE, 4, 1, u32(2) + BLOCK)], PROTOCOL, id="8.4 PUSH_PROMISE"),
        # PING
        pytest.param([frame(words.PING, 0, 1, bytes(8))], PROTOCOL, id="6.7 PING of a stream"),
        pytest.param([frame(words.PING, 0, 0, bytes(7))], SIZE, id="6.7 PING too short"),
        # GOAWAY
        pytest.param([frame(words.GOAWAY, 0, 1, bytes(8))], PROTOCOL, id="6.8 GOAWAY of a stream"),
        pytest.param([frame(words.GOAWAY, 0, 0, bytes(7))], SIZE, id="6.8 GOAWAY too short"),
        # WINDOW_UPDATE
        pytest.param([words.window_update(0, 0)], PROTOCOL, id="6.9 WINDOW_UPDATE of nothing"),
        pytest.param([words.window_update(1, 1)], PROTOCOL, id="6.9 WINDOW_UPDATE of an idle stream"),
        pytest.param([OPEN, frame(words.WINDOW_UPDATE, 0, 1, bytes(3))], SIZE, id="6.9 WINDOW_UPDATE too short"),
        pytest.param([words.window_update(0, words.WINDOW_MAX)], FLOW, id="6.9.1 the connection's window overflows"),
        pytest.param(
            [OPEN, words.window_update(1, 1), wire.setting(words.INITIAL_WINDOW_SIZE, words.WINDOW_MAX)],
            FLOW, id="6.9.2 SETTINGS make a window overflow",
        ),
        # CONTINUATION
        pytest.param([frame(words.CONTINUATION, 4, 1, HALF)], PROTOCOL, id="6.10 CONTINUATION of nothing"),
        pytest.param([OPEN, frame(words.CONTINUATION, 4, 1, HALF)], PROTOCOL, id="6.10 CONTINUATION after the end"),
        # streams
        pytest.param([wire.data(1, b"x")], PROTOCOL, id="5.1 DATA of an idle stream"),
        pytest.param([wire.headers(5), wire.headers(3)], PROTOCOL, id="5.1.1 an id lower than the last"),
    ],
)  # fmt: skip
def test_a_breach_of_the_connection(frames: list[bytes], code: ErrorCode) -> None:
    """GOAWAY with its code, and every open stream is lost."""
    server = Wire()
    assert wire.goaway_code(server.send(*frames)) == code
    assert server.connection.finished
    assert not server.connection.streams
    begun = {told[1] for told in server.told if told[0] == "request"}
    assert {told[1] for told in server.told if told[0] == "reset"} == begun
    assert server.send(wire.headers(99)) == []


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        pytest.param([wire.headers(1), wire.data(1, b"x")], CLOSED, id="5.1 DATA after END_STREAM"),
        pytest.param([wire.headers(1), wire.headers(1)], CLOSED, id="5.1 HEADERS after END_STREAM"),
        pytest.param([OPEN, wire.open_headers(1, ((b"a", b"b"),))], PROTOCOL, id="8.1 trailers without END_STREAM"),
        pytest.param([OPEN, words.window_update(1, 0)], PROTOCOL, id="6.9 WINDOW_UPDATE of nothing"),
        pytest.param([OPEN, words.window_update(1, words.WINDOW_MAX)], FLOW, id="6.9.1 a stream's window overflows"),
        pytest.param([OPEN, *[wire.data(1, bytes(16_384))] * 4], FLOW, id="6.9.1 more DATA than the stream's window"),
    ],
)
def test_a_breach_of_a_stream(frames: list[bytes], code: ErrorCode) -> None:
    """RST_STREAM with its code; the connection, and other streams, go on."""
    server = Wire()
    answers = server.send(*frames)
    assert wire.goaway_code(answers) is None
    assert wire.reset_codes(answers) == {1: code}
    assert server.told[-1] == ("reset", 1, code)
    server.send(wire.headers(3))
    assert server.told[-1][:2] == ("request", 3)


def test_6_1_padding_is_taken_off_and_its_window_given_back() -> None:
    """It counts for flow control, and nobody above sees it."""
    server = Wire()
    answers = server.send(OPEN, frame(words.DATA, words.PADDED, 1, b"\x03abc\0\0\0"))
    assert server.told[-1] == ("data", 1, b"abc", False)
    assert answers == [wire.Frame(words.WINDOW_UPDATE, 0, 1, u32(4))]
    assert server.stream(1).receive_window == words.DEFAULT_WINDOW - 3


def test_6_2_headers_may_be_padded_and_prioritized() -> None:
    """What older clients send."""
    server = Wire()
    server.send(frame(words.HEADERS, 0x2D, 1, b"\x02" + bytes(5) + BLOCK + b"\0\0"))
    assert server.told == [("request", 1, b"GET", b"/", (), b"", True)]


def test_6_3_priority_is_ignored_in_every_state() -> None:
    """Of streams idle, open and closed, and also of itself."""
    server = Wire()
    assert server.send(frame(words.PRIORITY, 0, 9, bytes(5)), frame(words.PRIORITY, 0, 1, u32(1) + b"\0")) == []
    server.send(wire.headers(1), words.rst_stream(1, 8))
    assert server.send(frame(words.PRIORITY, 0, 1, bytes(5))) == []


def test_6_4_a_reset_stream_is_gone() -> None:
    """Its handler is told the code, and nothing is said to the peer."""
    server = Wire()
    assert server.send(OPEN, words.rst_stream(1, 8)) == []
    assert server.told[-1] == ("reset", 1, 8)
    assert not server.connection.streams
    server.connection.send_headers(server.stream(1), BLOCK)
    assert not server.connection.send_data(server.stream(1), b"late")
    server.connection.send_whole(server.stream(1), BLOCK, b"late", BLOCK)
    server.connection.reset(server.stream(1), ErrorCode.CANCEL)
    assert server.answers() == []


def test_6_5_settings_are_acknowledged_once_they_hold() -> None:
    """In order, one acknowledgement for each."""
    server = Wire()
    answers = server.send(
        wire.setting(words.MAX_FRAME_SIZE, 20_000), wire.setting(0x99, 1), frame(words.SETTINGS, 0, 0)
    )
    assert answers == [wire.Frame(words.SETTINGS, words.ACK, 0, b"")] * 3


def test_6_5_3_nothing_goes_by_a_setting_before_it_is_acknowledged() -> None:
    """DATA that had no room follows the ACK of the window that gives it some."""
    server = Wire()
    server.send(wire.setting(words.INITIAL_WINDOW_SIZE, 0), wire.headers(1))
    server.connection.send_headers(server.stream(1), BLOCK)
    server.connection.send_data(server.stream(1), b"late")
    server.answers()
    assert [answer.kind for answer in server.send(wire.setting(words.INITIAL_WINDOW_SIZE, 10))] == [
        words.SETTINGS,
        words.DATA,
    ]


def test_6_5_3_settings_never_acknowledged() -> None:
    """SETTINGS_TIMEOUT, after a while."""
    server = Wire(greet=False)
    server.send(words.PREFACE, frame(words.SETTINGS, 0, 0))
    assert wire.goaway_code(server.tick(9_999)) is None
    assert wire.goaway_code(server.tick(10_000)) == ErrorCode.SETTINGS_TIMEOUT


def test_6_7_ping_is_answered_with_its_payload() -> None:
    """And an answer is not answered."""
    server = Wire()
    assert server.send(frame(words.PING, 0, 0, b"12345678")) == [wire.Frame(words.PING, words.ACK, 0, b"12345678")]
    assert server.send(frame(words.PING, words.ACK, 0, b"12345678")) == []


def test_6_8_a_client_that_says_goaway_is_served_to_the_end() -> None:
    """What is open goes on; then the connection ends."""
    server = Wire()
    server.send(wire.headers(1), words.goaway(0, 0))
    assert not server.connection.finished
    server.connection.send_headers(server.stream(1), encode([(b":status", b"200")]), end=True)
    assert wire.of_kind(server.answers(), words.HEADERS)
    assert server.connection.finished


def test_6_8_a_graceful_end_takes_two_steps() -> None:
    """GOAWAY for the highest id there can be, and once the client has heard it, for the highest there is."""
    server = Wire()
    server.send(wire.headers(1))
    server.connection.drain(server.now)
    first, ping = server.answers()
    assert first.payload[:8] == u32(words.STREAM_ID_MAX) + u32(0)
    server.send(wire.headers(3))  # was on its way
    assert server.told[-1][:2] == ("request", 3)
    (second,) = server.send(frame(words.PING, words.ACK, 0, ping.payload))
    assert second.payload == u32(3) + u32(0)
    assert wire.reset_codes(server.send(wire.headers(5))) == {5: ErrorCode.REFUSED_STREAM}
    for stream_id in (1, 3):
        assert not server.connection.finished
        server.connection.send_headers(server.stream(stream_id), encode([(b":status", b"200")]), end=True)
    assert server.connection.finished


def test_6_8_a_client_that_does_not_answer_is_not_waited_for() -> None:
    """The second step comes by itself."""
    server = Wire()
    server.connection.drain(0)
    server.answers()
    server.tick(999)
    assert not server.connection.finished
    assert wire.goaway_code(server.tick(1_000)) == ErrorCode.NO_ERROR
    assert server.connection.finished
