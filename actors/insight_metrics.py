"""What is shown at /metrics: one table from what the actors tell of themselves to Prometheus' names, and its rendering.

Where etcd has a metric of that meaning it bears etcd's name and type, so that its dashboards and alerts serve; the
others begin with zkv_. docs/METRICS.md tells operators what they mean; a test holds it to this table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from zkv.gauges import BOUNDS_S

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from zkv.gauges import Value
    from zkv.wire.messages import Gauges

COUNTER: Final = "counter"
GAUGE: Final = "gauge"
HISTOGRAM: Final = "histogram"
EACH: Final = ("*",)
"""In place of actors: all, told apart by the label `actor`."""
DOORS: Final = ("gateway", "grpc")
_GRPC: Final = ("grpc",)
GRPC_LABELS: Final = "grpc_type|grpc_service|grpc_method"
PEER_LABELS: Final = "Local|Remote"
HEALTH: Final = {"true": "etcd_server_health_success", "false": "etcd_server_health_failures"}
"""Counters whose names lack what Prometheus' own library will not do without."""
NS: Final = 1e9
MS: Final = 1e6


class Shown(NamedTuple):
    """A metric. `key`: under which name `actors` tell it; what several tell is added up. `label`: what theirs means;
    several of them, and what they mean, stand between |.

    `unit`: how many of theirs make one that is shown.
    """

    name: str
    kind: str
    help: str
    actors: tuple[str, ...]
    key: str
    label: str = ""
    unit: float = 1


_RAFT: Final = ("raft",)
_STORAGE: Final = ("storage",)
_LEASE: Final = ("lease",)
_WATCH: Final = ("watch",)
_USHER: Final = ("usher",)
_ABOUT: Final = ("about",)  # the node itself: what the server knows without being told
_PROCESSES: Final = ("processes",)  # what the operating system tells of them

