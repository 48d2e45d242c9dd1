"""protobuf to records and back."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given
from hypothesis import strategies as st

from zkv import errors
from zkv.gateway import grpc_status, translate
from zkv.gateway.pb import rpc_pb2 as pb
from zkv.gateway.validate import check
from zkv.limits import Limits
from zkv.wire import messages as m

KV = (b"k", 2, 3, 4, b"v", 5)
MEMBER = (9, "n", ("http://p:1",), ("http://c:1", "tcp://c:2"), True)
ANSWERS: dict[m.Op, tuple[type[Message], Any]] = {
    m.Op.RANGE: (pb.RangeResponse, ((KV,), True, 7)),
    m.Op.PUT: (pb.PutResponse, (KV, 0)),
    m.Op.DELETE_RANGE: (pb.DeleteRangeResponse, (1, (KV,))),
    m.Op.TXN: (pb.TxnResponse, (True, ((2, (None, 0)),))),
    m.Op.COMPACT: (pb.CompactionResponse, ()),
    m.Op.LEASE_GRANT: (pb.LeaseGrantResponse, (8, 60)),
    m.Op.LEASE_REVOKE: (pb.LeaseRevokeResponse, ()),
    m.Op.LEASE_KEEP_ALIVE: (pb.LeaseKeepAliveResponse, (8, 60)),
    m.Op.LEASE_TIME_TO_LIVE: (pb.LeaseTimeToLiveResponse, (8, 50, 60, (b"a",))),
    m.Op.LEASE_LIST: (pb.LeaseLeasesResponse, ((8, 9),)),
    m.Op.MEMBER_ADD: (pb.MemberAddResponse, (MEMBER, (MEMBER,))),
    m.Op.MEMBER_REMOVE: (pb.MemberRemoveResponse, ((MEMBER,),)),
    m.Op.MEMBER_UPDATE: (pb.MemberUpdateResponse, ((MEMBER,),)),
    m.Op.MEMBER_LIST: (pb.MemberListResponse, ((MEMBER,),)),
    m.Op.MEMBER_PROMOTE: (pb.MemberPromoteResponse, ((MEMBER,),)),
    m.Op.ALARM: (pb.AlarmResponse, (((9, 1),),)),
    m.Op.STATUS: (pb.StatusResponse, ("3.5", 10, 9, 8, 7, 6, 5, ("trouble",), True)),
    m.Op.DEFRAGMENT: (pb.DefragmentResponse, ()),
    m.Op.HASH_KV: (pb.HashKVResponse, (77, 1)),
    m.Op.MOVE_LEADER: (pb.MoveLeaderResponse, ()),
    m.Op.AUTH_ENABLE: (pb.AuthEnableResponse, ()),
    m.Op.AUTH_DISABLE: (pb.AuthDisableResponse, ()),
    m.Op.AUTH_STATUS: (pb.AuthStatusResponse, (True, 7)),
    m.Op.AUTHENTICATE: (pb.AuthenticateResponse, ("token",)),
    m.Op.USER_ADD: (pb.AuthUserAddResponse, ()),
    m.Op.USER_GET: (pb.AuthUserGetResponse, (("r",),)),
    m.Op.USER_LIST: (pb.AuthUserListResponse, (("u", "v"),)),
    m.Op.USER_DELETE: (pb.AuthUserDeleteResponse, ()),
    m.Op.USER_CHANGE_PASSWORD: (pb.AuthUserChangePasswordResponse, ()),
    m.Op.USER_GRANT_ROLE: (pb.AuthUserGrantRoleResponse, ()),
    m.Op.USER_REVOKE_ROLE: (pb.AuthUserRevokeRoleResponse, ()),
    m.Op.ROLE_ADD: (pb.AuthRoleAddResponse, ()),
    m.Op.ROLE_GET: (pb.AuthRoleGetResponse, (((2, b"a", b"b"),),)),
    m.Op.ROLE_LIST: (pb.AuthRoleListResponse, (("r",),)),
    m.Op.ROLE_DELETE: (pb.AuthRoleDeleteResponse, ()),
    m.Op.ROLE_GRANT_PERMISSION: (pb.AuthRoleGrantPermissionResponse, ()),
    m.Op.ROLE_REVOKE_PERMISSION: (pb.AuthRoleRevokePermissionResponse, ()),
}
HEADLESS = {m.Op.DEFRAGMENT, m.Op.MOVE_LEADER}
WITHOUT_REVISION = {op for op in m.Op if op.name.startswith("MEMBER_")}


def read(name: str, message: Message) -> tuple[int, tuple[Any, ...]]:
    op, reader = translate.REQUESTS[f"/etcdserverpb.{name}".encode()]
    return op, reader(message.SerializeToString())


def written(op: m.Op, body: Any, revision: int = 6) -> Any:
    answering = translate.Answering(1, 2)
    answering.term = 3
    return ANSWERS[op][0].FromString(answering.write(op, revision, body))


@pytest.mark.parametrize("path", translate.REQUESTS)
def test_an_empty_message_is_read_to_fields_of_its_record(path: bytes) -> None:
    """They are as many, and of the types, that the checks of all doors let through, or refuse as etcd does."""
    op, reader = translate.REQUESTS[path]
    with contextlib.suppress(errors.EmptyKey, errors.BadMemberUrls, errors.PermissionNotGiven):
        fields = reader(b"")
        assert m.REQUEST_CLASSES[op](*fields) is not None
        assert check(op, fields, Limits())


@given(data=st.binary(max_size=64), path=st.sampled_from(sorted(translate.REQUESTS)))
def test_any_bytes_are_read_or_refused(data: bytes, path: bytes) -> None:
    """By nothing but DecodeError and RequestError, here and in the checks behind."""
    op, reader = translate.REQUESTS[path]
    with contextlib.suppress(DecodeError, errors.RequestError):
        check(op, reader(data), Limits())


@given(
    data=st.one_of(
        st.binary(max_size=40),
        st.builds(
            lambda key, value, cut: pb.PutRequest(key=key, value=value).SerializeToString()[: cut or None],
            st.binary(max_size=140),
            st.sampled_from((b"", b"v", b"v" * 127, b"v" * 128, b"v" * 16_383, b"v" * 16_384)),
            st.integers(-3, 0),
        ),
    )
)
def test_the_short_way_of_reading_says_what_the_parser_says(data: bytes) -> None:
    """Of any bytes: the same fields, but for those at the end that ask for nothing, or the same refusal."""
    for path, parse in ((b"/etcdserverpb.KV/Put", pb.PutRequest), (b"/etcdserverpb.KV/Range", pb.RangeRequest)):
        _, reader = translate.REQUESTS[path]
        try:
            parsed = parse.FromString(data)
        except DecodeError:
            with pytest.raises(DecodeError):
                reader(data)
            continue
        fields = reader(data)
        record = m.Put if parse is pb.PutRequest else m.Range
        names = [name for name in record._fields if hasattr(parsed, name)]
        assert [getattr(record(*fields), name) for name in names] == [getattr(parsed, name) for name in names]


def test_answers_are_packed_as_protobuf_packs_them() -> None:
    """Put together of a header's bytes and the rest, they are what the whole message would be."""
    answering = translate.Answering(1 << 63, 2)
    for answering.term, revision in ((3, 6), (3, 6), (3, 1 << 40), (1 << 40, 6)):
        header = answering.header(revision)
        assert answering.write(m.Op.PUT, revision, ()) == pb.PutResponse(header=header).SerializeToString()
        whole = pb.RangeResponse(header=header, kvs=[translate._kv(KV)], more=True, count=9)
        assert answering.write(m.Op.RANGE, revision, ((KV,), True, 9)) == whole.SerializeToString()


