"""Kill -9 the leader's whole process tree, again and again, under writes; print what was lost and how long it hurt.

    python tests/torture/leader_kills.py --kills 10

The bar: no acknowledged write lost, none applied twice, writes resume within 2 s (median) of each kill.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.harness.writers import Writers
from zkv.testing import LocalCluster


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=3)
    arguments = parser.parse_args()
    pauses: list[float] = []
    with LocalCluster(nodes=arguments.nodes) as cluster:
        with Writers(cluster.client) as writers:
            for kill in range(arguments.kills):
                writers.wait_for(200)
                leader = cluster.leader()
                killed_at = time.monotonic()
                cluster.kill(leader)
                pauses.append(writers.wait_resumed(killed_at))
                print(f"kill {kill + 1}: member {leader}, writes resumed after {pauses[-1]:.2f} s", flush=True)
                writers.wait_for(200)
                cluster.start(leader)
            writers.wait_for(200)
        verdict = writers.verdict()
    print(
        f"{verdict.acknowledged} acknowledged, {len(verdict.lost)} lost, {len(verdict.doubled)} doubled, "
        f"{len(verdict.errors)} errors at clients; resumed after {statistics.median(pauses):.2f} s (median), "
        f"{max(pauses):.2f} s (worst)"
    )
    verdict.assert_clean()
    return 0 if statistics.median(pauses) <= 2.0 else 1


if __name__ == "__main__":
    sys.exit(main())
