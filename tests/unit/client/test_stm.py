"""Software transactional memory, step by step, in a world that a seed turns.

The function of an Stm runs at one moment here, with its reads driven at once; so what happens *between* its reads is
told by functions that let something happen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.client.recipe_world import World
from zkv import errors
from zkv.client import calls
from zkv.client.steps import ask
from zkv.client.stm import ISOLATIONS, Isolation, Stm
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.client.steps import Steps


class AtOnce:
    """A client whose recipes the world drives while their caller waits: the reads within a function."""

    def __init__(self, world: World) -> None:
        self.world = world

    def _drive(self, steps: Steps[Any], timeout: float | None) -> Any:
        return self.world.run(steps)


def stm(
    world: World,
    isolation: Isolation = "serializable_snapshot",
    prefetch: tuple[str, ...] = (),
    attempts_max: int | None = 50,
) -> Stm:
    return Stm(AtOnce(world), isolation, prefetch, attempts_max)


def put(world: World, key: bytes, value: bytes) -> None:
    world.run(ask(calls.put(m.Put(key, value))))


def run(world: World, function: Callable[[Stm], Any], isolation: Isolation = "serializable_snapshot") -> Any:
    return world.run(stm(world, isolation).running(function))


def test_writes_are_made_when_the_function_has_returned_all_at_once() -> None:
    """Until then nobody sees them but the function."""
    world = World()
    put(world, b"a", b"1")
    put(world, b"c", b"1")

    def function(txn: Stm) -> str:
        assert txn.get("a") == b"1"
        txn.put("a", "2")
        txn.put("b", "3")
        txn.delete("c")
        assert (txn.get("a"), txn.get("b"), txn.get("c")) == (b"2", b"3", None)
        assert txn.mod_revision("a") == 2
        assert txn.mod_revision("b") == 0
        assert world.store.revision == 3
        return "done"

    assert run(world, function) == "done"
    assert world.store.revision == 4
    assert {key: kv.value for key, kv in world.store.kvs.items()} == {b"a": b"2", b"b": b"3"}


def test_a_function_that_raises_writes_nothing() -> None:
    world = World()

    def function(txn: Stm) -> None:
        txn.put("a", "1")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(world, function)
    assert not world.store.kvs


def interfering(
    world: World, key: str, times: int, *, read: bool, write: bool
) -> tuple[Callable[[Stm], None], list[int]]:
    """A function that reads and writes `key`; somebody else puts it in between, the first `times` times."""
    runs = [0]

    def function(txn: Stm) -> None:
        runs[0] += 1
        txn.get("first")
        if read:
            txn.get(key)
        if runs[0] <= times:
            put(world, key.encode(), b"theirs")
        if write:
            txn.put(key, "mine")
        txn.put("other", "mine")

    return function, runs


@pytest.mark.parametrize(
    ("isolation", "after_read", "after_write"),
    [
        ("serializable_snapshot", 3, 3),
        ("serializable", 3, 1),
        ("repeatable_reads", 3, 1),
        ("read_committed", 1, 1),
    ],
)
def test_what_makes_the_function_run_again(isolation: Isolation, after_read: int, after_write: int) -> None:
    """A change of what it has read, or of what it writes, as the level has it; twice here, so three runs."""
    world = World()
    function, runs = interfering(world, "k", 2, read=True, write=False)
    run(world, function, isolation)
    assert runs == [after_read]
    function, runs = interfering(world, "w", 2, read=False, write=True)
    run(world, function, isolation)
    assert runs == [after_write]
    assert world.store.kvs[b"other"].value == b"mine"


@pytest.mark.parametrize("isolation", ISOLATIONS)
def test_what_a_read_sees(isolation: Isolation) -> None:
    """The revision of the first one, or what is there; the same key always the same."""
    world = World()
    for key in (b"a", b"b"):
        put(world, key, b"old")
    seen: list[tuple[bytes | None, bytes | None]] = []

    def function(txn: Stm) -> None:
        first = txn.get("a")
        if not seen:
            put(world, b"a", b"new")
            put(world, b"b", b"new")
        seen.append((first, txn.get("b")))
        assert txn.get("a") == first

    run(world, function, isolation)
    if isolation in {"serializable_snapshot", "serializable"}:
        assert seen == [(b"old", b"old"), (b"new", b"new")]
    elif isolation == "repeatable_reads":
        assert seen == [(b"old", b"new"), (b"new", b"new")]
    else:
        assert seen == [(b"old", b"new")]


@pytest.mark.parametrize("isolation", ["serializable_snapshot", "serializable"])
def test_no_write_skew(isolation: Isolation) -> None:
    """Two who each read both and write one: the second one sees what the first has done."""
    world = World()
    put(world, b"a", b"on")
    put(world, b"b", b"on")
    runs = [0]

    def off(mine: str, other: str) -> Callable[[Stm], None]:
        def function(txn: Stm) -> None:
            runs[0] += 1
            both = (txn.get(mine), txn.get(other))
            if mine == "a" and runs[0] == 1:
                run(world, off("b", "a"), isolation)
            if both == (b"on", b"on"):
                txn.put(mine, "off")

        return function

    run(world, off("a", "b"), isolation)
    assert sorted(kv.value for kv in world.store.kvs.values()) == [b"off", b"on"]


@pytest.mark.parametrize("isolation", ["serializable_snapshot", "serializable", "repeatable_reads"])
@pytest.mark.parametrize("seed", range(10))
def test_transfers_keep_the_sum(isolation: Isolation, seed: int) -> None:
    """Processes that move money between accounts, each transfer a function, each commit at a moment of its own."""
    world = World(seed)
    accounts = [f"account/{number}" for number in range(4)]
    for account in accounts:
        put(world, account.encode(), b"100")

    def transferring() -> Steps[None]:
        for _ in range(8):
            giver, taker = world.rng.sample(accounts, 2)
            amount = world.rng.randrange(1, 50)

            def function(txn: Stm, giver: str = giver, taker: str = taker, amount: int = amount) -> None:
                has, gets = (int(txn.get(name) or 0) for name in (giver, taker))
                if has >= amount:
                    txn.put(giver, str(has - amount))
                    txn.put(taker, str(gets + amount))

            yield from stm(world, isolation, attempts_max=None).running(function)

    movers = [world.start(transferring()) for _ in range(4)]
    world.until(lambda: all(each.done for each in movers))
    assert [each.error for each in movers] == [None] * 4
    assert sum(int(kv.value) for kv in world.store.kvs.values()) == 400
    assert world.store.revision > 20


def test_after_a_conflict_what_was_read_comes_with_the_refusal() -> None:
    """So the next attempt asks for nothing but its commit."""
    world = World()
    put(world, b"k", b"1")
    function, runs = interfering(world, "k", 1, read=True, write=True)
    before = world.calls
    run(world, function)
    assert runs == [2]
    assert world.calls - before == 5  # two reads, the other's put, two commits


def test_keys_likely_to_be_read_are_fetched_together() -> None:
    world = World()
    put(world, b"a", b"1")
    before = world.calls

    def function(txn: Stm) -> list[bytes | None]:
        return [txn.get(key) for key in ("a", "b", "c")]

    transaction = stm(world, prefetch=("a", "b", "c"))
    assert world.run(transaction.running(function)) == [b"1", None, None]
    assert world.calls - before == 2


def test_attempts_may_be_bounded() -> None:
    world = World()
    function, runs = interfering(world, "k", 99, read=True, write=True)
    with pytest.raises(errors.Conflict, match="3 attempts"):
        world.run(stm(world, attempts_max=3).running(function))
    assert runs == [3]
    assert b"other" not in world.store.kvs


def test_a_deadline_ends_the_attempts() -> None:
    world = World()
    function, _ = interfering(world, "k", 1_000_000, read=True, write=True)
    process = world.start(stm(world, attempts_max=None).running(function), timeout_ms=500)
    world.until(lambda: process.done)
    assert isinstance(process.error, errors.DeadlineExceeded)


def test_a_revision_compacted_under_it_is_a_conflict() -> None:
    world = World()
    put(world, b"b", b"1")
    runs = [0]

    def function(txn: Stm) -> bytes | None:
        runs[0] += 1
        txn.get("a")
        if runs[0] == 1:
            put(world, b"b", b"2")
            world.compact()
        return txn.get("b")

    assert run(world, function) == b"2"
    assert runs == [2]


def test_nonsense_is_refused() -> None:
    with pytest.raises(errors.InvalidRequest):
        stm(World(), isolation="chaos")  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidRequest):
        stm(World(), attempts_max=0)
