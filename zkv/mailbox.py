"""How the processes of a node talk: one inbox each, and the loop round an actor.

Every actor process binds one PULL socket, its *inbox*, at `ipc://RUNDIR/NAME.sock`, and connects a PUSH socket to
each neighbour it posts to (zmtp.py). An actor that meets the outside (the gateway its clients, raft its peers) adds
*doors* (door.py), whose messages are handed to it raw, and *lines* (line.py) to where it wants to be heard. The loop is
the same for all:

    poll -> take what has come, up to a bound from each connection -> actor.handle(what came, now) -> flush -> again

so that what gathered while one batch was handled makes up the next (DESIGN section 1). What an actor posts in one turn
leaves at its end, or when it calls `flush`. `post` never blocks: it returns False when the neighbour's queue is full,
and the actor decides what that means. No correctness rests on a message having arrived: a queue dies with its process.
So an actor that starts says `Hello` to its neighbours, and streams resume by index or revision.

Beside its inbox every process has a *door bell*, a datagram socket at RUNDIR/NAME.bell. Whoever rings there (`ring_at`)
wants to know how it does: it tells the gateway at once, and counts its turns from then on for LOOK_MS. Until then, if
no insight process wants to know either, nothing is counted.

The supervisor holds one end of a socket pair with every actor (`Control`). Through it come the word to stop, and
its end: when the supervisor is gone the actor leaves at once, whatever it was doing. The actor tells it
"ready", and why when it cannot live.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import structlog

from zkv.courier import RETRY_MS, Courier
from zkv.errors import ConfigError, CorruptionError, ZkvError
from zkv.monotonic import monotonic_ms
from zkv.wire import codec
from zkv.wire.messages import Gauges

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from zkv.door import Door
    from zkv.gauges import Value
    from zkv.line import Line

INBOX_MESSAGES_MAX: Final = 10_000  # towards one neighbour; a message is a batch, and the actors keep windows too
FDS_A_TURN: Final = 128  # that are looked at; the kernel brings the others first in the next
INSIGHT: Final = "insight"
"""The process that tells of the others; a node may do without it."""
GONE: Final = "gone"
"""As such comes word of a connection at a door that has ended, a turn after its last message."""
LOST: Final = "lost"
"""As such comes word of a connection by a line, with the line's name."""
GATEWAY: Final = "gateway"
"""The process that tells whoever looks."""
REPORTS_QUEUED_MAX: Final = 8  # towards it: each says all that the one before said
REPORT_MS: Final = 1_000
LOOK_MS: Final = 5_000
"""So long after the bell was rung somebody is taken to look on."""
EXIT_FATAL: Final = 3  # restarting would not help: the supervisor takes the node down
LINGER_MS: Final = 500  # what was sent to the outside before the end is given this long to leave


class Stop(NamedTuple):
    """supervisor -> actor: finish what is in flight, then set `finished`."""


class Turns:
    """What the loop counts of itself while it reports.

    `busy`: ns spent in `handle`; `turn`: the longest since the last report; `letters`: messages taken; `inbox`: the
    most that had gathered for one turn.
    """

    def __init__(self) -> None:
        self._turns = self._busy = self._letters = self._longest = self._gathered = 0

    def took(self, letters: int, duration_ns: int) -> None:
        self._turns, self._busy, self._letters = self._turns + 1, self._busy + duration_ns, self._letters + letters
        self._longest, self._gathered = max(self._longest, duration_ns), max(self._gathered, letters)

    def told(self) -> tuple[Value, ...]:
        numbers = {
            "turns": self._turns,
            "busy": self._busy,
            "letters": self._letters,
            "turn": self._longest,
            "inbox": self._gathered,
        }
        self._longest = self._gathered = 0
        return tuple((name, "", number) for name, number in numbers.items())