def test_a_txn_is_read_with_its_compares_and_branches() -> None:
    """Operands by their targets; txns within txns."""
    inner = pb.TxnRequest(failure=[pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=b"d", prev_kv=True))])
    asked = pb.TxnRequest(
        compare=[
            pb.Compare(key=b"a", result=pb.Compare.GREATER, target=pb.Compare.MOD, mod_revision=4),
            pb.Compare(key=b"b", target=pb.Compare.VALUE, value=b"x", range_end=b"c"),
            pb.Compare(key=b"c", target=pb.Compare.LEASE, value=b"of another target"),
        ],
        success=[pb.RequestOp(request_put=pb.PutRequest(key=b"p", value=b"1", lease=5))],
        failure=[
            pb.RequestOp(request_txn=inner),
            pb.RequestOp(request_range=pb.RangeRequest(key=b"r", limit=3, serializable=True)),
        ],
    )
    compares, success, failure = read("KV/Txn", asked)[1]
    assert compares == ((1, 2, b"a", 4, b""), (0, 3, b"b", b"x", b"c"), (0, 4, b"c", 0, b""))
    assert success == ((2, (b"p", b"1", 5, False, False, False)),)
    assert failure == (
        (4, ((), (), ((3, (b"d", b"", True)),))),
        (1, (b"r", b"", 3, 0, 0, 0, True, False, False, 0, 0, 0, 0)),
    )


