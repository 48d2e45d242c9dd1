"""`zkv benchmark put` and `zkv benchmark range`: how fast is this cluster, from here?

Flags and summary are those of etcd's benchmark tool, so that a known command line gives a figure to compare. The load
itself is bench_engine.py's, the summary bench_report.py's; here words become a plan.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from typing import TYPE_CHECKING, Self

from zkv.ctl.command import Call, Command
from zkv.ctl.options import EXIT_BAD_ARGS, EXIT_BAD_FEATURE, CommandError, Flag, Values, switch
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zkv.ctl.bench_engine import Plan, Workload

SECOND_NS = 1_000_000_000

FLAGS = (
    Flag("clients", "number", "1", "Total number of clients, each with one request outstanding"),
    Flag("conns", "number", "1", "Total number of connections, which the clients share"),
    Flag("consistency", "text", "l", "range: Linearizable(l) or Serializable(s)", values=("l", "s")),
    Flag("key-size", "number", "8", "put: Key size"),
    Flag("key-space-size", "number", "1", "put: Maximum possible keys"),
    switch("precise", "use full floating point precision"),
    Flag("processes", "number", "1", "Total number of processes the load comes from"),
    Flag("rate", "number", "0", "Maximum requests per second (0 is no limit)"),
    switch("sample", "'true' to sample requests for every second"),
    switch("sequential-keys", "put: Use sequential keys"),
    switch("target-leader", "connect only to the leader node"),
    Flag("total", "number", "10000", "Total number of requests"),
    Flag("val-size", "number", "8", "put: Value size"),
)
FOREIGN_FLAGS = {
    "put": {"consistency"},
    "range": {"key-size", "key-space-size", "sequential-keys", "val-size"},
}
"""Of each kind of load, the flags that are another's."""


class PutLoad:
    """Puts of one value under keys of digits: each in turn, or any at random, of a space of `keys`."""

    def __init__(self, *, key_size: int, keys: int, value: bytes, sequential: bool) -> None:
        self.key_size = key_size
        self.keys = keys
        self.value = value
        self.sequential = sequential

    def __call__(self, index: int) -> m.Put:
        number = index % self.keys if self.sequential else random.randrange(self.keys)  # noqa: S311 - no secret
        return m.Put(b"%0*d" % (self.key_size, number), self.value)


class RangeLoad:
    """The same range, again and again."""

    def __init__(self, request: m.Range) -> None:
        self.request = request

    def __call__(self, index: int) -> m.Range:  # noqa: ARG002 - each is like the last
        return self.request


def put_load(values: Values) -> PutLoad:
    """Raises CommandError when there are not as many keys of that size."""
    key_size, keys = _positive(values, "key-size"), _positive(values, "key-space-size")
    if keys > 10**key_size:
        raise CommandError(
            f"keys of {key_size} digits cannot make up a space of {keys}: raise --key-size", EXIT_BAD_ARGS
        )
    if values.number("val-size") < 0:
        raise CommandError("--val-size must not be negative", EXIT_BAD_ARGS)
    return PutLoad(
        key_size=key_size,
        keys=keys,
        value=os.urandom(values.number("val-size")),
        sequential=values.is_on("sequential-keys"),
    )


def range_load(values: Values, arguments: Sequence[bytes]) -> RangeLoad:
    """Raises CommandError."""
    if not 1 <= len(arguments) <= 2:
        raise CommandError("benchmark range needs a key, and may be given a range's end", EXIT_BAD_ARGS)
    consistency = values.text("consistency")
    if consistency not in {"l", "s"}:
        raise CommandError(f'unknown consistency flag "{consistency}"', EXIT_BAD_FEATURE)
    key, range_end = (*arguments, b"")[:2]
    return RangeLoad(m.Range(key, range_end, serializable=consistency == "s"))


