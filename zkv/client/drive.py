"""Driving recipes (`steps.py`) from a thread."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any, TypeVar

from zkv.client.clock import deadline_ms, now_ms
from zkv.client.steps import Ask, Await, Invoke, Keep, Nanoseconds, Pause, ms_left, patience_ms, seconds_for

if TYPE_CHECKING:
    from zkv.client.client import Client
    from zkv.client.steps import Effect, Steps

T = TypeVar("T")


def drive(client: Client, steps: Steps[T], timeout: float | None) -> T:
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
            value = _perform(client, effect, deadline)
            resume = steps.send
        except BaseException as error:  # noqa: BLE001 (also Ctrl-C: the recipe cleans up, and raises it again)
            value = error
            resume = steps.throw


def _perform(client: Client, effect: Effect, deadline: int | None) -> Any:
    match effect:
        case Ask():
            return client._call(effect.call, seconds_for(effect, deadline, now_ms(), client.timeout))  # noqa: SLF001
        case Await():
            return _await(client, effect, deadline)
        case Keep():
            return client._keep(effect.kept)  # noqa: SLF001
        case Invoke():
            return effect.function(effect.argument)
        case Nanoseconds():
            return time.time_ns()
        case Pause():
            left = ms_left(deadline, now_ms())
            wait = effect.ms * random.uniform(0.5, 1)  # noqa: S311 (so that two do not meet again)
            return time.sleep((wait if left is None else min(wait, left)) / 1000)


def _await(client: Client, wanted: Await, deadline: int | None) -> Any:
    with client.watch(
        wanted.key,
        range_end=wanted.range_end or None,
        from_revision=wanted.from_revision,
        puts=wanted.puts,
        deletes=wanted.deletes,
    ) as watch:
        while True:
            response = watch.next(patience_ms(wanted, deadline, now_ms()) / 1000)
            if response is not None and response.events:
                return response.events[0]
