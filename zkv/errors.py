"""The one error tree.

    ZkvError
    ├── RequestError            your fault, or the data's: asking again will give the same answer
    │   ├── InvalidRequest          what came in is no request (malformed, out of bounds)
    │   ├── UnsupportedVersion      a protocol version this node does not speak
    │   ├── EmptyKey, ValueProvided, LeaseProvided, TooManyOps, DuplicateKey, InvalidSortOption
    │   ├── KeyNotFound, Compacted, FutureRevision
    │   ├── LeaseNotFound, LeaseExists, LeaseTTLTooLarge
    │   ├── RequestTooLarge, RangeTooLarge
    │   ├── MemberExists, PeerUrlExists, BadMemberUrls, MemberNotFound, MemberNotLearner, LearnerNotReady
    │   ├── TooManyLearners, NotEnoughStarted, UnhealthyCluster, BadLeaderTransferee, NotLeader
    │   ├── LeaderTransferTimeout, NoSpace, Corrupt
    │   ├── PermissionDenied, UserEmpty, AuthFailed, InvalidAuthToken, NoPasswordUser, AuthNotEnabled, InvalidAuthMgmt
    │   ├── RootUserNotExist, RootRoleNotExist, UserExists, UserNotFound, RoleExists, RoleNotFound, RoleEmpty
    │   ├── RoleNotGranted, PermissionNotGiven, PermissionNotGranted, TooManyNames
    │   └── OverQuota, QuotaNotFound, TooManyQuotas
    ├── RetryableError          nobody's fault: ask again, here or elsewhere
    │   ├── NoLeader, TooManyRequests, LimitExceeded, OverRate, Stopped, NotCapable, AuthOldRevision, NotIntroduced
    │   ├── LeaderChanged, RequestTimeout, Unavailable      a write may have happened
    │   ├── StreamLost              a range's chunks, or watches, broke off; ask for the rest
    │   └── SlowWatcher             a watch whose events were not taken for too long; ask from where it ended
    ├── SessionError            a write whose fate the cluster can no longer tell, or whose answer it cannot repeat
    │   ├── SessionExpired          a write may have happened
    │   └── AnswerLost              the write has happened, at `revision`
    ├── ClientError             this side's: ClientClosed, ConnectionFailed, DeadlineExceeded
    │   └── LeaseLost, LockLost, ElectionNotLeader, KeyExists, TooManyClients, Conflict      of locks and their like
    ├── NotTrusted              what somebody showed does not prove who they are, or that they may be here
    │   ├── BadCertificate, UnknownAuthority, CertificateExpired, CertificateNotYetValid, CertificateRevoked
    │   ├── WrongUsage, WrongHost, NotAllowed
    │   └── BadIntroduction         BadSignature, ExpiredIntroduction, EarlyIntroduction, DowngradedIntroduction,
    │                               ReplayedIntroduction, WrongPurpose, WrongCurveKey, WrongAudience, WrongCluster
    ├── CorruptionError         bytes on disk or on the wire are not what was written; the node stops
    ├── DiskError               the disk refused a read, a write or a sync; the actor that asked ends
    │   └── DiskFull                there was no room for a new file; the actor waits for some
    └── ConfigError             a setting cannot be served; says which and why

Every error adds one fact: `maybe_applied`, may the write have happened? A timeout is not a failure.

Errors that cross the wire have a `code`, never reused, and carry their fields, never a sentence; the sentence
is etcd's where etcd has one, to the letter, because its users compare them
(etcd:api/v3rpc/rpctypes/error.go). Codes below 100 are no errors.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Code(IntEnum):
    """Answers that are no errors. The others are the `code` of an error class."""

    OK = 0
    CHUNK = 1  # part of a range; more chunks of the same request follow


class ZkvError(Exception):
    """Whatever zkv can tell about what went wrong. `detail` adds to `text`, for people."""

    code: ClassVar[int] = 0
    text: ClassVar[str] = "zkv: error"
    maybe_applied: bool = False
    """What the class can say. The client, which knows whether the write ever left, sets it on what it raises."""

    def __init__(self, detail: str = "", retry_after_ms: int = 0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_ms = retry_after_ms
        """Before that it need not be tried again; 0: whoever refused it cannot say."""

    def fields(self) -> tuple[str] | tuple[str, int] | tuple[()]:
        """What an answer says of it beside its code."""
        if self.retry_after_ms:
            return self.detail, self.retry_after_ms
        return (self.detail,) if self.detail else ()

    def __str__(self) -> str:
        return f"{self.text}: {self.detail}" if self.detail else self.text


class RequestError(ZkvError):
    """The request itself cannot be served; asking again will give the same answer."""


class InvalidRequest(RequestError):
    code = 100
    text = "zkv: invalid request"


class UnsupportedVersion(RequestError):
    code = 101
    text = "zkv: protocol version not supported"


class EmptyKey(RequestError):
    code = 102
    text = "etcdserver: key is not provided"


class KeyNotFound(RequestError):
    code = 103
    text = "etcdserver: key not found"


class ValueProvided(RequestError):
    code = 104
    text = "etcdserver: value is provided"


class LeaseProvided(RequestError):
    code = 105
    text = "etcdserver: lease is provided"


class TooManyOps(RequestError):
    code = 106
    text = "etcdserver: too many operations in txn request"


class DuplicateKey(RequestError):
    code = 107
    text = "etcdserver: duplicate key given in txn request"


class InvalidSortOption(RequestError):
    code = 108
    text = "etcdserver: invalid sort option"


class Compacted(RequestError):
    code = 109
    text = "etcdserver: mvcc: required revision has been compacted"
    compact_revision: int = 0
    """To a watch: the first revision that is kept. 0 where nobody said."""


class FutureRevision(RequestError):
    code = 110
    text = "etcdserver: mvcc: required revision is a future revision"


class LeaseNotFound(RequestError):
    code = 111
    text = "etcdserver: requested lease not found"


class RequestTooLarge(RequestError):
    code = 112
    text = "etcdserver: request is too large"


class RangeTooLarge(RequestError):
    """A range inside a txn, or a sorted one, holds more than fits into one answer; ask with a limit."""

    code = 113
    text = "zkv: range is too large for one answer, ask with a limit or in key order"


class PermissionDenied(RequestError):
    code = 114
    text = "etcdserver: permission denied"


class LeaseExists(RequestError):
    code = 115
    text = "etcdserver: lease already exists"


class LeaseTTLTooLarge(RequestError):
    code = 116
    text = "etcdserver: too large lease TTL"


class MemberExists(RequestError):
    code = 130
    text = "etcdserver: member ID already exist"


class PeerUrlExists(RequestError):
    code = 131
    text = "etcdserver: Peer URLs already exists"


class BadMemberUrls(RequestError):
    code = 132
    text = "etcdserver: given member URLs are invalid"


class MemberNotFound(RequestError):
    code = 133
    text = "etcdserver: member not found"


class MemberNotLearner(RequestError):
    code = 134
    text = "etcdserver: can only promote a learner member"


class LearnerNotReady(RequestError):
    code = 135
    text = "etcdserver: can only promote a learner member which is in sync with leader"


class TooManyLearners(RequestError):
    code = 136
    text = "etcdserver: too many learner members in cluster"


class NotEnoughStarted(RequestError):
    """Without that member those that work would be no majority."""

    code = 137
    text = "etcdserver: re-configuration failed due to not enough started members"


class UnhealthyCluster(RequestError):
    """Members that vote are not connected, or a former change is still under way."""

    code = 138
    text = "etcdserver: unhealthy cluster"


class BadLeaderTransferee(RequestError):
    code = 139
    text = "etcdserver: bad leader transferee"


class NotLeader(RequestError):
    code = 140
    text = "etcdserver: not leader"


class LeaderTransferTimeout(RequestError):
    code = 141
    text = "etcdserver: request timed out, leader transfer took too long"


class NoSpace(RequestError):
    """A NOSPACE alarm is on: what grows the store is refused, until space is there again."""

    code = 142
    text = "etcdserver: mvcc: database space exceeded"


class Corrupt(RequestError):
    """A CORRUPT alarm is on: a member holds other data than the others."""

    code = 143
    text = "etcdserver: corrupt cluster"


class RootUserNotExist(RequestError):
    code = 150
    text = "etcdserver: root user does not exist"


class RootRoleNotExist(RequestError):
    code = 151
    text = "etcdserver: root user does not have root role"


class UserExists(RequestError):
    code = 152
    text = "etcdserver: user name already exists"


class UserEmpty(RequestError):
    """A user without a name was named; or nobody said who he is, where the cluster asks."""

    code = 153
    text = "etcdserver: user name is empty"


class UserNotFound(RequestError):
    code = 154
    text = "etcdserver: user name not found"


class RoleExists(RequestError):
    code = 155
    text = "etcdserver: role name already exists"


class RoleNotFound(RequestError):
    code = 156
    text = "etcdserver: role name not found"


class RoleEmpty(RequestError):
    code = 157
    text = "etcdserver: role name is empty"


class AuthFailed(RequestError):
    code = 158
    text = "etcdserver: authentication failed, invalid user ID or password"


class PermissionNotGiven(RequestError):
    code = 159
    text = "etcdserver: permission not given"


class RoleNotGranted(RequestError):
    code = 160
    text = "etcdserver: role is not granted to the user"


class PermissionNotGranted(RequestError):
    code = 161
    text = "etcdserver: permission is not granted to the role"


class AuthNotEnabled(RequestError):
    code = 162
    text = "etcdserver: authentication is not enabled"


class InvalidAuthToken(RequestError):
    """A token that is not known here (any more): name and password get another one."""

    code = 163
    text = "etcdserver: invalid auth token"


class InvalidAuthMgmt(RequestError):
    """Root and its role cannot be taken away while authentication is enabled."""

    code = 164
    text = "etcdserver: invalid auth management"


class NoPasswordUser(RequestError):
    code = 165
    text = "auth: authentication failed, password was given for no password user"


class TooManyNames(RequestError):
    code = 166
    text = "zkv: too many users, roles or permissions"


class OverQuota(RequestError):
    """Under a prefix there would be more than its policy allows; what does not make it grow is let through."""

    code = 170
    text = "zkv: over quota"


class QuotaNotFound(RequestError):
    code = 171
    text = "zkv: no quota is set for this prefix"


class TooManyQuotas(RequestError):
    code = 172
    text = "zkv: too many quotas"


class RetryableError(ZkvError):
    """Not the request's fault: it may be sent again, here or to another member."""


