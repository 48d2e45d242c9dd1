"""Messages nobody should send: valid ones of the native protocol, and what a seed makes of them."""

from __future__ import annotations

import struct
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

import msgpack

from zkv.wire.messages import PROTOCOL_VERSION, ClientKind, Op

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1 << 31, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -(1 << 63), 0.0, float("nan"),
    b"", b"\0", b"k", bytes(16), bytes(300), "", "k", "\ud7ff", "x" * 40, (), ((),), ((), (), ()), (b"",) * 14,
    (0,) * 200, {}, {b"k": 1}, {"k": ()}, msgpack.ExtType(5, b"ab"), msgpack.Timestamp(1, 2),
)  # fmt: skip

# Bytes that announce what does not follow, that are no UTF-8, or no msgpack.
HOSTILE_BYTES = (
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xdc\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01", b"\xc7\x0c\xff", b"\xd6\xff\xff\xff\xff\xff", b"\x9f", b"\x8f", b"\x91" * 40,
    b"\xa3\xff\xfe\xfd", b"\xc1",
)  # fmt: skip

_NAMES = ("root", "u", "r", "")


def request(chance: Random, depth: int = 0) -> tuple[int, tuple[Any, ...]]:
    """A good request of any kind: (op, fields)."""
    key = bytes([chance.randrange(97, 103)])
    kind = chance.randrange(16 if depth < 3 else 6)
    if kind < 3:
        plain = (key, bytes(chance.randrange(30)))
        return int(Op.PUT), plain if chance.random() < 0.5 else (*plain, 0, False, False, False, chance.randrange(3))
    if kind == 3:
        return int(Op.PUT), (key, b"", chance.randrange(3), chance.random() < 0.5, True, False)
    if kind == 4:
        order, target = chance.randrange(3), chance.randrange(5)
        return int(Op.RANGE), (key, b"", 0, chance.randrange(9), order, target, chance.random() < 0.5)
    if kind == 5:
        return int(Op.RANGE), (key, chance.choice((b"\0", b"z")), chance.randrange(9))
    if depth:
        return int(Op.TXN), ((), (request(chance, depth + 1),), (request(chance, depth + 1),))
    return (
        (int(Op.DELETE_RANGE), (key, b"z", True)),
        (int(Op.TXN), (((0, 0, key, 0), (1, 3, key, b"v", b"z")), (request(chance, 1),), (request(chance, 1),))),
        (int(Op.COMPACT), (chance.randrange(100),)),
        (int(Op.HASH_KV), ()),
        (int(Op.STATUS), ()),
        (int(Op.MEMBER_LIST), (chance.random() < 0.5,)),
        (int(Op.LEASE_GRANT), (chance.randrange(99), chance.randrange(3))),
        (int(Op.LEASE_REVOKE), (chance.randrange(3),)),
        (int(Op.LEASE_TIME_TO_LIVE), (chance.randrange(3), chance.random() < 0.5)),
        (int(Op.LEASE_LIST), ()),
    )[kind - 6]


def rare(chance: Random) -> tuple[int, tuple[Any, ...]]:
    """A good request of those that only members, root or an operator make."""
    name, other, id_ = chance.choice(_NAMES), chance.choice(_NAMES), chance.randrange(3)
    return chance.choice((
        (int(Op.PUBLISH), (id_, "n", ("tcp://a:1",))),
        (int(Op.LEASE_RENEW), (1, ((1, 5), (2, 7)))),
        (int(Op.LEASE_EXPIRE), (1, ((1, 5),))),
        (int(Op.MEMBER_ADD), (("tcp://b:2",), True)),
        (int(Op.MEMBER_REMOVE), (id_,)),
        (int(Op.MEMBER_UPDATE), (id_, ("tcp://c:3",))),
        (int(Op.MEMBER_PROMOTE), (id_,)),
        (int(Op.ALARM), (chance.randrange(3), id_, chance.randrange(3))),
        (int(Op.FENCE), (id_, 5)),
        (int(Op.QUOTA_SET), (chance.choice((b"", b"a", b"b")), 2 * id_, 9 * id_, id_)),
        (int(Op.QUOTA_SET), (b"a", id_)),
        (int(Op.QUOTA_DELETE), (b"a",)),
        (int(Op.QUOTA_GET), (b"a",)),
        (int(Op.QUOTA_LIST), ()),
        (int(Op.QUOTA_COUNT), ()),
        (int(Op.AUTH_ENABLE), ()),
        (int(Op.AUTH_DISABLE), ()),
        (int(Op.USER_ADD), (name, "", False, b"hash")),
        (int(Op.USER_DELETE), (name,)),
        (int(Op.USER_CHANGE_PASSWORD), (name, "", b"hash")),
        (int(Op.USER_GRANT_ROLE), (name, other)),
        (int(Op.USER_REVOKE_ROLE), (name, other)),
        (int(Op.ROLE_ADD), (name,)),
        (int(Op.ROLE_DELETE), (name,)),
        (int(Op.ROLE_GRANT_PERMISSION), (name, id_, b"a", b"b")),
        (int(Op.ROLE_REVOKE_PERMISSION), (name, b"a", b"b")),
        (int(Op.LOGIN), (name, b"digest", id_)),
        (int(Op.AUTHENTICATE), (name, "password")),
        (int(Op.AUTH_STATUS), ()),
        (int(Op.USER_GET), (name,)),
        (int(Op.USER_LIST), ()),
        (int(Op.ROLE_GET), (name,)),
        (int(Op.ROLE_LIST), ()),
        (int(Op.MOVE_LEADER), (id_,)),
        (int(Op.SNAPSHOT), (id_ == 0,)),
        (int(Op.DEFRAGMENT), ()),
        (int(Op.LOG), (id_,)),
        (int(Op.LOOK), ()),
        (int(Op.LEASE_KEEP_ALIVE), (id_,)),
        (int(Op.LEASE_GRANT), (9, id_, 2, 5)),
        (int(Op.COMPACT), (id_, True)),
        (int(Op.RANGE), (b"a", b"z", id_, id_, id_, id_, True, False, False, id_, 9, id_, 9)),
    ))  # fmt: skip


