"""What watches tell: events, and how they come out of a member's watch answers."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from zkv.client.answers import key_value
from zkv.client.ticket import Header

if TYPE_CHECKING:
    from zkv.wire.messages import KeyValue

KV_OVERHEAD = 24
"""What a KeyValue costs on the wire beside its key and value, about."""


class WatchEvent(NamedTuple):
    """What happened to one key.

    `kv` is the key as it is since; of a deleted one it holds the key and, as `mod_revision`, when it was deleted.
    `prev_kv` is what was there before, where that was asked for, and is still known.
    """

    type: Literal["PUT", "DELETE"]
    kv: KeyValue
    prev_kv: KeyValue | None = None

    @property
    def key(self) -> bytes:
        return self.kv.key

    @property
    def value(self) -> bytes:
        return self.kv.value

    @property
    def revision(self) -> int:
        """The revision at which it happened."""
        return self.kv.mod_revision

    @property
    def is_create(self) -> bool:
        """A put of a key that was not there."""
        return self.type == "PUT" and self.kv.create_revision == self.kv.mod_revision

    @property
    def is_modify(self) -> bool:
        """A put of a key that was there."""
        return self.type == "PUT" and self.kv.create_revision != self.kv.mod_revision


class WatchResponse(NamedTuple):
    """All events of one revision that the watch is for; or, `progress`, none: the watch has been told all up to it."""

    header: Header
    events: tuple[WatchEvent, ...]
    progress: bool = False

    @property
    def revision(self) -> int:
        return self.header.revision


class Batch:
    """Responses of one message, for one watch or for several, which share it.

    `size`: bytes, about. `left`: watches that have not read it. `parts`: those it was put together from, which count
    instead of itself.
    """

    __slots__ = ("left", "line", "parts", "responses", "size")

    def __init__(self, line: Any, size: int, responses: tuple[WatchResponse, ...], left: int = 0) -> None:
        self.line = line
        self.size = size
        self.responses = responses
        self.left = left
        self.parts: tuple[Batch, ...] = ()

    @property
    def first(self) -> int:
        """The revision to begin with, to be told this anew."""
        response = self.responses[0]
        return response.revision + response.progress


def parse(line: Any, origin: tuple[int, int, int], upto: int, body: Any) -> Batch:
    """The events of an answer, by revision. Raises TypeError, ValueError, LookupError for what are none."""
    cluster_id, member_id, raft_term = origin
    responses: list[WatchResponse] = []
    events: list[WatchEvent] = []
    size = before = 0
    for fields in body:
        deleted, kv, prev_kv = fields if len(fields) == 3 else fields[:3]
        kv = key_value(kv)
        size += len(kv.key) + len(kv.value) + KV_OVERHEAD
        if prev_kv is not None:
            prev_kv = key_value(prev_kv)
            size += len(prev_kv.key) + len(prev_kv.value) + KV_OVERHEAD
        revision = kv.mod_revision
        if revision != before:
            if type(revision) is not int or revision < before:
                raise ValueError("order of events")
            if events:
                responses.append(WatchResponse(Header(cluster_id, member_id, before, raft_term), tuple(events)))
                events = []
            before = revision
        events.append(WatchEvent("DELETE" if deleted else "PUT", kv, prev_kv))
    if not events or before > upto:
        raise ValueError("revision of events")
    responses.append(WatchResponse(Header(cluster_id, member_id, before, raft_term), tuple(events)))
    return Batch(line, size, tuple(responses))


def joined(parts: tuple[Batch, ...]) -> Batch:
    """The pieces of a revision that came in several answers, and what came with them, as one."""
    responses = list(parts[0].responses)
    for part in parts[1:]:
        first, *rest = part.responses
        last = responses[-1]
        if last.revision == first.revision:
            responses[-1] = last._replace(events=last.events + first.events)
        else:
            responses.append(first)
        responses += rest
    assert all(one.revision < other.revision for one, other in pairwise(responses))
    whole = Batch(parts[0].line, sum(part.size for part in parts), tuple(responses))
    whole.parts = parts
    return whole
