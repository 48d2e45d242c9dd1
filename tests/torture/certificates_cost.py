"""What certificates cost: puts by 1000 clients at three members, plain and with certificates by turns.

    python tests/torture/certificates_cost.py --turns 3 --total 60000

With certificates clients and members are introduced to each other, and speak CURVE; plain is tcp://. The bar: 15 % of
the rate at most.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from zkv.testing import LocalCluster

WARM_SHARE = 5
TIMEOUT_S = 300


def rate(cluster: LocalCluster, total: int) -> float:
    """Puts a second. Raises CalledProcessError when not every one succeeded."""
    papers = [f"--{name}={path}" for name, path in cluster.client_options.items()]
    load = ["--clients=1000", "--conns=100", "--val-size=256", f"--total={total}"]
    where = [f"--endpoints={','.join(cluster.endpoints)}", "--dial-timeout=10s", "--write-out=json", *papers]
    command = [sys.executable, "-m", "zkv", *where, "benchmark", "put", *load]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    return float(json.loads(done.stdout)["requests_per_second"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--total", type=int, default=60_000)
    options = parser.parse_args()
    shares = []
    for turn in range(1, options.turns + 1):
        found = {}
        for certificates in (False, True):
            with LocalCluster(nodes=3, certificates=certificates) as cluster:
                rate(cluster, options.total // WARM_SHARE)
                found[certificates] = rate(cluster, options.total)
        shares.append(found[True] / found[False])
        print(f"turn {turn}: plain {found[False]:,.0f}/s, certificates {found[True]:,.0f}/s", flush=True)
    print(f"with certificates, median of {options.turns}: {statistics.median(shares):.2f} of the plain rate (>= 0.85)")


if __name__ == "__main__":
    main()
