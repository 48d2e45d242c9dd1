"""Entries from the leader's log to everybody's, and when they are committed (Raft sections 5.3, 5.4.2; thesis 10.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness.raft_cores import (
    BYTES_UNBOUNDED,
    Cores,
    conf_of,
    core_of,
    entries,
    log_of,
    message,
    sent,
    settle,
    terms,
)
from zkv.core.raft.leader import PATIENT
from zkv.core.raft.log import MemoryLog
from zkv.core.raft.progress import TELL_MS
from zkv.errors import NoLeader, TooManyRequests
from zkv.wire.messages import Entry, EntryKind, HardState, Message, MessageKind

if TYPE_CHECKING:
    from zkv.core.raft.raft import Raft


def leading(log: MemoryLog | None = None, *, append_bytes_max: int = 1 << 20, window: int = 64) -> Raft:
    """Member 1 of 3 leads; member 2 has voted for it, and its first entry is on its own disk."""
    core = core_of(log or MemoryLog(conf_of(3)), append_bytes_max=append_bytes_max, window=window)
    core.step(message(MessageKind.TIMEOUT_NOW, core.term), 0)
    settle(core)
    core.step(message(MessageKind.VOTE_ANSWER, core.term), 0)
    settle(core)
    assert core.leader == 1
    return core


def acknowledge(core: Raft, index: int, *, sender: int = 2) -> None:
    core.step(message(MessageKind.APPEND_ANSWER, core.term, sender=sender, index=index), 0)


def appends(messages: list[Message], to: int) -> list[Message]:
    return [one for one in messages if one.kind == MessageKind.APPEND and one.to == to]


def test_an_entry_is_committed_when_a_majority_holds_it() -> None:
    """Raft 5.3; and all members learn it without waiting for the next heartbeat."""
    cores = Cores(3)
    leader = cores.elect(1)
    assert leader.propose([b"x", b"y"], cores.now) == 3
    cores.deliver()
    assert cores.commits() == [3, 3, 3]
    assert [entry.body for entry in cores.logs[3].entries(1, 4, BYTES_UNBOUNDED)] == [b"", b"x", b"y"]


def test_without_a_majority_nothing_is_committed() -> None:
    """Raft 5.3."""
    cores = Cores(5)
    leader = cores.elect(1)
    cores.cut = {3, 4, 5}
    leader.propose([b"x"], cores.now)
    cores.deliver()
    assert leader.commit == 1


def test_a_follower_refuses_proposals() -> None:
    """Raft 8: the follower's actor sends the client's request on to the leader."""
    cores = Cores(3)
    cores.elect(1)
    with pytest.raises(NoLeader):
        cores.cores[2].propose([b"x"], cores.now)


def test_an_elected_leader_appends_an_entry_of_its_term() -> None:
    """Raft 8: a blank no-op entry at the start of its term."""
    core = leading(log_of(1, 1, conf=conf_of(3)))
    assert core.term == 2
    acknowledge(core, 3)
    assert [ready.commit for ready in settle(core)] == [3]


def test_entries_of_earlier_terms_are_not_committed_by_counting() -> None:
    """Raft 5.4.2, figure 8: only an entry of the leader's own term is; it commits those before it indirectly."""
    core = leading(log_of(1, 2, conf=conf_of(3)))
    acknowledge(core, 2)
    settle(core)
    assert core.commit == 0
    acknowledge(core, 3)
    settle(core)
    assert core.commit == 3


def test_a_leader_sends_before_it_syncs_and_counts_itself_after() -> None:
    """Thesis 10.2.1: the leader writes to its disk in parallel with its followers."""
    core = leading()
    acknowledge(core, 1)
    settle(core)
    core.propose([b"x"], 0)
    ready = core.ready()
    assert ready.must_sync
    assert appends(ready.messages, 2)[0].entries[0].body == b"x"
    acknowledge(core, 2)
    assert core.commit == 1, "one follower and an unsynced leader are no majority of three"
    assert core.synced().commit == 2


