"""A lease held by a program: kept alive in the background, and sure of itself only as long as the clock allows."""

# ruff: noqa: ASYNC109 (a timeout here is the cluster's deadline, not the task's)
from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeVar

from zkv.client import calls
from zkv.client.clock import now_ms
from zkv.client.keeper import Kept
from zkv.client.steps import Keep, ask
from zkv.errors import InvalidRequest, LeaseLost, LeaseNotFound, ZkvError

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from types import TracebackType
    from typing import Any, Self

    from zkv.client.steps import Steps

T = TypeVar("T")


class Driver(Protocol):
    """The half of `Client` that recipes run on."""

    def _drive(self, steps: Steps[T], timeout: float | None) -> T: ...


class AsyncDriver(Protocol):
    """The half of `AsyncClient` that recipes run on."""

    def _drive(self, steps: Steps[T], timeout: float | None) -> Coroutine[Any, Any, T]: ...


class Tenure:
    """What `Lease` and `AsyncLease` are but for how they wait."""

    def __init__(self, ttl: int) -> None:
        self._asked_ttl = ttl
        self._kept: Kept | None = None

    def __repr__(self) -> str:
        return f"<zkv.{type(self).__name__} {self.id:x} {'alive' if self.alive else 'not alive'}>"

    def __index__(self) -> int:
        """Its id, so that it can stand wherever an id can. Raises InvalidRequest before it is granted."""
        return self.kept.id

    @property
    def id(self) -> int:
        """0 when it is not granted, or given back."""
        return self._kept.id if self._kept else 0

    @property
    def ttl(self) -> int:
        """In seconds, as granted: the cluster has a least."""
        return self._kept.ttl if self._kept else self._asked_ttl

    @property
    def alive(self) -> bool:
        """Is it certain, by this side's clock, that the lease has not ended? Once not, never again."""
        return self._kept is not None and self._kept.alive(now_ms())

    @property
    def kept(self) -> Kept:
        if self._kept is None:
            raise InvalidRequest("this lease is not granted")
        return self._kept

    def check(self) -> None:
        """Raise LeaseLost unless `alive`."""
        if not self.alive:
            raise LeaseLost(f"{self.id:x}")

    def granting(self) -> Steps[None]:
        if self._kept is not None:
            raise InvalidRequest("this lease is granted already")
        granted, sent = yield from ask(calls.grant_sent(self._asked_ttl))
        self._kept = Kept(granted.id, granted.ttl, sent)
        yield Keep(self._kept)

    def revoking(self, *, grace: bool = False) -> Steps[bool]:
        """Was there still something to revoke? From here on it is not kept alive, whatever becomes of the call."""
        kept, self._kept = self._kept, None
        if kept is None:
            return False
        kept.stop()
        try:
            yield from ask(calls.revoke(kept.id), grace=grace)
        except LeaseNotFound:
            return False
        return True

    def __del__(self) -> None:
        """Nobody can give it back any more: let it end."""
        if getattr(self, "_kept", None) is not None:
            self.kept.stop()


class Lease(Tenure):
    """A lease that is kept alive in the background while this object lives.

        with kv.lease(ttl=10) as lease:
            kv.put("/services/web/1", "10.0.0.7:80", lease=lease)
            lease.check()

    On leaving the block it is revoked, and its keys are gone with it.
    """

    def __init__(self, client: Driver, ttl: int) -> None:
        super().__init__(ttl)
        self._client = client

    def grant(self, timeout: float | None = None) -> Self:
        """Ask the cluster for it; what `with` does at its beginning."""
        self._client._drive(self.granting(), timeout)  # noqa: SLF001 (two halves of one thing)
        return self

    def revoke(self, timeout: float | None = None) -> None:
        """End it, and delete its keys. No error if it has ended already."""
        self._client._drive(self.revoking(), timeout)  # noqa: SLF001

    def __enter__(self) -> Self:
        return self if self._kept is not None else self.grant()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*(() if error is None else (ZkvError,))):
            self.revoke()


class AsyncLease(Tenure):
    """See `Lease`; here `async with`, and `grant` and `revoke` are coroutines."""

    def __init__(self, client: AsyncDriver, ttl: int) -> None:
        super().__init__(ttl)
        self._client = client

    async def grant(self, timeout: float | None = None) -> Self:
        await self._client._drive(self.granting(), timeout)  # noqa: SLF001
        return self

    async def revoke(self, timeout: float | None = None) -> None:
        await self._client._drive(self.revoking(), timeout)  # noqa: SLF001

    async def __aenter__(self) -> Self:
        return self if self._kept is not None else await self.grant()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(*(() if error is None else (ZkvError,))):
            await self.revoke()
