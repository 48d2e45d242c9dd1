"""Prefix policies on real processes: under writes, over a leader's death, at each door, in backups."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING

import grpc
import pytest

import zkv
from tests.harness.ctl import Step, play_zkv
from tests.harness.etcd_api import EtcdApi
from tests.harness.processes import wait_until
from tests.harness.restoring import restored, zkv_command
from zkv import errors
from zkv.core.mvcc.quotas import COUNT_KEYS
from zkv.testing import LocalCluster
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = 8 * COUNT_KEYS
ROOM = 40


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(1, storage="memory", etcd_api=True) as made:
        yield made


@pytest.fixture
def kv(cluster: LocalCluster) -> Iterator[zkv.Client]:
    with cluster.client(timeout=30) as client:
        yield client


def of_each(cluster: LocalCluster) -> list[tuple[m.Quota, ...]]:
    """What each member answers."""
    told = []
    for endpoint in cluster.endpoints:
        with zkv.Client([endpoint], timeout=30) as one:
            told.append(one.quotas().quotas)
    return told


def used(kv: zkv.Client, prefix: str) -> tuple[int, int]:
    under = list(kv.range(prefix=prefix))
    return len(under), sum(len(each.key) + len(each.value) for each in under)


class Churn:
    """Keys put and deleted under a prefix, and what was answered forgotten, until it is stopped."""

    def __init__(self, cluster: LocalCluster, prefix: str) -> None:
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(cluster, prefix, at)) for at in range(2)]
        for thread in self._threads:
            thread.start()

    def _run(self, cluster: LocalCluster, prefix: str, number: int) -> None:
        with cluster.client(timeout=60) as kv:
            turn = 0
            while not self._stop.is_set():
                turn += 1
                kv.put(f"{prefix}{turn * 37 % KEYS:06d}-{number}", "x" * (turn % 90))
                kv.delete(f"{prefix}{turn * 53 % KEYS:06d}" + ("" if turn % 2 else f"-{number}"))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def test_members_count_alike_over_the_death_of_a_leader_and_a_new_member_does_too() -> None:
    """A prefix full of keys gets its policy while clients change them, and the leader dies at once."""
    with LocalCluster(3) as cluster, cluster.client(timeout=60) as kv:
        for start in range(0, KEYS, 100):
            kv.txn().then(*(zkv.put(f"a/{number:06d}", "before") for number in range(start, start + 100))).commit()
        churn = Churn(cluster, "a/")
        try:
            leader = cluster.leader()
            assert kv.quota_set("a/", bytes_max=1 << 40).quota.counting
            cluster.kill(leader)
            kv.quota_set("a/0000", keys_max=1 << 40)
            wait_until(lambda: not any(each.counting for each in kv.quotas().quotas), "all is counted")
            cluster.start(leader)
        finally:
            churn.stop()
        keys, held = used(kv, "a/")
        there = kv.quota_get("a/").quota
        assert (there.keys_used, there.bytes_used) == (keys, held)
        kv.quota_set("a/", keys_max=keys + ROOM)
        for number in range(ROOM):
            kv.put(f"a/new{number}", "")
        with pytest.raises(errors.OverQuota, match="prefix 'a/' may hold"):
            kv.put("a/one more", "")
        cluster.add()
        told = of_each(cluster)
        assert told == [told[0]] * 4
        hashes = play_zkv(cluster.endpoints[0], Step("endpoint hashkv --cluster -w json"))
        assert hashes.code == 0, hashes.stderr
        assert len({each["HashKV"]["hash"] for each in json.loads(hashes.stdout)}) == 1


def test_a_policy_and_its_counts_are_in_a_backup_and_outlive_a_restart(tmp_path: Path) -> None:
    with LocalCluster(1, data_dir=tmp_path / "was") as cluster:
        with cluster.client(timeout=30) as kv:
            kv.quota_set("a/", keys_max=2, requests_max=1000)
            kv.put("a/1", "1")
        cluster.stop(0)
        cluster.start(0)
        with cluster.client(timeout=30) as kv:
            kv.put("a/2", "2")
            with pytest.raises(errors.OverQuota):
                kv.put("a/3", "3")
        assert zkv_command(f"snapshot save {tmp_path}/backup", cluster.endpoints[0]).code == 0
    with restored(tmp_path / "backup", tmp_path / "again", 1) as again, again.client(timeout=30) as kv:
        assert kv.quotas().quotas == (m.Quota(b"a/", 2, 0, 1000, 2, 8, counting=False),)
        with pytest.raises(errors.OverQuota):
            kv.put("a/3", "3")
        kv.delete("a/1")
        kv.put("a/3", "3")


def test_both_doors_refuse_and_say_why(cluster: LocalCluster, kv: zkv.Client) -> None:
    """By gRPC and the native protocol, a put and a txn; what another prefix does is nobody's business."""
    kv.quota_set("both/", keys_max=1)
    kv.put("both/1", "1")
    with pytest.raises(errors.OverQuota) as refused:
        kv.txn().then(zkv.put("both/2", "2"), zkv.put("elsewhere", "2")).commit()
    assert (refused.value.maybe_applied, kv.get("elsewhere")) == (False, None)
    with EtcdApi(cluster.etcd_endpoints[0]) as api:
        with pytest.raises(grpc.RpcError) as status:
            api.Put(key=b"both/2", value=b"2")
        assert status.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert status.value.details() == "zkv: over quota: prefix 'both/' may hold 1 keys"
        api.Put(key=b"both/1", value=b"larger")
        api.DeleteRange(key=b"both/1")
        api.Put(key=b"both/2", value=b"2")


