"""A door on real sockets: libzmq's clients come in by it, and strangers of every kind do not."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from tests.harness.libzmq import secure_client
from zkv import curve, zmtp
from zkv.curve_keys import KeyPair, new_keys
from zkv.door import (
    ACCEPTED_A_TURN,
    HANDSHAKES_MAX,
    LOOKED_AFTER_MS,
    MESSAGES_OF_ONE,
    SHARE_BYTES,
    SILENT_ROUNDS_MAX,
    STEPS_A_TURN,
    Door,
)  # fmt: skip
from zkv.testing import free_ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE_S = 20
MESSAGE_BYTES_MAX = 2 << 20
SERVER, ALICE, MALLORY = new_keys(), new_keys(), new_keys()


class House:
    """A door, driven by the test, and who knocks there."""

    def __init__(
        self, kind: bytes = b"ROUTER", host: str = "127.0.0.1", *, secure: bool = False, **options: Any
    ) -> None:
        self.polls = select.epoll()
        security = curve.Server(SERVER, {ALICE.public}) if secure else None
        options = {"message_bytes_max": MESSAGE_BYTES_MAX, "messages_max": 1000, "bytes_max": 1 << 30, **options}
        self.door = Door(kind, security, self.polls, **options)
        self.host = host
        (self.port,) = free_ports(1)
        self.door.listen(host, self.port)
        self.heard: list[tuple[bytes, bytes | None]] = []
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.stack = contextlib.ExitStack()

    def turn(self, timeout_s: float = 0.01) -> list[tuple[bytes, bytes | None]]:
        """As a mailbox does, but for `tend`."""
        self.door.flush()
        found = []
        for fd, _ in self.polls.poll(timeout_s):
            assert fd in self.door
            found += self.door.hear(fd)
        self.heard += found
        return found

    def until(self, done: Callable[[], object]) -> None:
        give_up_at = time.monotonic() + PATIENCE_S
        while not done():
            self.turn()
            assert time.monotonic() < give_up_at

    def guest(self, kind: int = zmq.DEALER, keys: KeyPair | None = None) -> zmq.Socket[bytes]:
        """One of libzmq's sockets, connected."""
        guest = self.stack.enter_context(self.context.socket(kind))
        guest.linger, guest.rcvtimeo, guest.ipv6 = 0, 10, True
        if keys is not None:
            secure_client(guest, SERVER.public, keys)
        guest.connect(f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}")
        return guest

    def received(self, guest: zmq.Socket[bytes], count: int = 1) -> list[list[bytes]]:
        found: list[list[bytes]] = []

        def came() -> bool:
            with contextlib.suppress(zmq.Again):
                found.append(guest.recv_multipart())
            return len(found) == count

        self.until(came)
        return found

    def knock(self, words: bytes = b"") -> socket.socket:
        """A stranger, made by hand."""
        stranger = self.stack.enter_context(socket.create_connection((self.host, self.port)))
        stranger.sendall(words)
        stranger.settimeout(0.01)
        return stranger

    def cuts_off(self, stranger: socket.socket) -> bytes:
        """What is said to it until it is hung up on."""
        said = b""

        def is_cut_off() -> bool:
            nonlocal said
            try:
                part = stranger.recv(65536)
            except TimeoutError:
                return False
            except ConnectionResetError:
                return True
            said += part
            return not part

        self.until(is_cut_off)
        return said

    def close(self) -> None:
        self.stack.close()
        self.context.destroy(linger=0)
        self.door.close(0)
        self.polls.close()


@pytest.fixture
def opened() -> Iterator[Callable[..., House]]:
    houses: list[House] = []

    def open_(*args: Any, **options: Any) -> House:
        houses.append(house := House(*args, **options))
        return house

    yield open_
    for house in houses:
        house.close()


HELLO = zmtp.hello(b"DEALER")


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("secure", [False, True])
def test_libzmq_comes_in_and_is_answered(opened: Callable[..., House], host: str, secure: bool) -> None:
    house = opened(host=host, secure=secure)
    guest = house.guest(keys=ALICE if secure else None)
    sizes = (0, 1, 255, 256, 70_000, MESSAGE_BYTES_MAX)
    for size in sizes:
        guest.send(bytes(size))
    house.until(lambda: len(house.heard) == len(sizes))
    (connection,) = {connection for connection, _ in house.heard}
    assert [message for _, message in house.heard] == [bytes(size) for size in sizes]
    assert house.door.key_of(connection) == (ALICE.public if secure else b"")
    assert house.door.address_of(connection).startswith(f"{host}:")
    for size in sizes:
        assert house.door.send(connection, bytes(size))
    assert house.received(guest, len(sizes)) == [[bytes(size)] for size in sizes]


