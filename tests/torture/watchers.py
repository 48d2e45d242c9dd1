"""Many watchers on three nodes, while the leader and then each actor in turn dies by kill -9, under writes.

    python tests/torture/watchers.py --watchers 1000

The bar: every watcher is told of every event, once, in order.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.harness.processes import ACTORS, children, wait_until
from tests.harness.watch_worker import END, WatchWorker, told
from tests.harness.writers import Writers
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.harness.watch_worker import Told


def kill_leader(cluster: LocalCluster, writers: Writers) -> None:
    leader = cluster.leader()
    cluster.kill(leader)
    writers.wait_for(30)
    cluster.start(leader)


def kill_actor(cluster: LocalCluster, member: int, actor: str) -> None:
    supervisor = cluster.pid(member)
    victim = children(supervisor)[actor]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: children(supervisor).get(actor, victim) != victim, f"{actor} is back")


def play(
    cluster: LocalCluster,
    *,
    watchers: int,
    connections: int,
    processes: int,
    leader_kills: int,
    actors: Sequence[str] = ACTORS,
    writes: int = 50,
    loud: bool = False,
) -> tuple[Told, list[Told]]:
    """What every watcher should have been told, and what each was."""
    with cluster.client() as kv:
        first = kv.status().revision + 1
    workers = [
        WatchWorker(
            cluster.endpoints, watchers=watchers // processes, connections=connections // processes, from_revision=first
        )
        for _ in range(processes)
    ]
    try:
        for worker in workers:
            worker.wait_ready()
        with Writers(cluster.client) as writers:
            for _ in range(leader_kills):
                writers.wait_for(writes)
                kill_leader(cluster, writers)
                say(loud, "the leader was killed")
            for number, actor in enumerate(actors):
                writers.wait_for(writes)
                kill_actor(cluster, number % cluster.nodes, actor)
                say(loud, f"{actor} of member {number % cluster.nodes} was killed")
            writers.wait_for(writes)
        with cluster.client(timeout=30) as kv:
            kv.put(END)
            keys = [(record.mod_revision, record.key) for record in kv.range(prefix="w/") if record.key != END]
        return told(sorted(keys)), [result for worker in workers for result in worker.results()]
    finally:
        for worker in workers:
            worker.close()


def say(loud: bool, what: str) -> None:
    if loud:
        print(what, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--connections", type=int, default=30)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--leader-kills", type=int, default=3)
    parser.add_argument("--writes", type=int, default=200, help="between two kills")
    arguments = parser.parse_args()
    began = time.monotonic()
    with LocalCluster(nodes=3) as cluster:
        owed, results = play(
            cluster,
            watchers=arguments.watchers,
            connections=arguments.connections,
            processes=arguments.processes,
            leader_kills=arguments.leader_kills,
            writes=arguments.writes,
            loud=True,
        )
    wrong = [result for result in results if result != owed]
    print(
        f"{owed.count} events, {len(results)} watchers, {sum(result.count for result in results)} told in all, "
        f"{len(wrong)} watchers told otherwise, {time.monotonic() - began:.0f} s"
    )
    for result in wrong[:10]:
        print(f"  told {result.count} of {owed.count}: {result.wrong or 'others, or in another order'}")
    return 1 if wrong or len(results) != arguments.watchers // arguments.processes * arguments.processes else 0


if __name__ == "__main__":
    sys.exit(main())
