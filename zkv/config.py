"""Every setting and every limit, each saying what turning it does. Frozen, checked once.

Flags, environment variables and files are read in `ctl/` only; here are the values and what must hold between them.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from zkv.errors import ConfigError
from zkv.limits import MEBIBYTE, Limits
from zkv.transport_security import TransportSecurity, check, check_tls
from zkv.urls import INTRODUCTIONS_UP, introductions_port, socket_endpoint

__all__ = ["DEFAULT_CLIENT_URLS", "DEFAULT_PEER_URL", "MEBIBYTE", "Limits", "NodeConfig"]

DEFAULT_CLIENT_URLS = ("http://localhost:2379", "tcp://localhost:2378")
DEFAULT_PEER_URL = "http://localhost:2380"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """How one node runs. Fields carry etcd's names; urls are kept as given.

    Raises ConfigError, one line each, for what cannot be served.
    """

    name: str = "default"
    """This member's name; unique in the cluster."""
    data_dir: str = ""
    """Where it keeps its data; `NAME.zkv` below the working directory when empty."""
    storage: str = "disk"
    """`disk`, or `memory`: nothing is kept, and a member that restarts is refilled by its peers."""
    listen_client_urls: tuple[str, ...] = DEFAULT_CLIENT_URLS
    """Where clients come in, at IP addresses or localhost: native ones by tcp:// or curve://, etcd's by http:// or
    https://."""
    listen_peer_urls: tuple[str, ...] = (DEFAULT_PEER_URL,)
    """Where the other members come in: tcp:// or curve:// (http:// and https:// mean the same two)."""
    advertise_client_urls: tuple[str, ...] = DEFAULT_CLIENT_URLS
    """Where clients are told to find this member."""
    listen_client_http_urls: tuple[str, ...] = ()
    """More urls of etcd's clients, http:// or https://; all that is served at the others is served there."""
    listen_metrics_urls: tuple[str, ...] = ()
    """Where health and metrics are told, by HTTP: http://, or https:// with the certificates of the client urls, at IP
    addresses or localhost; nowhere when empty."""
    initial_advertise_peer_urls: tuple[str, ...] = (DEFAULT_PEER_URL,)
    """Where the others find this member; they must stand in `initial_cluster` under its name."""
    initial_cluster: str = ""
    """The members a new cluster starts with, NAME=URL,NAME=URL; this member alone when empty."""
    initial_cluster_state: str = "new"
    """`new`, or `existing` to join a cluster that runs."""
    force_new_cluster: bool = False
    """Make this member's data a cluster of one: its former fellows count as removed."""
    initial_cluster_token: str = "etcd-cluster"  # noqa: S105 - etcd's name, and no secret
    """Makes the ids of clusters with the same urls differ."""
    heartbeat_interval: int = 100
    """ms between a leader's heartbeats. Less finds a dead leader no sooner, more repairs lost messages later."""
    election_timeout: int = 1000
    """ms without a leader before a member stands for election, up to twice that by chance."""
    snapshot_count: int = 100_000
    """Log entries kept for members that are behind, before they need a snapshot."""
    max_request_bytes: int = 3 * MEBIBYTE // 2
    """The largest message of a client."""
    max_concurrent_streams: int = 1_000
    """Calls that one connection of etcd's API may have open; more are refused, and tried again."""
    grpc_keepalive_min_time: str = "5s"
    """Who pings more often, without being told anything meanwhile, is cut off (too_many_pings)."""
    grpc_keepalive_interval: str = "2h"
    """A client that has been silent for so long is asked whether it lives; 0: never."""
    grpc_keepalive_timeout: str = "20s"
    """It is gone when it has not answered for so long; 0: nobody is asked."""
    experimental_watch_progress_notify_interval: str = "10m"
    """A watch with progress_notify that had no events for so long is told how far the store is."""
    max_txn_ops: int = 128
    """Operations in one branch of a txn."""
    max_client_requests: int = Limits().client_requests_max
    """Requests a second of one client at one door: its user, else its certificate's common name, else its address.
    0: no bound, here and for the four that follow."""
    max_client_bytes: int = Limits().client_bytes_max
    """Bytes of its messages that are under way at once. More lets one client slow the others; less, it alone."""
    max_client_watches: int = Limits().client_watches_max
    """Its watches."""
    max_client_leases: int = Limits().client_leases_max
    """Leases granted to it that are still there."""
    max_client_connections: int = Limits().client_connections_max
    """Its connections."""
    quota_backend_bytes: int = 0
    """Bytes in use above which the cluster takes nothing that grows it: 0 means 2 GiB, less than 0 no bound."""
    auto_compaction_mode: str = "periodic"
    """`periodic`: keep what was superseded within the retention. `revision`: keep so many revisions."""
    auto_compaction_retention: str = "0"
    """A time ("8h", "30m"; hours without a unit), or a number of revisions; 0: history is kept for ever."""
    experimental_initial_corrupt_check: bool = False
    """Compare this member's data with the others' before it serves; it does not start where they differ."""
    experimental_corrupt_check_time: str = "0s"
    """How often the leader compares the data of all members; 0: never."""
    experimental_compact_hash_check_enabled: bool = False
    """Have the leader compare, after compactions, what they left on all members."""
    experimental_compact_hash_check_time: str = "1m"
    """How often it looks whether there was one."""
    warning_apply_duration: str = "100ms"
    """What takes longer to be applied is logged."""
    warning_unary_request_duration: str = "300ms"
    """Requests that take longer are logged, with where the time went."""
    auth_token: str = "simple"  # noqa: S105 - the kind of tokens, and no secret
    """Tokens of users: `simple`, or `jwt,pub-key=FILE,priv-key=FILE,sign-method=RS512,ttl=10m`."""
    auth_token_ttl: int = 300
    """Seconds that a simple token lives without being shown."""
    audit_log: str = ""
    """A file that is told who asked what of which keys, and whether he was let; nowhere when empty."""
    bcrypt_cost: int = 10
    """Each one more makes hashing a password, and guessing one, take twice as long; 4 to 31."""
    log_level: str = "info"
    """debug, info, warn, error, panic or fatal."""
    cert_file: str = ""
    """Certificate shown to clients (PEM, its chain behind it), at https:// and curve:// client urls."""
    key_file: str = ""
    """Its key."""
    trusted_ca_file: str = ""
    """CAs of the certificates that clients must show; they need show none when empty."""
    client_cert_auth: bool = False
    """Clients must show a certificate. As in etcd they must whenever trusted_ca_file is given."""
    client_crl_file: str = ""
    """What those CAs have revoked."""
    client_cert_allowed_hostname: str = ""
    """A name that clients' certificates must hold among their subject alternative names; any when empty."""
    auto_tls: bool = False
    """Without cert_file: a certificate that this server makes for itself, and that clients cannot check."""
    peer_cert_file: str = ""
    """Certificate shown to the other members, for both usages: they ask and are asked."""
    peer_key_file: str = ""
    """Its key."""
    peer_trusted_ca_file: str = ""
    """CAs of the certificates that the other members must show."""
    peer_client_cert_auth: bool = False
    """They must show one. They must in any case, but with peer_auto_tls."""
    peer_crl_file: str = ""
    """What those CAs have revoked."""
    peer_cert_allowed_cn: str = ""
    """The common name that all members' certificates must have; any when empty."""
    peer_cert_allowed_hostname: str = ""
    """A name that they all must hold among their subject alternative names; any when empty."""
    peer_auto_tls: bool = False
    """Without peer_cert_file: members encrypt, with certificates they make for themselves, and check nobody's."""
    self_signed_cert_validity: int = 1
    """Years that certificates of auto_tls and peer_auto_tls last."""
    tls_min_version: str = "TLS1.2"
    """The oldest TLS at https:// client urls: TLS1.2 or TLS1.3."""
    tls_max_version: str = ""
    """The newest; as new as there is when empty."""
    cipher_suites: tuple[str, ...] = ()
    """Those of TLS 1.2 there, by Go's names; OpenSSL's choice when empty."""
    cors: tuple[str, ...] = ("*",)
    """Origins of web pages that may ask by JSON."""
    host_whitelist: tuple[str, ...] = ("*",)
    """Hosts that etcd's JSON may be asked for without TLS (against DNS rebinding)."""
    curve_secret_key: str = ""
    """Key pair (.key_secret file) of the native door, for curve:// client urls without certificates."""
    curve_allow_dir: str = ""
    """Directory of the public key files of clients that may come in; all may when empty."""
    peer_curve_secret_key: str = ""
    """Key pair (.key_secret file) that all members share, for curve:// peer urls without certificates."""

    def __post_init__(self) -> None:
        if not self.data_dir:
            object.__setattr__(self, "data_dir", f"{self.name}.zkv")
        if not self.initial_cluster:
            cluster = ",".join(f"{self.name}={url}" for url in self.initial_advertise_peer_urls)
            object.__setattr__(self, "initial_cluster", cluster)
        self._check_values()
        self._check_urls()

    def _check_values(self) -> None:
        if not self.name or not self.name.isprintable() or set(self.name) & set("=,/"):
            raise ConfigError(f"--name must be printable and without '=', ',' and '/': {self.name!r}")
        _one_of("--storage", self.storage, ("disk", "memory"))
        _one_of("--initial-cluster-state", self.initial_cluster_state, ("new", "existing"))
        _one_of("--log-level", self.log_level, LOG_LEVELS)
        _one_of("--auto-compaction-mode", self.auto_compaction_mode, ("periodic", "revision"))
        self.compaction_retention()
        self.warning_ms()
        self.corruption_checks()
        self.keepalive()
        _at_least("--max-concurrent-streams", self.max_concurrent_streams, 1)
        if self.heartbeat_interval < 1:
            raise ConfigError(f"--heartbeat-interval must be >0 (set to {self.heartbeat_interval}ms)")
        _at_least("--auth-token-ttl", self.auth_token_ttl, 1)
        if not BCRYPT_COST_MIN <= self.bcrypt_cost <= BCRYPT_COST_MAX:
            raise ConfigError(f"--bcrypt-cost must be {BCRYPT_COST_MIN} to {BCRYPT_COST_MAX}, not {self.bcrypt_cost}")
        _at_least("--snapshot-count", self.snapshot_count, 1)
        _at_least("--max-request-bytes", self.max_request_bytes, 1024)
        _at_least("--max-txn-ops", self.max_txn_ops, 1)
        for what in ("requests", "bytes", "watches", "leases", "connections"):
            _at_least(f"--max-client-{what}", getattr(self, f"max_client_{what}"), 0)
        check(self.client_security, "")
        check(self.peer_security, "peer-")
        check_tls(self.tls_min_version, self.tls_max_version, self.cipher_suites)
        _at_least("--self-signed-cert-validity", self.self_signed_cert_validity, 1)
        _at_most("--self-signed-cert-validity", self.self_signed_cert_validity, 100)
        if 5 * self.heartbeat_interval > self.election_timeout:
            raise ConfigError(
                f"--election-timeout[{self.election_timeout}ms] should be at least as 5 times as "
                f"--heartbeat-interval[{self.heartbeat_interval}ms]"
            )
        if self.election_timeout > ELECTION_TIMEOUT_MS_MAX:
            raise ConfigError(
                f"--election-timeout[{self.election_timeout}ms] is too long, and should be set less than "
                f"{ELECTION_TIMEOUT_MS_MAX}ms"
            )

    def _check_urls(self) -> None:
        for flag, urls, schemes in (
            ("--listen-client-urls", self.listen_client_urls, SCHEMES),
            ("--advertise-client-urls", self.advertise_client_urls, SCHEMES),
            ("--listen-peer-urls", self.listen_peer_urls, SCHEMES),
            ("--initial-advertise-peer-urls", self.initial_advertise_peer_urls, SCHEMES),
            ("--listen-client-http-urls", self.listen_client_http_urls, ("http", "https")),
            ("--listen-metrics-urls", self.listen_metrics_urls, ("http", "https")),
        ):
            if not urls and flag not in {"--listen-metrics-urls", "--listen-client-http-urls"}:
                raise ConfigError(f"{flag} must name at least one url")
            if len(set(urls)) != len(urls):
                raise ConfigError(f"{flag} names a url twice: {','.join(urls)}")
            for url in urls:
                endpoint = socket_endpoint(url)
                _one_of(f"{flag}: the scheme of {url}", url.partition("://")[0], schemes)
                if "listen" in flag and endpoint.host != "localhost" and not _is_ip(endpoint.host):
                    raise ConfigError(f"expected IP in URL for binding ({url})")
        self._check_security()

    def _check_security(self) -> None:
        for url in (*self.listen_client_urls, *self.listen_client_http_urls, *self.listen_metrics_urls):
            if url.startswith("https:") and not self.client_security.is_given:
                what = "metrics" if url in self.listen_metrics_urls else "client"
                raise ConfigError(
                    f"TLS key/cert (--cert-file, --key-file) must be provided for {what} url "
                    f"{url} with HTTPS scheme (`zkv cert` makes them)"
                )
            if url.startswith("curve:") and not (self.curve_secret_key or self.client_security.is_given):
                raise ConfigError(
                    "curve:// in --listen-client-urls needs --cert-file and --key-file (`zkv cert` makes them), "
                    "or --curve-secret-key (`zkv keys` makes one)"
                )
        if self.curve_allow_dir and not self.curve_secret_key:
            raise ConfigError(
                "--curve-allow-dir needs --curve-secret-key: with certificates, --trusted-ca-file says who"
            )
        peers = (*self.listen_peer_urls, *(url for urls in self.cluster().values() for url in urls))
        secure = any(socket_endpoint(url).secure for url in peers)
        if secure and not (self.peer_curve_secret_key or self.peer_security.is_given):
            raise ConfigError(
                "https:// or curve:// among the peer urls needs --peer-cert-file, --peer-key-file and "
                "--peer-trusted-ca-file (`zkv cert` makes them), or --peer-curve-secret-key (`zkv keys` makes one)"
            )
        if secure and self.peers_are_introduced and not (self.peer_trusted_ca_file or self.peer_security.auto):
            raise ConfigError("--peer-cert-file needs --peer-trusted-ca-file: whose certificates are to be believed?")
        if len({url.startswith(("curve:", "https:")) for url in self.listen_peer_urls}) > 1:
            raise ConfigError(f"--listen-peer-urls mixes plain and secure urls: {','.join(self.listen_peer_urls)}")
        for url in (*self.introduced_client_urls, *(peers if self.peers_are_introduced else ())):
            if socket_endpoint(url).secure and introductions_port(url) > PORT_MAX:
                raise ConfigError(f"introductions are made {INTRODUCTIONS_UP} ports above a curve:// url: {url}")

    @property
    def client_security(self) -> TransportSecurity:
        auto = self.auto_tls and not self.cert_file
        return TransportSecurity(
            cert_file=f"{self.data_dir}/fixtures/client/cert.pem" if auto else self.cert_file,
            key_file=f"{self.data_dir}/fixtures/client/key.pem" if auto else self.key_file,
            trusted_ca_file=self.trusted_ca_file,
            client_cert_auth=self.client_cert_auth,
            crl_file=self.client_crl_file,
            allowed_hostname=self.client_cert_allowed_hostname,
            auto=auto,
        )

    @property
    def peer_security(self) -> TransportSecurity:
        auto = self.peer_auto_tls and not self.peer_cert_file
        return TransportSecurity(
            cert_file=f"{self.data_dir}/fixtures/peer/cert.pem" if auto else self.peer_cert_file,
            key_file=f"{self.data_dir}/fixtures/peer/key.pem" if auto else self.peer_key_file,
            trusted_ca_file=self.peer_trusted_ca_file,
            client_cert_auth=self.peer_client_cert_auth,
            crl_file=self.peer_crl_file,
            allowed_cn=self.peer_cert_allowed_cn,
            allowed_hostname=self.peer_cert_allowed_hostname,
            auto=auto,
        )

    @property
    def introduced_client_urls(self) -> tuple[str, ...]:
        """Those of `listen_client_urls` where certificates introduce CURVE keys."""
        if self.curve_secret_key:
            return ()
        return tuple(url for url in self.listen_client_urls if url.startswith("curve:"))

    @property
    def introduced_peer_urls(self) -> tuple[str, ...]:
        """Those of `listen_peer_urls` where they do."""
        if not self.peers_are_introduced:
            return ()
        return tuple(url for url in self.listen_peer_urls if socket_endpoint(url).secure)

    @property
    def peers_are_introduced(self) -> bool:
        """At secure peer urls certificates introduce CURVE keys."""
        return self.peer_security.is_given and not self.peer_curve_secret_key

    @property
    def native_client_urls(self) -> tuple[str, ...]:
        """Those of `listen_client_urls` where ZeroMQ is spoken."""
        return tuple(url for url in self.listen_client_urls if url.startswith(("tcp:", "curve:")))

    @property
    def etcd_client_urls(self) -> tuple[str, ...]:
        """Where etcd's API is spoken."""
        spoken = tuple(url for url in self.listen_client_urls if url.startswith(("http:", "https:")))
        return (*spoken, *self.listen_client_http_urls)

    def cluster(self) -> dict[str, tuple[str, ...]]:
        """`initial_cluster` as name -> peer urls."""
        members: dict[str, tuple[str, ...]] = {}
        for word in self.initial_cluster.split(","):
            name, equals, url = word.strip().partition("=")
            if not equals or not name or not url:
                raise ConfigError(f"--initial-cluster: {word!r} is not NAME=URL")
            _one_of(f"--initial-cluster: the scheme of {url}", url.partition("://")[0], SCHEMES)
            socket_endpoint(url)
            members[name] = (*members.get(name, ()), url)
        return members

    def check_bootstrap(self) -> None:
        """What must hold when the node starts without data; on a restart the initial-* values are not consulted.

        Raises ConfigError, in etcd's words.
        """
        cluster = self.cluster()
        if self.name not in cluster:
            raise ConfigError(f'couldn\'t find local name "{self.name}" in the initial cluster configuration')
        listed, advertised = cluster[self.name], self.initial_advertise_peer_urls
        if missing := sorted(set(listed) - set(advertised)):
            raise ConfigError(
                f"--initial-cluster has {_assigned(self.name, missing)} but missing from "
                f"--initial-advertise-peer-urls={','.join(sorted(advertised))}"
            )
        if missing := sorted(set(advertised) - set(listed)):
            raise ConfigError(
                f"--initial-advertise-peer-urls has {_assigned(self.name, missing)} but missing from "
                f"--initial-cluster={_assigned(self.name, sorted(listed))}"
            )
        urls = [url for member in cluster.values() for url in member]
        if len(set(urls)) != len(urls):
            raise ConfigError(f"--initial-cluster has duplicate urls: {self.initial_cluster}")

    def compaction_retention(self) -> int:
        """Milliseconds, or revisions, as the mode has it; 0: none. Raises ConfigError."""
        text = self.auto_compaction_retention
        if text.isascii() and text.isdecimal():
            return int(text) * (3_600_000 if self.auto_compaction_mode == "periodic" else 1)
        if self.auto_compaction_mode == "revision":
            raise ConfigError(f"--auto-compaction-retention must be a number of revisions, not {text!r}")
        return _milliseconds("--auto-compaction-retention", text)

    def corruption_checks(self) -> tuple[bool, int, int]:
        """At the start; how often (ms, 0: never); how often after compactions. Raises ConfigError."""
        periodic = _milliseconds("--experimental-corrupt-check-time", self.experimental_corrupt_check_time)
        compact = _milliseconds("--experimental-compact-hash-check-time", self.experimental_compact_hash_check_time)
        if self.experimental_compact_hash_check_enabled and not compact:
            raise ConfigError("--experimental-compact-hash-check-time must be >0 (set to 0s)")
        enabled = self.experimental_compact_hash_check_enabled
        return self.experimental_initial_corrupt_check, periodic, compact if enabled else 0

    def warning_ms(self) -> tuple[int, int]:
        """What takes longer is logged: to apply a batch, and to answer a request. Raises ConfigError."""
        return (
            _milliseconds("--warning-apply-duration", self.warning_apply_duration),
            _milliseconds("--warning-unary-request-duration", self.warning_unary_request_duration),
        )

    def keepalive(self) -> tuple[int, int, int]:
        """Of etcd's clients: the least time between their pings, our interval, our timeout (ms, 0: none).

        Raises ConfigError.
        """
        return (
            _milliseconds("--grpc-keepalive-min-time", self.grpc_keepalive_min_time),
            _milliseconds("--grpc-keepalive-interval", self.grpc_keepalive_interval),
            _milliseconds("--grpc-keepalive-timeout", self.grpc_keepalive_timeout),
        )

    def limits(self) -> Limits:
        notify = self.experimental_watch_progress_notify_interval
        return Limits(
            watch_progress_ms=max(1, _milliseconds("--experimental-watch-progress-notify-interval", notify)),
            request_bytes_max=self.max_request_bytes,
            txn_ops_max=self.max_txn_ops,
            client_requests_max=self.max_client_requests,
            client_bytes_max=self.max_client_bytes,
            client_watches_max=self.max_client_watches,
            client_leases_max=self.max_client_leases,
            client_connections_max=self.max_client_connections,
            lease_ttl_min=-(-3 * self.election_timeout // 2000),
        ).checked()


BCRYPT_COST_MIN, BCRYPT_COST_MAX = 4, 31
LOG_LEVELS = ("debug", "info", "warn", "error", "panic", "fatal")
SCHEMES = ("tcp", "curve", "http", "https")
PORT_MAX = 65_535
ELECTION_TIMEOUT_MS_MAX = 50_000  # etcd's


def _milliseconds(flag: str, text: str) -> int:
    parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", text)
    if not text or parts is None:
        raise ConfigError(f"{flag} must be a time like 8h or 1h30m, not {text!r}")
    hours, minutes, seconds, milliseconds = (int(part or 0) for part in parts.groups())
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds


def _assigned(name: str, urls: list[str]) -> str:
    return ",".join(f"{name}={url}" for url in urls)


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{what} must be one of {', '.join(allowed)}, not {value!r}")


def _at_least(flag: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{flag} must be at least {least}, not {value}")


def _at_most(flag: str, value: int, most: int) -> None:
    if value > most:
        raise ConfigError(f"{flag} must be at most {most}, not {value}")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
