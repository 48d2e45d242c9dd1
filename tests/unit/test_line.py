"""A line over real sockets, with libzmq at the other end: it comes up, is lost, and comes up again."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import zmq
import zmq.auth

from zkv import curve, zmtp
from zkv.curve_keys import KeyPair, new_keys
from zkv.line import SILENCE_MS, Line
from zkv.testing import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 20
MESSAGES = [bytes([n % 251]) * size for n, size in enumerate((0, 1, 220, 255, 256, 300, 70_000, 1_000_000, 3))]


class Owner:
    """What a mailbox does for its lines."""

    def __init__(self) -> None:
        self.polls = select.epoll()
        self.lines: list[Line] = []
        self.heard: list[bytes | None] = []
        self.losses = 0

    def line(
        self,
        port: int,
        kind: bytes = b"PUSH",
        security: curve.Client | None = None,
        *,
        host: str = "127.0.0.1",
        messages_max: int = 1000,
        bytes_max: int = 64 << 20,
        silence_ms: int = SILENCE_MS,
        keeps: bool = False,
    ) -> Line:
        line = Line(
            host,
            port,
            kind,
            security,
            self.polls,
            messages_max=messages_max,
            bytes_max=bytes_max,
            message_bytes_max=1 << 20,
            silence_ms=silence_ms,
            keeps=keeps,
        )
        line.on_lost = self._lost
        self.lines.append(line)
        return line

    def _lost(self) -> None:
        self.losses += 1

    def turn(self) -> None:
        for line in self.lines:
            line.flush()
        for fd, _ in self.polls.poll(0.01):
            (owner,) = (line for line in self.lines if fd in line)
            self.heard += owner.hear(fd)
        for line in self.lines:
            line.tend(time.monotonic_ns() // 1_000_000)

    def until(self, done: Callable[[], object]) -> None:
        give_up_at = time.monotonic() + PATIENCE_S
        while not done():
            self.turn()
            assert time.monotonic() < give_up_at

    def received(self, other: zmq.Socket[bytes], count: int) -> list[bytes]:
        """What comes at the other end meanwhile."""
        found: list[bytes] = []

        def all_came() -> bool:
            with contextlib.suppress(zmq.Again):
                found.append(other.recv(zmq.NOBLOCK))
            return len(found) == count

        self.until(all_came)
        return found

    def close(self) -> None:
        for line in self.lines:
            line.close()
        self.polls.close()


@pytest.fixture
def owner() -> Iterator[Owner]:
    owner = Owner()
    yield owner
    owner.close()


class Others:
    """libzmq's sockets."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._sockets: list[zmq.Socket[bytes]] = []

    def listen(self, port: int, kind: int = zmq.PULL, keys: KeyPair | None = None, room: int = 0) -> zmq.Socket[bytes]:
        """`room`: of a reader that takes little before it is asked."""
        other = self._context.socket(kind)
        self._sockets.append(other)
        other.linger = 0
        if keys is not None:
            other.curve_publickey, other.curve_secretkey, other.curve_server = keys.public, keys.secret, True
        if room:
            other.rcvhwm, other.rcvbuf = 1, room
        other.bind(f"tcp://127.0.0.1:{port}")
        return other

    def close(self) -> None:
        for other in self._sockets:
            other.close()
        self._context.term()


@pytest.fixture
def others() -> Iterator[Others]:
    others = Others()
    yield others
    others.close()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "CURVE"])
def test_what_is_pushed_arrives_whole_and_in_order(owner: Owner, others: Others, secure: bool) -> None:
    (port,) = free_ports(1)
    keys = new_keys() if secure else None
    pull = others.listen(port, zmq.PULL, keys)
    line = owner.line(port, security=curve.Client(new_keys(), keys.public) if keys else None)
    assert not line.put(b"too early"), "nobody is there yet"
    owner.until(lambda: line.ready)
    for message in MESSAGES * 3:
        assert line.put(message)
    assert owner.received(pull, 3 * len(MESSAGES)) == MESSAGES * 3
    assert owner.losses == 0


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "CURVE"])
def test_a_dealer_s_line_hears_answers(owner: Owner, others: Others, secure: bool) -> None:
    """Of one frame; one of several is told and not shown."""
    (port,) = free_ports(1)
    keys = new_keys() if secure else None
    router = others.listen(port, zmq.ROUTER, keys)
    line = owner.line(port, b"DEALER", curve.Client(new_keys(), keys.public) if keys else None)
    owner.until(lambda: line.ready)
    assert line.put(b"question")
    name, question = owner.received(router, 2)
    assert question == b"question"
    router.send_multipart([name, b"answer"])
    router.send_multipart([name, b"two", b"frames"])
    owner.until(lambda: len(owner.heard) == 2)
    assert owner.heard == [b"answer", None]


def test_a_line_that_keeps_takes_messages_before_anybody_listens(owner: Owner, others: Others) -> None:
    """As many as it has room for; they are the first to leave."""
    (port,) = free_ports(1)
    line = owner.line(port, keeps=True, messages_max=3)
    assert [line.put(message) for message in (b"a", b"b", b"c", b"d")] == [True, True, True, False]
    big = owner.line(port, keeps=True, bytes_max=10)
    assert [big.put(bytes(100)), big.put(b"x")] == [True, False], "one of any size, and no more"
    owner.turn()
    pull = others.listen(port)
    assert sorted(owner.received(pull, 4)) == [bytes(100), b"a", b"b", b"c"]


