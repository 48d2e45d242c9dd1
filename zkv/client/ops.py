"""Requests and comparisons in the words of a caller: text or bytes, `prefix=`, `sort_by="version"`.

The functions here build what goes into a transaction (`zkv.put(...)`, `zkv.value("a") == "1"`); the clients' methods of
the same names take the same arguments.
"""

from __future__ import annotations

from operator import index
from typing import TYPE_CHECKING, Literal, TypeAlias, TypedDict

from zkv.errors import InvalidRequest
from zkv.wire import messages as m

if TYPE_CHECKING:
    from typing import SupportsIndex

Data: TypeAlias = str | bytes
"""A key or a value. Text is sent as UTF-8; what comes back is bytes."""
Prefix: TypeAlias = str | bytes | bool | None
"""The prefix itself, or True: the key given is one."""

SORT_TARGETS: dict[str, m.SortTarget] = {
    "key": m.SortTarget.KEY,
    "version": m.SortTarget.VERSION,
    "create": m.SortTarget.CREATE,
    "modify": m.SortTarget.MOD,
    "value": m.SortTarget.VALUE,
}
ORDERS: dict[str, m.SortOrder] = {"ascend": m.SortOrder.ASCEND, "descend": m.SortOrder.DESCEND}


class RangeOptions(TypedDict, total=False):
    """What `range` and `get` take by keyword.

    `sort_by` without `order` ascends. `revision` 0 reads the present. `serializable` reads one member's own state,
    which may be old, without asking the others.
    """

    range_end: Data | None
    prefix: Prefix
    from_key: bool
    limit: int
    sort_by: Literal["key", "version", "create", "modify", "value"]
    order: Literal["ascend", "descend"] | None
    revision: int
    serializable: bool
    keys_only: bool
    count_only: bool
    min_mod_revision: int
    max_mod_revision: int
    min_create_revision: int
    max_create_revision: int


def to_bytes(data: Data) -> bytes:
    if type(data) is bytes:
        return data
    return data.encode() if isinstance(data, str) else bytes(data)


