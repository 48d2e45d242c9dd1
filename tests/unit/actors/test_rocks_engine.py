"""RocksDB and the engine in memory are twins; and what only the one on disk must do."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from zkv.actors.rocks_engine import RocksEngine, _mapped
from zkv.core.mvcc.engine import LEAF_KEYS_MAX, MemoryEngine, Reader
from zkv.errors import CorruptionError

KEYS = st.binary(max_size=3) | st.sampled_from([b"a", b"a\0", b"a\xff", b"b", b"\xff", b"\xff\xff"])
TOP = b"\xff" * 8


class Twins(RuleBasedStateMachine):
    """Whatever is done to both, they agree on everything that can be asked."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.memory = MemoryEngine()
        self.rocks = RocksEngine(Path(self.folder.name) / "db")
        self.views: list[tuple[Reader, Reader]] = []

    def teardown(self) -> None:
        self.views.clear()
        self.rocks.close()
        self.folder.cleanup()

    @rule(puts=st.dictionaries(KEYS, st.binary(max_size=4), max_size=8), deletes=st.sets(KEYS, max_size=4))
    def write(self, puts: dict[bytes, bytes], deletes: set[bytes]) -> None:
        self.memory.write(puts.items(), deletes)
        self.rocks.write(puts.items(), deletes)

    @rule()
    def flush_and_crash(self) -> None:
        """What was flushed is there again after a crash, and here nothing else was written."""
        self.views.clear()
        self.memory.flush()
        self.rocks.flush()
        self.rocks.close()
        self.memory = self.memory.power_loss()
        self.rocks = RocksEngine(Path(self.folder.name) / "db", create=False)

    @rule()
    def snapshot(self) -> None:
        if len(self.views) < 3:
            self.views.append((self.memory.snapshot(), self.rocks.snapshot()))

    def both(self) -> list[tuple[Reader, Reader]]:
        return [(self.memory, self.rocks), *self.views]

    @rule(start=KEYS, end=KEYS, reverse=st.booleans())
    def scan(self, start: bytes, end: bytes, reverse: bool) -> None:
        for memory, rocks in self.both():
            assert list(memory.scan(start, end, reverse=reverse)) == list(rocks.scan(start, end, reverse=reverse))
            assert list(memory.keys(start, end)) == list(rocks.keys(start, end))

    @rule(keys=st.lists(KEYS, max_size=4))
    def get(self, keys: list[bytes]) -> None:
        for memory, rocks in self.both():
            assert memory.get_many(keys) == rocks.get_many(keys) == [memory.get(key) for key in keys]
            assert [rocks.get(key) for key in keys] == [memory.get(key) for key in keys]

    @rule(keys=st.lists(KEYS, max_size=4))
    def jump(self, keys: list[bytes]) -> None:
        for memory, rocks in self.both():
            cursor, other = memory.cursor(), rocks.cursor()
            for key in keys:
                assert cursor.seek(key) == other.seek(key)
                assert cursor.seek_before(key) == other.seek_before(key)

    @invariant()
    def agree(self) -> None:
        assert list(self.memory.scan(b"", TOP)) == list(self.rocks.scan(b"", TOP))


TestTwins = Twins.TestCase
TestTwins.settings = settings(max_examples=20, stateful_step_count=15, deadline=None)


