"""Introductions for a server that does not know yet who it is (`join.py`), in a child process and without an usher."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import structlog

from zkv import identity
from zkv.actors.peers import PeerCurve
from zkv.errors import ConnectionFailed, NotTrusted
from zkv.guests import Guest, Guests
from zkv.introducing import Who, introduce_to
from zkv.monotonic import monotonic_ms
from zkv.papers import Papers
from zkv.reception import Host, Reception
from zkv.trust import Purpose
from zkv.urls import introductions_port, socket_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.config import NodeConfig
    from zkv.introduction import Introduced

ASK_S = 2.0
TICK_S = 0.25


class Meeting:
    """Says "" where a cluster's id is to be said. A thread answers who comes to ask."""

    def __init__(self, config: NodeConfig) -> None:
        """Raises ConfigError."""
        keys = identity.new_keys()
        self._config = config
        self._papers = Papers(config.peer_security, time.time_ns() // 1_000_000)
        self._guests = Guests()
        self._keys: dict[str, bytes] = {}
        self._raw = identity.raw(keys.public)
        self._reasons: set[str] = set()
        self.curve = PeerCurve(keys, self._guests, self._keys.get)
        self._listening = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._receive()), name="meeting", daemon=True).start()
        self._listening.wait()

    def meet(self, url: str) -> None:
        """Find out who is there, if it can be; the log says why not."""
        who = Who(Purpose.PEER, Purpose.PEER, self._raw)
        try:
            found = introduce_to(socket_endpoint(url).host, introductions_port(url), who, self._papers, ASK_S)
        except (NotTrusted, ConnectionFailed) as error:
            if str(error) not in self._reasons:
                self._reasons.add(str(error))
                structlog.get_logger().warning("a peer is not acquainted", url=url, reason=str(error))
        else:
            self._keys[url] = identity.spelled(found.curve_key)

    async def _receive(self) -> None:
        host = Host(Purpose.PEER, Purpose.PEER, self._papers, self._admit)
        host.curve_key = self._raw
        reception = Reception(asyncio.get_running_loop(), lambda _host, _key: None)
        try:
            for url in self._config.introduced_peer_urls:
                await reception.listen(socket_endpoint(url).socket_host, introductions_port(url), host)
        finally:
            self._listening.set()
        while True:
            await asyncio.sleep(TICK_S)
            reception.tick(time.time_ns() // 1_000_000)

    def _admit(self, introduced: Introduced, address: str, lasts_ms: int, told: Callable[[bool], None]) -> None:
        guest = Guest(introduced.identity.common_name, address, monotonic_ms() + lasts_ms)
        told(self._guests.admit(identity.spelled(introduced.curve_key), guest))
