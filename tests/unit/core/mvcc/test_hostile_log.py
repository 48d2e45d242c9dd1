"""What no door lets through, and what a log could hold all the same: it must bring down nobody, and part no members."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import hostile
from tests.harness.kv_log import Feeder, entry, everything, group, machine
from zkv import errors
from zkv.core.mvcc.layout import FORMER_EVENT
from zkv.core.mvcc.users import Users
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.core.mvcc.machine import StateMachine

ENTRIES = 60


def hostile_group(chance: Random) -> bytes:
    requests = []
    for request in range(1, chance.choice((1, 1, 2, 4)) + 1):
        asked: Any = hostile.request(chance) if chance.random() < 0.5 else hostile.rare(chance)
        for _ in range(chance.choice((0, 1, 1, 2))):
            asked = hostile.changed(chance, asked)
        requests.append((request, *asked))
    head: tuple[Any, ...] = (m.PROTOCOL_VERSION, 1, chance.choice((b"", bytes(16))), 1, tuple(requests))
    if chance.random() < 0.5:
        head = (*head, chance.choice((m.HOUSE, ("root", 1), ("u", 1), ("root", 99), None)))
    return hostile.packed(hostile.changed(chance, head) if chance.random() < 0.1 else head)


@pytest.mark.parametrize("seed", range(100))
def test_members_outlive_whatever_the_log_holds_and_hold_the_same(seed: int) -> None:
    """One entry after the other at one member, several at once at another: each request is applied whole, or not."""
    chance = Random(seed)
    entries = [entry(index, hostile_group(chance), time=index) for index in range(1, ENTRIES + 1)]
    if seed % 2:
        ask = (m.UserAdd("root"), m.RoleAdd("root"), m.UserGrantRole("root", "root"), m.AuthEnable())
        entries[0] = entry(1, group(*ask))
    one, other = machine(member=1), machine(member=2)
    for each in entries:
        one.apply([each], 1)
    for at in range(0, ENTRIES, 7):
        other.apply(entries[at : at + 7], 1)
    assert held(one) == held(other)
    assert held(machine(one.engine)) == held(one)  # nor is there anything it could not be opened with again
    one.apply([entry(ENTRIES + 1, group(m.Put(b"well", b"and alive"), caller=m.HOUSE))], 1)
    assert one.applied == ENTRIES + 1


def test_no_value_in_no_field_brings_a_member_down() -> None:
    """Each operation, each field, by itself and in a txn: what is of another type is refused, and nothing is worse."""
    one = Feeder()
    for op, fields in [(op, fields) for op, all_fields in hostile.one_of_each().items() for fields in all_fields]:
        for at, good in enumerate(fields):
            for value in hostile.HOSTILE_VALUES:
                bad = (*fields[:at], value, *fields[at + 1 :])
                for asked in ((op, bad), (int(m.Op.TXN), ((), ((op, bad),), ()))):
                    payload = hostile.packed((m.PROTOCOL_VERSION, 1, b"", 0, ((1, *asked),)))
                    ((_, answer),) = one.tell(payload)
                    assert type(value) is type(good) or type(answer) is errors.InvalidRequest, (asked, answer)


def held(of: StateMachine) -> list[tuple[bytes, bytes]]:
    return list(everything(of.engine))


@pytest.mark.patches
@pytest.mark.parametrize("slip", [AttributeError, TypeError, ValueError, LookupError, OverflowError])
def test_a_slip_of_ours_is_no_fault_of_the_request(slip: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """A member ends rather than answer "invalid request" for what its own code did wrong."""

    def slips(*_: object) -> None:
        raise slip

    monkeypatch.setattr(Users, "_role_add", slips)
    with pytest.raises(slip):
        Feeder().ask(m.RoleAdd("r"))


def test_a_store_whose_events_lie_where_they_once_did_is_refused() -> None:
    """Opened, it would answer without its past."""
    one = machine()
    one.apply([entry(1, group(m.Put(b"k", b"v")))], 1)
    one.engine.write([(FORMER_EVENT + bytes(12), b"")], ())
    with pytest.raises(errors.CorruptionError, match="before its first release"):
        machine(one.engine)
