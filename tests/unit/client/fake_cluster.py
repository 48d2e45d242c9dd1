"""A cluster as clients see it, in a dict: the other side of docs/PROTOCOL.md, small enough to be believed.

One store behind several endpoints. Writes are applied once per (session, id), answers are repeated to retries until the
floor passes them, a copy below the floor is refused. Sessions are forgotten when a test says so, but for those used
lately; then one that was born before `horizon` is refused unless it is known. `applied` keeps every application, so
that a test can count.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from zkv import errors
from zkv.wire import messages as m
from zkv.wire.codec import pack, unpack

CLUSTER_ID, MEMBER_ID, TERM = 77, 11, 3


def answers(*items: tuple[int, int, int, Any], version: int = m.PROTOCOL_VERSION) -> bytes:
    """A message to a client: (id, code, revision, body) each."""
    return pack((version, CLUSTER_ID, MEMBER_ID, TERM, items))


def requests_of(data: bytes) -> m.Requests:
    version, kind, *fields = unpack(data)
    assert (version, kind) == (m.PROTOCOL_VERSION, m.ClientKind.REQUESTS)
    return m.Requests(*fields)


class FakeCluster:
    def __init__(self, chunk_keys: int = 1000) -> None:
        self.revision = 1
        self.kvs: dict[bytes, m.KeyValue] = {}
        self.applied: Counter[tuple[bytes, int]] = Counter()
        self.values: Counter[bytes] = Counter()
        self.floors: dict[bytes, int] = {}
        self.kept: dict[tuple[bytes, int], tuple[int, int, int, Any]] = {}
        self.now = 0
        self.used: dict[bytes, int] = {}
        self.horizon = 0
        self.chunk_keys = chunk_keys
        self.streams: dict[tuple[object, int], list[list[Any]]] = {}
        self.credit: Counter[tuple[object, int]] = Counter()

    def handle(self, client: object, data: bytes) -> list[bytes]:
        """What a message from `client` is answered with, at once."""
        version, kind, *fields = unpack(data)
        assert version == m.PROTOCOL_VERSION
        if kind == m.ClientKind.REQUESTS:
            request = m.Requests(*fields)
            return [out for item in request.requests for out in self._serve(client, request, item)]
        if kind == m.ClientKind.CREDIT:
            self.credit[client, fields[0]] += fields[1]
            return self._flow(client, fields[0])
        self.streams.pop((client, fields[0]), None)
        return []

    def forget(self, before: int) -> None:
        """The sessions not used since."""
        for session in [session for session, used in self.used.items() if used <= before]:
            del self.used[session]
            self.floors.pop(session, None)
            self.kept = {name: kept for name, kept in self.kept.items() if name[0] != session}
            self.horizon = self.revision + 1  # a session is born of what was applied before, and opened after that

    def _serve(self, client: object, group: m.Requests, item: tuple[int, int, Any]) -> list[bytes]:
        id_, op, fields = item
        request = m.REQUEST_CLASSES[op](*fields)
        if isinstance(request, m.Range):
            return self._range(client, id_, request)
        if isinstance(request, m.Put):
            return [answers(self._write(group, id_, request))]
        return [answers((id_, errors.InvalidRequest.code, self.revision, ("not here",)))]

    def _write(self, group: m.Requests, id_: int, request: m.Put) -> tuple[int, int, int, Any]:
        session = group.session
        name = (session, id_)
        unknown = session not in self.used and int.from_bytes(session[:8], "big") < self.horizon
        if unknown or id_ < self.floors.get(session, 0):
            return (id_, errors.SessionExpired.code, self.revision, (str(max(self.revision, self.horizon)),))
        self.used[session] = self.now
        if group.floor > self.floors.get(session, 0):
            self.floors[session] = group.floor
            self.kept = {key: kept for key, kept in self.kept.items() if key[0] != session or key[1] >= group.floor}
        if name not in self.kept:
            self.applied[name] += 1
            self.values[request.value] += 1
            self.revision += 1
            was = self.kvs.get(request.key)
            created, version = (was.create_revision, was.version + 1) if was else (self.revision, 1)
            self.kvs[request.key] = m.KeyValue(request.key, created, self.revision, version, request.value, 0)
            self.kept[name] = (id_, 0, self.revision, (was if request.prev_kv else None,))
        return self.kept[name]

    def _range(self, client: object, id_: int, request: m.Range) -> list[bytes]:
        end = request.range_end or request.key + b"\0"
        kvs = [kv for key, kv in sorted(self.kvs.items()) if key >= request.key and (end == b"\0" or key < end)]
        if request.sort_order == m.SortOrder.DESCEND:
            kvs.reverse()
        limit = 0 if request.count_only else request.limit or len(kvs)
        taken, more, count = kvs[:limit], 0 < limit < len(kvs), len(kvs)
        step = self.chunk_keys
        parts = [taken[start : start + step] for start in range(0, len(taken), step)] or [[]]
        self.streams[client, id_] = [[part, more, count] for part in parts]
        self.credit[client, id_] = 4
        return self._flow(client, id_)

    def _flow(self, client: object, id_: int) -> list[bytes]:
        """Chunks as far as credit goes."""
        out = []
        parts = self.streams.get((client, id_), [])
        while parts and self.credit[client, id_]:
            self.credit[client, id_] -= 1
            part = parts.pop(0)
            out.append(answers((id_, errors.Code.CHUNK if parts else errors.Code.OK, self.revision, part)))
        if not parts:
            self.streams.pop((client, id_), None)
        return out
