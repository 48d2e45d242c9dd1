"""The member table: who belongs to the cluster, where they are, and who of them votes. Part of the replicated state.

Two things are kept, and changed by two kinds of entries:

- the **table**, by requests of clients (add, remove, update, promote) and of the members themselves (publish):
  who is *meant* to belong to the cluster, and whether as a voter;
- the **configuration** (`conf`), by raft's conf changes: who does now.

The leader brings the second after the first, one conf change at a time (actors/reconciler.py): whoever is new begins as
a learner and votes once it has caught up; so an operator's mistake waits in the table and costs no quorum. As what is
meant is replicated, any later leader goes on with it.

Members that were removed are kept for ever: who comes back with such an id is told, and ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv.core import ids
from zkv.core.mvcc import layout
from zkv.core.raft.membership import changed, is_voter
from zkv.errors import (
    InvalidRequest,
    MemberExists,
    MemberNotFound,
    MemberNotLearner,
    NotEnoughStarted,
    PeerUrlExists,
    TooManyLearners,
)
from zkv.wire.codec import pack, unpack
from zkv.wire.messages import ConfChange, ConfState, Member, MemberAdd, MemberUpdate, Publish

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.core.mvcc.engine import Reader

LEARNERS_MAX = 1
"""Members that are meant to stay learners, as in etcd."""


class Members:
    """Small enough to be held whole; what changed is written with the batch that changed it."""

    def __init__(self, reader: Reader, conf: ConfState) -> None:
        self.conf = conf
        records = reader.scan(layout.MEMBER, layout.after_prefix(layout.MEMBER))
        self._table = {member.id: member for member in (Member(*unpack(record)) for _, record in records)}
        records = reader.scan(layout.REMOVED_MEMBER, layout.after_prefix(layout.REMOVED_MEMBER))
        self._removed = {member.id: member for member in (Member(*unpack(record)) for _, record in records)}
        self._changed: set[int] = set()

    def all(self) -> tuple[Member, ...]:
        """For clients, in the order of their ids: `is_learner` says who does not vote now."""
        return tuple(self._as_it_is(self._table[member]) for member in sorted(self._table))

    def table(self) -> tuple[Member, ...]:
        """As it is meant: `is_learner` says who is not to vote."""
        return tuple(self._table[member] for member in sorted(self._table))

    def removed(self) -> tuple[Member, ...]:
        """As they were in the end."""
        return tuple(self._removed[member] for member in sorted(self._removed))

    def _as_it_is(self, member: Member) -> Member:
        return member._replace(is_learner=not is_voter(self.conf, member.id))

    def bootstrap(self, members: Sequence[Member]) -> None:
        for member in members:
            self._set(member)
        self.conf = ConfState(
            tuple(sorted(member.id for member in members if not member.is_learner)),
            tuple(sorted(member.id for member in members if member.is_learner)),
        )

    def force(self, conf: ConfState) -> tuple[Member, ...]:
        """Who votes in `conf` stays, and is meant to; the others count as removed, and are returned."""
        dropped = tuple(member for member in self.table() if member.id not in conf.voters)
        for member in dropped:
            self._removed[member.id] = self._table.pop(member.id)
            self._changed.add(member.id)
        for member in self.table():
            self._set(member._replace(is_learner=False))
        self.conf = conf
        return dropped

    # --- requests ---

    def publish(self, request: Publish) -> None:
        """Who has been removed meanwhile publishes in vain."""
        member = self._table.get(request.member_id)
        if member is not None:
            self._set(member._replace(name=request.name, client_urls=request.client_urls))

    def add(self, request: MemberAdd, index: int) -> Member:
        """The new member, whose id follows from its urls and the entry that adds it.

        Raises PeerUrlExists, TooManyLearners, MemberExists.
        """
        self._check_urls(request.peer_urls, 0)
        if request.is_learner and sum(member.is_learner for member in self._table.values()) >= LEARNERS_MAX:
            raise TooManyLearners
        member = ids.member_id(request.peer_urls, str(index))
        if not member or member in self._table or member in self._removed:
            raise MemberExists
        self._set(Member(member, "", tuple(sorted(request.peer_urls)), (), request.is_learner))
        return self._as_it_is(self._table[member])

    def remove(self, member: int) -> None:
        """Raises MemberNotFound, NotEnoughStarted (nobody would be left to vote)."""
        self._known(member)
        voters = [other for other in self._table if other != member and is_voter(self.conf, other)]
        if not voters:
            raise NotEnoughStarted
        self._removed[member] = self._table.pop(member)
        self._changed.add(member)

    def update(self, request: MemberUpdate) -> None:
        """Raises MemberNotFound, PeerUrlExists."""
        member = self._known(request.id)
        self._check_urls(request.peer_urls, request.id)
        self._set(member._replace(peer_urls=tuple(sorted(request.peer_urls))))

    def promote(self, member: int) -> None:
        """Raises MemberNotFound, MemberNotLearner."""
        known = self._known(member)
        if not known.is_learner:
            raise MemberNotLearner
        self._set(known._replace(is_learner=False))

    def _known(self, member: int) -> Member:
        if member not in self._table:
            raise MemberNotFound
        return self._table[member]

    def _check_urls(self, urls: Sequence[str], own: int) -> None:
        taken = {url for member in self._table.values() if member.id != own for url in member.peer_urls}
        if taken.intersection(urls):
            raise PeerUrlExists

    # --- conf changes ---

    def change(self, change: ConfChange, index: int) -> bool:
        """Was it a change? One that makes no sense any more changes nothing, here as in raft."""
        try:
            self.conf = changed(self.conf, change, index)
        except InvalidRequest:
            return False
        return True

    def _set(self, member: Member) -> None:
        self._table[member.id] = member
        self._changed.add(member.id)

    def flush(self, puts: list[tuple[bytes, bytes]], deletes: list[bytes]) -> None:
        """Add what has changed since the last call."""
        if not self._changed:
            return
        order = sorted(self._changed)
        puts += [(layout.member_key(i), pack(self._table[i])) for i in order if i in self._table]
        puts += [(layout.removed_member_key(i), pack(self._removed[i])) for i in order if i in self._removed]
        deletes += [layout.member_key(i) for i in order if i not in self._table]
        self._changed = set()
