"""`zkv benchmark` against real members: what it says it did, it did."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.processes import wait_until
from zkv.testing import LocalCluster, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, curve=True, storage="memory", etcd_api=True) as cluster:
        yield cluster


def benchmark(cluster: LocalCluster, *words: str) -> dict[str, Any]:
    options = cluster.client_options
    keys = [f"--curve-server-key={options['server_key']}", f"--curve-key={options['client_key']}"]
    where = [f"--endpoints={','.join(cluster.endpoints)}", "--dial-timeout=10s", "--write-out=json"]
    command = [sys.executable, "-m", "zkv", "benchmark", *where, *keys, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def put_one(cluster: LocalCluster) -> int:
    """The revision that a put makes."""
    with cluster.client() as kv:
        return kv.put("mark", "").header.revision


@pytest.mark.parametrize(
    "load",
    [
        ["--clients=20", "--conns=6"],
        ["--clients=7", "--conns=4", "--processes=2"],
        ["--clients=2", "--conns=2", "--target-leader", "--rate=2000"],
    ],
    ids=["over all members", "from two processes", "to the leader, at a rate"],
)
def test_every_put_of_a_load_is_made_once(cluster: LocalCluster, load: list[str]) -> None:
    """--total puts, each a revision, and none of them more."""
    before = put_one(cluster)
    found = benchmark(cluster, "put", "--total=500", "--sequential-keys", "--key-space-size=500", *load)
    assert found["errors"] == {}
    assert sum(bucket["requests"] for bucket in found["histogram"]) == 500
    assert put_one(cluster) == before + 500 + 1


@pytest.mark.parametrize("consistency", ["l", "s"])
def test_ranges_of_both_kinds_are_answered(cluster: LocalCluster, consistency: str) -> None:
    """And --sample tells how many of them began in which second."""
    words = ["--total=300", "--clients=10", "--conns=3", f"--consistency={consistency}", "--sample"]
    found = benchmark(cluster, "range", "a", *words)
    assert found["errors"] == {}
    assert sum(row["requests"] for row in found["samples"]) == 300


def test_transactions_are_made_once_each(cluster: LocalCluster) -> None:
    """A transaction of puts is one revision, however many keys it writes."""
    before = put_one(cluster)
    words = ["--total=200", "--clients=10", "--conns=3", "--txn-ops=5", "--key-space-size=5000", "--key-size=5"]
    found = benchmark(cluster, "txn-put", *words)
    assert found["errors"] == {}
    assert put_one(cluster) == before + 200 + 1
    with cluster.client() as kv:
        written = [kv.get(key) for key in ("00995", "00996", "00999")]
    assert len({kv.mod_revision for kv in written if kv is not None}) == 1


def test_reads_and_writes_of_a_mixed_load_are_told_apart(cluster: LocalCluster) -> None:
    """Each transaction is one or the other, and only the writes make revisions."""
    before = put_one(cluster)
    found = benchmark(cluster, "txn-mixed", "--total=200", "--clients=10", "--rw-ratio=1")
    counts = {name: sum(bucket["requests"] for bucket in part["histogram"]) for name, part in found.items()}
    assert counts["read"] + counts["write"] == 200
    assert put_one(cluster) == before + counts["write"] + 1


@pytest.mark.parametrize("processes", [1, 2])
def test_each_client_keeps_a_lease_of_its_own_alive(cluster: LocalCluster, processes: int) -> None:
    """Granted before the load begins, and there after it."""
    with cluster.client() as kv:
        before = set(kv.leases().leases)
        words = ["--total=300", "--clients=6", "--conns=3", f"--processes={processes}"]
        found = benchmark(cluster, "lease-keepalive", *words)
        assert len(set(kv.leases().leases) - before) == 6
    assert found["errors"] == {}
    assert sum(bucket["requests"] for bucket in found["histogram"]) == 300


def test_watchers_are_told_of_every_put(cluster: LocalCluster) -> None:
    """Each put of a watched key is an event for each that watches it."""
    keys = ["--watched-key-total=3", "--key-space-size=3", "--sequential-keys"]
    shape = ["--streams=6", "--watch-per-stream=5", "--put-total=40", "--clients=4", "--conns=2"]
    found = benchmark(cluster, "watch", *shape, *keys)
    counts = {name: sum(bucket["requests"] for bucket in part["histogram"]) for name, part in found.items()}
    assert counts == {"create": 30, "events": 40 * 10}
    told = 3 * 40  # each of the members has streams, and tells Prometheus of both at once
    wait_until(lambda: watched(cluster) == (told, 0), "its watches are gone, and cost the next load nothing")


def watched(cluster: LocalCluster) -> tuple[int, int]:
    """Events that watches were matched with, and watches that are there."""
    events = watchers = 0
    for url in cluster.etcd_endpoints:
        page = urllib.request.urlopen(url + "/metrics", timeout=30).read().decode()  # noqa: S310
        numbers = dict(line.split() for line in page.splitlines() if line.count(" ") == 1)
        events += int(float(numbers["zkv_watch_events_total"]))
        watchers += int(float(numbers["etcd_debugging_mvcc_watcher_total"]))
    return events, watchers


def test_how_long_watchers_wait_is_told_for_each_put_and_watcher(cluster: LocalCluster) -> None:
    """After asking for the put, and after its answer, which may come later than the event: then it is nothing."""
    found = benchmark(cluster, "watch-latency", "--total=30", "--clients=4", "--conns=3", "--put-rate=500")
    counts = {name: sum(bucket["requests"] for bucket in part["histogram"]) for name, part in found.items()}
    assert counts == {"put": 30, "watch": 120, "put_to_watch": 120}
    assert found["watch"]["fastest"] >= 0
    assert found["put_to_watch"]["average"] >= found["watch"]["average"]


def test_reads_go_on_while_watchers_are_told_the_past(cluster: LocalCluster) -> None:
    """Until all have been told all of it."""
    found = benchmark(cluster, "watch-get", "--watchers=1000", "--streams=3", "--events=4")
    assert found["errors"] == {}


def test_transactional_memory_is_measured_by_whole_transactions(cluster: LocalCluster) -> None:
    """Conflicts are tried again, and a transaction counts once."""
    words = ["--total=60", "--clients=4", "--conns=2", "--keys=3", "--keys-per-txn=2"]
    found = benchmark(cluster, "stm", *words, "--isolation=ss")
    assert found["errors"] == {}
    assert sum(bucket["requests"] for bucket in found["histogram"]) == 60


def test_the_store_alone_needs_no_cluster() -> None:
    """It opens one of its own, and leaves nothing behind."""
    command = [
        sys.executable,
        "-m",
        "zkv",
        "benchmark",
        "mvcc",
        "put",
        "--total=300",
        "--txn",
        "--txn-ops=2",
        "-w",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert sum(bucket["requests"] for bucket in json.loads(done.stdout)["histogram"]) == 600


def test_an_endpoint_where_nobody_listens_ends_the_benchmark() -> None:
    """One line that names it, and exit code 1."""
    endpoint = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    command = [sys.executable, "-m", "zkv", "benchmark", f"--endpoints={endpoint}", "--dial-timeout=100ms", "put"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: zkv: no endpoint answers: " + endpoint)
    assert done.stderr.count("\n") == 1
