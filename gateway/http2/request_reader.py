"""Header blocks to requests, and what is remembered of them, for most requests of a client differ in nothing.

    by the block's bytes   as long as the table stands still, the same bytes are the same request
    by the fields          whatever the table: decoded, they need not be looked at again

One field, `aside`, does not count: it is taken out, and comes beside the request. For gRPC that is grpc-timeout, which
Go's client makes a new one of for every call; without this, each would be decoded (6 us), checked (4) and understood
(4).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from zkv.gateway.http2.header_blocks import Fields, HeaderDecoder
from zkv.gateway.http2.requests import Request, parse_request
from zkv.gateway.http2.words import ConnectionFault, ErrorCode

if TYPE_CHECKING:
    from zkv.gateway.http2.limits import Http2Limits

_HARMLESS: Final = re.compile(rb"[0-9A-Za-z]{1,64}")
"""A value that needs no further check."""


class RequestReader:
    """The peer's half of the compression. After a ConnectionFault it is not to be used again."""

    def __init__(self, limits: Http2Limits, aside: bytes | None) -> None:
        self._limits = limits
        self._aside = aside
        self._decoder = HeaderDecoder(limits.header_list_bytes_max)
        self._by_block: dict[bytes, tuple[Request, bytes]] = {}
        self._by_fields: dict[Fields, Request] = {}

    def request(self, block: bytes) -> tuple[Request, bytes]:
        """A request, and the value of the field set aside, b"" without one.

        Raises StreamFault if it is malformed, ConnectionFault.
        """
        known = self._by_block.get(block)
        if known is not None:
            return known
        moves = self._decoder.moves
        fields, aside = self._set_aside(self.fields(block))
        request = self._by_fields.get(fields)
        if request is None:
            request = parse_request(fields)
            if len(self._by_fields) >= self._limits.cached_requests_max:
                self._by_fields.clear()
            self._by_fields[fields] = request
        if self._decoder.moves == moves:
            if len(self._by_block) >= self._limits.cached_requests_max:
                self._by_block.clear()
            self._by_block[block] = (request, aside)
        return request, aside

    def fields(self, block: bytes) -> Fields:
        """Any block's. Every block must come by here, whatever it is for, or the tables are not the same any more."""
        if len(block) > self._limits.header_block_bytes_max:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "a header block without end")
        decoder = self._decoder
        moves = decoder.moves
        fields = decoder.decode(block)
        if decoder.moves != moves and self._by_block:
            self._by_block.clear()
        return fields

    def forget(self) -> None:
        self._by_block.clear()
        self._by_fields.clear()

    def _set_aside(self, fields: Fields) -> tuple[Fields, bytes]:
        aside = self._aside
        for i, (name, value) in enumerate(fields):
            if name == aside and _HARMLESS.fullmatch(value):
                return fields[:i] + fields[i + 1 :], value
        return fields, b""
