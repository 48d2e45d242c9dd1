"""Clients that watch, before real doors, watch actors and stores, whatever breaks on the way: no gap, no repeat.

ZKV_WATCH_SEED=n plays that seed (alone).
"""

from __future__ import annotations

import os
from functools import cache

import pytest

from tests.harness.watch_chain import LIMITS, Chain
from zkv.gateway.watches import GRACE_MS

SEEDS = [int(os.environ["ZKV_WATCH_SEED"])] if "ZKV_WATCH_SEED" in os.environ else list(range(12))
STEPS = 600


@cache
def played(seed: int) -> Chain:
    chain = Chain(seed)
    for _ in range(STEPS):
        chain.step()
    chain.heal()
    return chain


@pytest.mark.parametrize("seed", SEEDS)
def test_every_watch_is_told_all_that_happens_once_and_in_order(seed: int) -> None:
    """Over lost connections, full queues, restarts of every process, pauses, missing leaders and slow readers."""
    chain = played(seed)
    assert chain.owed() == []
    assert chain.events > 200


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_left_when_all_watches_are_cancelled(seed: int) -> None:
    """Neither at the clients, nor at the doors, nor in the watch actors."""
    chain = played(seed)
    for session, readers in zip(chain.sessions, chain.readers, strict=True):
        for reader in readers:
            session.cancel(reader.feed)
        readers.clear()
    chain.heal(ms=LIMITS["watch_silence_ms"] + GRACE_MS)
    for session in chain.sessions:
        watching = session.watching
        assert [*watching._feeds, *watching._wanted, *watching._delayed, *watching._sent, *watching._asking] == []
        assert watching._shelf.held == 0
        assert all(line.received == 0 for line in watching._lines.values())
    for node in chain.nodes:
        assert node.watching.count == 0
        assert len(node.gateway._watches) == 0


def test_the_plays_do_what_they_are_for() -> None:
    """Watches begin, histories are compacted under them, events are told."""
    chains = [played(seed) for seed in SEEDS]
    assert sum(chain.begun for chain in chains) > 20 * len(chains)
    assert len(chains) == 1 or sum(chain.compacted for chain in chains) > 0
