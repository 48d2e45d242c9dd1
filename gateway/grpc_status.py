"""What an error is called on the wire of etcd's API: error class -> gRPC status. The text is the class's own.

etcd's clients compare both (etcd:api/v3rpc/rpctypes/error.go).
"""

from __future__ import annotations

from typing import Final

from zkv import errors
from zkv.gateway.http2.grpc_words import Status
from zkv.wire import messages as m

STATUS: Final[dict[type[errors.ZkvError], Status]] = {
    errors.InvalidRequest: Status.INVALID_ARGUMENT,
    errors.UnsupportedVersion: Status.UNIMPLEMENTED,
    errors.EmptyKey: Status.INVALID_ARGUMENT,
    errors.KeyNotFound: Status.INVALID_ARGUMENT,
    errors.ValueProvided: Status.INVALID_ARGUMENT,
    errors.LeaseProvided: Status.INVALID_ARGUMENT,
    errors.TooManyOps: Status.INVALID_ARGUMENT,
    errors.DuplicateKey: Status.INVALID_ARGUMENT,
    errors.InvalidSortOption: Status.INVALID_ARGUMENT,
    errors.Compacted: Status.OUT_OF_RANGE,
    errors.FutureRevision: Status.OUT_OF_RANGE,
    errors.LeaseNotFound: Status.NOT_FOUND,
    errors.LeaseExists: Status.FAILED_PRECONDITION,
    errors.LeaseTTLTooLarge: Status.OUT_OF_RANGE,
    errors.RequestTooLarge: Status.INVALID_ARGUMENT,
    errors.RangeTooLarge: Status.RESOURCE_EXHAUSTED,
    errors.MemberExists: Status.FAILED_PRECONDITION,
    errors.PeerUrlExists: Status.FAILED_PRECONDITION,
    errors.BadMemberUrls: Status.INVALID_ARGUMENT,
    errors.MemberNotFound: Status.NOT_FOUND,
    errors.MemberNotLearner: Status.FAILED_PRECONDITION,
    errors.LearnerNotReady: Status.FAILED_PRECONDITION,
    errors.TooManyLearners: Status.FAILED_PRECONDITION,
    errors.NotEnoughStarted: Status.FAILED_PRECONDITION,
    errors.UnhealthyCluster: Status.UNAVAILABLE,
    errors.BadLeaderTransferee: Status.FAILED_PRECONDITION,
    errors.NotLeader: Status.FAILED_PRECONDITION,
    errors.LeaderTransferTimeout: Status.UNKNOWN,  # etcd has none for it
    errors.NoSpace: Status.RESOURCE_EXHAUSTED,
    errors.Corrupt: Status.DATA_LOSS,
    errors.PermissionDenied: Status.PERMISSION_DENIED,
    errors.RootUserNotExist: Status.FAILED_PRECONDITION,
    errors.RootRoleNotExist: Status.FAILED_PRECONDITION,
    errors.UserExists: Status.FAILED_PRECONDITION,
    errors.UserEmpty: Status.INVALID_ARGUMENT,
    errors.UserNotFound: Status.FAILED_PRECONDITION,
    errors.RoleExists: Status.FAILED_PRECONDITION,
    errors.RoleNotFound: Status.FAILED_PRECONDITION,
    errors.RoleEmpty: Status.INVALID_ARGUMENT,
    errors.AuthFailed: Status.INVALID_ARGUMENT,
    errors.PermissionNotGiven: Status.INVALID_ARGUMENT,
    errors.RoleNotGranted: Status.FAILED_PRECONDITION,
    errors.PermissionNotGranted: Status.FAILED_PRECONDITION,
    errors.AuthNotEnabled: Status.FAILED_PRECONDITION,
    errors.InvalidAuthToken: Status.UNAUTHENTICATED,
    errors.InvalidAuthMgmt: Status.INVALID_ARGUMENT,
    errors.NoPasswordUser: Status.UNKNOWN,  # etcd has none for it
    errors.TooManyNames: Status.RESOURCE_EXHAUSTED,
    errors.OverQuota: Status.RESOURCE_EXHAUSTED,
    errors.QuotaNotFound: Status.NOT_FOUND,
    errors.TooManyQuotas: Status.RESOURCE_EXHAUSTED,
    errors.OverRate: Status.RESOURCE_EXHAUSTED,
    errors.AuthOldRevision: Status.INVALID_ARGUMENT,
    errors.NotIntroduced: Status.UNAUTHENTICATED,
    errors.NoLeader: Status.UNAVAILABLE,
    errors.TooManyRequests: Status.RESOURCE_EXHAUSTED,
    errors.LimitExceeded: Status.RESOURCE_EXHAUSTED,
    errors.Stopped: Status.UNAVAILABLE,
    errors.LeaderChanged: Status.UNAVAILABLE,
    errors.RequestTimeout: Status.UNAVAILABLE,
    errors.Unavailable: Status.UNAVAILABLE,
    errors.NotCapable: Status.UNAVAILABLE,
    errors.StreamLost: Status.UNAVAILABLE,
    errors.SlowWatcher: Status.UNAVAILABLE,
    errors.DeadlineExceeded: Status.DEADLINE_EXCEEDED,
}
_WITH_DETAIL: Final = frozenset({errors.InvalidRequest, errors.UnsupportedVersion, errors.OverQuota, errors.OverRate})
"""The others' texts are compared, to the letter."""


_MAINTENANCE: Final = frozenset({m.Op.DEFRAGMENT, m.Op.HASH_KV, m.Op.SNAPSHOT})
"""Of these etcd lets out errors of users as they are inside."""
_INSIDE: Final = {
    errors.UserEmpty: "auth: user name is empty",
    errors.PermissionDenied: "auth: permission denied",
    errors.UserNotFound: "auth: user not found",
}


def status_of(error: errors.ZkvError, op: int = 0) -> tuple[Status, str, int]:
    """Status, text, and after how many ms it may be tried again (0: nobody says). `op`: what was asked for."""
    cls = type(error)
    if op in _MAINTENANCE and cls in _INSIDE:
        return Status.UNKNOWN, _INSIDE[cls], 0
    text = str(error) if cls in _WITH_DETAIL else cls.text
    return STATUS.get(cls, Status.UNKNOWN), text, error.retry_after_ms
