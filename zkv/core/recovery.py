"""What can be said of a cluster by those of its logs that are left: which holds the most, and what may be lost.

*The most* is what Raft's elections go by (section 5.4.1): the log whose last entry is of the latest term, and of those
the longest. Whatever a majority had agreed on is in that one, if any log that had it is among those looked at: entries
of its term were made by one leader, in order, and those of a later term by a leader that had all that was agreed on
before.

So nothing is lost as long as every majority has a member here: as long as those who are missing are no majority by
themselves. If they are, they may have agreed on more, and nobody here can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zkv.wire.messages import ConfState


class LogEnd(NamedTuple):
    """How far the log of `member` goes: its last entry's term and index, and up to where it knows all are agreed on."""

    member: int
    term: int
    last: int
    commit: int


class Verdict(NamedTuple):
    """`best`: which of those looked at. `missing`: voters that are not here.

    `quorum`: those here could elect a leader among themselves. `complete`: what was ever agreed on is here.
    """

    best: int
    missing: tuple[int, ...]
    quorum: bool
    complete: bool


def most(ends: Sequence[LogEnd]) -> int:
    """Which of them holds the most; of equals, the one that knows most of it to be agreed on, or the first."""
    return max(range(len(ends)), key=lambda at: (ends[at].term, ends[at].last, ends[at].commit, -at))


def judge(ends: Sequence[LogEnd], confs: Iterable[ConfState]) -> Verdict:
    """`confs`: the configurations that may be in force by the log that holds the most: one, or one more whose change is
    not known to be agreed on. What is said of them holds of each.
    """
    here = {end.member for end in ends}
    both = [[set(half) for half in (conf.voters, conf.voters_outgoing) if half] for conf in confs]
    voters: set[int] = set().union(*(half for halves in both for half in halves))
    return Verdict(
        best=most(ends),
        missing=tuple(sorted(voters - here)),
        quorum=all(_is_majority(half & here, half) for halves in both for half in halves),
        # what is agreed on while two halves must agree, each of them has
        complete=all(any(not _is_majority(half - here, half) for half in halves) for halves in both),
    )


def _is_majority(some: Iterable[int], half: set[int]) -> bool:
    return 2 * len(set(some)) > len(half)
