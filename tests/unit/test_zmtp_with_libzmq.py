"""An End with libzmq at the other end of the connection: both ways, both as who listens and as who connects."""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING

import pytest
import zmq

from zkv import curve, zmtp
from zkv.curve_keys import new_keys
from zkv.zmtp import End, NotZmtp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVER, CLIENT, OTHER = new_keys(), new_keys(), new_keys()
BYTES_MAX = 4 << 20
WAIT_S = 10
PAYLOADS = [b"", b"x", bytes(222), bytes(223), bytes(255), bytes(256), bytes(70_000), bytes(BYTES_MAX)]


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield made
    made.destroy(linger=0)


class Wire:
    """A socket that blocks, with an End at it."""

    def __init__(self, raw: socket.socket, end: End) -> None:
        self.raw, self.end, self.heard = raw, end, []  # type: ignore[var-annotated]
        raw.settimeout(WAIT_S)
        raw.sendall(end.answer())

    def until(self, done: Callable[[], bool]) -> None:
        while not done():
            data = self.raw.recv(1 << 20)
            if not data:
                raise EOFError
            try:
                self.heard += self.end.feed(data)
            finally:
                self.raw.sendall(self.end.answer())

    def echo(self, messages: int) -> None:
        self.until(lambda: len(self.heard) >= messages)
        for message in self.heard:
            self.raw.sendall(self.end.message(message))


def libzmq(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    made = context.socket(kind)
    made.linger, made.rcvtimeo, made.sndtimeo = 0, WAIT_S * 1000, WAIT_S * 1000
    return made


def accepted(listener: socket.socket) -> socket.socket:
    listener.settimeout(WAIT_S)
    return listener.accept()[0]


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "CURVE"])
def test_libzmq_connects(context: zmq.Context[zmq.Socket[bytes]], secure: bool) -> None:
    dealer = libzmq(context, zmq.DEALER)
    if secure:
        dealer.curve_serverkey, dealer.curve_publickey, dealer.curve_secretkey = SERVER.public, *CLIENT
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dealer.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        security = curve.Server(SERVER, frozenset({CLIENT.public})) if secure else None
        wire = Wire(accepted(listener), End(b"ROUTER", security, BYTES_MAX))
        for payload in PAYLOADS:
            dealer.send(payload)
        wire.echo(len(PAYLOADS))
        assert [dealer.recv() for _ in PAYLOADS] == PAYLOADS
        assert wire.end.key == (CLIENT.public if secure else b"")
        dealer.send_multipart([b"several", b"frames"])
        dealer.send(b"and one")
        wire.until(lambda: len(wire.heard) >= len(PAYLOADS) + 2)
        assert wire.heard[len(PAYLOADS) :] == [None, b"and one"]
        wire.raw.close()
    dealer.close()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "CURVE"])
def test_libzmq_listens(context: zmq.Context[zmq.Socket[bytes]], secure: bool) -> None:
    router = libzmq(context, zmq.ROUTER)
    if secure:
        router.curve_server, router.curve_publickey, router.curve_secretkey = True, *SERVER
    port = router.bind_to_random_port("tcp://127.0.0.1")
    with socket.create_connection(("127.0.0.1", port)) as raw:
        security = curve.Client(CLIENT, SERVER.public) if secure else None
        wire = Wire(raw, End(b"DEALER", security, BYTES_MAX))
        wire.until(lambda: wire.end.ready)
        for payload in PAYLOADS:
            raw.sendall(wire.end.message(payload))
        for _ in PAYLOADS:
            router.send_multipart(router.recv_multipart())
        wire.until(lambda: len(wire.heard) >= len(PAYLOADS))
        assert wire.heard == PAYLOADS
    router.close()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "CURVE"])
