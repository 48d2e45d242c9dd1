"""`zkv benchmark`: how fast is this cluster, from here?

Kinds, flags and summaries are those of etcd's benchmark tool, so that a known command line gives a figure to compare.
Here words become a plan. What is asked says bench_loads.py, how bench_engine.py; bench_watching.py, bench_stm.py and
bench_mvcc.py have engines of their own; the summary is bench_report.py's.

Flags and kind may come in any order, as one is used to from etcd's tool. So the command line is read by a table of
the flags of all kinds, and then each kind gets its own, with its own defaults (`KINDS`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from zkv.ctl.command import Call, Command
from zkv.ctl.options import EXIT_BAD_ARGS, GLOBAL_FLAGS, CommandError, Flag, Values, parse, switch
from zkv.ctl.progress import Progress
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zkv.ctl.bench_plan import Plan, Workload
    from zkv.ctl.bench_report import Section

SECOND_NS = 1_000_000_000

KEY_SIZE = Flag("key-size", "number", "8", "Key size")
KEY_SPACE = Flag("key-space-size", "number", "1", "Maximum possible keys")
VALUE_SIZE = Flag("val-size", "number", "8", "Value size")
SEQUENTIAL = switch("sequential-keys", "Use sequential keys")
CONSISTENCY = Flag("consistency", "text", "l", "Linearizable(l) or Serializable(s)", values=("l", "s"))
TOTAL = Flag("total", "number", "10000", "Total number of requests")
RATE = Flag("rate", "number", "0", "Maximum requests per second (0 is no limit)")
PROCESSES = Flag("processes", "number", "1", "Total number of processes the load comes from")
TXN_OPS = Flag("txn-ops", "number", "1", "Number of puts per txn")
STREAMS = Flag("streams", "number", "10", "Total watch streams, each a connection of its own")
PUT_RATE = Flag("put-rate", "number", "0", "Number of keys to put per second (0 is no limit)")

SUMMARY_FLAGS = (
    switch("precise", "use full floating point precision"),
    switch("sample", "'true' to sample requests for every second"),
)
CLUSTER_FLAGS = (
    Flag("clients", "number", "1", "Total number of clients, each with one request outstanding"),
    Flag("conns", "number", "1", "Total number of connections, which the clients share"),
    switch("target-leader", "connect only to the leader node"),
)


class Kind(NamedTuple):
    """A benchmark: its flags beside those of all, what it does; `run` measures and gives a report's sections."""

    flags: tuple[Flag, ...]
    run: Callable[[Job], Sequence[Section]]
    cluster: bool = True
    """Whether it needs one: CLUSTER_FLAGS."""

    @property
    def all_flags(self) -> tuple[Flag, ...]:
        return (*self.flags, *SUMMARY_FLAGS, *(CLUSTER_FLAGS if self.cluster else ()))


class Job(NamedTuple):
    """One run: what was asked for, by the kind's own flags, and where progress and notes go."""

    kind: str
    values: Values
    arguments: tuple[bytes, ...]
    call: Call

    def plan(self, *, total: int, rate: int = 0) -> Plan:
        """Where, and how much. Raises CommandError, ConfigError, ZkvError."""
        plan = make_plan(self.values, total=total, rate=rate)._replace(credentials=self.call.credentials())
        if self.values.is_on("target-leader"):
            from zkv.client.transport import normalize

            plan = plan._replace(endpoints=(normalize(leader(self.call)),))
        return plan

    def note(self, text: str) -> None:
        """A line for people, before the summary."""
        if self.values.text("write-out") != "json":
            self.call.out.write(text.encode() + b"\n")


def _load(job: Job, load: Workload) -> list[Section]:
    """Run a load of requests that are answered one by one."""
    from zkv.ctl import bench_processes
    from zkv.ctl.bench_loads import positive
    from zkv.ctl.bench_report import Section

    values = job.values
    rate = values.number("rate") if "rate" in values else 0
    plan = job.plan(total=positive(values, "total"), rate=rate)
    with Progress(plan.total) as progress:
        results = bench_processes.run(plan, load, positive(values, "processes"), progress.show)
    return [Section(part, "", result) for part, result in zip(load.parts, results, strict=True)]


def _put(job: Job) -> list[Section]:
    from zkv.ctl.bench_loads import put_load

    return _load(job, put_load(job.values, job.arguments))


def _range(job: Job) -> list[Section]:
    from zkv.ctl.bench_loads import range_load

    return _load(job, range_load(job.values, job.arguments))


def _txn_put(job: Job) -> list[Section]:
    from zkv.ctl.bench_loads import txn_put_load

    return _load(job, txn_put_load(job.values, job.arguments))


def _txn_mixed(job: Job) -> list[Section]:
    from zkv.ctl.bench_loads import txn_mixed_load

    load = txn_mixed_load(job.values, job.arguments)
    job.note(f"bench with {'serializable' if job.values.text('consistency') == 's' else 'linearizable'} range")
    titles = {"read": "Total Read Ops", "write": "Total Write Ops"}
    return [
        section._replace(title=f"{titles[section.name]}: {section.results.count}\nDetails:")
        for section in _load(job, load)
    ]


