"""protobuf <-> the records of wire/messages.py, one table each way; nothing else in the house knows protobuf.

A request is read by `REQUESTS[path]`: the operation, and bytes -> its fields. Fields that every enum of etcd's may have
but that mean nothing (proto3 keeps numbers it does not know) are for validate.py to refuse, as all else is.

Nearly all requests are puts of a key and a value, and reads of one key; their messages are two fields, or one, and are
read as the bytes they are, for a third of what the parser takes. So the headers of answers: their bytes are put
together here, and stand before what the rest is packed to, which is how protobuf would write both.

An answer is written by `Answering.write(op, revision, body)`, bodies being what storage, lease or raft packed: plain
tuples. etcd's headers are not all alike: those of Cluster have no revision, those inside of a txn have nothing else,
and two of Maintenance's answers have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

from google.protobuf.message import DecodeError
from librt.strings import BytesWriter

from zkv.errors import InvalidRequest, KeyNotFound, PermissionNotGiven
from zkv.gateway.pb import rpc_pb2 as pb
from zkv.gateway.pb.auth_pb2 import Permission
from zkv.gateway.pb.kv_pb2 import Event, KeyValue
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from google.protobuf.message import Message

    Fields: TypeAlias = tuple[Any, ...]
    Reader: TypeAlias = Callable[[bytes], Fields]

__all__ = ["REQUESTS", "Answering", "DecodeError"]


# --- requests ------------------------------------------------------------------------------------


_KEY_TAG: Final = 0x0A  # field 1, bytes
_VALUE_TAG: Final = 0x12  # field 2, bytes
_MORE: Final = 0x80  # of a varint's byte: another one follows


def _read_put(data: bytes) -> Fields:
    try:
        if data[0] == _KEY_TAG and data[1] < _MORE:
            at = 2 + data[1]
            size, start = data[at + 1], at + 2
            if size >= _MORE and data[start] < _MORE:
                size, start = size - _MORE + (data[start] << 7), start + 1
            if data[at] == _VALUE_TAG and start + size == len(data) and size < _MORE << 7:
                return data[2:at], data[start:]
    except IndexError:
        pass
    return _put_fields(pb.PutRequest.FromString(data))


def _read_range(data: bytes) -> Fields:
    if len(data) > 1 and data[0] == _KEY_TAG and data[1] == len(data) - 2 < _MORE:
        return data[2:], b""
    return _range_fields(pb.RangeRequest.FromString(data))


def _range_fields(asked: pb.RangeRequest) -> Fields:
    return (
        asked.key, asked.range_end, asked.limit, asked.revision, int(asked.sort_order), int(asked.sort_target),
        asked.serializable, asked.keys_only, asked.count_only, asked.min_mod_revision, asked.max_mod_revision,
        asked.min_create_revision, asked.max_create_revision,
    )  # fmt: skip


def _put_fields(asked: pb.PutRequest) -> Fields:
    if asked.lease or asked.prev_kv or asked.ignore_value or asked.ignore_lease:
        return asked.key, asked.value, asked.lease, asked.prev_kv, asked.ignore_value, asked.ignore_lease
    return asked.key, asked.value


def _delete_fields(asked: pb.DeleteRangeRequest) -> Fields:
    return asked.key, asked.range_end, asked.prev_kv


_OPERANDS: Final = {
    int(m.CompareTarget.VERSION): "version",
    int(m.CompareTarget.CREATE): "create_revision",
    int(m.CompareTarget.MOD): "mod_revision",
    int(m.CompareTarget.VALUE): "value",
    int(m.CompareTarget.LEASE): "lease",
}


def _compare_fields(asked: pb.Compare) -> Fields:
    """An operand that is not of its target counts as none was given: 0, or no bytes (etcd:applyCompare)."""
    operand = getattr(asked, _OPERANDS.get(asked.target, "version"))
    return int(asked.result), int(asked.target), asked.key, operand, asked.range_end


def _txn_fields(asked: pb.TxnRequest, depth: int = 0) -> Fields:
    if depth > m.TXN_DEPTH_MAX + 1:  # validate.py tells the client of the bound itself
        raise InvalidRequest("txns within txns")
    return (
        tuple(map(_compare_fields, asked.compare)),
        tuple(_op_fields(each, depth) for each in asked.success),
        tuple(_op_fields(each, depth) for each in asked.failure),
    )


def _op_fields(asked: pb.RequestOp, depth: int) -> Fields:
    which = asked.WhichOneof("request")
    if which == "request_put":
        return int(m.Op.PUT), _put_fields(asked.request_put)
    if which == "request_range":
        return int(m.Op.RANGE), _range_fields(asked.request_range)
    if which == "request_delete_range":
        return int(m.Op.DELETE_RANGE), _delete_fields(asked.request_delete_range)
    if which == "request_txn":
        return int(m.Op.TXN), _txn_fields(asked.request_txn, depth + 1)
    raise KeyNotFound  # an operation that is none: etcd says so


def _grant_fields(asked: pb.AuthRoleGrantPermissionRequest) -> Fields:
    if not asked.HasField("perm"):
        raise PermissionNotGiven
    return asked.name, int(asked.perm.permType), asked.perm.key, asked.perm.range_end


_reading: dict[str, tuple[m.Op, type[Message], Callable[[Any], Fields]]] = {
    "KV/Range": (m.Op.RANGE, pb.RangeRequest, _range_fields),
    "KV/Put": (m.Op.PUT, pb.PutRequest, _put_fields),
    "KV/DeleteRange": (m.Op.DELETE_RANGE, pb.DeleteRangeRequest, _delete_fields),
    "KV/Txn": (m.Op.TXN, pb.TxnRequest, _txn_fields),
    "KV/Compact": (m.Op.COMPACT, pb.CompactionRequest, lambda asked: (asked.revision, asked.physical)),
    "Lease/LeaseGrant": (m.Op.LEASE_GRANT, pb.LeaseGrantRequest, lambda asked: (asked.TTL, asked.ID)),
    "Lease/LeaseRevoke": (m.Op.LEASE_REVOKE, pb.LeaseRevokeRequest, lambda asked: (asked.ID,)),
    "Lease/LeaseKeepAlive": (m.Op.LEASE_KEEP_ALIVE, pb.LeaseKeepAliveRequest, lambda asked: (asked.ID,)),
    "Lease/LeaseTimeToLive": (
        m.Op.LEASE_TIME_TO_LIVE,
        pb.LeaseTimeToLiveRequest,
        lambda asked: (asked.ID, asked.keys),
    ),
    "Lease/LeaseLeases": (m.Op.LEASE_LIST, pb.LeaseLeasesRequest, lambda _: ()),
    "Cluster/MemberAdd": (
        m.Op.MEMBER_ADD,
        pb.MemberAddRequest,
        lambda asked: (tuple(asked.peerURLs), asked.isLearner),
    ),
    "Cluster/MemberRemove": (m.Op.MEMBER_REMOVE, pb.MemberRemoveRequest, lambda asked: (asked.ID,)),
    "Cluster/MemberUpdate": (
        m.Op.MEMBER_UPDATE,
        pb.MemberUpdateRequest,
        lambda asked: (asked.ID, tuple(asked.peerURLs)),
    ),
    "Cluster/MemberList": (m.Op.MEMBER_LIST, pb.MemberListRequest, lambda asked: (asked.linearizable,)),
    "Cluster/MemberPromote": (m.Op.MEMBER_PROMOTE, pb.MemberPromoteRequest, lambda asked: (asked.ID,)),
    "Maintenance/Alarm": (
        m.Op.ALARM,
        pb.AlarmRequest,
        lambda asked: (int(asked.action), asked.memberID, int(asked.alarm)),
    ),
    "Maintenance/Status": (m.Op.STATUS, pb.StatusRequest, lambda _: ()),
    "Maintenance/Defragment": (m.Op.DEFRAGMENT, pb.DefragmentRequest, lambda _: ()),
    "Maintenance/HashKV": (m.Op.HASH_KV, pb.HashKVRequest, lambda asked: (asked.revision,)),
    "Maintenance/Hash": (m.Op.HASH_KV, pb.HashRequest, lambda _: (0,)),
    "Maintenance/MoveLeader": (m.Op.MOVE_LEADER, pb.MoveLeaderRequest, lambda asked: (asked.targetID,)),
    "Auth/AuthEnable": (m.Op.AUTH_ENABLE, pb.AuthEnableRequest, lambda _: ()),
    "Auth/AuthDisable": (m.Op.AUTH_DISABLE, pb.AuthDisableRequest, lambda _: ()),
    "Auth/AuthStatus": (m.Op.AUTH_STATUS, pb.AuthStatusRequest, lambda _: ()),
    "Auth/Authenticate": (m.Op.AUTHENTICATE, pb.AuthenticateRequest, lambda asked: (asked.name, asked.password)),
    "Auth/UserAdd": (
        m.Op.USER_ADD,
        pb.AuthUserAddRequest,
        lambda asked: (asked.name, asked.password, asked.options.no_password),
    ),
    "Auth/UserGet": (m.Op.USER_GET, pb.AuthUserGetRequest, lambda asked: (asked.name,)),
    "Auth/UserList": (m.Op.USER_LIST, pb.AuthUserListRequest, lambda _: ()),
    "Auth/UserDelete": (m.Op.USER_DELETE, pb.AuthUserDeleteRequest, lambda asked: (asked.name,)),
    "Auth/UserChangePassword": (
        m.Op.USER_CHANGE_PASSWORD,
        pb.AuthUserChangePasswordRequest,
        lambda asked: (asked.name, asked.password),
    ),
    "Auth/UserGrantRole": (
        m.Op.USER_GRANT_ROLE,
        pb.AuthUserGrantRoleRequest,
        lambda asked: (asked.user, asked.role),
    ),
    "Auth/UserRevokeRole": (
        m.Op.USER_REVOKE_ROLE,
        pb.AuthUserRevokeRoleRequest,
        lambda asked: (asked.name, asked.role),
    ),
    "Auth/RoleAdd": (m.Op.ROLE_ADD, pb.AuthRoleAddRequest, lambda asked: (asked.name,)),
    "Auth/RoleGet": (m.Op.ROLE_GET, pb.AuthRoleGetRequest, lambda asked: (asked.role,)),
    "Auth/RoleList": (m.Op.ROLE_LIST, pb.AuthRoleListRequest, lambda _: ()),
    "Auth/RoleDelete": (m.Op.ROLE_DELETE, pb.AuthRoleDeleteRequest, lambda asked: (asked.role,)),
    "Auth/RoleGrantPermission": (m.Op.ROLE_GRANT_PERMISSION, pb.AuthRoleGrantPermissionRequest, _grant_fields),
    "Auth/RoleRevokePermission": (
        m.Op.ROLE_REVOKE_PERMISSION,
        pb.AuthRoleRevokePermissionRequest,
        lambda asked: (asked.role, asked.key, asked.range_end),
    ),
}


def _reader(message: type[Message], fields: Callable[[Any], Fields]) -> Reader:
    parse = message.FromString
    return lambda data: fields(parse(data))


REQUESTS: Final[dict[bytes, tuple[int, Reader]]] = {
    f"/etcdserverpb.{name}".encode(): (int(op), _reader(message, fields))
    for name, (op, message, fields) in _reading.items()
}
"""Path -> operation, and what reads its message: raises DecodeError, or a RequestError."""
REQUESTS[b"/etcdserverpb.KV/Put"] = int(m.Op.PUT), _read_put
REQUESTS[b"/etcdserverpb.KV/Range"] = int(m.Op.RANGE), _read_range


# --- answers -------------------------------------------------------------------------------------


def _kv(fields: Iterable[Any]) -> KeyValue:
    key, create_revision, mod_revision, version, value, lease = fields
    return KeyValue(
        key=key, create_revision=create_revision, mod_revision=mod_revision, version=version, value=value, lease=lease
    )


def event(fields: Any) -> Event:
    """(deleted, KeyValue, previous KeyValue or None)."""
    deleted, kv, prev_kv = fields
    made = Event(type=Event.DELETE if deleted else Event.PUT, kv=_kv(kv))
    if prev_kv is not None:
        made.prev_kv.CopyFrom(_kv(prev_kv))
    return made


def _member(fields: Any) -> pb.Member:
    """Of its client urls those that etcd's clients can use: they connect to all they are told."""
    id_, name, peer_urls, client_urls, is_learner = fields
    urls = [url for url in client_urls if url.startswith("http")]
    return pb.Member(ID=id_, name=name, peerURLs=peer_urls, clientURLs=urls, isLearner=is_learner)


