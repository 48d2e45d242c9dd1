"""`zkv lock` and `zkv elect`: to hold something until told to stop, or for as long as a command runs.

However it ends, what was held is given back: at once where we are told or fail, after the TTL where we are killed.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from zkv.ctl.command import Call, Command
from zkv.ctl.lasting import (
    LOOK_S,
    Ended,
    Passing,
    check_child,
    check_reader,
    ended_by_signals,
    handling,
    heed_not,
    met,
    start_child,
    until_ended,
)
from zkv.ctl.options import EXIT_BAD_ARGS, CommandError, Flag, switch
from zkv.errors import ConnectionFailed, DeadlineExceeded, RetryableError, ZkvError
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from zkv.client.client import Client
    from zkv.client.contest import Contest
    from zkv.client.lock import Lock
    from zkv.client.records import RangeResult
    from zkv.ctl.printers import Printer

SESSION_TTL_S = 60
"""Of a lock whose --ttl is not positive, and of an election: as in etcd's client."""
OBSERVE_S = 2.0
"""How long an observer waits for news before it looks whether somebody still reads."""


def _ttl(call: Call) -> int:
    ttl = call.values.number("ttl")
    return ttl if ttl > 0 else SESSION_TTL_S


@contextmanager
def _left_by(leave: Callable[[], None]) -> Iterator[None]:
    """Leave the line after the block, undisturbed. A signal ends the block well."""
    try:
        yield
    except Ended:
        pass
    except BaseException:
        with handling(heed_not), suppress(ZkvError):
            leave()
        raise
    with handling(heed_not):
        leave()


def _show(call: Call, printer: Printer, client: Client, contest: Contest, gone: str) -> None:
    """Our key, as it is in the cluster. Raises CommandError (`gone`)."""
    done = client.txn().then(m.Range(contest.key)).commit()
    found: RangeResult = done.responses[0]  # type: ignore[assignment] # the answer to a Range
    if not found.kvs:
        raise CommandError(gone)
    printer.range(done.header, [m.RangeAnswer(found.kvs, found.more, found.count)])
    call.out.flush()


def _hold(call: Call, contest: Contest, lost: str) -> None:
    """Until told to stop, by Ended. Raises CommandError (`lost`), and BrokenPipeError when nobody reads any more."""
    while contest.held:
        check_reader(call.out)
        time.sleep(LOOK_S)
    raise CommandError(lost)


def _lock(call: Call) -> int:
    if not call.arguments:
        raise CommandError("lock takes a lock name argument and an optional command to execute", EXIT_BAD_ARGS)
    command = call.arguments[1:]
    printer = call.printer("" if command else "range")
    with met(call) as (client, _), ended_by_signals():
        lock = client.lock(call.argument(0), _ttl(call))
        lock.acquire()
        with _left_by(lock.release):
            if command:
                _run(call, lock, command)
            else:
                _show(call, printer, client, lock, "lock lost on init")
                _hold(call, lock, "session expired")
    return 0


def _run(call: Call, lock: Lock, command: Sequence[str]) -> None:
    """The command, which is told to end when the lock is lost. Raises CommandError."""
    told = {"ZKV_LOCK_KEY": os.fsdecode(lock.key), "ZKV_LOCK_REV": str(lock.token)}
    passing, is_lost = Passing(), False
    with handling(passing):
        child = start_child(command, {**call.environment, **told})
        passing.on_to(child)
        for _ in until_ended(child):
            if not is_lost and not lock.held:
                is_lost = True
                child.terminate()
    if is_lost:
        raise CommandError("session expired, and the command was told to end")
    check_child(child)


def _elect(call: Call) -> int:
    if not 1 <= len(call.arguments) <= 2:
        raise CommandError("elect takes one election name argument and an optional proposal argument", EXIT_BAD_ARGS)
    listen = call.values.is_on("listen")
    if len(call.arguments) == 1 and not listen:
        raise CommandError("no proposal argument but -l not set", EXIT_BAD_ARGS)
    if len(call.arguments) == 2 and listen:
        raise CommandError("proposal given but -l is set", EXIT_BAD_ARGS)
    printer = call.printer("range")
    return _observe(call, printer) if listen else _campaign(call, printer)


def _campaign(call: Call, printer: Printer) -> int:
    with met(call) as (client, _), ended_by_signals():
        election = client.election(call.argument(0), _ttl(call))
        election.campaign(call.argument(1))
        with _left_by(election.resign):
            _show(call, printer, client, election, "elect: session expired")
            _hold(call, election, "elect: session expired")
    return 0


def _observe(call: Call, printer: Printer) -> int:
    """Each leader, as it comes, until told to stop."""
    told = None
    with met(call) as (client, member), ended_by_signals(), suppress(Ended):
        while True:
            try:
                for kv in client.election(call.argument(0)).observe(OBSERVE_S):
                    if (kv.key, kv.mod_revision) != told:
                        told = (kv.key, kv.mod_revision)
                        header = member._replace(revision=kv.mod_revision)
                        printer.range(header, [m.RangeAnswer((kv,), more=False, count=0)])  # a count of 0: as etcdctl
                        call.out.flush()
            except (RetryableError, DeadlineExceeded, ConnectionFailed):  # nothing new, or nobody to ask
                check_reader(call.out)
                time.sleep(LOOK_S)
    return 0


LOCK = Command(
    usage="[options] <lockname> [--] [exec-command arg1 arg2 ...]",
    summary="Acquires a named lock",
    description="""\
Waits until the lock is ours, in the order of those who ask. Without a command its key is printed, and the lock is
held until the command is interrupted or terminated. With one, the lock is held while it runs; the exit code is its.

The command finds ZKV_LOCK_KEY, the lock's key, and ZKV_LOCK_REV, the revision that made it: a fencing token, higher
than that of any holder before. If the lock is lost meanwhile, the command is terminated (SIGTERM).

However it ends, the lock is free again: at once, or, when killed or cut off, --ttl seconds later.""",
    example="""\
zkv lock jobs/nightly
zkv lock jobs/nightly --ttl 30 -- ./nightly.sh""",
    flags=(Flag("ttl", "number", "10", "timeout for session, in seconds"),),
    run=_lock,
)
ELECT = Command(
    usage="[options] <election-name> [proposal]",
    summary="Observes and participates in leader election",
    description="""\
With a proposal: waits until elected, prints key and proposal, and leads until interrupted or terminated.
With --listen: prints each leader and what it proposes.""",
    example="""\
zkv elect service/primary 10.0.0.7:80
zkv elect service/primary --listen""",
    flags=(
        switch("listen", "observation mode", "l"),
        Flag("ttl", "number", "60", "seconds after which a candidate that is not heard of any more has lost"),
    ),
    run=_elect,
)
