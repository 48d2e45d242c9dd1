"""The process `zkv server` starts: it makes the others, keeps them alive, and ends the node with a reason.

    supervisor ─┬─ storage    the key-value store (RocksDB)
                ├─ raft       the log, and the other members
                ├─ lease      who expires when
                ├─ watch      who is owed which event
                ├─ gateway    the clients that speak the native protocol
                ├─ grpc       those that speak etcd's API, where an http:// or https:// client url is given
                ├─ usher      who may come in by a certificate, where certificates are given
                └─ insight    health and metrics, where --listen-metrics-urls or an etcd client url is given

Actors are forked, not spawned: what is imported here is shared memory in all of them, and a dead one is
back in milliseconds. For that this process stays free of threads; it talks with
each actor over a socket pair (`mailbox.Control`) and learns of deaths by SIGCHLD.

An actor that dies is started again: at once if it had served for a while, for each moment without it is one in which
leases do not end and clients wait; with growing pauses if it dies as soon as it lives. One that dies RESTARTS_MAX times
within RESTARTS_WINDOW_S, or says itself that a restart would not help, takes the node down: a node that cannot serve
must not look alive.

Stopping walks the way of a request: the gateway first (in-flight requests finish, new ones are told to go
elsewhere), then raft (leadership is handed over), then the rest (storage flushes).
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import secrets
import selectors
import signal
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import setproctitle
import structlog

from zkv import mailbox
from zkv.actors import datadir, insight_actor, lease_actor, raft_actor, storage_actor, watch_actor
from zkv.actors.notify import Notifier
from zkv.errors import ConfigError, ZkvError
from zkv.gateway import grpc_api, native
from zkv.mailbox import INSIGHT
from zkv.version import is_compiled

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.actors.node import Node
    from zkv.config import NodeConfig

RESTARTS_MAX = 6
RESTARTS_WINDOW_S = 30.0
RESTART_PAUSE_MAX_S = 2.0
SERVED_S = 1.0
"""Who lived for so long did not die of being started."""
READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 4.5


def _start_usher(node: Node, incarnation: int) -> tuple[object, object]:
    """What reads certificates is not even imported where there are none."""
    from zkv.actors import usher_actor

    return usher_actor.start(node, incarnation)


# In the order they start; they stop in the order of STOP_ORDER, each tuple together.
ACTORS: dict[str, Callable[[Node, int], tuple[object, object]]] = {
    "storage": storage_actor.start,
    "raft": raft_actor.start,
    "usher": _start_usher,  # where certificates are
    "lease": lease_actor.start,
    "watch": watch_actor.start,
    "gateway": native.start,
    "grpc": grpc_api.start,  # where it is wanted
    INSIGHT: insight_actor.start,  # where it is wanted
}
FORGETFUL = ("raft", "storage")  # what --storage memory keeps in memory
DISPENSABLE = (INSIGHT, "grpc", "usher")  # one that keeps dying is no reason to stop serving by the native door
STOP_ORDER = (("gateway", "grpc", "usher"), ("raft",), ("storage", "lease", "watch", INSIGHT))


@dataclass
class _Child:
    """One actor: its process now, and how it fared so far."""

    name: str
    pid: int = 0
    end: socket.socket | None = None
    ready: bool = False
    started_at: float = 0.0
    restart_at: float | None = None
    deaths: list[float] = field(default_factory=list)
    stillborn: int = 0
    """Deaths in a row that came within SERVED_S of the start."""
    last_word: str = ""


def run(config: NodeConfig) -> int:
    """Run the node until it is told to stop (SIGTERM, SIGINT) or cannot go on; returns the exit status.

    Raises ConfigError when the data directory refuses (in use, another member's, a newer version's).
    """
    if not __debug__:
        raise SystemExit("zkv: asserts are part of the product, do not start it with python -O")
    with datadir.opened(config) as node:
        if config.force_new_cluster:
            _force_new(node)
        return _Supervisor(node).run()


def _force_new(node: Node) -> None:
    """In a process of its own: RocksDB starts threads, and this one is yet to fork. Raises ConfigError."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = b"crashed, see above"
        try:
            from zkv.actors.force_new import force_new_cluster

            dropped = force_new_cluster(node)
            names = ", ".join(f"{member.id:x} ({member.name or 'never started'})" for member in dropped) or "none"
            structlog.get_logger().warning("this member is a cluster of its own now", dropped=names)
            said = b""
        except (ZkvError, OSError) as error:
            said = (getattr(error, "detail", "") or str(error)).encode()
        finally:
            os.write(writer, said)
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    if said:
        raise ConfigError(f"--force-new-cluster: {said.decode(errors='replace')}")