def test_a_committed_entry_is_handed_out_when_it_is_on_the_own_disk() -> None:
    """Else the state machine could get ahead of its own log by a power cut."""
    core = leading()
    core.propose([b"x"], 0)
    assert core.ready().must_sync
    acknowledge(core, 2, sender=2)
    acknowledge(core, 2, sender=3)
    after = core.synced()
    assert (core.commit, after.commit) == (2, 2)
    follower = core_of(MemoryLog(conf_of(3)))
    follower.step(message(MessageKind.APPEND, 1, entries=tuple(entries(1)), commit=1), 0)
    assert (follower.ready().commit, follower.synced().commit) == (0, 1)


def test_a_follower_acknowledges_after_the_sync_only() -> None:
    """Raft figure 2: updated on stable storage before responding."""
    core = core_of(log_of(conf=conf_of(3), hard_state=HardState(1, 0, 0)))
    core.step(message(MessageKind.APPEND, 1, entries=tuple(entries(1, 1))), 0)
    ready = core.ready()
    assert (ready.messages, ready.must_sync) == ([], True)
    [answer] = core.synced().messages
    assert (answer.kind, answer.index) == (MessageKind.APPEND_ANSWER, 2)


def test_what_comes_in_while_a_sync_runs_waits_for_the_next() -> None:
    """A sync in a thread covers only what was written before it began."""
    core = core_of(log_of(conf=conf_of(3), hard_state=HardState(1, 0, 0)))
    core.step(message(MessageKind.APPEND, 1, entries=tuple(entries(1))), 0)
    core.ready()
    core.step(message(MessageKind.APPEND, 1, index=1, log_term=1, entries=tuple(entries(1, first=2))), 0)
    first = core.synced()
    assert first.must_sync
    assert [answer.index for answer in first.messages] == [1]
    assert [answer.index for answer in core.synced().messages] == [2]


def test_the_loop_out_of_order_is_a_bug_of_the_actor() -> None:
    """ready() during a sync would mix up what the sync covers."""
    core = core_of(MemoryLog(conf_of(3)))
    core.step(message(MessageKind.VOTE, 1), 0)
    assert core.ready().must_sync
    with pytest.raises(AssertionError):
        core.ready()


def test_one_answer_speaks_for_all_appends_of_a_batch() -> None:
    """Answers cost the leader a message each; the last says all."""
    core = core_of(log_of(conf=conf_of(3), hard_state=HardState(1, 0, 0)))
    core.step(message(MessageKind.APPEND, 1, entries=tuple(entries(1))), 0)
    core.step(message(MessageKind.APPEND, 1, index=1, log_term=1, entries=tuple(entries(1, first=2))), 0)
    assert [answer.index for answer in sent(core)] == [2]


def test_an_answer_owed_to_a_leader_of_the_last_term_is_not_sent_in_the_next() -> None:
    """The same member may lead again with another log; what agreed with the old one need not agree now."""
    core = core_of(log_of(conf=conf_of(3), hard_state=HardState(1, 0, 0)))
    core.step(message(MessageKind.APPEND, 1, entries=tuple(entries(1, 1, 1))), 0)
    core.step(message(MessageKind.APPEND, 3, index=1, log_term=1), 0)
    assert [answer.index for answer in sent(core) if answer.kind == MessageKind.APPEND_ANSWER] == [1]


@pytest.mark.parametrize(
    ("own", "previous", "previous_term", "new", "after"),
    [
        pytest.param((1, 1), 2, 1, (2,), (1, 1, 2), id="appended"),
        pytest.param((1, 1), 1, 1, (1,), (1, 1), id="held already"),
        pytest.param((1, 1, 1), 1, 1, (1,), (1, 1, 1), id="an old append cuts nothing"),
        pytest.param((1, 1, 1), 1, 1, (2,), (1, 2), id="a conflict cuts"),
        pytest.param((1, 1, 2), 0, 0, (1, 1, 3, 3), (1, 1, 3, 3), id="the conflict in the middle"),
        pytest.param((1, 1), 3, 1, (1,), None, id="a gap is refused"),
        pytest.param((1, 1), 2, 2, (2,), None, id="another term before it is refused"),
    ],
)
def test_the_consistency_check(
    own: tuple[int, ...], previous: int, previous_term: int, new: tuple[int, ...], after: tuple[int, ...] | None
) -> None:
    """Raft 5.3, figure 2 (AppendEntries, receiver): reply false without a matching entry; only a conflict deletes."""
    log = log_of(*own, conf=conf_of(3), hard_state=HardState(5, 0, 0))
    core = core_of(log)
    follow_up = tuple(entries(*new, first=previous + 1))
    core.step(message(MessageKind.APPEND, 5, index=previous, log_term=previous_term, entries=follow_up), 0)
    [answer] = sent(core)
    assert answer.reject is (after is None)
    assert terms(log) == list(after or own)


