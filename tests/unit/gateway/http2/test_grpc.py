"""gRPC's calls: what their clients may send, what comes of it, and how they are answered."""

from __future__ import annotations

import gzip
import os
import zlib
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import http2_wire as wire
from tests.harness.grpc_wire import GrpcWire, head, message
from tests.harness.http2_wire import Recorder
from zkv.gateway.http2 import words
from zkv.gateway.http2.grpc import Call, Called, Cancelled, Drained, Event, HalfClosed, Opened, Received
from zkv.gateway.http2.grpc_words import GrpcFault, Status, percent_encode, timeout_ms
from zkv.gateway.http2.limits import Http2Limits
from zkv.gateway.http2.words import ErrorCode

GZIP = (b"grpc-encoding", b"gzip")


def only(events: list[Event]) -> Call:
    (event,) = events
    return event.call


# --- kinds of calls ---------------------------------------------------------------------------------------


def test_a_unary_call_is_heard_whole_and_answered_whole() -> None:
    """One event, one answer: head, message, trailers."""
    client = GrpcWire()
    call = client.call(1, b"/s.S/Unary", b"ask", (b"token", b"t"))
    assert call.head.metadata == ((b"token", b"t"),)
    assert call.deadline is None
    client.grpc.reply(call, b"answer")
    client.look()
    answer = client.answers[1]
    assert answer.fields == {b":status": b"200", b"content-type": b"application/grpc", b"grpc-status": b"0"}
    assert (answer.body, answer.ended, answer.reset) == (message(b"answer"), True, None)
    assert call.over


def test_a_unary_call_is_not_heard_before_it_is_whole() -> None:
    """Byte by byte, with its end in a frame of its own."""
    client = GrpcWire()
    assert client.open(1) == []
    for byte in message(b"ask"):
        assert client.send(wire.data(1, bytes([byte]))) == []
    (event,) = client.send(wire.data(1, end=True))
    assert isinstance(event, Called)
    assert event.message == b"ask"


def test_a_call_may_end_in_trailers() -> None:
    """Though gRPC's clients do not do that."""
    client = GrpcWire()
    client.open(1)
    client.send(wire.data(1, message(b"ask")))
    (event,) = client.send(wire.headers(1, ((b"a", b"b"),)))
    assert isinstance(event, Called)


def test_a_client_streams_messages() -> None:
    """However they fall into frames."""
    client = GrpcWire()
    call = only(client.open(1, b"/s.S/Up"))
    body = message(b"one") + message(b"") + message(b"three")
    heard = [event for i in range(len(body)) for event in client.send(wire.data(1, body[i : i + 1]))]
    assert heard == [Received(call, b"one"), Received(call, b""), Received(call, b"three")]
    assert client.send(wire.data(1, body, end=True)) == [*heard, HalfClosed(call)]
    client.grpc.reply(call, b"done")
    client.look()
    assert client.answers[1].status == 0


def test_a_client_that_streams_may_send_nothing() -> None:
    """Its head alone, and the end with it."""
    client = GrpcWire()
    events = client.send(wire.headers(1, head(b"/s.S/Both")))
    assert [type(event) for event in events] == [Opened, HalfClosed]


def test_a_server_streams_messages() -> None:
    """Any number, and then the status."""
    client = GrpcWire()
    call = client.call(1, b"/s.S/Down", b"ask")
    for part in (b"a", b"", b"c"):
        assert client.grpc.send(call, part)
    client.look()
    before = client.answers[1]
    assert (before.body, before.ended) == (message(b"a") + message(b"") + message(b"c"), False)
    client.grpc.finish(call, metadata=[(b"n", b"1"), (b"n-bin", b"\xff\x00")])
    client.look()
    assert client.answers[1].ended
    assert client.answers[1].fields[b"grpc-status"] == b"0"
    assert client.answers[1].fields[b"n"] == b"1"
    assert client.answers[1].fields[b"n-bin"] == b"/wA"


