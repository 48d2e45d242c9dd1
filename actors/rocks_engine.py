"""The engine port on RocksDB, by rocksdict. Nobody else imports that.

RocksDB's own log is off: the raft log is ours, and it is cut only behind what `flush` has made durable. A crash brings
back what some earlier write left (all lies in one column family, whose memtables reach the disk in the order of
their writes), and raft feeds the rest again.

**Swapping in a snapshot.** A store that a peer streams to this member is written to a directory beside the one in use:

    db              the store in use
    db.staging      being filled; removed by the next start
    db.staged       complete and flushed; becomes db
    db.old          the former db, on its way out

`swap_in` closes both, renames staging to staged (from here on the new store wins), db to old, staged to db, and
removes old; `recover`, called before every opening, finishes what a crash cut off: if there is a staged, it repeats
those renames. At each moment exactly one of db and staged is the store that counts.

Errors. RocksDB tells all troubles as sentences. They become CorruptionError (damage; the node stops) or OSError, with
ENOSPC where the disk is full. After that RocksDB goes on reading, and refuses to write until it is opened anew.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections import deque
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rocksdict import (
    BlockBasedOptions,
    BottommostLevelCompaction,
    Cache,
    CompactOptions,
    DBCompressionType,
    Env,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from zkv.errors import CorruptionError
from zkv.files import sync_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MEMTABLE_BYTES: Final = 64 << 20
"""More than is written between two flushes of ours, so that RocksDB starts none of its own at a worse time."""
MEMTABLE_BLOOM: Final = 0.004
"""The part of it that the bloom filter takes: 30 bits a record where values have 256 bytes, four where they are tiny.
What is much larger leaves a core's cache."""
BLOCK_CACHE_BYTES: Final = 32 << 20
"""In one piece, as RocksDB's clock cache keeps it. Its LRU cache makes 64 of it, of which none had room for the filter
of a table of 64 MiB: each read of a key read that, too."""
BLOCK_BYTES: Final = 8 << 10
"""Half as many as RocksDB would make, for what is merged, scanned, or looked up in the cache costs by the block."""
BYTES_PER_SYNC: Final = 256 << 10
"""Tables go to the disk bit by bit while they are written, for who syncs the raft log meanwhile waits for all of a
table that is on its way there: 45 ms for one of 64 MiB. It takes `strict_bytes_per_sync`: what RocksDB would do else is
not in how its bindings are built, and they have no setter."""
OPTIONS: Final = str(Path(__file__).parent / "rocks_options")
"""A file of options that says so, and nothing else."""
WRITTEN_BYTES_MAX: Final = 3 << 30
"""A second, by flushes and compactions of a store that is served from. RocksDB begins with a twentieth of it, and gives
5 % more every hundred slices while that is not enough: so writes that go on and on are not held up by it."""
SLICE_US: Final = 2_000
"""They rest when their share of this much time is written. A thread that never rests costs whoever waits for the same
cores a multiple of their tails, however low its priority is; and at a low one it does not come to its work where all
cores are busy: files gather at level 0 until RocksDB holds up writes."""
WRITE_BUFFER_BYTES: Final = 128 << 10
"""How much is made between two looks at that share."""
TABLE_BYTES: Final = 16 << 20
"""A file below level 0: small beside what is merged at once, so that whole files of older events lie beside it."""
LEVEL_0_FILES: Final = 8
"""Flushes (Limits.flush_bytes each) that lie side by side before they are merged; a read may have to ask them all."""


def _mapped(error: Exception) -> Exception:
    """Of a plain exception, all that rocksdict raises, whose text begins with the kind of RocksDB's status."""
    text = str(error)
    if text.startswith("Corruption"):
        return CorruptionError(text)
    if "No space left" in text:
        return OSError(errno.ENOSPC, text)
    return OSError(errno.EIO, text)


def is_full(error: Exception) -> bool:
    """Was there no room on the disk?"""
    return isinstance(error, OSError) and error.errno == errno.ENOSPC


