"""`zkv benchmark` against real members: what it says it did, it did."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.etcd import free_ports
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, curve=True, storage="memory") as cluster:
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


def test_an_endpoint_where_nobody_listens_ends_the_benchmark() -> None:
    """One line that names it, and exit code 1."""
    endpoint = f"tcp://127.0.0.1:{free_ports(1)[0]}"
    command = [sys.executable, "-m", "zkv", "benchmark", f"--endpoints={endpoint}", "--dial-timeout=100ms", "put"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: zkv: no endpoint answers: " + endpoint)
    assert done.stderr.count("\n") == 1
