"""What shape a record has: read off its annotations, so that it is written once, where its fields are.

A record comes from the wire, and out of the log, as a plain tuple of whatever somebody packed. `Shape.read` makes the
record of it, and of the records within it, or says that it is none: too many fields or too few (those with defaults
may be left off at the end), a field that is not exactly of its type (True is no integer), a number out of its bounds.
Who was given a record need not ask again, and a TypeError behind this is a slip of ours.

What annotations may be made of: bytes, str, int, bool, None; records; tuples of those, of a fixed length or of any;
unions that a value's type decides; and `Annotated[.., within]`, where `within` is an enumeration, anything else that
values may be `in`, or UNOPENED (as is any `tuple[object, ...]`). Text needs no more: `codec.unpack` lets only UTF-8
pass.
"""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003 - compiled, a NamedTuple looks at the types of its fields
from enum import EnumMeta
from itertools import product
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    NamedTuple,
    TypeAlias,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

if TYPE_CHECKING:
    from collections.abc import Container

INT64_MAX: Final = (1 << 63) - 1
INT64_MIN: Final = -(1 << 63)

Int64: TypeAlias = Annotated[int, range(INT64_MIN, INT64_MAX + 1)]
Natural: TypeAlias = Annotated[int, range(INT64_MAX + 1)]
"""An integer from 0 on of up to 63 bits."""
UInt64: TypeAlias = Annotated[int, range(1 << 64)]

UNOPENED: Final = object()
"""Of a field: what is in it is left as it came, and whoever opens it looks at it himself."""


class BytesMost:
    """So many bytes at most."""

    def __init__(self, most: int) -> None:
        self._most = most

    def __contains__(self, data: bytes) -> bool:
        return len(data) <= self._most


class Misfit(Exception):
    """It is not what was to be read."""


class _Part(NamedTuple):
    """What a value may be: of one of these types; and what else is to be asked of it, or made of it.

    Both are called with values of these types only. `made` raises Misfit.
    """

    types: tuple[type, ...]
    fits: Callable[[Any], bool] | None = None
    made: Callable[[Any], Any] | None = None


_AtFields: TypeAlias = "list[tuple[int, Callable[[Any], Any]]]"


class Shape:
    """Of the record `cls`. `types`: each tuple of types that its fields may have."""

    __slots__ = ("_fits", "read", "types")

    read: Callable[[Any], Any]
    """The record that fields are. Raises Misfit."""

    def __init__(self, cls: Any) -> None:
        hints = get_type_hints(cls, include_extras=True)
        parts = [_part(hints[field]) for field in cls._fields]
        required = len(parts) - len(cls._field_defaults)
        self.types: frozenset[tuple[type, ...]] = frozenset(
            types
            for count in range(required, len(parts) + 1)
            for types in product(*(part.types for part in parts[:count]))
        )
        self._fits = [(at, part.fits) for at, part in enumerate(parts) if part.fits is not None]
        made = [(at, part.made) for at, part in enumerate(parts) if part.made is not None]
        self.read = _reader(cls, required, [part.types for part in parts], self._fits, made)

    def is_within(self, fields: tuple[Any, ...]) -> bool:
        """Of fields whose types are right: are they in their bounds? (Those of records within it are not looked at.)"""
        count = len(fields)
        for at, fits in self._fits:
            if at >= count:
                break
            if not fits(fields[at]):
                return False
        return True