def test_txns_within_txns_have_a_bottom() -> None:
    """Deeper than any that is served, they are refused, and not the end of the stack."""
    asked = pb.TxnRequest()
    for _ in range(40):
        asked = pb.TxnRequest(success=[pb.RequestOp(request_txn=asked)])
    with pytest.raises(errors.RequestError):
        read("KV/Txn", asked)


def test_an_operation_that_is_none_is_refused_as_etcd_does() -> None:
    """By its words for a key that there is not."""
    with pytest.raises(errors.KeyNotFound):
        read("KV/Txn", pb.TxnRequest(success=[pb.RequestOp()]))


@pytest.mark.parametrize("op", ANSWERS, ids=lambda op: op.name)
def test_headers_are_etcds(op: m.Op) -> None:
    """Full ones, those of Cluster without a revision, and two answers without any."""
    answer = written(op, ANSWERS[op][1])
    assert answer.HasField("header") == (op not in HEADLESS)
    if op not in HEADLESS:
        header = answer.header
        revision = 0 if op in WITHOUT_REVISION else 6
        assert (header.cluster_id, header.member_id, header.revision, header.raft_term) == (1, 2, revision, 3)


def test_every_request_has_its_answer() -> None:
    """No method can be called whose answer could not be written."""
    assert {op for op, _ in translate.REQUESTS.values()} == set(map(int, ANSWERS))


def test_inside_of_a_txn_headers_tell_where_an_operation_stood() -> None:
    """Up to the first change the revision before the txn, then its own; of a txn that changes nothing, the present."""
    nothing, one, some = (3, (0, ())), (3, (1, ())), (1, ((KV,), False, 1))
    answer = written(m.Op.TXN, (True, (some, nothing, one, some)), revision=9)
    inner = [getattr(each, each.WhichOneof("response")).header.revision for each in answer.responses]
    assert inner == [8, 8, 9, 9]
    answer = written(m.Op.TXN, (False, (some, nothing)), revision=9)
    assert [getattr(each, each.WhichOneof("response")).header.revision for each in answer.responses] == [9, 9]
    assert not answer.succeeded


naturals = st.integers(0, (1 << 63) - 1)
revisions = st.integers(1, (1 << 63) - 1)
kvs = st.tuples(
    st.binary(min_size=1, max_size=300), revisions, revisions, revisions, st.binary(max_size=300),
    st.integers(-(1 << 63), (1 << 63) - 1),
)  # fmt: skip


@given(st.lists(kvs, max_size=3), st.booleans(), naturals, naturals)
def test_a_ranges_answer_is_what_protobuf_would_write(
    found: list[tuple[Any, ...]], more: bool, count: int, revision: int
) -> None:
    """It is put together by hand, for it is what most calls are answered."""
    answering = translate.Answering(1, 2)
    written_by_hand = answering.write(m.Op.RANGE, revision, (tuple(found), more, count))
    fields = ("key", "create_revision", "mod_revision", "version", "value", "lease")
    answer = pb.RangeResponse(header=answering.header(revision), more=more, count=count)
    for kv in found:
        answer.kvs.add(**dict(zip(fields, kv, strict=True)))
    assert written_by_hand == answer.SerializeToString()


def test_parts_of_a_range_joined_are_the_whole() -> None:
    """Chunk by chunk, then the last with header, count and more."""
    answering = translate.Answering(1, 2)
    parts = [answering.chunk(((KV,), False, 0)) for _ in range(3)]
    whole = pb.RangeResponse.FromString(b"".join([*parts, answering.write(m.Op.RANGE, 6, ((KV, KV), True, 9))]))
    assert (len(whole.kvs), whole.count, whole.more, whole.header.revision) == (5, 9, True, 6)


def test_members_are_told_with_the_urls_etcds_clients_can_use() -> None:
    """They would dial the native ones too."""
    answer = written(m.Op.MEMBER_LIST, ((MEMBER,),))
    assert list(answer.members[0].clientURLs) == ["http://c:1"]


def test_every_error_that_crosses_the_wire_has_a_status() -> None:
    """But for those of sessions, which this door has none of."""
    unnamed = {cls for cls in errors.BY_CODE.values() if cls not in grpc_status.STATUS}
    assert all(issubclass(cls, errors.SessionError) for cls in unnamed), unnamed
    assert grpc_status.status_of(errors.Compacted("1"))[:2] == (
        11,
        "etcdserver: mvcc: required revision has been compacted",
    )
