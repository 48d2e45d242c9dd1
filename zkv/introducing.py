"""The conversation in which CURVE keys are introduced: what is said in which order, and how it is asked for.

    caller                                             host
    HELLO                                        ->
                                                 <-    Offer: introduction of its key, a challenge, is a claim wanted?
    claim: introduction of the caller's key,
    for that host's key, with that challenge     ->
                                                 <-    Verdict: admitted for so long, or why not

over TCP and not encrypted: everything that matters is signed (`introduction.py`), and what is not (whether a claim is
wanted, the verdict) makes connections fail at the most. Each message but HELLO is a frame: four bytes of length, and
the bytes. Whoever does not begin with HELLO is hung up on without a word.

What a host does with that is told in `reception.py`. `introduce_to` is a caller's whole part; it blocks.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from zkv.errors import BadIntroduction, ConnectionFailed, CorruptionError, NotTrusted
from zkv.introduction import (
    INTRODUCTION_BYTES_MAX,
    LIFETIME_MS,
    NONCE_BYTES,
    VERSION,
    CurveStatement,
    Expectations,
    introduce,
    verify,
)
from zkv.trust import Purpose
from zkv.wire import codec

if TYPE_CHECKING:
    from zkv.introduction import Introduced
    from zkv.papers import Papers

HELLO: Final = b"zkv introduce 1\n"
LENGTH: Final = struct.Struct(">I")
OFFER_BYTES_MAX: Final = INTRODUCTION_BYTES_MAX + 128
VERDICT_BYTES_MAX: Final = 1024
REASON_CHARS_MAX: Final = 200
ADMITTED_MS_MAX: Final = 86_400_000
BUSY: Final = "too many introductions, try again"
"""The one reason of a verdict that is no refusal."""


class Offer(NamedTuple):
    """`wanted`: only who claims its key will be let in."""

    introduction: bytes
    challenge: bytes
    wanted: bool


class Verdict(NamedTuple):
    """`lasts_ms`: for so long the claimed key is admitted; 0: it is not, for that reason."""

    lasts_ms: int
    reason: str = ""


class Who(NamedTuple):
    """How a caller introduces itself, and what it wants of the host. `cluster`: see `Expectations`."""

    purpose: Purpose
    wants: Purpose
    curve_key: bytes
    cluster: str | None = None


class Acquainted(NamedTuple):
    """The host's CURVE key is its own, and ours admitted there, for so long from now on."""

    curve_key: bytes
    lasts_ms: int


def framed(body: bytes) -> bytes:
    return LENGTH.pack(len(body)) + body


def parse_offer(body: bytes) -> Offer:
    """Raises BadIntroduction."""
    introduction, challenge, wanted = _fields(body, 3)
    if type(introduction) is not bytes or type(challenge) is not bytes or type(wanted) is not bool:
        raise BadIntroduction("an offer's parts are of other types")
    if len(challenge) != NONCE_BYTES:
        raise BadIntroduction("an offer's challenge is none")
    return Offer(introduction, challenge, wanted)


def parse_verdict(body: bytes) -> Verdict:
    """Raises BadIntroduction."""
    lasts_ms, reason = _fields(body, 2)
    if type(lasts_ms) is not int or not 0 <= lasts_ms <= ADMITTED_MS_MAX or type(reason) is not str:
        raise BadIntroduction("a verdict's parts are of other types")
    return Verdict(lasts_ms, "".join(char for char in reason if char.isprintable())[:REASON_CHARS_MAX])


def _fields(body: bytes, length: int) -> tuple[Any, ...]:
    try:
        fields = codec.unpack(body)
    except CorruptionError:
        raise BadIntroduction("it is no record") from None
    if type(fields) is not tuple or len(fields) != length:
        raise BadIntroduction("it is another record")
    return fields


# --- a caller's part -----------------------------------------------------------------------------


def check_offer(offer: Offer, who: Who, papers: Papers, host: str, now_ms: int) -> Introduced:
    """Whom the host has shown itself to be, at the name that was dialled. Raises NotTrusted."""
    insecure = papers.trust is None
    expected = Expectations(
        purpose=who.wants,
        curve_key=None,
        host=None if insecure else host,
        cluster=who.cluster,
        newcomers=who.wants is Purpose.PEER,
        audience=b"",
        nonce=b"",
        allowed_cn=papers.security.allowed_cn,
        allowed_hostname=papers.security.allowed_hostname,
    )
    return verify(offer.introduction, papers.trust, now_ms, expected)


def claim(offer: Offer, host: Introduced, who: Who, papers: Papers, now_ms: int) -> bytes:
    """The introduction that answers an offer. Raises ConfigError; NotTrusted when there is nothing to show."""
    if papers.credentials is None:
        raise NotTrusted("a certificate is wanted there, and none is given")
    statement = CurveStatement(
        version=VERSION,
        newest=VERSION,
        purpose=who.purpose,
        curve_key=who.curve_key,
        not_before=now_ms,
        not_after=now_ms + LIFETIME_MS,
        cluster=who.cluster or "",
        audience=host.curve_key,
        nonce=offer.challenge,
    )
    return introduce(statement, papers.credentials)


def introduce_to(host: str, port: int, who: Who, papers: Papers, timeout_s: float) -> Acquainted:
    """Make acquaintance with who listens there.

    Raises NotTrusted when one of both does not believe the other, ConnectionFailed when nobody speaks as above.
    """
    deadline = time.monotonic() + timeout_s
    try:
        with socket.create_connection((host, port), timeout_s) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(HELLO)
            offer = parse_offer(_frame(connection, OFFER_BYTES_MAX, deadline))
            now_ms = time.time_ns() // 1_000_000
            found = check_offer(offer, who, papers, host, now_ms)
            left_ms = found.identity.until - now_ms
            if not offer.wanted:
                return Acquainted(found.curve_key, left_ms)
            connection.sendall(framed(claim(offer, found, who, papers, now_ms)))
            verdict = parse_verdict(_frame(connection, VERDICT_BYTES_MAX, deadline))
    except (OSError, UnicodeError) as error:  # the latter for what cannot be a host's name
        reason = getattr(error, "strerror", "") or str(error)
        raise ConnectionFailed(f"{host}:{port}: {reason}") from None
    if verdict.reason == BUSY:
        raise ConnectionFailed(f"{host}:{port} says: {verdict.reason}")
    if not verdict.lasts_ms:
        raise NotTrusted(f"{host}:{port} says: {verdict.reason}")
    return Acquainted(found.curve_key, min(left_ms, verdict.lasts_ms))


def _frame(connection: socket.socket, bytes_max: int, deadline: float) -> bytes:
    length = LENGTH.unpack(_exactly(connection, LENGTH.size, deadline))[0]
    if length > bytes_max:
        raise BadIntroduction(f"a message of {length} bytes")
    return _exactly(connection, length, deadline)


def _exactly(connection: socket.socket, length: int, deadline: float) -> bytes:
    data = bytearray()
    while len(data) < length:
        connection.settimeout(max(0.001, deadline - time.monotonic()))
        part = connection.recv(length - len(data))
        if not part:
            raise ConnectionResetError("it hung up")
        data += part
    return bytes(data)
