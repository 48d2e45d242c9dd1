"""CURVE key files and allow lists (the sockets that use them: tests/integration/test_gateway_curve.py)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import structlog
import zmq

from zkv import identity
from zkv.errors import ConfigError


def test_a_key_pair_is_written_and_read_back(tmp_path: Path) -> None:
    """What `write_keys` wrote, `load_public` reads from either file and `load_secret` from the secret one."""
    public, secret = identity.write_keys(str(tmp_path / "keys"), "alice")
    assert (Path(public).name, Path(secret).name) == ("alice.key", "alice.key_secret")
    pair = identity.load_secret(secret)
    assert pair.public == identity.load_public(public) == identity.load_public(secret)
    assert zmq.curve_public(pair.secret) == pair.public


def test_secrets_are_for_their_owner_only(tmp_path: Path) -> None:
    """The secret file has mode 0600, its new directory 0700, and nothing else is left there."""
    _, secret = identity.write_keys(str(tmp_path / "keys"), "alice")
    assert stat.S_IMODE(Path(secret).stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700
    assert {path.name for path in (tmp_path / "keys").iterdir()} == {"alice.key", "alice.key_secret"}


def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    """The repr of a key pair holds its public key only."""
    pair = identity.load_secret(identity.write_keys(str(tmp_path), "alice")[1])
    assert pair.public.decode() in repr(pair)
    assert pair.secret.decode() not in repr(pair)


@pytest.mark.parametrize("kept", [".key", ".key_secret"])
def test_key_files_are_not_overwritten(tmp_path: Path, kept: str) -> None:
    """Where either file is there, neither is touched or made."""
    (tmp_path / f"alice{kept}").write_text("precious")
    with pytest.raises(ConfigError, match="exists already"):
        identity.write_keys(str(tmp_path), "alice")
    assert (tmp_path / f"alice{kept}").read_text() == "precious"
    assert list(tmp_path.iterdir()) == [tmp_path / f"alice{kept}"]


@pytest.mark.parametrize("name", ["", ".", "..", "../alice", "a/b", ".hidden"])
def test_a_name_stays_in_its_directory(tmp_path: Path, name: str) -> None:
    """Names that lead elsewhere are refused."""
    with pytest.raises(ConfigError, match="no name"):
        identity.write_keys(str(tmp_path), name)


def test_keys_cannot_be_written_where_there_is_no_directory(tmp_path: Path) -> None:
    """A file in the way is told with its reason."""
    (tmp_path / "keys").write_text("")
    with pytest.raises(ConfigError):
        identity.write_keys(str(tmp_path / "keys"), "alice")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "cannot be read"),
        ("", "no key file"),
        ('curve\n    public-key = "short"\n', "damaged"),
        ('curve\n    public-key = "' + "#" * 40 + '"\n', "damaged"),
        ('curve\n    public-key = "' + "~" * 40 + '"\n', "damaged"),
        ("\udcff\udcfe", "no key file"),
    ],
)
def test_what_is_no_key_file_is_refused(tmp_path: Path, text: str | None, complaint: str) -> None:
    """Missing, empty and damaged files raise ConfigError, nothing else."""
    path = tmp_path / "bad.key_secret"
    if text is not None:
        path.write_text(text, errors="surrogateescape")
    for load in (identity.load_public, identity.load_secret):
        with pytest.raises(ConfigError, match=complaint):
            load(str(path))


def test_a_secret_needs_its_own_public_key(tmp_path: Path) -> None:
    """A public file is no secret one, and keys of two pairs do not make one."""
    public, secret = identity.write_keys(str(tmp_path), "alice")
    with pytest.raises(ConfigError, match="no secret key"):
        identity.load_secret(public)
    stranger, _ = zmq.curve_keypair()
    mixed = tmp_path / "mixed.key_secret"
    mixed.write_bytes(Path(secret).read_bytes().replace(identity.load_public(public), stranger))
    with pytest.raises(ConfigError, match="do not belong together"):
        identity.load_secret(str(mixed))


def test_an_open_secret_is_warned_about(tmp_path: Path) -> None:
    """A secret file others may read still loads (containers mount them so), with a warning that names it."""
    _, secret = identity.write_keys(str(tmp_path), "alice")
    with structlog.testing.capture_logs() as logs:
        identity.load_secret(secret)
        assert logs == []
        Path(secret).chmod(0o644)
        pair = identity.load_secret(secret)
    assert [(log["log_level"], log["path"]) for log in logs] == [("warning", secret)]
    assert pair.secret.decode() not in str(logs)


def test_an_allow_list_is_read_again_when_a_file_comes_or_goes(tmp_path: Path) -> None:
    """Clients are added and removed without a restart; a list that cannot be read stays as it was."""
    alice, _ = identity.write_keys(str(tmp_path / "server"), "alice")
    key = identity.load_public(alice)
    directory = tmp_path / "allowed"
    directory.mkdir()
    allow = identity.AllowList(str(directory))
    assert key not in allow

    (directory / "alice.key").write_bytes(Path(alice).read_bytes())
    (directory / "notes.txt").write_text("not a key")
    os.utime(directory, ns=(1, 1))
    assert key in allow

    (directory / "bob.key").write_text("half written")
    os.utime(directory, ns=(2, 2))
    assert key in allow

    (directory / "bob.key").unlink()
    (directory / "alice.key").unlink()
    os.utime(directory, ns=(3, 3))
    assert key not in allow


def test_an_allow_list_must_be_readable_to_begin_with(tmp_path: Path) -> None:
    """A missing directory, or a damaged file in it, stops the start."""
    with pytest.raises(ConfigError, match="allow list"):
        identity.AllowList(str(tmp_path / "nowhere"))
    (tmp_path / "bob.key").write_text("half written")
    with pytest.raises(ConfigError, match="no key file"):
        identity.AllowList(str(tmp_path))
