"""What a node's configuration accepts and refuses, and the ids derived from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zkv.config import NodeConfig
from zkv.core import ids
from zkv.errors import ConfigError
from zkv.urls import introductions_port, socket_endpoint

CERT = {"cert_file": "c", "key_file": "k"}
PEER_CERT = {"peer_cert_file": "c", "peer_key_file": "k"}
PEER = {**PEER_CERT, "peer_trusted_ca_file": "ca"}
GOOD_SUITE = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"


def test_member_and_cluster_ids_are_those_etcd_computes() -> None:
    """Vectors read off etcd 3.5.1 (`etcdctl member list -w json`) for these urls and tokens."""
    assert ids.member_id(["http://localhost:2380"], "etcd-cluster") == 0x8E9E05C52164694D
    assert ids.cluster_id([0x8E9E05C52164694D]) == 0xCDF818194E3A8C32
    two_urls = ["http://127.0.0.1:23443", "http://127.0.0.1:23442"]
    assert ids.member_id(two_urls, "zkv-test") == 12568208086376275017
    assert ids.cluster_id([12568208086376275017]) == 18311248405877902857


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({"name": "a=b"}, "--name"),
        ({"name": "../a"}, "--name"),
        ({"name": "/etc/a"}, "--name"),
        ({"storage": "tape"}, "--storage"),
        ({"initial_cluster_state": "old"}, "--initial-cluster-state"),
        ({"heartbeat_interval": 500}, "should be at least as 5 times"),
        ({"election_timeout": 60_000}, "is too long"),
        ({"listen_peer_urls": ("ftp://127.0.0.1:1",)}, "URL scheme must be"),
        ({"listen_peer_urls": ("http://127.0.0.1:1/",)}, "must not contain a path"),
        ({"listen_peer_urls": ("http://127.0.0.1",)}, 'does not have the form "host:port"'),
        ({"listen_peer_urls": ("http://example.com:1",)}, "expected IP in URL for binding"),
        ({"listen_client_urls": ("https://127.0.0.1:1",)}, "--cert-file, --key-file) must be provided for client url"),
        ({"listen_client_urls": ("curve://127.0.0.1:1",)}, "needs --cert-file and --key-file"),
        ({"listen_peer_urls": ("https://127.0.0.1:1",)}, "needs --peer-cert-file"),
        ({"listen_client_urls": ("curve://127.0.0.1:65000",), **CERT}, "1000 ports above"),
        ({"listen_peer_urls": ("https://127.0.0.1:1",), **PEER_CERT}, "--peer-cert-file needs --peer-trusted-ca-file"),
        ({"listen_peer_urls": ("https://127.0.0.1:1", "http://127.0.0.1:2"), **PEER}, "mixes plain and secure"),
        ({"cert_file": "a"}, r"KeyFile and CertFile must both be present\[key: , cert: a\]"),
        ({"peer_key_file": "a"}, r"must both be present\[key: a, cert: \]"),
        ({"trusted_ca_file": "a"}, "--trusted-ca-file needs --cert-file"),
        ({"client_cert_auth": True, **CERT}, "--client-cert-auth needs --trusted-ca-file"),
        ({"client_crl_file": "a", **CERT}, "--client-crl-file needs --trusted-ca-file"),
        ({"peer_crl_file": "a", **PEER_CERT}, "--peer-crl-file needs --peer-trusted-ca-file"),
        ({"peer_cert_allowed_cn": "a", **PEER_CERT}, "--peer-cert-allowed-cn needs --peer-trusted-ca-file"),
        (
            {"peer_cert_allowed_cn": "x", "peer_cert_allowed_hostname": "y", **PEER},
            'AllowedCN and AllowedHostname are mutually exclusive (cn="x", hostname="y")',
        ),
        ({"tls_min_version": "TLS1.1"}, 'unexpected TLS version "TLS1.1"'),
        ({"tls_min_version": "TLS1.3", "tls_max_version": "TLS1.2"}, "is above"),
        ({"cipher_suites": ("BAD",)}, 'unexpected TLS cipher suite "BAD"'),
        ({"cipher_suites": ("TLS_RSA_WITH_RC4_128_SHA",)}, "unexpected TLS cipher suite"),
        ({"cipher_suites": (GOOD_SUITE,), "tls_min_version": "TLS1.3"}, "when only TLS1.3 is enabled"),
        ({"cipher_suites": ("TLS_AES_128_GCM_SHA256",), "tls_max_version": "TLS1.2"}, "names none that TLS1.2 has"),
        ({"curve_allow_dir": "a"}, "--curve-allow-dir needs --curve-secret-key"),
        ({"self_signed_cert_validity": 0}, "at least 1"),
        ({"listen_client_urls": ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1")}, "twice"),
        ({"initial_cluster": "a"}, "is not NAME=URL"),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_flag_named(settings: dict[str, object], refusal: str) -> None:
    with pytest.raises(ConfigError, match=refusal.replace("(", r"\(").replace(")", r"\)")):
        NodeConfig(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "refusal"),
    [
        ({"name": "x", "initial_cluster": "a=http://localhost:2380"}, "couldn't find local name"),
        ({"initial_cluster": "default=http://127.0.0.1:9"}, "but missing from --initial-advertise-peer-urls"),
        (
            {"initial_advertise_peer_urls": ("http://a:1", "http://b:1"), "initial_cluster": "default=http://a:1"},
            "--initial-advertise-peer-urls has default=http://b:1 but missing from --initial-cluster=default=http://a:1",
        ),
        ({"initial_cluster": "default=http://localhost:2380,b=http://localhost:2380"}, "duplicate urls"),
    ],
)
def test_a_new_member_must_find_itself_in_the_initial_cluster(settings: dict[str, object], refusal: str) -> None:
    """etcd's texts; the same settings are not looked at on a restart with data."""
    with pytest.raises(ConfigError, match=refusal):
        NodeConfig(**settings).check_bootstrap()  # type: ignore[arg-type]