TABLE: Final = (
    Shown("etcd_server_id", GAUGE, "Member ID in hexadecimal, as a label.", _ABOUT, "id", "server_id"),
    Shown("etcd_server_version", GAUGE, "The etcd it behaves as.", _ABOUT, "etcd server", "server_version"),
    Shown("etcd_cluster_version", GAUGE, "The same of the cluster.", _ABOUT, "etcd cluster", "cluster_version"),
    Shown("zkv_version", GAUGE, "Which version of zkv runs.", _ABOUT, "version", "version"),
    Shown("etcd_server_has_leader", GAUGE, "1 if a leader is known.", _RAFT, "has leader"),
    Shown("etcd_server_is_leader", GAUGE, "1 if this member leads.", _RAFT, "is leader"),
    Shown("etcd_server_is_learner", GAUGE, "1 if this member does not vote.", _RAFT, "is learner"),
    Shown("etcd_server_leader_changes_seen_total", COUNTER, "Leaders seen to come.", _RAFT, "leader changes"),
    Shown("etcd_server_proposals_committed_total", GAUGE, "Index of the newest committed entry.", _RAFT, "committed"),
    Shown("etcd_server_proposals_applied_total", GAUGE, "Index of the newest applied entry.", _RAFT, "applied"),
    Shown("etcd_server_proposals_pending", GAUGE, "Messages with writes, waiting for an answer.", DOORS, "pending"),
    Shown("etcd_server_proposals_failed_total", COUNTER, "Messages with writes that failed whole.", DOORS, "failed"),
    Shown("etcd_server_read_indexes_failed_total", COUNTER, "Rounds of reads nobody led.", _RAFT, "reads refused"),
    Shown("etcd_server_slow_apply_total", COUNTER, "Batches that took over 100 ms to apply.", _STORAGE, "slow applies"),
    Shown("etcd_server_quota_backend_bytes", GAUGE, "Bytes in use that raise an alarm; 0: none.", _STORAGE, "quota"),
    Shown("etcd_disk_wal_fsync_duration_seconds", HISTOGRAM, "Syncs of the log.", _RAFT, "fsync", "", NS),
    Shown("etcd_disk_wal_write_bytes_total", GAUGE, "Bytes written to the raft log.", _RAFT, "log bytes"),
    Shown("etcd_disk_backend_commit_duration_seconds", HISTOGRAM, "Batches applied to the store.", _STORAGE, "apply",
          unit=NS),
    Shown("etcd_disk_backend_defrag_duration_seconds", HISTOGRAM, "Defragmentations.", _STORAGE, "defrag", "", NS),
    Shown("etcd_disk_defrag_inflight", GAUGE, "1 while a defragmentation runs.", _STORAGE, "defragmenting"),
    Shown("etcd_mvcc_db_total_size_in_bytes", GAUGE, "Size of the store on the disk.", _STORAGE, "db size"),
    Shown("etcd_mvcc_db_total_size_in_use_in_bytes", GAUGE, "About what defrag would leave.", _STORAGE, "db in use"),
    Shown("etcd_debugging_mvcc_current_revision", GAUGE, "Revision of the store.", _STORAGE, "revision"),
    Shown("etcd_debugging_mvcc_compact_revision", GAUGE, "Revision of the last compaction.", _STORAGE, "compacted"),
    Shown("etcd_debugging_mvcc_db_compaction_keys_total", COUNTER, "Versions of keys that compaction removed.",
          _STORAGE, "compacted keys"),
    Shown("etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds", HISTOGRAM, "Steps of physical compactions.",
          _STORAGE, "compaction step", "", MS),
    Shown("etcd_debugging_mvcc_db_compaction_total_duration_milliseconds", HISTOGRAM, "Physical compactions.", _STORAGE,
          "compaction", "", MS),
    Shown("etcd_debugging_mvcc_db_compaction_last", GAUGE, "When the last one ended; 0: none has.", _STORAGE,
          "compaction ended"),
    Shown("etcd_debugging_mvcc_total_put_size_in_bytes", GAUGE, "Bytes of keys and values put.", _STORAGE,
          "event bytes"),
    Shown("etcd_debugging_mvcc_events_total", COUNTER, "Events matched against watches.", _WATCH, "events"),
    Shown("etcd_debugging_auth_revision", GAUGE, "Revision of users and roles.", _STORAGE, "auth revision"),
    Shown("etcd_debugging_mvcc_range_total", COUNTER, "As etcd_mvcc_range_total.", _STORAGE, "ranges"),
    Shown("etcd_mvcc_put_total", COUNTER, "Puts, those of transactions too.", _STORAGE, "puts"),
    Shown("etcd_mvcc_delete_total", COUNTER, "Requests to delete, those of transactions too.", _STORAGE, "deletions"),
    Shown("etcd_mvcc_range_total", COUNTER, "Requests to read keys, those of transactions too.", _STORAGE, "ranges"),
    Shown("etcd_mvcc_txn_total", COUNTER, "Transactions.", _STORAGE, "txns"),
    Shown("etcd_mvcc_hash_rev_duration_seconds", HISTOGRAM, "Hashes, as endpoint hashkv asks for.", _STORAGE, "hash",
          "", NS),
    Shown("etcd_disk_backend_snapshot_duration_seconds", HISTOGRAM, "Snapshots sent to clients.", _STORAGE,
          "snapshot", "", NS),
    Shown("etcd_server_snapshot_apply_in_progress_total", GAUGE, "1 while a snapshot comes from a member.", _STORAGE,
          "snapshot coming"),
    Shown("etcd_debugging_mvcc_watch_stream_total", GAUGE, "Connections with watches.", _WATCH, "streams"),
    Shown("etcd_debugging_mvcc_watcher_total", GAUGE, "Watches.", _WATCH, "watches"),
    Shown("etcd_debugging_mvcc_slow_watcher_total", GAUGE, "Places from which watches wait for history.", _WATCH,
          "behind"),
    Shown("etcd_debugging_lease_granted_total", COUNTER, "Leases seen to begin.", _LEASE, "granted"),
    Shown("etcd_debugging_lease_revoked_total", COUNTER, "Leases seen to end, in any way.", _LEASE, "ended"),
    Shown("etcd_debugging_lease_renewed_total", COUNTER, "Keep-alives taken, as leader.", _LEASE, "renewed"),
    Shown("etcd_debugging_lease_ttl_total", HISTOGRAM, "TTLs of leases seen to begin, in seconds.", _LEASE, "ttls", "",
          MS),
    Shown("etcd_debugging_server_lease_expired_total", COUNTER, "Leases that ran out, as leader.", _LEASE, "expired"),
    Shown("etcd_network_client_grpc_received_bytes_total", COUNTER, "Bytes from clients.", DOORS, "received bytes"),
    Shown("etcd_network_client_grpc_sent_bytes_total", COUNTER, "Bytes of answers to clients.", DOORS, "sent bytes"),
    Shown("etcd_network_peer_sent_bytes_total", COUNTER, "Bytes to a member.", _RAFT, "peer sent bytes", "To"),
    Shown("etcd_network_peer_received_bytes_total", COUNTER, "Bytes from a member.", _RAFT, "peer received bytes",
          "From"),
    Shown("etcd_network_peer_sent_failures_total", COUNTER, "Messages to a member that found no way.", _RAFT,
          "peer sent failures", "To"),
    Shown("etcd_network_peer_round_trip_time_seconds", HISTOGRAM, "Heartbeats, at the leader.", _RAFT,
          "peer round trip", "To", NS),
    Shown("etcd_network_active_peers", GAUGE, "1 for each member it has a link to.", _RAFT, "active peers",
          PEER_LABELS),
    Shown("etcd_network_disconnected_peers_total", COUNTER, "Connections to a member lost.", _RAFT,
          "disconnected peers", PEER_LABELS),
    Shown("process_cpu_seconds_total", COUNTER, "CPU time of all processes.", _PROCESSES, "cpu", "", NS),
    Shown("process_resident_memory_bytes", GAUGE, "Memory of all, the shared once.", _PROCESSES, "memory"),
    Shown("process_open_fds", GAUGE, "Open files of all processes.", _PROCESSES, "files"),
    Shown("process_max_fds", GAUGE, "Files that one process may open.", _PROCESSES, "files max"),
    Shown("process_start_time_seconds", GAUGE, "When the node was started.", _PROCESSES, "started", "", NS),
    Shown("process_virtual_memory_bytes", GAUGE, "Address space of all.", _PROCESSES, "virtual"),
    Shown("process_virtual_memory_max_bytes", GAUGE, "Address space one process may have.", _PROCESSES, "virtual max"),
    Shown("os_fd_used", GAUGE, "Open files of all processes.", _PROCESSES, "files"),
    Shown("os_fd_limit", GAUGE, "Files that one process may open.", _PROCESSES, "files max"),
    Shown("grpc_server_started_total", COUNTER, "Calls begun.", _GRPC, "calls started", GRPC_LABELS),
    Shown("grpc_server_handled_total", COUNTER, "Calls ended, however.", _GRPC, "calls handled",
          f"grpc_code|{GRPC_LABELS}"),
    Shown("grpc_server_msg_received_total", COUNTER, "Messages of calls taken.", _GRPC, "calls received", GRPC_LABELS),
    Shown("grpc_server_msg_sent_total", COUNTER, "Messages of calls sent.", _GRPC, "calls sent", GRPC_LABELS),
    Shown("zkv_raft_term", GAUGE, "Term of raft.", _RAFT, "term"),
    Shown("zkv_raft_log_first_index", GAUGE, "Oldest entry in the log.", _RAFT, "log first"),
    Shown("zkv_raft_log_last_index", GAUGE, "Newest entry in the log.", _RAFT, "log last"),
    Shown("zkv_raft_peers", GAUGE, "Members that it has links to.", _RAFT, "peers"),
    Shown("zkv_raft_feed_bytes", GAUGE, "Entries given to storage and not yet applied.", _RAFT, "fed bytes"),
    Shown("zkv_raft_reads_waiting", GAUGE, "Rounds of reads that wait for a quorum.", _RAFT, "reads waiting"),
    Shown("zkv_storage_reads_waiting", GAUGE, "Frames of reads that wait for an index.", _STORAGE, "reads waiting"),
    Shown("zkv_storage_streams", GAUGE, "Ranges being streamed.", _STORAGE, "streams"),
    Shown("zkv_storage_changes_total", COUNTER, "Puts, and keys deleted, as applied on each member.", _STORAGE,
          "changes"),
    Shown("zkv_storage_alarms", GAUGE, "Alarms that are on.", _STORAGE, "alarms", "alarm"),
    Shown("zkv_storage_unflushed_bytes", GAUGE, "Written since the last flush was begun.", _STORAGE, "unflushed"),
    Shown("zkv_quota_keys", GAUGE, "Keys under a prefix that has a quota.", _STORAGE, "quota keys", "prefix"),
    Shown("zkv_quota_keys_max", GAUGE, "How many there may be; 0: any.", _STORAGE, "quota keys max", "prefix"),
    Shown("zkv_quota_bytes", GAUGE, "Bytes of these keys and their values.", _STORAGE, "quota bytes", "prefix"),
    Shown("zkv_quota_bytes_max", GAUGE, "How many there may be; 0: any.", _STORAGE, "quota bytes max", "prefix"),
    Shown("zkv_quota_requests_max", GAUGE, "Requests a second that may change them; 0: any.", _STORAGE,
          "quota requests max", "prefix"),
    Shown("zkv_quota_refused_total", COUNTER, "Requests that were too much of it, as applied on each member.",
          _STORAGE, "quota refused", "prefix"),
    Shown("zkv_requests_total", COUNTER, "Requests taken, by their way.", DOORS, "requests", "way"),
    Shown("zkv_request_duration_seconds", HISTOGRAM, "From a message to its answer.", DOORS, "durations", "way", NS),
    Shown("zkv_request_errors_total", COUNTER, "Errors answered by the gateway, by class.", DOORS, "errors", "error"),
    Shown("zkv_client_refusals_total", COUNTER, "What clients were refused for having all they may have, by limit.",
          DOORS, "client refusals", "limit"),
    Shown("zkv_etcd_connections", GAUGE, "Connections of clients of etcd's API.", ("grpc",), "connections"),
    Shown("zkv_tls_refused_total", COUNTER, "TLS connections that were not let in.", ("grpc",), "tls refused"),
    Shown("zkv_certificate_expiry_timestamp_seconds", GAUGE, "When the first of these ends.", _USHER,
          "certificate ends", "certificate"),
    Shown("zkv_introductions_total", COUNTER, "Introductions of CURVE keys, by outcome.", _USHER, "introductions",
          "outcome"),
    Shown("zkv_introduced_keys", GAUGE, "CURVE keys that certificates have let in.", _USHER, "guests"),
    Shown("zkv_groups_in_flight", GAUGE, "Clients' messages not yet answered.", DOORS, "groups"),
    Shown("zkv_bytes_in_flight", GAUGE, "Bytes of these.", DOORS, "bytes"),
    Shown("zkv_watches_behind", GAUGE, "Places from which watches wait for history.", _WATCH, "behind"),
    Shown("zkv_watch_lag_revisions", GAUGE, "How far the last of them is behind.", _WATCH, "lag"),
    Shown("zkv_watch_streams_blocked", GAUGE, "Connections that take no events.", _WATCH, "blocked"),
    Shown("zkv_watch_flight_bytes", GAUGE, "Watch answers that no client has acknowledged.", _WATCH, "flight"),
    Shown("zkv_watch_events_total", COUNTER, "Events matched against watches.", _WATCH, "events"),
    Shown("zkv_leases", GAUGE, "Leases.", _LEASE, "leases"),
    Shown("zkv_health_questions_total", COUNTER, "Questions for health, by answer.", _ABOUT, "health", "healthy"),
    Shown("zkv_actor_turns_total", COUNTER, "Turns of an actor's loop.", EACH, "turns"),
    Shown("zkv_actor_busy_seconds_total", COUNTER, "Time spent in them.", EACH, "busy", "", NS),
    Shown("zkv_actor_turn_seconds_max", GAUGE, "The longest of the last second.", EACH, "turn", "", NS),
    Shown("zkv_actor_messages_total", COUNTER, "Messages taken.", EACH, "letters"),
    Shown("zkv_actor_inbox_messages_max", GAUGE, "Most of them at once, in the last second.", EACH, "inbox"),
    Shown("zkv_process_cpu_seconds_total", COUNTER, "CPU time.", _PROCESSES, "cpu of", "actor", NS),
    Shown("zkv_process_resident_memory_bytes", GAUGE, "Memory, with what it shares.", _PROCESSES, "memory of", "actor"),
)  # fmt: skip


