"""Driving etcd with HTTP/2 frames of our own (http2_line.py): calls, keep-alive streams, watch streams.

The clients are what they are in etcd's tool: each has one request outstanding. Two things are kinder to etcd than its
own tool, which opens a stream for every keep-alive (KeepAliveOnce) and takes every event apart: here a client has one
stream for all its keep-alives, as etcd's own clients have in earnest, and of events only those are looked into that are
looked at for their latency (one message in LOOKED_AT).
"""

from __future__ import annotations

import time
from collections import deque
from itertools import repeat
from typing import TYPE_CHECKING, Protocol

from tests.bench import etcd_calls as calls
from tests.bench import measure
from tests.bench.http2_line import Line, Lines, LoadError, Unpacker, dial
from tests.bench.protobuf import fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.bench.measure import Load, Measure

STALL_S = 30.0
LOOKED_AT = 97
LEASE_TTL_S = 100
WATCHED = b"0" * 32
PUT_VALUE = b"data"
EVENT_BYTES = len(WATCHED) + len(PUT_VALUE) + 14  # no event of these is smaller
PER_STREAM_MAX = 300  # requests to watch that fit into one frame
ONE_EVENT_BYTES = 20 + 2 * EVENT_BYTES  # no message of two events is: of such a length, all hold as many


def run(load: Load, endpoints: Sequence[str]) -> Measure:
    """Run one load to its end.

    Raises RuntimeError when not every request succeeded.
    """
    drive = {"lease-keepalive": keep_alive, "watch": watch, "watch-latency": watch_latency}.get(load.kind, unary)
    try:
        return drive(load, endpoints)
    except LoadError as error:
        raise RuntimeError(f"{load.name}: {error}") from None


class _Progressing(Protocol):
    @property
    def done(self) -> int: ...


def _turns(lines: Lines, what: _Progressing, total: int) -> None:
    """Turn the lines until `what.done` has come to `total`. Raises LoadError when nothing moves any more."""
    seen, moved_at = -1, time.monotonic()
    while what.done < total:
        lines.turn(1.0)
        if what.done != seen:
            seen, moved_at = what.done, time.monotonic()
        elif time.monotonic() - moved_at > STALL_S:
            raise LoadError(f"{what.done} of {total} came, and then no more")


class Asking:
    """Unary calls of `path`: `bodies` are gone through once.

    Whoever was answered asks again, if `chained`. With `want_revisions`, `revisions` tells of each revision when the
    put that made it was asked for. `asked_at`: when each body left, in their order.
    """

    def __init__(
        self, path: bytes, bodies: Iterable[bytes], *, chained: bool = True, want_revisions: bool = False
    ) -> None:
        self.latencies: list[float] = []
        self.revisions: dict[int, float] = {}
        self.asked_at: list[float] = []
        self._path = path
        self._chained = chained
        self._want_revisions = want_revisions
        self._bodies = iter(bodies)
        self._begun: dict[tuple[int, int], float] = {}
        self._lines: list[Line] = []

    @property
    def done(self) -> int:
        return len(self.latencies)

    def join(self, lines: Lines, endpoint: str) -> None:
        number = len(self._lines)
        line = Line(
            dial(endpoint),
            endpoint,
            lambda stream, payload: self._answered(number, stream, payload),
            lambda stream, had_data: self._ended(number, stream, had_data=had_data),
        )
        self._lines.append(line)
        lines.add(line)

    def begin(self, clients: int) -> None:
        for client in range(clients):
            self.ask(client % len(self._lines))

    def ask(self, number: int = 0) -> None:
        body = next(self._bodies, None)
        if body is not None:
            now = time.monotonic()
            self.asked_at.append(now)
            self._begun[number, self._lines[number].call(self._path, body)] = now

    def _answered(self, number: int, stream: int, payload: memoryview) -> None:
        if self._want_revisions:
            self.revisions[calls.header_revision(payload[5:])] = self._begun[number, stream]

    def _ended(self, number: int, stream: int, *, had_data: bool) -> None:
        if not had_data:
            raise LoadError("a call failed")
        self.latencies.append(time.monotonic() - self._begun.pop((number, stream)))
        if self._chained:
            self.ask(number)


