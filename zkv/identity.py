"""CURVE: key files, and who may come in.

A key pair is two files in ZeroMQ's certificate format (`curve_keys.py`): NAME.key holds the public key and may be
handed out, NAME.key_secret holds both and may not. A CURVE server proves itself to clients that know its public key;
who may come in is said by an *allow list*, a container of public keys, or None for whoever knows the server's key.

Keys are Z85 text (40 bytes) throughout, as in the files. Secret keys are never logged, nor shown by `repr`.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import structlog

from zkv.curve_keys import KeyPair, key_file, new_keys, public_of, raw, read_key_file, spelled
from zkv.errors import ConfigError

__all__ = [
    "AllowList", "KeyPair", "load_public", "load_secret", "new_keys", "only_key_of", "raw", "spelled", "write_keys",
]  # fmt: skip


def write_keys(directory: str, name: str) -> tuple[str, str]:
    """Make a key pair: the paths of NAME.key and NAME.key_secret (mode 0600).

    `directory` is made (mode 0700) if it is not there. Raises ConfigError if a file of that name exists, or if `name`
    cannot be a file's.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise ConfigError(f"{name!r} is no name for a key file")
    public, secret = Path(directory, f"{name}.key"), Path(directory, f"{name}.key_secret")
    try:
        Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made aside, in a directory nobody else can look into, and linked into place: a secret file never
        # exists half written or with wider rights, and a link does not replace what is there.
        with tempfile.TemporaryDirectory(dir=directory, prefix=".new-key-") as aside:
            keys = new_keys()
            made_public, made_secret = Path(aside, public.name), Path(aside, secret.name)
            made_secret.touch(mode=0o600)
            made_secret.write_text(key_file("a secret CURVE key: for its owner only", *keys))
            made_public.write_text(key_file("a public CURVE key", keys.public))
            secret.hardlink_to(made_secret)
            try:
                public.hardlink_to(made_public)
            except OSError:
                secret.unlink()
                raise
    except FileExistsError:
        raise ConfigError(f"{public} or {secret} exists already, key files are not overwritten") from None
    except OSError as error:
        raise ConfigError(f"key files cannot be written to {directory}: {error.strerror}") from None
    return str(public), str(secret)


def load_public(path: str) -> bytes:
    """The public key in a file of either kind.

    Raises ConfigError if it cannot be read or holds none.
    """
    return read_key_file(path)[0]


def load_secret(path: str) -> KeyPair:
    """The key pair in a .key_secret file; warns if others may read it.

    Raises ConfigError if it cannot be read, holds no secret key, or one that does not fit its public key.
    """
    public, secret = read_key_file(path)
    if secret is None:
        raise ConfigError(f"{path} holds no secret key")
    if public_of(secret) != public:
        raise ConfigError(f"the keys in {path} do not belong together")
    if Path(path).stat().st_mode & 0o077:
        structlog.get_logger().warning("secret key file is open to other users", path=path, want="mode 0600")
    return KeyPair(public, secret)


# --- who may come in -----------------------------------------------------------------------------


class AllowList:
    """The public keys in the .key files of a directory, which is read again when a file comes or goes."""

    def __init__(self, directory: str) -> None:
        """Raises ConfigError if it cannot be read, or one of its files cannot."""
        self._directory = Path(directory)
        self._seen, self._keys = self._read()

    def __contains__(self, key: object) -> bool:
        """Asked for each connection. A directory that cannot be read right now leaves the list as it was."""
        with contextlib.suppress(ConfigError, OSError):
            if self._directory.stat().st_mtime_ns != self._seen:
                self._seen, self._keys = self._read()
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def _read(self) -> tuple[int, frozenset[bytes]]:
        try:
            seen = self._directory.stat().st_mtime_ns
            files = [path for path in self._directory.iterdir() if path.suffix == ".key"]
        except OSError as error:
            raise ConfigError(f"allow list {self._directory} cannot be read: {error.strerror}") from None
        return seen, frozenset(load_public(str(path)) for path in files)


def only_key_of(path: str) -> frozenset[bytes]:
    """An allow list of one: for members that share a key pair."""
    return frozenset({load_public(path)})
