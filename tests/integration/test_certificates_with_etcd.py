"""etcd and etcdctl 3.5.1 take the files of `zkv cert`, and refuse those who have none."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.harness.ctl import Step, play_zkv
from tests.harness.etcd import EtcdCluster, binary

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(binary("etcd") is None, reason="no etcd here")


def zkv(line: str) -> None:
    outcome = play_zkv("", Step(line))
    assert outcome.code == 0, outcome.stderr


def etcdctl(cluster: EtcdCluster, pki: Path, name: str, *words: str) -> subprocess.CompletedProcess[str]:
    """With the certificate `name` of `pki`."""
    program = binary("etcdctl")
    assert program is not None
    files = ["--cacert", f"{pki}/ca.pem", "--cert", f"{pki}/{name}.pem", "--key", f"{pki}/{name}-key.pem"]
    command = [
        str(program),
        "--endpoints",
        f"https://{cluster.endpoints[0]}",
        "--command-timeout",
        "10s",
        *files,
        *words,
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=clean)


def test_etcd_serves_tls_with_our_files(tmp_path: Path) -> None:
    """Members among themselves, and clients that must show a certificate: one of ours, also renewed, and no other."""
    pki, other = tmp_path / "pki", tmp_path / "other"
    zkv(f"cert init --hosts 127.0.0.1,localhost --dir {pki}")
    with EtcdCluster(tmp_path, 2, pki=pki) as cluster:
        assert cluster.ctl("put", "a", "1") == "OK\n"
        zkv(f"cert renew {pki}/client.pem --name again --ca {pki}/ca.pem --new-key --days 3")
        assert etcdctl(cluster, pki, "again", "get", "a").stdout == "a\n1\n"
        zkv(f"cert init --dir {other}")
        shutil.copy(pki / "ca.pem", other / "ca.pem")
        assert etcdctl(cluster, other, "client", "--command-timeout", "1s", "get", "a").returncode != 0
        assert etcdctl(cluster, pki, "server", "--command-timeout", "1s", "get", "a").returncode != 0


@pytest.mark.parametrize("key_type", ["rsa", "ed25519"])
def test_etcd_takes_every_type_of_key(tmp_path: Path, key_type: str) -> None:
    """RSA and Ed25519 too."""
    zkv(f"cert init --hosts 127.0.0.1,localhost --dir {tmp_path}/pki --key-type {key_type}")
    with EtcdCluster(tmp_path, 1, pki=tmp_path / "pki") as cluster:
        assert cluster.ctl("put", "a", "1") == "OK\n"
