"""The usher: introduces this node's CURVE keys to strangers, says whom to let in, and meets the other members.

    strangers --introductions (reception.py)--> usher --Admit, Dismiss--> gateway, raft
    raft --Acquaint--> usher --introductions (introducing.py)--> ushers of the peers
                       usher --PeerKeyIs--> raft

It is the one process that reads certificates for CURVE, and the only one that parses what strangers say before they are
known: whatever they do to it, gateway and raft do not feel. It holds no CURVE secret: those are made by the processes
whose sockets they are for, and die with them.

Files are looked at once a second. What was signed by the certificate of before is signed anew, whoever was admitted is
judged again, and peers are asked anew; connections of those who are still believed do not notice.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import structlog

from zkv.errors import ConfigError, ConnectionFailed, NotTrusted
from zkv.introducing import Acquainted, Who, introduce_to
from zkv.loop_mailbox import LoopMailbox
from zkv.mailbox import Stop
from zkv.monotonic import monotonic_ms
from zkv.papers import LOOK_MS, Papers
from zkv.reception import Host, Reception
from zkv.trust import Purpose
from zkv.urls import introductions_port, socket_endpoint
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from zkv.actors.node import Node
    from zkv.gauges import Value
    from zkv.introduction import Introduced
    from zkv.reception import Admits

BUSY_TICK_MS: Final = 20
TICK_MS: Final = 250
TICKET_MS: Final = 5_000
"""So long a process has to let in whom it is told to."""
ASK_S: Final = 5.0
RETRY_MS_MIN, RETRY_MS_MAX = 100, 2_000
RENEW_MS: Final = 15_000
"""How often an acquaintance is made again: by then at the latest a peer hears us again that had dismissed us."""
ASKING_MAX: Final = 4
"""Peers that are spoken to at once."""
SOON_MS: Final = 30 * 86_400_000
"""Certificates that end within this time are warned of ..."""
WARN_MS: Final = 12 * 3_600_000
"""... this often."""


class _Peer:
    """One peer url. `due`: when to speak to its usher next; `until`: how long its key is believed."""

    def __init__(self) -> None:
        self.due = 0
        self.asking = False
        self.again = False
        self.failures = 0
        self.key = b""
        self.until = 0
        self.reason = ""


class Usher:
    """The actor. `hosts`: by the process whose socket is introduced; `listeners`: host, port, process."""

    def __init__(
        self,
        hosts: dict[str, Host],
        listeners: Sequence[tuple[str, int, str]],
        papers: dict[str, Papers],
        cluster: str,
        post: Callable[[str, object], bool],
    ) -> None:
        self.finished = False
        self.hosts = hosts
        self.reception: Reception | None = None
        self._listeners = listeners
        self._papers = papers
        self._cluster = cluster
        self._post = post
        self._names = {host: name for name, host in hosts.items()}
        self._tickets: dict[int, tuple[int, Callable[[bool], None]]] = {}  # ticket -> until, who is to be told
        self._last_ticket = 0
        self._peers: dict[str, _Peer] = {}
        self._raft_key = b""  # it is a caller too, and perhaps that alone: where peers come in by a plain url
        self._threads = ThreadPoolExecutor(ASKING_MAX, "acquaint")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._look_at = 0
        self._warn_at = 0
        self._log = structlog.get_logger().bind(actor="usher")

    async def open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.reception = Reception(loop, self._dismiss)
        for address, port, name in self._listeners:
            await self.reception.listen(address, port, self.hosts[name])

    def close(self) -> None:
        assert self.reception is not None
        self.reception.close()

    def handle(self, inbox: Sequence[tuple[str, object]], now: int) -> None:
        for _, message in inbox:
            match message:
                case m.CurveKeyIs(actor=actor, key=key):
                    self._key_is(actor, key)
                case m.Admitted(ticket=ticket, is_in=is_in):
                    _, told = self._tickets.pop(ticket, (0, None))
                    if told is not None:
                        told(is_in)
                case m.Acquaint(urls=urls, lost=lost):
                    self._acquaint(urls, lost, now)
                case Stop():
                    self.finished = True
                    self._threads.shutdown(wait=False, cancel_futures=True)
                case _:
                    raise AssertionError(f"unexpected mail {type(message).__name__}")

    def next_wakeup(self, now: int) -> int | None:
        assert self.reception is not None
        if self.reception.is_busy:
            return now + BUSY_TICK_MS
        due = min((peer.due for peer in self._peers.values() if not peer.asking), default=now + TICK_MS)
        return max(now + BUSY_TICK_MS, min(due, now + TICK_MS))

    def tick(self, now: int) -> None:
        if self.finished:
            return
        assert self.reception is not None
        now_ms = time.time_ns() // 1_000_000
        if now >= self._look_at:
            self._look_at = now + LOOK_MS
            self._look(now, now_ms)
        self.reception.tick(now_ms)
        for ticket in [ticket for ticket, (until, _) in self._tickets.items() if until <= now]:
            self._tickets.pop(ticket)[1](False)
        for url, peer in self._peers.items():
            if peer.due <= now and not peer.asking:
                self._ask(url, peer)
            if peer.key and peer.until <= now:
                self._told(url, peer, b"")

    # --- whose certificates --------------------------------------------------------------------------

    def _look(self, now: int, now_ms: int) -> None:
        assert self.reception is not None
        changed = [side for side, papers in self._papers.items() if papers.refresh(now_ms)]
        for side in changed:
            self._log.info("certificates were read again", side=side)
        if changed:
            self.reception.papers_changed()
            self._warn_at = 0
        if "peer" in changed:
            for peer in self._peers.values():
                peer.due, peer.again = now, True
        if now >= self._warn_at:
            self._warn_at = now + WARN_MS
            self._warn(now_ms)

    def _warn(self, now_ms: int) -> None:
        for side, what, subject, ends in self._ends():
            if ends - now_ms < SOON_MS:
                left = max(0, ends - now_ms) // 86_400_000
                text = "a certificate has ended" if ends <= now_ms else "a certificate ends soon"
                self._log.warning(text, side=side, what=what, subject=subject, days_left=left)

    def _ends(self) -> list[tuple[str, str, str, int]]:
        """(side, own or CA's, subject, ms since 1970) of all certificates in use."""
        found = []
        for side, papers in self._papers.items():
            if papers.credentials is not None:
                found += [(side, "own", each) for each in papers.credentials.chain]
            if papers.trust is not None:
                found += [(side, "trusted CA", each) for each in papers.trust.authorities]
        return [
            (side, what, each.subject.rfc4514_string(), int(each.not_valid_after_utc.timestamp()) * 1000)
            for side, what, each in found
        ]

    def gauges(self) -> Sequence[Value]:
        assert self.reception is not None
        ends: dict[str, int] = {}
        for side, what, _, at in self._ends():
            label = f"{side} {'own' if what == 'own' else 'ca'}"
            ends[label] = min(at, ends.get(label, at))
        return [
            *(("certificate ends", label, at // 1000) for label, at in ends.items()),
            *(("introductions", outcome, number) for outcome, number in self.reception.counts.items()),
            ("guests", "", self.reception.admitted),
        ]

    # --- who comes -----------------------------------------------------------------------------------

    def _key_is(self, actor: str, key: bytes) -> None:
        host = self.hosts.get(actor)
        if host is not None:
            assert self.reception is not None
            if host.curve_key != key:
                self.reception.forget(host)
            host.curve_key = key
        if actor == "raft":
            self._raft_key = key
            for peer in self._peers.values():  # it is to be introduced under this key
                peer.due, peer.again = 0, True

    def admit(
        self, name: str, introduced: Introduced, address: str, lasts_ms: int, told: Callable[[bool], None]
    ) -> None:
        self._last_ticket += 1
        common_name = introduced.identity.common_name
        if self._post(name, m.Admit(self._last_ticket, introduced.curve_key, common_name, address, lasts_ms)):
            self._tickets[self._last_ticket] = monotonic_ms() + TICKET_MS, told
        else:
            told(False)

    def _dismiss(self, host: Host, key: bytes) -> None:
        if not self._post(self._names[host], m.Dismiss(key)):  # its queue is full: it must not be missed
            assert self._loop is not None
            self._loop.call_later(BUSY_TICK_MS / 1000, self._dismiss, host, key)

    # --- the peers -----------------------------------------------------------------------------------

    def _acquaint(self, urls: Sequence[str], lost: Sequence[str], now: int) -> None:
        for url in set(self._peers) - set(urls):
            del self._peers[url]
        for url in urls:
            peer = self._peers.setdefault(url, _Peer())
            if url in lost:
                peer.due, peer.again = now, True
            elif peer.key:  # raft may have started anew
                self._post("raft", m.PeerKeyIs(url, peer.key))

    def _ask(self, url: str, peer: _Peer) -> None:
        assert self._loop is not None
        if not self._raft_key:
            return
        peer.asking, peer.again = True, False
        who = Who(Purpose.PEER, Purpose.PEER, self._raft_key, self._cluster)
        asked = self._threads.submit(
            introduce_to, socket_endpoint(url).host, introductions_port(url), who, self._papers["peer"], ASK_S
        )
        wrapped = asyncio.wrap_future(asked, loop=self._loop)
        wrapped.add_done_callback(lambda done: self._asked(url, peer, done))

    def _asked(self, url: str, peer: _Peer, done: asyncio.Future[Acquainted]) -> None:
        peer.asking = False
        if self._peers.get(url) is not peer or done.cancelled():
            return
        now = monotonic_ms()
        try:
            found = done.result()
        except (NotTrusted, ConnectionFailed, ConfigError) as error:
            peer.failures += 1
            peer.due = now + min(RETRY_MS_MAX, RETRY_MS_MIN << min(peer.failures, 10))
            if str(error) != peer.reason:
                peer.reason = str(error)
                self._log.warning("a peer is not acquainted", url=url, reason=peer.reason)
            if isinstance(error, NotTrusted) and peer.key:
                self._told(url, peer, b"")
            return
        peer.failures, peer.reason = 0, ""
        peer.until = now + found.lasts_ms
        peer.due = now if peer.again else now + min(RENEW_MS, found.lasts_ms // 2)
        self._told(url, peer, found.curve_key)

    def _told(self, url: str, peer: _Peer, key: bytes) -> None:
        peer.key = key
        if not self._post("raft", m.PeerKeyIs(url, key)):
            peer.due = monotonic_ms() + BUSY_TICK_MS


def usher_for(node: Node, post: Callable[[str, object], bool]) -> Usher:
    """As the settings of the node have it. Raises ConfigError."""
    config = node.config
    now_ms = time.time_ns() // 1_000_000
    cluster = f"{node.cluster_id:x}"
    papers: dict[str, Papers] = {}
    hosts: dict[str, Host] = {}
    listeners: list[tuple[str, int, str]] = []
    if config.client_security.is_given:
        papers["client"] = Papers(config.client_security, now_ms)
    if config.peers_are_introduced:
        papers["peer"] = Papers(config.peer_security, now_ms)
    usher: Usher

    def admitting(name: str) -> Admits:
        return lambda introduced, address, lasts_ms, told: usher.admit(name, introduced, address, lasts_ms, told)

    for name, side, purpose, wants, urls in (
        ("gateway", "client", Purpose.SERVER, Purpose.CLIENT, config.introduced_client_urls),
        ("raft", "peer", Purpose.PEER, Purpose.PEER, config.introduced_peer_urls),
    ):
        if urls:
            hosts[name] = Host(purpose, wants, papers[side], admitting(name), cluster=cluster)
        listeners += [(socket_endpoint(url).socket_host, introductions_port(url), name) for url in urls]
    usher = Usher(hosts, listeners, papers, cluster, post)
    return usher


def start(node: Node, incarnation: int) -> tuple[Usher, LoopMailbox]:
    """The actor on its sockets, for `mailbox.run`."""
    mailbox = LoopMailbox(node.rundir, "usher", ("gateway", "raft"), reports=node.reports)
    usher = usher_for(node, mailbox.post)  # type: ignore[arg-type] # it posts messages only
    for name in ("gateway", *(("raft",) if node.config.peers_are_introduced else ())):
        mailbox.post(name, m.Hello("usher", incarnation))
    return usher, mailbox
