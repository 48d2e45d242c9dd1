"""Calls of etcd's API, by raw frames in and out, with the node played by the test."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import http2_wire as wire
from tests.harness.grpc_wire import GrpcWire, head, message
from zkv.gateway.grpc_desk import HEALTH_CHECK, HEALTH_WATCH, METHODS, WATCH, EtcdDesk
from zkv.gateway.grpc_lease import PATH as KEEP_ALIVE
from zkv.gateway.grpc_line import Line
from zkv.gateway.grpc_streams import SNAPSHOT
from zkv.gateway.http2 import grpc, words
from zkv.gateway.http2.header_blocks import HeaderDecoder
from zkv.gateway.http2.limits import Http2Limits
from zkv.gateway.pb import rpc_pb2 as pb
from zkv.limits import Limits
from zkv.wire import codec
from zkv.wire import messages as m

INCARNATION = 5 | m.ETCD_DOOR
PUT = b"/etcdserverpb.KV/Put"
RANGE = b"/etcdserverpb.KV/Range"
MOVE = b"/etcdserverpb.Maintenance/MoveLeader"
A_PUT = pb.PutRequest(key=b"k", value=b"v").SerializeToString()


class DeskWire(GrpcWire):
    """A client's connection at the desk."""

    def __init__(self) -> None:
        self.now = 0
        self.posted: list[tuple[str, Any]] = []
        self.desk = EtcdDesk(
            limits=Limits(),
            member_id=1,
            cluster_id=2,
            incarnation=INCARNATION,
            request_timeout_ms=7_000,
            leaderless_ms=3_000,
            post=self._post,
        )
        self.line = Line(self.desk, Http2Limits().checked(), 0)
        self.grpc = self.line.connection
        self.decoder = HeaderDecoder(1 << 20)
        self.answers = {}
        self.windows = {}
        self.goaway = None
        self.send(wire.GREETING, wire.setting(words.INITIAL_WINDOW_SIZE, 1 << 30), words.window_update(0, 1 << 30))
        self.desk.mail(m.LeaderIs(3, 1), 0)

    def _post(self, to: str, mail: Any) -> bool:
        self.posted.append((to, mail))
        return True

    def send(self, *frames: bytes) -> list[grpc.Event]:
        self.line.receive(b"".join(frames), self.now)
        self.desk.flush()
        self.look()
        return []

    def ask(self, stream: int, path: bytes, data: bytes, *fields: tuple[bytes, bytes], end: bool = True) -> None:
        self.send(wire.open_headers(stream, head(path, *fields)), wire.data(stream, message(data), end=end))

    def mail(self, message: object) -> None:
        self.desk.mail(message, self.now)
        self.desk.flush()
        self.look()

    def tick(self, now: int) -> None:
        self.now = now
        self.desk.tick(now)
        self.look()

    def outcome(self, stream: int) -> tuple[int | None, bytes]:
        answer = self.answers[stream]
        return answer.status, answer.fields.get(b"grpc-message", b"")

    def answer_all(self, body: Any = (None, 0)) -> None:
        """As storage would, each with OK."""
        posted, self.posted = self.posted, []
        for _, mail in posted:
            for gid, payload in codec.decode_frame(mail.frame).groups:
                parts = tuple((id_, 0, 8, body) for id_, _, _ in codec.unpack(payload)[4])
                packed = codec.pack(m.Answers(m.PROTOCOL_VERSION, 2, 1, 3, parts))
                self.mail(m.GatewayAnswers(INCARNATION, ((gid, packed, True),)))


def test_a_put_is_asked_and_answered() -> None:
    """With etcd's header."""
    client = DeskWire()
    client.ask(1, PUT, A_PUT)
    client.answer_all()
    assert client.outcome(1) == (0, b"")
    header = pb.PutResponse.FromString(client.answers[1].body[5:]).header
    assert (header.cluster_id, header.member_id, header.revision, header.raft_term) == (2, 1, 8, 3)
    assert not client.line.calls


def test_a_deadline_ends_a_call_and_leaves_nothing() -> None:
    """And one that was answered in time leaves nothing until then."""
    client = DeskWire()
    client.ask(1, PUT, A_PUT, (b"grpc-timeout", b"1S"))
    client.answer_all()
    assert not client.desk._due
    client.ask(3, PUT, A_PUT, (b"grpc-timeout", b"1S"))
    client.tick(900)
    assert 3 not in client.answers
    client.tick(1_100)
    assert client.outcome(3) == (4, b"context deadline exceeded")
    assert client.desk.asking.in_flight == (0, 0)
    assert not client.desk._due
    client.answer_all()


def test_a_call_that_is_taken_back_is_forgotten() -> None:
    """By its client's RST_STREAM."""
    client = DeskWire()
    client.ask(1, PUT, A_PUT, (b"grpc-timeout", b"1H"))
    client.send(words.rst_stream(1, words.ErrorCode.CANCEL))
    assert client.desk.asking.in_flight == (0, 0)
    assert not client.line.calls
    assert not client.desk._due