def _keep_alive(job: Job) -> list[Section]:
    from zkv.ctl.bench_loads import keep_alive_load

    return _load(job, keep_alive_load(job.arguments))


def _watch(job: Job) -> list[Section]:
    from zkv.ctl.bench_watching import watch

    return watch(job)


def _watch_latency(job: Job) -> list[Section]:
    from zkv.ctl.bench_watching import watch_latency

    return watch_latency(job)


def _watch_get(job: Job) -> list[Section]:
    from zkv.ctl.bench_watching import watch_get

    return watch_get(job)


def _stm(job: Job) -> list[Section]:
    from zkv.ctl.bench_stm import stm

    return stm(job)


def _mvcc_put(job: Job) -> list[Section]:
    from zkv.ctl.bench_mvcc import mvcc_put

    return mvcc_put(job)


KINDS = {
    "put": Kind((KEY_SIZE, KEY_SPACE, PROCESSES, RATE, SEQUENTIAL, TOTAL, VALUE_SIZE), _put),
    "range": Kind((CONSISTENCY, PROCESSES, RATE, TOTAL), _range),
    "txn-put": Kind((KEY_SIZE, KEY_SPACE, PROCESSES, RATE, TOTAL, TXN_OPS, VALUE_SIZE), _txn_put),
    "txn-mixed": Kind(
        (
            CONSISTENCY,
            Flag("end-key", "text", "", "Where what is read ends (by default it does not)"),
            KEY_SIZE,
            KEY_SPACE,
            Flag("limit", "number", "1000", "Keys read at most (0 is no limit)"),
            PROCESSES,
            RATE,
            Flag("rw-ratio", "text", "1", "Read/write ops ratio"),
            TOTAL,
            VALUE_SIZE,
        ),
        _txn_mixed,
    ),
    "lease-keepalive": Kind((PROCESSES, TOTAL), _keep_alive),
    "watch": Kind(
        (
            KEY_SIZE._replace(default="32"),
            KEY_SPACE,
            PUT_RATE,
            Flag("put-total", "number", "1000", "Number of put requests"),
            SEQUENTIAL,
            STREAMS,
            Flag("watch-per-stream", "number", "100", "Total watchers per stream"),
            Flag("watched-key-total", "number", "1", "Total number of keys to be watched"),
        ),
        _watch,
    ),
    "watch-latency": Kind(
        (
            KEY_SIZE._replace(default="32"),
            PUT_RATE._replace(default="100"),
            TOTAL,
            VALUE_SIZE._replace(default="32"),
        ),
        _watch_latency,
    ),
    "watch-get": Kind(
        (
            Flag("events", "number", "8", "Number of events per watcher"),
            STREAMS._replace(default="1"),
            Flag("watchers", "number", "10000", "Total number of watchers"),
        ),
        _watch_get,
    ),
    "stm": Kind(
        (
            Flag(
                "isolation",
                "text",
                "r",
                "Read Committed (c), Repeatable Reads (r), Serializable (s), or Snapshot (ss)",
                values=("c", "r", "s", "ss"),
            ),
            Flag("keys", "number", "1", "Total unique keys accessible by the benchmark"),
            Flag("keys-per-txn", "number", "1", "Number of keys to access per transaction"),
            RATE,
            Flag(
                "stm-locker",
                "text",
                "stm",
                "Wrap STM transaction with a custom locking mechanism (stm, lock-client)",
                values=("stm", "lock-client"),
            ),
            TOTAL,
            Flag("txn-wr-percent", "number", "50", "Percentage of keys to overwrite per transaction"),
            VALUE_SIZE,
        ),
        _stm,
    ),
    "mvcc put": Kind(
        (
            Flag("batch-interval", "number", "100", "Interval of making durable what was put (milliseconds)"),
            Flag("batch-limit", "number", "10000", "A limit of puts not yet made durable"),
            KEY_SIZE._replace(default="64"),
            TOTAL._replace(default="100"),
            switch("txn", "put keys in transactions"),
            TXN_OPS,
            Flag("value-size", "number", "64", "Value size"),
        ),
        _mvcc_put,
        cluster=False,
    ),
}
"""By what stands behind `benchmark`. A flag of several kinds has the same meaning, but maybe another default."""


def all_kinds_flags() -> tuple[Flag, ...]:
    """One table of all flags, each saying whose it is and where its default differs."""
    owners: dict[str, list[tuple[str, Flag]]] = {}
    for name, kind in KINDS.items():
        for flag in kind.flags:
            owners.setdefault(flag.name, []).append((name, flag))
    flags = [*SUMMARY_FLAGS, *CLUSTER_FLAGS]
    for owned in owners.values():
        first = owned[0][1]
        others = [f"{name}: {flag.default}" for name, flag in owned if flag.default != first.default]
        about = f"{', '.join(name for name, _ in owned)}: {first.help}" + (f" ({', '.join(others)})" if others else "")
        flags.append(first._replace(help=about))
    return tuple(sorted(flags))


