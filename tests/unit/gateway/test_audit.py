"""The audit log: what is told of a request, and what becomes of the file."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from zkv import errors
from zkv.gateway import audit
from zkv.gateway.audit import Audit, Subject, WatchAudit, audited, described
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from pathlib import Path

ALICE = Subject("alice", "10.0.0.7:40312")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.log"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("op", "request_", "told"),
    [
        (m.Op.PUT, m.Put(b"a", b"value"), {"op": "PUT", "key": "a"}),
        (m.Op.RANGE, (b"a", b"b"), {"op": "RANGE", "key": "a", "range_end": "b"}),
        (m.Op.DELETE_RANGE, (b"\xff\n",), {"op": "DELETE_RANGE", "key": "\\xff\n"}),
        (m.Op.USER_ADD, m.UserAdd("bob", "password"), {"op": "USER_ADD", "names": ["bob"]}),
        (m.Op.AUTHENTICATE, m.Authenticate("bob", "password"), {"op": "AUTHENTICATE", "names": ["bob"]}),
        (m.Op.USER_GRANT_ROLE, m.UserGrantRole("bob", "r"), {"op": "USER_GRANT_ROLE", "names": ["bob", "r"]}),
        (
            m.Op.ROLE_GRANT_PERMISSION,
            m.RoleGrantPermission("r", 2, b"a", b"b"),
            {"op": "ROLE_GRANT_PERMISSION", "key": "a", "range_end": "b", "names": ["r"]},
        ),
        (m.Op.LEASE_REVOKE, m.LeaseRevoke(7), {"op": "LEASE_REVOKE", "lease": 7}),
        (m.Op.MEMBER_LIST, (), {"op": "MEMBER_LIST"}),
    ],
)
def test_what_is_told_of_a_request(op: m.Op, request_: Any, told: dict[str, Any]) -> None:
    """Its keys and names: no value, no password."""
    assert described(op, request_) == told


def test_of_a_txn_all_is_told_that_it_may_touch() -> None:
    inner = m.Txn((), ((m.Op.DELETE_RANGE, m.DeleteRange(b"d", b"e")),), ())
    txn = m.Txn(
        (m.Compare(0, 3, b"c", b"secret"),),
        ((m.Op.PUT, m.Put(b"a", b"secret")), (m.Op.TXN, inner)),
        ((m.Op.RANGE, m.Range(b"b")),),
    )
    told = described(m.Op.TXN, txn)
    assert [(part["op"], part["key"]) for part in told["parts"]] == [
        ("COMPARE", "c"), ("PUT", "a"), ("DELETE_RANGE", "d"), ("RANGE", "b"),
    ]  # fmt: skip
    assert "secret" not in json.dumps(told)


def test_every_operation_can_be_told() -> None:
    """By the fewest fields that a client may send."""
    for op, cls in m.REQUEST_CLASSES.items():
        if op != m.Op.TXN:
            required = len(cls._fields) - len(cls._field_defaults)
            assert described(op, (b"k",) * required)["op"] == m.Op(op).name


def test_a_line_says_who_where_what_and_whether(path: Path) -> None:
    log = Audit(str(path), "grpc")
    log.note(ALICE, described(m.Op.PUT, (b"a", b"v")), 0)
    log.note(ALICE, described(m.Op.PUT, (b"b", b"v")), errors.PermissionDenied.code)
    log.note(ALICE, described(m.Op.PUT, (b"b", b"v")), errors.NoLeader.code)
    assert not path.read_text()
    log.flush(0)
    allowed, denied, failed = lines(path)
    assert allowed.pop("time").endswith("Z")
    assert allowed == {
        "door": "grpc", "user": "alice", "from": "10.0.0.7:40312", "op": "PUT", "key": "a", "allowed": True,
        "outcome": "OK",
    }  # fmt: skip
    assert (denied["allowed"], denied["outcome"]) == (False, "PermissionDenied")
    assert (failed["allowed"], failed["outcome"]) == (True, "NoLeader")
    assert path.stat().st_mode & 0o777 == 0o600
    log.close()


def test_each_request_of_a_group_is_noted_once(path: Path) -> None:
    """A chunk is no end, and what never is answered is noted with the group's error."""
    log = Audit(str(path), "native")
    requests = tuple((at, int(m.Op.PUT), (b"%d" % at, b"v")) for at in (1, 2, 3))
    group = audited(log, "alice", "here", codec.pack((1, 1, b"", 0, requests)))
    group.answered(codec.pack((1, 1, 1, 1, ((1, 0, 5, ()), (2, errors.Code.CHUNK, 5, ())))))
    group.answered(codec.pack((1, 1, 1, 1, ((1, 0, 5, ()),))))
    group.failed(errors.RequestTimeout())
    log.flush(0)
    assert [(line["key"], line["outcome"]) for line in lines(path)] == [
        ("1", "OK"), ("2", "RequestTimeout"), ("3", "RequestTimeout"),
    ]  # fmt: skip
    log.close()


