"""The connections of a client: one line per endpoint (`zkv/line.py`), by which ZeroMQ's DEALER and CURVE are spoken.

Where certificates are given, curve:// endpoints are first introduced to us, and we to them (`introductions.py`): their
lines begin, and begin again, only with a key that has just been.

A line connects, and connects again, by itself, and notices when who is there has vanished without a word. Nothing waits
for an endpoint that is not connected, and what was on its way is lost with the connection: the session, not the line,
decides what is sent again.

Whoever made it drives it, from one thread at a time:

    send, flush     what the session has
    hear            when one of the descriptors has something to say that were given to `polls`
    tend            when `idle_ms` is over
"""

from __future__ import annotations

from collections.abc import Mapping
from select import POLLIN
from typing import TYPE_CHECKING, Final, NamedTuple

from zkv import curve
from zkv.connection import READ_BYTES
from zkv.curve_keys import KeyPair, new_keys, read_key_file
from zkv.errors import ConfigError
from zkv.line import Line
from zkv.monotonic import monotonic_ms
from zkv.urls import socket_endpoint
from zkv.zmtp import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike
    from typing import TypeAlias

    from zkv.client.introductions import Introductions
    from zkv.client.session import Session
    from zkv.connection import Polls

    KeyFile: TypeAlias = str | PathLike[str]

FAREWELL_MS = 100
"""So long a member that does not read may hold up the end of a client that has something to say to it."""
UNBOUNDED: Final = 1 << 61
"""The session bounds what is in flight."""


class Files(NamedTuple):
    """As etcdctl's flags name them. `insecure`: whoever answers is believed, as with --insecure-skip-tls-verify."""

    cacert: str = ""
    cert: str = ""
    key: str = ""
    insecure: bool = False

    @property
    def are_given(self) -> bool:
        return bool(self.cacert or self.cert or self.key or self.insecure)


class Curve(NamedTuple):
    """Keys in Z85: the server's public one, and this client's pair."""

    server: bytes
    public: bytes
    secret: bytes

    @property
    def security(self) -> curve.Client:
        """A line's."""
        return curve.Client(KeyPair(self.public, self.secret), self.server)


def load_curve(server_key: KeyFile, client_key: KeyFile | None) -> Curve:
    """Keys from `.key` and `.key_secret` files; without a client key a new one is made up.

    Raises ConfigError when a file does not hold what it should.
    """
    server, _ = read_key_file(server_key)
    public, secret = read_key_file(client_key) if client_key is not None else new_keys()
    if secret is None:
        raise ConfigError(f"{client_key} holds no secret key")
    return Curve(server, public, secret)


def normalize(endpoint: str, default: str = "tcp") -> str:
    """An endpoint with its scheme: `default` unless one is given. Raises ConfigError."""
    scheme, separator, address = endpoint.partition("://")
    if not separator:
        scheme, address = default, endpoint
    host, colon, port = address.rpartition(":")
    if scheme not in {"tcp", "curve"} or not (colon and host and port.isdecimal()):
        door = " (http and https are for etcd's clients, at another port)" if scheme in {"http", "https"} else ""
        raise ConfigError(f"endpoint {endpoint!r} is not tcp://host:port or curve://host:port{door}")
    return f"{scheme}://{address}"


