"""ZMTP as the processes of a node speak it: any cut of the bytes gives the same, and what is none is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkv import zmtp


def wire(messages: list[bytes]) -> bytes:
    return zmtp.hello(b"PUSH") + b"".join(zmtp.head(len(message)) + message for message in messages)


@given(
    st.lists(st.one_of(st.binary(max_size=40), st.integers(200, 70_000).map(bytes)), max_size=8),
    st.lists(st.integers(1, 50_000), max_size=40),
)
def test_messages_come_whole_however_the_bytes_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    data, reader, found = wire(messages), zmtp.Reader(b"PUSH"), []
    at = 0
    for size in [*cuts, len(data)]:
        found += [bytes(message) for message in reader.feed(memoryview(data[at : at + size]))]
        at += size
    assert reader.ready
    assert found == messages


def test_a_heartbeat_is_passed_over() -> None:
    reader = zmtp.Reader(b"PUSH")
    ping = b"\x04\x07\x04PING\0\0"
    assert [bytes(each) for each in reader.feed(memoryview(wire([]) + ping + b"\0\1x"))] == [b"x"]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\n" + bytes(64), id="HTTP"),
        pytest.param(zmtp.hello(b"PUSH").replace(b"NULL", b"PLAIN"), id="another mechanism"),
        pytest.param(zmtp.hello(b"PUSH").replace(b"\x7f\x03", b"\x7f\x01"), id="ZMTP 1"),
        pytest.param(zmtp.hello(b"PULL"), id="another kind of socket"),
        pytest.param(zmtp.hello(b"PUSH")[:64] + b"\0\1x", id="a message before READY"),
        pytest.param(zmtp.hello(b"PUSH") + b"\1\1x", id="a message of several parts"),
        pytest.param(zmtp.hello(b"PUSH") + b"\2" + b"\xff" * 8, id="a message without end"),
    ],
)
def test_what_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(zmtp.NotZmtp):
        zmtp.Reader(b"PUSH").feed(memoryview(data))