class _View:
    """The store as it was when this was made.

    Its one iterator sees to that: RocksDB's stand still from their making. (What rocksdict makes of a snapshot to
    iterate does not, it shows the store as it is then; so only single keys are read from the snapshot.) Scans and jumps
    share the iterator; a scan that finds it moved by another goes back to its place.
    """

    __slots__ = ("_iterator", "_moved", "_snapshot")

    def __init__(self, database: Rdict, end: bytes | None = None, *, once: bool = False) -> None:
        """With `end`, nothing from there on can be seen, nor has to be passed over where it was deleted."""
        options = ReadOptions()
        if once:
            options.fill_cache(False)  # type: ignore[call-arg]  # it takes one, whatever the stub says
        if end is not None:
            options.set_iterate_upper_bound(end)
        self._iterator = database.iter(options)
        self._snapshot = database.snapshot()
        self._moved = 0  # how often the iterator has changed hands

    def get(self, key: bytes) -> bytes | None:
        try:
            return self._snapshot[key]  # type: ignore[no-any-return]  # raw mode
        except Exception as error:  # noqa: BLE001 - rocksdict has no class of its own
            if str(error) == "key not found":
                return None
            raise _mapped(error) from None

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return self._backwards(start, end) if reverse else self._forwards(start, end)

    def _forwards(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        value = self._iterator.value
        for key in self.keys(start, end):
            yield key, value()

    def keys(self, start: bytes, end: bytes) -> Iterator[bytes]:
        iterator = self._iterator
        valid, here, step = iterator.valid, iterator.key, iterator.next
        moved = self._move()
        iterator.seek(start)
        while valid():
            key = here()
            if key >= end:
                return
            yield key
            if self._moved == moved:
                step()
            else:
                moved = self._move()
                iterator.seek(key + b"\0")
        self._check()

    def _backwards(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        iterator = self._iterator
        found = self.seek_before(end)
        moved = self._moved
        while found is not None and found[0] >= start:
            yield found
            if self._moved == moved:
                iterator.prev()
                found = self._here()
            else:
                found = self.seek_before(found[0])
                moved = self._moved

    def cursor(self) -> _View:
        return self

    def seek(self, key: bytes) -> tuple[bytes, bytes] | None:
        self._move()
        self._iterator.seek(key)
        return self._here()

    def seek_before(self, key: bytes) -> tuple[bytes, bytes] | None:
        self._move()
        iterator = self._iterator
        iterator.seek_for_prev(key)
        if iterator.valid() and iterator.key() == key:
            iterator.prev()
        return self._here()

    def _move(self) -> int:
        self._moved += 1
        return self._moved

    def _here(self) -> tuple[bytes, bytes] | None:
        iterator = self._iterator
        if iterator.valid():
            return iterator.key(), iterator.value()
        self._check()
        return None

    def _check(self) -> None:
        """An iterator stops at damage as it does at the end; only its status tells."""
        try:
            self._iterator.status()
        except Exception as error:  # noqa: BLE001 - rocksdict has no class of its own
            raise _mapped(error) from None


class RocksEngine:
    """Raises CorruptionError and OSError from all its calls, FileNotFoundError when there is no store to open."""

    def __init__(self, path: Path, *, create: bool = True, serving: bool = False) -> None:
        """`serving`: others wait for the same cores, so that nobody in the background may keep them for long."""
        recover(path)
        if not create and not (path / "CURRENT").exists():
            raise FileNotFoundError(errno.ENOENT, "no store", str(path))
        self.path = path
        self._serving = serving
        if create:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = Rdict(str(path), _options(create=create, serving=serving))
        except Exception as error:  # noqa: BLE001 - rocksdict has no class of its own
            raise _mapped(error) from None
        self._written = self._flushed = 0  # bytes, since this was opened
        self._unlogged = WriteOptions()
        self._unlogged.disable_wal = True  # type: ignore[method-assign,assignment]  # a property, whatever the stub says

    def get(self, key: bytes) -> bytes | None:
        try:
            return self._database.get(key)
        except Exception as error:  # noqa: BLE001 - rocksdict has no class of its own
            raise _mapped(error) from None

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | None]:
        try:
            return self._database.get([*keys])  # type: ignore[return-value]  # a list gives a list
        except Exception as error:  # noqa: BLE001 - rocksdict has no class of its own
            raise _mapped(error) from None

    def scan(self, start: bytes, end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        return _View(self._database, end).scan(start, end, reverse=reverse)

    def keys(self, start: bytes, end: bytes) -> Iterator[bytes]:
        return _View(self._database, end).keys(start, end)

    def cursor(self) -> _View:
        return _View(self._database).cursor()

    def snapshot(self, *, once: bool = False) -> _View:
        return _View(self._database, once=once)

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes]) -> None:
        batch = WriteBatch(raw_mode=True)
        delete, put = batch.delete, batch.put
        deque(map(delete, deletes), maxlen=0)  # deque and starmap: loops that do not come back to Python each time
        deque(starmap(put, puts), maxlen=0)
        self._written += batch.size_in_bytes()
        try:
            self._database.write(batch, self._unlogged)
        except Exception as error:  # noqa: BLE001 - rocksdict has no class of its own
            raise _mapped(error) from None

    def settle(self) -> None:
        """Nothing is kept back here."""

    def flush(self) -> None:
        before = self._written
        try:
            self._database.flush(wait=True)
        except Exception as error:  # noqa: BLE001 - rocksdict has no class of its own
            raise _mapped(error) from None
        self._flushed = max(self._flushed, before)

    def size(self) -> int:
        """Bytes of the directory's files: what `du` would say, or soon will of what is in use and in memory only."""
        total = 0
        with os.scandir(self.path) as files:
            for file in files:
                try:
                    total += file.stat().st_size
                except FileNotFoundError:
                    continue  # compaction has removed it meanwhile
        return max(total, self.size_in_use())

    def size_in_use(self) -> int:
        """What RocksDB takes for live in its files, and what was written since the last flush.

        (Its own word for the latter counts memory set aside, which is megabytes for an empty store.)
        """
        return (
            (self._database.property_int_value("rocksdb.estimate-live-data-size") or 0) + self._written - self._flushed
        )

    def defragment(self) -> None:
        options = CompactOptions()
        options.set_exclusive_manual_compaction(False)
        options.set_bottommost_level_compaction(BottommostLevelCompaction.force())
        self.flush()
        try:
            self._database.compact_range(None, None, options)
        except Exception as error:  # noqa: BLE001 - rocksdict has no class of its own
            raise _mapped(error) from None

    def close(self) -> None:
        """What is not flushed is lost, as in a crash. (It tries to flush, for which there may be no room.)"""
        try:
            self._database.close()
        except Exception as error:  # noqa: BLE001 - rocksdict has no class of its own
            if not is_full(refusal := _mapped(error)):
                raise refusal from None

    # --- swapping in a snapshot ---

    def staging(self) -> RocksEngine:
        """A new, empty store beside this one."""
        _remove(_beside(self.path, "staging"))
        return RocksEngine(_beside(self.path, "staging"))

    def swap_in(self, staging: RocksEngine) -> RocksEngine:
        """`staging` becomes the store, opened anew; neither it nor this one may be used any more."""
        staging.flush()
        staging.close()
        self.close()
        staging.path.rename(_beside(self.path, "staged"))
        sync_directory(self.path.parent)
        return RocksEngine(self.path, serving=self._serving)


