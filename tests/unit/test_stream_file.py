"""A directory that follows a cluster survives being cut off anywhere, and tells of any other damage."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from zkv import stream_file
from zkv.errors import ConfigError, CorruptionError
from zkv.stream_file import Record, StreamWriter, base_name, logs, records, superseded
from zkv.wire.codec import encode_entry
from zkv.wire.messages import Entry

if TYPE_CHECKING:
    from pathlib import Path

CLUSTER = 77


def record(first: int, count: int = 2) -> Record:
    entries = [Entry(index, 1, 0, 1000 + index, b"body %d" % index) for index in range(first, first + count)]
    return Record(5_000, 1000 + first + count, tuple(map(encode_entry, entries)))


def held(directory: Path) -> list[Record]:
    files = [path for _, path in logs(directory)]
    return [found for path in files for found, _ in records(path, last=path == files[-1])]


@pytest.fixture
def followed(tmp_path: Path) -> Path:
    """Three records."""
    directory = tmp_path / "stream"
    with StreamWriter(directory, CLUSTER) as writer:
        writer.skip_to(5)
        for first in (5, 7, 9):
            writer.append(record(first))
    return directory


def test_what_was_appended_is_there_and_goes_on_where_it_ended(followed: Path) -> None:
    with StreamWriter(followed, CLUSTER) as writer:
        assert (writer.next_index, writer.last_entry) == (11, record(9).entries[-1])
        writer.append(record(11))
    assert held(followed) == [record(first) for first in (5, 7, 9, 11)]


def test_a_file_cut_off_anywhere_is_gone_on_with_behind_its_last_whole_record(followed: Path, tmp_path: Path) -> None:
    """As a crash leaves it; the entries that are lost are asked for again."""
    [(_, path)] = logs(followed)
    size = path.stat().st_size
    ends = [end for _, end in records(path, last=True)]
    for cut in range(ends[1], size):
        copy = tmp_path / f"cut {cut}"
        shutil.copytree(followed, copy)
        with logs(copy)[0][1].open("r+b") as file:
            file.truncate(cut)
        assert held(copy) == [record(5), record(7)]
        with StreamWriter(copy, CLUSTER) as writer:
            assert writer.next_index == 9
            writer.append(record(9))
        assert held(copy) == [record(5), record(7), record(9)]


def test_any_flipped_byte_is_told(followed: Path) -> None:
    [(_, path)] = logs(followed)
    data = path.read_bytes()
    for at in range(16, len(data)):
        path.write_bytes(data[:at] + bytes((data[at] ^ 0x55,)) + data[at + 1 :])
        with pytest.raises(CorruptionError, match=f"{path} at byte"):
            held(followed)


def test_zeros_where_a_record_was_being_written_are_what_a_power_loss_leaves(followed: Path) -> None:
    [(_, path)] = logs(followed)
    ends = [end for _, end in records(path, last=True)]
    data = path.read_bytes()
    for whole in range(ends[1], ends[2]):
        path.write_bytes(data[:whole] + bytes(len(data) - whole))
        assert held(followed) == [record(5), record(7)]


def test_a_record_cut_off_in_the_middle_of_all_is_damage(followed: Path) -> None:
    with StreamWriter(followed, CLUSTER) as writer:
        writer.skip_to(20)
    path = logs(followed)[0][1]
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(CorruptionError, match="cut short"):
        held(followed)


def test_a_log_that_is_large_goes_on_in_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_file, "FILE_BYTES", 200)
    with StreamWriter(tmp_path, CLUSTER) as writer:
        for first in range(1, 21, 2):
            writer.append(record(first))
    assert len(logs(tmp_path)) > 2
    assert held(tmp_path) == [record(first) for first in range(1, 21, 2)]


def test_one_process_follows_one_cluster(followed: Path) -> None:
    with pytest.raises(ConfigError, match="follows cluster 4d, not 4e"):
        StreamWriter(followed, CLUSTER + 1)
    with StreamWriter(followed, CLUSTER), pytest.raises(ConfigError, match="in use by another process"):
        StreamWriter(followed, CLUSTER)
    (followed / "log-0000000000000063.zkv").write_bytes(b"something else")
    with pytest.raises(CorruptionError, match="is no log of zkv"):
        StreamWriter(followed, CLUSTER)


def test_of_what_is_kept_a_base_and_all_of_the_log_behind_it_stay(tmp_path: Path) -> None:
    """Logs begin at 5, 20 and 40, bases at 8, 19 and 30: a log is needed while one entry of it lies behind a base."""
    names = {number: base_name(number, wall) for number, wall in ((8, 100), (19, 200), (30, 300))}
    names |= {number: f"log-{number:016x}.zkv" for number in (5, 20, 40)}
    for name in names.values():
        (tmp_path / name).touch()
    for wall, gone in ((99, []), (100, []), (199, []), (200, [8, 5]), (300, [8, 19, 5]), (900, [8, 19, 5])):
        assert superseded(tmp_path, wall) == [tmp_path / names[number] for number in gone]
