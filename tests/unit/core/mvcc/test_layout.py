"""What lies in the engine is what it was when `struct` wrote it: stores and snapshots of before are read on."""

from __future__ import annotations

from struct import pack, unpack

import pytest

from zkv.core.mvcc import layout

KEYS = (b"", b"a", b"a\0", b"\0", b"\0\0b\xff", b"\xff" * 300)
NUMBERS = (0, 1, 2, 255, 1 << 31, (1 << 32) + 7, 1 << 62, (1 << 63) - 1)
SUBS = (0, 1, 65_536, (1 << 31) - 1)
LEASES = (0, 1, (1 << 62) + 5, (1 << 63) - 1, -1, -2, -(1 << 63))
U64, U32 = (1 << 64) - 1, (1 << 32) - 1


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("sub", SUBS)
def test_keys_of_events_and_history(number: int, sub: int) -> None:
    assert layout.event_key(number, sub) == pack(">cQI", b"E", number, sub)
    assert layout.event_of(layout.event_key(number, sub)) == (number, sub)
    for key in KEYS:
        start = b"h" + key.replace(b"\0", b"\0\xff") + b"\0\0"
        name = layout.history_key(key, number, sub)
        assert name == start + pack(">QI", number ^ U64, sub ^ U32)
        assert layout.history_of(name) == (key, number, sub)
        assert layout.history_before(key, number) == start + pack(">QI", number ^ U64, 0)
        assert layout.history_first(name) == start
        assert layout.history_after(name) == start[:-1] + b"\1"


@pytest.mark.parametrize("lease", LEASES)
@pytest.mark.parametrize("number", NUMBERS)
def test_records(lease: int, number: int) -> None:
    value = b"v" * 1000
    current = layout.packed_current(number, 3, create=5, version=7, lease=lease, value=value)
    assert current == pack(">QIQQq", number, 3, 5, 7, lease) + value
    assert layout.current_head(current) == unpack(">QIQQq", current[: layout.CURRENT_HEAD_BYTES])
    for key in KEYS:
        event = layout.packed_event(key, value, flags=1, create=number, version=5, lease=lease, before=(7, 3))
        assert event == pack(">BQQqQII", 1, number, 5, lease, 7, 3, len(key)) + key + value
        assert layout.event_head(event) == unpack(">BQQqQII", event[: layout.EVENT_HEAD_BYTES])
    until = layout.Lease(number, number, lease)
    assert layout.lease_record(until) == pack(">QQq", *until)
    assert layout.lease_as_kept(layout.lease_record(until)) == until


@pytest.mark.parametrize("lease", LEASES)
def test_leases_sort_as_numbers_without_a_sign(lease: int) -> None:
    assert layout.lease_key(lease) == pack(">cQ", b"l", lease & U64)
    assert layout.lease_of(layout.lease_key(lease)) == lease
    assert layout.attached_key(lease, b"key") == pack(">cQ", b"a", lease & U64) + b"key"
    start, end = layout.attached_range(lease)
    assert start == pack(">cQ", b"a", lease & U64)
    assert end == (b"b" if lease == -1 else pack(">cQ", b"a", (lease & U64) + 1))


@pytest.mark.parametrize("member", [1, (1 << 63) - 1, 1 << 63, U64])
def test_members_have_no_sign(member: int) -> None:
    assert layout.member_key(member) == pack(">cQ", b"m", member)
    assert layout.removed_member_key(member) == pack(">cQ", b"d", member)
    assert layout.alarm_key(member, 2) == pack(">cQB", b"n", member, 2)
    assert layout.alarm_of(layout.alarm_key(member, 2)) == (member, 2)


def test_a_record_cut_short_is_not_read() -> None:
    with pytest.raises(IndexError):
        layout.current_head(bytes(layout.CURRENT_HEAD_BYTES - 1))
    with pytest.raises(IndexError):
        layout.event_head(bytes(layout.EVENT_HEAD_BYTES - 1))
