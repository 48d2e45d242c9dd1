"""Space that is not used any more is given back, while clients write."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

import zkv
from tests.harness.ctl import Step, play_zkv
from tests.harness.processes import wait_until
from tests.harness.writers import Writers
from zkv.errors import Compacted, NoSpace
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path

KEYS = 12_800
BATCH = 128


def fill(kv: zkv.Client, rounds: int) -> int:
    """Each key once in a round, with 500 bytes that cannot be compressed away; the revision reached."""
    revision = 0
    for round_ in range(rounds):
        for start in range(0, KEYS, BATCH):
            puts = [zkv.put(f"k{number:06d}", noise(round_, number)) for number in range(start, start + BATCH)]
            revision = kv.txn().then(*puts).commit().revision
    return revision


def noise(*seed: int) -> bytes:
    return random.Random(repr(seed)).randbytes(500)


def test_compaction_and_defragmentation_give_space_back_under_writes() -> None:
    """Three generations written and two compacted away: what is left on the disk is what is in use."""
    with LocalCluster(1) as cluster, cluster.client() as kv, Writers(cluster.client, count=1) as writers:
        revision = fill(kv, 3)
        kv.compact(revision, physical=True, timeout=60)
        before = kv.status()
        done = play_zkv(cluster.endpoints[0], Step("defrag --command-timeout 60s"))
        assert (done.code, done.stdout) == (0, f"Finished defragmenting zkv member[{cluster.endpoints[0]}]\n"), (
            done.stderr
        )
        writers.wait_for(10)
        live = KEYS * 2 * 500  # a record, and the event that watchers read
        assert before.db_size > 2 * live
        # RocksDB takes the files away that it has rewritten after it has said that it is done.
        wait_until(lambda: kv.status().db_size < 2 * live, "the space is given back")
        after = kv.status()
        assert live // 2 < after.db_size_in_use <= after.db_size + (64 << 20)
        writers.stop()
        writers.verdict().assert_clean()


def test_a_stopped_members_data_can_be_defragmented_and_a_running_ones_not(tmp_path: Path) -> None:
    with LocalCluster(1, data_dir=tmp_path) as cluster, cluster.client() as kv:
        kv.put("a", "1")
        line = f"defrag --data-dir {tmp_path}/n1"
        refused = play_zkv("", Step(line))
        assert (refused.code, "is in use" in refused.stderr) == (1, True)
        cluster.stop(0)
        assert play_zkv("", Step(line)).code == 0
        cluster.start(0)
        record = kv.get("a")
        assert record is not None
    nothing = play_zkv("", Step(f"defrag --data-dir {tmp_path}/nothing"))
    assert (nothing.code, "is no data directory" in nothing.stderr) == (1, True)


def test_every_member_is_defragmented_and_one_that_is_away_is_told() -> None:
    with LocalCluster(3) as cluster, cluster.client() as kv:
        kv.put("a", "1")
        gone = next(number for number in range(3) if number != cluster.leader())
        cluster.kill(gone)
        done = play_zkv(cluster.endpoints[cluster.leader()], Step("defrag --cluster --dial-timeout 300ms"))
        assert done.code == 1
        assert done.stdout.count("Finished defragmenting zkv member[") == 2
        assert done.stderr.startswith(f"Failed to defragment zkv member[{cluster.endpoints[gone]}] (")


def test_a_store_that_outgrew_its_quota_takes_nothing_more_until_there_is_room() -> None:
    """Puts are refused, deletes and compaction are not; the alarm is everywhere, and ends by itself."""
    quota = 2_000_000
    with LocalCluster(3, arguments=[f"--quota-backend-bytes={quota}"]) as cluster, cluster.client() as kv:

        def full() -> bool:
            try:
                numbers = random.sample(range(10**6), 100)
                kv.txn().then(*[zkv.put(f"k{number}", noise(number)) for number in numbers]).commit()
            except NoSpace:
                return True
            return False

        wait_until(full, "the quota is noticed")
        with pytest.raises(NoSpace):
            kv.put("a", "1")
        with pytest.raises(NoSpace):
            kv.grant(60)
        for endpoint in cluster.endpoints:
            listed = play_zkv(endpoint, Step("alarm list"))
            assert listed.stdout.endswith(" alarm:NOSPACE \n")
            assert kv.status(endpoint).errors == (listed.stdout.strip() + " ",)
        revision = kv.delete(from_key=True, key="k").revision
        kv.compact(revision, physical=True, timeout=30)
        for endpoint in cluster.endpoints:
            play_zkv(endpoint, Step("defrag --command-timeout 30s"))

        def writable() -> bool:
            try:
                kv.put("a", "1")
            except NoSpace:
                return False
            return True

        wait_until(writable, "the alarm has ended")
        assert play_zkv(cluster.endpoints[0], Step("alarm list")).stdout == ""


def test_an_alarm_can_be_disarmed_by_hand() -> None:
    with LocalCluster(1, arguments=["--quota-backend-bytes=200000"]) as cluster, cluster.client() as kv:
        kv.txn().then(*[zkv.put(f"k{number}", noise(number)) for number in range(BATCH)]).commit()
        kv.txn().then(*[zkv.put(f"l{number}", noise(number)) for number in range(BATCH)]).commit()
        where = cluster.endpoints[0]
        wait_until(lambda: "NOSPACE" in play_zkv(where, Step("alarm list")).stdout, "the alarm is on")
        assert "NOSPACE" in play_zkv(where, Step("alarm disarm")).stdout
        assert play_zkv(where, Step("alarm list -w json")).code == 0


def test_history_is_compacted_without_anybody_asking() -> None:
    """By age: what was superseded longer ago than the retention can no longer be read."""
    arguments = ["--auto-compaction-mode=periodic", "--auto-compaction-retention=2s"]
    with LocalCluster(1, arguments=arguments) as cluster, cluster.client() as kv:
        first = kv.put("a", "1").revision

        def compacted() -> bool:
            kv.put("a", "2")
            try:
                kv.get("a", revision=first)
            except Compacted:
                return True
            return False

        wait_until(compacted, "the first revision is compacted")
