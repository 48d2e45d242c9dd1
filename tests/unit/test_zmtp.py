"""ZMTP as zkv speaks it: any cut of the bytes gives the same, and what is none is refused.

Mail is what a node's processes tell each other, an End what the outside meets; that libzmq takes an End for its like
is shown in test_zmtp_with_libzmq.py.
"""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkv import curve, zmtp
from zkv.curve_keys import new_keys


def wire(messages: list[bytes]) -> bytes:
    return zmtp.hello(b"PUSH") + b"".join(zmtp.head(len(message)) + message for message in messages)


@given(
    st.lists(st.one_of(st.binary(max_size=40), st.integers(200, 70_000).map(bytes)), max_size=8),
    st.lists(st.integers(1, 50_000), max_size=40),
)
def test_messages_come_whole_however_the_bytes_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    data, mail, found = wire(messages), zmtp.Mail(b"PUSH"), []
    at = 0
    for size in [*cuts, len(data)]:
        found += mail.feed(data[at : at + size])
        at += size
    assert mail.ready
    assert found == messages


def test_a_large_message_is_held_twice_at_most() -> None:
    size, piece = 8 << 20, 1 << 16
    data, mail = wire([bytes(size)]), zmtp.Mail(b"PUSH")
    tracemalloc.start()
    try:
        found = [len(message) for at in range(0, len(data), piece) for message in mail.feed(data[at : at + piece])]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == [size]
    assert peak < 2.5 * size


def test_a_heartbeat_is_passed_over() -> None:
    mail = zmtp.Mail(b"PUSH")
    ping = b"\x04\x07\x04PING\0\0"
    assert mail.feed(wire([]) + ping + b"\0\1x") == [b"x"]


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
        zmtp.Mail(b"PUSH").feed(data)


# --- an End ---------------------------------------------------------------------------------------

BYTES_MAX = 100_000
SERVER, CLIENT, OTHER = new_keys(), new_keys(), new_keys()
SECURITIES = ["plain", "CURVE"]


def securities(security: str) -> tuple[curve.Server | None, curve.Client | None]:
    if security == "plain":
        return None, None
    return curve.Server(SERVER, frozenset({CLIENT.public})), curve.Client(CLIENT, SERVER.public)


def ends(security: str) -> tuple[zmtp.End, zmtp.End]:
    of_server, of_client = securities(security)
    return zmtp.End(b"ROUTER", of_server, BYTES_MAX), zmtp.End(b"DEALER", of_client, BYTES_MAX)


def shake(server: zmtp.End, client: zmtp.End) -> None:
    """Until neither has anything to say."""
    told = [client.answer(), server.answer()]
    while any(told):
        server.feed(told[0])
        client.feed(told[1])
        told = [client.answer(), server.answer()]
    assert server.ready
    assert client.ready


@pytest.mark.parametrize("security", SECURITIES)
@given(
    messages=st.lists(st.one_of(st.binary(max_size=40), st.integers(200, BYTES_MAX).map(bytes)), max_size=8),
    cuts=st.lists(st.integers(1, 50_000), max_size=40),
)
def test_both_ends_hear_what_the_other_says(security: str, messages: list[bytes], cuts: list[int]) -> None:
    server, client = ends(security)
    shake(server, client)
    for speaker, listener in ((client, server), (server, client)):
        data, found, at = b"".join(map(speaker.message, messages)), [], 0
        for size in [*cuts, max(len(data), 1)]:
            found += listener.feed(data[at : at + size])
            at += size
        assert found == messages


@pytest.mark.parametrize("security", SECURITIES)
def test_a_handshake_may_come_byte_by_byte(security: str) -> None:
    server, client = ends(security)
    for _ in range(4):
        for speaker, listener in ((client, server), (server, client)):
            for byte in speaker.answer():
                listener.feed(bytes((byte,)))
    assert server.ready
    assert client.ready


@pytest.mark.parametrize("security", SECURITIES)
def test_many_pings_have_one_answer(security: str) -> None:
    server, client = ends(security)
    shake(server, client)
    assert server.feed(b"".join(client.ping() for _ in range(1000))) == []
    answer = server.answer()
    assert 0 < len(answer) < 100
    assert client.feed(answer) == []
    assert client.answer() == b""