class NoLeader(RetryableError):
    code = 200
    text = "etcdserver: no leader"


class TooManyRequests(RetryableError):
    code = 201
    text = "etcdserver: too many requests"


class LimitExceeded(TooManyRequests):
    """More than one client may have of a member, so that there is some for the others. `detail`: of what."""

    code = 213

    def __str__(self) -> str:
        of = f": this client has all it may have of {self.detail}" if self.detail else ""
        return f"{self.text}{of}" + (f", try again in {self.retry_after_ms} ms" if self.retry_after_ms else "")


class Stopped(RetryableError):
    code = 202
    text = "etcdserver: server stopped"


class LeaderChanged(RetryableError):
    code = 203
    text = "etcdserver: leader changed"
    maybe_applied = True


class RequestTimeout(RetryableError):
    code = 204
    text = "etcdserver: request timed out"
    maybe_applied = True


class Unavailable(RetryableError):
    """A process of the node restarted while it held the request."""

    code = 205
    text = "zkv: member is restarting one of its processes"
    maybe_applied = True


class NotCapable(RetryableError):
    """The member cannot serve this now (it is a learner, or not yet caught up)."""

    code = 206
    text = "etcdserver: rpc not supported for learner"


class StreamLost(RetryableError):
    """The chunks of a range broke off (no credit came in time, or storage restarted)."""

    code = 207
    text = "zkv: range stream lost"


