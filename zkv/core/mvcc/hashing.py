"""Proving that members hold the same: one number for all that a store says, up to a revision.

The hash is that of the events, in their order: history is in them whole, and once compaction has come to its end, they
are the same on all members, wherever and however often it was done. What else there is follows from the events, and is
held against them as it is now, whatever revision was asked for:

    current    of each key alive, the event that made it so, in other words
    history    of each event, where its key's versions are found
    policies   of each prefix that has one, how much lies under it

Sums tell whether one is made of the other (of checksums of what both sides must have alike; they do not ask for an
order, nor for room): each put adds itself to what is alive, whatever supersedes it takes it away, and each current
record too, so that nothing is left. Where anything is left, or a record is not what its event says, that goes into the
hash, so that the member differs from those that are well, and they from it not.

On the way every block of these tables is read, and damage that RocksDB's own checksums tell is told.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from zkv.core.mvcc import layout
from zkv.core.mvcc.layout import CURRENT, CURRENT_HEAD_BYTES, EVENT, EVENT_HEAD_BYTES, HISTORY
from zkv.core.mvcc.quotas import Quotas
from zkv.wire.codec import pack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zkv.core.mvcc.engine import Reader

STEP_RECORDS: Final = 250
STEP_BYTES: Final = 1 << 20
"""A step is what a write may have to wait for."""
HASH_OF_NOTHING: Final = zlib.crc32(b"zkv")
"""Not 0, which etcdctl's JSON leaves out: an empty store has a hash as any other."""


def hash_store(reader: Reader, revision: int, compacted: int) -> Iterator[int | None]:
    """None now and then, at last the CRC-32 of all events up to `revision`, and of whatever contradicts them.

    `compacted` is the revision up to which the store was compacted, to the end.
    """
    checksum = HASH_OF_NOTHING
    alive = past = 0
    behind = layout.event_key(revision + 1, 0)
    crc = zlib.crc32
    for step in _steps(reader, EVENT):
        for name, record in step:
            if name < behind:
                checksum = crc(record, crc(name, checksum))
            flags, _, _, _, before, before_sub, size = layout.event_head(record)
            key = record[EVENT_HEAD_BYTES : EVENT_HEAD_BYTES + size]
            at, sub = layout.event_of(name)
            tombstone = flags & layout.TOMBSTONE_FLAG
            if not tombstone:
                alive += crc(key, crc(name))
            if (before or before_sub) and at > compacted:  # else it is forgotten
                alive -= crc(key, crc(layout.event_key(before, before_sub)))
            mark = layout.TOMBSTONE_MARK if tombstone else layout.PUT_MARK
            past += crc(mark, crc(layout.history_key(key, at, sub)))
        yield None
    for step in _steps(reader, HISTORY):
        for name, record in step:
            past -= crc(record, crc(name))
        yield None
    wrong = 0
    quotas = Quotas(reader)
    for step in _steps(reader, CURRENT):
        names = [layout.event_key(*layout.current_head(record)[:2]) for _, record in step]
        for (key, record), name, event in zip(step, names, reader.get_many(names), strict=True):
            alive -= crc(key[1:], crc(name))
            if event is None or not _is_told_by(key[1:], record, event):
                wrong = crc(record, crc(key, wrong))
        if quotas.any:
            for key, record in step:
                quotas.note(key[1:], None, record)
        yield None
    for prefix in quotas.miscounted():
        wrong = crc(prefix, wrong) or 1
    left = (alive, past, wrong)
    yield crc(pack(left), checksum) if any(left) else checksum


def _is_told_by(key: bytes, record: bytes, event: bytes) -> bool:
    """Does the event put what the current record says?"""
    flags, *told, _, _, size = layout.event_head(event)
    _, _, *said = layout.current_head(record)
    whole = event[EVENT_HEAD_BYTES:] == key + record[CURRENT_HEAD_BYTES:]
    return whole and told == said and (flags, size) == (layout.PUT_FLAG, len(key))


def _steps(reader: Reader, table: bytes) -> Iterator[list[tuple[bytes, bytes]]]:
    step: list[tuple[bytes, bytes]] = []
    held = 0
    for name, record in reader.scan(table, layout.after_prefix(table)):
        step.append((name, record))
        held += len(name) + len(record)
        if len(step) == STEP_RECORDS or held >= STEP_BYTES:
            yield step
            step, held = [], 0
    if step:
        yield step
