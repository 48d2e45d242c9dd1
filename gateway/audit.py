"""The audit log: who asked what of which keys, from where, and whether he was let. A JSON object a line; never a value.

    {"time": "2026-01-02T03:04:05.678901Z", "door": "grpc", "user": "alice", "from": "10.0.0.7:40312", "op": "PUT",
     "key": "app/a", "allowed": true, "outcome": "OK"}

A line is written when its request is answered: by storage, by the door, or by nobody in time. `user` is empty for who
has named nobody. Of a txn, `parts` holds the operations of both branches and its compares. Commands about users and
roles have `names`, the user's and the role's. Keys are told up to KEY_BYTES_MAX, what is no text of them in hex.

Both doors append to one file, each a turn's lines by one write. Who moves the file away finds a new one a second later,
so no signal is needed; at FILE_BYTES_MAX the file becomes FILE.1, and the FILE.1 of before is gone. What cannot be
written (a full disk) is counted and warned of, and holds up nobody.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections import OrderedDict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import structlog

from zkv import errors
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

FILE_BYTES_MAX: Final = 256 << 20
KEY_BYTES_MAX: Final = 512
WATCHES_MAX: Final = 100_000
"""Watches of one door that are known here; of older ones it is not told that their permission went."""
LOOK_MS: Final = 1_000
"""How often it is looked whether the file is still there, and how large it is."""
WARN_MS: Final = 60_000
_DENIED: Final = frozenset(
    error.code
    for error in (
        errors.PermissionDenied,
        errors.UserEmpty,
        errors.UserNotFound,
        errors.AuthFailed,
        errors.NoPasswordUser,
        errors.InvalidAuthToken,
    )
)
_KEYED: Final[dict[int, Callable[[Any], tuple[bytes, bytes]]]] = {
    m.Op.RANGE: lambda fields: (fields[0], fields[1] if len(fields) > 1 else b""),
    m.Op.PUT: lambda fields: (fields[0], b""),
    m.Op.DELETE_RANGE: lambda fields: (fields[0], fields[1] if len(fields) > 1 else b""),
    m.Op.ROLE_GRANT_PERMISSION: lambda fields: (fields[2], fields[3] if len(fields) > 3 else b""),
    m.Op.ROLE_REVOKE_PERMISSION: lambda fields: (fields[1], fields[2] if len(fields) > 2 else b""),
}
_NAMED: Final[dict[int, int]] = {
    **dict.fromkeys((m.Op.USER_GRANT_ROLE, m.Op.USER_REVOKE_ROLE), 2),
    **dict.fromkeys(
        (
            m.Op.AUTHENTICATE, m.Op.USER_ADD, m.Op.USER_GET, m.Op.USER_DELETE, m.Op.USER_CHANGE_PASSWORD, m.Op.ROLE_ADD,
            m.Op.ROLE_GET, m.Op.ROLE_DELETE, m.Op.ROLE_GRANT_PERMISSION, m.Op.ROLE_REVOKE_PERMISSION,
        ),
        1,
    ),
}  # fmt: skip
"""How many of the first fields are names."""
_PREFIXED: Final = frozenset({m.Op.QUOTA_SET, m.Op.QUOTA_DELETE, m.Op.QUOTA_GET})
_LEASED: Final = frozenset({m.Op.LEASE_REVOKE, m.Op.LEASE_TIME_TO_LIVE, m.Op.LEASE_KEEP_ALIVE})


class Subject(NamedTuple):
    """Who asks, and from where."""

    user: str
    address: str


def described(op: int, fields: Any) -> dict[str, Any]:
    """What may be told of a request that was checked."""
    told: dict[str, Any] = {"op": m.Op(op).name}
    if op in _KEYED:
        key, end = _KEYED[op](fields)
        told |= {"key": _text(key)} | ({"range_end": _text(end)} if end else {})
    if op in _PREFIXED:
        told["prefix"] = _text(fields[0])
    if op in _NAMED:
        told["names"] = list(fields[: _NAMED[op]])
    if op in _LEASED:
        told["lease"] = fields[0]
    if op == m.Op.TXN:
        told["parts"] = list(_parts(fields))
    return told


def _parts(txn: Any) -> Any:
    compares, success, failure = txn
    for compare in compares:
        end = compare[4] if len(compare) > 4 else b""
        yield {"op": "COMPARE", "key": _text(compare[2])} | ({"range_end": _text(end)} if end else {})
    for op, fields in (*success, *failure):
        if op == m.Op.TXN:
            yield from _parts(fields)
        else:
            yield described(op, fields)


def _text(key: bytes) -> str:
    return key[:KEY_BYTES_MAX].decode("utf-8", "backslashreplace")


class Audit:
    """One door's hand at the file. Raises OSError when it cannot be opened at first."""

    def __init__(self, path: str, door: str) -> None:
        self._path = path
        self._door = door
        self._lines: list[str] = []
        self._lost = 0
        self._look_at = 0
        self._warn_at = 0
        self._file = self._open()

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def note(self, subject: Subject, told: dict[str, Any], code: int) -> None:
        outcome = errors.BY_CODE[code].__name__ if code in errors.BY_CODE else "OK"
        line = {
            "time": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "door": self._door,
            "user": subject.user,
            "from": subject.address,
            **told,
            "allowed": code not in _DENIED,
            "outcome": outcome,
        }
        self._lines.append(json.dumps(line, ensure_ascii=True, separators=(",", ":")))

    def flush(self, now: int) -> None:
        """What was noted in this turn is written."""
        if not self._lines:
            return
        data = ("\n".join(self._lines) + "\n").encode()
        count = len(self._lines)
        self._lines = []
        try:
            if now >= self._look_at:
                self._look_at = now + LOOK_MS
                self._look()
            os.write(self._file, data)
        except OSError as error:
            self._lost += count
            if now >= self._warn_at:
                self._warn_at = now + WARN_MS
                structlog.get_logger().bind(actor=self._door).warning(
                    "the audit log cannot be written", file=self._path, reason=error.strerror, lost=self._lost
                )

    def _look(self) -> None:
        """Go on in a new file where this one was moved away, or has become too large."""
        ours = os.fstat(self._file)
        if ours.st_size >= FILE_BYTES_MAX:
            fcntl.flock(self._file, fcntl.LOCK_EX)  # the other door may be about to do the same
            try:
                if _is_at(self._path, ours):
                    os.replace(self._path, f"{self._path}.1")
            finally:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        if not _is_at(self._path, ours):
            fresh = self._open()
            os.close(self._file)
            self._file = fresh

    def close(self) -> None:
        os.close(self._file)


