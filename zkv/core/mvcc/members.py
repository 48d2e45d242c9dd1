"""The member table: who belongs to the cluster, where they are, and who of them votes. Part of the replicated state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv.core.mvcc import layout
from zkv.core.raft.membership import changed
from zkv.errors import InvalidRequest
from zkv.wire.codec import pack, unpack
from zkv.wire.messages import ConfChange, ConfChangeKind, ConfState, Member, Publish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.core.mvcc.engine import Reader


class Members:
    """Small enough to be held whole; what changed is written with the batch that changed it."""

    def __init__(self, reader: Reader, conf: ConfState) -> None:
        self.conf = conf
        records = reader.scan(layout.MEMBER, layout.after_prefix(layout.MEMBER))
        self._table = {member.id: member for member in (Member(*unpack(record)) for _, record in records)}
        self._changed: set[int] = set()

    def all(self) -> tuple[Member, ...]:
        """In the order of their ids."""
        return tuple(self._table[member] for member in sorted(self._table))

    def bootstrap(self, members: Sequence[Member]) -> None:
        for member in members:
            self._set(member)
        self.conf = ConfState(
            tuple(sorted(member.id for member in members if not member.is_learner)),
            tuple(sorted(member.id for member in members if member.is_learner)),
        )

    def publish(self, request: Publish) -> None:
        """Who has been removed meanwhile publishes in vain."""
        member = self._table.get(request.member_id)
        if member is not None:
            self._set(member._replace(name=request.name, client_urls=request.client_urls))

    def change(self, change: ConfChange, index: int) -> bool:
        """Was it a change? One that makes no sense any more changes nothing, here as in raft."""
        try:
            self.conf = changed(self.conf, change, index)
        except InvalidRequest:
            return False
        for kind, member, peer_urls in change.changes:
            known = self._table.get(member, Member(member, "", (), (), False))
            if kind == ConfChangeKind.REMOVE:
                del self._table[member]
                self._changed.add(member)
            elif kind == ConfChangeKind.UPDATE:
                self._set(known._replace(peer_urls=peer_urls))
            else:
                is_learner = kind == ConfChangeKind.ADD_LEARNER
                self._set(known._replace(peer_urls=peer_urls or known.peer_urls, is_learner=is_learner))
        return True

    def _set(self, member: Member) -> None:
        self._table[member.id] = member
        self._changed.add(member.id)

    def pairs(self) -> tuple[list[tuple[bytes, bytes]], list[bytes]]:
        """What has changed since the last call: puts and deletes."""
        puts = [(layout.member_key(i), pack(self._table[i])) for i in sorted(self._changed) if i in self._table]
        deletes = [layout.member_key(i) for i in sorted(self._changed) if i not in self._table]
        self._changed = set()
        return puts, deletes
