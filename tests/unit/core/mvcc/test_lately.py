"""Answers kept for keys that are asked for often are those the engine would give."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.kv_log import Feeder
from zkv.core.mvcc import lately
from zkv.core.mvcc.engine import MemoryEngine
from zkv.wire import messages as m
from zkv.wire.codec import unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

KEYS = [b"k%d" % number for number in range(12)]


class CountingEngine(MemoryEngine):
    def __init__(self) -> None:
        super().__init__()
        self.looked_up: list[bytes] = []

    def get(self, key: bytes) -> bytes | None:
        self.looked_up.append(key)
        return super().get(key)

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        self.looked_up += keys
        return super().get_many(keys)


def write(chance: Random) -> Any:
    key = chance.choice(KEYS)
    return chance.choice(
        (
            m.Put(key, chance.randbytes(chance.randrange(40))),
            m.Put(key, b"for a while", ttl=60),
            m.DeleteRange(key),
            m.DeleteRange(key, b"k5"),
            m.Txn((), ((int(m.Op.PUT), m.Put(key, b"by a txn")), (int(m.Op.DELETE_RANGE), m.DeleteRange(b"k1x"))), ()),
        )
    )


@pytest.mark.parametrize("bytes_max", [0, 1000, lately.KEPT_BYTES_MAX])
def test_what_is_kept_is_what_the_store_holds(bytes_max: int) -> None:
    """Whatever is written between reads, and however little is kept."""
    feeder, chance = Feeder(), Random(bytes_max)
    feeder.machine.store.lately = lately.Lately(feeder.machine.engine, bytes_max)
    for _ in range(300):
        feeder.ask(*(write(chance) for _ in range(chance.randrange(3))))
        for key in chance.sample(KEYS, 4):
            kvs, more, count = feeder.read(m.Range(key))
            whole = feeder.read(m.Range(key, key + b"\0"))  # reads the engine
            assert (kvs, more, count) == whole


def test_a_key_that_is_asked_for_again_is_not_looked_up_again() -> None:
    engine = CountingEngine()
    feeder = Feeder(engine=engine)
    feeder.ask(m.Put(b"a", b"1"))
    engine.looked_up.clear()
    for _ in range(3):
        assert feeder.read(m.Range(b"a"))[0][0][4] == b"1"
        assert feeder.read(m.Range(b"gone")) == ((), False, 0)
    assert engine.looked_up == [b"ka", b"kgone"]
    feeder.ask(m.Put(b"b", b"2"))
    engine.looked_up.clear()
    assert feeder.read(m.Range(b"a"))[0][0][4] == b"1"
    assert not engine.looked_up, "another one has changed"


def test_large_answers_and_too_many_are_not_kept() -> None:
    engine = CountingEngine()
    engine.write([(b"kbig", bytes(28 + lately.BODY_BYTES_MAX))], ())
    kept = lately.Lately(engine, 3 * 300)
    kept.bodies([b"big", b"small"])
    assert len(kept) == 1
    for number in range(100):
        kept.bodies([b"%d" % number])
        assert len(kept) <= 5


def test_a_key_asked_for_twice_in_one_message() -> None:
    engine = CountingEngine()
    kept = lately.Lately(engine)
    assert [unpack(body) for body in kept.bodies([b"a", b"a"])] == [((), False, 0)] * 2
    kept.forget([b"a", b"b"])
    assert len(kept) == 0
