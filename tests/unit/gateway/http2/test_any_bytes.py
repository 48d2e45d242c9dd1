"""Whatever the bytes, and however they fall: the same events, no exception, and nothing kept beyond the limits."""

from __future__ import annotations

import gc
import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import grpc_wire
from tests.harness import http2_wire as wire
from tests.harness.grpc_wire import GrpcWire, head, message
from tests.harness.http2_wire import Recorder, Wire
from zkv.gateway.http2 import grpc, words
from zkv.gateway.http2.limits import Http2Limits
from zkv.gateway.http2.streams import CLOSED, IDLE
from zkv.gateway.http2.words import frame

LIMITS = Http2Limits(
    streams_max=20, message_bytes_max=4_000, held_bytes_max=140_000, queued_bytes_max=50_000, stream_queued_bytes=5_000
).checked()

stream_ids = st.sampled_from([0, 1, 1, 1, 3, 3, 5, 7, 9, 2])
flags = st.sampled_from([0, 1, 4, 5, 5, 5, 8, 0x20, 0x2D, 0xFF])
kinds = st.integers(0, 11)
heads = st.sampled_from(
    [
        head(), head(b"/s.S/Up"), head(b"/s.S/Both"), head(b"/s.S/Down", (b"grpc-timeout", b"5S")), head(b"/no/No"),
        wire.GET, wire.POST, (*wire.POST, (b"content-length", b"7")), ((b"a", b"b"),), (),
    ]
)  # fmt: skip
bodies = st.one_of(
    st.binary(max_size=40), st.binary(max_size=40).map(message), st.integers(0, 3_000).map(lambda n: message(bytes(n)))
)
frames = st.one_of(
    st.builds(wire.headers, stream_ids, heads, flags),
    st.builds(wire.headers, stream_ids, heads),
    st.builds(lambda i, body, end: wire.data(i, body, end=end), stream_ids, bodies, st.booleans()),
    st.builds(words.window_update, stream_ids, st.sampled_from([0, 1, 100, 70_000, words.WINDOW_MAX])),
    st.builds(words.rst_stream, stream_ids, st.integers(0, 14)),
    st.builds(wire.setting, st.integers(0, 9), st.sampled_from([0, 1, 2, 5_000, 16_384, 1 << 20, words.WINDOW_MAX])),
    st.builds(frame, kinds, flags, stream_ids, st.binary(max_size=30)),
)
conversations = st.lists(frames, max_size=15).map(b"".join)


def check(connection: grpc.GrpcConnection) -> None:
    """What must hold of a connection at any time, whoever talks to it."""
    http = connection.http
    outflow = http.outflow
    streams = http.streams
    assert all(stream.state not in {IDLE, CLOSED} and stream.id == id_ for id_, stream in streams.items())
    assert len(streams) <= LIMITS.streams_max
    assert outflow.queued == sum(stream.queued for stream in streams.values()) <= LIMITS.queued_bytes_max
    assert outflow._blocked == {id_: stream for id_, stream in streams.items() if stream.queue}
    assert set(outflow._ready) == {id_ for id_, stream in outflow._blocked.items() if stream.send_window > 0}
    assert not outflow._ready or outflow.window <= 0 or outflow._held
    assert all(stream.queued == sum(map(len, stream.queue or ())) for stream in streams.values())
    calls = [stream.owner for stream in streams.values() if isinstance(stream.owner, grpc.Call)]
    assert connection._kept == sum(call.kept for call in calls)
    assert connection._granted == sum(call.granted for call in calls) <= LIMITS.held_bytes_max // 2
    assert sum(_held(call) for call in calls) <= LIMITS.held_bytes_max
    assert len(http._frames._pending) <= words.FRAME_HEADER_BYTES + LIMITS.frame_bytes_max
    if http.finished:
        assert not streams


def _held(call: grpc.Call) -> int:
    held = call.assembler.held if call.assembler is not None else 0
    return held + (len(call.message[1]) if call.message is not None else 0)


def answered(connection: grpc.GrpcConnection, events: list[grpc.Event]) -> None:
    """Serve what was asked, each kind in its way, and large enough to fill queues."""
    for event in events:
        if isinstance(event, grpc.Called):
            connection.send(event.call, event.message * 3)
            connection.finish(event.call)
        elif isinstance(event, grpc.Received):
            connection.send(event.call, event.message * 2)
        elif isinstance(event, grpc.HalfClosed):
            connection.reply(event.call, b"end")


def _said(event: grpc.Event) -> tuple[Any, ...]:
    return (event.message,) if isinstance(event, grpc.Called) else event[1:]


def played(pieces: list[bytes]) -> tuple[list[tuple[Any, ...]], bytes]:
    """What a server hears, and all it says, when the bytes come in these pieces."""
    plain = Recorder()
    connection = grpc.GrpcConnection(grpc_wire.METHODS, LIMITS, 0, plain)
    heard: list[tuple[Any, ...]] = []
    said = b""
    for piece in pieces:
        events = connection.receive(piece, 0)
        heard += [(type(event).__name__, event.call.stream.id, *_said(event)) for event in events]
        answered(connection, events)
        check(connection)
        said += connection.to_send()
    wire.parse(said)
    return heard + plain.told, said


@settings(max_examples=150)
@given(conversations, st.data())
def test_how_bytes_are_split_does_not_matter(body: bytes, data: st.DataObject) -> None:
    """Any pieces give the same events as all at once."""
    whole = wire.GREETING + body
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=10)))
    pieces = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    apart, _ = played(pieces)
    at_once, _ = played([whole])
    one_by_one, _ = played([whole[i : i + 1] for i in range(len(whole))] if len(whole) < 600 else [whole])
    assert events_of_clients(apart) == events_of_clients(at_once) == events_of_clients(one_by_one)


