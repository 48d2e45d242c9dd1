"""On which cores a follower's raft runs beside a leader of its own machine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from zkv.actors.elbow_room import LITTLE_BYTES, LOOK_MS, ElbowRoom

if TYPE_CHECKING:
    from collections.abc import Iterable

CORES = {0, 1, 2, 3}
LEADER, REMOTE = 2, 3


class Follower:
    """Its raft, on a machine with these cores."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cores: Iterable[int] = CORES) -> None:
        self.allowed = set(cores)
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(self.allowed), raising=False)
        monkeypatch.setattr(os, "sched_setaffinity", self.allow, raising=False)
        self.core: int | None = None
        self.room = ElbowRoom(lambda member: self.core if member == LEADER else None)
        self.now = self.fed_bytes = 0

    def allow(self, thread: int, cores: Iterable[int]) -> None:
        assert thread == 0
        self.allowed = set(cores)

    def look(self, leader: int = LEADER, fed_bytes: int = 1000, after_ms: int = LOOK_MS) -> set[int]:
        self.now += after_ms
        self.fed_bytes += fed_bytes
        self.room.look_about(leader, self.fed_bytes, self.now)
        return self.allowed


@pytest.fixture
def follower(monkeypatch: pytest.MonkeyPatch) -> Follower:
    return Follower(monkeypatch)


def test_it_keeps_from_the_core_of_a_leader_on_its_machine(follower: Follower) -> None:
    for core in sorted(CORES):
        follower.core = core
        assert follower.look() == CORES - {core}


def test_it_keeps_from_none_where_the_leader_is_elsewhere_or_nobody(follower: Follower) -> None:
    follower.core = min(CORES)
    assert follower.look(REMOTE) == CORES
    assert follower.look() != CORES
    assert follower.look(0) == CORES


def test_where_much_is_written_the_kernel_does_as_it_thinks(follower: Follower) -> None:
    follower.core = min(CORES)
    assert follower.look(fed_bytes=LITTLE_BYTES + 1) == CORES
    assert follower.look(fed_bytes=LITTLE_BYTES) != CORES
    assert follower.look(fed_bytes=LITTLE_BYTES + 1) == CORES


def test_it_looks_now_and_then(follower: Follower) -> None:
    follower.core = min(CORES)
    follower.look()
    follower.core = max(CORES)
    assert follower.look(after_ms=LOOK_MS - 1) == CORES - {min(CORES)}
    assert follower.look(after_ms=1) == CORES - {max(CORES)}


def test_a_core_that_may_not_be_used_is_kept_from_anyway(follower: Follower) -> None:
    follower.core = max(CORES) + 1
    assert follower.look() == CORES


def test_one_core_leaves_no_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    follower = Follower(monkeypatch, {0})
    follower.core = 0
    assert follower.look() == {0}
