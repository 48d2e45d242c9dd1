"""CURVE key pairs, and how their keys are spelled: without what files and sockets need (`identity.py`)."""

from __future__ import annotations

from typing import NamedTuple

import zmq
from zmq.utils import z85


class KeyPair(NamedTuple):
    """In Z85. The secret is not shown."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public!r})"


def new_keys() -> KeyPair:
    """For a process that introduces itself: they live no longer than it."""
    return KeyPair(*zmq.curve_keypair())


def raw(key: bytes) -> bytes:
    """A key without its spelling in Z85."""
    return z85.decode(key)


def spelled(key: bytes) -> bytes:
    """A key of 32 bytes, in Z85."""
    return z85.encode(key)
