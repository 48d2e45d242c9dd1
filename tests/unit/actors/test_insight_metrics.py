"""Metrics: what is shown, and that docs/METRICS.md says the same."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from zkv.actors.insight_metrics import COUNTER, EACH, GAUGE, HISTOGRAM, TABLE, render
from zkv.gauges import Histogram
from zkv.wire.messages import Gauges

DOCUMENT = Path(__file__).parents[3] / "docs" / "METRICS.md"


def shown(reports: dict[str, Gauges]) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Sample name -> labels -> value."""
    samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(render(reports, {}).decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return samples


def test_numbers_bear_their_names_and_labels() -> None:
    samples = shown(
        {
            "raft": Gauges(
                "raft", 1, (("has leader", "", 1), ("peer sent bytes", "ab", 70), ("busy", "", 1_500_000_000))
            ),
            "lease": Gauges("lease", 2, (("busy", "", 500_000_000),)),
        }
    )
    assert samples["etcd_server_has_leader"] == {(): 1}
    assert samples["etcd_network_peer_sent_bytes_total"] == {(("To", "ab"),): 70}
    assert samples["zkv_actor_busy_seconds_total"] == {(("actor", "raft"),): 1.5, (("actor", "lease"),): 0.5}


def test_what_two_doors_count_is_added_up() -> None:
    durations = Histogram()
    durations.observe(3_000_000)
    told = (("groups", "", 2), ("requests", "write", 5), ("durations", "write", durations.counts))
    samples = shown({"gateway": Gauges("gateway", 1, told), "grpc": Gauges("grpc", 2, told)})
    assert samples["zkv_groups_in_flight"] == {(): 4}
    assert samples["zkv_requests_total"] == {(("way", "write"),): 10}
    assert samples["zkv_request_duration_seconds_count"] == {(("way", "write"),): 2}
    assert samples["zkv_request_duration_seconds_sum"] == {(("way", "write"),): 0.006}


def test_buckets_count_what_is_below_them_too() -> None:
    syncs = Histogram()
    for milliseconds in (0, 3, 3, 20_000):
        syncs.observe(milliseconds * 1_000_000)
    buckets = shown({"raft": Gauges("raft", 1, (("fsync", "", syncs.counts),))})
    name = "etcd_disk_wal_fsync_duration_seconds_bucket"
    by_bound = {labels[0][1]: value for labels, value in buckets[name].items()}
    assert {bound: by_bound[bound] for bound in ("0.001", "0.002", "0.004", "8.192", "+Inf")} == {
        "0.001": 1, "0.002": 1, "0.004": 3, "8.192": 3, "+Inf": 4,
    }  # fmt: skip


def test_what_was_not_told_is_not_shown() -> None:
    """Nought would be a claim."""
    samples = shown({"raft": Gauges("raft", 1, (("term", "", 3),))})
    assert samples == {"zkv_raft_term": {(): 3}}


def test_what_nobody_knows_is_passed_over() -> None:
    """As from an actor of another version, while files are being replaced."""
    assert shown({"raft": Gauges("raft", 1, (("hats", "", 3),)), "cook": Gauges("cook", 2, (("term", "", 3),))}) == {}


def test_names_keep_to_prometheus_customs() -> None:
    """Each once; a counter ends in _total; whatever is ours begins so."""
    names = [metric.name for metric in TABLE]
    assert len(set(names)) == len(names)
    for metric in TABLE:
        assert metric.kind in {COUNTER, GAUGE, HISTOGRAM}
        assert (metric.kind != COUNTER) or metric.name.endswith("_total")
        assert re.fullmatch(r"(etcd|grpc|os|process|zkv)_[a-z_]+", metric.name)


def test_the_document_says_what_the_table_says() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\S*) \| (.+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    expected = [
        (metric.name, metric.kind, f"`{label.replace('|', ',')}`" if label else "", metric.help)
        for metric in TABLE
        for label in ("actor" if metric.actors == EACH else metric.label,)
    ]
    assert sorted(rows) == sorted(expected)


# Of etcd's mixin (contrib/mixin): its Grafana dashboard, and its alerts but those on `up` and on
# grpc_server_handling_seconds, which etcd has with --metrics=extensive only.
DASHBOARD = """
etcd_server_has_leader grpc_server_started_total grpc_server_handled_total etcd_mvcc_db_total_size_in_bytes
etcd_disk_wal_fsync_duration_seconds etcd_disk_backend_commit_duration_seconds process_resident_memory_bytes
etcd_network_client_grpc_received_bytes_total etcd_network_client_grpc_sent_bytes_total
etcd_network_peer_received_bytes_total etcd_network_peer_sent_bytes_total etcd_server_proposals_failed_total
etcd_server_proposals_pending etcd_server_proposals_committed_total etcd_server_proposals_applied_total
etcd_server_leader_changes_seen_total etcd_network_peer_round_trip_time_seconds
"""
ALERTS = """
etcd_network_peer_sent_failures_total etcd_server_has_leader etcd_server_is_leader etcd_server_leader_changes_seen_total
grpc_server_handled_total etcd_network_peer_round_trip_time_seconds etcd_server_proposals_failed_total
etcd_disk_wal_fsync_duration_seconds etcd_disk_backend_commit_duration_seconds etcd_server_quota_backend_bytes
etcd_mvcc_db_total_size_in_bytes etcd_mvcc_db_total_size_in_use_in_bytes
"""


def test_etcds_dashboard_and_alerts_find_what_they_ask_for() -> None:
    assert {*DASHBOARD.split(), *ALERTS.split()} <= {metric.name for metric in TABLE}


def test_several_labels_stand_apart() -> None:
    told = (("calls handled", "OK|unary|etcdserverpb.KV|Put", 3), ("calls started", "unary|etcdserverpb.KV|Put", 4))
    samples = shown({"grpc": Gauges("grpc", 1, told)})
    labels = (("grpc_method", "Put"), ("grpc_service", "etcdserverpb.KV"), ("grpc_type", "unary"))
    assert samples["grpc_server_started_total"] == {labels: 4}
    assert samples["grpc_server_handled_total"] == {(("grpc_code", "OK"), *labels): 3}


def test_health_is_counted_under_etcds_names_as_etcd_spells_them() -> None:
    text = render({}, {"about": [("health", "true", 3), ("health", "false", 1)]}).decode()
    assert "# TYPE etcd_server_health_success counter\netcd_server_health_success 3\n" in text
    assert "\netcd_server_health_failures 1\n" in text
