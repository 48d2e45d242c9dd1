"""What is said to etcd: gRPC requests as bytes, and what is read in its answers.

Field numbers are those of etcdserverpb/rpc.proto and mvccpb/kv.proto.
"""

from __future__ import annotations

from tests.bench.http2_line import message
from tests.bench.measure import VALUE_BYTES
from tests.bench.protobuf import bytes_in, field, fields, number_in

PUT = b"/etcdserverpb.KV/Put"
RANGE = b"/etcdserverpb.KV/Range"
TXN = b"/etcdserverpb.KV/Txn"
WATCH = b"/etcdserverpb.Watch/Watch"
LEASE_GRANT = b"/etcdserverpb.Lease/LeaseGrant"
LEASE_KEEP_ALIVE = b"/etcdserverpb.Lease/LeaseKeepAlive"

VALUE = b"v" * VALUE_BYTES
EVENTS = 11  # of a WatchResponse


def unary(kind: str, key: bytes) -> tuple[bytes, bytes]:
    """(path, body) of the call that a load of that kind makes."""
    if kind == "put":
        return PUT, put_body(key, VALUE)
    if kind == "txn-put":
        return TXN, txn_put_body(key, VALUE)
    assert kind in {"l", "s"}
    return RANGE, range_body(key, serializable=kind == "s")


def put_body(key: bytes, value: bytes, lease: int = 0) -> bytes:
    """PutRequest: key = 1, value = 2, lease = 3."""
    return message(field(1, key) + field(2, value) + (field(3, lease) if lease else b""))


def range_body(key: bytes, *, serializable: bool) -> bytes:
    """RangeRequest: key = 1, serializable = 7."""
    return message(field(1, key) + (field(7, 1) if serializable else b""))


def txn_put_body(key: bytes, value: bytes) -> bytes:
    """TxnRequest: success = 2; RequestOp: request_put = 2."""
    return message(field(2, field(2, field(1, key) + field(2, value))))


def watch_body(key: bytes, range_end: bytes = b"") -> bytes:
    """WatchRequest: create_request = 1; WatchCreateRequest: key = 1, range_end = 2."""
    return message(field(1, field(1, key) + (field(2, range_end) if range_end else b"")))


def lease_grant_body(ttl: int, lease: int = 0) -> bytes:
    """LeaseGrantRequest: TTL = 1, ID = 2."""
    return message(field(1, ttl) + (field(2, lease) if lease else b""))


def keep_alive_body(lease: int) -> bytes:
    """LeaseKeepAliveRequest: ID = 1."""
    return message(field(1, lease))


def header_revision(answer: memoryview) -> int:
    """ResponseHeader, field 1 of every answer: revision = 3."""
    return number_in(bytes_in(answer, 1), 3)


def keep_alive_ttl(answer: memoryview) -> int:
    """LeaseKeepAliveResponse: TTL = 3; 0 where the lease is gone."""
    return number_in(answer, 3)


def is_created(answer: memoryview) -> bool:
    """WatchResponse: created = 3."""
    return number_in(answer, 3) == 1


def is_cancelled(answer: memoryview) -> bool:
    """WatchResponse: canceled = 4."""
    return number_in(answer, 4) == 1


def revisions_told(answer: memoryview) -> list[int]:
    """WatchResponse: events = 11; Event: kv = 2; KeyValue: mod_revision = 3."""
    events = [value for number, value in fields(answer) if number == EVENTS and isinstance(value, memoryview)]
    return [number_in(bytes_in(event, 2), 3) for event in events]


def deleted_keys(answer: memoryview) -> list[bytes]:
    """WatchResponse: events = 11; Event: type = 1 (DELETE is 1), kv = 2; KeyValue: key = 1."""
    events = [value for number, value in fields(answer) if number == EVENTS and isinstance(value, memoryview)]
    return [bytes(bytes_in(bytes_in(event, 2), 1)) for event in events if number_in(event, 1) == 1]
