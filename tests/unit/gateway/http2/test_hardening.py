"""What a hostile peer can do, and what it costs: each known attack ends in its error code, with memory bounded."""

from __future__ import annotations

import gzip
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from tests.harness import http2_wire as wire
from tests.harness.grpc_wire import GrpcWire, head, message
from tests.harness.http2_wire import Wire
from zkv.gateway.http2 import words
from zkv.gateway.http2.grpc import Called
from zkv.gateway.http2.grpc_words import Status
from zkv.gateway.http2.header_blocks import encode
from zkv.gateway.http2.limits import Http2Limits
from zkv.gateway.http2.words import ErrorCode, frame

if TYPE_CHECKING:
    from collections.abc import Callable

CALM = ErrorCode.ENHANCE_YOUR_CALM
HEAD = encode([(b":status", b"200")])
FLOOD = 10_000
LIMITS = Http2Limits()


def frames_until_cut(server: Wire, attack: Callable[[int], bytes]) -> int:
    """How many rounds of it, all within a millisecond, are borne; there must be an end."""
    for i in range(FLOOD):
        if code := wire.goaway_code(server.send(attack(i))):
            assert code == CALM
            return i
    raise AssertionError("it goes on for ever")


# --- floods ---------------------------------------------------------------------------------------------


def test_rapid_reset_cve_2023_44487() -> None:
    """Streams opened and reset at once: a burst is borne, then the peer is cut off."""
    server = Wire()
    rounds = frames_until_cut(server, lambda i: wire.headers(2 * i + 1) + words.rst_stream(2 * i + 1, 8))
    assert rounds == LIMITS.resets_burst
    assert not server.connection.streams


@pytest.mark.parametrize(
    "breach",
    [
        pytest.param(lambda i: words.window_update(i, 0), id="WINDOW_UPDATE of nothing"),
        pytest.param(lambda i: words.window_update(i, words.WINDOW_MAX), id="window overflow"),
        pytest.param(lambda i: wire.data(i, b"x"), id="DATA after END_STREAM"),
        pytest.param(wire.headers, id="HEADERS after END_STREAM"),
    ],
)
def test_made_you_reset_cve_2025_8671(breach: Callable[[int], bytes]) -> None:
    """Streams that the server is made to reset count like streams reset."""
    server = Wire()
    rounds = frames_until_cut(server, lambda i: wire.headers(2 * i + 1) + breach(2 * i + 1))
    assert rounds <= LIMITS.resets_burst


def test_malformed_requests_count_like_resets() -> None:
    """They cost the same."""
    assert frames_until_cut(Wire(), lambda i: wire.headers(2 * i + 1, wire.GET[:1])) == LIMITS.resets_burst


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(frame(words.PING, 0, 0, bytes(8)), id="PING, CVE-2019-9512"),
        pytest.param(frame(words.PING, words.ACK, 0, bytes(8)), id="PING that answers nothing"),
        pytest.param(frame(words.SETTINGS, 0, 0), id="SETTINGS, CVE-2019-9515"),
        pytest.param(wire.data(1), id="empty DATA, CVE-2019-9518"),
        pytest.param(frame(words.DATA, words.PADDED, 1, b"\x05" + bytes(5)), id="DATA of padding alone"),
        pytest.param(frame(words.PRIORITY, 0, 1, bytes(5)), id="PRIORITY, CVE-2019-9513"),
        pytest.param(words.window_update(0, 1), id="WINDOW_UPDATE of the connection"),
        pytest.param(words.window_update(1, 1), id="WINDOW_UPDATE of a stream"),
        pytest.param(words.rst_stream(3, 8), id="RST_STREAM of a closed stream"),
        pytest.param(wire.headers(3, ((b"a", b"b"),)), id="HEADERS of a stream we reset"),
        pytest.param(frame(0x77, 0, 0), id="unknown frames"),
        pytest.param(words.goaway(0, 0), id="GOAWAY"),
    ],
)
def test_floods_of_what_asks_for_nothing(attack: bytes) -> None:
    """A burst is borne, then the peer is cut off."""
    server = Wire()
    server.send(wire.open_headers(1), wire.open_headers(3))
    server.connection.reset(server.stream(3), ErrorCode.CANCEL)
    rounds = frames_until_cut(server, lambda _: attack)
    assert rounds <= LIMITS.chatter_burst + 4 * 2


def test_many_settings_in_one_frame_cost_more_than_one() -> None:
    """A frame may hold 2,730 of them."""
    server = Wire()
    unknown = frame(words.SETTINGS, 0, 0, b"\x77\0\0\0\0\0" * 2730)
    assert frames_until_cut(server, lambda _: unknown) <= 6
    server = Wire()
    windows = frame(words.SETTINGS, 0, 0, (b"\0\4\0\0\xff\xff" + b"\0\4\0\1\0\0") * 1365)
    assert frames_until_cut(server, lambda _: windows) == 0


