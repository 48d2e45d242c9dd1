"""Certificate and key files, written all or none, and never over what is there unless that was asked for.

Each file is made aside under another name, with its final rights, and synced before it gets its name: nobody ever
reads half a key, or a key with wider rights. Those who fail half way leave nothing behind.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from zkv.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SECRET, PUBLIC = 0o600, 0o644


def files_of(name: str, certificate: bytes, key: bytes | None) -> Iterator[tuple[str, bytes, int]]:
    """File name, contents and mode: NAME.pem, and with a key NAME-key.pem. Raises ConfigError for a bad name."""
    if not name or Path(name).name != name or name.startswith((".", "-")) or "\0" in name:
        raise ConfigError(f"{name!r} is no name for a certificate file")
    yield f"{name}.pem", certificate, PUBLIC
    if key is not None:
        yield f"{name}-key.pem", key, SECRET


def key_file_of(cert_file: str) -> str:
    """Where the key of a certificate file lies by our naming: NAME-key.pem beside NAME.pem."""
    path = Path(cert_file)
    return str(path.with_name(f"{path.stem}-key{path.suffix}"))


def write_new(directory: str, files: Mapping[str, tuple[bytes, int]]) -> None:
    """All of `files` (name: contents, mode), none of which may be there. `directory` is made (mode 0700) if need be.

    Raises ConfigError.
    """
    at = Path(directory)
    placed: list[Path] = []
    try:
        at.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in files:
            if os.path.lexists(at / name):
                raise ConfigError(f"{at / name} exists already: certificate and key files are not overwritten")
        with tempfile.TemporaryDirectory(dir=at, prefix=".new-certificates-") as aside:
            for name, (data, mode) in files.items():
                _write(Path(aside, name), data, mode)
            try:
                for name in files:
                    (at / name).hardlink_to(Path(aside, name))  # unlike a rename, it replaces nothing
                    placed.append(at / name)
            except OSError:
                for path in placed:
                    path.unlink()
                raise
        _sync(at)
    except FileExistsError as error:
        raise ConfigError(f"{error.filename2 or error.filename} exists already") from None
    except OSError as error:
        raise ConfigError(f"certificate files cannot be written to {directory}: {error.strerror}") from None


def replace(path: str, data: bytes, mode: int) -> None:
    """New contents for a file that is there; whoever reads it sees the old or the new ones.

    Rights and owner of a certificate file stay what they were; `mode` is the most that they may be. Raises ConfigError.
    """
    try:
        at = Path(path).resolve(strict=True)
        was = at.stat()
        with tempfile.TemporaryDirectory(dir=at.parent, prefix=".new-certificates-") as aside:
            made = Path(aside, at.name)
            _write(made, data, was.st_mode & mode)
            if (was.st_uid, was.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(made, was.st_uid, was.st_gid)  # a server that runs as another user must still read it
            made.replace(at)
        _sync(at.parent)
    except OSError as error:
        raise ConfigError(f"{path} cannot be replaced: {error.strerror}") from None


def _write(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, SECRET)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        os.fchmod(descriptor, mode)
        file.flush()
        os.fsync(descriptor)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
