"""Answers that are streams of what storage sends in chunks: Maintenance.Snapshot, and RangeStream of etcd 3.7.

Storage sends each chunk against a credit; it is given when HTTP has let the chunk before out. So neither a slow client
nor a large store costs memory.

A snapshot is the store of this member as a file of `zkv snapshot save`, in blobs (zkv/snapshot_file.py). What
remains of it is told as 0, for nobody knows: what is on the disk and what is in it differ. docs/ETCD.md says what
etcd's tools make of the file.

A RangeStream's messages, merged, are the answer of Range; the last one alone has header, count and `more`.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from zkv import errors
from zkv.gateway.callers import who_calls
from zkv.gateway.grpc_status import status_of
from zkv.gateway.http2.grpc_words import Method, Status
from zkv.gateway.pb import rpc_pb2 as pb
from zkv.gateway.translate import REQUESTS
from zkv.snapshot_file import SnapshotWriter
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.gateway.asking import Asking
    from zkv.gateway.grpc_line import Answers
    from zkv.gateway.http2.grpc import Call
    from zkv.gateway.translate import Answering

SNAPSHOT: Final = b"/etcdserverpb.Maintenance/Snapshot"
RANGE: Final = b"/etcdserverpb.KV/RangeStream"
METHODS: Final = {SNAPSHOT: Method(server_streams=True), RANGE: Method(server_streams=True)}
BLOB_BYTES: Final = 32 * 1024
"""One message of a snapshot (etcd:snapshotSendBufferSize)."""
_, _READ_RANGE = REQUESTS[b"/etcdserverpb.KV/Range"]
_SORT_ORDER: Final = m.Range._fields.index("sort_order")
_FILTERS: Final = m.Range._fields.index("min_mod_revision")
_BY_KEY: Final = (int(m.SortOrder.ASCEND), int(m.SortTarget.KEY))


class _Streamed:
    """One call, and the chunks of its answer. Made with `open`."""

    op: m.Op

    def __init__(self, asking: Asking, answering: Answering, line: Answers, call: Call) -> None:
        self._asking = asking
        self._answering = answering
        self._line = line
        self._call = call
        self._id = 0
        self._owes_credit = False

    def ask(self, fields: tuple[Any, ...], size: int, now: int) -> None:
        """Raises a ZkvError when it will not be served."""
        who = who_calls(self._line, self._call, self._asking.callers)
        self._id = self._asking.ask(self, self.op, fields, size, now, who=who, share=self._line.share)

    def answered(self, op: int, code: int, revision: int, body: Any) -> None:
        if code == errors.Code.CHUNK:
            if self.chunk(revision, body):
                self._asking.credit(self._id)
            else:
                self._owes_credit = True
        elif code == errors.Code.OK:
            self.last(revision, body)
            self._line.finish(self._call, Status.OK, "")
        else:
            self._line.finish(self._call, *status_of(errors.from_code(code, *body), op))

    def chunk(self, revision: int, body: Any) -> bool:
        """Pass it on; whether the client takes more at once."""
        raise NotImplementedError

    def last(self, revision: int, body: Any) -> None:
        raise NotImplementedError

    def drained(self) -> None:
        if self._owes_credit:
            self._owes_credit = False
            self._asking.credit(self._id)

    def cancelled(self) -> None:
        self._asking.drop(self._id)

    def received(self, data: bytes, now: int) -> None: ...

    def half_closed(self) -> None: ...


class SnapshotStream(_Streamed):
    op = m.Op.SNAPSHOT

    def __init__(self, *where: Any) -> None:
        super().__init__(*where)
        self._out = io.BytesIO()
        self._writer = SnapshotWriter(self._out)

    def chunk(self, revision: int, body: Any) -> bool:
        self._writer.add(body[0])
        return self._send(revision)

    def last(self, revision: int, body: Any) -> None:
        self._writer.add(body[0])
        header = self._answering.header(revision)
        self._writer.end(cluster_id=header.cluster_id, member_id=header.member_id, revision=revision)
        self._send(revision)

    def _send(self, revision: int) -> bool:
        data = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        flows = True
        for start in range(0, len(data), BLOB_BYTES):
            blob = data[start : start + BLOB_BYTES]
            response = pb.SnapshotResponse(header=self._answering.header(revision), blob=blob)
            flows = self._line.send(self._call, response.SerializeToString())
        return flows


class RangeStream(_Streamed):
    op = m.Op.RANGE

    def chunk(self, revision: int, body: Any) -> bool:  # noqa: ARG002 - the last one tells it
        return self._send(self._answering.chunk(body))

    def last(self, revision: int, body: Any) -> None:
        self._send(self._answering.write(self.op, revision, body))

    def _send(self, part: bytes) -> bool:
        response = pb.RangeStreamResponse(range_response=pb.RangeResponse.FromString(part))
        return self._line.send(self._call, response.SerializeToString())


def range_fields(message: bytes) -> tuple[Any, ...] | None:
    """Of a request that can be streamed; None if it is sorted, or filtered by revisions. Raises DecodeError."""
    fields = _READ_RANGE(message)
    order = fields[_SORT_ORDER : _SORT_ORDER + 2]
    if (order[0] and order != _BY_KEY) or any(fields[_FILTERS:]):
        return None
    return (*fields[:_SORT_ORDER], 0, 0, *fields[_SORT_ORDER + 2 :])
