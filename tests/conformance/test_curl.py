"""curl at the door of etcd's API: JSON as runbooks write it, by HTTP/1.1 and HTTP/2, plain and with certificates."""

from __future__ import annotations

import json
import shutil
import subprocess
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.lasting import Running
from tests.harness.processes import wait_until
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")]
NO_CERTIFICATE = {18, 35, 55, 56, 58}
"""curl's: the other side has said no, or hung up, in the handshake, or after what was its end for curl."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(1, certificates=True, etcd_api=True, arguments=("--bcrypt-cost", "4")) as made:
        health = [*files(made), made.etcd_endpoints[0] + "/health"]
        wait_until(lambda: b'"true"' in curl(*health).stdout, "all its processes are there")
        yield made


def files(cluster: LocalCluster, *, certificate: bool = True) -> list[str]:
    pki = cluster.pki
    shown = ["--cert", f"{pki}/client.pem", "--key", f"{pki}/client-key.pem"] if certificate else []
    return ["--cacert", f"{pki}/ca.pem", *shown]


def curl(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["curl", "-sS", "--max-time", "30", *words], capture_output=True, check=False, timeout=60)


def call(cluster: LocalCluster, path: str, body: dict[str, Any], *words: str) -> Any:
    done = curl(*files(cluster), *words, cluster.etcd_endpoints[0] + path, "-d", json.dumps(body))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def text(value: str) -> str:
    return b64encode(value.encode()).decode()


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_curl_puts_and_reads_with_its_certificate(cluster: LocalCluster, version: str) -> None:
    call(cluster, "/v3/kv/put", {"key": text("foo"), "value": text(version)}, version)
    found = call(cluster, "/v3/kv/range", {"key": text("foo")}, version)
    assert found["kvs"][0]["value"] == text(version)
    wrong = call(cluster, "/v3/kv/range", {"key": text("foo"), "revision": 10_000}, version)
    assert wrong["error"] == "etcdserver: mvcc: required revision is a future revision"
    shown = curl(
        *files(cluster), version, "-o", "/dev/null", "-w", "%{http_version}", cluster.etcd_endpoints[0] + "/version"
    )
    assert shown.stdout == (b"1.1" if version == "--http1.1" else b"2")


def test_curl_without_a_certificate_is_told_nothing(cluster: LocalCluster) -> None:
    done = curl(*files(cluster, certificate=False), cluster.etcd_endpoints[0] + "/v3/kv/range", "-d", "{}")
    assert (done.returncode in NO_CERTIFICATE, done.stdout) == (True, b""), done


def test_curl_watches(cluster: LocalCluster, tmp_path: Path) -> None:
    """One line for each answer, as they come."""
    asked = json.dumps({"create_request": {"key": text("seen")}})
    words = ["curl", "-sSN", *files(cluster), cluster.etcd_endpoints[0] + "/v3/watch", "-d", asked]
    watching = Running(words, tmp_path / "curl", {})
    try:
        watching.wait_for('"created":true')
        call(cluster, "/v3/kv/put", {"key": text("seen"), "value": text("it")})
        watching.wait_for(text("it"))
    finally:
        watching.end()
    created, event = (json.loads(line) for line in watching.stdout.splitlines())
    assert created["result"]["created"]
    assert event["result"]["events"][0]["kv"]["key"] == text("seen")


def test_curl_is_who_its_token_says(cluster: LocalCluster) -> None:
    """With authentication: nobody may, who has a token may, and it is off again."""
    for path, body in (
        ("user/add", {"name": "root", "password": "pw"}), ("role/add", {"name": "root"}),
        ("user/grant", {"user": "root", "role": "root"}), ("enable", {}),
    ):  # fmt: skip
        call(cluster, f"/v3/auth/{path}", body)
    put = {"key": text("mine"), "value": text("x")}
    wrong = call(cluster, "/v3/auth/authenticate", {"name": "root", "password": "other"})
    assert wrong["error"] == "etcdserver: authentication failed, invalid user ID or password"
    assert "error" in call(cluster, "/v3/kv/put", put, "-H", "Authorization: nonsense")
    token = call(cluster, "/v3/auth/authenticate", {"name": "root", "password": "pw"})["token"]
    assert "header" in call(cluster, "/v3/kv/put", put, "-H", f"Authorization: {token}")
    call(cluster, "/v3/auth/disable", {}, "-H", f"Authorization: {token}")
    assert "header" in call(cluster, "/v3/kv/put", put)
