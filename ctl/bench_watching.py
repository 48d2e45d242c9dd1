"""`zkv benchmark watch`, `watch-latency` and `watch-get`: what it takes to tell many watchers."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from zkv.client.ticket import FOREVER
from zkv.ctl.bench_loads import keys_of, no_arguments, positive, value_of
from zkv.ctl.bench_report import Results, Section
from zkv.ctl.bench_watchers import TICK_S, Arrivals, Putting, Stream, Watchers
from zkv.ctl.progress import Progress
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zkv.ctl.bench import Job

GOT_KEY = b"abc"
TOLD_KEY = b"watchkey"
VALUE = b"data"


def watch(job: Job) -> list[Section]:
    """Create watchers, then put what they watch until all have been told. Raises CommandError, ZkvError."""
    no_arguments("watch", job.arguments)
    values = job.values
    keys = keys_of(values, sequential=values.is_on("sequential-keys"))
    watched = [keys(number) for number in range(positive(values, "watched-key-total"))]
    streams, each = positive(values, "streams"), positive(values, "watch-per-stream")
    plan = job.plan(total=positive(values, "put-total"), rate=values.number("put-rate"))
    watches = [
        [m.Watch(0, watched[(at * streams + stream) % len(watched)]) for at in range(each)] for stream in range(streams)
    ]
    watchers_of = Counter(watch.key for row in watches for watch in row)
    expected = sum(watchers_of[watched[number % len(watched)]] for number in range(plan.total))
    arrivals = Arrivals()
    with Watchers(plan, streams, arrivals.told) as watchers:
        with Progress(streams * each, "watch") as progress:
            created = create(watchers, watches, progress.show)
        putting = Putting(watchers, watched, VALUE, arrivals)
        with Progress(expected, "event") as progress:
            puts_told(watchers, putting, arrivals, expected, progress.show)
    return [
        Section("create", "Watch creation summary:", created),
        Section("events", "Watch events received summary:", arrivals.after_asking),
    ]


def watch_latency(job: Job) -> list[Section]:
    """One put after the other, each when all watchers have been told of the last. Raises CommandError, ZkvError."""
    no_arguments("watch-latency", job.arguments)
    values = job.values
    key = random.randbytes(positive(values, "key-size"))  # noqa: S311 - no secret
    value = value_of(values)
    plan = job.plan(total=positive(values, "total"), rate=values.number("put-rate"))
    arrivals = Arrivals()
    expected = plan.total * plan.clients
    dealt = [[m.Watch(0, key)] * count for count in shares(plan.clients, plan.conns)]
    members = len(plan.endpoints)  # one after the other is asked to put: it makes a difference which of them leads
    with Watchers(plan._replace(clients=members, conns=members), plan.conns, arrivals.told) as watchers:
        create(watchers, dealt, lambda _: None)
        putting = Putting(watchers, [key], value, arrivals)
        with Progress(expected, "event") as progress:
            puts_told(watchers, putting, arrivals, expected, progress.show, in_step=plan.clients)
    return [
        Section("put", "Put summary:", putting.results),
        Section("watch", "Watch events summary, after the put's answer:", arrivals.after_answer),
        Section("put_to_watch", "Watch events summary, after asking for the put:", arrivals.after_asking),
    ]


def watch_get(job: Job) -> list[Section]:
    """Read while watchers are told what was before them. Raises CommandError, ZkvError."""
    no_arguments("watch-get", job.arguments)
    values = job.values
    events, streams, count = [positive(values, name) for name in ("events", "streams", "watchers")]
    plan = job.plan(total=1)._replace(clients=1, conns=1)
    arrivals = Arrivals()
    with Watchers(plan, streams, arrivals.told) as watchers, Progress(count * events, "event") as progress:
        past = m.Watch(0, TOLD_KEY, start_revision=put_all(watchers, TOLD_KEY, events))
        for stream, own in zip(watchers.streams, shares(count, streams), strict=True):
            watchers.begin(stream, [past] * own)
        get = m.Range(GOT_KEY, serializable=True)
        results = gets_while_told(watchers, arrivals, count * events, get, progress.show)
    return [Section("get", "Get during watch summary:", results)]


def shares(total: int, parts: int) -> list[int]:
    """`total` in parts that differ by one at most."""
    return [total // parts + (at < total % parts) for at in range(parts)]


def create(watchers: Watchers, watches: Sequence[Sequence[m.Watch]], progress: Callable[[int], object]) -> Results:
    """Begin the watches of each stream, each when the one before it has been created; how long each took."""
    results = Results()
    begin = time.monotonic()
    asked: dict[bytes, float] = {}
    waiting = {stream.name: deque(each) for stream, each in zip(watchers.streams, watches, strict=True)}

    def ask(stream: Stream) -> None:
        if waiting[stream.name]:
            asked[stream.name] = time.monotonic()
            watchers.begin(stream, [waiting[stream.name].popleft()])

    for stream in watchers.streams:
        ask(stream)
    total = sum(map(len, watches))
    while len(results.latencies) < total:
        heard, _ = watchers.turn()
        now = time.monotonic()
        for stream in heard:
            if stream.created == stream.begun:
                results.latencies.append(now - asked[stream.name])
                ask(stream)
        progress(len(results.latencies))
    results.seconds = time.monotonic() - begin
    return results


def puts_told(
    watchers: Watchers,
    putting: Putting,
    arrivals: Arrivals,
    expected: int,
    progress: Callable[[int], object],
    *,
    in_step: int = 0,
) -> None:
    """Put until all `expected` events came. `in_step`: events of a put that the next one waits for (0: it does not)."""
    begin = time.monotonic()
    putting.begin()
    rate = watchers.plan.rate
    wake = min(TICK_S, 1 / rate / 4) if rate else TICK_S
    while arrivals.events < expected or putting.results.count < watchers.plan.total:
        if not in_step:
            putting.ask(watchers.plan.clients)
        elif putting.results.count == putting.asked and arrivals.events == in_step * putting.asked:
            putting.ask(1)
        _, tickets = watchers.turn(wake)
        putting.answered(tickets)
        progress(arrivals.events)
    seconds = time.monotonic() - begin
    for results in (putting.results, arrivals.after_asking, arrivals.after_answer):
        results.seconds = seconds


def gets_while_told(
    watchers: Watchers, arrivals: Arrivals, expected: int, get: m.Range, progress: Callable[[int], object]
) -> Results:
    """Get, one after the other, until `expected` events were told."""
    results = Results()
    begin = asked = time.monotonic()
    session = watchers.connections[0].session
    session.submit(get, FOREVER)
    while arrivals.events < expected:
        _, tickets = watchers.turn()
        for ticket in tickets:
            now = time.monotonic()
            if ticket.error:
                results.fail(ticket.error)
            else:
                results.latencies.append(now - asked)
            asked = now
            session.submit(get, FOREVER)
        progress(arrivals.events)
    results.seconds = time.monotonic() - begin
    return results


def put_all(watchers: Watchers, key: bytes, count: int) -> int:
    """Put a key `count` times; the revision of the first. Raises ZkvError."""
    first = 0
    session = watchers.connections[0].session
    for number in range(count):
        ticket = session.submit(m.Put(key, b"%d" % number), FOREVER)
        while not ticket.done:
            watchers.turn()
        if ticket.error:
            raise ticket.error
        first = first or ticket.revision
    return first
