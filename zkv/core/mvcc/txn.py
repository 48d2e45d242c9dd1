"""Transactions: which branch, whether all of it can be done, and then doing it.

As in etcd (server/etcdserver/apply.go), in three passes, so that a txn is applied whole or not at all:

1. *Path*: the compares of the txn, and of the txns inside the branches so taken, all against the state before it. So a
   nested txn does not see what the outer one writes before it when it compares (its ranges do see it).
2. *Check* along the path: first all puts (ignore_value and ignore_lease need a key, a lease must exist), then
   all ranges (revisions neither future nor compacted).
3. *Apply* along the path, as one revision.

An error of the third pass (a range too large for the answer) is undone by whoever called `begin`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from zkv.core.mvcc import layout
from zkv.core.mvcc.leases import check_ttl
from zkv.errors import Compacted, FutureRevision, KeyNotFound
from zkv.wire.messages import (
    Compare,
    CompareResult,
    CompareTarget,
    KeyValue,
    Op,
    Put,
    Range,
    Txn,
    TxnAnswer,
    TxnAnswerBody,
    TxnRequest,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zkv.core.mvcc.store import Store

_Requests: TypeAlias = tuple[tuple[int, Any], ...]
"""Of a branch: what each of them is, its Op says, which is sooner asked for than its class."""

_WRITES: Final = frozenset({int(Op.PUT), int(Op.DELETE_RANGE)})
_OP_RANGE: Final = int(Op.RANGE)
_OP_PUT: Final = int(Op.PUT)
_OP_DELETE: Final = int(Op.DELETE_RANGE)
_OP_TXN: Final = int(Op.TXN)
_FIELD: Final[dict[int, int]] = {
    CompareTarget.VERSION: 3,
    CompareTarget.CREATE: 1,
    CompareTarget.MOD: 2,
    CompareTarget.VALUE: 4,
    CompareTarget.LEASE: 5,
}
_HOLDS: Final[dict[int, Callable[[Any, Any], bool]]] = {
    CompareResult.EQUAL: lambda a, b: a == b,
    CompareResult.GREATER: lambda a, b: a > b,
    CompareResult.LESS: lambda a, b: a < b,
    CompareResult.NOT_EQUAL: lambda a, b: a != b,
}
_NO_KEY: Final = KeyValue(b"", 0, 0, 0, b"", 0)


def is_write(txn: Txn) -> bool:
    """Could any branch of it write?"""
    branches: tuple[_Requests, _Requests] = (txn.success, txn.failure)
    for branch in branches:
        for op, request in branch:
            if op in _WRITES or (op == _OP_TXN and is_write(request)):
                return True
    return False


def scans(txn: Txn) -> bool:
    """Does it look at a range of keys?"""
    for compare in txn.compares:
        if compare.range_end:
            return True
    for branch in (txn.success, txn.failure):
        for _, request in branch:
            if isinstance(request, Txn):
                if scans(request):
                    return True
            elif not isinstance(request, Put) and request.range_end:
                return True
    return False


def reads_past(txn: Txn) -> bool:
    branches: tuple[_Requests, _Requests] = (txn.success, txn.failure)
    for branch in branches:
        for op, request in branch:
            if op == _OP_RANGE:
                if request.revision > 0:
                    return True
            elif op == _OP_TXN and reads_past(request):
                return True
    return False


def run(store: Store, txn: Txn) -> TxnAnswer:
    """Between `store.begin` and `store.end`.

    Raises KeyNotFound, LeaseNotFound, LeaseTTLTooLarge, FutureRevision, Compacted before anything has changed,
    RangeTooLarge also later.
    """
    path: list[bool] = []
    taken: list[TxnRequest] = []
    _walk(store, txn, path, taken)
    for request in taken:
        if isinstance(request, Put):
            _, _, lease, _, ignore_value, ignore_lease, ttl = request
            if lease or ttl or ignore_value or ignore_lease:
                _check_put(store, request)
    for request in taken:
        if isinstance(request, Range) and request.revision != 0:
            _check_range(store, request)
    return _apply(store, txn, iter(path))


def _walk(store: Store, txn: Txn, path: list[bool], taken: list[TxnRequest]) -> None:
    """For the txn, and then for each txn along the way: does it succeed? And what is done along it."""
    holds = True
    for compare in txn.compares:
        if not _holds(store, compare):
            holds = False
            break
    path.append(holds)
    for _, request in txn.success if holds else txn.failure:
        if isinstance(request, Txn):
            _walk(store, request, path, taken)
        else:
            taken.append(request)


def _holds(store: Store, compare: Compare) -> bool:
    if compare.range_end:
        found = False
        for key, record in store.view().scan(compare.key, compare.range_end):
            found = True
            if not _compare(compare, layout.current_kv(key, record)):
                return False
        if found:
            return True
    else:
        record_or_none = store.current(compare.key)
        if record_or_none is not None:
            return _compare(compare, layout.current_kv(compare.key, record_or_none))
    # No key: no value either, and no comparison with one holds, not even NOT_EQUAL.
    return compare.target != CompareTarget.VALUE and _compare(compare, _NO_KEY)


def _compare(compare: Compare, kv: KeyValue) -> bool:
    return _HOLDS[compare.result](kv[_FIELD[compare.target]], compare.operand)


def _check_put(store: Store, request: Put) -> None:
    if (request.ignore_value or request.ignore_lease) and store.current(request.key) is None:
        raise KeyNotFound
    if request.lease:
        store.leases.check(request.lease)
    check_ttl(request.ttl)


def _check_range(store: Store, request: Range) -> None:
    if request.revision > store.revision:
        raise FutureRevision
    if request.revision < store.compacted:  # also a negative one, which a range outside a txn takes for 0
        raise Compacted


def _apply(store: Store, txn: Txn, path: Iterator[bool]) -> TxnAnswer:
    succeeded = next(path)
    responses: list[tuple[int, TxnAnswerBody]] = []
    requests: _Requests = txn.success if succeeded else txn.failure
    for op, request in requests:
        body: TxnAnswerBody
        if op == _OP_PUT:
            body = store.put(request)
        elif op == _OP_RANGE:
            body = store.range(request)
        elif op == _OP_DELETE:
            body = store.delete_range(request)
        else:
            body = _apply(store, request, path)
        responses.append((op, body))
    return tuple.__new__(TxnAnswer, (succeeded, tuple(responses)))  # as in core/raft/replica.py
