"""Raft's log on disk agrees with its twin in memory, survives any crash, and never hands out damaged data."""

from __future__ import annotations

import random
import re
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.faulty_disk import FaultyDisk
from zkv.actors import wal_format
from zkv.actors.wal import Wal
from zkv.config import Limits
from zkv.core.raft.log import LogCompacted, LogPort, MemoryLog
from zkv.errors import CorruptionError, DiskError, DiskFull
from zkv.wire.messages import ConfState, Entry, HardState, SnapshotMeta

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BOOTSTRAP = ConfState((1, 2, 3))
SMALL = Limits(log_cache_bytes=2000)  # so that most entries are read back from the disk
SEGMENT_BYTES = 1200


def wal(disk: FaultyDisk) -> Wal:
    return Wal("", SMALL, BOOTSTRAP, disk=disk, segment_bytes=SEGMENT_BYTES)


def entry(index: int, term: int = 1, body: bytes = b"body") -> Entry:
    return Entry(index, term, 0, 1000 + index, body)


def picture(log: LogPort) -> tuple[object, ...]:
    """All that a log can be asked for."""
    low, high = log.first_index, log.last_index + 1
    terms = [log.term(index) for index in range(low - 1, high)]
    return log.hard_state, log.conf, log.base, terms, log.entries(low, high, 1 << 30)


# --- any sequence of calls, on both twins ------------------------------------------------------------