def test_a_line_is_lost_once_and_comes_up_again(owner: Owner, others: Others) -> None:
    (port,) = free_ports(1)
    line = owner.line(port)
    pull = others.listen(port)
    owner.until(lambda: line.ready)
    pull.close()
    owner.until(lambda: not line.ready)
    assert not line.put(b"into the void")
    assert owner.losses == 1
    pull = others.listen(port)
    owner.until(lambda: line.ready)
    assert line.put(b"again")
    assert owner.received(pull, 1) == [b"again"]
    assert owner.losses == 1, "nobody there is no loss"


def test_who_says_nothing_is_given_up_and_who_answers_pings_is_not(owner: Owner, others: Others) -> None:
    """A machine that is gone sends no word of it."""
    alive, mute = free_ports(2)
    others.listen(alive)
    with socket.create_server(("127.0.0.1", mute)) as server:
        lines = [owner.line(alive), owner.line(mute, silence_ms=500)]
        with server.accept()[0] as end:
            end.sendall(zmtp.hello(b"PULL"))
            owner.until(lambda: lines[1].ready)
            owner.until(lambda: owner.losses == 1)
            assert [line.ready for line in lines] == [True, False]


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n".ljust(100), zmtp.hello(b"PUSH")])
def test_who_speaks_something_else_is_left_and_tried_again(owner: Owner, words: bytes) -> None:
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port)) as server:
        server.setblocking(False)
        line = owner.line(port)
        ends: list[socket.socket] = []

        def came_thrice() -> bool:
            with contextlib.suppress(BlockingIOError):
                end, _ = server.accept()
                end.sendall(words)
                ends.append(end)
            return len(ends) == 3

        owner.until(came_thrice)
        assert owner.losses >= 2
        assert not line.ready
        for end in ends:
            end.close()


def test_a_key_that_is_not_let_in_does_not_come_up(owner: Owner, others: Others) -> None:
    """Nor does a line to a server that has another key than it ought to have."""
    (port,) = free_ports(1)
    others.listen(port, zmq.PULL, new_keys())
    line = owner.line(port, security=curve.Client(new_keys(), new_keys().public))
    owner.until(lambda: owner.losses == 2)
    assert not line.ready


def test_a_name_that_nobody_answers_for_holds_up_nothing(
    owner: Owner, others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resolvers take half a minute to give up: another line goes on meanwhile, and closing one does not wait."""
    alive, port = free_ports(2)
    pull = others.listen(alive)
    answers, asked = threading.Event(), threading.Event()
    resolve = socket.getaddrinfo

    def slow(host: str, *args: Any, **more: Any) -> Any:
        if host != "slow.example":
            return resolve(host, *args, **more)
        asked.set()
        answers.wait(PATIENCE_S)
        return resolve("127.0.0.1", *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    stuck, given_up = (owner.line(port, host="slow.example") for _ in range(2))
    line = owner.line(alive)
    owner.until(lambda: line.ready and asked.is_set())
    line.put(b"x")
    assert owner.received(pull, 1) == [b"x"]
    given_up.close()
    owner.lines.remove(given_up)
    others.listen(port)
    answers.set()
    owner.until(lambda: stuck.ready)


def test_a_name_that_is_none_is_tried_again(owner: Owner, others: Others, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may be given its name after others were told of it."""
    (port,) = free_ports(1)
    others.listen(port)
    resolve, asked = socket.getaddrinfo, []

    def late(host: str, *args: Any, **more: Any) -> Any:
        asked.append(host)
        if len(asked) < 3:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve("127.0.0.1", *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", late)
    odd = owner.line(port, host="a" * 300)
    line = owner.line(port, host="late.example")
    owner.until(lambda: line.ready)
    odd.close()
    owner.lines.remove(odd)


def test_a_reader_that_stands_still_has_a_bound_and_gets_all_of_it_later(owner: Owner, others: Others) -> None:
    (port,) = free_ports(1)
    pull = others.listen(port, room=65536)
    line = owner.line(port, bytes_max=3_000_000, silence_ms=PATIENCE_S * 1000)
    owner.until(lambda: line.ready)
    put = 0
    while line.put(put.to_bytes(4, "big") * 50_000):
        line.flush()
        put += 1
        assert put < 1000
    assert [message[:4] for message in owner.received(pull, put)] == [n.to_bytes(4, "big") for n in range(put)]
    assert line.put(b"again")


def test_closing_lets_out_what_was_put(owner: Owner, others: Others) -> None:
    (port,) = free_ports(1)
    pull = others.listen(port)
    line = owner.line(port)
    owner.until(lambda: line.ready)
    for _ in range(20):
        line.put(bytes(500_000))
    line.close(PATIENCE_S * 1000)
    assert [len(message) for message in owner.received(pull, 20)] == [500_000] * 20
    assert line.put(b"x") is False