def _reader(
    cls: Any, required: int, types: list[tuple[type, ...]], fits: _AtFields, made: _AtFields
) -> Callable[[Any], Any]:
    """What is done for nearly every message, and so without a look at `self`.

    A NamedTuple's own way to a new one is a function of the interpreter's, which takes three times as long.
    """
    new = tuple.__new__
    whole = len(types)
    defaults = tuple(cls._field_defaults.values())
    naturals = [at for at, fit in fits if fit is _is_natural]  # most bounds are theirs: by a call without ceremony
    others = [(at, fit) for at, fit in fits if fit is not _is_natural]

    def read(fields: Any) -> Any:
        if type(fields) is not tuple:
            raise Misfit
        count = len(fields)
        if not required <= count <= whole or not _are(types, fields):
            raise Misfit
        for at in naturals:
            if at < count and not _is_natural(fields[at]):
                raise Misfit
        for at, fit in others:
            if at < count and not fit(fields[at]):
                raise Misfit
        if made:
            read = list(fields)
            for at, make in made:
                if at < count:
                    read[at] = make(read[at])
            fields = tuple(read)
        return new(cls, fields if count == whole else fields + defaults[count - required :])

    return read


def _are(types: list[tuple[type, ...]], values: tuple[Any, ...]) -> bool:
    """Is each value of one of its types?"""
    return all(type(value) in types[at] for at, value in enumerate(values))


_SHAPES: Final[dict[Any, Shape]] = {}


def shape_of(cls: Any) -> Shape:
    shape = _SHAPES.get(cls)
    if shape is None:
        shape = _SHAPES[cls] = Shape(cls)
    return shape


_PLAIN: Final = (bytes, str, int, bool, NoneType)


def _part(hint: Any) -> _Part:
    if hint in _PLAIN:
        return _Part((hint,))
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        inner, within = arguments
        if within is UNOPENED:
            return _Part((get_origin(inner),))
        assert inner in _PLAIN, "bounds are a plain value's"
        return _Part((inner,), _within(within))
    if origin in {Union, UnionType}:
        return _either([_part(argument) for argument in arguments])
    if origin is tuple:
        if arguments == (object, ...):
            return _Part((tuple,))
        if arguments[-1] is ...:
            return _each(_part(arguments[0]))
        return _fixed([_part(argument) for argument in arguments])
    assert issubclass(hint, tuple), f"no shape can be made of {hint}"
    return _Part((tuple,), None, shape_of(hint).read)


def _is_natural(number: int) -> bool:
    return number >= 0 and not number >> 63


def _within(bounds: EnumMeta | Container[Any]) -> Callable[[Any], bool]:
    if isinstance(bounds, EnumMeta):
        return frozenset(map(int, bounds)).__contains__
    if bounds == range(INT64_MAX + 1):
        return _is_natural
    if isinstance(bounds, range):  # which for a number by its name in an enumeration would be gone through one by one
        low, behind = bounds.start, bounds.stop
        return lambda number: low <= number < behind
    return bounds.__contains__


def _either(parts: list[_Part]) -> _Part:
    types = tuple(each for part in parts for each in part.types)
    assert len(types) == len(set(types)), "a value's type says which it is"
    fits = {each: part.fits for part in parts for each in part.types if part.fits is not None}
    made = {each: part.made for part in parts for each in part.types if part.made is not None}

    def one_fits(value: Any) -> bool:
        fit = fits.get(type(value))
        return fit is None or fit(value)

    def one_made(value: Any) -> Any:
        make = made.get(type(value))
        return value if make is None else make(value)

    return _Part(types, one_fits if fits else None, one_made if made else None)


def _each(part: _Part) -> _Part:
    """A tuple of such, as many as there are."""
    types, fit, make = part.types, part.fits, part.made

    def fits(values: tuple[Any, ...]) -> bool:
        return all(type(value) in types and (fit is None or fit(value)) for value in values)

    made = None if make is None else lambda values: tuple([make(value) for value in values])
    return _Part((tuple,), fits, made)


def _fixed(parts: list[_Part]) -> _Part:
    """A tuple of one of each."""
    types = [part.types for part in parts]
    asked = [(at, part.fits) for at, part in enumerate(parts) if part.fits is not None]
    assert not any(part.made for part in parts), "a record in a tuple of several is none that anybody reads"

    def fits(values: tuple[Any, ...]) -> bool:
        return len(values) == len(types) and _are(types, values) and all(fit(values[at]) for at, fit in asked)

    return _Part((tuple,), fits)
