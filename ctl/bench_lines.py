"""What the load generators stand on: many connections on one socket, and a rate kept.

All connections hang on one ROUTER socket, one routing id each: polling a hundred sockets would cost more than the
requests do.
"""

from __future__ import annotations

import contextlib
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Final, Self

import zmq
from zmq.backend import Socket as PlainSocket

from zkv.client.login import Login
from zkv.client.session import Session
from zkv.errors import ConnectionFailed
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zkv.client.transport import Curve

DRAIN_MESSAGES = 256
NOBLOCK: Final = int(zmq.NOBLOCK)
SNDMORE: Final = int(zmq.SNDMORE)


class Lines:
    """A context manager. Each line, named by its routing id, has a TCP stream and a CURVE handshake of its own.

    `endpoints` with their scheme; `curves` for those that are curve://. Lines are dealt round robin over them.
    """

    def __init__(self, endpoints: Sequence[str], curves: Mapping[str, Curve]) -> None:
        self._endpoints = endpoints
        self._curves = curves
        self._names: list[bytes] = []
        self._context = zmq.Context()
        self._context.max_sockets = 100_000  # libzmq counts sessions of its own among them
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.sndhwm = self._socket.rcvhwm = 0  # bounded by what the clients have outstanding
        self._poller = zmq.Poller()
        self._poller.register(self._socket, zmq.POLLIN)
        self._send = partial(PlainSocket.send, self._socket)  # zmq.Socket's own asks first for options of other sockets

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, linger_ms: int = 0) -> None:
        self._socket.close(linger=linger_ms)
        self._context.term()

    def connect(self, names: Sequence[bytes], dial_timeout: float) -> None:
        """Open lines, and wait until each has had an answer.

        Raises ConnectionFailed when one has had none within `dial_timeout` seconds.
        """
        socket = self._socket
        ping = codec.pack((m.PROTOCOL_VERSION, m.ClientKind.PING, *m.Ping(1)))
        dialled = {}
        for name in names:
            endpoint = dialled[name] = self._endpoints[len(self._names) % len(self._endpoints)]
            self._names.append(name)
            if endpoint.startswith("curve://"):
                curve = self._curves[endpoint]
                socket.curve_serverkey = curve.server
                socket.curve_publickey, socket.curve_secretkey = curve.public, curve.secret
            socket.setsockopt(zmq.CONNECT_ROUTING_ID, name)
            socket.connect("tcp://" + endpoint.partition("://")[2])
            socket.send_multipart((name, ping))
        deadline = time.monotonic() + dial_timeout
        while dialled:
            left = deadline - time.monotonic()
            if left <= 0 or not socket.poll(int(left * 1000) + 1):
                raise ConnectionFailed(next(iter(dialled.values())))
            name, _ = socket.recv_multipart()
            dialled.pop(name, None)

    def send(self, name: bytes, data: bytes) -> None:
        self._send(name, SNDMORE)
        self._send(data)

    def poll(self, milliseconds: int) -> None:
        """Wait until something has come, so long at most."""
        self._poller.poll(milliseconds)

    def drain(self) -> list[tuple[bytes, bytes]]:
        """(name of the line, message) for what has come, up to a bound."""
        receive = self._socket.recv
        come: list[tuple[bytes, bytes]] = []
        with contextlib.suppress(zmq.Again):
            for _ in range(DRAIN_MESSAGES):
                come.append((receive(NOBLOCK), receive()))  # noqa: PERF401 - what came before Again stays
        return come


class Connection:
    """A line with a session on it, so that its requests are retried as any user's of the library are.

    `idle`: how many of its clients have nothing outstanding. `login`: who asks, if anybody said so.
    """

    __slots__ = ("idle", "login", "name", "session")

    def __init__(self, number: int, credentials: tuple[str, str] | None = None) -> None:
        self.name = b"c%d" % number
        # All by chance: a seed that comes again names later sessions whose writes the cluster has answered already.
        self.login = Login(*credentials) if credentials is not None else None
        self.session = Session(1, os.urandom(16), int.from_bytes(os.urandom(32)), login=self.login)
        self.idle = 0


class Pace:
    """Lets `rate` things a second pass (0: any number), `burst` at once: what a stall kept back is not made up for."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self._burst = max(1.0, burst)
        self._tokens = 1.0
        self._at = 0.0

    def begin(self, now: float) -> None:
        self._at = now

    def allowed(self, wanted: int, now: float) -> int:
        """How many of `wanted` may pass now; `spend` says how many did."""
        if not self.rate:
            return wanted
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        return min(wanted, int(self._tokens))

    def spend(self, count: int) -> None:
        self._tokens -= count


def milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
