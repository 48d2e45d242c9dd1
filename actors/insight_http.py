"""The HTTP server of the insight process: a few threads, GET and HEAD, and nothing that a stranger can hold on to.

One request per connection. Its head has HEAD_BYTES_MAX bytes and HEAD_S seconds to come, the answer WRITE_S to leave;
beyond THREADS_MAX connections a further one is told so and closed. What is asked is answered from what the actor
finds out (`Question`); nothing here changes anything.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import queue
import socket
import socketserver
import threading
import time
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from zkv.actors import insight_metrics
from zkv.actors.insight_actor import Found, Question
from zkv.core import health
from zkv.core.health import Findings
from zkv.errors import ConfigError, NotTrusted, RequestTimeout
from zkv.processes import resources
from zkv.urls import socket_endpoint
from zkv.version import ETCD_CLUSTER, ETCD_SERVER, VERSION

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from zkv.config import NodeConfig
    from zkv.gauges import Value

THREADS_MAX: Final = 16
HEAD_BYTES_MAX: Final = 16 * 1024
HEAD_S: Final = 5.0
LOOK_S: Final = 1.0
"""How often is looked whether certificates have changed."""
WRITE_S: Final = 10.0
QUERY_FIELDS_MAX: Final = 100
TEXT: Final = "text/plain; charset=utf-8"
_BUSY: Final = (
    b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: text/plain\r\nRetry-After: 1\r\n\r\ntoo many connections\n"
)


class Desk:
    """Where the threads of the server have their answers from. `patience_s`: beyond it the actor is taken for stuck."""

    def __init__(
        self,
        questions: queue.SimpleQueue[Question],
        ring: Callable[[], None],
        *,
        member_id: int,
        patience_s: float,
    ) -> None:
        self._questions = questions
        self._ring = ring
        self._member_id = member_id
        self._patience_s = patience_s
        self._health: Counter[str] = Counter()

    def answer(self, target: str) -> tuple[int, str, bytes]:
        """Status, content type and body for a GET of `target`."""
        try:
            parts = urlsplit(target)
            query = parse_qs(parts.query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
        except ValueError:
            return HTTPStatus.BAD_REQUEST, TEXT, b"Bad Request\n"
        path = parts.path
        if path == "/version":
            told = {"etcdserver": ETCD_SERVER, "etcdcluster": ETCD_CLUSTER, "zkv": VERSION}
            return HTTPStatus.OK, "application/json", json.dumps(told, separators=(",", ":")).encode()
        if path == "/metrics":
            found = self._ask(local=False, quorum=False)
            reports = found.reports
            pids = {actor: report.pid for actor, report in reports.items()} | {"supervisor": os.getppid()}
            others = {"about": self._about(), "processes": resources(pids)}
            return HTTPStatus.OK, CONTENT_TYPE_LATEST, insight_metrics.render(reports, others)
        judge = health.QUESTIONS.get(path)
        if judge is None:
            return HTTPStatus.NOT_FOUND, TEXT, b"404 page not found\n"
        local, quorum = health.wanted(path, query)
        verdict = judge(self._ask(local=local, quorum=quorum).findings, query)
        if path == "/health":
            self._health["true" if verdict.status == health.OK else "false"] += 1
        return verdict.status, TEXT, verdict.body.encode()

    def _ask(self, *, local: bool, quorum: bool) -> Found:
        question = Question(local=local, quorum=quorum)
        self._questions.put(question)
        self._ring()
        try:
            return question.reply.get(timeout=self._patience_s)
        except queue.Empty:
            error = RequestTimeout.text
            return Found(
                Findings(("insight",), ("insight",), (), error if local else None, error if quorum else None), {}
            )

    def _about(self) -> list[Value]:
        return [
            ("id", f"{self._member_id:x}", 1),
            ("etcd server", ETCD_SERVER, 1),
            ("etcd cluster", ETCD_CLUSTER[: ETCD_CLUSTER.rindex(".")], 1),
            ("version", VERSION, 1),
            *(("health", healthy, self._health[healthy]) for healthy in ("true", "false")),
        ]


class _Head(io.RawIOBase):
    """What a connection may still say: so many bytes, until so late."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._left = HEAD_BYTES_MAX
        self._until = time.monotonic() + HEAD_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        seconds = self._until - time.monotonic()
        if seconds <= 0 or not self._left:
            raise TimeoutError
        self._connection.settimeout(seconds)
        got = self._connection.recv_into(memoryview(buffer)[: self._left])
        self._left -= got
        return got


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "zkv"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Head(self.connection))

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:  # it has gone, or took its time
            self.close_connection = True

    def do_GET(self) -> None:
        status, content_type, body = self.server.desk.answer(self.path)
        self._say(status, content_type, body)

    def do_POST(self) -> None:
        self._say(HTTPStatus.METHOD_NOT_ALLOWED, TEXT, b"Method Not Allowed\n")

    do_HEAD = do_GET  # noqa: N815 - the library's names
    do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_POST  # noqa: N815

    def _say(self, status: int, content_type: str, body: bytes) -> None:
        self.connection.settimeout(WRITE_S)
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Length", str(len(body)))
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Without what the library would say of it: strangers' words."""
        self._say(code, TEXT, f"{HTTPStatus(code).phrase}\n".encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the library names it
        """Strangers' words are no log lines."""


class Secure:
    """TLS as at the client urls, by the same files; whoever comes is judged by those of the day.

    Raises ConfigError for files that cannot be used.
    """

    def __init__(self, config: NodeConfig) -> None:
        from zkv.papers import Papers  # what reads certificates is not even imported where there are none

        self._config = config
        self._papers = Papers(config.client_security, _now_ms())
        self._context = self._fresh()
        self._lock = threading.Lock()
        self._look_at = 0.0

    def _fresh(self) -> ssl.SSLContext:
        from zkv import tls

        context = tls.server_context(self._config, self._papers)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _of_today(self) -> ssl.SSLContext:
        with self._lock:
            now = time.monotonic()
            if now >= self._look_at:
                self._look_at = now + LOOK_S
                if self._papers.refresh(_now_ms()):
                    with contextlib.suppress(ConfigError):  # they change just now: those of before serve meanwhile
                        self._context = self._fresh()
            return self._context

    def shake_hands(self, connection: socket.socket) -> ssl.SSLSocket:
        """Raises OSError, NotTrusted. The connection is then closed."""
        from zkv import tls

        connection.settimeout(HEAD_S)
        secure = self._of_today().wrap_socket(connection, server_side=True)
        try:
            chain = tls.shown(secure) if self._papers.trust is not None else ()
            tls.judge(self._papers, chain, _now_ms())
        except NotTrusted:
            secure.close()
            raise
        return secure


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, family: int, address: Any, desk: Desk, secure: Secure | None = None) -> None:
        self.address_family = family
        self.desk = desk
        self._secure = secure
        self._free = threading.BoundedSemaphore(THREADS_MAX)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        with contextlib.suppress(OSError):
            request.setblocking(False)
            request.send(_BUSY)
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._secure is None:
            super().finish_request(request, client_address)
            return
        try:
            secure = self._secure.shake_hands(request)
        except (OSError, NotTrusted):
            return  # it learns nothing more
        with secure:
            super().finish_request(secure, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """A connection that broke is the client's business; anything else a bug, which the log is to show."""
        import structlog

        structlog.get_logger().exception("a question over HTTP failed", actor="insight")


def serve(desk: Desk, urls: Sequence[str], path: str = "", secure: Secure | None = None) -> list[_Server]:
    """At the urls, https:// ones by `secure`, and at the Unix socket `path` if one is named.

    Raises OSError when an address is taken.
    """
    servers = []
    if path:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # a predecessor's
        servers.append(_Server(socket.AF_UNIX, path, desk))
    for url in urls:
        endpoint = socket_endpoint(url)
        host = "127.0.0.1" if endpoint.host == "localhost" else endpoint.host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        servers.append(_Server(family, (host, endpoint.port), desk, secure if endpoint.secure else None))
    for server in servers:
        threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return servers
