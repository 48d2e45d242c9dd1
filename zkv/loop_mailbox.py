"""A mailbox whose owner lives in an event loop, because it serves many connections that are no ZeroMQ's.

    mail, Stop       -> actor.handle
    its own sockets  -> what `actor.open` has made of them
    time             -> actor.tick, when `next_wakeup` says so

It runs on uvloop: Python's own loop costs as much for a small read as the work to be done.
"""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import uvloop

from zkv.courier import RETRY_MS
from zkv.mailbox import REPORT_MS, Actor, Mailbox
from zkv.monotonic import monotonic_ms

if TYPE_CHECKING:
    import asyncio

    from zkv.mailbox import Control

IDLE_TICK_MS: Final = 500


class LoopActor(Actor, Protocol):
    async def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Listen. Raises OSError when an address is taken."""

    def close(self) -> None:
        """Listen no more."""

    def tick(self, now: int) -> None: ...


class LoopMailbox(Mailbox):
    _report_at = 0

    def post(self, neighbour: str, message: NamedTuple) -> bool:
        """As a mailbox does, and at once: there are no turns here."""
        posted = super().post(neighbour, message)
        self.flush()
        return posted

    def drive(self, actor: Any, control: Control) -> None:
        """Until the actor is finished. Raises OSError when an address is taken."""
        loop = uvloop.new_event_loop()
        try:
            loop.run_until_complete(self._serve(actor, control, loop))
        finally:
            loop.close()

    async def _serve(self, actor: LoopActor, control: Control, loop: asyncio.AbstractEventLoop) -> None:
        ended = loop.create_future()
        await actor.open(loop)

        def guard(context_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # noqa: ARG001
            """A broken belief ends this process, as in every other actor."""
            error = context.get("exception")
            if isinstance(error, Exception) and not isinstance(error, OSError) and not ended.done():
                ended.set_exception(error)

        loop.set_exception_handler(guard)

        def mail() -> None:
            received = self.wait(0, control)
            if self.rung:
                self.tend_look(actor, monotonic_ms())
            if not received:
                return
            if any(source == "supervisor" for source, _ in received):
                actor.close()
            began = monotonic_ns()
            actor.handle(received, began // 1_000_000)
            self.turns.took(len(received), monotonic_ns() - began)

        def tick() -> None:
            now = monotonic_ms()
            actor.tick(now)
            self.tend_look(actor, now)
            if self.reports and now >= self._report_at:
                self._report_at = now + REPORT_MS
                self.report(actor)
            if actor.finished:
                if not ended.done():
                    ended.set_result(None)
                return
            self.flush()
            due = actor.next_wakeup(now)
            wait_ms = IDLE_TICK_MS if due is None else max(0, due - now)
            loop.call_later((min(wait_ms, RETRY_MS) if self.seeks else wait_ms) / 1000, tick)

        loop.add_reader(self.fd, mail)
        tick()
        try:
            await ended
        finally:
            loop.remove_reader(self.fd)
