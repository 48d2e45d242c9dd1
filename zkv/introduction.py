"""How a CURVE key is introduced: by a statement that is signed with the X.509 key its owner is known by.

CURVE authenticates keys, not names: who is behind a key, CURVE cannot say. Certificates can. So a process says, in a
`CurveStatement`, "this CURVE key is mine, for this purpose, from then to then, in this cluster, said to you", signs it
with the key of its certificate, and sends both. Whoever believes the certificate (`trust.py`) then believes the CURVE
key, and only for as long as both last. The threats, and where in a conversation the statements stand, are told
in docs/SECURITY.md.

    introduction  msgpack [statement, [certificate, ...], signature]     leaf first; at most INTRODUCTION_BYTES_MAX
    statement     msgpack [version, newest, purpose, curve_key, not_before, not_after, cluster, audience, nonce]
    signature     over DOMAIN + SHA-256(msgpack [certificate, ...]) + statement

There is one spelling: what does not pack to the same bytes again is refused. There is nothing to negotiate: the type
of the key says how it signs (ECDSA with the SHA-2 of its size, RSA-PSS with SHA-256, Ed25519). The certificates are
signed too, so that no other chain can be put under a signature.

Pure: time, keys and nonces are arguments.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding

from zkv.certificates import MALFORMED, Credentials, parse
from zkv.errors import (
    BadIntroduction,
    BadSignature,
    ConfigError,
    CorruptionError,
    DowngradedIntroduction,
    EarlyIntroduction,
    ExpiredIntroduction,
    ReplayedIntroduction,
    WrongAudience,
    WrongCluster,
    WrongCurveKey,
    WrongPurpose,
)
from zkv.trust import CHAIN_MAX, Identity, Purpose, Trust, check_allowed, check_host, check_own
from zkv.wire import codec

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

VERSION = 1
DOMAIN = b"zkv curve introduction\0"
"""What no other protocol's signed bytes begin with: a signature made here proves nothing there, and the other way."""

CURVE_KEY_BYTES = 32
NONCE_BYTES = 32
LIFETIME_MS = 8 * 3_600_000
LIFETIME_MS_MAX = 24 * 3_600_000
"""A stolen CURVE key is of use for as long as the statement about it; nobody may make that long."""
CLOCK_SKEW_MS = 60_000
"""How far ahead of ours the clock of who signed may be."""
INTRODUCTION_BYTES_MAX = 24 << 10
CERTIFICATE_BYTES_MAX = 8 << 10
SIGNATURE_BYTES_MAX = 1 << 10  # RSA of 8192 bits
CLUSTER_CHARS_MAX = 64
_TIME_MS_MAX = 1 << 53


class CurveStatement(NamedTuple):
    """`curve_key` belongs to who signs this, for `purpose`, between the two times (ms since 1970).

    `version` is this statement's, `newest` the highest that its maker speaks. `cluster`: the id it is about (hex), or
    "". `audience`: the CURVE key of who is told, or b"" for anybody; `nonce`: the challenge that is answered, or b"".
    CURVE keys are 32 bytes, not Z85 text.
    """

    version: int
    newest: int
    purpose: int
    curve_key: bytes
    not_before: int
    not_after: int
    cluster: str = ""
    audience: bytes = b""
    nonce: bytes = b""


class Expectations(NamedTuple):
    """What an introduction must be about. All of it is compared; b"" and "" are values, too, except where told.

    `curve_key`: of the connection it came over (None: there is none yet; speak CURVE to the introduced key and to no
    other). `host`: what was dialled, to be found in the certificate (None: nothing was, they came to us). `cluster`
    None: not known yet. `allowed_*`: see `trust.check_allowed`. `speaks`: the highest version that this side knows.
    """

    purpose: Purpose
    curve_key: bytes | None
    host: str | None
    cluster: str | None
    audience: bytes
    nonce: bytes
    allowed_cn: str = ""
    allowed_hostname: str = ""
    speaks: int = VERSION
    newcomers: bool = False
    """Who does not know the cluster yet may say so, by "": a member that is about to join."""


class Introduced(NamedTuple):
    """Who is behind `curve_key`, believed until `identity.until`. `chain`: the certificates (DER) it has shown."""

    identity: Identity
    purpose: Purpose
    curve_key: bytes
    cluster: str
    chain: tuple[bytes, ...] = ()


