"""`zkv benchmark mvcc put`: what the store costs by itself, without client, network, log and quorum.

A log entry of one request after the other is applied, as the storage process applies them, on RocksDB in a temporary
directory; a request takes as long as until it is written there. Now and then what was written is made durable, which
counts for the rate, as it does in etcd's tool.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from zkv.ctl.bench_loads import no_arguments, positive, value_of
from zkv.ctl.bench_report import Results, Section
from zkv.ctl.progress import Progress
from zkv.limits import Limits
from zkv.wire import messages as m
from zkv.wire.codec import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from zkv.core.mvcc.machine import StateMachine
    from zkv.ctl.bench import Job
    from zkv.ctl.options import Values

SHOWN_EVERY = 1000
MEMBER = 1


def entry(index: int, requests: Iterable[m.Put | m.Txn]) -> m.Entry:
    """Requests in a message, in a frame, in an entry of the log."""
    asked = [
        (number, int(m.Op.PUT if isinstance(each, m.Put) else m.Op.TXN), each) for number, each in enumerate(requests)
    ]
    message = pack((m.PROTOCOL_VERSION, m.ClientKind.REQUESTS, b"", 0, asked))
    frame = pack(m.Frame(MEMBER, 1, ((index, message),)))
    return m.Entry(index, 1, m.EntryKind.BATCH, index, pack((frame,)))


def entries(values: Values) -> Iterator[m.Entry]:
    """What is to be applied: an entry for each put, or (--txn) for each transaction of --txn-ops puts."""
    key_size, value = positive(values, "key-size"), value_of(values, "value-size")
    ops = positive(values, "txn-ops")
    for index in range(1, positive(values, "total") + 1):
        if values.is_on("txn"):
            puts = tuple((int(m.Op.PUT), m.Put(key, value)) for key in _keys(ops, key_size))
            yield entry(index, [m.Txn((), puts, ())])
        else:
            yield entry(index, [m.Put(key, value) for key in _keys(1, key_size)])


def _keys(count: int, size: int) -> list[bytes]:
    """Of chance bytes, no two alike."""
    found: set[bytes] = set()
    while len(found) < count:
        found.add(os.urandom(size))
    return list(found)


def apply(
    machine: StateMachine,
    log: Iterable[m.Entry],
    *,
    weight: int,
    unflushed_max: int,
    flush_s: float,
    progress: Callable[[int], object],
) -> Results:
    """Apply the entries one by one, and flush when `unflushed_max` of them, or `flush_s` seconds, have gone by.

    Each holds `weight` puts; latencies are of a put.
    """
    clock = time.perf_counter
    results = Results()
    begin = flushed_at = clock()
    unflushed = 0
    for each in log:
        at = clock()
        machine.apply((each,), 1)
        now = clock()
        results.latencies += [(now - at) / weight] * weight
        unflushed += 1
        if unflushed >= unflushed_max or now - flushed_at >= flush_s:
            machine.engine.flush()
            unflushed, flushed_at = 0, clock()
        if each.index % SHOWN_EVERY == 0:
            progress(each.index)
    machine.engine.flush()
    results.seconds = clock() - begin
    return results


def mvcc_put(job: Job) -> list[Section]:
    """Raises CommandError."""
    from zkv.actors.rocks_engine import RocksEngine
    from zkv.core.mvcc.machine import StateMachine

    no_arguments("mvcc put", job.arguments)
    values = job.values
    log = list(entries(values))
    with tempfile.TemporaryDirectory(prefix="zkv-mvcc-") as directory, Progress(len(log)) as progress:
        engine = RocksEngine(Path(directory) / "db")
        try:
            machine = StateMachine(engine, Limits(), cluster_id=1, member_id=MEMBER)
            results = apply(
                machine,
                log,
                weight=values.number("txn-ops") if values.is_on("txn") else 1,
                unflushed_max=positive(values, "batch-limit"),
                flush_s=positive(values, "batch-interval") / 1000,
                progress=progress.show,
            )
            assert machine.revision == 1 + len(log)
        finally:
            engine.close()
    return [Section("put", "", results)]
