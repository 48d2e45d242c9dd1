"""The door of etcd's API as a process: sockets of clients and the node's mail, in one event loop.

    socket --> Arriving, until its first bytes tell which HTTP it speaks, then
               Connected (one per client) --> Line, or Http1Connection and WebDesk --> EtcdDesk --> raft, storage, ...
    inbox  --> EtcdDesk --> Lines --> sockets

All that is read at one turn of the loop is handled before anything is passed on (`_settle`), so what many clients ask
at once travels together, and what they are answered at once leaves in one write for each.

This is a process of its own: whatever strangers do to it, the native door does not feel.
"""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, Any, Final

import structlog

from zkv.errors import NotTrusted
from zkv.gateway.audit import Audit
from zkv.gateway.callers import Callers, tokens_of
from zkv.gateway.doors import Shown
from zkv.gateway.grpc_desk import EtcdDesk
from zkv.gateway.grpc_line import Line, Peer
from zkv.gateway.grpc_tally import CallTally
from zkv.gateway.http2.limits import Http2Limits
from zkv.gateway.http2.words import PREFACE
from zkv.gateway.insight import Insight
from zkv.gateway.native import LEADERLESS_ELECTIONS, NEIGHBOURS, REQUEST_TIMEOUT_MS
from zkv.gateway.turned_away import TurnedAway
from zkv.gateway.web.calls import Bodies
from zkv.gateway.web.desk import WebDesk
from zkv.gateway.web.http1 import Http1Connection
from zkv.gateway.web.http2 import PlainStreams
from zkv.gateway.web.paths import routes
from zkv.loop_mailbox import IDLE_TICK_MS, LoopMailbox
from zkv.mailbox import Stop
from zkv.monotonic import monotonic_ms
from zkv.urls import socket_endpoint
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.actors.node import Node
    from zkv.config import NodeConfig
    from zkv.gateway.grpc_line import Connection
    from zkv.gateway.tls_door import TlsDoor
    from zkv.gauges import Value

MESSAGE_OVERHEAD_BYTES: Final = 512 * 1024
"""A message this much larger than request_bytes_max still comes in, and is told so (etcd:grpcOverheadBytes)."""
WRITE_HIGH_BYTES: Final = 256 * 1024
"""A client with more than this unwritten is sent no more, and not read from."""
CONNECTIONS_MAX: Final = 20_000
"""More are closed as they come."""
JSON_BYTES_MAX: Final = 256 << 20
"""Bodies of JSON that are not whole, of all connections together."""
PING_MIN_MS: Final = 300_000
"""Where --grpc-keepalive-min-time is 0: gRPC's own default."""
TURNED_AWAY_MAX: Final = 128
"""Connections at once that are told why they are too many."""
BACKLOG: Final = 1024
BUSY_TICK_MS: Final = 50
PASSWORDS_S: Final = 0.005
"""How often, while passwords are looked at beside, whether it is done."""
RETRY_S: Final = 0.02
"""A neighbour's queue that was full is tried again after this."""
CLOSE_MS: Final = 1_500
"""How long, when this process ends, clients are given to hang up once they were told."""


