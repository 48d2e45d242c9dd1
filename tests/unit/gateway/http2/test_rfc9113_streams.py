"""RFC 9113, section 5 and 6.9: the life of a stream, and flow control both ways."""

from __future__ import annotations

import pytest

from tests.harness import http2_wire as wire
from tests.harness.http2_wire import Wire
from zkv.gateway.http2 import streams, words
from zkv.gateway.http2.header_blocks import encode
from zkv.gateway.http2.limits import Http2Limits
from zkv.gateway.http2.words import ConnectionFault, ErrorCode, StreamFault, frame

HEAD = encode([(b":status", b"200")])
END = encode([(b"grpc-status", b"0")])
OPEN = wire.open_headers(1)


# --- 5.1: the table ------------------------------------------------------------------------------------


def test_5_1_every_event_has_an_answer_in_every_state() -> None:
    """The table is whole: a next state, a breach, or a thing that only we could do and do not."""
    assert len(streams.TABLE) == len(streams.EVENTS)
    for event, row in enumerate(streams.TABLE):
        assert len(row) == len(streams.STATES)
        for state, cell in enumerate(row):
            if cell is None:
                assert event in {streams.SEND_END, streams.SEND_RST}
                with pytest.raises(AssertionError):
                    streams.step(event, state)
            elif isinstance(cell, streams.Breach):
                with pytest.raises((ConnectionFault, StreamFault)):
                    streams.step(event, state)
            else:
                assert streams.step(event, state) == cell


def test_5_1_no_stream_leaves_closed() -> None:
    """Or comes back to idle."""
    for row in streams.TABLE:
        assert row[streams.CLOSED] in {streams.CLOSED, None} or isinstance(row[streams.CLOSED], streams.Breach)
        assert streams.IDLE not in row


@pytest.mark.parametrize("late", [wire.data(1, b"x"), wire.headers(1)])
def test_5_1_a_stream_both_have_ended_takes_no_more(late: bytes) -> None:
    """DATA or HEADERS there are a breach of the connection."""
    server = Wire()
    server.send(wire.headers(1))
    server.connection.send_headers(server.stream(1), HEAD, end=True)
    assert wire.goaway_code(server.send(late)) == ErrorCode.STREAM_CLOSED


@pytest.mark.parametrize("late", [words.window_update(1, 5), words.rst_stream(1, 8)])
def test_5_1_what_may_have_been_under_way_to_a_closed_stream_is_ignored(late: bytes) -> None:
    """WINDOW_UPDATE and RST_STREAM."""
    server = Wire()
    server.send(wire.headers(1))
    server.connection.send_headers(server.stream(1), HEAD, end=True)
    server.answers()
    assert server.send(late) == []


def test_5_1_what_was_under_way_when_we_reset_a_stream_is_ignored() -> None:
    """But counted for the connection's window, and decoded for the table."""
    server = Wire()
    server.send(OPEN)
    server.connection.reset(server.stream(1), ErrorCode.CANCEL)
    server.answers()
    trailer = frame(words.HEADERS, 5, 1, b"\x40\x01a\x01b")  # enters the table
    assert server.send(wire.data(1, bytes(1000)), trailer) == []
    assert server.connection._receive_window == server.limits.connection_window_bytes - 1000
    server.send(frame(words.HEADERS, 5, 3, encode(wire.GET) + b"\xbe"))
    assert server.told[-1] == ("request", 3, b"GET", b"/", ((b"a", b"b"),), b"", True)


def test_5_1_who_is_answered_before_it_has_ended_need_not_go_on() -> None:
    """END_STREAM, and RST_STREAM(NO_ERROR) (8.1); what still comes is ignored."""
    server = Wire()
    server.send(OPEN)
    server.connection.send_headers(server.stream(1), HEAD, end=True)
    answers = server.answers()
    assert [answer.kind for answer in answers] == [words.HEADERS, words.RST_STREAM]
    assert wire.reset_codes(answers) == {1: ErrorCode.NO_ERROR}
    assert server.send(wire.data(1, b"late", end=True)) == []


def test_5_1_1_ids_may_be_skipped() -> None:
    """Those between are closed then; that they were never opened is known for long enough."""
    server = Wire()
    server.send(wire.headers(7))
    assert server.told[-1][:2] == ("request", 7)
    assert wire.goaway_code(server.send(wire.headers(5))) == ErrorCode.PROTOCOL_ERROR


