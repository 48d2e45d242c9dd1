"""What a leader is and does beyond what every member does: it lives from one election to the step down.

Inputs only note facts (an answer moved a match, a read came in); `settle`, called once for each batch of inputs,
draws the conclusions in this order: commit, configuration, reads, appends, hand-over. So a hundred proposals or
answers that came in one batch cost one quorum count, and one append message per follower.

The lease: a leader that a quorum has not been heard from for an election timeout steps down (check-quorum, thesis
section 6.2), and refuses proposals and reads from that moment. Its followers refuse to vote as long as they have heard
from it within the same time, so a working leader is not disturbed.

The cluster clock (clock.py): the time of entries goes on from what the elected member knew of it.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, TypeAlias

from zkv.core.raft import membership, quorum
from zkv.core.raft.log import LogCompacted
from zkv.core.raft.progress import Progress, State
from zkv.core.raft.read_index import ReadRounds
from zkv.errors import NoLeader, NotCapable, TooManyRequests
from zkv.wire import codec
from zkv.wire.messages import ConfChange, Entry, EntryKind, Message, MessageKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.core.raft.config import RaftConfig
    from zkv.core.raft.replica import Replica
    from zkv.wire.messages import ConfState

TOLD: Final = 1
"""`context` of an append that only brings the commit index to who goes abreast: an answer would say nothing
new, and cost both sides a turn for each batch."""

PATIENT: Final = 1
"""`context` of an append answer: nobody at this member waits for what is committed (progress.py)."""

ROUND_PATIENCE_MS: Final = 10
"""A round of reads is taken to all followers when those who were asked first have not confirmed it by then."""

Parts: TypeAlias = "dict[int, tuple[tuple[Entry, ...], int]]"
"""Parts of the log as they are sent, by first index: entries, and their bytes."""


class Leadership:
    def __init__(self, replica: Replica, config: RaftConfig, now: int, time: int) -> None:
        """`time`: what the cluster clock shows `now`."""
        self._replica = replica
        self._config = config
        self.clock = time - now
        """What to add to this machine's clock to have the cluster clock, ms."""
        self._time = time
        self._uncommitted: deque[tuple[int, int]] = deque()  # (last index, bytes) per proposal
        self._uncommitted_bytes = 0
        self._counted = -1  # the own share in the last count of what is committed, and ...
        self._answered = False  # ... whether a follower has said since that it holds more than what is committed
        self._heard_conf: ConfState | None = None  # the configuration in which a quorum ...
        self._heard = 0  # ... had been heard from at this time (ms), or later
        self._transfer_to = 0
        self._transfer_told = False
        self._transfer_ends = 0
        self._first = replica.last_index + 1  # from here on entries are of this term
        self._conf_free_at = 0  # the next conf change may be proposed when this index is committed
        self.reads = ReadRounds()
        self._questions: list[tuple[int, int]] = []  # of followers, about reads: (who asks, its number)
        self.reads_served: list[tuple[int, int]] = []
        self.snapshots_wanted: list[int] = []
        self.heartbeat_at = now
        """When the next heartbeat is due, ms."""
        self._tell_at = 0  # when the next follower is to be told of what is committed; 0: nobody waits for that
        self._widen_at = now  # when the round of reads in flight is taken to all
        self.progress: dict[int, Progress] = {}
        self._follow_conf(now)
        # The first entry of the term: once committed, so is all before it (Raft section 5.4.2). It closes
        # off conf changes left by former leaders too: none is proposed before it is committed.
        self._append(EntryKind.BATCH, (b"",), now)
        self._conf_free_at = replica.last_index

    # --- time and quorum ---------------------------------------------------------------------------

    def cluster_time(self, now: int) -> int:
        """The cluster clock, ms."""
        self._time = max(self._time, now + self.clock)
        return self._time

    def has_quorum(self, now: int) -> bool:
        """Was a quorum heard from within the last election timeout?"""
        conf = self._replica.conf
        # the time at which it was only grows, while the configuration stays: so it need not be counted each time
        if conf is not self._heard_conf or now - self._heard >= self._config.election_ms:
            heard = {member: progress.heard for member, progress in self.progress.items()}
            heard[self._replica.id] = now
            self._heard = quorum.reached(conf, heard)
            self._heard_conf = conf
        return now - self._heard < self._config.election_ms

    def tick(self, now: int) -> None:
        if self._transfer_to and now >= self._transfer_ends:
            self._transfer_to = 0
        if now >= self.heartbeat_at:
            self._send_heartbeats(now)

    def _send_heartbeats(self, now: int) -> None:
        self.heartbeat_at = now + self._config.heartbeat_ms
        for member, progress in self.progress.items():
            # Never beyond what the follower has confirmed to hold: a heartbeat does not check the log.
            commit = min(progress.match, self._replica.commit)
            self._replica.send(MessageKind.HEARTBEAT, member, commit=commit, context=self.reads.number)

    def next_wakeup(self) -> int:
        wakeup = min(self.heartbeat_at, self._widen_at) if self.reads.waits else self.heartbeat_at
        return min(wakeup, self._tell_at) if self._tell_at else wakeup

    # --- inputs ------------------------------------------------------------------------------------

    def propose(self, bodies: Sequence[bytes], now: int) -> int:
        """Append one entry for each body; returns the last one's index. Raises NoLeader, TooManyRequests."""
        self._refuse_when_leaving()
        size = _size_of(bodies)
        if self._uncommitted_bytes and self._uncommitted_bytes + size > self._config.uncommitted_bytes_max:
            raise TooManyRequests
        return self._append(EntryKind.BATCH, bodies, now)

    def propose_conf_change(self, change: ConfChange, now: int) -> int:
        """Append a conf change; returns its index.

        Raises NoLeader, TooManyRequests (another one is pending), InvalidRequest.
        """
        self._refuse_when_leaving()
        replica = self._replica
        if replica.commit < self._conf_free_at:
            raise TooManyRequests("another membership change is under way")
        membership.changed(replica.conf, change, replica.last_index + 1)  # raises what is wrong with it
        self._conf_free_at = self._append(EntryKind.CONF_CHANGE, (codec.pack(change),), now)
        return self._conf_free_at

    def _refuse_when_leaving(self) -> None:
        if self._transfer_to:
            raise NoLeader("leadership is being handed over")

    def _append(self, kind: int, bodies: Sequence[bytes], now: int) -> int:
        replica, time = self._replica, self.cluster_time(now)
        first = replica.last_index + 1
        entries = [
            tuple.__new__(Entry, (index, replica.term, kind, time, body)) for index, body in enumerate(bodies, first)
        ]
        replica.append(entries)
        size = _size_of(bodies)
        last = first + len(entries) - 1
        self._uncommitted.append((last, size))
        self._uncommitted_bytes += size
        return last

    def transfer(self, to: int, now: int) -> None:
        """Raises NotCapable when `to` is no other voter."""
        if to == self._replica.id or not membership.is_voter(self._replica.conf, to):
            raise NotCapable("only another voter can take over")
        self._transfer_to, self._transfer_told = to, False
        self._transfer_ends = now + self._config.election_ms

    def successor(self) -> int:
        """The voter that holds most of the log, of those the last heard from; 0: there is none."""
        rank = {
            member: (progress.match, progress.heard)
            for member, progress in self.progress.items()
            if membership.is_voter(self._replica.conf, member)
        }
        return max(rank, key=lambda member: rank[member], default=0)

    def step(self, message: Message, now: int) -> None:
        """A message of this term."""
        progress = self.progress.get(message.sender)
        if progress is None:
            return  # no longer a member
        progress.heard = now
        match message.kind:
            case MessageKind.APPEND_ANSWER:
                self._append_answered(progress, message)
            case MessageKind.HEARTBEAT_ANSWER:
                progress.read_round = max(progress.read_round, message.context)
                progress.alive(self._replica.last_index)
            case MessageKind.SNAPSHOT if progress.state is not State.SNAPSHOT:
                progress.match = (
                    0  # of what it once held it knows nothing now (or the word is old, and costs a snapshot)
                )
                self._need_snapshot(message.sender, progress)
            case MessageKind.READ_INDEX:
                progress.patient = False  # a read waits there for what is committed by now
                self._questions.append((message.sender, message.context))

    def _append_answered(self, progress: Progress, answer: Message) -> None:
        progress.patient = answer.context == PATIENT
        if answer.reject:
            progress.rejected(answer.index, self._replica.agreement(answer.reject_hint, answer.log_term))
            return
        if progress.accepted(answer.index) and progress.match > self._replica.commit:
            self._answered = True
        agrees = progress.state is State.PROBE and progress.match == answer.index
        refilled = progress.state is State.SNAPSHOT and progress.match + 1 >= self._replica.log.first_index
        if agrees or refilled:
            progress.replicate()

    def _need_snapshot(self, member: int, progress: Progress) -> None:
        progress.snapshot()
        self.snapshots_wanted.append(member)

    def snapshot_ended(self, member: int) -> None:
        progress = self.progress.get(member)
        if progress and progress.state is State.SNAPSHOT:
            # It holds we do not know what now. It will tell when it rejects an append from the end of our log.
            progress.probe(self._replica.last_index + 1, waits=True)

    def restored(self, now: int) -> None:
        """A snapshot that was under way before this led has told what is committed, and so who is a member."""
        self._answered = True
        self._follow_conf(now)

    def unreachable(self, member: int) -> None:
        progress = self.progress.get(member)
        if progress and progress.state is State.REPLICATE:
            progress.probe(progress.match + 1)

    # --- conclusions ---------------------------------------------------------------------------------

    def settle(self, now: int) -> None:
        self._advance_commit(now)
        replica = self._replica
        if replica.conf.voters_outgoing and replica.commit >= self._conf_free_at:
            self._conf_free_at = self._append(EntryKind.CONF_CHANGE, (codec.pack(ConfChange(())),), now)
        self._serve_reads(now)
        self._replicate(now)
        if self._transfer_to and not self._transfer_told and self._caught_up(self._transfer_to):
            self._transfer_told = True
            self._replica.send(MessageKind.TIMEOUT_NOW, self._transfer_to)

    @property
    def deposed(self) -> bool:
        """The configuration in force has no vote for this member (Raft section 6, third issue)."""
        return not membership.is_voter(self._replica.conf, self._replica.id)

    def hand_over(self) -> None:
        """Let the best of the others take over at once."""
        if successor := self.successor():
            self._replica.send(MessageKind.TIMEOUT_NOW, successor)

    def _caught_up(self, member: int) -> bool:
        progress = self.progress.get(member)
        return progress is not None and progress.match == self._replica.last_index

    def _advance_commit(self, now: int) -> None:
        """Raft section 5.3 and 5.4.2: a majority holds it on disk, and it is of the leader's own term."""
        replica = self._replica
        if not self._answered and (replica.synced == self._counted or not self._may_have_advanced()):
            return
        self._counted, self._answered = replica.synced, False
        while True:
            index = quorum.reached(replica.conf, self._matches())
            if index <= replica.commit or self._term(index) != replica.term:
                break
            conf = replica.conf
            replica.commit_to(index)
            if replica.conf is conf:
                break
            self._follow_conf(now)  # and count again: with fewer voters more may be committed
        while self._uncommitted and self._uncommitted[0][0] <= replica.commit:
            self._uncommitted_bytes -= self._uncommitted.popleft()[1]

    def _may_have_advanced(self) -> bool:
        """What is new is on the own disk only: does anybody else hold more than is committed, or is nobody asked?

        (Where disks are alike the own one comes first, and the count would find nothing, for each entry.)
        """
        commit = self._replica.commit
        for progress in self.progress.values():
            if progress.match > commit:
                return True
        return len(self._replica.conf.voters) == 1

    def _matches(self) -> dict[int, int]:
        """Up to where each member holds the log on its disk."""
        matches = {member: progress.match for member, progress in self.progress.items()}
        matches[self._replica.id] = self._replica.synced
        return matches

    def _follow_conf(self, now: int) -> None:
        """Keep progress of exactly those who are members now."""
        replica, config = self._replica, self._config
        members = membership.members(replica.conf) - {replica.id}
        for member in members.difference(self.progress):
            self.progress[member] = Progress(
                replica.last_index + 1,
                now,
                appends_max=config.in_flight_appends_max,
                bytes_max=config.in_flight_bytes_max,
            )
            self.progress[member].nudged = True
        for member in self.progress.keys() - members:
            removed = self.progress.pop(member)
            if removed.state is State.REPLICATE:
                # Its last message carries the commit index that tells it that it has been removed.
                self._send_append(member, removed, {}, now)
        if self._transfer_to and not membership.is_voter(replica.conf, self._transfer_to):
            self._transfer_to = 0

    def _serve_reads(self, now: int) -> None:
        replica, reads = self._replica, self.reads
        if not (self._questions or reads.is_due):
            return
        if self._term(replica.commit) != replica.term:
            return  # what is committed is not known before an entry of the own term is (thesis section 6.4)
        questions, self._questions = self._questions, []
        for member, context in questions:
            if self._is_quorum_with(member):
                self._replica.send(MessageKind.READ_INDEX_ANSWER, member, index=replica.commit, context=context)
            else:
                reads.add(member, context)
        if reads.begin(replica.commit):
            self._ask_for_round(now)
        while reads.waits:
            index, served = reads.confirm(quorum.reached(replica.conf, self._read_rounds()))
            if not served:
                if now >= self._widen_at:
                    self._widen_at = now + self._config.heartbeat_ms
                    self._send_heartbeats(now)
                return
            for member, context in served:
                if member == replica.id:
                    self.reads_served.append((context, index))
                else:
                    self._replica.send(MessageKind.READ_INDEX_ANSWER, member, index=index, context=context)
            if reads.begin(replica.commit):
                self._ask_for_round(now)

    def _is_quorum_with(self, asker: int) -> bool:
        """Who asks for an index has said, after its reads had come, that this leads: are the two of them a quorum?"""
        voices = dict.fromkeys(self.progress, 0)
        voices[self._replica.id] = voices[asker] = 1
        return quorum.reached(self._replica.conf, voices) > 0

    def _ask_for_round(self, now: int) -> None:
        """Whether this still leads: of as many as make a quorum, those who answered last; of all, if one is silent."""
        conf, progress = self._replica.conf, self.progress
        self._widen_at = now + ROUND_PATIENCE_MS
        if conf.voters_outgoing or len(conf.voters) == 1:
            self._widen_at = now
            return
        others = [member for member in conf.voters if member in progress]
        others.sort(key=lambda member: (progress[member].read_round, progress[member].heard), reverse=True)
        for member in others[: len(conf.voters) // 2 + (self._replica.id not in conf.voters)]:
            commit = min(progress[member].match, self._replica.commit)
            self._replica.send(MessageKind.HEARTBEAT, member, commit=commit, context=self.reads.number)

    def _read_rounds(self) -> dict[int, int]:
        rounds = {member: progress.read_round for member, progress in self.progress.items()}
        rounds[self._replica.id] = self.reads.number
        return rounds

    # --- appends -----------------------------------------------------------------------------------

    def _replicate(self, now: int) -> None:
        last, commit = self._replica.last_index, self._replica.commit
        shared: Parts = {}  # followers that go abreast are sent the same tuple
        self._tell_at = 0
        for member, progress in self.progress.items():
            while progress.next <= last and progress.may_append() and self._send_append(member, progress, shared, now):
                pass
            if progress.nudged and progress.state is not State.SNAPSHOT:
                self._send_append(member, progress, None, now)
            elif progress.must_be_told(commit, now):
                self._send_append(member, progress, None, now, context=TOLD)
            elif progress.tell_at:
                self._tell_at = min(self._tell_at or progress.tell_at, progress.tell_at)

    def _term(self, index: int) -> int:
        """Of an entry; what is asked for each message is known without the log. Raises LogCompacted."""
        replica = self._replica
        if max(self._first, replica.commit) <= index <= replica.last_index:
            return replica.term  # and not compacted: only what is committed ever is
        return replica.log.term(index)

    def _send_append(self, member: int, progress: Progress, shared: Parts | None, now: int, context: int = 0) -> bool:
        """Returns whether there may be more to send. Without `shared` it brings no entries."""
        log, low = self._replica.log, progress.next
        try:
            previous_term = self._term(low - 1)
        except LogCompacted:
            if now - progress.heard < self._config.election_ms:
                self._need_snapshot(member, progress)
            else:
                progress.probe(low, waits=True)  # it is away: no use to stream it anything
            return False
        entries: tuple[Entry, ...] = ()
        size = 0
        if shared is not None:
            if low not in shared:
                taken = tuple(log.entries(low, self._replica.last_index + 1, self._config.append_bytes_max))
                shared[low] = taken, _size_of([entry.body for entry in taken])
            entries, size = shared[low]
        commit = self._replica.commit
        self._replica.send(
            MessageKind.APPEND,
            member,
            index=low - 1,
            log_term=previous_term,
            commit=commit,
            entries=entries,
            context=context,
        )
        progress.sent(low - 1 + len(entries), size, commit)
        return True


def _size_of(bodies: Sequence[bytes]) -> int:
    size = 0
    for body in bodies:
        size += len(body)
    return size