def render(reports: Mapping[str, Gauges], others: Mapping[str, Iterable[Value]]) -> bytes:
    """In Prometheus' text format. `reports`: what actors told; `others`: values that were found otherwise."""
    told: dict[str, Iterable[Value]] = {actor: report.values for actor, report in reports.items()}
    told.update(others)
    return generate_latest(_Families(told)) + _health(others.get("about", ()))


def _health(values: Iterable[Value]) -> bytes:
    counts = {label: value for name, label, value in values if name == "health"}
    return "".join(
        f"# HELP {name} Questions for health, answered so.\n# TYPE {name} counter\n{name} {counts[healthy]}\n"
        for healthy, name in HEALTH.items()
        if healthy in counts
    ).encode()


class _Families:
    def __init__(self, told: Mapping[str, Iterable[Value]]) -> None:
        self._told: dict[tuple[str, str], list[tuple[str, str, int | tuple[int, ...]]]] = {}
        for actor, values in told.items():
            for key, label, value in values:
                self._told.setdefault((actor, key), []).append((actor, label, value))

    def collect(self) -> Iterator[Metric]:
        for shown in TABLE:
            if shown.actors == EACH:
                rows = [row for (_, key), rows in self._told.items() if key == shown.key for row in rows]
                yield _family(shown, "actor", {actor: value for actor, _, value in rows})
                continue
            values: dict[str, int | tuple[int, ...]] = {}
            for actor in shown.actors:
                for _, label, value in self._told.get((actor, shown.key), ()):
                    values[label] = _sum(values[label], value) if label in values else value
            if values or shown.label:
                yield _family(shown, shown.label, values)


