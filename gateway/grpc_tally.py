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


class CallTally:
    """One increment for each thing that happens to a call of a method that is served.

    All methods are told of from the beginning, for who subtracts what ended from what began must find both.
    """

    def __init__(self, methods: Methods) -> None:
        self._labels = {path: _label(path, method) for path, method in methods.items()}
        self._started = Counter(dict.fromkeys(methods, 0))
        self._received: Counter[bytes] = Counter()
        self._sent: Counter[bytes] = Counter()
        self._handled = Counter({(path, 0): 0 for path in methods})

    def started(self, call: Call) -> None:
        self._started[call.request.path] += 1

    def received(self, call: Call) -> None:
        self._received[call.request.path] += 1

    def sent(self, call: Call) -> None:
        self._sent[call.request.path] += 1

    def handled(self, call: Call, status: int) -> None:
        self._handled[call.request.path, status] += 1

    def gauges(self) -> list[Value]:
        """Labels: type, service and method, and the code of what was handled."""
        values: list[Value] = []
        labels = self._labels
        for name, counts in (("started", self._started), ("received", self._received), ("sent", self._sent)):
            values += [(f"calls {name}", labels[path], count) for path, count in counts.items()]
        values += [
            ("calls handled", f"{_CODES.get(code, 'Unknown')}|{labels[path]}", count)
            for (path, code), count in self._handled.items()
        ]
        return values


def _label(path: bytes, method: Method) -> str:
    kind = {(False, False): "unary", (True, False): "client_stream", (False, True): "server_stream"}.get(
        (method.client_streams, method.server_streams), "bidi_stream"
    )
    _, service, name = path.decode().split("/")
    return f"{kind}|{service}|{name}"
