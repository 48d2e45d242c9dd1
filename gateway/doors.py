"""The sockets that native clients come in by: a ROUTER for tcp:// urls, and another one for curve:// urls, of which
there are two kinds: with key files, and with certificates that introduce keys.

What arrives there comes to the gateway as (door, [routing id, payload]); `post` takes answers to a `Client`. All
queues are bounded: a client that sends faster than it is served is held back by TCP, and of one that does not read, the
answers are dropped. Whoever does not speak ZMTP, sends a frame beyond all measure, or does not finish its greeting in
time, is cut off by libzmq before anything of it comes here.

One gap is libzmq's: it bounds frames, and messages in a queue, but not the frames of one message, so a client that
never ends its message fills memory until this process is started anew. Where clients are not trusted, that is a
reason for curve:// with an allow list.
"""

from __future__ import annotations

import errno
import resource
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import zmq

from zkv import identity

if TYPE_CHECKING:
    from zkv.config import Limits
    from zkv.guests import Guests
    from zkv.mailbox import Mailbox

Client: TypeAlias = tuple[str, bytes] | tuple[str, bytes, str]
"""Where a client is: its door, and its routing id there; at the door where keys are introduced, its key too: who it is.
Routing ids are the clients' to choose, and may be another's a moment later; a key with it cannot."""

PLAIN_DOOR: Final = "client"
CURVE_DOOR: Final = "client-curve"
CERTIFIED_DOOR: Final = "client-certified"
MESSAGE_OVERHEAD_BYTES: Final = 512 * 1024
"""A message this much larger than request_bytes_max still comes in, and is told so; beyond, its connection is cut."""
QUEUED_IN_MAX: Final = 32
"""Messages of one client that wait to be taken in."""
QUEUED_OUT_MAX: Final = 4096
"""Answers that wait for one client to read."""

_LAST: Final = int(zmq.NOBLOCK)
_MORE: Final = int(zmq.NOBLOCK | zmq.SNDMORE)


class Shown(NamedTuple):
    """What a TLS connection has come in by: certificates (DER), good until then (monotonic, ms; 0: none was wanted)."""

    chain: tuple[bytes, ...] = ()
    until: int = 0


class Doors:
    """One node's native sockets, and its mailbox: all that a gateway posts to."""

    def __init__(self, mailbox: Mailbox, limits: Limits) -> None:
        self._mailbox = mailbox
        self._limits = limits
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self.known: dict[str, set[bytes]] = {}
        """The roster's: of each door, connections whose address is known."""
        _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (files_max, files_max)
        )  # each client is one; 1024 is common, and few

    def listen_plain(self, address: str) -> None:
        """`address`: of a ZeroMQ tcp endpoint. Raises zmq.ZMQError when it is taken."""
        if PLAIN_DOOR not in self._sockets:
            self._add(PLAIN_DOOR, self._router())
        self._sockets[PLAIN_DOOR].bind(address)

    def listen_curve(self, address: str, secret_key_file: str, allowed: str) -> None:
        """`allowed`: a directory of the public key files of those who may come in; if empty, all may.

        Raises zmq.ZMQError when the address is taken, ConfigError for bad key files.
        """
        if CURVE_DOOR not in self._sockets:
            socket = self._router()
            try:
                allow = identity.AllowList(allowed) if allowed else None
                identity.secure_server(socket, identity.load_secret(secret_key_file), allow)
            except BaseException:
                socket.close(linger=0)
                raise
            self._add(CURVE_DOOR, socket)
        self._sockets[CURVE_DOOR].bind(address)

    def listen_certified(self, address: str, keys: identity.KeyPair, guests: Guests | None) -> None:
        """Where certificates introduce `keys`, and (with `guests`) the clients'. Raises zmq.ZMQError when it is taken.

        Without guests nobody is asked who he is: it is like any other CURVE door.
        """
        name = CURVE_DOOR if guests is None else CERTIFIED_DOOR
        if name not in self._sockets:
            socket = self._router()
            identity.secure_server(socket, keys, guests)
            self._add(name, socket, certified=guests is not None)
        self._sockets[name].bind(address)

    def _add(self, name: str, socket: zmq.Socket[bytes], *, certified: bool = False) -> None:
        self._sockets[name] = socket
        known = None if certified else self.known.setdefault(name, set())
        self._mailbox.add_door(name, socket, certified=certified, known=known)

    def _router(self) -> zmq.Socket[bytes]:
        socket = self._mailbox.context.socket(zmq.ROUTER)
        socket.router_mandatory = True  # an answer to a client that is gone fails, so its streams end at once
        socket.maxmsgsize = self._limits.request_bytes_max + MESSAGE_OVERHEAD_BYTES
        socket.rcvhwm = QUEUED_IN_MAX
        socket.sndhwm = QUEUED_OUT_MAX
        socket.backlog = 1024
        socket.ipv6 = True
        socket.handshake_ivl = 5_000
        socket.heartbeat_ivl = 5_000  # who vanished without a word is noticed
        socket.heartbeat_timeout = 15_000
        return socket

    def post(self, address: str | Client, message: Any) -> bool:
        """False when the queue is full or the client gone: nothing was sent."""
        if isinstance(address, str):
            return self._mailbox.post(address, message)
        socket = self._sockets[address[0]]
        try:
            socket.send(address[1], _MORE)
        except zmq.ZMQError as error:
            if error.errno not in {errno.EAGAIN, errno.EHOSTUNREACH}:
                raise
            return False
        socket.send(message, _LAST)
        return True
