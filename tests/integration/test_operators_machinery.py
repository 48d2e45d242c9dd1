"""What an operator's machinery meets at a node: metrics by TLS, a hang-up signal, variables and files that are odd."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.harness.processes import wait_until
from zkv.testing import LocalCluster, free_ports

if TYPE_CHECKING:
    from pathlib import Path


def test_metrics_are_told_by_tls_to_who_shows_a_certificate(tmp_path: Path) -> None:
    """The client urls' files hold there, as with etcd; without one of the CA's nobody is told anything."""
    url = f"https://127.0.0.1:{free_ports(1)[0]}"
    with LocalCluster(nodes=1, certificates=True, arguments=("--listen-metrics-urls", url)) as cluster:
        pki = cluster.pki

        def get(path: str, name: str = "client") -> bytes:
            context = ssl.create_default_context(cafile=str(pki / "ca.pem"))
            if name:
                context.load_cert_chain(pki / f"{name}.pem", pki / f"{name}-key.pem")
            with urllib.request.urlopen(url + path, timeout=30, context=context) as answer:  # noqa: S310
                return bytes(answer.read())

        def leads() -> bool:
            try:
                return b"etcd_server_has_leader 1.0" in get("/metrics")
            except urllib.error.URLError as error:
                assert isinstance(error.reason, ConnectionRefusedError), "the process that tells starts last"  # noqa: PT017
                return False

        wait_until(leads, "the member leads")
        assert b"true" in get("/health")
        for name in ("", "server"):
            with pytest.raises(OSError, match=r"."):
                get("/metrics", name)
        with pytest.raises(OSError, match=r"."):
            urllib.request.urlopen(url.replace("https", "http") + "/metrics", timeout=30)  # noqa: S310


def test_a_hang_up_ends_nothing_and_a_log_that_was_moved_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What logrotate does; and a variable of no meaning is told of by its name alone."""
    audit = tmp_path / "audit.log"
    monkeypatch.setenv("ETCD_NAMES", "hush")
    arguments = ("--audit-log", str(audit))
    with LocalCluster(nodes=1, storage="memory", arguments=arguments) as cluster, cluster.client() as client:
        client.put("a", "1")
        audit.rename(tmp_path / "audit.log.1")
        os.kill(cluster.pid(0), signal.SIGHUP)

        def is_anew() -> bool:
            client.put("a", "2")
            return audit.exists() and '"op":"PUT"' in audit.read_text()

        wait_until(is_anew, "the audit log is begun anew")
        log = cluster.log(0)
        assert "SIGHUP: files that have changed" in log
        (line,) = (line for line in log.splitlines() if "unrecognized environment variable" in line)
        assert "ETCD_NAMES" in line
        assert "hush" not in line


def test_settings_that_others_may_read_are_warned_of(tmp_path: Path) -> None:
    """And not those that only their owner and group may."""
    (tmp_path / "data").write_text("no directory: so the member ends where it would begin")
    peers, clients = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    file = tmp_path / "zkv.yaml"
    file.write_text(
        f"data-dir: {tmp_path}/data\nlisten-peer-urls: {peers}\ninitial-advertise-peer-urls: {peers}\n"
        f"listen-client-urls: {clients}\nadvertise-client-urls: {clients}\n"
    )
    for mode, warned in ((0o644, True), (0o660, True), (0o640, False)):
        file.chmod(mode)
        command = [sys.executable, "-m", "zkv", "server", "--config-file", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        assert ("the configuration file is open to other users" in done.stderr) == warned, oct(mode)
