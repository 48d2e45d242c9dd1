"""What an error is called on the wire of etcd's API: error class -> gRPC status. The text is the class's own.

etcd's clients compare both (etcd:api/v3rpc/rpctypes/error.go).
"""

from __future__ import annotations

from typing import Final

from zkv import errors
from zkv.gateway.http2.grpc_words import Status

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
    errors.NotIntroduced: Status.UNAUTHENTICATED,
    errors.NoLeader: Status.UNAVAILABLE,
    errors.TooManyRequests: Status.RESOURCE_EXHAUSTED,
    errors.Stopped: Status.UNAVAILABLE,
    errors.LeaderChanged: Status.UNAVAILABLE,
    errors.RequestTimeout: Status.UNAVAILABLE,
    errors.Unavailable: Status.UNAVAILABLE,
    errors.NotCapable: Status.UNAVAILABLE,
    errors.StreamLost: Status.UNAVAILABLE,
    errors.SlowWatcher: Status.UNAVAILABLE,
    errors.DeadlineExceeded: Status.DEADLINE_EXCEEDED,
}
_WITH_DETAIL: Final = frozenset({errors.InvalidRequest, errors.UnsupportedVersion})
"""The others' texts are compared, to the letter."""


def status_of(error: errors.ZkvError) -> tuple[Status, str]:
    cls = type(error)
    return STATUS.get(cls, Status.UNKNOWN), str(error) if cls in _WITH_DETAIL else cls.text
