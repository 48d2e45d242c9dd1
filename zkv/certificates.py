"""X.509 files: certificates, the keys that go with them, CA bundles and revocation lists, read and checked.

Files are PEM, as openssl, cfssl and `zkv cert` write them: a certificate file holds the leaf and then, if its CA is
not known to everybody, the certificates between them; a key file holds one key, not encrypted (PKCS#8, or the older
forms of openssl). Every trouble is a ConfigError that names the file and says why; a key's contents appear in none.

What certificates prove is decided in `trust.py`; new ones are made in `authority.py`.
"""

from __future__ import annotations

import stat
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.utils import CryptographyDeprecationWarning

from zkv.errors import BadCertificate, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

PrivateKey: TypeAlias = EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey

FILE_BYTES_MAX = 4 << 20
"""A CA bundle of a whole distribution has 250 kB."""
CRL_BYTES_MAX = 64 << 20
"""About a million revoked certificates."""
MALFORMED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    CryptographyDeprecationWarning,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What `cryptography` raises for bytes it cannot make sense of, at once or when a field is looked at."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a process is: its certificate, those between it and a CA, and the key."""

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey = field(repr=False)

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]


def load_credentials(cert_file: str, key_file: str) -> Credentials:
    """The chain in `cert_file`, leaf first, and its key; warns if others may read the key.

    Raises ConfigError if either cannot be read, or they do not belong together.
    """
    chain = load_certificates(cert_file)
    key = load_key(key_file)
    if _public_bytes(chain[0]) != key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo):
        raise ConfigError(f"the key in {key_file} is not that of the certificate in {cert_file}")
    return Credentials(chain, key)


def load_certificates(path: str) -> tuple[x509.Certificate, ...]:
    """All certificates in a PEM file, at least one: a leaf and its chain, or a CA bundle. Raises ConfigError."""
    data = _read(path, "certificate file", FILE_BYTES_MAX)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # judged where it is used, not here
            found = x509.load_pem_x509_certificates(data)
            for certificate in found:
                _ = certificate.extensions, certificate.subject, certificate.issuer
    except MALFORMED as error:
        if b"PRIVATE KEY-----" in data:
            raise ConfigError(f"{path} holds a private key, where a certificate is wanted") from None
        raise ConfigError(f"certificate file {path} is damaged, or holds no certificate: {reason(error)}") from None
    return tuple(found)


def load_key(path: str) -> PrivateKey:
    """The private key in a PEM file; warns if others may read it. Raises ConfigError."""
    data = _read(path, "key file", FILE_BYTES_MAX)
    try:
        key = load_pem_private_key(data, None)
    except TypeError:
        text = f"the key in {path} is encrypted: give one that is not, in a file that only its owner can read"
        raise ConfigError(text) from None
    except MALFORMED:
        raise ConfigError(f"key file {path} is damaged, or holds no private key") from None
    if not isinstance(key, EllipticCurvePrivateKey | RSAPrivateKey | Ed25519PrivateKey):
        raise ConfigError(f"the key in {path} is none of ECDSA, RSA and Ed25519")
    if stat.S_IMODE(Path(path).stat().st_mode) & 0o077:
        import structlog  # a command that has nothing to tell does not pay for it

        structlog.get_logger().warning("secret key file is open to other users", path=path, want="mode 0600")
    return key


def load_crl(path: str, authorities: Sequence[x509.Certificate]) -> x509.CertificateRevocationList:
    """A revocation list, PEM or DER, that one of `authorities` has signed. Raises ConfigError.

    Lists that hold only a part (delta, indirect and partitioned ones) are refused: taken for whole they would say of
    a revoked certificate that it is not.
    """
    data = _read(path, "CRL file", CRL_BYTES_MAX)
    pem = data.lstrip().startswith(b"-----")
    try:
        crl = x509.load_pem_x509_crl(data) if pem else x509.load_der_x509_crl(data)
        critical = [extension.oid for extension in crl.extensions if extension.critical]
        signed = any(_signed_by(crl, authority) for authority in authorities)
    except MALFORMED as error:
        raise ConfigError(f"CRL file {path} is damaged, or holds no revocation list: {reason(error)}") from None
    if critical:
        raise ConfigError(f"the CRL in {path} holds a part only (extension {critical[0].dotted_string})")
    if not signed:
        raise ConfigError(f"the CRL in {path} is not signed by any of the trusted authorities")
    return crl


def _signed_by(crl: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    if crl.issuer != authority.subject:
        return False
    try:
        return crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]  # a TypeError is told apart
    except (TypeError, InvalidSignature):
        return False


def parse(der: bytes) -> x509.Certificate:
    """A certificate that came from outside, with everything in it that is looked at later. Raises BadCertificate."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of a stranger's, what is only warned of is refused
            certificate = x509.load_der_x509_certificate(der)
            _ = certificate.extensions, certificate.subject, certificate.issuer, certificate.public_key()
            _ = certificate.not_valid_after_utc, certificate.not_valid_before_utc, certificate.serial_number
    except (*MALFORMED, Warning) as error:
        raise BadCertificate(reason(error)) from None
    return certificate


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether others' certificates may be signed with its key."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return constraints.ca
    return constraints.ca and usage.key_cert_sign


def common_name(certificate: x509.Certificate) -> str:
    """The subject's common name, or "".

    Raises BadCertificate where there are two, or one that could be mistaken for another when it is shown.
    """
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    if not names:
        return ""
    name = names[0].value
    if len(names) > 1 or not isinstance(name, str) or not name.isprintable():
        raise BadCertificate("its common name is ambiguous")
    return name


def reason(error: Exception) -> str:
    """The first line of a library's complaint, and no more than a line of it."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def _public_bytes(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except MALFORMED:
        return b""


def _read(path: str, what: str, bytes_max: int) -> bytes:
    try:
        with Path(path).open("rb") as file:
            data = file.read(bytes_max + 1)
    except OSError as error:
        raise ConfigError(f"{what} {path} cannot be read: {error.strerror}") from None
    except ValueError:  # a path with a NUL
        raise ConfigError(f"{what} {path!r} cannot be read: no such file") from None
    if len(data) > bytes_max:
        raise ConfigError(f"{what} {path} is larger than {bytes_max} bytes")
    return data