class Player:
    """Makes calls a raft core could make, the same on several logs."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng
        self._term = 1

    def step(self, *logs: LogPort) -> None:
        log, rng = logs[0], self._random
        match rng.choice(
            ("append", "append", "append", "overwrite", "state", "conf", "sync", "sync", "compact", "reset")
        ):
            case "append":
                self._append(logs, log.last_index + 1)
            case "overwrite" if log.last_index > log.hard_state.commit:
                self._term += 1
                self._append(logs, rng.randrange(log.hard_state.commit, log.last_index) + 1)
            case "state":
                state = HardState(self._term, rng.randrange(4), rng.randint(log.hard_state.commit, log.last_index))
                for one in logs:
                    one.set_hard_state(state)
            case "conf" if log.last_index:
                conf = ConfState((1, 2, 3), (4,), (), rng.randint(log.base.index, log.last_index))
                for one in logs:
                    one.set_conf(conf)
            case "sync":
                for one in logs:
                    one.sync()
            case "compact":
                index = rng.randint(log.base.index, max(log.base.index, log.hard_state.commit))
                for one in logs:
                    one.compact(index)
            case "reset" if rng.random() < 0.3:
                index = max(log.last_index, log.base.index) + rng.randrange(5)
                base = SnapshotMeta(index, self._term, 5000 + index, ConfState((1, 2), (), (), index))
                state = HardState(self._term, 0, index)
                for one in logs:
                    one.set_hard_state(state)
                    one.reset(base)

    def _append(self, logs: tuple[LogPort, ...], first: int) -> None:
        sizes = [self._random.choice((0, 10, 100, 700)) for _ in range(self._random.randint(1, 4))]
        entries = [entry(first + i, self._term, self._random.randbytes(size)) for i, size in enumerate(sizes)]
        for one in logs:
            one.append(entries)


def copy(log: LogPort) -> MemoryLog:
    twin = MemoryLog(BOOTSTRAP)
    twin.hard_state, twin.conf, twin.base = log.hard_state, log.conf, log.base
    if log.last_index >= log.first_index:
        twin.append(log.entries(log.first_index, log.last_index + 1, 1 << 30))
    return twin


seeds = st.integers(0, 2**32)


@settings(max_examples=150, deadline=None)
@given(seeds)
def test_twins_agree_on_any_calls_and_after_any_restart(seed: int) -> None:
    """The port means the same in memory and on disk; a restart after a sync changes nothing."""
    rng = random.Random(seed)
    disk = FaultyDisk(rng)
    memory, on_disk = MemoryLog(BOOTSTRAP), wal(disk)
    player = Player(rng)
    for _ in range(40):
        player.step(memory, on_disk)
        assert picture(on_disk) == picture(memory)
        low = rng.randint(memory.first_index, memory.last_index + 1)
        assert on_disk.entries(low, low + 5, 500) == memory.entries(low, low + 5, 500)
        if rng.random() < 0.1:
            on_disk.sync()
            on_disk.close()
            disk.restart()
            on_disk = wal(disk)
            assert picture(on_disk) == picture(memory)


@settings(max_examples=300, deadline=None)
@given(seeds)
def test_after_any_crash_what_was_synced_is_there_and_the_rest_whole_or_not_at_all(seed: int) -> None:
    """Power is lost at any disk call, with any part of what was not synced on the disk; then again, and again.

    The log is then as it was at the last sync that returned, or as the sync that was under way would have made
    it; and what was found once is found again after the next power loss.
    """
    rng = random.Random(seed)
    disk = FaultyDisk(rng)
    player = Player(rng)
    durable: list[MemoryLog] = [MemoryLog(BOOTSTRAP)]
    for _ in range(6):
        before = [picture(log) for log in durable]
        disk.fail_at = disk.calls + rng.randrange(60)
        wanted = durable[0]
        try:
            log = wal(disk)
            found = picture(log)
            assert found in before
            wanted = copy(log)
            durable = [copy(wanted)]
            for _ in range(30):
                player.step(wanted, cast("LogPort", _Recorder(log, durable, wanted)))
        except DiskError:
            pass
        (disk.crash if rng.random() < 0.8 else disk.restart)()


class _Recorder:
    """Before a sync is tried, what it would make durable is one more way the log may be found afterwards."""

    def __init__(self, log: Wal, durable: list[MemoryLog], wanted: MemoryLog) -> None:
        self._log, self._durable, self._wanted = log, durable, wanted

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    def reset(self, base: SnapshotMeta) -> None:
        self._around(lambda: self._log.reset(base))

    def sync(self) -> None:
        self._around(self._log.sync)

    def _around(self, call: Callable[[], None]) -> None:
        aim = copy(self._wanted)
        self._durable.append(aim)
        call()
        self._durable[:] = [aim]


def test_a_log_without_room_for_its_next_segment_takes_a_sync_later() -> None:
    """Nothing is lost or doubled by trying again, nor by a crash meanwhile."""
    disk = FaultyDisk(random.Random(1))
    log = wal(disk)
    disk.is_full = True
    log.append([entry(1, 1, bytes(SEGMENT_BYTES))])
    for _ in range(2):
        with pytest.raises(DiskFull):
            log.sync()
    log.append([entry(2)])
    whole = picture(log)
    disk.is_full = False
    log.sync()
    assert picture(log) == whole
    disk.restart()
    assert picture(wal(disk)) == whole


# --- damage ------------------------------------------------------------------------------------------


def damaged_disk(rng: random.Random) -> tuple[FaultyDisk, Wal, list[tuple[object, ...]]]:
    """A few segments, and how the log looked after each sync."""
    disk = FaultyDisk(rng)
    log = wal(disk)
    pictures = [picture(log)]
    for index in range(1, 25):
        log.append([entry(index, 1, rng.randbytes(150))])
        log.set_hard_state(HardState(1, 1, index - 1))
        log.sync()
        pictures.append(picture(log))
    return disk, log, pictures


@settings(max_examples=300, deadline=None)
@given(seeds)
def test_no_flipped_byte_ever_changes_what_the_log_hands_out(seed: int) -> None:
    """Opening fails loudly, or nobody needs the byte."""
    rng = random.Random(seed)
    disk, log, pictures = damaged_disk(rng)
    last = max(name for name in disk.names() if name.endswith(".wal"))
    name = rng.choice([name for name in disk.names() if name.endswith(".wal")])
    used = log._end + wal_format.SEAL_BYTES if name == last else SEGMENT_BYTES
    disk.flip(name, rng.randrange(used), 1 << rng.randrange(8))
    disk.restart()
    told = ""
    try:
        found = picture(wal(disk))
    except CorruptionError as error:
        told = str(error)
    if told:
        assert re.search(r"wal/\S+ at byte \d+: .*zkv member refill", told)
    else:
        assert found == pictures[-1]


def test_damage_of_what_was_synced_is_corruption_and_not_cut() -> None:
    """Protocol-aware recovery: cutting there would forget entries that were acknowledged, or a vote.

    In the last frame as in any before it: once a sync has returned, its frame bears a seal.
    """
    disk, log, _ = damaged_disk(random.Random(1))
    log.append([entry(25)])
    log.sync()
    whole = picture(log)
    name = max(name for name in disk.names() if name.endswith(".wal"))
    for position in range(log._end):
        disk.flip(name, position, 0xFF)
        disk.restart()
        with pytest.raises(CorruptionError, match="zkv member refill"):
            wal(disk)
        disk.flip(name, position, 0xFF)
    for position in range(log._end, log._end + wal_format.SEAL_BYTES):
        disk.flip(name, position, 0xFF)
        disk.restart()
        assert picture(wal(disk)) == whole
        assert picture(wal(disk)) == whole


def test_a_log_that_was_only_opened_bears_a_seal_again() -> None:
    """What a crash left without one was made durable by the opening, and has one from then on."""
    disk = FaultyDisk(random.Random(3))
    log = wal(disk)
    log.append([entry(1)])
    disk.fail_at = disk.calls + 3  # written, synced, and no seal
    with pytest.raises(DiskError):
        log.sync()
    disk.restart()
    wal(disk)
    disk.restart()
    name = max(disk.names())
    disk.flip(name, disk.content(name).index(b"body"), 1)
    with pytest.raises(CorruptionError, match="synced before"):
        wal(disk)


def test_a_missing_segment_is_told() -> None:
    disk, _, _ = damaged_disk(random.Random(2))
    disk.unlink(sorted(disk.names())[1])
    disk.restart()
    with pytest.raises(CorruptionError, match="segment 2 before it is missing"):
        wal(disk)


def test_a_missing_oldest_segment_is_told_when_its_entries_are_needed() -> None:
    disk, _, _ = damaged_disk(random.Random(2))
    disk.unlink(min(disk.names()))
    disk.restart()
    with pytest.raises(CorruptionError, match="entry 1 is missing"):
        wal(disk)


def test_an_entry_damaged_after_opening_is_not_handed_out() -> None:
    disk, log, _ = damaged_disk(random.Random(3))
    name = min(disk.names())
    disk.flip(name, disk.content(name).index(log.entries(1, 2, 0)[0].body) + 7, 1)
    with pytest.raises(CorruptionError, match=rf"wal/{name} at byte \d+: checksum of log entry 1"):
        log.entries(1, 5, 1 << 20)


# --- the disk refuses --------------------------------------------------------------------------------


def test_after_a_failed_sync_nothing_is_tried_again() -> None:
    """A second fsync may report success for pages that the first one's failure dropped."""
    disk = FaultyDisk(random.Random(4))
    log = wal(disk)
    log.append([entry(1)])
    disk.fail_at = disk.calls + 2  # the write succeeds, its sync does not
    with pytest.raises(DiskError):
        log.sync()
    disk.fail_at = None
    calls = disk.calls
    for _ in range(2):
        with pytest.raises(DiskError):
            log.sync()
    assert disk.calls == calls


