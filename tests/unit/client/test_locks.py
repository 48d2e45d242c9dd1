"""Locks, step by step, in a world that a seed turns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.unit.client.recipe_world import World
from zkv import errors
from zkv.client import calls
from zkv.client.lease import Lease
from zkv.client.lock import Lock
from zkv.client.steps import Ask, Await, Pause, ask
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zkv.client.steps import Steps

NOBODY: Any = None  # the client: here the world drives
TTL = 5
SEEDS = range(40)


def lock(name: str = "l", lease: Lease | None = None) -> Lock:
    return Lock(NOBODY, name, TTL, lease)


def entered(world: World, name: str = "l") -> Lock:
    held = lock(name)
    assert world.run(held.entering(b"", wait=True)) is True
    return held


def asked_for(steps: Steps[Any], world: World) -> Iterator[m.Request]:
    """The requests of a recipe that the world has no part in but to answer."""
    value: Any = None
    while True:
        try:
            effect = steps.send(value)
        except StopIteration:
            return
        value = None
        if isinstance(effect, Ask):
            yield effect.call.request
            value = world._call(effect.call)


def worker(world: World, log: list[tuple[str, int]], name: str) -> Steps[None]:
    mine = lock()
    yield from mine.entering(b"", wait=True)
    try:
        log.append((f"{name} in", mine.token))
        yield Pause(world.rng.randrange(1, 200))
        log.append((f"{name} out", mine.token))
    finally:
        yield from mine.leaving()


@pytest.mark.parametrize("seed", SEEDS)
def test_one_at_a_time_in_the_order_of_their_tokens(seed: int) -> None:
    """Ten compete; none enters before the one before has left, and tokens grow."""
    world = World(seed)
    log: list[tuple[str, int]] = []
    workers = [world.start(worker(world, log, str(number))) for number in range(10)]
    world.until(lambda: all(each.done for each in workers))
    assert [each.error for each in workers] == [None] * 10
    pairs = list(zip(log[::2], log[1::2], strict=True))
    assert all(came[0].split()[0] == left[0].split()[0] for came, left in pairs)
    tokens = [token for _, token in log[::2]]
    assert tokens == sorted(tokens)
    assert not world.store.kvs
    assert not world.store.leases


def test_a_free_lock_takes_two_calls() -> None:
    """A lease and one transaction; and giving it back one."""
    world, mine = World(), lock()
    requests = list(asked_for(mine.entering(b"", wait=True), world))
    assert [type(request) for request in requests] == [m.LeaseGrant, m.Txn]
    assert [type(request) for request in asked_for(mine.leaving(), world)] == [m.LeaseRevoke]


def test_the_keys_are_those_of_etcd() -> None:
    """`name/<lease id in hex>`, empty, on that lease; the token is the revision that created it."""
    world = World()
    held = entered(world)
    (kv,) = world.store.kvs.values()
    (lease,) = world.store.leases
    assert kv == m.KeyValue(b"l/%x" % lease, held.token, held.token, 1, b"", lease)
    assert held.key == kv.key


def test_each_waits_for_the_one_before_it_only() -> None:
    """Of a long line, an end wakes one: the others make no call."""
    world = World()
    first = entered(world)
    waiting = []
    for _ in range(20):
        waiting.append(world.start(lock().entering(b"", wait=True)))
        world.settle()
    awaited = [cast("Await", process.effect).key for process in waiting]
    assert len(set(awaited)) == 20
    assert awaited[0] == first.key
    before = world.calls
    world.run(first.leaving())
    world.settle()
    assert waiting[0].done
    assert not any(process.done for process in waiting[1:])
    assert world.calls - before == 3  # the end itself; the one it wakes looks who is ahead, and for its own key


def test_a_killed_holder_makes_room_within_its_ttl() -> None:
    world = World()
    log: list[tuple[str, int]] = []

    mine = lock()
    holder = world.start(mine.entering(b"", wait=True))
    world.settle()
    next_one = world.start(worker(world, log, "next"))
    world.pass_ms(TTL * 3000)
    world.settle()
    assert not log, "its lease is kept alive"
    world.kill(holder)
    killed = world.now
    world.until(lambda: next_one.done)
    assert world.now - killed <= TTL * 1000 + 500


def test_a_killed_waiter_holds_up_nobody() -> None:
    """The one behind it waits on, for the one before it."""
    world = World()
    holder = entered(world)
    waiter, behind = lock(), lock()
    first = world.start(waiter.entering(b"", wait=True))
    world.settle()
    second = world.start(behind.entering(b"", wait=True))
    world.settle()
    world.kill(first)
    world.pass_ms(TTL * 1000)
    world.settle()
    assert not second.done
    world.run(holder.leaving())
    world.until(lambda: second.done)
    assert second.result is True


def test_a_stopped_holder_cannot_write_any_more() -> None:
    """Beyond its TTL another one holds the lock; its guarded writes are refused, the other's are made."""
    world = World()
    old = lock()

    def holding() -> Steps[str]:
        yield from old.entering(b"", wait=True)
        yield Pause(10)
        try:
            yield from ask(calls.put(m.Put(b"x", b"old"), old))
        except errors.LockLost as error:
            return "in doubt" if error.maybe_applied else "refused"
        return "written"

    stopped = world.start(holding())
    world.until(lambda: isinstance(stopped.effect, Pause))
    stopped.stopped = True
    new = lock()
    world.run(new.entering(b"", wait=True))
    world.run(ask(calls.put(m.Put(b"x", b"new"), new)))
    stopped.stopped = False
    world.until(lambda: stopped.done)
    assert stopped.result == "refused"
    assert world.store.kvs[b"x"].value == b"new"
    assert old.token < new.token


