"""Raft's log on disk: the LogPort that survives power loss (format in wal_format.py, disk port in disk.py).

What is appended or set *gathers* in memory, visible at once; `sync` writes all of it as one frame, with one write
and one fdatasync. So a group of entries, a vote and a commit index cost one disk operation together, and after a
crash they are there together or not at all.

    append, set_hard_state, set_conf, compact  -->  gathered  -- sync -->  frame in the open segment  --> durable
                                                                |
                                                                +-- it does not fit: first frame of the next segment

**Segments** are reserved in full (posix_fallocate) and written again when no longer needed (*spares*): a sync into
blocks that were written before need not touch the file system's own journal. A segment gets its name only when its
header and first frame are on the disk, and loses it only when no entry behind a *durable* base lies in it, the oldest
first, the directory synced after each: at any moment the segments on disk are consecutive, and the first frame of the
oldest holds, or frames behind it do, all that the missing ones said.

**In memory** stand term, size and place of every entry kept (20 bytes each); the newest entries themselves up to
`log_cache_bytes`, always including what is not synced yet. Older ones are read back, their checksum verified.

**Opening** replays all segments. A last frame that is not whole and bears no seal is a torn write and is cut (never
acknowledged: its sync had not returned); any other damage is a CorruptionError. What was found is then made durable
before anyone may rest on it: a process killed between write and sync leaves a frame that reads well and is not on the
disk.

One sync of an entry of 1, 64, 256 KiB takes 0.16, 0.4, 0.7 ms at best (2 cores, ext4 on a virtual disk, segments used
before), 0.1, 0.2, 0.5 ms of them this process's; opening 60 MiB of log takes 0.1 to 0.3 s.

After a DiskError the log refuses everything: what is on the disk is not known, and only opening it again tells. But
where there is no room for another segment (DiskFull) nothing has happened, and `sync` may be called again.
"""

from __future__ import annotations

from array import array
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

import structlog

from zkv.actors import refill
from zkv.actors import wal_format as fmt
from zkv.actors.disk import Directory, Disk
from zkv.core.raft.log import LogCompacted
from zkv.errors import CorruptionError, DiskError, DiskFull
from zkv.gauges import Histogram
from zkv.wire import codec
from zkv.wire.messages import ConfState, Entry, HardState, SnapshotMeta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.config import Limits
    from zkv.gauges import Value

SEGMENT_BYTES: Final = 32 << 20
SPARES_MAX: Final = 2
CACHED_ENTRY_BYTES: Final = 300  # what an entry costs in memory besides its body
READ_BYTES: Final = 1 << 20  # one read from disk takes about this much of the log
_PLACE_SHIFT: Final = 36  # a place is segment << 36 | offset
_OFFSET_MASK: Final = (1 << _PLACE_SHIFT) - 1
REMEDY = f"the log of this member cannot be trusted: {refill.REMEDY}"