class GrpcGateway:
    """The actor: `handle` takes the node's mail and Stop; connections come in by `Connected`."""

    def __init__(
        self,
        desk: EtcdDesk,
        limits: Http2Limits,
        web: WebDesk,
        addresses: Sequence[tuple[str, int, bool]],
        tls: TlsDoor | None,
    ) -> None:
        """`addresses`: host, port, and is it TLS there?"""
        self.finished = False
        self.tally: CallTally | None = None
        """Where somebody wants metrics."""
        self.tls = tls
        self._addresses = addresses
        self._servers: list[asyncio.Server] = []
        self.desk = desk
        self.limits = limits
        self.connections: set[Arriving | Connected] = set()
        self.sockets: dict[Connection, Connected] = {}
        self.turning_away = 0
        """Connections that are being told that they are too many."""
        self._web = web
        self._close_by: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._due = False
        self._tends = False

    async def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Raises OSError when an address is taken."""
        self._loop = loop
        for host, port, secure in self._addresses:
            if secure:
                assert self.tls is not None
                self.tls.listen(loop, host, port, lambda: Arriving(self))
            else:
                self._servers.append(await loop.create_server(lambda: Arriving(self), host, port, backlog=BACKLOG))

    def close(self) -> None:
        for server in self._servers:
            server.close()
        if self.tls is not None:
            self.tls.close()

    def handle(self, inbox: Sequence[tuple[str, object]], now: int) -> None:
        for source, message in inbox:
            if source == "supervisor":
                assert isinstance(message, Stop)
                self.desk.stop(now)
                self._close_by = now + CLOSE_MS
                for connected in list(self.connections):
                    connected.drain(now)
            else:
                self.desk.mail(message, now)
        if self._loop is not None:
            self._settle()  # at once: all mail that was there has come, and a turn of the loop is not free

    def next_wakeup(self, now: int) -> int | None:
        return now + (BUSY_TICK_MS if self._is_busy else IDLE_TICK_MS)

    @property
    def _is_busy(self) -> bool:
        return bool(self.desk.is_busy or self._close_by or (self.tls is not None and self.tls.is_busy))

    def gauges(self) -> Sequence[Value]:
        groups, size = self.desk.asking.in_flight
        shaking, refused = (self.tls.handshakes, self.tls.refused) if self.tls is not None else (0, 0)
        return [
            ("connections", "", len(self.connections) + shaking),
            ("tls refused", "", refused),
            ("groups", "", groups),
            ("bytes", "", size),
            *self.desk.asking.gauges(),
            *(self.tally.gauges() if self.tally is not None else ()),
        ]

    def tick(self, now: int) -> None:
        self.desk.tick(now)
        if self.tls is not None:
            self.tls.tick(now, lambda: [each for each in self.connections if each.shown.chain])
        for connected in list(self.connections):
            connected.tick(now)
        if self._close_by is not None:
            gone = not self.connections or now >= self._close_by
            self.finished = self.desk.asking.drained(now) and gone
            if self.finished:
                for connected in self.connections:
                    connected.write()
        self.settle_soon()

    def settle_soon(self) -> None:
        """At the end of this turn of the loop."""
        if not self._due and self._loop is not None:
            self._due = True
            self._loop.call_soon(self._settle)

    def _settle(self) -> None:
        self._due = False
        assert self._loop is not None
        if not self.desk.flush():
            self._loop.call_later(RETRY_S, self.settle_soon)
        if self.desk.looks_at_passwords and not self._tends:
            self._tends = True
            self._loop.call_later(PASSWORDS_S, self._tend_passwords)
        if not self.desk.dirty:
            return
        dirty = list(self.desk.dirty)
        self.desk.dirty.clear()
        for line in dirty:
            connected = self.sockets.get(line)
            if connected is not None:
                connected.write()
        if self.desk.dirty:  # what waited for room has been given more to write
            self.settle_soon()

    def speak(self, peer: Peer, now: int, *, http2: bool, turned_away: TurnedAway | None = None) -> Connection:
        """What serves a client that speaks so."""
        desk, web = (self.desk, self._web) if turned_away is None else (turned_away, self._web.of(turned_away))
        if http2:
            return Line(desk, self.limits, now, peer, web=PlainStreams(web, peer), tally=self.tally)
        return Http1Connection(web, self.desk.dirty.add, now, peer)

    def _tend_passwords(self) -> None:
        self._tends = False
        self.desk.asking.passwords.tend()
        self._settle()


class Arriving(asyncio.Protocol):
    """One client's socket, until it has said which HTTP it speaks."""

    def __init__(self, gateway: GrpcGateway) -> None:
        self.shown = Shown()
        self._gateway = gateway
        self._transport: Any = None
        self._since = monotonic_ms()
        self._said = b""
        self._peer = Peer()
        self.turned_away: TurnedAway | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if len(self._gateway.connections) >= CONNECTIONS_MAX or self._gateway.desk.asking.stopping:
            self._transport.abort()
            return
        if not self._is_known():
            self._transport.abort()
            return
        if not self._has_room():
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(WRITE_HIGH_BYTES)
        self._gateway.connections.add(self)

    def _is_known(self) -> bool:
        """Who has come in by TLS is looked at before anything that it says is."""
        name = ""
        shaken = self._transport.get_extra_info("ssl_object")
        if shaken is not None:
            assert self._gateway.tls is not None
            try:
                name, self.shown = self._gateway.tls.admit(shaken)
            except NotTrusted:
                return False
        address = self._transport.get_extra_info("peername")
        self._peer = Peer(name, "{}:{}".format(*address[:2]) if address else "", secure=shaken is not None)
        return True

    def _has_room(self) -> bool:
        """One connection too many of its client is told so with each call, and closed; if many are, without a word."""
        gateway = self._gateway
        name, address, secure, _ = self._peer
        share = gateway.desk.asking.shares.of_stranger(name, address.rpartition(":")[0])
        self._peer = Peer(name, address, secure, share)
        error = gateway.desk.asking.shares.connect(share, self._transport, monotonic_ms())
        if error is None:
            return True
        if gateway.turning_away >= TURNED_AWAY_MAX:
            return False
        gateway.turning_away += 1
        self.turned_away = TurnedAway(error, gateway.desk.dirty)
        return True

    def data_received(self, data: bytes) -> None:
        self._said += data
        if len(self._said) < len(PREFACE) and PREFACE.startswith(self._said):
            return
        gateway = self._gateway
        http2 = self._said.startswith(PREFACE)
        line = gateway.speak(self._peer, monotonic_ms(), http2=http2, turned_away=self.turned_away)
        connected = Connected(gateway, self._transport, line, self)
        self._transport.set_protocol(connected)
        gateway.connections.discard(self)
        gateway.connections.add(connected)
        connected.data_received(self._said)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's face
        self._gateway.connections.discard(self)
        self.uncount()

    def uncount(self) -> None:
        """Its client has one connection less."""
        if self.turned_away is not None:
            self._gateway.turning_away -= 1
        elif self._peer.share is not None:
            self._peer.share.connections.pop(self._transport, None)

    def tick(self, now: int) -> None:
        if now - self._since >= self._gateway.limits.handshake_ms:
            self._transport.abort()

    def drain(self, now: int) -> None:  # noqa: ARG002 - as Connected
        self._transport.abort()

    def dismiss(self) -> None:
        self._transport.abort()

    def write(self) -> None:
        """It is answered nothing."""


