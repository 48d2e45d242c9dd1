"""Snapshots under way: what the leader's raft asks of its storage and sends to the member, and when it gives up."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from zkv.actors.transfers import SNAPSHOT_RESEND_MS, SNAPSHOT_SILENCE_MS, Transfers
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable

META = m.SnapshotMeta(9, 1, 0, m.ConfState((1, 2)))


class House:
    def __init__(self) -> None:
        self.posted: list[tuple[str | int, Any]] = []
        self.ended: list[int] = []
        self.transfers = Transfers(rng=random.Random(1), post=self._post, post_peer=self._post, ended=self.ended.append)
        self.transfers.begin(2, 0)
        ((_, wanted),) = self.taken()
        assert (wanted.member, wanted.wanted) == (2, 0)
        self.stream = wanted.stream

    def _post(self, to: str | int, message: Any) -> bool:
        self.posted.append((to, message))
        return True

    def taken(self) -> list[tuple[str | int, Any]]:
        posted, self.posted = self.posted, []
        return posted

    def made(self, sequence: int, *, last: bool, now: int = 0) -> m.SnapshotChunk:
        chunk = m.SnapshotChunk(META, self.stream, sequence, (), 0, last=last)
        self.transfers.out(m.SnapshotOut(2, chunk), now)
        return chunk

    def wanted(self, sequence: int, *, refused: bool = False) -> tuple[str, m.SnapshotWanted]:
        return ("storage", m.SnapshotWanted(2, self.stream, sequence, refused))


def test_each_chunk_is_made_when_the_one_before_was_taken() -> None:
    """One at a time; the last one taken ends it, and storage may let go."""
    house = House()
    assert (2, house.made(0, last=False)) == house.taken()[0]
    house.transfers.acknowledged(2, m.SnapshotAck(house.stream, 1), 5)
    assert house.taken() == [house.wanted(1)]
    house.made(1, last=True)
    house.taken()
    house.transfers.acknowledged(2, m.SnapshotAck(house.stream, 2), 6)
    assert house.taken() == [house.wanted(0, refused=True)]
    assert house.ended == [2]


def test_what_is_lost_is_asked_for_again_and_silence_ends_it() -> None:
    house = House()
    house.made(0, last=False)
    house.taken()
    house.transfers.tend(SNAPSHOT_RESEND_MS, leading=True)
    assert house.taken() == []
    house.transfers.tend(SNAPSHOT_RESEND_MS + 1, leading=True)
    assert house.taken() == [house.wanted(0)]
    house.transfers.tend(SNAPSHOT_SILENCE_MS + 1, leading=True)
    assert house.ended == [2]


def test_a_member_has_one_at_a_time() -> None:
    """However often the core asks for it."""
    house = House()
    house.transfers.begin(2, 1)
    assert house.taken() == []


def test_words_about_another_stream_count_for_nothing() -> None:
    """They are of an earlier one."""
    house = House()
    house.transfers.acknowledged(2, m.SnapshotAck(house.stream + 1, 5), 1)
    house.transfers.acknowledged(3, m.SnapshotAck(house.stream, 5), 1)
    house.transfers.out(m.SnapshotOut(2, m.SnapshotChunk(META, house.stream + 1, 0, (), 0, last=True)), 1)
    assert house.taken() == []


def test_it_ends_when_refused_or_broken_off_or_no_longer_led() -> None:
    """And may begin anew, as another stream."""
    ends: list[Callable[[House], None]] = [
        lambda house: house.transfers.acknowledged(2, m.SnapshotAck(house.stream, 0, refused=True), 1),
        lambda house: house.transfers.broken_off(),
        lambda house: house.transfers.tend(1, leading=False),
    ]
    for end in ends:
        house = House()
        end(house)
        assert house.ended == [2]
        house.taken()
        house.transfers.begin(2, 2)
        ((_, wanted),) = house.taken()
        assert wanted.stream != house.stream