def test_both_stream_at_once() -> None:
    """Either may end first; the server ending first needs no more of the client."""
    client = GrpcWire()
    call = only(client.open(1, b"/s.S/Both"))
    client.grpc.begin(call, [(b"m", b"v")])
    client.look()
    assert client.answers[1].fields[b"m"] == b"v"
    client.send(wire.data(1, message(b"a")))
    client.grpc.send(call, b"b")
    client.grpc.finish(call, Status.NOT_FOUND, "gone")
    client.look()
    assert client.answers[1].status == Status.NOT_FOUND
    assert client.answers[1].reset == ErrorCode.NO_ERROR
    assert client.send(wire.data(1, message(b"late"))) == []


def test_a_failure_is_an_answer_of_trailers_only() -> None:
    """One block of headers."""
    client = GrpcWire()
    call = client.call(1, b"/s.S/Unary", b"ask")
    client.grpc.finish(call, Status.INVALID_ARGUMENT, "etcdserver: key is not provided")
    client.look()
    answer = client.answers[1]
    assert answer.fields == {
        b":status": b"200",
        b"content-type": b"application/grpc",
        b"grpc-status": b"3",
        b"grpc-message": b"etcdserver: key is not provided",
    }
    assert answer.ended


# --- the end of calls -------------------------------------------------------------------------------------------


def test_a_call_reset_by_its_client_is_cancelled() -> None:
    """And what is still answered is void."""
    client = GrpcWire()
    call = client.call(1, b"/s.S/Unary", b"ask")
    assert client.send(words.rst_stream(1, ErrorCode.CANCEL)) == [Cancelled(call, ErrorCode.CANCEL)]
    client.grpc.reply(call, b"late")
    client.grpc.send(call, b"late")
    client.grpc.finish(call, 5, "late")
    client.look()
    assert client.answers == {}


def test_a_call_nobody_has_heard_of_is_not_cancelled() -> None:
    """It was never whole."""
    client = GrpcWire()
    client.open(1)
    assert client.send(wire.data(1, b"\0\0"), words.rst_stream(1, 8)) == []


def test_a_call_that_is_answered_is_not_cancelled() -> None:
    """Even while its answer waits for the client's window."""
    client = GrpcWire()
    client.send(wire.setting(words.INITIAL_WINDOW_SIZE, 0))
    call = client.call(1, b"/s.S/Unary", b"ask")
    client.grpc.reply(call, b"answer")
    assert client.send(words.rst_stream(1, 8)) == []


def test_a_lost_connection_cancels_what_is_under_way() -> None:
    """Each call once."""
    client = GrpcWire()
    one, two = client.call(1, b"/s.S/Unary", b"ask"), only(client.open(3, b"/s.S/Up"))
    assert client.grpc.lost() == [Cancelled(one, 8), Cancelled(two, 8)]
    assert client.grpc.lost() == []


def test_a_call_that_breaks_the_rules_after_it_was_heard_of_is_cancelled() -> None:
    """Its client gets the status, its server the event."""
    client = GrpcWire()
    call = only(client.open(1, b"/s.S/Up"))
    assert client.send(wire.data(1, b"\x02\0\0\0\0")) == [Cancelled(call, ErrorCode.CANCEL)]
    assert client.answers[1].status == Status.INTERNAL
    assert client.answers[1].reset == ErrorCode.NO_ERROR


def test_a_call_that_is_answered_is_not_listened_to() -> None:
    """Even while its answer waits for the client's window."""
    client = GrpcWire()
    client.send(wire.setting(words.INITIAL_WINDOW_SIZE, 0))
    call = only(client.open(1, b"/s.S/Both"))
    client.grpc.send(call, b"answer")
    client.grpc.finish(call)
    assert client.send(wire.data(1, message(b"more"))) == []
    assert client.send(wire.headers(1, ((b"the", b"end"),))) == []
    client.send(words.window_update(1, 100))
    assert client.answers[1].ended


def test_a_client_may_be_answered_in_the_middle_of_a_message() -> None:
    """What it had sent of it is forgotten at once."""
    client = GrpcWire()
    call = only(client.open(1, b"/s.S/Up"))
    client.send(wire.data(1, message(bytes(1000))[:500]))
    assert client.grpc._kept == 500
    client.send(wire.setting(words.INITIAL_WINDOW_SIZE, 0))
    client.grpc.reply(call, b"enough")
    assert client.grpc._kept == 0


