"""What `Client` and `AsyncClient` do with the members of the cluster."""

# ruff: noqa: ASYNC109 (a timeout here is the cluster's deadline, not the task's)
from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from zkv.client import calls
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Iterable

    from zkv.client.calls import Call
    from zkv.client.records import MemberAddResult, MembersResult, MoveLeaderResult

T = TypeVar("T")


class Administration:
    """Part of `Client`. Members are named by their ids."""

    def _call(self, call: Call[T], timeout: float | None) -> T:
        raise NotImplementedError

    def member_add(
        self, peer_urls: Iterable[str], *, learner: bool = False, timeout: float | None = None
    ) -> MemberAddResult:
        """Add a member at `peer_urls`; a server started there with `--initial-cluster-state existing` becomes it.

        It begins as a learner and, unless it is to remain a `learner`, votes once it has caught up: a server that never
        comes costs no quorum. Raises PeerUrlExists, BadMemberUrls, TooManyLearners, NotEnoughStarted, UnhealthyCluster.
        """
        return self._call(calls.member_add(peer_urls, learner=learner), timeout)

    def member_remove(self, member: int, *, timeout: float | None = None) -> MembersResult:
        """Remove a member; its server ends by itself. Raises MemberNotFound, NotEnoughStarted, UnhealthyCluster."""
        return self._call(calls.change_members(m.MemberRemove(member)), timeout)

    def member_update(self, member: int, peer_urls: Iterable[str], *, timeout: float | None = None) -> MembersResult:
        """Say that a member is at other urls now. Raises MemberNotFound, PeerUrlExists, BadMemberUrls."""
        return self._call(calls.change_members(m.MemberUpdate(member, tuple(peer_urls))), timeout)

    def member_promote(self, member: int, *, timeout: float | None = None) -> MembersResult:
        """Let a learner vote. Raises MemberNotFound, MemberNotLearner, LearnerNotReady."""
        return self._call(calls.change_members(m.MemberPromote(member)), timeout)

    def move_leader(self, member: int, *, timeout: float | None = None) -> MoveLeaderResult:
        """Hand the leadership to another voter. Raises BadLeaderTransferee, LeaderTransferTimeout."""
        return self._call(calls.move_leader(member), timeout)


class AsyncAdministration:
    """Part of `AsyncClient`."""

    async def _call(self, call: Call[T], timeout: float | None) -> T:
        raise NotImplementedError

    async def member_add(
        self, peer_urls: Iterable[str], *, learner: bool = False, timeout: float | None = None
    ) -> MemberAddResult:
        """See `Client.member_add`."""
        return await self._call(calls.member_add(peer_urls, learner=learner), timeout)

    async def member_remove(self, member: int, *, timeout: float | None = None) -> MembersResult:
        """See `Client.member_remove`."""
        return await self._call(calls.change_members(m.MemberRemove(member)), timeout)

    async def member_update(
        self, member: int, peer_urls: Iterable[str], *, timeout: float | None = None
    ) -> MembersResult:
        """See `Client.member_update`."""
        return await self._call(calls.change_members(m.MemberUpdate(member, tuple(peer_urls))), timeout)

    async def member_promote(self, member: int, *, timeout: float | None = None) -> MembersResult:
        """See `Client.member_promote`."""
        return await self._call(calls.change_members(m.MemberPromote(member)), timeout)

    async def move_leader(self, member: int, *, timeout: float | None = None) -> MoveLeaderResult:
        """See `Client.move_leader`."""
        return await self._call(calls.move_leader(member), timeout)
