"""`zkv server` as its operators meet it: real processes, started and ended as they do, and what is there meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.harness.processes import ACTORS, alive, children, wait_until
from zkv import Client
from zkv.testing import ClusterError, LocalCluster, free_ports
from zkv.wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable


def server(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zkv", "server", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()


# --- where and as what it runs ---------------------------------------------------------------------


def test_a_data_directory_however_deep_serves(tmp_path: Path) -> None:
    """Socket paths have 107 bytes; the path of the data directory may have a thousand."""
    deep = tmp_path.joinpath(*["a" * 100] * 10)
    with LocalCluster(1, data_dir=deep) as cluster, cluster.client() as kv:
        kv.put("a", "1")
        assert (deep / "n1" / "member" / "wal").is_dir()


def test_ps_shows_which_process_is_which() -> None:
    """Each has its part and its member's name in its title."""
    with LocalCluster(1) as cluster:
        assert title(cluster.pid(0)) == "zkv: supervisor n1"
        assert set(children(cluster.pid(0))) == set(ACTORS)
        assert all(title(pid) == f"zkv: {actor} n1" for actor, pid in children(cluster.pid(0)).items())


def test_a_configuration_file_of_etcd_with_http_peers_serves(tmp_path: Path) -> None:
    """Peers written http:// talk over ZeroMQ, and are shown as given."""
    clients, peers = free_ports(2)
    file = tmp_path / "etcd.yml"
    file.write_text(
        f"name: infra0\ndata-dir: {tmp_path / 'infra0.etcd'}\n"
        f"listen-peer-urls: http://127.0.0.1:{peers}\ninitial-advertise-peer-urls: http://127.0.0.1:{peers}\n"
        f"listen-client-urls: tcp://127.0.0.1:{clients}\nadvertise-client-urls: tcp://127.0.0.1:{clients}\n"
        f"initial-cluster: infra0=http://127.0.0.1:{peers}\ninitial-cluster-token: etcd-cluster-1\n"
        "initial-cluster-state: new\nheartbeat-interval: 100\nelection-timeout: 1000\nsnapshot-count: 10000\n"
    )
    node = server("--config-file", str(file))
    try:
        with Client(f"tcp://127.0.0.1:{clients}", timeout=20) as kv:
            kv.put("a", "1")
            (member,) = kv.members().members
            assert member.peer_urls == (f"http://127.0.0.1:{peers}",)
    finally:
        node.terminate()
        node.communicate()
    assert node.returncode == 0


# --- what is refused ---------------------------------------------------------------------------------


def of_a_newer_version(data_dir: Path) -> None:
    import zlib

    body = codec.pack((99, "what a later version knows"))
    (data_dir / "member" / "identity").write_bytes(zlib.crc32(body).to_bytes(4, "big") + body)


@pytest.mark.parametrize(
    ("spoil", "arguments", "why"),
    [
        (None, ["--name=other"], "belongs to member 'n1', not to 'other'"),
        (of_a_newer_version, ["--name=n1"], "was written by a newer version"),
        (None, ["--name=n1", "--bogus=1"], "--bogus"),
    ],
    ids=["another member's", "a newer version's", "an unknown flag"],
)
def test_data_of_a_member_are_refused_with_one_line_and_stay_as_they_were(
    tmp_path: Path, spoil: Callable[[Path], None] | None, arguments: list[str], why: str
) -> None:
    """Exit status not 0, and no byte of the directory is another."""
    with LocalCluster(1, data_dir=tmp_path) as cluster, cluster.client() as kv:
        kv.put("a", "1")
    data_dir = tmp_path / "n1"
    if spoil:
        spoil(data_dir)
    before = {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()}
    client, peer = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
    listen = [f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}"]
    refused = server(f"--data-dir={data_dir}", *listen, *arguments)
    out, err = refused.communicate(timeout=20)
    assert (refused.returncode, out, err.count("\n")) == (1, "", 1)
    assert why in err
    assert {path: path.read_bytes() for path in data_dir.rglob("*") if path.is_file()} == before


