"""ZMTP 3.1 (RFC 37) as PUSH and PULL speak it with NULL security: from bytes to messages, and back. No socket here.

connecting end                              listening end
greeting, READY(PUSH)          ->
                               <-           greeting, READY(PULL)
message, message, ...          ->
"""

from __future__ import annotations

from typing import Final

MESSAGE_BYTES_MAX: Final = 1 << 30  # nothing in a node comes near: who announces more speaks another language

_MORE, _LONG, _COMMAND = 1, 2, 4
_GREETING: Final = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
_SHORT_MAX: Final = 255


class NotZmtp(ValueError):
    """The other end speaks something else, or is not the kind of socket that belongs there."""


def hello(kind: bytes) -> bytes:
    """What an end says first: the greeting, and READY with its `kind` of socket: PUSH or PULL."""
    body = b"\x05READY\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind
    return _GREETING + bytes((_COMMAND, len(body))) + body


def head(size: int) -> bytes:
    """What stands before a message of so many bytes."""
    return bytes((0, size)) if size <= _SHORT_MAX else b"\x02" + size.to_bytes(8, "big")


class Reader:
    """What one end is told, from the bytes as they come. `expected`: the kind of socket at the other end."""

    def __init__(self, expected: bytes) -> None:
        self._expected = expected
        self._greeted = False
        self.ready = False
        """The other end has said who it is."""
        self._rest = bytearray()  # begun and not complete ...
        self._needed = len(_GREETING)  # ... before there are so many bytes of it

    def feed(self, data: memoryview) -> list[memoryview]:
        """The messages that `data` completes, as views of it or of what was kept.

        Raises NotZmtp.
        """
        rest = self._rest
        if rest:
            rest.extend(data)
            if len(rest) < self._needed:
                return []
            data, self._rest = memoryview(rest), bytearray()
        size = len(data)
        at = 0
        if not self._greeted:
            if size < len(_GREETING):
                return self._keep(data, 0, len(_GREETING))
            self._greet(bytes(data[: len(_GREETING)]))
            at = len(_GREETING)
        messages: list[memoryview] = []
        while at < size:
            flags = data[at]
            begin = at + (9 if flags & _LONG else 2)
            if begin > size:
                self._keep(data, at, begin - at)
                break
            length = int.from_bytes(data[at + 1 : begin], "big")
            if length > MESSAGE_BYTES_MAX:
                raise NotZmtp("a message too long")
            end = begin + length
            if end > size:
                self._keep(data, at, end - at)
                break
            if flags & _COMMAND:
                self._command(bytes(data[begin:end]))
            elif flags & _MORE or not self.ready:
                raise NotZmtp("a message out of place")
            else:
                messages.append(data[begin:end])
            at = end
        return messages

    def _keep(self, data: memoryview, at: int, needed: int) -> list[memoryview]:
        self._rest, self._needed = bytearray(data[at:]), needed
        return []

    def _greet(self, greeting: bytes) -> None:
        signature, version, mechanism = (greeting[0], greeting[9]), greeting[10], greeting[12:32].rstrip(b"\0")
        if signature != (0xFF, 0x7F) or version < 3 or mechanism != b"NULL":
            raise NotZmtp("another greeting")
        self._greeted = True

    def _command(self, body: bytes) -> None:
        if self.ready:
            return  # a heartbeat: nothing hangs on it
        if not body.startswith(b"\x05READY") or b"\x0bSocket-Type\0\0\0\x04" + self._expected not in body:
            raise NotZmtp("another kind of socket")
        self.ready = True