def unary(load: Load, endpoints: Sequence[str]) -> Measure:
    path, body = calls.unary(load.kind, b"bench")
    with Lines() as lines:
        asking = Asking(path, repeat(body, load.total))
        for number in range(load.conns):
            asking.join(lines, endpoints[number % len(endpoints)])
        begin = time.monotonic()
        asking.begin(load.clients)
        _turns(lines, asking, load.total)
        return measure.of(asking.latencies, time.monotonic() - begin)


def ask_all(endpoints: Sequence[str], path: bytes, bodies: Sequence[bytes], clients: int) -> Asking:
    """Make all these calls, so many at once. Raises LoadError."""
    with Lines() as lines:
        asking = Asking(path, bodies)
        for endpoint in endpoints:
            asking.join(lines, endpoint)
        asking.begin(clients)
        _turns(lines, asking, len(bodies))
        return asking


class KeepingAlive:
    """A stream for each client, with one keep-alive outstanding."""

    def __init__(self, total: int) -> None:
        self.latencies: list[float] = []
        self._left = total
        self._clients: dict[tuple[int, int], bytes] = {}  # by line and stream: what it says
        self._begun: dict[tuple[int, int], float] = {}
        self._lines: list[Line] = []

    @property
    def done(self) -> int:
        return len(self.latencies)

    def join(self, lines: Lines, endpoint: str) -> None:
        number = len(self._lines)
        line = Line(
            dial(endpoint),
            endpoint,
            lambda stream, payload: self._heard((number, stream), payload),
            lambda *_: _ended_early(),
        )
        self._lines.append(line)
        lines.add(line)

    def begin(self, leases: Sequence[int]) -> None:
        for client, lease in enumerate(leases):
            number = client % len(self._lines)
            body = calls.keep_alive_body(lease)
            place = number, self._lines[number].call(calls.LEASE_KEEP_ALIVE, body, end=False)
            self._clients[place] = body
            self._begun[place] = time.monotonic()
            self._left -= 1

    def _heard(self, place: tuple[int, int], payload: memoryview) -> None:
        if 5 + int.from_bytes(payload[1:5], "big") != len(payload):
            raise LoadError("an answer in pieces")
        if payload[-2:] != b"\x18%c" % LEASE_TTL_S:  # the last field, TTL
            raise LoadError(f"a lease with {calls.keep_alive_ttl(payload[5:])} s left")
        now = time.monotonic()
        self.latencies.append(now - self._begun[place])
        if self._left > 0:
            self._left -= 1
            number, stream = place
            self._lines[number].say(stream, self._clients[place])
            self._begun[place] = now


def _ended_early() -> None:
    raise LoadError("a stream has ended")


def keep_alive(load: Load, endpoints: Sequence[str]) -> Measure:
    leases = range(1, load.clients + 1)
    ask_all(endpoints, calls.LEASE_GRANT, [calls.lease_grant_body(LEASE_TTL_S, lease) for lease in leases], 10)
    with Lines() as lines:
        keeping = KeepingAlive(load.total)
        for number in range(load.conns):
            keeping.join(lines, endpoints[number % len(endpoints)])
        begin = time.monotonic()
        keeping.begin(leases)
        _turns(lines, keeping, load.total)
        return measure.of(keeping.latencies, time.monotonic() - begin)


