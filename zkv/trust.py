"""Who is believed: chains of certificates up to the CAs that are trusted, and what they may be used for.

Whoever shows a chain is believed to be the subject of its leaf when, at the time that is given,

1. a path leads from the leaf over the certificates that were shown to a CA of the bundle: every signature fits, every
   certificate on it is valid now, every issuer is a CA that may sign at that depth, all keys and digests are strong
   enough, and nothing critical in any of them is unknown;
2. none of them is revoked by the lists that are loaded;
3. the leaf may be used for the purpose at hand (extended key usage: serverAuth, clientAuth, and for peers both), and so
   may what its CAs sign, where they say anything of it.

Whether it is the *right* subject comes after: `check_host` (the name or address that was dialled stands among the
leaf's subject alternative names; the common name does not count) and `check_allowed` (allowed-cn and allowed-hostname,
as etcd has them).

Paths are found by `cryptography.x509.verification`. It does not know Ed25519, so that a path with such a key is looked
for here, by the same rules and stricter ones: no name constraints. It is found here only where such a key is on it, so
that the library is never overruled. The extensions that the web asks for in addition (a leaf must have names, a CA
a key identifier) are not asked for: certificates of clients have no names, and openssl's plain recipes no identifiers.

Nothing here reads a clock or a file; `load_trust` is the only door to the disk.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from enum import IntEnum
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, SECP521R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID

from zkv.certificates import MALFORMED, common_name, is_authority, load_certificates, load_crl, reason
from zkv.errors import (
    BadCertificate,
    CertificateExpired,
    CertificateNotYetValid,
    CertificateRevoked,
    ConfigError,
    NotAllowed,
    NotTrusted,
    UnknownAuthority,
    WrongHost,
    WrongUsage,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

CHAIN_MAX = 4
"""Certificates that may be shown, the leaf included."""
RSA_BITS_MIN, RSA_BITS_MAX = 2048, 8192

_CURVES = (SECP256R1, SECP384R1, SECP521R1)
_DIGESTS = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_UNDERSTOOD = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.NameConstraints,
)


class Purpose(IntEnum):
    """What somebody wants to be believed for."""

    SERVER = 1
    CLIENT = 2
    PEER = 3


_NEEDS = {
    Purpose.SERVER: (ExtendedKeyUsageOID.SERVER_AUTH,),
    Purpose.CLIENT: (ExtendedKeyUsageOID.CLIENT_AUTH,),
    Purpose.PEER: (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
}


class Identity(NamedTuple):
    """Who somebody has been shown to be. `until`: ms since 1970; from then on it must be shown anew."""

    common_name: str
    dns_names: tuple[str, ...]
    addresses: tuple[str, ...]
    fingerprint: str
    until: int


class Trust:
    """The CAs that are believed, and whom they have disowned. Immutable: reloading makes another one."""

    def __init__(
        self, authorities: Sequence[x509.Certificate], crls: Iterable[x509.CertificateRevocationList] = ()
    ) -> None:
        """`authorities`: at least one; `crls`: their signatures have been checked."""
        self.authorities = tuple(authorities)
        self._store = verification.Store(list(authorities))
        self._revoked: dict[x509.Name, set[int]] = {}
        for crl in crls:
            self._revoked.setdefault(crl.issuer, set()).update(entry.serial_number for entry in crl)

    def verify(self, chain: Sequence[x509.Certificate], purpose: Purpose, now_ms: int) -> Identity:
        """Whom `chain` (leaf first) shows. Raises NotTrusted, the class of which says why not."""
        try:
            return self._verify(chain, purpose, dt.datetime.fromtimestamp(now_ms // 1000, dt.UTC))
        except MALFORMED as error:  # fields are parsed when they are looked at
            raise BadCertificate(reason(error)) from None

    def _verify(self, chain: Sequence[x509.Certificate], purpose: Purpose, now: dt.datetime) -> Identity:
        if not 1 <= len(chain) <= CHAIN_MAX:
            raise BadCertificate(f"{len(chain)} certificates were shown, not 1 to {CHAIN_MAX}")
        if len({each.subject for each in chain[1:]}) < len(chain) - 1:
            # CAs that could all have signed each other make a search of 12 ms out of 2 kB; so it stays a straight line
            raise BadCertificate("two of the certificates shown have the same subject")
        leaf = chain[0]
        _check_time(leaf, now)
        _check_key(leaf)
        path = self._path(leaf, chain[1:], now)
        for depth, certificate in enumerate(path):  # whoever found it: what must hold of a path is said here
            _check_time(certificate, now)
            _check_key(certificate)
            _check_critical(certificate)
            if depth and not _may_sign(certificate, depth - 1):
                raise UnknownAuthority("an issuer is no CA, or not for paths that long")
            if certificate.serial_number in self._revoked.get(certificate.issuer, ()):
                raise CertificateRevoked(f"serial number {certificate.serial_number:x}")
            _check_usage(certificate, purpose)
        _check_leaf(leaf)
        return _identity(leaf, min(each.not_valid_after_utc for each in path))

    def _path(
        self, leaf: x509.Certificate, others: Sequence[x509.Certificate], now: dt.datetime
    ) -> Sequence[x509.Certificate]:
        """From the leaf to a trusted CA. Raises UnknownAuthority."""
        try:
            verifier = (
                verification.PolicyBuilder()
                .store(self._store)
                .time(now)
                .max_chain_depth(CHAIN_MAX)
                .extension_policies(ca_policy=_CA_POLICY, ee_policy=verification.ExtensionPolicy.permit_all())
                .build_client_verifier()
            )
            return verifier.verify(leaf, list(others)).chain
        except verification.VerificationError as error:
            search = _Search(self.authorities, others, now)
            path = search.extend((leaf,))
            if path is None or not any(isinstance(each.public_key(), Ed25519PublicKey) for each in path):
                raise UnknownAuthority(reason(error)) from None
            return path


def load_trust(ca_file: str, crl_file: str, now_ms: int) -> Trust:
    """The CAs of a bundle, and what a revocation list ("": none) says of what they signed. Raises ConfigError.

    A list whose successor is due stays in force, with a warning: nobody comes back in by holding up its renewal, and
    nobody is locked out by it.
    """
    authorities = load_certificates(ca_file)
    for authority in authorities:
        if not is_authority(authority):
            subject = authority.subject.rfc4514_string()
            raise ConfigError(f"{ca_file} holds a certificate that is not that of a CA ({subject!r})")
    if not crl_file:
        return Trust(authorities)
    crl = load_crl(crl_file, authorities)
    due = crl.next_update_utc
    if due is not None and due.timestamp() * 1000 < now_ms:
        import structlog  # a command that has nothing to tell does not pay for it

        structlog.get_logger().warning("CRL is out of date", path=crl_file, next_update=due.isoformat())
    return Trust(authorities, [crl])


# --- who it is -----------------------------------------------------------------------------------


def names_of(leaf: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """DNS names (lower case) and addresses among its subject alternative names."""
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return (), ()
    dns_names = tuple(name.lower() for name in names.get_values_for_type(x509.DNSName))
    return dns_names, tuple(str(address) for address in names.get_values_for_type(x509.IPAddress))


def is_named(host: str, dns_names: Iterable[str], addresses: Iterable[str]) -> bool:
    """Whether `host`, a name or an address, is one of them. `*.` stands for one label, and for no address."""
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        name = host.lower().removesuffix(".")
        if not name or "*" in name:
            return False
        label, _, parent = name.partition(".")
        return name in dns_names or bool(label and parent and f"*.{parent}" in dns_names)
    return str(address) in addresses


def check_host(identity: Identity, host: str) -> None:
    """Raises WrongHost unless it may be found at `host`."""
    if not is_named(host, identity.dns_names, identity.addresses):
        names = ", ".join((*identity.dns_names, *identity.addresses)) or "none"
        raise WrongHost(f"{host!r} is not among its names ({names[:200]})")


def check_allowed(identity: Identity, common_name: str = "", hostname: str = "") -> None:
    """`--peer-cert-allowed-cn` and `--peer-cert-allowed-hostname` of etcd; "" allows all. Raises NotAllowed."""
    if common_name and identity.common_name != common_name:
        raise NotAllowed(f"common name {identity.common_name!r}")
    if hostname and not is_named(hostname, identity.dns_names, identity.addresses):
        raise NotAllowed(f"it is not for {hostname!r}")


def check_own(leaf: x509.Certificate, purpose: Purpose, now_ms: int) -> Identity:
    """Whom it shows to those who trust its CA, as far as that can be told without them. Raises NotTrusted."""
    try:
        _check_time(leaf, dt.datetime.fromtimestamp(now_ms // 1000, dt.UTC))
        _check_key(leaf)
        _check_critical(leaf)
        _check_usage(leaf, purpose)
        _check_leaf(leaf)
        return _identity(leaf, leaf.not_valid_after_utc)
    except MALFORMED as error:
        raise BadCertificate(reason(error)) from None


def _identity(leaf: x509.Certificate, until: dt.datetime) -> Identity:
    dns_names, addresses = names_of(leaf)
    fingerprint = leaf.fingerprint(hashes.SHA256()).hex()
    return Identity(common_name(leaf), dns_names, addresses, fingerprint, int(until.timestamp()) * 1000)


# --- what a certificate must be -------------------------------------------------------------------


def _check_time(certificate: x509.Certificate, now: dt.datetime) -> None:
    if now < certificate.not_valid_before_utc:
        raise CertificateNotYetValid(f"valid from {certificate.not_valid_before_utc.isoformat()}")
    if now > certificate.not_valid_after_utc:
        raise CertificateExpired(f"valid until {certificate.not_valid_after_utc.isoformat()}")


def _check_key(certificate: x509.Certificate) -> None:
    key = certificate.public_key()
    strong = (
        isinstance(key, Ed25519PublicKey)
        or (isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, _CURVES))
        or (isinstance(key, RSAPublicKey) and RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX)
    )
    if not strong:
        raise BadCertificate("its key is of a kind or size that is not taken")


def _check_critical(certificate: x509.Certificate) -> None:
    for extension in certificate.extensions:
        if extension.critical and not isinstance(extension.value, _UNDERSTOOD):
            raise BadCertificate(f"critical extension {extension.oid.dotted_string} is not understood")


def _check_usage(certificate: x509.Certificate, purpose: Purpose) -> None:
    """A certificate that says nothing of its usage may be used for all (RFC 5280, 4.2.1.12); so do Go and OpenSSL."""
    try:
        usages = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        return
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in usages and not usages.issuperset(_NEEDS[purpose]):
        raise WrongUsage(f"it is not for a {purpose.name.lower()}")


def _check_leaf(leaf: x509.Certificate) -> None:
    if is_authority(leaf):
        raise WrongUsage("it is that of a CA")
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not usage.digital_signature:
        raise WrongUsage("its key may not sign")


def _may_sign(certificate: x509.Certificate, below: int) -> bool:
    """`below`: how many CAs stand between it and the leaf."""
    if not is_authority(certificate):
        return False
    limit = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    return limit is None or below <= limit


# --- paths ---------------------------------------------------------------------------------------


def _must_be_ca(
    _policy: verification.Policy, _certificate: x509.Certificate, constraints: x509.BasicConstraints
) -> None:
    if not constraints.ca:
        raise ValueError("an issuer is no CA")


def _may_not_be_forbidden(
    _policy: verification.Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None
) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("an issuer may not sign certificates")


_CA_POLICY = (
    verification.ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, verification.Criticality.AGNOSTIC, _must_be_ca)
    .may_be_present(x509.KeyUsage, verification.Criticality.AGNOSTIC, _may_not_be_forbidden)
)


class _Search:
    """For a path with Ed25519 keys, which the library does not know."""

    def __init__(
        self, authorities: Sequence[x509.Certificate], others: Sequence[x509.Certificate], now: dt.datetime
    ) -> None:
        self._authorities = authorities
        self._others = others
        self._now = now

    def extend(self, path: tuple[x509.Certificate, ...]) -> tuple[x509.Certificate, ...] | None:
        """`path` up to a trusted CA; None where there is none."""
        for authority in self._authorities:
            if self._issued(path, authority):
                return (*path, authority)
        if len(path) < CHAIN_MAX:
            for other in self._others:
                if other not in path and self._issued(path, other):
                    longer = self.extend((*path, other))
                    if longer is not None:
                        return longer
        return None

    def _issued(self, path: tuple[x509.Certificate, ...], issuer: x509.Certificate) -> bool:
        """Whether `issuer` may have signed, and did, the last of `path`. What is cheap is looked at first."""
        last = path[-1]
        if last.issuer != issuer.subject or not _may_sign(issuer, len(path) - 1):
            return False
        try:
            _check_time(issuer, self._now)
            _check_key(issuer)
        except NotTrusted:
            return False
        digest = last.signature_hash_algorithm
        if digest is not None and not isinstance(digest, _DIGESTS):
            return False
        if any(isinstance(extension.value, x509.NameConstraints) for extension in issuer.extensions):
            return False
        try:
            last.verify_directly_issued_by(issuer)
        except (InvalidSignature, *MALFORMED):
            return False
        return True
