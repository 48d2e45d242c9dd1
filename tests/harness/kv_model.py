"""The store as one would write it on a page: every revision as a whole dict. What the real one is held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zkv.errors import Compacted, FutureRevision, KeyNotFound, ZkvError
from zkv.wire.messages import Compare, DeleteRange, KeyValue, Op, Put, Range, Txn

if TYPE_CHECKING:
    from collections.abc import Iterator

State = dict[bytes, KeyValue]
FIELD = (3, 1, 2, 4, 5)  # of KeyValue, by CompareTarget
SORT_FIELD = (0, 3, 1, 2, 4)  # by SortTarget


def inside(key: bytes, start: bytes, range_end: bytes) -> bool:
    if not range_end:
        return key == start
    return key >= start and (range_end == b"\0" or key < range_end)


@dataclass
class Model:
    states: dict[int, State] = field(default_factory=lambda: {1: {}})
    revision: int = 1
    compacted: int = -1

    @property
    def now(self) -> State:
        return self.states[self.revision]

    def request(self, op: int, request: object) -> object:
        """The answer's fields, or the error; one request is one transaction."""
        state, changes = dict(self.now), [0]
        try:
            if op == Op.COMPACT:
                revision = request[0]  # type: ignore[index]
                if revision <= self.compacted:
                    return Compacted()
                if revision > self.revision:
                    return FutureRevision()
                self.compacted = revision
                return ()
            if isinstance(request, Txn):
                path = list(self._path(request))
                self._check(request, iter(path))
                answer: object = self._txn(request, state, changes, iter(path))
            else:
                answer = self._one(request, state, changes)
        except ZkvError as error:
            return error
        if changes[0]:
            self.revision += 1
            self.states[self.revision] = state
        return answer

    def _one(self, request: object, state: State, changes: list[int]) -> object:
        if isinstance(request, Put):
            return self._put(request, state, changes)
        if isinstance(request, DeleteRange):
            gone = [kv for kv in sorted(state.values()) if inside(kv.key, request.key, request.range_end)]
            for kv in gone:
                del state[kv.key]
            changes[0] += len(gone)
            return len(gone), tuple(gone) if request.prev_kv else ()
        assert isinstance(request, Range)
        return self._range(request, state, self.revision + bool(changes[0]))

    def _put(self, request: Put, state: State, changes: list[int]) -> object:
        old = state.get(request.key)
        if old is None and (request.ignore_value or request.ignore_lease):
            raise KeyNotFound
        revision = self.revision + 1
        state[request.key] = KeyValue(
            request.key,
            old.create_revision if old else revision,
            revision,
            old.version + 1 if old else 1,
            old.value if old and request.ignore_value else request.value,
            old.lease if old and request.ignore_lease else request.lease,
        )
        changes[0] += 1
        return old if request.prev_kv else None, 0

    def _range(self, request: Range, state: State, now: int) -> object:
        if request.revision > now:
            raise FutureRevision
        if 0 < request.revision < self.compacted:
            raise Compacted
        seen = state if request.revision in {0, now} or request.revision < 0 else self.states[request.revision]
        kvs = [kv for kv in sorted(seen.values()) if inside(kv.key, request.key, request.range_end)]
        count, limit = len(kvs), max(request.limit, 0)
        if request.count_only:
            return (), False, count
        bounds = request[9:13]
        if limit and not request.sort_order and not any(bounds):
            kvs = kvs[: limit + 1]
        low_mod, high_mod, low_create, high_create = bounds
        kvs = [
            kv
            for kv in kvs
            if low_mod <= kv.mod_revision <= (high_mod or kv.mod_revision)
            and low_create <= kv.create_revision <= (high_create or kv.create_revision)
        ]
        kvs.sort(key=lambda kv: kv[SORT_FIELD[request.sort_target]], reverse=request.sort_order == 2)
        more = bool(limit) and len(kvs) > limit
        kvs = kvs[:limit] if limit else kvs
        return tuple(kv._replace(value=b"") if request.keys_only else kv for kv in kvs), more, count

    def _path(self, txn: Txn) -> Iterator[bool]:
        taken = all(self._holds(compare) for compare in txn.compares)
        yield taken
        for _, request in txn.success if taken else txn.failure:
            if isinstance(request, Txn):
                yield from self._path(request)

    def _holds(self, compare: Compare) -> bool:
        kvs = [kv for kv in self.now.values() if inside(kv.key, compare.key, compare.range_end)]
        if not kvs and compare.target == 3:
            return False
        values = [kv[FIELD[compare.target]] for kv in kvs] or [0]
        operand = compare.operand
        holds = (
            lambda value: value == operand,
            lambda value: value > operand,
            lambda value: value < operand,
            lambda value: value != operand,
        )[compare.result]
        return all(map(holds, values))

    def _check(self, txn: Txn, path: Iterator[bool]) -> None:
        requests = list(self._flat(txn, path))
        for request in requests:
            if (
                isinstance(request, Put)
                and (request.ignore_value or request.ignore_lease)
                and request.key not in self.now
            ):
                raise KeyNotFound
        for request in requests:
            if isinstance(request, Range) and request.revision:
                if request.revision > self.revision:
                    raise FutureRevision
                if request.revision < self.compacted:
                    raise Compacted

    def _flat(self, txn: Txn, path: Iterator[bool]) -> Iterator[object]:
        for _, request in txn.success if next(path) else txn.failure:
            if isinstance(request, Txn):
                yield from self._flat(request, path)
            else:
                yield request

    def _txn(self, txn: Txn, state: State, changes: list[int], path: Iterator[bool]) -> object:
        taken = next(path)
        responses: list[object] = []
        for op, request in txn.success if taken else txn.failure:
            if isinstance(request, Txn):
                responses.append((int(op), self._txn(request, state, changes, path)))
            else:
                responses.append((int(op), self._one(request, state, changes)))
        return taken, tuple(responses)