class _Supervisor:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._log = structlog.get_logger().bind(actor="supervisor")
        self._children = {name: _Child(name) for name in ACTORS if name in node.actors}
        self._selector = selectors.DefaultSelector()
        self._stopping = False
        self._announced = False
        self._reason: str | None = None
        self._notifier = Notifier()
        self._alive_at = 0.0  # when the service manager is told next that this node lives

    def run(self) -> int:
        setproctitle.setproctitle(f"zkv: supervisor {self._node.config.name}")
        wake_read, wake_write = socket.socketpair()
        wake_read.setblocking(False)
        wake_write.setblocking(False)
        self._selector.register(wake_read, selectors.EVENT_READ)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        gc.collect()
        gc.freeze()  # what is shared stays shared: the collector must not touch it in every child
        self._log.info(
            "starting", name=self._node.config.name, member_id=f"{self._node.member_id:x}",
            cluster_id=f"{self._node.cluster_id:x}", data_dir=self._node.config.data_dir, compiled=is_compiled(),
        )  # fmt: skip
        try:
            for name in self._children:
                self._start(name)
            deadline = time.monotonic() + READY_TIMEOUT_S
            while not self._stopping:
                self._turn(wake_read)
                if not self._announced and time.monotonic() > deadline:
                    self._fail("not all processes were ready in time")
        finally:
            stopped = self._stop_all(wake_read)
            signal.set_wakeup_fd(-1)
        if self._reason:
            self._log.critical("node stopped", reason=self._reason)
            return 1
        self._log.info("stopped")
        return 0 if stopped else 1

    def _turn(self, wake: socket.socket) -> None:
        """Wait for a signal, a word from an actor or a restart that is due, and see to it."""
        due = [child.restart_at for child in self._children.values() if child.restart_at is not None]
        timeout = max(0.0, min(due) - time.monotonic()) if due else 1.0
        if self._notifier.watchdog_s:
            timeout = min(timeout, self._notifier.watchdog_s)
        for key, _ in self._selector.select(timeout):
            if key.fileobj is wake:
                self._signals(wake)
            else:
                self._listen(key.data)
        self._reap()
        now = time.monotonic()
        for child in self._children.values():
            if child.restart_at is not None and child.restart_at <= now and not self._stopping:
                self._start(child.name)
        if self._notifier.watchdog_s and now >= self._alive_at and all(child.pid for child in self._children.values()):
            self._alive_at = now + self._notifier.watchdog_s
            self._notifier.alive()

    def _signals(self, wake: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in wake.recv(4096):
                if number == signal.SIGHUP and not _has_terminal():
                    self._log.info("SIGHUP: files that have changed, or were moved away, are noticed without it")
                elif number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) and not self._stopping:
                    self._log.info("stopping", signal=signal.Signals(number).name)
                    self._stopping = True

    def _start(self, name: str) -> None:
        child = self._children[name]
        child.restart_at = None
        child.ready = False
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()  # else the actor would hold its own lifeline, and never see the supervisor's end
            self._become(name, theirs)
        theirs.close()
        child.pid, child.end, child.started_at = pid, ours, time.monotonic()
        self._selector.register(ours, selectors.EVENT_READ, child)

    def _become(self, name: str, theirs: socket.socket) -> None:
        """In the new process: let go of what is the supervisor's, and be the actor."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for other in self._children.values():
            if other.end is not None:
                other.end.close()
        self._selector.close()
        setproctitle.setproctitle(f"zkv: {name} {self._node.config.name}")
        incarnation = secrets.randbits(62) | 1  # see messages.ETCD_DOOR
        mailbox.run(name, mailbox.Control(theirs), lambda: ACTORS[name](self._node, incarnation))  # type: ignore[arg-type,return-value]

    def _listen(self, child: _Child) -> None:
        assert child.end is not None
        try:
            words = child.end.recv(65536).decode("utf-8", "replace").splitlines()
        except ConnectionError:
            words = []
        if not words:
            self._selector.unregister(child.end)
            child.end.close()
            child.end = None
        for word in words:
            if word == "ready":
                child.ready = True
            else:
                child.last_word = word
        if not self._announced and all(c.ready for c in self._children.values()):
            self._announced = True
            self._notifier.ready()
            self._log.info(
                "ready",
                clients=",".join(self._node.config.listen_client_urls),
                peers=",".join(self._node.config.listen_peer_urls),
            )

    def _reap(self) -> None:
        for child in self._children.values():
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid == 0:
                continue
            child.pid = 0
            while child.end is not None:  # to the end: what is left registered would be taken for its successor's
                self._listen(child)
            if not self._stopping:
                self._died(child, os.waitstatus_to_exitcode(status))

    def _died(self, child: _Child, code: int) -> None:
        how = f"killed by signal {-code}" if code < 0 else f"exit status {code}"
        if code == mailbox.EXIT_FATAL:
            self._fail(f"{child.name}: {child.last_word.removeprefix('fatal ')}")
            return
        now = time.monotonic()
        child.deaths = [at for at in child.deaths if now - at < RESTARTS_WINDOW_S] + [now]
        if len(child.deaths) >= RESTARTS_MAX and child.name not in DISPENSABLE:
            often = f"died {RESTARTS_MAX} times within {RESTARTS_WINDOW_S:.0f} s"
            self._fail(f"{child.name} {often} ({how}) {child.last_word}")
            return
        if child.name in FORGETFUL and self._node.config.storage == "memory":
            self._kill_twin(child)
        child.stillborn = child.stillborn + 1 if now - child.started_at < SERVED_S else 0
        pause = min(RESTART_PAUSE_MAX_S, 0.1 * 2**child.stillborn) if child.stillborn else 0.0
        self._log.warning("actor died, starting it again", died=child.name, how=how, pause_s=pause)
        child.restart_at = now + pause

    def _kill_twin(self, child: _Child) -> None:
        """Log and store of a member in memory make sense together only: without the one the other goes as well."""
        for name in FORGETFUL:
            twin = self._children[name]
            if twin is not child and twin.pid:
                os.kill(twin.pid, signal.SIGKILL)

    def _fail(self, reason: str) -> None:
        self._reason = self._reason or reason
        self._stopping = True

    def _stop_all(self, wake: socket.socket) -> bool:
        """True when every actor left by itself in time; those that did not are killed."""
        self._stopping = True
        self._notifier.stopping()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        clean = True
        for position, stage in enumerate(STOP_ORDER):
            names = [name for name in stage if name in self._children]
            stage_deadline = deadline - 0.5 * (len(STOP_ORDER) - 1 - position)
            for name in names:
                self._tell_stop(self._children[name])
            while any(self._children[name].pid for name in names) and time.monotonic() < stage_deadline:
                for key, _ in self._selector.select(0.05):
                    if key.fileobj is wake:
                        self._signals(wake)
                    else:
                        self._listen(key.data)
                self._reap()
            for name in names:
                child = self._children[name]
                if child.pid:
                    clean = False
                    self._log.warning("actor did not stop in time, killing it", killed=name)
                    os.kill(child.pid, signal.SIGKILL)
                    os.waitpid(child.pid, 0)
                    child.pid = 0
        return clean

    def _tell_stop(self, child: _Child) -> None:
        if child.end is not None:
            with contextlib.suppress(OSError):
                child.end.sendall(b"stop\n")


def _has_terminal() -> bool:
    """Then a hang-up means that the terminal is gone; otherwise somebody has rotated the logs."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError as error:
        return error.errno == errno.EIO  # there was one
    return True
