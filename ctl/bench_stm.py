"""`zkv benchmark stm`: transactions with software transactional memory, by the library's own asyncio client.

A client runs one transaction after the other: it reads --keys-per-txn keys and writes some of them. What is measured is
a whole transaction, with all its attempts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from zkv.ctl.bench_loads import no_arguments, positive, value_of
from zkv.ctl.bench_report import Results, Section
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, Values
from zkv.ctl.progress import Progress
from zkv.errors import ZkvError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from zkv import AsyncClient
    from zkv.client.lock import AsyncLock
    from zkv.client.stm import AsyncStm, Isolation
    from zkv.ctl.bench import Job
    from zkv.ctl.bench_plan import Plan

ISOLATIONS: dict[str, Isolation] = {
    "c": "read_committed",
    "r": "repeatable_reads",
    "s": "serializable",
    "ss": "serializable_snapshot",
}
LOCKERS = ("stm", "lock-client")
LOCK = "stmlock"
TIMEOUT_S = 60.0
LEASE_TTL_S = 60


class Shape(NamedTuple):
    """What each transaction does: reads `reads` keys out of `keys`, and writes the first `writes` of them."""

    isolation: Isolation
    keys: int
    reads: int
    writes: int
    value_bytes: int
    locks: bool

    def transaction(self) -> Callable[[AsyncStm], Awaitable[None]]:
        chosen = [b"%016d" % number for number in random.sample(range(self.keys), self.reads)]

        async def apply(memory: AsyncStm) -> None:
            for number, key in enumerate(chosen):
                await memory.get(key)
                if number < self.writes:
                    memory.put(key, os.urandom(self.value_bytes))

        return apply


def shape(values: Values) -> Shape:
    """Raises CommandError."""
    keys, reads, share = positive(values, "keys"), values.number("keys-per-txn"), values.number("txn-wr-percent")
    if not 0 <= share <= 100:
        raise CommandError(f"expected [0, 100] --txn-wr-percent, got ({share})", EXIT_BAD_ARGS)
    if not 0 <= reads <= keys:
        raise CommandError(f"expected --keys-per-txn between 0 and {keys}, got ({reads})", EXIT_BAD_ARGS)
    isolation, locker = values.text("isolation"), values.text("stm-locker")
    if isolation not in ISOLATIONS:
        raise CommandError(f"unknown isolation {isolation!r}: one of {', '.join(ISOLATIONS)}", EXIT_BAD_ARGS)
    if locker not in LOCKERS:
        raise CommandError(f"unexpected stm locker {locker!r}: one of {', '.join(LOCKERS)}", EXIT_BAD_ARGS)
    return Shape(
        ISOLATIONS[isolation], keys, reads, reads * share // 100, len(value_of(values)), locker == "lock-client"
    )


def stm(job: Job) -> list[Section]:
    """Raises CommandError, ConfigError, ZkvError."""
    no_arguments("stm", job.arguments)
    values = job.values
    plan = job.plan(total=positive(values, "total"), rate=values.number("rate"))
    options = {
        "server_key": values.text("curve-server-key") or None,
        "client_key": values.text("curve-key") or None,
        **{name: values.text(name) for name in ("cacert", "cert", "key")},
        "insecure_skip_tls_verify": values.is_on("insecure-skip-tls-verify"),
    }
    with Progress(plan.total, "txn") as progress:
        results = asyncio.run(_Run(plan, shape(values), progress.show).run(options))
    return [Section("stm", "", results)]


class _Run:
    def __init__(self, plan: Plan, load: Shape, progress: Callable[[int], object]) -> None:
        self._plan = plan
        self._load = load
        self._progress = progress
        self._numbers = iter(range(plan.total))
        self._next_at = 0.0
        self._results = Results()

    async def run(self, options: dict[str, Any]) -> Results:
        from zkv import AsyncClient

        plan = self._plan
        async with contextlib.AsyncExitStack() as stack:
            connections = []
            for number in range(plan.conns):
                at = number % len(plan.endpoints)
                kv = AsyncClient(
                    plan.endpoints[at:] + plan.endpoints[:at],
                    timeout=TIMEOUT_S,
                    **options,
                )
                connections.append(await stack.enter_async_context(kv))
                await kv.status(timeout=plan.dial_timeout)
            begin = time.monotonic()
            await asyncio.gather(*(self._client(connections[number % plan.conns]) for number in range(plan.clients)))
            self._results.seconds = time.monotonic() - begin
        return self._results

    async def _client(self, kv: AsyncClient) -> None:
        """One transaction after the other, as long as there are any to do."""
        load, results = self._load, self._results
        async with contextlib.AsyncExitStack() as stack:
            lock: AsyncLock | None = None
            if load.locks:
                lock = kv.lock(LOCK, lease=await stack.enter_async_context(kv.lease(LEASE_TTL_S)))
            for _ in self._numbers:
                await self._turn()
                begun = time.monotonic()
                try:
                    async with lock or contextlib.nullcontext():
                        await kv.stm(load.transaction(), isolation=load.isolation)
                except ZkvError as error:
                    results.fail(error)
                else:
                    results.latencies.append(time.monotonic() - begun)
                    if self._plan.sample:
                        results.starts.append(time.time() - results.latencies[-1])
                self._progress(results.count)

    async def _turn(self) -> None:
        """Wait until the rate allows another transaction."""
        if self._plan.rate:
            now = time.monotonic()
            at = max(now, self._next_at)
            self._next_at = at + 1 / self._plan.rate
            await asyncio.sleep(at - now)
