"""How a client's message is opened."""

from __future__ import annotations

import struct
import tracemalloc
from typing import Any

import msgpack
import pytest

from zkv import errors
from zkv.config import Limits
from zkv.gateway import envelope
from zkv.gateway.validate import GRANTING, LINEARIZABLE, LOCAL, STAMPED, STREAMED, WRITE
from zkv.wire import codec
from zkv.wire.messages import PROTOCOL_VERSION, ClientKind, Op

LIMITS = Limits()
SESSION = b"0123456789abcdef"

PUT = (Op.PUT, (b"k", b"v"))
GET = (Op.RANGE, (b"k",))
LOCAL_GET = (Op.RANGE, (b"k", b"", 0, 0, 0, 0, True))
SCAN = (Op.RANGE, (b"k", b"l"))
BAD = (Op.PUT, (b"", b"v"))


def message(*requests: Any, session: Any = SESSION, floor: Any = 1, version: Any = PROTOCOL_VERSION) -> bytes:
    return codec.pack((version, ClientKind.REQUESTS, session, floor, requests))


def refusals(payload: bytes, limits: Limits = LIMITS) -> dict[int, type[errors.ZkvError]]:
    opened = envelope.read(payload, limits)
    assert opened.groups == []
    return {id_: type(error) for id_, error in opened.refused.items()}


@pytest.mark.parametrize(
    ("request_", "way"),
    [(PUT, WRITE), (GET, LINEARIZABLE), (LOCAL_GET, LOCAL), ((Op.STATUS, ()), STAMPED)],
)
def test_requests_of_one_way_go_on_as_they_came(request_: tuple[int, Any], way: int) -> None:
    """The very bytes of the client, not a copy, are the group."""
    payload = message((1, *request_), (2, *request_), (3, *request_))
    assert envelope.read(payload, LIMITS) == (ClientKind.REQUESTS, [(way, (1, 2, 3), payload)], {}, (), "")
    assert envelope.read(payload, LIMITS).groups[0].payload is payload


def test_requests_of_several_ways_are_grouped_by_way() -> None:
    """Each group is what the client would have sent for these requests alone."""
    opened = envelope.read(message((1, *PUT), (2, *GET), (3, *PUT), (4, *LOCAL_GET)), LIMITS)
    assert opened.refused == {}
    assert sorted(opened.groups) == [
        (WRITE, (1, 3), message((1, *PUT), (3, *PUT))),
        (LINEARIZABLE, (2,), message((2, *GET))),
        (LOCAL, (4,), message((4, *LOCAL_GET))),
    ]


GRANT = (Op.LEASE_GRANT, (5,))
GRANTED_AS = (Op.LEASE_GRANT, (5, 0, LIMITS.lease_ttl_min))


@pytest.mark.parametrize("count", [1, 2])
def test_a_lease_is_granted_for_no_less_than_this_member_allows(count: int) -> None:
    """The door writes the least TTL into the request, which goes into the log: all members grant the same."""
    opened = envelope.read(message(*((at, *GRANT) for at in range(1, count + 1))), LIMITS)
    expected = message(*((at, *GRANTED_AS) for at in range(1, count + 1)))
    assert opened == (ClientKind.REQUESTS, [(WRITE | GRANTING, tuple(range(1, count + 1)), expected)], {}, (), "")


def test_a_grant_and_other_writes_stay_together() -> None:
    opened = envelope.read(message((1, *PUT), (2, *GRANT), (3, *PUT)), LIMITS)
    assert opened.groups == [(WRITE | GRANTING, (1, 2, 3), message((1, *PUT), (2, *GRANTED_AS), (3, *PUT)))]
    assert envelope.grants_in(opened.groups[0].payload) == (2,)


def test_ranges_that_may_be_streamed_travel_alone() -> None:
    """Even beside others of their kind."""
    opened = envelope.read(message((1, *SCAN), (2, *SCAN), (3, *GET)), LIMITS)
    assert [(way, ids) for way, ids, _ in opened.groups] == [
        (LINEARIZABLE | STREAMED, (1,)),
        (LINEARIZABLE | STREAMED, (2,)),
        (LINEARIZABLE, (3,)),
    ]
    alone = message((1, *SCAN))
    assert envelope.read(alone, LIMITS).groups == [(LINEARIZABLE | STREAMED, (1,), alone)]


def test_a_bad_request_does_not_harm_its_neighbours() -> None:
    """It is refused under its id, or under id 0 if it has none; the others go on."""
    opened = envelope.read(
        message((1, *PUT), (2, *BAD), "junk", (), (0, *PUT), (True, *PUT), (3, *PUT), (4, 2)), LIMITS
    )
    assert opened.groups == [(WRITE, (1, 3), message((1, *PUT), (3, *PUT)))]
    assert {id_: type(error) for id_, error in opened.refused.items()} == {
        0: errors.InvalidRequest,
        2: errors.EmptyKey,
        4: errors.InvalidRequest,
    }


def test_ids_are_used_once_in_a_message() -> None:
    """Answers could not be told apart, so all of it is refused."""
    assert refusals(message((1, *PUT), (2, *PUT), (1, *PUT))) == dict.fromkeys((1, 2), errors.InvalidRequest)