def _range(body: Any, header: pb.ResponseHeader | None) -> pb.RangeResponse:
    kvs, more, count = body
    return pb.RangeResponse(header=header, kvs=map(_kv, kvs), more=more, count=count)


def _packed_range(body: Any, header: bytes) -> bytes:
    """As `_range`, after a header that is packed."""
    kvs, more, count = body
    out = BytesWriter()
    out.write(header)
    _write_kvs(kvs, out)
    if more:
        _write_varint(out, 0x18, 1)
    if count:
        _write_varint(out, 0x20, count)
    return out.getvalue()


def _write_kvs(kvs: Iterable[tuple[bytes, int, int, int, bytes, int]], out: BytesWriter) -> None:
    """Key values as field 2 of an answer, as protobuf would write them, and quicker."""
    for key, create_revision, mod_revision, version, value, lease in kvs:
        head, tail = BytesWriter(), BytesWriter()  # of what goes before its value, and behind
        _write_varint(head, 0x0A, len(key))
        head.write(key)
        _write_varint(head, 0x10, create_revision)
        _write_varint(head, 0x18, mod_revision)
        _write_varint(head, 0x20, version)
        if value:
            _write_varint(head, 0x2A, len(value))
        if lease:
            _write_varint(tail, 0x30, lease)
        _write_varint(out, 0x12, len(head) + len(value) + len(tail))
        out.write(head.getvalue())
        out.write(value)
        out.write(tail.getvalue())


