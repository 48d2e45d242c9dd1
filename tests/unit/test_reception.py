"""What strangers say where CURVE keys are introduced, and what of it is heard."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.certificates import NOW_MS, leaf, root
from zkv import reception
from zkv.errors import BadIntroduction
from zkv.introducing import BUSY, HELLO, LENGTH, Verdict, Who, check_offer, claim, framed, parse_offer, parse_verdict
from zkv.introduction import INTRODUCTION_BYTES_MAX
from zkv.reception import Host, Reception
from zkv.transport_security import TransportSecurity
from zkv.trust import Purpose, Trust
from zkv.wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.introduction import Introduced

CA = root()
KEY = bytes(range(32))


class Papers:
    """As `zkv.papers.Papers`, from no file."""

    def __init__(self, name: str) -> None:
        self.security = TransportSecurity("c", "k", "ca")
        self.credentials = leaf(CA, name)
        self.trust = Trust(CA.chain)
        self.version = 1


class Wire:
    """The other end of a conversation."""

    def __init__(self, address: str) -> None:
        self.said = bytearray()
        self.over = False
        self._address = address

    def get_extra_info(self, name: str) -> Any:
        return (self._address, 1) if name == "peername" else None

    def write(self, data: bytes) -> None:
        assert not self.over
        self.said += data

    def close(self) -> None:
        self.over = True

    abort = close


class House:
    """A reception whose socket admits whom it is told to at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.admitted: list[bytes] = []
        self.dismissed: list[bytes] = []
        self.reception = Reception(loop, lambda _host, key: self.dismissed.append(key), lambda: NOW_MS)
        self.papers = Papers("server")
        papers: Any = self.papers
        self.host = Host(Purpose.SERVER, Purpose.CLIENT, papers, self._admit, cluster="cafe")
        self.host.curve_key = KEY

    def _admit(self, introduced: Introduced, address: str, lasts_ms: int, told: Callable[[bool], None]) -> None:
        assert address
        assert lasts_ms > 0
        self.admitted.append(introduced.curve_key)
        told(True)

    def comes(self, address: str = "1.2.3.4") -> tuple[Any, Wire]:
        wire = Wire(address)
        conversation = reception._Conversation(self.reception, self.host)
        conversation.connection_made(wire)  # type: ignore[arg-type]
        return conversation, wire

    def greeted(self, address: str = "1.2.3.4") -> tuple[Any, Wire]:
        conversation, wire = self.comes(address)
        conversation.data_received(HELLO)
        return conversation, wire


def good_claim(said: bytearray, number: int) -> bytes:
    papers: Any = Papers("client")
    offer = parse_offer(bytes(said[LENGTH.size :]))
    who = Who(Purpose.CLIENT, Purpose.SERVER, number.to_bytes(32, "big"))
    found = check_offer(offer, who, papers, "127.0.0.1", NOW_MS)
    return claim(offer, found, who, papers, NOW_MS)


async def quiet() -> None:
    """Until all that was to be judged is."""
    for _ in range(50):
        await asyncio.sleep(0)


def test_a_good_claim_is_admitted_once_and_told_so() -> None:
    async def play() -> None:
        house = House(asyncio.get_running_loop())
        conversation, wire = house.greeted()
        made = good_claim(wire.said, 7)
        wire.said.clear()
        conversation.data_received(framed(made)[:100])
        assert not wire.said
        conversation.data_received(framed(made)[100:])
        await quiet()
        assert parse_verdict(bytes(wire.said[LENGTH.size :])) == Verdict(reception.ADMITTED_MS)
        assert house.admitted == [(7).to_bytes(32, "big")]
        assert wire.over
        conversation.connection_lost(None)
        again, other = house.greeted()
        other.said.clear()
        again.data_received(framed(made))
        await quiet()
        assert "another challenge" in parse_verdict(bytes(other.said[LENGTH.size :])).reason
        assert len(house.admitted) == 1

    asyncio.run(play())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=8), st.booleans(), st.booleans())
def test_any_bytes_are_hung_up_on_or_waited_for(parts: list[bytes], greets: bool, announces: bool) -> None:
    """However they are cut: nothing is raised, nobody is admitted, and no more is kept than a claim may have."""

    async def play() -> None:
        house = House(asyncio.get_running_loop())
        conversation, wire = house.greeted() if greets else house.comes()
        if greets and announces:
            conversation.data_received(LENGTH.pack(sum(map(len, parts))))
        for part in parts:
            if wire.over:
                break
            conversation.data_received(part)
            assert len(conversation._heard) <= LENGTH.size + INTRODUCTION_BYTES_MAX
        await quiet()
        assert not house.admitted
        assert not conversation._waits or wire.over, "what was claimed has been judged"

    asyncio.run(play())


