"""What a member holds whatever its role: term and vote, log, commit index, configuration - and what may leave when.

The log port makes writes visible at once and durable at the next sync. Between the two, the rule of Raft's
figure 2 ("updated on stable storage before responding") comes down to three lines, all of them in `_partition`:

- nothing waits for the disk: everything may leave;
- term or vote wait: *everything* stays until they are durable. (A candidate's requests for votes too. Else it could
  be elected without its own vote on disk, restart without that memory, be elected in the same term again by the
  same voters, and fill the same slots anew.)
- only entries wait: what vouches for them (append answers) stays; a leader's appends go, so that its
  followers' disks work in parallel with its own (thesis section 10.2.1), and heartbeats go, so that a slow
  disk deposes nobody at once.

A member's own share in a quorum (its match as a leader, its own vote) counts by the same rule: once synced.

Invariants: synced <= last_index; commit <= last_index; term and commit never decrease; the log behind commit
never changes; of the conf changes in the log behind commit at most one waits to come into force.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from zkv.core.raft import membership
from zkv.core.raft.log import LogCompacted
from zkv.wire import codec
from zkv.wire.messages import ConfState, Entry, EntryKind, HardState, Message, MessageKind, SnapshotMeta

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.core.raft.log import LogPort

VOUCHING: Final = frozenset({MessageKind.APPEND_ANSWER, MessageKind.VOTE_ANSWER})
"""Messages that say: this is on my disk."""

BYTES_UNBOUNDED: Final = 1 << 62


class Replica:
    def __init__(self, member: int, log: LogPort) -> None:
        self.id = member
        self.log = log
        self.term, self.vote, commit = log.hard_state
        if self.term < log.base.term:  # restored from a backup: terms go on behind those of the state
            self.term, self.vote = log.base.term, 0
        self.conf: ConfState = log.conf
        self.conf_changed = False
        # A conf change or a snapshot on disk proves a commit that the hard state may not have caught up with.
        self.commit = max(commit, log.base.index, self.conf.index)
        self.last_index = log.last_index
        """Of the log, which nobody else appends to: kept beside it, for it is asked for again and again."""
        assert self.commit <= self.last_index, "the log has lost what was committed"
        self.synced = self.last_index
        """The log up to here is on stable storage."""
        self._state_version = self._state_synced = 0  # counts changes of term and vote
        self._covered: tuple[int, int] | None = None  # (last index, state version) that the running sync makes durable
        self._outbox: list[Message] = []
        self._held: list[Message] = []  # wait for the running sync
        self._conf_waiting: deque[int] = deque()  # conf changes behind commit
        self._timed = (-1, 0)  # the entry, by index and term, of which ...
        self._time = 0  # ... this is the time
        if self.commit < self.last_index:
            self._note_conf_changes(log.entries(self.commit + 1, self.last_index + 1, BYTES_UNBOUNDED))

    # --- term and vote ---------------------------------------------------------------------------

    def set_term(self, term: int, vote: int) -> None:
        assert term > self.term or (term == self.term and self.vote in {0, vote}), "one vote a term"
        self.term, self.vote = term, vote
        self._state_version += 1
        self._write_hard_state()

    @property
    def state_durable(self) -> bool:
        return self._state_synced == self._state_version

    def _write_hard_state(self) -> None:
        self.log.set_hard_state(tuple.__new__(HardState, (self.term, self.vote, self.commit)))

    # --- log -------------------------------------------------------------------------------------

    def last(self) -> tuple[int, int]:
        """Index and term of the last entry."""
        index = self.last_index
        return index, self.log.term(index)

    def last_time(self) -> int:
        last = self.last()
        if last != self._timed:
            index, _ = self._timed = last
            base = self.log.base
            self._time = base.time if index == base.index else self.log.entries(index, index + 1, 0)[0].time
        return self._time

    def term_at(self, index: int) -> int:
        """The term of an entry, 0 when the log does not hold it (or no longer)."""
        if index > self.last_index:
            return 0
        try:
            return self.log.term(index)
        except LogCompacted:
            return 0

    def append(self, entries: Sequence[Entry]) -> None:
        """Append; whatever lies at the first one's index or behind is cut off."""
        cut = entries[0].index
        assert self.commit < cut <= self.last_index + 1, "what is committed stays, and the log has no gap"
        while self._conf_waiting and self._conf_waiting[-1] >= cut:
            self._conf_waiting.pop()
        self.synced = min(self.synced, cut - 1)
        if self._covered:
            self._covered = (min(self._covered[0], cut - 1), self._covered[1])
        self.log.append(entries)
        self.last_index = entries[-1].index
        self._note_conf_changes(entries)

    def accept(self, previous: int, previous_term: int, entries: Sequence[Entry]) -> bool:
        """A leader's entries, which follow the one at `previous`; False if the logs do not agree there.

        Entries already held are left as they are: the append may be an old one that lacks later entries
        (Raft section 5.3: only a conflict cuts).
        """
        last = self.last_index
        if previous > last or self.term_at(previous) != previous_term:
            return False
        for position, entry in enumerate(entries):
            if entry.index > last or self.log.term(entry.index) != entry.term:
                self.append(entries[position:] if position else entries)
                break
        return True

    def agreement(self, index: int, term: int) -> int:
        """The last place at or before `index` where a log with entries of `term` and less from there on may agree.

        Terms never decrease along a log, so entries of a greater term cannot be in the other one (Raft
        section 5.3, the conflict back-off: one step per term instead of one per entry).
        """
        index = min(index, self.last_index)
        while index > self.log.base.index and self.log.term(index) > term:
            index -= 1
        return index

    def commit_to(self, index: int) -> None:
        """Entries up to `index` are committed; the conf changes among them come into force."""
        if index <= self.commit:
            return
        assert index <= self.last_index, "what is committed is in the log"
        self.commit = index
        while self._conf_waiting and self._conf_waiting[0] <= index:
            self._apply_conf(self._conf_waiting.popleft())
        self._write_hard_state()

    def restore(self, meta: SnapshotMeta) -> bool:
        """A snapshot has become the state machine's state; False if the log knew all that already."""
        if meta.index <= self.commit:
            return False
        if self.term_at(meta.index) == meta.term:
            self.commit_to(meta.index)
            return True
        self.log.reset(meta)
        self.commit = self.synced = self.last_index = meta.index
        self._write_hard_state()
        self._conf_waiting.clear()
        if self._covered:
            self._covered = (meta.index, self._covered[1])
        self.conf, self.conf_changed = meta.conf, True
        return True

    # --- configuration ------------------------------------------------------------------------------

    def _note_conf_changes(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.kind == EntryKind.CONF_CHANGE:
                if self._conf_waiting:
                    # A second one proves the first committed: see membership.py.
                    self.commit_to(self._conf_waiting[-1])
                self._conf_waiting.append(entry.index)

    def _apply_conf(self, index: int) -> None:
        entry = self.log.entries(index, index + 1, 0)[0]
        self.conf = membership.changed(self.conf, codec.decode_conf_change(entry.body), index)
        self.conf_changed = True
        self.log.set_conf(self.conf)

    # --- messages ---------------------------------------------------------------------------------

    def send(
        self,
        kind: int,
        to: int,
        *,
        term: int | None = None,
        index: int = 0,
        log_term: int = 0,
        commit: int = 0,
        entries: tuple[Entry, ...] = (),
        reject: bool = False,
        reject_hint: int = 0,
        context: int = 0,
    ) -> None:
        """A message of this member's; of its term, unless another is given."""
        if term is None:
            term = self.term
        fields = (kind, to, self.id, term, index, log_term, commit, entries, reject, reject_hint, context)
        # not Message(...): what that calls is never compiled, and takes three times as long
        self._outbox.append(tuple.__new__(Message, fields))

    def collect(self) -> tuple[list[Message], bool]:
        """The messages that may leave now, and whether a sync is needed for the rest."""
        assert self._covered is None, "a sync is under way: call synced() when it has returned"
        free, held = self._partition()
        self._outbox = []
        must_sync = not self.state_durable or self.synced < self.last_index
        if must_sync:
            self._held = held
            self._covered = (self.last_index, self._state_version)
        return free, must_sync

    def _partition(self) -> tuple[list[Message], list[Message]]:
        if not self.state_durable:
            return [], self._outbox
        if self.synced == self.last_index:
            return self._outbox, []
        free: list[Message] = []
        held: list[Message] = []
        for message in self._outbox:
            (held if message.kind in VOUCHING else free).append(message)
        return free, held

    def sync_done(self) -> list[Message]:
        """What the last `collect` saw is on stable storage; returns what had to wait for that."""
        assert self._covered is not None, "no sync was asked for"
        self.synced, self._state_synced = self._covered
        self._covered = None
        released, self._held = self._held, []
        return released