def test_a_watch_is_noted_when_it_begins_and_when_its_permission_goes(path: Path) -> None:
    """Or when it is refused; not when its client ends it."""
    log = Audit(str(path), "grpc")
    watches = WatchAudit(log)
    watches.begin(7, ((1, b"a", b"b"), (2, b"c"), (3, b"d")), ALICE)
    denied = errors.PermissionDenied.code
    for ids, kind, body in (
        ((1, 2), m.WatchKind.CREATED, ()),
        ((3,), m.WatchKind.CANCELLED, (denied, 0, 0)),
        ((1,), m.WatchKind.CANCELLED, (denied, 0, 0)),
        ((2,), m.WatchKind.CANCELLED, (0, 0, 0)),
        ((1,), m.WatchKind.CANCELLED, (denied, 0, 0)),
    ):
        watches.told(7, codec.pack((1, 1, 1, 1, (), 0, ((ids, int(kind), 5, body),))))
    log.flush(0)
    assert [(line["op"], line["key"], line["allowed"]) for line in lines(path)] == [
        ("WATCH", "a", True), ("WATCH", "c", True), ("WATCH", "d", False), ("WATCH", "a", False),
    ]  # fmt: skip
    assert lines(path)[0]["range_end"] == "b"
    log.close()


def test_a_file_that_was_moved_away_is_begun_anew(path: Path) -> None:
    """As log rotation does, without a signal."""
    log = Audit(str(path), "grpc")
    log.note(ALICE, {"op": "A"}, 0)
    log.flush(0)
    os.replace(path, path.with_suffix(".old"))
    log.note(ALICE, {"op": "B"}, 0)
    log.flush(audit.LOOK_MS)
    assert [line["op"] for line in lines(path)] == ["B"]
    log.close()


def test_a_file_that_is_large_makes_room(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one door; the other one, which finds it moved, goes on in the same new file."""
    monkeypatch.setattr(audit, "FILE_BYTES_MAX", 10)
    doors = [Audit(str(path), "native"), Audit(str(path), "grpc")]
    for at, now in enumerate((0, audit.LOOK_MS)):
        for log in doors:
            log.note(ALICE, {"op": str(at)}, 0)
            log.flush(now)
        monkeypatch.setattr(audit, "FILE_BYTES_MAX", 10 if at == 0 else 1 << 20)
    kept = [line["op"] for line in (*lines(path), *lines(path.with_suffix(".log.1")))]
    assert kept
    assert {line["op"] for line in lines(path)} == {"1"}
    for log in doors:
        log.close()


def test_what_cannot_be_written_holds_up_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Audit(str(path), "grpc")

    def full(_file: int, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("zkv.gateway.audit.os.write", full)
        log.note(ALICE, {"op": "A"}, 0)
        log.flush(0)
    log.note(ALICE, {"op": "B"}, 0)
    log.flush(1)
    assert [line["op"] for line in lines(path)] == ["B"]
    log.close()
