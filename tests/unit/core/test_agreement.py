"""Who holds other data than the rest is judged by hashes of the same revision."""

from __future__ import annotations

import pytest

from zkv.core.agreement import Verdict, judge


@pytest.mark.parametrize(
    ("hashes", "verdict"),
    [
        ({1: 7, 2: 7, 3: 7}, Verdict()),
        ({1: 7, 2: 7, 3: 8}, Verdict((3,))),
        ({1: 8, 2: 7, 3: 7}, Verdict((1,))),
        ({1: 7}, Verdict()),
        ({1: 7, 2: 8}, Verdict(split=True)),
        ({1: 7, 2: 8, 3: 9}, Verdict(split=True)),
        ({}, Verdict()),
    ],
)
def test_of_three_voters_two_that_agree_are_right(hashes: dict[int, int], verdict: Verdict) -> None:
    assert judge((1, 2, 3), hashes) == verdict


def test_half_of_the_voters_are_no_majority() -> None:
    assert judge((1, 2, 3, 4), {1: 7, 2: 7, 3: 8}) == Verdict(split=True)


def test_a_learner_can_be_odd_but_has_no_say() -> None:
    """Two of three voters know better than a voter and a learner."""
    assert judge((1, 2, 3), {1: 7, 2: 7, 9: 8}) == Verdict((9,))
    assert judge((1, 2, 3), {1: 7, 2: 8, 9: 8}) == Verdict(split=True)
