"""Certificates for tests: good ones, and all kinds of bad ones that `zkv cert` would not make."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from zkv.authority import USAGES, make_leaf, new_key, parse_host
from zkv.certificates import Credentials, PrivateKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NOW = dt.datetime(2030, 6, 1, 12, tzinfo=dt.UTC)
NOW_MS = int(NOW.timestamp()) * 1000
DAY = dt.timedelta(days=1)
DAY_MS = 86_400_000
HOSTS = ("127.0.0.1", "::1", "node.example.com", "*.pods.example.com")

CA = (x509.BasicConstraints(ca=True, path_length=None), True)


def key_usage(*on: str) -> tuple[x509.KeyUsage, bool]:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: name in on for name in names}), True


def usage(name: str) -> tuple[x509.ExtendedKeyUsage, bool]:
    return x509.ExtendedKeyUsage(USAGES[name]), False


def hosts(*names: str) -> tuple[x509.SubjectAlternativeName, bool]:
    return x509.SubjectAlternativeName([parse_host(name) for name in names]), False


def named(*names: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name) for name in names])


def build(
    subject: str | x509.Name,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
    *,
    by: Credentials | None = None,
    key: PrivateKey | None = None,
    start: dt.datetime = NOW - DAY,
    end: dt.datetime = NOW + 30 * DAY,
    serial: int = 0,
    digest: hashes.SHA224 | hashes.SHA256 | None = None,
) -> Credentials:
    """Exactly that, signed `by` (or by itself), with what stands between it and the root behind it."""
    key = key or new_key("ed25519" if by and isinstance(by.key, Ed25519PrivateKey) else "ecdsa")
    subject = named(subject) if isinstance(subject, str) else subject
    signer = by.key if by else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.leaf.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    chosen = None if isinstance(signer, Ed25519PrivateKey) else digest or hashes.SHA256()
    above = [each for each in by.chain if each.subject != each.issuer] if by else []
    return Credentials((builder.sign(signer, chosen), *above), key)


def root(
    name: str = "root", key_type: str = "ecdsa", extensions: Sequence[tuple[x509.ExtensionType, bool]] = (CA,)
) -> Credentials:
    """A CA that may have others below it."""
    return build(name, extensions, key=new_key(key_type), end=NOW + 3650 * DAY)


def leaf(by: Credentials, purpose: str = "server", name: str = "someone", key_type: str = "") -> Credentials:
    """A good one, at HOSTS (a client has none)."""
    key_type = key_type or ("ed25519" if isinstance(by.key, Ed25519PrivateKey) else "ecdsa")
    at = () if purpose == "client" else HOSTS
    return make_leaf(by, purpose, name, at, days=30, now=NOW, key_type=key_type)


def crl(
    by: Credentials,
    serials: Iterable[int],
    *,
    due: dt.datetime = NOW + DAY,
    extensions: Iterable[tuple[x509.ExtensionType, bool]] = (),
) -> x509.CertificateRevocationList:
    """A list of what `by` has revoked."""
    builder = x509.CertificateRevocationListBuilder().issuer_name(by.leaf.subject)
    builder = builder.last_update(min(NOW, due) - DAY).next_update(due)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - DAY).build()
        builder = builder.add_revoked_certificate(entry)
    for value, critical in extensions:
        builder = builder.add_extension(value, critical)
    return builder.sign(by.key, None if isinstance(by.key, Ed25519PrivateKey) else hashes.SHA256())
