"""A request and its answer, whatever carries them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from zkv.gateway.grpc_line import Peer

    Fields = Sequence[tuple[str, str]]

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"


class Asked(NamedTuple):
    """A request's head. Names of `fields` are in lower case; of several of one name the first counts, as with Go."""

    method: str
    path: str
    query: str
    host: str
    fields: Mapping[str, str]
    peer: Peer


class Exchange(Protocol):
    """Takes the answer: its head once, its body in any number of pieces, its end once. Void when nobody listens."""

    def head(self, status: int, fields: Fields, size: int | None = None) -> None:
        """`size`: of the body, where it is known."""

    def body(self, data: bytes) -> bool:
        """False: wait for `Receiver.drained`."""

    def end(self) -> None: ...

    def abort(self) -> None:
        """An answer that cannot be finished must not look whole."""


class Receiver(Protocol):
    """Takes what follows a request's head. After `gone` nothing more comes."""

    def data(self, data: bytes, now: int) -> None: ...
    def ended(self, now: int) -> None:
        """The request is whole."""

    def drained(self) -> None:
        """More of the answer may be given."""

    def gone(self) -> None:
        """Nobody waits for the answer any more."""


class Desk(Protocol):
    """Who serves requests."""

    def asked(self, exchange: Exchange, asked: Asked, now: int) -> Receiver | None:
        """None: it is answered, or will be without its body."""


def answer(exchange: Exchange, status: int, kind: str, body: bytes, fields: Fields = ()) -> None:
    """All of an answer at once."""
    exchange.head(status, (*fields, ("Content-Type", kind)) if kind else fields, len(body))
    if body:
        exchange.body(body)
    exchange.end()
