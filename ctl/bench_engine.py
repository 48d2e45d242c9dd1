"""The load generator: many clients of one outstanding request each, in one process, at a few microseconds a request.

A *client* here is what it is in etcd's tool: it asks, waits for the answer, and asks again. Clients share
*connections*, dealt round robin over them as they are over the endpoints; a connection has its own TCP stream, CURVE
handshake and session (so that retries are safe, as for any user of the library). Requests of one connection that
become due together travel together, as calls made at once do in `zkv.Client`.

The loop is the house's: drain what has come, step the pure sessions, send what they give.

The load shares its machine with whatever it measures more often than not, so what it costs is part of the result.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from zkv.client.ticket import FOREVER, Ticket
from zkv.ctl.bench_lines import Connection, Lines, Pace, milliseconds
from zkv.ctl.bench_plan import RATE_BURST_S
from zkv.ctl.bench_report import Results
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zkv.ctl.bench_plan import Plan, Workload

TICK_S = 0.05  # how often retries are looked after, and progress told
PREPARATION_MS = 30_000  # what a workload asks first is to be answered within this


class Engine:
    """A context manager: entered it is connected. `run` may be called once."""

    def __init__(self, plan: Plan, workload: Workload) -> None:
        assert 0 < plan.conns <= plan.clients
        self.plan = plan
        self.workload = workload
        self.results = [Results() for _ in workload.parts]
        self._connections = [Connection(number, plan.credentials) for number in range(plan.conns)]
        self._by_name = {connection.name: connection for connection in self._connections}
        for client in range(plan.clients):
            self._connections[client % plan.conns].idle += 1
        self._lines = Lines(plan.endpoints, plan.curves)
        self._pace = Pace(plan.rate, plan.rate * plan.burst_s)
        self._total = plan.total  # or what was asked when the time was over
        self._asked = 0
        self._done = 0

    def __enter__(self) -> Self:
        """Raises ConnectionFailed when a connection does not come up, and ZkvError when preparing fails."""
        try:
            self._lines.connect([*self._by_name], self.plan.dial_timeout)
            for connection in self._connections:
                connection.session.connected(0, milliseconds(time.monotonic()))
            self._log_in()
            self._prepare()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._lines.close()

    def _log_in(self) -> None:
        """Once: a password is checked slowly, on purpose. The token serves all. Raises ZkvError."""
        first, *others = self._connections
        if first.login is None:
            return
        deadline = milliseconds(time.monotonic()) + PREPARATION_MS
        ticket = first.session.submit(m.MemberList(linearizable=False), deadline)
        self._answer([ticket])
        if first.login.token is None and ticket.error is not None:
            raise ticket.error
        for other in others:
            assert other.login is not None
            other.login.token = first.login.token

    def _prepare(self) -> None:
        now = milliseconds(time.monotonic())
        tickets = [
            self._connections[number % self.plan.conns].session.submit(request, now + PREPARATION_MS)
            for number, request in enumerate(self.workload.preparation(self.plan.clients))
        ]
        self._answer(tickets)
        for ticket in tickets:
            if ticket.error:
                raise ticket.error
        self.workload.prepared([ticket.answer for ticket in tickets])

    def _answer(self, tickets: Sequence[Ticket]) -> None:
        """Until all of them are."""
        while not all(ticket.done for ticket in tickets):
            now = milliseconds(time.monotonic())
            for connection in self._connections:
                connection.session.tick(now)
                self._send(connection, now)
            come = self._lines.wait(milliseconds(TICK_S))
            for connection in self._hand_on(come, milliseconds(time.monotonic())):
                connection.session.news()

    def run(self, progress: Callable[[int], object]) -> list[Results]:
        """Send the load and wait for all its answers; what came of each of the workload's parts.

        `progress` is told now and then how many there are.
        """
        clock, wall = time.monotonic, time.time
        begin = clock()
        skew = wall() - begin
        self._pace.begin(begin)
        self._refill(self._connections, begin)
        tick = RATE_BURST_S / 2 if self.plan.rate else TICK_S
        tick_at = begin + tick
        while self._done < self._total:
            come = self._lines.wait(max(1, milliseconds(tick_at - clock())))
            touched = self._hand_on(come, milliseconds(clock()))
            now = clock()
            self._take(touched, now, skew)
            if now >= tick_at:
                tick_at = now + tick
                if self.plan.seconds and now - begin >= self.plan.seconds:
                    self._total = self._asked
                for connection in self._connections:
                    connection.session.tick(milliseconds(now))
                self._take(self._connections, now, skew)
                self._refill(self._connections, now)
                progress(self._done)
            else:
                self._refill(touched, now)
        for results in self.results:
            results.seconds = clock() - begin
        progress(self._done)
        return self.results

    def _hand_on(self, come: list[tuple[bytes, bytes]], now: int) -> list[Connection]:
        """To the sessions: which these were."""
        touched: dict[bytes, Connection] = {}
        by_name = self._by_name
        for name, data in come:
            connection = touched[name] = by_name[name]
            connection.session.received(0, data, now)
        return list(touched.values())

    def _take(self, connections: list[Connection], now: float, skew: float) -> None:
        """Note the answers; their clients are idle again."""
        results, sample = self.results[0], self.plan.sample
        part_of = self.workload.part_of if len(self.results) > 1 else None
        for connection in connections:
            news = connection.session.news()
            connection.idle += len(news)
            self._done += len(news)
            for ticket in news:
                assert isinstance(ticket, Ticket)  # a load's session has no watches
                if part_of:
                    results = self.results[part_of(ticket.request)]
                if ticket.error is None:
                    begun: float = ticket.context  # type: ignore[assignment] # what `_refill` gave it
                    results.latencies.append(now - begun)
                    if sample:
                        results.starts.append(begun + skew)
                else:
                    results.fail(ticket.error)

    def _refill(self, connections: list[Connection], now: float) -> None:
        """Let idle clients ask again, as far as the total and the rate allow, and send."""
        allowed = left = self._pace.allowed(self._total - self._asked, now)
        workload, index = self.workload, self.plan.first + self._asked
        begun: object = now  # one for all of them
        now_ms = milliseconds(now)
        for connection in connections:
            session = connection.session
            count = min(connection.idle, left)
            for _ in range(count):
                session.submit(workload(index), FOREVER, begun)
                index += 1
            connection.idle -= count
            left -= count
            self._send(connection, now_ms)
        self._pace.spend(allowed - left)
        self._asked = index - self.plan.first

    def _send(self, connection: Connection, now: int) -> None:
        for _, data in connection.session.outgoing(now):
            self._lines.send(connection.name, data)
