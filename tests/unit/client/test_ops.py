"""Requests in a caller's words: what they become on the wire."""

from __future__ import annotations

from typing import Any

import pytest

from zkv.client import calls, ops
from zkv.errors import InvalidRequest
from zkv.wire import messages as m


@pytest.mark.parametrize(
    ("prefix", "end"),
    [(b"a", b"b"), (b"a/", b"a0"), (b"a\xff", b"b"), (b"a\xfe\xff\xff", b"a\xff"), (b"\xff\xff", b"\0"), (b"", b"\0")],
)
def test_the_end_of_a_prefix(prefix: bytes, end: bytes) -> None:
    """The first key that does not begin with it, and is greater; for 0xff bytes alone there is none."""
    assert ops.prefix_end(prefix) == end


def test_ways_to_name_keys() -> None:
    """One key, a range, a prefix given either way, all from a key on, and everything."""
    assert ops.key_range("a") == (b"a", b"")
    assert ops.key_range("a", "c") == (b"a", b"c")
    assert ops.key_range(None, prefix="a/") == ops.key_range("a/", prefix=True) == (b"a/", b"a0")
    assert ops.key_range("a", from_key=True) == (b"a", b"\0")
    assert ops.key_range("", from_key=True) == ops.key_range(None, prefix="") == (b"\0", b"\0")
    assert ops.key_range("a", prefix=False) == (b"a", b"")


def test_contradictions_are_refused() -> None:
    """Rather than one of the two silently winning."""
    with pytest.raises(InvalidRequest):
        ops.key_range("a", prefix="b")
    with pytest.raises(InvalidRequest):
        ops.key_range("a", "b", prefix=True)
    with pytest.raises(InvalidRequest):
        ops.key_range("a", "b", from_key=True)
    with pytest.raises(InvalidRequest):
        ops.key_range(None)


def test_text_is_utf8_and_bytes_are_bytes() -> None:
    assert ops.put("schlüssel", b"\xff", lease=7) == m.Put("schlüssel".encode(), b"\xff", 7)


def test_a_range_takes_all_that_the_wire_has() -> None:
    request = ops.get(
        prefix="a",
        limit=3,
        sort_by="modify",
        order="descend",
        revision=9,
        serializable=True,
        keys_only=True,
        count_only=True,
        min_mod_revision=1,
        max_mod_revision=2,
        min_create_revision=3,
        max_create_revision=4,
    )
    by, order = m.SortTarget.MOD, m.SortOrder.DESCEND
    assert request == m.Range(b"a", b"b", 3, 9, order, by, True, True, True, 1, 2, 3, 4)


def test_comparisons_read_as_they_mean() -> None:
    """The four relations of etcd, on five targets, of a key or of each key of a range."""
    compares = [
        ops.value("a") == "1",
        ops.version("a") > 0,
        ops.create_revision("a") < 5,
        ops.mod_revision(prefix="a") != 7,
        ops.lease_of("a") == 0,
    ]
    assert compares == [
        m.Compare(m.CompareResult.EQUAL, m.CompareTarget.VALUE, b"a", b"1"),
        m.Compare(m.CompareResult.GREATER, m.CompareTarget.VERSION, b"a", 0),
        m.Compare(m.CompareResult.LESS, m.CompareTarget.CREATE, b"a", 5),
        m.Compare(m.CompareResult.NOT_EQUAL, m.CompareTarget.MOD, b"a", 7, b"b"),
        m.Compare(m.CompareResult.EQUAL, m.CompareTarget.LEASE, b"a", 0),
    ]


def test_a_value_is_compared_with_data_and_a_number_with_a_number() -> None:
    """The wrong kind is refused here, where the line that is wrong can be seen."""
    with pytest.raises(InvalidRequest):
        ops.value("a") == 1  # noqa: B015
    with pytest.raises(InvalidRequest):
        ops.version("a") > "1"  # noqa: B015


def test_a_transaction_is_built_step_by_step_and_may_hold_another() -> None:
    """`then` and `otherwise` take what the functions of this module make, and transactions."""
    inner: calls.Txn[None] = calls.Txn()
    inner.then(ops.delete("c"))
    txn: calls.Txn[None] = calls.Txn()
    txn.if_(ops.version("a") == 0).then(ops.put("a", "1"), ops.get("b")).otherwise(inner)
    assert txn.request() == m.Txn(
        (m.Compare(m.CompareResult.EQUAL, m.CompareTarget.VERSION, b"a", 0),),
        ((m.Op.PUT, m.Put(b"a", b"1")), (m.Op.RANGE, m.Range(b"b"))),
        ((m.Op.TXN, m.Txn((), ((m.Op.DELETE_RANGE, m.DeleteRange(b"c")),), ())),),
    )
    with pytest.raises(InvalidRequest):
        txn.commit()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"rev": 5}, TypeError),  # its name is revision: to read the present instead would be a wrong answer
        ({"limit": 1.5}, TypeError),
        ({"revision": "5"}, TypeError),
        ({"sort_by": "size"}, InvalidRequest),
        ({"order": "up"}, InvalidRequest),
    ],
)
def test_what_a_range_does_not_take_is_refused(options: Any, error: type[Exception]) -> None:
    """Rather than ignored."""
    with pytest.raises(error):
        ops.get(prefix="a", **options)


def test_a_comparison_is_neither_true_nor_false_here() -> None:
    """`if kv.version("a") == 0:` would always go the same way."""
    with pytest.raises(TypeError, match="if_"):
        bool(ops.version("a") == 0)


def test_only_requests_go_into_a_transaction() -> None:
    with pytest.raises(InvalidRequest, match=r"zkv\.put"):
        calls.Txn().then("put a 1")  # type: ignore[arg-type]
