"""A live etcd copied into zkv, and followed: what is done in which order, and what a crash at any place leaves.

    compared at R --------> following R+1, R+2, .. --------> cut over
        ^                        |
        +--- history is gone, or a lease was lost ---+

*Comparing* walks both sides in the order of keys, the source as of one revision R, and puts what differs and deletes
what the source does not have. Into an empty zkv that is a copy; and it is how both are found to be the same at the
end. *Following* applies the source's events behind R, whole revisions of it to a transaction: several where many
wait, for one by one would be slow. So a state that zkv shows is always one that the source had, unless a revision has
more changes than a transaction may.

Where it stands is a key in zkv itself, the *mark*, written in each transaction that changes something, and demanded
by it to be as it was. So a crash of either side, or of this program, loses nothing and repeats nothing, and of two
that are at work the one that began earlier stops. Cutting over removes it.

Leases. Keys keep the id of their lease; the lease is granted in zkv before them, with the TTL that is left at the
source, a second more at most. Then zkv counts by itself; a lease is looked at in the source before half its TTL is
over, and kept alive if it was there. So a lease never ends in zkv before it does in the source, and at most half its
TTL later; keys that the source has deleted for it go with the other events. Should one have ended all the same,
because nobody was at work, the sides are compared anew.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from zkv.client import ops
from zkv.ctl.etcd_source import Compacted, Unreachable
from zkv.ctl.options import CommandError
from zkv.ctl.revisions import Revisions
from zkv.errors import (
    ConnectionFailed,
    DeadlineExceeded,
    LeaseExists,
    LeaseNotFound,
    RequestTooLarge,
    RetryableError,
    SessionError,
    ZkvError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zkv.client.client import Client
    from zkv.ctl.etcd_source import EtcdSource, WatchStream
    from zkv.wire.messages import KeyValue, TxnRequest

T = TypeVar("T")

MARKS: Final = b"zkv/migration/"
"""The keys where migrations keep where they stand, by prefix. They are not compared."""
TXN_BYTES: Final = 512 << 10
TICK_S: Final = 0.2
LEASES_S: Final = 10.0
"""How often leases that hold no key are looked for."""
KEEP_S: Final = 0.25
RETRY_S: Final = 0.5
ROUNDS_MAX: Final = 3
"""So often is compared, in search of no difference."""


_PASSING: Final = (RetryableError, SessionError, DeadlineExceeded, ConnectionFailed)


class Mark(NamedTuple):
    """`copying`: compared as of `revision` up to `key`; otherwise all up to `revision` has been applied."""

    source: str
    copying: bool
    revision: int
    key: str
    writer: str
    number: int

    @property
    def after(self) -> bytes | None:
        return bytes.fromhex(self.key) if self.key else None


class Told(NamedTuple):
    """What has been done since the beginning, for whoever looks on."""

    stage: str
    revision: int
    keys: int
    total: int


class _Lease:
    __slots__ = ("look_at", "ttl", "until")

    def __init__(self, ttl: int, until: float, now: float) -> None:
        self.ttl = ttl
        self.until = until
        """When it ends in zkv, at the earliest; this machine's monotonic clock."""
        self.rest(now)

    def rest(self, now: float) -> None:
        self.look_at = now + max(0.5, (self.until - now) / 2)


