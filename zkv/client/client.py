"""The synchronous client: threads call, one thread of ours carries.

A call puts its ticket into the session, under the one lock, and waits on a lock of its own. The I/O thread owns the
connections: it sends what has gathered, sleeps in poll, takes what has come, releases whoever's ticket is done. Calls
made at once by many threads so leave in one message, and a signal in one of them leaves no message half sent. The
thread ends with `close`; should it die, all calls fail with ClientClosed rather than wait for ever.

The lock guards the session and the flag `_asleep`: whoever submits while the I/O thread sleeps (or is about to) wakes
it by a byte in a pipe, once.

A forked child has no such thread, and sockets that are its parent's: there a client is closed from the start.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections import deque
from os import fspath
from select import POLLIN, poll
from typing import TYPE_CHECKING, TypeVar, cast

from zkv.client import calls, ops
from zkv.client.administration import Administration
from zkv.client.carrier import Carrier
from zkv.client.clock import POLL_MS_MAX, TIMEOUT_S, deadline_ms, now_ms
from zkv.client.coordination import Coordination
from zkv.client.cursor import Cursor
from zkv.client.keeper import Keeper
from zkv.client.login import Login
from zkv.client.observation import Observation
from zkv.client.quotas import QuotaAdministration
from zkv.client.session import Session
from zkv.client.transport import Files, Transport
from zkv.client.users import UserAdministration
from zkv.errors import ClientClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType
    from typing import Self, SupportsIndex, Unpack

    from zkv.client.calls import Call, Guard, Txn
    from zkv.client.feed import Feed
    from zkv.client.keeper import Kept
    from zkv.client.records import (
        CompactResult,
        DeleteResult,
        HashKVResult,
        MembersResult,
        PutResult,
        StatusResult,
        TxnResult,
    )
    from zkv.client.retry import RetryPolicy
    from zkv.client.ticket import Header, Ticket
    from zkv.client.transport import KeyFile
    from zkv.client.watch_events import Batch
    from zkv.limits import Limits
    from zkv.wire.messages import KeyValue, Range, RangeAnswer, Watch

T = TypeVar("T")

FORKED = "it was made before a fork, and stays with the parent: make another one in this process"

_clients: weakref.WeakSet[Client] = weakref.WeakSet()
"""Of this process, for its children to know which are not theirs."""


class Client(Administration, UserAdministration, QuotaAdministration, Coordination, Observation):
    """A connection to a zkv cluster. Thread-safe.

        with zkv.Client(["tcp://127.0.0.1:2378"]) as kv:
            kv.put("a", "1")
            kv.get("a").value

    `endpoints`: members' native addresses, "tcp://host:port" or "curve://host:port"; one is used at a time, the others
    when it fails. curve:// needs `cacert`, the file of the CA that the servers' certificates are signed by, and `cert`
    and `key`, this client's own, if the servers want to be shown one; a file that changes is read again. Or, with key
    files, `server_key`, the server's public one (or one for each endpoint), and `client_key`, this client's key pair,
    if the server keeps a list of those it knows.

    `user` and `password` say who asks, where the cluster wants to know: they are shown once, over a connection that
    should be encrypted, for a token that the requests then carry; a certificate's common name does without.

    `timeout`, in seconds, is the deadline of each call that does not bring its own. Whatever a call raises is a
    `zkv.errors.ZkvError`, whose `maybe_applied` says whether a write may have happened all the same.
    """

    def __init__(
        self,
        endpoints: str | Iterable[str] = "tcp://127.0.0.1:2378",
        *,
        timeout: float = TIMEOUT_S,
        server_key: KeyFile | Mapping[str, KeyFile] | None = None,
        client_key: KeyFile | None = None,
        cacert: KeyFile | None = None,
        cert: KeyFile | None = None,
        key: KeyFile | None = None,
        insecure_skip_tls_verify: bool = False,
        user: str = "",
        password: str = "",
        retry: RetryPolicy | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.timeout = timeout
        policy = retry.checked() if retry is not None else None
        given = [fspath(file or "") for file in (cacert, cert, key)]
        files = Files(given[0], given[1], given[2], insecure_skip_tls_verify)
        wanted = [endpoints] if isinstance(endpoints, str) else endpoints
        self._polls = poll()
        self._transport = Transport(self._polls, wanted, server_key, client_key, files)
        self._session = Session(
            len(self.endpoints),
            os.urandom(16),
            int.from_bytes(os.urandom(32)),
            now=now_ms(),
            limits=limits,
            retry=policy,
            login=Login(user, password) if user else None,
        )
        self._session.reasons = self._transport.reasons
        self._keeper = Keeper()
        self._carrier = Carrier(self._session, self._keeper, self._transport)
        self._lock = threading.Lock()
        self._asleep = False
        self._closing = False
        self._closed = False
        self._inherited = False
        self._given_up: deque[Ticket | Feed] = deque()
        self._wake_reader, self._wake_writer = os.pipe()
        self._thread = threading.Thread(target=self._run, name="zkv-client", daemon=True)
        self._thread.start()
        _clients.add(self)

    @property
    def endpoints(self) -> tuple[str, ...]:
        return self._transport.endpoints

    @property
    def reasons(self) -> Mapping[int, str]:
        """Why endpoints (by their place in `endpoints`) refused our certificate, or we theirs, at the last attempt."""
        return self._transport.reasons

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<zkv.Client {' '.join(self.endpoints)}{' closed' if self._closing else ''}>"

    def close(self) -> None:
        """End the calls under way with ClientClosed, and the connections. May be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if not self._closing:
                self._closing = True
                os.write(self._wake_writer, b"\0")
        self._thread.join()
        with self._lock:
            writer, self._wake_writer = self._wake_writer, -1
            os.close(writer)

    def _leave_to_parent(self) -> None:
        """In a forked child: touch nothing that the parent uses, nor what its threads may have held at that moment."""
        self._inherited = self._closing = self._closed = True
        self._asleep = False
        self._lock = threading.Lock()
        self._session = Session(len(self.endpoints), bytes(16), 0, now=0)
        self._session.close(FORKED)
        for fd in (self._wake_reader, self._wake_writer):
            with contextlib.suppress(OSError):  # it was closed before the fork
                os.close(fd)
        self._wake_reader = self._wake_writer = -1

    # --- keys ------------------------------------------------------------------------------------

    def put(
        self,
        key: ops.Data,
        value: ops.Data = b"",
        *,
        lease: SupportsIndex = 0,
        ttl: int = 0,
        prev_kv: bool = False,
        ignore_value: bool = False,
        ignore_lease: bool = False,
        guard: Guard | None = None,
        timeout: float | None = None,
    ) -> PutResult:
        """Set a key. `prev_kv` asks for what was there; `ignore_value`, `ignore_lease` keep what is there.

        `lease`: the id of the lease that the key hangs on, or a `Lease`. `ttl`, in seconds: the key lives so long, by a
        lease of its own. `guard`: a lock, or a won election; the cluster refuses the write if it is no longer held.

        Raises KeyNotFound for an ignored value or lease of a key that is not there; LeaseNotFound; what the guard
        raises when it is lost (LockLost, ElectionNotLeader).
        """
        request = ops.put(
            key, value, lease=lease, ttl=ttl, prev_kv=prev_kv, ignore_value=ignore_value, ignore_lease=ignore_lease
        )
        return self._call(calls.put(request, guard), timeout)

    def get(
        self, key: ops.Data, *, revision: int = 0, serializable: bool = False, timeout: float | None = None
    ) -> KeyValue | None:
        """One key, or None if it is not there.

        Raises Compacted or FutureRevision for a `revision` that is not kept any more, or not made yet.
        """
        return self._call(calls.get(key, revision=revision, serializable=serializable), timeout)

    def range(
        self, key: ops.Data | None = None, *, timeout: float | None = None, **options: Unpack[ops.RangeOptions]
    ) -> KeyValues:
        """Many keys, as an iterator that streams: memory stays bounded however large the range is.

        See `zkv.RangeOptions` for what it takes. All keys are as of one revision. `timeout` bounds each wait
        for more, not the whole.
        """
        return KeyValues(self, ops.get(key, **options), self._seconds(timeout))

    def count(
        self, key: ops.Data | None = None, *, timeout: float | None = None, **options: Unpack[ops.RangeOptions]
    ) -> int:
        """How many keys a range holds."""
        return self._call(calls.count(key, **options), timeout)

    def delete(
        self,
        key: ops.Data | None = None,
        *,
        range_end: ops.Data | None = None,
        prefix: ops.Prefix = None,
        from_key: bool = False,
        prev_kv: bool = False,
        guard: Guard | None = None,
        timeout: float | None = None,
    ) -> DeleteResult:
        """Delete a key, or all of a range. `guard` as for `put`."""
        request = ops.delete(key, range_end=range_end, prefix=prefix, from_key=from_key, prev_kv=prev_kv)
        return self._call(calls.delete(request, guard), timeout)

    def txn(self, *, guard: Guard | None = None) -> Txn[TxnResult]:
        """A transaction: `.if_(...)`, `.then(...)`, `.otherwise(...)`, `.commit()`. `guard` as for `put`."""
        return calls.Txn(self._call, guard)

    value = staticmethod(ops.value)
    version = staticmethod(ops.version)
    create_revision = staticmethod(ops.create_revision)
    mod_revision = staticmethod(ops.mod_revision)
    lease_of = staticmethod(ops.lease_of)

    def compact(self, revision: int, *, physical: bool = False, timeout: float | None = None) -> CompactResult:
        """Forget what was superseded at or before `revision`; `physical`: return when it is gone from the disk too."""
        return self._call(calls.compact(revision, physical=physical), timeout)

    # --- members ---------------------------------------------------------------------------------

    def status(self, endpoint: str | None = None, *, timeout: float | None = None) -> StatusResult:
        """What a member says about itself: that at `endpoint`, one of this client's, or whichever is in use."""
        return self._call(calls.status(endpoint), timeout)

    def members(self, *, linearizable: bool = True, timeout: float | None = None) -> MembersResult:
        return self._call(calls.members(linearizable=linearizable), timeout)

    def hash_kv(self, endpoint: str | None = None, revision: int = 0, *, timeout: float | None = None) -> HashKVResult:
        """The hash of all revisions up to `revision` (0: the present one): equal on all members."""
        return self._call(calls.hash_kv(endpoint, revision), timeout)

    # --- how calls travel ------------------------------------------------------------------------

    def _seconds(self, timeout: float | None) -> float:
        return self.timeout if timeout is None else timeout

    def _call(self, call: Call[T], timeout: float | None) -> T:
        gate = threading.Lock()
        gate.acquire()
        endpoint = None if call.endpoint is None else self._transport.index(call.endpoint)
        with self._lock:
            deadline = deadline_ms(self._seconds(timeout))
            ticket = self._session.submit(call.request, deadline, gate.release, endpoint=endpoint)
            self._wake()
        try:
            gate.acquire()
        except BaseException:  # KeyboardInterrupt: nobody waits any more
            self._give_up(ticket)
            raise
        if ticket.error is not None:
            raise ticket.error
        return call.result(ticket)

    def _keep(self, kept: Kept) -> None:
        """Keep a lease alive, until it is told to stop or found lost."""
        with self._lock:
            self._keeper.keep(kept)
            self._wake()

    def _open(self, request: Range, timeout: float, wake: Callable[[], None]) -> Ticket:
        with self._lock:
            ticket = self._session.submit(request, deadline_ms(timeout), wake, stream=True)
            self._wake()
        return ticket

    def _next_chunk(self, ticket: Ticket, timeout: float) -> RangeAnswer | None:
        if self._inherited:
            raise ClientClosed(FORKED)
        with self._lock:
            chunk: RangeAnswer | None = self._session.next_chunk(ticket, now_ms(), deadline_ms(timeout))
            self._wake()
        return chunk

    def _watch(self, watch: Watch, wake: Callable[[], None]) -> Feed:
        with self._lock:
            feed = self._session.watching.open(watch, wake)
            self._wake()
        return feed

    def _take(self, feed: Feed) -> Batch | None:
        """What a watch is to read next."""
        if self._inherited:
            raise ClientClosed(FORKED)
        with self._lock:
            watching = self._session.watching
            batch = watching.take(feed, now_ms())
            if watching.pressing:
                self._wake()
        return batch

    def _ask_progress(self, feed: Feed) -> None:
        with self._lock:
            self._session.watching.ask_progress(feed)
            self._wake()

    def _give_up(self, ticket: Ticket | Feed) -> None:
        """Cancel, from wherever: also from a finalizer, which may run while this very thread holds the lock."""
        self._given_up.append(ticket)
        with contextlib.suppress(OSError):  # the I/O thread is gone, and the ticket with it
            os.write(self._wake_writer, b"\0")

    def _wake(self) -> None:
        """Have the I/O thread look at the session. Called under the lock."""
        if self._closing:
            self._session.close()
            self._release()
        elif self._asleep:
            self._asleep = False
            os.write(self._wake_writer, b"\0")

    def _release(self) -> None:
        """Wake whoever waits for what is new. Called under the lock."""
        for ticket in self._session.news():
            cast("Callable[[], None]", ticket.context)()

    # --- the I/O thread --------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._carry()
        finally:
            with self._lock:
                self._closing = True
                self._session.close()
                self._release()
                last_words = self._session.outgoing(now_ms())
            self._transport.close(last_words)
            reader, self._wake_reader = self._wake_reader, -1  # the number is another's from here on, also after a fork
            os.close(reader)

    def _carry(self) -> None:
        transport, session, polls = self._transport, self._session, self._polls
        polls.register(self._wake_reader, POLLIN)
        ready: list[tuple[int, int]] = []
        while True:
            with self._lock:
                self._asleep = False
                now = now_ms()
                for fd, _ in ready:
                    if fd == self._wake_reader:
                        os.read(fd, 4096)
                    else:
                        transport.hear(fd, session, now)
                transport.tend(session, now)
                if self._closing:
                    return
                while self._given_up:
                    session.cancel(self._given_up.popleft())
                self._carrier.send(now)
                self._release()
                idle_ms = self._carrier.idle_ms(now)
                self._asleep = True
            ready = polls.poll(POLL_MS_MAX if idle_ms is None else min(idle_ms, POLL_MS_MAX))


