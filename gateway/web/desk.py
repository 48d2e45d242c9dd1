"""Whose path is it: JSON calls of /v3/, and the pages, which the insight process knows (`questions`).

Before all stand what etcd asks of every request over HTTP: its host (CVE-2018-5702: a page of a stranger, whose name
was made to lead here, must not reach what only this machine should), and CORS.
"""

from __future__ import annotations

import copy
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from zkv.gateway.web.calls import JsonCall
from zkv.gateway.web.exchange import TEXT, answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from zkv.gateway.grpc_line import Desk
    from zkv.gateway.web.calls import Bodies, Route
    from zkv.gateway.web.exchange import Asked, Exchange, Fields, Receiver

PAGES: Final = {"/version", "/health", "/metrics", "/livez", "/readyz"}
_CALLS: Final = ("/v3/", "/v3beta/")
_CORS: Final = (
    ("Access-Control-Allow-Headers", "accept, content-type, authorization"),
    ("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE"),
)


class Page(NamedTuple):
    status: int
    kind: str
    body: bytes


class Questions(Protocol):
    def __call__(self, target: str, told: Callable[[Page | None], None]) -> None:
        """Ask for a page; `told` hears it, or None when nobody knows."""


class WebDesk:
    """See the module. Driven by one thread; raises for nothing that a client sends."""

    def __init__(
        self,
        calls: Desk,
        routes: Mapping[str, Route],
        bodies: Bodies,
        questions: Questions,
        *,
        origins: tuple[str, ...] = (),
        hosts: tuple[str, ...] = (),
    ) -> None:
        """`origins`, `hosts`: those that may come in; all may when there are none, or "*" among them."""
        self._calls = calls
        self._routes = routes
        self._bodies = bodies
        self._questions = questions
        self._origins = _named(origins)
        self._hosts = _named(hosts)

    def of(self, calls: Desk) -> WebDesk:
        """The same, but for who serves the calls."""
        desk = copy.copy(self)
        desk._calls = calls  # noqa: SLF001 - our own
        return desk

    def asked(self, exchange: Exchange, asked: Asked, now: int) -> Receiver | None:
        if not asked.peer.secure and self._hosts is not None and _host(asked.host) not in self._hosts:
            answer(exchange, HTTPStatus.MISDIRECTED_REQUEST, TEXT, _misdirected(asked.host))
            return None
        exchange = _WithFields(exchange, self._cors(asked))
        path = asked.path
        if asked.method == "OPTIONS":
            answer(exchange, HTTPStatus.OK, "", b"")
            return None
        if path.startswith(_CALLS):
            return self._call(exchange, asked, now)
        if path == "/v3":
            answer(exchange, HTTPStatus.MOVED_PERMANENTLY, "", b"", (("Location", "/v3/"),))
        elif path not in PAGES:
            _refuse(exchange, HTTPStatus.NOT_FOUND, "404 page not found")
        elif asked.method != "GET" and path != "/metrics":
            _refuse(exchange, HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed", (("Allow", "GET"),))
        else:
            page = _Asked(exchange)
            self._questions(f"{path}?{asked.query}" if asked.query else path, page.told)
            return page
        return None

    def _call(self, exchange: Exchange, asked: Asked, now: int) -> Receiver | None:
        path = asked.path.replace("/v3beta/", "/v3/", 1)
        route = self._routes.get(path)
        if route is None:
            _refuse(exchange, HTTPStatus.NOT_FOUND, "Not Found")
        elif asked.method != "POST":
            _refuse(exchange, HTTPStatus.METHOD_NOT_ALLOWED, "Method Not Allowed")
        else:
            call = JsonCall(self._calls, self._bodies, exchange, route, asked)
            if call.begin(asked, now):
                return call
        return None

    def _cors(self, asked: Asked) -> Fields:
        if self._origins is None:
            return (*_CORS, ("Access-Control-Allow-Origin", "*"))
        origin = asked.fields.get("origin", "")
        return (*_CORS, ("Access-Control-Allow-Origin", origin)) if origin in self._origins else ()


class _WithFields:
    """An Exchange whose heads all begin with the same fields."""

    def __init__(self, exchange: Exchange, fields: Fields) -> None:
        self._fields = fields
        self._exchange = exchange
        self.body = exchange.body
        self.end = exchange.end
        self.abort = exchange.abort

    def head(self, status: int, fields: Fields, size: int | None = None) -> None:
        self._exchange.head(status, (*self._fields, *fields), size)


class _Asked:
    """A page that is being asked for."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange: Exchange | None = exchange

    def told(self, page: Page | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if page is None:
            _refuse(exchange, HTTPStatus.SERVICE_UNAVAILABLE, "zkv: the process that knows is not there, try again")
        else:
            fields = () if page.status == HTTPStatus.OK else (("X-Content-Type-Options", "nosniff"),)
            answer(exchange, page.status, page.kind, page.body, fields)

    def gone(self) -> None:
        self._exchange = None

    def data(self, data: bytes, now: int) -> None: ...

    def ended(self, now: int) -> None: ...

    def drained(self) -> None: ...


def _refuse(exchange: Exchange, status: HTTPStatus, text: str, fields: Fields = ()) -> None:
    """In the words of Go's http.Error."""
    fields = (*fields, ("Content-Type", TEXT), ("X-Content-Type-Options", "nosniff"))
    answer(exchange, status, "", f"{text}\n".encode(), fields)


def _named(names: tuple[str, ...]) -> frozenset[str] | None:
    return None if not names or "*" in names else frozenset(names)


def _host(host: str) -> str:
    """Without its port."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).strip("[]")


def _misdirected(host: str) -> bytes:
    return (
        f"\netcd received your request, but the Host header was unrecognized.\n\n"
        f"To fix this, choose one of the following options:\n"
        f"- Enable TLS, then any HTTPS request will be allowed.\n"
        f"- Add the hostname you want to use to the whitelist in settings.\n"
        f"  - e.g. etcd --host-whitelist {_quoted(host)}\n\n"
        f'This requirement has been added to help prevent "DNS Rebinding" attacks (CVE-2018-5702).\n'
    ).encode()


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
