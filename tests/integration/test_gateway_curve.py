"""Who gets in by key files where CURVE is spoken, as libzmq meets it."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

import pytest
import zmq

from tests.harness.libzmq import secure_client
from tests.harness.processes import wait_until
from zkv import curve, identity
from zkv.door import Door
from zkv.testing import free_ports

if TYPE_CHECKING:
    from collections.abc import Container
    from pathlib import Path


@pytest.fixture
def keys(tmp_path: Path) -> dict[str, str]:
    return {name: identity.write_keys(str(tmp_path / "keys"), name)[1] for name in ("server", "alice", "mallory")}


def _greets(keys: dict[str, str], server_key: str, client: str | None, allow: Container[bytes] | None) -> bool:
    """Does a message of `client`, who takes `server_key` for the server's, get in? Or is its connection cut off?"""
    security = curve.Server(identity.load_secret(keys["server"]), allow)
    with select.epoll() as polls, zmq.Context() as context, context.socket(zmq.PUSH) as guest:
        door = Door(b"PULL", security, polls, message_bytes_max=1000, messages_max=10, bytes_max=10_000)
        (port,) = free_ports(1)
        door.listen("127.0.0.1", port)
        guest.linger = 0
        own = identity.load_secret(keys[client]) if client else identity.new_keys()
        secure_client(guest, identity.load_public(keys[server_key]), own)
        monitor = guest.get_monitor_socket(zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        guest.connect(f"tcp://127.0.0.1:{port}")
        guest.send(b"hello")
        heard: list[bytes | None] = []

        def decided() -> bool:
            for fd, _ in polls.poll(0.01):
                heard.extend(message for _, message in door.hear(fd))
            return bool(heard or monitor.poll(0))

        wait_until(decided, "a message or a refusal")
        guest.disable_monitor()
        monitor.close()
        door.close(0)
        return heard == [b"hello"]


def test_whom_a_curve_server_lets_in(keys: dict[str, str]) -> None:
    """With an allow list its keys only, without one whoever knows the server's key, never who takes another for it."""
    alice = identity.only_key_of(keys["alice"])
    assert _greets(keys, "server", "alice", alice)
    assert not _greets(keys, "server", "mallory", alice)
    assert not _greets(keys, "server", None, alice)
    assert _greets(keys, "server", "mallory", None)
    assert _greets(keys, "server", None, None)
    assert not _greets(keys, "mallory", "alice", alice)
