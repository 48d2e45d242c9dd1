"""What `Client` and `AsyncClient` do with prefix policies."""

# ruff: noqa: ASYNC109 (a timeout here is the cluster's deadline, not the task's)
from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from zkv.client.calls import Call
from zkv.client.ops import to_bytes
from zkv.client.records import QuotaResult, QuotasResult
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.client.ops import Data

T = TypeVar("T")


def _one(request: m.QuotaSet | m.QuotaGet | m.QuotaDelete) -> Call[QuotaResult]:
    return Call(request, lambda ticket: QuotaResult(ticket.header, cast("m.QuotaAnswer", ticket.answer).quota))


def _set(prefix: Data, *limits: int | None) -> Call[QuotaResult]:
    return _one(m.QuotaSet(to_bytes(prefix), *(m.KEPT if limit is None else limit for limit in limits)))


def _all() -> Call[QuotasResult]:
    return Call(
        m.QuotaList(), lambda ticket: QuotasResult(ticket.header, cast("m.QuotaListAnswer", ticket.answer).quotas)
    )


class QuotaAdministration:
    """Part of `Client`. Where users are asked who they are, only root changes quotas."""

    def _call(self, call: Call[T], timeout: float | None) -> T:
        raise NotImplementedError

    def quota_set(
        self,
        prefix: Data,
        *,
        keys_max: int | None = None,
        bytes_max: int | None = None,
        requests_max: int | None = None,
        timeout: float | None = None,
    ) -> QuotaResult:
        """How many keys may begin with `prefix`, how many bytes they and their values may take, and how many requests
        may change them in a second. 0: as many as may be; what is not given stays as it was.

        What would be too much raises OverQuota; what comes too often is retried, and raises OverRate at its deadline.
        Raises TooManyQuotas.
        """
        return self._call(_set(prefix, keys_max, bytes_max, requests_max), timeout)

    def quota_get(self, prefix: Data, *, timeout: float | None = None) -> QuotaResult:
        """What lies under a prefix that has a quota, and what may. Raises QuotaNotFound."""
        return self._call(_one(m.QuotaGet(to_bytes(prefix))), timeout)

    def quotas(self, *, timeout: float | None = None) -> QuotasResult:
        """All there are."""
        return self._call(_all(), timeout)

    def quota_delete(self, prefix: Data, *, timeout: float | None = None) -> QuotaResult:
        """Lift it; the keys stay. Raises QuotaNotFound."""
        return self._call(_one(m.QuotaDelete(to_bytes(prefix))), timeout)


class AsyncQuotaAdministration:
    """Part of `AsyncClient`."""

    async def _call(self, call: Call[T], timeout: float | None) -> T:
        raise NotImplementedError

    async def quota_set(
        self,
        prefix: Data,
        *,
        keys_max: int | None = None,
        bytes_max: int | None = None,
        requests_max: int | None = None,
        timeout: float | None = None,
    ) -> QuotaResult:
        """See `Client.quota_set`."""
        return await self._call(_set(prefix, keys_max, bytes_max, requests_max), timeout)

    async def quota_get(self, prefix: Data, *, timeout: float | None = None) -> QuotaResult:
        """See `Client.quota_get`."""
        return await self._call(_one(m.QuotaGet(to_bytes(prefix))), timeout)

    async def quotas(self, *, timeout: float | None = None) -> QuotasResult:
        """See `Client.quotas`."""
        return await self._call(_all(), timeout)

    async def quota_delete(self, prefix: Data, *, timeout: float | None = None) -> QuotaResult:
        """See `Client.quota_delete`."""
        return await self._call(_one(m.QuotaDelete(to_bytes(prefix))), timeout)
