"""JSON as Go reads it. What Go says was heard from etcd 3.5.1 (tests/conformance/test_json_like_etcd.py asks it)."""

from __future__ import annotations

import base64
import json
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zkv.gateway.pb import rpc_pb2 as pb
from zkv.gateway.pb.kv_pb2 import KeyValue
from zkv.gateway.web import go_json, protojson
from zkv.gateway.web.go_json import Documents, JsonFault

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON.filter(lambda value: value is None or isinstance(value, (dict, list))), st.data())
def test_documents_are_told_when_they_are_whole(value: object, data: st.DataObject) -> None:
    """Objects in a row, however they come in pieces: each once, in order, and nothing is left."""
    document = json.dumps(value).encode()
    text = b" ".join([document] * 3) + b"\n"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    documents, found = Documents(), []
    for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True):
        found += documents.feed(text[start:stop])
    assert [json.loads(each) for each in found] == [value] * 3
    assert documents.rest() == b""


def test_documents_hold_what_is_not_whole() -> None:
    """And give it when the body ends."""
    documents = Documents()
    assert documents.feed(b'{"a":"}\\') == []
    assert documents.feed(b'"}') == []
    assert documents.held == 10
    assert documents.rest() == b'{"a":"}\\"}'


@given(st.binary())
def test_base64_is_what_python_writes(data: bytes) -> None:
    """Line ends in it are passed over."""
    text = base64.b64encode(data).decode()
    assert go_json.base64(text) == data
    assert go_json.base64("\r\n".join(text)) == data


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_a_fault(data: bytes) -> None:
    """Nothing else comes of them, as JSON and as base64; and a fault is text that can be sent."""
    for read in (lambda: go_json.first(go_json.decode(data)), lambda: go_json.base64(go_json.decode(data))):
        try:
            read()
        except JsonFault as fault:
            fault.text.encode()


@given(st.text(alphabet='{}[]":,\\u0123456789.eE+-truefalsn \t', max_size=60))
def test_almost_json_is_a_value_or_a_fault(text: str) -> None:
    """As above, nearer to what people send."""
    for end in (go_json.EOF, go_json.END):
        try:
            go_json.first(text, end)
        except JsonFault as fault:
            fault.text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_what_is_nested_without_end_is_refused(opening: str) -> None:
    """In Go's words, and not by a crash of the recursion."""
    with pytest.raises(JsonFault, match="exceeded max depth"):
        go_json.first(opening * 100_000)


def test_a_fault_at_the_end_of_much_costs_little() -> None:
    """A body may be megabytes of brackets; where it fails is told in one pass over them, not in one for each."""
    text = "[" + "[]," * 500_000 + "x"
    with pytest.raises(JsonFault, match="invalid character 'x' looking for beginning of value"):
        go_json.first(text)
    with pytest.raises(JsonFault, match="invalid character 'x' after array element"):
        go_json.first("[" + "[]," * 500_000 + "[] x")


def test_a_message_is_written_whole_however_many_pieces_it_has() -> None:
    """The pieces of a large range, joined, are its JSON; none is much larger than the bound."""
    chance = Random(7)
    kvs = [
        KeyValue(key=b"k%d" % at, value=chance.randbytes(chance.randrange(99)), create_revision=at, mod_revision=at + 1,
                 version=at % 3, lease=at % 2)
        for at in range(5_000)
    ]  # fmt: skip
    answer = pb.RangeResponse(header=pb.ResponseHeader(revision=9), kvs=kvs, more=True, count=7_000)
    pieces = list(protojson.pieces(answer))
    assert len(pieces) > 3
    assert max(map(len, pieces)) < 2 * protojson.PIECE_BYTES
    again = pb.RangeResponse()
    found = go_json.first("".join(pieces))
    assert found is not None
    protojson.read(again, found[0])
    assert again == answer


def test_text_is_written_as_go_writes_it() -> None:
    """HTML's signs escaped, and what JavaScript takes for line ends."""
    assert protojson.quote('<a>&"\\\n\x01\u2028é') == '"\\u003ca\\u003e\\u0026\\"\\\\\\n\\u0001\\u2028é"'
