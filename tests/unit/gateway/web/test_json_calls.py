"""JSON calls at the desk of etcd's API, over HTTP/1.1, with the node played by the test."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from zkv.errors import Compacted
from zkv.gateway.grpc_desk import METHODS, EtcdDesk
from zkv.gateway.web.calls import Bodies
from zkv.gateway.web.desk import Page, WebDesk
from zkv.gateway.web.http1 import QUEUED_BYTES, Http1Connection
from zkv.gateway.web.paths import PATHS, routes
from zkv.limits import Limits
from zkv.wire import codec
from zkv.wire import messages as m

INCARNATION = 5 | m.ETCD_DOOR
A_RANGE = b'{"key":"aw=="}'
A_WATCH = b'{"create_request":{"key":"aw=="}}'


class Caller:
    """One connection, and the node behind it."""

    def __init__(self, bodies: Bodies | None = None, **settings: Any) -> None:
        self.posted: list[tuple[str, Any]] = []
        self.pages: list[Any] = []
        self.desk = EtcdDesk(
            limits=Limits(), member_id=1, cluster_id=2, incarnation=INCARNATION, request_timeout_ms=7_000,
            leaderless_ms=3_000, post=self._post,
        )  # fmt: skip
        self.bodies = bodies or Bodies(10_000, 30_000, 5_000)
        self.web = WebDesk(
            self.desk, routes(METHODS), self.bodies, lambda target, told: self.pages.append((target, told)), **settings
        )
        self.connection = self.connect()
        self.desk.mail(m.LeaderIs(3, 1), 0)

    def connect(self) -> Http1Connection:
        return Http1Connection(self.web, self.desk.dirty.add, 0)

    def _post(self, to: str, mail: Any) -> bool:
        self.posted.append((to, mail))
        return True

    def say(self, path: str, body: bytes, *fields: str, size: int | None = None) -> bytes:
        head = [f"POST {path} HTTP/1.1", "Host: a", f"Content-Length: {len(body) if size is None else size}", *fields]
        return self.send(("\r\n".join(head) + "\r\n\r\n").encode() + body)

    def send(self, data: bytes) -> bytes:
        self.connection.receive(data, 0)
        self.desk.flush()
        return self.heard()

    def heard(self) -> bytes:
        return self.connection.to_send()

    def answers(self, *answers: tuple[int, int, int, object], last: bool = True) -> bytes:
        gid = self.desk.asking._last_gid
        payload = codec.pack(m.Answers(m.PROTOCOL_VERSION, 2, 1, 3, answers))
        self.desk.mail(m.GatewayAnswers(INCARNATION, ((gid, payload, last),)), 0)
        return self.heard()


def test_a_call_goes_to_the_node_and_its_answer_comes_back_as_json() -> None:
    """As any call of gRPC."""
    caller = Caller()
    assert caller.say("/v3/kv/range", A_RANGE) == b""
    assert caller.posted[-1][0] == "raft"
    heard = caller.answers((1, 0, 7, (((b"k", 5, 6, 2, b"v", 0),), False, 1)))
    assert json.loads(heard.partition(b"\r\n\r\n")[2]) == {
        "header": {"cluster_id": "2", "member_id": "1", "revision": "7", "raft_term": "3"},
        "kvs": [{"key": "aw==", "create_revision": "5", "mod_revision": "6", "version": "2", "value": "dg=="}],
        "count": "1",
    }


def test_a_large_answer_is_written_as_its_client_takes_it() -> None:
    """Piece by piece: what is queued stays small, and the rest is JSON of the same answer."""
    caller = Caller()
    caller.say("/v3/kv/range", A_RANGE)
    kvs = tuple((b"%d" % at, 1, 1, 1, b"x" * 500, 0) for at in range(2_000))
    heard = [caller.answers((1, 0, 7, (kvs, False, 2_000)))]
    while heard[-1]:
        assert len(heard[-1]) < 2 * QUEUED_BYTES
        caller.connection.written()
        heard.append(caller.heard())
    assert len(heard) > 4
    body, rest = b"", b"".join(heard).partition(b"\r\n\r\n")[2]
    while size := int(rest.partition(b"\r\n")[0], 16):
        start = rest.index(b"\r\n") + 2
        body, rest = body + rest[start : start + size], rest[start + size + 2 :]
    assert [kv["key"] for kv in json.loads(body)["kvs"]] == [b64encode(kv[0]).decode() for kv in kvs]


def test_a_client_that_goes_takes_its_call_with_it() -> None:
    """Unary, and a watch: the node is told nothing more than that."""
    caller = Caller()
    caller.say("/v3/kv/range", A_RANGE)
    caller.connection.lost(0)
    assert caller.desk.asking.in_flight == (0, 0)
    caller.connection = caller.connect()
    caller.say("/v3/watch", A_WATCH)
    caller.connection.lost(0)
    caller.desk.flush()
    assert [word[1] for word in caller.posted[-1][1].words] == [m.ClientKind.CANCEL]


def test_a_watch_begins_with_its_first_words_though_its_body_goes_on() -> None:
    """And ends with the node's word, as a line of its own."""
    caller = Caller()
    head = b"POST /v3/watch HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    half = len(A_WATCH) // 2
    caller.send(head + b"%x\r\n%b\r\n" % (half, A_WATCH[:half]))
    assert not any(to == "watch" for to, _ in caller.posted)
    caller.send(b"%x\r\n%b\r\n" % (len(A_WATCH) - half, A_WATCH[half:]))
    (number, kind, _), *_ = caller.posted[-1][1].words
    assert kind == m.ClientKind.WATCH
    watches = (((1,), m.WatchKind.CREATED, 9, ()), ((1,), m.WatchKind.CANCELLED, 9, (Compacted.code, 5)))
    told = codec.pack(m.Answers(m.PROTOCOL_VERSION, 2, 1, 3, (), 0, watches))
    caller.desk.mail(m.WatchOut(INCARNATION, ((number, told),)), 0)
    heard = caller.heard()
    assert heard.count(b'{"result":{"header":') == 2
    assert b'"canceled":true,"compact_revision":"5"' in heard
    caller.desk.stop(0)
    assert b'{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: server stopped",' in caller.heard()


