"""Where strangers introduce their CURVE keys: the host's part of the conversation in `introducing.py`.

    made --HELLO--> greeted --claim--> waiting --its turn--> judged --the socket knows the key--> told, and gone

What a stranger can make of it:

- a conversation has CONVERSATION_S from its first byte to its last and CLAIM_BYTES_MAX for all it says; of the greatest
  number at once the oldest gives way to a newcomer, for an honest one is over in milliseconds. So half-open ones,
  however many, hold up nobody.
- Only claims cost real work. They wait, and are judged in turns by address, no more than JUDGED_PER_S of them: who asks
  much waits for himself. When too many wait the next are told to come again.
- Nothing is kept of who was refused; who is admitted is kept with his certificates, which are judged again when files
  change.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import structlog

from zkv.certificates import parse
from zkv.errors import BadIntroduction, ConfigError, NotTrusted
from zkv.guests import GUESTS_MAX
from zkv.introducing import BUSY, HELLO, LENGTH, REASON_CHARS_MAX, Offer, Verdict, framed
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
from zkv.trust import check_allowed
from zkv.wire import codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from zkv.introduction import Introduced
    from zkv.papers import Papers
    from zkv.trust import Purpose

CONVERSATIONS_MAX: Final = 2_000
CONVERSATION_S: Final = 5.0
CLAIM_BYTES_MAX: Final = INTRODUCTION_BYTES_MAX
JUDGED_PER_S: Final = 500
"""A good claim costs 0.3 ms of CPU."""
WAITING_MAX: Final = 2_000
WAITING_OF_ONE_MAX: Final = 1_200
"""Claims from one address."""
ADMITTED_MS: Final = 600_000
"""An admission lasts so long at the most; who is introduced again in time goes on."""
EXPIRE_MS: Final = 10_000
"""How often is looked whose admission is over."""
JUDGED_AGAIN_MAX: Final = 32
"""Guests looked at again in one turn."""
COMPLAINT_S: Final = 1.0
Admits: TypeAlias = "Callable[[Introduced, str, int, Callable[[bool], None]], None]"
"""(who, from which address, for how many ms, whom to tell): has a socket admit a key, and tells whether it could."""


def calendar_ms() -> int:
    return time.time_ns() // 1_000_000


class Host:
    """What is introduced at one listener, and who may claim a key there.

    `curve_key`: the socket's, or empty until there is one: then nobody is answered. `cluster`: its id in hex, or "" for
    a member that does not know it yet.
    """

    def __init__(self, purpose: Purpose, wants: Purpose, papers: Papers, admit: Admits, *, cluster: str = "") -> None:
        self.purpose = purpose
        self.wants = wants
        self.papers = papers
        self.admit = admit
        self.cluster = cluster
        self.curve_key = b""
        self.wanted = papers.trust is not None or (papers.security.auto and purpose == wants)
        self._offer = b""
        self._offer_until = 0
        self._offer_is_of = (0, b"")

    def offer(self, challenge: bytes, now_ms: int) -> bytes | None:
        """What whoever says hello is told."""
        if not self.curve_key or self.papers.credentials is None:
            return None
        if now_ms >= self._offer_until or self._offer_is_of != (self.papers.version, self.curve_key):
            statement = CurveStatement(
                VERSION, VERSION, self.purpose, self.curve_key, now_ms, now_ms + LIFETIME_MS, self.cluster
            )
            try:
                self._offer = introduce(statement, self.papers.credentials)
            except ConfigError as error:  # the next certificate may be smaller
                structlog.get_logger().error("nobody can be introduced", reason=error.detail)
                return None
            self._offer_until = now_ms + LIFETIME_MS // 2
            self._offer_is_of = (self.papers.version, self.curve_key)
        return codec.pack(Offer(self._offer, challenge, self.wanted))

    def judge(self, claim: bytes, challenge: bytes, now_ms: int) -> Introduced:
        """Raises NotTrusted."""
        if not self.wanted:
            raise BadIntroduction("none is wanted here")
        security = self.papers.security
        expected = Expectations(
            purpose=self.wants,
            curve_key=None,
            host=None,
            cluster=self.cluster or None,
            audience=self.curve_key,
            nonce=challenge,
            allowed_cn=security.allowed_cn,
            allowed_hostname=security.allowed_hostname,
            newcomers=True,
        )
        return verify(claim, self.papers.trust, now_ms, expected)

    def judge_again(self, chain: tuple[bytes, ...], now_ms: int) -> None:
        """Raises NotTrusted for who was admitted by certificates that are good no more."""
        if self.papers.trust is None:
            return
        security = self.papers.security
        identity = self.papers.trust.verify([parse(der) for der in chain], self.wants, now_ms)
        check_allowed(identity, security.allowed_cn, security.allowed_hostname)


class Reception:
    """All listeners of a process; driven by its event loop, and by `tick` several times a second."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dismiss: Callable[[Host, bytes], None],
        now_ms: Callable[[], int] = calendar_ms,
    ) -> None:
        """`dismiss`: has a socket admit a key no more. `now_ms`: the time that certificates go by."""
        self.now_ms = now_ms
        self.counts: Counter[str] = Counter()
        self._loop = loop
        self._dismiss = dismiss
        self._servers: list[asyncio.Server] = []
        self._open: dict[_Conversation, None] = {}  # oldest first
        self._waiting: dict[str, deque[_Conversation]] = {}  # by address, whose turn it is first
        self._waiting_count = 0
        self._judging = False
        self._tokens = float(JUDGED_PER_S)
        self._tokens_at = time.monotonic()
        self._admitted: dict[bytes, tuple[Host, tuple[bytes, ...], int]] = {}  # CURVE key -> at which, by what, until
        self._again: Iterator[bytes] | None = None
        self._expire_at = 0
        self._complain_at = 0.0
        self._log = structlog.get_logger().bind(actor="usher")

    async def listen(self, address: str, port: int, host: Host) -> None:
        """Raises OSError when the address is taken."""
        made = lambda: _Conversation(self, host)  # noqa: E731
        self._servers.append(await self._loop.create_server(made, address, port, backlog=1024))

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for conversation in (*self._open, *(each for waiting in self._waiting.values() for each in waiting)):
            conversation.hang_up()

    @property
    def admitted(self) -> int:
        return len(self._admitted)

    def forget(self, host: Host) -> None:
        """The socket it was about is another one."""
        for key in [key for key, (at, _, _) in self._admitted.items() if at is host]:
            del self._admitted[key]

    def papers_changed(self) -> None:
        """All who are admitted are judged again, a few at a time."""
        self._again = iter(list(self._admitted))

    def tick(self, now_ms: int) -> None:
        oldest_kept = time.monotonic() - CONVERSATION_S
        for conversation in list(self._open):
            if conversation.began > oldest_kept:
                break
            self.counts["timed out"] += 1
            conversation.hang_up()
        if self._again is None:
            if now_ms < self._expire_at:
                return
            self._expire_at = now_ms + EXPIRE_MS
            for key in [key for key, (_, _, until) in self._admitted.items() if until <= now_ms]:
                del self._admitted[key]
            return
        for _ in range(JUDGED_AGAIN_MAX):
            key = next(self._again, b"")
            if not key:
                self._again = None
                return
            if key in self._admitted:
                self._judge_again(key, now_ms)

    @property
    def is_busy(self) -> bool:
        return self._again is not None

    def _judge_again(self, key: bytes, now_ms: int) -> None:
        host, chain, _ = self._admitted[key]
        try:
            host.judge_again(chain, now_ms)
        except NotTrusted as error:
            del self._admitted[key]
            self._dismiss(host, key)
            self.counts["dismissed"] += 1
            self._log.warning("dismissed who was admitted before", reason=str(error), purpose=host.wants.name.lower())

    # --- conversations -------------------------------------------------------------------------------

    def made(self, conversation: _Conversation) -> None:
        if len(self._open) >= CONVERSATIONS_MAX:
            self.counts["gave way"] += 1
            next(iter(self._open)).hang_up()
        self._open[conversation] = None

    def lost(self, conversation: _Conversation) -> None:
        self._open.pop(conversation, None)

    def claimed(self, conversation: _Conversation) -> None:
        """It waits for its turn."""
        waiting = self._waiting.setdefault(conversation.address, deque())
        if self._waiting_count >= WAITING_MAX or len(waiting) >= WAITING_OF_ONE_MAX:
            self.counts["busy"] += 1
            conversation.tell(Verdict(0, BUSY))
            return
        del self._open[conversation]
        waiting.append(conversation)
        self._waiting_count += 1
        self._judge_soon()

    def _judge_soon(self) -> None:
        if not self._judging and self._waiting:
            self._judging = True
            now = time.monotonic()
            self._tokens = min(JUDGED_PER_S, self._tokens + (now - self._tokens_at) * JUDGED_PER_S)
            self._tokens_at = now
            if self._tokens >= 1:
                self._loop.call_soon(self._judge_next)
            else:
                self._loop.call_later((1 - self._tokens) / JUDGED_PER_S, self._judge_next)

    def _judge_next(self) -> None:
        """One claim, of the address whose turn it is; what has come in meanwhile has the next turn."""
        self._judging = False
        self._tokens -= 1
        address, waiting = next(iter(self._waiting.items()))
        del self._waiting[address]
        if waiting:
            self._waiting_count -= 1
            conversation = waiting.popleft()
            if waiting:
                self._waiting[address] = waiting
            if not conversation.is_over:
                self._judge(conversation)
        self._judge_soon()

    def _judge(self, conversation: _Conversation) -> None:
        host = conversation.host
        now_ms = self.now_ms()
        try:
            introduced = host.judge(bytes(conversation.claim), conversation.challenge, now_ms)
        except NotTrusted as error:
            self.counts[type(error).__name__] += 1
            self._complain(conversation, error)
            conversation.tell(Verdict(0, str(error).removeprefix("zkv: ")[:REASON_CHARS_MAX]))
            return
        key = introduced.curve_key
        if len(self._admitted) >= GUESTS_MAX and key not in self._admitted:
            self.counts["busy"] += 1
            conversation.tell(Verdict(0, BUSY))
            return
        lasts_ms = min(ADMITTED_MS, introduced.identity.until - now_ms)
        self._admitted[key] = (host, introduced.chain, now_ms + lasts_ms)

        def told(is_in: bool) -> None:
            self.counts["admitted" if is_in else "busy"] += 1
            conversation.tell(Verdict(lasts_ms) if is_in else Verdict(0, BUSY))

        host.admit(introduced, conversation.address, lasts_ms, told)

    def _complain(self, conversation: _Conversation, error: NotTrusted) -> None:
        """Strangers do not fill the log."""
        now = time.monotonic()
        if now >= self._complain_at:
            self._complain_at = now + COMPLAINT_S
            refused = sum(number for what, number in self.counts.items() if what[0].isupper())
            self._log.warning(
                "refused an introduction",
                reason=str(error),
                address=conversation.address,
                wanted=conversation.host.wants.name.lower(),
                refused_so_far=refused,
            )


