"""Whole clusters hold what Raft promises, seed after seed; and a core that is broken on purpose is caught."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.simulation.raft_play import Play
from zkv.core.raft import quorum
from zkv.core.raft.leader import Leadership
from zkv.core.raft.raft import Raft
from zkv.core.raft.replica import Replica
from zkv.errors import InvalidRequest
from zkv.wire.messages import Message, MessageKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zkv.wire.messages import ConfChange, ConfState, Entry

SEEDS = 300
SEEDS_TO_CATCH = 300
"""A planted bug must show within so many seeds."""


@pytest.mark.parametrize("first", range(0, SEEDS, 50))
def test_clusters_in_trouble_keep_their_promises_and_recover(first: int) -> None:
    """Raft figure 3, linearizable reads, and progress after healing: `make simulate SEED=n` replays seed n."""
    for seed in range(first, first + 50):
        try:
            Play(seed).run()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}; replay: make simulate SEED={seed}") from error


def test_one_seed_makes_one_history() -> None:
    """Whatever is random comes from the seed, so a failure can be replayed."""
    tales: list[list[str]] = [[], []]
    outcomes = {Play(7, tale.append).run() for tale in tales}
    assert len(outcomes) == 1
    assert tales[0] == tales[1]


# --- the simulator catches ... ---------------------------------------------------------------------
# Each mutation replaces one method of the core by a wrong one.


def _answers_before_sync(self: Replica) -> tuple[list[Message], list[Message]]:
    return self._outbox, []


def _own_count_before_sync(self: Leadership) -> dict[int, int]:
    return {**matches(self), self._replica.id: self._replica.last_index}


def _conflict_free_cut(self: Replica, previous: int, previous_term: int, entries: Sequence[Entry]) -> bool:
    if previous > self.log.last_index or self.term_at(previous) != previous_term:
        return False
    if entries and entries[0].index > self.commit:
        self.append(entries)
    return True


def _accept_without_check(self: Replica, previous: int, previous_term: int, entries: Sequence[Entry]) -> bool:
    if previous > self.log.last_index:
        return False
    fresh = [entry for entry in entries if self.term_at(entry.index) != entry.term and entry.index > self.commit]
    if fresh:
        self.append(fresh)
    return True


def _votes_for_everybody(self: Raft, message: Message) -> None:
    pre = message.kind == MessageKind.PRE_VOTE
    kind = MessageKind.PRE_VOTE_ANSWER if pre else MessageKind.VOTE_ANSWER
    index, log_term = self._replica.last()
    grant = (message.log_term, message.index) >= (log_term, index)
    self._replica.send(kind, message.sender, term=message.term, reject=not grant)


def _votes_for_a_log_behind(self: Raft, message: Message) -> None:
    answer_vote(self, message._replace(log_term=1 << 60))


def _read_without_a_round(self: Leadership) -> dict[int, int]:
    return dict.fromkeys(read_rounds(self), self.reads.number)


def _counts_old_terms(self: Leadership, now: int) -> None:
    conf = self._replica.conf
    self._replica.commit_to(quorum.reached(conf, self._matches()))
    if self._replica.conf is not conf:
        self._follow_conf(now)


def _tells_commit_unchecked(self: Leadership, now: int) -> None:
    self.heartbeat_at = now + self._config.heartbeat_ms
    for member in self.progress:
        self._replica.send(MessageKind.HEARTBEAT, member, commit=self._replica.commit, context=self.reads.number)


def _two_conf_changes(self: Leadership, change: ConfChange, now: int) -> int:
    self._conf_free_at = 0
    return propose_conf_change(self, change, now)


def _half_a_joint_quorum(conf: ConfState, numbers: dict[int, int]) -> int:
    return quorum._reached(conf.voters, numbers)


answer_vote = Raft._answer_vote
propose_conf_change = Leadership.propose_conf_change
matches = Leadership._matches
read_rounds = Leadership._read_rounds
MUTATIONS: dict[str, tuple[object, str, Callable[..., Any]]] = {
    "append answers and votes sent before the sync": (Replica, "_partition", _answers_before_sync),
    "a leader counting itself before the sync": (Leadership, "_matches", _own_count_before_sync),
    "a leader counting replicas of an entry of an earlier term": (Leadership, "_advance_commit", _counts_old_terms),
    "a heartbeat that tells a commit index beyond the match": (Leadership, "_send_heartbeats", _tells_commit_unchecked),
    "a second conf change before the first is in force": (Leadership, "propose_conf_change", _two_conf_changes),
    "a joint quorum that asks one half only": (quorum, "reached", _half_a_joint_quorum),
    "an append that cuts without a conflict": (Replica, "accept", _conflict_free_cut),
    "an append taken without looking at the entry before it": (Replica, "accept", _accept_without_check),
    "two votes in one term": (Raft, "_answer_vote", _votes_for_everybody),
    "a vote for a log that is behind": (Raft, "_answer_vote", _votes_for_a_log_behind),
    "a read served without asking a quorum": (Leadership, "_read_rounds", _read_without_a_round),
}


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_simulator_catches(mutation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checker that never fails proves nothing: each of these bugs breaks a promise within a few hundred seeds."""
    monkeypatch.setattr(*MUTATIONS[mutation])
    for seed in range(SEEDS_TO_CATCH):
        try:
            Play(seed).run()
        except (AssertionError, InvalidRequest, LookupError):
            return
    pytest.fail(f"{SEEDS_TO_CATCH} seeds did not show it")
