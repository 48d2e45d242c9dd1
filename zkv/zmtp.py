"""ZMTP 3.1 (RFC 37, https://rfc.zeromq.org/spec/37/), as far as zkv's sockets speak it: from bytes to messages, and
back. No socket here.

    connecting end                              listening end
    greeting, READY(PUSH)          ->
                                   <-           greeting, READY(PULL)
    message, message, ...          ->

That is NULL security; with CURVE the ends exchange four commands instead of READY, and all that follows is sealed
(curve.py). Every message of zkv's is one frame. `Mail` reads what a node's own processes tell each other; `End` is an
end of a connection with who may be a stranger.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Final

from librt.strings import read_i64_be

from zkv import curve

MESSAGE_BYTES_MAX: Final = 1 << 30  # nothing in a node comes near: who announces more speaks another language
COMMAND_BYTES_MAX: Final = 4096  # of who has not shown yet that he may say more
HEARTBEAT_CONTEXT_BYTES_MAX: Final = 16

_MORE: Final = 1
_LONG: Final = 2
_COMMAND: Final = 4
_FLAGS_MAX: Final = _COMMAND | _LONG  # a command is one frame
_SEALED_MORE: Final = 1
_SEALED_COMMAND: Final = 2
_GREETING_BYTES: Final = 64
_NULL, _CURVE = b"NULL", b"CURVE"
_PING: Final = b"\x04PING"
_PONG: Final = b"\x04PONG"
_READY: Final = b"\x05READY"
_ERROR: Final = b"\x05ERROR"
_SHORT_MAX: Final = 255
_SHORT_HEADS: Final = [bytes((0, size)) for size in range(_SHORT_MAX + 1)]
_OTHER_KINDS: Final = {
    b"PULL": (b"PUSH",),
    b"PUSH": (b"PULL",),
    b"ROUTER": (b"DEALER", b"ROUTER", b"REQ"),
    b"DEALER": (b"ROUTER", b"DEALER", b"REP"),
}


class NotZmtp(ValueError):
    """The other end speaks something else, or is not who belongs there. The text says what it did."""


def hello(kind: bytes) -> bytes:
    """What an end says first, without security: the greeting, and READY with its `kind` of socket."""
    return _greeting(_NULL) + _command(_READY + _about(kind))


def head(size: int) -> bytes:
    """What stands before a message of so many bytes."""
    return _SHORT_HEADS[size] if size <= _SHORT_MAX else b"\x02" + size.to_bytes(8, "big")


def _greeting(mechanism: bytes, *, is_server: bool = False) -> bytes:
    return b"\xff" + bytes(8) + b"\x7f\x03\x01" + mechanism.ljust(20, b"\0") + bytes((is_server,)) + bytes(31)


def _command(body: bytes) -> bytes:
    size = len(body)
    return bytes((_COMMAND, size)) + body if size <= _SHORT_MAX else b"\x06" + size.to_bytes(8, "big") + body


def _about(kind: bytes) -> bytes:
    """What an end tells of itself."""
    return b"\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind


def _kind_in(about: bytes) -> bytes:
    """Raises NotZmtp for what are no properties."""
    kind, at = b"", 0
    while at < len(about):
        value_at = at + 1 + about[at] + 4
        end = value_at + int.from_bytes(about[value_at - 4 : value_at], "big")
        if end > len(about):
            raise NotZmtp("properties that are none")
        if about[at + 1 : value_at - 4].lower() == b"socket-type":
            kind = bytes(about[value_at:end])
        at = end
    return kind


class _Stream(ABC):
    """Frames out of the bytes of a connection, as they come."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._rest = bytearray()  # begun and not complete ...
        self._needed = _GREETING_BYTES  # ... before there are so many bytes of it
        self._greeted = False
        self._frame_bytes_max = frame_bytes_max

    def _split(self, data: bytes) -> None:
        """Have each frame that `data` completes taken in."""
        rest = self._rest
        if rest:
            rest.extend(data)
            if len(rest) < self._needed:
                return
            self._rest = bytearray()
            data, rest = bytes(rest), self._rest  # what was kept is not kept beside it: a frame may be large
        size = len(data)
        at = 0
        if not self._greeted:
            if size < _GREETING_BYTES:
                self._keep(data, 0, _GREETING_BYTES)
                return
            self._greet(data[:_GREETING_BYTES])
            self._greeted = True
            at = _GREETING_BYTES
        while at < size:
            flags = data[at]
            if flags > _FLAGS_MAX or flags & (_COMMAND | _MORE) == _COMMAND | _MORE:
                raise NotZmtp("flags that there are not")
            is_long = flags & _LONG
            begin = at + (9 if is_long else 2)
            if begin > size:
                self._keep(data, at, begin - at)
                return
            length = read_i64_be(data, at + 1) if is_long else data[at + 1]
            if not 0 <= length <= self._frame_bytes_max:  # below 0 where it takes all of 64 bits
                raise NotZmtp(f"a frame of {length % (1 << 64)} bytes")
            end = begin + length
            if end > size:
                self._keep(data, at, end - at)
                return
            self._take(flags, data[begin:end])
            at = end

    def _keep(self, data: bytes, at: int, needed: int) -> None:
        self._rest, self._needed = bytearray(data[at:]), needed

    @abstractmethod
    def _greet(self, greeting: bytes) -> None: ...

    @abstractmethod
    def _take(self, flags: int, body: bytes) -> None: ...


