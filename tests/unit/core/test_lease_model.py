"""No lease ends before what its holder was told, whoever leads, is deposed, or starts again; and planted bugs show."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.unit.core import lease_world
from tests.unit.core.lease_world import Grant, Logged, World
from zkv.core.lease import Lessor
from zkv.core.lease_askers import GONE, Askers
from zkv.wire.messages import LeaseExpire

if TYPE_CHECKING:
    from zkv.core.lease_askers import Asker

SEEDS = 150
SEEDS_TO_CATCH = 400
"""A planted bug must show within so many seeds."""
STEPS = 600


def test_no_lease_ends_before_what_its_holder_was_told() -> None:
    """Nor is one that is there said not to be."""
    answers = expiries = 0
    for seed in range(SEEDS):
        world = World(random.Random(seed))
        try:
            world.play(STEPS)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        answers += world.answers
        expiries += world.expiries
    assert min(answers, expiries) > SEEDS, "a play in which nothing happens proves nothing"


# --- this catches ... ------------------------------------------------------------------------------

_keep_alive = Lessor.keep_alive
_apply = lease_world.apply


def _promises_without_the_log(self: Lessor, lease: int, asker: Asker, now: int) -> None:
    """A keep-alive is answered at once, whatever the log says to who leads next."""
    known = self._table.get(lease)
    if self.leading and known is not None and not known.due:
        known.deadline = now + self._clock + known.ttl * 1000
        self.askers.settle(asker, known.ttl)
    else:
        _keep_alive(self, lease, asker, now)


def _promises_what_is_due(self: Lessor, lease: int, asker: Asker, now: int) -> None:
    """A keep-alive is answered though the lease's expiry is on its way."""
    known = self._table.get(lease)
    if self.leading and known is not None and known.due:
        self.askers.settle(asker, known.ttl)
    else:
        _keep_alive(self, lease, asker, now)


def _denies_what_it_does_not_know(self: Askers, lease: int, asker: Asker) -> None:
    """A lease that is not in the table is said not to be."""
    self.settled.append((asker, GONE))


def _takes_all_for_its_own(*_: object) -> bool:
    """What leaders of before have logged ends a TTL after it came, though they may have answered by it."""
    return True


def _minds_no_term(table: dict[int, tuple[int, int]], logged: Logged) -> set[int]:
    """What a deposed leader proposed counts."""
    what = logged.what
    return _apply(table, logged if isinstance(what, Grant) else logged._replace(term=what.term))


def _minds_no_until(table: dict[int, tuple[int, int]], logged: Logged) -> set[int]:
    """An expiry counts though the lease was renewed before it."""
    what = logged.what
    if isinstance(what, LeaseExpire):
        leases = tuple((lease, table[lease][1]) for lease, _ in what.leases if lease in table)
        logged = logged._replace(what=what._replace(leases=leases))
    return _apply(table, logged)


BUGS = [
    (Lessor, "keep_alive", _promises_without_the_log),
    (Lessor, "keep_alive", _promises_what_is_due),
    (Lessor, "_is_own", _takes_all_for_its_own),
    (Askers, "inquire", _denies_what_it_does_not_know),
    (lease_world, "apply", _minds_no_term),
    (lease_world, "apply", _minds_no_until),
]


@pytest.mark.patches
@pytest.mark.parametrize(("owner", "name", "broken"), BUGS, ids=[broken.__name__ for *_, broken in BUGS])
def test_a_planted_bug_is_caught(owner: object, name: str, broken: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that passes whatever it is given would prove nothing."""
    monkeypatch.setattr(owner, name, broken)
    for seed in range(SEEDS_TO_CATCH):
        try:
            World(random.Random(seed)).play(STEPS)
        except AssertionError:
            return
    pytest.fail(f"{SEEDS_TO_CATCH} seeds did not show it")
