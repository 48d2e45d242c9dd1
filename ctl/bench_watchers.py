"""The load generator for watchers: streams of watches, the puts they are told of, and what came when.

A *stream* is a line of its own with watches on it, and nothing else; puts and gets come from connections as those of
the other loads. Messages of streams are counted here as they come, without a client's bookkeeping: a message tells
many watchers of an event at once, and so it is counted at once. Who has taken what was told says so, as any client.

What came of a put is known in two ways that race: its answer, and the events. So events are kept by revision until the
answer says which put it was.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

from zkv.client.ticket import FOREVER, Ticket
from zkv.client.transport import FAREWELL_MS
from zkv.ctl.bench_lines import Connection, Lines, Pace, milliseconds
from zkv.ctl.bench_report import Results
from zkv.errors import CorruptionError, StreamLost, from_code
from zkv.limits import Limits
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zkv.ctl.bench_plan import Plan

TICK_S: Final = 0.05
STALL_S: Final = 30.0  # a run in which nothing comes for so long has lost something
CREDIT_BYTES: Final = Limits().watch_window_bytes // 4
ALIVE_S: Final = Limits().watch_silence_ms / 3000
WATCHES_PER_MESSAGE: Final = 256
FAREWELL: Final = codec.pack((m.PROTOCOL_VERSION, m.ClientKind.UNWATCH, 0))

CREATED: Final = int(m.WatchKind.CREATED)
EVENTS: Final = int(m.WatchKind.EVENTS)
FRAGMENT: Final = int(m.WatchKind.FRAGMENT)
CANCELLED: Final = int(m.WatchKind.CANCELLED)

Told: TypeAlias = tuple[int, tuple[int, ...]]
"""So many watches of one stream were told of the events that made these revisions."""


class Stream:
    """One connection with watches: what it is sent, and what it is to be told."""

    def __init__(self, number: int) -> None:
        self.name = b"w%d" % number
        self.created = 0
        self._next_id = 1
        self._taken = 0
        self._spoke_at = 0.0

    @property
    def begun(self) -> int:
        return self._next_id - 1

    def begin(self, watches: Sequence[m.Watch], now: float) -> bytes:
        """The message that begins watches; their ids are given here."""
        numbered = []
        for watch in watches:
            numbered.append(watch._replace(id=self._next_id))
            self._next_id += 1
        self._spoke_at = now
        return codec.pack((m.PROTOCOL_VERSION, m.ClientKind.WATCH, tuple(numbered)))

    def received(self, data: bytes) -> list[Told]:
        """Read a message.

        Raises what a watch was cancelled for, and CorruptionError.
        """
        answers = codec.unpack(data)[4:]  # and no token, and no watches, where nothing is said of them
        if answers[0]:
            _, code, _, body = answers[0][0]
            raise from_code(code, _detail(body))
        told: list[Told] = []
        watches: Any = answers[2] if len(answers) > 2 else ()
        for ids, kind, _, body in watches:
            if kind in (EVENTS, FRAGMENT):
                told.append((len(ids), tuple([kv[2] for _, kv, _ in body])))
            elif kind == CREATED:
                self.created += len(ids)
            elif kind == CANCELLED:
                raise from_code(body[0]) if body[0] else StreamLost()
        if watches:
            self._taken += len(data)
        return told

    def due(self, now: float) -> bytes | None:
        """Say what was taken, often enough to be sent more, and now and then that one is still here."""
        if not self.begun or (self._taken < CREDIT_BYTES and now - self._spoke_at < ALIVE_S):
            return None
        taken, self._taken, self._spoke_at = self._taken, 0, now
        return codec.pack((m.PROTOCOL_VERSION, m.ClientKind.WATCH_CREDIT, *m.WatchCredit(taken)))


def _detail(body: object) -> str:
    return body[0] if isinstance(body, tuple) and body and isinstance(body[0], str) else ""


class Arrivals:
    """When watchers were told of which put, and how long after it was asked for."""

    def __init__(self) -> None:
        self.events = 0
        self.after_asking = Results()
        self.after_answer = Results()
        self._puts: dict[int, tuple[float, float]] = {}  # by revision: asked for, answered
        self._early: dict[int, list[tuple[int, float]]] = {}  # events whose put is not answered yet

    def answered(self, revision: int, asked: float, now: float) -> None:
        self._puts[revision] = (asked, now)
        for watches, at in self._early.pop(revision, ()):
            self._note(watches, at, asked, now)

    def told(self, told: Told, now: float) -> None:
        watches, revisions = told
        self.events += watches * len(revisions)
        for revision in revisions:
            put = self._puts.get(revision)
            if put is None:
                self._early.setdefault(revision, []).append((watches, now))
            else:
                self._note(watches, now, put[0], put[1])

    def _note(self, watches: int, at: float, asked: float, answered: float) -> None:
        self.after_asking.latencies += [at - asked] * watches
        self.after_answer.latencies += [max(0.0, at - answered)] * watches


class Watchers:
    """Streams and connections; a context manager: entered, all are connected.

    Whoever drives it calls `turn` again and again.
    """

    def __init__(self, plan: Plan, streams: int, told: Callable[[Told, float], object]) -> None:
        self.plan = plan
        self.streams = [Stream(number) for number in range(streams)]
        self.connections = [Connection(number) for number in range(plan.conns)]
        self.lines = Lines(plan.endpoints, plan.curves)
        self._streams = {stream.name: stream for stream in self.streams}
        self._connections = {connection.name: connection for connection in self.connections}
        self._told = told
        self._tick_at = 0.0
        self._heard_at = 0.0

    def __enter__(self) -> Self:
        try:
            self.lines.connect([*self._streams, *self._connections], self.plan.dial_timeout)
            now = self._heard_at = time.monotonic()
            for connection in self.connections:
                connection.session.connected(0, milliseconds(now))
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Streams say that they go: a member would take those without a word for there, and quiet, for a minute."""
        for stream in self.streams:
            if stream.begun:
                self.lines.send(stream.name, FAREWELL)
        self.lines.close(FAREWELL_MS)

    def begin(self, stream: Stream, watches: Sequence[m.Watch]) -> None:
        for first in range(0, len(watches), WATCHES_PER_MESSAGE):
            part = watches[first : first + WATCHES_PER_MESSAGE]
            self.lines.send(stream.name, stream.begin(part, time.monotonic()))

    def turn(self, wake_s: float = TICK_S) -> tuple[list[Stream], list[Ticket]]:
        """Send, wait until something comes (so long at most), and take it: streams that heard, and what was answered.

        Raises ZkvError when a watch is cancelled, or nothing came for STALL_S though it was waited for.
        """
        lines = self.lines
        for connection in self.connections:
            for _, data in connection.session.outgoing(milliseconds(time.monotonic())):
                lines.send(connection.name, data)
        come = lines.wait(max(1, milliseconds(min(wake_s, TICK_S))))
        now = time.monotonic()
        heard: dict[bytes, Stream] = {}
        spoken_to: dict[bytes, Connection] = {}
        for name, data in come:
            self._heard_at = now
            if name in self._connections:
                spoken_to[name] = self._connections[name]
                spoken_to[name].session.received(0, data, milliseconds(now))
                continue
            stream = heard[name] = self._streams[name]
            try:
                told = stream.received(data)
            except (TypeError, ValueError, LookupError) as error:
                raise CorruptionError(f"no watch answers: {type(error).__name__}") from None
            for each in told:
                self._told(each, now)
        for stream in heard.values():
            self._say(stream, now)
        if now >= self._tick_at:
            self._tick(now)
            spoken_to = self._connections
        news = [ticket for each in spoken_to.values() for ticket in each.session.news() if isinstance(ticket, Ticket)]
        return [*heard.values()], news

    def _tick(self, now: float) -> None:
        self._tick_at = now + TICK_S
        for connection in self.connections:
            connection.session.tick(milliseconds(now))
        for stream in self.streams:
            self._say(stream, now)
        if now - self._heard_at > STALL_S:
            raise StreamLost("events were to come, and did not")

    def _say(self, stream: Stream, now: float) -> None:
        data = stream.due(now)
        if data is not None:
            self.lines.send(stream.name, data)


