"""An HTTP/1.1 connection: bytes in, bytes out, and whatever strangers send."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkv.gateway.web import http1
from zkv.gateway.web.exchange import TEXT, Asked, Exchange, Receiver, answer
from zkv.gateway.web.http1 import Http1Connection, Patience

if TYPE_CHECKING:
    from collections.abc import Iterable

GET = b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n"


def post(body: bytes, *fields: bytes) -> bytes:
    head = [b"POST /echo HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


class Echo:
    """Sends back what it gets, once it has all of it; what it is told is written down."""

    def __init__(self, desk: EchoDesk, exchange: Exchange, *, streams: bool = False) -> None:
        self.streams = streams
        self.desk = desk
        self.exchange = exchange
        self.body = b""

    def data(self, data: bytes, now: int) -> None:
        self.body += data

    def ended(self, now: int) -> None:
        if not self.desk.holds_back and not self.streams:
            answer(self.exchange, 200, TEXT, self.body)

    def drained(self) -> None:
        self.desk.told.append("drained")

    def gone(self) -> None:
        self.desk.told.append("gone")


class EchoDesk:
    """/echo echoes, /stream answers at once and goes on, all else is not found."""

    def __init__(self) -> None:
        self.holds_back = False
        self.told: list[str] = []
        self.asked_for: list[Asked] = []
        self.exchanges: list[Exchange] = []

    def asked(self, exchange: Exchange, asked: Asked, now: int) -> Receiver | None:
        self.asked_for.append(asked)
        self.exchanges.append(exchange)
        if asked.path == "/echo":
            return Echo(self, exchange)
        if asked.path == "/stream":
            exchange.head(200, (("Content-Type", TEXT),))
            exchange.body(b"one")
            return Echo(self, exchange, streams=True)
        answer(exchange, 404, TEXT, b"no\n")
        return None


class Socket:
    def __init__(self, patience: Patience | None = None) -> None:
        self.desk = EchoDesk()
        self.now = 0
        self.connection = Http1Connection(self.desk, lambda _: None, 0, patience=patience)

    def say(self, *data: bytes) -> bytes:
        for each in data:
            self.connection.receive(each, self.now)
        return self.heard()

    def heard(self) -> bytes:
        return self.connection.to_send()

    def over(self) -> bool:
        return self.connection.finished

    def tick(self, now: int) -> bytes:
        self.now = now
        self.connection.tick(now)
        return self.heard()


def bodies(heard: bytes) -> list[bytes]:
    return [part.partition(b"\r\n\r\n")[2] for part in heard.split(b"HTTP/1.1 ")[1:]]


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=5), st.data())
def test_requests_are_answered_in_order_however_they_come_in_pieces(sent: list[bytes], data: st.DataObject) -> None:
    """Pipelined, cut anywhere, with Content-Length or in chunks."""
    wire = b""
    for body in sent:
        if data.draw(st.booleans()):
            wire += post(body)
        else:
            wire += b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            wire += b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=9)))
    socket = Socket()
    heard = b""
    for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        heard += socket.say(wire[start:stop])
    assert heard.count(b"HTTP/1.1 200 OK") == len(sent)
    assert all(heard.count(b"\r\n\r\n" + body) for body in sent)
    assert not socket.over()


def test_what_is_pipelined_waits_for_the_answer_before() -> None:
    """And the socket is not read meanwhile, so nobody can pile up requests."""
    socket = Socket()
    socket.desk.holds_back = True
    assert socket.say(post(b"first") + GET) == b""
    assert not socket.connection.wants_more
    assert len(socket.desk.asked_for) == 1
    answer(socket.desk.exchanges[0], 200, TEXT, b"done")
    assert bodies(socket.heard()) == [b"done", b"no\n"]
    assert socket.connection.wants_more


def test_a_stream_is_sent_in_chunks_and_the_connection_goes_on_after_it() -> None:
    """Each piece leaves at once."""
    socket = Socket()
    heard = socket.say(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
    assert heard.endswith(b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
    exchange = socket.desk.exchanges[0]
    exchange.body(b"two!")
    assert socket.heard() == b"4\r\ntwo!\r\n"
    exchange.end()
    assert socket.heard() == b"0\r\n\r\n"
    assert bodies(socket.say(GET)) == [b"no\n"]


def test_http_1_0_has_its_answer_by_the_end_of_the_connection() -> None:
    """No chunks, which it does not know."""
    socket = Socket()
    assert socket.say(b"GET /stream HTTP/1.0\r\n\r\n").endswith(b"Connection: close\r\n\r\none")
    socket.desk.exchanges[0].end()
    assert socket.over()


def test_head_has_no_body() -> None:
    """But the fields of one."""
    heard = Socket().say(b"HEAD /page HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"Content-Length: 3\r\n" in heard
    assert heard.endswith(b"\r\n\r\n")


def test_who_asks_whether_to_go_on_is_told() -> None:
    """Expect: 100-continue, as curl sends it before a large body; not where nobody wants the body."""
    socket = Socket()
    head, body = post(b"large", b"Expect: 100-continue").split(b"large")[0], b"large"
    assert socket.say(head) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert bodies(socket.say(body)) == [b"large"]
    assert b"100 Continue" not in socket.say(head.replace(b"/echo", b"/none"))


def test_a_body_that_nobody_wants_is_read_and_dropped() -> None:
    """The answer is there first, and the connection goes on behind the body."""
    socket = Socket()
    refused = post(b"x" * 1000).replace(b"/echo", b"/none")
    assert b"404 Not Found" in socket.say(refused[:-400])
    assert socket.say(refused[-400:]) == b""
    assert bodies(socket.say(post(b"next"))) == [b"next"]


def test_a_body_that_nobody_wants_and_that_does_not_end_ends_the_connection() -> None:
    """By its size, and by time."""
    endless = b"POST /none HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    socket = Socket()
    socket.say(endless)
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    socket.say(*[chunk] * (http1.LINGER_BYTES // len(chunk)))
    assert not socket.over()
    socket.say(chunk)
    assert socket.over()
    slow = Socket()
    slow.say(endless)
    slow.tick(Patience().linger_ms)
    assert slow.over()


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\nHost: a\n\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", b"501"),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", b"400"),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", b"400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000, b"431"),
        (b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: yy\r\n" * 5_000, b"431"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_the_connection_ends(wire: bytes, status: bytes) -> None:
    """With a status, whether it comes at once or byte by byte."""
    at_once, bytewise = Socket(), Socket()
    for heard, socket in ((at_once.say(wire), at_once), (_dribble(bytewise, wire), bytewise)):
        assert heard.startswith(b"HTTP/1.1 " + status), heard
        assert socket.over()


def _dribble(socket: Socket, wire: bytes) -> bytes:
    return b"".join(socket.say(wire[at : at + 1]) for at in range(len(wire)))


def test_a_head_that_does_not_come_in_time_is_given_up() -> None:
    """Slowloris: byte after byte, each in time."""
    socket = Socket()
    for at, now in enumerate(range(0, 9_900, 300)):
        socket.now = now
        assert socket.say((b"GET / HTTP/1.1\r\nHost: " + b"a" * 99)[at : at + 1]) == b""
        socket.tick(now)
    assert socket.tick(10_000).startswith(b"HTTP/1.1 408 ")
    assert socket.over()


def test_a_body_that_is_silent_is_given_up_and_an_idle_connection_too() -> None:
    """Not while what is read still moves, nor while its answer streams."""
    body = Socket()
    body.say(post(b"x" * 10)[:-5])
    assert body.tick(29_999) == b""
    assert body.tick(30_000).startswith(b"HTTP/1.1 408 ")
    idle = Socket()
    idle.say(GET)
    idle.tick(599_999)
    assert not idle.over()
    idle.tick(600_000)
    assert idle.over()
    stream = Socket()
    stream.say(b"POST /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    stream.tick(10_000_000)
    assert not stream.over()


def test_who_does_not_take_its_answer_is_waited_for_and_then_left() -> None:
    """`body` says when to wait, `drained` when to go on; after a minute without room it is over."""
    socket = Socket()
    socket.say(b"GET /stream HTTP/1.1\r\nHost: a\r\n\r\n")
    exchange = socket.desk.exchanges[0]
    assert exchange.body(b"x")
    socket.connection.hold()
    assert not exchange.body(b"x")
    socket.connection.release(5)
    assert socket.desk.told == ["drained"]
    assert not exchange.body(b"x" * (http1.QUEUED_BYTES + 1))
    socket.heard()
    socket.connection.written()
    assert socket.desk.told == ["drained", "drained"]
    socket.connection.hold()
    socket.tick(70_000)
    assert socket.over()
    assert socket.desk.told[-1] == "gone"
    assert not exchange.body(b"void")


def test_a_client_that_goes_is_told_of_once() -> None:
    """And what is answered then is void."""
    socket = Socket()
    socket.desk.holds_back = True
    socket.say(post(b"x"))
    socket.connection.lost(1)
    socket.connection.lost(2)
    assert socket.desk.told == ["gone"]
    answer(socket.desk.exchanges[0], 200, TEXT, b"late")
    assert socket.heard() == b""


def test_a_drained_connection_ends_with_the_answer_it_owes() -> None:
    """An idle one at once."""
    idle, busy = Socket(), Socket()
    idle.connection.drain(0)
    assert idle.over()
    busy.desk.holds_back = True
    busy.say(post(b"x"))
    busy.connection.drain(0)
    assert not busy.over()
    answer(busy.desk.exchanges[0], 200, TEXT, b"last")
    assert bodies(busy.heard()) == [b"last"]
    assert busy.over()


def test_an_upgrade_is_a_request_like_others() -> None:
    """curl --http2 offers h2c; what comes behind is served too."""
    offer = b"GET /page HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
    assert bodies(Socket().say(offer + post(b"next"))) == [b"no\n", b"next"]


@given(st.lists(st.one_of(st.binary(max_size=30), st.sampled_from(list(_ := [
    b"GET /page HTTP/1.1\r\n", b"Host: a\r\n", b"\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
    b"POST /echo HTTP/1.1\r\n", b"POST /stream HTTP/1.1\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"abc",
    b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\nConnection: Upgrade\r\n",
]))), max_size=12))  # fmt: skip
def test_any_bytes_are_served_or_refused(pieces: Iterable[bytes]) -> None:
    """And nothing is raised, whatever the order of what comes."""
    socket = Socket()
    for piece in pieces:
        socket.say(piece)
        socket.connection.written()
    socket.tick(3_600_000)
    socket.connection.lost(3_600_001)
    assert socket.over()
