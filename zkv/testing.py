"""A real cluster for users' own tests: processes on free ports of this machine, gone when the test is over.

    with zkv.testing.LocalCluster(nodes=3) as cluster, cluster.client() as kv:
        kv.put("a", "1")
        cluster.kill(cluster.leader())
        assert kv.get("a").value == b"1"

Members are numbered from 0. Each runs in a process group of its own, so that `kill` takes the whole tree at once, as a
power cut would.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zkv.client.client import Client
from zkv.errors import ZkvError
from zkv.urls import INTRODUCTIONS_UP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Any, Self

READY_S = 30.0
STOP_S = 10.0
POLL_S = 0.05
LOG_LINES = 20
PORTS_FROM = 14_000  # above those that the documents' examples name
PORTS_IN_BLOCK = 250


class ClusterError(RuntimeError):
    """A member ended, or did not become ready; shows the end of its log."""


class LocalCluster:
    """`nodes` members on loopback.

    `curve` encrypts and authenticates clients and peers with keys made for the occasion, `certificates` (True, or a
    directory that `zkv cert init` has made) by certificates, at all doors. `storage` "memory" keeps
    nothing on disk, and is fast. `data_dir` keeps the members' data, keys and logs where you say, for another
    LocalCluster to go on with; without it they lie in a temporary directory that is removed at the end. `arguments`
    are added to each member's command line, `member_arguments` to that of the member so numbered. With `wait` False
    the block begins at once, whether the members serve or not. `etcd_api`: etcd's API is served at `etcd_endpoints`.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        curve: bool = False,
        certificates: bool | str | os.PathLike[str] = False,
        storage: Literal["disk", "memory"] = "disk",
        data_dir: str | os.PathLike[str] | None = None,
        arguments: Sequence[str] = (),
        member_arguments: Mapping[int, Sequence[str]] | None = None,
        wait: bool = True,
        etcd_api: bool = False,
    ) -> None:
        self.nodes = nodes
        self._etcd_api = etcd_api
        self._etcd_ports: list[int] = []
        self._curve = curve
        self._certificates = certificates
        self._secure = curve or bool(certificates)
        self._storage = storage
        self._data_dir = data_dir
        self._arguments = tuple(arguments)
        self.member_arguments = dict(member_arguments or {})
        """Added to the command line of a member when it is started next."""
        self._waits = wait
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * nodes
        self._founders = nodes
        self._clients: list[Client] = []
        self._home = Path()
        self._sockets = Path()

    # --- life ------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._data_dir is None:
            self._home = Path(tempfile.mkdtemp(prefix="zkv-cluster-"))
        else:
            self._home = Path(self._data_dir).absolute()
            self._home.mkdir(parents=True, exist_ok=True)
        # The members' own sockets, which those that are killed leave behind. Apart, since their paths must be short.
        self._sockets = Path(tempfile.mkdtemp(prefix="zkv-"))
        try:
            ports = self._ports(2 * self.nodes)
            self._client_ports, self._peer_ports = ports[: self.nodes], ports[self.nodes :]
            if self._curve:
                self._make_keys()
            if self._certificates is True:
                self._make_certificates()
            if self._etcd_api:
                self._etcd_ports = free_ports(self.nodes)
            for number in range(self.nodes):
                self.start(number, wait=False)
            if self._waits:
                self.wait_ready()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clean_up()

    def _clean_up(self) -> None:
        for client in self._clients:
            client.close()
        for number in range(self.nodes):
            self.resume(number)
            self._signal(number, signal.SIGTERM, group=False)
        deadline = time.monotonic() + STOP_S
        for number, process in enumerate(self._processes):
            if process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.0, deadline - time.monotonic()))
                self.kill(number)
        if self._storage == "memory":
            for number in range(self.nodes):
                _forget_memory(self._home / _name(number))
        shutil.rmtree(self._sockets, ignore_errors=True)
        if self._data_dir is None:
            shutil.rmtree(self._home, ignore_errors=True)

    # --- who and where ---------------------------------------------------------------------------

    @property
    def endpoints(self) -> list[str]:
        """Where clients connect: one native url for each member."""
        scheme = "curve" if self._secure else "tcp"
        return [f"{scheme}://127.0.0.1:{port}" for port in self._client_ports]

    @property
    def etcd_endpoints(self) -> list[str]:
        """Where etcd's clients connect, one url for each member, if the cluster was made with `etcd_api`."""
        return [f"{'https' if self._certificates else 'http'}://127.0.0.1:{port}" for port in self._etcd_ports]

    @property
    def pki(self) -> Path:
        """Where the certificates are."""
        return self._home / "pki" if self._certificates is True else Path(self._certificates or ".").absolute()

    @property
    def client_options(self) -> dict[str, Any]:
        """What a client of this cluster needs besides the endpoints: the files, if there are any."""
        if self._certificates:
            files = {"cacert": "ca.pem", "cert": "client.pem", "key": "client-key.pem"}
            return {name: self.pki / file for name, file in files.items()}
        if not self._curve:
            return {}
        return {"server_key": self._home / "server.key", "client_key": self._home / "client.key_secret"}

    def client(self, **options: Any) -> Client:
        """A client of all members; closed with the cluster at the latest. Takes the options of `zkv.Client`."""
        client = Client(self.endpoints, **{**self.client_options, **options})
        self._clients.append(client)
        return client

    def log(self, number: int) -> str:
        """What member `number` has logged so far."""
        return self._log_path(number).read_text(errors="replace")

    def pid(self, number: int) -> int:
        """The process id of a running member's supervisor, which is its process group's as well."""
        process = self._processes[number]
        if process is None:
            raise ClusterError(f"member {number} is not running")
        return process.pid

    def leader(self, timeout: float = READY_S) -> int:
        """The number of the member that leads, waiting for one if need be."""
        self._wait(lambda: self._leader() is not None, "nobody leads", timeout)
        leader = self._leader()
        return self.leader(timeout) if leader is None else leader

    def is_ready(self, number: int) -> bool:
        """Does this member serve linearizable reads now?"""
        return self._processes[number] is not None and self._serves(number)

    def revision(self, number: int) -> int:
        """The revision this member's own store has come to; 0 where it does not answer."""
        with Client(self.endpoints[number], timeout=1.0, **self.client_options) as client:
            try:
                return client.status().header.revision
            except ZkvError:
                return 0

    # --- what may happen to a member -------------------------------------------------------------

    def start(self, number: int, *, wait: bool = True) -> None:
        """Start a member that is not running, with the data it left; returns when it serves."""
        assert self._processes[number] is None, f"member {number} is running"
        with self._log_path(number).open("ab") as log:
            self._processes[number] = subprocess.Popen(
                self._command(number),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self._home,
                env=_environment() | {"XDG_RUNTIME_DIR": str(self._sockets), "TMPDIR": str(self._sockets)},
            )
        if wait:
            self._wait(lambda: self._serves(number), f"member {number} does not serve", READY_S)

    def add(self, *, learner: bool = False, wait: bool = True) -> int:
        """Add a member to the running cluster and start it; returns its number. It lasts as long as this block.

        Raises what `Client.member_add` does, and ClusterError.
        """
        number = self.nodes
        client_port, peer_port = free_ports(2)
        with self.client() as client:
            client.member_add([self._peer_url(peer_port)], learner=learner)
        self._client_ports.append(client_port)
        self._etcd_ports += free_ports(1) if self._etcd_api else []
        self._peer_ports.append(peer_port)
        self._processes.append(None)
        self.nodes += 1
        self.start(number, wait=wait)
        if wait:
            self._wait(lambda: self._is_known(number), f"member {number} does not count as started", READY_S)
        return number

    def stop(self, number: int) -> int:
        """End a running member as an operator would (SIGTERM), wait until it has; returns its exit status."""
        self._signal(number, signal.SIGTERM, group=False)
        return self.wait_exit(number)

    def wait_exit(self, number: int, timeout: float = STOP_S) -> int:
        """Wait until a running member has ended by itself; returns its exit status. Raises ClusterError."""
        self.pid(number)
        process = self._processes[number]
        assert process is not None
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ClusterError(self._tale(number, f"did not end within {timeout:g} s")) from None
        finally:
            self.kill(number)

    def kill(self, number: int) -> None:
        """End all processes of a member at once (SIGKILL)."""
        self._signal(number, signal.SIGKILL)
        process = self._processes[number]
        if process is not None:
            process.wait()
            self._processes[number] = None

    def pause(self, number: int) -> None:
        """Freeze all processes of a member (SIGSTOP): it says nothing, and its connections stay."""
        self._signal(number, signal.SIGSTOP)

    def resume(self, number: int) -> None:
        self._signal(number, signal.SIGCONT)

    def wait_ready(self, timeout: float = READY_S) -> None:
        """Wait until every running member serves linearizable reads. Raises ClusterError."""
        running = [number for number, process in enumerate(self._processes) if process is not None]
        self._wait(lambda: all(map(self._serves, running)), "not all members serve", timeout)

    # --- how -------------------------------------------------------------------------------------

    def _signal(self, number: int, signum: signal.Signals, *, group: bool = True) -> None:
        process = self._processes[number]
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if group else os.kill)(process.pid, signum)

    def _ports(self, count: int) -> list[int]:
        """Free ports; those of before, where members with data know each other by them."""
        kept = self._home / "ports"
        if not kept.exists():
            kept.write_text(" ".join(map(str, free_ports(count))))
        return [int(port) for port in kept.read_text().split()]

    def _log_path(self, number: int) -> Path:
        return self._home / f"{_name(number)}.log"

    def _make_keys(self) -> None:
        from zkv.identity import write_keys

        for name in ("server", "client", "peer"):
            if not (self._home / f"{name}.key_secret").exists():
                write_keys(str(self._home), name)
        allowed = self._home / "allowed"
        allowed.mkdir(exist_ok=True)
        shutil.copy(self._home / "client.key", allowed)

    def _make_certificates(self) -> None:
        if self.pki.exists():
            return
        made = subprocess.run(
            [sys.executable, "-m", "zkv", "cert", "init", "--hosts", "127.0.0.1,localhost", "--dir", str(self.pki)],
            capture_output=True,
            text=True,
            check=False,
            env=_environment(),
        )
        if made.returncode:
            raise ClusterError(made.stderr)

    def _peer_url(self, port: int) -> str:
        return f"{'curve' if self._secure else 'tcp'}://127.0.0.1:{port}"

    def _command(self, number: int) -> list[str]:
        peers = [self._peer_url(port) for port in self._peer_ports]
        clients = [*self.etcd_endpoints[number : number + 1], self.endpoints[number]]
        flags = {
            "name": _name(number),
            "data-dir": str(self._home / _name(number)),
            "listen-client-urls": ",".join(clients),
            "advertise-client-urls": ",".join(clients),
            "listen-peer-urls": peers[number],
            "initial-advertise-peer-urls": peers[number],
            "initial-cluster": ",".join(f"{_name(other)}={peer}" for other, peer in enumerate(peers)),
            "initial-cluster-state": "new" if number < self._founders else "existing",
            "initial-cluster-token": f"local-{self._peer_ports[0]}",
            "storage": self._storage,
        }
        if self._curve:
            flags |= {
                "curve-secret-key": str(self._home / "server.key_secret"),
                "curve-allow-dir": str(self._home / "allowed"),
                "peer-curve-secret-key": str(self._home / "peer.key_secret"),
            }
        if self._certificates:
            for prefix, name in (("", "server"), ("peer-", "peer")):
                flags |= {
                    f"{prefix}cert-file": str(self.pki / f"{name}.pem"),
                    f"{prefix}key-file": str(self.pki / f"{name}-key.pem"),
                    f"{prefix}trusted-ca-file": str(self.pki / "ca.pem"),
                }
        options = [word for flag, value in flags.items() for word in (f"--{flag}", value)]
        extra = (*self._arguments, *self.member_arguments.get(number, ()))
        return [sys.executable, "-m", "zkv", "server", *options, *extra]

    def _serves(self, number: int) -> bool:
        """At each of its doors.

        And, of the first members of a cluster in memory, has its vote: before that another one may not fail.
        """
        must_vote = self._storage == "memory" and number < self._founders
        with Client(self.endpoints[number], timeout=1.0, **self.client_options) as client:
            try:
                client.get("\0")
                if must_vote and client.status().is_learner:
                    return False
            except ZkvError:
                return False
        return not self._etcd_api or _is_open(self._etcd_ports[number])

    def _is_known(self, number: int) -> bool:
        """Has it made its name known? It serves before that, but no other one may be added yet."""
        url = self._peer_url(self._peer_ports[number])
        with self.client() as client:
            try:
                return any(member.name for member in client.members().members if url in member.peer_urls)
            except ZkvError:
                return False

    def _leader(self) -> int | None:
        """The running member that says it leads; of several, the one of the latest term."""
        terms: dict[int, int] = {}
        for number, process in enumerate(self._processes):
            if process is not None:
                with (
                    contextlib.suppress(ZkvError),
                    Client(self.endpoints[number], timeout=1.0, **self.client_options) as client,
                ):
                    status = client.status()
                    if status.leader == status.header.member_id:
                        terms[number] = status.raft_term
        return max(terms, key=terms.__getitem__, default=None)

    def _wait(self, claim: Callable[[], bool], otherwise: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not claim():
            for number, process in enumerate(self._processes):
                if process is not None and process.poll() is not None:
                    raise ClusterError(self._tale(number, f"ended with {process.returncode}"))
            if time.monotonic() > deadline:
                tales = [self._tale(number, "says") for number in range(self.nodes)]
                raise ClusterError("\n".join((f"{otherwise} within {timeout:g} s", *tales)))
            time.sleep(POLL_S)

    def _tale(self, number: int, what: str) -> str:
        lines = self.log(number).splitlines()[-LOG_LINES:] if self._log_path(number).exists() else []
        return "\n".join((f"member {number} {what}; the end of its log:", *lines))


def _name(number: int) -> str:
    return f"n{number + 1}"


def _forget_memory(data_dir: Path) -> None:
    """Remove what a member that was killed has left in memory; the next start on this directory would."""
    from zkv.actors.datadir import MEMORY_ROOTS

    digest = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
    for root in MEMORY_ROOTS:
        for left in Path(root).glob(f"zkv-memory-{os.getuid()}-{digest}"):
            shutil.rmtree(left, ignore_errors=True)


def _environment() -> dict[str, str]:
    """Ours, but for settings of other servers; the members run the same zkv as the test that starts them."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ZKV_")}
    paths = [str(Path(__file__).resolve().parents[1]), environment.get("PYTHONPATH", "")]
    return environment | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, nor at those where keys would be introduced.

    They lie below those the system gives to outgoing connections, and in a block that no other process takes ports
    from: none of them is taken by anybody while its member is not there yet, or down.
    """
    with _Ports.lock:
        if _Ports.owner != os.getpid():
            _Ports.claim()
        found: list[int] = []
        for _ in range(PORTS_IN_BLOCK):
            port = next(_Ports.turns)
            if _is_free(port) and _is_free(port + INTRODUCTIONS_UP):
                found.append(port)
            if len(found) == count:
                return found
    raise ClusterError(f"no {count} free ports")


class _Ports:
    """This process's block: it is ours for as long as we hold its first port."""

    lock = threading.Lock()
    owner = 0
    claimed: int
    """A file descriptor."""
    turns: Iterator[int]

    @classmethod
    def claim(cls) -> None:
        blocks = [
            first + above
            for first in range(PORTS_FROM, _ephemeral_ports_from() - 2 * INTRODUCTIONS_UP, 2 * INTRODUCTIONS_UP)
            for above in range(0, INTRODUCTIONS_UP, PORTS_IN_BLOCK)
        ]
        for first in random.sample(blocks, k=len(blocks)):
            claimed = socket.socket()
            try:
                claimed.bind(("127.0.0.1", first))
            except OSError:
                claimed.close()
            else:
                cls.claimed, cls.owner = claimed.detach(), os.getpid()
                cls.turns = itertools.cycle(range(first + 1, first + PORTS_IN_BLOCK))
                return
        raise ClusterError("no free block of ports")


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _ephemeral_ports_from() -> int:
    try:
        lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:  # not Linux: as IANA has it
        lowest = 49152
    return max(lowest, PORTS_FROM + 3 * INTRODUCTIONS_UP)
