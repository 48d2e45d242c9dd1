"""What `zkv server` does about certificates and keys before it starts: looks at the files, warns, makes its own."""

from __future__ import annotations

import datetime as dt
import ipaddress
import time
from pathlib import Path
from typing import TYPE_CHECKING

from zkv.errors import ConfigError, NotTrusted
from zkv.urls import socket_endpoint

if TYPE_CHECKING:
    from zkv.config import NodeConfig
    from zkv.transport_security import TransportSecurity


def check_files(config: NodeConfig) -> None:
    """Raises ConfigError when a file that will be needed cannot be used."""
    for path in (config.curve_secret_key, config.peer_curve_secret_key):
        if path:
            from zkv.identity import load_secret

            load_secret(path)
    if config.curve_allow_dir and not Path(config.curve_allow_dir).is_dir():
        raise ConfigError(f"--curve-allow-dir: {config.curve_allow_dir} is no directory")
    for security in (config.client_security, config.peer_security):
        if security.cert_file and not security.auto:
            from zkv.papers import Papers

            Papers(security, _now_ms())


def doubts(config: NodeConfig) -> list[str]:
    """Why others would not believe this member's certificates: no reason not to start, for they can be replaced."""
    if not (config.cert_file or config.peer_cert_file):
        return []
    from zkv.certificates import load_credentials
    from zkv.introduction import check_size, try_out
    from zkv.trust import Purpose, check_allowed, check_host, check_own, load_trust

    found = []
    now_ms = _now_ms()
    if config.cert_file:
        try:
            credentials = load_credentials(config.cert_file, config.key_file)
            identity = check_own(credentials.leaf, Purpose.SERVER, now_ms)
            check_size(credentials)
            for url in config.advertise_client_urls:
                if url.startswith(("https:", "curve:")):
                    check_host(identity, socket_endpoint(url).host)
        except NotTrusted as error:
            found.append(f"--cert-file {config.cert_file}: {str(error).removeprefix('zkv: ')}")
    if config.peer_cert_file:
        try:
            credentials = load_credentials(config.peer_cert_file, config.peer_key_file)
            identity = check_own(credentials.leaf, Purpose.PEER, now_ms)
            if config.peer_trusted_ca_file:
                trust = load_trust(config.peer_trusted_ca_file, config.peer_crl_file, now_ms)
                identity = try_out(credentials, trust, Purpose.PEER, now_ms)
            check_allowed(identity, config.peer_cert_allowed_cn, config.peer_cert_allowed_hostname)
            for url in config.initial_advertise_peer_urls:
                if socket_endpoint(url).secure:
                    check_host(identity, socket_endpoint(url).host)
        except NotTrusted as error:
            found.append(f"--peer-cert-file {config.peer_cert_file}: {str(error).removeprefix('zkv: ')}")
    return found


def insist(found: list[str]) -> None:
    """Raises ConfigError for the first doubt."""
    if found:
        raise ConfigError(found[0])


def warn(config: NodeConfig, found: list[str]) -> None:
    """Into the log: doubts, and where anybody may come in who can reach a port."""
    import structlog

    log = structlog.get_logger()
    for doubt in found:
        log.warning("others will not believe this member's certificate", reason=doubt)
    if config.auto_tls and config.cert_file:
        log.warning("ignoring client auto TLS since certs given")
    if config.peer_auto_tls and config.peer_cert_file:
        log.warning("ignoring peer auto TLS since certs given")
    for who, urls, security in (
        ("client", config.listen_client_urls, config.client_security),
        ("peer", config.listen_peer_urls, config.peer_security),
    ):
        for url in urls:
            endpoint = socket_endpoint(url)
            if endpoint.secure:
                continue
            if security.is_given:
                log.warning("this url is plain: certificates and client-cert-auth do not hold for it", **{who: url})
            elif not is_loopback(endpoint.host):
                log.warning("whoever can reach this url may come in, and nothing is encrypted", **{who: url})


def is_loopback(host: str) -> bool:
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def make_own_certificates(config: NodeConfig) -> None:
    """For --auto-tls and --peer-auto-tls, below the data directory, if none are there that last. Raises ConfigError."""
    for security, urls in (
        (config.client_security, config.listen_client_urls),
        (config.peer_security, config.listen_peer_urls),
    ):
        if security.auto:
            _make_own(security, urls, 365 * config.self_signed_cert_validity)


def _make_own(security: TransportSecurity, urls: tuple[str, ...], days: int) -> None:
    from zkv.authority import certificate_pem, key_pem, make_authority, make_leaf
    from zkv.certificates import load_credentials
    from zkv.ctl.cert_files import PUBLIC, SECRET, write_new

    cert, key = Path(security.cert_file), Path(security.key_file)
    now = dt.datetime.now(dt.UTC)
    if cert.exists() and key.exists():
        if now < load_credentials(str(cert), str(key)).leaf.not_valid_after_utc:
            return
        cert.unlink()
        key.unlink()
    hosts = sorted({socket_endpoint(url).host for url in urls})
    made = make_leaf(make_authority("zkv", days, now), "peer", "zkv", hosts, days=days, now=now)
    files = {cert.name: (certificate_pem(made.chain), PUBLIC), key.name: (key_pem(made.key), SECRET)}
    write_new(str(cert.parent), files)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