@pytest.mark.parametrize("security", SECURITIES)
def test_a_message_of_several_frames_is_passed_over(security: str) -> None:
    server, client = ends(security)
    shake(server, client)
    channel = client._channel

    def frame(payload: bytes, *, more: bool) -> bytes:
        if channel is None:
            return bytes((more, len(payload))) + payload
        sealed = channel.seal(more, payload)
        return zmtp.head(len(sealed)) + sealed

    parts = [frame(b"part", more=True) for _ in range(5)]
    assert server.feed(b"".join([*parts, frame(b"last", more=False), client.message(b"whole")])) == [None, b"whole"]


@pytest.mark.parametrize("security", SECURITIES)
def test_who_says_too_much_is_cut_off(security: str) -> None:
    server, client = ends(security)
    early = bytes((2,)) + (zmtp.COMMAND_BYTES_MAX + 1).to_bytes(8, "big")
    with pytest.raises(zmtp.NotZmtp, match="a frame of 4097 bytes"):
        server.feed(client.answer() + early)
    server, client = ends(security)
    shake(server, client)
    assert server.feed(client.message(bytes(BYTES_MAX))) == [bytes(BYTES_MAX)]
    with pytest.raises(zmtp.NotZmtp, match="a frame of"):
        server.feed(client.message(bytes(BYTES_MAX + 1))[:9])
    for size in (1 << 63, (1 << 64) - 1):
        server, client = ends(security)
        shake(server, client)
        with pytest.raises(zmtp.NotZmtp, match=f"a frame of {size} bytes"):
            server.feed(b"\2" + size.to_bytes(8, "big"))


@pytest.mark.parametrize("flags", range(256))
def test_flags_are_of_a_message_or_of_a_command(flags: int) -> None:
    """And a command is one frame."""
    server, client = ends("plain")
    shake(server, client)
    frame = bytes((flags,)) + ((1).to_bytes(8, "big") if flags & 2 else b"\1") + b"x"
    if flags in {0, 1, 2, 3, 4, 6}:
        assert server.feed(frame) == ([b"x"] if flags in {0, 2} else [])
    else:
        with pytest.raises(zmtp.NotZmtp, match="flags that there are not"):
            server.feed(frame)


@pytest.mark.parametrize("security", SECURITIES)
def test_ends_of_one_kind_do_not_speak(security: str) -> None:
    of_server, of_client = securities(security)
    server, client = zmtp.End(b"PULL", of_server, BYTES_MAX), zmtp.End(b"DEALER", of_client, BYTES_MAX)
    with pytest.raises(zmtp.NotZmtp, match="another kind of socket"):
        shake(server, client)


def test_plain_and_curve_do_not_speak() -> None:
    for server, client in ((ends("plain")[0], ends("CURVE")[1]), (ends("CURVE")[0], ends("plain")[1])):
        with pytest.raises(zmtp.NotZmtp, match="other security"):
            server.feed(client.answer())


# --- CURVE ----------------------------------------------------------------------------------------


def test_a_server_learns_by_which_key_a_client_comes() -> None:
    server, client = ends("CURVE")
    shake(server, client)
    assert server.key == CLIENT.public
    assert client.key == b""


def test_a_stranger_is_told_that_he_is_one() -> None:
    server = zmtp.End(b"ROUTER", curve.Server(SERVER, frozenset({CLIENT.public})), BYTES_MAX)
    client = zmtp.End(b"DEALER", curve.Client(OTHER, SERVER.public), BYTES_MAX)
    with pytest.raises(zmtp.NotZmtp, match="nobody is let in"):
        shake(server, client)
    assert not server.ready
    with pytest.raises(zmtp.NotZmtp, match="refused: 400"):
        client.feed(server.answer())


def test_without_an_allow_list_any_key_will_do() -> None:
    server = zmtp.End(b"ROUTER", curve.Server(SERVER), BYTES_MAX)
    shake(server, zmtp.End(b"DEALER", curve.Client(OTHER, SERVER.public), BYTES_MAX))
    assert server.key == OTHER.public


