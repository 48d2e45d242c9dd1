"""Which way a request goes through a member: the requests of one message all go the same.

So a gateway can pass on a client's message as it came; a mixed one it would have to take apart.
"""

from __future__ import annotations

from enum import IntEnum

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


OP_OF: dict[type, int] = {cls: int(op) for op, cls in m.REQUEST_CLASSES.items()}
LANE_OF: dict[type, int] = {
    m.Put: int(Lane.WRITE),
    m.DeleteRange: int(Lane.WRITE),
    m.Compact: int(Lane.WRITE),
    m.LeaseGrant: int(Lane.WRITE),
    m.LeaseRevoke: int(Lane.WRITE),
    m.MemberAdd: int(Lane.WRITE),
    m.MemberRemove: int(Lane.WRITE),
    m.MemberUpdate: int(Lane.WRITE),
    m.MemberPromote: int(Lane.WRITE),
    m.MoveLeader: int(Lane.WRITE),
    m.LeaseKeepAlive: int(Lane.LEASE),
    m.LeaseTimeToLive: int(Lane.READ),
    m.LeaseList: int(Lane.READ),
    m.HashKV: int(Lane.LOCAL),
    m.Snapshot: int(Lane.ALONE),
    m.Log: int(Lane.ALONE),
    m.Defragment: int(Lane.ALONE),
    m.Status: int(Lane.STAMPED),
    m.Look: int(Lane.ALONE),
    m.Authenticate: int(Lane.ALONE),
    m.AuthStatus: int(Lane.READ),
    m.UserGet: int(Lane.READ),
    m.UserList: int(Lane.READ),
    m.RoleGet: int(Lane.READ),
    m.RoleList: int(Lane.READ),
    m.AuthEnable: int(Lane.WRITE),
    m.AuthDisable: int(Lane.WRITE),
    m.UserAdd: int(Lane.WRITE),
    m.UserDelete: int(Lane.WRITE),
    m.UserChangePassword: int(Lane.WRITE),
    m.UserGrantRole: int(Lane.WRITE),
    m.UserRevokeRole: int(Lane.WRITE),
    m.RoleAdd: int(Lane.WRITE),
    m.RoleDelete: int(Lane.WRITE),
    m.RoleGrantPermission: int(Lane.WRITE),
    m.RoleRevokePermission: int(Lane.WRITE),
    m.QuotaSet: int(Lane.WRITE),
    m.QuotaDelete: int(Lane.WRITE),
    m.QuotaGet: int(Lane.READ),
    m.QuotaList: int(Lane.READ),
}
"""For those whose class says it all."""


def lane_of(request: m.Request) -> int:
    match request:
        case m.Range():
            if request.range_end and not request.count_only:
                return Lane.ALONE
            return Lane.LOCAL if request.serializable else Lane.READ
        case m.Alarm():
            return Lane.READ if request.action == m.AlarmAction.GET else Lane.WRITE
        case m.MemberList():
            return Lane.READ if request.linearizable else Lane.LOCAL
        case m.Txn():
            return Lane.WRITE if writes(request) else Lane.READ
        case _:
            return LANE_OF[type(request)]


def writes(txn: m.Txn) -> bool:
    """Does any branch, at any depth, write?"""
    return any(
        writes(request) if isinstance(request, m.Txn) else not isinstance(request, m.Range)
        for _, request in (*txn.success, *txn.failure)
    )
