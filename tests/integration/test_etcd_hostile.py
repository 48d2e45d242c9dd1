"""Hostile bytes at the door of etcd's API of a real node: refused as the protocols say, in bounded memory, and the
native door does not feel them."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.bench.measure import descendants
from tests.harness import http2_wire as wire
from tests.harness.grpc_wire import head, message
from tests.harness.processes import heap_bytes
from tests.harness.writers import Writers
from zkv.gateway.http2 import words
from zkv.gateway.http2.words import ErrorCode, frame
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.http2_wire import Frame

PATIENCE_S = 20.0
GROWTH_MAX = 64 << 20
PUT = b"/etcdserverpb.KV/Put"
ATTACK_BYTES = 4 << 20


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(1, etcd_api=True) as made:
        yield made


class Stranger:
    """A socket that says what it likes, and hears all that is answered until the other side hangs up."""

    def __init__(self, cluster: LocalCluster) -> None:
        url = urlsplit(cluster.etcd_endpoints[0])
        assert url.port
        self._socket = socket.create_connection(("127.0.0.1", url.port), timeout=PATIENCE_S)
        self._heard = bytearray()

    def say(self, data: bytes) -> None:
        """As much of it as is taken."""
        self._socket.settimeout(2)
        with contextlib.suppress(OSError):
            self._socket.sendall(data)

    def hear(self, kind: int) -> list[Frame]:
        """What was answered, up to a frame of that kind, or to the end."""
        self._socket.settimeout(PATIENCE_S)
        while True:
            frames = _whole_frames(bytes(self._heard))
            if any(each.kind == kind for each in frames):
                return frames
            try:
                data = self._socket.recv(1 << 16)
            except ConnectionResetError:
                return frames
            if not data:
                return frames
            self._heard += data

    def close(self) -> None:
        self._socket.close()


def _whole_frames(data: bytes) -> list[Frame]:
    end = 0
    while end + 9 <= len(data) and end + 9 + int.from_bytes(data[end : end + 3], "big") <= len(data):
        end += 9 + int.from_bytes(data[end : end + 3], "big")
    return wire.parse(data[:end])


def call(stream_id: int, body: bytes, *, end: bool = True) -> bytes:
    return wire.headers(stream_id, head(PUT), words.END_HEADERS) + wire.data(stream_id, body, end=end)


def many(size: int, piece: bytes) -> bytes:
    return piece * (size // len(piece))


CALM = ErrorCode.ENHANCE_YOUR_CALM
FLOODS = {
    "resets (CVE-2023-44487)": (
        b"".join(call(2 * n + 1, b"", end=False) + words.rst_stream(2 * n + 1, 8) for n in range(20_000)), CALM,
    ),
    "pings": (many(ATTACK_BYTES, frame(words.PING, 0, 0, bytes(8))), CALM),
    "settings": (many(ATTACK_BYTES, wire.setting(4, 70_000)), CALM),
    "empty data": (call(1, b"", end=False) + many(ATTACK_BYTES, wire.data(1, b"")), CALM),
    "priorities": (many(ATTACK_BYTES, frame(words.PRIORITY, 0, 1, bytes(5))), CALM),
    "continuations (CVE-2024-27316)": (
        frame(words.HEADERS, 0, 1, b"") + many(ATTACK_BYTES, frame(words.CONTINUATION, 0, 1, b"\0\1n\1v")), CALM,
    ),
    "a huge header": (wire.headers(1, (*head(PUT), (b"name", b"v" * 15_000), (b"other", b"v" * 15_000))), None),
    "no HTTP/2 at all": (b"\x16\x03\x01" + bytes(1000), None),
}  # fmt: skip


def process_of(cluster: LocalCluster) -> int:
    """The node's, at this door."""
    for pid in descendants(cluster.pid(0)):
        with open(f"/proc/{pid}/cmdline", "rb") as words_:
            if b"grpc" in words_.read():
                return pid
    raise AssertionError("there is no such process")


def test_floods_are_cut_off_and_nobody_else_feels_them(cluster: LocalCluster) -> None:
    """By GOAWAY where the protocol has a word for it; the process lives, small, and writes by the native door go on."""
    process = process_of(cluster)
    before = heap_bytes(process)
    with Writers(cluster.client, count=1) as writers:
        writers.wait_for(20)
        for name, (flood, code) in FLOODS.items():
            strangers = [Stranger(cluster) for _ in range(3)]
            for stranger in strangers:
                stranger.say((wire.GREETING if flood[:1] != b"\x16" else b"") + flood)
            for stranger in strangers:
                frames = stranger.hear(words.GOAWAY)
                told = [each for each in frames if each.kind == words.GOAWAY]
                assert not told or code in {None, wire.goaway_code(told)}, name
                stranger.close()
            writers.wait_for(5)
            assert heap_bytes(process) - before < GROWTH_MAX, name
    assert process_of(cluster) == process
    polite = Stranger(cluster)
    polite.say(wire.GREETING + call(1, message(b"\x0a\x01k\x12\x01v")))
    frames = polite.hear(words.DATA)
    assert any(each.kind == words.DATA and each.payload for each in frames), frames
    polite.close()


def test_streams_never_ended_and_bodies_beyond_the_limit_cost_their_calls_only(cluster: LocalCluster) -> None:
    """A thousand half-open streams, each with a message it never completes, then one that is too large, and one that
    is no protobuf: each is told its gRPC status on the same connection, which goes on."""
    process = process_of(cluster)
    before = heap_bytes(process)
    stranger = Stranger(cluster)
    stranger.say(wire.GREETING)
    for n in range(900):
        stranger.say(call(2 * n + 1, b"\0\0\x10\0\0" + b"x" * 1_000, end=False))
    stranger.say(call(2001, b"\0\xff\xff\xff\xff", end=False) + call(2003, message(b"\xff\xff\xff"), end=True))
    stranger.say(frame(words.PING, 0, 0, b"and now?"))
    frames = stranger.hear(words.PING)
    while not {2001, 2003} <= {each.stream_id for each in frames}:
        stranger.say(frame(words.PING, 0, 0, b"and now?"))
        frames = stranger.hear(words.GOAWAY)
    ended = {each.stream_id: each.payload for each in frames if each.kind == words.HEADERS}
    assert b"larger than max" in ended[2001]
    assert b"failed to unmarshal" in ended[2003]
    assert wire.goaway_code(frames) is None
    assert heap_bytes(process) - before < GROWTH_MAX
    stranger.close()


def test_connections_that_never_finish_a_word_keep_nobody_out(cluster: LocalCluster) -> None:
    """A thousand at once, silent, or with half of HTTP/2's first words, or half a head of HTTP/1.1."""
    process = process_of(cluster)
    before = heap_bytes(process)
    host, port = cluster.etcd_endpoints[0].removeprefix("http://").split(":")
    words_said = (b"", wire.GREETING[:10], b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Le")
    with contextlib.ExitStack() as stack:
        for number in range(1_000):
            connection = stack.enter_context(socket.create_connection((host, int(port)), 30))
            connection.sendall(words_said[number % 3])
        polite = Stranger(cluster)
        polite.say(wire.GREETING + call(1, message(b"\x0a\x01k\x12\x01v")))
        assert any(each.kind == words.DATA and each.payload for each in polite.hear(words.DATA))
        polite.close()
        assert heap_bytes(process) - before < GROWTH_MAX
    assert process_of(cluster) == process