def events_of_clients(heard: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Without what depends on when the server has answered, which is once per read: ends of calls, room for more."""
    return [event for event in heard if event[0] not in {"Cancelled", "Drained", "reset", "drained"}]


@settings(max_examples=150)
@given(st.lists(frames, max_size=40))
def test_any_frames_leave_the_connection_in_order(conversation: list[bytes]) -> None:
    """Each in a read of its own; invariants are checked after each."""
    played([wire.GREETING, *conversation])


@given(st.binary(max_size=300))
def test_any_bytes_are_borne(garbage: bytes) -> None:
    """After the greeting, and instead of it."""
    played([garbage])
    played([wire.GREETING, garbage])


def sample() -> list[bytes]:
    """A conversation of every kind of frame that goes well."""
    client_frames = [
        wire.setting(words.INITIAL_WINDOW_SIZE, 1_000), words.window_update(0, 100_000),
        wire.open_headers(1, head()), wire.data(1, message(b"ask"), end=True),
        wire.open_headers(3, head(b"/s.S/Both", (b"grpc-timeout", b"100m"))), wire.data(3, message(b"a" * 500)),
        frame(words.PRIORITY, 0, 5, bytes(5)), wire.headers(5), frame(words.PING, 0, 0, b"12345678"),
        frame(words.HEADERS, 0x29, 7, b"\x02" + bytes(5) + b"\x82\x86\0\0"),
        frame(words.CONTINUATION, 4, 7, b"\x84\x41\x01a"),
        frame(words.DATA, words.PADDED, 3, b"\x03" + message(b"bc") + bytes(3)), words.window_update(3, 5_000),
        words.rst_stream(5, 8), wire.headers(3, ((b"t", b"r"),)), words.goaway(0, 0),
    ]  # fmt: skip
    return [wire.GREETING, *client_frames]


def mutated(chance: random.Random, conversation: list[bytes]) -> bytes:
    """A few frames changed, lost, doubled, moved, or cut."""
    conversation = list(conversation)
    for _ in range(chance.randint(1, 4)):
        i = chance.randrange(len(conversation))
        each = bytearray(conversation[i]) or bytearray(9)
        match chance.randrange(7):
            case 0:
                each[chance.randrange(len(each))] ^= 1 << chance.randrange(8)
            case 1:
                each[chance.randrange(len(each))] = chance.randrange(256)
            case 2:
                conversation.insert(chance.randrange(len(conversation)), bytes(each))
            case 3:
                each = each[: chance.randrange(len(each))]
            case 4:
                each += chance.randbytes(chance.randrange(20))
            case 5 if len(each) > 9:
                each[3:9] = bytes((chance.randrange(11), chance.randrange(256), 0, 0, 0, chance.randrange(10)))
            case _:
                j = chance.randrange(len(conversation))
                conversation[i], conversation[j] = conversation[j], bytes(each)
                continue
        conversation[i] = bytes(each)
    return b"".join(conversation)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_conversations_are_borne(seed: int) -> None:
    """Two thousand, of sixteen frames: no exception, and all in order."""
    chance = random.Random(seed)
    conversation = sample()
    good, _ = played(conversation)
    assert {event[0] for event in good} >= {"Called", "Opened", "Received", "HalfClosed", "request"}
    for _ in range(2_000):
        body = mutated(chance, conversation)
        cut = chance.randrange(len(body))
        played([body[:cut], body[cut:]])


def test_mutated_conversations_leave_nothing_behind() -> None:
    """Neither much while they last, nor anything after them."""
    chance = random.Random(4)
    conversation = sample()
    played(conversation)
    tracemalloc.start()
    base, _ = tracemalloc.get_traced_memory()
    for _ in range(300):
        played([mutated(chance, conversation)])
    _, peak = tracemalloc.get_traced_memory()
    gc.collect()
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept - base < 100_000
    assert peak - base < 1_000_000


def test_a_conversation_without_end_does_not_grow_the_server() -> None:
    """Calls of all ends: each leaves nothing behind, and nothing that only the garbage collector finds."""
    client = GrpcWire()
    chance = random.Random(1)

    def talk(first: int, last: int) -> None:
        for i in range(first, last, 2):
            client.answers.clear()
            client.now += 10
            body = message(chance.randbytes(50))[: chance.choice([20, 55, 55, 55])]
            path = chance.choice([b"/s.S/Unary", b"/s.S/Both", b"/s.S/None"])
            fields = head(path, (b"grpc-timeout", b"%dm" % i), (b"n", b"%d" % i))
            ending = chance.choice([wire.data(i, end=True), words.rst_stream(i, 8), words.window_update(i, 0)])
            answered(client.grpc, client.send(wire.open_headers(i, fields), wire.data(i, body), ending))
            client.look()

    talk(1, 2_001)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    talk(2_001, 4_001)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    gc.enable()
    assert client.goaway is None
    assert not client.grpc.http.streams
    assert kept < 200_000  # what is remembered of requests, and of ids, was replaced
    assert gc.collect() == 0


def test_the_wire_of_these_tests_sees_what_is_wrong() -> None:
    """A claim about the tests themselves: `check` fails on a broken invariant."""
    client = GrpcWire(LIMITS)
    client.grpc._kept = 5
    with pytest.raises(AssertionError):
        check(client.grpc)
    server = Wire()
    server.connection.outflow.queued = 1
    client.grpc._kept = 0
    client.grpc.http = server.connection
    with pytest.raises(AssertionError):
        check(client.grpc)