@pytest.mark.parametrize("seed", SEEDS)
def test_guarded_writes_exclude_each_other_whatever_happens(seed: int) -> None:
    """Holders are stopped beyond their TTL and go on, are killed, lose answers: a guarded change stays whole.

    Each adds one to a counter by a read and a guarded put; the counter ends as high as there were puts.
    """
    world = World(seed, lost_answers=0.02)

    def adding() -> Steps[None]:
        mine = lock()
        try:
            yield from mine.entering(b"", wait=True)
            while True:
                kv = yield from ask(calls.get("n", revision=0, serializable=False))
                yield Pause(world.rng.randrange(1, 3000))
                yield from ask(calls.put(m.Put(b"n", b"%d" % (int(kv.value if kv else 0) + 1)), mine))
                if world.rng.random() < 0.3:
                    break
            yield from mine.leaving()
        except errors.ClientError:
            return

    for _ in range(6):
        world.start(adding())
    for _ in range(60):
        for process in world.processes:
            if world.rng.random() < 0.1:
                process.stopped = not process.stopped
        if world.processes and world.rng.random() < 0.1:
            world.kill(world.rng.choice(world.processes))
            world.start(adding())
        for _ in range(20):
            world.turn()
        world.pass_ms(world.rng.choice((10, 1000, 8000)))
    counter = world.store.kvs.get(b"n")
    assert counter is not None
    # How far it came hangs on when the killed holders were collected as garbage, for then nobody keeps their leases.
    assert int(counter.value) == counter.version


@pytest.mark.parametrize("seed", SEEDS)
def test_whoever_gives_up_leaves_the_line(seed: int) -> None:
    """By a deadline, an interruption, an answer that is lost: no key of theirs stays, and the others go on."""
    world = World(seed, lost_answers=0.1)
    log: list[tuple[str, int]] = []
    workers = [world.start(worker(world, log, str(number)), world.rng.randrange(1, 1500)) for number in range(10)]
    world.turn()
    victim = world.rng.choice(workers)
    if not victim.done:
        world.interrupt(victim, KeyboardInterrupt())
    world.until(lambda: all(each.done for each in workers))
    for each in workers:
        assert isinstance(each.error, errors.ClientError | KeyboardInterrupt | None)
    world.lost_answers = 0.0
    world.pass_ms(2 * TTL * 1000)  # what no call could clean up, ends by itself
    assert not world.store.kvs
    world.run(lock().entering(b"", wait=True))


