"""Requests as a message has them: without the defaults that most end with, as whoever opens it pays for each field."""

from __future__ import annotations

from typing import Any, Final

from zkv.wire import messages as m

PUT: Final = int(m.Op.PUT)
RANGE: Final = int(m.Op.RANGE)
PLAIN_PUT: Final = m.Put(b"", b"")[2:]
ONE_KEY: Final = m.Range(b"")[1:]
PLAIN_RANGE: Final = m.Range(b"")[7:]


def fields_of(op: int, request: tuple[Any, ...]) -> tuple[Any, ...]:
    """Of a request that may hold anything: what it may not, the member tells."""
    if op == PUT:
        return request[:2] if request[2:] == PLAIN_PUT else request
    if op == RANGE:
        if request[1:] == ONE_KEY:
            return request[:1]
        return request[:7] if request[7:] == PLAIN_RANGE else request
    return request