def introduce(statement: CurveStatement, credentials: Credentials) -> bytes:
    """The introduction to send. Raises ConfigError where the certificates are more than anybody would take."""
    _check_shape(statement)
    chain = tuple(certificate.public_bytes(Encoding.DER) for certificate in credentials.chain)
    packed = codec.pack(statement)
    introduction = codec.pack((packed, chain, _sign(credentials, _signed_bytes(packed, chain))))
    longest = max(map(len, chain))
    if len(chain) > CHAIN_MAX or longest > CERTIFICATE_BYTES_MAX or len(introduction) > INTRODUCTION_BYTES_MAX:
        raise ConfigError("the certificate, or the chain above it, is too large to introduce anybody with")
    return introduction


def verify(introduction: bytes, trust: Trust | None, now_ms: int, expected: Expectations) -> Introduced:
    """Who the other side is. Without `trust` (that is what --auto-tls means) who it says it is.

    Raises NotTrusted, the class of which says why not. What is cheap is checked first, and nothing costs more than a
    few signatures, whoever sends it.
    """
    packed, chain, signature = _opened(introduction)
    statement = _statement(packed, expected.speaks)
    _check_expected(statement, expected)
    _check_time(statement, now_ms)
    certificates = [parse(der) for der in chain]
    _check_signature(certificates[0].public_key(), signature, _signed_bytes(packed, chain))
    if trust is None:
        identity = check_own(certificates[0], expected.purpose, now_ms)
    else:
        identity = trust.verify(certificates, expected.purpose, now_ms)
    if expected.host is not None:
        check_host(identity, expected.host)
    check_allowed(identity, expected.allowed_cn, expected.allowed_hostname)
    until = min(identity.until, statement.not_after)
    introduced = identity._replace(until=until)
    return Introduced(introduced, expected.purpose, statement.curve_key, statement.cluster, chain)


def check_size(credentials: Credentials) -> None:
    """Whether anybody would take an introduction by these certificates. Raises ConfigError."""
    introduce(CurveStatement(VERSION, VERSION, Purpose.SERVER, bytes(CURVE_KEY_BYTES), 0, LIFETIME_MS), credentials)


def try_out(credentials: Credentials, trust: Trust, purpose: Purpose, now_ms: int) -> Identity:
    """Who `credentials` would be taken for: they introduce a key that nobody has, and that is verified.

    `until` is that of the certificates. Raises NotTrusted or ConfigError.
    """
    nobody = bytes(CURVE_KEY_BYTES)
    statement = CurveStatement(VERSION, VERSION, purpose, nobody, now_ms, now_ms + LIFETIME_MS)
    expected = Expectations(purpose, nobody, None, "", b"", b"")
    verify(introduce(statement, credentials), trust, now_ms, expected)
    return trust.verify(credentials.chain, purpose, now_ms)


# --- bytes ---------------------------------------------------------------------------------------


def _opened(introduction: bytes) -> tuple[bytes, tuple[bytes, ...], bytes]:
    if len(introduction) > INTRODUCTION_BYTES_MAX:
        raise BadIntroduction("it is too large")
    parts = _unpacked(introduction, 3)
    packed, chain, signature = parts
    if type(packed) is not bytes or type(chain) is not tuple or type(signature) is not bytes:
        raise BadIntroduction("its parts are of other types")
    if not 1 <= len(chain) <= CHAIN_MAX or len(signature) > SIGNATURE_BYTES_MAX:
        raise BadIntroduction("too many certificates, none, or too long a signature")
    if any(type(der) is not bytes or not 0 < len(der) <= CERTIFICATE_BYTES_MAX for der in chain):
        raise BadIntroduction("a certificate is none, or too large")
    return packed, chain, signature


def _unpacked(data: bytes, length: int) -> tuple[Any, ...]:
    try:
        fields = codec.unpack(data)
        if type(fields) is not tuple or codec.pack(fields) != data:
            raise BadIntroduction("it is spelled in another way than the one there is")
    except (CorruptionError, ValueError, TypeError, OverflowError, RecursionError):
        raise BadIntroduction("it is no record") from None
    if len(fields) != length:
        raise BadIntroduction(f"it has {len(fields)} parts, not {length}")
    return fields