@given(st.lists(st.integers(0, 5 * LEAF_KEYS_MAX), max_size=6), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_memory_keeps_its_order_over_many_leaves(gone: list[int], step: int) -> None:
    """Splitting and emptying leaves changes nothing of what is found."""
    engine = MemoryEngine()
    model = {b"%06d" % i: b"" for i in range(0, 5 * LEAF_KEYS_MAX, step)}
    engine.write(model.items(), ())
    before = engine.snapshot()
    doomed = [key for i, key in enumerate(model) for start in gone if start <= i < start + LEAF_KEYS_MAX]
    engine.write((), doomed)
    assert [key for key, _ in before.scan(b"", TOP)] == sorted(model)
    left = sorted(set(model) - set(doomed))
    assert [key for key, _ in engine.scan(b"", TOP)] == left
    assert [key for key, _ in engine.scan(b"", TOP, reverse=True)] == left[::-1]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_snapshot_stands_still_while_others_write_and_read_it(tmp_path: Path, reverse: bool) -> None:
    """Begun before a write or after it, whole or with jumps in between: a scan shows what was there."""
    memory, rocks = MemoryEngine(), RocksEngine(tmp_path / "db")
    shown: list[list[Any]] = []
    for engine in (memory, rocks):
        engine.write([(b"%03d" % i, b"old") for i in range(9)], ())
        snapshot = engine.snapshot()
        begun = snapshot.scan(b"002", b"009", reverse=reverse)
        found: list[Any] = [next(begun)]
        engine.write([(b"%03d" % i, b"new") for i in range(4, 20)], [b"002", b"003"])
        engine.flush()
        found += [next(begun), snapshot.cursor().seek(b"007"), snapshot.cursor().seek_before(b"005")]
        found += snapshot.scan(b"", TOP, reverse=reverse)
        names = snapshot.keys(b"", TOP)
        found += [next(names), *begun, *names, snapshot.get(b"002"), snapshot.get(b"010")]
        shown.append(found)
    assert shown[0] == shown[1]
    assert b"new" not in [found[1] for found in shown[1] if found]
    del snapshot, begun, names
    rocks.close()


def test_unflushed_writes_are_lost_with_the_process(tmp_path: Path) -> None:
    """There is no second log: only flush makes durable."""
    engine = RocksEngine(tmp_path / "db")
    engine.write([(b"a", b"1")], ())
    engine.flush()
    engine.write([(b"b", b"2")], ())
    assert not [file for file in (tmp_path / "db").glob("*.log") if file.stat().st_size]
    engine.close()


def test_damage_is_told_and_never_read_over(tmp_path: Path) -> None:
    """A flipped bit on disk ends a get and a scan in CorruptionError, in place of an answer that is too short."""
    engine = RocksEngine(tmp_path / "db")
    engine.write(((b"%06d" % i, b"v" * 100) for i in range(5000)), ())
    engine.flush()
    engine.close()
    del engine
    [table] = (tmp_path / "db").glob("*.sst")
    data = bytearray(table.read_bytes())
    data[len(data) // 2] ^= 0xFF
    table.write_bytes(data)
    engine = RocksEngine(tmp_path / "db")
    with pytest.raises(CorruptionError):
        list(engine.scan(b"", TOP))
    with pytest.raises(CorruptionError):
        list(engine.scan(b"", TOP, reverse=True))
    with pytest.raises(CorruptionError):
        list(engine.keys(b"", TOP))
    with pytest.raises(CorruptionError):
        engine.get_many([b"%06d" % i for i in range(5000)])
    snapshot = engine.snapshot()
    with pytest.raises(CorruptionError):
        snapshot.get_many([b"%06d" % i for i in range(5000)])
    del snapshot
    engine.close()


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RocksEngine(tmp_path / "none", create=False)
    engine = RocksEngine(tmp_path / "db")
    with pytest.raises(OSError, match="lock"):
        RocksEngine(tmp_path / "db")
    engine.close()
    del engine
    (tmp_path / "db" / "CURRENT").write_text("garbage\n")
    with pytest.raises((CorruptionError, OSError)):
        RocksEngine(tmp_path / "db")


def test_a_full_disk_is_told_from_other_troubles() -> None:
    """The words are RocksDB's."""
    full = _mapped(Exception("IO error: No space left on device: While appending to file: /x/000008.sst"))
    assert isinstance(full, OSError)
    assert full.errno == errno.ENOSPC
    assert isinstance(_mapped(Exception("Corruption: block checksum mismatch")), CorruptionError)


def test_a_staged_store_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    engine = RocksEngine(tmp_path / "db")
    engine.write([(b"old", b"")], ())
    staging = engine.staging()
    staging.write([(b"new", b"")], ())
    engine = engine.swap_in(staging)
    assert [key for key, _ in engine.scan(b"", TOP)] == [b"new"]
    assert [path.name for path in tmp_path.iterdir()] == ["db"]
    engine.close()


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (("db", "db.staging"), b"db"),  # still being filled
        (("db", "db.staged"), b"db.staged"),  # complete, nothing moved yet
        (("db.old", "db.staged"), b"db.staged"),  # the old one is out of the way
        (("db", "db.old"), b"db"),  # done but for tidying up
        (("db", "db.old", "db.staged"), b"db.staged"),  # a second swap, before the first was tidied up
    ],
)
def test_a_swap_cut_off_anywhere_leaves_one_whole_store(tmp_path: Path, left: tuple[str, ...], kept: bytes) -> None:
    """What counts is decided by one rename."""
    for name in left:
        engine = RocksEngine(tmp_path / f"{name}-made")
        engine.write([(b"name", name.encode())], ())
        engine.flush()
        engine.close()
        (tmp_path / f"{name}-made").rename(tmp_path / name)
    engine = RocksEngine(tmp_path / "db")
    assert engine.get(b"name") == kept
    assert [path.name for path in tmp_path.iterdir()] == ["db"]
    engine.close()


def test_no_more_is_in_use_than_there_is(tmp_path: Path) -> None:
    """What lies in memory still counts for both: their difference is what a defragmentation gives back."""
    engine = RocksEngine(tmp_path / "db")
    for number in range(50):
        engine.write([(b"%d/%d" % (number, at), bytes(1000)) for at in range(100)], ())
        assert engine.size() >= engine.size_in_use() > 0
    assert engine.size_in_use() > 4_000_000
    engine.flush()
    assert engine.size() >= engine.size_in_use()
    engine.close()


def test_a_key_that_is_not_there_costs_no_read(tmp_path: Path) -> None:
    """However large its table's filter is (here 625 KB), it stays in memory; a filter errs once in a hundred times."""
    engine = RocksEngine(tmp_path / "db")
    engine.write(((b"%07d" % at, b"") for at in range(500_000)), ())
    engine.defragment()
    assert engine.get(b"0000000x") is None
    before = _bytes_read()
    assert not any(engine.get(b"%07dx" % at) for at in range(400))
    assert _bytes_read() - before < 1_000_000
    engine.close()


def _bytes_read() -> int:
    """By this process, from files and what else there is."""
    return int(Path("/proc/self/io").read_text().split()[1])


def test_tables_go_to_the_disk_bit_by_bit(tmp_path: Path) -> None:
    """RocksDB has taken what our file of options says, beside what is set."""
    RocksEngine(tmp_path / "db").close()
    (taken,) = (tmp_path / "db").glob("OPTIONS-*")
    assert {"strict_bytes_per_sync=true", "bytes_per_sync=262144", "paranoid_checks=true"} <= set(
        taken.read_text().split()
    )
