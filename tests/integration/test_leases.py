"""Leases on real processes: they live as long as was promised, and not much longer, whoever leads."""

from __future__ import annotations

import os
import signal
import time

from tests.harness.holders import LATE_S, RESTART_S, Holders
from tests.harness.processes import children, wait_until
from zkv.testing import LocalCluster

KILLS = 3


def test_leases_end_neither_early_nor_late_over_three_kills_of_the_leader() -> None:
    """kill -9 of the leader's whole process tree, three times, while clients keep leases alive and leave them alone."""
    with LocalCluster(nodes=3) as cluster:
        with Holders(cluster.client) as holders:
            for _ in range(KILLS):
                holders.wait_for(3)
                leader = cluster.leader()
                cluster.kill(leader)
                holders.wait_for(1)
                cluster.start(leader)
        verdict = holders.verdict()
    verdict.assert_clean()
    assert verdict.kept > KILLS


def test_a_keep_alive_outlives_the_lease_actor_of_the_leader() -> None:
    """Its process is killed with keep-alives in it: clients' retries hide it: none ends early, or an election late."""
    with LocalCluster(nodes=3) as cluster:
        with Holders(cluster.client, count=3) as holders:
            for _ in range(KILLS):
                holders.wait_for(1)
                supervisor = cluster.pid(cluster.leader())
                victim = children(supervisor)["lease"]
                os.kill(victim, signal.SIGKILL)
                wait_until(lambda pid=supervisor, old=victim: children(pid).get("lease", old) != old, "lease is back")  # type: ignore[misc]
        verdict = holders.verdict(LATE_S + RESTART_S)
    verdict.assert_clean()


def test_a_restart_of_all_members_ends_no_lease_early_and_stops_no_clock() -> None:
    """The machine goes on: what passed while nobody ran counts, but for what nobody could log."""
    with LocalCluster(nodes=3) as cluster:
        with cluster.client() as kv:
            sent = time.monotonic()
            lease = kv.grant(6).id
            kv.put("held", lease=lease)
        for number in range(3):
            cluster.kill(number)
        wait_until(lambda: time.monotonic() > sent + 3, "half of its life has passed")
        for number in range(3):
            cluster.start(number, wait=False)
        cluster.wait_ready()
        with cluster.client() as kv:
            left = kv.time_to_live(lease).ttl
            assert left <= 3, "the clock stood still"
            assert left > 0 or time.monotonic() > sent + 5
            wait_until(lambda: kv.get("held") is None, "the lease has ended")
        assert time.monotonic() > sent + 6