def test_a_learner_serves_what_etcds_serves() -> None:
    """Status, serializable ranges, snapshots and health; all else goes to another member, until this one votes."""
    client = DeskWire()
    client.mail(m.LeaderIs(3, 2, 0, is_learner=True))
    create = pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k")).SerializeToString()
    refused = [(PUT, A_PUT), (RANGE, b"\n\1k"), (WATCH, create), (KEEP_ALIVE, b""), (b"/v3lockpb.Lock/Lock", b"\n\1l")]
    for stream, (path, asked) in enumerate(refused):
        client.ask(2 * stream + 1, path, asked)
        assert client.outcome(2 * stream + 1) == (14, b"etcdserver: rpc not supported for learner"), path
    assert client.posted == []
    status, health = b"/etcdserverpb.Maintenance/Status", HEALTH_CHECK
    served = [(RANGE, pb.RangeRequest(key=b"k", serializable=True).SerializeToString()), (status, b""), (SNAPSHOT, b"")]
    for stream, (path, asked) in enumerate(served):
        client.ask(2 * stream + 21, path, asked)
        assert 2 * stream + 21 not in client.answers, path
    client.ask(41, health, b"")
    assert client.outcome(41)[0] == 0
    client.mail(m.LeaderIs(3, 2))
    client.ask(43, PUT, A_PUT)
    assert 43 not in client.answers


def test_who_wants_a_leader_is_told_that_there_is_none() -> None:
    """At once, and its watch streams end; who did not ask for that waits."""
    client = DeskWire()
    wants = (b"hasleader", b"true")
    create = pb.WatchRequest(create_request=pb.WatchCreateRequest(key=b"k")).SerializeToString()
    client.ask(1, WATCH, create, wants, end=False)
    client.ask(3, WATCH, create, end=False)
    client.mail(m.LeaderIs(4, 0))
    client.tick(1_000)
    client.tick(4_100)
    assert client.outcome(1) == (14, b"etcdserver: no leader")
    assert 3 not in client.answers
    client.ask(5, RANGE, pb.RangeRequest(key=b"k").SerializeToString(), wants)
    assert client.outcome(5) == (14, b"etcdserver: no leader")
    client.mail(m.LeaderIs(5, 1))
    client.ask(7, RANGE, pb.RangeRequest(key=b"k").SerializeToString(), wants)
    assert 7 not in client.answers


def test_only_the_leader_hands_its_leadership_over() -> None:
    """As in etcd, whose clients look for the leader first."""
    client = DeskWire()
    client.mail(m.LeaderIs(4, 9))
    client.ask(1, MOVE, pb.MoveLeaderRequest(targetID=1).SerializeToString())
    assert client.outcome(1) == (9, b"etcdserver: not leader")


def test_streams_end_with_the_door() -> None:
    """UNAVAILABLE, so that clients go elsewhere; new ones do not begin."""
    client = DeskWire()
    client.ask(1, WATCH, b"", end=False)
    client.desk.stop(0)
    client.ask(3, KEEP_ALIVE, b"", end=False)
    client.look()
    assert [client.outcome(stream) for stream in (1, 3)] == [(14, b"etcdserver: server stopped")] * 2


@pytest.mark.parametrize("path", [PUT, KEEP_ALIVE, WATCH, HEALTH_CHECK, HEALTH_WATCH])
def test_what_is_no_protobuf_is_refused_as_grpc_does(path: bytes) -> None:
    """INTERNAL, whichever way the method takes its messages."""
    client = DeskWire()
    client.ask(1, path, b"\xff\xff\xff", end=path not in {KEEP_ALIVE, WATCH})
    assert client.outcome(1)[0] == 13


CALLS = st.tuples(st.sampled_from(sorted(METHODS)), st.lists(st.binary(max_size=40), max_size=3), st.booleans())


@settings(max_examples=200, deadline=None)
@given(calls=st.lists(CALLS, max_size=6), lost=st.booleans())
def test_no_bytes_of_a_client_are_too_much(calls: list[tuple[bytes, list[bytes], bool]], lost: bool) -> None:
    """Any messages at any method: answered, refused or waiting; and nothing is left when its connection is gone."""
    client = DeskWire()
    for at, (path, bodies, end) in enumerate(calls):
        stream = 2 * at + 1
        client.send(wire.open_headers(stream, head(path)), *(wire.data(stream, message(body)) for body in bodies))
        if end:
            client.send(wire.data(stream, b"", end=True))
    if lost:
        client.line.lost(0)
        assert client.desk.asking.in_flight[0] <= sum(len(b) for p, b, _ in calls if p == KEEP_ALIVE)
        assert not client.desk.watches._streams
    client.tick(20_000)
    assert client.desk.asking.in_flight == (0, 0)
