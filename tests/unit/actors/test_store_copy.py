"""What can be made of a directory that was copied, or is looked at, while a store writes to it."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from zkv.actors import store_copy
from zkv.actors.rocks_engine import RocksEngine
from zkv.errors import CorruptionError

if TYPE_CHECKING:
    from pathlib import Path

STATES = 5


def written(path: Path) -> None:
    """A store with so many states, each with all that the ones before had."""
    engine = RocksEngine(path)
    for state in range(1, STATES + 1):
        engine.write([(b"k%d" % state, bytes(1000)), (b"state", b"%d" % state)], ())
        engine.flush()
    engine.close()


def found(source: Path, scratch: Path) -> tuple[int, int, bool]:
    """The state of a store, how many keys it has, and whether it was taken back."""
    scratch.mkdir()
    engine, taken_back = store_copy.opened(source, scratch)
    try:
        return int(engine.get(b"state") or 0), sum(1 for _ in engine.keys(b"k", b"l")), taken_back
    finally:
        engine.close()


def test_a_copy_that_lacks_files_is_taken_back_to_the_newest_state_that_is_whole(tmp_path: Path) -> None:
    """And nothing is changed in the directory that was given."""
    written(tmp_path / "db")
    assert found(tmp_path / "db", tmp_path / "whole") == (STATES, STATES, False)
    tables = sorted((tmp_path / "db").glob("*.sst"))
    assert len(tables) == STATES
    before = sorted(file.name for file in (tmp_path / "db").iterdir())
    for missing in range(1, STATES):
        home = tmp_path / f"copy{missing}"
        shutil.copytree(tmp_path / "db", home)
        (home / tables[STATES - missing].name).unlink()
        state = STATES - missing
        assert found(home, tmp_path / f"scratch{missing}") == (state, state, True)
        assert len(list(home.glob("*.sst"))) == STATES - 1
    assert sorted(file.name for file in (tmp_path / "db").iterdir()) == before


def test_a_copy_without_its_oldest_file_holds_nothing(tmp_path: Path) -> None:
    written(tmp_path / "db")
    min((tmp_path / "db").glob("*.sst")).unlink()
    assert found(tmp_path / "db", tmp_path / "scratch") == (0, 0, True)


def test_damage_is_no_missing_file(tmp_path: Path) -> None:
    """It is told, not passed over by going back."""
    written(tmp_path / "db")
    [manifest] = (tmp_path / "db").glob("MANIFEST-*")
    data = bytearray(manifest.read_bytes())
    data[len(data) // 2] ^= 1
    manifest.write_bytes(data)
    with pytest.raises(CorruptionError, match="checksum"):
        found(tmp_path / "db", tmp_path / "scratch")
    with pytest.raises(CorruptionError, match="holds no store"):
        found(tmp_path / "scratch", tmp_path / "nothing")


def test_the_directory_of_a_store_that_is_being_written_is_taken_at_some_flush(tmp_path: Path) -> None:
    """While tables come, are merged, and go."""
    engine, begun, stop = RocksEngine(tmp_path / "db"), threading.Event(), threading.Event()
    flushed = 0

    def write() -> None:
        nonlocal flushed
        state = 0
        while not stop.is_set():
            state += 1
            engine.write([(b"k%d" % state, bytes(20_000)), (b"state", b"%d" % state)], ())
            if state % 3 == 0:
                engine.flush()
                flushed = state
                begun.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert begun.wait(30)
        for number in range(12):
            before = flushed
            state, keys, _ = found(tmp_path / "db", tmp_path / f"scratch{number}")
            assert state == keys
            assert state >= before
    finally:
        stop.set()
        writer.join()
        engine.close()
