"""How a member that has forgotten what it said is kept from doing harm.

**One that keeps nothing on disk** (`--storage memory`) comes back after each restart.

Raft rests on members remembering their votes and what they acknowledged. One that restarts empty has forgotten both,
and could vote twice in a term or help a leader to power that lacks a committed entry. So it stays *passive*: it takes
entries, but neither votes nor stands for election, until it is safe for it to count again:

    passive ── all other voters say they are starting too, nothing was ever decided ──▶ active
       │
       └─ "I forgot" ──▶ leader: voter? make it a learner ──▶ learner? confirm, by a ReadIndex round begun after
          (Rejoin)       it asked, that this is how things stand: learner as of conf k ──▶ promote it once it has
                         caught up ──▶ it sees itself vote in a conf after k ──▶ active

That it became a learner went through the log, so from then on no quorum counts what it forgot (membership changes one
at a time keep quorums overlapping, thesis 4.1); and whatever votes it may have given before are bound to a
configuration whose majorities the new one overlaps without it. The price: a cluster in memory first starts when all
its members are there.

**One that is refilled** (refill.py) has forgotten in the same way, but its fellows have not, and it never says that it
is as new as they may be: it waits to be a learner, and to vote again.

**One whose disk is empty** is new, or somebody has removed its data and started it under its old name. So it asks,
and takes no part at all until, with itself, a majority is not aware that it has been here before (members write their
names into the log once they work). A member that is known ends, as etcd's do: it must be removed and added
again, under another id. Stricter than etcd, which asks whoever happens to be up: here nobody counts unasked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zkv.core.raft.membership import is_voter
from zkv.errors import ConfigError, InvalidRequest, NoLeader, TooManyRequests
from zkv.wire.messages import ConfChange, ConfChangeKind, ConfState, MessageKind, Newcomer, Rejoin, RejoinAnswer

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NamedTuple

    from zkv.core.raft.raft import Raft
    from zkv.wire.messages import Message

ASK_MS = 200  # how often a passive member says that it forgot

_VOTERS_WORK = frozenset({MessageKind.VOTE, MessageKind.PRE_VOTE, MessageKind.TIMEOUT_NOW})


class Passivity:
    """The forgetful member's side."""

    def __init__(self, member: int, incarnation: int, post_peer: Callable[[int, NamedTuple], bool]) -> None:
        self._member = member
        self._incarnation = incarnation
        self._post_peer = post_peer
        self._fresh: set[int] = set()
        self._learner_as_of: int | None = None
        self._ask_at = 0

    def is_over(self, conf: ConfState, *, stays_learner: bool = False) -> bool:
        """`stays_learner`: nobody means to give it a vote; then it is enough that it knows itself to be one."""
        others = set(conf.voters) - {self._member}
        if conf.index == 0 and self._member in conf.voters and others <= self._fresh:
            return True
        if stays_learner and self._learner_as_of is not None and self._member in conf.learners:
            return conf.index >= self._learner_as_of
        return self._learner_as_of is not None and conf.index > self._learner_as_of and self._member in conf.voters

    def may_step(self, message: Message) -> bool:
        """Entries, yes; a say in elections, no."""
        return message.kind not in _VOTERS_WORK

    def asked(self, sender: int, question: Rejoin) -> None:
        """A question that says "fresh" is as good as an answer that does.

        Whoever is answered by all others has been heard by all others: so of a cluster that starts, nobody is left
        behind passive because the first two were quicker to elect one of them.
        """
        if question.fresh:
            self._fresh.add(sender)

    def answered(self, sender: int, answer: RejoinAnswer) -> None:
        if answer.fresh:
            self._fresh.add(sender)
        if answer.learner_as_of is not None:
            self._learner_as_of = max(self._learner_as_of or 0, answer.learner_as_of)

    def ask(self, conf: ConfState, leader: int, now: int, *, fresh: bool) -> None:
        """The leader, too, whom one that is joining may hear of before it knows the configuration."""
        if now >= self._ask_at:
            self._ask_at = now + ASK_MS
            for member in {*conf.voters, *conf.voters_outgoing, leader} - {self._member, 0}:
                self._post_peer(member, Rejoin(self._incarnation, fresh))