@pytest.mark.parametrize(("size", "frames_max"), [(0, 9), (1, 9), (16_000, 2)])
def test_continuation_flood_cve_2024_27316(size: int, frames_max: int) -> None:
    """Neither many frames nor much in them."""
    server = Wire()
    server.send(frame(words.HEADERS, 0, 1, b""))
    rounds = frames_until_cut(server, lambda _: frame(words.CONTINUATION, 0, 1, bytes(size)))
    assert rounds <= frames_max


def test_blocks_in_few_fragments_may_come_for_ever() -> None:
    """Each is counted for itself."""
    server = Wire()
    block = encode(wire.GET)
    for i in range(1, 101, 2):
        pieces = [frame(words.CONTINUATION, 0, i, block[j : j + 1]) for j in range(4)]
        server.send(frame(words.HEADERS, 1, i, b""), *pieces, frame(words.CONTINUATION, 4, i, block[4:]))
    assert len(server.told) == 50


def test_a_client_that_works_may_talk() -> None:
    """grpc-go measures the line by a PING for each DATA it gets, and gives windows back: it is not cut off for it."""
    server = Wire()
    for i in range(1, 2 * FLOOD, 2):
        server.send(wire.headers(i))
        server.connection.send_whole(server.stream(i), HEAD, b"answer", HEAD)
        answers = server.send(frame(words.PING, 0, 0, bytes(8)), words.window_update(0, 6), words.window_update(i, 6))
        assert wire.goaway_code(answers) is None
    assert wire.goaway_code(server.answers()) is None


def test_time_makes_patience_new() -> None:
    """A client that cancels now and then is borne for ever."""
    server = Wire()
    for i in range(1, 2 * FLOOD, 2):
        server.now += 1000 // LIMITS.resets_per_s
        assert wire.goaway_code(server.send(wire.headers(i), words.rst_stream(i, 8))) is None


def test_patience_is_not_saved_up() -> None:
    """After an hour of quiet, or of work, a flood is borne no longer than at first."""
    server = Wire()
    server.now = 3_600_000
    for i in range(1, 4_001, 2):
        server.send(wire.headers(i))
        server.connection.send_headers(server.stream(i), HEAD, end=True)
    assert frames_until_cut(server, lambda _: frame(words.PING, 0, 0, bytes(8))) == LIMITS.chatter_burst


# --- slowness -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent", [b"", words.PREFACE[:5], words.PREFACE, words.PREFACE + frame(words.SETTINGS, 0, 0)[:4]]
)
def test_a_slow_greeting(sent: bytes) -> None:
    """It has its time, and no more."""
    server = Wire(greet=False)
    server.answers()
    server.send(sent)
    assert server.tick(LIMITS.handshake_ms - 1) == []
    assert wire.goaway_code(server.tick(LIMITS.handshake_ms)) == ErrorCode.PROTOCOL_ERROR
    assert server.connection.finished


@pytest.mark.parametrize(
    "begun",
    [pytest.param(wire.headers(1)[:12], id="a frame"), pytest.param(frame(words.HEADERS, 0, 1, b""), id="a block")],
)
def test_a_frame_or_a_header_block_that_never_ends(begun: bytes) -> None:
    """However its bytes drip in."""
    server = Wire()
    server.send(begun)
    server.now = LIMITS.frame_ms - 1
    if begun[3] == words.HEADERS and len(begun) > 9:
        server.send(wire.headers(1)[12:13])
    assert server.tick(LIMITS.frame_ms - 1) == []
    assert wire.goaway_code(server.tick(LIMITS.frame_ms)) == CALM


def test_what_was_begun_later_has_its_time_from_then() -> None:
    """Not from when the connection, or a frame before it, began."""
    server = Wire()
    server.now = 50_000
    server.send(wire.headers(1), wire.headers(3)[:12])
    assert server.tick(50_000 + LIMITS.frame_ms - 1) == []
    server.now = 90_000
    server.send(wire.headers(3)[12:], frame(words.HEADERS, 0, 5, b""))
    assert server.tick(90_000 + LIMITS.frame_ms - 1) == []
    assert wire.goaway_code(server.tick(90_000 + LIMITS.frame_ms)) == CALM


def test_a_stream_that_moves_is_not_given_up() -> None:
    """However slowly it does."""
    server = Wire()
    server.send(wire.setting(words.INITIAL_WINDOW_SIZE, 10), wire.headers(1))
    server.connection.send_data(server.stream(1), bytes(100))
    for minute in range(1, 9):
        server.now = minute * (LIMITS.stall_ms - 1)
        assert wire.of_kind(server.send(words.window_update(1, 10)), words.DATA)
        assert server.tick(server.now) == []