def make_plan(values: Values) -> Plan:
    """Raises CommandError, and ConfigError for an endpoint or a key file that is none."""
    from zkv.client.transport import load_curve, normalize
    from zkv.ctl.bench_engine import Plan

    clients = _positive(values, "clients")
    endpoints = tuple(normalize(endpoint) for endpoint in values.list("endpoints"))
    server_key = values.text("curve-server-key")
    if any(endpoint.startswith("curve://") for endpoint in endpoints) and not server_key:
        raise CommandError("curve:// endpoints need --curve-server-key", EXIT_BAD_ARGS)
    return Plan(
        endpoints=endpoints,
        curve=load_curve(server_key, values.text("curve-key") or None) if server_key else None,
        conns=min(_positive(values, "conns"), clients),
        clients=clients,
        total=_positive(values, "total"),
        rate=max(0, values.number("rate")),
        dial_timeout=values.number("dial-timeout") / SECOND_NS,
        sample=values.is_on("sample"),
    )


def _positive(values: Values, name: str) -> int:
    number = values.number(name)
    if number <= 0:
        raise CommandError(f"expected positive --{name}, got ({number})", EXIT_BAD_ARGS)
    return number


def leader(call: Call) -> str:
    """The endpoint whose member leads. Raises CommandError when none of them does, and ZkvError."""
    from zkv.ctl.connection import answer_of

    endpoints = call.values.list("endpoints")
    with call.connect() as connection:
        for endpoint, reply in zip(endpoints, connection.ask_each([m.Status()] * len(endpoints)), strict=True):
            header, status = answer_of(reply.ticket, m.StatusAnswer)
            if status.leader == header.member_id:
                return endpoint
    raise CommandError("failed to find a leader endpoint")


def workload(values: Values, words: Sequence[bytes]) -> Workload:
    """What to ask, from the words behind `benchmark`. Raises CommandError."""
    kind = os.fsdecode(words[0]) if words else ""
    if kind not in FOREIGN_FLAGS:
        raise CommandError("benchmark needs to know of what: put, or range <key>", EXIT_BAD_ARGS)
    foreign = sorted(values.given & FOREIGN_FLAGS[kind])
    if foreign:
        raise CommandError(f"benchmark {kind} knows no --{foreign[0]}", EXIT_BAD_ARGS)
    if kind == "range":
        return range_load(values, words[1:])
    if len(words) > 1:
        raise CommandError("benchmark put makes up its own keys and takes no arguments", EXIT_BAD_ARGS)
    return put_load(values)


def _run(call: Call) -> int:
    values = call.values
    work = workload(values, [call.argument(at) for at in range(len(call.arguments))])
    plan = make_plan(values)
    processes = _positive(values, "processes")
    gc.enable()  # the command line does without; a load may run for hours
    from zkv.client.transport import normalize
    from zkv.ctl import bench_processes
    from zkv.ctl.bench_report import as_json, as_text, report

    if values.is_on("target-leader"):
        plan = plan._replace(endpoints=(normalize(leader(call)),))
    with _Progress(plan.total) as progress:
        results = bench_processes.run(plan, work, processes, progress.show)
    found = report(results)
    as_wanted = (
        as_json(found) if values.text("write-out") == "json" else as_text(found, precise=values.is_on("precise"))
    )
    call.out.write(as_wanted.encode() + b"\n")
    return 1 if results.errors else 0


class _Progress:
    """A bar on standard error, where that is a terminal."""

    def __init__(self, total: int) -> None:
        self._show: Callable[[int], object] = int
        self._close: Callable[[], object] = int
        if sys.stderr.isatty():
            from tqdm import tqdm

            bar = tqdm(total=total, unit="req", file=sys.stderr, dynamic_ncols=True, leave=False)
            self._show = lambda done: bar.update(done - bar.n)
            self._close = bar.close

    def show(self, done: int) -> None:
        self._show(done)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()


benchmark = Command(
    usage="[options] put, or: zkv benchmark [options] range <key> [range_end]",
    summary="Measures how fast a cluster puts and reads keys",
    description="""\
Puts a load on the cluster and tells how it took it: rate, latencies, errors. A client asks, waits for the answer, and
asks again. Connections are dealt round over the endpoints, clients over the connections.
put writes one value again and again, by default under one key; see --key-space-size.""",
    example="""\
zkv benchmark --conns 100 --clients 1000 put --total 100000 --val-size 256
zkv benchmark put --sequential-keys --key-space-size 100000 --total 100000 --rate 5000
zkv benchmark range /config/motd --consistency s --total 100000 -w json""",
    flags=FLAGS,
    words=("put", "range"),
    run=_run,
)
