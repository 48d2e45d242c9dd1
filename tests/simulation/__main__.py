"""`python -m tests.simulation --seeds N [--seed S]`: play N seeds, from S on, and name the first one that fails."""

from __future__ import annotations

import argparse
import sys
import time
import traceback

from tests.simulation.raft_play import Play

SEEDS_A_LINE = 1000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many plays")
    parser.add_argument("--seed", type=int, default=0, help="the first one's seed")
    parser.add_argument("--trace", action="store_true", help="tell each mishap")
    options = parser.parse_args()
    begun = time.monotonic()
    committed = 0
    for seed in range(options.seed, options.seed + options.seeds):
        try:
            outcome = Play(seed, print if options.trace else None).run()
        except Exception:  # noqa: BLE001 - whatever it is, the seed must be told
            traceback.print_exc()
            print(f"seed {seed} fails; play it again: make simulate SEED={seed}", file=sys.stderr)
            return 1
        committed += outcome.committed
        if (played := seed - options.seed + 1) % SEEDS_A_LINE == 0:
            print(f"{played} of {options.seeds} seeds hold", flush=True)
    seconds = time.monotonic() - begun
    print(f"{options.seeds} seeds hold: {committed} entries committed, {seconds / options.seeds:.3f} s a seed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
