"""How connections are secured: etcd's settings for the clients' side and the peers' side, and what must hold of them.

One set of files serves both ways to encrypt: TLS at https:// client urls, and CURVE at curve:// ones and between peers,
where certificates introduce keys (docs/SECURITY.md). As in etcd, whoever gives a CA's file wants to be shown a
certificate of it, whether `client_cert_auth` is set or not.

Nothing here reads a file.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from zkv.errors import ConfigError

TLS_VERSIONS: Final = ("TLS1.2", "TLS1.3")

_TLS_13_SUITES: Final = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
"""Known by their names, as etcd knows them; which of them is used is not to be chosen."""
_SUITES: Final = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
"""What HTTP/2 allows with TLS 1.2 (RFC 9113, appendix A): by Go's names, as etcd takes them, OpenSSL's."""


class TransportSecurity(NamedTuple):
    """One side's settings. `auto`: the certificate is one the server makes for itself, and nobody's is checked."""

    cert_file: str = ""
    key_file: str = ""
    trusted_ca_file: str = ""
    client_cert_auth: bool = False
    crl_file: str = ""
    allowed_cn: str = ""
    allowed_hostname: str = ""
    auto: bool = False

    @property
    def is_given(self) -> bool:
        return bool(self.cert_file)

    @property
    def verifies(self) -> bool:
        """Who comes in must show a certificate."""
        return bool(self.trusted_ca_file)


def check(security: TransportSecurity, prefix: str) -> None:
    """`prefix` of the flags' names: "" or "peer-". Raises ConfigError, in etcd's words where it has them."""
    cert, key = security.cert_file, security.key_file
    if bool(cert) != bool(key):
        raise ConfigError(f"KeyFile and CertFile must both be present[key: {key}, cert: {cert}]")
    if security.allowed_cn and security.allowed_hostname:
        raise ConfigError(
            f'AllowedCN and AllowedHostname are mutually exclusive (cn="{security.allowed_cn}", '
            f'hostname="{security.allowed_hostname}")'
        )
    if security.trusted_ca_file and not security.is_given:
        raise ConfigError(f"--{prefix}trusted-ca-file needs --{prefix}cert-file and --{prefix}key-file")
    if security.trusted_ca_file:
        return
    wanted = (
        (f"--{prefix}client-cert-auth", security.client_cert_auth and security.is_given),
        (f"--{prefix or 'client-'}crl-file", security.crl_file),
        ("--peer-cert-allowed-cn", security.allowed_cn and security.is_given),
        (f"--{prefix or 'client-'}cert-allowed-hostname", security.allowed_hostname and security.is_given),
    )
    for flag, is_set in wanted:
        if is_set:
            raise ConfigError(f"{flag} needs --{prefix}trusted-ca-file: whose certificates are to be believed?")


def check_tls(min_version: str, max_version: str, suites: tuple[str, ...]) -> None:
    """Raises ConfigError."""
    for version in (min_version, max_version):
        if version and version not in TLS_VERSIONS:
            raise ConfigError(f'unexpected TLS version "{version}": there are {" and ".join(TLS_VERSIONS)}')
    if min_version and max_version and TLS_VERSIONS.index(min_version) > TLS_VERSIONS.index(max_version):
        raise ConfigError(f"--tls-min-version {min_version} is above --tls-max-version {max_version}")
    for suite in suites:
        if suite not in _SUITES and suite not in _TLS_13_SUITES:
            raise ConfigError(f'unexpected TLS cipher suite "{suite}"')
    if suites and min_version == "TLS1.3":
        raise ConfigError("cipher suites cannot be configured when only TLS1.3 is enabled")
    if suites and max_version == "TLS1.2" and not openssl_suites(suites):
        raise ConfigError("--cipher-suites names none that TLS1.2 has, which is the only version that is enabled")


def openssl_suites(suites: tuple[str, ...]) -> tuple[str, ...]:
    """Those of TLS 1.2, by OpenSSL's names."""
    return tuple(_SUITES[suite] for suite in suites if suite in _SUITES)