def test_5_1_2_more_streams_than_allowed_are_refused() -> None:
    """Unprocessed, so that they can be tried again; and when one has ended there is room again."""
    server = Wire(Http2Limits(streams_max=3))
    answers = server.send(*(wire.headers(stream_id) for stream_id in (1, 3, 5, 7)))
    assert wire.reset_codes(answers) == {7: ErrorCode.REFUSED_STREAM}
    assert [told[1] for told in server.told] == [1, 3, 5]
    server.connection.send_headers(server.stream(3), HEAD, end=True)
    assert wire.reset_codes(server.send(wire.headers(9))) == {}


# --- 5.2, 6.9: windows towards the peer ---------------------------------------------------------------------


def sent(answers: list[wire.Frame], stream_id: int = 1) -> bytes:
    return b"".join(a.payload for a in wire.of_kind(answers, words.DATA) if a.stream_id == stream_id)


def test_6_9_1_data_waits_for_the_stream_s_window() -> None:
    """Exactly so much goes, and the rest when there is room; END_STREAM with the last."""
    server = Wire()
    server.send(wire.setting(words.INITIAL_WINDOW_SIZE, 10), wire.headers(1))
    server.connection.send_headers(server.stream(1), HEAD)
    server.connection.send_data(server.stream(1), b"0123456789abcdef", end=True)
    assert sent(server.answers()) == b"0123456789"
    assert sent(server.send(words.window_update(1, 1))) == b"a"
    (last,) = server.send(words.window_update(1, 100))
    assert (last.payload, last.flags) == (b"bcdef", words.END_STREAM)
    assert not server.connection.streams


def test_6_9_1_data_waits_for_the_connection_s_window_and_streams_take_turns() -> None:
    """None starves: a frame each."""
    server = Wire()
    server.send(wire.setting(words.INITIAL_WINDOW_SIZE, 1 << 20), *(wire.headers(i) for i in (1, 3, 5)))
    for stream_id in (1, 3, 5):
        server.connection.send_data(server.stream(stream_id), bytes(100_000))
    before = server.answers()
    assert sum(len(sent(before, i)) for i in (1, 3, 5)) == words.DEFAULT_WINDOW
    answers = wire.of_kind(server.send(words.window_update(0, 6 * 16_384)), words.DATA)
    assert sorted(a.stream_id for a in answers[:3]) == [1, 3, 5]
    assert sum(len(a.payload) for a in answers) == 6 * 16_384


def test_6_9_1_an_empty_frame_needs_no_window() -> None:
    """END_STREAM can always be told."""
    server = Wire()
    server.send(wire.setting(words.INITIAL_WINDOW_SIZE, 0), wire.headers(1))
    server.connection.send_headers(server.stream(1), HEAD)
    server.connection.send_data(server.stream(1), b"", end=True)
    assert server.answers()[-1] == wire.Frame(words.DATA, words.END_STREAM, 1, b"")


def test_6_9_2_a_smaller_initial_window_takes_windows_below_zero() -> None:
    """Then it takes more than the difference before anything goes."""
    server = Wire()
    server.send(wire.setting(words.INITIAL_WINDOW_SIZE, 10), wire.headers(1))
    server.connection.send_headers(server.stream(1), HEAD)
    server.connection.send_data(server.stream(1), b"0123456789abcdef")
    server.answers()
    assert wire.of_kind(server.send(wire.setting(words.INITIAL_WINDOW_SIZE, 4)), words.DATA) == []
    assert server.stream(1).send_window == -6
    assert server.send(words.window_update(1, 6)) == []
    assert sent(server.send(words.window_update(1, 2))) == b"ab"
    assert sent(server.send(wire.setting(words.INITIAL_WINDOW_SIZE, 5))) == b"c"


def test_8_1_trailers_come_after_all_data() -> None:
    """However long it had to wait."""
    server = Wire()
    server.send(wire.setting(words.INITIAL_WINDOW_SIZE, 3), wire.headers(1))
    server.connection.send_whole(server.stream(1), HEAD, b"abcdef", END)
    assert [a.kind for a in server.answers()] == [words.HEADERS, words.DATA]
    rest = server.send(words.window_update(1, 3))
    assert [(a.kind, a.flags) for a in rest] == [(words.DATA, 0), (words.HEADERS, 5)]
    assert not server.connection.streams


