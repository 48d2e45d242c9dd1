"""A new cluster out of what is left of one that lost its quorum for good; and backups of members that do not run."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.harness.ctl import Step, play_zkv
from tests.harness.processes import wait_until
from tests.harness.small_disk import small_disk
from tests.harness.writers import Writers
from zkv.errors import Compacted
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.ctl import Outcome


def zkv_command(line: str, endpoints: str = "") -> Outcome:
    return play_zkv(endpoints, Step(line))


def fingerprint(directory: Path) -> dict[str, tuple[int, str]]:
    """Every file below, with its time and contents."""
    return {
        str(path.relative_to(directory)): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in directory.rglob("*")
        if path.is_file()
    }


def assert_refused(outcome: Outcome, *parts: str, code: int = 1) -> None:
    """One line that says so, and nothing made."""
    assert (outcome.code, outcome.stderr.count("\n")) == (code, 1), outcome
    assert outcome.stderr.startswith("Error: ")
    for part in parts:
        assert part in outcome.stderr


def test_a_new_cluster_is_made_of_what_is_left_and_fenced_from_the_old_one(tmp_path: Path) -> None:
    """Killed, so most is in the log alone; all that was acknowledged is there, and an old member is not let in."""
    with LocalCluster(3, data_dir=tmp_path) as cluster:
        with Writers(cluster.client, count=2) as writers:
            writers.wait_for(200)
        with cluster.client() as kv:
            last = kv.put("last", "word").revision
            lease = kv.grant(60).id
            kv.put("leased", "x", lease=lease)
            old = kv.members().header.cluster_id
        wait_until(lambda: cluster.revision(2) > last, "the third member has it all")
        for number in range(3):
            cluster.kill(number)
        before = fingerprint(tmp_path / "n3")
        looked = zkv_command(f"recover --data-dir {tmp_path}/n3")
        assert (looked.code, looked.stderr) == (0, "")
        assert f"Cluster {old:x}: 3 voters, of which not here: " in looked.stdout
        assert f"{tmp_path}/n3 holds the most.\nMay be lost: " in looked.stdout
        assert looked.stdout.endswith("Make a new cluster of it with --new-data-dir.\n")
        made = zkv_command(f"recover --data-dir {tmp_path}/n3 --new-data-dir {tmp_path}/new -w json")
        assert made.code == 0, made.stderr
        found, new = map(json.loads, made.stdout.splitlines())
        assert (found["clusterID"], found["quorum"], found["complete"], len(found["missing"])) == (old, False, False, 2)
        assert new["dataDir"] == f"{tmp_path}/new"
        assert fingerprint(tmp_path / "n3") == before
        (tmp_path / "n3").rename(tmp_path / "n3.old")
        (tmp_path / "new").rename(tmp_path / "n3")
        cluster.start(2)
        writers.verdict().assert_clean()
        with cluster.client() as kv:
            known = kv.members()
            assert known.header.cluster_id == new["clusterID"] != old
            assert [member.name for member in known.members] == ["n3"]
            assert kv.time_to_live(lease, keys=True).keys == (b"leased",)
            assert kv.put("new", "x").revision > last + 100_000_000
            with pytest.raises(Compacted):
                kv.get("last", revision=last)
        cluster.start(0, wait=False)
        wait_until(lambda: "is of another cluster" in cluster.log(2), "the new cluster has refused the old member")
        cluster.stop(2)
        cluster.start(2)
        assert not cluster.is_ready(0)
        cluster.kill(0)
        added = cluster.add()
        assert cluster.is_ready(added)


def test_the_directory_that_holds_the_most_is_found(tmp_path: Path) -> None:
    """Of two members of five; the one that was down while much was written has the shorter log."""
    with LocalCluster(5, data_dir=tmp_path) as cluster:
        cluster.kill(0)
        with cluster.client() as kv:
            newest = kv.put("newest", "x").revision
            wait_until(lambda: cluster.revision(1) >= newest, "the second member has it")
        for number in range(1, 5):
            cluster.kill(number)
        three = ",".join(f"{tmp_path}/n{number}" for number in (1, 2, 3))
        enough = zkv_command(f"recover --data-dir {three}")
        assert "These members are a quorum: start them as they are, nothing is lost." in enough.stdout
        assert_refused(
            zkv_command(f"recover --data-dir {three} --new-data-dir {tmp_path}/new"), "has not lost its quorum"
        )
        two = f"recover --data-dir {tmp_path}/n1 --data-dir {tmp_path}/n2"
        looked = zkv_command(two)
        assert f"\n{tmp_path}/n2 holds the most.\n" in looked.stdout
        assert len(re.findall(r"\(n[345]\)", looked.stdout)) == 3
        store = tmp_path / "n2" / "member" / "snap" / "db"
        (store / "CURRENT").write_text("nonsense\n")
        damaged = zkv_command(two)
        assert f"{tmp_path}/n2 is damaged, and left out: " in damaged.stderr
        assert f"\n{tmp_path}/n1 holds the most.\n" in damaged.stdout
        assert len(re.findall(r"\(n[2-5]\)|never started", damaged.stdout)) == 4
        assert not (tmp_path / "new").exists()


def test_survivors_that_run_are_looked_at_and_made_use_of(tmp_path: Path) -> None:
    """They tell what is known to be agreed on, and say how to keep more."""
    with LocalCluster(3, data_dir=tmp_path) as cluster:
        with cluster.client() as kv:
            revision = kv.put("a", "1").revision
        wait_until(lambda: min(map(cluster.revision, range(3))) >= revision, "all have it")
        everywhere = ",".join(cluster.endpoints)
        well = zkv_command(f"recover --endpoints {everywhere}")
        assert (well.code, "This cluster has not lost its quorum: " in well.stdout) == (0, True)
        assert_refused(zkv_command(f"recover --new-data-dir {tmp_path}/new", everywhere), "has not lost its quorum")
        for number in (0, 1):
            cluster.kill(number)
        wait_until(lambda: "leads" not in zkv_command("recover", cluster.endpoints[2]).stdout, "it knows no leader")
        looked = zkv_command(f"--dial-timeout 300ms --command-timeout 1s recover --endpoints {everywhere}")
        assert (looked.code, looked.stderr.count(" does not answer, and is left out: ")) == (0, 2)
        facts = json.loads(zkv_command("recover -w json", cluster.endpoints[2]).stdout)
        assert (facts["quorum"], facts["endpoints"][0]["revision"]) == (False, revision)
        assert f"{cluster.endpoints[2]} holds the most of what is known to be agreed on.\n" in looked.stdout
        made = zkv_command(f"recover --new-data-dir {tmp_path}/new", cluster.endpoints[2])
        assert made.code == 0, made.stderr
        cluster.kill(2)
        shutil.rmtree(tmp_path / "n3")
        (tmp_path / "new").rename(tmp_path / "n3")
        cluster.start(2)
        with cluster.client() as kv:
            record = kv.get("a")
            assert record is not None
            assert record.value == b"1"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"n1", "n2", "n3", "n1.log", "n2.log", "n3.log", "ports"}


def test_what_cannot_be_recovered_is_told_in_one_line_and_nothing_is_made(tmp_path: Path) -> None:
    new = f"--new-data-dir {tmp_path}/new"
    homes = [tmp_path / "one", tmp_path / "two"]
    with LocalCluster(1, data_dir=homes[0]) as cluster, cluster.client() as kv:
        kv.put("a", "1")
        assert_refused(zkv_command(f"recover --data-dir {homes[0]}/n1 {new}"), "is in use by another process")
        assert_refused(
            zkv_command(f"recover --data-dir {homes[0]}/n1 --endpoints {cluster.endpoints[0]}"),
            "data directories or at endpoints, not at both",
            code=128,
        )
        backup = f"backup --data-dir {homes[0]}/n1 --backup-dir {tmp_path}/backup"
        assert_refused(zkv_command(backup), "is in use by another process")
    with LocalCluster(3, data_dir=homes[1]):
        pass
    one, two = f"{homes[0]}/n1", f"{homes[1]}/n1"
    shutil.copytree(two, tmp_path / "copy")
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    for line, *parts in (
        (f"recover --data-dir {tmp_path}/missing {new}", "is no data directory of zkv"),
        (f"recover --data-dir {nothing} {new}", "is no data directory of zkv"),
        (f"recover --data-dir {one},{two} {new}", "recover one cluster at a time"),
        (f"recover --data-dir {two},{tmp_path}/copy {new}", "are both of member", "name the newer one alone"),
        (f"recover --data-dir {two} --new-data-dir {nothing}", f'data-dir "{nothing}" exists'),
        (f"recover --data-dir {two} --new-data-dir {two}", f'data-dir "{two}" exists'),
        (f"recover --data-dir {two} {new} --initial-advertise-peer-urls nonsense", "nonsense"),
        (f"recover --data-dir {two} {new} --name a=b", "--name must be printable"),
        (f"backup --data-dir {nothing} --backup-dir {tmp_path}/backup", "is no data directory of zkv"),
        (f"backup --data-dir {one} --backup-dir {nothing}", f'data-dir "{nothing}" exists'),
        (f"--dial-timeout 200ms recover --endpoints 127.0.0.1:1 {new}", "none of these endpoints answers"),
    ):  # fmt: skip
        refused = zkv_command(line)
        *_, last = refused.stderr.splitlines(keepends=True)
        assert_refused(refused._replace(stderr=last), *parts)
    for line in ("recover extra", "backup", f"backup --data-dir {one}", f"recover {new} --bump-revision=-1"):
        assert zkv_command(line, "127.0.0.1:1").code != 0
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two", "copy", "nothing"}
    assert not list(nothing.iterdir())


def test_a_stopped_member_is_backed_up(tmp_path: Path) -> None:
    """All it held, at the same revision, in a directory that is a cluster of its own; the original stays as it is."""
    with LocalCluster(1, data_dir=tmp_path / "old") as cluster:
        with cluster.client() as kv:
            kv.put("a", "1")
            revision = kv.put("a", "2").revision
            old = kv.members().header.cluster_id
        cluster.kill(0)
        before = fingerprint(tmp_path / "old" / "n1")
        command = f"backup --data-dir {tmp_path}/old/n1 --backup-dir {tmp_path}/backup"
        assert zkv_command(f"{command} -w table").code == 4
        done = zkv_command(f"{command} -w json")
        assert (done.code, done.stderr) == (0, "")
        assert json.loads(done.stdout)["revision"] == revision
        assert fingerprint(tmp_path / "old" / "n1") == before
        (tmp_path / "old" / "n1").rename(tmp_path / "aside")
        shutil.copytree(tmp_path / "backup", tmp_path / "old" / "n1")
        for flags in ([], ["--force-new-cluster"]):
            cluster.member_arguments[0] = flags
            cluster.start(0)
            with cluster.client() as kv:
                past = kv.get("a", revision=revision - 1)
                assert past is not None
                assert past.value == b"1"
                assert kv.members().header.cluster_id != old
            cluster.stop(0)
    again = f"snapshot restore {tmp_path}/backup/member/snap/db --skip-hash-check --data-dir {tmp_path}/again"
    assert zkv_command(again).code == 0


def test_a_disk_that_is_full_in_the_middle_leaves_nothing_behind(tmp_path: Path) -> None:
    """Of a recovery, a backup, or a restore: one line, and the room is there again."""
    with LocalCluster(3, data_dir=tmp_path / "old") as cluster:
        with cluster.client() as kv:
            for number in range(40):
                revision = kv.put(f"k{number}", random.Random(number).randbytes(200_000)).revision
        wait_until(lambda: cluster.revision(0) >= revision, "the first member has it")
        saved = zkv_command(f"snapshot save {tmp_path}/snapshot", cluster.endpoints[0])
        assert saved.code == 0, saved.stderr
    small = tmp_path / "small"
    with small_disk(small, 4 << 20):
        for line in (
            f"recover --data-dir {tmp_path}/old/n1 --new-data-dir {small}/new",
            f"backup --data-dir {tmp_path}/old/n1 --backup-dir {small}/new",
            f"snapshot restore {tmp_path}/snapshot --data-dir {small}/new",
        ):
            assert_refused(zkv_command(line), "No space left on device")
            assert not list(small.iterdir())