class Connected(asyncio.Protocol):
    """One client's socket, and what is spoken on it. `shown`: the certificate it has come in by."""

    TICK_MS: Final = 1_000

    def __init__(self, gateway: GrpcGateway, transport: Any, line: Connection, came: Arriving) -> None:
        self.line = line
        self.shown = came.shown
        self.turned_away = came.turned_away
        self._came = came
        self._gateway = gateway
        self._transport = transport
        self._ticked_at = monotonic_ms()
        self._held = False  # the socket takes no more
        self._paused = False  # it is not read
        gateway.sockets[line] = self

    def data_received(self, data: bytes) -> None:
        self.line.receive(data, monotonic_ms())
        if self.turned_away is not None and self.turned_away.told:
            self.line.drain(monotonic_ms())
        if not self.line.wants_more:
            self._paused = True
            self._transport.pause_reading()
        self._gateway.settle_soon()

    def pause_writing(self) -> None:
        self._held = self._paused = True
        self.line.hold()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._held = False
        self.line.release(monotonic_ms())
        self._gateway.desk.dirty.add(self.line)
        self._gateway.settle_soon()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's face
        self._gateway.connections.discard(self)
        del self._gateway.sockets[self.line]
        self._came.uncount()
        self.line.lost(monotonic_ms())
        self._gateway.settle_soon()

    def tick(self, now: int) -> None:
        if now - self._ticked_at >= self.TICK_MS:
            self._ticked_at = now
            self.line.tick(now)
            if self.turned_away is not None:  # it has been heard long enough
                self.dismiss()
            if self.shown.until and now >= self.shown.until:
                self.dismiss()

    def drain(self, now: int) -> None:
        self.line.drain(now)

    def dismiss(self) -> None:
        """Its certificate is good no more, or it came one too many."""
        self._transport.abort()

    def write(self) -> None:
        line = self.line
        out = line.to_send()
        if not (out or self._paused or line.finished) or self._transport.is_closing():
            return
        if out:
            self._transport.write(out)
            if not self._held:
                line.written()
        if line.finished:
            self._transport.close()
        elif self._paused and not self._held and line.wants_more:
            self._paused = False
            self._transport.resume_reading()


