"""CurveZMQ (RFC 26, https://rfc.zeromq.org/spec/26/): the handshake of both ends, and the boxes that carry what is said
after it. No socket here, and no framing (zmtp.py). The cryptography is libsodium's, through PyNaCl.

    client (C; knows S)                          server (S)

    HELLO     C', Box[64 zeros](C' -> S)      ->
                                              <- WELCOME   Box[S', cookie](S -> C')
    INITIATE  cookie, Box[C, vouch, about](C' -> S')  ->
                                              <- READY     Box[about](S' -> C')
    MESSAGE   Box[flags, payload](C' <-> S')

Capitals are public keys; C' and S' are made for one connection and forgotten with it. A vouch is Box[C', S](C -> S'):
by it the client shows that it has the secret of the key it comes by.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final

from nacl import _sodium as libsodium
from nacl import bindings as nacl
from nacl.exceptions import CryptoError

from zkv.curve_keys import KeyPair, raw, spelled

if TYPE_CHECKING:
    from collections.abc import Container

# Every message is a box, and nacl.bindings makes each by a page of interpreted Python: half of what a small one costs.
_seal_into: Final[Any] = libsodium.lib.crypto_box_easy_afternm
_open_into: Final[Any] = libsodium.lib.crypto_box_open_easy_afternm

_KEY: Final = 32
_BOX_NONCE: Final = 24
_NONCE: Final = 8
_LONG_NONCE: Final = 16
_COOKIE: Final = 96
_MAC: Final = 16
_VOUCH: Final = _LONG_NONCE + 2 * _KEY + _MAC
_HELLO: Final = b"\x05HELLO"
_WELCOME: Final = b"\x07WELCOME"
_INITIATE: Final = b"\x08INITIATE"
_READY: Final = b"\x05READY"
_ERROR: Final = b"\x05ERROR"
_MESSAGE: Final = b"\x07MESSAGE"
_VERSION: Final = b"\x01\x00"
_SIGNATURE: Final = bytes(64)
_HELLO_BYTES: Final = len(_HELLO) + len(_VERSION) + 72 + _KEY + _NONCE + len(_SIGNATURE) + _MAC
_WELCOME_BYTES: Final = len(_WELCOME) + _LONG_NONCE + _KEY + _COOKIE + _MAC
_BEFORE_PAYLOAD: Final = len(_MESSAGE) + _NONCE
_FLAGS_BYTES: Final = 1
SEAL_BYTES: Final = _BEFORE_PAYLOAD + _MAC + _FLAGS_BYTES
"""That a sealed message is longer than what is in it."""
_FLAGS: Final = [bytes((flags,)) for flags in range(256)]


class NotCurve(ValueError):
    """The other end does not keep to the protocol, or has not the key that it says it has."""


class Stranger(NotCurve):
    """The other end has the key that it says it has, but nobody is let in by that key."""


class Server:
    """What a listening socket is: its keys, and who may come in by which (None: by any). Shared by its connections."""

    def __init__(self, keys: KeyPair, allow: Container[bytes] | None = None) -> None:
        """`allow`: of public keys in Z85. It is asked once for each connection."""
        self.public = raw(keys.public)
        self.secret = raw(keys.secret)
        self.allow = allow

    def begin(self, about: bytes) -> Handshake:
        return _ServerHandshake(self, about)


class Client:
    """What a connecting socket is: its keys, and the key (in Z85) of whom it wants to speak to."""

    def __init__(self, keys: KeyPair, server_public: bytes) -> None:
        self.public = raw(keys.public)
        self.secret = raw(keys.secret)
        self.server_public = raw(server_public)

    def begin(self, about: bytes) -> Handshake:
        return _ClientHandshake(self, about)


class Channel:
    """What is said after the handshake, sealed and opened. Each box has a number of its own that only grows."""

    def __init__(self, shared: bytes, *, is_server: bool, sent: int, heard: int) -> None:
        """`sent`, `heard`: the numbers of the handshake's last boxes."""
        self._shared = shared
        self._outward = b"CurveZMQMESSAGES" if is_server else b"CurveZMQMESSAGEC"
        self._inward = b"CurveZMQMESSAGEC" if is_server else b"CurveZMQMESSAGES"
        self._sent = sent
        self._heard = heard.to_bytes(_NONCE, "big")  # as such numbers follow each other, too

    def seal(self, flags: int, payload: bytes, head: bytes = b"") -> bytes:
        """`head`: what is to stand before it; put there by another it would take a copy of all."""
        self._sent += 1
        number = self._sent.to_bytes(_NONCE, "big")
        box = _seal(_FLAGS[flags] + payload, self._outward + number, self._shared)
        return head + _MESSAGE + number + box

    def open(self, body: bytes) -> tuple[int, bytes]:
        """Flags and payload. Raises NotCurve for what the other end has not sealed, and for what it has said before."""
        if len(body) < SEAL_BYTES or not body.startswith(_MESSAGE):
            raise NotCurve("something else than a sealed message")
        number = body[len(_MESSAGE) : _BEFORE_PAYLOAD]
        if number <= self._heard:
            raise NotCurve("a message that came before")
        self._heard = number
        opened = _open(body[_BEFORE_PAYLOAD:], self._inward + number, self._shared)
        return opened[0], opened[_FLAGS_BYTES:]