def test_a_stream_whose_window_stays_shut_is_given_up() -> None:
    """Its queue with it, while others go on."""
    server = Wire()
    server.send(wire.setting(words.INITIAL_WINDOW_SIZE, 10), wire.headers(1), wire.headers(3))
    server.connection.send_data(server.stream(1), bytes(100))
    server.now = LIMITS.stall_ms - 1
    server.connection.receive(b"", server.now)
    server.connection.send_data(server.stream(3), bytes(100))
    assert wire.reset_codes(server.tick(LIMITS.stall_ms)) == {1: ErrorCode.CANCEL}
    assert server.told[-1] == ("reset", 1, ErrorCode.CANCEL)
    assert server.connection.outflow.queued == 90
    assert set(server.connection.streams) == {3}


def test_a_silent_peer_is_asked_whether_it_lives() -> None:
    """By PING, and is gone if it does not answer."""
    server = Wire(Http2Limits(keepalive_ms=50_000, keepalive_timeout_ms=5_000))
    assert server.tick(49_999) == []
    (ping,) = server.tick(50_000)
    assert server.tick(54_000) == []
    server.send(frame(words.PING, words.ACK, 0, ping.payload))
    assert server.tick(60_000) == []
    assert wire.of_kind(server.tick(104_000), words.PING)
    assert wire.goaway_code(server.tick(109_000)) == ErrorCode.NO_ERROR
    assert server.connection.finished


# --- windows and memory ---------------------------------------------------------------------------------------------


def memory_of(work: Callable[[], object]) -> int:
    """Bytes that are held after it, at their height."""
    tracemalloc.start()
    try:
        kept = work()
        _, peak = tracemalloc.get_traced_memory()
        assert kept is not None
        return peak
    finally:
        tracemalloc.stop()


def test_tiny_windows_cost_the_peer_its_patience() -> None:
    """A byte of window for a frame of ours: a data dribble, CVE-2019-9511."""
    server = Wire()
    server.send(wire.setting(words.INITIAL_WINDOW_SIZE, 0), wire.headers(1))
    server.connection.send_data(server.stream(1), bytes(100_000))
    assert frames_until_cut(server, lambda _: words.window_update(1, 1)) <= LIMITS.chatter_burst + 4


def test_windows_of_a_sensible_size_do_not() -> None:
    """An answer of many megabytes, read through the default windows."""
    server = Wire()
    server.send(wire.headers(1))
    server.connection.send_data(server.stream(1), bytes(40 << 20))
    for _ in range(20_000):
        server.send(words.window_update(1, 2_000), words.window_update(0, 2_000))
    assert server.connection.fault is None


def test_answers_that_are_not_read_are_bounded() -> None:
    """A client asks for much on every stream, and opens no window: CVE-2019-9517."""
    limits = Http2Limits(queued_bytes_max=8 << 20)

    def attack() -> Wire:
        server = Wire(limits)
        server.send(wire.setting(words.INITIAL_WINDOW_SIZE, 0))
        for i in range(1, 2000, 2):
            server.send(wire.headers(i))
            if i in server.connection.streams:
                server.connection.send_data(server.stream(i), bytes(100_000), end=True)
        assert server.connection.outflow.queued <= limits.queued_bytes_max
        return server

    assert memory_of(attack) < 12 << 20


def test_one_stream_may_not_queue_more_than_all() -> None:
    """It is reset, and what it had queued is gone."""
    server = Wire(Http2Limits(queued_bytes_max=1 << 20))
    server.send(wire.setting(words.INITIAL_WINDOW_SIZE, 0), wire.headers(1), wire.headers(3))
    assert not server.connection.send_data(server.stream(1), bytes(1 << 20))
    assert not server.connection.send_data(server.stream(3), b"x")
    assert wire.reset_codes(server.answers()) == {3: CALM}
    assert not server.connection.send_data(server.stream(1), b"x")
    assert wire.reset_codes(server.answers()) == {1: CALM}
    assert server.connection.outflow.queued == 0


def test_messages_that_are_never_whole_are_bounded() -> None:
    """On a thousand streams a window's worth each."""
    limits = Http2Limits(held_bytes_max=8 << 20, message_bytes_max=1 << 20)

    def attack() -> GrpcWire:
        client = GrpcWire(limits)
        part = message(bytes(1 << 20))[:65_535]
        for i in range(1, 2001, 2):
            client.send(wire.open_headers(i, head()))
            client.upload(i, part)
        refused = [answer for answer in client.answers.values() if answer.status == Status.RESOURCE_EXHAUSTED]
        assert len(refused) > 800
        assert client.grpc._kept <= 4 << 20
        assert client.grpc._granted <= 4 << 20
        return client

    assert memory_of(attack) < 12 << 20