def test_http_and_https_mean_tcp_and_curve() -> None:
    assert socket_endpoint("http://localhost:2380").address == "tcp://127.0.0.1:2380"
    assert not socket_endpoint("http://localhost:2380").secure
    assert socket_endpoint("https://[::1]:2380").address == "tcp://[::1]:2380"
    assert socket_endpoint("https://[::1]:2380").secure


def test_no_setting_at_all_is_a_single_node() -> None:
    config = NodeConfig()
    assert config.data_dir == "default.zkv"
    assert config.cluster() == {"default": ("http://localhost:2380",)}
    config.check_bootstrap()


@pytest.mark.parametrize(("election_timeout", "seconds"), [(500, 1), (1000, 2), (1334, 3), (5000, 8)])
def test_no_lease_is_shorter_than_one_and_a_half_election_timeouts(election_timeout: int, seconds: int) -> None:
    """Rounded up to whole seconds, as in etcd."""
    assert NodeConfig(election_timeout=election_timeout).limits().lease_ttl_min == seconds


def test_certificates_serve_both_doors_and_peers() -> None:
    """https:// by TLS; curve:// by introductions, a thousand ports above; key files, where given, by themselves."""
    config = NodeConfig(
        listen_client_urls=("https://127.0.0.1:2379", "curve://127.0.0.1:2378", "tcp://127.0.0.1:2377"),
        listen_peer_urls=("https://127.0.0.1:2380",),
        initial_advertise_peer_urls=("https://127.0.0.1:2380",),
        **CERT,  # type: ignore[arg-type]
        **PEER,  # type: ignore[arg-type]
    )
    assert config.etcd_client_urls == ("https://127.0.0.1:2379",)
    assert config.introduced_client_urls == ("curve://127.0.0.1:2378",)
    assert config.introduced_peer_urls == ("https://127.0.0.1:2380",)
    assert introductions_port("curve://127.0.0.1:2378") == 3378
    assert not config.client_security.verifies
    assert config.peer_security.verifies
    by_keys = replace(config, curve_secret_key="s", peer_curve_secret_key="p")
    assert by_keys.introduced_client_urls == by_keys.introduced_peer_urls == ()


def test_auto_tls_is_ignored_where_a_certificate_is_given() -> None:
    """As in etcd; without one it lies below the data directory."""
    given = NodeConfig(auto_tls=True, **CERT)  # type: ignore[arg-type]
    assert (given.client_security.auto, given.client_security.cert_file) == (False, "c")
    own = NodeConfig(auto_tls=True, data_dir="d", listen_client_urls=("https://127.0.0.1:1",))
    assert (own.client_security.auto, own.client_security.cert_file) == (True, "d/fixtures/client/cert.pem")
