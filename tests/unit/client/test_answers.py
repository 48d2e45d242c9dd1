"""Answers of any shape: a record of the right kind, or CorruptionError, and a session that goes on."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.client.fake_cluster import answers
from tests.unit.client.wire import Wire, ids, kv
from zkv.client.answers import parse
from zkv.errors import CorruptionError
from zkv.wire import messages as m
from zkv.wire.codec import pack

KV = m.KeyValue(*kv(b"k"))
EACH: list[tuple[m.Request, m.AnswerBody]] = [
    (m.Range(b"k"), m.RangeAnswer((KV,), more=False, count=1)),
    (m.Put(b"k", b"v"), m.PutAnswer(KV)),
    (m.DeleteRange(b"k"), m.DeleteRangeAnswer(1, (KV,))),
    (
        m.Txn((), ((m.Op.PUT, m.Put(b"k", b"")),), ()),
        m.TxnAnswer(True, ((m.Op.PUT, m.PutAnswer(None)), (m.Op.TXN, m.TxnAnswer(False, ())))),
    ),
    (m.Compact(1), m.CompactAnswer()),
    (m.HashKV(), m.HashKVAnswer(7, 1)),
    (m.Status(), m.StatusAnswer("0.1", 1, 1, 11, 3, 9, 9, ("alarm",), False)),
    (m.Put(b"k", b"v", ttl=5), m.PutAnswer(None, 7)),
    (m.LeaseGrant(5), m.LeaseGrantAnswer(7, 5)),
    (m.LeaseRevoke(7), m.LeaseRevokeAnswer()),
    (m.LeaseKeepAlive(7), m.LeaseKeepAliveAnswer(7, 5)),
    (m.LeaseTimeToLive(7, True), m.LeaseTimeToLiveAnswer(7, 4, 5, (b"k",))),
    (m.LeaseList(), m.LeaseListAnswer((7, 8))),
    (m.MemberList(), m.MemberListAnswer((m.Member(11, "n1", ("tcp://a:1",), (), False),))),
]
OPS = {cls: op for op, cls in m.REQUEST_CLASSES.items()}
TREES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.binary(max_size=3)
    | st.text(max_size=3)
    | st.floats(),
    lambda inner: st.lists(inner, max_size=6).map(tuple),
    max_leaves=12,
)


def plain(value: Any) -> Any:
    """Records as they come off the wire: tuples."""
    return tuple(plain(item) for item in value) if isinstance(value, tuple) else value


@pytest.mark.parametrize(("request_", "answer"), EACH, ids=lambda value: type(value).__name__)
def test_each_answer_comes_back_as_its_record(request_: m.Request, answer: m.AnswerBody) -> None:
    """Nested records too."""
    parsed = parse(OPS[type(request_)], plain(answer))
    assert parsed == answer
    assert repr(parsed) == repr(answer)


@given(st.sampled_from([int(op) for op in m.Op]), TREES)
def test_what_is_no_answer_is_corruption_and_nothing_else(op: int, body: object) -> None:
    with contextlib.suppress(CorruptionError):
        parse(op, body)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(EACH),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
    st.integers(0, 1),
)
def test_no_message_however_damaged_breaks_the_session(
    each: tuple[m.Request, m.AnswerBody], damage: list[tuple[int, int]], code: int
) -> None:
    """Bytes changed anywhere: the request is answered, failed with a typed error, or asked elsewhere."""
    request, answer = each
    wire = Wire()
    ticket = wire.session.submit(request, wire.now + 1000)
    endpoint, requests = wire.one_sent()
    data = bytearray(answers((ids(requests)[0], code, 5, answer)))
    for place, byte in damage:
        data[place % len(data)] = byte
    wire.session.received(endpoint, bytes(data), wire.now)
    wire.pass_ms(1000)
    assert ticket.done


@given(TREES)
def test_no_message_of_another_shape_breaks_the_session(tree: object) -> None:
    wire = Wire()
    ticket = wire.put()
    endpoint, _ = wire.one_sent()
    for message in (tree, (1, 77, 11, 3, tree), (1, 77, 11, 3, (tree,)), (1, 77, 11, 3, ((1, tree, 5, tree),))):
        wire.session.received(endpoint, pack(message), wire.now)
    wire.pass_ms(5000)
    assert ticket.done
