"""What a request needs to be allowed, where users are asked who they are: each operation's rule, in one table.

As etcd has it (server/etcdserver/apply_auth.go, and the checks in its API layer), by the same errors, and stricter in
some: txns within txns are looked into; whoever is told what a put inside a txn replaced, or which keys hang on a lease,
must be allowed to read them; a lease with others' keys on it takes no further ones inside a txn either; to
compact one must be somebody; alarms are set and the leader is moved by root alone. An operation that is not in the
table is root's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from zkv.core.mvcc.quotas import prefix_end
from zkv.errors import PermissionDenied
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.core.auth import Book
    from zkv.core.mvcc.leases import Leases
    from zkv.wire.messages import Caller

_OPEN: Final = frozenset(
    map(
        int,
        (
            m.Op.STATUS,
            m.Op.MEMBER_LIST,
            m.Op.LEASE_GRANT,
            m.Op.LEASE_LIST,
            m.Op.LOGIN,
            # by members only: a client's is refused at the door
            m.Op.PUBLISH,
            m.Op.LEASE_RENEW,
            m.Op.LEASE_EXPIRE,
            m.Op.FENCE,
            m.Op.QUOTA_COUNT,
        ),
    )
)


def check(book: Book, leases: Leases, caller: Caller | None, op: int, asked: Any) -> None:
    """May the caller have this done? `book.enabled` holds. `asked`: as in wire/groups.py, and not None.

    Raises PermissionDenied, UserEmpty, UserNotFound, AuthOldRevision.
    """
    if op in _OPEN or caller == m.HOUSE:
        return
    rule = _RULES.get(op)
    if rule is None:
        book.check_root(caller)
    else:
        rule(_Asked(book, leases, caller), asked)


class _Asked:
    """One request's caller, found out who he is when the first rule needs to know."""

    __slots__ = ("_name", "book", "caller", "leases")

    def __init__(self, book: Book, leases: Leases, caller: Caller | None) -> None:
        self.book = book
        self.leases = leases
        self.caller = caller
        self._name = ""

    @property
    def name(self) -> str:
        self._name = self._name or self.book.identified(self.caller)
        return self._name

    def read(self, key: bytes, range_end: bytes = b"") -> None:
        if not self.book.may_read(self.name, key, range_end):
            raise PermissionDenied

    def write(self, key: bytes, range_end: bytes = b"") -> None:
        if not self.book.may_write(self.name, key, range_end):
            raise PermissionDenied

    def write_leased(self, lease: int) -> None:
        """All keys on a lease, for whoever adds one can have them deleted with his."""
        if lease and not self.book.is_root(self.name):
            for key in self.leases.keys_of(lease):
                self.write(key)


def _range(asked: _Asked, request: m.Range) -> None:
    asked.read(request.key, request.range_end)


def _put(asked: _Asked, request: m.Put) -> None:
    asked.write(request.key)
    if request.prev_kv:
        asked.read(request.key)
    asked.write_leased(request.lease)


def _delete(asked: _Asked, request: m.DeleteRange) -> None:
    asked.write(request.key, request.range_end)
    if request.prev_kv:
        asked.read(request.key, request.range_end)


def _txn(asked: _Asked, request: m.Txn) -> None:
    """Both branches, whichever runs: else it would tell how the comparison came out."""
    for compare in request.compares:
        asked.read(compare.key, compare.range_end)
    for _, inner in (*request.success, *request.failure):
        if isinstance(inner, m.Txn):
            _txn(asked, inner)
        elif isinstance(inner, m.Range):
            _range(asked, inner)
        elif isinstance(inner, m.Put):
            _put(asked, inner)
        else:
            _delete(asked, inner)


def _compact(asked: _Asked, _: m.Compact) -> None:
    asked.book.identified(asked.caller)


def _alarm(asked: _Asked, request: m.Alarm) -> None:
    if request.action != m.AlarmAction.GET:
        asked.book.check_root(asked.caller)


def _revoke(asked: _Asked, request: m.LeaseRevoke) -> None:
    for key in asked.leases.keys_of(request.id):
        asked.write(key)


def _time_to_live(asked: _Asked, request: m.LeaseTimeToLive) -> None:
    """There may be a million keys: whether each may be read, is asked as they are gathered (reading.py)."""
    if request.keys:
        asked.book.identified(asked.caller)


def _quota_get(asked: _Asked, request: m.QuotaGet) -> None:
    """Whoever may read all that it is about may know how much that is."""
    asked.read(request.prefix or b"\0", prefix_end(request.prefix))


def _user_get(asked: _Asked, request: m.UserGet) -> None:
    """Of oneself."""
    if asked.name != request.name:
        asked.book.check_root(asked.caller)


def _role_get(asked: _Asked, request: m.RoleGet) -> None:
    """One's own."""
    if request.name not in asked.book.users[asked.name].roles:
        asked.book.check_root(asked.caller)


_RULES: Final[dict[int, Callable[[_Asked, Any], None]]] = {
    int(m.Op.RANGE): lambda asked, fields: _range(asked, m.Range(*fields)),  # which may be plain, as may a put's
    int(m.Op.PUT): lambda asked, fields: _put(asked, m.Put(*fields)),
    int(m.Op.DELETE_RANGE): _delete,
    int(m.Op.TXN): _txn,
    int(m.Op.COMPACT): _compact,
    int(m.Op.ALARM): _alarm,
    int(m.Op.LEASE_REVOKE): _revoke,
    int(m.Op.LEASE_TIME_TO_LIVE): _time_to_live,
    int(m.Op.QUOTA_GET): _quota_get,
    int(m.Op.USER_GET): _user_get,
    int(m.Op.ROLE_GET): _role_get,
}
