"""`zkv make-mirror`: keys of one cluster are put into another, and followed there."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from zkv.ctl.command import SECOND_NS, Call, Command
from zkv.ctl.lasting import check_reader, met
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, Flag, switch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zkv.client.client import Client
    from zkv.wire.messages import TxnRequest

TELL_S = 30.0
LOOK_S = 1.0
TXN_BYTES = 512 << 10
AT_DESTINATION = {
    f"dest-{name}": name
    for name in ("cacert", "cert", "curve-key", "curve-server-key", "insecure-transport", "key", "password", "user")
}
"""Flags that say of the destination what a global one says of the source."""


class Renaming(NamedTuple):
    """Keys that begin with `prefix` begin with `other` there."""

    prefix: bytes
    other: bytes

    def __call__(self, key: bytes) -> bytes:
        return self.other + key[len(self.prefix) :]


class Mirror:
    """Applies to `there` what is, and what happens, at `here`. `total`: keys put and deleted."""

    def __init__(self, call: Call, here: Client, there: Client, renamed: Renaming, txn_ops: int) -> None:
        self.total = 0
        self._call = call
        self._here = here
        self._there = there
        self._renamed = renamed
        self._txn_ops = txn_ops
        self._tell_at = time.monotonic() + TELL_S

    def copy(self) -> int:
        """All keys; the revision they are of."""
        from zkv.client import ops

        with self._here.range(prefix=True, key=self._renamed.prefix) as found:
            self._apply(ops.put(self._renamed(kv.key), kv.value) for kv in found)
            return found.header.revision

    def follow(self, revision: int) -> None:
        """What happens from `revision` on, until that history is gone. Raises Compacted, BrokenPipeError."""
        from zkv.client import ops

        with self._here.watch(prefix=True, key=self._renamed.prefix, from_revision=revision) as watch:
            while True:
                response = watch.next(LOOK_S)
                if response is None:
                    check_reader(self._call.out)
                    self._tell()
                    continue
                self._apply(
                    ops.put(self._renamed(event.key), event.value)
                    if event.type == "PUT"
                    else ops.delete(self._renamed(event.key))
                    for event in response.events
                )

    def _apply(self, requests: Iterable[TxnRequest]) -> None:
        """In as few transactions as may be."""
        batch: list[TxnRequest] = []
        held = 0
        for request in requests:
            size = sum(len(field) for field in request if isinstance(field, bytes))
            if len(batch) == self._txn_ops or (batch and held + size > TXN_BYTES):
                self._commit(batch)
                batch, held = [], 0
            batch.append(request)
            held += size
        if batch:
            self._commit(batch)

    def _commit(self, batch: list[TxnRequest]) -> None:
        self._there.txn().then(*batch).commit()
        self.total += len(batch)
        self._tell()

    def _tell(self) -> None:
        if time.monotonic() >= self._tell_at:
            self._tell_at += TELL_S
            self._call.out.write(b"%d\n" % self.total)
            self._call.out.flush()


def _renaming(call: Call) -> Renaming:
    values = call.values
    prefix, other = (values.text(name).encode("utf-8", "surrogateescape") for name in ("prefix", "dest-prefix"))
    if values.is_on("no-dest-prefix"):
        if other:
            text = "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one."
            raise CommandError(text, EXIT_BAD_ARGS)
        return Renaming(prefix, b"")
    return Renaming(prefix, other or prefix)


def _destination(call: Call) -> Call:
    """The same call, at the destination. Raises CommandError."""
    values = call.values
    given = {name: AT_DESTINATION[name] for name in values.given if name in AT_DESTINATION}
    for name, known in given.items():
        if known not in values and known != "insecure-transport":
            raise CommandError(f"--{name} is of no use: zkv has no --{known} yet", EXIT_BAD_ARGS)
    endpoints = tuple(each for each in call.arguments[0].split(",") if each)
    return call.elsewhere(endpoints, {known: name for name, known in AT_DESTINATION.items() if known in values})


def _mirror(call: Call) -> int:
    if len(call.arguments) != 1:
        raise CommandError("make-mirror takes one destination argument", EXIT_BAD_ARGS)
    renamed = _renaming(call)
    txn_ops = call.values.number("max-txn-ops")
    if txn_ops < 1:
        raise CommandError("--max-txn-ops must be 1 or more", EXIT_BAD_ARGS)
    revision = call.values.number("rev")
    with ExitStack() as stack:
        here, _ = stack.enter_context(met(call))
        there, _ = stack.enter_context(met(_destination(call)))
        here.timeout = there.timeout = max(here.timeout, 60 * call.values.number("dial-timeout") / SECOND_NS)
        mirror = Mirror(call, here, there, renamed, txn_ops)
        if revision <= 1:
            revision = mirror.copy() + 1
        mirror.follow(revision)
    return 0


MAKE_MIRROR = Command(
    usage="[options] <destination>",
    summary="Makes a mirror at the destination zkv cluster",
    description="""\
Puts all keys into the destination, and then whatever happens to them, until it is stopped: each revision as one
transaction, if it has no more changes than --max-txn-ops. Keys that only the destination has are left alone. Leases are
not mirrored: what they delete is deleted there too. Prints how many keys were put or deleted, every 30 seconds.

Options with dest- say of the destination what the global ones of that name say of the source.""",
    example="""\
zkv make-mirror --endpoints 10.0.0.1:2378 10.1.0.1:2378
zkv make-mirror --prefix /app/ --dest-prefix /copy/ 10.1.0.1:2378
zkv make-mirror --rev 5000 10.1.0.1:2378""",
    run=_mirror,
    flags=(
        Flag("dest-cacert", "text", "", "verify certificates of the destination using this CA bundle", file=True),
        Flag("dest-cert", "text", "", "identify to the destination using this TLS certificate file", file=True),
        Flag("dest-curve-key", "text", "", "CURVE key file of this client, for the destination", file=True),
        Flag("dest-curve-server-key", "text", "", "CURVE public key file of the destination's servers", file=True),
        Flag("dest-insecure-transport", "switch", "true", "disable transport security for client connections"),
        Flag("dest-key", "text", "", "identify to the destination using this TLS key file", file=True),
        Flag("dest-password", "text", "", "password at the destination"),
        Flag("dest-prefix", "text", "", "mirror a prefix to a different prefix in the destination cluster"),
        Flag("dest-user", "text", "", "username[:password] at the destination"),
        Flag("max-txn-ops", "number", "128", "maximum number of operations permitted in a transaction"),
        switch("no-dest-prefix", "mirror key-values to the root of the destination cluster"),
        Flag("prefix", "text", "", "key-value prefix to mirror"),
        Flag("rev", "number", "0", "specify the revision of key-values to start from, without copying what is before"),
    ),
)
