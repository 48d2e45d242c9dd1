"""Which members hold other data than the rest, judged by hashes over the same revisions.

What a majority of the voters holds alike is the truth; whoever holds something else is *odd*. Without such a majority
nobody can tell who is right: that is a *split*.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


class Verdict(NamedTuple):
    """`odd`: members whose data are not those of the majority. `split`: hashes differ, and no majority is known."""

    odd: tuple[int, ...] = ()
    split: bool = False


def judge(voters: Collection[int], hashes: Mapping[int, int]) -> Verdict:
    """`hashes` by member, learners too; who did not answer is not there, and counts for no side."""
    if len(set(hashes.values())) < 2:
        return Verdict()
    votes = Counter(hashes[voter] for voter in voters if voter in hashes)
    truth, count = max(votes.items(), key=lambda vote: vote[1], default=(0, 0))
    if 2 * count <= len(voters):
        return Verdict(split=True)
    return Verdict(tuple(sorted(member for member, found in hashes.items() if found != truth)))
