"""Software transactional memory, as etcd's client has it: a function of the user's reads and writes keys as if alone.

Its writes are kept here until it returns; then one transaction makes them, provided that nobody has changed in the
meantime what the level of isolation protects. Otherwise the function runs again, on what is there now: it must do
nothing else that cannot be done twice.

| isolation | a read sees | commit is refused if anybody has changed |
| --- | --- | --- |
| serializable_snapshot | the revision of the first read | what was read, or what is to be written |
| serializable | the revision of the first read | what was read |
| repeatable_reads | one member's present state; each key once | what was read |
| read_committed | one member's present state; each key once | nothing |
"""

# ruff: noqa: ASYNC109 (a timeout here is the cluster's deadline, not the task's)
from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Literal, TypeAlias

from zkv.client import calls, ops
from zkv.client.steps import Invoke, Pause, ask
from zkv.errors import Compacted, Conflict, FutureRevision, InvalidRequest
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Self, SupportsIndex

    from zkv.client.lease import AsyncDriver, Driver
    from zkv.client.ops import Data
    from zkv.client.steps import Steps

Isolation: TypeAlias = Literal["serializable_snapshot", "serializable", "repeatable_reads", "read_committed"]

ISOLATIONS = ("serializable_snapshot", "serializable", "repeatable_reads", "read_committed")
PAUSE_MS_MIN = 2
PAUSE_MS_MAX = 64
"""Waits between attempts, each twice as long: those who conflict do not meet again and again."""


class Attempts:
    """What `Stm` and `AsyncStm` are but for how they wait."""

    def __init__(self, isolation: Isolation, prefetch: Iterable[Data], attempts_max: int | None) -> None:
        if isolation not in ISOLATIONS:
            raise InvalidRequest(f"isolation {isolation!r}")
        if attempts_max is not None and attempts_max < 1:
            raise InvalidRequest(f"attempts_max {attempts_max}")
        self._isolation = isolation
        self._snapshot = isolation in {"serializable_snapshot", "serializable"}
        self._prefetch = tuple(dict.fromkeys(map(ops.to_bytes, prefetch)))
        self._attempts_max = attempts_max
        self._begin(0)

    def _begin(self, base: int) -> None:
        """A new attempt, which reads at revision `base` (0: at that of its first read)."""
        self._base = base
        self._oldest = 0  # the lowest revision anything was read at
        self._known: dict[bytes, m.KeyValue | None] = {}  # read for this attempt, but not by the function yet
        self._reads: dict[bytes, m.KeyValue | None] = {}
        self._writes: dict[bytes, m.Put | m.DeleteRange] = {}

    # --- what the function does ------------------------------------------------------------------

    def put(self, key: Data, value: Data = b"", *, lease: SupportsIndex = 0, ttl: int = 0) -> None:
        """To be written when the function has returned."""
        request = ops.put(key, value, lease=index(lease), ttl=ttl)
        self._writes[request.key] = request

    def delete(self, key: Data) -> None:
        """To be deleted when the function has returned."""
        start = ops.to_bytes(key)
        self._writes[start] = m.DeleteRange(start)

    def reading(self, key: bytes) -> Steps[bytes | None]:
        written = self._writes.get(key)
        if written is not None:
            return written.value if isinstance(written, m.Put) else None
        kv = yield from self.fetching(key)
        return None if kv is None else kv.value

    def dating(self, key: bytes) -> Steps[int]:
        kv = yield from self.fetching(key)
        return 0 if kv is None else kv.mod_revision

    def fetching(self, key: bytes) -> Steps[m.KeyValue | None]:
        """What the cluster holds, each key once in an attempt."""
        if key not in self._reads:
            self._reads[key] = self._known.pop(key) if key in self._known else (yield from self._read(key))
        return self._reads[key]

    def _read(self, key: bytes) -> Steps[m.KeyValue | None]:
        near = self._base > 0 or not self._snapshot  # then one member's state will do
        request = m.Range(key, revision=self._base, serializable=near)
        try:
            result = yield from ask(calls.range_of(request))
        except FutureRevision:  # that member has not come as far
            result = yield from ask(calls.range_of(request._replace(serializable=False)))
        self._has_read(result.revision)
        return _one(result.kvs)

    def _read_ahead(self, keys: tuple[bytes, ...]) -> Steps[None]:
        result = yield from ask(calls.txn(m.Txn((), _gets(keys), ())))
        self._has_read(result.revision)
        self._known = {key: _one(calls.kvs_of(result, number)) for number, key in enumerate(keys)}

    def _has_read(self, revision: int) -> None:
        if self._snapshot:
            self._base = self._base or revision
        at = self._base or revision
        self._oldest = min(self._oldest or at, at)

    # --- the whole -------------------------------------------------------------------------------

    def running(self, function: Callable[[Any], Any]) -> Steps[Any]:
        """Call the function until its writes are made; what it returned then comes back."""
        attempts = 0
        while self._attempts_max is None or attempts < self._attempts_max:
            attempts += 1
            try:
                if self._prefetch and not self._known:
                    yield from self._read_ahead(self._prefetch)
                result = yield Invoke(function, self)
                if (yield from self._commit()):
                    return result
            except Compacted:  # so long that its revision is gone
                self._begin(0)
            yield Pause(min(PAUSE_MS_MIN << min(attempts, 16), PAUSE_MS_MAX))
        raise Conflict(f"after {attempts} attempts")

    def _commit(self) -> Steps[bool]:
        unchanged = self._conflicts()
        if not unchanged and not self._writes:
            return True
        operations: list[tuple[int, m.TxnRequest]] = [
            (int(m.Op.PUT if isinstance(request, m.Put) else m.Op.DELETE_RANGE), request)
            for request in self._writes.values()
        ]
        keys = tuple(self._reads)
        ahead = _gets(keys)  # what the next attempt is likely to read
        result = yield from ask(calls.txn(m.Txn(unchanged, tuple(operations), ahead)))
        if result.succeeded:
            return True
        self._begin(result.revision if self._snapshot and keys else 0)
        self._oldest = self._base
        if self._snapshot:
            self._known = {key: _one(calls.kvs_of(result, number)) for number, key in enumerate(keys)}
        return False

    def _conflicts(self) -> tuple[m.Compare, ...]:
        if self._isolation == "read_committed":
            return ()
        reads = [
            m.Compare(m.CompareResult.EQUAL, m.CompareTarget.MOD, key, kv.mod_revision if kv else 0)
            for key, kv in self._reads.items()
        ]
        if self._isolation != "serializable_snapshot" or not self._oldest:
            return tuple(reads)
        writes = [
            m.Compare(m.CompareResult.LESS, m.CompareTarget.MOD, key, self._oldest + 1)
            for key in self._writes
            if key not in self._reads
        ]
        return (*reads, *writes)


