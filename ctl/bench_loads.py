"""The workloads of `zkv benchmark` whose requests are answered one by one: put, range, txn-put, txn-mixed and
lease-keepalive.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, ClassVar

from zkv.ctl.bench_plan import Workload
from zkv.ctl.options import EXIT_BAD_ARGS, EXIT_BAD_FEATURE, CommandError, Values
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Sequence

KEEPALIVE_TTL_S = 100
"""As etcd's tool has it."""


def positive(values: Values, name: str) -> int:
    """Raises CommandError."""
    number = values.number(name)
    if number <= 0:
        raise CommandError(f"expected positive --{name}, got ({number})", EXIT_BAD_ARGS)
    return number


class Keys:
    """Keys of `size` digits out of a space of `count`: each in turn, or any at random."""

    def __init__(self, *, size: int, count: int, sequential: bool) -> None:
        self.size = size
        self.count = count
        self.sequential = sequential

    def __call__(self, index: int) -> bytes:
        number = index % self.count if self.sequential else random.randrange(self.count)  # noqa: S311 - no secret
        return b"%0*d" % (self.size, number)


def keys_of(values: Values, *, sequential: bool) -> Keys:
    """From --key-size and --key-space-size. Raises CommandError when there are not as many keys of that size."""
    size, count = positive(values, "key-size"), positive(values, "key-space-size")
    if count > 10**size:
        raise CommandError(f"keys of {size} digits cannot make up a space of {count}: raise --key-size", EXIT_BAD_ARGS)
    return Keys(size=size, count=count, sequential=sequential)


def value_of(values: Values, name: str = "val-size") -> bytes:
    """Chance bytes. Raises CommandError."""
    if values.number(name) < 0:
        raise CommandError(f"--{name} must not be negative", EXIT_BAD_ARGS)
    return os.urandom(values.number(name))


def is_serializable(values: Values) -> bool:
    """What --consistency says. Raises CommandError."""
    consistency = values.text("consistency")
    if consistency not in {"l", "s"}:
        raise CommandError(f'unknown consistency flag "{consistency}"', EXIT_BAD_FEATURE)
    return consistency == "s"


class PutLoad(Workload):
    """Puts of one value."""

    def __init__(self, keys: Keys, value: bytes) -> None:
        self.keys = keys
        self.value = value

    def __call__(self, index: int) -> m.Put:
        return m.Put(self.keys(index), self.value)


class RangeLoad(Workload):
    """The same range, again and again."""

    def __init__(self, request: m.Range) -> None:
        self.request = request

    def __call__(self, index: int) -> m.Range:  # noqa: ARG002 - each is like the last
        return self.request


class TxnPutLoad(Workload):
    """Transactions of `ops` puts each, which go through their keys in turn."""

    def __init__(self, keys: Keys, value: bytes, ops: int) -> None:
        self.keys = keys
        self.value = value
        self.ops = ops

    def __call__(self, index: int) -> m.Txn:
        first = index * self.ops
        puts = tuple((int(m.Op.PUT), m.Put(self.keys(first + at), self.value)) for at in range(self.ops))
        return m.Txn((), puts, ())


class TxnMixedLoad(Workload):
    """Transactions of one range or of one put each; `reads`: the share of ranges."""

    parts: ClassVar[tuple[str, ...]] = ("read", "write")

    def __init__(self, keys: Keys, value: bytes, reading: m.Range, reads: float) -> None:
        self.keys = keys
        self.value = value
        self.reading = m.Txn((), ((int(m.Op.RANGE), reading),), ())
        self.reads = reads

    def __call__(self, index: int) -> m.Txn:
        if random.random() < self.reads:  # noqa: S311 - no secret
            return self.reading
        return m.Txn((), ((int(m.Op.PUT), m.Put(self.keys(index), self.value)),), ())

    def part_of(self, request: m.Request) -> int:
        return 0 if request is self.reading else 1


class KeepAliveLoad(Workload):
    """Keep-alives of as many leases as there are clients, each in its turn."""

    def __init__(self) -> None:
        self.leases: list[int] = []

    def preparation(self, clients: int) -> list[m.LeaseGrant]:
        return [m.LeaseGrant(KEEPALIVE_TTL_S)] * clients

    def prepared(self, answers: Sequence[object]) -> None:
        for answer in answers:
            assert isinstance(answer, m.LeaseGrantAnswer)
            self.leases.append(answer.id)

    def __call__(self, index: int) -> m.LeaseKeepAlive:
        return m.LeaseKeepAlive(self.leases[index % len(self.leases)])


def put_load(values: Values, arguments: Sequence[bytes] = ()) -> PutLoad:
    """Raises CommandError, as do those below."""
    no_arguments("put", arguments)
    return PutLoad(keys_of(values, sequential=values.is_on("sequential-keys")), value_of(values))


def range_load(values: Values, arguments: Sequence[bytes]) -> RangeLoad:
    if not 1 <= len(arguments) <= 2:
        raise CommandError("benchmark range needs a key, and may be given a range's end", EXIT_BAD_ARGS)
    key, range_end = (*arguments, b"")[:2]
    return RangeLoad(m.Range(key, range_end, serializable=is_serializable(values)))


def txn_put_load(values: Values, arguments: Sequence[bytes] = ()) -> TxnPutLoad:
    no_arguments("txn-put", arguments)
    keys, ops = keys_of(values, sequential=True), positive(values, "txn-ops")
    if ops > keys.count:
        raise CommandError(
            f"expected --txn-ops no larger than --key-space-size, got txn-ops({ops}) key-space-size({keys.count})",
            EXIT_BAD_ARGS,
        )
    return TxnPutLoad(keys, value_of(values), ops)


def txn_mixed_load(values: Values, arguments: Sequence[bytes] = ()) -> TxnMixedLoad:
    """Reads are of everything from the first key on (to --end-key), --limit keys at most."""
    no_arguments("txn-mixed", arguments)
    try:
        ratio = float(values.text("rw-ratio"))
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio < float("inf"):
        raise CommandError(
            f"expected a number, not negative, for --rw-ratio, got ({values.text('rw-ratio')})", EXIT_BAD_ARGS
        )
    if values.number("limit") < 0:
        raise CommandError("--limit must not be negative", EXIT_BAD_ARGS)
    end = os.fsencode(values.text("end-key")) or b"\0"
    reading = m.Range(b"\0", end, limit=values.number("limit"), serializable=is_serializable(values))
    return TxnMixedLoad(keys_of(values, sequential=True), value_of(values), reading, ratio / (1 + ratio))


def keep_alive_load(arguments: Sequence[bytes] = ()) -> KeepAliveLoad:
    no_arguments("lease-keepalive", arguments)
    return KeepAliveLoad()


def no_arguments(kind: str, arguments: Sequence[bytes]) -> None:
    """Raises CommandError where there are any."""
    if arguments:
        raise CommandError(f"benchmark {kind} makes up its own keys and takes no arguments", EXIT_BAD_ARGS)
