"""The interval tree finds what a look at every range would find, and stays flat."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zkv.core.watch.intervals import Intervals

KEYS = st.binary(max_size=3)
RANGES = st.tuples(KEYS, st.none() | KEYS)


def height(tree: Intervals[int]) -> int:
    return 0 if tree._root is None else tree._root.height


@given(st.lists(st.tuples(st.booleans(), RANGES), max_size=120), st.lists(KEYS, max_size=20))
@settings(max_examples=200, deadline=None)
def test_it_finds_the_ranges_that_hold_a_key(
    changes: list[tuple[bool, tuple[bytes, bytes | None]]], keys: list[bytes]
) -> None:
    """Whatever was put in and taken out before, in whatever order; the naive matcher is one line."""
    tree: Intervals[int] = Intervals()
    model: dict[tuple[bytes, bytes | None], int] = {}
    for number, (remove, (start, end)) in enumerate(changes):
        if remove and (start, end) in model:
            del model[start, end]
            tree.remove(start, end)
        elif not remove:
            model[start, end] = number
            tree.put(start, end, number)
        assert tree.get(start, end) == model.get((start, end))
    assert len(tree) == len(model)
    assert height(tree) <= 1.45 * math.log2(len(model) + 2)
    for key in [*keys, *(start for start, _ in model), *(end for _, end in model if end)]:
        held = {number for (start, end), number in model.items() if start <= key and (end is None or key < end)}
        found = tree.holding(key)
        assert len(found) == len(held)
        assert set(found) == held


@pytest.mark.parametrize("backwards", [False, True])
def test_it_stays_flat_whatever_the_order(backwards: bool) -> None:
    """Ranges that come sorted, or all begin alike, make no list of it: nobody can make a search slow."""
    tree: Intervals[int] = Intervals()
    ranges = [(b"a", b"b%05d" % number) for number in range(3000)] + [(b"c%05d" % n, b"d") for n in range(3000)]
    for number, (start, end) in enumerate(reversed(ranges) if backwards else ranges):
        tree.put(start, end, number)
    assert height(tree) <= 18
    for start, end in ranges:
        tree.remove(start, end)
    assert (len(tree), tree._root) == (0, None)


def test_what_is_not_there_cannot_be_removed() -> None:
    tree: Intervals[int] = Intervals()
    tree.put(b"a", b"c", 1)
    with pytest.raises(KeyError):
        tree.remove(b"a", b"b")
