"""Whole nodes keep what they owe their clients, seed after seed; and actors that are broken on purpose are caught."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.simulation.node_play import NodePlay
from zkv.actors.event_feed import EventFeed
from zkv.actors.raft_actor import RaftActor
from zkv.actors.storage_actor import StorageActor
from zkv.core.mvcc.sessions import Session
from zkv.core.watch.places import Places
from zkv.core.watch.watching import Watching
from zkv.errors import CorruptionError
from zkv.wire.messages import StampedRead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.wire.messages import Applied, Entry, WatchNeeds

SEEDS = 60
SEEDS_TO_CATCH = 40
"""A planted bug must show within so many seeds."""


@pytest.mark.parametrize("first", range(0, SEEDS, 20))
def test_nodes_in_trouble_keep_their_promises_and_recover(first: int) -> None:
    """Nothing acknowledged is lost or made twice, no read is stale, members at the same place hold the same."""
    for seed in range(first, first + 20):
        try:
            NodePlay(seed).run()
        except (AssertionError, CorruptionError) as error:
            again = f"make simulate SEED={seed} ARGS='--play nodes'"
            raise AssertionError(f"seed {seed}: {error}; replay: {again}") from error


def test_one_seed_makes_one_history() -> None:
    """Whatever is random comes from the seed, so a failure can be replayed."""
    tales: list[list[str]] = [[], []]
    acknowledged = {NodePlay(7, tale.append).run() for tale in tales}
    assert len(acknowledged) == 1
    assert tales[0] == tales[1]


# --- the simulator catches ... ---------------------------------------------------------------------


def _forgets(self: Session, *_: Any) -> None:
    """No answer is kept for a retry."""


def _asks_nobody(self: RaftActor, core: object, frames: Sequence[bytes], now: int) -> None:
    """A linearizable read is served from whatever is applied here."""
    self._post("storage", StampedRead(0, self._stamp(now), tuple(frames)))


def _lies_about_flushes(self: StorageActor, now: int) -> None:
    """What is applied is called durable."""
    self._durable = self._machine.applied


_apply = StorageActor._apply


def _skips_gaps(self: StorageActor, entries: list[Entry], *rest: Any) -> None:
    """What was lost on the way from raft is passed over."""
    self._machine.applied = max(self._machine.applied, entries[0].index - 1)
    _apply(self, entries, *rest)


def _overlooks_gaps(self: Watching, head: int) -> None:
    """What storage did not tell is not read."""
    self._roster.head = head


_applied = Watching.applied


def _tells_twice(self: Watching, applied: Applied, now: int) -> None:
    """What storage tells again after it restarted is told again."""
    if self.head >= applied.revision and applied.events:
        self._roster.head = applied.since
    _applied(self, applied, now)


def _advances_who_was_stopped(self: Places, served: Any, stopped: Any, upto: int, head: int) -> None:
    """Who had no room for the whole slice is taken for served."""
    _advance(self, served, {}, upto, head)


_advance = Places.advance


def _passes_prev_kv_over(self: EventFeed, needs: WatchNeeds) -> None:
    """Events carry nothing of what they superseded, and say they do."""
    _needs(self, needs)
    self._machine.store.want_prev_kv = False


_needs = EventFeed.needs


MUTATIONS = [
    (Session, "remember", _forgets),
    (RaftActor, "_read", _asks_nobody),
    (StorageActor, "_tend_flush", _lies_about_flushes),
    (StorageActor, "_apply", _skips_gaps),
    (Watching, "_gap", _overlooks_gaps),
    (Watching, "applied", _tells_twice),
    (Places, "advance", _advances_who_was_stopped),
    (EventFeed, "needs", _passes_prev_kv_over),
]


@pytest.mark.parametrize(("owner", "name", "broken"), MUTATIONS, ids=[broken.__name__ for *_, broken in MUTATIONS])
def test_a_planted_bug_is_caught(owner: type, name: str, broken: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A simulator that passes whatever it is given would prove nothing."""
    monkeypatch.setattr(owner, name, broken)
    for seed in range(SEEDS_TO_CATCH):
        try:
            NodePlay(seed).run()
        except (AssertionError, CorruptionError):
            return
    pytest.fail(f"{SEEDS_TO_CATCH} seeds did not show it")