def prefix_end(prefix: bytes) -> bytes:
    """The first key behind all that begin with `prefix`; the key 0x00, which means no end, when there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else b"\0"


def key_range(
    key: Data | None, range_end: Data | None = None, prefix: Prefix = None, *, from_key: bool = False
) -> tuple[bytes, bytes]:
    """(key, range_end) as they go on the wire. Raises InvalidRequest when the arguments contradict each other."""
    by_prefix = prefix is not None and prefix is not False
    if by_prefix + from_key + (range_end is not None) > 1:
        raise InvalidRequest("prefix, from_key and range_end exclude each other")
    if by_prefix:
        if not isinstance(prefix, bool):
            if key is not None:
                raise InvalidRequest("give the key or the prefix")
            key = prefix
        start = to_bytes(key if key is not None else b"")
        return (start, prefix_end(start)) if start else (b"\0", b"\0")
    if key is None:
        raise InvalidRequest("no key given")
    start = to_bytes(key)
    if from_key:
        return start or b"\0", b"\0"
    return start, b"" if range_end is None else to_bytes(range_end)


def put(
    key: Data,
    value: Data = b"",
    *,
    lease: SupportsIndex = 0,
    ttl: int = 0,
    prev_kv: bool = False,
    ignore_value: bool = False,
    ignore_lease: bool = False,
) -> m.Put:
    """Set a key; see `Client.put`."""
    fields = to_bytes(key), to_bytes(value), index(lease), prev_kv, ignore_value, ignore_lease, index(ttl)
    return tuple.__new__(m.Put, fields)  # all that there are: its own way to a new one takes three times as long


def get(
    key: Data | None = None,
    *,
    range_end: Data | None = None,
    prefix: Prefix = None,
    from_key: bool = False,
    limit: int = 0,
    sort_by: Literal["key", "version", "create", "modify", "value"] = "key",
    order: Literal["ascend", "descend"] | None = None,
    revision: int = 0,
    serializable: bool = False,
    keys_only: bool = False,
    count_only: bool = False,
    min_mod_revision: int = 0,
    max_mod_revision: int = 0,
    min_create_revision: int = 0,
    max_create_revision: int = 0,
) -> m.Range:
    """One key, or with `prefix`, `from_key` or `range_end` many. See `RangeOptions`."""
    start, end = key_range(key, range_end, prefix, from_key=from_key)
    if sort_by not in SORT_TARGETS:
        raise InvalidRequest(f"sort_by={sort_by!r} is none of {', '.join(SORT_TARGETS)}")
    if order and order not in ORDERS:
        raise InvalidRequest(f"order={order!r} is none of {', '.join(ORDERS)}")
    return m.Range(
        start,
        end,
        index(limit),
        index(revision),
        ORDERS[order] if order else m.SortOrder.NONE,
        SORT_TARGETS[sort_by],
        serializable,
        keys_only,
        count_only,
        index(min_mod_revision),
        index(max_mod_revision),
        index(min_create_revision),
        index(max_create_revision),
    )


def delete(
    key: Data | None = None,
    *,
    range_end: Data | None = None,
    prefix: Prefix = None,
    from_key: bool = False,
    prev_kv: bool = False,
) -> m.DeleteRange:
    return m.DeleteRange(*key_range(key, range_end, prefix, from_key=from_key), prev_kv)


class Comparison(m.Compare):
    """What goes into `if_`; the store compares, so it is neither true nor false here."""

    __slots__ = ()

    def __bool__(self) -> bool:
        raise TypeError("a comparison is made by the store: give it to a transaction's if_()")


class Comparand:
    """The left side of a comparison: `value("a") == "1"`, `version("b") > 0`. The four are those etcd has."""

    __slots__ = ("_key", "_range_end", "_target")
    __hash__ = None  # type: ignore[assignment] # == compares in the store, not here

    def __init__(self, target: m.CompareTarget, key: bytes, range_end: bytes) -> None:
        self._target = target
        self._key = key
        self._range_end = range_end

    def _compare(self, result: m.CompareResult, operand: object) -> m.Compare:
        if self._target == m.CompareTarget.VALUE:
            if not isinstance(operand, str | bytes):
                raise InvalidRequest("a value is compared with text or bytes")
            return Comparison(result, self._target, self._key, to_bytes(operand), self._range_end)
        if not isinstance(operand, int):
            raise InvalidRequest("a version, revision or lease is compared with a number")
        return Comparison(result, self._target, self._key, int(operand), self._range_end)

    def __eq__(self, operand: object) -> m.Compare:  # type: ignore[override]
        return self._compare(m.CompareResult.EQUAL, operand)

    def __ne__(self, operand: object) -> m.Compare:  # type: ignore[override]
        return self._compare(m.CompareResult.NOT_EQUAL, operand)

    def __gt__(self, operand: Data | int) -> m.Compare:
        return self._compare(m.CompareResult.GREATER, operand)

    def __lt__(self, operand: Data | int) -> m.Compare:
        return self._compare(m.CompareResult.LESS, operand)


def value(key: Data | None = None, *, range_end: Data | None = None, prefix: Prefix = None) -> Comparand:
    """The value of a key (of each key of a range). A missing key has none, and every comparison with it fails."""
    return Comparand(m.CompareTarget.VALUE, *key_range(key, range_end, prefix))


def version(key: Data | None = None, *, range_end: Data | None = None, prefix: Prefix = None) -> Comparand:
    """How often the key was put since it was created; 0 when it is missing."""
    return Comparand(m.CompareTarget.VERSION, *key_range(key, range_end, prefix))


def create_revision(key: Data | None = None, *, range_end: Data | None = None, prefix: Prefix = None) -> Comparand:
    """The revision that created the key; 0 when it is missing."""
    return Comparand(m.CompareTarget.CREATE, *key_range(key, range_end, prefix))


def mod_revision(key: Data | None = None, *, range_end: Data | None = None, prefix: Prefix = None) -> Comparand:
    """The revision that last put the key; 0 when it is missing."""
    return Comparand(m.CompareTarget.MOD, *key_range(key, range_end, prefix))


def lease_of(key: Data | None = None, *, range_end: Data | None = None, prefix: Prefix = None) -> Comparand:
    """The lease the key hangs on; 0 for none."""
    return Comparand(m.CompareTarget.LEASE, *key_range(key, range_end, prefix))
