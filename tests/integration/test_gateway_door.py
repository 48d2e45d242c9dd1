"""The native door on real sockets: its clients, whoever else knocks, and the two neighbours, played by the test."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import threading
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from tests.harness import hostile
from tests.harness.libzmq import secure_client
from zkv import errors, identity, mailbox
from zkv.actors.node import Node
from zkv.config import NodeConfig
from zkv.errors import Code
from zkv.gateway import native
from zkv.gateway.doors import MESSAGE_OVERHEAD_BYTES
from zkv.testing import free_ports
from zkv.wire import codec
from zkv.wire import messages as m
from zkv.wire.messages import ClientKind, Op

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST_BYTES_MAX = 100_000
INCARNATION = 7
PATIENCE_MS = 20_000


class House:
    """A gateway in a thread, started and driven as in its process, with raft and storage played by `serve`."""

    def __init__(self, rundir: str, keys: dict[str, str], allowed: str) -> None:
        self.port, self.curve_port = free_ports(2)
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.inboxes = [self._inbox(rundir, name) for name in ("raft", "storage")]
        self.clients: list[zmq.Socket[bytes]] = []
        config = NodeConfig(
            listen_client_urls=(f"tcp://127.0.0.1:{self.port}", f"curve://127.0.0.1:{self.curve_port}"),
            curve_secret_key=keys["server"],
            curve_allow_dir=allowed,
            max_request_bytes=REQUEST_BYTES_MAX,
        )
        node = Node(config, config.limits(), 1, 2, (), "", "", rundir)
        self.gateway, self.box = native.start(node, INCARNATION)
        self.to_gateway = self.context.socket(zmq.PUSH)
        self.to_gateway.linger = 0
        self.to_gateway.connect(f"ipc://{rundir}/gateway.sock")
        self.ours, self.theirs = socket.socketpair()
        self.control = mailbox.Control(self.theirs)
        self.box.watch_control(self.control)
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _inbox(self, rundir: str, name: str) -> zmq.Socket[bytes]:
        inbox = self.context.socket(zmq.PULL)
        inbox.bind(f"ipc://{rundir}/{name}.sock")
        return inbox

    def _run(self) -> None:
        mailbox._loop(self.gateway, self.box, self.control)
        self.box.close()

    def client(self, keys: tuple[str, str] | None = None) -> zmq.Socket[bytes]:
        """`keys`: paths of the server's public and the client's secret key, for the CURVE door."""
        client = self.context.socket(zmq.DEALER)
        client.linger = 0
        client.rcvtimeo = client.sndtimeo = PATIENCE_MS
        if keys:
            secure_client(client, identity.load_public(keys[0]), identity.load_secret(keys[1]))
        client.connect(f"tcp://127.0.0.1:{self.curve_port if keys else self.port}")
        self.clients.append(client)
        return client

    def serve(self, *, until: zmq.Socket[bytes]) -> m.Answers:
        """Answer all that comes to raft and storage, until something comes to this client."""
        poller = zmq.Poller()
        for each in (*self.inboxes, until):
            poller.register(each, zmq.POLLIN)
        while True:
            ready = dict(poller.poll(PATIENCE_MS))
            assert ready, "no answer"
            for inbox in self.inboxes:
                if inbox in ready:
                    self.answer(codec.decode(inbox.recv()))
            if until in ready:
                return m.Answers(*codec.unpack(until.recv()))

    def answer(self, mail: Any) -> None:
        if isinstance(mail, m.Hello):
            assert mail == ("gateway", INCARNATION)
        elif not isinstance(mail, m.StreamCredit | m.Slow):  # a busy machine is slow enough for a word of it
            frame = codec.decode_frame(mail.frames[0] if isinstance(mail, m.StampedRead) else mail.frame)
            answers = tuple((gid, self.packed(group), True) for gid, group in frame.groups)
            self.to_gateway.send(codec.encode(m.GatewayAnswers(INCARNATION, answers)))

    @staticmethod
    def packed(group: bytes, code: int = Code.OK) -> bytes:
        answers = tuple((request[0], int(code), 5, ()) for request in codec.unpack(group)[4])
        return codec.pack(m.Answers(m.PROTOCOL_VERSION, 2, 1, 3, answers))

    def put(self, client: zmq.Socket[bytes], value: bytes = b"v") -> list[tuple[int, int]]:
        """Put something, and see what is answered: (id, code) each."""
        client.send(codec.pack((m.PROTOCOL_VERSION, ClientKind.REQUESTS, b"", 0, ((9, Op.PUT, (b"k", value)),))))
        while not (answers := self.serve(until=client).answers):
            pass  # a ping's
        return [(answer[0], answer[1]) for answer in answers]

    def close(self) -> None:
        self.ours.sendall(b"stop\n")
        self.thread.join()
        for each in (*self.clients, *self.inboxes, self.to_gateway):
            each.close()
        self.context.term()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    return {name: identity.write_keys(str(tmp_path / "keys"), name)[1] for name in ("server", "alice", "mallory")}


@pytest.fixture
def house(temporary_directory: Path, tmp_path: Path, keys: dict[str, str]) -> Iterator[House]:
    rundir = temporary_directory / f"door-{os.urandom(4).hex()}"
    rundir.mkdir()
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (allowed / "alice.key").write_bytes(Path(keys["alice"]).with_suffix(".key").read_bytes())
    house = House(str(rundir), keys, str(allowed))
    yield house
    house.close()
    shutil.rmtree(rundir)


def test_a_request_goes_in_and_its_answer_comes_out(house: House, keys: dict[str, str]) -> None:
    """At both doors, which do not confuse their clients."""
    plain, curve = house.client(), house.client((keys["server"], keys["alice"]))
    assert house.put(plain) == [(9, Code.OK)]
    assert house.put(curve) == [(9, Code.OK)]
    plain.send(codec.pack((m.PROTOCOL_VERSION, ClientKind.PING, 5)))
    assert house.serve(until=plain) == m.Answers(m.PROTOCOL_VERSION, 2, 1, 0, (), 5)


def test_strangers_do_not_get_in_by_curve(house: House, keys: dict[str, str]) -> None:
    """Who is not on the allow list gets no byte in; who is, gets in beside them."""
    stranger = house.client((keys["server"], keys["mallory"]))
    monitor = stranger.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_SUCCEEDED)
    monitor.rcvtimeo = PATIENCE_MS
    stranger.send(codec.pack((m.PROTOCOL_VERSION, ClientKind.PING, 5)))
    event = struct.unpack("=HI", monitor.recv_multipart()[0])
    assert event == (zmq.EVENT_HANDSHAKE_FAILED_AUTH, 400)
    stranger.disable_monitor()
    monitor.close()
    assert house.put(house.client((keys["server"], keys["alice"]))) == [(9, Code.OK)]


GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)
READY = b"\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


def shake_hands(guest: socket.socket) -> None:
    """Be a ZMTP 3.1 client by hand. (Who sends more before the other side is ready is cut off.)"""
    guest.sendall(GREETING + READY)
    heard = b""
    while b"\x06ROUTER" not in heard:
        part = guest.recv(4096)
        assert part, "the connection was cut"
        heard += part


def test_a_client_made_by_hand_is_served(house: House) -> None:
    """The handshake that the knocks below are made from is a good one."""
    ping = codec.pack((m.PROTOCOL_VERSION, ClientKind.PING, 0x7EADBEEF))
    with socket.create_connection(("127.0.0.1", house.port), PATIENCE_MS / 1000) as guest:
        shake_hands(guest)
        guest.sendall(bytes([0, len(ping)]) + ping)
        heard = b""
        while b"\x7e\xad\xbe\xef" not in heard:
            part = guest.recv(4096)
            assert part, "the connection was cut"
            heard += part


STRANGERS = {
    "nothing": b"",
    "http": b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(60),
    "tls": bytes.fromhex("160301020001000001fc0303") + bytes(500),
    "noise": bytes(range(256)) * 40,
    "half a greeting": GREETING[:30],
    "a greeting alone": GREETING,
    "an unknown mechanism": GREETING.replace(b"NULL", b"EVIL"),
    "another mechanism": GREETING.replace(b"NULL\0", b"CURVE"),
    "ZMTP 1.0": b"\x01\x00" + b"\x05\x00junk",
    "ZMTP 2.0": b"\xff" + bytes(8) + b"\x7f\x01\x05\x00\x00" + b"\x00\x04junk",
    "a broken command": GREETING + b"\x04\xff" + bytes(10),
    "an endless command": GREETING + b"\x06" + b"\x7f" + b"\xff" * 7 + bytes(1000),
    "junk for READY": GREETING + b"\x04\x05\x04JUNK",
    "READY with broken properties": GREETING + b"\x04\x0a\x05READY\xff\xff\xff\xff",
    "READY of a SUB": GREETING + b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB",
    "READY and more at once": GREETING + READY + b"\x00\x04junk",
}


@pytest.mark.parametrize("name", STRANGERS)
def test_whoever_knocks_the_door_goes_on_serving(house: House, keys: dict[str, str], name: str) -> None:
    """Whole, in pieces, left open or closed halfway: at neither door does it disturb a client."""
    before, curve = house.client(), house.client((keys["server"], keys["alice"]))
    assert house.put(before) == [(9, Code.OK)]
    knocking = STRANGERS[name]
    with contextlib.ExitStack() as stack:
        for port in (house.port, house.curve_port):
            for pieces in ([knocking], [knocking[:11], knocking[11:]]):
                guest = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
                with contextlib.suppress(ConnectionError):
                    for piece in pieces:
                        guest.sendall(piece)
            hasty = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            with contextlib.suppress(ConnectionError):
                hasty.sendall(knocking)
            reset(hasty)
        assert house.put(before) == [(9, Code.OK)]
        assert house.put(curve) == [(9, Code.OK)]
        assert house.put(house.client()) == [(9, Code.OK)]


def reset(guest: socket.socket) -> None:
    guest.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    guest.close()


BEYOND = REQUEST_BYTES_MAX + MESSAGE_OVERHEAD_BYTES + 1
GUESTS = {
    "an endless frame": (b"\x02" + b"\x7f" + b"\xff" * 7 + bytes(1000), True),
    "a frame beyond the limit": (b"\x02" + struct.pack(">Q", BEYOND) + bytes(5000), True),
    "a frame cut short": (b"\x00\xff" + b"cut", False),
    "reserved flags": (b"\xf8\x04junk", False),
    "a message without end": (b"\x01\x04junk" * 5000, False),
    "a large message of many frames": ((b"\x03" + struct.pack(">Q", 60_000) + bytes(60_000)) * 40, False),
    "a broken ping": (b"\x04\x05\x04PING", False),
    "an unknown command": (b"\x04\x05\x04EVIL", False),
    "an empty frame": (b"\x00\x00", False),
    "a frame of junk": (b"\x00\x04junk", False),
}


@pytest.mark.parametrize("name", GUESTS)
def test_who_got_in_can_do_no_harm(house: House, name: str) -> None:
    """Frames that no ZeroMQ library would send, after a good handshake."""
    before = house.client()
    assert house.put(before) == [(9, Code.OK)]
    frames, is_cut = GUESTS[name]
    with contextlib.ExitStack() as stack:
        for leave in (False, True):
            guest = stack.enter_context(socket.create_connection(("127.0.0.1", house.port), PATIENCE_MS / 1000))
            shake_hands(guest)
            with contextlib.suppress(ConnectionError):
                guest.sendall(frames)
                while is_cut and guest.recv(4096):
                    pass
            if leave:
                reset(guest)
        assert house.put(before) == [(9, Code.OK)]
        assert house.put(house.client()) == [(9, Code.OK)]


def test_a_flood_of_half_open_connections(house: House) -> None:
    """Three hundred guests that say nothing, or half a greeting, do not keep a client out."""
    with contextlib.ExitStack() as stack:
        for number in range(300):
            guest = stack.enter_context(socket.create_connection(("127.0.0.1", house.port)))
            guest.sendall(GREETING[: number % 40])
        assert house.put(house.client()) == [(9, Code.OK)]


def test_too_large_a_message(house: House) -> None:
    """A little too large is told so; far too large costs the connection, and nobody else's."""
    client, other = house.client(), house.client()
    assert house.put(client, bytes(REQUEST_BYTES_MAX)) == [(9, errors.RequestTooLarge.code)]
    assert house.put(client) == [(9, Code.OK)]
    monitor = client.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    monitor.rcvtimeo = PATIENCE_MS
    client.send(bytes(REQUEST_BYTES_MAX + MESSAGE_OVERHEAD_BYTES + 1))
    monitor.recv_multipart()
    client.disable_monitor()
    monitor.close()
    assert house.put(other) == [(9, Code.OK)]


