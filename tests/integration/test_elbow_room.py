"""Real members of one machine: the followers' rafts run beside their leader's."""

from __future__ import annotations

import os

from tests.harness.processes import children, wait_until
from tests.harness.writers import Writers
from zkv.testing import LocalCluster

CORES = os.sched_getaffinity(0)
BESIDE = max(1, len(CORES) - 1)  # so many are left to a follower: one core leaves no choice


def cores_of(cluster: LocalCluster, number: int, actor: str) -> set[int]:
    return os.sched_getaffinity(children(cluster.pid(number))[actor])


def are_beside(cluster: LocalCluster, leader: int) -> bool:
    followers = [cores_of(cluster, number, "raft") for number in range(3) if number != leader]
    return cores_of(cluster, leader, "raft") == CORES and all(len(cores) == BESIDE for cores in followers)


def test_followers_keep_from_their_leaders_core_also_when_another_leads() -> None:
    with LocalCluster(nodes=3, storage="memory") as cluster, Writers(cluster.client, 1) as writers:
        leader = cluster.leader()
        wait_until(lambda: are_beside(cluster, leader), "both followers keep from the leader's core")
        assert all(cores_of(cluster, number, "storage") == CORES for number in range(3))
        with cluster.client() as kv:
            other = next(member for member in kv.members().members if member.name != f"n{leader + 1}")
            kv.move_leader(other.id)
        wait_until(lambda: cluster.leader() != leader, "another leads")
        moved = cluster.leader()
        wait_until(lambda: are_beside(cluster, moved), "the others keep from the new leader's core")
        writers.wait_for(10)