def _sum(one: int | tuple[int, ...], other: int | tuple[int, ...]) -> int | tuple[int, ...]:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return tuple(a + b for a, b in zip(one, other, strict=True))
    assert isinstance(one, int)
    assert isinstance(other, int)
    return one + other


def _family(shown: Shown, label: str, values: Mapping[str, int | tuple[int, ...]]) -> Metric:
    labels = label.split("|") if label else []
    family: CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
    if shown.kind == HISTOGRAM:
        family = HistogramMetricFamily(shown.name, shown.help, labels=labels)
        for name, value in values.items():
            assert isinstance(value, tuple)
            family.add_metric(
                name.split("|") if label else [], _cumulative(value[1:], NS / shown.unit), value[0] / shown.unit
            )
        return family
    family = (CounterMetricFamily if shown.kind == COUNTER else GaugeMetricFamily)(
        shown.name, shown.help, labels=labels
    )
    for name, value in values.items():
        assert isinstance(value, int)
        family.add_metric(name.split("|") if label else [], value / shown.unit)
    return family


def _cumulative(counts: Iterable[int], scale: float) -> list[tuple[str, float]]:
    total = 0
    buckets: list[tuple[str, float]] = []
    for bound, count in zip((*(f"{bound * scale:g}" for bound in BOUNDS_S), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets
