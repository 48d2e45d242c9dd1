"""A cluster's certificates are replaced, its CA too, while clients write: nothing is started anew, no write fails."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.harness.etcd import binary
from tests.harness.processes import children, wait_until
from tests.harness.strangers import is_told, make_pki
from zkv.authority import certificate_pem, key_pem, make_authority, make_leaf
from zkv.client.client import Client
from zkv.errors import ZkvError
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path

    from zkv.certificates import Credentials

LEAVES = ("server", "peer", "client")


class Writer(threading.Thread):
    """Writes one key after the other, and keeps what failed."""

    def __init__(self, client: Client) -> None:
        super().__init__(name="writer", daemon=True)
        self.written = 0
        self.failed: list[ZkvError] = []
        self._client = client
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                self._client.put(f"written/{self.written}", str(self.written), timeout=60)
                self.written += 1
            except ZkvError as error:
                self.failed.append(error)

    def goes_on(self, more: int = 50) -> bool:
        """So many writes more, or one that failed."""
        goal = self.written + more
        wait_until(lambda: self.written >= goal or bool(self.failed), "writes go on", 60)
        return not self.failed

    def stop(self) -> None:
        self._over.set()
        self.join()


def replace(path: Path, data: bytes) -> None:
    """As configuration management does: whoever reads it sees the old or the new."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_bytes(data)
    aside.chmod(0o600)
    aside.replace(path)


def renew_all(directory: Path, authority: Credentials) -> None:
    for name in LEAVES:
        made = make_leaf(authority, name, name, ("127.0.0.1",), days=20, now=dt.datetime.now(dt.UTC))
        replace(directory / f"{name}-key.pem", key_pem(made.key))  # for a moment they do not belong together
        replace(directory / f"{name}.pem", certificate_pem(made.chain))


def times_read(cluster: LocalCluster, side: str) -> list[int]:
    needle = f'"side": "{side}"'
    return [
        sum("certificates were read again" in line and needle in line for line in cluster.log(number).splitlines())
        for number in range(cluster.nodes)
    ]


def wait_until_read(cluster: LocalCluster, before: dict[str, list[int]]) -> None:
    for side, counts in before.items():
        wait_until(
            lambda side=side, counts=counts: all(  # type: ignore[misc]
                now > then for now, then in zip(times_read(cluster, side), counts, strict=True)
            ),
            f"all have read the {side}s' files again",
        )


def etcdctl(cluster: LocalCluster, pki: Path) -> bool:
    """Does a call at etcd's door succeed, by the files as they are?"""
    program = binary("etcdctl")
    if program is None:
        pytest.skip("no etcdctl here")
    files = ["--cacert", f"{pki}/ca.pem", "--cert", f"{pki}/client.pem", "--key", f"{pki}/client-key.pem"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
    command = [str(program), "--endpoints", cluster.etcd_endpoints[0], *files]
    command += ["--dial-timeout=20s", "--command-timeout=30s", "put", "by", "etcdctl"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=clean).returncode == 0


@pytest.mark.slow
def test_a_ca_is_replaced_under_load(tmp_path: Path) -> None:
    """Old CA, both, leaves of the new one, new CA alone: each step on all members and clients, while both doors serve.

    No process is started anew, no write fails, and who still shows a certificate of the old CA gets nothing.
    """
    pki = make_pki(tmp_path / "pki")
    at = pki.directory
    new = make_authority("new ca", 30, dt.datetime.now(dt.UTC))
    old_ca, new_ca = certificate_pem(pki.authority.chain), certificate_pem(new.chain)
    shutil.copy(at / "client.pem", at / "client-old.pem")
    shutil.copy(at / "client-key.pem", at / "client-old-key.pem")
    with LocalCluster(nodes=3, certificates=at, etcd_api=True) as cluster:
        processes = [children(cluster.pid(number)) for number in range(3)]
        writer = Writer(cluster.client())
        writer.start()
        try:
            assert writer.goes_on()
            for step in (
                partial(replace, at / "ca.pem", old_ca + new_ca),
                partial(renew_all, at, new),
                partial(replace, at / "ca.pem", new_ca),
            ):
                before = {side: times_read(cluster, side) for side in ("client", "peer")}
                step()
                wait_until_read(cluster, before)
                assert writer.goes_on()
                assert etcdctl(cluster, at)
            assert writer.goes_on(500)
        finally:
            writer.stop()
        assert not writer.failed
        assert [children(cluster.pid(number)) for number in range(3)] == processes
        with cluster.client() as client:
            assert client.count(prefix="written/") == writer.written
        late = {"cacert": at / "ca.pem", "cert": at / "client-old.pem", "key": at / "client-old-key.pem"}
        with Client(cluster.endpoints, **late) as client:  # type: ignore[arg-type]
            is_told(client, "unknown authority")


def test_what_cannot_be_read_changes_nothing(tmp_path: Path) -> None:
    """Half a certificate, a key of another, an empty bundle: those of before stay in force, and the log says why."""
    pki = make_pki(tmp_path / "pki")
    at = pki.directory
    with LocalCluster(nodes=1, certificates=at, etcd_api=True, storage="memory") as cluster, cluster.client() as client:
        good = (at / "server.pem").read_bytes()
        for name, bad, why in (
            ("server.pem", good[: len(good) // 2], "is damaged"),
            ("server.pem", (at / "peer.pem").read_bytes(), "is not that of the certificate"),
            ("ca.pem", b"", "is damaged"),
        ):
            whole = (at / name).read_bytes()
            replace(at / name, bad)
            wait_until(lambda why=why: why in cluster.log(0), f"the log says {why}")  # type: ignore[misc]
            client.put("a", "1", timeout=60)
            replace(at / name, whole)
        started = time.monotonic()
        assert cluster.is_ready(0), f"a new client comes in ({time.monotonic() - started:.1f} s)"