def _write_varint(out: BytesWriter, tag: int, number: int) -> None:
    """Of an int64, behind its field's tag: seven bits a byte, the lowest first."""
    out.append(tag)
    rest = number if number >= 0 else number + (1 << 64)
    while rest >= _MORE:
        out.append(rest & 0x7F | _MORE)
        rest >>= 7
    out.append(rest)


def _put(body: Any, header: pb.ResponseHeader | None) -> pb.PutResponse:
    if body and body[0] is not None:
        return pb.PutResponse(header=header, prev_kv=_kv(body[0]))
    return pb.PutResponse(header=header)


def _delete(body: Any, header: pb.ResponseHeader | None) -> pb.DeleteRangeResponse:
    return pb.DeleteRangeResponse(header=header, deleted=body[0], prev_kvs=map(_kv, body[1] if len(body) > 1 else ()))


def _txn(body: Any, header: pb.ResponseHeader | None) -> pb.TxnResponse:
    """Inside, headers tell the revision an operation was done at: up to the first change, that before the txn."""
    assert header is not None
    place = _Place(header.revision - _changes(body))
    return pb.TxnResponse(header=header, succeeded=body[0], responses=[place.response(*each) for each in body[1]])


def _changes(body: Any) -> bool:
    return any(
        op == m.Op.PUT or (op == m.Op.DELETE_RANGE and inner[0] > 0) or (op == m.Op.TXN and _changes(inner))
        for op, inner in body[1]
    )


