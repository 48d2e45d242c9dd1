"""The load generator: many clients of one outstanding request each, in one process, at a few microseconds a request.

A *client* here is what it is in etcd's tool: it asks, waits for the answer, and asks again. Clients share
*connections*, dealt round robin over them as they are over the endpoints; a connection has its own TCP stream, CURVE
handshake and session (so that retries are safe, as for any user of the library). Requests of one connection that
become due together travel together, as calls made at once do in `zkv.Client`.

All connections hang on one ROUTER socket, one routing id each: polling a hundred sockets would cost more than the
requests do. The loop is the house's: drain what has come, step the pure sessions, send what they give.

The load shares its machine with whatever it measures more often than not, so what it costs is part of the result.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

import zmq

from zkv.client.session import Session
from zkv.client.ticket import FOREVER
from zkv.ctl.bench_report import Results
from zkv.errors import ConnectionFailed
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.client.transport import Curve

DRAIN_MESSAGES = 256
TICK_S = 0.05  # how often retries are looked after, and progress told
RATE_BURST_S = 0.01  # a rate's bucket holds this much: what a stall keeps from being sent is not made up for


class Workload(Protocol):
    """What to ask: the request number `index`, from 0."""

    def __call__(self, index: int) -> m.Request: ...


class Plan(NamedTuple):
    """One run. `endpoints` with their scheme; `curve` for those that are curve://."""

    endpoints: tuple[str, ...]
    curve: Curve | None
    conns: int
    clients: int
    total: int
    rate: float = 0.0
    """Requests a second at most, over all clients; 0: no limit."""
    dial_timeout: float = 5.0
    """Seconds until a connection that does not come up ends the run."""
    sample: bool = False
    """Note when each request began."""
    first: int = 0
    """The index of the first request: one process of several has its own share of them."""

    def share(self, part: int, parts: int) -> Plan:
        """What one of `parts` processes does. Connections keep their endpoints: they are dealt out again."""

        def cut(count: int) -> tuple[int, int]:
            return count * part // parts, count * (part + 1) // parts

        (conn, conn_end), (client, client_end), (first, end) = map(cut, (self.conns, self.clients, self.total))
        turned = conn % len(self.endpoints)
        return self._replace(
            endpoints=self.endpoints[turned:] + self.endpoints[:turned],
            conns=min(conn_end - conn, client_end - client),
            clients=client_end - client,
            total=end - first,
            rate=self.rate / parts,
            first=self.first + first,
        )


class Connection:
    __slots__ = ("idle", "routing_id", "session")

    def __init__(self, number: int) -> None:
        self.routing_id = b"c%d" % number
        self.session = Session(1, os.urandom(16), number)
        self.idle = 0


