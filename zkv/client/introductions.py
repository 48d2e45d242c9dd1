"""How a client and its endpoints get to know each other by certificates: in threads beside the one that carries.

An introduction is a conversation over TCP, and signatures are checked in it: nothing for a thread that others wait for.
So each endpoint has a thread of its own, which

    speaks to the usher there   until both believe each other: then `take` has its CURVE key for the transport
    sleeps                      for two fifths of the time the introduction lasts, or until a file changes, or until the
                                transport says that the connection is lost: then it speaks again

The client's CURVE key is made here and lives as long as the client. A connection that stands does not notice when its
keys are introduced again.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from zkv.curve_keys import new_keys, raw, spelled
from zkv.errors import ConfigError, ConnectionFailed, NotTrusted
from zkv.introducing import Who, introduce_to
from zkv.papers import LOOK_MS, Papers
from zkv.transport_security import TransportSecurity
from zkv.trust import Purpose
from zkv.urls import introductions_port, socket_endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.client.transport import Files
    from zkv.errors import ZkvError

ASK_S: Final = 5.0
RETRY_S_MIN: Final = 0.05
RETRY_S_MAX: Final = 2.0
RENEW_PARTS: Final = 0.4
AGAIN_S_MIN: Final = 0.2


class News(NamedTuple):
    """`key`: the endpoint's, in Z85; or empty, and the reason; `refused`: one of both does not believe the other."""

    endpoint: int
    key: bytes
    reason: str = ""
    refused: bool = False


class Introductions:
    def __init__(self, endpoints: Sequence[tuple[int, str]], files: Files) -> None:
        """`endpoints`: (number, curve:// url). Raises ConfigError for files that cannot be used."""
        security = TransportSecurity(
            cert_file=files.cert, key_file=files.key, trusted_ca_file="" if files.insecure else files.cacert
        )
        if not files.cacert and not files.insecure:
            raise ConfigError("curve:// by certificates needs the file of the CA that the servers' are signed by")
        if bool(files.cert) != bool(files.key):
            raise ConfigError("a certificate and its key are both needed, or none")
        self.keys = new_keys()
        self._papers = Papers(security, _now_ms())
        self._papers_lock = threading.Lock()
        self._news: list[News] = []
        self._lock = threading.Lock()
        self._closed = False
        self.reader, self._writer = os.pipe()
        os.set_blocking(self.reader, False)
        self._wanted = {number: threading.Event() for number, _ in endpoints}
        self._threads = [
            threading.Thread(target=self._run, args=(number, url), name="zkv-introduction", daemon=True)
            for number, url in endpoints
        ]
        for thread in self._threads:
            thread.start()

    def take(self) -> list[News]:
        """What has been found out since the last time; `reader` becomes readable when there is something."""
        with self._lock:
            news, self._news = self._news, []
            if not self._closed:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.reader, 4096)
        return news

    def wait(self, timeout: float) -> dict[int, bytes]:
        """All endpoints' keys. Raises ConnectionFailed when one has none in time."""
        found: dict[int, bytes] = {}
        reason = ""
        deadline = time.monotonic() + timeout
        while len(found) < len(self._wanted):
            left = deadline - time.monotonic()
            if left <= 0:
                raise ConnectionFailed(reason)
            select.select([self.reader], [], [], left)
            for news in self.take():
                if news.key:
                    found[news.endpoint] = news.key
                else:
                    reason = news.reason
        return found

    def again(self, endpoint: int) -> None:
        """Its connection is lost, or it does not know us any more."""
        self._wanted[endpoint].set()

    def close(self) -> None:
        """Threads leave by themselves, those that speak when they have spoken."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.close(self.reader)
            os.close(self._writer)
        for wanted in self._wanted.values():
            wanted.set()

    # --- a thread's life ---------------------------------------------------------------------------

    def _run(self, number: int, url: str) -> None:
        host, port = socket_endpoint(url).host, introductions_port(url)
        who = Who(Purpose.CLIENT, Purpose.SERVER, raw(self.keys.public))
        failures = 0
        met_at = 0.0
        wanted = self._wanted[number]
        while not self._closed:
            wanted.clear()
            version = self._papers.version
            try:
                found = introduce_to(host, port, who, self._papers, ASK_S)
            except (NotTrusted, ConnectionFailed, ConfigError) as error:
                failures += 1
                self._tell(News(number, b"", _reason(error), not isinstance(error, ConnectionFailed)))
                limit = min(RETRY_S_MAX, RETRY_S_MIN * 2 ** min(failures, 10))
                self._sleep(limit * random.uniform(0.5, 1.0), threading.Event(), version)  # noqa: S311 - no secret
                continue
            failures = 0
            self._tell(News(number, spelled(found.curve_key)))
            self._sleep(found.lasts_ms * RENEW_PARTS / 1000, wanted, version)
            since = time.monotonic() - met_at
            if since < AGAIN_S_MIN:  # introduced, but its CURVE port does not keep us
                self._sleep(AGAIN_S_MIN - since, threading.Event(), version)
            met_at = time.monotonic()

    def _sleep(self, seconds: float, wanted: threading.Event, version: int) -> None:
        """Until it is wanted, files have changed, or the time is over."""
        until = time.monotonic() + seconds
        while not self._closed and not wanted.is_set():
            left = until - time.monotonic()
            if left <= 0:
                return
            wanted.wait(min(left, LOOK_MS / 1000))
            with self._papers_lock:
                self._papers.refresh(_now_ms())
            if self._papers.version != version:
                return

    def _tell(self, news: News) -> None:
        with self._lock:
            if not self._closed:
                self._news.append(news)
                os.write(self._writer, b"\0")


def _reason(error: ZkvError) -> str:
    """For people who asked for something else."""
    return error.detail if type(error) is NotTrusted else str(error).removeprefix("zkv: ")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
