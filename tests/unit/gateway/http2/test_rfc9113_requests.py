"""RFC 9113, section 8: what a request may be. Names cite the section."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness import http2_wire as wire
from tests.harness.http2_wire import Wire
from zkv.gateway.http2 import words
from zkv.gateway.http2.requests import check_trailers, parse_request
from zkv.gateway.http2.words import ErrorCode, StreamFault

if TYPE_CHECKING:
    from zkv.gateway.http2.header_blocks import Fields

GET = wire.GET


def without(name: bytes) -> Fields:
    return tuple(field for field in GET if field[0] != name)


def changed(name: bytes, value: bytes) -> Fields:
    return tuple((n, value if n == name else v) for n, v in GET)


def test_8_3_1_a_request_is_taken_apart() -> None:
    """Its pseudo-header fields, and the others in order."""
    request = parse_request((*GET, (b"content-length", b"12"), (b"a", b"1"), (b"a", b"2"), (b"te", b"trailers")))
    assert (request.method, request.scheme, request.path, request.authority) == (b"GET", b"http", b"/", b"a")
    assert request.fields == ((b"content-length", b"12"), (b"a", b"1"), (b"a", b"2"), (b"te", b"trailers"))
    assert request.content_length == 12


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param((*without(b":authority"), (b"host", b"a")), id="8.3.1 host in place of :authority"),
        pytest.param((*GET, (b"host", b"A")), id="8.3.1 host that is :authority"),
        pytest.param(((b":method", b"OPTIONS"), *changed(b":path", b"*")[1:]), id="8.3.1 OPTIONS *"),
        pytest.param(((b":method", b"CONNECT"), (b":authority", b"a:1")), id="8.5 CONNECT"),
        pytest.param((*GET, (b"x", b"")), id="8.2.1 an empty value"),
        pytest.param((*GET, (b"x", b"a b\tc \xff")), id="8.2.1 space within, and bytes beyond ASCII"),
        pytest.param((*GET, (b"content-length", b"0"), (b"content-length", b"0")), id="8.1.1 the same length twice"),
        pytest.param(changed(b":authority", b"[::1]:2379"), id="8.3.1 an IPv6 authority"),
        pytest.param(changed(b":path", b"/a?b=c&d=%2F"), id="8.3.1 a query"),
        pytest.param(
            (*without(b":authority")[:1], (b":scheme", b"x"), (b":path", b"/")), id="8.3.1 no authority needed"
        ),
    ],
)
def test_a_request_that_is_well_formed(fields: Fields) -> None:
    """It comes through."""
    parse_request(fields)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param((), id="8.3.1 nothing"),
        pytest.param(without(b":method"), id="8.3.1 no :method"),
        pytest.param(without(b":scheme"), id="8.3.1 no :scheme"),
        pytest.param(without(b":path"), id="8.3.1 no :path"),
        pytest.param(without(b":authority"), id="8.3.1 no authority"),
        pytest.param(changed(b":path", b""), id="8.3.1 an empty :path"),
        pytest.param(changed(b":path", b"a"), id="8.3.1 :path without its slash"),
        pytest.param(changed(b":path", b"*"), id="8.3.1 * of a GET"),
        pytest.param(changed(b":path", b"/a b"), id="8.3.1 space in :path"),
        pytest.param(changed(b":path", b"/a#b"), id="8.3.1 a fragment in :path"),
        pytest.param(changed(b":method", b""), id="8.3.1 an empty :method"),
        pytest.param(changed(b":method", b"G T"), id="8.3.1 a :method that is no token"),
        pytest.param(changed(b":scheme", b"1"), id="8.3.1 a :scheme that is none"),
        pytest.param(changed(b":authority", b"user@a"), id="8.3.1 userinfo"),
        pytest.param((*GET, (b"host", b"b")), id="8.3.1 host is not :authority"),
        pytest.param((*without(b":authority"), (b"host", b"a"), (b"host", b"b")), id="8.3.1 two hosts"),
        *(pytest.param((*GET, field), id=f"8.3 {field[0].decode()} twice") for field in GET),
        pytest.param((*GET, (b":status", b"200")), id="8.3 a response's"),
        pytest.param((*GET, (b":protocol", b"x")), id="8.3 an unknown one"),
        pytest.param(((b"a", b"b"), *GET), id="8.3 a pseudo-header field after another"),
        pytest.param((*GET[:2], (b"a", b"b"), *GET[2:]), id="8.3 a field between them"),
        pytest.param(((b":method", b"CONNECT"), *GET[1:]), id="8.5 CONNECT with a path"),
        pytest.param(((b":method", b"CONNECT"),), id="8.5 CONNECT without authority"),
        *(
            pytest.param((*GET, (name, b"x")), id=f"8.2.2 {name.decode()}")
            for name in (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade", b"te")
        ),
        *(
            pytest.param((*GET, (name, b"x")), id=f"8.2.1 the name {name!r}")
            for name in (b"", b"A", b"a b", b"a:b", b"a\n", b"\n", b"a\nb", b"\xe4", b"a\0", b"::a", b":")
        ),
        *(
            pytest.param((*GET, (b"x", value)), id=f"8.2.1 the value {value!r}")
            for value in (b"a\0", b"a\rb", b"a\nb", b"\n", b" a", b"a ", b"\ta", b"a\t", b" ")
        ),
        *(
            pytest.param((*GET, (b"content-length", value)), id=f"8.1.1 content-length {value!r}")
            for value in (b"", b"-1", b"+1", b"1x", b"0x1", b"1" * 19, "\u0661".encode())
        ),
        pytest.param((*GET, (b"content-length", b"1"), (b"content-length", b"2")), id="8.1.1 two lengths"),
    ],
)
def test_a_request_that_is_malformed(fields: Fields) -> None:
    """Its stream is reset, and nobody above hears of it; neither does anybody when it comes again (8.1.1)."""
    with pytest.raises(StreamFault):
        parse_request(fields)
    server = Wire()
    assert wire.reset_codes(server.send(wire.headers(1, fields))) == {1: ErrorCode.PROTOCOL_ERROR}
    assert wire.reset_codes(server.send(wire.headers(3, fields))) == {3: ErrorCode.PROTOCOL_ERROR}
    assert server.told == []
    server.send(wire.headers(5))
    assert server.told[-1][:2] == ("request", 5)


def test_8_1_trailers_end_a_request() -> None:
    """They are told as such, and with END_STREAM."""
    server = Wire()
    server.send(wire.open_headers(1), wire.data(1, b"x"), wire.headers(1, ((b"checksum", b"1"),)))
    assert server.told[-1] == ("trailers", 1, ((b"checksum", b"1"),))


@pytest.mark.parametrize("field", [(b":path", b"/"), (b"A", b"b"), (b"connection", b"close"), (b"a", b"b\n")])
def test_8_1_trailers_may_be_malformed_too(field: tuple[bytes, bytes]) -> None:
    """By the same rules, and no pseudo-header field is among them."""
    with pytest.raises(StreamFault):
        check_trailers((field,))
    server = Wire()
    assert wire.reset_codes(server.send(wire.open_headers(1), wire.headers(1, (field,)))) == {1: 1}
    assert [told[0] for told in server.told] == ["request", "reset"]


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param([wire.data(1, b"ab", end=True)], id="less"),
        pytest.param([wire.data(1, b"abcd")], id="more"),
        pytest.param([wire.data(1, b"ab"), wire.headers(1, ((b"a", b"b"),))], id="less before trailers"),
        pytest.param([wire.data(1, b"abc"), wire.data(1, b"d", end=True)], id="more at the end"),
    ],
)
def test_8_1_1_data_must_be_as_long_as_content_length_says(frames: list[bytes]) -> None:
    """Neither more nor less; padding does not count."""
    server = Wire()
    head = wire.open_headers(1, (*wire.POST, (b"content-length", b"3")))
    assert wire.reset_codes(server.send(head, *frames)) == {1: ErrorCode.PROTOCOL_ERROR}
    good = Wire()
    padded = words.frame(words.DATA, words.PADDED | words.END_STREAM, 1, b"\x02abc\0\0")
    assert wire.reset_codes(good.send(head, padded)) == {}


def test_8_1_1_a_request_without_a_body_may_not_announce_one() -> None:
    """END_STREAM on HEADERS, and content-length above 0."""
    server = Wire()
    assert wire.reset_codes(server.send(wire.headers(1, (*GET, (b"content-length", b"1"))))) == {1: 1}
    assert wire.reset_codes(server.send(wire.headers(3, (*GET, (b"content-length", b"0"))))) == {}