class SlowWatcher(RetryableError):
    """The client of a watch was owed events and took none for `Limits.watch_silence_ms`: its watches were ended."""

    code = 208
    text = "zkv: watch events were not taken in time"


class AuthOldRevision(RetryableError):
    """Users or roles have changed since the request was let in; nothing of it was done."""

    code = 209
    text = "etcdserver: revision of auth store is old"


class OverRate(RetryableError):
    """Keys under a prefix have been changed as often as its policy allows for now. Nothing was done."""

    code = 214
    text = "zkv: over the rate of a quota"


class NotIntroduced(RetryableError):
    """Its certificate has ended or is revoked, or it must be shown anew."""

    code = 212
    text = "zkv: this client's certificate is not believed any more, it must be introduced anew"


class SessionError(ZkvError):
    """The cluster no longer knows the session well enough to repeat an answer."""


class SessionExpired(SessionError):
    code = 300
    text = "zkv: session expired, the write may or may not have happened"
    maybe_applied = True


class AnswerLost(SessionError):
    """The write has been applied, but its answer was too large to be kept for a retry."""

    code = 301
    text = "zkv: the write was applied, its answer is no longer kept"
    maybe_applied = True
    revision: int = 0
    """The store's revision after the write; 0 where nobody said."""


class ClientError(ZkvError):
    """This side gave up; no server said so."""


