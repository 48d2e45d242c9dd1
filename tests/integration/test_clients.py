"""The two clients on real ZeroMQ sockets, with a gateway of a few lines behind them."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
import zmq
import zmq.auth

from tests.unit.client.fake_cluster import FakeCluster
from zkv import errors
from zkv.client.async_client import AsyncClient
from zkv.client.client import Client
from zkv.client.retry import RetryPolicy
from zkv.identity import write_keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class FakeGateway:
    """A ROUTER in front of a FakeCluster, in a thread. `messages` counts what clients have sent."""

    def __init__(self, cluster: FakeCluster, secret: Path | None = None) -> None:
        self.messages = 0
        self._cluster = cluster
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 0
        if secret is not None:
            public, private = zmq.auth.load_certificate(secret)
            assert private is not None
            self._router.curve_server = 1
            self._router.curve_publickey, self._router.curve_secretkey = public, private
        port = self._router.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"{'curve' if secret else 'tcp'}://127.0.0.1:{port}"
        self._pill = self._context.socket(zmq.PAIR)
        self._pill.bind(f"inproc://{id(self)}")
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        pill = self._context.socket(zmq.PAIR)
        pill.connect(f"inproc://{id(self)}")
        poller = zmq.Poller()
        poller.register(self._router, zmq.POLLIN)
        poller.register(pill, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if pill in ready:
                break
            client, data = self._router.recv_multipart()
            self.messages += 1
            for reply in self._cluster.handle(client, data):
                self._router.send_multipart([client, reply])
        pill.close(linger=0)
        self._router.close(linger=0)

    def close(self) -> None:
        """The connections break."""
        if self._thread.is_alive():
            self._pill.send(b"")
            self._thread.join()
            self._pill.close(linger=0)
            self._context.term()


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster(chunk_keys=10)


@pytest.fixture
def gateways(cluster: FakeCluster) -> Iterator[list[FakeGateway]]:
    """Two doors to the same cluster."""
    found = [FakeGateway(cluster), FakeGateway(cluster)]
    yield found
    for gateway in found:
        gateway.close()


@pytest.fixture
def endpoints(gateways: list[FakeGateway]) -> list[str]:
    return [gateway.endpoint for gateway in gateways]


def test_a_client_puts_gets_and_streams(endpoints: list[str]) -> None:
    """Calls return what the cluster holds; a range streams over many chunks, and may be left early."""
    with Client(endpoints) as kv:
        assert kv.get("a") is None
        revision = kv.put("a", "1").revision
        previous = kv.put("a", "2", prev_kv=True).prev_kv
        assert previous is not None
        assert previous.value == b"1"
        found = kv.get("a")
        assert found is not None
        assert (found.value, found.mod_revision, found.version) == (b"2", revision + 1, 2)
        for number in range(95):
            kv.put(f"/k/{number:02}", "v")
        keys = kv.range(prefix="/k/")
        assert [kv_.key for kv_ in keys] == [b"/k/%02d" % number for number in range(95)]
        assert (keys.count, keys.more) == (95, False)
        with kv.range(prefix="/k/") as left_early:
            assert next(left_early).key == b"/k/00"
            assert left_early.header.revision == revision + 96
        assert kv.count(prefix="/k/") == 95
        with pytest.raises(errors.InvalidRequest):
            kv.compact(3)


def test_calls_of_many_threads_share_messages_and_each_write_happens_once(
    cluster: FakeCluster, gateways: list[FakeGateway], endpoints: list[str]
) -> None:
    """One thread carries for all, also while a gateway goes away under them."""
    with Client(endpoints, timeout=30) as kv:
        wrong = []

        def work(worker: int) -> None:
            try:
                for number in range(50):
                    kv.put(f"{worker}", f"{worker}.{number}")
            except errors.ZkvError as error:
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(worker,)) for worker in range(10)]
        for thread in threads:
            thread.start()
        max(gateways, key=lambda gateway: gateway.messages).close()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert len(cluster.values) == 500
    assert set(cluster.values.values()) == {1}
    assert sum(gateway.messages for gateway in gateways) < 500


def test_a_call_to_nobody_ends_at_its_deadline() -> None:
    """And says that nothing happened."""
    with Client("tcp://127.0.0.1:23099", timeout=0.2) as kv, pytest.raises(errors.DeadlineExceeded) as caught:
        kv.put("a", "1")
    assert not caught.value.maybe_applied


def test_closing_ends_calls_under_way() -> None:
    """A thread that waits is told, not left behind; later calls are refused."""
    kv = Client("tcp://127.0.0.1:23099", timeout=60)
    told = []

    def work() -> None:
        try:
            kv.put("a", "1")
        except errors.ZkvError as error:
            told.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    kv.close()
    thread.join()
    kv.close()
    assert told == [errors.ClientClosed]
    with pytest.raises(errors.ClientClosed):
        kv.get("a")


def test_curve_endpoints_need_the_servers_key_and_speak_to_no_other(tmp_path: Path, cluster: FakeCluster) -> None:
    """With the right key calls work; with another one the handshake fails and nothing is sent."""
    for name in ("server", "other", "alice"):
        write_keys(str(tmp_path), name)
    gateway = FakeGateway(cluster, tmp_path / "server.key_secret")
    with contextlib.closing(gateway):
        with Client(
            gateway.endpoint, server_key=tmp_path / "server.key", client_key=tmp_path / "alice.key_secret"
        ) as kv:
            kv.put("a", "1")
        with Client(gateway.endpoint, server_key=tmp_path / "other.key", timeout=0.3) as kv:
            with pytest.raises(errors.DeadlineExceeded) as caught:
                kv.put("a", "2")
            assert not caught.value.maybe_applied
        with pytest.raises(errors.ConfigError):
            Client(gateway.endpoint)
        with pytest.raises(errors.ConfigError):
            Client(gateway.endpoint, server_key=tmp_path / "missing.key")
    assert cluster.values == {b"1": 1}


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "tcp://127.0.0.1", "", "tcp://:1", "tcp://a:b"])
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(errors.ConfigError):
        Client(endpoint)


def test_a_policy_has_whole_milliseconds(endpoints: list[str]) -> None:
    """Others are refused before anything is connected."""
    half: Any = 0.5
    with pytest.raises(errors.ConfigError, match="whole milliseconds"):
        Client(endpoints, retry=RetryPolicy(silence_ms=half))


def test_the_async_client_puts_gets_and_streams(gateways: list[FakeGateway], endpoints: list[str]) -> None:
    """The same calls as coroutines; those of one turn of the loop share messages."""

    async def play() -> None:
        async with AsyncClient(endpoints) as kv:
            await kv.put("a", "1")
            found = await kv.get("a")
            assert found is not None
            assert found.value == b"1"
            before = sum(gateway.messages for gateway in gateways)
            await asyncio.gather(*(kv.put(f"/k/{number:02}", "v") for number in range(95)))
            assert sum(gateway.messages for gateway in gateways) < before + 10
            keys = kv.range(prefix="/k/")
            assert [kv_.key async for kv_ in keys] == [b"/k/%02d" % number for number in range(95)]
            assert keys.count == 95
            async with kv.range(prefix="/k/") as left_early:
                assert (await left_early.header()).cluster_id == 77
            assert await kv.count(prefix="/k/") == 95

    asyncio.run(play())


def test_the_async_client_fails_over_and_heeds_deadlines_and_cancellation(
    cluster: FakeCluster, gateways: list[FakeGateway], endpoints: list[str]
) -> None:
    """What a lost connection owed is asked elsewhere; a cancelled task leaves nothing behind."""

    async def play() -> None:
        async with AsyncClient(endpoints) as kv:
            await kv.put("a", "0")
            used, spare = sorted(gateways, key=lambda gateway: -gateway.messages)
            await asyncio.to_thread(used.close)
            await asyncio.gather(*(kv.put("a", f"{number}") for number in range(1, 20)))
            await asyncio.to_thread(spare.close)
            with pytest.raises(errors.DeadlineExceeded):
                await kv.put("a", "lost", timeout=0.2)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(kv.get("a"), 0.1)
        with pytest.raises(errors.ClientClosed):
            await kv.get("a")

    asyncio.run(play())
    assert all(cluster.values[b"%d" % number] == 1 for number in range(20))


def test_a_call_to_a_client_that_was_closed_in_the_same_turn_of_the_loop_ends(endpoints: list[str]) -> None:
    """Though what was to be done at the end of that turn is not done any more."""

    async def play() -> None:
        kv = AsyncClient(endpoints)
        await kv.put("a", "0")
        under_way = asyncio.create_task(kv.put("a", "1"))
        await asyncio.sleep(0)  # it has begun, and its message leaves when this turn ends
        await kv.close()
        with pytest.raises(errors.ClientClosed):
            await kv.get("a")
        with pytest.raises(errors.ClientClosed):
            await under_way

    asyncio.run(asyncio.wait_for(play(), 30))


def test_both_clients_take_the_same_arguments() -> None:
    """One is the other's documentation."""
    names = {name for name in vars(Client) if not name.startswith("_")}
    assert names == {name for name in vars(AsyncClient) if not name.startswith("_")}
    for name in names:
        ours, theirs = getattr(Client, name), getattr(AsyncClient, name)
        if callable(ours):
            assert inspect.signature(ours).parameters == inspect.signature(theirs).parameters


