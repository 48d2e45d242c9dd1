"""A client's message, opened: which requests are good, and in which groups they go on.

`read` never raises. The usual message holds good requests of one way (see validate.py) and goes on as the
bytes it came in. Otherwise, and where the door has something to fill in, it is sorted out: bad requests are refused
one by one, good ones packed anew, a group per way. A range that may be answered in chunks always is a group of its
own, so that the group's number names its stream.

What cannot be unpacked is searched for the ids of its requests as far as it can be read, so that their
client learns at once; what lies beyond is refused under id 0. Hostile bytes cost memory in proportion to their
length only: msgpack makes room for an announced array before its elements are there, at each of up to 1024
levels of nesting, so the lengths it may believe are bounded here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgpack

from zkv.errors import InvalidRequest, RequestError, RequestTooLarge, UnsupportedVersion, ZkvError
from zkv.gateway.validate import FILLED, GRANTING, PASSWORD, STREAMED, check, filled
from zkv.wire import codec
from zkv.wire.messages import PROTOCOL_VERSION, ClientKind, Op
from zkv.wire.shapes import INT64_MAX

if TYPE_CHECKING:
    from zkv.config import Limits
    from zkv.wire.messages import Caller

ARRAY_MIN: Final = 4096
"""Arrays up to this length are unpacked, so that a txn with too many operations is told so."""

TOKEN_CHARS_MAX: Final = 8192
_FIVE: Final = b"\x95"  # msgpack's head of an array of five, and of six
_SIX: Final = b"\x96"
_SIX_FIELDS: Final = _SIX[0]
_REQUESTS: Final = int(ClientKind.REQUESTS)
_UNREADABLE = (ValueError, TypeError, RecursionError, msgpack.UnpackException)
# Sets of ways, bit `way` each. Within one message ranges that may be streamed are never of one way.
_ONE_WAY: Final = frozenset(1 << way for way in range(1, STREAMED))
_FILLED_BIT: Final = 1 << FILLED


class Group(NamedTuple):
    way: int
    ids: tuple[int, ...]
    payload: bytes


class Opened(NamedTuple):
    """`fields` are those of another kind than Requests, unchecked; id 0 in `refused`: something without an id.

    `token` is what came with requests, and is not in the groups any more.
    """

    kind: int
    groups: list[Group]
    refused: dict[int, ZkvError]
    fields: tuple[Any, ...] = ()
    token: str = ""


def read(payload: bytes, limits: Limits) -> Opened:
    """Open one message of a client. Hot: each statement here is paid by every message."""
    if len(payload) > limits.request_bytes_max:
        return _unreadable(payload, limits, RequestTooLarge())
    try:
        message = msgpack.unpackb(
            payload,
            use_list=False,
            raw=False,
            max_array_len=_array_max(limits),
            max_map_len=0,  # the protocol has neither maps nor extension types
            max_ext_len=0,
        )
        version, kind = message[0], message[1]
    except (*_UNREADABLE, LookupError):
        return _unreadable(payload, limits, InvalidRequest("not a message"))
    if type(message) is not tuple or type(version) is not int or type(kind) is not int:
        return _unreadable(payload, limits, InvalidRequest("not a message"))
    if version != PROTOCOL_VERSION:
        return Opened(_REQUESTS, [], {0: UnsupportedVersion(f"this member speaks {PROTOCOL_VERSION}")})
    if kind != _REQUESTS:
        return Opened(kind, [], {}, message[2:])
    if not _well_formed(message, limits):
        return _unreadable(payload, limits, InvalidRequest("fields of a requests message"))
    ids = []
    ways = 0
    try:
        for id_, op, fields in message[4]:
            if type(id_) is not int or not 0 < id_ <= INT64_MAX:
                break
            ways |= 1 << check(op, fields, limits)
            ids.append(id_)
    except (RequestError, TypeError, ValueError):
        return _sort_out(message, payload, limits)
    if len(ids) == len(message[4]) and (
        (len(ids) == 1 and ways < _FILLED_BIT) or (ways in _ONE_WAY and len(set(ids)) == len(ids))
    ):
        way = ways.bit_length() - 1
        token = ""
        if len(message) > 5:
            token = message[5]
            payload = _without_token(payload, message)
        return tuple.__new__(Opened, (kind, [tuple.__new__(Group, (way, tuple(ids), payload))], {}, (), token))
    return _sort_out(message, payload, limits)


def _array_max(limits: Limits) -> int:
    return max(ARRAY_MIN, max(limits.message_requests_max, limits.txn_ops_max) + 1)


def _well_formed(message: tuple[Any, ...], limits: Limits) -> bool:
    if len(message) != 5 and not (len(message) == 6 and is_token(message[5])):
        return False
    session, floor, requests = message[2:5]
    return (
        type(session) is bytes
        and len(session) in (0, 16)
        and type(floor) is int
        and 0 <= floor <= INT64_MAX
        and type(requests) is tuple
        and len(requests) <= limits.message_requests_max
    )


def _sort_out(message: tuple[Any, ...], payload: bytes, limits: Limits) -> Opened:
    kind, session, floor, requests = message[1:5]
    refused: dict[int, ZkvError] = {}
    groups: dict[tuple[int, int], list[tuple[int, Any, Any]]] = {}
    granting: set[tuple[int, int]] = set()
    seen = set()
    for request in requests:
        id_ = request[0] if type(request) is tuple and request else None
        if type(id_) is not int or not 0 < id_ <= INT64_MAX:
            refused[0] = InvalidRequest("a request without an id")
            continue
        if id_ in seen:
            return _unreadable(payload, limits, InvalidRequest("an id is used twice"))
        seen.add(id_)
        try:
            if len(request) != 3:
                raise InvalidRequest("fields of a request")
            way = check(request[1], request[2], limits)
            good = request
            if way & FILLED:
                way &= ~FILLED
                good = (id_, request[1], filled(request[1], request[2], limits))
                granting.add((way, 0))
        except RequestError as error:
            refused[id_] = error
        else:
            groups.setdefault((way, id_ if way >= STREAMED else 0), []).append(good)
    head = (PROTOCOL_VERSION, kind, session, floor)
    return Opened(
        kind,
        [
            Group(
                key[0] | GRANTING if key in granting else key[0],
                tuple(id_ for id_, _, _ in members),
                codec.pack((*head, members)),
            )
            for key, members in groups.items()
        ],
        refused,
        token=message[5] if len(message) > 5 else "",
    )


def grants_in(payload: bytes) -> tuple[int, ...]:
    """Of a group's requests, those that ask for leases."""
    return tuple(id_ for id_, op, _ in codec.unpack(payload)[4] if op == Op.LEASE_GRANT)