# --- heads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (b"/s.S/Nothing", "unknown method Nothing for service s.S"),
        (b"/n.N/Unary", "unknown service n.N"),
        (b"/Unary", 'malformed method name: "/Unary"'),
    ],
)
def test_what_is_not_served_is_unimplemented(path: bytes, text: str) -> None:
    """In grpc-go's words; the rest of the call is not wanted."""
    client = GrpcWire()
    assert client.open(1, path) == []
    assert client.answers[1].status == Status.UNIMPLEMENTED
    assert client.answers[1].fields[b"grpc-message"] == text.encode()
    assert client.answers[1].reset == ErrorCode.NO_ERROR


@pytest.mark.parametrize("kind", [b"application/grpc", b"application/grpc+proto", b"application/grpc;charset=x"])
def test_content_types_that_are_served(kind: bytes) -> None:
    """Protocol buffers, said or not."""
    client = GrpcWire()
    fields = tuple((name, kind if name == b"content-type" else value) for name, value in head(b"/s.S/Up"))
    assert len(client.send(wire.open_headers(1, fields))) == 1


@pytest.mark.parametrize(
    "kind", [b"", b"text/plain", b"application/grpcx", b"application/grpc+json", b"application/grp"]
)
def test_content_types_that_are_not_served(kind: bytes) -> None:
    """415, as gRPC has it; or whoever serves what is not gRPC."""
    fields = tuple((name, kind if name == b"content-type" else value) for name, value in head(b"/s.S/Up"))
    client = GrpcWire()
    assert client.send(wire.open_headers(1, fields)) == []
    assert client.answers[1].fields == {b":status": b"415"}
    plain = Recorder()
    other = GrpcWire(plain=plain)
    assert other.send(wire.open_headers(1, fields), wire.data(1, b"x"), wire.headers(1, ((b"a", b"b"),))) == []
    assert other.send(wire.headers(3, fields), words.rst_stream(3, 8)) == []
    assert [told[0] for told in plain.told] == ["request", "data", "trailers", "request", "reset"]


def test_only_post_is_a_call() -> None:
    """405, and what may be done instead."""
    client = GrpcWire()
    client.send(wire.headers(1, head(method=b"GET")))
    assert client.answers[1].fields == {b":status": b"405", b"allow": b"POST"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [(b"1H", 3_600_000), (b"2M", 120_000), (b"3S", 3_000), (b"4m", 4), (b"5000u", 5), (b"1n", 1), (b"0n", 0),
     (b"99999999H", 99_999_999 * 3_600_000), (b"4999999u", 5_000)],
)  # fmt: skip
def test_a_timeout_is_a_deadline(value: bytes, expected: int) -> None:
    """From when it came, rounded up to milliseconds."""
    assert timeout_ms(value) == expected
    client = GrpcWire()
    client.now = 1_000
    assert client.call(1, b"/s.S/Unary", b"ask", (b"grpc-timeout", value)).deadline == 1_000 + expected


@pytest.mark.parametrize("value", [b"", b"S", b"5", b"5s", b"-5S", b"5 S", b"123456789S", b"1.5S", b"5SS", b"x" * 99])
def test_a_timeout_that_is_none_ends_the_call(value: bytes) -> None:
    """INTERNAL, before anybody has heard of it."""
    with pytest.raises(GrpcFault):
        timeout_ms(value)
    client = GrpcWire()
    assert client.open(1, b"/s.S/Unary", (b"grpc-timeout", value)) == []
    assert client.answers[1].status == Status.INTERNAL


