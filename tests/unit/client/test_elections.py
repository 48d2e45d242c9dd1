"""Elections, step by step, in a world that a seed turns. What they share with locks, test_locks.py claims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.client.recipe_world import World
from zkv import errors
from zkv.client import calls
from zkv.client.election import Election, _Observer
from zkv.client.lease import Lease
from zkv.client.steps import Pause, ask
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.client.steps import Steps

NOBODY: Any = None  # the client: here the world drives
TTL = 5


def candidate(lease: Lease | None = None) -> Election:
    return Election(NOBODY, "e", TTL, lease)


def leader(world: World) -> bytes | None:
    kv = world.run(candidate().leading())
    return None if kv is None else bytes(kv.value)


@pytest.mark.parametrize("seed", range(20))
def test_one_leads_at_a_time_and_each_in_turn(seed: int) -> None:
    """Who leads by its own word, leads by everybody's."""
    world = World(seed)
    led: list[bytes] = []

    def standing(name: bytes) -> Steps[None]:
        mine = candidate()
        yield from mine.entering(name, wait=True)
        led.append(name)
        for _ in range(3):
            yield Pause(world.rng.randrange(1, 200))
            led_by = yield from mine.leading()
            assert led_by is not None
            assert led_by.value == name
        yield from mine.resigning()

    standers = [world.start(standing(b"%d" % number)) for number in range(6)]
    world.until(lambda: all(each.done for each in standers))
    assert [each.error for each in standers] == [None] * 6
    assert sorted(led) == [b"%d" % number for number in range(6)]
    assert leader(world) is None


def test_a_leader_proclaims_until_it_no_longer_leads() -> None:
    """The key is the same, and created by the same revision, so that it goes on leading."""
    world, mine = World(), candidate()
    with pytest.raises(errors.ElectionNotLeader, match="election: not leader"):
        world.run(mine.proclaiming(b"x"))
    world.run(mine.entering(b"one", wait=True))
    token = mine.token
    world.run(mine.proclaiming(b"two"))
    assert leader(world) == b"two"
    (kv,) = world.store.kvs.values()
    assert (kv.key, kv.create_revision, kv.lease) == (b"e/%x" % kv.lease, token, kv.lease)
    world.store.end_lease(kv.lease)
    with pytest.raises(errors.ElectionNotLeader):
        world.run(mine.proclaiming(b"three"))
    assert leader(world) is None


def test_a_write_can_depend_on_leading() -> None:
    world, mine = World(), candidate()
    world.run(mine.entering(b"", wait=True))
    world.run(ask(calls.put(m.Put(b"x", b"1"), mine)))
    world.store.end_lease(next(iter(world.store.leases)))
    with pytest.raises(errors.ElectionNotLeader):
        world.run(ask(calls.put(m.Put(b"x", b"2"), mine)))
    assert world.store.kvs[b"x"].value == b"1"


def test_one_may_resign_from_nothing() -> None:
    """As in etcd; also when the lease has ended meanwhile."""
    world, mine = World(), candidate()
    world.run(mine.resigning())
    world.run(mine.entering(b"", wait=True))
    world.store.end_lease(next(iter(world.store.leases)))
    world.run(mine.resigning())
    world.run(mine.entering(b"", wait=True))
    assert mine.held or mine.token


def test_who_stands_again_on_the_same_lease_leads_on_with_its_new_word() -> None:
    """As in etcd: the place in the line is the lease's."""
    world, lease = World(), Lease(NOBODY, TTL)
    world.run(lease.granting())
    world.run(candidate(lease).entering(b"one", wait=True))
    again = candidate(lease)
    world.run(again.entering(b"two", wait=True))
    assert leader(world) == b"two"


class TestObserving:
    def test_it_tells_every_leader_and_what_each_proclaims(self) -> None:
        world, first, second = World(), candidate(), candidate()
        seen: list[bytes] = []

        def observing() -> Steps[None]:
            observer = _Observer(b"e/")
            while len(seen) < 4:
                kv = yield from observer.following()
                seen.append(kv.value)

        observer = world.start(observing())
        world.settle()
        world.run(first.entering(b"1", wait=True))
        world.settle()
        standing = world.start(second.entering(b"2", wait=True))
        world.settle()
        world.run(first.proclaiming(b"1b"))
        world.settle()
        world.run(first.resigning())
        world.until(lambda: standing.done)
        world.settle()
        assert seen == [b"1", b"1b", b"2"]
        world.run(second.proclaiming(b"2b"))
        world.until(lambda: observer.done)
        assert seen == [b"1", b"1b", b"2", b"2b"]

    def test_after_compaction_it_goes_on_with_the_present(self) -> None:
        """And does not tell twice what it has told."""
        world, mine = World(), candidate()
        world.run(mine.entering(b"1", wait=True))
        observer = _Observer(b"e/")
        assert world.run(observer.following()).value == b"1"
        waiting = world.start(observer.following())
        world.settle()
        waiting.stopped = True
        world.run(ask(calls.put(m.Put(b"other", b""))))
        world.compact()
        waiting.stopped = False
        world.settle()
        assert not waiting.done
        world.run(mine.proclaiming(b"2"))
        world.until(lambda: waiting.done)
        assert waiting.result.value == b"2"