def authenticates(group: Group) -> bool:
    """Is it a request for a token?"""
    return bool(group.way & PASSWORD) and codec.unpack(group.payload)[4][0][1] == Op.AUTHENTICATE


def is_token(field: object) -> bool:
    return type(field) is str and len(field) <= TOKEN_CHARS_MAX


def _without_token(payload: bytes, message: tuple[Any, ...]) -> bytes:
    """The message without its sixth field, which is a caller's place from here on."""
    tail = codec.pack(message[5])
    if payload[0] == _SIX_FIELDS and payload.endswith(tail):
        return _FIVE + payload[1 : -len(tail)]
    return codec.pack(message[:5])  # in another spelling of msgpack's than ours


def with_caller(payload: bytes, caller: Caller) -> bytes:
    """A group's payload, saying who asks."""
    if payload[:1] == _FIVE:
        return b"".join((_SIX, payload[1:], codec.pack(caller)))
    return codec.pack((*codec.unpack(payload)[:5], caller))


def _unreadable(payload: bytes, limits: Limits, error: ZkvError) -> Opened:
    """Refuse a whole message, under the ids of its requests up to where it is broken."""
    ids: list[int] = []
    unpacker = msgpack.Unpacker(
        use_list=False, raw=True, max_array_len=_array_max(limits), max_buffer_size=max(1, len(payload))
    )
    try:
        unpacker.feed(payload)
        width = unpacker.read_array_header()
        if width >= 5 and unpacker.unpack() == PROTOCOL_VERSION and unpacker.unpack() == _REQUESTS:
            unpacker.skip()  # session
            unpacker.skip()  # floor
            for _ in range(min(unpacker.read_array_header(), limits.message_requests_max)):
                width = unpacker.read_array_header()
                id_ = unpacker.unpack()
                if type(id_) is not int or not 0 < id_ <= INT64_MAX:
                    break
                ids.append(id_)
                for _ in range(width - 1):
                    unpacker.skip()
    except _UNREADABLE:
        pass
    return Opened(_REQUESTS, [], dict.fromkeys(ids or (0,), error))
