"""Ranges, of the present or of a past revision, in bounded chunks and bounded steps.

`stream` is a generator that the owner resumes at its own pace. It yields a `Chunk` when one is full, and None
when it has looked at `STEP_KEYS` keys since it last gave way, so that counting a huge range delays nobody. Memory stays
bounded for any range: keys in order come straight from the engine; a range sorted by something else keeps what it
sorts by (not the values), at most `limit` of them where there is a limit.

etcd's meanings (server/etcdserver/apply.go), where they surprise:
- `count` is how many keys the range holds, whatever limit or filters say;
- filters come before the limit: `more` tells that another key passes them;
- a sort target without an order means ascending, but then only the first limit + 1 keys are looked at.
Keys that sort alike come in the order of their keys.
"""

from __future__ import annotations

from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from zkv.core.mvcc import layout
from zkv.core.mvcc.layout import CURRENT
from zkv.errors import CorruptionError, RangeTooLarge
from zkv.wire.messages import KeyValue, RangeAnswer, SortOrder, SortTarget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zkv.core.mvcc.engine import Reader
    from zkv.limits import Limits
    from zkv.wire.messages import Range

STEP_KEYS: Final = 1000
KV_OVERHEAD_BYTES: Final = 32
"""What a key and value cost on the wire beside their bytes."""


class Chunk(NamedTuple):
    """`more` and `total` (etcd's count) are meant only of the `last` one."""

    kvs: tuple[KeyValue, ...]
    more: bool
    total: int
    last: bool


class Present:
    """The live keys: the engine's current records, under those not yet written to it (None: deleted)."""

    def __init__(self, reader: Reader, pending: dict[bytes, bytes | None] | None = None) -> None:
        self._reader = reader
        self._pending = pending or {}

    def scan(self, key: bytes, range_end: bytes, *, reverse: bool = False) -> Iterator[tuple[bytes, bytes]]:
        """Live keys and their records, as they are when `scan` is called."""
        start, end = layout.current_range(key, range_end)
        stored = self._reader.scan(start, end, reverse=reverse)
        low, high = start[1:], end[1:] if end[:1] == CURRENT else None
        over = [(k, r) for k, r in self._pending.items() if k >= low and (high is None or k < high)]
        if not over:
            return _keyed(stored)
        over.sort(reverse=reverse)
        return _merged(stored, over, reverse=reverse)

    def items(self, request: Range, *, reverse: bool, value: bool) -> Iterator[KeyValue | None]:
        current_kv = layout.current_kv
        for key, record in self.scan(request.key, request.range_end, reverse=reverse):
            yield current_kv(key, record, value=value)

    def get(self, key: bytes) -> KeyValue:
        record = self._pending[key] if key in self._pending else self._reader.get(CURRENT + key)
        assert record is not None, "a key found by a scan is there"
        return layout.current_kv(key, record)

    def counts(self, key: bytes, range_end: bytes) -> Iterator[int]:
        """How many keys lie there, in parts."""
        if self._pending:
            yield sum(1 for _ in self.scan(key, range_end))
            return
        names = self._reader.keys(*layout.current_range(key, range_end))
        while part := len(list(islice(names, STEP_KEYS))):
            yield part