@pytest.mark.parametrize("path", ["/v3/kv/put", "/v3/watch"])
def test_a_body_that_is_too_large_is_refused_before_it_is_whole(path: str) -> None:
    """And what it held is given back."""
    caller = Caller()
    heard = caller.say(path, b'{"a":"' + b"x" * 20_000, size=1 << 30)
    assert heard.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"grpc: received message larger than max (" in heard
    assert caller.bodies.held == 0


def test_bodies_of_all_connections_together_have_a_limit() -> None:
    """Many that are each small enough are too many."""
    caller = Caller()
    connections = [caller.connect() for _ in range(6)]
    refused = 0
    for connection in connections:
        connection.receive(b"POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n" + b"x" * 8_000, 0)
        refused += b" 429 " in connection.to_send()
    assert refused == 3
    for connection in connections:
        connection.lost(0)
    assert caller.bodies.held == 0


def test_what_stands_in_the_head_is_metadata_of_the_call() -> None:
    """hasleader as a field: a member without a leader refuses."""
    caller = Caller()
    caller.desk.mail(m.LeaderIs(4, 0), 1)
    caller.desk.tick(10_000)
    wants = "Grpc-Metadata-hasleader: true"
    caller.connection.receive(
        f"POST /v3/kv/range HTTP/1.1\r\nHost: a\r\n{wants}\r\nContent-Length: 2\r\n\r\n{{}}".encode(), 10_000
    )
    assert b'{"error":"etcdserver: no leader","code":14,' in caller.heard()


def test_a_deadline_is_kept() -> None:
    """Grpc-Timeout, as grpc-gateway has it."""
    caller = Caller()
    assert caller.say("/v3/kv/range", A_RANGE, "Grpc-Timeout: 50m") == b""
    caller.desk.tick(200)
    assert b'{"error":"context deadline exceeded","code":4,' in caller.heard()


def test_strangers_hosts_and_origins_are_kept_out_where_that_is_wanted() -> None:
    """--host-whitelist (CVE-2018-5702), --cors."""
    caller = Caller(origins=("http://good",), hosts=("a", "127.0.0.1"))
    ask = b"OPTIONS /version HTTP/1.1\r\nHost: %b\r\nOrigin: %b\r\n\r\n"
    assert b"Access-Control-Allow-Origin: http://good\r\n" in caller.send(ask % (b"a:2379", b"http://good"))
    assert b"Access-Control" not in caller.send(ask % (b"127.0.0.1", b"http://bad"))
    assert caller.send(ask % (b"rebound.example", b"http://good")).startswith(b"HTTP/1.1 421 Misdirected Request\r\n")


def test_a_page_is_what_the_insight_process_says_it_is() -> None:
    """Or, when that is not there, a word to try again."""
    caller = Caller()
    ask = b"GET /health?serializable=true HTTP/1.1\r\nHost: a\r\n\r\n"
    assert caller.send(ask) == b""
    target, told = caller.pages.pop()
    assert target == "/health?serializable=true"
    told(Page(200, "text/plain", b"well"))
    assert caller.heard().endswith(b"\r\n\r\nwell")
    caller.send(ask)
    caller.pages.pop()[1](None)
    assert caller.heard().startswith(b"HTTP/1.1 503 ")


def test_every_path_is_that_of_an_rpc_that_is_served() -> None:
    """None is named in vain."""
    assert set(routes(METHODS)) == set(PATHS)
