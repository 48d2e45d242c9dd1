"""`python -m tests.simulation --seeds N [--seed S]`: play N seeds, from S on, and name the first one that fails.

There are two plays: of raft cores (`raft_play.py`) and of whole nodes (`node_play.py`). Each seed is played in both.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback
from typing import TYPE_CHECKING

import structlog

from tests.simulation.node_play import NodePlay
from tests.simulation.raft_play import Play

if TYPE_CHECKING:
    from collections.abc import Callable

SEEDS_A_LINE = 1000


def _raft(seed: int, tell: Callable[[str], None] | None) -> int:
    return Play(seed, tell).run().committed


def _nodes(seed: int, tell: Callable[[str], None] | None) -> int:
    return NodePlay(seed, tell).run()


PLAYS = {"raft": (_raft, "entries committed"), "nodes": (_nodes, "writes acknowledged")}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many of each play")
    parser.add_argument("--seed", type=int, default=0, help="the first one's seed")
    parser.add_argument("--play", choices=PLAYS, help="only this one")
    parser.add_argument("--trace", action="store_true", help="tell each mishap")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for name in [options.play] if options.play else PLAYS:
        play, achievement = PLAYS[name]
        begun = time.monotonic()
        achieved = 0
        for seed in range(options.seed, options.seed + options.seeds):
            try:
                achieved += play(seed, print if options.trace else None)
            except Exception:  # noqa: BLE001 - whatever it is, the seed must be told
                traceback.print_exc()
                again = f"make simulate SEED={seed} ARGS='--play {name}'"
                print(f"seed {seed} fails; play it again: {again}", file=sys.stderr)
                return 1
            if (played := seed - options.seed + 1) % SEEDS_A_LINE == 0:
                print(f"{name}: {played} of {options.seeds} seeds hold", flush=True)
        seconds = (time.monotonic() - begun) / options.seeds
        print(f"{name}: {options.seeds} seeds hold: {achieved} {achievement}, {seconds:.3f} s a seed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
