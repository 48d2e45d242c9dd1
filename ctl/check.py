"""`zkv check perf` and `check datascale`: etcd's loads and its verdicts, so that known figures can be compared."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from zkv.client.ops import prefix_end
from zkv.ctl.bench import plan_of
from zkv.ctl.bench_engine import Engine
from zkv.ctl.bench_plan import Workload, collecting_seldom
from zkv.ctl.bench_report import report
from zkv.ctl.command import Call, Command
from zkv.ctl.connection import answer_of
from zkv.ctl.go_text import quote
from zkv.ctl.options import EXIT_BAD_FEATURE, EXIT_ERROR, EXIT_INVALID_INPUT, CommandError, Flag, switch
from zkv.ctl.progress import Progress
from zkv.errors import ZkvError
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zkv.ctl.bench_plan import Plan
    from zkv.ctl.bench_report import Results

MEBIBYTE = 1 << 20
PERF_KEY_BYTES = 256
PERF_VALUE_BYTES = 1024
THROUGHPUT_SHARE = 0.9
"""Of the load's rate that must have been reached."""
SLOWEST_S = 0.5
STDDEV_S = 0.1
BURST_S = 0.1
"""It is the cluster that is judged: what this process was late with, because others were busy, is made up for."""
CLEANUP_NS = 60_000_000_000
"""A delete of a million keys takes longer than a command has."""


class Perf(NamedTuple):
    """So many writes a second, by so many clients, for so long."""

    rate: int
    clients: int
    seconds: int = 60


class Scale(NamedTuple):
    """So many keys of 1024 bytes, by so many clients."""

    keys: int
    clients: int
    bytes: int = 1024


PERF = {"s": Perf(150, 50), "m": Perf(1_000, 200), "l": Perf(8_000, 500), "xl": Perf(15_000, 1_000)}
SCALE = {"s": Scale(10_000, 50), "m": Scale(100_000, 200), "l": Scale(1_000_000, 500), "xl": Scale(3_000_000, 1_000)}
LOADS = {
    "s": "s", "small": "s", "m": "m", "medium": "m", "l": "l", "large": "l", "xl": "xl", "xLarge": "xl",
}  # fmt: skip


class Puts(Workload):
    """Each under a key of its own below `prefix`: chance bytes, as etcd's."""

    def __init__(self, prefix: bytes, key_bytes: int, value: bytes) -> None:
        self._prefix = prefix
        self._key_bytes = key_bytes
        self._value = value

    def __call__(self, index: int) -> m.Put:  # noqa: ARG002 - no key comes twice
        return m.Put(self._prefix + os.urandom(self._key_bytes), self._value)


def _load_of(call: Call) -> str:
    load = LOADS.get(call.values.text("load"))
    if load is None:
        raise CommandError(f"unknown load option {call.values.text('load')}", EXIT_BAD_FEATURE)
    return load


@collecting_seldom()
def _perf(call: Call) -> int:
    load = PERF[_load_of(call)]
    prefix = os.fsencode(call.values.text("prefix"))
    _refuse_keys(call, prefix, "'")
    plan = plan_of(
        call.values, clients=load.clients, conns=load.clients, total=load.rate * load.seconds, rate=load.rate
    )._replace(seconds=load.seconds, burst_s=BURST_S, credentials=call.credentials())
    with Progress(load.seconds, "s") as bar:
        began = time.monotonic()
        results = _run(
            call, prefix, plan, Puts(prefix, PERF_KEY_BYTES, bytes(PERF_VALUE_BYTES)),
            progress=lambda _: bar.show(min(load.seconds, int(time.monotonic() - began))),
        )  # fmt: skip
    return _judge(call, load, results)


def _judge(call: Call, load: Perf, results: Results) -> int:
    """The exit code. The words are etcdctl's, some of whose failures do not say so."""
    found = report(results)
    lines, well = _failures(results), not results.errors
    writes = int(found.requests_per_second) + 1
    if found.requests_per_second / load.rate <= THROUGHPUT_SHARE:
        lines.append(f"FAIL: Throughput too low: {writes} writes/s")
        well = False
    else:
        lines.append(f"PASS: Throughput is {writes} writes/s")
    for value, bound, fine, bad in (
        (found.slowest, SLOWEST_S, "PASS: Slowest request took", "Slowest request took too long:"),
        (found.stddev, STDDEV_S, "PASS: Stddev is", "Stddev too high:"),
    ):
        well = well and value <= bound
        lines.append(f"{fine if value <= bound else bad} {value:.6f}s")
    lines.append("PASS" if well else "FAIL")
    call.out.write("".join(f"{line}\n" for line in lines).encode())
    return 0 if well else EXIT_ERROR


def _failures(results: Results) -> list[str]:
    if not results.errors:
        return []
    return ["FAIL: too many errors", *(f"FAIL: ERROR({text}) -> {count}" for text, count in results.errors.items())]


