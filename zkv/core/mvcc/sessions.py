"""Exactly once, the cluster's half: what each client session was answered, until the client says that it knows.

A write is named by (session, id). The table, part of the replicated state, holds for each session the answers of its
writes from the client's `floor` on. A write found there gets its answer again and is not applied; one below the
floor is a late copy of what the client has taken for answered, and gets SessionExpired.

**Never twice.** Sessions that fall idle are forgotten, and then a late copy of a write would look new. So the
name of a session says when it was born: its first eight bytes are (big endian) the index of an entry that a member had
applied *before* the client made the name up, the other eight are random. The table remembers `horizon`: the
newest entry that ever opened a session since forgotten. A session that is not in the table and was born
- at or after the horizon, was never forgotten (it would have been opened after its birth, and the horizon would
  lie behind that), so it is new: it is opened;
- before the horizon, may have been: its writes get SessionExpired, with the index applied now as the detail,
  by which the client names its next session.
Eight zero bytes will do for a client that knows no index yet: at worst it is told one. A client that claims an index of
the future gives away its own protection, nobody else's.

**Forgetting** goes by the time in the log alone, so that all members do the same. Each session has one entry in a
queue, under the time when it was last looked at (not: used). Who comes to the front has been idle since, and goes,
or has been used, and is put back under that time. So a session costs one engine record a batch, and the queue
nothing. A session idle for `session_idle_ms` goes; where `sessions_max` are held, one idle for `session_kept_ms`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter, read_i64_be, write_i64_be

from zkv.core.mvcc.layout import SESSION, SESSION_QUEUE, after_prefix
from zkv.errors import AnswerLost, SessionExpired, TooManyRequests
from zkv.wire.codec import array_head, pack, unpack, write_bytes

if TYPE_CHECKING:
    from zkv.core.mvcc.engine import Reader
    from zkv.limits import Limits

LOOKS_MAX: Final = 16
"""Sessions looked at for their age by one entry, and by one that needs room."""
CACHED_MAX: Final = 4096
"""Sessions kept unpacked in memory, and ..."""
CACHED_BYTES_MAX: Final = 16 << 20
"""... the bytes of their answers."""

_HEAD_BYTES: Final = 32  # used at, queued under, opened by entry, floor


class Session:
    """`answers`: packed (id, code, revision, body) by id, in the order they were given."""

    __slots__ = ("answers", "dirty", "floor", "held", "name", "opened", "queued", "record_bytes", "used")

    def __init__(self, name: bytes, used: int, queued: int, opened: int, floor: int) -> None:
        self.name = name
        self.used = used
        self.queued = queued
        self.opened = opened
        self.floor = floor
        self.answers: dict[int, bytes] = {}
        self.held = 0
        self.dirty = False
        self.record_bytes = 0

    def remember(self, request: int, answer: bytes, revision: int, limits: Limits) -> None:
        """Keep an answer for retries; of one too large only that it was given."""
        size = len(answer)
        if size > limits.session_answer_bytes_max or self.held + size > limits.session_bytes_max:
            answer = pack((request, AnswerLost.code, revision, ()))
            size = len(answer)
        self.answers[request] = answer
        self.held += size

    def raise_floor(self, floor: int) -> None:
        self.floor = floor
        kept: dict[int, bytes] = {}
        self.held = 0
        for request, answer in self.answers.items():
            if request >= floor:
                kept[request] = answer
                self.held += len(answer)
        self.answers = kept

    def packed(self) -> bytes:
        writer = BytesWriter()
        write_i64_be(writer, self.used)
        write_i64_be(writer, self.queued)
        write_i64_be(writer, self.opened)
        write_i64_be(writer, self.floor)
        writer.write(array_head(len(self.answers)))
        for answer in self.answers.values():
            write_bytes(writer, answer)
        return writer.getvalue()


def _unpacked(name: bytes, record: bytes) -> Session:
    used, queued, opened, floor = [read_i64_be(record, at) for at in range(0, _HEAD_BYTES, 8)]
    session = Session(name, used, queued, opened, floor)
    session.record_bytes = len(record)
    for answer in unpack(memoryview(record)[_HEAD_BYTES:]):
        session.answers[unpack(answer)[0]] = answer
        session.held += len(answer)
    return session


class Sessions:
    """The table: records in the engine, the lately used ones in memory, what changed since `flush` was called beside.

    `count` and `horizon` are persisted by the owner, with its place in the log.
    """

    def __init__(self, reader: Reader, limits: Limits, count: int, horizon: int) -> None:
        self._reader = reader
        self._limits = limits
        self.count = count
        self.horizon = horizon
        self._cache: OrderedDict[bytes, Session] = OrderedDict()
        self._cached_bytes = 0
        self._dirty: list[Session] = []
        self._puts: dict[bytes, bytes] = {}
        self._deletes: set[bytes] = set()
        first = next(iter(reader.scan(SESSION_QUEUE, after_prefix(SESSION_QUEUE))), None)
        self._oldest = _queued_under(first[0]) if first else None

    def of(self, name: bytes, floor: int, index: int, now: int) -> Session:
        """The session `name`, opened if it is new, for use by entry `index` at cluster time `now`.

        Raises SessionExpired, TooManyRequests when no session may be forgotten for it.
        """
        session = self._cached(name)
        if session is None:
            if int.from_bytes(name[:8], "big") < self.horizon:
                raise SessionExpired(str(index))
            if self.count >= self._limits.sessions_max:
                self._forget(now - self._limits.session_kept_ms, 1)
                if self.count >= self._limits.sessions_max:
                    raise TooManyRequests("sessions")
            session = self._open(name, floor, index, now)
        session.used = now
        self.touch(session)
        if floor > session.floor:
            session.raise_floor(floor)
        return session

    def touch(self, session: Session) -> None:
        """It changes, or goes on changing after `flush` was called."""
        if not session.dirty:
            session.dirty = True
            self._dirty.append(session)

    def _open(self, name: bytes, floor: int, index: int, now: int) -> Session:
        session = self._cache[name] = Session(name, now, now, index, floor)
        self.count += 1
        self._queue(session, now)
        self._deletes.discard(SESSION + name)
        return session

    def _cached(self, name: bytes) -> Session | None:
        session = self._cache.get(name)
        if session is not None:
            self._cache.move_to_end(name)
            return session
        key = SESSION + name
        if key in self._deletes:
            return None
        record = self._reader.get(key)
        if record is None:
            return None
        session = self._cache[name] = _unpacked(name, record)
        self._cached_bytes += session.record_bytes
        return session

    # --- growing old ---

    def expire(self, now: int) -> None:
        """To be called once by each entry, before its requests."""
        if self._oldest is not None and self._oldest <= now - self._limits.session_idle_ms:
            self._forget(now - self._limits.session_idle_ms, LOOKS_MAX)

    def _forget(self, before: int, forget_max: int) -> None:
        """Forget sessions unused since `before`, looking at LOOKS_MAX of those queued under that or earlier."""
        if before < 0:
            return  # the cluster is younger than that
        for key in self._front(_queue_key(before + 1, bytes(16))):
            name = key[-16:]
            session = self._cached(name)
            assert session is not None, "who is queued is there"
            self._deletes.add(key)
            self._puts.pop(key, None)
            if session.used > before:
                self._queue(session, session.used)
                self.touch(session)
                continue
            self.horizon = max(self.horizon, session.opened)
            self.count -= 1
            del self._cache[name]
            self._cached_bytes -= session.record_bytes
            if session.dirty:
                self._dirty.remove(session)
            self._deletes.add(SESSION + name)
            forget_max -= 1
            if not forget_max:
                break
        self._find_oldest()

    def _queue(self, session: Session, at: int) -> None:
        session.queued = at
        key = _queue_key(at, session.name)
        self._deletes.discard(key)
        self._puts[key] = b""
        if self._oldest is None or at < self._oldest:
            self._oldest = at

    def _front(self, end: bytes) -> list[bytes]:
        """The queue's first keys before `end`, pending changes included."""
        front = [key for key in self._puts if key < end]
        taken = 0
        for key in self._reader.keys(SESSION_QUEUE, end):
            if taken == LOOKS_MAX:
                break
            if key not in self._deletes and key not in self._puts:
                front.append(key)
                taken += 1
        return sorted(front)[:LOOKS_MAX]

    def _find_oldest(self) -> None:
        front = self._front(after_prefix(SESSION_QUEUE))
        self._oldest = _queued_under(front[0]) if front else None

    # --- writing ---

    def flush(self, puts: list[tuple[bytes, bytes]], deletes: list[bytes]) -> None:
        """Add what has changed since the last call, to be written with what changed it."""
        if self._puts:
            puts += self._puts.items()
            self._puts = {}
        if self._deletes:
            deletes += self._deletes
            self._deletes = set()
        for session in self._dirty:
            session.dirty = False
            record = session.packed()
            puts.append((SESSION + session.name, record))
            self._cached_bytes += len(record) - session.record_bytes
            session.record_bytes = len(record)
        self._dirty = []
        self._shrink()

    def _shrink(self) -> None:
        cache = self._cache
        while len(cache) > 1 and (len(cache) > CACHED_MAX or self._cached_bytes > CACHED_BYTES_MAX):
            self._cached_bytes -= cache.popitem(last=False)[1].record_bytes


def _queue_key(at: int, name: bytes) -> bytes:
    writer = BytesWriter()
    writer.write(SESSION_QUEUE)
    write_i64_be(writer, at)
    writer.write(name)
    return writer.getvalue()


def _queued_under(key: bytes) -> int:
    return read_i64_be(key, 1)