def test_a_client_that_comes_too_often_is_told_when_to_come_again(cluster: LocalCluster) -> None:
    """The library waits so long and tries again: all are done, none twice; without retries the hint is in the error."""

    async def burst(client: zkv.AsyncClient, prefix: str, count: int) -> list[object]:
        puts = (client.put(f"{prefix}{at}", "") for at in range(count))
        return await asyncio.gather(*puts, return_exceptions=True)

    async def play() -> None:
        async with cluster_client(cluster) as patient:
            await patient.quota_set("often/", requests_max=50)
            assert not [each for each in await burst(patient, "often/", 80) if isinstance(each, Exception)]
            assert [kv.version async for kv in patient.range(prefix="often/")] == [1] * 80
            await patient.quota_set("once/", requests_max=1)
        async with cluster_client(cluster, retry=zkv.RetryPolicy(errors=())) as hasty:
            refused = [each for each in await burst(hasty, "once/", 100) if isinstance(each, errors.OverRate)]
            assert refused
            assert all(0 < each.retry_after_ms <= 1000 and not each.maybe_applied for each in refused)

    asyncio.run(play())


def cluster_client(cluster: LocalCluster, **options: object) -> zkv.AsyncClient:
    return zkv.AsyncClient(cluster.endpoints, timeout=60, **options)  # type: ignore[arg-type]


def test_the_command_sets_shows_and_lifts_quotas(cluster: LocalCluster, kv: zkv.Client) -> None:
    endpoint = cluster.endpoints[0]
    kv.put("cli/1", "12345")

    def said(line: str) -> tuple[str, str, int]:
        return play_zkv(endpoint, Step(line))

    set_ = said("quota set cli/ --keys 10 --bytes 1000 --requests 50")
    assert set_ == ("Quota of cli/ set\ncli/: 1 of 10 keys, 10 of 1000 bytes, 50 requests a second\n", "", 0)
    assert said("quota set cli/ --bytes 0")[0].endswith("cli/: 1 of 10 keys, 10 bytes, 50 requests a second\n")
    assert said("quota get cli/ --hex")[0] == "\\x63\\x6c\\x69\\x2f: 1 of 10 keys, 10 bytes, 50 requests a second\n"
    told = json.loads(said("quota get cli/ -w json")[0])["quota"]
    assert told == {"prefix": "Y2xpLw==", "keysMax": 10, "requestsMax": 50, "keysUsed": 1, "bytesUsed": 10}
    assert "cli/: 1 of 10 keys" in said("quota list")[0]
    assert said("quota delete cli/") == ("Quota of cli/ deleted\n", "", 0)
    assert said("quota get cli/") == ("", "Error: zkv: no quota is set for this prefix: 'cli/'\n", 1)
    assert said("quota set cli/") == (
        "",
        "Error: quota set command requires --keys, --bytes or --requests (0: no limit)\n",
        128,
    )
    assert said("quota set cli/ --keys=-1")[1:] == ("Error: --keys must not be negative (0: no limit)\n", 128)
    assert said("quota set --keys 1")[1:] == ("Error: quota set command requires a prefix as its argument\n", 128)
    assert said(f"quota set {'x' * 257} --keys 1")[2] == 1


def test_only_root_sets_quotas_and_the_audit_log_tells_of_it(tmp_path: Path) -> None:
    log = tmp_path / "audit.log"
    arguments = ("--bcrypt-cost", "4", "--audit-log", str(log))
    with LocalCluster(1, storage="memory", arguments=arguments) as alone:
        with alone.client(timeout=30) as plain:
            plain.user_add("root", "pw")
            plain.role_add("root")
            plain.user_grant_role("root", "root")
            plain.user_add("ann", "pw")
            plain.auth_enable()
        with zkv.Client(alone.endpoints, user="root", password="pw", timeout=30) as root:
            root.quota_set("a/", keys_max=1)
        with zkv.Client(alone.endpoints, user="ann", password="pw", timeout=30) as ann:
            with pytest.raises(errors.PermissionDenied):
                ann.quota_set("a/", keys_max=2)
            with pytest.raises(errors.PermissionDenied):
                ann.quotas()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = [(line["user"], line["prefix"], line["allowed"]) for line in lines if line["op"] == "QUOTA_SET"]
    assert told == [("root", "a/", True), ("ann", "a/", False)]
