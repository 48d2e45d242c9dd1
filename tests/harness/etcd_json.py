"""etcd asked in zkv's words: requests of wire/messages.py go through its JSON door, and answers come back as records.

So the two can be given the very same requests, and what they say compared with `==`.
"""

from __future__ import annotations

import http.client
import json
from base64 import b64decode, b64encode
from typing import Any, NamedTuple

from zkv.wire import messages as m


class Answered(NamedTuple):
    """`error` is the sentence of a refusal, and then there is no answer; a refusal has no revision."""

    error: str
    revision: int
    answer: m.AnswerBody | None


class JsonDoor:
    """One connection to one etcd node. Raises OSError when it breaks."""

    def __init__(self, endpoint: str) -> None:
        self._connection = http.client.HTTPConnection(endpoint, timeout=30)

    def close(self) -> None:
        self._connection.close()

    def ask(self, request: m.Request) -> Answered:
        """Of the requests in `_PATHS`."""
        body = json.dumps(_fields(request))
        self._connection.request("POST", _PATHS[type(request)], body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        found = json.load(response)
        if response.status != http.client.OK:
            return Answered(found["error"], 0, None)
        return Answered("", int(found["header"]["revision"]), _answer(_OP_OF[type(request)], found))


_PATHS: dict[type, str] = {
    m.Range: "/v3/kv/range",
    m.Put: "/v3/kv/put",
    m.DeleteRange: "/v3/kv/deleterange",
    m.Txn: "/v3/kv/txn",
    m.Compact: "/v3/kv/compaction",
    m.LeaseGrant: "/v3/lease/grant",
    m.LeaseRevoke: "/v3/lease/revoke",
    m.LeaseTimeToLive: "/v3/lease/timetolive",
    m.LeaseList: "/v3/lease/leases",
}
_OP_OF: dict[type, int] = {cls: int(op) for op, cls in m.REQUEST_CLASSES.items()}
_OPERANDS = {
    m.CompareTarget.VERSION: "version",
    m.CompareTarget.CREATE: "create_revision",
    m.CompareTarget.MOD: "mod_revision",
    m.CompareTarget.VALUE: "value",
    m.CompareTarget.LEASE: "lease",
}
_NAMES = {"id": "ID", "ttl": "TTL"}
_BRANCHES = {
    m.Op.RANGE: "range",
    m.Op.PUT: "put",
    m.Op.DELETE_RANGE: "delete_range",
    m.Op.TXN: "txn",
}


def _value(value: object) -> object:
    """Bytes as base64, 64-bit numbers as text, enums and booleans as they are."""
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return value if isinstance(value, bool) else str(value)


def _fields(request: m.Request) -> dict[str, Any]:
    if isinstance(request, m.Txn):
        return {
            "compare": [_compare(each) for each in request.compares],
            "success": [_operation(*each) for each in request.success],
            "failure": [_operation(*each) for each in request.failure],
        }
    fields = {_NAMES.get(name, name): _value(value) for name, value in request._asdict().items() if name != "ttl_min"}
    if isinstance(request, m.Put):
        assert not request.ttl, "etcd has no such thing"
        del fields["TTL"]
    if isinstance(request, m.Range):
        fields |= {"sort_order": int(request.sort_order), "sort_target": int(request.sort_target)}
    return fields


def _compare(compare: m.Compare) -> dict[str, Any]:
    return {
        "result": int(compare.result),
        "target": int(compare.target),
        "key": _value(compare.key),
        "range_end": _value(compare.range_end),
        _OPERANDS[m.CompareTarget(compare.target)]: _value(compare.operand),
    }


def _operation(op: int, request: m.TxnRequest) -> dict[str, Any]:
    return {f"request_{_BRANCHES[m.Op(op)]}": _fields(request)}


def _key_value(found: dict[str, str]) -> m.KeyValue:
    return m.KeyValue(
        b64decode(found["key"]),
        int(found.get("create_revision", 0)),
        int(found.get("mod_revision", 0)),
        int(found.get("version", 0)),
        b64decode(found.get("value", "")),
        int(found.get("lease", 0)),
    )


def _answer(op: int, found: dict[str, Any]) -> Any:
    match op:
        case m.Op.RANGE:
            kvs = tuple(map(_key_value, found.get("kvs", ())))
            return m.RangeAnswer(kvs, found.get("more", False), int(found.get("count", 0)))
        case m.Op.PUT:
            previous = found.get("prev_kv")
            return m.PutAnswer(_key_value(previous) if previous else None)
        case m.Op.DELETE_RANGE:
            previous = tuple(map(_key_value, found.get("prev_kvs", ())))
            return m.DeleteRangeAnswer(int(found.get("deleted", 0)), previous)
        case m.Op.TXN:
            responses = tuple(map(_response, found.get("responses", ())))
            return m.TxnAnswer(found.get("succeeded", False), responses)
        case m.Op.LEASE_GRANT:
            return m.LeaseGrantAnswer(int(found["ID"]), int(found["TTL"]))
        case m.Op.LEASE_REVOKE:
            return m.LeaseRevokeAnswer()
        case m.Op.LEASE_TIME_TO_LIVE:
            keys = tuple(sorted(map(b64decode, found.get("keys", ()))))
            granted = int(found.get("grantedTTL", 0))
            return m.LeaseTimeToLiveAnswer(int(found["ID"]), int(found.get("TTL", 0)), granted, keys)
        case m.Op.LEASE_LIST:
            return m.LeaseListAnswer(tuple(int(lease["ID"]) for lease in found.get("leases", ())))
        case _:
            return m.CompactAnswer()


def _response(found: dict[str, Any]) -> tuple[int, Any]:
    for op, name in _BRANCHES.items():
        inner = found.get(f"response_{name}")
        if inner is not None:
            return int(op), _answer(op, inner)
    raise LookupError(f"no response of a txn: {found}")
