"""Queues, as etcd's recipes build them: each item is a key, taken by who deletes it.

A taken item is gone, even if its taker dies the next moment, or never hears that it was the one (a DeadlineExceeded
with `maybe_applied`): at most once. Where an item must not be lost, let takers hold a lock and delete it, guarded, when
it is done with.
"""

# ruff: noqa: ASYNC109 (a timeout here is the cluster's deadline, not the task's)
from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from zkv.client import calls, ops
from zkv.client.barrier import put_unique
from zkv.client.steps import Await, ask, await_event
from zkv.errors import Compacted, InvalidRequest
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.client.lease import AsyncDriver, Driver
    from zkv.client.ops import Data
    from zkv.client.records import TxnResult
    from zkv.client.steps import Steps

CLAIMS = 8
"""Items looked at together: takers that meet at the first each get one of them, in one trip."""
PRIORITY_MAX = 65_535


def claim(kvs: tuple[m.KeyValue, ...]) -> m.Txn:
    """Delete the first of these that is still there as it was: one transaction within the other's else."""
    request: m.Txn | None = None
    for kv in reversed(kvs):
        there = m.Compare(m.CompareResult.EQUAL, m.CompareTarget.MOD, kv.key, kv.mod_revision)
        otherwise = () if request is None else ((int(m.Op.TXN), request),)
        request = m.Txn((there,), ((int(m.Op.DELETE_RANGE), m.DeleteRange(kv.key)),), otherwise)
    assert request is not None
    return request


def claimed(kvs: tuple[m.KeyValue, ...], result: TxnResult) -> m.KeyValue | None:
    """Which of `kvs` that transaction has deleted."""
    for kv in kvs:
        if result.succeeded:
            return kv
        if result.responses:
            result = result.responses[0]  # type: ignore[assignment] # the inner txn's
    return None


class _Queue:
    """Keys below `name/`; `_sort` tells which comes first."""

    _sort = m.SortTarget.MOD

    def __init__(self, name: Data) -> None:
        self._name = ops.to_bytes(name)
        self._prefix = self._name + b"/"

    def putting(self, value: bytes) -> Steps[None]:
        yield from put_unique(self._name, value)

    def taking(self) -> Steps[bytes]:
        end = ops.prefix_end(self._prefix)
        request = m.Range(self._prefix, end, limit=CLAIMS, sort_order=m.SortOrder.ASCEND, sort_target=self._sort)
        while True:
            first = yield from ask(calls.range_of(request))
            if not first.kvs:
                with suppress(Compacted):
                    yield from await_event(Await(self._prefix, end, first.revision + 1, deletes=False))
                continue
            mine = claimed(first.kvs, (yield from ask(calls.txn(claim(first.kvs)))))
            if mine is not None:
                return mine.value


class _PriorityQueue(_Queue):
    """Keys `name/<priority>/<number>`: the lowest number of the lowest priority comes first.

    `__name/<priority>` is put with each new item, so that two who choose the same number at once are told apart.
    """

    _sort = m.SortTarget.KEY

    def putting_at(self, value: bytes, priority: int) -> Steps[None]:
        if not 0 <= priority <= PRIORITY_MAX:
            raise InvalidRequest(f"priority {priority}")
        stem = b"%s%05d" % (self._prefix, priority)
        last = m.Range(stem + b"/", ops.prefix_end(stem + b"/"), limit=1, keys_only=True)
        last = last._replace(sort_order=m.SortOrder.DESCEND)
        while True:
            found = yield from ask(calls.range_of(last))
            number = _number(found.kvs[0].key) + 1 if found.kvs else 0
            unchanged = m.Compare(m.CompareResult.LESS, m.CompareTarget.MOD, b"__" + stem, found.revision + 1)
            puts = (
                (int(m.Op.PUT), m.Put(b"__" + stem, b"")),
                (int(m.Op.PUT), m.Put(b"%s/%016d" % (stem, number), value)),
            )
            if (yield from ask(calls.txn(m.Txn((unchanged,), puts, ())))).succeeded:
                return


def _number(key: bytes) -> int:
    digits = key.rpartition(b"/")[2]
    if not digits.isdigit():
        raise InvalidRequest(f"{key!r} is no item of a priority queue")
    return int(digits)


class Queue(_Queue):
    """First in, first out, for any number of processes."""

    def __init__(self, client: Driver, name: Data) -> None:
        super().__init__(name)
        self._client = client

    def enqueue(self, value: Data, timeout: float | None = None) -> None:
        self._client._drive(self.putting(ops.to_bytes(value)), timeout)  # noqa: SLF001 (two halves of one thing)

    def dequeue(self, timeout: float | None = None) -> bytes:
        """Take the oldest item, waiting for one if need be, for `timeout` seconds at most (None: as long as it takes).

        Raises DeadlineExceeded; if its `maybe_applied` is true, an item may have been taken.
        """
        return self._client._drive(self.taking(), timeout)  # noqa: SLF001


class AsyncQueue(_Queue):
    """See `Queue`; here its methods are coroutines."""

    def __init__(self, client: AsyncDriver, name: Data) -> None:
        super().__init__(name)
        self._client = client

    async def enqueue(self, value: Data, timeout: float | None = None) -> None:
        await self._client._drive(self.putting(ops.to_bytes(value)), timeout)  # noqa: SLF001

    async def dequeue(self, timeout: float | None = None) -> bytes:
        return await self._client._drive(self.taking(), timeout)  # noqa: SLF001


class PriorityQueue(_PriorityQueue):
    """The lowest priority number first; those of one priority in the order in which they came."""

    def __init__(self, client: Driver, name: Data) -> None:
        super().__init__(name)
        self._client = client

    def enqueue(self, value: Data, priority: int, timeout: float | None = None) -> None:
        """`priority` from 0 to 65535."""
        self._client._drive(self.putting_at(ops.to_bytes(value), priority), timeout)  # noqa: SLF001

    def dequeue(self, timeout: float | None = None) -> bytes:
        """As `Queue.dequeue`."""
        return self._client._drive(self.taking(), timeout)  # noqa: SLF001


class AsyncPriorityQueue(_PriorityQueue):
    """See `PriorityQueue`; here its methods are coroutines."""

    def __init__(self, client: AsyncDriver, name: Data) -> None:
        super().__init__(name)
        self._client = client

    async def enqueue(self, value: Data, priority: int, timeout: float | None = None) -> None:
        await self._client._drive(self.putting_at(ops.to_bytes(value), priority), timeout)  # noqa: SLF001

    async def dequeue(self, timeout: float | None = None) -> bytes:
        return await self._client._drive(self.taking(), timeout)  # noqa: SLF001
