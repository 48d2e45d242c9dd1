"""libzmq's sockets, for tests: whatever speaks ZeroMQ is to find its like in zkv."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import zmq

    from zkv.identity import KeyPair


def secure_client(socket: zmq.Socket[bytes], server_public: bytes, keys: KeyPair) -> None:
    """Make it a CURVE client, before it connects: it talks only to who holds `server_public`'s secret."""
    socket.curve_serverkey = server_public
    socket.curve_publickey = keys.public
    socket.curve_secretkey = keys.secret