class ClientClosed(ClientError):
    text = "zkv: client is closed"


class ConnectionFailed(ClientError):
    text = "zkv: no endpoint answers"
    maybe_applied = True


class DeadlineExceeded(ClientError):
    text = "context deadline exceeded"
    maybe_applied = True


class LeaseLost(ClientError):
    """It has ended, or may have: by this side's clock no keep-alive was acknowledged for a whole TTL."""

    text = "zkv: lease is lost"


class LockLost(ClientError):
    """The lock is not, or may no longer be, this side's. A write that it guarded did not happen."""

    text = "zkv: lock is lost"


class ElectionNotLeader(ClientError):
    """A write that the leadership guarded did not happen."""

    text = "election: not leader"


class KeyExists(ClientError):
    text = "key already exists"


class TooManyClients(ClientError):
    text = "too many clients"


class Conflict(ClientError):
    """Each attempt of a transaction met a change of what it had read."""

    text = "zkv: too many conflicts"


class NotTrusted(ZkvError):
    """What somebody showed does not prove who they are, or that they may be here. They are told nothing of it."""

    text = "zkv: not trusted"


class BadCertificate(NotTrusted):
    text = "zkv: certificate cannot be used"


class UnknownAuthority(NotTrusted):
    text = "zkv: certificate signed by unknown authority"


class CertificateExpired(NotTrusted):
    text = "zkv: certificate has expired"


class CertificateNotYetValid(NotTrusted):
    text = "zkv: certificate is not yet valid"


class CertificateRevoked(NotTrusted):
    text = "zkv: certificate is revoked"


class WrongUsage(NotTrusted):
    """A server's certificate shown by a client, for instance."""

    text = "zkv: certificate is for another usage"


class WrongHost(NotTrusted):
    text = "zkv: certificate is for another host"


class NotAllowed(NotTrusted):
    """A good certificate, of somebody who is not on the list (allowed-cn, allowed-hostname)."""

    text = "zkv: certificate is not on the list"


class BadIntroduction(NotTrusted):
    """What came in is no introduction: malformed, too large, or not in the one spelling there is."""

    text = "zkv: introduction cannot be read"


class BadSignature(BadIntroduction):
    text = "zkv: introduction is not signed by its certificate"


class ExpiredIntroduction(BadIntroduction):
    text = "zkv: introduction has expired"


class EarlyIntroduction(BadIntroduction):
    text = "zkv: introduction is not yet valid"


class DowngradedIntroduction(BadIntroduction):
    """Both sides speak a newer version than the one that arrived: somebody between them has a preference."""

    text = "zkv: introduction is of an older version than need be"


class ReplayedIntroduction(BadIntroduction):
    """It answers another challenge than the one that was given."""

    text = "zkv: introduction answers another challenge"


class WrongPurpose(BadIntroduction):
    text = "zkv: introduction is for another purpose"


class WrongCurveKey(BadIntroduction):
    text = "zkv: introduction is of another CURVE key"


class WrongAudience(BadIntroduction):
    text = "zkv: introduction is meant for somebody else"


class WrongCluster(BadIntroduction):
    text = "zkv: introduction is for another cluster"


class CorruptionError(ZkvError):
    text = "zkv: data is damaged"


class DiskError(ZkvError):
    """After a failed sync nobody knows what is on the disk, and a second sync may lie: so nobody asks twice."""

    text = "zkv: disk failure"


class DiskFull(DiskError):
    """Nothing of it was written: it may be tried again when there is space."""

    text = "zkv: no space left on the disk"


class ConfigError(ZkvError):
    text = "zkv: bad configuration"


def _family(root: type[ZkvError]) -> list[type[ZkvError]]:
    return [root, *(found for child in root.__subclasses__() for found in _family(child))]


BY_CODE: dict[int, type[ZkvError]] = {error.code: error for error in _family(ZkvError) if error.code}


def from_code(code: int, detail: str = "", retry_after_ms: int = 0) -> ZkvError:
    """The error a code of the wire stands for; an unknown one (a newer server's) becomes a plain ZkvError."""
    known = BY_CODE.get(code)
    if known is None:
        return ZkvError(f"unknown error code {code} {detail}".rstrip())
    return known(detail, retry_after_ms)
