"""The store as one would write it on a page: every revision as a whole dict. What the real one is held against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.harness.kv_log import everything
from zkv.core.mvcc import layout
from zkv.core.mvcc.leases import table
from zkv.errors import Compacted, FutureRevision, KeyNotFound, LeaseExists, LeaseNotFound, ZkvError
from zkv.limits import LEASE_SLACK_MS
from zkv.wire.messages import (
    Compare,
    DeleteRange,
    KeyValue,
    LeaseExpire,
    LeaseGrant,
    LeaseRenew,
    LeaseRevoke,
    Op,
    Put,
    Range,
    Txn,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zkv.core.mvcc.engine import Reader

State = dict[bytes, KeyValue]
FIELD = (3, 1, 2, 4, 5)  # of KeyValue, by CompareTarget
SORT_FIELD = (0, 3, 1, 2, 4)  # by SortTarget


def inside(key: bytes, start: bytes, range_end: bytes) -> bool:
    if not range_end:
        return key == start
    return key >= start and (range_end == b"\0" or key < range_end)


class Lease(NamedTuple):
    """`until` 0: ended, but keys are left. `owned`: a put made it for its key."""

    ttl: int
    until: int
    owned: bool


@dataclass
class Model:
    """`chosen`: the ids that the store gave the leases it chose the ids of, for the requests to come."""

    states: dict[int, State] = field(default_factory=lambda: {1: {}})
    revision: int = 1
    compacted: int = -1
    term: int = 1
    time: int = 0
    lease_keys_max: int = 1 << 30
    leases: dict[int, Lease] = field(default_factory=dict)
    chosen: list[int] = field(default_factory=list)

    @property
    def now(self) -> State:
        return self.states[self.revision]

    def request(self, op: int, request: object) -> object:
        """The answer's fields, or the error; one request is one transaction."""
        state, changes, leases = dict(self.now), [0], dict(self.leases)
        try:
            if op == Op.COMPACT:
                revision = request[0]  # type: ignore[index]
                if revision <= self.compacted:
                    return Compacted()
                if revision > self.revision:
                    return FutureRevision()
                self.compacted = revision
                return ()
            if isinstance(request, LeaseGrant | LeaseRevoke | LeaseRenew | LeaseExpire):
                return self._lease_request(request)
            if isinstance(request, Txn):
                path = list(self._path(request))
                self._check(request, iter(path))
                answer: object = self._txn(request, state, changes, iter(path))
            else:
                answer = self._one(request, state, changes)
        except ZkvError as error:
            self.leases = leases
            return error
        if changes[0]:
            self._next(state)
        return answer

    def _next(self, state: State) -> None:
        self.revision += 1
        self.states[self.revision] = state
        held = {kv.lease for kv in state.values()}
        self.leases = {id_: lease for id_, lease in self.leases.items() if id_ in held or not lease.owned}

    def _lease(self, ttl: int, id_: int, *, owned: bool) -> int:
        # The store names none for a request that fails, and then all of it is undone here too.
        id_ = id_ or (self.chosen.pop(0) if self.chosen else -1 - len(self.leases))
        if id_ in self.leases:
            raise LeaseExists
        self.leases[id_] = Lease(ttl, self.time + ttl * 1000 + LEASE_SLACK_MS, owned)
        return id_

    def _check_lease(self, id_: int) -> None:
        if id_ and not (id_ in self.leases and self.leases[id_].until):
            raise LeaseNotFound

    def keys_of(self, id_: int) -> list[bytes]:
        return sorted(kv.key for kv in self.now.values() if kv.lease == id_)

    def _end_lease(self, id_: int, keys_max: int) -> int:
        keys = self.keys_of(id_)
        doomed = keys[:keys_max]
        ended = self.leases.pop(id_)
        if doomed:
            self._next({key: kv for key, kv in self.now.items() if key not in doomed})
        if len(doomed) < len(keys):
            self.leases[id_] = ended._replace(until=0)
        return len(doomed)

    def _lease_request(self, request: Any) -> object:
        if isinstance(request, LeaseGrant):
            ttl = max(request.ttl, request.ttl_min)
            return self._lease(ttl, request.id, owned=False), ttl
        if isinstance(request, LeaseRevoke):
            self._check_lease(request.id or -1)
            self._end_lease(request.id, 1 << 30)
        if isinstance(request, LeaseRenew | LeaseExpire) and request.term != self.term:
            return ()
        if isinstance(request, LeaseRenew):
            for id_, until in request.leases:
                lease = self.leases.get(id_)
                if lease and lease.until:
                    self.leases[id_] = lease._replace(until=max(lease.until, until))
        if isinstance(request, LeaseExpire):
            left = self.lease_keys_max
            for id_, until in request.leases:
                if id_ in self.leases and self.leases[id_].until == until:
                    left -= self._end_lease(id_, left)
        return ()

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
        self._check_lease(request.lease)
        old = state.get(request.key)
        if old is None and (request.ignore_value or request.ignore_lease):
            raise KeyNotFound
        revision = self.revision + 1
        lease = self._lease(request.ttl, 0, owned=True) if request.ttl else request.lease
        state[request.key] = KeyValue(
            request.key,
            old.create_revision if old else revision,
            revision,
            old.version + 1 if old else 1,
            old.value if old and request.ignore_value else request.value,
            old.lease if old and request.ignore_lease else lease,
        )
        changes[0] += 1
        return old if request.prev_kv else None, lease if request.ttl else 0

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
            if isinstance(request, Put):
                if (request.ignore_value or request.ignore_lease) and request.key not in self.now:
                    raise KeyNotFound
                self._check_lease(request.lease)
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


def chosen(request: Any, answer: Any) -> Iterator[int]:
    """The leases that a request was given without naming their ids: for `Model.chosen`."""
    if isinstance(answer, ZkvError):
        return
    if isinstance(request, LeaseGrant) and not request.id:
        yield answer[0]
    if isinstance(request, Put) and request.ttl:
        yield answer[1]
    if isinstance(request, Txn):
        for (_, inner), (_, body) in zip(request.success if answer[0] else request.failure, answer[1], strict=True):
            yield from chosen(inner, body)


def assert_same_leases(reader: Reader, model: Model) -> None:
    """The records, and the index from leases to keys, are what the model's keys say."""
    kept = {id_: (found.ttl, found.until) for id_, found in table(reader, None, 1 << 30)}
    assert kept == {id_: known[:2] for id_, known in model.leases.items()}
    attached = {name for name, _ in everything(reader) if name.startswith(layout.ATTACHED)}
    assert attached == {layout.attached_key(kv.lease, kv.key) for kv in model.now.values() if kv.lease}
