"""v3lock and v3election on a real cluster of zkv, by grpcio: who waits, who gives up, who is told."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.harness.etcd_api import EtcdApi
from tests.harness.processes import children, wait_until
from zkv.gateway.pb import election_pb2 as el
from zkv.gateway.pb import lock_pb2 as lk
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(nodes=3, etcd_api=True) as cluster:
        yield cluster


class Side:
    """A client at one member, with a lease."""

    def __init__(self, url: str) -> None:
        self.api = EtcdApi(url)
        self.lease = self.api.LeaseGrant(TTL=300).ID

    def close(self) -> None:
        self.api.channel.close()

    def call(self, service: str, name: str, asked: Any, answer: Any, timeout: float = PATIENCE_S) -> Any:
        """A future."""
        method = self.api.channel.unary_unary(
            f"/{service}/{name}",
            request_serializer=type(asked).SerializeToString,
            response_deserializer=answer.FromString,
        )
        return method.future(asked, timeout=timeout)

    def lock(self, name: bytes, timeout: float = PATIENCE_S) -> Any:
        return self.call("v3lockpb.Lock", "Lock", lk.LockRequest(name=name, lease=self.lease), lk.LockResponse, timeout)

    def unlock(self, key: bytes) -> None:
        self.call("v3lockpb.Lock", "Unlock", lk.UnlockRequest(key=key), lk.UnlockResponse).result()

    def campaign(self, name: bytes, value: bytes) -> Any:
        asked = el.CampaignRequest(name=name, lease=self.lease, value=value)
        return self.call("v3electionpb.Election", "Campaign", asked, el.CampaignResponse)

    def proclaim(self, leader: Any, value: bytes) -> Any:
        asked = el.ProclaimRequest(leader=leader, value=value)
        return self.call("v3electionpb.Election", "Proclaim", asked, el.ProclaimResponse)

    def resign(self, leader: Any) -> None:
        self.call("v3electionpb.Election", "Resign", el.ResignRequest(leader=leader), el.ResignResponse).result()

    def keys(self, name: bytes) -> list[bytes]:
        return [kv.key for kv in self.api.Range(key=name + b"/", range_end=name + b"0").kvs]


@pytest.fixture
def sides(cluster: LocalCluster) -> Iterator[list[Side]]:
    sides = [Side(url) for url in cluster.etcd_endpoints]
    yield sides
    for side in sides:
        side.close()


def test_a_lock_goes_from_one_to_the_next_in_the_order_they_came(sides: list[Side]) -> None:
    """At three members; each key is NAME/LEASE."""
    first, second, third = sides
    held = first.lock(b"l").result()
    assert held.key == b"l/%x" % first.lease
    waits_2 = second.lock(b"l")
    wait_until(lambda: len(first.keys(b"l")) == 2, "who waits, and who has it")
    waits_3 = third.lock(b"l")
    wait_until(lambda: len(first.keys(b"l")) == 3, "who waits, and who has it")
    first.unlock(held.key)
    key_2 = waits_2.result().key
    assert not waits_3.done()
    second.unlock(key_2)
    assert waits_3.result().key == b"l/%x" % third.lease


@pytest.mark.parametrize("how", ["cancelled", "its deadline", "the client goes"])
def test_who_stops_waiting_gives_up_its_place(sides: list[Side], how: str) -> None:
    """So the next in line is not held up by it."""
    first, second, third = sides
    name = how.encode()
    held = first.lock(name).result()
    waits = second.lock(name, timeout=3.0 if how == "its deadline" else PATIENCE_S)
    if how == "its deadline":
        assert waits.exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
    else:
        wait_until(lambda: len(first.keys(name)) == 2, "who waits, and who has it")
        assert len(second.keys(name)) == 2  # so its own member has told it that it stands in line
    if how == "cancelled":
        waits.cancel()
    elif how == "the client goes":
        second.close()
    wait_until(lambda: first.keys(name) == [held.key], "who waits, and who has it")
    after = third.lock(name)
    wait_until(lambda: len(first.keys(name)) == 2, "who waits, and who has it")
    first.unlock(held.key)
    assert after.result().key == b"%b/%x" % (name, third.lease)


def test_a_lock_is_lost_with_its_lease(sides: list[Side]) -> None:
    """To who waits; and who waits with a lease that ends is told."""
    first, second, third = sides
    first.lock(b"leased").result()
    waits_2 = second.lock(b"leased")
    wait_until(lambda: len(first.keys(b"leased")) == 2, "who waits, and who has it")
    waits_3 = third.lock(b"leased")
    wait_until(lambda: len(first.keys(b"leased")) == 3, "who waits, and who has it")
    second.api.LeaseRevoke(ID=second.lease)
    first.api.LeaseRevoke(ID=first.lease)
    assert waits_3.result().key == b"leased/%x" % third.lease
    with pytest.raises(grpc.RpcError) as caught:
        waits_2.result()
    error: Any = caught.value
    assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, "mutex: session is expired")


def test_an_election_is_seen_by_who_observes_it(sides: list[Side]) -> None:
    """Its leaders, what they proclaim, and the next one; who leads no more cannot proclaim."""
    first, second, watcher = sides
    observe = watcher.api.channel.unary_stream(
        "/v3electionpb.Election/Observe",
        request_serializer=el.LeaderRequest.SerializeToString,
        response_deserializer=el.LeaderResponse.FromString,
    )(el.LeaderRequest(name=b"e"), timeout=PATIENCE_S)
    leads = first.campaign(b"e", b"one").result().leader
    assert (leads.name, leads.key, leads.lease) == (b"e", b"e/%x" % first.lease, first.lease)
    assert next(observe).kv.value == b"one"
    waits = second.campaign(b"e", b"two")
    first.proclaim(leads, b"uno").result()
    assert next(observe).kv.value == b"uno"
    first.resign(leads)
    assert waits.result().leader.key == b"e/%x" % second.lease
    assert next(observe).kv.value == b"two"
    with pytest.raises(grpc.RpcError) as caught:
        first.proclaim(leads, b"void").result()
    error: Any = caught.value
    assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, "election: not leader")
    observe.cancel()


def test_large_values_are_proclaimed_too(sides: list[Side]) -> None:
    """Of a megabyte: what the door reads for itself may come in chunks."""
    first, second, _ = sides
    leads = first.campaign(b"large", b"x" * 1_000_000).result().leader
    again = first.campaign(b"large", b"y" * 1_000_000).result()
    assert again.leader == leads
    request = el.LeaderRequest(name=b"large")
    assert second.call("v3electionpb.Election", "Leader", request, el.LeaderResponse).result().kv.value[:1] == b"y"
    assert second.api.Range(key=leads.key, keys_only=True).kvs[0].version == 2


def test_a_lock_outlives_the_watch_actor() -> None:
    """A wait whose watch is lost looks again, and is not forgotten."""
    with LocalCluster(nodes=1, etcd_api=True) as cluster:
        first, second = Side(cluster.etcd_endpoints[0]), Side(cluster.etcd_endpoints[0])
        held = first.lock(b"through").result()
        waits = second.lock(b"through")
        wait_until(lambda: len(first.keys(b"through")) == 2, "who waits, and who has it")
        os.kill(children(cluster.pid(0))["watch"], signal.SIGKILL)
        first.unlock(held.key)
        assert waits.result().key == b"through/%x" % second.lease
        first.close()
        second.close()
