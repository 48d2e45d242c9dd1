"""What calls return. Each result holds the header of its answer: who gave it, at which revision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zkv.client.ticket import Header
    from zkv.wire.messages import KeyValue, Member, Quota


@dataclass(frozen=True, slots=True)
class Result:
    header: Header

    @property
    def revision(self) -> int:
        """The store's revision: the one a write made, the one a read was answered at."""
        return self.header.revision


@dataclass(frozen=True, slots=True)
class PutResult(Result):
    """`prev_kv`: what was there before, when it was asked for and there was something.

    `lease`: the one that a put with a `ttl` made for its key.
    """

    prev_kv: KeyValue | None = None
    lease: int = 0


@dataclass(frozen=True, slots=True)
class DeleteResult(Result):
    """How many keys were deleted, and what they held when that was asked for."""

    deleted: int
    prev_kvs: tuple[KeyValue, ...] = ()


@dataclass(frozen=True, slots=True)
class RangeResult(Result):
    """`count` is how many keys the range holds, limit or not; `more`: the limit cut the answer."""

    kvs: tuple[KeyValue, ...]
    more: bool
    count: int


@dataclass(frozen=True, slots=True)
class TxnResult(Result):
    """`responses`: one result for each request of the branch that ran."""

    succeeded: bool
    responses: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class CompactResult(Result):
    pass


@dataclass(frozen=True, slots=True)
class HashKVResult(Result):
    """The hash of all revisions up to the one asked for that compaction (at `compact_revision`) has left."""

    hash: int
    compact_revision: int


@dataclass(frozen=True, slots=True)
class StatusResult(Result):
    """One member about itself. Sizes in bytes; `leader` 0: it knows none."""

    version: str
    db_size: int
    db_size_in_use: int
    leader: int
    raft_term: int
    raft_index: int
    raft_applied_index: int
    errors: tuple[str, ...]
    is_learner: bool


@dataclass(frozen=True, slots=True)
class MembersResult(Result):
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class MemberAddResult(Result):
    """The new member, a learner until it has caught up, and all members now."""

    member: Member
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class MoveLeaderResult(Result):
    pass


@dataclass(frozen=True, slots=True)
class GrantResult(Result):
    """A new lease. `ttl`, in seconds, is the one asked for, or the shortest the cluster can keep."""

    id: int
    ttl: int


@dataclass(frozen=True, slots=True)
class RevokeResult(Result):
    pass


@dataclass(frozen=True, slots=True)
class KeepAliveResult(Result):
    """The lease lives for `ttl` seconds more."""

    id: int
    ttl: int


@dataclass(frozen=True, slots=True)
class TimeToLiveResult(Result):
    """`ttl`: whole seconds left, -1 for a lease that is not there; `keys`: those on it, if asked for."""

    id: int
    ttl: int
    granted_ttl: int
    keys: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class LeasesResult(Result):
    """The ids of all leases."""

    leases: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AuthResult(Result):
    """Users or roles have changed."""


@dataclass(frozen=True, slots=True)
class AuthStatusResult(Result):
    """Is everybody asked who he is? `auth_revision` rises with each change of users and roles."""

    enabled: bool
    auth_revision: int


@dataclass(frozen=True, slots=True)
class UserResult(Result):
    """The names of a user's roles."""

    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NamesResult(Result):
    """Of all users, or all roles, in order."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Permission:
    """What may be done ("read", "write" or "readwrite") to the keys in [key, range_end), as in a range."""

    kind: str
    key: bytes
    range_end: bytes = b""


@dataclass(frozen=True, slots=True)
class RoleResult(Result):
    permissions: tuple[Permission, ...]


@dataclass(frozen=True, slots=True)
class QuotaResult(Result):
    """A quota as it is; as it was, where it was deleted."""

    quota: Quota


@dataclass(frozen=True, slots=True)
class QuotasResult(Result):
    """In the order of their prefixes."""

    quotas: tuple[Quota, ...]


@dataclass(frozen=True, slots=True)
class SwapResult(Result):
    """Was what was expected there, and so changed? True and false like `succeeded`.

    `kv`: what is there instead, None if nothing is.
    """

    succeeded: bool
    kv: KeyValue | None = None

    def __bool__(self) -> bool:
        return self.succeeded
