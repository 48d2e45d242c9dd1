"""Raft's messages read and written field by field are what the general way makes of them, or are left to it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkv.errors import CorruptionError
from zkv.wire import codec, raft_codec
from zkv.wire.messages import Entry, Message, MessageKind
from zkv.wire.raft_codec import HEAD, Pair

NATURALS = st.one_of(st.integers(0, 200), st.integers(0, (1 << 63) - 1))
IDS = st.one_of(st.integers(1, 200), st.integers(1, (1 << 64) - 1))
BODIES = st.one_of(st.binary(max_size=300), st.sampled_from([255, 256, 65_535, 65_536]).map(bytes))
ENTRIES = st.builds(Entry, NATURALS, NATURALS, st.sampled_from((0, 1)), NATURALS, BODIES)
MESSAGES = st.builds(
    Message,
    kind=st.integers(1, 12),
    to=IDS,
    sender=IDS,
    term=NATURALS,
    index=NATURALS,
    log_term=NATURALS,
    commit=NATURALS,
    entries=st.lists(ENTRIES, max_size=3).map(tuple),
    reject=st.booleans(),
    reject_hint=NATURALS,
    context=NATURALS,
)
APPEND = Message(MessageKind.APPEND, 2, 1, 3, 400, 3, 300, (Entry(401, 3, 0, 70_000, b"body"),), context=1)


def read(data: bytes, before: int = 0, to: int = 2, sender: int = 1) -> Message | None:
    return raft_codec.read(data, before, Pair(to, sender))


@given(MESSAGES, st.binary(max_size=30))
def test_a_message_is_written_and_read_as_the_general_way_does(message: Message, before: bytes) -> None:
    """Whatever stands before it."""
    to, sender = message.to, message.sender
    data = raft_codec.encoded(message, Pair(to, sender), before + HEAD)
    assert data == before + codec.encode(message)
    again = read(data, len(before), to, sender)
    assert again == message == codec.decode(data[len(before) :])
    assert type(again) is Message
    assert type(again.reject) is bool
    assert all(type(entry) is Entry for entry in again.entries)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 300])
def test_many_entries_are_written_as_well(count: int) -> None:
    """And read, if not here."""
    message = APPEND._replace(entries=APPEND.entries * count)
    data = raft_codec.encoded(message, Pair(2, 1), HEAD)
    assert data == codec.encode(message)
    assert read(data) == (message if count < 16 else None)


def test_what_may_be_below_0_is_written_as_well() -> None:
    message = APPEND._replace(reject_hint=-1, context=-(1 << 63))
    data = raft_codec.encoded(message, Pair(2, 1), HEAD)
    assert data == codec.encode(message)
    assert read(data) is None


def agrees(data: bytes) -> None:
    """What is read, the general way reads too."""
    message = read(data)
    if message is not None:
        general = codec.decode(data)
        assert general == message
        assert list(map(type, general)) == list(map(type, message))


@given(MESSAGES, st.data())
def test_a_damaged_message_is_read_as_the_general_way_does_or_not_at_all(message: Message, data: st.DataObject) -> None:
    """In one byte another, cut short, or longer."""
    packed = codec.encode(message._replace(to=2, sender=1))
    at = data.draw(st.integers(0, min(len(packed), 200) - 1))
    agrees(packed[:at] + bytes((data.draw(st.integers(0, 255)),)) + packed[at + 1 :])
    assert read(packed[:at]) is None
    assert read(packed + b"\0") is None


TREES: st.SearchStrategy[Any] = st.one_of(
    st.integers(0, 300), st.integers(-(1 << 63), (1 << 64) - 1), st.booleans(), st.none(), st.floats(),
    st.binary(max_size=5), st.text(max_size=5), st.lists(st.integers(0, 300), max_size=6).map(tuple),
    st.lists(ENTRIES, max_size=2).map(tuple),
)  # fmt: skip


@given(st.data())
def test_what_is_of_another_shape_is_read_as_the_general_way_does_or_not_at_all(data: st.DataObject) -> None:
    """One field, of the message or of its entry, is something else; or there are more fields, or fewer."""
    message, entry = list(APPEND), list(APPEND.entries[0])
    fields = data.draw(st.sampled_from([message, entry]))
    fields[data.draw(st.integers(0, len(fields) - 1))] = data.draw(TREES)
    fields[len(fields) - data.draw(st.integers(0, 1)) :] = data.draw(st.lists(TREES, max_size=1))
    if fields is entry:
        message[7] = (tuple(entry),)
    packed = codec.pack((codec.KIND_OF[Message], *message))
    try:
        general = codec.decode(packed)
    except CorruptionError:
        assert read(packed) is None
    else:
        assert read(packed) in (general, None)
    agrees(packed)


def test_a_core_speaks_for_itself() -> None:
    for to, sender in ((3, 1), (2, 3)):
        with pytest.raises(AssertionError):
            raft_codec.encoded(APPEND, Pair(to, sender), HEAD)


def test_one_between_others_is_left_to_the_general_way() -> None:
    packed = codec.encode(APPEND)
    assert read(packed) == APPEND
    assert read(packed, to=3) is None
    assert read(packed, sender=3) is None
    assert read(codec.encode(APPEND._replace(kind=200))) is None


@given(st.binary(max_size=60))
def test_any_bytes_behind_the_names_are_read_as_the_general_way_does_or_not_at_all(behind: bytes) -> None:
    agrees(HEAD + b"\x01" + Pair(2, 1).names + behind)