def test_a_server_with_another_key_is_no_good_to_a_client() -> None:
    client = zmtp.End(b"DEALER", curve.Client(CLIENT, OTHER.public), BYTES_MAX)
    with pytest.raises(zmtp.NotZmtp, match="sealed by another key"):
        shake(zmtp.End(b"ROUTER", curve.Server(SERVER), BYTES_MAX), client)


def test_nobody_comes_by_a_key_whose_secret_he_has_not() -> None:
    thief = type(CLIENT)(CLIENT.public, OTHER.secret)
    server = zmtp.End(b"ROUTER", curve.Server(SERVER), BYTES_MAX)
    with pytest.raises(zmtp.NotZmtp, match="sealed by another key"):
        shake(server, zmtp.End(b"DEALER", curve.Client(thief, SERVER.public), BYTES_MAX))
    assert server.key == b""


def test_what_was_recorded_cannot_be_said_again() -> None:
    server, client = ends("CURVE")
    shake(server, client)
    message = client.message(b"once")
    assert server.feed(message) == [b"once"]
    with pytest.raises(zmtp.NotZmtp, match="came before"):
        server.feed(message)
    recorded = client.message(b"later")
    server, client = ends("CURVE")
    shake(server, client)
    with pytest.raises(zmtp.NotZmtp, match="sealed by another key"):
        server.feed(recorded)


def test_a_recorded_handshake_opens_no_other_connection() -> None:
    server, client = ends("CURVE")
    server.answer()
    hello = client.answer()
    server.feed(hello)
    client.feed(zmtp._greeting(b"CURVE", is_server=True))
    greeting = client.answer()
    server.feed(greeting)
    client.feed(server.answer())
    initiate = client.answer()
    other = zmtp.End(b"ROUTER", curve.Server(SERVER), BYTES_MAX)
    other.feed(hello + greeting)
    with pytest.raises(zmtp.NotZmtp, match="another connection's cookie"):
        other.feed(initiate)
    server.feed(initiate)
    assert server.ready


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7), step=st.integers(0, 2))
def test_one_bit_changed_on_the_way_ends_it(at: int, bit: int, step: int) -> None:
    """Whichever: nothing that was changed is ever taken for what was said."""
    server, client = ends("CURVE")
    client.feed(server.answer())
    opening = client.answer()  # greeting and HELLO
    if step == 0:
        data = opening[64:]
        server.feed(opening[:64])
    else:
        server.feed(opening)
        client.feed(server.answer())
        data = client.answer()  # INITIATE
        if step == 2:
            server.feed(data)
            client.feed(server.answer())
            data = client.message(b"put")
    changed = bytearray(data)
    changed[at % len(changed)] ^= 1 << bit
    try:
        heard = server.feed(bytes(changed))
    except zmtp.NotZmtp:
        return
    assert heard == []  # the length was changed, so that more is waited for; or what was is not looked at by anybody
    if step < 2:
        assert not server.ready


def test_a_key_that_shares_the_same_with_everybody_is_refused() -> None:
    server = zmtp.End(b"ROUTER", curve.Server(SERVER), BYTES_MAX)
    hello = bytearray(b"\x05HELLO\x01\x00" + bytes(200 - 8))
    with pytest.raises(zmtp.NotZmtp, match="a key that is none"):
        server.feed(zmtp._greeting(b"CURVE") + b"\x04\xc8" + bytes(hello))


@given(data=st.binary(max_size=600))
def test_a_handshake_of_anything_is_refused_or_waited_for(data: bytes) -> None:
    for start in (b"\x05HELLO\x01\x00", b"\x08INITIATE", b"\x05READY", b"\x05ERROR", b""):
        server, _ = ends("CURVE")
        body = start + data
        sized = b"\x06" + len(body).to_bytes(8, "big") + body
        with pytest.raises(zmtp.NotZmtp):
            server.feed(zmtp._greeting(b"CURVE") + sized)
        _, client = ends("CURVE")
        with pytest.raises(zmtp.NotZmtp):
            client.feed(zmtp._greeting(b"CURVE", is_server=True) + sized)
