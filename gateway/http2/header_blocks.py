"""HPACK (RFC 7541): the peer's header blocks to fields, and ours to bytes.

Decoding. The tables and the Huffman code are `hpack`'s; the walk over a block is ours, for two reasons. Clients of etcd
send `grpc-timeout` with every call, and Go's put each value into the table, so that no two blocks are alike: hpack's
own walk, with a memory view and a log line per field, takes 18 us for such a block and this one 5. And it is stricter:
at most two table size updates (section 4.2), no field past the limit.

What does not touch the table means the same as long as the table stands still, so its result is remembered by its
bytes. Any insertion or resizing forgets all; memory is bounded by count and by the length a block may have.

Encoding. Nothing of ours goes into the peer's table: fields are static entries or literals, so a block is the same
bytes for every peer and at any time, and can be made once. The table we would use is therefore always empty; a peer
that makes it smaller is told once, with the first block after, that its size is zero (section 4.2), for some ask for
that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from hpack.exceptions import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from zkv.gateway.http2.words import ConnectionFault, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Iterable

Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]

TABLE_BYTES: Final = HeaderTable.DEFAULT_SIZE
"""SETTINGS_HEADER_TABLE_SIZE: the default, which we leave."""
FIELD_OVERHEAD_BYTES: Final = 32
SIZE_UPDATES_MAX: Final = 2
INTEGER_BYTES_MAX: Final = 4
TABLE_UNUSED: Final = b"\x20"
"""A dynamic table size update to 0."""

_STATIC: Final = HeaderTable.STATIC_TABLE
_STATIC_COUNT: Final = len(_STATIC)
_STATIC_INDEX: Final = {field: index for index, field in reversed(list(enumerate(_STATIC, 1)))}
_STATIC_NAME_INDEX: Final = {name: index for index, (name, _) in reversed(list(enumerate(_STATIC, 1)))}


def _broken(reason: str) -> ConnectionFault:
    return ConnectionFault(ErrorCode.COMPRESSION_ERROR, reason)


class HeaderDecoder:
    """One direction's table. After a ConnectionFault it is out of step with the peer, and not to be used again."""

    def __init__(self, list_bytes_max: int) -> None:
        self._table = HeaderTable()
        self._list_bytes_max = list_bytes_max
        self.moves = 0
        """How often the table has changed: what was decoded before that may mean something else now."""

    def decode(self, block: bytes) -> Fields:
        """Raises ConnectionFault."""
        try:
            return self._decode(block)
        except IndexError:
            raise _broken("header block: truncated, or an index nobody gave") from None
        except HPACKError:
            raise _broken("header block: bad Huffman code") from None

    def _decode(self, block: bytes) -> Fields:
        table = self._table
        entries = table.dynamic_entries
        room = self._list_bytes_max
        end = len(block)
        position = self._resize(block)
        fields: list[tuple[bytes, bytes]] = []
        while position < end:
            first = block[position]
            if first & 0x80:  # 6.1: indexed
                index = first & 0x7F
                if index == 0x7F:
                    index, position = _integer(block, position, 0x7F)
                else:
                    position += 1
                if index > _STATIC_COUNT:
                    field = entries[index - _STATIC_COUNT - 1]
                elif index:
                    field = _STATIC[index - 1]
                else:
                    raise _broken("header block: index 0")
            else:  # 6.2: literal, to be inserted or not
                if first & 0x40:
                    mask = 0x3F
                elif first & 0x20:
                    raise _broken("header block: table size update after a field")
                else:
                    mask = 0x0F
                index = first & mask
                if index == mask:
                    index, position = _integer(block, position, mask)
                else:
                    position += 1
                if index > _STATIC_COUNT:
                    name = entries[index - _STATIC_COUNT - 1][0]
                elif index:
                    name = _STATIC[index - 1][0]
                else:
                    name, position = _string(block, position)
                value, position = _string(block, position)
                field = (name, value)
                if mask == 0x3F:
                    table.add(name, value)
                    self.moves += 1
            room -= len(field[0]) + len(field[1]) + FIELD_OVERHEAD_BYTES
            if room < 0:
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header list larger than SETTINGS said")
            fields.append(field)
        return tuple(fields)

    def _resize(self, block: bytes) -> int:
        """Follow the table size updates a block may begin with; where its fields begin."""
        position = 0
        updates = 0
        while position < len(block) and block[position] & 0xE0 == 0x20:
            size, position = _integer(block, position, 0x1F)
            updates += 1
            if size > TABLE_BYTES or updates > SIZE_UPDATES_MAX:
                raise _broken("header block: table size update beyond what SETTINGS allow")
            self._table.maxsize = size
            self.moves += 1
        return position


def _integer(block: bytes, position: int, mask: int) -> tuple[int, int]:
    """Section 5.1: (number, where it ends). Raises IndexError, ConnectionFault."""
    number = block[position] & mask
    position += 1
    if number < mask:
        return number, position
    for shift in range(0, 7 * INTEGER_BYTES_MAX, 7):
        byte = block[position]
        position += 1
        number += (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise _broken("header block: integer too long")


def _string(block: bytes, position: int) -> tuple[bytes, int]:
    """Section 5.2: (text, where it ends). Raises IndexError, HPACKError, ConnectionFault."""
    first = block[position]
    size = first & 0x7F
    if size == 0x7F:
        size, position = _integer(block, position, 0x7F)
    else:
        position += 1
    stop = position + size
    if stop > len(block):
        raise _broken("header block: truncated")
    text = block[position:stop]
    return (decode_huffman(text) if first & 0x80 else text), stop


def encode(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A block that means the same at any time: static entries, and literals that enter no table."""
    return b"".join(_encode_field(name, value) for name, value in fields)


def _encode_field(name: bytes, value: bytes) -> bytes:
    if index := _STATIC_INDEX.get((name, value)):
        return bytes((0x80 | index,))  # all 61 fit into the first byte
    index = _STATIC_NAME_INDEX.get(name, 0)
    head = _encode_integer(index, 0x0F)
    return head + (b"" if index else _encode_string(name)) + _encode_string(value)


def _encode_string(text: bytes) -> bytes:
    return _encode_integer(len(text), 0x7F) + text


def _encode_integer(number: int, mask: int) -> bytes:
    if number < mask:
        return bytes((number,))
    out = bytearray((mask,))
    number -= mask
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