class _Conversation(asyncio.Protocol):
    def __init__(self, reception: Reception, host: Host) -> None:
        self.host = host
        self.address = ""
        self.began = time.monotonic()
        self.challenge = b""
        self.claim = bytearray()
        self.is_over = False
        self._reception = reception
        self._transport: Any = None
        self._heard = bytearray()
        self._waits = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self._reception.made(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's face
        self.is_over = True
        self._reception.lost(self)

    def data_received(self, data: bytes) -> None:
        if self._waits or self.is_over:
            self.hang_up()  # there is nothing more to say
            return
        self._heard += data
        if not self.challenge:
            if not HELLO.startswith(bytes(self._heard[: len(HELLO)])):
                self._reception.counts["no introduction"] += 1
                self.hang_up()
                return
            if len(self._heard) < len(HELLO):
                return
            del self._heard[: len(HELLO)]
            self._greet()
        if len(self._heard) < LENGTH.size:
            return
        length = LENGTH.unpack_from(self._heard)[0]
        if not self.challenge or length > CLAIM_BYTES_MAX or len(self._heard) > LENGTH.size + length:
            self._reception.counts["no introduction"] += 1
            self.hang_up()
        elif len(self._heard) == LENGTH.size + length:
            self.claim = self._heard[LENGTH.size :]
            self._heard = bytearray()
            self._waits = True
            self._reception.claimed(self)

    def _greet(self) -> None:
        challenge = os.urandom(NONCE_BYTES)
        offer = self.host.offer(challenge, self._reception.now_ms())
        if offer is None:  # the socket is not there yet: try again
            self.hang_up()
            return
        self.challenge = challenge
        self._transport.write(framed(offer))

    def tell(self, verdict: Verdict) -> None:
        if not self.is_over:
            self._transport.write(framed(codec.pack(verdict)))
            self.is_over = True
            self._transport.close()

    def hang_up(self) -> None:
        self.is_over = True
        self._reception.lost(self)
        self._transport.abort()
