"""The mail between processes, over real sockets: with each other, and with libzmq at the other end."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
import zmq

from zkv import zmtp
from zkv.courier import Courier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 10
MESSAGES = [bytes([n % 251]) * size for n, size in enumerate((0, 1, 255, 256, 300, 70_000, 1_000_000, 3))]


class Letter(NamedTuple):
    text: bytes


def opened(message: bytes) -> Letter:
    return Letter(message)


@pytest.fixture
def rundir() -> Iterator[str]:
    """A short path: a Unix socket's has 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="zkv-") as path:
        yield path


def turn(courier: Courier) -> list[bytes]:
    """Let out what waits, and take what has come."""
    courier.flush()
    found = []
    for fd, _ in courier.polls.poll(0.01):
        mail = courier.hear(fd)
        assert mail is not None
        found += [letter.text for letter in mail if isinstance(letter, Letter)]
    return found


def until(done: Callable[[], object], *couriers: Courier) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not done():
        for courier in couriers:
            turn(courier)
        assert time.monotonic() < give_up_at


def taken(courier: Courier, count: int, *others: Courier) -> list[bytes]:
    found: list[bytes] = []
    give_up_at = time.monotonic() + PATIENCE_S
    while len(found) < count:
        found += turn(courier)
        for other in others:
            turn(other)
        assert time.monotonic() < give_up_at, f"{len(found)} of {count} came"
    return found


def test_mail_comes_in_order_and_whole_also_what_was_put_before_anybody_listened(rundir: str) -> None:
    a = Courier(rundir, "a", opened)
    a.connect("b", 1000)
    for message in MESSAGES * 5:
        assert a.put("b", message)
    turn(a)
    b = Courier(rundir, "b", opened)
    assert taken(b, len(MESSAGES) * 5, a) == MESSAGES * 5
    a.close()
    b.close()


def test_whatever_speaks_zeromq_may_push_here(rundir: str) -> None:
    b = Courier(rundir, "b", opened)
    with zmq.Context() as context, context.socket(zmq.PUSH) as push:
        push.linger = 0
        push.heartbeat_ivl = 20
        push.connect(f"ipc://{rundir}/b.sock")
        for message in MESSAGES:
            push.send(message)
        assert taken(b, len(MESSAGES)) == MESSAGES
    b.close()


def test_whatever_speaks_zeromq_may_pull_from_here(rundir: str) -> None:
    a = Courier(rundir, "a", opened)
    a.connect("b", 1000)
    with zmq.Context() as context, context.socket(zmq.PULL) as pull:
        pull.bind(f"ipc://{rundir}/b.sock")
        pull.rcvtimeo = 10
        for message in MESSAGES:
            a.put("b", message)
        found: list[bytes] = []

        def received() -> bool:
            with contextlib.suppress(zmq.Again):
                found.append(pull.recv())
            return len(found) == len(MESSAGES)

        until(received, a)
        assert found == MESSAGES
    a.close()


def test_the_queue_has_an_end_and_a_reader_that_wakes_up_gets_all_of_it(rundir: str) -> None:
    a, b = Courier(rundir, "a", opened), Courier(rundir, "b", opened)
    a.connect("b", 20)
    until(lambda: not a.is_down, a, b)
    big = bytes(100_000)
    put = 0
    while a.put("b", big):
        turn(a)
        put += 1
        assert put < 1000
    assert taken(b, put, a) == [big] * put
    assert a.put("b", b"again")
    assert taken(b, 1, a) == [b"again"]
    a.close()
    b.close()


def test_a_neighbour_that_comes_back_is_found_again(rundir: str) -> None:
    a, b = Courier(rundir, "a", opened), Courier(rundir, "b", opened)
    a.connect("b", 1000)
    a.put("b", b"first")
    assert taken(b, 1, a) == [b"first"]
    b.close()
    until(lambda: a.is_down, a)
    assert a.put("b", b"while it was away")
    b = Courier(rundir, "b", opened)
    assert taken(b, 1, a) == [b"while it was away"]
    a.close()
    b.close()


def test_a_stranger_that_speaks_another_language_is_hung_up_on(rundir: str) -> None:
    a, b = Courier(rundir, "a", opened), Courier(rundir, "b", opened)
    a.connect("b", 1000)
    for words in (b"GET / HTTP/1.1\r\n" + bytes(100), zmtp.hello(b"PUSH") + b"\1\1x", os.urandom(5000)):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stranger:
            stranger.connect(f"{rundir}/b.sock")
            stranger.settimeout(0.01)
            stranger.sendall(words)

            def hung_up(stranger: socket.socket = stranger) -> bool:
                try:
                    return not stranger.recv(1000)
                except TimeoutError:
                    return False
                except ConnectionResetError:
                    return True

            until(hung_up, b)
    a.put("b", b"x")
    assert taken(b, 1, a) == [b"x"]
    a.close()
    b.close()


def test_who_is_no_neighbour_s_descriptor_is_told(rundir: str) -> None:
    a = Courier(rundir, "a", opened)
    with socket.socket() as other:
        assert a.hear(other.fileno()) is None
    a.close()