class Probation:
    """The member with an empty disk: who has said that it is new."""

    def __init__(self, member: int, post_peer: Callable[[int, NamedTuple], bool]) -> None:
        self._member = member
        self._post_peer = post_peer
        self._unknown_to: set[int] = {member}
        self._ask_at = 0

    def is_over(self, conf: ConfState) -> bool:
        return 2 * len(self._unknown_to.intersection(conf.voters)) > len(conf.voters)

    def answered(self, sender: int, *, known: bool) -> None:
        """Raises ConfigError: this member may not start."""
        if known:
            raise ConfigError(
                f"member {self._member:x} has already been bootstrapped, but its data directory is empty: "
                "remove the member and add it again, or give it its data back"
            )
        self._unknown_to.add(sender)

    def ask(self, conf: ConfState, now: int) -> None:
        if now >= self._ask_at:
            self._ask_at = now + ASK_MS
            for member in set(conf.voters) - {self._member}:
                self._post_peer(member, Newcomer())


class Readmission:
    """Everybody else's side; the leader's above all."""

    def __init__(self, post_peer: Callable[[int, NamedTuple], bool]) -> None:
        self._post_peer = post_peer
        self._asking: dict[int, int] = {}  # context of a read round -> who asked
        self._met_fresh: dict[int, int] = {}  # who asked while this member was fresh, and which start of theirs it was
        self._incarnations: dict[int, int] = {}  # of those who asked: which start of theirs it was that did, ...
        self._learners_as_of: dict[int, int] = {}  # ... and since which conf that start of theirs was a learner

    def asked(self, core: Raft, sender: int, incarnation: int, context: int, now: int, *, fresh: bool) -> bool:
        """`sender` forgot. Returns whether a ReadIndex round called `context` was begun for it.

        "I was fresh when you asked first" is said again to who asks again: that answer may have met no connection yet,
        and he would be left behind passive, one failure away from a lost quorum. It says what it said then: whatever
        an earlier start of his told this member, this member had forgotten.
        """
        if fresh:
            self._met_fresh[sender] = incarnation
        if self._met_fresh.get(sender) == incarnation and core.conf.index == 0:
            self._post_peer(sender, RejoinAnswer(fresh=True))
            return False
        if core.leader != core.id:
            return False
        if self._incarnations.get(sender) != incarnation:
            self._incarnations[sender] = incarnation
            self._learners_as_of.pop(sender, None)
        try:
            if is_voter(core.conf, sender) and sender in self._learners_as_of:
                # it has its vote back, and has not come to the entry that says so: taking it away again helps nobody
                answer = RejoinAnswer(fresh=False, learner_as_of=self._learners_as_of[sender])
                self._post_peer(sender, answer)
            elif is_voter(core.conf, sender):
                change = ConfChange(((ConfChangeKind.ADD_LEARNER, sender, ()),))
                core.propose_conf_change(change, now)
            elif sender in core.conf.learners:
                core.read_index(context, now)
                self._asking[context] = sender
                return True
        except (NoLeader, TooManyRequests, InvalidRequest):
            pass  # another change is under way, or we lead no more: it will ask again
        return False

    @property
    def forgetful(self) -> frozenset[int]:
        """Who has asked and not been told yet since when it is a learner: it may not have its vote back."""
        return frozenset(self._incarnations.keys() - self._learners_as_of.keys())

    def confirmed(self, core: Raft, context: int) -> bool:
        """A ReadIndex round has come back: was it one of ours?"""
        sender = self._asking.pop(context, None)
        if sender is None:
            return False
        if sender in core.conf.learners:
            self._learners_as_of[sender] = core.conf.index
            self._post_peer(sender, RejoinAnswer(fresh=False, learner_as_of=core.conf.index))
        return True

    def refused(self, context: int) -> bool:
        return self._asking.pop(context, None) is not None