def test_metadata_is_what_is_not_protocol() -> None:
    """In order, and values of names in -bin decoded, padded or not, joined or not."""
    client = GrpcWire()
    call = client.call(
        1, b"/s.S/Unary", b"ask", (b"grpc-accept-encoding", b"gzip"), (b"user-agent", b"u"), (b"a", b"1"), (b"k-bin",
        b"/wA"), (b"a", b"2"), (b"l-bin", b"/wA="), (b"m-bin", b"YQ,Yg=="), (b"n-bin", b""), (b"grpc-tags-bin", b"!"),
        (b"content-length", b"8"),
    )  # fmt: skip
    assert call.head.metadata == (
        (b"user-agent", b"u"), (b"a", b"1"), (b"k-bin", b"\xff\x00"), (b"a", b"2"),
        (b"l-bin", b"\xff\x00"), (b"m-bin", b"a,b"), (b"n-bin", b""),
    )  # fmt: skip


@pytest.mark.parametrize("value", [b"!", b"a", b"Y Q", b"YQ==YQ=="])
def test_binary_metadata_that_is_none_ends_the_call(value: bytes) -> None:
    """INTERNAL, if it is no base64."""
    client = GrpcWire()
    assert client.open(1, b"/s.S/Up", (b"k-bin", value)) == []
    assert client.answers[1].status == Status.INTERNAL


@given(st.text(max_size=300))
def test_a_status_text_comes_through_whatever_is_in_it(text: str) -> None:
    """Percent signs for what is not plain ASCII; never a byte that HTTP would not take."""
    coded = percent_encode(text)
    assert all(0x20 <= byte <= 0x7E for byte in coded)
    assert unquote_to_bytes(coded) == text.encode(errors="replace")[:1024].decode(errors="ignore").encode()


def test_a_status_text_is_cut_where_it_gets_long() -> None:
    """It may quote what the client sent, and no character is cut in two."""
    assert percent_encode("a" * 5000) == b"a" * 1024
    assert percent_encode("a" + "\u00e9" * 600) == b"a" + b"%C3%A9" * 511


# --- messages
# -----------------------------------------------------------------------------------------------------------


def small() -> Http2Limits:
    return Http2Limits(message_bytes_max=1000)


@pytest.mark.parametrize("path", [b"/s.S/Unary", b"/s.S/Up"])
def test_a_message_too_large_is_refused_by_its_length(path: bytes) -> None:
    """Before any of it has come, in grpc-go's words."""
    client = GrpcWire(small())
    client.open(1, path)
    client.send(wire.data(1, (b"\0" + (1001).to_bytes(4, "big"))))
    assert client.answers[1].status == Status.RESOURCE_EXHAUSTED
    assert client.answers[1].fields[b"grpc-message"] == b"grpc: received message larger than max (1001 vs. 1000)"
    client.open(3, path)
    assert client.send(wire.data(3, message(bytes(1000)), end=True))
    client.open(5, path)
    client.send(wire.data(5, message(bytes(1001)), end=True))
    assert client.answers[5].status == Status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", b"grpc: no message from the client"),
        (b"\0\0\0", b"unexpected EOF"),
        (message(b"abc")[:-1], b"unexpected EOF"),
        (message(b"a") * 2, b"grpc: more than one message from a client that does not stream"),
        (b"\x02\0\0\0\0", b"grpc: received unexpected payload format 2"),
        (message(b"a", 1), b"grpc: compressed flag set with identity or empty encoding"),
    ],
)
def test_a_unary_call_is_one_whole_message(body: bytes, text: bytes) -> None:
    """Otherwise INTERNAL, and nobody hears of it."""
    client = GrpcWire()
    client.open(1)
    assert client.send(wire.data(1, body, end=True)) == []
    assert (client.answers[1].status, client.answers[1].fields[b"grpc-message"]) == (Status.INTERNAL, text)
    assert client.send(wire.headers(3, head())) == []
    assert client.answers[3].status == Status.INTERNAL


@given(st.lists(st.binary(max_size=60), max_size=8), st.data())
def test_messages_come_out_however_they_are_cut(messages: list[bytes], data: st.DataObject) -> None:
    """Into DATA frames of any size, empty ones too."""
    client = GrpcWire()
    call = only(client.open(1, b"/s.S/Both"))
    body = b"".join(map(message, messages))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    events = [event for piece in pieces for event in client.send(wire.data(1, piece))]
    assert events == [Received(call, each) for each in messages]
    assert client.grpc._kept == 0