@pytest.mark.parametrize("effects", range(1, 6))
def test_after_an_interruption_at_any_step_it_can_be_taken_again(effects: int) -> None:
    """Also between the grant and the first keep-alive."""
    world, mine = World(), lock()
    holder = entered(world)
    waiter = world.start(mine.entering(b"", wait=True))
    for _ in range(effects - 1):
        world.turn()
    world.interrupt(waiter, KeyboardInterrupt())
    world.until(lambda: waiter.done)
    assert isinstance(waiter.error, KeyboardInterrupt)
    world.run(holder.leaving())
    assert world.run(mine.entering(b"", wait=True)) is True


def test_whose_time_is_up_leaves_at_once() -> None:
    """Its deadline does not hold for cleaning up: nobody should have to wait for its lease to end."""
    world = World()
    holder = entered(world)
    waiter = world.start(lock().entering(b"", wait=True), timeout_ms=1000)
    world.until(lambda: waiter.done)
    assert isinstance(waiter.error, errors.DeadlineExceeded)
    assert list(world.store.kvs) == [holder.key]
    assert len(world.store.leases) == 1


def test_a_waiter_whose_lease_ends_is_told_so() -> None:
    """It does not wait on for a turn that cannot come."""
    world = World()
    entered(world)
    waiter = world.start(lock().entering(b"", wait=True))
    world.settle()
    (kept,) = waiter.kept
    world.store.end_lease(kept.id)
    world.until(lambda: waiter.done, ms_max=2 * TTL * 1000)
    assert isinstance(waiter.error, errors.LeaseLost)


def test_who_was_stopped_before_it_stood_in_line_is_told_so() -> None:
    """Its lease had ended before it could put its key."""
    world = World()
    late = world.start(lock().entering(b"", wait=True))
    while not late.kept:
        world.turn()
    late.stopped = True
    world.pass_ms(TTL * 1000)
    late.stopped = False
    world.until(lambda: late.done)
    assert isinstance(late.error, errors.LeaseLost)


def test_a_waiter_whose_key_was_deleted_does_not_hold_the_lock() -> None:
    """An operator has removed it: nobody waits for it any more, so it must not believe to have had its turn."""
    world = World()
    holder = entered(world)
    waiter = world.start(lock().entering(b"", wait=True))
    world.settle()
    world.run(ask(calls.delete(m.DeleteRange(b"l/%x" % waiter.kept[0].id))))
    world.run(holder.leaving())
    world.until(lambda: waiter.done)
    assert isinstance(waiter.error, errors.LeaseLost)


def test_a_waiter_that_was_away_beyond_compaction_looks_again() -> None:
    world = World()
    holder = entered(world)
    waiter = world.start(lock().entering(b"", wait=True))
    world.settle()
    waiter.stopped = True
    world.run(holder.leaving())
    world.compact()
    waiter.kept[0].sure_until = world.now + 60_000
    waiter.stopped = False
    world.until(lambda: waiter.done)
    assert waiter.result is True


def test_what_is_not_free_is_not_waited_for_when_one_only_tries() -> None:
    """And nothing is left of the attempt."""
    world = World()
    holder, other = entered(world), lock()
    assert world.run(other.entering(b"", wait=False)) is False
    assert list(world.store.kvs) == [holder.key]
    assert len(world.store.leases) == 1
    world.run(holder.leaving())
    assert world.run(other.entering(b"", wait=False)) is True


def test_a_lock_can_be_taken_again() -> None:
    world = World()
    mine = entered(world)
    first = mine.token
    with pytest.raises(errors.InvalidRequest):
        world.run(mine.entering(b"", wait=True))
    world.run(mine.leaving())
    world.run(mine.entering(b"", wait=True))
    assert mine.token > first


