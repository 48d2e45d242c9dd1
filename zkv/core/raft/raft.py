"""Raft as a pure state machine: inputs in, `Ready` out; no clock, socket, file or chance of its own.

Ongaro & Ousterhout, "In Search of an Understandable Consensus Algorithm" (the paper), and Ongaro's thesis,
"Consensus: Bridging Theory and Practice", whose extensions used here are: pre-vote (9.6), check-quorum (6.2), ReadIndex
(6.4), leadership transfer (3.10), pipelining and writing in parallel (10.2), membership (chapter 4; with joint
consensus, section 6 of the paper).

The whole contract with the actor round it is this loop; every input may be called any number of times before it:

    raft = Raft(RaftConfig(member=1), log, random.Random(seed), now)
    raft.restore(meta)                               # where storage stands: it may be ahead of the log's commit index
    while True:
        raft.step(message, now)                      # what peers sent
        raft.propose([body, ...], now)               # leader: one log entry each; else raises NoLeader
        raft.read_index(context, now)                # answered in Ready.reads or refused_reads; raises NoLeader
        raft.tick(now)                               # call it when next_wakeup() has come, at the latest

        ready = raft.ready()
        publish(ready)
        while ready.must_sync:
            log.sync()                               # one sync for all that gathered
            ready = raft.synced()                    # what had to wait for the disk, and what it made possible
            publish(ready)

    def publish(ready):
        transport.send(ready.messages)               # in this order, per peer
        storage.apply(log.entries(applied + 1, ready.commit + 1, ...))   # committed, and on the own disk
        reads and refused_reads go back; conf_changed: connect to who is in raft.conf now;
        snapshots_wanted: have storage stream its state to these members, then raft.report_snapshot(member)

A message that must not leave before the sync is not in anyone's hands before `synced()`; so the order cannot be
got wrong. Between `ready()` and `synced()` inputs may go on (a sync may run in a thread), `ready()` may not.

Roles, and what moves a member between them:

                 deadline passes                  majority would vote             majority votes
      FOLLOWER ──────────────────▶ PRE_CANDIDATE ────────────────────▶ CANDIDATE ───────────────▶ LEADER
          ▲      (no leader heard)      │   (the term is unchanged      │  (term + 1, own vote)     │
          │                             │    up to here: thesis 9.6)    │                           │
          └─────────────────────────────┴───────────────────────────────┴───────────────────────────┘
            a greater term, a leader of this term, a lost vote; a leader also: no quorum heard, or no vote left

A member with TIMEOUT_NOW in its hands goes to CANDIDATE at once, past everybody's lease: the leader itself asked.

Where is what: terms, votes, roles and the follower's log here; `replica.py` what is on disk and what may leave when;
`leader.py` what only a leader does, with `progress.py` per follower; `clock.py` the cluster clock; `quorum.py`,
`membership.py`, `read_index.py`.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from zkv.core.raft import membership, quorum
from zkv.core.raft.clock import Anchor
from zkv.core.raft.config import RaftConfig
from zkv.core.raft.leader import PATIENT, TOLD, Leadership
from zkv.core.raft.quorum import Vote
from zkv.core.raft.read_index import ReadQuestions
from zkv.core.raft.replica import Replica
from zkv.errors import NoLeader
from zkv.wire.messages import ConfState, Message, MessageKind

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence

    from zkv.core.raft.log import LogPort
    from zkv.wire.messages import ConfChange, SnapshotMeta

__all__ = ["Raft", "RaftConfig", "Ready", "Role"]


class Role(Enum):
    FOLLOWER = auto()
    PRE_CANDIDATE = auto()
    CANDIDATE = auto()
    LEADER = auto()


class Ready:
    """What has come of the inputs since the last Ready.

    No tuple: each turn makes one or two, and a tuple with names takes ten times as long to make where this is compiled.
    """

    def __init__(
        self,
        *,
        messages: list[Message],
        must_sync: bool,
        commit: int,
        reads: list[tuple[int, int]],
        refused_reads: list[int],
        leader_changed: bool,
        conf_changed: bool,
        snapshots_wanted: list[int],
    ) -> None:
        self.messages = messages
        self.must_sync = must_sync
        """Call log.sync() and then synced(), which has more."""
        self.commit = commit
        """Entries up to here may be applied: a quorum holds them, and so does the own disk."""
        self.reads = reads
        """(context, index): may be answered from state in which `index` is applied."""
        self.refused_reads = refused_reads
        """Contexts nobody can answer now (NoLeader); nothing was done, they may be asked again."""
        self.leader_changed = leader_changed
        """`raft.leader` or `raft.term` is another than before."""
        self.conf_changed = conf_changed
        """`raft.conf` is another than before."""
        self.snapshots_wanted = snapshots_wanted
        """Members whose next entry is no longer in the log."""


LEADERS_WORD: Final = frozenset({MessageKind.APPEND, MessageKind.HEARTBEAT})
VOTES: Final = frozenset({MessageKind.VOTE, MessageKind.PRE_VOTE})
FORCED: Final = 1
"""`context` of a vote request that the leader asked for: leases do not count."""


class Raft:
    def __init__(
        self, config: RaftConfig, log: LogPort, rng: random.Random, now: int, anchor: Anchor | None = None
    ) -> None:
        """`anchor`: what was known of the cluster clock before a restart, `seen` by the same clock as `now`."""
        self.role = Role.FOLLOWER
        self.leader = 0
        """The member that leads this term as far as is known; 0: nobody known."""
        self.patient = False
        """Nobody here waits for what is committed: a leader may tell it with its next append (progress.py)."""
        self._config = config
        self._replica = Replica(config.member, log)
        self._rng = rng
        self._now = now
        self._leadership: Leadership | None = None  # while role is LEADER
        self._votes: dict[int, bool] = {}  # while a candidate of either kind
        self._ack: int | None = None  # the append answer owed to the leader; later ones speak for earlier ones
        self._questions = ReadQuestions(rng.getrandbits(48))
        self._refused_reads: list[int] = []
        self._reads: list[tuple[int, int]] = []
        self._announced = (0, 0)  # (leader, term) as of the last Ready
        self._lease_ends = now
        self._anchor = anchor if anchor is not None and anchor.seen <= now else Anchor(0, 0, now)
        # The first election need not wait for a whole timeout: should there be a leader, pre-vote leaves it in peace.
        alone = self._replica.conf.voters == (config.member,)
        self._deadline = now if alone else now + rng.randrange(2 * config.heartbeat_ms, config.election_ms)
        self._timeout = self._draw_timeout()

    # --- what is known -----------------------------------------------------------------------------

    @property
    def id(self) -> int:
        return self._replica.id

    @property
    def term(self) -> int:
        return self._replica.term

    @property
    def conf(self) -> ConfState:
        return self._replica.conf

    @property
    def commit(self) -> int:
        """Committed, perhaps not yet on the own disk. Ready.commit is what may be applied."""
        return self._replica.commit

    @property
    def last_index(self) -> int:
        """Of the log, durable or not."""
        return self._replica.last_index

    @property
    def is_learner(self) -> bool:
        return self.id in self.conf.learners

    def cluster_time(self, now: int) -> int:
        """The cluster clock, ms; on all members but the leader it may be behind."""
        if self._leadership:
            return self._leadership.cluster_time(now)
        anchor, replica = self._anchor, self._replica
        last = replica.last_time()
        return max(last, anchor.bound(now)) if anchor.term == replica.last()[1] else last

    @property
    def clock(self) -> int:
        """What the leader adds to its machine's clock to have the cluster clock, ms; elsewhere 0."""
        return self._leadership.clock if self._leadership else 0

    def anchor(self, now: int) -> Anchor:
        """What is known of the cluster clock, to be given to this member's next life (clock.py)."""
        if self._leadership:
            return Anchor(self.term, self._leadership.cluster_time(now), now)
        return self._anchor

    def successor(self) -> int:
        """The leader's best choice for `transfer_leadership`; 0: there is no other voter, or this is no leader."""
        return self._leadership.successor() if self._leadership else 0

    def lag(self, member: int) -> int | None:
        """Committed entries that `member` has not confirmed to hold; None unless this leads and `member` follows."""
        progress = self._leadership.progress.get(member) if self._leadership else None
        return None if progress is None else max(0, self._replica.commit - progress.match)

    def match(self, member: int) -> int:
        """Up to where `member`'s log is known to agree with this leader's; 0 where nothing is known."""
        progress = self._leadership.progress.get(member) if self._leadership else None
        return 0 if progress is None else progress.match

    def silence_ms(self, member: int, now: int) -> int:
        """How long this leader has not heard from `member`: 0 for itself, and for whom it cannot tell."""
        progress = self._leadership.progress.get(member) if self._leadership else None
        return 0 if progress is None else now - progress.heard

    def next_wakeup(self) -> int:
        """When `tick` is due, ms."""
        if self._leadership:
            return self._leadership.next_wakeup()
        return min(self._deadline, self._questions.repeat_at) if self._questions.number else self._deadline

    # --- inputs ------------------------------------------------------------------------------------

    def propose(self, bodies: Sequence[bytes], now: int) -> int:
        """One log entry for each body; returns the index of the last.

        Raises NoLeader where it cannot be logged (no leader, no quorum, leadership being handed over),
        TooManyRequests when too many bytes wait for the quorum. Once taken, it will be applied or lose its
        place to another leader's entry; only the log tells.
        """
        assert bodies
        return self._lead(now).propose(bodies, now)

    def propose_conf_change(self, change: ConfChange, now: int) -> int:
        """Returns the index of its entry. More than one voter changed at once goes by joint consensus.

        Raises NoLeader, TooManyRequests (the last change is not in force yet), InvalidRequest.
        """
        return self._lead(now).propose_conf_change(change, now)

    def read_index(self, context: int, now: int) -> None:
        """Ask for the index at which a read called `context` is linearizable. Raises NoLeader."""
        self._now = now
        if self.leader == 0:
            raise NoLeader
        if self.leader == self.id:
            self._lead(now).reads.add(self.id, context)
        else:
            self._questions.add(context)

    def transfer_leadership(self, to: int, now: int) -> None:
        """Let `to` lead as soon as it holds the whole log; proposals are refused meanwhile.

        Given up after an election timeout. Raises NoLeader, NotCapable (it is no other voter).
        """
        self._lead(now).transfer(to, now)

    def suspect_leader(self, now: int) -> None:
        """The leader's process seems gone (its connection broke): stand for election soon.

        Should the leader live, the others are within its lease and refuse the pre-vote.
        """
        self._now = now
        if self.role is Role.FOLLOWER and self.leader:
            self._lease_ends = now
            soon = now + self._rng.randrange(self._config.heartbeat_ms // 2, 2 * self._config.heartbeat_ms)
            self._deadline = min(self._deadline, soon)

    def report_snapshot(self, member: int) -> None:
        """The stream of state to `member` has ended, well or not: find out what it holds, and go on from there."""
        if self._leadership:
            self._leadership.snapshot_ended(member)

    def report_unreachable(self, member: int) -> None:
        """What was sent to `member` last may be lost."""
        if self._leadership:
            self._leadership.unreachable(member)

    def restore(self, meta: SnapshotMeta) -> None:
        """Storage's state is that of `meta`: a snapshot was installed, or the member starts and this is what it finds.

        The log goes on behind it. Nothing happens if the log knows as much already.
        """
        if not self._replica.restore(meta):
            return
        if self._leadership:
            self._leadership.restored(self._now)
        elif self.leader:
            self._acknowledge(meta.index)

    def compact(self, index: int) -> None:
        """Forget entries up to `index`: they are durable in storage, as applied entries or by a snapshot."""
        assert index <= self._replica.commit, "only what is committed may be forgotten"
        self._replica.log.compact(min(index, self._replica.synced))

    def tick(self, now: int) -> None:
        self._now = now
        if self._leadership:
            if now >= self._leadership.heartbeat_at and not self._leadership.has_quorum(now):
                self._follow(self.term, 0)
            else:
                self._leadership.tick(now)
            return
        self._repeat_question(now)
        if now < self._deadline:
            return
        if membership.is_voter(self.conf, self.id):
            self._campaign(Role.PRE_CANDIDATE)
        else:
            self._deadline = now + self._timeout

    def step(self, message: Message, now: int) -> None:
        """The one door for messages: first the terms are compared, then the role decides."""
        assert message.to == self.id
        self._now = now
        if message.term > self.term:
            if not self._enter_term(message):
                return
        elif message.term < self.term:
            self._answer_the_past(message)
            return
        if message.kind in VOTES:
            self._answer_vote(message)
        elif self._leadership:
            assert message.kind not in LEADERS_WORD, "a term has one leader"
            self._leadership.step(message, now)
        elif self.role is Role.FOLLOWER or message.kind in LEADERS_WORD:
            self._step_follower(message)
        else:
            self._step_candidate(message)

    # --- outputs -----------------------------------------------------------------------------------

    def ready(self) -> Ready:
        return self._collect([])

    def synced(self) -> Ready:
        """log.sync(), asked for by the last Ready, has returned."""
        released = self._replica.sync_done()
        if self.role is Role.CANDIDATE and self._replica.state_durable:
            self._count_vote(self.id, granted=True)
        return self._collect(released)

    def _collect(self, released: list[Message]) -> Ready:
        replica = self._replica
        snapshots_wanted: list[int] = []
        if leadership := self._leadership:
            leadership.settle(self._now)
            snapshots_wanted, leadership.snapshots_wanted = leadership.snapshots_wanted, snapshots_wanted
            self._reads += leadership.reads_served
            leadership.reads_served.clear()
            if leadership.deposed:
                leadership.hand_over()
                self._follow(self.term, 0)
        elif self.leader:
            if self._questions.begin(self._now):
                self._ask()
            if self._ack is not None:
                context = PATIENT if self.patient else 0
                self._replica.send(MessageKind.APPEND_ANSWER, self.leader, index=self._ack, context=context)
                self._ack = None
        messages, must_sync = replica.collect()
        reads, self._reads = self._reads, []
        refused, self._refused_reads = self._refused_reads, []
        announced, self._announced = self._announced, (self.leader, self.term)
        conf_changed, replica.conf_changed = replica.conf_changed, False
        return Ready(
            messages=released + messages,
            must_sync=must_sync,
            commit=min(replica.commit, replica.synced),
            reads=reads,
            refused_reads=refused,
            leader_changed=announced != self._announced,
            conf_changed=conf_changed,
            snapshots_wanted=snapshots_wanted,
        )

    # --- terms and roles -----------------------------------------------------------------------------

    def _enter_term(self, message: Message) -> bool:
        """A message of a greater term; False if that is all there is to it."""
        kind = message.kind
        if kind in VOTES and message.context != FORCED and self._in_lease():
            # A leader is at work. Who does not hear it (cut off, removed) must not depose it (thesis 4.2.3).
            return False
        if kind == MessageKind.PRE_VOTE or (kind == MessageKind.PRE_VOTE_ANSWER and not message.reject):
            return True  # speaks of a term that nobody has entered yet
        self._follow(message.term, message.sender if kind in LEADERS_WORD else 0)
        return True

    def _answer_the_past(self, message: Message) -> None:
        """A message of a lesser term.

        A leader of the past has to be told. It may be a leader in its lease with us, who were cut off, in a greater
        term: our vote requests it ignores, its appends we do; without this answer that would last.
        A pre-candidate of the past learns the term, else it would ask the same for ever.
        """
        if message.kind in LEADERS_WORD:
            self._replica.send(MessageKind.APPEND_ANSWER, message.sender, reject=True)
        elif message.kind == MessageKind.PRE_VOTE:
            self._replica.send(MessageKind.PRE_VOTE_ANSWER, message.sender, reject=True)

    def _in_lease(self) -> bool:
        if self._leadership:
            return self._leadership.has_quorum(self._now)
        return self.leader != 0 and self._now < self._lease_ends

    def _follow(self, term: int, leader: int) -> None:
        """Become a follower; of nobody, if `leader` is 0."""
        if self._leadership:
            self._anchor = self.anchor(self._now)
        if term > self.term:
            self._replica.set_term(term, 0)
            self._ack = None  # what agreed with a leader of the last term, need not with the same member's log now
        if self._leadership:
            waiting = self._leadership.reads.abandon()
            self._refused_reads += [context for member, context in waiting if member == self.id]
            self._leadership = None
        self.role = Role.FOLLOWER
        self._set_leader(leader)
        self._timeout = self._draw_timeout()
        self._deadline = self._now + self._timeout

    def _set_leader(self, leader: int) -> None:
        if leader != self.leader:
            self._refused_reads += self._questions.abandon()
            self._ack = None
        self.leader = leader

    def _draw_timeout(self) -> int:
        """Random, so that one member stands before the others do (Raft section 5.2)."""
        return self._rng.randrange(self._config.election_ms, 2 * self._config.election_ms)

    def _lead(self, now: int) -> Leadership:
        """The leadership, for a request that needs it. Raises NoLeader without one, or without a quorum behind it."""
        self._now = now
        if self._leadership and not self._leadership.has_quorum(now):
            self._follow(self.term, 0)
        if self._leadership is None:
            raise NoLeader
        return self._leadership

    # --- elections ----------------------------------------------------------------------------------

    def _campaign(self, role: Role, context: int = 0) -> None:
        self.role = role
        self._set_leader(0)
        self._votes = {}
        self._timeout = self._draw_timeout()
        self._deadline = self._now + self._timeout
        index, log_term = self._replica.last()
        if role is Role.CANDIDATE:
            self._replica.set_term(self.term + 1, self.id)  # the own vote counts when it is on disk: see synced()
            kind, term = MessageKind.VOTE, self.term
        else:
            kind, term = MessageKind.PRE_VOTE, self.term + 1
        for member in {*self.conf.voters, *self.conf.voters_outgoing} - {self.id}:
            self._replica.send(kind, member, term=term, index=index, log_term=log_term, context=context)
        if role is Role.PRE_CANDIDATE:
            self._count_vote(self.id, granted=True)

    def _answer_vote(self, message: Message) -> None:
        """Raft section 5.2 (one vote a term, first come first served) and 5.4.1 (to nobody whose log is behind).

        Whether the candidate, or this member, is a member now is not asked: who is behind may not know yet.
        """
        pre = message.kind == MessageKind.PRE_VOTE
        free = message.term > self.term or self._replica.vote == message.sender or (
            self._replica.vote == 0 and self.leader == 0
        )  # fmt: skip
        index, log_term = self._replica.last()
        grant = free and (message.log_term, message.index) >= (log_term, index)
        if grant and not pre:
            if self._replica.vote == 0:
                self._replica.set_term(self.term, message.sender)
            self._deadline = self._now + self._timeout
        # A granted pre-vote is of the term asked for. A refusal is of the own term, so that who is behind learns
        # it, but not of a lesser one than the asker's: that would be dropped, and with it what is committed.
        refusal_term = max(self.term, message.term - pre)
        self._replica.send(
            MessageKind.PRE_VOTE_ANSWER if pre else MessageKind.VOTE_ANSWER,
            message.sender,
            term=message.term if grant else refusal_term,
            log_term=self._replica.log.term(self._replica.commit),
            commit=self._replica.commit,
            reject=not grant,
        )

    def _step_candidate(self, message: Message) -> None:
        pre = self.role is Role.PRE_CANDIDATE
        if message.kind != (MessageKind.PRE_VOTE_ANSWER if pre else MessageKind.VOTE_ANSWER):
            return
        if not message.reject and message.term != self.term + pre:
            return  # an answer to an earlier campaign
        if self._replica.term_at(message.commit) == message.log_term:
            # A voter tells what it knows to be committed: perhaps a conf change, after which the candidate needs
            # less. Without this, a removed leader that alone knows of its removal, and whose log is longer, could
            # refuse for ever a vote that nobody needs any more.
            self._replica.commit_to(message.commit)
            if not membership.is_voter(self.conf, self.id):
                self._follow(self.term, 0)
                return
        self._count_vote(message.sender, granted=not message.reject)

    def _count_vote(self, member: int, *, granted: bool) -> None:
        self._votes.setdefault(member, granted)
        match quorum.tally(self.conf, self._votes):
            case Vote.WON if self.role is Role.PRE_CANDIDATE:
                self._campaign(Role.CANDIDATE)
            case Vote.WON:
                self.role = Role.LEADER
                self._set_leader(self.id)
                time = self.cluster_time(self._now)
                self._leadership = Leadership(self._replica, self._config, self._now, time)
            case Vote.LOST:
                self._follow(self.term, 0)

    # --- followers ------------------------------------------------------------------------------------

    def _step_follower(self, message: Message) -> None:
        match message.kind:
            case MessageKind.APPEND:
                self._hear_leader(message.sender)
                self._take_append(message)
            case MessageKind.HEARTBEAT:
                self._hear_leader(message.sender)
                self._take_heartbeat(message)
            case MessageKind.READ_INDEX_ANSWER:
                served = self._questions.answer(message.context)
                self._reads += [(context, message.index) for context in served]
            case MessageKind.TIMEOUT_NOW if membership.is_voter(self.conf, self.id):
                self._campaign(Role.CANDIDATE, FORCED)

    def _hear_leader(self, leader: int) -> None:
        if self.role is not Role.FOLLOWER or self.leader != leader:
            assert self.leader in {0, leader}, "a term has one leader"
            self._follow(self.term, leader)
        self._lease_ends = self._now + self._config.election_ms
        self._deadline = self._now + self._timeout

    def _take_append(self, message: Message) -> None:
        replica = self._replica
        if not replica.conf.voters:
            # Joining, with an empty log: the log alone does not tell who the first members were.
            self._replica.send(MessageKind.SNAPSHOT, message.sender)
        elif message.index < replica.commit:
            self._acknowledge(replica.commit)  # an old one: up to the commit index all logs agree
        elif replica.accept(message.index, message.log_term, message.entries):
            match = message.index + len(message.entries)
            if message.entries and match == replica.last_index:
                last = message.entries[-1]
                self._anchor = self._anchor.better(Anchor(last.term, last.time, self._now))
            replica.commit_to(min(message.commit, match))
            if message.context != TOLD:
                self._acknowledge(match)
        else:
            hint = replica.agreement(message.index, message.log_term)
            self._reject_append(message, hint)

    def _take_heartbeat(self, message: Message) -> None:
        if message.commit > self._replica.last_index:
            # The leader counts on entries this member does not hold: it restarted without its disk.
            self._reject_append(message._replace(index=message.commit), self._replica.last_index)
            return
        self._replica.commit_to(message.commit)
        self._replica.send(MessageKind.HEARTBEAT_ANSWER, message.sender, context=message.context)

    def _acknowledge(self, match: int) -> None:
        self._ack = match if self._ack is None else max(self._ack, match)

    def _reject_append(self, message: Message, hint: int) -> None:
        self._replica.send(
            MessageKind.APPEND_ANSWER,
            message.sender,
            index=message.index,
            reject=True,
            reject_hint=hint,
            log_term=self._replica.term_at(hint),
        )

    # --- a follower's reads ----------------------------------------------------------------------------

    def _ask(self) -> None:
        self._questions.repeat_at = self._now + self._config.heartbeat_ms
        self._replica.send(MessageKind.READ_INDEX, self.leader, context=self._questions.number)

    def _repeat_question(self, now: int) -> None:
        questions = self._questions
        if not questions.number or now < questions.repeat_at:
            return
        if now - questions.asked_at >= self._config.election_ms:
            self._refused_reads += questions.give_up()
        else:
            self._ask()