class Wal:
    """The log in `directory`. A new one begins empty with the configuration `bootstrap`; an old one knows its own.

    Raises CorruptionError when the files hold damage, DiskError when the disk refuses. One process at a time may hold
    it (the data directory's lock sees to that).
    """

    def __init__(
        self,
        directory: str,
        limits: Limits,
        bootstrap: ConfState,
        *,
        disk: Disk | None = None,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._disk = disk if disk is not None else Directory(directory)
        self._cache_bytes_max = limits.log_cache_bytes
        self._segment_bytes = segment_bytes
        self.hard_state = HardState()
        self.conf = bootstrap
        self.base = SnapshotMeta(0, 0, 0, bootstrap)
        # of entries base.index + 1 .. last_index
        self._terms = array("Q")
        self._places = array("Q")  # 0 while not synced
        self._sizes = array("I")
        # the newest entries, _cached_from .. last_index
        self._cache: dict[int, Entry] = {}
        self._cached_from = 1
        self._cache_bytes = 0
        # gathered: nothing at or behind `_dirty_from` is on the disk as it is here (0: all is)
        self._dirty_from = 0
        self._dirty_hard_state = self._dirty_conf = self._dirty_base = self._reset = False
        # the open segment: its frames end at `_end`, the next one will have `_number`
        self._segments: dict[int, tuple[str, int]] = {}  # sequence -> name, file; oldest first
        self._spares: list[str] = []
        self._sequence = 0
        self._nonce = b""
        self._end = 0
        self._number = 1
        self._failed: DiskError | None = None
        self._syncs = Histogram()
        self._written = 0  # bytes
        self._open()

    # --- what the log holds --------------------------------------------------------------------------

    @property
    def first_index(self) -> int:
        return self.base.index + 1

    @property
    def last_index(self) -> int:
        return self.base.index + len(self._terms)

    def term(self, index: int) -> int:
        position = index - self.base.index - 1
        if position >= 0:
            return self._terms[position]
        if position == -1:
            return self.base.term
        raise LogCompacted(index)

    def entries(self, low: int, high: int, bytes_max: int) -> list[Entry]:
        if high == low + 1 and (lone := self._cache.get(low)) is not None:
            return [lone]
        base = self.base.index
        if low <= base:
            raise LogCompacted(low)
        size = 0
        until = low
        for size_of_one in self._sizes[low - base - 1 : max(high, low) - base - 1]:
            size += size_of_one
            if until > low and size > bytes_max:
                break
            until += 1
        cached_from = min(max(self._cached_from, low), until)
        found = self._read(low, cached_from) if low < cached_from else []
        found.extend(map(self._cache.__getitem__, range(cached_from, until)))
        return found

    def _read(self, low: int, high: int) -> list[Entry]:
        """Entries low <= index < high from disk, neighbours with one read."""
        places, sizes, base = self._places, self._sizes, self.base.index + 1
        found: list[Entry] = []
        while low < high:
            sequence, start = divmod(places[low - base], 1 << _PLACE_SHIFT)
            limit = places[low - base] + READ_BYTES
            until = low + 1
            while until < high and places[until - base] < limit and places[until - base] >> _PLACE_SHIFT == sequence:
                until += 1
            last = until - 1 - base
            end = (places[last] & _OFFSET_MASK) + codec.ENTRY_HEADER_BYTES + sizes[last]
            name, file = self._segments[sequence]
            data = self._disk.read(file, end - start, start)
            for index in range(low, until):
                offset = places[index - base] & _OFFSET_MASK
                try:
                    entry, _ = codec.decode_entry(data, offset - start)
                except CorruptionError as error:
                    raise self._corruption(name, offset, error.detail) from None
                if entry.index != index or entry.term != self._terms[index - base]:
                    raise self._corruption(name, offset, f"entry {entry.index} lies where entry {index} was written")
                found.append(entry)
            low = until
        return found

    # --- what gathers --------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        first = entries[0].index
        assert self.base.index < first <= self.last_index + 1, "a log has no gap, and what was compacted stays"
        self._cut(first)
        self._dirty_from = min(self._dirty_from or first, first)
        self._put(entries, [0] * len(entries))

    def set_hard_state(self, hard_state: HardState) -> None:
        self._dirty_hard_state |= hard_state != self.hard_state
        self.hard_state = hard_state

    def set_conf(self, conf: ConfState) -> None:
        self._dirty_conf |= conf != self.conf
        self.conf = conf

    def compact(self, index: int) -> None:
        """Segments are let go at the next sync, which makes the new base durable first."""
        index = min(index, self.last_index)
        if index <= self.base.index:
            return
        last = self.entries(index, index + 1, 0)[0]
        conf = self.conf if self.conf.index <= index else self.base.conf
        self._rest_on(SnapshotMeta(index, last.term, last.time, conf))
        self._dirty_base = True
        if self._dirty_from:
            self._dirty_from = max(self._dirty_from, self.first_index)

    def reset(self, base: SnapshotMeta) -> None:
        assert base.index >= self.base.index, "a snapshot takes nothing back"
        self._cut(self.first_index)
        self._rest_on(base)
        self.conf = base.conf
        self._reset = self._dirty_base = self._dirty_conf = True
        self._dirty_from = 0
        self.sync()

    def _cut(self, first: int) -> None:
        """Forget the entries from `first` on."""
        last = self.last_index
        if first > last:
            return
        for index in range(max(first, self._cached_from), last + 1):
            self._cache_bytes -= len(self._cache.pop(index).body) + CACHED_ENTRY_BYTES
        self._cached_from = min(self._cached_from, first)
        position = first - self.base.index - 1
        del self._terms[position:], self._places[position:], self._sizes[position:]

    def _put(self, entries: Sequence[Entry], places: list[int]) -> None:
        """At the end, each at its place."""
        for position, entry in enumerate(entries):
            size = len(entry.body)
            self._terms.append(entry.term)
            self._places.append(places[position])
            self._sizes.append(size)
            self._cache[entry.index] = entry
            self._cache_bytes += size + CACHED_ENTRY_BYTES

    def _rest_on(self, base: SnapshotMeta) -> None:
        """Forget the entries up to the base, which may lie behind all of them."""
        position = min(base.index, self.last_index) - self.base.index
        del self._terms[:position], self._places[:position], self._sizes[:position]
        self._uncache(base.index)
        self._cached_from = max(self._cached_from, base.index + 1)
        self.base = base

    def _uncache(self, until: int) -> None:
        """Entries up to `until` (the last one at most) leave the cache."""
        for index in range(self._cached_from, min(until, self._cached_from + len(self._cache) - 1) + 1):
            self._cache_bytes -= len(self._cache.pop(index).body) + CACHED_ENTRY_BYTES
            self._cached_from = index + 1

    def _trim_cache(self) -> None:
        while self._cache_bytes > self._cache_bytes_max and len(self._cache) > 1:
            self._uncache(self._cached_from)

    # --- what becomes durable ------------------------------------------------------------------------

    def sync(self) -> None:
        if self._failed is not None:
            raise self._failed
        if not (self._dirty_from or self._dirty_hard_state or self._dirty_conf or self._dirty_base):
            return
        try:
            self._write_frame()
            if self._dirty_base:
                self._let_go_of_segments()
        except DiskFull:
            raise  # there is no next segment, and all is as it was
        except DiskError as error:
            self._failed = error
            raise
        self._dirty_from = 0
        self._dirty_hard_state = self._dirty_conf = self._dirty_base = self._reset = False
        self._trim_cache()

    def _sync_file(self, file: int) -> None:
        began = monotonic_ns()
        self._disk.sync(file)
        self._syncs.observe(monotonic_ns() - began)

    def gauges(self) -> list[Value]:
        return [("fsync", "", self._syncs.counts), ("log bytes", "", self._written)]

    def _write_frame(self) -> None:
        first = self._dirty_from
        entries = [self._cache[index] for index in range(first, self.last_index + 1)] if first else []
        change = fmt.Change(
            reset=self._reset,
            base=self.base if self._dirty_base else None,
            hard_state=self.hard_state if self._dirty_hard_state else None,
            conf=self.conf if self._dirty_conf else None,
            first=first,
        )
        frame, entries_at = fmt.encode_frame(self._nonce, self._number, change, entries)
        if self._segments and self._end + len(frame) + fmt.SEAL_BYTES <= self._segment_bytes:
            _, file = self._segments[self._sequence]
            self._disk.write(file, frame, self._end)
            self._sync_file(file)
            start = self._end
        else:
            whole = fmt.Change(
                reset=self._reset, base=self.base, hard_state=self.hard_state, conf=self.conf, first=first
            )
            start = fmt.SEGMENT_HEADER_BYTES
            frame, entries_at = self._begin_segment(whole, entries)
        self._number += 1
        self._written += len(frame)
        self._end = start + len(frame)
        self._seal(self._segments[self._sequence][1])
        place = self._sequence << _PLACE_SHIFT | (start + entries_at)
        count = len(self._places)
        for position in range(first - self.base.index - 1 if first else count, count):
            self._places[position] = place
            place += codec.ENTRY_HEADER_BYTES + self._sizes[position]

    def _seal(self, file: int) -> None:
        """The last frame was synced: whoever finds it damaged is to know that."""
        self._disk.write(file, fmt.encode_seal(self._nonce, self._number), self._end)

    def _begin_segment(self, change: fmt.Change, entries: Sequence[Entry]) -> tuple[bytes, int]:
        """Write header and first frame under a name nobody reads; what is safe gets the segment's name."""
        disk = self._disk
        sequence = self._sequence + 1
        nonce = disk.token()
        header = fmt.encode_segment_header(sequence, nonce)
        frame, entries_at = fmt.encode_frame(nonce, self._number, change, entries)
        if self._spares:
            spare = self._spares.pop()
            file = disk.open(spare)
        else:
            spare = fmt.spare_name(sequence)
            file = disk.create(spare, self._segment_bytes)
        disk.write(file, header + frame + bytes(fmt.SEAL_BYTES), 0)  # a seal finds its place, however large the frame
        self._sync_file(file)
        name = fmt.segment_name(sequence, entries[0].index if entries else self.last_index + 1)
        disk.rename(spare, name)
        disk.sync_directory()
        self._segments[sequence] = name, file
        self._sequence, self._nonce = sequence, nonce
        return frame, entries_at

    def _let_go_of_segments(self) -> None:
        """The base is durable: segments that hold nothing behind it become spares, or go."""
        disk = self._disk
        needed = self._places[0] >> _PLACE_SHIFT if self._places else self._sequence
        for sequence in [old for old in self._segments if old < needed]:
            name, file = self._segments.pop(sequence)
            size = disk.size(file)
            disk.close(file)
            if len(self._spares) < SPARES_MAX and size == self._segment_bytes:
                disk.rename(name, fmt.spare_name(sequence))
                self._spares.append(fmt.spare_name(sequence))
            else:
                disk.unlink(name)
            disk.sync_directory()

    def close(self) -> None:
        """Let go of the files. What was not synced is lost."""
        for _, file in self._segments.values():
            self._disk.close(file)
        self._segments.clear()

    # --- opening -------------------------------------------------------------------------------------

    def _open(self) -> None:
        disk = self._disk
        found: dict[int, str] = {}
        spares: list[str] = []
        for name in disk.names():
            if (sequence := fmt.segment_sequence(name)) is not None:
                found[sequence] = name
            elif fmt.spare_sequence(name) is not None:
                spares.append(name)
        self._keep_spares(spares, max(found, default=0))
        if not found:
            self._dirty_hard_state = self._dirty_conf = self._dirty_base = True
            self.sync()
            return
        self._sequence = min(found) - 1
        for sequence in sorted(found):
            name = found[sequence]
            if sequence != self._sequence + 1:
                raise self._corruption(name, 0, f"segment {self._sequence + 1} before it is missing")
            file = disk.open(name)
            data = disk.read(file, disk.size(file), 0)
            last_frame = self._replay(sequence, name, file, data)
            if sequence == max(found):
                if fmt.is_torn(data, self._end, self._nonce, self._number):
                    structlog.get_logger().warning("cut a torn write off the log", file=name, offset=self._end)
                # Nor may what is cut off come back, completed by the beginning of what is written there next.
                disk.write(file, data[last_frame : self._end] + bytes(fmt.SEAL_BYTES), last_frame)
                disk.sync(file)
                self._seal(file)
        disk.sync_directory()
        if 0 in self._places:
            index = self.first_index + self._places.index(0)
            raise self._corruption(found[min(found)], 0, f"entry {index} is missing, and the segment that held it")
        self._let_go_of_segments()

    def _keep_spares(self, names: Sequence[str], last_sequence: int) -> None:
        """Not too many, none of another size than wanted now, and none that was just being made for the next segment.

        (That one bears a number which is to be given again: later, two spares would have one name.)
        """
        for name in names:
            file = self._disk.open(name)
            fits = self._disk.size(file) == self._segment_bytes and (fmt.spare_sequence(name) or 0) <= last_sequence
            self._disk.close(file)
            if fits and len(self._spares) < SPARES_MAX:
                self._spares.append(name)
            else:
                self._disk.unlink(name)

    def _replay(self, sequence: int, name: str, file: int, data: bytes) -> int:
        """Take over what the segment holds; the offset of its last frame."""
        try:
            self._nonce = fmt.decode_segment_header(data, sequence)
            number = fmt.first_frame_number(data, self._nonce)
        except CorruptionError as error:
            raise self._corruption(name, 0, error.detail) from None
        if self._segments and number != self._number:
            before, _ = self._segments[self._sequence]
            raise self._corruption(before, self._end, f"frames {self._number} to {number - 1} are damaged")
        self._segments[sequence] = name, file
        self._sequence, self._number = sequence, number
        self._end = last_frame = fmt.SEGMENT_HEADER_BYTES
        while (frame := fmt.decode_frame(data, self._end, self._nonce, self._number)) is not None:
            self._apply(frame)
            last_frame = self._end
            self._end = frame.end
            self._number += 1
        if self._number == number:
            raise self._corruption(name, self._end, "the first frame of the segment is damaged")
        later = fmt.find_later(data, self._end, self._nonce, self._number)
        if later is not None:
            raise self._corruption(name, self._end, f"a damaged frame, which was synced before what is at byte {later}")
        return last_frame

    def _apply(self, frame: fmt.Frame) -> None:
        change, entries, _ = frame
        if change.reset:
            self._cut(self.first_index)
        if change.base is not None:
            self._rest_on(change.base)
        self.hard_state = change.hard_state or self.hard_state
        self.conf = change.conf or self.conf
        if change.first:
            self._cut(change.first)
            self._skip_to(change.first)
            self._put([entry for _, entry in entries], [self._sequence << _PLACE_SHIFT | at for at, _ in entries])
            self._trim_cache()

    def _skip_to(self, first: int) -> None:
        """Entries before `first` lay in a segment that is gone: a base further on must say that they may be."""
        missing = first - self.last_index - 1
        if missing > 0:
            self._uncache(self.last_index)
            for column in (self._terms, self._places, self._sizes):
                column.extend([0] * missing)
            self._cached_from = first

    def _corruption(self, name: str, offset: int, what: str) -> CorruptionError:
        return CorruptionError(f"{self._disk.where(name)} at byte {offset}: {what}; {REMEDY}")