def kind_of(words: Sequence[str]) -> tuple[str, int]:
    """The kind that `words` begin with, and how many of them name it. Raises CommandError."""
    for count in (2, 1):
        name = " ".join(words[:count])
        if name in KINDS:
            return name, count
    raise CommandError(f"benchmark needs to know of what: {', '.join(KINDS)}", EXIT_BAD_ARGS)


def values_of(name: str, values: Values) -> Values:
    """The flags of a kind with its own defaults. Raises CommandError where one was given that is another's."""
    flags = (*KINDS[name].all_flags, *GLOBAL_FLAGS)
    foreign = sorted(values.given - {flag.name for flag in flags})
    if foreign:
        raise CommandError(f"benchmark {name} knows no --{foreign[0]}", EXIT_BAD_ARGS)
    own, _ = parse((), flags)
    return own.updated(values, [flag for flag in flags if flag in GLOBAL_FLAGS or flag.name in values.given])


def make_plan(values: Values, *, total: int, rate: int = 0) -> Plan:
    """Raises CommandError, and ConfigError for an endpoint or a key file that is none."""
    from zkv.ctl.bench_loads import positive

    clients = positive(values, "clients")
    plan = plan_of(values, clients=clients, conns=min(positive(values, "conns"), clients), total=total, rate=rate)
    return plan._replace(sample=values.is_on("sample"))


def plan_of(values: Values, *, clients: int, conns: int, total: int, rate: int = 0) -> Plan:
    """Raises as `make_plan` does."""
    from zkv.client.transport import curves_of, normalize
    from zkv.ctl.bench_plan import Plan
    from zkv.ctl.command import certificates

    files = certificates(values)
    scheme = "curve" if files.are_given else "tcp"
    endpoints = tuple(normalize(endpoint, scheme) for endpoint in values.list("endpoints"))
    server_key = values.text("curve-server-key")
    if any(endpoint.startswith("curve://") for endpoint in endpoints) and not (server_key or files.are_given):
        raise CommandError("curve:// endpoints need --cacert, or --curve-server-key", EXIT_BAD_ARGS)
    dial_timeout = values.number("dial-timeout") / SECOND_NS
    return Plan(
        endpoints=endpoints,
        curves=curves_of(endpoints, server_key, values.text("curve-key") or None, files, dial_timeout),
        conns=conns,
        clients=clients,
        total=total,
        rate=max(0, rate),
        dial_timeout=dial_timeout,
    )


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


def _run(call: Call) -> int:
    name, count = kind_of(call.arguments)
    values = values_of(name, call.values)
    arguments = tuple(os.fsencode(argument) for argument in call.arguments[count:])
    from zkv.ctl.bench_plan import collecting_seldom
    from zkv.ctl.bench_report import sections_as_json, sections_as_text

    with collecting_seldom():
        sections = KINDS[name].run(Job(name, values, arguments, call))
    if values.text("write-out") == "json":
        found = sections_as_json(sections)
    else:
        found = sections_as_text(sections, precise=values.is_on("precise"))
    call.out.write(found.encode() + b"\n")
    return 1 if any(section.results.errors for section in sections) else 0


benchmark = Command(
    usage="[options] <kind> [arguments]",
    summary="Measures how fast a cluster answers, and tells of changes",
    description="""\
Puts a load on the cluster and tells how it took it: rate, latencies, errors. A client asks, waits for the answer, and
asks again. Connections are dealt round over the endpoints, clients over the connections.
put             writes one value again and again, by default under one key; see --key-space-size
range KEY [END] reads the same keys again and again
txn-put         writes --txn-ops keys in each transaction
txn-mixed       transactions that read, or write, by chance: --rw-ratio
lease-keepalive keeps a lease for each client alive
watch           creates watchers, puts what they watch, and counts the events they are told; an event takes as long
                as from asking for the put until it came
watch-latency   puts at --put-rate, and tells how long after the put's answer (and, apart, after asking for the put)
                each client's watcher was told
watch-get       reads while watchers are told the past
stm             transactions with software transactional memory (see zkv.Client.stm)
mvcc put        the store alone, in this process, without a cluster""",
    example="""\
zkv benchmark --conns 100 --clients 1000 put --total 100000 --val-size 256
zkv benchmark put --sequential-keys --key-space-size 100000 --total 100000 --rate 5000
zkv benchmark range /config/motd --consistency s --total 100000 -w json
zkv benchmark --clients 100 --conns 10 lease-keepalive
zkv benchmark watch --streams 10 --watch-per-stream 100 --put-total 5000
zkv benchmark watch-latency --clients 10 --put-rate 100 --total 1000""",
    flags=all_kinds_flags(),
    words=tuple(dict.fromkeys(name.split()[0] for name in KINDS)),
    run=_run,
)
