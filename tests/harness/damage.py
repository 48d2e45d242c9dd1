"""What disks, and people, do to a member's data while it does not run."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from zkv.actors import wal_format
from zkv.actors.rocks_engine import RocksEngine
from zkv.core.mvcc import layout

if TYPE_CHECKING:
    from pathlib import Path


def flip(path: Path, offset: int, size: int = 1) -> None:
    """Other bits in `size` bytes of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        data = file.read(size)
        file.seek(offset)
        file.write(bytes(byte ^ 0x55 for byte in data))


def flip_tables(data_dir: Path) -> None:
    """Bytes in each of RocksDB's tables."""
    rng = random.Random(4)
    tables = sorted((data_dir / "member" / "snap" / "db").glob("*.sst"))
    assert tables, "nothing was flushed yet"
    for table in tables:
        size = table.stat().st_size
        for _ in range(20):
            flip(table, rng.randrange(size), 4)


def flip_log(data_dir: Path) -> None:
    """Bytes in the middle of what was written to the raft log."""
    segment, data, nonce = _last_segment(data_dir)
    flip(segment, data.rindex(nonce) // 2, 4)


def flip_last_frame(data_dir: Path) -> None:
    """A byte of what the raft log's last sync wrote."""
    segment, data, nonce = _last_segment(data_dir)
    seal = data.rindex(nonce)
    frame = data.rindex(nonce, 0, seal)
    flip(segment, (frame + seal) // 2)


def _last_segment(data_dir: Path) -> tuple[Path, bytes, bytes]:
    """Of the raft log: its file, what that holds, and the nonce with which each frame in it begins."""
    [*_, last] = sorted((data_dir / "member" / "wal").glob("*.wal"))
    data = last.read_bytes()
    sequence = wal_format.segment_sequence(last.name)
    assert sequence is not None
    return last, data, wal_format.decode_segment_header(data, sequence)


def change_current(data_dir: Path, key: bytes, value: bytes) -> None:
    """Another value for a key as it is now, while its history stays, and no checksum tells."""
    engine = RocksEngine(data_dir / "member" / "snap" / "db", create=False)
    try:
        record = engine.get(layout.CURRENT + key)
        assert record is not None
        engine.write([(layout.CURRENT + key, record[: layout.CURRENT_HEAD_BYTES] + value)], ())
        engine.flush()
    finally:
        engine.close()


def change_value(data_dir: Path, key: bytes, value: bytes) -> None:
    """Another value for a key, in all records of it that a client can see, and no checksum tells."""
    engine = RocksEngine(data_dir / "member" / "snap" / "db", create=False)
    try:
        record = engine.get(layout.CURRENT + key)
        assert record is not None
        head = record[: layout.CURRENT_HEAD_BYTES]
        revision, sub, *_ = layout.current_head(head)
        name = layout.event_key(revision, sub)
        event = engine.get(name)
        assert event is not None
        puts = [
            (layout.CURRENT + key, head + value),
            (name, event[: layout.EVENT_HEAD_BYTES + len(key)] + value),
        ]
        engine.write(puts, ())
        engine.flush()
    finally:
        engine.close()


def change_version(data_dir: Path, key: bytes) -> None:
    """The key counts its versions otherwise, which its next put will write into history."""
    engine = RocksEngine(data_dir / "member" / "snap" / "db", create=False)
    try:
        record = engine.get(layout.CURRENT + key)
        assert record is not None
        revision, sub, create, version, lease = layout.current_head(record)
        value = record[layout.CURRENT_HEAD_BYTES :]
        changed = layout.packed_current(revision, sub, create=create, version=version + 5, lease=lease, value=value)
        engine.write([(layout.CURRENT + key, changed)], ())
        engine.flush()
    finally:
        engine.close()
