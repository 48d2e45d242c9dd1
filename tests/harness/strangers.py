"""Those who should get nothing: certificates of every wrong kind, and ways to knock at each door."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import socket
import ssl
import struct
from typing import TYPE_CHECKING, NamedTuple

import zmq
from cryptography.hazmat.primitives.serialization import Encoding

from tests.harness.certificates import build, crl, usage
from tests.harness.certificates import hosts as at_hosts
from tests.harness.libzmq import secure_client
from tests.harness.processes import wait_until
from zkv import identity
from zkv.authority import certificate_pem, key_pem, make_authority, make_leaf
from zkv.errors import ConnectionFailed, DeadlineExceeded
from zkv.introducing import HELLO, LENGTH, Offer, Who, framed, introduce_to, parse_offer
from zkv.papers import Papers
from zkv.transport_security import TransportSecurity

if TYPE_CHECKING:
    from pathlib import Path

    from zkv.certificates import Credentials
    from zkv.client.client import Client
    from zkv.trust import Purpose

DAY = dt.timedelta(days=1)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)
PATIENCE_S = 20.0
FAILED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


class Pki(NamedTuple):
    """A directory as of `zkv cert init`, and wrong certificates beside, by what is wrong with them."""

    directory: Path
    authority: Credentials

    def papers(self, name: str, ca: str = "ca") -> Papers:
        """Who shows certificate `name` (""; none), and believes `ca`."""
        at = self.directory
        cert, key = (str(at / f"{name}.pem"), str(at / f"{name}-key.pem")) if name else ("", "")
        return Papers(TransportSecurity(cert, key, str(at / f"{ca}.pem")), 0)

    def write(self, name: str, made: Credentials) -> None:
        (self.directory / f"{name}.pem").write_bytes(certificate_pem(made.chain))
        key = self.directory / f"{name}-key.pem"
        key.write_bytes(key_pem(made.key))
        key.chmod(0o600)

    def revoke(self, *names: str) -> None:
        """A list of them, in the place of the one before."""
        serials = [self.papers(name).credentials.leaf.serial_number for name in names]  # type: ignore[union-attr]
        made = crl(self.authority, serials, due=dt.datetime.now(dt.UTC) + DAY)
        aside = self.directory / "crl.new"
        aside.write_bytes(made.public_bytes(Encoding.PEM))
        aside.replace(self.directory / "crl.pem")


WRONG = {
    "another's": "signed by unknown authority",
    "expired": "has expired",
    "early": "is not yet valid",
    "revoked": "is revoked",
    "server": "is for another usage",
}
"""Of a client's certificate: what is wrong, and what is said of it."""


def make_pki(directory: Path, hosts: tuple[str, ...] = ("127.0.0.1",)) -> Pki:
    directory.mkdir()
    now = dt.datetime.now(dt.UTC)
    pki = Pki(directory, make_authority("ca", 30, now))
    another = make_authority("ca", 30, now)
    (directory / "ca.pem").write_bytes(certificate_pem(pki.authority.chain))
    (directory / "another.pem").write_bytes(certificate_pem(another.chain))
    for kind in ("server", "peer", "client"):
        pki.write(kind, make_leaf(pki.authority, kind, kind, hosts, days=10, now=now))
    for kind in ("client", "peer"):
        suffix = "" if kind == "client" else "-peer"
        pki.write(f"revoked{suffix}", make_leaf(pki.authority, kind, "revoked", hosts, days=10, now=now))
        pki.write(f"another's{suffix}", make_leaf(another, kind, kind, hosts, days=10, now=now))
        with_usage = (usage(kind), at_hosts(*hosts))
        for name, start, end in (("expired", -9 * DAY, -DAY), ("early", DAY, 9 * DAY)):
            made = build(kind, with_usage, by=pki.authority, start=now + start, end=now + end)
            pki.write(f"{name}{suffix}", made)
    pki.revoke("revoked", "revoked-peer")
    return pki


# --- knocking ------------------------------------------------------------------------------------


def acquaint(port: int, papers: Papers, own: identity.KeyPair, purpose: Purpose, wants: Purpose) -> bytes:
    """The CURVE key (Z85) of the door whose introductions are made at `port`, once ours is admitted there.

    A member that is just starting may be heard of before its doors are there: then it hangs up.
    """
    who = Who(purpose, wants, identity.raw(own.public))
    found: list[bytes] = []

    def met() -> bool:
        with contextlib.suppress(ConnectionFailed):
            found.append(identity.spelled(introduce_to("127.0.0.1", port, who, papers, PATIENCE_S).curve_key))
        return bool(found)

    wait_until(met, f"somebody speaks at {port}")
    return found[0]


def offered(connection: socket.socket) -> Offer:
    connection.sendall(HELLO)
    return parse_offer(heard(connection))


def heard(connection: socket.socket) -> bytes:
    """One frame, or what came before the end."""
    data = b""
    with contextlib.suppress(OSError):
        while len(data) < 4 or len(data) < 4 + LENGTH.unpack_from(data)[0]:
            part = connection.recv(65536)
            if not part:
                break
            data += part
    return data[4:]


def claim_again(port: int, claim: bytes) -> bytes:
    """What a claim that was made in another conversation is told."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        offered(connection)
        connection.sendall(framed(claim))
        return heard(connection)


def shakes_hands(port: int, server_key: bytes | None, own: identity.KeyPair | None, kind: int = zmq.DEALER) -> bool:
    """Does a CURVE handshake (a plain one, without a key) at `port` come to its end?"""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    guest = context.socket(kind)
    guest.linger = 0
    monitor = guest.get_monitor_socket(FAILED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED)
    try:
        if server_key is not None and own is not None:
            secure_client(guest, server_key, own)
        guest.connect(f"tcp://127.0.0.1:{port}")
        assert monitor.poll(int(PATIENCE_S * 1000)), "neither in nor out"
        event: int = struct.unpack("=HI", monitor.recv_multipart()[0])[0]
        return event == zmq.EVENT_HANDSHAKE_SUCCEEDED
    finally:
        guest.disable_monitor()
        monitor.close()
        guest.close()
        context.term()


def is_answered_by_tls(port: int, pki: Pki, name: str, ca: str = "ca", host: str = "127.0.0.1") -> bool:
    """Does the server say a word of HTTP/2 to who shows certificate `name`? Raises ssl.SSLError: we refuse it."""
    context = ssl.create_default_context(cafile=str(pki.directory / f"{ca}.pem"))
    if name:
        context.load_cert_chain(pki.directory / f"{name}.pem", pki.directory / f"{name}-key.pem")
    with (
        socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection,
        context.wrap_socket(connection, server_hostname=host) as secured,
    ):
        try:
            secured.sendall(PREFACE)
            return bool(secured.recv(100))
        except (ssl.SSLError, OSError):
            return False


def is_told(client: Client, why: str) -> None:
    """Whatever a client asks ends with this reason, once it has been found out."""

    def told() -> bool:
        try:
            client.get("a", timeout=1)
        except DeadlineExceeded as error:
            return re.search(why, str(error)) is not None
        raise AssertionError("it was answered")

    wait_until(told, f"the client is told {why!r}", 60)