@cache
def one_of_each() -> dict[int, list[tuple[Any, ...]]]:
    """Good requests of every operation: their fields, with all that may be left off and without."""
    chance = Random(0)
    found: dict[int, dict[int, tuple[Any, ...]]] = {}
    for _ in range(3000):
        op, fields = request(chance) if chance.random() < 0.5 else rare(chance)
        found.setdefault(op, {})[len(fields)] = fields
    return {op: list(by_length.values()) for op, by_length in found.items()}


def requests(chance: Random, first_id: int) -> tuple[Any, ...]:
    """A good message of one to five requests, their ids counted from `first_id`."""
    count = chance.choice((1, 1, 1, 2, 3, 5))
    made = tuple((first_id + at, *(rare(chance) if chance.random() < 0.25 else request(chance))) for at in range(count))
    return PROTOCOL_VERSION, int(ClientKind.REQUESTS), chance.choice((b"", bytes(16))), first_id, made


def word(chance: Random, ids: int) -> tuple[Any, ...]:
    """A good Credit, Cancel or Ping about an id below `ids`."""
    id_ = chance.randrange(1, ids + 1)
    words = (ClientKind.CREDIT, id_, 2), (ClientKind.CANCEL, id_), (ClientKind.PING, id_)
    return PROTOCOL_VERSION, *chance.choice(words)


def watch_word(chance: Random, ids: int) -> tuple[Any, ...]:
    """A good word about watches with ids below `ids`."""
    kind = chance.randrange(8)
    if kind < 4:
        asked = tuple(_watch(chance, chance.randrange(1, ids + 1)) for _ in range(chance.choice((1, 1, 2, 5))))
        return PROTOCOL_VERSION, int(ClientKind.WATCH), asked
    if kind == 4:
        return PROTOCOL_VERSION, int(ClientKind.WATCH_PROGRESS)
    if kind == 5:
        return PROTOCOL_VERSION, int(ClientKind.WATCH_CREDIT), chance.choice((0, 10, 1 << 20))
    return PROTOCOL_VERSION, int(ClientKind.UNWATCH), chance.randrange(1, ids + 1)


def _watch(chance: Random, id_: int) -> tuple[Any, ...]:
    key, end = bytes([chance.randrange(97, 103)]), chance.choice((b"", b"", b"\0", b"a", b"z"))
    if chance.random() < 0.3:
        return id_, key
    flags = tuple(chance.random() < 0.3 for _ in range(chance.randrange(6)))
    return (id_, key, end, chance.choice((0, 0, 1, 5, 1 << 40)), *flags)


def mutated(chance: Random, tree: tuple[Any, ...]) -> bytes:
    """The message `tree`, changed in its structure, its bytes, or both."""
    if chance.random() < 0.6:
        for _ in range(chance.choice((1, 1, 2, 4))):
            tree = changed(chance, tree)
    message = packed(tree)
    if chance.random() < 0.6:
        for _ in range(chance.choice((1, 1, 2, 4))):
            message = chance.choice(_BYTE_CHANGES)(chance, message)
    return message


def changed(chance: Random, tree: tuple[Any, ...]) -> tuple[Any, ...]:
    """The tree with something else in one place."""
    found = _change_tree(chance, tree)
    return found if isinstance(found, tuple) else (found,)


def packed(tree: tuple[Any, ...]) -> bytes:
    """However deep, and whatever is in it: our own codec would refuse to."""
    message: bytes = msgpack.packb(tree, use_bin_type=True)
    return message


def _change_tree(chance: Random, node: Any) -> Any:
    """Walk down to somewhere, and put something else there."""
    if isinstance(node, tuple) and node and chance.random() < 0.85:
        at = chance.randrange(len(node))
        how = chance.randrange(10)
        if how == 0:
            return node[:at] + node[at + 1 :]
        if how == 1:
            return (*node[:at], chance.choice(HOSTILE_VALUES), *node[at:])
        if how == 2:
            return (*node[:at], node[at], *node[at:])
        return (*node[:at], _change_tree(chance, node[at]), *node[at + 1 :])
    if chance.random() < 0.1:
        for _ in range(chance.choice((3, 40, 100))):
            node = ((), ((int(Op.TXN), node),), ()) if chance.random() < 0.5 else (node,)
        return node
    return chance.choice(HOSTILE_VALUES)


def _flip(chance: Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]


def _cut(chance: Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _insert(chance: Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(HOSTILE_BYTES) + data[at:]


def _repeat(chance: Random, data: bytes) -> bytes:
    start = chance.randrange(len(data) + 1)
    end = chance.randrange(start, len(data) + 1)
    return data[:end] + data[start:]


def _resize(chance: Random, data: bytes) -> bytes:
    """Four bytes become another length."""
    at = chance.randrange(len(data) + 1)
    return data[:at] + struct.pack(">I", chance.choice((0, 1, 255, 65_536, 1 << 31, (1 << 32) - 1))) + data[at + 4 :]


_BYTE_CHANGES: tuple[Callable[[Random, bytes], bytes], ...] = (_flip, _flip, _cut, _insert, _repeat, _resize)
