"""Both ends of a connection over a socket pair, in one thread; and what a slow or rude other end can make of it."""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest

from zkv import curve
from zkv.connection import READ_BYTES, Connection
from zkv.curve_keys import new_keys
from zkv.zmtp import End

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 10
MESSAGE_BYTES_MAX = 4 << 20
MESSAGES = [bytes([n % 251]) * size for n, size in enumerate((0, 1, 255, 256, 300, 70_000, 1_000_000, 3))]


class Counted(socket.socket):
    """A stream that counts how often the kernel is asked to send."""

    sends = 0

    def send(self, data: Any, flags: int = 0, /) -> int:
        self.sends += 1
        return super().send(data, flags)


class Pair:
    """`here` and `there`, each a connection; `there` may be played by hand instead, on `raw`."""

    def __init__(self, *, secure: bool = False, messages_max: int = 1000, bytes_max: int = 1 << 30) -> None:
        self.polls = select.epoll()
        self.room = memoryview(bytearray(READ_BYTES))
        ours, self.raw = socket.socketpair()
        self.stream = Counted(fileno=ours.detach())
        self.keys = new_keys()
        server = curve.Server(self.keys, None) if secure else None
        self.here = Connection(
            self.stream,
            End(b"ROUTER", server, MESSAGE_BYTES_MAX),
            self.polls,
            self.room,
            messages_max=messages_max,
            bytes_max=bytes_max,
        )
        self.there: Connection | None = None
        self.heard: dict[Connection, list[bytes | None]] = {self.here: []}

    def join(self) -> Connection:
        client = curve.Client(new_keys(), self.keys.public) if self.here._end._mechanism == b"CURVE" else None
        end = End(b"DEALER", client, MESSAGE_BYTES_MAX)
        there = Connection(self.raw, end, self.polls, self.room, messages_max=1000, bytes_max=1 << 30)
        self.there = there
        self.heard[there] = []
        self.until(lambda: self.here.ready and there.ready)
        return there

    def turn(self) -> None:
        for fd, _ in self.polls.poll(0.01):
            for connection, heard in self.heard.items():
                if connection.fd == fd and not connection.lost:
                    heard.extend(connection.hear())

    def until(self, done: Callable[[], object]) -> None:
        give_up_at = time.monotonic() + PATIENCE_S
        while not done():
            self.turn()
            assert time.monotonic() < give_up_at

    def close(self) -> None:
        self.here.close()
        if self.there is not None:
            self.there.close()
        self.raw.close()
        self.polls.close()


@pytest.fixture
def made() -> Iterator[list[Pair]]:
    pairs: list[Pair] = []
    yield pairs
    for pair in pairs:
        pair.close()


@pytest.mark.parametrize("secure", [False, True])
def test_messages_come_in_order_and_whole(made: list[Pair], secure: bool) -> None:
    made.append(pair := Pair(secure=secure))
    there = pair.join()
    for message in MESSAGES * 3:
        assert there.put(message)
        assert pair.here.put(message)
    pair.here.flush()
    there.flush()
    pair.until(lambda: all(len(heard) == len(MESSAGES) * 3 for heard in pair.heard.values()))
    assert all(heard == MESSAGES * 3 for heard in pair.heard.values())
    assert not pair.here.waits


def test_what_is_put_in_a_turn_leaves_in_one_call(made: list[Pair]) -> None:
    made.append(pair := Pair())
    there = pair.join()
    pair.stream.sends = 0
    for _ in range(300):
        assert pair.here.put(b"x" * 100)
    assert pair.stream.sends == 0
    pair.here.flush()
    assert pair.stream.sends == 1
    pair.until(lambda: len(pair.heard[there]) == 300)
    assert pair.stream.sends == 1, "who has nothing to send does not ask the kernel"


@pytest.mark.parametrize(("messages_max", "bytes_max"), [(40, 1 << 30), (100_000, 3_000_000)])
def test_the_queue_has_an_end_and_a_reader_that_wakes_up_gets_all_of_it(
    made: list[Pair], messages_max: int, bytes_max: int
) -> None:
    """Both in messages and in bytes; and who waits for the reader does not ask the kernel again and again."""
    made.append(pair := Pair(messages_max=messages_max, bytes_max=bytes_max))
    there = pair.join()
    big = bytes(100_000)
    put = 0
    while pair.here.put(big):
        pair.here.flush()
        put += 1
        assert put < 1000
    pair.stream.sends = 0
    for _ in range(10):
        assert not pair.here.put(big)
        pair.here.flush()
    assert pair.stream.sends == 0
    assert pair.here.waits
    pair.until(lambda: len(pair.heard[there]) == put)
    assert pair.here.put(b"again")
    pair.here.flush()
    pair.until(lambda: len(pair.heard[there]) > put)
    assert pair.heard[there] == [big] * put + [b"again"]


def test_one_message_is_taken_whatever_its_size_where_none_waits(made: list[Pair]) -> None:
    made.append(pair := Pair(bytes_max=1000))
    there = pair.join()
    big = bytes(3_000_000)
    assert pair.here.put(big)
    pair.until(lambda: pair.heard[there] == [big])


def test_who_asks_for_more_than_it_reads_gets_no_more(made: list[Pair]) -> None:
    """A flood of PINGs whose answers nobody takes costs no memory, and no connection but its own."""
    made.append(pair := Pair(messages_max=100))
    there = pair.join()
    ping = there._end.ping() * 1000
    there._polls.unregister(there.fd)
    for _ in range(3_000):
        try:
            pair.raw.send(ping)
        except BlockingIOError:
            pair.turn()
    assert pair.here._waiting_bytes < 10_000
    there._polls.register(there.fd, select.EPOLLIN)
    pair.here.put(b"still here")
    pair.until(lambda: pair.heard[there] == [b"still here"])


def test_nothing_is_put_before_the_handshake_is_over_nor_after_the_end(made: list[Pair]) -> None:
    made.append(pair := Pair())
    assert not pair.here.put(b"x")
    there = pair.join()
    assert pair.here.put(b"x")
    there.close()
    pair.until(lambda: pair.here.lost)
    assert pair.here.lost == "closed by the other end"
    assert not pair.here.put(b"x")
    pair.here.flush()
    pair.here.ping()
    assert pair.here.hear() == []
    pair.here.close()
    assert pair.here.lost == "closed by the other end"


def test_who_speaks_another_language_is_hung_up_on(made: list[Pair]) -> None:
    made.append(pair := Pair())
    pair.raw.sendall(b"GET / HTTP/1.1\r\n" + bytes(100))
    pair.until(lambda: pair.here.lost)
    assert "ZMTP" in pair.here.lost


def test_who_is_pinged_has_spoken(made: list[Pair]) -> None:
    made.append(pair := Pair(secure=True))
    there = pair.join()
    pair.here.has_spoken = False
    pair.here.ping()
    pair.until(lambda: pair.here.has_spoken)
    assert pair.heard == {pair.here: [], there: []}