def test_a_host_of_both_kinds_tells_addresses_as_they_are(opened: Callable[..., House]) -> None:
    house = opened(host="::")
    guest = house.guest()
    guest.disconnect(f"tcp://[::]:{house.port}")
    guest.connect(f"tcp://127.0.0.1:{house.port}")
    guest.send(b"x")
    house.until(lambda: house.heard)
    assert house.door.address_of(house.heard[0][0]).startswith("127.0.0.1:")


def test_a_port_that_is_taken_is_refused(opened: Callable[..., House]) -> None:
    house = opened()
    with pytest.raises(OSError, match="Address already in use"):
        house.door.listen("127.0.0.1", house.port)


def test_pushers_come_in_where_mail_is_pulled(opened: Callable[..., House]) -> None:
    """And nobody else does."""
    house = opened(b"PULL", secure=True)
    guest = house.guest(zmq.PUSH, ALICE)
    guest.send(b"x")
    house.until(lambda: [message for _, message in house.heard] == [b"x"])
    other = house.guest(zmq.DEALER, ALICE)
    other.send(b"y")
    guest.send(b"z")
    house.until(lambda: [message for _, message in house.heard] == [b"x", b"z"])


def test_who_is_not_on_the_list_is_told_so(opened: Callable[..., House]) -> None:
    house = opened(secure=True)
    stranger = house.guest(keys=MALLORY)
    monitor = stranger.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
    monitor.rcvtimeo = 10
    stranger.send(b"let me in")
    assert int.from_bytes(house.received(monitor)[0][0][2:], "little") == 400
    stranger.disable_monitor()
    monitor.close()
    assert house.heard == []


def test_several_frames_are_no_message(opened: Callable[..., House]) -> None:
    house = opened()
    guest = house.guest()
    guest.send_multipart([b"a", b"b", bytes(100_000)])
    guest.send(b"c")
    house.until(lambda: len(house.heard) == 2)
    assert [message for _, message in house.heard] == [None, b"c"]


def test_who_comes_again_is_another_connection(opened: Callable[..., House]) -> None:
    """Of the one that is gone the owner is told, and what is known of it is until he has been."""
    house = opened(secure=True)
    first = house.guest(keys=ALICE)
    first.send(b"1")
    house.until(lambda: house.heard)
    gone = house.heard[0][0]
    first.close()
    house.until(lambda: house.door.gone)
    assert not house.door.send(gone, b"nobody is there")
    assert house.door.key_of(gone) == ALICE.public
    assert house.door.take_gone() == [gone]
    assert house.door.key_of(gone) == b""
    house.guest(keys=ALICE).send(b"2")
    house.until(lambda: len(house.heard) == 2)
    assert house.heard[1][0] != gone
    assert house.door.gone == []


def test_a_slow_reader_costs_its_own_answers(opened: Callable[..., House]) -> None:
    house = opened(bytes_max=5_000_000)
    slow, quick = house.knock(HELLO), house.guest()
    quick.send(b"quick")
    slow.sendall(b"\0\4slow")
    house.until(lambda: len(house.heard) == 2)
    who = {message: connection for connection, message in house.heard}
    taken = sum(house.door.send(who[b"slow"], bytes(100_000)) for _ in range(1000))
    assert 40 < taken < 200
    house.turn()
    assert house.door.send(who[b"quick"], b"answer")
    assert house.received(quick) == [[b"answer"]]
    assert house.door.gone == []


# --- strangers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [b"", HELLO[:10], HELLO[:64], HELLO[:70]])
def test_who_does_not_finish_its_greeting_is_cut_off_in_time(opened: Callable[..., House], words: bytes) -> None:
    house = opened()
    stranger = house.knock(words)
    house.until(lambda: house.door.due)
    due = house.door.due
    assert due is not None
    house.door.tend(due - 1)
    house.turn()
    assert house.door.due == due
    house.door.tend(due)
    house.cuts_off(stranger)
    assert house.door.gone == [], "it had not come in"


def test_who_says_too_much_is_cut_off(opened: Callable[..., House]) -> None:
    """A frame without measure, a command without measure before the handshake is over, something else altogether."""
    house = opened()
    endless = b"\x02" + (MESSAGE_BYTES_MAX + 1).to_bytes(8, "big")
    for words in (HELLO + endless, HELLO[:64] + b"\x06" + (1 << 20).to_bytes(8, "big"), b"GET / HTTP/1.1\r\n" * 5):
        house.cuts_off(house.knock(words))
    assert len(house.door.gone) <= 1