def test_to_release_what_is_lost_is_an_error() -> None:
    """The holder should know that it was not alone."""
    world = World()
    mine = entered(world)
    world.store.end_lease(next(iter(world.store.leases)))
    with pytest.raises(errors.LockLost):
        world.run(mine.leaving())
    with pytest.raises(errors.LockLost):
        world.run(mine.leaving())


def test_what_was_never_held_guards_nothing() -> None:
    """Not even as a comparison."""
    mine = lock()
    for use in (mine.is_owner, lambda: mine.token, lambda: mine.key, mine.check):
        with pytest.raises(errors.LockLost):
            use()
    assert not mine.held


class TestLentLease:
    """Several locks may live by one lease."""

    def test_giving_back_the_lock_leaves_the_lease(self) -> None:
        world, lease = World(), Lease(NOBODY, TTL)
        world.run(lease.granting())
        one, other = lock("a", lease), lock("b", lease)
        world.run(one.entering(b"", wait=True))
        world.run(other.entering(b"", wait=True))
        world.run(one.leaving())
        assert list(world.store.kvs) == [other.key]
        with pytest.raises(errors.LockLost):
            world.run(one.leaving())

    def test_the_lease_takes_its_locks_along(self) -> None:
        world, lease = World(), Lease(NOBODY, TTL)
        world.run(lease.granting())
        mine = lock("a", lease)
        world.run(mine.entering(b"", wait=True))
        world.run(lease.revoking())
        with pytest.raises(errors.LockLost):
            world.run(ask(calls.put(m.Put(b"x", b""), mine)))
        with pytest.raises(errors.LockLost):
            world.run(mine.leaving())

    def test_a_lock_not_waited_for_is_cleaned_up(self) -> None:
        world, lease = World(), Lease(NOBODY, TTL)
        holder = entered(world, "a")
        world.run(lease.granting())
        assert world.run(lock("a", lease).entering(b"", wait=False)) is False
        assert list(world.store.kvs) == [holder.key]
        assert len(world.store.leases) == 2


class TestGuards:
    """What a guarded write answers is what the plain one would."""

    def test_put(self) -> None:
        world = World()
        mine = entered(world)
        world.run(ask(calls.put(m.Put(b"x", b"1"), mine)))
        result = world.run(ask(calls.put(m.Put(b"x", b"2", prev_kv=True), mine)))
        assert result.prev_kv.value == b"1"
        assert result.revision == world.store.revision

    def test_delete(self) -> None:
        world = World()
        mine = entered(world)
        world.run(ask(calls.put(m.Put(b"x", b"1"), mine)))
        result = world.run(ask(calls.delete(m.DeleteRange(b"x", prev_kv=True), mine)))
        assert (result.deleted, result.prev_kvs[0].value) == (1, b"1")

    @pytest.mark.parametrize("holds", [True, False])
    def test_txn(self, holds: bool) -> None:
        """Its own comparisons decide its branch; only a lost guard is an error."""
        world = World()
        mine = entered(world)
        builder: calls.Txn[Any] = calls.Txn(lambda call, _: world.run(ask(call)), mine)
        there = m.Compare(0, m.CompareTarget.VERSION, b"x", 0 if holds else 7)
        result = builder.if_(there).then(m.Put(b"x", b"then")).otherwise(m.Put(b"x", b"else")).commit()
        assert result.succeeded is holds
        assert world.store.kvs[b"x"].value == (b"then" if holds else b"else")
        world.run(mine.leaving())
        with pytest.raises(errors.LockLost):
            builder.commit()

    def test_a_guarded_transaction_stands_in_no_other(self) -> None:
        """Its loss would be taken for the outer's branch."""
        inner: calls.Txn[Any] = calls.Txn(None, lock())
        with pytest.raises(errors.InvalidRequest):
            calls.Txn().then(inner)


def test_a_lock_that_nobody_refers_to_any_more_ends() -> None:
    """Nobody could release it."""
    world = World()
    process = world.start(lock().entering(b"", wait=True))
    world.settle()
    assert world.store.kvs
    process.result = None
    world.pass_ms(TTL * 1000)
    assert not world.store.kvs
