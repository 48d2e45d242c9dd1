"""Recipes: what takes several calls, written once for both clients.

A recipe (taking a lock, winning an election, ..) is a generator. It yields *effects*: what it wants done; whoever
drives it does that, and sends back what came of it, or throws in what it failed with. So a recipe knows neither sockets
nor clocks nor which kind of client it runs in: `drive.py` (threads) and `async_drive.py` (asyncio) are all there is
twice, and a test can drive hundreds of recipes against each other, step by step, from a seed.

Why not otherwise: to generate the synchronous half from the asynchronous one needs a build step, and yields code nobody
reads; an event loop in a thread behind the synchronous client costs two thread switches a call, and the import of
asyncio.

What a driver owes a recipe
- The deadline of the whole bounds every effect; when it has passed, DeadlineExceeded is thrown in.
- A recipe that is interrupted (a cancelled task, Ctrl-C) is told so by the exception, and what it then still yields to
  clean up after itself is done; that is why a recipe is never just closed.
- `Ask` with `grace` runs on after the deadline, for as long as a call may take by itself: it cleans up.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeAlias, TypeVar

from zkv.errors import DeadlineExceeded, LeaseLost, ZkvError

if TYPE_CHECKING:
    from zkv.client.calls import Call
    from zkv.client.keeper import Kept
    from zkv.client.watch_events import WatchEvent

T = TypeVar("T")


class Ask(NamedTuple, Generic[T]):
    """Make a call; what it returns comes back."""

    call: Call[T]
    grace: bool = False


class Await(NamedTuple):
    """Wait for the first event in [key, range_end) from `from_revision` on: it comes back.

    LeaseLost is thrown in when `kept`, if any, is lost meanwhile.
    """

    key: bytes
    range_end: bytes
    from_revision: int
    puts: bool = True
    deletes: bool = True
    kept: Kept | None = None


class Keep(NamedTuple):
    """Keep a lease alive in the background, until it is told to stop."""

    kept: Kept


class Pause(NamedTuple):
    """Wait for a while, by chance between half of `ms` and all of it."""

    ms: int


class Nanoseconds(NamedTuple):
    """The wall clock's, for names that nobody else is likely to choose: an int comes back."""


class Invoke(NamedTuple):
    """Call a function of the user's, which may be a coroutine function where the client is an asynchronous one."""

    function: Callable[..., Any]
    argument: object


Effect: TypeAlias = Ask[Any] | Await | Keep | Pause | Nanoseconds | Invoke
Steps: TypeAlias = Generator[Effect, Any, T]
"""A recipe that returns T."""


def ask(call: Call[T], *, grace: bool = False) -> Steps[T]:
    answer: T = yield Ask(call, grace)
    return answer


def await_event(wanted: Await) -> Steps[WatchEvent]:
    event: WatchEvent = yield wanted
    return event


def or_else(steps: Steps[T], undo: Callable[[], Steps[object]]) -> Steps[T]:
    """If `steps` fail, whyever, do what `undo` says (as far as it can be done), and fail as they did."""
    try:
        return (yield from steps)
    except GeneratorExit:
        raise
    except BaseException:
        with suppress(ZkvError):
            yield from undo()
        raise


def ms_left(deadline: int | None, now: int) -> int | None:
    """How long an effect may take; None: as long as it likes. Raises DeadlineExceeded."""
    if deadline is None:
        return None
    if deadline <= now:
        error = DeadlineExceeded()
        error.maybe_applied = False
        raise error
    return deadline - now


WAIT_MS_MAX = 60_000


def patience_ms(wanted: Await, deadline: int | None, now: int) -> int:
    """How long to wait for an event before asking here again. Raises DeadlineExceeded, and LeaseLost."""
    left = ms_left(deadline, now)
    wait = WAIT_MS_MAX if left is None else min(left, WAIT_MS_MAX)
    if wanted.kept is not None:
        if not wanted.kept.alive(now):
            raise LeaseLost(f"{wanted.kept.id:x}")
        wait = min(wait, wanted.kept.sure_until - now)
    return wait


def seconds_for(wanted: Ask[Any], deadline: int | None, now: int, usual: float) -> float:
    """The timeout of a call within a recipe; `usual` is the client's own. Raises DeadlineExceeded."""
    if wanted.grace:
        return usual
    left = ms_left(deadline, now)
    return usual if left is None else left / 1000
