"""What a request may be: RFC 9113 section 8, as checks of decoded fields.

A request that breaks a rule here is *malformed*: its stream is reset with PROTOCOL_ERROR and nobody above sees it.
Names and values stay bytes; what they mean is the business of whoever serves the path.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from zkv.gateway.http2.words import ErrorCode, StreamFault

if TYPE_CHECKING:
    from zkv.gateway.http2.header_blocks import Fields

# 8.2.1 with the token of RFC 9110: no upper case, no space, and a colon nowhere but in front.
_NAMES: Final = re.compile(rb"(?::?[!#$%&'*+\-.^_`|~0-9a-z]+\n)*")
_PADDED: Final = re.compile(rb"(?:\n[ \t])|(?:[ \t]\n)")
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.\-]*")
_PATH: Final = re.compile(rb"/[\x21\x22\x24-\x7e]*")  # visible ASCII, and no fragment
_AUTHORITY: Final = re.compile(rb"[!$&'()*+,;=:\[\]%\-._~0-9A-Za-z]+")  # no userinfo (8.3.1)
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")

_CONNECTION_SPECIFIC: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_COLON: Final = ord(":")


class Request:
    """A well-formed request's head. The same object serves all requests that came as the same bytes, so it is never
    changed, but for `note`: what the layer above made of it, once for all of them.
    """

    __slots__ = ("authority", "content_length", "fields", "method", "note", "path", "scheme")

    def __init__(
        self,
        *,
        method: bytes,
        scheme: bytes,
        path: bytes,
        authority: bytes,
        fields: Fields,
        content_length: int | None,
    ) -> None:
        self.method = method
        self.scheme = scheme
        self.path = path
        """Empty for CONNECT."""
        self.authority = authority
        """Of :authority, or else of host; empty where neither was sent and the scheme needs none."""
        self.fields = fields
        """All but the pseudo-header fields."""
        self.content_length = content_length
        self.note: Any = None


def _malformed(reason: str) -> StreamFault:
    return StreamFault(ErrorCode.PROTOCOL_ERROR, reason)


def parse_request(fields: Fields) -> Request:
    """Raises StreamFault if it is malformed."""
    _check_text(fields)
    pseudo: dict[bytes, bytes] = {}
    content_length: int | None = None
    host = b""
    for name, value in fields:
        if name[0] == _COLON:
            if name not in _PSEUDO or name in pseudo:
                raise _malformed("a pseudo-header field that is unknown, or there twice")
            pseudo[name] = value
        elif name == b"content-length":
            content_length = _content_length(value, content_length)
        elif name == b"host":
            if host not in {b"", value}:
                raise _malformed("two hosts")
            host = value
    count = len(pseudo)
    for name, _ in fields[:count]:
        if name[0] != _COLON:
            raise _malformed("a pseudo-header field after a regular one")
    authority = pseudo.get(b":authority", host)
    if host and host.lower() != authority.lower():
        raise _malformed("host is not :authority")
    method = pseudo.get(b":method", b"")
    scheme = pseudo.get(b":scheme", b"")
    path = pseudo.get(b":path", b"")
    if not _METHOD.fullmatch(method):
        raise _malformed(":method")
    if authority and not _AUTHORITY.fullmatch(authority):
        raise _malformed(":authority")
    if method == b"CONNECT":  # 8.5
        if b":scheme" in pseudo or b":path" in pseudo or not pseudo.get(b":authority"):
            raise _malformed("CONNECT")
    elif not _SCHEME.fullmatch(scheme):
        raise _malformed(":scheme")
    elif not (_PATH.fullmatch(path) or (path == b"*" and method == b"OPTIONS")):
        raise _malformed(":path")
    elif not authority and scheme.lower() in {b"http", b"https"}:
        raise _malformed("no authority")
    return Request(
        method=method,
        scheme=scheme,
        path=path,
        authority=authority,
        fields=fields[count:],
        content_length=content_length,
    )


def check_trailers(fields: Fields) -> None:
    """Raises StreamFault if they are malformed (8.1)."""
    _check_text(fields)
    for name, _ in fields:
        if name[0] == _COLON:
            raise _malformed("a pseudo-header field in trailers")


def _check_text(fields: Fields) -> None:
    """8.2.1 and 8.2.2. All names, and all values, are looked at in one go: that is what makes it cheap."""
    names = b"\n".join([name for name, _ in fields]) + b"\n" if fields else b""
    if not _NAMES.fullmatch(names) or names.count(b"\n") != len(fields):
        raise _malformed("a field name")
    values = b"\n".join([value for _, value in fields])
    if b"\0" in values or b"\r" in values or values.count(b"\n") != max(0, len(fields) - 1):
        raise _malformed("a field value")
    if _PADDED.search(b"\n" + values + b"\n"):
        raise _malformed("a field value with space around it")
    for name, value in fields:
        if name in _CONNECTION_SPECIFIC or (name == b"te" and value.lower() != b"trailers"):
            raise _malformed("a field that is for one connection")


def _content_length(value: bytes, before: int | None) -> int:
    if not _DIGITS.fullmatch(value) or before not in {None, int(value)}:
        raise _malformed("content-length")
    return int(value)
