"""etcd's API on a real cluster of zkv, by a gRPC client that is not ours."""

from __future__ import annotations

import os
import signal
import socket
from random import Random
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.harness.etcd_api import Chat, EtcdApi, cancel, create
from tests.harness.processes import children, wait_until
from zkv.gateway.pb import rpc_pb2 as pb
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, etcd_api=True) as cluster:
        yield cluster


@pytest.fixture
def api(cluster: LocalCluster) -> Iterator[EtcdApi]:
    with EtcdApi(cluster.etcd_endpoints[0]) as api:
        yield api


def refusal(caught: pytest.ExceptionInfo[grpc.RpcError]) -> tuple[grpc.StatusCode, str]:
    error: Any = caught.value
    return error.code(), error.details()


def events(chat: Chat, count: int) -> list[Any]:
    heard: list[Any] = []
    while sum(len(response.events) for response in heard) < count:
        heard.append(chat.hear())
    return heard


def test_many_calls_at_once_are_each_answered_with_their_own(api: EtcdApi) -> None:
    """However they were grouped on their way: each put has a revision of its own, each get the value of its key."""
    puts = [api.future("Put", key=b"many/%d" % at, value=b"%d" % at) for at in range(1_000)]
    revisions = [put.result().header.revision for put in puts]
    assert len(set(revisions)) == 1_000
    gets = [api.future("Range", key=b"many/%d" % at) for at in range(1_000)]
    assert [get.result().kvs[0].value for get in gets] == [b"%d" % at for at in range(1_000)]
    assert [get.result().kvs[0].mod_revision for get in gets] == revisions


def test_a_range_of_many_chunks_is_one_answer(api: EtcdApi) -> None:
    """Whole, in order, and with its count."""
    values = {b"big/%04d" % at: Random(at).randbytes(20_000) for at in range(100)}
    for put in [api.future("Put", key=key, value=value) for key, value in values.items()]:
        put.result()
    answer = api.Range(key=b"big/", range_end=b"big0")
    assert [(kv.key, kv.value) for kv in answer.kvs] == list(values.items())
    assert (answer.count, answer.more) == (100, False)
    assert answer.header.revision > 0


def test_what_was_put_on_one_member_is_read_on_all(cluster: LocalCluster, api: EtcdApi) -> None:
    """Linearizable reads on each of them, by this door and by the native one."""
    api.Put(key=b"here", value=b"and there")
    for url in cluster.etcd_endpoints:
        with EtcdApi(url) as other:
            assert other.Range(key=b"here").kvs[0].value == b"and there"
    with cluster.client() as client:
        found = client.get("here")
    assert found is not None
    assert found.value == b"and there"


