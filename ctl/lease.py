"""`zkv lease grant`, `revoke`, `timetolive`, `list` and `keep-alive`, and `zkv touch`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from zkv.ctl.command import Call, Command
from zkv.ctl.options import EXIT_BAD_ARGS, EXIT_BAD_CONNECTION, CommandError, parse_int, switch
from zkv.errors import ConnectionFailed, DeadlineExceeded, KeyNotFound, LeaseNotFound, RetryableError, ZkvError
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.ctl.printers import Printer

KEEP_ALIVES_PER_TTL = 3
RETRY_S = 0.2


def _the_lease(call: Call, complaint: str) -> int:
    """The one argument, a lease id. Raises CommandError."""
    if len(call.arguments) != 1:
        raise CommandError(complaint, EXIT_BAD_ARGS)
    try:
        return parse_int(call.arguments[0], 16)
    except ValueError as error:
        raise CommandError(f"bad lease ID arg ({error}), expecting ID in Hex", EXIT_BAD_ARGS) from None


def _failed(to_do: str, error: ZkvError) -> CommandError:
    doubt = "; it may have been applied all the same" if error.maybe_applied else ""
    return CommandError(f"failed to {to_do} ({error}{doubt})")


def _grant(call: Call) -> int:
    if len(call.arguments) != 1:
        raise CommandError("lease grant command needs TTL argument", EXIT_BAD_ARGS)
    try:
        ttl = parse_int(call.arguments[0])
    except ValueError as error:
        raise CommandError(f"bad TTL ({error})", EXIT_BAD_ARGS) from None
    printer = call.printer("lease_grant")
    with call.connect() as connection:
        try:
            printer.lease_grant(*connection.ask(m.LeaseGrant(ttl), m.LeaseGrantAnswer))
        except ZkvError as error:
            raise _failed("grant lease", error) from None
    return 0


def _revoke(call: Call) -> int:
    lease = _the_lease(call, "lease revoke command needs 1 argument")
    printer = call.printer("lease_revoke")
    with call.connect() as connection:
        try:
            header, _ = connection.ask(m.LeaseRevoke(lease), m.LeaseRevokeAnswer)
        except ZkvError as error:
            raise _failed("revoke lease", error) from None
    printer.lease_revoke(header, lease)
    return 0


def _time_to_live(call: Call) -> int:
    lease = _the_lease(call, "lease timetolive command needs lease ID as argument")
    keys = call.values.is_on("keys")
    printer = call.printer("lease_time_to_live")
    with call.connect() as connection:
        answer = connection.ask(m.LeaseTimeToLive(lease, keys), m.LeaseTimeToLiveAnswer)
    printer.lease_time_to_live(*answer, keys=keys)
    return 0


def _list(call: Call) -> int:
    printer = call.printer("lease_list")
    with call.connect() as connection:
        printer.lease_list(*connection.ask(m.LeaseList(), m.LeaseListAnswer))
    return 0


def _keep_alive(call: Call) -> int:
    lease = _the_lease(call, "lease keep-alive command needs lease ID as argument")
    printer = call.printer("lease_keep_alive")
    if not call.values.is_on("once"):
        return _keep_on(call, printer, lease)
    with call.connect() as connection:
        try:
            printer.lease_keep_alive(*connection.ask(m.LeaseKeepAlive(lease), m.LeaseKeepAliveAnswer))
        except ZkvError as error:
            raise CommandError(str(error), EXIT_BAD_CONNECTION) from None
    return 0


def _keep_on(call: Call, printer: Printer, lease: int) -> int:
    """Until the cluster says that it is gone, or we are told to stop: then it lives on for its TTL."""
    from zkv.ctl.lasting import LOOK_S, check_reader, met

    with met(call) as (client, _):
        while True:
            began = time.monotonic()
            try:
                kept = client.keep_alive(lease)
                printer.lease_keep_alive(kept.header, m.LeaseKeepAliveAnswer(kept.id, kept.ttl))
                due = began + kept.ttl / KEEP_ALIVES_PER_TTL
            except LeaseNotFound:
                printer.lease_gone(lease)
                return 0
            except (RetryableError, DeadlineExceeded, ConnectionFailed):
                due = began + RETRY_S
            call.out.flush()
            while (left := due - time.monotonic()) > 0:
                check_reader(call.out)
                time.sleep(min(left, LOOK_S))


def _touch(call: Call) -> int:
    if len(call.arguments) != 1:
        raise CommandError("touch command needs one argument as key", EXIT_BAD_ARGS)
    printer = call.printer("lease_keep_alive")
    with call.connect() as connection:
        _, found = connection.ask(m.Range(call.argument(0)), m.RangeAnswer)
        if not found.kvs:
            raise KeyNotFound
        if not found.kvs[0].lease:
            raise LeaseNotFound("the key has none")
        printer.lease_keep_alive(*connection.ask(m.LeaseKeepAlive(found.kvs[0].lease), m.LeaseKeepAliveAnswer))
    return 0


GRANT = Command(
    usage="[options] <ttl>",
    summary="Creates leases",
    description="""\
<ttl> is in seconds; less than the cluster can keep becomes what it can.
The lease ends when it was not renewed for so long, and its keys are deleted with it.""",
    example="""\
zkv lease grant 60
zkv put /services/web/1 10.0.0.7:80 --lease 32695410dcc0ca06""",
    run=_grant,
)
REVOKE = Command(
    usage="[options] <leaseID>",
    summary="Revokes leases",
    description="The lease's keys are deleted, all at one revision.",
    example="zkv lease revoke 32695410dcc0ca06",
    run=_revoke,
)
TIMETOLIVE = Command(
    usage="[options] <leaseID>",
    summary="Get lease information",
    example="zkv lease timetolive 32695410dcc0ca06 --keys",
    flags=(switch("keys", "Get keys attached to this lease"),),
    run=_time_to_live,
)
LIST = Command(
    usage="[options]",
    summary="List all active leases",
    example="zkv lease list",
    run=_list,
)
KEEP_ALIVE = Command(
    usage="[options] <leaseID>",
    summary="Keeps leases alive (renew)",
    description="Until the lease is gone, or the command is ended; the lease then lives for its TTL.",
    example="""\
zkv lease keep-alive 32695410dcc0ca06
zkv lease keep-alive --once 32695410dcc0ca06""",
    flags=(switch("once", "Resets the keep-alive time to its original value and exits immediately"),),
    run=_keep_alive,
)
TOUCH = Command(
    usage="[options] <key>",
    summary="Renews the lease that a key is on",
    description="Not in etcd. For keys put with --ttl, whose lease is their own, or with --lease.",
    example="zkv touch /sessions/anna",
    run=_touch,
)
