"""The cluster clock goes on after an election from what members know of it, and is never ahead of the one before."""

from __future__ import annotations

import random

from tests.harness.raft_cores import conf_of, core_of, message, settle
from zkv.core.raft.clock import DRIFT, Anchor
from zkv.core.raft.log import MemoryLog
from zkv.core.raft.raft import Raft, RaftConfig
from zkv.wire.messages import Entry, EntryKind, MessageKind


def take(core: Raft, entry: Entry, now: int) -> None:
    """The leader, member 2, has this follower append an entry."""
    previous = entry.index - 1
    log_term = core._replica.term_at(previous) if previous else 0
    core.step(message(MessageKind.APPEND, entry.term, index=previous, log_term=log_term, entries=(entry,)), now)
    settle(core)


def elect(core: Raft, now: int) -> None:
    """As if its leader had asked it to stand; member 3 votes for it."""
    core.step(message(MessageKind.TIMEOUT_NOW, core.term), now)
    settle(core)
    core.step(message(MessageKind.VOTE_ANSWER, core.term, sender=3), now)
    settle(core)
    assert core.leader == 1


def entry(index: int, term: int, time: int) -> Entry:
    return Entry(index, term, EntryKind.BATCH, time, b"")


def test_an_elected_member_goes_on_from_the_best_it_knows_of_the_leaders_clock() -> None:
    """The entry that came quickest tells most, and what has passed since then counts."""
    core = core_of(MemoryLog(conf_of(3)))
    take(core, entry(1, 1, 5_000), now=100)
    take(core, entry(2, 1, 5_010), now=400)  # 290 ms late
    elect(core, now=1_100)
    assert core.cluster_time(1_100) == 5_000 + 1_000 - 1  # a part in DRIFT for the rates of clocks
    assert core.cluster_time(1_200) == 6_099


def test_an_anchor_of_another_term_than_the_last_entrys_is_of_no_use() -> None:
    """A leader that lost the time may have promised by its own clock since: nobody after it may be ahead of that."""
    core = core_of(MemoryLog(conf_of(3)))
    take(core, entry(1, 1, 5_000_000), now=0)
    take(core, entry(2, 2, 5_000_000), now=3_600_000)  # that leader had but the last entry's time
    elect(core, now=3_600_000)
    assert core.cluster_time(3_600_000) == 5_000_000


def test_an_entry_of_before_that_comes_again_does_not_change_what_is_known() -> None:
    """Messages may be doubled and late; only the log's last entry says of which term an anchor is."""
    core = core_of(MemoryLog(conf_of(3)))
    take(core, entry(1, 1, 5_000), now=0)
    take(core, entry(2, 2, 5_100), now=100)
    core.step(message(MessageKind.APPEND, 2, index=0, log_term=0, entries=(entry(1, 1, 5_000),)), 900)
    settle(core)
    assert core.anchor(900).fields() == (2, 5_100, 100)


def test_an_anchor_ages() -> None:
    """Clocks differ in rate: an old anchor claims less than what has passed, and a younger one takes its place."""
    old = Anchor(1, 0, 0)
    assert old.bound(10 * DRIFT) == 10 * DRIFT - 10
    assert old.better(Anchor(1, 10 * DRIFT - 11, 10 * DRIFT)) is old
    younger = Anchor(1, 10 * DRIFT - 9, 10 * DRIFT)
    assert old.better(younger) is younger


def test_a_restarted_member_goes_on_from_the_anchor_it_is_given() -> None:
    """A restart of the process does not stop the clock; one that is of another term than the log is not believed."""
    log = MemoryLog(conf_of(3))
    core = core_of(log)
    take(core, entry(1, 1, 5_000), now=100)
    elect(core, now=150)
    anchor = core.anchor(2_000)
    assert anchor.fields() == (2, 6_899, 2_000)
    again = Raft(RaftConfig(1), log, random.Random(1), 2_500, anchor)
    assert again.cluster_time(2_500) == 7_398
    log.append([entry(log.last_index + 1, 3, 7_000)])
    assert Raft(RaftConfig(1), log, random.Random(1), 2_500, anchor).cluster_time(2_500) == 7_000


def test_an_anchor_from_the_future_of_this_clock_is_of_another_boot() -> None:
    """Then the last entry's time is all there is."""
    log = MemoryLog(conf_of(3))
    log.append([entry(1, 1, 5_000)])
    assert Raft(RaftConfig(1), log, random.Random(1), 2_500, Anchor(1, 9_000, 2_501)).cluster_time(2_500) == 5_000


def test_who_steps_down_remembers_its_own_clock() -> None:
    """It knew it best."""
    core = core_of(MemoryLog(conf_of(3)))
    take(core, entry(1, 1, 5_000), now=100)
    elect(core, now=100)
    time = core.cluster_time(900)
    core.step(message(MessageKind.HEARTBEAT, core.term + 1), 900)
    assert core.leader == 2
    assert core.cluster_time(900) == time