def test_whole_messages_without_an_end_are_bounded_too() -> None:
    """Compressed ones stay compressed until they are wanted."""
    packed = message(gzip.compress(bytes(2 << 20)), 1)

    def attack() -> GrpcWire:
        client = GrpcWire()
        for i in range(1, 2001, 2):
            client.send(wire.open_headers(i, head(b"/s.S/Unary", (b"grpc-encoding", b"gzip"))), wire.data(i, packed))
        assert len(client.grpc.http.streams) == 1000
        return client

    assert memory_of(attack) < 8 << 20


def test_a_zip_bomb_is_stopped_before_it_bursts() -> None:
    """A hundred megabytes out of a hundred thousand bytes: RESOURCE_EXHAUSTED, and never held."""
    bomb = message(gzip.compress(bytes(100 << 20)), 1)

    def attack() -> GrpcWire:
        client = GrpcWire()
        client.open(1, b"/s.S/Unary", (b"grpc-encoding", b"gzip"))
        for i in range(0, len(bomb), 16_384):
            client.send(wire.data(1, bomb[i : i + 16_384], end=i + 16_384 >= len(bomb)))
        assert client.answers[1].status == Status.RESOURCE_EXHAUSTED
        return client

    assert memory_of(attack) < 6 << 20


def test_many_small_bombs_are_one_large_one() -> None:
    """Each within what a message may be: who sends them again and again is cut off."""
    client = GrpcWire()
    bomb = message(gzip.compress(bytes(2 << 20)), 1)
    client.open(1, b"/s.S/Up", (b"grpc-encoding", b"gzip"))
    heard = 0
    while client.goaway is None:
        heard += len(client.send(wire.data(1, bomb)))
        assert heard < 100
    assert client.goaway == CALM


def test_what_compresses_well_is_no_bomb() -> None:
    """Twenty times, for as long as it likes."""
    client = GrpcWire()
    client.open(1, b"/s.S/Up", (b"grpc-encoding", b"gzip"))
    text = b"".join(b"key-%08d" % (i * 7919) for i in range(2000)) + bytes(100_000)
    packed = message(gzip.compress(text), 1)
    assert len(packed) * 32 > len(text) > len(packed) * 10
    for _ in range(500):
        assert client.send(wire.data(1, packed))


def test_ids_that_are_remembered_are_bounded() -> None:
    """Of streams reset, and of ids skipped."""
    server = Wire(Http2Limits(resets_burst=100_000))
    for i in range(1, 40_000, 8):
        server.send(wire.headers(i, wire.GET[:1]))
    outflow = server.connection.outflow
    assert len(outflow.reset_ids) <= 2_000
    assert len(server.connection._skipped) <= 1_000


def test_a_frame_that_drips_in_is_gathered_once() -> None:
    """Byte by byte it is heard as if it had come at once, and what is kept is no more than it."""
    client = GrpcWire()
    client.open(1)
    whole = wire.data(1, message(bytes(16_000)), end=True)
    events = [event for byte in whole for event in client.send(bytes([byte]))]
    (event,) = events
    assert isinstance(event, Called)
    assert event.message == bytes(16_000)
    assert not client.grpc.http._frames._pending


# --- pings that etcd would not bear -----------------------------------------------------------------------


def _pinging(**limits: int) -> Wire:
    return Wire(Http2Limits(ping_min_ms=5_000, **limits))


def test_who_pings_too_often_while_it_is_told_nothing_is_cut_off() -> None:
    """The fourth within --grpc-keepalive-min-time: GOAWAY, ENHANCE_YOUR_CALM, too_many_pings."""
    server = _pinging()
    server.send(wire.open_headers(1))
    assert frames_until_cut(server, lambda _: frame(words.PING, 0, 0, bytes(8))) == 3
    assert server.connection.fault is not None
    assert server.connection.fault.reason == "too_many_pings"


def test_who_pings_as_it_may_is_borne() -> None:
    """With a stream open, every five seconds for ever."""
    server = _pinging()
    server.send(wire.open_headers(1))
    for now in range(5_000, 500_000, 5_000):
        server.tick(now)
        assert not wire.goaway_code(server.send(frame(words.PING, 0, 0, bytes(8))))


def test_who_pings_without_a_stream_may_do_so_seldom() -> None:
    """Every two hours; more often, the fourth is one too many."""
    server = _pinging()
    for now in (0, 10_000, 20_000):
        server.tick(now)
        assert not wire.goaway_code(server.send(frame(words.PING, 0, 0, bytes(8))))
    server.tick(30_000)
    assert wire.goaway_code(server.send(frame(words.PING, 0, 0, bytes(8)))) == CALM


def test_a_peer_that_works_may_ping_as_it_likes() -> None:
    """Go's client measures its line so: a ping for what it was sent."""
    server = _pinging()
    for stream in range(1, 101, 2):
        server.send(wire.open_headers(stream), frame(words.PING, 0, 0, bytes(8)))
        assert server.connection.fault is None