FORKED = """
import os, sys, threading
import zkv

kv = zkv.Client(sys.argv[1], timeout=30)
for number in range(25):
    kv.put(f"r/{number:02}", "")
rest = kv.range(prefix="r/")
next(rest)
over = threading.Event()

def write():  # so that forks come at any moment of the thread that carries
    while not over.is_set():
        kv.put("a", "1")

writers = [threading.Thread(target=write, daemon=True) for _ in range(4)]
for writer in writers:
    writer.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        closed = 0
        for call in (lambda: kv.get("a"), lambda: list(rest), lambda: kv.lock("l").acquire(), lambda: kv.watch("a")):
            try:
                call()
            except zkv.errors.ClientClosed as error:
                closed += "fork" in str(error)
        kv.close()
        with zkv.Client(sys.argv[1], timeout=30) as own:
            own.put("child", "1")
        sys.exit(closed != 4)
    assert os.waitpid(child, 0)[1] == 0
over.set()
for writer in writers:
    writer.join()
assert len(list(rest)) == 24
kv.close()
"""


def test_a_forked_process_needs_a_client_of_its_own(gateways: list[FakeGateway]) -> None:
    """That of its parent says so there, to every call and at once, and serves the parent as if nothing had happened."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKED, gateways[0].endpoint]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


CLOSED_AND_FORKED = """
import os, sys, zkv
kv = zkv.Client(sys.argv[1], timeout=30)
kv.get("a")
kv.close()
pipes = [os.pipe() for _ in range(16)]  # where the client's descriptors were, among others
child = os.fork()
if child == 0:
    os._exit(not all(os.write(writer, b"there") == 5 and os.read(reader, 5) == b"there" for reader, writer in pipes))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_client_that_is_closed_takes_nothing_from_a_forked_process(gateways: list[FakeGateway]) -> None:
    """Descriptors that it had are somebody else's by then."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CLOSED_AND_FORKED, gateways[0].endpoint]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
