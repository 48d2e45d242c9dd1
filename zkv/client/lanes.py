"""Which way a request goes through a member: the requests of one message all go the same.

So a gateway can pass on a client's message as it came; a mixed one it would have to take apart.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, Final

from zkv.wire import messages as m


class Lane(IntEnum):
    WRITE = 0
    """Through the log."""
    READ = 1
    """Past a quorum, then to storage."""
    STAMPED = 2
    """To storage, with what the member's raft knows of itself."""
    LOCAL = 3
    """Straight to the member's own storage."""
    ALONE = 4
    """What may be answered in chunks, or late: each in a message of its own, which becomes its stream."""
    LEASE = 5
    """Keep-alives: to the leader's lease actor, past the log."""


WRITE: Final = int(Lane.WRITE)
READ: Final = int(Lane.READ)
LOCAL: Final = int(Lane.LOCAL)
STAMPED: Final = int(Lane.STAMPED)
ALONE: Final = int(Lane.ALONE)
LEASE: Final = int(Lane.LEASE)

OP_OF: dict[type, int] = {cls: int(op) for op, cls in m.REQUEST_CLASSES.items()}
LANE_OF: dict[type, int] = {
    m.Put: WRITE,
    m.DeleteRange: WRITE,
    m.Compact: WRITE,
    m.LeaseGrant: WRITE,
    m.LeaseRevoke: WRITE,
    m.MemberAdd: WRITE,
    m.MemberRemove: WRITE,
    m.MemberUpdate: WRITE,
    m.MemberPromote: WRITE,
    m.MoveLeader: WRITE,
    m.LeaseKeepAlive: LEASE,
    m.LeaseTimeToLive: READ,
    m.LeaseList: READ,
    m.HashKV: LOCAL,
    m.Snapshot: ALONE,
    m.Log: ALONE,
    m.Defragment: ALONE,
    m.Status: STAMPED,
    m.Look: ALONE,
    m.Authenticate: ALONE,
    m.AuthStatus: READ,
    m.UserGet: READ,
    m.UserList: READ,
    m.RoleGet: READ,
    m.RoleList: READ,
    m.AuthEnable: WRITE,
    m.AuthDisable: WRITE,
    m.UserAdd: WRITE,
    m.UserDelete: WRITE,
    m.UserChangePassword: WRITE,
    m.UserGrantRole: WRITE,
    m.UserRevokeRole: WRITE,
    m.RoleAdd: WRITE,
    m.RoleDelete: WRITE,
    m.RoleGrantPermission: WRITE,
    m.RoleRevokePermission: WRITE,
    m.QuotaSet: WRITE,
    m.QuotaDelete: WRITE,
    m.QuotaGet: READ,
    m.QuotaList: READ,
}
"""For those whose class says it all."""


def lane_of(request: m.Request) -> int:
    asked: Any = request  # whose fields may hold anything: what they may not, the member tells
    match request:
        case m.Range():
            if asked.range_end and not asked.count_only:
                return ALONE
            return LOCAL if asked.serializable else READ
        case m.Alarm():
            return READ if asked.action == m.AlarmAction.GET else WRITE
        case m.MemberList():
            return READ if asked.linearizable else LOCAL
        case m.Txn():
            return WRITE if writes(request) else READ
        case _:
            return LANE_OF[type(request)]


def writes(txn: m.Txn) -> bool:
    """Does any branch, at any depth, write?"""
    return any(
        writes(request) if isinstance(request, m.Txn) else not isinstance(request, m.Range)
        for _, request in (*txn.success, *txn.failure)
    )
