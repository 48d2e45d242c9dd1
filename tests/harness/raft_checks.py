"""Raft's promises (figure 3 of the paper), its rules about stable storage (figure 2), and ReadIndex's promise.

The watcher keeps what must be the same everywhere: who led which term, what was ever put at (index, term), what was
committed at which index. Each is held against a member's state when that changes, so that
the price of a check does not grow with the history.

The promises alone would do: whatever breaks a rule breaks a promise one day. But that may take several
mishaps in a row; the rules catch the first step.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

from zkv.wire.messages import MessageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.harness.raft_disk import FaultyLog
    from zkv.core.raft.log import MemoryLog
    from zkv.core.raft.raft import Raft
    from zkv.wire.messages import ConfState, Entry, Message, SnapshotMeta


class BrokenPromise(AssertionError):
    """The cluster did what Raft excludes."""


def _demand(held: bool, promise: str) -> None:
    if not held:
        raise BrokenPromise(promise)


class Watcher:
    def __init__(self) -> None:
        self._leaders: dict[int, int] = {}
        self._written: dict[tuple[int, int], tuple[int, Entry]] = {}  # (index, term) -> (term before it, entry)
        self.committed: list[Entry] = []  # committed[i] has index i + 1
        self._commit_terms: list[int] = []  # of each committed entry: the least term in which it was known so

    # --- Log Matching, Leader Append-Only ----------------------------------------------------------

    def appends(self, core: Raft | None, log: MemoryLog, entries: Sequence[Entry]) -> None:
        """Called before `entries` are appended. By induction over appends equal (index, term) means equal logs."""
        previous = log.term(entries[0].index - 1)
        for entry in entries:
            _demand(entry.term >= previous, f"log: the term falls at {entry.index}")
            known = self._written.setdefault((entry.index, entry.term), (previous, entry))
            _demand(known == (previous, entry), f"log matching: two entries at {entry.index} in term {entry.term}")
            previous = entry.term
        if core is not None and core.leader == core.id:
            _demand(entries[0].index == log.last_index + 1, f"leader append-only: {core.id} cuts its log")

    # --- Election Safety, Leader Completeness --------------------------------------------------------

    def leads(self, core: Raft, log: MemoryLog) -> None:
        """Called when `core` has begun to lead."""
        first = self._leaders.setdefault(core.term, core.id)
        _demand(first == core.id, f"election safety: {first} and {core.id} lead term {core.term}")
        # Of entries committed in earlier terms the last speaks for all, by log matching.
        index = bisect_left(self._commit_terms, core.term)
        if index > log.base.index:
            held = index <= log.last_index and log.term(index) == self.committed[index - 1].term
            _demand(held, f"leader completeness: {core.id} leads term {core.term} without committed entry {index}")

    # --- State Machine Safety --------------------------------------------------------------------------

    def commits(self, core: Raft, entries: Sequence[Entry]) -> None:
        """Called with what `core` has newly learned to be committed."""
        for entry in entries:
            if entry.index <= len(self.committed):
                known = self.committed[entry.index - 1]
                _demand(known == entry, f"state machine safety: {core.id} has another entry {entry.index}")
                continue
            _demand(entry.index == len(self.committed) + 1, f"commit: nobody committed what is before {entry.index}")
            if self.committed:
                _demand(entry.time >= self.committed[-1].time, f"the cluster clock runs backwards at {entry.index}")
            self.committed.append(entry)
            self._commit_terms.append(max(core.term, self._commit_terms[-1] if self._commit_terms else 0))

    def counts(self, core: Raft, confs: Sequence[ConfState], holds: Callable[[int, int, int], bool]) -> None:
        """Called when a leader has moved its commit index, by the count of the first or the last of `confs`.

        `holds(member, index, term)`: is that entry on the member's disk?
        """
        index = core.commit
        term = self.committed[index - 1].term
        _demand(term == core.term, f"commit: {core.id} counts replicas of {index}, of an earlier term (section 5.4.2)")

        def agree(voters: tuple[int, ...]) -> bool:
            return not voters or 2 * sum(holds(voter, index, term) for voter in voters) > len(voters)

        _demand(
            any(agree(conf.voters) and agree(conf.voters_outgoing) for conf in confs),
            f"commit: {core.id} counts {index} as committed, which no quorum holds on disk",
        )

    def restores(self, meta: SnapshotMeta) -> None:
        _demand(meta.index <= len(self.committed), "a snapshot of what is not committed")
        entry = self.committed[meta.index - 1]
        _demand((entry.term, entry.time) == (meta.term, meta.time), "a snapshot's meta does not fit the log")

    # --- stable storage ------------------------------------------------------------------------------

    def sends(self, message: Message, log: FaultyLog, leaders_log: MemoryLog | None) -> None:
        """Called when a message leaves; `leaders_log`: of the member it goes to, if that leads the message's term."""
        kind, durable = message.kind, log.durable
        if kind in {MessageKind.PRE_VOTE, MessageKind.PRE_VOTE_ANSWER}:
            return  # promise nothing
        term, vote, _ = durable.hard_state
        _demand(message.term <= term, f"stable storage: term {message.term} is announced before it is on disk")
        if kind == MessageKind.VOTE_ANSWER and not message.reject and message.term == term:
            _demand(vote == message.to, "stable storage: a vote leaves before it is on disk")
        if kind == MessageKind.APPEND_ANSWER and not message.reject:
            _demand(message.index <= durable.last_index, f"stable storage: {message.index} is acknowledged too early")
            if leaders_log is not None and message.index >= max(leaders_log.base.index, durable.base.index):
                same = message.index <= leaders_log.last_index and durable.term(message.index) == leaders_log.term(
                    message.index
                )
                _demand(same, f"log matching: {message.index} is acknowledged, and is not what the leader has")

    # --- linearizable reads ----------------------------------------------------------------------------

    def read_asked(self) -> int:
        """What the answer must not fall behind: all that anybody may have seen committed."""
        return len(self.committed)

    def read_answered(self, floor: int, index: int) -> None:
        _demand(index >= floor, f"linearizability: a read is served at {index}, after {floor} was committed")