class Migration:
    """Raises CommandError: what the source says no to, and what zkv does; waits while either does not answer."""

    def __init__(
        self, source: EtcdSource, kv: Client, prefix: bytes, txn_ops: int, tell: Callable[[Told], None]
    ) -> None:
        self._source = source
        self._kv = kv
        self._prefix = prefix
        self._start, self._end = ops.key_range(None, prefix=prefix)
        self._txn_ops = txn_ops - 1  # and the mark
        self._tell = tell
        self._mark_key = MARKS + prefix
        self._mark: Mark | None = None
        self._mark_bytes = b""
        self._writer = os.urandom(8).hex()
        self._leases: dict[int, _Lease] = {}
        self._leases_at = 0.0
        self._kept_at = 0.0
        self._compared = 0
        self.changed = 0
        """Keys put or deleted."""

    # --- beginning ---

    def begin(self, *, overwrite: bool) -> bool:
        """Take up where the last run stood; False: there was none."""
        revision = self._patiently(self._source.revision)
        source = f"{self._source.cluster_id:x}"
        found = self._patiently(lambda: self._kv.get(self._mark_key))
        if found is None:
            if not overwrite and next(self._mine(self._start, self._end), None) is not None:
                raise CommandError(
                    "zkv holds keys where those of etcd are to go: with --overwrite they are made to be as in etcd, "
                    "which deletes those that etcd does not have"
                )
            self._commit([], Mark(source, True, revision, "", self._writer, 0))
            self._find_leases()
            return False
        self._mark, self._mark_bytes = Mark(*json.loads(found.value)), found.value
        if self._mark.source != source:
            raise CommandError(
                f"zkv holds a migration from another cluster ({self._mark.source}), which was not cut over; to give it "
                f"up, delete its mark: zkv del '{self._mark_key.decode(errors='replace')}'"
            )
        self._commit([], self._mark)
        if self._find_leases(resumed=True):
            self._restart()
        return True

    # --- comparing ---

    def copy(self) -> None:
        """Bring zkv to what the source was at the mark's revision, or a later one."""
        while self._at.copying:
            try:
                self._compare(self._at)
            except (Compacted, _LeaseIsGone):
                self._restart()

    def _restart(self) -> None:
        """Compare anew, as of the newest revision: the history needed is gone, or what is in zkv is in doubt."""
        revision = self._patiently(self._source.revision)
        self._commit([], self._at._replace(copying=True, revision=revision, key=""))

    def _compare(self, mark: Mark) -> None:
        revision, after = mark.revision, mark.after
        total = self._patiently(lambda: self._source.count(revision))
        seen = 0
        batch = _Batch(self)
        start = self._start if after is None else after + b"\0"
        for kvs in self._pages(revision, after):
            end = kvs[-1].key + b"\0"
            mine = self._mine(start, end)
            self._merge((kv for kv in kvs if not kv.key.startswith(MARKS)), mine, batch)
            start = end
            seen += len(kvs)
            self._keep_leases()
            self._tell(Told("comparing", revision, seen, total))
        self._merge(iter(()), self._mine(start, self._end), batch)
        batch.end(self._at._replace(copying=False, key=""))
        self._compared = seen

    def _merge(self, theirs: Iterator[Any], mine: Iterator[KeyValue], batch: _Batch) -> None:
        """Make ours as theirs is, of one stretch of keys."""
        ours = next(mine, None)
        for kv in theirs:
            while ours is not None and ours.key < kv.key:
                batch.delete(ours.key)
                ours = next(mine, None)
            lease = self._lease(kv.lease)
            if ours is None or ours.key != kv.key:
                batch.put(kv.key, kv.value, lease)
                continue
            if ours.value != kv.value or ours.lease not in {lease, kv.lease}:
                batch.put(kv.key, kv.value, lease)
            ours = next(mine, None)
        while ours is not None:
            batch.delete(ours.key)
            ours = next(mine, None)

    def _pages(self, revision: int, after: bytes | None) -> Iterator[list[Any]]:
        """The source's keys, whatever happens to the connection."""
        while True:
            try:
                for kvs in self._source.keys(revision, after):
                    after = kvs[-1].key
                    yield kvs
            except Unreachable as error:
                self._wait(error)
            else:
                return

    def _mine(self, start: bytes, end: bytes) -> Iterator[KeyValue]:
        """What zkv holds there. (In stretches without a limit, for a limited range counts all keys behind it too.)"""
        while True:
            try:
                with self._kv.range(start, range_end=end) as found:
                    for kv in found:
                        start = kv.key + b"\0"
                        if not kv.key.startswith(MARKS):
                            yield kv
            except _PASSING as error:
                self._wait(error)
            else:
                return

    # --- following ---

    def follow(self, until: int = 0) -> None:
        """Apply what happens at the source: for ever, or up to its revision `until`, as far as can be seen.

        (An etcd before 3.5.8 may say too early that all events have been told. So nothing rests on that.)
        """
        while True:
            self.copy()
            try:
                watch = self._source.watch(self._at.revision + 1)
                try:
                    self._apply(watch, until)
                finally:
                    watch.close()
            except (Compacted, _LeaseIsGone):
                self._restart()
            except Unreachable as error:
                self._source.drop()
                self._wait(error)
            else:
                return

    def _apply(self, watch: WatchStream, until: int) -> None:
        revisions = Revisions()
        self._tell(Told("following", self._at.revision, self.changed, 0))
        silent = False
        while True:
            response = watch.next(0 if revisions.is_full(self._txn_ops) or revisions.whole else TICK_S)
            self._keep_leases()
            if response is not None:
                revisions.add(response)
                silent &= not response.events
            if revisions.is_full(self._txn_ops) or response is None:
                self._write(revisions)
                self._tell(Told("following", self._at.revision, self.changed, 0))
            if until and response is None:
                if silent and revisions.told >= until:
                    return
                silent = revisions.told >= until
                watch.ask_progress()

    def _write(self, revisions: Revisions) -> None:
        """What has come whole, as many revisions at a time as a transaction takes."""
        while changes := revisions.take(self._txn_ops, TXN_BYTES):
            requests: list[TxnRequest] = [
                ops.put(kv.key, kv.value, lease=self._lease(kv.lease)) if is_put else ops.delete(kv.key)
                for is_put, kv in changes.changes
                if not kv.key.startswith(MARKS)
            ]
            self._commit(requests, self._at._replace(revision=changes.revision))

    # --- cutting over ---

    def cut_over(self) -> tuple[int, int]:
        """Bring zkv to what the source is, find it to be the same, and end the migration.

        Returns how many keys there are, and as of which revision of the source that is so. Raises CommandError when the
        source does not stand still: then nothing has been ended.
        """
        self.copy()
        self.follow(until=self._patiently(self._source.revision))
        for _ in range(ROUNDS_MAX):
            before = self.changed
            self._restart()
            self.copy()
            if self.changed == before:
                break
        else:
            raise _moving()
        compared, revision = self._compared, self._at.revision
        if not self._prefix and self._patiently(self._source.revision) != revision:
            raise _moving()
        self._find_leases()
        self._end_leases()
        guard = self._kv.value(self._mark_key) == self._mark_bytes
        done = self._patiently(lambda: self._kv.txn().if_(guard).then(ops.delete(self._mark_key)).commit())
        if not done.succeeded and self._patiently(lambda: self._kv.get(self._mark_key)) is not None:
            raise _overtaken()
        return compared, revision

    # --- leases ---

    def _lease(self, lease: int) -> int:
        """The lease to put a key with: the same, granted in zkv if it was not; 0 if it has ended at the source."""
        if not lease or lease in self._leases or self._grant(lease):
            return lease
        return 0

    def _grant(self, lease: int) -> bool:
        told = self._patiently(lambda: self._source.time_to_live(lease))
        if told.TTL < 0:
            return False
        left = min(told.TTL + 1, told.grantedTTL)
        now = time.monotonic()
        try:
            self._patiently(lambda: self._kv.grant(told.grantedTTL, id=lease, remaining=left))
        except LeaseExists:  # of a run before, or an answer was lost
            left = self._patiently(lambda: self._kv.time_to_live(lease)).ttl
        self._leases[lease] = _Lease(told.grantedTTL, now + left, now)
        return True

    def _find_leases(self, *, resumed: bool = False) -> bool:
        """Grant those of the source that zkv has not: if all keys are copied, also leases without any.

        `resumed`: tell whether one has keys and may have ended here, and they with it, while nobody was at work.
        """
        here = set(self._patiently(self._kv.leases).leases)
        is_lost = False
        for lease in self._patiently(self._source.leases):
            if lease in self._leases:
                continue
            if self._prefix or (resumed and lease not in here):
                told = self._patiently(partial(self._source.time_to_live, lease, keys=True))
                if any(key.startswith(self._prefix) for key in told.keys):
                    is_lost |= lease not in here
                elif self._prefix:
                    continue
            self._grant(lease)
        self._leases_at = time.monotonic() + LEASES_S
        return is_lost

    def _keep_leases(self) -> None:
        """Look at those whose time is half over, and keep them alive here if they were there.

        Raises _LeaseIsGone when one has ended here.
        """
        now = time.monotonic()
        if now < self._kept_at + KEEP_S:
            return
        self._kept_at = now
        for lease, known in list(self._leases.items()):
            if known.look_at <= now:
                told = self._patiently(partial(self._source.time_to_live, lease))
                if told.TTL < 0:
                    del self._leases[lease]  # its keys are deleted by events, and then it ends by itself
                else:
                    self._keep(lease, known, told.TTL + 1)
        if not self._prefix and now >= self._leases_at:
            self._find_leases()

    def _keep(self, lease: int, known: _Lease, left: int) -> None:
        """Let a lease that has so many seconds left at the source live as long here."""
        now = time.monotonic()
        if now + left > known.until:
            try:
                self._patiently(partial(self._kv.keep_alive, lease))
            except LeaseNotFound:
                raise _LeaseIsGone from None
            known.until = now + known.ttl
        known.rest(now)

    def _bridge(self) -> None:
        """While the source does not answer, nobody knows that its leases end: they live on here."""
        now = time.monotonic()
        for lease, known in list(self._leases.items()):
            if known.look_at <= now:
                self._keep(lease, known, known.ttl)

    def _end_leases(self) -> None:
        """Of those that we hold, the ones that the source has not any more."""
        there = set(self._patiently(self._source.leases))
        for lease in set(self._leases) - there:
            with suppress(LeaseNotFound):
                self._patiently(partial(self._kv.revoke, lease))
            del self._leases[lease]

    # --- writing ---

    @property
    def _at(self) -> Mark:
        assert self._mark is not None, "it has begun"
        return self._mark

    def _commit(self, requests: list[TxnRequest], mark: Mark) -> None:
        """All of it, and the mark, if that is as we left it. Raises _LeaseIsGone."""
        mark = mark._replace(writer=self._writer, number=mark.number + 1)
        value = json.dumps(mark).encode()
        if self._mark is None:
            guard = self._kv.version(self._mark_key) == 0
        else:
            guard = self._kv.value(self._mark_key) == self._mark_bytes
        txn = self._kv.txn().if_(guard).then(*requests, ops.put(self._mark_key, value))
        try:
            done = self._patiently(txn.commit)
        except LeaseNotFound:
            self._leases.clear()
            raise _LeaseIsGone from None
        except RequestTooLarge:
            raise CommandError(
                "etcd holds a value that zkv takes no request for: start its members with a larger "
                "--max-request-bytes, and run this again"
            ) from None
        if not done.succeeded:
            found = self._patiently(lambda: self._kv.get(self._mark_key))
            if found is None or found.value != value:  # else it was done, the answer lost, and asked for again
                raise _overtaken()
        self._mark, self._mark_bytes = mark, value
        self.changed += len(requests)

    def _patiently(self, call: Callable[[], T]) -> T:
        """What `call` gives, as soon as the other side answers."""
        while True:
            try:
                return call()
            except (Unreachable, *_PASSING) as error:
                self._wait(error)

    def _wait(self, error: Unreachable | ZkvError) -> None:
        self._tell(Told(f"waiting: {error}", self._mark.revision if self._mark else 0, self.changed, 0))
        if isinstance(error, Unreachable):
            self._bridge()
        time.sleep(RETRY_S)


