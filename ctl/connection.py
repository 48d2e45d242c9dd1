"""Where a command meets the cluster: a third shell round `zkv.client.session`, for a program that asks and ends.

`zkv.Client` has a thread, so that many may call at once; a command asks from one thread and waits. So this is the same
session and the same transport with a plain loop, and the command hands on requests and answers as the wire has them,
which costs neither a thread nor the import of what it does not use.
"""

from __future__ import annotations

import os
import time
from select import poll
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from zkv.client.clock import POLL_MS_MAX
from zkv.client.session import Session
from zkv.client.ticket import FOREVER, State
from zkv.client.transport import Transport
from zkv.ctl.command import certificates
from zkv.ctl.go_text import duration
from zkv.errors import DeadlineExceeded
from zkv.wire.messages import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from zkv.client.login import Login
    from zkv.client.ticket import Header, Ticket
    from zkv.ctl.options import Values
    from zkv.wire.messages import AnswerBody, Range, RangeAnswer, Request, StorePart

    Answer = TypeVar("Answer", bound=AnswerBody)

MILLISECOND_NS = 1_000_000


def now_ms() -> int:
    return time.monotonic_ns() // MILLISECOND_NS


class Reply(NamedTuple):
    """What became of one endpoint's request: the ticket is done. `took`: nanoseconds."""

    ticket: Ticket
    took: int