def test_push_and_pull(context: zmq.Context[zmq.Socket[bytes]], secure: bool) -> None:
    push, pull = libzmq(context, zmq.PUSH), libzmq(context, zmq.PULL)
    if secure:
        push.curve_serverkey, push.curve_publickey, push.curve_secretkey = SERVER.public, *CLIENT
        pull.curve_server, pull.curve_publickey, pull.curve_secretkey = True, *SERVER
    port = pull.bind_to_random_port("tcp://127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(("127.0.0.1", port)) as raw:
        push.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        heard = Wire(accepted(listener), End(b"PULL", curve.Server(SERVER) if secure else None, BYTES_MAX))
        push.send(b"to us")
        heard.until(lambda: bool(heard.heard))
        assert heard.heard == [b"to us"]
        said = Wire(raw, End(b"PUSH", curve.Client(CLIENT, SERVER.public) if secure else None, BYTES_MAX))
        said.until(lambda: said.end.ready)
        raw.sendall(said.end.message(b"to libzmq"))
        assert pull.recv() == b"to libzmq"
        heard.raw.close()
    push.close()
    pull.close()


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "CURVE"])
def test_heartbeats_are_answered_both_ways(context: zmq.Context[zmq.Socket[bytes]], secure: bool) -> None:
    """libzmq cuts off who does not answer its own; it answers ours."""
    dealer = libzmq(context, zmq.DEALER)
    dealer.heartbeat_ivl, dealer.heartbeat_timeout = 20, 1000
    if secure:
        dealer.curve_serverkey, dealer.curve_publickey, dealer.curve_secretkey = SERVER.public, *CLIENT
    monitor = dealer.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dealer.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        wire = Wire(accepted(listener), End(b"ROUTER", curve.Server(SERVER) if secure else None, BYTES_MAX))
        wire.until(lambda: wire.end.ready)
        pongs = 0
        over = time.monotonic() + 1.5  # longer than libzmq waits for an answer
        wire.raw.sendall(wire.end.ping())
        while time.monotonic() < over:  # a turn for each word of libzmq's, which come every 20 ms
            assert wire.end.feed(wire.raw.recv(1 << 16)) == []
            answer = wire.end.answer()
            pongs += bool(answer)
            wire.raw.sendall(answer)
        assert pongs
        assert not monitor.poll(0)
        dealer.send(b"still here")
        wire.until(lambda: bool(wire.heard))
        wire.raw.close()
    dealer.disable_monitor()
    monitor.close()
    dealer.close()


def test_libzmq_understands_that_it_is_refused(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    dealer = libzmq(context, zmq.DEALER)
    dealer.curve_serverkey, dealer.curve_publickey, dealer.curve_secretkey = SERVER.public, *OTHER
    monitor = dealer.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dealer.connect(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        end = End(b"ROUTER", curve.Server(SERVER, frozenset({CLIENT.public})), BYTES_MAX)
        wire = Wire(accepted(listener), end)
        with pytest.raises(NotZmtp):
            wire.until(lambda: end.ready)
        wire.raw.close()
        assert monitor.poll(WAIT_S * 1000)
        event = monitor.recv_multipart()[0]
        assert int.from_bytes(event[2:6], "little") == 400
    dealer.disable_monitor()
    monitor.close()
    dealer.close()


def test_libzmq_lets_nobody_in_that_took_it_for_another(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    router = libzmq(context, zmq.ROUTER)
    router.curve_server, router.curve_publickey, router.curve_secretkey = True, *SERVER
    port = router.bind_to_random_port("tcp://127.0.0.1")
    with socket.create_connection(("127.0.0.1", port)) as raw:
        wire = Wire(raw, End(b"DEALER", curve.Client(CLIENT, OTHER.public), BYTES_MAX))
        with pytest.raises((EOFError, ConnectionError)):
            wire.until(lambda: wire.end.ready)
    router.close()


def test_the_heads_of_messages_are_libzmqs() -> None:
    assert zmtp.head(255) == b"\0\xff"
    assert zmtp.head(256) == b"\2" + (256).to_bytes(8, "big")