class _LeaseIsGone(Exception):
    """One has ended in zkv that has not at the source, and keys may have gone with it."""


def _overtaken() -> CommandError:
    return CommandError("another `zkv migrate` of these keys has taken over, or its mark in zkv was changed")


def _moving() -> CommandError:
    return CommandError("etcd was written to while it was compared: stop all that writes to it, and run this again")


class _Batch:
    """Changes that gather until they fill a transaction."""

    def __init__(self, migration: Migration) -> None:
        self._migration = migration
        self._requests: list[TxnRequest] = []
        self._bytes = 0

    def put(self, key: bytes, value: bytes, lease: int) -> None:
        self._add(ops.put(key, value, lease=lease), key, len(value))

    def delete(self, key: bytes) -> None:
        self._add(ops.delete(key), key, 0)

    def _add(self, request: TxnRequest, key: bytes, size: int) -> None:
        migration = self._migration
        if self._requests and self._bytes + len(key) + size > TXN_BYTES:
            self.end(migration._at)  # noqa: SLF001 - two halves of one thing
        self._requests.append(request)
        self._bytes += len(key) + size
        if len(self._requests) == migration._txn_ops:  # noqa: SLF001
            self.end(migration._at._replace(key=key.hex()))  # noqa: SLF001

    def end(self, mark: Mark) -> None:
        self._migration._commit(self._requests, mark)  # noqa: SLF001
        self._requests, self._bytes = [], 0
