"""Every setting and every limit, each saying what turning it does. Frozen, checked once.

Environment and files are read in `ctl/` only; here are the values and what must hold between them.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from zkv.errors import ConfigError
from zkv.urls import socket_endpoint

MEBIBYTE = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What one node holds at most. Names end in their unit; larger means more memory, smaller more refusals."""

    request_bytes_max: int = 3 * MEBIBYTE // 2
    """One client message (etcd's --max-request-bytes, 1.5 MiB)."""
    txn_ops_max: int = 128
    """Compares, success or failure operations of one txn (etcd's --max-txn-ops)."""
    message_requests_max: int = 1024
    """Requests in one client message."""
    in_flight_groups_max: int = 20_000
    """Client messages one gateway has passed on and not yet answered; more are refused as TooManyRequests."""
    in_flight_bytes_max: int = 64 * MEBIBYTE
    """Their bytes."""
    chunk_bytes: int = 256 * 1024
    """One chunk of a streamed range, and of a snapshot, holds about this much, one key at least."""
    chunk_credit: int = 4
    """Chunks a client is sent before it must say that it took some."""
    streams_max: int = 256
    """Ranges being streamed at once by one storage actor."""
    answer_bytes_max: int = 8 * MEBIBYTE
    """A range inside a txn, or a sorted one, larger than this is refused (RangeTooLarge)."""
    sorted_keys_max: int = 1_000_000
    """Keys a range sorted by something else than its key may look at, when no limit bounds what is kept."""
    entry_bytes_max: int = 2 * MEBIBYTE
    """Frames gather into one log entry up to this size (one frame may be larger, up to in_flight_bytes_max)."""
    append_bytes_max: int = 4 * MEBIBYTE
    """Entries in one append message (at least one entry)."""
    in_flight_appends_max: int = 64
    """Append messages to one follower not yet answered."""
    uncommitted_bytes_max: int = 64 * MEBIBYTE
    """Log bytes a leader holds uncommitted before it refuses proposals."""
    feed_bytes_max: int = 8 * MEBIBYTE
    """Entries raft has sent to storage that are not yet applied."""
    log_cache_bytes: int = 16 * MEBIBYTE
    """The newest entries raft keeps in memory; older ones are read from disk."""
    flush_bytes: int = 16 * MEBIBYTE
    """Storage makes its state durable each time about this much was written: more means longer replay after a crash."""
    sessions_max: int = 65_536
    """Client sessions whose answers are remembered for retries."""
    session_idle_ms: int = 600_000
    """A session unused for this long (cluster clock) may be forgotten ..."""
    session_kept_ms: int = 60_000
    """... and none is forgotten before this; a client must not retry a write for longer."""
    session_answers_max: int = 1024
    """Unacknowledged answers kept per session, and with them writes one session may have in flight."""
    session_answer_bytes_max: int = 64 * 1024
    """An answer larger than this is not kept; its retry gets AnswerLost."""

    def __post_init__(self) -> None:
        assert self.chunk_bytes <= self.answer_bytes_max
        assert self.request_bytes_max <= self.in_flight_bytes_max
        assert self.session_kept_ms < self.session_idle_ms


DEFAULT_CLIENT_URL = "tcp://localhost:2378"
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
    listen_client_urls: tuple[str, ...] = (DEFAULT_CLIENT_URL,)
    """Where native clients come in: tcp:// or curve://, at IP addresses or localhost."""
    listen_peer_urls: tuple[str, ...] = (DEFAULT_PEER_URL,)
    """Where the other members come in: tcp:// or curve:// (http:// and https:// mean the same two)."""
    advertise_client_urls: tuple[str, ...] = (DEFAULT_CLIENT_URL,)
    """Where clients are told to find this member."""
    initial_advertise_peer_urls: tuple[str, ...] = (DEFAULT_PEER_URL,)
    """Where the others find this member; they must stand in `initial_cluster` under its name."""
    initial_cluster: str = ""
    """The members a new cluster starts with, NAME=URL,NAME=URL; this member alone when empty."""
    initial_cluster_state: str = "new"
    """`new`, or `existing` to join a cluster that runs."""
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
        _at_least("--heartbeat-interval", self.heartbeat_interval, 1)
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
            ("--listen-client-urls", self.listen_client_urls, NATIVE_SCHEMES),
            ("--advertise-client-urls", self.advertise_client_urls, ADVERTISED_SCHEMES),
            ("--listen-peer-urls", self.listen_peer_urls, PEER_SCHEMES),
            ("--initial-advertise-peer-urls", self.initial_advertise_peer_urls, PEER_SCHEMES),
        ):
            if not urls:
                raise ConfigError(f"{flag} must name at least one url")
            if len(set(urls)) != len(urls):
                raise ConfigError(f"{flag} names a url twice: {','.join(urls)}")
            for url in urls:
                endpoint = socket_endpoint(url)
                _one_of(f"{flag}: the scheme of {url}", url.partition("://")[0], schemes)
                if "listen" in flag and endpoint.host != "localhost" and not _is_ip(endpoint.host):
                    raise ConfigError(f"expected IP in URL for binding ({url})")
        if any(socket_endpoint(url).secure for url in self.listen_client_urls) and not self.curve_secret_key:
            raise ConfigError("curve:// in --listen-client-urls needs --curve-secret-key (`zkv keys` makes one)")
        peers = (*self.listen_peer_urls, *(url for urls in self.cluster().values() for url in urls))
        if any(socket_endpoint(url).secure for url in peers) and not self.peer_curve_secret_key:
            raise ConfigError("curve:// among the peer urls needs --peer-curve-secret-key (`zkv keys` makes one)")

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
        if sorted(cluster[self.name]) != sorted(self.initial_advertise_peer_urls):
            advertised = ",".join(f"{self.name}={url}" for url in sorted(self.initial_advertise_peer_urls))
            listed = ",".join(f"{self.name}={url}" for url in sorted(cluster[self.name]))
            raise ConfigError(
                f"--initial-cluster has {listed} but missing from --initial-advertise-peer-urls={advertised}"
            )
        urls = [url for member in cluster.values() for url in member]
        if len(set(urls)) != len(urls):
            raise ConfigError(f"--initial-cluster has duplicate urls: {self.initial_cluster}")

    def limits(self) -> Limits:
        return Limits(request_bytes_max=self.max_request_bytes, txn_ops_max=self.max_txn_ops)


LOG_LEVELS = ("debug", "info", "warn", "error", "panic", "fatal")
NATIVE_SCHEMES = ("tcp", "curve")
ADVERTISED_SCHEMES = ("tcp", "curve", "http", "https")
PEER_SCHEMES = ("tcp", "curve", "http", "https")
ELECTION_TIMEOUT_MS_MAX = 50_000  # etcd's


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
