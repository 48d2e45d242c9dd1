"""etcd's Maintenance.Snapshot: the store of this member as a file of `zkv snapshot save`, in blobs.

Storage streams the store in chunks, each against a credit; here a chunk becomes a record of the file, and the credit is
given when HTTP has let the record out. So neither a slow client nor a large store costs memory.

`remaining_bytes` stays 0, for nobody knows it: what is on the disk and what is in it differ. The file's form is in
zkv/snapshot_file.py; docs/ETCD.md says what etcd's tools make of it.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

from zkv import errors
from zkv.gateway.callers import who_calls
from zkv.gateway.grpc_status import status_of
from zkv.gateway.http2.grpc_words import Status
from zkv.gateway.pb import rpc_pb2 as pb
from zkv.snapshot_file import SnapshotWriter
from zkv.wire import messages as m

if TYPE_CHECKING:
    from zkv.gateway.asking import Asking
    from zkv.gateway.grpc_line import Answers
    from zkv.gateway.http2.grpc import Call
    from zkv.gateway.translate import Answering

PATH: Final = b"/etcdserverpb.Maintenance/Snapshot"
BLOB_BYTES: Final = 32 * 1024
"""One message (etcd:snapshotSendBufferSize)."""


class SnapshotStream:
    """One call of Snapshot. Raises a ZkvError when it will not be served."""

    def __init__(self, asking: Asking, answering: Answering, line: Answers, call: Call, now: int) -> None:
        self._asking = asking
        self._answering = answering
        self._line = line
        self._call = call
        self._out = io.BytesIO()
        self._writer = SnapshotWriter(self._out)
        self._owes_credit = False
        self._id = asking.ask(self, m.Op.SNAPSHOT, (), 0, now, who=who_calls(line, call, asking.callers))

    def answered(self, op: int, code: int, revision: int, body: Any) -> None:
        if code not in {errors.Code.OK, errors.Code.CHUNK}:
            self._line.finish(self._call, *status_of(errors.from_code(code, body[0] if body else ""), op))
            return
        self._writer.add(body[0])
        if code == errors.Code.OK:
            header = self._answering.header(revision)
            self._writer.end(cluster_id=header.cluster_id, member_id=header.member_id, revision=revision)
            self._send(revision)
            self._line.finish(self._call, Status.OK, "")
        elif self._send(revision):
            self._asking.credit(self._id)
        else:
            self._owes_credit = True

    def _send(self, revision: int) -> bool:
        """What was written leaves; whether the client takes more at once."""
        data = self._out.getvalue()
        self._out.seek(0)
        self._out.truncate()
        flows = True
        for start in range(0, len(data), BLOB_BYTES):
            blob = data[start : start + BLOB_BYTES]
            response = pb.SnapshotResponse(header=self._answering.header(revision), blob=blob)
            flows = self._line.send(self._call, response.SerializeToString())
        return flows

    def drained(self) -> None:
        if self._owes_credit:
            self._owes_credit = False
            self._asking.credit(self._id)

    def cancelled(self) -> None:
        self._asking.drop(self._id)

    def received(self, data: bytes, now: int) -> None: ...

    def half_closed(self) -> None: ...
