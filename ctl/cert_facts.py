"""What `zkv cert show` tells of a certificate."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID

from zkv.certificates import MALFORMED

if TYPE_CHECKING:
    import datetime as dt

_PURPOSES = {
    ExtendedKeyUsageOID.SERVER_AUTH: "server",
    ExtendedKeyUsageOID.CLIENT_AUTH: "client",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: "any",
}
_DAY_S = 86_400


class CertificateFacts(NamedTuple):
    """Times are text (RFC 3339, UTC). `days_left` is negative once it has ended; whole days, rounded down."""

    file: str
    subject: str
    issuer: str
    names: tuple[str, ...]
    """Of hosts: DNS names and addresses; other kinds with their kind (`email:`, `uri:`)."""
    is_ca: bool
    usage: tuple[str, ...]
    """What for: ca, server, client, any; other purposes by their number. Empty: it does not say."""
    key_usage: tuple[str, ...]
    key: str
    serial: str
    not_before: str
    not_after: str
    days_left: int
    fingerprint: str
    """SHA-256 of the certificate, hex."""

    def row(self) -> list[str]:
        return [
            self.file, self.subject, self.issuer, ",".join(self.names), ",".join(self.usage), self.not_after,
            str(self.days_left), self.fingerprint[:16],
        ]  # fmt: skip

    def lines(self) -> list[str]:
        """Two columns for people."""
        key_usage, usage = ", ".join(self.key_usage), ", ".join(self.usage)
        pairs = [
            ("subject", self.subject),
            ("issuer", self.issuer),
            ("names", ", ".join(self.names) or "(none)"),
            ("usage", usage or "(any)"),
            ("key usage", key_usage or "(any)"),
            ("key", self.key),
            ("serial", self.serial),
            ("not before", self.not_before),
            ("not after", f"{self.not_after} ({_left(self.days_left)})"),
            ("fingerprint", self.fingerprint),
        ]
        return [self.file, *(f"  {name:<12}{text}" for name, text in pairs)]


def facts_of(file: str, certificate: x509.Certificate, now: dt.datetime) -> CertificateFacts:
    """Anything that can be read can be shown, also what nobody should trust."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return _facts_of(file, certificate, now)


def _facts_of(file: str, certificate: x509.Certificate, now: dt.datetime) -> CertificateFacts:
    found = {type(each.value): each.value for each in certificate.extensions}
    constraints = found.get(x509.BasicConstraints)
    is_ca = isinstance(constraints, x509.BasicConstraints) and constraints.ca
    purposes = found.get(x509.ExtendedKeyUsage, ())
    assert isinstance(purposes, x509.ExtendedKeyUsage | tuple)
    usage = tuple(_PURPOSES.get(each, each.dotted_string) for each in purposes)
    left = (certificate.not_valid_after_utc - now).total_seconds()
    return CertificateFacts(
        file=file,
        subject=_printable(certificate.subject.rfc4514_string()),
        issuer=_printable(certificate.issuer.rfc4514_string()),
        names=tuple(map(_name, found.get(x509.SubjectAlternativeName, ()))),
        is_ca=is_ca,
        usage=("ca", *usage) if is_ca else usage,
        key_usage=_key_usage(found.get(x509.KeyUsage)),
        key=_key(certificate),
        serial=f"{certificate.serial_number:x}",
        not_before=f"{certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
        not_after=f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        days_left=int(left // _DAY_S),
        fingerprint=certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _name(name: x509.GeneralName) -> str:
    if isinstance(name, x509.DNSName | x509.IPAddress):
        return _printable(str(name.value))
    if isinstance(name, x509.RFC822Name):
        return _printable(f"email:{name.value}")
    if isinstance(name, x509.UniformResourceIdentifier):
        return _printable(f"uri:{name.value}")
    return type(name).__name__


def _key_usage(usage: x509.ExtensionType | None) -> tuple[str, ...]:
    if not isinstance(usage, x509.KeyUsage):
        return ()
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign",
    )  # fmt: skip
    return tuple(name.replace("_", " ") for name in names if getattr(usage, name))


def _key(certificate: x509.Certificate) -> str:
    try:
        key = certificate.public_key()
    except MALFORMED:
        return "unknown"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA {key.curve.name}"
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return type(key).__name__.lstrip("_").removesuffix("PublicKey")


def _printable(text: str) -> str:
    """A certificate is somebody else's text, and a terminal obeys control characters."""
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


def _left(days: int) -> str:
    return f"{days} days left" if days >= 0 else "EXPIRED"
