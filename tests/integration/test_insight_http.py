"""The HTTP server of the insight process against strangers: limits in bytes, time and number, and any words."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import queue
import socket
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Self

import pytest

from zkv.actors import insight_http
from zkv.actors.insight_actor import Found, Question
from zkv.core.health import Findings
from zkv.gateway.insight import ASKED_MAX, Insight
from zkv.testing import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator


class Door:
    """A server whose questions are answered by a thread, as the actor would; `silent`: by nobody."""

    def __init__(self, path: str = "", *, patience_s: float = 30.0) -> None:
        [self.port] = free_ports(1)
        self.questions: queue.SimpleQueue[Question | None] = queue.SimpleQueue()
        self.silent = threading.Event()
        desk = insight_http.Desk(self.questions, lambda: None, member_id=0xAB, patience_s=patience_s)  # type: ignore[arg-type]
        self._servers = insight_http.serve(desk, [f"http://127.0.0.1:{self.port}"], path)
        self._thread = threading.Thread(target=self._answer)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.questions.put(None)
        self._thread.join()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _answer(self) -> None:
        while (question := self.questions.get()) is not None:
            if not self.silent.is_set():
                results = dict.fromkeys(question.left, "")
                findings = Findings(("raft",), (), (), results.get("local"), results.get("quorum"))
                question.reply.put(Found(findings, {}))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def say(self, words: bytes) -> bytes:
        """All that comes back until the server closes."""
        with self.connect() as connection, contextlib.suppress(ConnectionError):
            connection.sendall(words)
            return _rest(connection)
        return b""

    def get(self, target: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, target)
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()


def _rest(connection: socket.socket) -> bytes:
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    monkeypatch.setattr(insight_http, "HEAD_S", 0.5)
    with Door() as door:
        yield door


def test_what_is_asked_properly_is_answered(door: Door) -> None:
    status, headers, body = door.get("/health")
    assert (status, body) == (200, b'{"health":"true","reason":""}')
    assert headers["Content-Type"] == "text/plain; charset=utf-8"
    assert door.get("/version")[0] == 200
    status, headers, body = door.get("/metrics")
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, "text/plain")
    assert b'etcd_server_id{server_id="ab"} 1.0\n' in body
    assert door.get("/livez?verbose")[2] == b"[+]process_raft ok\nok\n"
    assert door.get("/nothing/of/that/kind")[0] == 404


def test_head_is_get_without_the_body(door: Door) -> None:
    status, headers, body = door.get("/readyz", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "3", b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(door: Door, method: str) -> None:
    status, headers, body = door.get("/health", method)
    assert (status, headers["Allow"], body) == (405, "GET, HEAD", b"Method Not Allowed\n")


@pytest.mark.parametrize(
    "words",
    [
        b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n",  # how TLS begins
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET  /health  HTTP/1.1  x\r\n\r\n",
        b"BREW /pot HTTP/1.1\r\n\r\n",
        b"GET http://[::1/health HTTP/1.1\r\n\r\n",
        b"GET /health?" + b"&".join([b"a=1"] * 200) + b" HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nno colon here\r\n\r\n",
        b"GET /health HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nx: " + b"y" * 100_000 + b"\r\n\r\n",
    ],
)
def test_whatever_is_said_the_door_answers_or_closes_and_serves_the_next(door: Door, words: bytes) -> None:
    answer = door.say(words)
    assert len(answer) < 1000
    assert words[:9] not in answer
    assert door.get("/health")[0] == 200


def test_a_head_that_comes_byte_by_byte_has_its_time_and_no_more(door: Door) -> None:
    """Each byte would start a timeout of its own anew."""
    with door.connect() as slow:
        stop = time.monotonic() + 30
        with contextlib.suppress(ConnectionError):
            slow.sendall(b"GET /health HTTP/1.1\r\nx: ")
            slow.settimeout(0.05)
            while time.monotonic() < stop:
                slow.sendall(b"y")
                with contextlib.suppress(TimeoutError):
                    if not slow.recv(1):
                        break
        assert time.monotonic() < stop


def test_one_that_says_nothing_is_let_go(door: Door) -> None:
    with door.connect() as mute:
        assert _rest(mute) == b""


def test_connections_beyond_the_limit_are_told_so_and_room_comes_back() -> None:
    with Door() as door, contextlib.ExitStack() as stack:
        for _ in range(insight_http.THREADS_MAX):
            stack.enter_context(door.connect())
        answers: list[bytes] = []
        deadline = time.monotonic() + 30
        while not answers and time.monotonic() < deadline:  # those before may not have been accepted yet
            with door.connect() as another:
                another.settimeout(1)
                with contextlib.suppress(TimeoutError):
                    answers.append(_rest(another))
        assert answers[0].startswith(b"HTTP/1.0 503 ") or answers == [b""]
        stack.close()
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if door.get("/health")[0] == 200:
                    break
            assert time.monotonic() < deadline


def test_an_actor_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    """Its process lives, and yet is no good: nothing of it is live."""
    with Door(patience_s=0.2) as door:
        door.silent.set()
        assert door.get("/livez")[0] == 503
        status, _, body = door.get("/health")
        assert (status, body) == (503, b'{"health":"false","reason":"RANGE ERROR:etcdserver: request timed out"}\n')


def test_an_answer_that_nobody_reads_holds_nobody_up(door: Door) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(insight_http.THREADS_MAX - 1):
            greedy = stack.enter_context(door.connect())
            greedy.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert door.get("/health")[0] == 200


def test_a_crowd_that_asks_at_etcds_port_waits_its_turn_and_each_answer_leaves_as_it_comes() -> None:
    """More than the server has threads for: it would close on them, and a probe take the member for unhealthy."""
    happened: list[object] = []

    async def ask(path: str) -> None:
        everybody = asyncio.Event()

        def told() -> None:
            happened.append("may leave")
            if len(happened) == 2 * ASKED_MAX:
                everybody.set()

        insight = Insight(path)
        insight.on_told = told
        for _ in range(ASKED_MAX):
            insight.ask("/health", lambda page: happened.append(page and page.status))
        await everybody.wait()

    with tempfile.TemporaryDirectory() as directory, Door(f"{directory}/socket"):
        asyncio.run(ask(f"{directory}/socket"))
    assert happened == [200, "may leave"] * ASKED_MAX
