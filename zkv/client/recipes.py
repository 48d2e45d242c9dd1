"""The small recipes: one transaction, or two calls."""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING

from zkv.client import calls, ops
from zkv.client.records import SwapResult
from zkv.client.steps import ask
from zkv.errors import KeyNotFound, LeaseNotFound
from zkv.wire import messages as m

if TYPE_CHECKING:
    from typing import SupportsIndex

    from zkv.client.calls import Call, Guard
    from zkv.client.ops import Data
    from zkv.client.records import KeepAliveResult, TxnResult
    from zkv.client.steps import Steps
    from zkv.client.ticket import Ticket


def touching(key: Data) -> Steps[KeepAliveResult]:
    kv = yield from ask(calls.get(key, revision=0, serializable=False))
    if kv is None:
        raise KeyNotFound
    if not kv.lease:
        raise LeaseNotFound
    return (yield from ask(calls.keep_alive(kv.lease)))


def compare_and_swap(
    key: Data, expected: Data | m.KeyValue | None, value: Data, lease: SupportsIndex, guard: Guard | None
) -> Call[SwapResult]:
    request = m.Put(ops.to_bytes(key), ops.to_bytes(value), index(lease))
    return _if_unchanged(request.key, expected, (int(m.Op.PUT), request), guard)


def compare_and_delete(key: Data, expected: Data | m.KeyValue, guard: Guard | None) -> Call[SwapResult]:
    request = m.DeleteRange(ops.to_bytes(key))
    return _if_unchanged(request.key, expected, (int(m.Op.DELETE_RANGE), request), guard)


def _if_unchanged(
    key: bytes, expected: Data | m.KeyValue | None, deed: tuple[int, m.TxnRequest], guard: Guard | None
) -> Call[SwapResult]:
    if expected is None:
        unchanged = m.Compare(m.CompareResult.EQUAL, m.CompareTarget.VERSION, key, 0)
    elif isinstance(expected, m.KeyValue):
        unchanged = m.Compare(m.CompareResult.EQUAL, m.CompareTarget.MOD, key, expected.mod_revision)
    else:
        unchanged = m.Compare(m.CompareResult.EQUAL, m.CompareTarget.VALUE, key, ops.to_bytes(expected))
    txn = calls.txn(m.Txn((unchanged,), (deed,), ((int(m.Op.RANGE), m.Range(key)),)), guard)

    def result(ticket: Ticket) -> SwapResult:
        done: TxnResult = txn.result(ticket)
        if done.succeeded:
            return SwapResult(done.header, succeeded=True)
        kvs = calls.kvs_of(done, 0)
        return SwapResult(done.header, succeeded=False, kv=kvs[0] if kvs else None)

    return calls.Call(txn.request, result)
