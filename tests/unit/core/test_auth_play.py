"""No sequence of commands about users and roles ever lets a user read or write a key that his roles do not cover."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.auth_play import AuthPlay
from zkv.core.auth import Book
from zkv.core.mvcc import guard
from zkv.core.watch.warrants import Warrants

SEEDS = 60
STEPS = 80


def test_no_user_reads_or_writes_what_his_roles_do_not_cover() -> None:
    """On any path: range, txn, lease, snapshot, watch; of the present and the past; across restarts of storage."""
    done = refused = told = ended = 0
    for seed in range(SEEDS):
        play = AuthPlay(seed)
        try:
            for _ in range(STEPS):
                play.step()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}") from error
        done, refused, told = done + play.done, refused + play.refused, told + play.told
        ended += play.ended
    assert min(done, refused, told, ended) > SEEDS  # else the play would prove nothing


def _forgets_inner_txns(asked: Any, request: Any) -> None:
    guard._txn(asked, request._replace(failure=()))


def _remembers_covers(self: Book) -> None:
    """Roles have changed, and what a user may is not looked at anew."""


def _watches_on(self: Warrants, stream: Any) -> None:
    """Who was let in once is never looked at again."""


def _takes_any_revision(self: Book, caller: Any) -> str:
    return str(caller[0]) if caller and caller[0] in self.users else "root" if caller is None else ""


def _never_says_who(self: Book, name: str, key: bytes, range_end: bytes = b"") -> bool:
    return True


PLANTED = [
    (Book, "changed", _remembers_covers),
    (Warrants, "_judge", _watches_on),
    (Book, "identified", _takes_any_revision),
    (Book, "may_read", _never_says_who),
]


@pytest.mark.patches
@pytest.mark.parametrize(("owner", "name", "broken"), PLANTED, ids=[broken.__name__ for *_, broken in PLANTED])
def test_a_planted_bug_is_caught(owner: type, name: str, broken: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, name, broken)
    _must_fail()


@pytest.mark.patches
def test_a_txn_whose_other_branch_is_not_looked_at_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = dict(guard._RULES)
    rules[4] = _forgets_inner_txns
    monkeypatch.setattr(guard, "_RULES", rules)
    _must_fail()


def _must_fail() -> None:
    for seed in range(SEEDS):
        play = AuthPlay(seed)
        try:
            for _ in range(STEPS):
                play.step()
        except AssertionError:
            return
    pytest.fail(f"{SEEDS} seeds did not show it")
