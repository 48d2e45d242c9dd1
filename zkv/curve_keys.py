"""CURVE key pairs: how they are made, how they are spelled (Z85, https://rfc.zeromq.org/spec/32/), and their files.

A file is in ZeroMQ's certificate format, as pyzmq and czmq read and write it: lines, of which these matter.

    public-key = "..."
    secret-key = "..."      in a secret one only

`identity.py` is what a server makes of it.
"""

from __future__ import annotations

from base64 import b85decode, b85encode
from typing import TYPE_CHECKING, Final, NamedTuple

from nacl import bindings as nacl

from zkv.errors import ConfigError

if TYPE_CHECKING:
    from os import PathLike

_Z85: Final = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
_B85: Final = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
_TO_Z85: Final = bytes.maketrans(_B85, _Z85)
_FROM_Z85: Final = bytes(_B85[_Z85.index(byte)] if byte in _Z85 else 0 for byte in range(256))
_KEY_BYTES: Final = 32
_SPELLED_BYTES: Final = 40


class KeyPair(NamedTuple):
    """In Z85. The secret is not shown."""

    public: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public!r})"


def new_keys() -> KeyPair:
    """For a process that introduces itself: they live no longer than it."""
    public, secret = nacl.crypto_box_keypair()
    return KeyPair(spelled(public), spelled(secret))


def public_of(secret: bytes) -> bytes:
    """The public key that belongs to a secret one, both in Z85."""
    return spelled(nacl.crypto_scalarmult_base(raw(secret)))


def raw(key: bytes) -> bytes:
    """A key without its spelling in Z85. Raises ValueError for what is none."""
    if len(key) != _SPELLED_BYTES:
        raise ValueError("a key in Z85 has 40 characters")
    return b85decode(key.translate(_FROM_Z85))


def spelled(key: bytes) -> bytes:
    """A key of 32 bytes, in Z85."""
    assert len(key) == _KEY_BYTES
    return b85encode(key).translate(_TO_Z85)


def read_key_file(path: str | PathLike[str]) -> tuple[bytes, bytes | None]:
    """The public key, and the secret one if it is there.

    Raises ConfigError if the file cannot be read, is none, or holds a damaged key.
    """
    found: dict[bytes, bytes] = {}
    try:
        with open(path, "rb") as file:
            for line in file:
                name, _, value = line.partition(b"=")
                found.setdefault(name.strip(), value.strip(b" \t\r\n'\""))
    except OSError as error:
        raise ConfigError(f"key file {path} cannot be read: {error.strerror}") from None
    public, secret = found.get(b"public-key"), found.get(b"secret-key")
    if public is None:
        raise ConfigError(f"{path} is no key file")
    try:
        for key in (public, secret or public):
            raw(key)
    except ValueError:
        raise ConfigError(f"{path} holds a damaged key") from None
    return public, secret


def key_file(heading: str, public: bytes, secret: bytes | None = None) -> str:
    """What stands in one."""
    lines = [f"# {heading}", "", "metadata", "curve", f'    public-key = "{public.decode()}"']
    if secret is not None:
        lines.append(f'    secret-key = "{secret.decode()}"')
    return "\n".join(lines) + "\n"