# --- compression ------------------------------------------------------------------------------------------------------


def test_a_client_that_compresses_is_answered_compressed() -> None:
    """What is large enough to be worth it; and it may mix."""
    client = GrpcWire()
    client.open(1, b"/s.S/Unary", GZIP)
    (event,) = client.send(wire.data(1, message(gzip.compress(b"q" * 5000), 1), end=True))
    assert isinstance(event, Called)
    assert event.message == b"q" * 5000
    client.grpc.reply(event.call, b"r" * 5000)
    client.look()
    answer = client.answers[1]
    assert answer.fields[b"grpc-encoding"] == b"gzip"
    assert answer.body[0] == 1
    assert gzip.decompress(answer.body[5:]) == b"r" * 5000
    call = client.call(3, b"/s.S/Down", b"plain", GZIP)
    client.grpc.send(call, b"short" * 100)
    noise = os.urandom(600)
    client.grpc.send(call, noise)
    client.look()
    assert client.answers[3].body == message(b"short" * 100) + message(noise)


def test_a_client_that_does_not_compress_is_not_answered_compressed() -> None:
    """Even if it could read it: the line is seldom what is short."""
    client = GrpcWire()
    call = client.call(1, b"/s.S/Unary", b"ask", (b"grpc-accept-encoding", b"gzip"))
    client.grpc.reply(call, b"r" * 5000)
    client.look()
    assert client.answers[1].body == message(b"r" * 5000)


def test_other_compressions_are_unimplemented() -> None:
    """And what is implemented is told."""
    client = GrpcWire()
    client.open(1, b"/s.S/Up", (b"grpc-encoding", b"snappy"))
    assert client.answers[1].status == Status.UNIMPLEMENTED
    assert client.answers[1].fields[b"grpc-accept-encoding"] == b"identity,gzip"
    assert only(client.open(3, b"/s.S/Up", (b"grpc-encoding", b"identity")))


@pytest.mark.parametrize(
    "packed",
    [b"", b"no gzip", gzip.compress(b"abc", mtime=0)[:-1], gzip.compress(b"a", mtime=0) + b"x", zlib.compress(b"abc")],
    ids=["nothing", "no gzip", "cut short", "more behind it", "zlib's"],
)
def test_what_is_not_gzip_ends_the_call(packed: bytes) -> None:
    """Or not all of it, or more than it."""
    client = GrpcWire()
    client.open(1, b"/s.S/Unary", GZIP)
    assert client.send(wire.data(1, message(packed, 1), end=True)) == []
    assert client.answers[1].status == Status.INTERNAL


# --- room for messages
# --------------------------------------------------------------------------------------------------


def test_a_message_larger_than_a_window_is_given_room_at_once() -> None:
    """Its length is known from its first bytes, and so much is granted, no more."""
    client = GrpcWire()
    client.open(1)
    body = message(bytes(500_000))
    client.upload(1, body[:65_535])
    assert client.windows[1] == len(body) - 65_535
    client.send(*(wire.data(1, body[i : i + 16_000]) for i in range(65_535, len(body), 16_000)))
    (event,) = client.send(wire.data(1, end=True))
    assert isinstance(event, Called)
    assert event.message == bytes(500_000)
    assert (client.grpc._granted, client.grpc._kept) == (0, 0)


def test_a_large_message_keeps_its_room_until_it_is_heard() -> None:
    """It is whole, but its client has not half-closed."""
    client = GrpcWire()
    client.open(1)
    body = message(bytes(500_000))
    client.upload(1, body[:65_535])
    assert client.upload(1, body[65_535:]) == []
    assert (client.grpc._granted, client.grpc._kept) == (500_005, 0)
    assert len(client.send(wire.data(1, end=True))) == 1
    assert (client.grpc._granted, client.grpc._kept) == (0, 0)