@pytest.mark.parametrize("size", [10, 2 * SEGMENT_BYTES])
@pytest.mark.parametrize("calls", range(1, 6))
def test_what_was_written_and_not_synced_is_made_durable_before_it_is_shown(calls: int, size: int) -> None:
    """A process killed between write and fsync leaves what reads well; power loss must not take it later.

    With the large entry, this happens at each step of the beginning of a segment.
    """
    for seed in range(20):
        disk = FaultyDisk(random.Random(seed))
        log = wal(disk)
        log.append([entry(1, 1, bytes(size))])
        disk.fail_at = disk.calls + calls
        with suppress(DiskError):
            log.sync()
        disk.restart()
        found = picture(wal(disk))
        disk.crash()
        assert picture(wal(disk)) == found


def test_a_full_disk_is_a_typed_error_that_names_the_directory(tmp_path: Path) -> None:
    """No space for the next segment: the error says where, and the log refuses everything after it."""
    too_large = 1 << 60
    with pytest.raises(DiskError, match=str(tmp_path)):
        Wal(str(tmp_path), SMALL, BOOTSTRAP, segment_bytes=too_large)
    assert list(tmp_path.iterdir()) == []


def test_entries_cut_off_and_compacted_before_a_sync_do_not_come_back() -> None:
    """The frame holds no entry then, and still has to say where the log ends."""
    disk = FaultyDisk(random.Random(11))
    log = wal(disk)
    log.append([entry(index) for index in range(1, 13)])
    log.sync()
    log.append([entry(6, 2), entry(7, 2)])
    log.compact(7)
    log.sync()
    disk.restart()
    assert wal(disk).last_index == 7