class Connection:
    """Raises ConfigError for an endpoint, or a key file, that is none; the methods raise what the cluster answers."""

    def __init__(
        self, endpoints: Sequence[str], values: Values, login: Login | None = None, *, patience_ms: int = 0
    ) -> None:
        """`patience_ms`: instead of the timeouts in `values`."""
        self.endpoints = endpoints
        self._dial_ns = patience_ms * MILLISECOND_NS or values.number("dial-timeout")
        self._command_ms = patience_ms or values.number("command-timeout") // MILLISECOND_NS
        keys = (values.text("curve-server-key") or None, values.text("curve-key") or None)
        self._polls = poll()
        self._transport = Transport(self._polls, endpoints, *keys, certificates(values))
        self._session = Session(
            len(endpoints), os.urandom(16), int.from_bytes(os.urandom(32), "big"), now=now_ms(), login=login
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._transport.close()

    def ask(self, request: Request, kind: type[Answer]) -> tuple[Header, Answer]:
        """The answer (of class `kind`), from whichever endpoint gives it first. Raises ZkvError."""
        ticket = self._session.submit(request, now_ms() + self._command_ms)
        self._wait([ticket])
        self._explain(ticket)
        return answer_of(ticket, kind)

    def ask_each(self, requests: Iterable[Request]) -> list[Reply]:
        """Each endpoint its request, all at once; `answer_of` tells what each brought."""
        began = time.monotonic_ns()
        deadline = now_ms() + self._command_ms
        tickets = [
            self._session.submit(request, deadline, endpoint=endpoint) for endpoint, request in enumerate(requests)
        ]
        ended = self._wait(tickets)
        for endpoint, ticket in enumerate(tickets):
            if isinstance(ticket.error, NoConnection) and endpoint in self._transport.reasons:
                ticket.error = NoConnection(f"{ticket.error.detail}: {self._transport.reasons[endpoint]}")
        return [Reply(ticket, ended[ticket] - began) for ticket in tickets]

    def stream(self, request: Range) -> tuple[Header, Iterator[RangeAnswer]]:
        """A range's chunks as they come, and the header of the first. Raises ZkvError, and so does the iterator."""
        ticket = self._session.submit(request, now_ms() + self._command_ms, stream=True)
        self._wait([ticket])
        self._explain(ticket)
        first = self._next_chunk(ticket)
        return ticket.header, self._chunks(ticket, first)

    def snapshot(self, *, sessions: bool = False, endpoint: int = 0) -> tuple[Header, Iterator[StorePart]]:
        """The store of one endpoint, in parts as they come, and the header of the first."""
        ticket = self._session.submit(Snapshot(sessions), now_ms() + self._command_ms, endpoint=endpoint)
        self._wait([ticket])
        self._explain(ticket)
        first = self._next_chunk(ticket)
        return ticket.header, self._chunks(ticket, first)

    def _chunks(self, ticket: Ticket, chunk: Any) -> Iterator[Any]:
        while chunk is not None:
            yield chunk
            chunk = self._next_chunk(ticket)

    def _next_chunk(self, ticket: Ticket) -> Any:
        """None at the end."""
        while True:
            chunk = self._session.next_chunk(ticket, now_ms(), now_ms() + self._command_ms)
            if chunk is not None:
                return chunk
            if ticket.done:
                if ticket.error:
                    raise ticket.error
                return None
            self._carry(now_ms() + self._command_ms)

    def _wait(self, tickets: Sequence[Ticket]) -> dict[Ticket, int]:
        """Until all are done, or a stream among them has its first chunk: when (monotonic, ns) that was.

        What could not even be sent when the dial timeout is over, or certificates are refused everywhere, has no one to
        talk to, and is given up.
        """
        dial_until = now_ms() + self._dial_ns // MILLISECOND_NS
        ended: dict[Ticket, int] = {}
        while len(ended) < len(tickets):
            self._carry(dial_until if now_ms() < dial_until else FOREVER)
            if len(self._transport.refused) == len(self.endpoints):
                dial_until = now_ms()
            now = time.monotonic_ns()
            for ticket in tickets:
                if now >= dial_until * MILLISECOND_NS and ticket.state is State.QUEUED and not ticket.tries:
                    self._session.cancel(ticket)
                    ticket.error = NoConnection(f"no connection within {duration(self._dial_ns)}")
                if ticket.done or (ticket.stream and ticket.stream.chunks):
                    ended.setdefault(ticket, now)
        return ended

    def _explain(self, ticket: Ticket) -> None:
        """Where nobody answered, say where that was and what may be wrong. A CURVE server does not answer strangers."""
        if isinstance(ticket.error, NoConnection):
            ticket.error = no_connection(self.endpoints, self._dial_ns, self._transport.reasons)

    def _carry(self, until: int) -> None:
        """Send what is to be sent, sleep until something comes (or `until`, ms), and take it in."""
        session, transport = self._session, self._transport
        now = now_ms()
        session.tick(now)
        for endpoint, data in session.outgoing(now):
            if not transport.send(endpoint, data):
                session.disconnected(endpoint, now)
        transport.flush(session, now)
        ready = self._polls.poll(0 if session.news() else self._patience_ms(until))
        now = now_ms()
        for fd, _ in ready:
            transport.hear(fd, session, now)
        transport.tend(session, now)

    def _patience_ms(self, until: int) -> int:
        """How long to sleep if nothing comes."""
        wakeup, idle_ms = self._session.next_wakeup(), self._transport.idle_ms
        until_ms = max(0, min(until, FOREVER if wakeup is None else wakeup) - now_ms())
        return min(until_ms, POLL_MS_MAX if idle_ms is None else idle_ms)


class NoConnection(DeadlineExceeded):
    """Nothing was sent, so nothing can have been applied."""

    maybe_applied = False


def no_connection(endpoints: Sequence[str], dial_ns: int, reasons: Mapping[int, str] | None = None) -> NoConnection:
    """Says what was tried, and what to look at; or, where certificates are the reason, why."""
    if reasons:
        told = "; ".join(f"{endpoints[at]}: {reason}" for at, reason in sorted(reasons.items()))
        return NoConnection(f"no connection to {told}")
    curve = any(endpoint.startswith("curve://") for endpoint in endpoints)
    keys = ", with --curve-server-key's key, and does it let --curve-key's in" if curve else ""
    return NoConnection(
        f"no connection within {duration(dial_ns)} to {', '.join(endpoints)}: "
        f"is `zkv server` running there{keys}? (see --endpoints)"
    )


def answer_of(ticket: Ticket, kind: type[Answer]) -> tuple[Header, Answer]:
    """What a ticket that is done brought. Raises its error."""
    if ticket.error is not None:
        raise ticket.error
    assert isinstance(ticket.answer, kind)
    return ticket.header, ticket.answer