def _leave_all_to_parent() -> None:
    for client in list(_clients):
        client._leave_to_parent()  # noqa: SLF001 (of this module)


os.register_at_fork(after_in_child=_leave_all_to_parent)


class KeyValues(Cursor):
    """The keys of a range, streamed: iterate once, and leave early with `close` (or `with`, or by letting go of it).

    A connection lost half way does not show: the rest comes from another endpoint, at the same revision. Should that
    one have been compacted meanwhile, Compacted is raised.
    """

    def __init__(self, client: Client, request: Range, timeout: float) -> None:
        super().__init__()
        self._client = client
        self._timeout = timeout
        self._news = threading.Event()
        self._ticket = client._open(request, timeout, self._news.set)  # noqa: SLF001 (two halves of one thing)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> KeyValue:
        while True:
            for kv in self._kvs:
                return kv
            if not self._advance():
                raise StopIteration

    def _advance(self) -> bool:
        """Wait for the next chunk; False: there is none. Raises what the range failed with."""
        while True:
            self._news.clear()
            chunk = self._client._next_chunk(self._ticket, self._timeout)  # noqa: SLF001
            took = self._take(self._ticket, chunk)
            if took is not None:
                return took
            self._news.wait()

    @property
    def header(self) -> Header:
        """Who answered, at which revision. Waits for the first chunk."""
        if self._last is None:
            self._advance()
        return self._ticket.header

    def close(self) -> None:
        """Want no more of it. May be called twice."""
        if not self._ticket.done:
            self._client._give_up(self._ticket)  # noqa: SLF001

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_ticket"):
            self.close()
