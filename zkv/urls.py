"""Urls as operators write them, and the ZeroMQ endpoints they stand for.

    tcp://host:port     plain              curve://host:port    CURVE
    http://  for peers: the same as tcp    https:// for peers:  the same as curve

Peer urls of etcd's configuration files so serve unchanged. A url is kept and shown as given; this module only says
where it leads.
"""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit

from zkv.errors import ConfigError

PLAIN = frozenset({"tcp", "http"})
SECURE = frozenset({"curve", "https"})
INTRODUCTIONS_UP = 1000
"""Where certificates introduce CURVE keys, that is done at the url's port and so many: CURVE itself hears nobody whose
key is not known yet, and there is but one way to speak at a port."""


class SocketEndpoint(NamedTuple):
    """`host` is a name or an IP address without brackets."""

    host: str
    port: int
    secure: bool

    @property
    def socket_host(self) -> str:
        """For sockets: `localhost` is 127.0.0.1 there, whatever else it may be, so that both ends mean the same."""
        return "127.0.0.1" if self.host == "localhost" else self.host

    @property
    def address(self) -> str:
        """As ZeroMQ writes it."""
        host = self.socket_host
        return f"tcp://[{host}]:{self.port}" if ":" in host else f"tcp://{host}:{self.port}"


def socket_endpoint(url: str) -> SocketEndpoint:
    """Raises ConfigError for anything but SCHEME://HOST:PORT with one of the four schemes."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is no url: {error}") from None
    if parts.scheme not in PLAIN | SECURE:
        raise ConfigError(f"URL scheme must be tcp, curve, http, or https: {url}")
    if not host or port is None:
        raise ConfigError(f'URL address does not have the form "host:port": {url}')
    if parts.path or parts.query or parts.fragment or parts.username:
        raise ConfigError(f"URL must not contain a path: {url}")
    return SocketEndpoint(host, port, parts.scheme in SECURE)


def introductions_port(url: str) -> int:
    """Where the CURVE keys for `url` are introduced. Raises ConfigError for what is no url."""
    return socket_endpoint(url).port + INTRODUCTIONS_UP