def test_4_2_no_frame_is_larger_than_the_peer_takes() -> None:
    """DATA is cut up, and header blocks are continued; a peer that takes more is given more."""
    server = Wire()
    server.send(words.window_update(0, 1 << 20), wire.setting(words.INITIAL_WINDOW_SIZE, 1 << 20), wire.headers(1))
    block = encode([(b":status", b"200"), (b"long", b"x" * 40_000)])
    server.connection.send_headers(server.stream(1), block)
    server.connection.send_data(server.stream(1), bytes(40_000))
    answers = server.answers()
    assert [(a.kind, len(a.payload)) for a in answers] == [
        (words.HEADERS, 16_384), (words.CONTINUATION, 16_384), (words.CONTINUATION, len(block) - 32_768),
        (words.DATA, 16_384), (words.DATA, 16_384), (words.DATA, 7_232),
    ]  # fmt: skip
    assert b"".join(a.payload for a in answers[:3]) == block
    assert [a.flags for a in answers[:3]] == [0, 0, words.END_HEADERS]
    server.send(wire.setting(words.MAX_FRAME_SIZE, 30_000))
    server.connection.send_data(server.stream(1), bytes(40_000))
    assert [len(a.payload) for a in server.answers()] == [30_000, 10_000]


# --- windows of ours ----------------------------------------------------------------------------------------


def test_6_9_what_was_taken_is_given_back() -> None:
    """Of the connection by itself; of a stream when its handler grants it."""
    server = Wire(Http2Limits(connection_window_bytes=100_000))
    server.send(OPEN)
    assert server.send(wire.data(1, bytes(16_000)), wire.data(1, bytes(16_000)), wire.data(1, bytes(16_000))) == []
    (update,) = server.send(wire.data(1, bytes(4_000)))
    assert update == wire.Frame(words.WINDOW_UPDATE, 0, 0, words.pack_u32(52_000))
    server.connection.grant(server.stream(1), 52_000)
    assert server.answers() == [wire.Frame(words.WINDOW_UPDATE, 0, 1, words.pack_u32(52_000))]
    assert server.stream(1).receive_window == words.DEFAULT_WINDOW


def test_6_9_1_more_than_the_connection_s_window_is_a_breach_of_it() -> None:
    """Over many streams, each within its own."""
    server = Wire(Http2Limits(connection_window_bytes=65_535))
    flood = [each for i in range(1, 11, 2) for each in (wire.open_headers(i), wire.data(i, bytes(16_000)))]
    assert wire.goaway_code(server.send(*flood)) == ErrorCode.FLOW_CONTROL_ERROR


# --- the shell's patience -------------------------------------------------------------------------------------


def test_what_the_socket_does_not_take_waits_here() -> None:
    """Between `hold` and `release` no DATA goes out, and it is counted."""
    server = Wire()
    server.send(wire.headers(1))
    server.connection.send_headers(server.stream(1), HEAD)
    server.connection.hold()
    server.connection.send_data(server.stream(1), b"abc", end=True)
    assert sent(server.answers()) == b""
    assert server.connection.outflow.queued == 3
    server.connection.release()
    assert sent(server.answers()) == b"abc"


def test_a_stream_is_told_to_wait_and_when_to_go_on() -> None:
    """`send_data` returns False beyond the mark, and the handler hears when half of it is gone."""
    server = Wire(Http2Limits(stream_queued_bytes=1000))
    server.send(wire.setting(words.INITIAL_WINDOW_SIZE, 0), wire.headers(1))
    stream = server.stream(1)
    server.connection.send_headers(stream, HEAD)
    assert server.connection.send_data(stream, bytes(1000))
    assert not server.connection.send_data(stream, bytes(1))
    server.send(words.window_update(1, 500))
    assert server.told[-1][0] == "request"
    server.send(words.window_update(1, 501))
    assert server.told[-1] == ("drained", 1)


def test_a_lost_socket_ends_every_stream() -> None:
    """Each is told once."""
    server = Wire()
    server.send(wire.headers(1), wire.open_headers(3))
    server.connection.lost()
    assert server.told[-2:] == [("reset", 1, 8), ("reset", 3, 8)]
    assert server.connection.finished