def recover(path: Path) -> None:
    """Finish or undo a swap that a crash cut off."""
    staged, old = _beside(path, "staged"), _beside(path, "old")
    if staged.exists():
        if path.exists():
            _remove(old)
            path.rename(old)
        staged.rename(path)
        sync_directory(path.parent)
    _remove(_beside(path, "staging"))
    _remove(old)


def take_back(path: Path) -> None:
    """Take a store whose manifest speaks of files that are not there to the newest state of which all are.

    RocksDB calls that best-efforts recovery. The bindings know no such option, but they read a store's own file of
    options, which does. Raises CorruptionError.
    """
    for file in path.glob("OPTIONS-*"):
        file.write_text(file.read_text().replace("best_efforts_recovery=false", "best_efforts_recovery=true"))
    try:
        options, _ = Options.load_latest(str(path))
        Rdict(str(path), options).close()
    except Exception as error:  # noqa: BLE001 - rocksdict has no class of its own
        raise _mapped(error) from None


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}.{what}")


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


def _options(*, create: bool, serving: bool) -> Options:
    options, _ = Options.load_latest(OPTIONS)  # in raw mode, as is whatever the bindings have not written
    options.create_if_missing(create)
    options.set_paranoid_checks(True)
    options.set_write_buffer_size(MEMTABLE_BYTES)
    options.set_max_write_buffer_number(2)
    options.set_memtable_whole_key_filtering(True)  # most puts are of new keys: learn that without a search
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM)
    options.set_max_background_jobs(2)
    options.set_bytes_per_sync(BYTES_PER_SYNC)
    if serving:
        options.set_auto_tuned_ratelimiter(WRITTEN_BYTES_MAX, SLICE_US, 10)
        options.set_writable_file_max_buffer_size(WRITE_BUFFER_BYTES)
    environment = Env()
    environment.lower_thread_pool_io_priority()  # of compactions; flushes have a pool of their own
    options.set_env(environment)
    # What is young is written again soon: gathered in more files, and packed only further down, it costs a third less.
    options.set_level_zero_file_num_compaction_trigger(LEVEL_0_FILES)
    options.set_compression_per_level([DBCompressionType.none()] * 2 + [DBCompressionType.lz4()] * 5)
    options.set_target_file_size_base(TABLE_BYTES)
    options.set_max_open_files(512)
    options.set_keep_log_file_num(2)
    options.set_max_log_file_size(1 << 20)
    options.set_stats_dump_period_sec(0)
    tables = BlockBasedOptions()
    tables.set_block_size(BLOCK_BYTES)
    tables.set_block_cache(Cache.new_hyper_clock_cache(BLOCK_CACHE_BYTES, BLOCK_BYTES))
    tables.set_cache_index_and_filter_blocks(True)
    tables.set_pin_l0_filter_and_index_blocks_in_cache(True)
    tables.set_bloom_filter(10, False)
    options.set_block_based_table_factory(tables)
    return options