def _gets(keys: tuple[bytes, ...]) -> tuple[tuple[int, m.Range], ...]:
    return tuple([(int(m.Op.RANGE), m.Range(key)) for key in keys])


def _one(kvs: tuple[m.KeyValue, ...]) -> m.KeyValue | None:
    return kvs[0] if kvs else None


class Stm(Attempts):
    """One transaction of `Client.stm`, as its function sees it."""

    def __init__(
        self, client: Driver, isolation: Isolation, prefetch: Iterable[Data], attempts_max: int | None
    ) -> None:
        super().__init__(isolation, prefetch, attempts_max)
        self._client = client

    def get(self, key: Data) -> bytes | None:
        """The value of a key, None if it is not there. What the function has put itself, it gets."""
        return self._client._drive(self.reading(ops.to_bytes(key)), None)  # noqa: SLF001 (two halves of one thing)

    def mod_revision(self, key: Data) -> int:
        """The revision that last put the key, 0 if it is not there; what the function has put itself does not count."""
        return self._client._drive(self.dating(ops.to_bytes(key)), None)  # noqa: SLF001

    def run(self, function: Callable[[Self], Any], timeout: float | None) -> Any:
        return self._client._drive(self.running(function), timeout)  # noqa: SLF001


class AsyncStm(Attempts):
    """One transaction of `AsyncClient.stm`, as its function sees it: `await` its `get` and `mod_revision`."""

    def __init__(
        self, client: AsyncDriver, isolation: Isolation, prefetch: Iterable[Data], attempts_max: int | None
    ) -> None:
        super().__init__(isolation, prefetch, attempts_max)
        self._client = client

    async def get(self, key: Data) -> bytes | None:
        return await self._client._drive(self.reading(ops.to_bytes(key)), None)  # noqa: SLF001

    async def mod_revision(self, key: Data) -> int:
        return await self._client._drive(self.dating(ops.to_bytes(key)), None)  # noqa: SLF001

    async def run(self, function: Callable[[Self], Any], timeout: float | None) -> Any:
        return await self._client._drive(self.running(function), timeout)  # noqa: SLF001
