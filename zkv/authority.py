"""New certificates: a CA, and the leaves it signs for servers, peers and clients.

What is in them is what Go's, OpenSSL's and our own verification all accept (RFC 5280): names of hosts in the subject
alternative name, what a leaf is for in its extended key usage, key identifiers on both sides, basic constraints and key
usage critical. A CA signs leaves only (path length 0). Nobody ends later than the CA that vouches for them.

Pure but for chance: `now` is an argument, keys and serial numbers are drawn from the system.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from zkv.certificates import MALFORMED, Credentials, PrivateKey, is_authority, reason
from zkv.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

BACKDATED = dt.timedelta(minutes=5)
"""Clocks differ: a certificate used at once must not be from the future for those who are late."""
COMMON_NAME_CHARS_MAX = 64  # X.520
DAYS_MAX = 36_500
RSA_BITS = 3072

USAGES = {
    "server": (ExtendedKeyUsageOID.SERVER_AUTH,),
    "peer": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    "client": (ExtendedKeyUsageOID.CLIENT_AUTH,),
}
KEY_TYPES = ("ecdsa", "ed25519", "rsa")

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def new_key(key_type: str = "ecdsa") -> PrivateKey:
    """ECDSA on P-256 (what every TLS library takes), Ed25519, or RSA of 3072 bits. Raises ConfigError."""
    if key_type == "ecdsa":
        return ec.generate_private_key(ec.SECP256R1())
    if key_type == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    if key_type == "rsa":
        return rsa.generate_private_key(65537, RSA_BITS)
    raise ConfigError(f"no such type of key: {key_type} (there are {', '.join(KEY_TYPES)})")


def make_authority(name: str, days: int, now: dt.datetime, *, key_type: str = "ecdsa") -> Credentials:
    """A CA of its own. Raises ConfigError."""
    key = new_key(key_type)
    subject = _named(name)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _begun(subject, subject, key.public_key(), now, _end(now, days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, _digest(key))
    )
    return Credentials((certificate,), key)


def make_leaf(
    authority: Credentials,
    usage: str,
    name: str,
    hosts: Sequence[str],
    *,
    days: int,
    now: dt.datetime,
    key_type: str = "ecdsa",
) -> Credentials:
    """A certificate for `usage` (one of USAGES) at `hosts` (names and addresses), with a new key.

    Raises ConfigError: bad names, a CA that is none or would end before the leaf does.
    """
    key = new_key(key_type)
    subject = _named(name)
    end = _end(now, days)
    check_authority(authority, now, end)
    signing = ["digital_signature", *(["key_encipherment"] if key_type == "rsa" else [])]
    builder = _begun(subject, authority.leaf.subject, key.public_key(), now, end)
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(*signing), critical=True)
        .add_extension(x509.ExtendedKeyUsage(USAGES[usage]), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([parse_host(each) for each in hosts]), False)
    return _signed(builder, authority, key)


def renew(
    authority: Credentials, old: x509.Certificate, days: int, now: dt.datetime, new: PrivateKey | None = None
) -> x509.Certificate:
    """The same leaf again, whoever made it, with a new serial number and lifetime; of key `new`, or the same key.

    Subject and extensions are carried over, but for the key identifiers. Raises ConfigError.
    """
    if is_authority(old):
        raise ConfigError("it is a CA: make a new one, trust both for a while, then renew what the old one signed")
    end = _end(now, days)
    check_authority(authority, now, end)
    try:
        key = new.public_key() if new else old.public_key()
    except MALFORMED as error:
        raise ConfigError(f"its key cannot be used, a new one is needed: {reason(error)}") from None
    builder = _begun(old.subject, authority.leaf.subject, key, now, end)
    for extension in old.extensions:
        if isinstance(extension.value, x509.PrecertificateSignedCertificateTimestamps | x509.PrecertPoison):
            raise ConfigError("it stands in public logs: ask the authority that made it for a new one")
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier | x509.SubjectKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    return _sign(builder, authority, key)


def check_authority(authority: Credentials, now: dt.datetime, end: dt.datetime) -> None:
    """Whether it may sign what lasts until `end`. Raises ConfigError."""
    certificate = authority.leaf
    if not is_authority(certificate):
        raise ConfigError("the certificate that should sign is not that of a CA")
    if now >= certificate.not_valid_after_utc:
        raise ConfigError(f"the CA has ended on {certificate.not_valid_after_utc:%Y-%m-%d}")
    if end > certificate.not_valid_after_utc:
        left = (certificate.not_valid_after_utc - now).days
        raise ConfigError(f"the CA ends on {certificate.not_valid_after_utc:%Y-%m-%d}: ask for {left} days at most")


def parse_host(text: str) -> x509.GeneralName:
    """An address, or a DNS name, which may begin with `*.`. Raises ConfigError for anything else, ports above all."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass
    name = text.lower().removesuffix(".")
    labels = name.removeprefix("*.").split(".")
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels) or labels[-1].isdigit():
        raise ConfigError(f"{text!r} is no name or address of a host (no port, no scheme, letters in ASCII)")
    return x509.DNSName(name)


def certificate_pem(chain: Sequence[x509.Certificate]) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def key_pem(key: PrivateKey) -> bytes:
    """PKCS#8, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _named(name: str) -> x509.Name:
    if not name or len(name) > COMMON_NAME_CHARS_MAX or not name.isprintable():
        raise ConfigError(f"{name!r} is no common name: 1 to {COMMON_NAME_CHARS_MAX} printable characters")
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])


def _end(now: dt.datetime, days: int) -> dt.datetime:
    if not 1 <= days <= DAYS_MAX:
        raise ConfigError(f"a lifetime is 1 to {DAYS_MAX} days, not {days}")
    return now.replace(microsecond=0) + dt.timedelta(days=days)


def _begun(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey | object, now: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)  # type: ignore[arg-type]  # checked by the builder
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.replace(microsecond=0) - BACKDATED)
        .not_valid_after(end)
    )


def _signed(builder: x509.CertificateBuilder, authority: Credentials, key: PrivateKey) -> Credentials:
    """With the CA's own chain behind it, where the CA is not a root."""
    return Credentials((_sign(builder, authority, key.public_key()), *between(authority)), key)


def between(authority: Credentials) -> tuple[x509.Certificate, ...]:
    """What stands between a leaf and the root: the CA's chain, without what is self-signed."""
    return tuple(certificate for certificate in authority.chain if certificate.subject != certificate.issuer)


def _sign(builder: x509.CertificateBuilder, authority: Credentials, key: object) -> x509.Certificate:
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)  # type: ignore[arg-type]
    try:
        known = authority.leaf.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        above = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)
    except x509.ExtensionNotFound:
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    return builder.add_extension(above, critical=False).sign(authority.key, _digest(authority.key))


def _digest(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256:
        return hashes.SHA384() if key.curve.key_size == 384 else hashes.SHA512()
    return hashes.SHA256()


def _key_usage(*on: str) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: name in on for name in names})
