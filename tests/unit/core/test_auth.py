"""Who may do what: intervals, and what follows from users, roles and revisions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkv import errors
from zkv.core.auth import Book, Cover
from zkv.wire import messages as m

KEYS = st.binary(min_size=1, max_size=2).map(lambda key: bytes(b"abc"[byte % 3] for byte in key))
ENDS = st.one_of(st.just(b""), st.just(b"\0"), KEYS)
ALL = [bytes(word) for word in ([x, y][:size] for x in b"abcd" for y in b"abcd" for size in (1, 2))]


def holds(key: bytes, start: bytes, end: bytes) -> bool:
    if not end:
        return key == start
    return key >= start and (end == b"\0" or key < end)


@given(ranges=st.lists(st.tuples(KEYS, ENDS), max_size=6), key=KEYS, end=ENDS)
def test_a_cover_holds_what_its_ranges_hold_together(ranges: list[tuple[bytes, bytes]], key: bytes, end: bytes) -> None:
    """It never says yes to a range with a key outside; for one key it says yes whenever a range holds it."""
    cover = Cover(ranges)
    covered = [any(holds(each, *range_) for range_ in ranges) for each in ALL]
    if cover.holds(key, end):
        assert all(inside for each, inside in zip(ALL, covered, strict=True) if holds(each, key, end))
    for each, inside in zip(ALL, covered, strict=True):
        assert cover.holds(each, b"") == inside


def test_ranges_that_touch_are_one() -> None:
    cover = Cover([(b"c", b"e"), (b"a", b"c")])
    assert cover.holds(b"b", b"d")
    assert cover.intervals() == [(b"a", b"e")]


def test_a_gap_of_one_key_is_a_gap() -> None:
    cover = Cover([(b"a", b"c"), (b"c\0", b"e")])
    assert not cover.holds(b"b", b"d")
    assert Cover([(b"a", b"c"), (b"c", b""), (b"c\0", b"e")]).holds(b"b", b"d")


def test_a_range_that_ends_before_it_begins_lets_nobody_in() -> None:
    assert not Cover([(b"z", b"a"), (b"k", b"k")]).holds(b"k", b"")


def book() -> Book:
    made = Book()
    made.install(
        m.AuthNews(
            enabled=True,
            revision=7,
            users=(("root", b"", False, ("root",)), ("alice", b"", False, ("r", "gone"))),
            roles=(("r", ((m.PermissionKind.READ, b"a", b"c"), (m.PermissionKind.READWRITE, b"x", b""))),),
            fresh=True,
        )
    )
    return made


def test_roles_say_what_may_be_read_and_written() -> None:
    """A role that is not there (any more) gives nothing."""
    users = book()
    assert users.may_read("alice", b"b")
    assert not users.may_write("alice", b"b")
    assert users.may_write("alice", b"x")
    assert not users.may_read("nobody", b"b")
    assert users.may_write("root", b"anything", b"\0")


@pytest.mark.parametrize(
    ("caller", "error"),
    [
        (None, errors.AuthOldRevision),
        (("", 7), errors.UserEmpty),
        (("alice", 6), errors.AuthOldRevision),
        (("mallory", 7), errors.PermissionDenied),
    ],
)
def test_who_is_not_known_under_this_revision_is_nobody(caller: m.Caller | None, error: type[errors.ZkvError]) -> None:
    with pytest.raises(error):
        book().identified(caller)


@pytest.mark.parametrize(
    ("caller", "error"),
    [
        (None, errors.AuthOldRevision),
        (("", 7), errors.UserEmpty),
        (("root", 6), errors.AuthOldRevision),
        (("mallory", 7), errors.UserNotFound),
        (("alice", 7), errors.PermissionDenied),
    ],
)
def test_who_is_not_root_is_told_so(caller: m.Caller | None, error: type[errors.ZkvError]) -> None:
    with pytest.raises(error):
        book().check_root(caller)
    book().check_root(("root", 7))
    book().check_root(m.HOUSE)