class Transport:
    def __init__(
        self,
        polls: Polls,
        endpoints: Iterable[str],
        server_key: KeyFile | Mapping[str, KeyFile] | None = None,
        client_key: KeyFile | None = None,
        files: Files = Files(),  # noqa: B008 - it cannot be changed
    ) -> None:
        """Connect to all endpoints. `server_key`: one for all, or by endpoint; else `files`. Raises ConfigError."""
        self._polls = polls
        self._scheme = "curve" if files.are_given else "tcp"
        self.endpoints = tuple(normalize(endpoint, self._scheme) for endpoint in endpoints)
        if not self.endpoints:
            raise ConfigError("no endpoint given")
        self.reasons: dict[int, str] = {}
        """Why an endpoint is not connected, where it was to be introduced."""
        self.refused: set[int] = set()
        """Of these, where one of both does not believe the other: to wait is of no use."""
        introduced: list[tuple[int, str]] = []
        securities: dict[int, curve.Client | None] = {}
        for number, endpoint in enumerate(self.endpoints):
            socket_endpoint(endpoint)  # is refused here where it is none
            if endpoint.startswith("curve://") and server_key is None and files.are_given:
                introduced.append((number, endpoint))
            else:
                securities[number] = _security_of(endpoint, server_key, client_key)
        self._introductions: Introductions | None = None
        self._keys: dict[int, bytes] = {}  # of the introduced endpoints that are connected, or about to be
        if introduced:
            from zkv.client.introductions import Introductions

            self._introductions = Introductions(introduced, files)
            polls.register(self._introductions.reader, POLLIN)
        self._room = memoryview(bytearray(READ_BYTES))
        self._lines: dict[int, Line] = {}  # by the number of the endpoint
        self._ready: set[int] = set()  # as the session knows it
        self._lost: list[int] = []  # since the session was told
        self._sent: set[Line] = set()  # since the last flush
        for number, security in securities.items():
            self._begin(number, security)

    def _begin(self, endpoint: int, security: curve.Client | None) -> None:
        host, port, _ = socket_endpoint(self.endpoints[endpoint])
        line = self._lines[endpoint] = Line(
            host,
            port,
            b"DEALER",
            security,
            self._polls,
            messages_max=UNBOUNDED,
            bytes_max=UNBOUNDED,
            message_bytes_max=MESSAGE_BYTES_MAX,
            room=self._room,
        )
        line.on_lost = lambda: self._lost.append(endpoint)

    def index(self, endpoint: str) -> int:
        """Which of the endpoints this is. Raises ConfigError when it is none."""
        try:
            return self.endpoints.index(normalize(endpoint, self._scheme))
        except ValueError:
            raise ConfigError(f"{endpoint} is none of this client's endpoints") from None

    def send(self, endpoint: int, data: bytes) -> bool:
        """To leave with the next `flush`. False when the connection is gone."""
        line = self._lines.get(endpoint)
        if line is None or not line.put(data):
            return False
        self._sent.add(line)
        return True

    def flush(self, session: Session, now: int) -> None:
        """Let out what was sent."""
        for line in self._sent:
            line.flush()
        self._sent.clear()
        self._settle(session, now)

    def hear(self, fd: int, session: Session, now: int) -> None:
        """Hand the session what has come at a descriptor.

        Answers go before the news that the connection they came by is lost.
        """
        if self._introductions is not None and fd == self._introductions.reader:
            self._attend(self._introductions, session, now)
            return
        for endpoint, line in self._lines.items():
            if fd in line:
                messages = line.hear(fd)
                if line.ready and endpoint not in self._ready:
                    self._ready.add(endpoint)
                    session.connected(endpoint, now)
                for message in messages:
                    session.received(endpoint, message or b"", now)  # one of several frames is no answer, as nothing is
                break
        self._settle(session, now)

    def tend(self, session: Session, now: int) -> None:
        """Do what is due. To be called after what has come was heard: else who answered may be taken for gone."""
        time = monotonic_ms()  # the lines' clock, which is not the session's (clock.py)
        for line in self._lines.values():
            due = line.due
            if due is not None and time >= due:
                line.tend(time)
        self._settle(session, now)

    @property
    def idle_ms(self) -> int | None:
        """For how long it needs nobody, if nothing comes; None: for ever."""
        dues = [line.due for line in self._lines.values()]
        due = min((due for due in dues if due is not None), default=None)
        return None if due is None else max(0, due - monotonic_ms())

    def close(self, last_words: Iterable[tuple[int, bytes]] = ()) -> None:
        """Say (endpoint, message) each, if it takes no time to speak of, and be gone."""
        for endpoint, data in last_words:
            self.send(endpoint, data)
        for line in self._lines.values():
            line.on_lost = None
            line.close(FAREWELL_MS if line in self._sent else 0)
        self._lines.clear()
        if self._introductions is not None:
            self._polls.unregister(self._introductions.reader)
            self._introductions.close()

    def _settle(self, session: Session, now: int) -> None:
        """Tell the session what was lost, and have those introduced again who are to be."""
        while self._lost:
            endpoint = self._lost.pop()
            self._ready.discard(endpoint)
            session.disconnected(endpoint, now)
            if self._introductions is not None and self._keys.pop(endpoint, None) is not None:
                # Whoever is there now is to be asked who he is.
                self._lines.pop(endpoint).close()
                self._introductions.again(endpoint)
        if session.stranger_to:
            for stranger in session.stranger_to:
                if self._introductions is not None and stranger in self._keys:
                    self._introductions.again(stranger)
            session.stranger_to.clear()

    def _attend(self, introductions: Introductions, session: Session, now: int) -> None:
        """Connect to those who have been introduced."""
        for news in introductions.take():
            endpoint = news.endpoint
            self.refused.discard(endpoint)
            if not news.key:
                self.reasons[endpoint] = news.reason
                if news.refused:
                    self.refused.add(endpoint)
                continue
            self.reasons.pop(endpoint, None)
            if self._keys.get(endpoint) == news.key:
                continue
            if endpoint in self._lines:  # to another one, which was not lost yet
                self._lines.pop(endpoint).close()
                self._ready.discard(endpoint)
                session.disconnected(endpoint, now)
            self._keys[endpoint] = news.key
            self._begin(endpoint, curve.Client(introductions.keys, news.key))


def curves_of(
    endpoints: Iterable[str], server_key: str, client_key: str | None, files: Files, timeout: float
) -> dict[str, Curve]:
    """For who opens sockets of his own: the keys for those of `endpoints` that are curve://.

    Waits until they are introduced; they stay so for as long as this process lives. Raises ConfigError, and
    ConnectionFailed.
    """
    secure = [endpoint for endpoint in dict.fromkeys(endpoints) if endpoint.startswith("curve://")]
    if not secure:
        return {}
    if server_key:
        return dict.fromkeys(secure, load_curve(server_key, client_key))
    from zkv.client.introductions import Introductions

    introductions = Introductions(list(enumerate(secure)), files)
    own = introductions.keys
    return {secure[at]: Curve(key, own.public, own.secret) for at, key in introductions.wait(timeout).items()}


def _security_of(
    endpoint: str, server_key: KeyFile | Mapping[str, KeyFile] | None, client_key: KeyFile | None
) -> curve.Client | None:
    if endpoint.startswith("tcp://"):
        return None
    key = server_key
    if isinstance(key, Mapping):
        key = {normalize(name): path for name, path in key.items()}.get(endpoint)
    if key is None:
        raise ConfigError(f"{endpoint} needs the file of a CA, or the server's public key")
    return load_curve(key, client_key).security