class Watching:
    """Watch streams, and the events that came. `looked_at`: (revision, when) of some of them."""

    def __init__(self, every: int) -> None:
        self.created = 0
        self.events = 0
        self.looked_at: list[tuple[int, float]] = []
        self._every = every
        self._messages = 0
        self._by_length: dict[int, int] = {}
        self._unpackers: dict[tuple[int, int], Unpacker] = {}
        self._lines: list[Line] = []
        self._waiting: list[deque[int]] = []  # of each line: streams to begin, by how many watches
        self._uncreated: list[int] = []

    @property
    def done(self) -> int:
        return self.created + self.events

    def join(self, lines: Lines, endpoint: str) -> None:
        number = len(self._lines)
        line = Line(
            dial(endpoint),
            endpoint,
            lambda stream, payload: self._heard((number, stream), payload),
            lambda *_: _ended_early(),
        )
        self._lines.append(line)
        self._waiting.append(deque())
        self._uncreated.append(0)
        lines.add(line)

    def begin(self, streams: int, per_stream: int) -> None:
        """Each line begins its streams one by one: what is not yet created stays below the server's window."""
        assert per_stream <= PER_STREAM_MAX
        for at in range(streams):
            self._waiting[at % len(self._lines)].append(per_stream)
        for number in range(len(self._lines)):
            self._begin_next(number)

    def _begin_next(self, number: int) -> None:
        if self._waiting[number]:
            count = self._uncreated[number] = self._waiting[number].popleft()
            stream = self._lines[number].call(calls.WATCH, calls.watch_body(WATCHED) * count, end=False)
            self._unpackers[number, stream] = Unpacker()

    def _heard(self, place: tuple[int, int], payload: memoryview) -> None:
        for answer in self._unpackers[place].messages(payload):
            self._messages += 1
            length = len(answer)
            told = self._by_length.get(length)
            if told is None:
                told = self._count(answer)
                if length < ONE_EVENT_BYTES:
                    self._by_length[length] = told
            if not told:
                self._other(answer, place[0])
                continue
            self.events += told
            if self._messages % self._every == 0:
                now = time.monotonic()
                self.looked_at += [(revision, now) for revision in calls.revisions_told(answer)]

    def _count(self, answer: memoryview) -> int:
        return sum(number == calls.EVENTS for number, _ in fields(answer))

    def _other(self, answer: memoryview, number: int) -> None:
        if calls.is_cancelled(answer) or not calls.is_created(answer):
            raise LoadError("a watch was cancelled")
        self.created += 1
        self._uncreated[number] -= 1
        if not self._uncreated[number]:
            self._begin_next(number)


def watch(load: Load, endpoints: Sequence[str]) -> Measure:
    watchers = load.streams * load.per_stream
    with Lines() as lines:
        watching = Watching(LOOKED_AT)
        for number in range(min(load.conns, load.streams)):
            watching.join(lines, endpoints[number % len(endpoints)])
        watching.begin(load.streams, load.per_stream)
        _turns(lines, watching, watchers)
        putting = _putting(load.total, chained=True)
        for number in range(min(load.conns, load.clients)):
            putting.join(lines, endpoints[number % len(endpoints)])
        begin = time.monotonic()
        putting.begin(load.clients)
        _turns(lines, watching, watchers * (1 + load.total))
        seconds = time.monotonic() - begin
        _turns(lines, putting, load.total)
    if watching.events != watchers * load.total:
        raise LoadError(f"{watching.events} events, of {watchers * load.total}")
    latencies = [at - putting.revisions[revision] for revision, at in watching.looked_at]
    return measure.of(latencies, seconds)._replace(rate=watching.events / seconds)


def watch_latency(load: Load, endpoints: Sequence[str]) -> Measure:
    """One put after the other, at a rate, each when all watchers have been told of the last, by each member in turn."""
    with Lines() as lines:
        watching = Watching(1)
        for number in range(load.conns):
            watching.join(lines, endpoints[number % len(endpoints)])
        watching.begin(load.clients, 1)
        _turns(lines, watching, load.clients)
        putting = _putting(load.total, chained=False)
        for endpoint in endpoints:
            putting.join(lines, endpoint)
        begin = next_at = time.monotonic()
        for number in range(load.total):
            while (now := time.monotonic()) < next_at:
                lines.turn(next_at - now)
            next_at = max(now, next_at) + 1 / load.rate
            putting.ask(number % len(endpoints))
            _turns(lines, watching, load.clients * (2 + number))
            _turns(lines, putting, number + 1)
        seconds = time.monotonic() - begin
    latencies = [at - putting.revisions[revision] for revision, at in watching.looked_at]
    return measure.of(latencies, seconds)


def _putting(total: int, *, chained: bool) -> Asking:
    body = calls.put_body(WATCHED, PUT_VALUE)
    return Asking(calls.PUT, repeat(body, total), chained=chained, want_revisions=True)
