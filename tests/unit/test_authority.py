"""What is in certificates that are made here (whether they are believed: test_trust.py)."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.harness.certificates import CA, DAY, NOW, build, leaf, root
from zkv.authority import BACKDATED, make_authority, make_leaf, renew
from zkv.errors import ConfigError


def usage_of(certificate: x509.Certificate) -> x509.KeyUsage:
    return certificate.extensions.get_extension_for_class(x509.KeyUsage).value


def test_an_authority_signs_leaves_only() -> None:
    """Path length 0: who steals a leaf's key cannot set up a CA, and the CA cannot be extended unnoticed."""
    certificate = make_authority("ca", 10, NOW).leaf
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert usage_of(certificate).key_cert_sign
    assert not usage_of(certificate).digital_signature


def test_lifetimes_begin_a_little_earlier() -> None:
    """For those whose clocks are late; they end on the day."""
    ca = make_authority("ca", 10, NOW)
    made = make_leaf(ca, "client", "alice", (), days=3, now=NOW).leaf
    for certificate in (made, renew(ca, made, 3, NOW)):
        assert certificate.not_valid_before_utc == NOW - BACKDATED
        assert certificate.not_valid_after_utc == NOW + 3 * DAY


def test_an_authority_that_has_ended_signs_nothing() -> None:
    """Nor one that would end before what it signs."""
    ca = make_authority("ca", 10, NOW)
    make_leaf(ca, "client", "alice", (), days=10, now=NOW)
    with pytest.raises(ConfigError, match=r"ask for 8 days at most"):
        make_leaf(ca, "client", "alice", (), days=9, now=NOW + 2 * DAY)
    with pytest.raises(ConfigError, match="the CA has ended"):
        make_leaf(ca, "client", "alice", (), days=1, now=NOW + 10 * DAY)


@pytest.mark.parametrize(
    ("curve", "digest"),
    [(ec.SECP256R1(), hashes.SHA256), (ec.SECP384R1(), hashes.SHA384), (ec.SECP521R1(), hashes.SHA512)],
)
def test_digests_are_as_strong_as_the_key(curve: ec.EllipticCurve, digest: type[hashes.HashAlgorithm]) -> None:
    """Of a CA that somebody else made, too."""
    ca = build("ca", [CA], key=ec.generate_private_key(curve))
    assert isinstance(leaf(ca, "client").leaf.signature_hash_algorithm, digest)


@pytest.mark.parametrize(("key_type", "wanted"), [("ecdsa", False), ("ed25519", False), ("rsa", True)])
def test_only_rsa_keys_may_encipher(key_type: str, wanted: bool) -> None:
    """For TLS 1.2 with RSA key exchange; the others only ever sign."""
    usage = usage_of(leaf(root(), "server", key_type=key_type).leaf)
    assert usage.digital_signature
    assert usage.key_encipherment == wanted