@collecting_seldom()
def _datascale(call: Call) -> int:
    load = SCALE[_load_of(call)]
    prefix = os.fsencode(call.values.text("prefix"))
    _refuse_keys(call, prefix, "")
    before = _memory(call, "before")
    call.out.write(
        f"Start data scale check for work load [{load.keys} key-value pairs, {load.bytes} bytes per key-value, "
        f"{load.clients} concurrent clients].\n".encode()
    )
    call.out.flush()
    plan = plan_of(call.values, clients=load.clients, conns=load.clients, total=load.keys)
    plan = plan._replace(credentials=call.credentials())
    after: list[int] = []
    with Progress(load.keys, "key") as bar:
        workload = Puts(prefix, load.bytes // 2, bytes(load.bytes - load.bytes // 2))
        results = _run(
            call, prefix, plan, workload, progress=bar.show, then=lambda: after.append(_memory(call, "after"))
        )
    failures = _failures(results)
    used = (after[0] - before) / MEBIBYTE
    lines = failures or [f"PASS: Approximate system memory used : {used:.2f} MB."]
    call.out.write("".join(f"{line}\n" for line in lines).encode())
    return EXIT_ERROR if failures else 0


def _refuse_keys(call: Call, prefix: bytes, quotes: str) -> None:
    """A load must have its prefix for itself, for it is deleted in the end. Raises CommandError, ZkvError."""
    if not prefix:
        raise CommandError("--prefix must not be empty: all keys below it are deleted in the end", EXIT_INVALID_INPUT)
    with call.connect() as connection:
        _, answer = connection.ask(m.Range(prefix, prefix_end(prefix), limit=1, count_only=True), m.RangeAnswer)
    if answer.count:
        hint = f"{quotes}zkv del --prefix {os.fsdecode(prefix)}{quotes}"
        raise CommandError(f"prefix {quote(prefix)} has keys. Delete with {hint} first", EXIT_INVALID_INPUT)


def _memory(call: Call, when: str) -> int:
    """Bytes of the first endpoint's processes, what they share counted once. Raises CommandError."""
    with call.connect(call.values.list("endpoints")[:1]) as connection:
        (reply,) = connection.ask_each([m.Look()])
    try:
        _, answer = answer_of(reply.ticket, m.LookAnswer)
    except ZkvError as error:
        raise CommandError(f"Could not read the memory of the member {when} the put operations: {error}") from None
    for actor, values in answer.told:
        for name, _, value in values:
            if (actor, name) == ("processes", "memory") and isinstance(value, int):
                return value
    raise CommandError(f"FAIL: Could not read process_resident_memory_bytes {when} the put operations.")


def _run(
    call: Call,
    prefix: bytes,
    plan: Plan,
    workload: Workload,
    *,
    progress: Callable[[int], object],
    then: Callable[[], object] = int,
) -> Results:
    """Put the load on, then remove it again, however it ended. `then` is called in between."""
    try:
        with Engine(plan, workload) as engine:
            (results,) = engine.run(progress)
        then()
    finally:
        revision = _clean(call, prefix)
    if call.values.is_on("auto-compact"):
        call.out.write(f"Compacting with revision {revision}\n".encode())
        with call.connect(patience_ms=CLEANUP_NS // 1_000_000) as connection:
            connection.ask(m.Compact(revision), m.CompactAnswer)
        call.out.write(f"Compacted with revision {revision}\n".encode())
    if call.values.is_on("auto-defrag"):
        _defragment(call, call.values.list("endpoints"))
    return results


def _clean(call: Call, prefix: bytes) -> int:
    """The revision of the delete. Raises ZkvError."""
    with call.connect(patience_ms=CLEANUP_NS // 1_000_000) as connection:
        header, _ = connection.ask(m.DeleteRange(prefix, prefix_end(prefix)), m.DeleteRangeAnswer)
    return header.revision


def _defragment(call: Call, endpoints: Sequence[str]) -> None:
    for endpoint in endpoints:
        call.out.write(f"Defragmenting {quote(os.fsencode(endpoint))}\n".encode())
        with call.connect([endpoint], patience_ms=CLEANUP_NS // 1_000_000) as connection:
            (reply,) = connection.ask_each([m.Defragment()])
        answer_of(reply.ticket, m.DefragmentAnswer)
        call.out.write(f"Defragmented {quote(os.fsencode(endpoint))}\n".encode())


def _flags(name: str) -> tuple[Flag, ...]:
    return (
        switch("auto-compact", "Compact storage with last revision after test is finished."),
        switch("auto-defrag", "Defragment storage after test is finished."),
        Flag(
            "load", "text", "s",
            f"The {name} check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge)",
            values=("s", "m", "l", "xl"),
        ),
        Flag("prefix", "text", f"/zkv-check-{name}/", f"The prefix for writing the {name} check's keys."),
    )  # fmt: skip


CHECK_PERF = Command(
    usage="[options]",
    summary="Check the performance of the zkv cluster",
    description="""\
Writes at a steady rate for a minute: 150, 1,000, 8,000 or 15,000 times a second, 1 kB each, by 50 to 1,000 clients.
Fails when the cluster cannot keep up, a request takes more than half a second, or latencies vary by more than 100 ms.
What was written is deleted in the end, also after Ctrl-C.""",
    example="zkv check perf --load m",
    run=_perf,
    flags=_flags("perf"),
)

CHECK_DATASCALE = Command(
    usage="[options]",
    summary="Check the memory usage of holding data for different workloads on a given server endpoint",
    description="""\
Writes 10,000 to 3,000,000 pairs of 1 kB, and tells how much more memory the member then takes. If multiple endpoints
are provided, that of the first one is told. What was written is deleted in the end.""",
    example="zkv check datascale --load s",
    run=_datascale,
    flags=_flags("datascale"),
)
