"""Who gets in at a CURVE socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import zmq

from zkv import identity

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    return {name: identity.write_keys(str(tmp_path / "keys"), name)[1] for name in ("server", "alice", "mallory")}


def _greets(keys: dict[str, str], server_key: str, client: str | None, allow: Container[bytes] | None) -> bool:
    """Does a message of `client`, who takes `server_key` for the server's, get in? The monitor sees refusals."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    door, guest = context.socket(zmq.PULL), context.socket(zmq.PUSH)
    failed = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    monitor = door.get_monitor_socket(failed | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
    try:
        door.linger = guest.linger = 0
        identity.secure_server(door, identity.load_secret(keys["server"]), allow)
        own = identity.load_secret(keys[client]) if client else identity.new_keys()
        identity.secure_client(guest, identity.load_public(keys[server_key]), own)
        port = door.bind_to_random_port("tcp://127.0.0.1", 23150, 23199)
        guest.connect(f"tcp://127.0.0.1:{port}")
        guest.send(b"hello")
        poller = zmq.Poller()
        poller.register(door, zmq.POLLIN)
        poller.register(monitor, zmq.POLLIN)
        events = dict(poller.poll(10_000))
        assert events, "neither a message nor a refusal"
        return door in events
    finally:
        door.disable_monitor()
        monitor.close()
        door.close()
        guest.close()
        context.term()  # returns although the ZAP thread was waiting: it leaves with its context


def test_whom_a_curve_server_lets_in(keys: dict[str, str]) -> None:
    """With an allow list its keys only, without one whoever knows the server's key, never who takes another for it."""
    alice = identity.only_key_of(keys["alice"])
    assert _greets(keys, "server", "alice", alice)
    assert not _greets(keys, "server", "mallory", alice)
    assert not _greets(keys, "server", None, alice)
    assert _greets(keys, "server", "mallory", None)
    assert _greets(keys, "server", None, None)
    assert not _greets(keys, "mallory", "alice", alice)
