"""TLS at https:// urls of clients and of metrics: what is offered, and who has shown what.

OpenSSL does the handshake, and refuses whoever shows no certificate of a trusted CA where one is wanted. What it is
not asked, `zkv/trust.py` decides right after, as for CURVE and before a byte is read: revocation by a list that may be
out of date, strength of keys, allowed names. No session is resumed: each connection is judged by the files of its day.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.serialization import Encoding

from zkv.certificates import parse
from zkv.errors import BadCertificate, ConfigError
from zkv.transport_security import openssl_suites
from zkv.trust import Purpose, check_allowed

if TYPE_CHECKING:
    from zkv.config import NodeConfig
    from zkv.papers import Papers
    from zkv.trust import Identity

ALPN: Final = ("h2", "http/1.1")
_VERSIONS: Final = {"TLS1.2": ssl.TLSVersion.TLSv1_2, "TLS1.3": ssl.TLSVersion.TLSv1_3}
_DER: Final = 2  # _ssl.ENCODING_DER


class Refused(ssl.SSLError):
    """A handshake has failed. `alert`: what the other side is still to be sent; empty where it was its own doing."""

    def __init__(self, error: ssl.SSLError, alert: bytes) -> None:
        super().__init__(*error.args)
        self.why = (error.reason or str(error)).lower().replace("_", " ")
        self.alert = alert


class _Handshake(ssl.SSLObject):
    outgoing: ssl.MemoryBIO

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            raise Refused(error, self.outgoing.read()) from None


class _ServerContext(ssl.SSLContext):
    sslobject_class = _Handshake

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *words: Any, **options: Any) -> ssl.SSLObject:
        made = super().wrap_bio(incoming, outgoing, *words, **options)
        assert isinstance(made, _Handshake)
        made.outgoing = outgoing
        return made


def server_context(config: NodeConfig, papers: Papers) -> ssl.SSLContext:
    """What connections are accepted with from now on. Raises ConfigError: the files have changed again meanwhile."""
    context = _ServerContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[config.tls_min_version or "TLS1.2"]
    if config.tls_max_version:
        context.maximum_version = _VERSIONS[config.tls_max_version]
    if config.cipher_suites:
        suites = openssl_suites(config.cipher_suites)
        if suites:
            context.set_ciphers(":".join(suites))
        else:  # of TLS 1.3 only
            context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.set_alpn_protocols(list(ALPN))
    security = papers.security
    try:
        context.load_cert_chain(security.cert_file, security.key_file, password=_no_password)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"{security.cert_file}, {security.key_file}: {error}") from None
    if papers.trust is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a CA of the bundle need not be a root
        context.load_verify_locations(cadata=b"".join(ca.public_bytes(Encoding.DER) for ca in papers.trust.authorities))
    return context


def shown(connection: Any) -> tuple[bytes, ...]:
    """The certificates (DER, leaf first) that the other side of an `ssl.SSLObject` has shown."""
    if hasattr(connection, "get_unverified_chain"):  # from Python 3.13 on
        return tuple(connection.get_unverified_chain())
    chain = connection._sslobj.get_unverified_chain()  # noqa: SLF001 - there, but for the public name
    return tuple(certificate.public_bytes(_DER) for certificate in chain or ())


def judge(papers: Papers, chain: tuple[bytes, ...], now_ms: int) -> Identity | None:
    """Who that is; None where nobody is asked. Raises NotTrusted."""
    if papers.trust is None:
        return None
    if not chain:
        raise BadCertificate("none was shown")
    identity = papers.trust.verify([parse(der) for der in chain], Purpose.CLIENT, now_ms)
    check_allowed(identity, papers.security.allowed_cn, papers.security.allowed_hostname)
    return identity


def _no_password() -> str:
    raise ConfigError("the key is encrypted")