def http2_limits(config: NodeConfig, message_max: int) -> Http2Limits:
    defaults = Http2Limits()
    ping_min_ms, interval_ms, timeout_ms = config.keepalive()
    return defaults._replace(
        streams_max=config.max_concurrent_streams,
        resets_burst=max(defaults.resets_burst, 2 * config.max_concurrent_streams),
        message_bytes_max=message_max,
        held_bytes_max=max(defaults.held_bytes_max, 4 * message_max),
        ping_min_ms=ping_min_ms or PING_MIN_MS,
        keepalive_ms=interval_ms if timeout_ms else 0,
        keepalive_timeout_ms=timeout_ms,
    ).checked()


def start(node: Node, incarnation: int) -> tuple[GrpcGateway, LoopMailbox]:
    """The door on its sockets, for `mailbox.run`."""
    config = node.config
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))  # each client is one
    addresses = []
    for url in config.etcd_client_urls:
        endpoint = socket_endpoint(url)
        host = "127.0.0.1" if endpoint.host == "localhost" else endpoint.host
        addresses.append((host, endpoint.port, endpoint.secure))
    tls = None
    if any(secure for _, _, secure in addresses):
        from zkv.gateway.tls_door import TlsDoor  # what reads certificates is not even imported where there are none

        tls = TlsDoor(config)
    mailbox = LoopMailbox(node.rundir, "grpc", NEIGHBOURS, reports=node.reports)
    desk = EtcdDesk(
        limits=node.limits,
        member_id=node.member_id,
        cluster_id=node.cluster_id,
        incarnation=incarnation | m.ETCD_DOOR,
        request_timeout_ms=REQUEST_TIMEOUT_MS + 2 * config.election_timeout,
        leaderless_ms=LEADERLESS_ELECTIONS * config.election_timeout,
        post=mailbox.post,
        tallies=node.reports,
        slow_ms=config.warning_ms()[1],
        callers=Callers(tokens_of(config.auth_token, config.auth_token_ttl)),
        bcrypt_cost=config.bcrypt_cost,
        audit=Audit(config.audit_log, "grpc") if config.audit_log else None,
    )
    desk.asking.callers.audited = bool(config.audit_log)
    message_max = config.max_request_bytes + MESSAGE_OVERHEAD_BYTES
    limits = http2_limits(config, message_max)
    mailbox.on_look = desk.asking.look
    for neighbour in NEIGHBOURS:
        mailbox.post(neighbour, m.Hello("grpc", incarnation | m.ETCD_DOOR))
    structlog.get_logger().bind(actor="grpc").debug("listening", urls=config.etcd_client_urls)
    insight = Insight(node.insight_socket)
    web = WebDesk(
        desk,
        routes(desk.methods),
        Bodies(one_max=2 * message_max, all_max=JSON_BYTES_MAX, message_max=message_max),
        insight.ask,
        origins=config.cors,
        hosts=config.host_whitelist,
    )
    gateway = GrpcGateway(desk, limits, web, addresses, tls)
    insight.on_told = gateway.settle_soon
    gateway.tally = CallTally(desk.methods) if node.reports else None
    return gateway, mailbox