@pytest.mark.parametrize("seed", range(4))
def test_mutated_messages_on_a_socket(house: House, seed: int) -> None:
    """Thousands of them, some of several frames, in one go: all are answered or passed over, none does harm."""
    chance = Random(seed)
    attacker, client = house.client(), house.client()
    for number in range(1500):
        valid = hostile.requests(chance, 1) if chance.random() < 0.8 else hostile.word(chance, 9)
        frames = [hostile.mutated(chance, valid) for _ in range(chance.choice((1, 1, 1, 1, 2, 3)))]
        attacker.send_multipart(frames)
        if number % 100 == 0:
            assert house.put(client) == [(9, Code.OK)]
    token = 1 << 40  # no mutation has it: all before it has been taken in when it is answered
    attacker.send(codec.pack((m.PROTOCOL_VERSION, ClientKind.PING, token)))
    while house.serve(until=attacker).token != token:
        pass
    assert house.put(client) == [(9, Code.OK)]
    assert house.gateway.counts["InvalidRequest"] > 100


def test_a_stream_ends_with_its_client(house: House) -> None:
    """The first chunk that cannot be delivered makes the gateway tell storage to stop."""
    client, other = house.client(), house.client()
    scan = (3, Op.RANGE, (b"a", b"z", 0, 0, 0, 0, True))
    client.send(codec.pack((m.PROTOCOL_VERSION, ClientKind.REQUESTS, b"", 0, (scan,))))
    storage = house.inboxes[1]
    storage.rcvtimeo = PATIENCE_MS
    while not isinstance(mail := codec.decode(storage.recv()), m.StampedRead):
        pass  # the gateway's Hello
    ((gid, group),) = codec.decode_frame(mail.frames[0]).groups
    chunk = codec.encode(m.GatewayAnswers(INCARNATION, ((gid, house.packed(group, Code.CHUNK), False),)))
    house.to_gateway.send(chunk)
    assert house.serve(until=client).answers == ((3, Code.CHUNK, 5, ()),)
    client.close()
    while house.gateway.in_flight[0]:  # until the gateway's socket has noticed
        house.to_gateway.send(chunk)
        assert house.put(other) == [(9, Code.OK)]
    assert house.gateway.counts["answers dropped"] == 1


def test_the_gateway_leaves_when_told_to(house: House) -> None:
    """Once nothing is in flight; its sockets are free again."""
    assert house.put(house.client()) == [(9, Code.OK)]
    house.ours.sendall(b"stop\n")
    house.thread.join(PATIENCE_MS / 1000)
    assert house.gateway.finished
    with socket.create_server(("127.0.0.1", house.port)):
        pass
