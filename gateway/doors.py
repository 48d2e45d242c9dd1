"""The doors that native clients come in by (zkv/door.py): one for tcp:// urls, and another one for curve:// urls, of
which there are two kinds: with key files, and with certificates that introduce keys.

What arrives there comes to the gateway as (door, (connection, payload)); `post` takes answers to a `Client`. All
queues are bounded: a client that sends faster than it is served is held back by TCP, and of one that does not read, the
answers are dropped. Whoever does not speak ZMTP, says too much in a message, or does not finish its greeting in time,
is cut off before anything of it comes here.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from zkv import curve, identity
from zkv.door import Door

if TYPE_CHECKING:
    from zkv.config import Limits
    from zkv.guests import Guests
    from zkv.mailbox import Mailbox

Client: TypeAlias = tuple[str, bytes]
"""Where a client is: its door, and its connection there, which never is another's."""

PLAIN_DOOR: Final = "client"
CURVE_DOOR: Final = "client-curve"
CERTIFIED_DOOR: Final = "client-certified"
MESSAGE_OVERHEAD_BYTES: Final = 512 * 1024
"""A message this much larger than request_bytes_max still comes in, and is told so; beyond, its connection is cut."""
QUEUED_OUT_MAX: Final = 4096
"""Answers that wait for one client to read ..."""
QUEUED_OUT_BYTES_MAX: Final = 128 << 20
"""... and their bytes."""


class Shown(NamedTuple):
    """What a TLS connection has come in by: certificates (DER), good until then (monotonic, ms; 0: none was wanted)."""

    chain: tuple[bytes, ...] = ()
    until: int = 0


class Doors:
    """One node's native doors, and its mailbox: all that a gateway posts to."""

    def __init__(self, mailbox: Mailbox, limits: Limits) -> None:
        self._mailbox = mailbox
        self._limits = limits
        self._doors: dict[str, Door] = {}
        _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (files_max, files_max)
        )  # each client is one; 1024 is common, and few

    def listen_plain(self, host: str, port: int) -> None:
        """Raises OSError when the address is taken."""
        if PLAIN_DOOR not in self._doors:
            self._add(PLAIN_DOOR, None)
        self._doors[PLAIN_DOOR].listen(host, port)

    def listen_curve(self, host: str, port: int, secret_key_file: str, allowed: str) -> None:
        """`allowed`: a directory of the public key files of those who may come in; if empty, all may.

        Raises OSError when the address is taken, ConfigError for bad key files.
        """
        if CURVE_DOOR not in self._doors:
            allow = identity.AllowList(allowed) if allowed else None
            self._add(CURVE_DOOR, curve.Server(identity.load_secret(secret_key_file), allow))
        self._doors[CURVE_DOOR].listen(host, port)

    def listen_certified(self, host: str, port: int, keys: identity.KeyPair, guests: Guests | None) -> None:
        """Where certificates introduce `keys`, and (with `guests`) the clients'. Raises OSError when it is taken.

        Without guests nobody is asked who he is: it is like any other CURVE door.
        """
        name = CURVE_DOOR if guests is None else CERTIFIED_DOOR
        if name not in self._doors:
            self._add(name, curve.Server(keys, guests))
        self._doors[name].listen(host, port)

    def _add(self, name: str, security: curve.Server | None) -> None:
        door = Door(
            b"ROUTER",
            security,
            self._mailbox.polls,
            message_bytes_max=self._limits.request_bytes_max + MESSAGE_OVERHEAD_BYTES,
            messages_max=QUEUED_OUT_MAX,
            bytes_max=QUEUED_OUT_BYTES_MAX,
        )
        self._doors[name] = door
        self._mailbox.add_door(name, door, tells_gone=True)

    def post(self, address: str | Client, message: Any) -> bool:
        """False when the queue is full or the client gone: nothing was sent."""
        if isinstance(address, str):
            return self._mailbox.post(address, message)
        return self._doors[address[0]].send(address[1], message)

    def key_of(self, client: Client) -> bytes:
        """The CURVE key it has shown, in Z85; b"" if none."""
        return self._doors[client[0]].key_of(client[1])

    def address_of(self, client: Client) -> str:
        """HOST:PORT where it is; "" if it is gone."""
        return self._doors[client[0]].address_of(client[1])
