"""The native protocol's envelopes (docs/PROTOCOL.md): what requests and answers travel in, from client to gateway."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, NamedTuple

from zkv.wire.shapes import INT64_MAX, Natural

# Client to gateway:

PROTOCOL_VERSION = 1


class ClientKind(IntEnum):
    """What a client's message is: its second field."""

    REQUESTS = 1
    CREDIT = 2
    CANCEL = 3
    PING = 4
    WATCH = 5
    UNWATCH = 6
    WATCH_CREDIT = 7
    WATCH_PROGRESS = 8


class Requests(NamedTuple):
    """Requests made at once. `requests`: (id, Op, fields) each.

    `session` (16 bytes, or b"" for a client that takes no care of retries) and `id` together name a write for
    good: sent again, on any member, it is applied once. `floor` is the lowest id the client still waits for:
    what lies below is answered and may be forgotten.

    A session's first eight bytes are, big endian, the index of a log entry that some member had applied before the
    session was made up (StatusAnswer.raft_applied_index, or the detail of a SessionExpired), or zeros; the other
    eight are random. So the cluster can tell a new session from one that it has forgotten (core/mvcc/sessions.py).
    """

    session: bytes
    floor: int
    requests: tuple[tuple[int, int, tuple[object, ...]], ...]
    token: str = ""
    """What Authenticate gave, where the cluster asks who one is. The door puts a Caller in its place."""


class Credit(NamedTuple):
    """The client has taken `chunks` more chunks of the range it asked for as request `id`."""

    id: int
    chunks: int


class Cancel(NamedTuple):
    """The client wants no more chunks of the range it asked for as request `id`."""

    id: int


class Ping(NamedTuple):
    token: int


class Watch(NamedTuple):
    """Tell me what happens in [key, range_end) from `start_revision` on (0: from now on).

    `id`, 1 or more, is the client's; no two watches of one connection share it. `no_put`, `no_delete`: events not
    wanted. `progress_notify`: say now and then how far the store is, when nothing else was to be said. `fragment`: the
    events of one revision may come in several answers where they are large.
    """

    id: Annotated[int, range(1, INT64_MAX + 1)]
    key: bytes
    range_end: bytes = b""
    start_revision: Natural = 0
    prev_kv: bool = False
    no_put: bool = False
    no_delete: bool = False
    progress_notify: bool = False
    fragment: bool = False


class Watches(NamedTuple):
    """Client to gateway, kind WATCH: watches begun at once. `token` as in Requests."""

    watches: tuple[Watch, ...]
    token: str = ""


class Unwatch(NamedTuple):
    """The client wants no more of the watch `id`; answered by CANCELLED."""

    id: int


class WatchCredit(NamedTuple):
    """The client has taken so many more bytes of messages with watch answers; 0: it is still there."""

    taken: int


class WatchProgress(NamedTuple):
    """How far are all watches of this connection? Answered by PROGRESS, once nothing older is owed to any of them."""


class WatchKind(IntEnum):
    """What a watch answer is: its second field, and what its body is."""

    CREATED = 0  # ()
    EVENTS = 1  # the events of one revision or several, whole and in order: (deleted, KeyValue, prev_kv or None) each
    FRAGMENT = 2  # the same, but more events of the last revision follow
    PROGRESS = 3  # (): all events up to `revision` have been told
    CANCELLED = 4  # (code or 0: by the client's wish, compact revision or 0, revision to resume from, retry_after_ms=0)


# Gateway to client:


class Answers(NamedTuple):
    """`answers`: (id, code, revision, body) each; `code` as in errors.py, `body` its fields (or an error's).

    An error's fields are () or (detail,). Id 0: what came in could not be read as far as a request's id.
    `token` answers a Ping (then `answers` is empty). `watches`: (watch ids, WatchKind, revision, body) each; no message
    holds both answers and watches.
    """

    version: int
    cluster_id: int
    member_id: int
    raft_term: int
    answers: tuple[tuple[int, int, int, object], ...]
    token: int = 0
    watches: tuple[tuple[tuple[int, ...], int, int, object], ...] = ()