class Putting:
    """Puts that `clients` make one after the other, over all connections, at a rate."""

    def __init__(self, watchers: Watchers, keys: Sequence[bytes], value: bytes, arrivals: Arrivals) -> None:
        plan = watchers.plan
        self.results = Results()
        self._watchers = watchers
        self._keys = keys
        self._value = value
        self._arrivals = arrivals
        self._pace = Pace(plan.rate, 2)  # the loop looks up too late for a bucket of one
        self._idle = deque(
            watchers.connections[client % plan.conns] for client in range(plan.clients)
        )  # each client's connection, while it has nothing outstanding
        self.asked = 0

    def begin(self) -> None:
        self._pace.begin(time.monotonic())

    def ask(self, wanted: int) -> None:
        """Let idle clients put, `wanted` at most, as far as total and rate allow."""
        now = time.monotonic()
        count = self._pace.allowed(min(wanted, len(self._idle), self._watchers.plan.total - self.asked), now)
        for _ in range(count):
            connection = self._idle.popleft()
            put = m.Put(self._keys[self.asked % len(self._keys)], self._value)
            connection.session.submit(put, FOREVER, (now, connection))
            self.asked += 1
        self._pace.spend(count)

    def answered(self, tickets: Sequence[Ticket]) -> None:
        """Raises ZkvError when a put has failed: its events will never come."""
        now = time.monotonic()
        for ticket in tickets:
            if ticket.error:
                raise ticket.error
            asked: float
            connection: Connection
            asked, connection = ticket.context  # type: ignore[misc] # as `ask` made it
            self._idle.append(connection)
            self.results.latencies.append(now - asked)
            self._arrivals.answered(ticket.revision, asked, now)
