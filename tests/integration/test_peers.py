"""The members' links over real sockets: what arrives, and what is dropped."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from zkv.actors.peers import DOOR, PeerLinks, PeerMessage, asking, said_in
from zkv.mailbox import Control, Mailbox
from zkv.testing import free_ports
from zkv.wire import messages as m
from zkv.wire.codec import encode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import NamedTuple

CLUSTER = 7
BEAT = m.Message(m.MessageKind.HEARTBEAT, 2, 1, 3, context=9)


class House:
    """One member's mailbox, with its links to the members at `urls`."""

    def __init__(self, rundir: str, member: int, urls: dict[int, str], *, cluster: int = CLUSTER) -> None:
        self.mailbox = Mailbox(rundir, f"raft{member}", ())
        self.links = PeerLinks(
            self.mailbox, member_id=member, cluster_id=cluster, curve=None, message_bytes_max=1 << 20
        )
        self.came: list[PeerMessage | None] = []
        self._ends = socket.socketpair()
        self._control = Control(self._ends[0])
        self.links.set_members([m.Member(id_, "", (url,), (), is_learner=False) for id_, url in urls.items()])
        self.links.listen([urls[member]])

    def turn(self) -> None:
        """Let out what was sent, and take what has come."""
        for source, item in self.mailbox.wait(5, self._control):
            assert source == DOOR, "nobody is lost"
            assert isinstance(item, tuple)
            self.came.append(self.links.receive(*item))

    def close(self) -> None:
        self.mailbox.close()
        for end in self._ends:
            end.close()


@pytest.fixture
def urls() -> dict[int, str]:
    return {member: f"tcp://127.0.0.1:{port}" for member, port in enumerate(free_ports(2), 1)}


@pytest.fixture
def second(tmp_path: Path, urls: dict[int, str]) -> Iterator[House]:
    house = House(str(tmp_path), 2, urls)
    yield house
    house.close()


def heard_by(receiver: House, sender: House, message: m.Message) -> PeerMessage | None:
    while not sender.links.send(message.to, message):  # it is not connected yet
        sender.turn()
        receiver.turn()
    while not receiver.came:
        sender.turn()
        receiver.turn()
    return receiver.came.pop()


def told(said: PeerMessage | None) -> tuple[int, NamedTuple]:
    assert said is not None
    return said.sender, said.message


def test_a_message_arrives_whole_with_who_sent_it(tmp_path: Path, urls: dict[int, str], second: House) -> None:
    """The other's body too, which is not opened on the way."""
    first = House(str(tmp_path), 1, urls)
    entry = m.Entry(4, 3, m.EntryKind.BATCH, 1, bytes(range(256)) * 100)
    append = m.Message(m.MessageKind.APPEND, 2, 1, 3, 3, 3, 2, (entry,))
    try:
        assert told(heard_by(second, first, BEAT)) == (1, BEAT)
        assert told(heard_by(second, first, append)) == (1, append)
        assert not first.links.send(5, BEAT), "there is no such member"
    finally:
        first.close()


def test_an_append_to_several_is_told_each_of_them(tmp_path: Path) -> None:
    """The same, but for who it is for; until another one says something else."""
    urls = {member: f"tcp://127.0.0.1:{port}" for member, port in enumerate(free_ports(3), 1)}
    houses = {member: House(str(tmp_path), member, urls) for member in urls}
    try:
        for index in (3, 4):
            entry = m.Entry(index + 1, 3, m.EntryKind.BATCH, 1, b"body of %d" % index)
            for member in (2, 3):
                append = m.Message(m.MessageKind.APPEND, member, 1, 3, index, 3, 2, (entry,))
                assert told(heard_by(houses[member], houses[1], append)) == (1, append)
    finally:
        for house in houses.values():
            house.close()


def test_one_of_another_cluster_is_not_heard(tmp_path: Path, urls: dict[int, str], second: House) -> None:
    """Two clusters may be told each other's urls by mistake."""
    first = House(str(tmp_path), 1, urls, cluster=8)
    try:
        assert heard_by(second, first, BEAT) is None
    finally:
        first.close()


def test_what_is_no_peers_message_is_dropped(second: House) -> None:
    """Of two frames, too short, of another protocol, for somebody else, or not a message."""
    question = asking(m.Join(("tcp://a",)))
    assert said_in(question) == m.Join(("tcp://a",))
    assert told(second.links.receive(b"1", question)) == (0, m.Join(("tcp://a",)))
    header = question[: -len(encode(m.Join(("tcp://a",))))]
    wrong = [b"", header[:5], b"http" + header[4:], header, header + encode(BEAT), header[:-1] + b"\5" + encode(BEAT)]
    assert [second.links.receive(b"1", frame) for frame in wrong] == [None] * len(wrong)
    assert second.links.receive(b"1", None) is None, "it had two frames"