class Handshake(ABC):
    """One end's part. `about`: what the ends tell of themselves, of which nothing is known here."""

    def __init__(self, about: bytes) -> None:
        self._about = about
        self._transient, self._transient_secret = b"", b""
        self._sent = 0
        self.channel: Channel | None = None
        """Once the handshake is over for this end."""
        self.key = b""
        """Which the other end has shown, in Z85; at a server."""
        self.heard_about = b""

    def opening(self) -> bytes:
        """The command that begins it; empty at a server."""
        return b""

    @abstractmethod
    def hear(self, body: bytes) -> bytes:
        """What to answer to the other end's next command; may be empty. Raises NotCurve."""

    def _numbered(self) -> bytes:
        self._sent += 1
        return self._sent.to_bytes(_NONCE, "big")


class _ServerHandshake(Handshake):
    def __init__(self, server: Server, about: bytes) -> None:
        super().__init__(about)
        self._server = server
        self._cookie = b""  # kept with the connection: nothing needs to be read out of it
        self._client_transient = b""

    def hear(self, body: bytes) -> bytes:
        return self._initiated(body) if self._cookie else self._greeted(body)

    def _greeted(self, body: bytes) -> bytes:
        if len(body) != _HELLO_BYTES or not body.startswith(_HELLO + _VERSION):
            raise NotCurve("no HELLO")
        transient_at = len(_HELLO) + len(_VERSION) + 72
        number_at = transient_at + _KEY
        box_at = number_at + _NONCE
        transient = body[transient_at:number_at]
        shared = _shared(transient, self._server.secret)
        if _open(body[box_at:], b"CurveZMQHELLO---" + body[number_at:box_at], shared) != _SIGNATURE:
            raise NotCurve("a HELLO for somebody else")
        self._client_transient = transient
        self._transient, self._transient_secret = (
            nacl.crypto_box_keypair()
        )  # not before: who says nothing costs nothing
        self._cookie = os.urandom(_COOKIE)
        nonce = os.urandom(_LONG_NONCE)
        box = _seal(self._transient + self._cookie, b"WELCOME-" + nonce, shared)
        return _WELCOME + nonce + box

    def _initiated(self, body: bytes) -> bytes:
        cookie_at = len(_INITIATE)
        number_at = cookie_at + _COOKIE
        box_at = number_at + _NONCE
        if len(body) < box_at + _KEY + _VOUCH + _MAC or not body.startswith(_INITIATE):
            raise NotCurve("no INITIATE")
        if not nacl.sodium_memcmp(body[cookie_at:number_at], self._cookie):
            raise NotCurve("another connection's cookie")
        shared = _shared(self._client_transient, self._transient_secret)
        opened = _open(body[box_at:], b"CurveZMQINITIATE" + body[number_at:box_at], shared)
        client = opened[:_KEY]
        vouch = opened[_KEY : _KEY + _VOUCH]
        vouched = _open(vouch[_LONG_NONCE:], b"VOUCH---" + vouch[:_LONG_NONCE], _shared(client, self._transient_secret))
        if vouched != self._client_transient + self._server.public:
            raise NotCurve("a vouch for somebody else")
        self.key = spelled(client)
        allow = self._server.allow
        if allow is not None and self.key not in allow:
            raise Stranger("nobody is let in by that key")
        self.heard_about = opened[_KEY + _VOUCH :]
        heard = int.from_bytes(body[number_at:box_at], "big")
        number = self._numbered()
        box = _seal(self._about, b"CurveZMQREADY---" + number, shared)
        self.channel = Channel(shared, is_server=True, sent=self._sent, heard=heard)
        return _READY + number + box