def test_a_crowd_that_never_finishes_keeps_nobody_out(opened: Callable[..., House]) -> None:
    """The oldest of too many makes room; nobody who has come in does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        house = opened()
        inside = house.guest()
        inside.send(b"inside")
        house.until(lambda: len(house.heard) == 1)
        crowd = []
        for _ in range(HANDSHAKES_MAX + 20):
            crowd.append(house.knock(HELLO[:20]))
            house.turn(0)
        late = house.guest()
        late.send(b"late")

        def let_in() -> bool:
            if (house.door.due or 0) <= time.monotonic_ns() // 1_000_000:
                house.door.tend(time.monotonic_ns() // 1_000_000)
            return [message for _, message in house.heard] == [b"inside", b"late"]

        house.until(let_in)
        house.cuts_off(crowd[0])
        assert house.door.send(house.heard[0][0], b"x")
        assert house.received(inside) == [[b"x"]]
        house.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_flood_of_handshakes_is_taken_a_few_at_a_time(opened: Callable[..., House]) -> None:
    """And all of it, in the end."""
    house = opened()
    crowd = 3 * STEPS_A_TURN
    for _ in range(crowd):
        house.knock(HELLO + b"\0\1x")
    while house.turn(0) == []:
        pass
    most, turns = len(house.heard), 1
    while len(house.heard) < crowd:
        most = max(most, len(house.turn(0)))
        turns += 1
    assert most <= STEPS_A_TURN
    assert turns >= crowd / max(STEPS_A_TURN, ACCEPTED_A_TURN)


def test_who_waits_for_a_descriptor_comes_in_when_there_is_one(opened: Callable[..., House]) -> None:
    """A process that has no more of them does not spin over who knocks."""
    house = opened()
    strangers = [house.stack.enter_context(socket.socket()) for _ in range(3)]
    with socket.socket() as spare:
        highest = spare.fileno()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
    try:
        for stranger in strangers:
            stranger.connect((house.host, house.port))
            stranger.sendall(HELLO + b"\0\1x")
        house.until(lambda: house.door.due)
        assert house.polls.poll(0.02) == []
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    due = house.door.due
    assert due is not None
    house.door.tend(due)
    house.until(lambda: len(house.heard) == 3)


def test_who_floods_makes_no_turn_long(opened: Callable[..., House]) -> None:
    """Of the smallest messages there are only some are taken in a turn; and who sends large ones is not held up."""
    house = opened()
    house.knock(HELLO).sendall(b"\0\0" * 20_000)
    house.knock(HELLO).sendall(b"\2" + (30_000).to_bytes(8, "big") + bytes(30_000))
    turns = []
    while len(house.heard) < 20_001:
        turns.append(len(house.turn()))
    assert max(turns) <= SHARE_BYTES // 2 + 1, "before it is known for one"
    assert sorted(turns)[-4] <= 3 * MESSAGES_OF_ONE
    large = [len(message or b"") for _, message in house.heard].index(30_000)
    assert large < 5_000


# --- heartbeats --------------------------------------------------------------------------------------------------


def test_who_says_nothing_is_asked_and_let_go_in_the_end(opened: Callable[..., House]) -> None:
    """libzmq answers by itself; who is gone without a word does not."""
    house = opened()
    there, vanished = house.guest(), house.knock(HELLO)
    there.send(b"x")
    vanished.sendall(b"\0\1y")
    house.until(lambda: len(house.heard) == 2)
    who = {message: connection for connection, message in house.heard}
    asked = b""
    answers = house.door._guests[who[b"x"]]
    for _ in range(SILENT_ROUNDS_MAX + 1):
        assert house.door.gone == []
        due = house.door.due
        assert due is not None
        house.door.tend(due + LOOKED_AFTER_MS - 1)
        house.until(lambda: answers.connection.has_spoken or not answers.silent_rounds)
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            asked += vanished.recv(65536)
    assert house.door.gone == [who[b"y"]]
    assert asked.count(b"\4PING") == SILENT_ROUNDS_MAX - 1
    assert house.door.send(who[b"x"], b"still here")
    assert house.received(there) == [[b"still here"]]


# --- the end -----------------------------------------------------------------------------------------------------


def test_what_was_sent_before_the_end_has_its_time_to_leave(opened: Callable[..., House]) -> None:
    house = opened()
    guest = house.guest()
    guest.rcvtimeo = PATIENCE_S * 1000
    guest.send(b"x")
    house.until(lambda: house.heard)
    for _ in range(50):
        assert house.door.send(house.heard[0][0], bytes(1_000_000))
    house.door.close(PATIENCE_S * 1000)
    assert [len(guest.recv()) for _ in range(50)] == [1_000_000] * 50


def test_who_does_not_read_is_waited_for_no_longer(opened: Callable[..., House]) -> None:
    house = opened()
    guest = house.knock(HELLO + b"\0\1x")
    house.until(lambda: house.heard)
    for _ in range(50):
        assert house.door.send(house.heard[0][0], bytes(1_000_000))
    house.door.close(20)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((house.host, house.port))
    assert guest.recv(10)
