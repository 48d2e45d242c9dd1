"""Driving recipes (`steps.py`) from an asyncio task."""

# ruff: noqa: ASYNC109 (a timeout here is the cluster's deadline, not the task's)
from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any, TypeVar

from zkv.client.clock import deadline_ms, now_ms
from zkv.client.steps import Ask, Await, Invoke, Keep, Nanoseconds, Pause, ms_left, patience_ms, seconds_for

if TYPE_CHECKING:
    from zkv.client.async_client import AsyncClient
    from zkv.client.steps import Effect, Steps

T = TypeVar("T")


async def drive(client: AsyncClient, steps: Steps[T], timeout: float | None) -> T:
    """Take all steps within `timeout` seconds (None: each call within the client's own); returns, raises as they do."""
    deadline = None if timeout is None else deadline_ms(timeout)
    resume: Any = steps.send
    value: Any = None
    while True:
        try:
            effect = resume(value)
        except StopIteration as end:
            result: T = end.value
            return result
        try:
            value = await _perform(client, effect, deadline)
            resume = steps.send
        except BaseException as error:  # noqa: BLE001 (also a cancelled task: the recipe cleans up, and raises it again)
            value = error
            resume = steps.throw


async def _perform(client: AsyncClient, effect: Effect, deadline: int | None) -> Any:
    match effect:
        case Ask():
            timeout = seconds_for(effect, deadline, now_ms(), client.timeout)
            return await client._call(effect.call, timeout)  # noqa: SLF001 (a client's other half)
        case Await():
            return await _await(client, effect, deadline)
        case Keep():
            return client._keep(effect.kept)  # noqa: SLF001
        case Invoke():
            result = effect.function(effect.argument)
            return await result if asyncio.iscoroutine(result) else result
        case Nanoseconds():
            return time.time_ns()
        case Pause():
            left = ms_left(deadline, now_ms())
            wait = effect.ms * random.uniform(0.5, 1)  # noqa: S311 (so that two do not meet again)
            return await asyncio.sleep((wait if left is None else min(wait, left)) / 1000)


async def _await(client: AsyncClient, wanted: Await, deadline: int | None) -> Any:
    async with client.watch(
        wanted.key,
        range_end=wanted.range_end or None,
        from_revision=wanted.from_revision,
        puts=wanted.puts,
        deletes=wanted.deletes,
    ) as watch:
        while True:
            response = await watch.next(patience_ms(wanted, deadline, now_ms()) / 1000)
            if response is not None and response.events:
                return response.events[0]
