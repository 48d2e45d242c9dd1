"""The sockets of a client: one ZeroMQ DEALER per endpoint, and a monitor beside each that tells when it is connected.

Where certificates are given, curve:// endpoints are first introduced to us, and we to them (`introductions.py`): their
sockets connect, and connect again, only with a key that has just been.

What libzmq does here: connect and reconnect, CURVE, heartbeats (a peer that vanished without a word is noticed within
HEARTBEAT_TIMEOUT_MS). With ZMQ_IMMEDIATE nothing is queued for an endpoint that is not connected, and what was
queued is dropped when the connection is lost: the session, not the socket, decides what is sent again.

Not thread-safe: whoever made it drives it.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import zmq

from zkv.curve_keys import KeyPair, new_keys, read_key_file
from zkv.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from os import PathLike
    from typing import TypeAlias

    from zkv import curve
    from zkv.client.introductions import Introductions
    from zkv.client.session import Session

    KeyFile: TypeAlias = str | PathLike[str]

RECONNECT_MS_MIN = 50
RECONNECT_MS_MAX = 500
HEARTBEAT_MS = 1000
HEARTBEAT_TIMEOUT_MS = 3000
HANDSHAKE_MS = 5000
FAREWELL_MS = 100
"""So long a member that does not read may hold up the end of a client that has something to say to it."""
DRAIN_MESSAGES = 256
"""Messages taken from one socket before the others, and the callers, have their turn."""

_EVENT = struct.Struct("=HI")


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
        """A line's (`zkv/line.py`)."""
        from zkv import curve

        return curve.Client(KeyPair(self.public, self.secret), self.server)


def load_curve(server_key: KeyFile, client_key: KeyFile | None) -> Curve:
    """Keys from `.key` and `.key_secret` files; without a client key a new one is made up.

    Raises ConfigError when a file does not hold what it should.
    """
    server, _ = _read(server_key)
    public, secret = _read(client_key) if client_key is not None else new_keys()
    if secret is None:
        raise ConfigError(f"{client_key} holds no secret key")
    return Curve(server, public, secret)