def _statement(packed: bytes, speaks: int) -> CurveStatement:
    statement = CurveStatement(*_unpacked(packed, len(CurveStatement._fields)))
    try:
        _check_shape(statement)
    except ConfigError as error:
        raise BadIntroduction(error.detail) from None
    if statement.version > speaks:
        raise BadIntroduction(f"it is of version {statement.version}, and this side speaks up to {speaks}")
    if statement.version < min(statement.newest, speaks):
        raise DowngradedIntroduction(f"version {statement.version}, where both speak more")
    return statement


def _check_shape(statement: CurveStatement) -> None:
    """Types and sizes. Raises ConfigError: so it is for who makes one."""
    version, newest, purpose, key, start, end, cluster, audience, nonce = statement
    numbers = (version, newest, purpose, start, end)
    if any(not isinstance(each, int) or isinstance(each, bool) or not 0 <= each <= _TIME_MS_MAX for each in numbers):
        raise ConfigError("a number of the statement is none, or out of bounds")
    if type(key) is not bytes or len(key) != CURVE_KEY_BYTES:
        raise ConfigError("the CURVE key of the statement is none")
    if type(audience) is not bytes or len(audience) not in {0, CURVE_KEY_BYTES}:
        raise ConfigError("the audience of the statement is no CURVE key")
    if type(nonce) is not bytes or len(nonce) not in {0, NONCE_BYTES}:
        raise ConfigError("the nonce of the statement is none")
    if type(cluster) is not str or len(cluster) > CLUSTER_CHARS_MAX or not cluster.isascii():
        raise ConfigError("the cluster of the statement is no id")
    if version < 1 or newest < version:
        raise ConfigError("the versions of the statement make no sense")
    if not 0 < end - start <= LIFETIME_MS_MAX:
        raise ConfigError("the lifetime of the statement is too long, or none")


# --- what it says --------------------------------------------------------------------------------


def _check_expected(statement: CurveStatement, expected: Expectations) -> None:
    if statement.purpose != expected.purpose:
        raise WrongPurpose(f"it is for {statement.purpose}, not for a {expected.purpose.name.lower()}")
    if expected.curve_key is not None and statement.curve_key != expected.curve_key:
        raise WrongCurveKey
    if statement.audience != expected.audience:
        raise WrongAudience
    if statement.nonce != expected.nonce:
        raise ReplayedIntroduction
    if expected.newcomers and not statement.cluster:
        return
    if expected.cluster is not None and statement.cluster != expected.cluster:
        raise WrongCluster(f"{statement.cluster!r}, not {expected.cluster!r}")


def _check_time(statement: CurveStatement, now_ms: int) -> None:
    if now_ms + CLOCK_SKEW_MS < statement.not_before:
        raise EarlyIntroduction(f"by {statement.not_before - now_ms} ms")
    if now_ms >= statement.not_after:
        raise ExpiredIntroduction(f"{now_ms - statement.not_after} ms ago")


# --- signatures ----------------------------------------------------------------------------------

_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)


def _signed_bytes(packed: bytes, chain: tuple[bytes, ...]) -> bytes:
    return DOMAIN + hashlib.sha256(codec.pack(chain)).digest() + packed


def _sign(credentials: Credentials, data: bytes) -> bytes:
    key = credentials.key
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, _ecdsa(key.curve))
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(data, _PSS, hashes.SHA256())
    return key.sign(data)


def _check_signature(key: CertificatePublicKeyTypes, signature: bytes, data: bytes) -> None:
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, _ecdsa(key.curve))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, _PSS, hashes.SHA256())
        elif isinstance(key, Ed25519PublicKey):
            key.verify(signature, data)
        else:
            raise BadSignature("its key is of a kind that is not taken")
    except (InvalidSignature, *MALFORMED):
        raise BadSignature from None


def _ecdsa(curve: ec.EllipticCurve) -> ec.ECDSA:
    if curve.key_size <= 256:
        return ec.ECDSA(hashes.SHA256())
    return ec.ECDSA(hashes.SHA384() if curve.key_size <= 384 else hashes.SHA512())