class Engine:
    """A context manager: entered it is connected. `run` may be called once."""

    def __init__(self, plan: Plan, workload: Workload) -> None:
        assert 0 < plan.conns <= plan.clients
        self.plan = plan
        self.workload = workload
        self.results = Results()
        self._connections = [Connection(number) for number in range(plan.conns)]
        self._by_id = {connection.routing_id: connection for connection in self._connections}
        for client in range(plan.clients):
            self._connections[client % plan.conns].idle += 1
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._tokens = 1.0
        self._tokens_at = 0.0
        self._asked = 0
        self._done = 0

    def __enter__(self) -> Self:
        try:
            self._connect()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close(linger=0)
        self._context.term()

    def _connect(self) -> None:
        """Open all connections, and wait until each has had an answer.

        Raises ConnectionFailed when one has had none within the dial timeout.
        """
        socket, plan = self._socket, self.plan
        socket.sndhwm = socket.rcvhwm = 0  # bounded by one request per client
        for number, connection in enumerate(self._connections):
            endpoint = plan.endpoints[number % len(plan.endpoints)]
            if endpoint.startswith("curve://"):
                assert plan.curve is not None
                socket.curve_serverkey = plan.curve.server
                socket.curve_publickey, socket.curve_secretkey = plan.curve.public, plan.curve.secret
            socket.setsockopt(zmq.CONNECT_ROUTING_ID, connection.routing_id)
            socket.connect("tcp://" + endpoint.partition("://")[2])
            socket.send_multipart(
                (connection.routing_id, codec.pack((m.PROTOCOL_VERSION, m.ClientKind.PING, *m.Ping(number))))
            )
        silent = dict(self._by_id)
        deadline = time.monotonic() + plan.dial_timeout
        while silent:
            left = deadline - time.monotonic()
            if left <= 0 or not socket.poll(int(left * 1000) + 1):
                number = self._connections.index(next(iter(silent.values())))
                raise ConnectionFailed(plan.endpoints[number % len(plan.endpoints)])
            routing_id, _ = socket.recv_multipart()
            if routing_id in silent:
                silent.pop(routing_id).session.connected(0, _ms(time.monotonic()))

    def run(self, progress: Callable[[int], object]) -> Results:
        """Send the load and wait for all its answers. `progress` is told now and then how many there are."""
        clock, wall = time.monotonic, time.time
        begin = clock()
        skew = wall() - begin
        self._tokens_at = begin
        self._refill(self._connections, begin)
        tick = RATE_BURST_S / 2 if self.plan.rate else TICK_S
        tick_at = begin + tick
        while self._done < self.plan.total:
            self._socket.poll(max(1, int((tick_at - clock()) * 1000)))
            touched = self._drain(_ms(clock()))
            now = clock()
            self._take(touched, now, skew)
            if now >= tick_at:
                tick_at = now + tick
                for connection in self._connections:
                    connection.session.tick(_ms(now))
                self._take(self._connections, now, skew)
                self._refill(self._connections, now)
                progress(self._done)
            else:
                self._refill(touched, now)
        self.results.seconds = clock() - begin
        progress(self._done)
        return self.results

    def _drain(self, now: int) -> list[Connection]:
        """Hand what has come to its sessions, and tell which these were."""
        touched: dict[bytes, Connection] = {}
        receive = self._socket.recv_multipart
        by_id = self._by_id
        try:
            for _ in range(DRAIN_MESSAGES):
                routing_id, data = receive(zmq.NOBLOCK)
                connection = touched[routing_id] = by_id[routing_id]
                connection.session.received(0, data, now)
        except zmq.Again:
            pass
        return list(touched.values())

    def _take(self, connections: list[Connection], now: float, skew: float) -> None:
        """Note the answers; their clients are idle again."""
        results = self.results
        add = results.latencies.append
        for connection in connections:
            for ticket in connection.session.news():
                connection.idle += 1
                self._done += 1
                error = ticket.error
                if error is None:
                    begun: float = ticket.context  # type: ignore[assignment] # what `_refill` gave it
                    add(now - begun)
                    if self.plan.sample:
                        results.starts.append(begun + skew)
                else:
                    results.errors[str(error)] = results.errors.get(str(error), 0) + 1

    def _refill(self, connections: list[Connection], now: float) -> None:
        """Let idle clients ask again, as far as the total and the rate allow, and send."""
        allowed = left = self._allowed(now)
        workload, index = self.workload, self.plan.first + self._asked
        send, now_ms = self._socket.send_multipart, _ms(now)
        for connection in connections:
            session = connection.session
            count = min(connection.idle, left)
            for _ in range(count):
                session.submit(workload(index), FOREVER, now)
                index += 1
            connection.idle -= count
            left -= count
            for _, data in session.outgoing(now_ms):
                send((connection.routing_id, data))
        self._tokens -= allowed - left
        self._asked = index - self.plan.first

    def _allowed(self, now: float) -> int:
        """How many requests may be sent now: what is left of the total, and what the rate's bucket holds."""
        left = self.plan.total - self._asked
        if not self.plan.rate:
            return left
        rate = self.plan.rate
        self._tokens = min(max(1.0, rate * RATE_BURST_S), self._tokens + (now - self._tokens_at) * rate)
        self._tokens_at = now
        return min(left, int(self._tokens))


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
