"""The words of gRPC over HTTP/2: statuses, timeouts, metadata, and what a request's head says of a call.

gRPC's own document is PROTOCOL-HTTP2.md of the grpc project; the texts are those of grpc-go 1.38, which etcd 3.5.1
serves with.
"""

from __future__ import annotations

import base64
import binascii
import re
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from zkv.gateway.http2.header_blocks import encode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from zkv.gateway.http2.requests import Request

STATUS_TEXT_BYTES_MAX: Final = 1024
"""Of a grpc-message, before its percent signs: it may quote what the client sent."""
TIMEOUT: Final = b"grpc-timeout"
GZIP: Final = b"gzip"


class Status(IntEnum):
    """What a call ends with (grpc-status)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class GrpcFault(Exception):
    """A call that ends here, with this status."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text


class Method:
    """One that is served. `tag` is its server's own: what the method means."""

    __slots__ = ("client_streams", "server_streams", "tag")

    def __init__(self, *, client_streams: bool = False, server_streams: bool = False, tag: Any = None) -> None:
        self.client_streams = client_streams
        self.server_streams = server_streams
        self.tag = tag


Methods = dict[bytes, Method]
"""By path: b"/etcdserverpb.KV/Put"."""


class Head:
    """What a request's head says of its call, but for the timeout; `refusal` if there will be none."""

    __slots__ = ("encoding", "metadata", "method", "refusal")

    def __init__(
        self,
        method: Method | None,
        encoding: bytes,
        metadata: tuple[tuple[bytes, bytes], ...],
        refusal: bytes | None,
    ) -> None:
        self.method = method
        self.encoding = encoding
        """Of its compressed messages: b"" or b"gzip"."""
        self.metadata = metadata
        """All that is not gRPC's or HTTP's own; values of names in -bin are decoded."""
        self.refusal = refusal
        """The header block to answer with at once."""


_PLAIN: Final = re.compile(rb"[^\x20-\x24\x26-\x7e]")
_TIMEOUT_VALUE: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_NS: Final = {b"H": 3_600 * 10**9, b"M": 60 * 10**9, b"S": 10**9, b"m": 10**6, b"u": 10**3, b"n": 1}
_CONTENT_TYPE: Final = b"application/grpc"
# What is not a call's metadata. Names beginning with grpc- are reserved too.
_RESERVED: Final = frozenset({b"content-type", b"te", b"content-length", b"host"})

ANSWER: Final = encode([(b":status", b"200"), (b"content-type", _CONTENT_TYPE)])
ANSWER_GZIP: Final = encode([(b":status", b"200"), (b"content-type", _CONTENT_TYPE), (b"grpc-encoding", GZIP)])
OK: Final = encode([(b"grpc-status", b"0")])
NOT_GRPC: Final = encode([(b":status", b"415")])
NOT_POST: Final = encode([(b":status", b"405"), (b"allow", b"POST")])


def trailers(status: int, text: str = "", metadata: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The block a call ends with. Values of names in -bin are encoded here."""
    fields = [(b"grpc-status", b"%d" % status)]
    if text:
        fields.append((b"grpc-message", percent_encode(text)))
    return encode(fields) + encode_metadata(metadata)


def encode_metadata(metadata: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Values of names in -bin are encoded here."""
    return encode((name, _to_field(name, value)) for name, value in metadata)


def percent_encode(text: str) -> bytes:
    """grpc-message: UTF-8, and a percent sign and two digits for what is not plain ASCII."""
    data = text.encode(errors="replace")
    if len(data) > STATUS_TEXT_BYTES_MAX:
        data = data[:STATUS_TEXT_BYTES_MAX].decode(errors="ignore").encode()  # no half characters
    return _PLAIN.sub(lambda found: b"%%%02X" % found[0][0], data)


def _to_field(name: bytes, value: bytes) -> bytes:
    return base64.b64encode(value).rstrip(b"=") if name.endswith(b"-bin") else value


def timeout_ms(value: bytes) -> int:
    """grpc-timeout in milliseconds, rounded up. Raises GrpcFault."""
    found = _TIMEOUT_VALUE.fullmatch(value)
    if not found:
        raise GrpcFault(Status.INTERNAL, "malformed grpc-timeout")
    return -(-int(found[1]) * _UNIT_NS[found[2]] // 10**6)


def binary(value: bytes) -> bytes:
    """A -bin value, padded or not; of several joined by commas, which gRPC allows, the bytes joined by commas.

    Raises GrpcFault.
    """
    try:
        return b",".join(
            base64.b64decode(part + b"=" * (-len(part) % 4), validate=True)
            for part in map(bytes.strip, value.split(b","))
        )
    except (binascii.Error, ValueError):
        raise GrpcFault(Status.INTERNAL, "malformed binary metadata") from None


def read_head(request: Request, methods: Mapping[bytes, Method]) -> Head:
    """`refusal` is NOT_GRPC for a request that is none of gRPC's."""
    kind = next((value for name, value in request.fields if name == b"content-type"), b"")
    if not kind.startswith(_CONTENT_TYPE) or not _is_served(kind):
        return _refused(NOT_GRPC)
    if request.method != b"POST":
        return _refused(NOT_POST)
    encoding = b""
    metadata: list[tuple[bytes, bytes]] = []
    try:
        for name, value in request.fields:
            if name == b"grpc-encoding":
                encoding = value.removeprefix(b"identity")
            elif name == TIMEOUT:
                timeout_ms(value)  # it would have been set aside if it were one
            elif name not in _RESERVED and not name.startswith(b"grpc-"):
                metadata.append((name, binary(value) if name.endswith(b"-bin") else value))
    except GrpcFault as fault:
        return _refused(ANSWER + trailers(fault.status, fault.text))
    method = methods.get(request.path)
    if method is None:
        return _refused(ANSWER + trailers(Status.UNIMPLEMENTED, _unknown(request.path, methods)))
    if encoding not in {b"", GZIP}:
        text = f'grpc: Decompressor is not installed for grpc-encoding "{encoding[:64].decode(errors="replace")}"'
        return _refused(ANSWER + trailers(Status.UNIMPLEMENTED, text, [(b"grpc-accept-encoding", b"identity,gzip")]))
    return Head(method, encoding, tuple(metadata), None)


def _refused(block: bytes) -> Head:
    return Head(None, b"", (), block)


def _is_served(content_type: bytes) -> bool:
    """application/grpc, with +proto or without, with parameters or without."""
    rest = content_type[len(_CONTENT_TYPE) :]
    return rest in {b"", b"+proto"} or rest.startswith((b";", b"+proto;"))


def _unknown(path: bytes, methods: Mapping[bytes, Method]) -> str:
    service, slash, method = path.removeprefix(b"/").rpartition(b"/")
    if not slash:
        return f'malformed method name: "{path.decode()}"'
    if any(known.startswith(b"/" + service + b"/") for known in methods):
        return f"unknown method {method.decode()} for service {service.decode()}"
    return f"unknown service {service.decode()}"
