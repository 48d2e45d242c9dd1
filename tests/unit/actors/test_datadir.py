"""Whose a data directory is: what is refused, what is kept, and that a refusal touches nothing."""

from __future__ import annotations

import fcntl
import os
import stat
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from zkv.actors import datadir
from zkv.config import NodeConfig
from zkv.errors import ConfigError, CorruptionError
from zkv.wire import codec

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCKET_PATH_BYTES_MAX = 107


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datadir, "LOCK_PATIENCE_S", 0.0)


def config(path: Path, **settings: object) -> NodeConfig:
    return NodeConfig(data_dir=str(path), **settings)  # type: ignore[arg-type]


def tree(path: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() if file.is_file() else b"" for file in sorted(path.rglob("*"))}


@contextmanager
def refused(path: Path, why: str, error: type[Exception] = ConfigError) -> Iterator[None]:
    """The block is refused with one line that says why, and changes nothing below `path`."""
    before = tree(path)
    with pytest.raises(error, match=why) as caught:
        yield
    assert "\n" not in str(caught.value)
    assert tree(path) == before


def test_a_new_directory_is_laid_out_as_etcds_and_private(tmp_path: Path) -> None:
    """member/wal and member/snap, 0700, and nobody else may look into the sockets' directory either."""
    with datadir.opened(config(tmp_path / "deep" / "data")) as node:
        assert node.wal_dir == str(tmp_path / "deep" / "data" / "member" / "wal")
        assert node.store_dir == str(tmp_path / "deep" / "data" / "member" / "snap" / "db")
        assert os.path.isdir(node.wal_dir)
        for path in (tmp_path / "deep" / "data", tmp_path / "deep" / "data" / "member", Path(node.rundir)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_restart_keeps_the_identity_and_does_not_consult_the_initial_settings(tmp_path: Path) -> None:
    """As in etcd: with data, initial-cluster and its token may say anything."""
    with datadir.opened(config(tmp_path, initial_cluster_token="one")) as node:
        first = node.member_id, node.cluster_id, node.bootstrap
    other = config(
        tmp_path, initial_cluster_token="two", initial_cluster="default=http://10.0.0.1:1,b=http://10.0.0.2:1"
    )
    with datadir.opened(other) as node:
        assert (node.member_id, node.cluster_id, node.bootstrap) == first


def test_a_new_member_that_is_not_in_its_cluster_is_refused_before_a_file_is_made(tmp_path: Path) -> None:
    with (
        refused(tmp_path, "couldn't find local name"),
        datadir.opened(config(tmp_path / "d", initial_cluster="b=tcp://h:1")),
    ):
        pass


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    with (
        datadir.opened(config(tmp_path)),
        refused(tmp_path, "is in use by another process"),
        datadir.opened(config(tmp_path)),
    ):
        pass


def test_a_lock_file_that_its_holder_removed_is_no_lock(tmp_path: Path) -> None:
    """Two nodes must not both believe to hold a lock because one of them locked a name that is gone."""
    path = tmp_path / "lock"
    held = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    path.unlink()
    taken = datadir._try_lock(path)
    assert taken is not None
    assert os.fstat(taken).st_ino == path.stat().st_ino
    os.close(taken)
    os.close(held)


def test_a_directory_of_another_member_is_refused(tmp_path: Path) -> None:
    with datadir.opened(config(tmp_path, name="a", initial_cluster="a=http://localhost:2380")):
        pass
    with refused(tmp_path, "belongs to member 'a', not to 'b'"), datadir.opened(config(tmp_path, name="b")):
        pass


def test_a_directory_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    """Whatever else a later format holds, this program reads its number and leaves it alone."""
    (tmp_path / "member").mkdir()
    body = codec.pack((datadir.FORMAT + 1, "what a later version knows"))
    (tmp_path / "member" / "identity").write_bytes(zlib.crc32(body).to_bytes(4, "big") + body)
    with refused(tmp_path, "was written by a newer version"), datadir.opened(config(tmp_path)):
        pass


def test_a_directory_of_etcds_is_refused(tmp_path: Path) -> None:
    """Laid out alike, so settings written for etcd name it: it stays as it was, and its owner is told how to go on."""
    (tmp_path / "member" / "wal").mkdir(parents=True)
    (tmp_path / "member" / "snap").mkdir()
    (tmp_path / "member" / "snap" / "db").write_bytes(b"bbolt")
    with refused(tmp_path, "holds etcd's data: import .*snap/db with zkv snap"), datadir.opened(config(tmp_path)):
        pass


def test_data_without_an_identity_are_refused(tmp_path: Path) -> None:
    (tmp_path / "member" / "wal").mkdir(parents=True)
    (tmp_path / "member" / "wal" / "0.wal").write_bytes(b"log")
    with refused(tmp_path, "identity, which says whose, is missing"), datadir.opened(config(tmp_path)):
        pass


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with refused(tmp_path, "cannot be written"), datadir.opened(config(tmp_path / "file" / "data")):
        pass


@pytest.mark.parametrize("position", [0, 4, 5, 20])
def test_a_damaged_identity_is_told(tmp_path: Path, position: int) -> None:
    with datadir.opened(config(tmp_path)):
        pass
    identity = tmp_path / "member" / "identity"
    data = bytearray(identity.read_bytes())
    data[position] ^= 1
    identity.write_bytes(data)
    with refused(tmp_path, "is damaged", CorruptionError), datadir.opened(config(tmp_path)):
        pass


@pytest.mark.parametrize("storage", ["disk", "memory"])
def test_socket_paths_are_short_whatever_the_data_directory_is_called(
    tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path.joinpath(*["a" * 100] * 5)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / ("b" * 60)))
    with datadir.opened(config(deep, storage=storage)) as node:
        assert len(os.path.join(node.rundir, "gateway.sock")) <= SOCKET_PATH_BYTES_MAX


def test_what_a_killed_node_left_is_cleared_and_nothing_stays_at_the_end(tmp_path: Path) -> None:
    """The sockets' directory is found again by the data directory's name."""
    with datadir.opened(config(tmp_path)) as node:
        rundir = Path(node.rundir)
    assert not rundir.exists()
    (rundir / "left").mkdir(parents=True)
    (rundir / "raft.sock").touch()
    with datadir.opened(config(tmp_path)) as node:
        assert node.rundir == str(rundir)
        assert [path.name for path in rundir.iterdir()] == ["lock"]
    assert not rundir.exists()


def test_memory_touches_no_disk_and_knows_nothing_of_before(tmp_path: Path) -> None:
    memory = config(tmp_path / "data", storage="memory")
    with datadir.opened(memory) as node:
        store = Path(node.store_dir)
        Path(node.wal_dir, "1.wal").touch()
        assert not (tmp_path / "data").exists()
        with pytest.raises(ConfigError, match="in use"), datadir.opened(memory):
            pass
    assert not store.parent.exists()
    with datadir.opened(memory) as node:
        assert os.listdir(node.wal_dir) == []
