"""Who gets nothing at the doors of a real member that wants certificates, and who is not kept out by it."""

from __future__ import annotations

import contextlib
import datetime as dt
import socket
import ssl
import time
from typing import TYPE_CHECKING

import pytest
import zmq

from tests.harness.processes import children, heap_bytes, wait_until
from tests.harness.strangers import (
    PATIENCE_S,
    WRONG,
    Pki,
    acquaint,
    claim_again,
    heard,
    is_answered_by_tls,
    is_told,
    make_pki,
    offered,
    shakes_hands,
)
from zkv import identity
from zkv.authority import make_leaf
from zkv.client.client import Client
from zkv.errors import DeadlineExceeded, NotTrusted
from zkv.introducing import HELLO, LENGTH, Who, check_offer, claim, framed
from zkv.testing import LocalCluster
from zkv.trust import Purpose
from zkv.urls import introductions_port

if TYPE_CHECKING:
    from collections.abc import Iterator

CLIENT, SERVER, PEER = Purpose.CLIENT, Purpose.SERVER, Purpose.PEER
HALF_OPEN = 1_000
MEMORY_MAX = 64 << 20


class Member:
    """One member with secure urls only, but for a plain one to look in by."""

    def __init__(self, cluster: LocalCluster, pki: Pki) -> None:
        self.cluster = cluster
        self.pki = pki
        self.curve = port_of(cluster.endpoints[0])
        self.tls = port_of(cluster.etcd_endpoints[0])
        self.peers = cluster._peer_ports[0]
        self.client_door = introductions_port(cluster.endpoints[0])
        self.peer_door = introductions_port(cluster._peer_url(self.peers))


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@pytest.fixture(scope="module")
def member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Member]:
    pki = make_pki(tmp_path_factory.mktemp("pki") / "pki")
    lists = ("--client-crl-file", f"{pki.directory}/crl.pem", "--peer-crl-file", f"{pki.directory}/crl.pem")
    with LocalCluster(nodes=1, certificates=pki.directory, etcd_api=True, storage="memory", arguments=lists) as cluster:
        yield Member(cluster, pki)


def test_a_good_certificate_lets_in(member: Member) -> None:
    """At both doors, and at the peers': so what follows is not refused for another reason."""
    own = identity.new_keys()
    key = acquaint(member.client_door, member.pki.papers("client"), own, CLIENT, SERVER)
    assert shakes_hands(member.curve, key, own)
    key = acquaint(member.peer_door, member.pki.papers("peer"), own, PEER, PEER)
    assert shakes_hands(member.peers, key, own, zmq.PUSH)
    assert is_answered_by_tls(member.tls, member.pki, "client")


@pytest.mark.parametrize("wrong", ["", *WRONG])
def test_wrong_certificates_of_clients_get_nothing(member: Member, wrong: str) -> None:
    """None, another CA's of the same name, expired, not yet valid, revoked, a server's."""
    own = identity.new_keys()
    with pytest.raises(NotTrusted, match=WRONG.get(wrong, "none is given")):
        acquaint(member.client_door, member.pki.papers(wrong), own, CLIENT, SERVER)
    good = acquaint(member.client_door, member.pki.papers("client"), identity.new_keys(), CLIENT, SERVER)
    assert not shakes_hands(member.curve, good, own)
    assert not is_answered_by_tls(member.tls, member.pki, wrong)


@pytest.mark.parametrize(("wrong", "why"), [("", "certificate required"), ("another's", "unknown ca")])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_who_is_refused_by_tls_is_told_why(member: Member, wrong: str, why: str, version: ssl.TLSVersion) -> None:
    """By its alert, also when, as from TLS 1.3 on, a client is done with its handshake before it is judged."""
    pki = member.pki
    context = ssl.create_default_context(cafile=str(pki.directory / "ca.pem"))
    context.maximum_version = version
    if wrong:
        context.load_cert_chain(pki.directory / f"{wrong}.pem", pki.directory / f"{wrong}-key.pem")
    if version < ssl.TLSVersion.TLSv1_3 and not wrong:
        why = "handshake failure"  # it has no other word
    with (
        socket.create_connection(("127.0.0.1", member.tls), PATIENCE_S) as connection,
        pytest.raises(ssl.SSLError, match=f"alert {why}"),
        context.wrap_socket(connection, server_hostname="127.0.0.1") as secured,
    ):
        secured.recv(1)