def _check_greeting(greeting: bytes, mechanism: bytes) -> None:
    signature, version, its_mechanism = (greeting[0], greeting[9]), greeting[10], greeting[12:32].rstrip(b"\0")
    if signature != (0xFF, 0x7F) or version < 3:
        raise NotZmtp("no ZMTP 3")
    if its_mechanism != mechanism:
        raise NotZmtp(f"other security than {mechanism.decode()}")


class Mail(_Stream):
    """What one end is told within a node. `expected`: the kind of socket at the other end."""

    def __init__(self, expected: bytes) -> None:
        super().__init__(MESSAGE_BYTES_MAX)
        self._expected = expected
        self._messages: list[bytes] = []
        self.ready = False
        """The other end has said who it is."""

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that `data` completes. Raises NotZmtp."""
        messages: list[bytes] = []
        self._messages = messages
        self._split(data)
        return messages

    def _greet(self, greeting: bytes) -> None:
        _check_greeting(greeting, _NULL)

    def _take(self, flags: int, body: bytes) -> None:
        if flags & _COMMAND:
            if not self.ready:
                self._introduced(body)
        elif flags & _MORE or not self.ready:
            raise NotZmtp("a message out of place")
        else:
            self._messages.append(body)

    def _introduced(self, command: bytes) -> None:
        if not command.startswith(_READY) or _kind_in(command[len(_READY) :]) != self._expected:
            raise NotZmtp("another kind of socket")
        self.ready = True


class End(_Stream):
    """One end of a connection: what comes by it, and how what leaves by it is said.

    `kind`: PULL, PUSH, ROUTER or DEALER. `security`: this end's part in CURVE, or None for NULL security.
    `message_bytes_max`: who sends a longer message is cut off.

    Call `answer` after it was made, and after each `feed`: it has the handshake and the heartbeats. Memory is bounded:
    by a message, and by COMMAND_BYTES_MAX until the handshake is over.
    """

    def __init__(self, kind: bytes, security: curve.Server | curve.Client | None, message_bytes_max: int) -> None:
        super().__init__(COMMAND_BYTES_MAX)
        self._others = _OTHER_KINDS[kind]
        self._about = _about(kind)
        self._message_bytes_max = message_bytes_max
        self._handshake = None if security is None else security.begin(self._about)
        self._channel: curve.Channel | None = None
        self._mechanism = _NULL if security is None else _CURVE
        self._answer = _greeting(self._mechanism, is_server=isinstance(security, curve.Server))
        self._messages: list[bytes | None] = []
        self._pong: bytes | None = None
        self._is_several = False  # frames of one message are coming
        self.ready = False
        """The handshake is over: messages may be sent."""
        self.key = b""
        """The key that the other end has shown, in Z85: at a server's end, once it is ready."""

    def feed(self, data: bytes) -> list[bytes | None]:
        """The messages that `data` completes; None stands for one of several frames, which is passed over.

        Raises NotZmtp: the connection is of no use any more. There may be an `answer` still.
        """
        messages: list[bytes | None] = []
        self._messages = messages
        try:
            self._split(data)
        except curve.NotCurve as error:
            if isinstance(error, curve.Stranger):
                self._answer += _command(curve.refusal(b"400"))
            raise NotZmtp(str(error)) from None
        if self._pong is not None:
            self._answer += self._said(_PONG + self._pong)
            self._pong = None
        return messages

    def answer(self) -> bytes:
        """What this end has to say by itself."""
        answer, self._answer = self._answer, b""
        return answer

    def message(self, payload: bytes) -> bytes:
        """A message as it is said once the end is ready."""
        size = len(payload)
        if self._channel is None:
            return head(size) + payload
        return self._channel.seal(0, payload, head(size + curve.SEAL_BYTES))

    def ping(self) -> bytes:
        """What the other end answers at once, if it is there: once this end is ready."""
        return self._said(_PING + b"\0\0")  # for how long to wait for more is the other end's own business

    def _said(self, command: bytes) -> bytes:
        if self._channel is None:
            return _command(command)
        return self._channel.seal(_SEALED_COMMAND, command, head(len(command) + curve.SEAL_BYTES))

    def _greet(self, greeting: bytes) -> None:
        _check_greeting(greeting, self._mechanism)
        if self._handshake is None:
            self._answer += _command(_READY + self._about)
        elif opening := self._handshake.opening():
            self._answer += _command(opening)

    def _take(self, flags: int, body: bytes) -> None:
        if self._channel is not None:
            if flags & (_COMMAND | _MORE):
                raise NotZmtp("something that is not sealed")
            sealed_flags, payload = self._channel.open(body)
            if sealed_flags & _SEALED_COMMAND:
                self._commanded(payload)
            else:
                self._said_to_us(sealed_flags & _SEALED_MORE, payload)
        elif flags & _COMMAND:
            if self.ready:
                self._commanded(body)
            else:
                self._shake(body)
        elif self.ready:
            self._said_to_us(flags & _MORE, body)
        else:
            raise NotZmtp("a message before the handshake")

    def _said_to_us(self, more: int, payload: bytes) -> None:
        if more:
            self._is_several = True
        elif self._is_several:
            self._is_several = False
            self._messages.append(None)
        else:
            self._messages.append(payload)

    def _commanded(self, command: bytes) -> None:
        if command.startswith(_PING):
            context = command[len(_PING) + 2 :]
            if len(context) > HEARTBEAT_CONTEXT_BYTES_MAX:
                raise NotZmtp("a PING too long")
            self._pong = context  # one answer does for all that came at once

    def _shake(self, command: bytes) -> None:
        handshake = self._handshake
        if handshake is not None:
            if reply := handshake.hear(command):
                self._answer += _command(reply)
            if handshake.channel is None:
                return
            self._channel = handshake.channel
            about = handshake.heard_about
            self._handshake = None
            self._frame_bytes_max = self._message_bytes_max + curve.SEAL_BYTES
        elif command.startswith(_READY):
            about = command[len(_READY) :]
            self._frame_bytes_max = self._message_bytes_max
        elif command.startswith(_ERROR):
            raise NotZmtp(f"refused: {command[len(_ERROR) + 1 : len(_ERROR) + 33].decode('ascii', 'replace')}")
        else:
            raise NotZmtp("no READY")
        if _kind_in(about) not in self._others:
            raise NotZmtp("another kind of socket")
        if handshake is not None:
            self.key = handshake.key
        self.ready = True
