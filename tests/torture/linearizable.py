"""Clients that read, write, delete and swap a few keys through all members, while members die, stop and stand still.

    python tests/torture/linearizable.py --mishaps 20 --seed 7

The bar: the history is linearizable, and all members tell the same one (tests/harness/history.py says what that means).
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.harness.history import Recorder, verdict
from tests.harness.processes import ACTORS, children, wait_until
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


PAUSE_S = 2.5
"""Longer than an election: the others have another leader when this one wakes, and believes to lead."""


def kill(cluster: LocalCluster, member: int, _: random.Random) -> None:
    cluster.kill(member)
    cluster.start(member)


def stop(cluster: LocalCluster, member: int, _: random.Random) -> None:
    cluster.stop(member)
    cluster.start(member)


def pause(cluster: LocalCluster, member: int, _: random.Random) -> None:
    cluster.pause(member)
    time.sleep(PAUSE_S)
    cluster.resume(member)


def kill_all(cluster: LocalCluster, _: int, __: random.Random) -> None:
    for member in range(cluster.nodes):
        cluster.kill(member)
    for member in range(cluster.nodes):
        cluster.start(member, wait=False)
    cluster.wait_ready()


def kill_actor(cluster: LocalCluster, member: int, rng: random.Random) -> None:
    supervisor = cluster.pid(member)
    actor = rng.choice(ACTORS)
    victim = children(supervisor)[actor]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: children(supervisor).get(actor, victim) != victim, f"{actor} is back")


MISHAPS: dict[str, Callable[[LocalCluster, int, random.Random], None]] = {
    "killed": kill,
    "stopped": stop,
    "paused": pause,
    "all killed": kill_all,
    "an actor killed": kill_actor,
}


def play(names: Sequence[str], seed: int, *, calls_between: int = 100, loud: bool = False) -> tuple[int, list[str]]:
    """How many calls were answered, and what is wrong with the history. Most mishaps are the leader's."""
    rng = random.Random(seed)
    with LocalCluster(nodes=3) as cluster:
        with Recorder(cluster.client, seed=seed) as recorder:
            for name in names:
                _wait_for(recorder, calls_between)
                member = cluster.leader() if rng.random() < 0.7 else rng.randrange(cluster.nodes)
                MISHAPS[name](cluster, member, rng)
                if loud:
                    print(f"{name}: member {member}; {recorder.told()} answers", flush=True)
            _wait_for(recorder, calls_between)
        return recorder.told(), verdict(cluster.endpoints, recorder.calls)


def _wait_for(recorder: Recorder, calls: int) -> None:
    goal = recorder.told() + calls
    wait_until(lambda: recorder.told() >= goal, f"{calls} more calls are answered", 60)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mishaps", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--between", type=int, default=300, help="calls answered between two mishaps")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    names = [rng.choice(list(MISHAPS)) for _ in range(arguments.mishaps)]
    told, wrong = play(names, arguments.seed, calls_between=arguments.between, loud=True)
    print(f"{told} calls answered, {len(wrong)} things wrong")
    for each in wrong[:20]:
        print(f"  {each}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