@pytest.mark.parametrize(
    "payload",
    [
        message((1, *PUT), session=b"short"),
        message((1, *PUT), session="0123456789abcdef"),
        message((1, *PUT), session=None),
        message((1, *PUT), floor=-1),
        message((1, *PUT), floor=True),
        message((1, *PUT), floor=1 << 63),
        codec.pack((PROTOCOL_VERSION, ClientKind.REQUESTS, SESSION, 1, ((1, *PUT),), b"more")),
        codec.pack((PROTOCOL_VERSION, ClientKind.REQUESTS, SESSION, 1, ((1, *PUT),), ("root", 1 << 62))),
        codec.pack((PROTOCOL_VERSION, ClientKind.REQUESTS, SESSION, 1, ((1, *PUT),), "token", "more")),
        message((1, *PUT)) + b"\0",
        message((1, *PUT), (2, *PUT))[:-8] + b"\xc1",
    ],
)
def test_a_broken_message_is_refused_by_the_ids_that_can_be_read(payload: bytes) -> None:
    """Its client learns at once that request 1 will not be served."""
    assert refusals(payload).items() >= {1: errors.InvalidRequest}.items()


def test_a_message_cut_anywhere_is_refused() -> None:
    """No prefix of a message raises, or is taken for a message."""
    payload = message((1, *PUT), (2, *SCAN))
    for length in range(len(payload)):
        assert set(refusals(payload[:length]).values()) == {errors.InvalidRequest}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"GET / HTTP/1.1\r\n\r\n",
        codec.pack(None),
        codec.pack("12"),
        codec.pack(b"\1\1"),
        msgpack.packb({b"a": 1, b"b": 2}),
        codec.pack(()),
        codec.pack((PROTOCOL_VERSION,)),
        codec.pack((True, ClientKind.REQUESTS, SESSION, 1, ())),
        codec.pack((PROTOCOL_VERSION, 1.0, SESSION, 1, ())),
        codec.pack((PROTOCOL_VERSION, ClientKind.REQUESTS)),
        codec.pack((PROTOCOL_VERSION, ClientKind.REQUESTS, SESSION, 1, 5)),
        codec.pack((PROTOCOL_VERSION, ClientKind.REQUESTS, SESSION, 1, "abc")),
        codec.pack((PROTOCOL_VERSION, ClientKind.REQUESTS, SESSION, 1, ("abc", b"abc", 5, None))),
        b"\x95\x01\x01\xa2\xff\xfe\x01\x90",  # text that is no UTF-8
        b"\x95\x01\x01\xc4\x00\x01\x91\x93\xd6\xff\x00\x00\x00\x00\x02\x92\xc4\x01k\xc4\x01v",  # a timestamp for an id
        b"\x95\x01\x01\xc4\x00\x01\x91\x93\xc7\x02\x05ab\x02\x90",  # an ext type for an id
        b"\x95\x01\x01\x81\x90\x01",  # a map with an array for a key
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x91" * 100_000,
    ],
)
def test_what_has_no_id_is_refused_under_id_zero(payload: bytes) -> None:
    """Junk, other types, announced but absent contents, nesting without end: InvalidRequest, nothing else."""
    assert refusals(payload) == {0: errors.InvalidRequest}


def test_another_version_is_refused_as_such() -> None:
    """Whatever else stands in the message: another version may mean another layout."""
    for version in (0, PROTOCOL_VERSION + 1, -1, 1 << 63):
        assert refusals(codec.pack((version, 77, "?"))) == {0: errors.UnsupportedVersion}


def test_too_large_a_message_is_refused_by_its_ids() -> None:
    """As far as it can be told without unpacking it."""
    limits = Limits(request_bytes_max=1000)
    assert refusals(message((7, Op.PUT, (b"k", bytes(1000)))), limits) == {7: errors.RequestTooLarge}
    assert refusals(bytes(1001), limits) == {0: errors.RequestTooLarge}


def test_too_many_requests_in_a_message_are_refused() -> None:
    """Up to the bound all are served, beyond it none, and no more answered than the bound."""
    most = [(id_, *PUT) for id_ in range(1, LIMITS.message_requests_max + 1)]
    assert len(envelope.read(message(*most), LIMITS).groups[0].ids) == LIMITS.message_requests_max
    assert len(refusals(message(*most, (5000, *PUT)))) == LIMITS.message_requests_max


def test_a_message_of_no_requests_is_nothing() -> None:
    """There is nobody to answer."""
    assert envelope.read(message(), LIMITS) == (ClientKind.REQUESTS, [], {}, (), "")


def test_a_txn_of_too_many_operations_is_told_so() -> None:
    """Array bounds of the unpacker do not hide the reason."""
    ops = (GET,) * 2000
    assert refusals(message((9, Op.TXN, ((), ops, ())))) == {9: errors.TooManyOps}


def test_other_kinds_are_handed_on_unchecked() -> None:
    """Credit, Cancel, Ping and what nobody knows: their fields are looked at where they are used."""
    assert envelope.read(codec.pack((PROTOCOL_VERSION, 99, b"x", None)), LIMITS) == (99, [], {}, (b"x", None), "")


def test_announced_lengths_cost_no_memory() -> None:
    """Arrays that announce the message's whole length, nested a thousand deep, take megabytes, not gigabytes."""
    size = LIMITS.request_bytes_max
    payload = b"".join(b"\xdd" + struct.pack(">I", size // 2) for _ in range(1000)).ljust(size, b"\xc0")
    announced = b"".join(b"\xdc" + struct.pack(">H", 4096) for _ in range(1000)).ljust(size, b"\xc0")
    tracemalloc.start()
    try:
        assert refusals(payload) == {0: errors.InvalidRequest}
        assert refusals(announced) == {0: errors.InvalidRequest}
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