def test_a_second_server_on_the_same_data_is_refused_and_does_not_disturb_the_first() -> None:
    with LocalCluster(1) as cluster, cluster.client() as kv:
        client, peer = (f"tcp://127.0.0.1:{port}" for port in free_ports(2))
        listen = [f"--listen-client-urls={client}", f"--advertise-client-urls={client}", f"--listen-peer-urls={peer}"]
        second = server("--name=n1", f"--data-dir={cluster._home / 'n1'}", *listen)
        _, err = second.communicate(timeout=20)
        assert (second.returncode, err.count("\n")) == (1, 1)
        assert "is in use by another process" in err
        kv.put("a", "1")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--initial-cluster=other=tcp://127.0.0.1:2380"], "couldn't find local name"),
        (["--initial-advertise-peer-urls=tcp://127.0.0.1:1"], "--initial-cluster"),
    ],
    ids=["a name that is not in the cluster", "urls that the cluster does not carry"],
)
def test_a_new_member_that_does_not_fit_its_cluster_is_refused(arguments: list[str], why: str, tmp_path: Path) -> None:
    """Before anything is made."""
    with (
        pytest.raises(ClusterError, match="ended with 1") as caught,
        LocalCluster(1, data_dir=tmp_path, arguments=arguments),
    ):
        pass
    assert why in str(caught.value)
    assert not (tmp_path / "n1").exists()


def test_a_restart_does_not_consult_the_initial_settings() -> None:
    """As in etcd: with data there, initial-cluster, its token and its state may say anything."""
    with LocalCluster(3) as cluster, cluster.client() as kv:
        kv.put("a", "1")
        assert cluster.stop(1) == 0
        cluster.member_arguments[1] = [
            "--initial-cluster=n2=tcp://127.0.0.1:1", "--initial-cluster-token=other",
            "--initial-cluster-state=existing", "--initial-advertise-peer-urls=tcp://127.0.0.1:1",
        ]  # fmt: skip
        cluster.start(1)
        with Client(cluster.endpoints[1], timeout=10) as other:
            found = other.get("a")
            assert found is not None
            assert found.value == b"1"


# --- how it ends ---------------------------------------------------------------------------------------


def test_ctrl_c_leaves_nothing() -> None:
    """A terminal sends SIGINT to the whole group: the node ends in order, and takes its sockets along."""
    with LocalCluster(1) as cluster, cluster.client() as kv:
        kv.put("a", "1")
        actors = children(cluster.pid(0))
        assert list(cluster._sockets.glob("*/*.sock"))
        os.killpg(cluster.pid(0), signal.SIGINT)
        assert cluster.wait_exit(0) == 0
        assert not [actor for actor, pid in actors.items() if alive(pid)]
        assert list(cluster._sockets.iterdir()) == []
        assert "Traceback" not in cluster.log(0)
        cluster.start(0)
        with cluster.client() as again:
            assert again.get("a") is not None


def test_actors_go_when_their_supervisor_is_killed() -> None:
    """Nobody would ever stop or restart them: they leave at once, and the member can be started again."""
    with LocalCluster(1) as cluster:
        actors = children(cluster.pid(0))
        os.kill(cluster.pid(0), signal.SIGKILL)
        wait_until(lambda: not any(map(alive, actors.values())), "the actors are gone")
        cluster.kill(0)
        cluster.start(0)


# --- who serves what -------------------------------------------------------------------------------------


def test_followers_take_writes_and_serve_linearizable_reads() -> None:
    """What one follower acknowledged, the other one shows at once."""
    with LocalCluster(3) as cluster:
        leader = cluster.leader()
        one, other = (Client(cluster.endpoints[number], timeout=10) for number in range(3) if number != leader)
        with one, other:
            for number in range(200):
                revision = one.put("a", str(number)).revision
                found = other.get("a")
                assert found is not None
                assert (found.value, found.mod_revision) == (str(number).encode(), revision)


def test_a_write_whose_answer_was_lost_is_made_once() -> None:
    """The gateway dies again and again while a client puts one key: its version is the number of puts."""
    with LocalCluster(1) as cluster, cluster.client(timeout=20) as kv:
        for number in range(1, 401):
            if number % 100 == 0:
                os.kill(children(cluster.pid(0))["gateway"], signal.SIGKILL)
            kv.put("counter", str(number))
        found = kv.get("counter")
        assert found is not None
        assert (found.version, found.value) == (400, b"400")