def _keyed(stored: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    for name, record in stored:
        yield name[1:], record


def _merged(
    stored: Iterator[tuple[bytes, bytes]], over: list[tuple[bytes, bytes | None]], *, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    for name, record in stored:
        key = name[1:]
        while at < len(over) and (over[at][0] > key if reverse else over[at][0] < key):
            pending_key, pending = over[at]
            at += 1
            if pending is not None:
                yield pending_key, pending
        if at == len(over) or over[at][0] != key:
            yield key, record
    for pending_key, pending in over[at:]:
        if pending is not None:
            yield pending_key, pending


class Past:
    """The keys as they were at `revision`. Each costs a seek or two, however many versions it has."""

    def __init__(self, reader: Reader, revision: int) -> None:
        self._reader = reader
        self._revision = revision

    def _versions(self, key: bytes, range_end: bytes, *, reverse: bool) -> Iterator[tuple[int, int] | None]:
        """(revision, sub) of the event that made each key what it was; None for keys that were not there."""
        start, end = layout.history_range(key, range_end)
        cursor = self._reader.cursor()
        found = cursor.seek_before(end) if reverse else cursor.seek(start)
        while found is not None and start <= found[0] < end:
            entry = found[0]
            name, revision, sub = layout.history_of(entry)
            newest: tuple[bytes, bytes] | None = found
            if reverse or revision > self._revision:
                newest = cursor.seek(layout.history_before(name, self._revision))
            if newest is None or newest[0] >= layout.history_after(entry) or newest[1] != layout.PUT_MARK:
                yield None
            else:
                _, revision, sub = layout.history_of(newest[0])
                yield revision, sub
            at = layout.history_first(entry) if reverse else layout.history_after(entry)
            found = cursor.seek_before(at) if reverse else cursor.seek(at)

    def _kv(self, revision: int, sub: int) -> KeyValue:
        name = layout.event_key(revision, sub)
        record = self._reader.get(name)
        if record is None:
            raise CorruptionError(f"event {revision}/{sub} is missing")
        return layout.event_record(name, record).kv

    def items(self, request: Range, *, reverse: bool, value: bool) -> Iterator[KeyValue | None]:
        for version in self._versions(request.key, request.range_end, reverse=reverse):
            if version is None:
                yield None
            else:
                kv = self._kv(*version)
                yield kv if value else kv._replace(value=b"")

    def get(self, key: bytes) -> KeyValue:
        version = next(self._versions(key, b"", reverse=False))
        assert version is not None, "a key found by a scan is there"
        return self._kv(*version)

    def counts(self, key: bytes, range_end: bytes) -> Iterator[int]:
        for version in self._versions(key, range_end, reverse=False):
            yield 0 if version is None else 1


Source: TypeAlias = Present | Past


def stream(request: Range, source: Source, limits: Limits) -> Iterator[Chunk | None]:
    """The answer in parts; the last chunk says so. Raises RangeTooLarge where sorting would take too much memory."""
    if request.count_only:
        count = 0
        for step in _counted(source, request.key, request.range_end):
            if step is None:
                yield None
            else:
                count = step
        yield Chunk((), False, count, True)
    elif request.sort_target != SortTarget.KEY:
        yield from _sorted(request, source, limits)
    else:
        yield from _in_order(request, source, limits)


def answer(request: Range, source: Source, limits: Limits) -> RangeAnswer:
    """The answer whole. Raises RangeTooLarge when it is larger than Limits.answer_bytes_max."""
    kvs: list[KeyValue] = []
    held = 0
    for chunk in stream(request, source, limits):
        if chunk is None:
            continue
        held += sum(map(kv_bytes, chunk.kvs))
        if held > limits.answer_bytes_max:
            raise RangeTooLarge
        kvs += chunk.kvs
        if chunk.last:
            return RangeAnswer(tuple(kvs), chunk.more, chunk.total)
    raise AssertionError("a stream ends with its last chunk")


def kv_bytes(kv: KeyValue) -> int:
    return len(kv.key) + len(kv.value) + KV_OVERHEAD_BYTES


def _counted(source: Source, key: bytes, range_end: bytes) -> Iterator[int | None]:
    """None now and then, at last the count."""
    count = steps = 0
    for part in source.counts(key, range_end):
        count += part
        steps += part or 1
        if steps >= STEP_KEYS:
            steps = 0
            yield None
    yield count


def passes(request: Range, kv: KeyValue) -> bool:
    return (
        (not request.min_mod_revision or kv.mod_revision >= request.min_mod_revision)
        and (not request.max_mod_revision or kv.mod_revision <= request.max_mod_revision)
        and (not request.min_create_revision or kv.create_revision >= request.min_create_revision)
        and (not request.max_create_revision or kv.create_revision <= request.max_create_revision)
    )


def _is_filtered(request: Range) -> bool:
    return bool(
        request.min_mod_revision
        or request.max_mod_revision
        or request.min_create_revision
        or request.max_create_revision
    )


def _in_order(request: Range, source: Source, limits: Limits) -> Iterator[Chunk | None]:
    filtered, limit = _is_filtered(request), max(request.limit, 0)
    reverse = request.sort_order == SortOrder.DESCEND
    kvs: list[KeyValue] = []
    held = taken = count = steps = 0
    for kv in source.items(request, reverse=reverse, value=not request.keys_only):
        steps += 1
        if steps >= STEP_KEYS:
            steps = 0
            yield None
        if kv is None:
            continue
        if filtered and not passes(request, kv):
            count += 1
            continue
        if limit and taken == limit:
            # The rest is only counted, this key included.
            low, high = (request.key, kv.key + b"\0") if reverse else (kv.key, request.range_end or kv.key + b"\0")
            for step in _counted(source, low, high):
                if step is None:
                    yield None
                else:
                    count += step
            yield Chunk(tuple(kvs), True, count, True)
            return
        size = kv_bytes(kv)
        if kvs and held + size > limits.chunk_bytes:
            yield Chunk(tuple(kvs), False, 0, False)
            kvs, held, steps = [], 0, 0
        kvs.append(kv)
        held += size
        count += 1
        taken += 1
    yield Chunk(tuple(kvs), False, count, True)


_FIELD = {SortTarget.VERSION: 3, SortTarget.CREATE: 1, SortTarget.MOD: 2, SortTarget.VALUE: 4}


def _sorted(request: Range, source: Source, limits: Limits) -> Iterator[Chunk | None]:
    filtered, limit = _is_filtered(request), max(request.limit, 0)
    field = _FIELD[SortTarget(request.sort_target)]
    by_value = request.sort_target == SortTarget.VALUE
    descending = request.sort_order == SortOrder.DESCEND
    first_only = limit + 1 if limit and not filtered and request.sort_order == SortOrder.NONE else 0
    kept: list[tuple[int | bytes, bytes]] = []  # what it is sorted by, key
    held = count = passed = steps = 0
    for kv in source.items(request, reverse=False, value=by_value):
        steps += 1
        if steps >= STEP_KEYS:
            steps = 0
            yield None
        if kv is None:
            continue
        count += 1
        if (filtered and not passes(request, kv)) or (first_only and passed == first_only):
            continue
        passed += 1
        by: int | bytes = kv[field]
        kept.append((by, kv.key))
        held += len(kv.key) + (len(kv.value) if by_value else 0)
        if limit and len(kept) > 2 * limit + STEP_KEYS:
            kept.sort(key=itemgetter(0), reverse=descending)
            del kept[limit:]
            held = sum(len(key) + (len(by) if isinstance(by, bytes) else 0) for by, key in kept)
        if len(kept) > limits.sorted_keys_max or held > limits.sorted_bytes_max:
            raise RangeTooLarge
    kept.sort(key=itemgetter(0), reverse=descending)  # stable, either way round: those alike stay in the order of keys
    if limit:
        del kept[limit:]
    kvs: list[KeyValue] = []
    held = 0
    for _, key in kept:
        kv = source.get(key)
        if request.keys_only:
            kv = kv._replace(value=b"")
        size = kv_bytes(kv)
        if kvs and (held + size > limits.chunk_bytes or len(kvs) == STEP_KEYS):
            yield Chunk(tuple(kvs), False, 0, False)
            kvs, held = [], 0
        kvs.append(kv)
        held += size
    yield Chunk(tuple(kvs), bool(limit) and passed > limit, count, True)