class _Place:
    """The revision, on the way through the answers of a txn."""

    def __init__(self, revision: int) -> None:
        self._revision = revision
        self._changed = False

    def response(self, op: int, body: Any) -> pb.ResponseOp:
        if op == m.Op.TXN:
            inner = [self.response(*each) for each in body[1]]
            empty = pb.ResponseHeader()
            return pb.ResponseOp(response_txn=pb.TxnResponse(header=empty, succeeded=body[0], responses=inner))
        if not self._changed and (op == m.Op.PUT or (op == m.Op.DELETE_RANGE and body[0] > 0)):
            self._changed = True
            self._revision += 1
        header = pb.ResponseHeader(revision=self._revision)
        if op == m.Op.PUT:
            return pb.ResponseOp(response_put=_put(body, header))
        if op == m.Op.DELETE_RANGE:
            return pb.ResponseOp(response_delete_range=_delete(body, header))
        return pb.ResponseOp(response_range=_range(body, header))


def _status(body: Any, header: pb.ResponseHeader | None) -> pb.StatusResponse:
    status = m.StatusAnswer(*body)
    return pb.StatusResponse(
        header=header, version=status.version, dbSize=status.db_size, leader=status.leader,
        raftIndex=status.raft_index, raftTerm=status.raft_term, raftAppliedIndex=status.raft_applied_index,
        errors=status.errors, dbSizeInUse=status.db_size_in_use, isLearner=status.is_learner,
    )  # fmt: skip