def _read(path: KeyFile) -> tuple[bytes, bytes | None]:
    """Not by zkv.identity, which logs: that import costs a command 100 ms."""
    try:
        return read_key_file(path)
    except OSError as error:
        raise ConfigError(f"key file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path} {error}") from None


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
        endpoints: Iterable[str],
        server_key: KeyFile | Mapping[str, KeyFile] | None = None,
        client_key: KeyFile | None = None,
        files: Files = Files(),  # noqa: B008 - it cannot be changed
    ) -> None:
        """Connect to all endpoints. `server_key`: one for all, or by endpoint; else `files`. Raises ConfigError."""
        self._scheme = "curve" if files.are_given else "tcp"
        self.endpoints = tuple(normalize(endpoint, self._scheme) for endpoint in endpoints)
        if not self.endpoints:
            raise ConfigError("no endpoint given")
        self.reasons: dict[int, str] = {}
        """Why an endpoint is not connected, where it was to be introduced."""
        self.refused: set[int] = set()
        """Of these, where one of both does not believe the other: to wait is of no use."""
        introduced: list[tuple[int, str]] = []
        curves: list[Curve | None] = []
        for number, endpoint in enumerate(self.endpoints):
            if endpoint.startswith("curve://") and server_key is None and files.are_given:
                introduced.append((number, endpoint))
                curves.append(None)
            else:
                curves.append(_curve_of(endpoint, server_key, client_key))
        self._introductions: Introductions | None = None
        self._keys: dict[int, bytes] = {}  # of the introduced endpoints that are connected, or about to be
        if introduced:
            from zkv.client.introductions import Introductions

            self._introductions = Introductions(introduced, files)
        self._context = zmq.Context()
        self.sockets: list[zmq.Socket[bytes]] = []
        self.monitors: list[zmq.Socket[bytes]] = []
        try:
            for number, (endpoint, curve) in enumerate(zip(self.endpoints, curves, strict=True)):
                self._connect(endpoint, curve, introduced=(number, endpoint) in introduced)
        except zmq.ZMQError as error:
            self.close()
            raise ConfigError(f"cannot connect to {endpoint}: {error}") from None

    @property
    def introductions_fd(self) -> int | None:
        """Readable when `attend` has something to do; None: never."""
        return None if self._introductions is None else self._introductions.reader

    def attend(self) -> None:
        """Connect to those who have been introduced."""
        if self._introductions is None:
            return
        for news in self._introductions.take():
            self.refused.discard(news.endpoint)
            if not news.key:
                self.reasons[news.endpoint] = news.reason
                if news.refused:
                    self.refused.add(news.endpoint)
                continue
            self.reasons.pop(news.endpoint, None)
            if self._keys.get(news.endpoint) != news.key:
                self._connect_introduced(news.endpoint, news.key)

    def _connect_introduced(self, endpoint: int, key: bytes) -> None:
        assert self._introductions is not None
        socket = self.sockets[endpoint]
        address = "tcp://" + self.endpoints[endpoint].partition("://")[2]
        if endpoint in self._keys:  # to another one, which was not lost yet
            with contextlib.suppress(zmq.ZMQError):
                socket.disconnect(address)
        self._keys[endpoint] = key
        socket.curve_serverkey = key
        socket.connect(address)

    def _lost(self, endpoint: int) -> None:
        """Of an introduced endpoint: whoever is there now is to be asked who he is."""
        if self._introductions is not None and self._keys.pop(endpoint, None) is not None:
            with contextlib.suppress(zmq.ZMQError):  # it is gone by itself
                self.sockets[endpoint].disconnect("tcp://" + self.endpoints[endpoint].partition("://")[2])
            self._introductions.again(endpoint)

    def _connect(self, endpoint: str, curve: Curve | None, *, introduced: bool) -> None:
        socket = self._context.socket(zmq.DEALER)
        self.sockets.append(socket)
        socket.linger = 0
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.setsockopt(zmq.SNDHWM, 0)  # the session bounds what is in flight
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS_MIN)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MS_MAX)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        if curve is not None:
            socket.curve_serverkey = curve.server
            socket.curve_publickey = curve.public
            socket.curve_secretkey = curve.secret
        events = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
        if introduced:
            assert self._introductions is not None
            socket.curve_publickey = self._introductions.keys.public
            socket.curve_secretkey = self._introductions.keys.secret
            socket.setsockopt(zmq.RECONNECT_IVL, -1)
            events |= zmq.EVENT_CLOSED  # nobody was there
        self.monitors.append(socket.get_monitor_socket(events))
        if not introduced:
            socket.connect("tcp://" + endpoint.partition("://")[2])

    def index(self, endpoint: str) -> int:
        """Which of the endpoints this is. Raises ConfigError when it is none."""
        try:
            return self.endpoints.index(normalize(endpoint, self._scheme))
        except ValueError:
            raise ConfigError(f"{endpoint} is none of this client's endpoints") from None

    def send(self, endpoint: int, data: bytes) -> bool:
        """False when the connection is gone."""
        try:
            self.sockets[endpoint].send(data, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def drain(self, endpoint: int, session: Session, now: int) -> bool:
        """Hand the session what has come from one endpoint; False: there was nothing.

        Answers go before the news that the connection they came by is lost.
        """
        socket = self.sockets[endpoint]
        found = False
        try:
            for _ in range(DRAIN_MESSAGES):
                session.received(endpoint, socket.recv(zmq.NOBLOCK), now)
                found = True
        except zmq.Again:
            pass
        monitor = self.monitors[endpoint]
        while monitor.poll(0):
            event, _ = _EVENT.unpack(monitor.recv_multipart()[0])
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                session.connected(endpoint, now)
            else:
                session.disconnected(endpoint, now)
                self._lost(endpoint)
            found = True
        if session.stranger_to:
            for stranger in session.stranger_to:
                if self._introductions is not None and stranger in self._keys:
                    self._introductions.again(stranger)
            session.stranger_to.clear()
        return found

    def close(self, last_words: Iterable[tuple[int, bytes]] = ()) -> None:
        """Say (endpoint, message) each, if it takes no time to speak of, and be gone."""
        lingers = [0] * len(self.sockets)
        for endpoint, data in last_words:
            if self.send(endpoint, data):
                lingers[endpoint] = FAREWELL_MS
        if self._introductions is not None:
            self._introductions.close()
        for socket in self.sockets:
            socket.disable_monitor()
        for monitor in self.monitors:
            monitor.close(linger=0)
        for socket, linger in zip(self.sockets, lingers, strict=True):
            socket.close(linger=linger)
        self._context.term()


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


def _curve_of(
    endpoint: str, server_key: KeyFile | Mapping[str, KeyFile] | None, client_key: KeyFile | None
) -> Curve | None:
    if endpoint.startswith("tcp://"):
        return None
    key = server_key
    if isinstance(key, Mapping):
        key = {normalize(name): path for name, path in key.items()}.get(endpoint)
    if key is None:
        raise ConfigError(f"{endpoint} needs the file of a CA, or the server's public key")
    return load_curve(key, client_key)
