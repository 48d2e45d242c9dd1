"""protobuf <-> JSON as etcd's grpc-gateway has it (golang/protobuf's jsonpb): names as in the .proto files, 64-bit
integers and bytes as text, enums by name, nothing that is not set.

Read is what jsonpb reads: names in camelCase too, integers with or without quotes, enums by number too, fields that
there are not are passed over. Faults are in Go's words (go_json.py). Google's json_format, which has the same form,
says other things of what is wrong, and writes a key-value pair in 30 us; here it is 1.5.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.descriptor import FieldDescriptor as Field

from zkv.gateway.pb.kv_pb2 import KeyValue
from zkv.gateway.web import go_json
from zkv.gateway.web.go_json import JsonFault, Number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

PIECE_BYTES: Final = 128 * 1024
"""An answer's elements are written so many bytes at a time, about."""
_OBJECT: Final = "map[string]json.RawMessage"
_ARRAY: Final = "[]json.RawMessage"
_ENUM: Final = "protoreflect.EnumNumber"
_INTEGERS: Final = {
    Field.TYPE_INT64: ("int64", -(1 << 63), (1 << 63) - 1),
    Field.TYPE_UINT64: ("uint64", 0, (1 << 64) - 1),
    Field.TYPE_INT32: ("int32", -(1 << 31), (1 << 31) - 1),
    Field.TYPE_UINT32: ("uint32", 0, (1 << 32) - 1),
}
_INTEGER: Final = re.compile(r"-?[0-9]+")
_GO_ESCAPED: Final = re.compile('[\x00-\x1f"\\\\<>&\u2028\u2029]')
_SHORT_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


# --- reading ---------------------------------------------------------------------------------------


def read(message: Message, value: Any) -> None:
    """Fill a message with a value of go_json. Raises JsonFault."""
    if value is None:
        return
    if type(value) is not dict:
        raise _cannot(value, _OBJECT)
    for name, json_name, field in _fields(message.DESCRIPTOR):
        given = value.get(json_name)
        if given is None:
            given = value.get(name)
        if given is None:
            continue
        if field.is_repeated:
            if type(given) is not list:
                raise _cannot(given, _ARRAY)
            into = getattr(message, name)
            if field.type == Field.TYPE_MESSAGE:
                for each in given:
                    read(into.add(), each)
            else:
                into.extend(_scalar(field, each) for each in given)
        elif field.type == Field.TYPE_MESSAGE:
            part = getattr(message, name)
            part.SetInParent()
            read(part, given)
        else:
            setattr(message, name, _scalar(field, given))


@cache
def _fields(descriptor: Descriptor) -> list[tuple[str, str, Field]]:
    return [(field.name, field.json_name, field) for field in descriptor.fields]


def _scalar(field: Field, value: Any) -> Any:
    kind = field.type
    if kind == Field.TYPE_BYTES:
        return _bytes(value)
    if kind == Field.TYPE_STRING:
        if value is None:
            return ""
        if type(value) is not str:
            raise _cannot(value, "string")
        return go_json.valid(value)
    if kind == Field.TYPE_BOOL:
        if value is not None and type(value) is not bool:
            raise _cannot(value, "bool")
        return bool(value)
    if kind == Field.TYPE_ENUM:
        if type(value) is not str:
            return _integer(value, _ENUM, -(1 << 31), (1 << 31) - 1)
        enum = field.enum_type
        assert enum is not None
        known = enum.values_by_name.get(value)
        if known is None:
            spelled = json.dumps(go_json.valid(value), ensure_ascii=False)
            raise JsonFault(f"unknown value {go_json.quote(spelled)} for enum {enum.full_name}")
        return known.number
    if type(value) is str:
        value = go_json.whole(value)
    return _integer(value, *_INTEGERS[kind])


def _integer(value: Any, kind: str, least: int, most: int) -> int:
    if value is None:
        return 0
    if type(value) is not Number:
        raise _cannot(value, kind)
    if _INTEGER.fullmatch(value) and len(value) <= 20 and least <= int(value) <= most:
        return int(value)
    raise JsonFault(f"json: cannot unmarshal number {value} into Go value of type {kind}")


def _bytes(value: Any) -> bytes:
    if value is None:
        return b""
    if type(value) is str:
        return go_json.base64(value)
    if type(value) is list:  # Go's []uint8 is an array too
        return bytes(_integer(each, "uint8", 0, 255) for each in value)
    raise _cannot(value, "[]uint8")


def _cannot(value: Any, kind: str) -> JsonFault:
    names = {dict: "object", list: "array", str: "string", Number: "number", bool: "bool"}
    return JsonFault(f"json: cannot unmarshal {names[type(value)]} into Go value of type {kind}")


# --- writing ---------------------------------------------------------------------------------------


def quote(text: str) -> str:
    """A string as Go's encoder writes it."""
    return '"' + _GO_ESCAPED.sub(_escape, text) + '"'


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    return _SHORT_ESCAPES.get(char) or f"\\u{ord(char):04x}"


def write(message: Message) -> str:
    return "".join(pieces(message))


def pieces(message: Message) -> Iterator[str]:
    """What `write` gives, in pieces: so nobody waits for an answer of a million keys to be written."""
    part: list[str] = []
    size = 0
    lead = "{"
    for field, value in message.ListFields():
        part.append(f'{lead}"{field.name}":')
        lead = ","
        if not field.is_repeated:
            part.append(_WRITERS.get(field.type, str)(value) if field.type != Field.TYPE_ENUM else _enum(field, value))
            continue
        between = "["
        for text in _elements(field, value):
            part += (between, text)
            between = ","
            size += len(text)
            if size >= PIECE_BYTES:
                yield "".join(part)
                part.clear()
                size = 0
        part.append("]")
    part.append("{}" if lead == "{" else "}")
    yield "".join(part)


def _elements(field: Field, values: Iterable[Any]) -> Iterable[str]:
    if field.type == Field.TYPE_ENUM:
        return (_enum(field, value) for value in values)
    if field.message_type is KeyValue.DESCRIPTOR:
        return map(_key_value, values)
    return map(_WRITERS.get(field.type, str), values)


def _enum(field: Field, value: int) -> str:
    assert field.enum_type is not None
    known = field.enum_type.values_by_number.get(value)
    return f'"{known.name}"' if known is not None else str(value)


def _key_value(kv: KeyValue) -> str:
    """By hand: it is what most answers are made of."""
    if not (kv.key and kv.create_revision and kv.mod_revision and kv.version):
        return write(kv)
    text = (
        f'{{"key":"{b64encode(kv.key).decode()}","create_revision":"{kv.create_revision}",'
        f'"mod_revision":"{kv.mod_revision}","version":"{kv.version}"'
    )
    if kv.value:
        text += f',"value":"{b64encode(kv.value).decode()}"'
    return f'{text},"lease":"{kv.lease}"}}' if kv.lease else text + "}"


_WRITERS: Final[dict[int, Callable[[Any], str]]] = {
    Field.TYPE_BYTES: lambda value: f'"{b64encode(value).decode()}"',
    Field.TYPE_STRING: quote,
    Field.TYPE_BOOL: lambda value: "true" if value else "false",
    Field.TYPE_INT64: lambda value: f'"{value}"',
    Field.TYPE_UINT64: lambda value: f'"{value}"',
    Field.TYPE_MESSAGE: write,
}
"""The others are numbers."""
