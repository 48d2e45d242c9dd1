"""Who belongs to the cluster: a configuration and a change make the next configuration.

Two kinds of change, told apart by how many voters they touch (Raft section 6, thesis chapter 4):

- *one at a time*: old and new majorities overlap whatever they are, so the new configuration replaces the old.
- *joint*: two or more changed voters go through a configuration in which both halves must agree
  (`voters` is the incoming half, `voters_outgoing` the outgoing one). Once that is committed, the leader proposes the
  empty change that leaves it.

      voters 1 2 3 --add 4, add 5, remove 1--> voters 2 3 4 5, outgoing 1 2 3 --leave--> voters 2 3 4 5

A configuration comes into force when its entry *commits*, as in etcd, not when it is appended, as in the
thesis. That is safe because a log never holds two conf changes of which the first is not known to be committed: a
leader proposes the next only when the last is in force, and whoever appends the next takes the last for committed
(`Raft._append`). So two members that act at the same time are at most one change apart, and their
quorums overlap.

Learners take entries but neither vote nor count. A voter made a learner in a joint change stands in `learners`
and in `voters_outgoing` at once: it votes in the half that knows it as a voter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv.errors import InvalidRequest
from zkv.wire.messages import ConfChangeKind, ConfState

if TYPE_CHECKING:
    from zkv.wire.messages import ConfChange


def members(conf: ConfState) -> frozenset[int]:
    """All who are sent entries."""
    return frozenset(conf.voters) | frozenset(conf.voters_outgoing) | frozenset(conf.learners)


def is_voter(conf: ConfState, member: int) -> bool:
    """Does it vote, in one half of a joint configuration at least?"""
    return member in conf.voters or member in conf.voters_outgoing


def changed(conf: ConfState, change: ConfChange, index: int) -> ConfState:
    """The configuration after `change`, whose entry is at `index`.

    Raises InvalidRequest when the change makes no sense: nobody would be left to vote, a member is unknown or named
    twice, a joint configuration is still in force, or there is none to leave.
    """
    if not change.changes:
        if not conf.voters_outgoing:
            raise InvalidRequest("no joint configuration to leave")
        return ConfState(conf.voters, conf.learners, (), index)
    if conf.voters_outgoing:
        raise InvalidRequest("a joint configuration is in force")
    voters, learners = set(conf.voters), set(conf.learners)
    named = [member for _, member, _ in change.changes]
    if len(set(named)) != len(named) or 0 in named:
        raise InvalidRequest("a change names each member once, and 0 is none")
    for kind, member, _ in change.changes:
        if kind in {ConfChangeKind.REMOVE, ConfChangeKind.UPDATE} and member not in voters | learners:
            raise InvalidRequest(f"no member {member:x}")
        if kind == ConfChangeKind.ADD_VOTER:
            voters.add(member)
            learners.discard(member)
        elif kind == ConfChangeKind.ADD_LEARNER:
            voters.discard(member)
            learners.add(member)
        elif kind == ConfChangeKind.REMOVE:
            voters.discard(member)
            learners.discard(member)
    if not voters:
        raise InvalidRequest("somebody must be left to vote")
    joint = len(voters.symmetric_difference(conf.voters)) > 1
    outgoing = conf.voters if joint else ()
    return ConfState(tuple(sorted(voters)), tuple(sorted(learners)), outgoing, index)