class Actor(Protocol):
    """What `run` drives. `handle` gets (source, message) pairs: "node" for decoded mail of other actors,
    "supervisor" for Stop, a door's name for what came in there: (connection, bytes, or None for no single frame).
    """

    finished: bool

    def handle(self, inbox: Sequence[tuple[str, object]], now: int) -> None: ...

    def next_wakeup(self, now: int) -> int | None:
        """When (ms, monotonic) to call `handle` even if nothing comes; None: never."""

    def gauges(self) -> Sequence[Value]:
        """What there is to tell of it now, for metrics. Asked once a second, where metrics are wanted."""


def _inbox_of(rundir: str, name: str) -> str:
    return f"{rundir}/{name}.sock"


def _bell_of(rundir: str, name: str) -> str:
    return f"{rundir}/{name}.bell"


def _earlier(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


class _Door:
    def __init__(self, name: str, door: Door, tells_gone: bool) -> None:
        self.name = name
        self.door = door
        self.tells_gone = tells_gone


class _Line:
    def __init__(self, name: str, line: Line) -> None:
        self.name = name
        self.line = line


class Mailbox:
    """The sockets of one process. Not shared between threads.

    `reports`: there is an insight process, which the actor is to report to.
    """

    def __init__(self, rundir: str, name: str, neighbours: Sequence[str], *, reports: bool = False) -> None:
        self.name = name
        self._courier = Courier(rundir, name, codec.decode)
        self.polls = self._courier.polls
        """The epoll set of all that this process waits for."""
        self._doors: list[_Door] = []
        self._lines: list[_Line] = []
        self._lost: list[tuple[str, object]] = []  # word of that which waits for the next turn
        self._bell: tuple[int, int] | None = None
        self._rundir = rundir
        self._door_bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_bell_of(rundir, name))  # of who had this name before
        self._door_bell.bind(_bell_of(rundir, name))
        self.polls.register(self.bell_fd, select.EPOLLIN)
        self.rung = False
        """At the door bell, since `tend_look` was called last."""
        self._look_until = 0
        self.on_look: Callable[[bool], object] | None = None
        """Told when somebody begins to look at this process, and when nobody does any more."""
        self.turns = Turns()
        self.reports = reports
        for neighbour in (*neighbours, *((INSIGHT,) if reports else ())):
            self._connect(neighbour)

    def _connect(self, neighbour: str) -> None:
        self._courier.connect(neighbour, REPORTS_QUEUED_MAX if neighbour == INSIGHT else INBOX_MESSAGES_MAX)

    def add_door(self, name: str, door: Door, *, tells_gone: bool = False) -> None:
        """What arrives there comes to the actor as (name, (connection, message)).

        With `tells_gone`, that a connection has ended as (GONE, (name, connection)).
        """
        self._doors.append(_Door(name, door, tells_gone))

    def add_line(self, name: str, line: Line) -> None:
        """What arrives there comes to the actor as (name, message); that its connection is lost, as (LOST, name)."""
        self._lines.append(_Line(name, line))
        line.on_lost = partial(self._lost.append, (LOST, name))

    def forget(self, line: Line) -> None:
        """Close a line; what it has not let out is dropped."""
        self._lines = [known for known in self._lines if known.line is not line]
        line.close()

    def post(self, neighbour: str, message: NamedTuple) -> bool:
        """Send to another actor of this node, by the end of this turn; False when its queue is full."""
        if neighbour == INSIGHT and not self.reports:
            return False
        if neighbour == "grpc" and not self._courier.knows(neighbour):
            return False  # an entry of the log that a gateway of before has asked for
        return self._courier.put(neighbour, codec.encode(message))

    def flush(self) -> None:
        """Let out what was posted: who is about to be busy, or to wait for a disk, does not let others wait for it."""
        for known_line in self._lines:
            known_line.line.flush()
        self._courier.flush()
        for known in self._doors:
            known.door.flush()

    @property
    def seeks(self) -> bool:
        """A neighbour that is not there: `flush` ought to be called again in RETRY_MS."""
        return self._courier.is_down

    def report(self, actor: Actor) -> None:
        """To the insight process, if there is one. It takes an actor for dead that does not for some seconds."""
        self.post(INSIGHT, self._report_of(actor))

    def _report_of(self, actor: Actor) -> Gauges:
        return Gauges(self.name, os.getpid(), (*self.turns.told(), *actor.gauges()))

    # --- who looks ---

    @property
    def looked_at(self) -> bool:
        return self._look_until > 0

    @property
    def bell_fd(self) -> int:
        return self._door_bell.fileno()

    def ring_at(self, names: Iterable[str]) -> None:
        """At the processes of this node. One that is dead is passed over."""
        for name in names:
            with contextlib.suppress(OSError):
                self._door_bell.sendto(b"\0", _bell_of(self._rundir, name))

    def hear_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._door_bell.recv(16):
                self.rung = True

    def tend_look(self, actor: Actor, now: int) -> None:
        """Answer the door bell, if it has rung, and notice when nobody looks any more."""
        if self.rung:
            self.rung = False
            if not self._look_until and self.on_look is not None:
                self.on_look(True)
            self._look_until = now + LOOK_MS
            if not self._courier.knows(GATEWAY):
                self._connect(GATEWAY)
            self.post(GATEWAY, self._report_of(actor))
        elif self._look_until and now >= self._look_until:
            self._look_until = 0
            if self.on_look is not None:
                self.on_look(False)

    def bell(self) -> Callable[[], None]:
        """What any thread of this process may call to have `handle` called with ("bell", None)."""
        read, write = self._bell = os.pipe()
        os.set_blocking(read, False)
        os.set_blocking(write, False)
        self.polls.register(read, select.EPOLLIN)

        def ring() -> None:
            with contextlib.suppress(BlockingIOError):  # it is full: it rings already
                os.write(write, b"\0")

        return ring

    def wait(self, timeout_ms: int | None, control: Control) -> list[tuple[str, object]]:
        """Everything that came, up to a bound from each socket; empty after `timeout_ms`, or a little before."""
        self.flush()
        received: list[tuple[str, object]] = []
        for known in self._doors:
            if known.door.gone:
                gone = known.door.take_gone()
                if known.tells_gone:
                    received.extend([(GONE, (known.name, connection)) for connection in gone])
        if self._courier.is_down:
            timeout_ms = RETRY_MS if timeout_ms is None else min(timeout_ms, RETRY_MS)
        due = self._due()
        now = 0 if due is None else monotonic_ms()
        if received or self._lost:
            timeout_ms = 0
        elif due is not None:
            due_in = max(0, due - now)
            timeout_ms = due_in if timeout_ms is None else min(timeout_ms, due_in)
        readable = self.polls.poll(None if timeout_ms is None else timeout_ms / 1000, FDS_A_TURN)
        for fd, _ in readable:
            self._hear(fd, received, control)
        if due is not None:
            if not readable:
                now = monotonic_ms()  # else what has become due meanwhile has time until the next turn
            if due <= now:  # what was heard makes nothing due so soon
                self._tend(now)
        if self._lost:
            received.extend(self._lost)
            self._lost.clear()
        return received

    def _hear(self, fd: int, received: list[tuple[str, object]], control: Control) -> None:
        for known in self._doors:
            if fd in known.door:
                name = known.name
                received.extend([(name, message) for message in known.door.hear(fd)])
                return
        for known_line in self._lines:
            if fd in known_line.line:
                line_name = known_line.name
                received.extend([(line_name, message) for message in known_line.line.hear(fd)])
                return
        if (mail := self._courier.hear(fd)) is not None:
            received.extend([("node", message) for message in mail])
        elif fd == self.bell_fd:
            self.hear_bell()
        elif self._bell is not None and fd == self._bell[0]:
            os.read(fd, 4096)
            received.append(("bell", None))
        else:
            received.extend(control.read())

    def _due(self) -> int | None:
        """When a door or a line is to be tended to (ms, monotonic); None: not before something comes."""
        due: int | None = None
        for known in self._doors:
            due = _earlier(due, known.door.due)
        for known_line in self._lines:
            due = _earlier(due, known_line.line.due)
        return due

    def _tend(self, now: int) -> None:
        """After what has come was heard: else who has spoken meanwhile is taken to be silent."""
        for known in self._doors:
            due = known.door.due
            if due is not None and due <= now:
                known.door.tend(now)
        for known_line in self._lines:
            due = known_line.line.due
            if due is not None and due <= now:
                known_line.line.tend(now)

    def drive(self, actor: Actor, control: Control) -> None:
        """The loop, until the actor is finished."""
        while not actor.finished:
            (_reporting_loop if self.reports or self.rung else _loop)(actor, self, control)

    @property
    def fd(self) -> int:
        """Readable when there is something to `wait` for, for an owner with a loop of its own; it adds no doors."""
        return self.polls.fileno()

    def watch_control(self, control: Control) -> None:
        self.polls.register(control.fileno(), select.EPOLLIN)

    def close(self) -> None:
        """Free every socket; what was sent through doors and lines has LINGER_MS to leave.

        Mail that a neighbour does not take at once is dropped: nothing rests on it, and at the end of a node they are
        gone already.
        """
        self.flush()
        for known_line in self._lines:
            known_line.line.close(LINGER_MS)
        for known in self._doors:
            known.door.close(LINGER_MS)
        self._courier.close()
        self._door_bell.close()


