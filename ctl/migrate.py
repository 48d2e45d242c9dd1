"""`zkv migrate`: a live etcd is copied into zkv, and followed until it is cut over."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zkv.ctl.command import SECOND_NS, Call, Command
from zkv.ctl.lasting import Ended, ended_by_signals, met
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, Flag, switch

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from zkv.client.client import Client
    from zkv.ctl.etcd_source import EtcdSource
    from zkv.ctl.migration import Told

TXN_OPS_MIN = 2


class _Screen:
    """What is being done: a bar where somebody looks on, and a line for each stage where nobody does."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._stage = ""
        self._bar: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, told: Told) -> None:
        if told.stage != self._stage:
            self._close()
            self._stage = told.stage
            if sys.stderr.isatty():
                from tqdm import tqdm

                self._bar = tqdm(desc=told.stage, total=told.total or None, unit="", unit_scale=True, leave=False)
            else:
                self._call.complain(f"{told.stage}, revision {told.revision} of etcd")
                self._call.err.flush()
        if self._bar is not None:
            self._bar.total = told.total or None
            self._bar.update(told.keys - self._bar.n)
            self._bar.set_postfix(revision=told.revision, refresh=False)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _file(call: Call, name: str) -> Path | None:
    text = call.values.text(name)
    return Path(text) if text else None


def _migrate(call: Call) -> int:
    from zkv.ctl.etcd_source import Credentials, EtcdSource
    from zkv.ctl.migration import Migration

    values = call.values
    urls = values.list("from")
    if not urls or call.arguments:
        raise CommandError("migrate needs --from, etcd's addresses, and no argument", EXIT_BAD_ARGS)
    txn_ops = values.number("max-txn-ops")
    if txn_ops < TXN_OPS_MIN:
        raise CommandError(f"--max-txn-ops must be {TXN_OPS_MIN} or more", EXIT_BAD_ARGS)
    user, _, password = values.text("from-user").partition(":")
    try:
        credentials = Credentials(
            cacert=_file(call, "from-cacert"),
            cert=_file(call, "from-cert"),
            key=_file(call, "from-key"),
            user=user,
            password=values.text("from-password") or password,
        )
    except OSError as error:
        raise CommandError(f"could not read {error.filename}: {error.strerror}") from None
    prefix = values.text("prefix").encode("utf-8", "surrogateescape")
    dial_s = values.number("dial-timeout") / SECOND_NS
    is_following = False
    with (
        met(call) as (client, _),
        EtcdSource(urls, credentials, prefix, dial_s) as source,
        _Screen(call) as screen,
        ended_by_signals(),
    ):
        source.revision()  # an address that is wrong shows now
        if values.is_on("users"):
            _take_users(call, source, client)
        migration = Migration(source, client, prefix, txn_ops, screen)
        try:
            migration.begin(overwrite=values.is_on("overwrite"))
            if values.is_on("once"):
                keys, revision = migration.cut_over()
            else:
                migration.copy()
                is_following = True
                migration.follow()
        except Ended:
            if not is_following:
                raise CommandError("interrupted; the same command goes on from here") from None
            call.complain("stopped; the same command goes on from here, and with --once it cuts over")
            return 0
    call.out.write(f"{keys} keys are the same in etcd and zkv, as of revision {revision} of etcd: cut over\n".encode())
    return 0


def _take_users(call: Call, source: EtcdSource, client: Client) -> None:
    from zkv.ctl.migration_users import take_users

    taken = take_users(source, client)
    call.complain(f"{taken.users} users and {taken.roles} roles of etcd are in zkv")
    if taken.new_users:
        names = ", ".join(taken.new_users)
        call.complain(f"nobody knows the passwords of these yet, set them by zkv user passwd: {names}")


MIGRATE = Command(
    usage="--from URL [options]",
    summary="Copies a live etcd into zkv, and follows it until it is cut over",
    description="""\
Keys, values and leases (with the TTL that is left) are kept; revisions and versions are zkv's own. What happens in etcd
goes on to happen in zkv, until this command is stopped by a signal or killed; the same command then goes on where it
was. To cut over, stop what writes to etcd, and run it with --once: it fetches what is still missing, compares all
keys and values of both sides, and exits with 0 if they are the same. Then point your programs to zkv.

Where it stands is kept in zkv, in the key zkv/migration/PREFIX, which is gone after --once. One started later takes
over from one that still runs.

Needs grpcio: pip install 'zkv[migrate]'.""",
    example="""\
zkv migrate --from http://10.0.0.1:2379 --endpoints 10.0.1.1:2378
zkv migrate --from http://10.0.0.1:2379 --endpoints 10.0.1.1:2378 --once
zkv migrate --from https://10.0.0.1:2379 --from-cacert ca.pem --from-user root:pw --prefix /app/""",
    run=_migrate,
    flags=(
        Flag("from", "list", "", "etcd's client urls: the others are used when one does not answer"),
        Flag("from-cacert", "text", "", "verify etcd's certificates using this CA bundle", file=True),
        Flag("from-cert", "text", "", "identify to etcd using this TLS certificate file", file=True),
        Flag("from-key", "text", "", "identify to etcd using this TLS key file", file=True),
        Flag("from-password", "text", "", "password at etcd, where --from-user does not include it"),
        Flag("from-user", "text", "", "username[:password] at etcd"),
        Flag("max-txn-ops", "number", "128", "maximum number of operations in a transaction"),
        switch("once", "bring zkv up to date, compare both sides, and end the migration"),
        switch("overwrite", "begin though zkv holds keys there: they are made to be as in etcd, or deleted"),
        Flag("prefix", "text", "", "keys with this prefix only"),
        switch("users", "take over roles, and users without their passwords, too: etcd does not tell those"),
    ),
)