def test_too_large_a_request_is_refused_in_etcds_words(api: EtcdApi) -> None:
    """Beyond max-request-bytes by etcd, beyond what gRPC takes by gRPC."""
    with pytest.raises(grpc.RpcError) as caught:
        api.Put(key=b"large", value=bytes(1_600_000))
    assert refusal(caught) == (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large")
    with pytest.raises(grpc.RpcError) as caught:
        api.Put(key=b"large", value=bytes(4_000_000))
    assert refusal(caught)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "received message larger than max" in refusal(caught)[1]


def test_what_is_not_served_says_so(api: EtcdApi) -> None:
    """By gRPC's status for it, per method and per service."""
    for path, text in (
        ("/etcdserverpb.Maintenance/Nothing", "unknown method Nothing for service etcdserverpb.Maintenance"),
        ("/etcdserverpb.Nonsense/Nothing", "unknown service etcdserverpb.Nonsense"),
    ):
        with pytest.raises(grpc.RpcError) as caught:
            api.channel.unary_unary(path)(b"", timeout=30)
        assert refusal(caught) == (grpc.StatusCode.UNIMPLEMENTED, text)


def test_the_health_service_says_serving(api: EtcdApi) -> None:
    """As load balancers ask it; of services it has not heard of it says so."""
    check = api.channel.unary_unary("/grpc.health.v1.Health/Check")
    assert check(b"", timeout=30) == b"\x08\x01"
    with pytest.raises(grpc.RpcError) as caught:
        check(b"\x0a\x01x", timeout=30)
    assert refusal(caught) == (grpc.StatusCode.NOT_FOUND, "unknown service")


def test_a_watch_stream_has_many_watches(api: EtcdApi) -> None:
    """Each with its own id, filters and previous values; cancelled one by one."""
    chat = api.watch()
    chat.say(create(key=b"w/", range_end=b"w0"))
    chat.say(create(key=b"w/a", prev_kv=True, filters=[pb.WatchCreateRequest.NOPUT]))
    chat.say(create(key=b"w/a", watch_id=77))
    chat.say(create(key=b"w/a", watch_id=77))
    chat.say(create(key=b"b", range_end=b"a"))
    made = [chat.hear() for _ in range(5)]
    assert sorted(response.watch_id for response in made if not response.canceled) == [0, 1, 77]
    assert {response.cancel_reason for response in made if response.canceled} == {
        "mvcc: duplicate watch ID provided on the WatchStream",
        "mvcc: watcher range is empty",
    }
    api.Put(key=b"w/a", value=b"1")
    api.DeleteRange(key=b"w/a")
    heard = events(chat, 5)
    of = {number: [e for r in heard if r.watch_id == number for e in r.events] for number in (0, 1, 77)}
    assert [int(event.type) for event in of[0]] == [int(event.type) for event in of[77]] == [0, 1]
    assert [(int(event.type), event.prev_kv.value) for event in of[1]] == [(1, b"1")]
    chat.say(cancel(77))
    gone = chat.hear()
    assert (gone.watch_id, gone.canceled) == (77, True)
    chat.say(pb.WatchRequest(progress_request=pb.WatchProgressRequest()))
    progress = chat.hear()
    assert (progress.watch_id, len(progress.events)) == (-1, 0)
    assert progress.header.revision == api.Range(key=b"w/a").header.revision


def test_a_watch_from_the_past_is_told_all_of_it(api: EtcdApi) -> None:
    """More than a window of it, at the client's pace; and of a compacted past, where history begins."""
    first = api.Put(key=b"past", value=b"").header.revision
    puts = [api.future("Put", key=b"past", value=bytes(20_000)) for _ in range(200)]
    last = max(put.result().header.revision for put in puts)
    chat = api.watch()
    chat.say(create(key=b"past", start_revision=first))
    assert chat.hear().created
    heard = [event.kv.mod_revision for response in events(chat, 201) for event in response.events]
    assert heard == list(range(first, last + 1))
    api.Compact(revision=last)
    chat.say(create(key=b"past", start_revision=first))
    assert chat.hear().created
    compacted = chat.hear()
    assert (compacted.canceled, compacted.compact_revision) == (True, last)


def test_keep_alives_stream(api: EtcdApi) -> None:
    """Any number on one call; a lease that there is not has a TTL of 0; the end follows the last answer."""
    lease = api.LeaseGrant(TTL=60).ID
    chat = api.keep_alive()
    for _ in range(3):
        chat.say(pb.LeaseKeepAliveRequest(ID=lease))
        assert chat.hear().TTL == 60
    chat.say(pb.LeaseKeepAliveRequest(ID=12345))
    chat.half_close()
    unknown = chat.hear()
    assert (unknown.ID, unknown.TTL) == (12345, 0)
    with pytest.raises(StopIteration):
        chat.hear()


def test_strangers_do_not_disturb_the_native_door(cluster: LocalCluster, api: EtcdApi) -> None:
    """Garbage, half a preface, and connections by the hundred; both doors go on."""
    host, port = cluster.etcd_endpoints[0].removeprefix("http://").split(":")
    random = Random(3)
    held = [socket.create_connection((host, int(port))) for _ in range(200)]
    for each in held:
        each.sendall(random.choice((b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\n\r\n", random.randbytes(500))))
    pid = children(cluster.pid(0))["grpc"]
    with cluster.client() as client:
        client.put("native", "1")
    assert api.Range(key=b"native").kvs[0].value == b"1"
    for each in held:
        each.close()
    assert children(cluster.pid(0))["grpc"] == pid


def test_a_range_is_streamed_as_etcd_3_7_streams_it(api: EtcdApi) -> None:
    """Any size, at one revision; the messages merged are Range's answer, and only the last one has the rest."""
    for put in [api.future("Put", key=b"streamed/%04d" % at, value=b"x" * 50_000) for at in range(200)]:
        put.result()
    asked: dict[str, Any] = {"key": b"streamed/", "range_end": b"streamed0", "limit": 150}
    stream = api.channel.unary_stream(
        "/etcdserverpb.KV/RangeStream",
        request_serializer=pb.RangeRequest.SerializeToString,
        response_deserializer=pb.RangeStreamResponse.FromString,
    )
    messages = list(stream(pb.RangeRequest(**asked)))
    merged = pb.RangeStreamResponse()
    for message in messages:
        merged.MergeFrom(message)
    assert len(messages) > 5
    assert not any(message.range_response.HasField("header") for message in messages[:-1])
    assert merged.range_response == api.Range(**asked)
    with pytest.raises(grpc.RpcError) as caught:
        list(stream(pb.RangeRequest(key=b"a", sort_order=pb.RangeRequest.DESCEND)))
    assert refusal(caught)[0] == grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError) as caught:
        list(stream(pb.RangeRequest(key=b"a", revision=1 << 40)))
    assert refusal(caught) == (grpc.StatusCode.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")


def test_the_door_comes_back_when_its_process_is_killed() -> None:
    """The native door does not notice; clients of etcd's find it again."""
    with LocalCluster(nodes=1, etcd_api=True) as cluster, EtcdApi(cluster.etcd_endpoints[0]) as api:
        with cluster.client() as client:
            os.kill(children(cluster.pid(0))["grpc"], signal.SIGKILL)
            client.put("during", "1")

        def serves() -> bool:
            try:
                return bool(api.Range(key=b"during", timeout=1.0).kvs[0].value == b"1")
            except grpc.RpcError:
                return False

        wait_until(serves, "the door is open again")


def test_puts_that_meet_an_election_wait_for_its_end() -> None:
    """Those under way when the leader dies may be told that it changed; no others fail, and what succeeded is there."""
    with LocalCluster(nodes=3, etcd_api=True) as cluster:
        leader = cluster.leader()
        with EtcdApi(cluster.etcd_endpoints[(leader + 1) % 3]) as api:
            before = [api.future("Put", key=b"before/%d" % at, value=b"1") for at in range(200)]
            cluster.kill(leader)
            after = [api.future("Put", key=b"after/%d" % at, value=b"1") for at in range(200)]
            failed = [put.exception() for put in (*before, *after)]
            done = {
                b"%s/%d" % (name, at)
                for name, puts in ((b"before", before), (b"after", after))
                for at, put in enumerate(puts)
                if put.exception() is None
            }
            assert {error.details() for error in failed if error} <= {"etcdserver: leader changed"}
            later = api.Put(key=b"later", value=b"1")
            there = {kv.key for kv in api.Range(key=b"\0", range_end=b"\0").kvs}
            assert done <= there
            assert later.header.raft_term > 1