def test_large_messages_may_follow_one_another() -> None:
    """On the same call: each is given room anew."""
    client = GrpcWire()
    call = only(client.open(1, b"/s.S/Up"))
    body = message(bytes(500_000))
    sent = 0
    for _ in range(5):
        heard: list[Event] = []
        left = body
        while left:
            room = words.DEFAULT_WINDOW + client.windows.get(1, 0) - sent
            assert room
            heard += client.upload(1, left[:room])
            sent += len(left[:room])
            left = left[room:]
        assert heard == [Received(call, bytes(500_000))]


def test_large_messages_take_turns_for_room() -> None:
    """Two have it, the third waits until one is done; none is refused, and all come through."""
    client = GrpcWire(Http2Limits(message_bytes_max=1 << 20, held_bytes_max=5 << 20))
    body = message(bytes(1 << 20))
    for stream_id in (1, 3, 5):
        client.open(stream_id)
        client.send(wire.data(stream_id, body[:1000]))
    assert set(client.windows) == {0, 1, 3}
    done = 0
    for stream_id in (1, 3, 5):
        done += len(client.upload(stream_id, body[1000:]))
        done += len(client.send(wire.data(stream_id, end=True)))
    assert done == 3
    assert set(client.windows) == {0, 1, 3, 5}
    assert (client.grpc._granted, client.grpc._kept) == (0, 0)


@pytest.mark.parametrize("how", ["reset", "finish", "fault"])
def test_who_had_room_gives_it_up_however_it_ends(how: str) -> None:
    """The next in line gets it."""
    client = GrpcWire(Http2Limits(message_bytes_max=1 << 20, held_bytes_max=3 << 20))
    body = message(bytes(1 << 20))
    call = only(client.open(1, b"/s.S/Up"))
    client.send(wire.data(1, body[:1000]))
    client.open(3)
    client.send(wire.data(3, body[:1000]))
    assert 3 not in client.windows
    if how == "reset":
        client.send(words.rst_stream(1, 8))
    elif how == "finish":
        client.grpc.finish(call, 5, "no")
        client.look()
    else:
        client.send(words.window_update(1, 0))
    assert 3 in client.windows


def test_a_stream_of_messages_never_runs_dry() -> None:
    """Windows are given back as messages are heard."""
    client = GrpcWire()
    call = only(client.open(1, b"/s.S/Up"))
    sent = 0
    for i in range(100):
        body = message(bytes([i]) * 20_000)
        window = words.DEFAULT_WINDOW + client.windows.get(1, 0) - sent
        assert window >= len(body)
        assert client.upload(1, body) == [Received(call, bytes([i]) * 20_000)]
        sent += len(body)


def test_what_is_not_read_is_refused_and_not_kept() -> None:
    """Beyond what may be queued, calls end with RESOURCE_EXHAUSTED, of which the client can read."""
    client = GrpcWire(Http2Limits(queued_bytes_max=100_000, stream_queued_bytes=50_000))
    client.send(wire.setting(words.INITIAL_WINDOW_SIZE, 0))
    calls = [client.call(i, b"/s.S/Down", b"ask") for i in (1, 3, 5)]
    client.grpc.reply(calls[0], bytes(60_000))
    assert client.grpc.send(calls[1], bytes(39_000))
    assert not client.grpc.send(calls[1], bytes(39_000))
    client.grpc.reply(calls[2], bytes(60_000))
    client.look()
    assert client.answers[5].status == Status.RESOURCE_EXHAUSTED
    assert client.grpc.http.outflow.queued <= 100_000
    client.send(wire.open_headers(7, head()))
    assert client.answers[7].reset == ErrorCode.REFUSED_STREAM


def test_a_streaming_call_hears_when_it_may_go_on() -> None:
    """Drained follows False."""
    client = GrpcWire(Http2Limits(stream_queued_bytes=1000))
    client.send(wire.setting(words.INITIAL_WINDOW_SIZE, 0))
    call = client.call(1, b"/s.S/Down", b"ask")
    assert not client.grpc.send(call, bytes(2000))
    assert client.send(words.window_update(1, 1000)) == []
    assert client.send(words.window_update(1, 1000)) == [Drained(call)]
    assert client.grpc.send(call, b"more")
