"""Settings of TLS and of certificates, on real members: what they let through, and what is told of it."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import urllib.request
from typing import TYPE_CHECKING

from tests.harness.etcd import binary
from tests.harness.processes import wait_until
from tests.harness.strangers import is_answered_by_tls, is_told, make_pki
from zkv.client.client import Client
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from pathlib import Path

SUITE = "ECDHE-ECDSA-AES256-GCM-SHA384"
GO_SUITE = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"


def negotiated(cluster: LocalCluster, version: ssl.TLSVersion, suites: str = "") -> str | None:
    """The suite that a client with these settings comes to; None: it is refused."""

    context = ssl.create_default_context(cafile=str(cluster.pki / "ca.pem"))
    context.load_cert_chain(cluster.pki / "client.pem", cluster.pki / "client-key.pem")
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    if suites:
        context.set_ciphers(suites)
    port = int(cluster.etcd_endpoints[0].rpartition(":")[2])
    try:
        with (
            socket.create_connection(("127.0.0.1", port), 20) as raw,
            context.wrap_socket(raw, server_hostname="127.0.0.1") as secured,
        ):
            assert secured.selected_alpn_protocol() == "h2"
            cipher = secured.cipher()
            assert cipher is not None
            return cipher[0]
    except (ssl.SSLError, ConnectionError):
        return None


def test_versions_and_suites_are_kept_to() -> None:
    """The suite that is named, and no other; not TLS 1.2 where 1.3 is the least."""
    v12, v13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
    one = {"nodes": 1, "certificates": True, "etcd_api": True, "storage": "memory"}
    with LocalCluster(**one, arguments=("--cipher-suites", GO_SUITE)) as cluster:  # type: ignore[arg-type]
        assert negotiated(cluster, v12) == SUITE
        assert negotiated(cluster, v12, "ECDHE-ECDSA-AES128-GCM-SHA256") is None
        assert negotiated(cluster, v13)
    with LocalCluster(**one, arguments=("--tls-min-version", "TLS1.3")) as cluster:  # type: ignore[arg-type]
        assert negotiated(cluster, v12) is None
        assert negotiated(cluster, v13)


def test_a_certificate_that_ends_is_told(tmp_path: Path) -> None:
    """In the log, and at /metrics of the https:// url, by when it ends."""
    pki = make_pki(tmp_path / "pki")  # for ten days
    with LocalCluster(nodes=1, certificates=pki.directory, etcd_api=True, storage="memory") as cluster:
        wait_until(lambda: "a certificate ends soon" in cluster.log(0), "the log warns")
        assert '"subject": "CN=server"' in cluster.log(0)
        context = ssl.create_default_context(cafile=str(pki.directory / "ca.pem"))
        context.load_cert_chain(pki.directory / "client.pem", pki.directory / "client-key.pem")

        def told() -> str:
            with urllib.request.urlopen(f"{cluster.etcd_endpoints[0]}/metrics", timeout=20, context=context) as page:  # noqa: S310
                text: str = page.read().decode()
            return text

        wait_until(lambda: "zkv_certificate_expiry_timestamp_seconds" in told(), "metrics tell of it")
        credentials = pki.papers("server").credentials
        assert credentials is not None
        ends = credentials.leaf.not_valid_after_utc.timestamp()
        line = next(line for line in told().splitlines() if 'certificate="client own"' in line)
        assert float(line.rpartition(" ")[2]) == ends


def test_members_that_make_their_own_certificates_serve() -> None:
    """--auto-tls and --peer-auto-tls: encrypted, for who does not ask who is there; who asks is refused."""
    nothing = [
        word for flag in ("cert", "key", "trusted-ca") for word in (f"--{flag}-file", "", f"--peer-{flag}-file", "")
    ]
    arguments = [*nothing, "--auto-tls", "--peer-auto-tls"]
    with LocalCluster(nodes=3, certificates=True, etcd_api=True, arguments=arguments, wait=False) as cluster:
        with Client(cluster.endpoints, insecure_skip_tls_verify=True, timeout=60) as client:
            client.put("a", "1")
        with Client(cluster.endpoints, cacert=cluster.pki / "ca.pem") as client:
            is_told(client, "unknown authority")
        etcdctl = binary("etcdctl")
        if etcdctl is not None:
            clean = {name: value for name, value in os.environ.items() if not name.startswith("ETCD")}
            command = [str(etcdctl), "--endpoints", cluster.etcd_endpoints[0], "--insecure-transport=false"]
            command += ["--dial-timeout=20s", "--command-timeout=30s"]
            command += ["--insecure-skip-tls-verify", "get", "a", "--print-value-only"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=clean)
            assert done.stdout == "1\n"


def test_without_a_ca_for_clients_nobody_is_asked_who_he_is(tmp_path: Path) -> None:
    """They still know the server, at both doors."""
    pki = make_pki(tmp_path / "pki")
    with LocalCluster(
        nodes=1, certificates=pki.directory, etcd_api=True, storage="memory", arguments=("--trusted-ca-file", "")
    ) as cluster:
        with Client(cluster.endpoints, cacert=pki.directory / "ca.pem", timeout=20) as client:
            client.put("a", "1")
        assert is_answered_by_tls(int(cluster.etcd_endpoints[0].rpartition(":")[2]), pki, "")