@pytest.mark.parametrize("length", [INTRODUCTION_BYTES_MAX + 1, 1 << 31, (1 << 32) - 1])
def test_too_long_a_claim_is_not_waited_for(length: int) -> None:
    """Its length is enough."""

    async def play() -> None:
        house = House(asyncio.get_running_loop())
        conversation, wire = house.greeted()
        conversation.data_received(LENGTH.pack(length))
        assert wire.over

    asyncio.run(play())


def test_the_oldest_gives_way_and_those_who_claim_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many come and say nothing, the next one is heard."""
    monkeypatch.setattr(reception, "CONVERSATIONS_MAX", 20)

    async def play() -> None:
        house = House(asyncio.get_running_loop())
        first, heard = house.greeted("9.9.9.9")
        first.data_received(framed(good_claim(heard.said, 1)))
        silent = [house.comes()[1] for _ in range(60)]
        assert [wire.over for wire in silent] == [True] * 40 + [False] * 20
        last, wire = house.greeted("8.8.8.8")
        last.data_received(framed(good_claim(wire.said, 2)))
        await quiet()
        assert sorted(house.admitted) == [number.to_bytes(32, "big") for number in (1, 2)]

    asyncio.run(play())


def test_who_claims_much_waits_for_himself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims are judged in turns by address: a hundred of one hold up another's for no longer than one of them."""
    order: list[str] = []
    judge = Reception._judge

    def noted(self: Reception, talk: Any) -> None:
        order.append(talk.address)
        judge(self, talk)

    monkeypatch.setattr(Reception, "_judge", noted)

    async def play() -> None:
        house = House(asyncio.get_running_loop())
        for _ in range(100):
            talk, _ = house.greeted("6.6.6.6")
            talk.data_received(framed(b"garbage"))
        honest, wire = house.greeted("7.7.7.7")
        honest.data_received(framed(good_claim(wire.said, 3)))
        await quiet()
        assert order.index("7.7.7.7") <= 2
        assert house.admitted == [(3).to_bytes(32, "big")]

    asyncio.run(play())


def test_more_than_can_wait_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "WAITING_OF_ONE_MAX", 5)

    async def play() -> None:
        house = House(asyncio.get_running_loop())
        wires = []
        for _ in range(8):
            talk, wire = house.greeted()
            wire.said.clear()
            talk.data_received(framed(b"garbage"))
            wires.append(wire)
        told = [parse_verdict(bytes(wire.said[LENGTH.size :])).reason for wire in wires if wire.said]
        assert told == [BUSY] * 3

    asyncio.run(play())


def test_who_is_admitted_is_judged_again_when_files_change() -> None:
    """By another bundle he is dismissed; by one that has his CA too he stays."""

    async def play() -> None:
        house = House(asyncio.get_running_loop())
        talk, wire = house.greeted()
        talk.data_received(framed(good_claim(wire.said, 5)))
        await quiet()
        other = root("another")
        for trust, dismissed in (
            (Trust([*other.chain, *CA.chain]), []),
            (Trust(other.chain), [(5).to_bytes(32, "big")]),
        ):
            house.papers.trust = trust
            house.papers.version += 1
            house.reception.papers_changed()
            house.reception.tick(NOW_MS)
            house.reception.tick(NOW_MS)
            assert house.dismissed == dismissed
        assert house.reception.admitted == 0

    asyncio.run(play())


@given(st.binary(max_size=200))
def test_any_answer_of_a_host_is_an_offer_or_refused(data: bytes) -> None:
    """And so with verdicts: callers parse bytes of strangers too."""
    for parse in (parse_offer, parse_verdict):
        try:
            parse(data)
        except BadIntroduction:
            continue


def test_what_a_host_says_of_refusals_is_shown_in_one_line() -> None:
    """Without what could move a terminal's cursor, and no longer than a line."""
    reason = parse_verdict(codec.pack((0, "no\x1b[2J\n" + "x" * 1000))).reason
    assert reason.startswith("no[2Jxx")
    assert len(reason) == 200
