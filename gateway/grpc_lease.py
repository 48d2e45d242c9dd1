"""etcd's LeaseKeepAlive: one call, any number of keep-alives in, as many answers out.

A lease that there is not is answered by a TTL of 0; what else goes wrong ends the call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zkv import errors
from zkv.gateway.grpc_status import status_of
from zkv.gateway.http2.grpc_words import Status
from zkv.gateway.translate import REQUESTS, DecodeError
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.gateway.asking import Asking
    from zkv.gateway.grpc_line import Answers
    from zkv.gateway.http2.grpc import Call
    from zkv.gateway.translate import Answering

PATH = b"/etcdserverpb.Lease/LeaseKeepAlive"
_OP, _READ = REQUESTS[PATH]


class KeepAlives:
    """One call of LeaseKeepAlive."""

    def __init__(self, asking: Asking, answering: Answering, line: Answers, call: Call) -> None:
        self._asking = asking
        self._answering = answering
        self._line = line
        self._call = call
        self._pending = 0
        self._closed = False

    def received(self, data: bytes, now: int) -> None:
        try:
            fields = _READ(data)
            self._asking.ask(_Ask(self, fields[0]), _OP, fields, len(data), now, share=self._line.share)
        except DecodeError:
            self._finish(Status.INTERNAL, "grpc: failed to unmarshal the received message")
        except errors.ZkvError as error:
            self._finish(*status_of(error))
        else:
            self._pending += 1

    def half_closed(self) -> None:
        self._closed = True
        self._end_if_done()

    def cancelled(self) -> None: ...

    def drained(self) -> None: ...

    def answered(self, lease: int, code: int, revision: int, body: Any) -> None:
        self._pending -= 1
        if code == errors.LeaseNotFound.code:
            code, body = 0, (lease, 0)
        if code:
            self._finish(*status_of(errors.from_code(code, *body)))
            return
        revision = max(revision, self._asking.revision)  # the lease actor hears of the store only when leases change
        self._line.send(self._call, self._answering.write(m.Op.LEASE_KEEP_ALIVE, revision, body))
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self._closed and not self._pending:
            self._finish(Status.OK, "")

    def _finish(self, status: Status, text: str, retry_ms: int = 0) -> None:
        self._line.finish(self._call, status, text, retry_ms)


class _Ask:
    """One keep-alive: its answer must name the lease, if it has failed too."""

    __slots__ = ("_lease", "_stream")

    def __init__(self, stream: KeepAlives, lease: int) -> None:
        self._stream = stream
        self._lease = lease

    def answered(self, op: int, code: int, revision: int, body: Any) -> None:  # noqa: ARG002 - an asker's face
        self._stream.answered(self._lease, code, revision, body)