class _ClientHandshake(Handshake):
    def __init__(self, client: Client, about: bytes) -> None:
        super().__init__(about)
        self._transient, self._transient_secret = nacl.crypto_box_keypair()
        self._client = client
        self._shared = b""  # C' <-> S' once the server has told S'

    def opening(self) -> bytes:
        number = self._numbered()
        shared = _shared(self._client.server_public, self._transient_secret)
        box = _seal(_SIGNATURE, b"CurveZMQHELLO---" + number, shared)
        return _HELLO + _VERSION + bytes(72) + self._transient + number + box

    def hear(self, body: bytes) -> bytes:
        if body.startswith(_ERROR):
            raise NotCurve(f"refused: {body[len(_ERROR) + 1 : len(_ERROR) + 33].decode('ascii', 'replace')}")
        return self._finished(body) if self._shared else self._welcomed(body)

    def _welcomed(self, body: bytes) -> bytes:
        if len(body) != _WELCOME_BYTES or not body.startswith(_WELCOME):
            raise NotCurve("no WELCOME")
        nonce_at = len(_WELCOME)
        box_at = nonce_at + _LONG_NONCE
        shared = _shared(self._client.server_public, self._transient_secret)
        opened = _open(body[box_at:], b"WELCOME-" + body[nonce_at:box_at], shared)
        transient, cookie = opened[:_KEY], opened[_KEY:]
        nonce = os.urandom(_LONG_NONCE)
        vouch = nonce + _seal(
            self._transient + self._client.server_public,
            b"VOUCH---" + nonce,
            _shared(transient, self._client.secret),
        )
        self._shared = _shared(transient, self._transient_secret)
        number = self._numbered()
        told = self._client.public + vouch + self._about
        return _INITIATE + cookie + number + _seal(told, b"CurveZMQINITIATE" + number, self._shared)

    def _finished(self, body: bytes) -> bytes:
        box_at = len(_READY) + _NONCE
        if len(body) < box_at + _MAC or not body.startswith(_READY):
            raise NotCurve("no READY")
        number = body[len(_READY) : box_at]
        self.heard_about = _open(body[box_at:], b"CurveZMQREADY---" + number, self._shared)
        heard = int.from_bytes(number, "big")
        self.channel = Channel(self._shared, is_server=False, sent=self._sent, heard=heard)
        return b""


def refusal(reason: bytes) -> bytes:
    """The command that ends a handshake. `reason`: a ZAP status, as libzmq has it."""
    return _ERROR + bytes((len(reason),)) + reason


def _shared(public: bytes, secret: bytes) -> bytes:
    """Raises NotCurve for a key with which everybody would share the same."""
    try:
        return nacl.crypto_box_beforenm(public, secret)
    except (CryptoError, RuntimeError):
        raise NotCurve("a key that is none") from None


def _seal(payload: bytes, nonce: bytes, shared: bytes) -> bytes:
    """A box."""
    assert (len(nonce), len(shared)) == (_BOX_NONCE, _KEY), "or libsodium reads what is beyond them"
    size = len(payload)
    box = bytes(size + _MAC)  # written once, before anybody else has it: what may be written to would be copied, too
    _seal_into(box, payload, size, nonce, shared)
    return box


def _open(box: bytes, nonce: bytes, shared: bytes) -> bytes:
    """What is in it. Raises NotCurve."""
    assert (len(nonce), len(shared)) == (_BOX_NONCE, _KEY), "or libsodium reads what is beyond them"
    size = len(box) - _MAC
    if size < 0:
        raise NotCurve("a box that is none")
    payload = bytes(size)  # as in `_seal`
    if _open_into(payload, box, len(box), nonce, shared) != 0:
        raise NotCurve("sealed by another key, or damaged")
    return payload