def _permission(fields: Any) -> Permission:
    kind, key, range_end = fields
    return Permission(permType=kind, key=key, range_end=range_end)


_FULL, _WITHOUT_REVISION, _NONE = range(3)
_writing: dict[int, tuple[int, Callable[[Any, pb.ResponseHeader | None], Message]]] = {
    m.Op.RANGE: (_FULL, _range),
    m.Op.PUT: (_FULL, _put),
    m.Op.DELETE_RANGE: (_FULL, _delete),
    m.Op.TXN: (_FULL, _txn),
    m.Op.COMPACT: (_FULL, lambda _, header: pb.CompactionResponse(header=header)),
    m.Op.LEASE_GRANT: (_FULL, lambda body, header: pb.LeaseGrantResponse(header=header, ID=body[0], TTL=body[1])),
    m.Op.LEASE_REVOKE: (_FULL, lambda _, header: pb.LeaseRevokeResponse(header=header)),
    m.Op.LEASE_KEEP_ALIVE: (
        _FULL,
        lambda body, header: pb.LeaseKeepAliveResponse(header=header, ID=body[0], TTL=body[1]),
    ),
    m.Op.LEASE_TIME_TO_LIVE: (
        _FULL,
        lambda body, header: pb.LeaseTimeToLiveResponse(
            header=header, ID=body[0], TTL=body[1], grantedTTL=body[2], keys=body[3] if len(body) > 3 else ()
        ),
    ),
    m.Op.LEASE_LIST: (
        _FULL,
        lambda body, header: pb.LeaseLeasesResponse(header=header, leases=[pb.LeaseStatus(ID=id_) for id_ in body[0]]),
    ),
    m.Op.MEMBER_ADD: (
        _WITHOUT_REVISION,
        lambda body, header: pb.MemberAddResponse(
            header=header, member=_member(body[0]), members=map(_member, body[1])
        ),
    ),
    m.Op.MEMBER_REMOVE: (
        _WITHOUT_REVISION,
        lambda body, header: pb.MemberRemoveResponse(header=header, members=map(_member, body[0])),
    ),
    m.Op.MEMBER_UPDATE: (
        _WITHOUT_REVISION,
        lambda body, header: pb.MemberUpdateResponse(header=header, members=map(_member, body[0])),
    ),
    m.Op.MEMBER_LIST: (
        _WITHOUT_REVISION,
        lambda body, header: pb.MemberListResponse(header=header, members=map(_member, body[0])),
    ),
    m.Op.MEMBER_PROMOTE: (
        _WITHOUT_REVISION,
        lambda body, header: pb.MemberPromoteResponse(header=header, members=map(_member, body[0])),
    ),
    m.Op.ALARM: (
        _FULL,
        lambda body, header: pb.AlarmResponse(
            header=header, alarms=[pb.AlarmMember(memberID=id_, alarm=alarm) for id_, alarm in body[0]]
        ),
    ),
    m.Op.STATUS: (_FULL, _status),
    m.Op.DEFRAGMENT: (_NONE, lambda _, _header: pb.DefragmentResponse()),
    m.Op.HASH_KV: (  # and of Hash: who reads a HashResponse passes over the third field
        _FULL,
        lambda body, header: pb.HashKVResponse(header=header, hash=body[0], compact_revision=body[1]),
    ),
    m.Op.MOVE_LEADER: (_NONE, lambda _, _header: pb.MoveLeaderResponse()),
    m.Op.AUTH_ENABLE: (_FULL, lambda _, header: pb.AuthEnableResponse(header=header)),
    m.Op.AUTH_DISABLE: (_FULL, lambda _, header: pb.AuthDisableResponse(header=header)),
    m.Op.AUTH_STATUS: (
        _FULL,
        lambda body, header: pb.AuthStatusResponse(header=header, enabled=body[0], authRevision=body[1]),
    ),
    m.Op.AUTHENTICATE: (_FULL, lambda body, header: pb.AuthenticateResponse(header=header, token=body[0])),
    m.Op.USER_ADD: (_FULL, lambda _, header: pb.AuthUserAddResponse(header=header)),
    m.Op.USER_GET: (_FULL, lambda body, header: pb.AuthUserGetResponse(header=header, roles=body[0])),
    m.Op.USER_LIST: (_FULL, lambda body, header: pb.AuthUserListResponse(header=header, users=body[0])),
    m.Op.USER_DELETE: (_FULL, lambda _, header: pb.AuthUserDeleteResponse(header=header)),
    m.Op.USER_CHANGE_PASSWORD: (_FULL, lambda _, header: pb.AuthUserChangePasswordResponse(header=header)),
    m.Op.USER_GRANT_ROLE: (_FULL, lambda _, header: pb.AuthUserGrantRoleResponse(header=header)),
    m.Op.USER_REVOKE_ROLE: (_FULL, lambda _, header: pb.AuthUserRevokeRoleResponse(header=header)),
    m.Op.ROLE_ADD: (_FULL, lambda _, header: pb.AuthRoleAddResponse(header=header)),
    m.Op.ROLE_GET: (
        _FULL,
        lambda body, header: pb.AuthRoleGetResponse(header=header, perm=map(_permission, body[0])),
    ),
    m.Op.ROLE_LIST: (_FULL, lambda body, header: pb.AuthRoleListResponse(header=header, roles=body[0])),
    m.Op.ROLE_DELETE: (_FULL, lambda _, header: pb.AuthRoleDeleteResponse(header=header)),
    m.Op.ROLE_GRANT_PERMISSION: (_FULL, lambda _, header: pb.AuthRoleGrantPermissionResponse(header=header)),
    m.Op.ROLE_REVOKE_PERMISSION: (_FULL, lambda _, header: pb.AuthRoleRevokePermissionResponse(header=header)),
}
_WRITING: Final = {int(op): how for op, how in _writing.items()}


