"""Calls of the gRPC door, counted as etcd's are (by go-grpc-prometheus, under its names)."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from zkv.gateway.http2.grpc_words import Status

if TYPE_CHECKING:
    from zkv.gateway.http2.grpc import Call
    from zkv.gateway.http2.grpc_words import Method, Methods
    from zkv.gauges import Value

_CODES: Final = {int(status): status.name.title().replace("_", "") for status in Status} | {0: "OK", 1: "Canceled"}
"""As Go spells them."""
CANCELED: Final = int(Status.CANCELLED)


class _Counts:
    """Of the calls of one method. `failed`: by status."""

    __slots__ = ("failed", "label", "ok", "received", "sent", "started")

    def __init__(self, label: str) -> None:
        self.label = label
        self.started = self.received = self.sent = self.ok = 0
        self.failed: Counter[int] = Counter()


class CallTally:
    """One increment for each thing that happens to a call of a method that is served.

    All methods are told of from the beginning, for who subtracts what ended from what began must find both.
    """

    def __init__(self, methods: Methods) -> None:
        self._counts = {path: _Counts(_label(path, method)) for path, method in methods.items()}

    def started(self, call: Call) -> None:
        self._counts[call.request.path].started += 1

    def received(self, call: Call) -> None:
        self._counts[call.request.path].received += 1

    def called(self, call: Call) -> None:
        """It has started, and all that there is of it was received."""
        counts = self._counts[call.request.path]
        counts.started += 1
        counts.received += 1

    def sent(self, call: Call) -> None:
        self._counts[call.request.path].sent += 1

    def handled(self, call: Call, status: int) -> None:
        counts = self._counts[call.request.path]
        if status:
            counts.failed[status] += 1
        else:
            counts.ok += 1

    def replied(self, call: Call) -> None:
        """All of its answer was sent, and that is handled."""
        counts = self._counts[call.request.path]
        counts.sent += 1
        counts.ok += 1

    def gauges(self) -> list[Value]:
        """Labels: type, service and method, and the code of what was handled."""
        values: list[Value] = []
        for counts in self._counts.values():
            label = counts.label
            values.append(("calls started", label, counts.started))
            values += [
                (name, label, count)
                for name, count in (("calls received", counts.received), ("calls sent", counts.sent))
                if count
            ]
            values.append(("calls handled", f"{_CODES[0]}|{label}", counts.ok))
            values += [
                ("calls handled", f"{_CODES.get(status, 'Unknown')}|{label}", count)
                for status, count in counts.failed.items()
            ]
        return values


def _label(path: bytes, method: Method) -> str:
    kind = {(False, False): "unary", (True, False): "client_stream", (False, True): "server_stream"}.get(
        (method.client_streams, method.server_streams), "bidi_stream"
    )
    _, service, name = path.decode().split("/")
    return f"{kind}|{service}|{name}"