class Control:
    """An actor's end of the socket pair with its supervisor."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(False)

    def fileno(self) -> int:
        return self._end.fileno()

    def read(self) -> list[tuple[str, object]]:
        try:
            words = self._end.recv(4096)
        except BlockingIOError:
            return []
        if not words:  # the supervisor is gone, however it went: nobody would ever stop this process
            os._exit(1)
        return [("supervisor", Stop())]

    def tell(self, word: str) -> None:
        self._end.sendall(f"{word}\n".encode()[:4096])


def run(name: str, control: Control, start: Callable[[], tuple[Actor, Mailbox]]) -> None:
    """An actor process from its first breath to its last; does not return.

    `start` builds the actor and its mailbox. Exit status: 0 after Stop, EXIT_FATAL when a restart would
    not help (damaged data, a setting that cannot be served), 1 for anything else.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches all; the supervisor decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # Batches are thousands of short-lived tuples: a collector at its default pace walks them again and again.
    gc.set_threshold(100_000, 50, 100)
    log = structlog.get_logger().bind(actor=name)
    status = 1
    try:
        actor, mailbox = start()
        mailbox.watch_control(control)
        control.tell("ready")
        mailbox.drive(actor, control)
        mailbox.close()
        status = 0
    except (CorruptionError, ConfigError) as error:
        status = EXIT_FATAL
        log.critical("actor cannot go on", reason=str(error))
        control.tell(f"fatal {error}")
    except (ZkvError, OSError) as error:
        log.error("actor failed", reason=f"{type(error).__name__}: {error}")  # noqa: TRY400
        control.tell(f"failed {type(error).__name__}: {error}")
    except Exception as error:  # a broken belief: say where, end, and let the supervisor begin anew
        log.exception("actor crashed")
        control.tell(f"failed {type(error).__name__}")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # no interpreter shutdown: sockets and threads of a failed actor may hang there


def _loop(actor: Actor, mailbox: Mailbox, control: Control) -> None:
    while not actor.finished and not mailbox.rung:
        now = monotonic_ms()
        wakeup = actor.next_wakeup(now)
        inbox = mailbox.wait(None if wakeup is None else max(0, wakeup - now), control)
        actor.handle(inbox, monotonic_ms())


def _reporting_loop(actor: Actor, mailbox: Mailbox, control: Control) -> None:
    """The same, and once a second a report goes out, as long as somebody wants to know."""
    report_at = monotonic_ms()
    turns = mailbox.turns
    while not actor.finished:
        now = monotonic_ms()
        mailbox.tend_look(actor, now)
        if not mailbox.reports and not mailbox.looked_at:
            return
        if now >= report_at:
            report_at = now + REPORT_MS
            mailbox.report(actor)
        wakeup = actor.next_wakeup(now)
        due = report_at if wakeup is None else min(wakeup, report_at)
        inbox = mailbox.wait(max(0, due - now), control)
        began = time.monotonic_ns()
        actor.handle(inbox, began // 1_000_000)
        turns.took(len(inbox), time.monotonic_ns() - began)
