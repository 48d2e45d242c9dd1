"""A disk that is full, for real: writes are refused with etcd's error, nothing is harmed, and space is all it takes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

import zkv
from tests.harness.agreement import same_on_all
from tests.harness.ctl import Step, play_zkv
from tests.harness.processes import wait_until
from tests.harness.small_disk import MEBIBYTE, small_disk
from tests.harness.writers import Writers
from zkv.errors import NoSpace, ZkvError
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path

DISK_BYTES = 224 * MEBIBYTE


def refused(kv: zkv.Client) -> bool:
    try:
        kv.put("a", "2")
    except NoSpace as error:
        return str(error) == "etcdserver: mvcc: database space exceeded"
    return False


def test_a_member_whose_disk_fills_refuses_writes_until_there_is_space(tmp_path: Path) -> None:
    """Reads go on; what was acknowledged is there; deletes are taken; and nobody has to do anything but make room."""
    with (
        small_disk(tmp_path / "n1", DISK_BYTES) as disk,
        LocalCluster(1, data_dir=tmp_path) as cluster,
        cluster.client() as kv,
        Writers(cluster.client, count=1) as writers,
    ):
        kv.put("a", "1")
        writers.wait_for(20)
        disk.fill(leave=48 * MEBIBYTE)
        wait_until(lambda: refused(kv), "the full disk is noticed")
        record = kv.get("a")
        assert record is not None
        assert kv.delete("a").deleted == 1
        assert "alarm:NOSPACE" in play_zkv(cluster.endpoints[0], Step("alarm list")).stdout
        disk.free()
        wait_until(lambda: not refused(kv), "writes are taken again")
        assert play_zkv(cluster.endpoints[0], Step("alarm list")).stdout == ""
        writers.wait_for(20)
        writers.stop()
        writers.verdict().assert_clean()
        assert "actor died" not in cluster.log(0)


def test_a_follower_without_any_space_left_falls_behind_and_catches_up(tmp_path: Path) -> None:
    """Neither its log nor its store finds room; the others serve on, and it refuses what comes in at its own door."""
    with (
        small_disk(tmp_path / "n1", DISK_BYTES) as disk,
        LocalCluster(3, data_dir=tmp_path) as cluster,
        cluster.client() as kv,
    ):
        kv.put("a", "1")
        others = [number for number in range(3) if number]
        with zkv.Client([cluster.endpoints[number] for number in others]) as elsewhere:
            if cluster.leader() == 0:
                elsewhere.move_leader(elsewhere.members().members[others[0]].id)
            disk.fill()
            value = random.Random(1).randbytes(1 << 20)
            for number in range(48):
                elsewhere.put(f"big{number % 8}", value, timeout=20)
            for what in ("no space left on the disk, this member takes no writes", "waiting for some"):
                wait_until(lambda what=what: what in cluster.log(0), "neither store nor log has room")  # type: ignore[misc]
            with zkv.Client(cluster.endpoints[0], timeout=3) as there, pytest.raises(ZkvError) as told:
                there.put("b", "1")
            assert not told.value.maybe_applied
            last = elsewhere.put("last", "1").revision
        disk.free()
        wait_until(lambda: cluster.revision(0) >= last, "it has caught up", 60)
        same_on_all(cluster)


def test_a_backup_that_finds_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither the file that was being saved, nor the data directory that was being restored."""
    with LocalCluster(1) as cluster, cluster.client() as kv, small_disk(tmp_path / "small", 8 * MEBIBYTE) as disk:
        for number in range(12):
            kv.put(f"big{number}", random.Random(number).randbytes(1 << 20))
        full = play_zkv(cluster.endpoints[0], Step(f"snapshot save {disk.path}/backup"))
        assert (full.code, full.stdout) == (1, "")
        assert full.stderr == f"Error: could not save the snapshot to {disk.path}/backup: No space left on device\n"
        saved = play_zkv(cluster.endpoints[0], Step(f"snapshot save {tmp_path}/backup"))
        assert saved.code == 0, saved.stderr
        disk.fill(leave=2 * MEBIBYTE)
        full = play_zkv("", Step(f"snapshot restore {tmp_path}/backup --data-dir {disk.path}/data"))
        assert (full.code, full.stdout) == (1, "")
        assert full.stderr.startswith(f"Error: could not restore {tmp_path}/backup: ")
        assert "No space left on device" in full.stderr
        assert full.stderr.count("\n") == 1
        assert [path.name for path in disk.path.iterdir()] == ["filler"]
        full = play_zkv(cluster.endpoints[0], Step(f"snapshot stream --to {disk.path}/stream --once"))
        assert (full.code, full.stdout) == (1, "")
        assert full.stderr == f"Error: could not write to {disk.path}/stream: No space left on device\n"
        assert not [path.name for path in (disk.path / "stream").iterdir() if path.suffix == ".part"]


def test_a_refill_without_room_is_made_once_there_is_some(tmp_path: Path) -> None:
    """A snapshot that finds no room is thrown away and asked for again; the others serve all the while."""
    with (
        small_disk(tmp_path / "n3", DISK_BYTES) as disk,
        LocalCluster(3, data_dir=tmp_path) as cluster,
        cluster.client() as kv,
    ):
        member = disk.path / "member"
        for number in range(24):
            kv.put(f"big{number}", random.Random(number).randbytes(1 << 20), timeout=20)
        cluster.stop(2)
        assert play_zkv("", Step(f"member refill --data-dir {disk.path}")).code == 0
        disk.fill(leave=40 * MEBIBYTE)
        cluster.start(2, wait=False)
        wait_until(lambda: "no space left on the disk for a snapshot" in cluster.log(2), "it does not fit")
        last = kv.put("a", "1", timeout=20).revision
        assert (member / "refilled-from").exists()
        disk.free()
        wait_until(lambda: cluster.revision(2) >= last, "it has caught up", 60)
        wait_until(lambda: not (member / "refill").exists(), "it counts again", 60)
        same_on_all(cluster)
