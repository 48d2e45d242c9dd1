"""Every setting and every limit, each saying what turning it does. Frozen, checked once.

Flags, environment variables and files are read in `ctl/` only; here are the values and what must hold between them.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from zkv.errors import ConfigError
from zkv.limits import MEBIBYTE, Limits
from zkv.urls import socket_endpoint

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
    """Where clients come in, at IP addresses or localhost: native ones by tcp:// or curve://, etcd's by http://."""
    listen_peer_urls: tuple[str, ...] = (DEFAULT_PEER_URL,)
    """Where the other members come in: tcp:// or curve:// (http:// and https:// mean the same two)."""
    advertise_client_urls: tuple[str, ...] = DEFAULT_CLIENT_URLS
    """Where clients are told to find this member."""
    listen_metrics_urls: tuple[str, ...] = ()
    """Where health and metrics are told, by HTTP: http://, at IP addresses or localhost; nowhere when empty."""
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
    max_txn_ops: int = 128
    """Operations in one branch of a txn."""
    quota_backend_bytes: int = 0
    """Bytes in use above which the cluster takes nothing that grows it: 0 means 2 GiB, less than 0 no bound."""
    auto_compaction_mode: str = "periodic"
    """`periodic`: keep what was superseded within the retention. `revision`: keep so many revisions."""
    auto_compaction_retention: str = "0"
    """A time ("8h", "30m"; hours without a unit), or a number of revisions; 0: history is kept for ever."""
    log_level: str = "info"
    """debug, info, warn, error, panic or fatal."""
    curve_secret_key: str = ""
    """Key pair (.key_secret file) of the native door, for curve:// client urls."""
    curve_allow_dir: str = ""
    """Directory of the public key files of clients that may come in; all may when empty."""
    peer_curve_secret_key: str = ""
    """Key pair (.key_secret file) that all members share, for curve:// peer urls."""

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
        if self.heartbeat_interval < 1:
            raise ConfigError(f"--heartbeat-interval must be >0 (set to {self.heartbeat_interval}ms)")
        _at_least("--snapshot-count", self.snapshot_count, 1)
        _at_least("--max-request-bytes", self.max_request_bytes, 1024)
        _at_least("--max-txn-ops", self.max_txn_ops, 1)
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
            ("--listen-client-urls", self.listen_client_urls, CLIENT_SCHEMES),
            ("--advertise-client-urls", self.advertise_client_urls, ADVERTISED_SCHEMES),
            ("--listen-peer-urls", self.listen_peer_urls, PEER_SCHEMES),
            ("--initial-advertise-peer-urls", self.initial_advertise_peer_urls, PEER_SCHEMES),
            ("--listen-metrics-urls", self.listen_metrics_urls, ("http",)),
        ):
            if not urls and flag != "--listen-metrics-urls":
                raise ConfigError(f"{flag} must name at least one url")
            if len(set(urls)) != len(urls):
                raise ConfigError(f"{flag} names a url twice: {','.join(urls)}")
            for url in urls:
                endpoint = socket_endpoint(url)
                if flag == "--listen-client-urls" and url.startswith("https:"):
                    raise ConfigError(f"etcd's API over TLS is not served yet, only http:// ({url})")
                _one_of(f"{flag}: the scheme of {url}", url.partition("://")[0], schemes)
                if "listen" in flag and endpoint.host != "localhost" and not _is_ip(endpoint.host):
                    raise ConfigError(f"expected IP in URL for binding ({url})")
        if any(url.startswith("curve:") for url in self.listen_client_urls) and not self.curve_secret_key:
            raise ConfigError("curve:// in --listen-client-urls needs --curve-secret-key (`zkv keys` makes one)")
        peers = (*self.listen_peer_urls, *(url for urls in self.cluster().values() for url in urls))
        if any(socket_endpoint(url).secure for url in peers) and not self.peer_curve_secret_key:
            raise ConfigError("curve:// among the peer urls needs --peer-curve-secret-key (`zkv keys` makes one)")

    @property
    def native_client_urls(self) -> tuple[str, ...]:
        """Those of `listen_client_urls` where ZeroMQ is spoken."""
        return tuple(url for url in self.listen_client_urls if url.startswith(("tcp:", "curve:")))

    @property
    def etcd_client_urls(self) -> tuple[str, ...]:
        """Those of `listen_client_urls` where etcd's API is spoken."""
        return tuple(url for url in self.listen_client_urls if url.startswith("http:"))

    def cluster(self) -> dict[str, tuple[str, ...]]:
        """`initial_cluster` as name -> peer urls."""
        members: dict[str, tuple[str, ...]] = {}
        for word in self.initial_cluster.split(","):
            name, equals, url = word.strip().partition("=")
            if not equals or not name or not url:
                raise ConfigError(f"--initial-cluster: {word!r} is not NAME=URL")
            _one_of(f"--initial-cluster: the scheme of {url}", url.partition("://")[0], PEER_SCHEMES)
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
        parts = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?", text)
        if self.auto_compaction_mode == "revision" or not text or parts is None:
            wanted = "a number of revisions" if self.auto_compaction_mode == "revision" else "a time like 8h or 1h30m"
            raise ConfigError(f"--auto-compaction-retention must be {wanted}, not {text!r}")
        hours, minutes, seconds, milliseconds = (int(part or 0) for part in parts.groups())
        return ((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds

    def limits(self) -> Limits:
        return Limits(
            request_bytes_max=self.max_request_bytes,
            txn_ops_max=self.max_txn_ops,
            lease_ttl_min=-(-3 * self.election_timeout // 2000),
        ).checked()


LOG_LEVELS = ("debug", "info", "warn", "error", "panic", "fatal")
CLIENT_SCHEMES = ("tcp", "curve", "http")
ADVERTISED_SCHEMES = ("tcp", "curve", "http", "https")
PEER_SCHEMES = ("tcp", "curve", "http", "https")
ELECTION_TIMEOUT_MS_MAX = 50_000  # etcd's


def _assigned(name: str, urls: list[str]) -> str:
    return ",".join(f"{name}={url}" for url in urls)


def _one_of(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{what} must be one of {', '.join(allowed)}, not {value!r}")


def _at_least(flag: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(f"{flag} must be at least {least}, not {value}")


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
