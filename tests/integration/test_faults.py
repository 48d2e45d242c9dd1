"""What a node and a cluster survive, on real processes: kills, stops, restarts, and what must be left behind.

The long form of the leader kills is tests/torture/leader_kills.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.harness.agreement import same_on_all
from tests.harness.processes import ACTORS, alive, children, wait_until
from tests.harness.writers import Writers
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path

    import zkv


def test_a_killed_leader_loses_nothing_and_another_takes_over() -> None:
    """kill -9 of the leader's whole process tree under writes: all acknowledged writes are there, once."""
    with LocalCluster(nodes=3) as cluster:
        with Writers(cluster.client) as writers:
            for _ in range(2):
                writers.wait_for(50)
                leader = cluster.leader()
                killed_at = time.monotonic()
                cluster.kill(leader)
                writers.wait_resumed(killed_at)
                writers.wait_for(50)
                cluster.start(leader)
            writers.wait_for(50)
        writers.verdict().assert_clean()


@pytest.mark.parametrize("actor", ACTORS)
def test_a_killed_actor_comes_back_and_nothing_is_lost(actor: str) -> None:
    """kill -9 of one process of a single node: it is started again, clients go on, no write is lost or doubled."""
    with LocalCluster(nodes=1) as cluster:
        supervisor = cluster.pid(0)
        with Writers(cluster.client) as writers:
            writers.wait_for(50)
            victim = children(supervisor)[actor]
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: children(supervisor).get(actor, victim) != victim, f"{actor} is back")
            writers.wait_for(100)
        verdict = writers.verdict()
    verdict.assert_clean()
    assert not verdict.errors, "a client's retries must hide the restart of a process"


def test_each_actor_of_the_leader_killed_in_a_cluster_loses_nothing() -> None:
    """In a cluster of three the leader's processes die one after the other, under writes."""
    with LocalCluster(nodes=3) as cluster:
        with Writers(cluster.client) as writers:
            for actor in ACTORS:
                supervisor = cluster.pid(cluster.leader())
                victim = children(supervisor)[actor]
                os.kill(victim, signal.SIGKILL)
                wait_until(
                    lambda pid=supervisor, name=actor, old=victim: children(pid).get(name, old) != old,  # type: ignore[misc]
                    f"{actor} is back",
                )
                writers.wait_for(50)
        writers.verdict().assert_clean()


def test_an_actor_that_keeps_dying_takes_the_node_down() -> None:
    """A crash loop ends in a clear exit: the supervisor gives up, with a status that says so."""
    with LocalCluster(nodes=1) as cluster:
        supervisor = cluster.pid(0)

        def kill_watch() -> bool:
            watch = children(supervisor).get("watch")
            if watch is not None:
                os.kill(watch, signal.SIGKILL)
            return not alive(supervisor)

        wait_until(kill_watch, "the supervisor has given up")
        assert cluster.wait_exit(0) == 1
        assert "watch died" in cluster.log(0)


def test_sigterm_ends_a_node_cleanly_and_leaves_nothing() -> None:
    """Exit status 0 within 5 s, under load; no process and no socket file stays; nothing acknowledged is lost."""
    with LocalCluster(nodes=3) as cluster:
        with Writers(cluster.client) as writers:
            writers.wait_for(50)
            leader = cluster.leader()
            supervisor = cluster.pid(leader)
            actors = children(supervisor)
            asked_at = time.monotonic()
            assert cluster.stop(leader) == 0
            assert time.monotonic() - asked_at < 5.0, "promised to operators"
            assert not [name for name, pid in actors.items() if alive(pid)]
            writers.wait_for(50)
            cluster.start(leader)
            writers.wait_for(50)
        verdict = writers.verdict()
    verdict.assert_clean()
    assert not verdict.errors, "a clean stop must not cost a client more than a retry"


def test_all_nodes_killed_at_once_forget_nothing() -> None:
    """Power cut for the whole cluster: every acknowledged write is on disk."""
    with LocalCluster(nodes=3) as cluster:
        with Writers(cluster.client) as writers:
            writers.wait_for(200)
            for node in range(3):
                cluster.kill(node)
            for node in range(3):
                cluster.start(node, wait=False)
            cluster.wait_ready()
            writers.wait_for(50)
        writers.verdict().assert_clean()