@pytest.mark.parametrize(
    "wrong", ["", "another's-peer", "expired-peer", "early-peer", "revoked-peer", "server", "client"]
)
def test_wrong_certificates_of_peers_get_nothing(member: Member, wrong: str) -> None:
    """The same between members; there a certificate must be for both usages."""
    own = identity.new_keys()
    with pytest.raises(NotTrusted):
        acquaint(member.peer_door, member.pki.papers(wrong), own, PEER, PEER)
    good = acquaint(member.peer_door, member.pki.papers("peer"), identity.new_keys(), PEER, PEER)
    assert not shakes_hands(member.peers, good, own, zmq.PUSH)


def test_a_server_that_shows_a_wrong_certificate_gets_no_request(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A client's, one for another host, another CA's: clients refuse it, at both doors, and say why."""
    pki = make_pki(tmp_path_factory.mktemp("pki") / "pki")
    with_clients = ("--cert-file", f"{pki.directory}/client.pem", "--key-file", f"{pki.directory}/client-key.pem")
    with LocalCluster(
        nodes=1, certificates=pki.directory, etcd_api=True, storage="memory", arguments=with_clients, wait=False
    ) as cluster:
        door = introductions_port(cluster.endpoints[0])
        wait_for_port(door)
        wait_for_port(port_of(cluster.etcd_endpoints[0]))
        with pytest.raises(NotTrusted, match="it is not for a server"):
            acquaint(door, pki.papers("client"), identity.new_keys(), CLIENT, SERVER)
        with pytest.raises(ssl.SSLError, match=r"uns\w+ certificate purpose"):
            is_answered_by_tls(port_of(cluster.etcd_endpoints[0]), pki, "client")
        with client_of(pki, "client", cluster.endpoints[0]) as client:
            is_told(client, "it is not for a server")


def client_of(pki: Pki, name: str, endpoint: str) -> Client:
    """By certificate `name`."""
    at = pki.directory
    return Client(endpoint, timeout=60, cacert=at / "ca.pem", cert=at / f"{name}.pem", key=at / f"{name}-key.pem")


def wait_for_port(port: int) -> None:
    def listens() -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return True
        return False

    wait_until(listens, f"somebody listens at {port}")


def test_a_server_is_believed_at_its_host_only(member: Member) -> None:
    """By the name that was dialled, at both doors."""
    with client_of(member.pki, "client", f"curve://localhost:{member.curve}") as client:
        is_told(client, "certificate is for another host: 'localhost' is not among its names")
    with pytest.raises(ssl.SSLError, match=r"[Hh]ostname mismatch"):
        is_answered_by_tls(member.tls, member.pki, "client", host="localhost")
    with pytest.raises(NotTrusted, match="unknown authority"):
        acquaint(member.client_door, member.pki.papers("client", ca="another"), identity.new_keys(), CLIENT, SERVER)


def test_a_key_is_of_use_to_who_has_its_secret(member: Member) -> None:
    """A good certificate introduces somebody else's CURVE key: that admits not its own, nor gives it the other's."""
    own, elses = identity.new_keys(), identity.new_keys()
    key = acquaint(member.client_door, member.pki.papers("client"), elses, CLIENT, SERVER)
    assert not shakes_hands(member.curve, key, own)
    mixed = identity.KeyPair(elses.public, own.secret)
    assert not shakes_hands(member.curve, key, mixed)


def test_an_introduction_is_good_once(member: Member) -> None:
    """Said again in another conversation it answers another challenge."""
    own = identity.new_keys()
    papers = member.pki.papers("client")
    who = Who(CLIENT, SERVER, identity.raw(own.public))
    with socket.create_connection(("127.0.0.1", member.client_door), 20) as connection:
        offer = offered(connection)
        now_ms = time.time_ns() // 1_000_000
        found = check_offer(offer, who, papers, "127.0.0.1", now_ms)
        said = claim(offer, found, who, papers, now_ms)
        connection.sendall(framed(said))
        assert b"challenge" not in heard(connection)
    assert b"answers another challenge" in claim_again(member.client_door, said)
    assert b"introduction is" in claim_again(member.peer_door, said)


def test_doors_are_not_mistaken_for_each_other(member: Member) -> None:
    """Plain ZeroMQ at CURVE ports, CURVE and clients' keys at the peers', ZeroMQ where keys are introduced."""
    own = identity.new_keys()
    key = acquaint(member.client_door, member.pki.papers("client"), own, CLIENT, SERVER)
    assert not shakes_hands(member.curve, None, None)
    assert not shakes_hands(member.peers, None, None, zmq.PUSH)
    assert not shakes_hands(member.peers, key, own, zmq.PUSH)
    assert not shakes_hands(member.client_door, key, own)
    with pytest.raises(NotTrusted):
        acquaint(member.peer_door, member.pki.papers("client"), own, CLIENT, PEER)
    with LocalCluster(nodes=1, storage="memory") as plain:
        assert not shakes_hands(port_of(plain.endpoints[0]), key, own)
        with socket.create_connection(("127.0.0.1", member.tls), 20) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert not heard(connection)


def test_what_is_said_before_anybody_is_known_is_bounded(member: Member) -> None:
    """Too long a claim, one that comes twice, more than was announced, and what is no introduction: hung up on."""
    big = LENGTH.pack((24 << 10) + 1)
    for door in (member.client_door, member.peer_door):
        for words in (b"\xff" * 10, b"zkv introduce 2\n", b"GET / HTTP/1.1\r\n\r\n", bytes(64)):
            with socket.create_connection(("127.0.0.1", door), 20) as connection:
                connection.sendall(words)
                assert connection_ends(connection) == b""
        for words in (big, LENGTH.pack(3) + b"abcd", LENGTH.pack(3) + b"abc" + LENGTH.pack(3)):
            with socket.create_connection(("127.0.0.1", door), 20) as connection:
                offered(connection)
                connection.sendall(words)
                assert b"admitted" not in connection_ends(connection)
    with socket.create_connection(("127.0.0.1", member.curve), 20) as connection:
        connection.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x01CURVE" + bytes(15 + 32) + b"\x06" + b"\xff" * 8)
        connection_ends(connection)


def connection_ends(connection: socket.socket) -> bytes:
    """What is still said; it is for the other side to hang up."""
    connection.settimeout(20)
    said = b""
    with contextlib.suppress(ConnectionError):
        while part := connection.recv(65536):
            said += part
    return said


def test_connections_that_never_finish_keep_nobody_out(member: Member) -> None:
    """A thousand half-open ones at each door, silent or with half a word: a good certificate lets in all the same."""
    pid = member.cluster.pid(0)
    names = ("usher", "grpc", "gateway", "raft")
    before = {name: heap_bytes(children(pid)[name]) for name in names}
    doors = {
        member.client_door: HELLO[:5],
        member.peer_door: HELLO + LENGTH.pack(1000) + b"x",
        member.tls: b"\x16\x03\x01\x02\x00\x01",
        member.curve: b"\xff" + bytes(8),
    }
    with contextlib.ExitStack() as stack:
        for port, word in doors.items():
            for number in range(HALF_OPEN):
                connection = stack.enter_context(socket.socket())
                connection.setblocking(False)
                connection.connect_ex(("127.0.0.1", port))
                if number % 2:
                    with contextlib.suppress(OSError):
                        connection.send(word)
        own = identity.new_keys()
        key = acquaint(member.client_door, member.pki.papers("client"), own, CLIENT, SERVER)
        assert shakes_hands(member.curve, key, own)
        acquaint(member.peer_door, member.pki.papers("peer"), own, PEER, PEER)
        assert is_answered_by_tls(member.tls, member.pki, "client")
        with member.cluster.client() as client:
            client.put("still", "here", timeout=60)
        grown = {name: heap_bytes(children(pid)[name]) - before[name] for name in names}
    assert all(more < MEMORY_MAX for more in grown.values()), grown
    assert set(names) <= set(children(pid)), "none has died of it"


def test_who_is_revoked_is_not_heard_any_more(member: Member) -> None:
    """While connected: at the native door requests are refused and watches end, TLS connections are closed."""
    pki = member.pki
    pki.write("leaver", make_leaf(pki.authority, "client", "leaver", (), days=5, now=dt.datetime.now(dt.UTC)))
    context = ssl.create_default_context(cafile=str(pki.directory / "ca.pem"))
    context.load_cert_chain(pki.directory / "leaver.pem", pki.directory / "leaver-key.pem")
    with (
        client_of(pki, "leaver", member.cluster.endpoints[0]) as client,
        member.cluster.client() as stays,
        socket.create_connection(("127.0.0.1", member.tls), 30) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as secured,
    ):
        client.put("a", "1")
        secured.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5))
        assert secured.recv(100)
        pki.revoke("revoked", "revoked-peer", "leaver")
        with contextlib.suppress(OSError):
            while secured.recv(100):
                pass  # until it is closed
        wait_until(lambda: not still_answered(client), "the client is refused")
        is_told(client, "is revoked")
        stays.put("a", "3", timeout=60)


def still_answered(client: Client) -> bool:
    try:
        client.put("a", "2", timeout=2)
    except DeadlineExceeded:
        return False
    return True
