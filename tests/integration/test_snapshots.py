"""Backup and restore, on real processes with a client writing all the while."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from tests.harness.agreement import same_on_all
from tests.harness.lasting import Running
from tests.harness.processes import wait_until
from tests.harness.restoring import restored, zkv_command
from tests.harness.writers import Writers
from zkv.actors.rocks_engine import RocksEngine
from zkv.core.mvcc import layout
from zkv.errors import Compacted
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path


def saved(cluster: LocalCluster, path: Path) -> Path:
    done = zkv_command(f"snapshot save {path}", cluster.endpoints[0])
    assert (done.code, done.stdout) == (0, f"Snapshot saved at {path}\n"), done.stderr
    return path


def test_a_cluster_is_restored_from_a_snapshot_taken_under_writes(tmp_path: Path) -> None:
    """All that was acknowledged before is there, on all members alike; revisions only go up, and members are new."""
    with LocalCluster(3) as cluster:
        with Writers(cluster.client, count=2) as writers:
            writers.wait_for(200)
            with cluster.client() as kv:
                kv.put("kept", "old")
                kept = kv.put("kept", "value").revision
                lease = kv.grant(60).id
                kv.put("leased", "x", lease=lease)
                before = {record.key: record for record in kv.range(prefix="w/")}
                old_members = {member.id for member in kv.members().members}
            path = saved(cluster, tmp_path / "backup")
            writers.wait_for(20)
        with cluster.client() as kv:
            newest = kv.status().raft_index
            last = kv.put("later", "x").revision
        assert newest
    with restored(path, tmp_path / "again", 3) as cluster, cluster.client() as kv:
        found = {record.key: record for record in kv.range(prefix="w/")}
        assert before.items() <= found.items()
        record = kv.get("kept")
        assert record is not None
        assert (record.value, record.mod_revision, record.version) == (b"value", kept, 2)
        assert not old_members & {member.id for member in kv.members().members}
        assert kv.put("new", "x").revision > last + 100_000_000
        with pytest.raises(Compacted):
            kv.get("kept", revision=kept)
        assert kv.time_to_live(lease, keys=True).keys == (b"leased",)
        same_on_all(cluster)


def test_revisions_can_be_restored_as_they_were(tmp_path: Path) -> None:
    """As etcd does."""
    with LocalCluster(1) as cluster, cluster.client() as kv:
        kv.put("a", "1")
        kv.put("a", "2")
        path = saved(cluster, tmp_path / "backup")
    options = "--bump-revision=0 --mark-compacted=false"
    with restored(path, tmp_path / "again", 1, options) as cluster, cluster.client() as kv:
        past = kv.get("a", revision=2)
        assert past is not None
        assert past.value == b"1"
        assert kv.put("a", "3").revision == 4


def test_a_copy_of_a_members_storage_can_be_restored(tmp_path: Path) -> None:
    """As etcd users do with member/snap/db, without a digest; of a member that stopped, and of one that was killed."""
    for clean in (True, False):
        home = tmp_path / f"old-{clean}"
        with LocalCluster(1, data_dir=home) as cluster, cluster.client() as kv:
            kv.put("a", "1")
            if clean:
                cluster.stop(0)
        source = home / "n1" / "member" / "snap" / "db"
        refused = zkv_command(f"snapshot restore {source} --data-dir {tmp_path}/x")
        assert (refused.code, "--skip-hash-check" in refused.stderr) == (1, True)
        again = restored(source, tmp_path / f"again-{clean}", 1, "--skip-hash-check")
        with again as cluster, cluster.client() as kv:
            assert kv.put("b", "1").revision > 1_000_000_000
            if clean:
                record = kv.get("a")
                assert record is not None
                assert record.value == b"1"


def test_the_storage_of_a_running_member_can_be_restored(tmp_path: Path) -> None:
    """A copy made by cp while it is written to, and the directory itself: as of some flush, which is told.

    Of a copy that no state is whole in, that is told; nobody has to guess.
    """
    with LocalCluster(3, data_dir=tmp_path / "old") as cluster, cluster.client() as kv:
        stop = threading.Event()
        source = tmp_path / "old" / "n1" / "member" / "snap" / "db"

        def write() -> None:
            for number in itertools.count(1):
                if stop.is_set():
                    return
                kv.put(f"s/{number:06}", bytes(100_000), timeout=60)

        def has_written(tables: int) -> bool:
            return len(list(source.glob("*.sst"))) >= tables or not writer.is_alive()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            wait_until(lambda: has_written(3), "some states are flushed")
            told = {"itself": _as_of(source, tmp_path / "itself")}
            for attempt in range(20):
                copy = tmp_path / f"copy{attempt}"
                subprocess.run(["cp", "-r", str(source), str(copy)], capture_output=True, check=False, timeout=60)
                if (revision := _as_of(copy, tmp_path / "copied")) is not None:
                    told["copied"] = revision
                    break
        finally:
            stop.set()
            writer.join()
    assert set(told) == {"itself", "copied"}
    for name, revision in told.items():
        assert revision is not None
        assert revision > 100, "some flushes have come before"
        engine = RocksEngine(tmp_path / name / "member" / "snap" / "db", create=False)
        try:
            keys = [key for key, _ in engine.scan(layout.CURRENT + b"s/", layout.CURRENT + b"s0")]
        finally:
            engine.close()
        assert keys == [layout.CURRENT + b"s/%06d" % number for number in range(1, len(keys) + 1)]
        assert revision == 1 + len(keys)


def _as_of(source: Path, data_dir: Path) -> int | None:
    """The revision that was restored; None when there was none, and it was said so."""
    done = zkv_command(f"snapshot restore {source} --skip-hash-check --bump-revision=0 --mark-compacted=false "
                       f"--data-dir {data_dir}")  # fmt: skip
    if done.code:
        assert "no state of this store is there whole" in done.stderr
        assert "restore the member's own member/snap/db" in done.stderr
        assert not data_dir.exists()
        return None
    return int(done.stdout.rsplit("as it was at revision ", 1)[1])


def test_what_is_damaged_or_in_the_way_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with LocalCluster(1) as cluster, cluster.client() as kv:
        for number in range(200):
            kv.put(f"k{number}", "v" * 5000)
        path = saved(cluster, tmp_path / "backup")
        two = zkv_command(f"snapshot save {tmp_path}/two", f"{cluster.endpoints[0]},tcp://127.0.0.1:1")
        assert (two.code, two.stderr.startswith("Error: snapshot must be requested to one selected node")) == (5, True)
        nowhere = zkv_command(f"snapshot save {tmp_path}/none/backup", cluster.endpoints[0])
        assert (nowhere.code, "No such file" in nowhere.stderr) == (1, True)
    unreachable = zkv_command(f"--dial-timeout 200ms snapshot save {tmp_path}/two", "tcp://127.0.0.1:1")
    assert unreachable.code == 1
    data = path.read_bytes()
    for name, content in {
        "cut": data[:-1], "shorter": data[: len(data) // 2], "foreign": b"no snapshot at all", "empty": b"",
        "bent": data[:1000] + bytes((data[1000] ^ 1,)) + data[1001:], "digest": data[:-1] + bytes((data[-1] ^ 1,)),
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
        for line in (
            f"snapshot restore {tmp_path}/{name} --data-dir {tmp_path}/data",
            f"snapshot status {tmp_path}/{name}",
        ):
            refused = zkv_command(line)
            assert (refused.code, refused.stdout, refused.stderr.count("\n")) == (1, "", 1), line
            assert refused.stderr.startswith(f"Error: {tmp_path}/{name}: ")
    missing = zkv_command(f"snapshot restore {tmp_path}/nothing --data-dir {tmp_path}/data")
    assert (missing.code, "No such file" in missing.stderr) == (1, True)
    (tmp_path / "data").mkdir()
    there = zkv_command(f"snapshot restore {path} --data-dir {tmp_path}/data")
    assert there.stderr == f'Error: data-dir "{tmp_path}/data" exists\n'
    assert not list((tmp_path / "data").iterdir())
    shutil.rmtree(tmp_path / "data")
    left = {entry.name for entry in tmp_path.iterdir()}
    assert left == {"backup", "cut", "shorter", "foreign", "empty", "bent", "digest"}


def test_a_save_or_a_restore_that_is_interrupted_leaves_nothing_behind(tmp_path: Path) -> None:
    """By Ctrl-C, by kill, or by a terminal that goes: one line, another exit code than 0, and it can be done again."""
    with LocalCluster(1) as cluster, cluster.client() as kv:
        for number in range(40):
            kv.put(f"k{number}", random.Random(number).randbytes(1 << 20))
        path, home = tmp_path / "backup", tmp_path / "home"
        home.mkdir()
        for round_, signum in enumerate((signal.SIGINT, signal.SIGTERM, signal.SIGHUP)):
            line = ["snapshot", "save", str(home / "backup"), "--endpoints", cluster.endpoints[0]]
            _interrupt(line, home, tmp_path / f"save{round_}", signum)
        saved(cluster, path)
    for round_, signum in enumerate((signal.SIGINT, signal.SIGTERM)):
        _interrupt(
            ["snapshot", "restore", str(path), "--data-dir", str(home / "data")], home, tmp_path / f"{round_}", signum
        )
    assert zkv_command(f"snapshot restore {path} --data-dir {home}/data").code == 0


def _interrupt(line: list[str], home: Path, output: Path, signum: signal.Signals) -> None:
    """As soon as it has begun to write anything there."""
    running = Running([sys.executable, "-m", "zkv.ctl.main", *line], output, {})
    wait_until(lambda: any(home.iterdir()), "it has begun")
    done = running.end(signum)
    assert (done.code, done.stdout, done.stderr) == (1, "", "Error: interrupted: nothing half-made is left\n")
    assert not list(home.iterdir())


def test_status_tells_what_is_in_a_snapshot(tmp_path: Path) -> None:
    """And whoever reads one that others may read is warned: it holds all there is."""
    with LocalCluster(1) as cluster, cluster.client() as kv:
        for number in range(3):
            kv.put(f"k{number}", "v")
        path = saved(cluster, tmp_path / "backup")
    simple = zkv_command(f"snapshot status {path}")
    digest, revision, keys, size = simple.stdout.strip().split(", ")
    assert (len(digest), revision, keys) == (8, "4", "3")
    assert size
    table = zkv_command(f"snapshot status {path} -w table").stdout.splitlines()
    assert table[1] == "|   HASH   | REVISION | TOTAL KEYS | TOTAL SIZE |"
    assert digest in table[3]
    assert (
        f'"hash":{int(digest, 16)},"revision":4,"totalKey":3,' in zkv_command(f"snapshot status {path} -w json").stdout
    )
    assert f'"Hash" : {int(digest, 16)}' in zkv_command(f"snapshot status {path} -w fields").stdout
    assert not zkv_command(f"snapshot status {path}").stderr
    path.chmod(0o644)
    for words in (f"status {path}", f"restore {path} --data-dir {tmp_path}/new"):
        assert "is open to other users, and holds every value" in zkv_command(f"snapshot {words}").stderr