# --- economy -----------------------------------------------------------------------------------------


def test_all_that_gathered_is_one_sync_and_nothing_is_none() -> None:
    disk = FaultyDisk(random.Random(6))
    log = wal(disk)
    before = disk.calls
    log.append([entry(1), entry(2)])
    log.append([entry(2, 2), entry(3, 2)])
    log.set_hard_state(HardState(2, 1, 1))
    log.set_conf(ConfState((1,), (), (), 1))
    log.sync()
    assert disk.calls - before == 3  # one write, one sync, and its seal
    log.set_hard_state(HardState(2, 1, 1))
    log.sync()
    assert disk.calls - before == 3


def test_segments_behind_the_base_are_written_again() -> None:
    """The log's place on disk is bounded by what it holds, and steady use makes no new files."""
    disk = FaultyDisk(random.Random(7))
    log = wal(disk)
    for index in range(1, 200):
        log.append([entry(index, 1, bytes(150))])
        log.compact(index - 5)
        log.sync()
        assert len(disk.names()) <= 2 + 2
    assert log.first_index == 195
    with pytest.raises(LogCompacted):
        log.entries(194, 199, 1)


def test_stale_frames_of_a_reused_segment_are_never_taken_for_new_ones() -> None:
    """What lies behind the last frame verified once, under another nonce and number."""
    disk = FaultyDisk(random.Random(8))
    log = wal(disk)
    for index in range(1, 60):
        log.append([entry(index, 1, bytes(150))])
        log.compact(index - 1)
        log.sync()
        found = picture(log)
        disk.restart()
        log = wal(disk)
        assert picture(log) == found


def test_a_frame_is_read_only_under_its_own_nonce_and_number() -> None:
    """Bytes of a segment's former life, and frames out of their order, are nothing."""
    change = wal_format.Change(hard_state=HardState(1, 2, 3), first=1)
    data, _ = wal_format.encode_frame(b"8 bytes.", 7, change, [entry(1)])
    frame = wal_format.decode_frame(data, 0, b"8 bytes.", 7)
    assert frame is not None
    assert ([found for _, found in frame.entries], frame.end) == ([entry(1)], len(data))
    assert (frame.change.hard_state, frame.change.first) == (HardState(1, 2, 3), 1)
    assert (frame.change.reset, frame.change.base, frame.change.conf) == (False, None, None)
    assert wal_format.decode_frame(data, 0, b"8 bytes.", 8) is None
    assert wal_format.decode_frame(data, 0, b"another!", 7) is None
    assert all(wal_format.decode_frame(data[:size], 0, b"8 bytes.", 7) is None for size in range(len(data)))
    assert wal_format.decode_frame(wal_format.encode_seal(b"8 bytes.", 7), 0, b"8 bytes.", 7) is None


def test_an_entry_larger_than_a_segment_has_one_of_its_own() -> None:
    disk = FaultyDisk(random.Random(9))
    log = wal(disk)
    for index in range(1, 6):
        log.append([entry(index, 1, bytes(3 * SEGMENT_BYTES))])
        log.sync()
    found = picture(log)
    disk.restart()
    assert picture(wal(disk)) == found


def test_the_real_directory_serves_as_its_twin_does(tmp_path: Path) -> None:
    """The same calls, on files: the same log, before and after a restart."""
    rng = random.Random(10)
    memory = MemoryLog(BOOTSTRAP)
    log = Wal(str(tmp_path), SMALL, BOOTSTRAP, segment_bytes=1 << 14)
    player = Player(rng)
    for _ in range(300):
        player.step(memory, log)
    log.sync()
    assert picture(log) == picture(memory)
    log.close()
    reopened = Wal(str(tmp_path), SMALL, ConfState((9,)), segment_bytes=1 << 14)
    assert picture(reopened) == picture(memory)
    reopened.close()
