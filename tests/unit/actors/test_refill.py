"""The marks by which a member is fenced and refilled, and what they do to a start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from zkv.actors import refill
from zkv.errors import CorruptionError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def member(tmp_path: Path) -> Path:
    for part in ("wal", "snap"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "data").write_text("old")
    return tmp_path


def test_a_fenced_member_does_not_start_until_it_is_to_be_refilled(member: Path) -> None:
    refill.check(member)
    with pytest.raises(CorruptionError, match="alarm CORRUPT"):
        refill.fence(member)
    with pytest.raises(CorruptionError, match="zkv member refill"):
        refill.check(member)
    refill.want(member)
    refill.check(member)
    assert (refill.is_wanted(member), refill.is_begun(member)) == (True, False)


def test_one_that_is_being_refilled_is_not_fenced_by_an_alarm_of_before(member: Path) -> None:
    refill.want(member)
    refill.fence(member)
    assert not (member / "fenced").exists()


def test_data_are_set_aside_until_the_member_counts_again(member: Path) -> None:
    """A crash at any point and another start come to the same; what is older wins, for it is the member's own."""
    refill.want(member)
    refill.set_aside(member)
    assert refill.is_begun(member)
    assert not (member / "wal").exists()
    (member / "wal").mkdir()
    refill.want(member)
    assert refill.is_begun(member)
    refill.set_aside(member)
    assert (member / "refilled-from" / "wal" / "data").read_text() == "old"
    refill.complete(member)
    assert not refill.is_wanted(member)
    assert not (member / "refilled-from").exists()