def test_a_member_that_was_away_catches_up_by_its_peers_log() -> None:
    """What it missed is sent entry by entry; afterwards it holds the same revisions as the others."""
    with LocalCluster(nodes=3) as cluster, cluster.client() as kv:
        kv.put("before", "1")
        away = (cluster.leader() + 1) % 3
        cluster.kill(away)
        for number in range(300):
            kv.put(f"while-away/{number % 50}", os.urandom(2048))
        kv.delete("before")
        cluster.start(away)
        same_on_all(cluster)
        assert all("sending a snapshot" not in cluster.log(number) for number in range(3))


BIG = 64 * 1024  # of such values a hundred make storage flush, after which the log may be cut
CUT_SOON = ("--snapshot-count", "10")


def write_past_the_log(kv: zkv.Client) -> None:
    """So much that what was written before is no longer in the log."""
    for number in range(200):
        kv.put(f"big/{number % 100}", os.urandom(BIG))


def test_a_member_that_was_away_for_long_is_sent_a_snapshot_under_writes() -> None:
    """The log it would need is gone: it gets the whole store, then the log from there, while clients write on."""
    with LocalCluster(nodes=3, arguments=CUT_SOON) as cluster, cluster.client(timeout=20) as kv:
        kv.put("before", "1")
        leader = cluster.leader()
        away = (leader + 1) % 3
        cluster.kill(away)
        write_past_the_log(kv)
        kv.delete("before")
        with Writers(cluster.client) as writers:
            cluster.start(away)
            wait_until(lambda: "snapshot installed" in cluster.log(away), "the snapshot has become the store")
            writers.wait_for(50)
        writers.verdict().assert_clean()
        same_on_all(cluster)


@pytest.mark.parametrize("who", ["sender", "receiver"])
@pytest.mark.parametrize("what", ["storage", "raft", "node"])
def test_a_snapshot_cut_off_by_a_kill_begins_again(who: str, what: str) -> None:
    """Either side's storage, raft or whole node dies in the middle: the member catches up all the same."""
    with LocalCluster(nodes=3, arguments=CUT_SOON) as cluster, cluster.client(timeout=20) as kv:
        leader = cluster.leader()
        away = (leader + 1) % 3
        cluster.kill(away)
        write_past_the_log(kv)
        cluster.start(away, wait=False)
        wait_until(lambda: "sending a snapshot" in cluster.log(leader), "the snapshot is on its way")
        victim = leader if who == "sender" else away
        if what == "node":
            cluster.kill(victim)
            cluster.start(victim)
        else:
            os.kill(children(cluster.pid(victim))[what], signal.SIGKILL)
        same_on_all(cluster)
        assert "snapshot installed" in cluster.log(away)


def test_members_of_different_clusters_refuse_each_other() -> None:
    """A node with another initial-cluster-token does not get in, and both logs say so once."""
    with LocalCluster(3, member_arguments={2: ["--initial-cluster-token", "two"]}, wait=False) as cluster:
        wait_until(lambda: cluster.is_ready(0) and cluster.is_ready(1), "the two of one cluster serve")
        wait_until(lambda: "is of another cluster" in cluster.log(2), "the stranger is told")
        wait_until(lambda: "is of another cluster" in cluster.log(0), "the members are told")
        assert cluster.log(0).count("is of another cluster") == 1


def test_a_member_whose_data_were_removed_does_not_come_back_under_its_old_name(tmp_path: Path) -> None:
    """It would vote in terms in which it has voted, and count for entries it no longer has: etcd refuses it, too."""
    with LocalCluster(3, data_dir=tmp_path) as cluster:
        with Writers(cluster.client) as writers:
            writers.wait_for(20)
            cluster.kill(2)
            shutil.rmtree(tmp_path / "n3")
            cluster.start(2, wait=False)
            assert cluster.wait_exit(2) != 0
            writers.wait_for(20)
        writers.verdict().assert_clean()
        assert "has already been bootstrapped" in cluster.log(2)


def has_a_vote(cluster: LocalCluster, number: int) -> bool:
    return "this member has a vote again" in cluster.log(number)


def test_a_member_that_keeps_nothing_on_disk_is_refilled_by_its_peers() -> None:
    """--storage memory: a member killed and started again rejoins and holds what the others hold."""
    with LocalCluster(nodes=3, storage="memory") as cluster:
        with Writers(cluster.client) as writers:
            wait_until(lambda: all(has_a_vote(cluster, number) for number in range(3)), "all members count")
            writers.wait_for(50)
            victim = cluster.leader()
            cluster.kill(victim)
            writers.wait_for(50)
            cluster.start(victim)
            writers.wait_for(50)
            wait_until(lambda: cluster.is_ready(victim), "the member serves again")
        writers.verdict().assert_clean()
        same_on_all(cluster)
