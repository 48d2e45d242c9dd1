"""Records are what their annotations say, and nothing else is taken for one."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin, get_type_hints

import pytest

from zkv.errors import CorruptionError
from zkv.wire import codec
from zkv.wire import messages as m
from zkv.wire.shapes import INT64_MAX, INT64_MIN, UNOPENED, Misfit, shape_of

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDS: tuple[Any, ...] = (
    *codec.KINDS.values(), m.Frame, m.ConfChange, m.Watch, m.Compare,
    *(cls for op, cls in m.REQUEST_CLASSES.items() if op != m.Op.TXN),  # test_groups.py
)  # fmt: skip
OF_EACH_TYPE: tuple[Any, ...] = (None, True, 1, 0.5, b"", "", (), {})
PLAIN = {bytes: b"x", str: "x", int: 1, bool: True, NoneType: None}


def sample(hint: Any) -> Any:
    """Something that an annotation allows."""
    if hint in PLAIN:
        return PLAIN[hint]
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Annotated, Union, UnionType}:
        return sample(arguments[0])
    if origin is tuple:
        return () if arguments[0] is object else tuple(sample(each) for each in arguments if each is not ...)
    return tuple(sample(each) for each in hints(hint))


def hints(record: Any) -> list[Any]:
    found = get_type_hints(record, include_extras=True)
    return [found[field] for field in record._fields]


def misfits(hint: Any, good: Any) -> Iterator[Any]:
    """Whatever is like `good`, but for one value of a type that the annotation does not name, or for its length."""
    options = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
    named = {type(sample(option)) for option in options}
    yield from (value for value in OF_EACH_TYPE if type(value) not in named)
    inner, *within = get_args(options[0]) if get_origin(options[0]) is Annotated else options[:1]
    if inner in PLAIN or UNOPENED in within:
        return
    if get_origin(inner) is not tuple:
        parts = hints(inner)
        required = len(parts) - len(inner._field_defaults)
        yield from (good[: required - 1],) if required else ()
        yield (*good, 1)
    elif (parts := list(get_args(inner)))[-1] is ...:
        parts = parts[:-1] if parts[0] is not object else []
    else:
        yield from (good[:-1], (*good, 1))
    for at, part in enumerate(parts):
        for bad in misfits(part, good[at]):
            yield (*good[:at], bad, *good[at + 1 :])


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_a_record_is_just_what_its_annotations_say(record: Any) -> None:
    """One of its fields left out, one too many, one value of another type anywhere within it: it is none."""
    good = sample(record)
    assert tuple(shape_of(record).read(good)) == good
    for bad in misfits(record, good):
        with pytest.raises(Misfit):
            shape_of(record).read(bad)


@pytest.mark.parametrize("cls", codec.KINDS.values(), ids=lambda cls: cls.__name__)
def test_whatever_comes_in_is_a_message_or_damaged(cls: Any) -> None:
    good = cls(*sample(cls))
    assert codec.decode(codec.encode(good)) == good
    for bad in misfits(cls, tuple(good)):
        if isinstance(bad, tuple):
            with pytest.raises(CorruptionError):
                codec.decode(codec.pack((codec.KIND_OF[cls], *bad)))


@pytest.mark.parametrize("data", [None, 5, (), (True,), (0,), (10_000, 1), (b"", 1), {}], ids=repr)
def test_what_is_no_message_at_all(data: object) -> None:
    with pytest.raises(CorruptionError):
        codec.decode(codec.pack(data))


def test_records_within_records_have_their_fields_by_name() -> None:
    entry = m.Entry(1, 1, m.EntryKind.BATCH, 5, b"body")
    message = codec.decode(codec.encode(m.Message(m.MessageKind.APPEND, 2, 1, 1, entries=(entry,))))
    assert isinstance(message, m.Message)
    assert message.entries[0].body == b"body"
    meta = m.SnapshotMeta(1, 1, 1, m.ConfState((1, 2)))
    chunk = codec.decode(codec.encode(m.SnapshotIn(2, m.SnapshotChunk(meta, 1, 0, ((b"k", b"v"),), 0, True))))
    assert isinstance(chunk, m.SnapshotIn)
    assert chunk.chunk.meta.conf.voters == (1, 2)


@pytest.mark.parametrize(
    ("record", "bad"),
    [
        (m.Put, (b"k", b"v", INT64_MAX + 1)), (m.Put, (b"k", b"v", INT64_MIN - 1)),
        (m.Put, (b"k", b"v", 0, False, False, False, -1)),
        (m.Range, (b"k", b"", 0, 0, len(m.SortOrder))), (m.Range, (b"k", b"", 0, 0, -1)),
        (m.Range, (b"k", b"", 0, 0, 0, len(m.SortTarget))),
        (m.Compare, (len(m.CompareResult), 0, b"k", 0)), (m.Compare, (0, len(m.CompareTarget), b"k", 0)),
        (m.Alarm, (len(m.AlarmAction),)), (m.Alarm, (0, -1)), (m.Alarm, (0, 1 << 64)),
        (m.Alarm, (0, 0, len(m.AlarmType))),
        (m.LeaseExpire, (1, ((1, 5), (2, -1)))), (m.LeaseRenew, (1, ((INT64_MAX + 1, 5),))), (m.LeaseRenew, (-1, ())),
        (m.QuotaSet, (b"k" * (m.QUOTA_PREFIX_BYTES_MAX + 1),)), (m.QuotaSet, (b"k", -2)),
        (m.QuotaSet, (b"k", 0, 0, m.QUOTA_REQUESTS_MAX + 1)),
        (m.RoleGrantPermission, ("r", len(m.PermissionKind), b"k")),
        (m.Entry, (1, 1, 2, 1, b"")), (m.Entry, (-1, 1, 0, 1, b"")), (m.Entry, (1, 1, 0, 1 << 63, b"")),
        (m.ConfChange, (((len(m.ConfChangeKind), 1, ()),),)),
    ],
)  # fmt: skip
def test_numbers_have_bounds(record: Any, bad: tuple[Any, ...]) -> None:
    with pytest.raises(Misfit):
        shape_of(record).read(bad)
