"""An engine that keeps small writes back shows what one shows that does not, and loses no more in a crash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.harness.full_engine import FullEngine
from zkv.core.mvcc.engine import MemoryEngine
from zkv.core.mvcc.gathering import GATHERED_BYTES_MAX, GATHERED_MAX, SMALL_MAX, GatheringEngine

if TYPE_CHECKING:
    from zkv.core.mvcc.engine import Reader

KEYS = st.binary(max_size=2) | st.integers(0, 99).map(lambda number: b"%02d" % number)
TOP = b"\xff" * 8


class Twins(RuleBasedStateMachine):
    """Whatever is done to both, they agree on everything that can be asked."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = MemoryEngine()
        self.gathering = GatheringEngine(MemoryEngine())
        self.views: list[tuple[Reader, Reader]] = []

    @rule(
        puts=st.dictionaries(KEYS, st.binary(max_size=4), max_size=2 * SMALL_MAX),
        deletes=st.sets(KEYS, max_size=4),
    )
    def write(self, puts: dict[bytes, bytes], deletes: set[bytes]) -> None:
        self.plain.write(puts.items(), deletes)
        self.gathering.write(puts.items(), deletes)

    @rule(start=st.integers(0, 1000))
    def write_much(self, start: int) -> None:
        """More than is kept back."""
        for first in range(start, start + 2 * GATHERED_MAX, SMALL_MAX):
            puts = [(b"%06d" % number, b"") for number in range(first, first + SMALL_MAX)]
            self.plain.write(puts, ())
            self.gathering.write(puts, ())

    @rule()
    def snapshot(self) -> None:
        if len(self.views) < 3:
            self.views.append((self.plain.snapshot(), self.gathering.snapshot()))

    @rule()
    def crash(self) -> None:
        """Settled, and flushed by whoever: it is all there."""
        self.plain.flush()
        self.gathering.settle()
        self.gathering.flush()
        assert isinstance(self.gathering.engine, MemoryEngine)
        self.plain, self.gathering = self.plain.power_loss(), GatheringEngine(self.gathering.engine.power_loss())

    @rule(start=KEYS, end=KEYS, reverse=st.booleans())
    def scan(self, start: bytes, end: bytes, reverse: bool) -> None:
        for plain, gathering in ((self.plain, self.gathering), *self.views):
            assert list(plain.scan(start, end, reverse=reverse)) == list(gathering.scan(start, end, reverse=reverse))
            assert list(plain.keys(start, end)) == list(gathering.keys(start, end))
            assert plain.cursor().seek(start) == gathering.cursor().seek(start)
            assert plain.cursor().seek_before(start) == gathering.cursor().seek_before(start)

    @rule(keys=st.lists(KEYS, max_size=6))
    def get(self, keys: list[bytes]) -> None:
        assert self.plain.get_many(keys) == self.gathering.get_many(keys)
        assert [self.plain.get(key) for key in keys] == [self.gathering.get(key) for key in keys]

    @invariant()
    def keeps_a_bounded_part_back(self) -> None:
        assert len(self.gathering._gathered) <= GATHERED_MAX


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)


def everything(engine: Reader) -> list[bytes]:
    return [key for key, _ in engine.scan(b"", TOP)]


def test_small_writes_are_kept_back_and_large_ones_go_behind_them() -> None:
    """What a crash leaves is what the writes up to some point left: so the order stays."""
    disk = MemoryEngine()
    engine = GatheringEngine(disk)
    engine.write([(b"a", b"1")], ())
    assert everything(disk) == []
    assert engine.get(b"a") == b"1"
    engine.write([(b"b%03d" % number, b"") for number in range(SMALL_MAX + 1)], [b"a"])
    assert everything(disk) == [b"b%03d" % number for number in range(SMALL_MAX + 1)]
    engine.write([(b"c", bytes(GATHERED_BYTES_MAX))], ())
    assert b"c" in everything(disk)


def test_one_that_is_closed_has_lost_what_it_kept_back() -> None:
    """As a crash would: who closes has flushed before."""
    disk = MemoryEngine()
    engine = GatheringEngine(disk)
    engine.write([(b"a", b"1")], ())
    engine.close()
    assert everything(disk) == []


@pytest.mark.parametrize("call", ["settle", "scan", "keys", "cursor", "snapshot", "write"])
def test_what_finds_no_room_is_forgotten(call: str) -> None:
    """The engine has no part of it, and nothing is seen that the engine has not."""
    disk = FullEngine()
    disk.is_full = True
    engine = GatheringEngine(disk)
    engine.write([(b"a", b"1")], ())
    arguments = {"scan": (b"", TOP), "keys": (b"", TOP), "write": ([(b"b", bytes(GATHERED_BYTES_MAX))], ())}
    with pytest.raises(OSError, match="no room"):
        getattr(engine, call)(*arguments.get(call, ()))
    disk.is_full = False
    assert engine.get(b"a") is None
    assert everything(engine) == []