_PUT_OP: Final = int(m.Op.PUT)
_RANGE_OP: Final = int(m.Op.RANGE)


class Answering:
    """Writes answers of one member. `term` is raft's."""

    def __init__(self, cluster_id: int, member_id: int) -> None:
        self._cluster_id = cluster_id
        self._member_id = member_id
        self._whose = pb.ResponseHeader(cluster_id=cluster_id, member_id=member_id).SerializeToString()
        self._packed_revision = self._packed_term = -1
        self._packed = b""
        self.term = 0

    def header(self, revision: int) -> pb.ResponseHeader:
        return pb.ResponseHeader(
            cluster_id=self._cluster_id, member_id=self._member_id, revision=revision, raft_term=self.term
        )

    def write(self, op: int, revision: int, body: Any) -> bytes:
        if op == _PUT_OP and not (body and body[0]):
            return self._packed_header(revision)
        if op == _RANGE_OP:
            return _packed_range(body, self._packed_header(revision))
        kind, make = _WRITING[op]
        header = None if kind == _NONE else self.header(revision if kind == _FULL else 0)
        return make(body, header).SerializeToString()

    def _packed_header(self, revision: int) -> bytes:
        """As field 1 of an answer. The answers of a turn often are of one revision."""
        if self._packed_revision != revision or self._packed_term != self.term:
            header = BytesWriter()
            header.write(self._whose)
            if revision:
                _write_varint(header, 0x18, revision)
            if self.term:
                _write_varint(header, 0x20, self.term)
            whole = BytesWriter()
            _write_varint(whole, 0x0A, len(header))
            whole.write(header.getvalue())
            self._packed = whole.getvalue()
            self._packed_revision, self._packed_term = revision, self.term
        return self._packed

    def chunk(self, body: Any) -> bytes:
        """A part of a range's answer, that stands before the rest: the messages' bytes joined are one message."""
        out = BytesWriter()
        _write_kvs(body[0], out)
        return out.getvalue()