FIGURE_7 = {
    "a": (1, 1, 1, 4, 4, 5, 5, 6, 6),
    "b": (1, 1, 1, 4),
    "c": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
    "d": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
    "e": (1, 1, 1, 4, 4, 4, 4),
    "f": (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
}


@pytest.mark.parametrize("case", FIGURE_7)
def test_the_leader_brings_any_follower_of_figure_7_to_its_own_log(case: str) -> None:
    """Raft 5.3, figure 7: entries missing, entries too many, or both, over several terms.

    The back-off needs a round per term at most, not one per entry.
    """
    cores = Cores(3)
    leaders = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
    for member, held in ((1, leaders), (2, FIGURE_7[case]), (3, leaders)):
        cores.add(member, log_of(*held, conf=cores.conf, hard_state=HardState(7, 0, 0)))
    cores.cut = {2}
    cores.elect(1)
    cores.passed.clear()
    cores.cut = set()
    cores.run(300)
    assert terms(cores.logs[2]) == [*leaders, 8]
    rejected = [one for one in cores.passed if one.kind == MessageKind.APPEND_ANSWER and one.reject]
    assert len(rejected) <= 3


def test_appends_are_bounded_by_bytes_but_hold_one_entry_at_least() -> None:
    """A follower that is behind is sent many messages of bounded size, not one of any size."""
    core = leading(append_bytes_max=3)
    acknowledge(core, 1)
    settle(core)
    core.propose([b"aa", b"b", b"cccc", b"d"], 0)
    assert [[e.body for e in one.entries] for one in appends(sent(core), 2)] == [[b"aa", b"b"], [b"cccc"], [b"d"]]


def test_the_window_bounds_appends_in_flight() -> None:
    """Thesis 10.2.2: pipelining, and its flow control."""
    core = leading(append_bytes_max=1, window=2)
    acknowledge(core, 1)
    settle(core)
    core.propose([b"a", b"b", b"c", b"d", b"e"], 0)
    assert [one.entries[0].body for one in appends(sent(core), 2)] == [b"a", b"b"]
    acknowledge(core, 2)
    assert [one.entries[0].body for one in appends(sent(core), 2)] == [b"c"]


def test_a_lost_append_is_repaired_by_the_next_heartbeat() -> None:
    """Raft 5.3: the leader retries indefinitely."""
    cores = Cores(3)
    leader = cores.elect(1)
    cores.cut = {2, 3}
    leader.propose([b"x"], cores.now)
    cores.deliver()
    cores.cut = set()
    cores.run(200)
    assert cores.commits() == [2, 2, 2]


def test_an_unreachable_follower_is_probed_not_flooded() -> None:
    """What was under way to it may be lost: one append at a time until it answers."""
    core = leading()
    acknowledge(core, 1)
    settle(core)
    core.report_unreachable(2)
    core.propose([b"x"], 0)
    assert len(appends(sent(core), 2)) == 1
    core.propose([b"y"], 0)
    assert appends(sent(core), 2) == []


def test_proposals_beyond_the_uncommitted_bound_are_refused() -> None:
    """Memory is bounded while no quorum answers; a single large proposal passes all the same."""
    core = leading()
    large = bytes(64 << 20)
    core.propose([large + large], 0)
    with pytest.raises(TooManyRequests):
        core.propose([b"x"], 0)
    settle(core)
    acknowledge(core, 2)
    settle(core)
    core.propose([b"x"], 0)


def leading_patient_followers() -> Raft:
    """Both know that the first entry is committed; entry 2 is under way."""
    core = leading()
    for follower in (2, 3):
        core.step(message(MessageKind.APPEND_ANSWER, core.term, sender=follower, index=1, context=PATIENT), 0)
    settle(core)
    core.tick(TELL_MS)
    settle(core)
    core.propose([b"x"], TELL_MS)
    assert [one.commit for one in appends(sent(core), 2)] == [1]
    return core


def test_a_commit_waits_for_the_next_append_where_nobody_waits_for_the_commit() -> None:
    """A message for it alone costs both members a turn."""
    core = leading_patient_followers()
    core.step(message(MessageKind.APPEND_ANSWER, core.term, index=2, context=PATIENT), TELL_MS)
    assert appends(sent(core), 2) == []
    assert core.commit == 2
    core.propose([b"y"], TELL_MS)
    (append,) = appends(sent(core), 2)
    assert (append.index, append.commit) == (2, 2)
    core.tick(3 * TELL_MS)
    assert appends(sent(core), 2) == []


def test_but_no_longer_than_some_milliseconds() -> None:
    """Whoever reads there what may be stale is to find it nearly new."""
    core = leading_patient_followers()
    core.step(message(MessageKind.APPEND_ANSWER, core.term, index=2, context=PATIENT), TELL_MS)
    assert appends(sent(core), 2) == []
    assert core.next_wakeup() == 2 * TELL_MS
    core.tick(2 * TELL_MS)
    assert [(one.commit, one.entries) for one in appends(sent(core), 2)] == [(2, ())]
    assert core.next_wakeup() > 2 * TELL_MS


def test_a_commit_is_told_at_once_where_somebody_waits_for_it() -> None:
    """Who has sent a write through this follower, who watches there, or reads what is linearizable."""
    core = leading_patient_followers()
    core.step(message(MessageKind.APPEND_ANSWER, core.term, index=2), TELL_MS)
    messages = sent(core)
    assert [[one.commit for one in appends(messages, to)] for to in (2, 3)] == [[2], []]
    core.step(message(MessageKind.READ_INDEX, core.term, sender=3, context=7), TELL_MS)
    assert [one.commit for one in appends(sent(core), 3)] == [2]


def test_a_follower_says_whether_anybody_waits_at_it() -> None:
    """In each of its answers to an append."""
    cores = Cores(3)
    leader = cores.elect(1)
    cores.cores[2].patient = True
    cores.passed.clear()
    leader.propose([b"x"], cores.now)
    cores.deliver()
    answers = {one.sender: one.context for one in cores.passed if one.kind == MessageKind.APPEND_ANSWER}
    assert answers == {2: PATIENT, 3: 0}
    assert cores.commits() == [2, 1, 2]
    cores.run(10)
    assert cores.commits() == [2, 2, 2]


def test_the_cluster_clock_never_runs_backwards() -> None:
    """A new leader continues from the last entry's time, whatever its own clock says."""
    log = MemoryLog(conf_of(3))
    log.append([Entry(1, 1, EntryKind.BATCH, 5_000, b"")])
    log.set_hard_state(HardState(1, 0, 0))
    core = leading(log)
    assert core.cluster_time(0) == 5_000
    core.propose([b"x"], 700)
    core.propose([b"y"], 650)
    assert [entry.time for entry in log.entries(2, 5, BYTES_UNBOUNDED)] == [5_000, 5_700, 5_700]


def test_a_restarted_member_knows_what_was_committed() -> None:
    """Commit, configuration and term come back from the log."""
    log = log_of(1, 1, 1, conf=conf_of(3), hard_state=HardState(1, 2, 2))
    core = core_of(log)
    assert (core.term, core.commit, core.ready().commit) == (1, 2, 2)


def test_a_member_that_lost_its_disk_is_refilled() -> None:
    """`--storage memory`: it restarts empty, under its old name; the heartbeat's commit index shows it."""
    cores = Cores(3)
    leader = cores.elect(1)
    leader.propose([b"x", b"y"], cores.now)
    cores.deliver()
    cores.add(3, MemoryLog(cores.conf))
    cores.run(500)
    assert cores.commits() == [3, 3, 3]
    assert terms(cores.logs[3]) == terms(cores.logs[1])