class Audited:
    """A native client's group whose answers are to be noted."""

    __slots__ = ("_audit", "_left", "_subject")

    def __init__(self, audit: Audit, subject: Subject, requests: dict[int, dict[str, Any]]) -> None:
        self._audit = audit
        self._subject = subject
        self._left = requests

    def answered(self, payload: bytes) -> None:
        """A packed `Answers`."""
        for id_, code, _, _ in codec.unpack(payload)[4]:
            if code != errors.Code.CHUNK:
                self.note(id_, code)

    def failed(self, error: errors.ZkvError) -> None:
        """All that is left of it."""
        for id_ in list(self._left):
            self.note(id_, error.code)

    def note(self, id_: int, code: int) -> None:
        told = self._left.pop(id_, None)
        if told is not None:
            self._audit.note(self._subject, told, code)


class WatchAudit:
    """One door's watches: noted when they begin or are refused, and when their permission goes."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self._known: OrderedDict[tuple[int, int], tuple[Subject, dict[str, Any]]] = OrderedDict()

    def begin(self, stream: int, watches: Iterable[tuple[Any, ...]], subject: Subject) -> None:
        """They are asked for; what becomes of each is told to its stream."""
        for id_, key, *rest in watches:
            told = {"op": "WATCH", "key": _text(key)} | ({"range_end": _text(rest[0])} if rest and rest[0] else {})
            self._known[stream, id_] = subject, told
        while len(self._known) > WATCHES_MAX:
            self._known.popitem(last=False)

    def told(self, stream: int, payload: bytes) -> None:
        """A packed `Answers` of the watch actor."""
        for ids, kind, _, body in codec.unpack(payload)[6]:
            if kind == m.WatchKind.CREATED:
                self._note(stream, ids, 0)
            elif kind == m.WatchKind.CANCELLED:
                if body[0] in _DENIED:
                    self._note(stream, ids, body[0])
                for id_ in ids:
                    self._known.pop((stream, id_), None)

    def _note(self, stream: int, ids: Iterable[int], code: int) -> None:
        for id_ in ids:
            if (stream, id_) in self._known:
                self._audit.note(*self._known[stream, id_], code)


def audited(audit: Audit, user: str, address: str, payload: bytes) -> Audited:
    """Of a group that was checked."""
    requests = codec.unpack(payload)[4]
    return Audited(audit, Subject(user, address), {id_: described(op, fields) for id_, op, fields in requests})


def _is_at(path: str, status: os.stat_result) -> bool:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return False
    return (found.st_dev, found.st_ino) == (status.st_dev, status.st_ino)
