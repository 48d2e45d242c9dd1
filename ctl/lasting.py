"""What commands share that last (watch, lock, elect, lease keep-alive): how they begin, what ends them, what they run.

They use the library's client, which goes on by itself when members fail. They end by

- a signal, which is an exception in the main thread (`Ended`, for those that have something to give back);
- a reader of their output that has gone, whether they have something to print or not;
- what the cluster says.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import threading
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

from zkv.ctl.command import SECOND_NS
from zkv.ctl.go_text import quote
from zkv.ctl.options import CommandError
from zkv.errors import DeadlineExceeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

    from zkv.client.client import Client
    from zkv.client.ticket import Header
    from zkv.ctl.command import Call

LOOK_S = 0.25
"""How often is looked whether what is held is still held, and whether somebody still reads."""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXIT_BY_SIGNAL = 255


INTERRUPTED = "interrupted: nothing half-made is left"
"""Of what is made beside its place and put there when it is complete."""


class Ended(BaseException):
    """A signal asked us to end."""


class ChildFailed(CommandError):
    """A command that was run did not end well, in Go's words; the exit code is its own."""


@contextmanager
def met(call: Call) -> Iterator[tuple[Client, Header]]:
    """A client that has found a member, and who that is.

    Raises NoConnection when there is none within the dial timeout: from then on the client is patient, so a wrong
    address must show now.
    """
    from zkv.ctl.connection import no_connection

    dial_ns = call.values.number("dial-timeout")
    with call.client() as client:
        try:
            header = client.status(timeout=dial_ns / SECOND_NS).header
        except DeadlineExceeded:
            raise no_connection(client.endpoints, dial_ns, client.reasons) from None
        yield client, header


@contextmanager
def handling(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Signals that end a program call `handler` instead, but for those that we were started to ignore (`nohup`).

    In another thread than the main one all is left as it was.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, handler) for each in SIGNALS if signal.getsignal(each) != signal.SIG_IGN}
    try:
        yield
    finally:
        for each, previous in before.items():
            signal.signal(each, previous)


def heed_not(_signum: int, _frame: FrameType | None) -> None:
    """Not SIG_IGN, which a child would inherit."""


@contextmanager
def ended_by_signals(said: str = "context canceled") -> Iterator[None]:
    """The first signal raises Ended; it alone, so that further ones do not break off what is then done.

    Raises CommandError, which says this, for an Ended that nobody has made something of: what was asked for had not
    been done yet.
    """
    is_over = False

    def end(_signum: int, _frame: FrameType | None) -> None:
        nonlocal is_over
        if not is_over:
            is_over = True
            raise Ended

    try:
        with handling(end):
            yield
    except Ended:
        raise CommandError(said) from None


class Passing:
    """Signals go on to a child: when it has ended, so do we.

    All but SIGINT, which a terminal's Ctrl-C sends to both; sent to us alone it waits for the child, as with etcdctl.
    """

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def __call__(self, signum: int, _frame: FrameType | None) -> None:
        if self._child is None:
            self._early.append(signum)
        elif signum != signal.SIGINT:
            self._child.send_signal(signum)

    def on_to(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        for signum in self._early:
            self(signum, None)


def check_reader(out: IO[bytes]) -> None:
    """Raises BrokenPipeError if `out` is a pipe, or alike, whose other end is closed."""
    try:
        poll = select.poll()
        poll.register(out.fileno(), 0)
    except (OSError, ValueError):  # it is no file
        return
    if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0)):
        raise BrokenPipeError


def start_child(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `command`, with nothing to read, and our own output. Raises CommandError with Go's words."""
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment)
    except FileNotFoundError as error:
        name = command[0]
        if "/" not in name:
            text = f"exec: {quote(os.fsencode(name))}: executable file not found in $PATH"
        else:
            text = f"fork/exec {name}: {_reason(error)}"
        raise CommandError(text) from None
    except OSError as error:
        raise CommandError(f"fork/exec {command[0]}: {_reason(error)}") from None


def until_ended(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Yields every LOOK_S until `child` has ended.

    By no wait without an end: of two signals in short order the system may give the second to another thread than the
    main one, which then does not wake up for it, and only a thread that runs hears of signals.
    """
    ended = threading.Event()

    def wait() -> None:
        child.wait()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    while not ended.wait(LOOK_S):
        yield


def check_child(child: subprocess.Popen[bytes]) -> None:
    """Raises ChildFailed unless it has ended well."""
    code = child.returncode
    if code < 0:
        name = signal.strsignal(-code) or f"signal {-code}"
        raise ChildFailed(f"signal: {name.lower()}", EXIT_BY_SIGNAL)
    if code > 0:
        raise ChildFailed(f"exit status {code}", code)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
