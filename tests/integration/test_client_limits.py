"""What one client may have of a member, on real processes, at both doors: so that the others go on."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import http.client
import json
import os
import signal
import ssl
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import zmq

import zkv
from tests.bench.measure import cpu_seconds
from tests.harness.etcd_api import EtcdApi, cancel, create
from tests.harness.processes import children, wait_until
from tests.harness.strangers import make_pki
from zkv import errors
from zkv.authority import make_leaf
from zkv.client.retry import RetryPolicy
from zkv.gateway import passwords
from zkv.testing import LocalCluster
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

REQUESTS, BYTES, WATCHES, LEASES, CONNECTIONS = 60, 64 * 1024, 5, 8, 12
AT_ONCE = RetryPolicy(
    errors=tuple(error for error in errors.RetryableError.__subclasses__() if error is not errors.TooManyRequests)
)
"""Of a client that passes each of these refusals on, and sees to everything else itself."""
PUSHBACK = "grpc-retry-pushback-ms"


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("audit") / "audit.log"


@pytest.fixture(scope="module")
def cluster(audit: Path) -> Iterator[LocalCluster]:
    arguments = [
        f"--max-client-{what}={most}"
        for what, most in (
            ("requests", REQUESTS), ("bytes", BYTES), ("watches", WATCHES), ("leases", LEASES),
            ("connections", CONNECTIONS),
        )
    ]  # fmt: skip
    arguments += ["--bcrypt-cost", "4", "--audit-log", str(audit)]
    with LocalCluster(nodes=1, storage="memory", etcd_api=True, arguments=arguments) as made:
        with zkv.Client(made.endpoints, timeout=60) as plain:
            plain.user_add("root", "rootpw")
            plain.role_add("root")
            plain.user_grant_role("root", "root")
            for name in ("greedy", "polite", "etcd"):
                plain.user_add(name, "pw")
                plain.user_grant_role(name, "root")
            plain.auth_enable()
        yield made


@contextmanager
def who(cluster: LocalCluster, user: str, **options: Any) -> Iterator[zkv.Client]:
    with zkv.Client(cluster.endpoints, user=user, password="pw", timeout=30, **options) as client:
        yield client


@contextmanager
def etcd(cluster: LocalCluster, user: str = "etcd") -> Iterator[tuple[EtcdApi, tuple[tuple[str, str], ...]]]:
    """A client of etcd's API, and the metadata that say who it is."""
    with EtcdApi(cluster.etcd_endpoints[0]) as api:
        yield api, (("token", api.Authenticate(name=user, password="pw").token),)


def refusal(error: grpc.RpcError) -> int:
    """After how many ms etcd's door says to come back."""
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == errors.LimitExceeded.text
    return int(dict(error.trailing_metadata())[PUSHBACK])


def patiently(call: Callable[[], Any]) -> Any:
    """As a client does that knows what it is told."""
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            time.sleep(refusal(error) / 1000)


def wait_counted(cluster: LocalCluster, limit: str, least: int) -> None:
    """So many refusals by `limit`; processes tell of themselves from time to time."""
    wait_until(lambda: metric(cluster, limit) >= least, f"{least} refusals by {limit} are counted")


def metric(cluster: LocalCluster, limit: str) -> int:
    page = urllib.request.urlopen(f"{cluster.etcd_endpoints[0]}/metrics", timeout=30).read().decode()  # noqa: S310
    line = next((line for line in page.splitlines() if f'zkv_client_refusals_total{{limit="{limit}"}}' in line), "x 0")
    return int(float(line.split()[-1]))


@contextmanager
def raft_stands_still(cluster: LocalCluster) -> Iterator[None]:
    """What has set out stays under way."""
    raft = children(cluster.pid(0))["raft"]
    os.kill(raft, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(raft, signal.SIGCONT)


def test_who_asks_too_fast_is_held_back_and_completes_while_the_other_goes_on(
    cluster: LocalCluster, audit: Path
) -> None:
    """The polite one is never refused, the greedy one never told: its client waits as it was asked to."""

    async def greedy() -> None:
        async with zkv.AsyncClient(cluster.endpoints, user="greedy", password="pw", timeout=60) as client:
            for wave in range(4):  # what is asked at once is one message, and may leave a debt
                puts = (client.put(f"greedy/{wave}/{number}", b"x" * 100) for number in range(REQUESTS))
                await asyncio.gather(*puts)

    async def polite() -> None:
        async with zkv.AsyncClient(
            cluster.endpoints, user="polite", password="pw", timeout=60, retry=AT_ONCE
        ) as client:
            for number in range(20):
                await client.put(f"polite/{number}", b"x")

    async def both() -> None:
        await asyncio.gather(greedy(), polite())

    asyncio.run(both())
    with who(cluster, "polite") as client:
        assert client.count(prefix="greedy/") == 4 * REQUESTS
    wait_counted(cluster, "requests", 1)
    lines = [json.loads(line) for line in audit.read_text().splitlines()]
    held_back = {line["user"] for line in lines if line["outcome"] == "LimitExceeded"}
    assert held_back == {"greedy"}


def until_refused(call: Callable[[], object], refusal: type[Exception]) -> Any:
    """As often as it is let."""
    try:
        while True:
            call()
    except refusal as error:
        return error


def test_who_does_not_try_again_is_told_when_to(cluster: LocalCluster) -> None:
    with who(cluster, "greedy", retry=AT_ONCE) as client:
        error = until_refused(lambda: client.put("greedy/again", "x"), errors.LimitExceeded)
    assert (error.detail, error.maybe_applied) == ("requests", False)
    assert 0 < error.retry_after_ms <= 1_000


def test_etcds_clients_are_told_by_grpcs_own_word_for_it(cluster: LocalCluster) -> None:
    with etcd(cluster) as (api, token):
        calls = [api.future("Put", metadata=token, key=b"etcd/a", value=b"x") for _ in range(3 * REQUESTS)]
        refused = [error for call in calls if (error := call.exception()) is not None]
        assert refused
        assert all(0 < refusal(error) <= 1_000 for error in refused)
        with who(cluster, "polite", retry=AT_ONCE) as client:
            client.put("polite/beside", "x")
    request = urllib.request.Request(  # noqa: S310
        f"{cluster.etcd_endpoints[0]}/v3/kv/put", b'{"key":"YQ==","value":"YQ=="}', {"Authorization": token[0][1]}
    )
    with until_refused(lambda: urllib.request.urlopen(request, timeout=30).read(), urllib.error.HTTPError) as answer:  # noqa: S310
        assert (answer.code, answer.headers["Retry-After"]) == (429, "1")


def test_what_is_under_way_has_an_end(cluster: LocalCluster) -> None:
    """At each door for itself; another client's request sets out meanwhile."""
    half = b"x" * (BYTES * 3 // 4)

    async def native() -> None:
        options: dict[str, Any] = {"password": "pw", "timeout": 60, "retry": AT_ONCE}
        async with (
            zkv.AsyncClient(cluster.endpoints, user="greedy", **options) as greedy,
            zkv.AsyncClient(cluster.endpoints, user="polite", **options) as polite,
        ):
            for client in (greedy, polite):
                while True:
                    try:
                        await client.get("bytes", serializable=True)  # each has its token, and no debt
                        break
                    except errors.LimitExceeded as error:
                        await asyncio.sleep(error.retry_after_ms / 1000)
            await asyncio.sleep(1)  # by then each may make REQUESTS, whatever was made before this test
            with raft_stands_still(cluster):
                first = asyncio.create_task(greedy.put("bytes", half))
                await asyncio.sleep(0)
                await greedy.get("bytes", serializable=True)  # by now the door has the put
                with pytest.raises(errors.LimitExceeded, match="bytes in flight"):
                    await greedy.put("bytes", half)
                beside = asyncio.create_task(polite.put("beside", half))
                await polite.get("beside", serializable=True)
                assert not beside.done()
            await first
            await beside
            await greedy.put("bytes", half)

    asyncio.run(native())
    with etcd(cluster, "greedy") as (api, token), etcd(cluster, "polite") as (other, theirs):
        with raft_stands_still(cluster):
            calls = [api.future("Put", metadata=token, key=b"bytes", value=half) for _ in range(3)]
            refused = [call for call in calls[1:] if refusal(call.exception()) > 0]
            beside = other.future("Put", metadata=theirs, key=b"beside", value=half)
            other.future("Range", metadata=theirs, key=b"beside", serializable=True).result()
            assert not beside.done()
        assert len(refused) == 2
        assert calls[0].exception() is None
        assert beside.exception() is None
    wait_counted(cluster, "bytes in flight", 3)


def test_watches_have_an_end(cluster: LocalCluster) -> None:
    with who(cluster, "greedy", retry=AT_ONCE) as client, ExitStack() as stack:
        watches = [stack.enter_context(client.watch(f"w/{number}")) for number in range(WATCHES)]
        for watch in watches:
            watch.wait_created(30)
        with pytest.raises(errors.LimitExceeded), client.watch("w/more") as one_more:
            one_more.next(30)
        watches[0].cancel()
        with who(cluster, "polite", retry=AT_ONCE) as other, other.watch("w/1") as theirs:
            theirs.wait_created(30)
            other.put("w/1", "x")
            for watch in (theirs, watches[1]):
                assert watch.next(30) is not None
        with who(cluster, "greedy") as patient, patient.watch("w/again") as again:
            again.wait_created(30)
    with etcd(cluster) as (api, token):
        chat = api.watch(metadata=token)
        for number in range(WATCHES + 1):
            chat.say(create(key=b"w/%d" % number))
        heard = [chat.hear() for _ in range(WATCHES + 1)]
        (refused,) = (each for each in heard if each.canceled)
        assert refused.cancel_reason == f"rpc error: code = ResourceExhausted desc = {errors.LimitExceeded.text}"
        chat.say(cancel(next(each.watch_id for each in heard if not each.canceled)))
        assert chat.hear().canceled
        chat.say(create(key=b"w/again"))
        assert not chat.hear().canceled


def test_leases_have_an_end_and_those_that_ended_make_room(cluster: LocalCluster) -> None:
    with who(cluster, "greedy") as patient, who(cluster, "greedy", retry=AT_ONCE) as client:
        leases = [patient.grant(600).id for _ in range(LEASES)]
        with pytest.raises(errors.LimitExceeded) as caught:
            client.grant(600)
        assert (caught.value.detail, caught.value.retry_after_ms) == ("leases", 1_000)
        with who(cluster, "polite", retry=AT_ONCE) as other:
            other.revoke(other.grant(600).id)
        patient.revoke(leases[0])
        leases[0] = patient.grant(600).id  # it is told to come back, does, and the door knows by then
        for lease in leases:
            patient.revoke(lease)
    with etcd(cluster) as (api, token):
        granted = [api.future("LeaseGrant", metadata=token, TTL=600).result().ID for _ in range(LEASES)]
        with pytest.raises(grpc.RpcError) as refused:
            api.future("LeaseGrant", metadata=token, TTL=600).result()
        assert refusal(refused.value) == 1_000
        for lease in granted:
            api.future("LeaseRevoke", metadata=token, ID=lease).result()


def test_connections_have_an_end_and_those_that_are_gone_make_room(cluster: LocalCluster) -> None:
    """They count by where they come from, for who they are is not known when they come."""
    with ExitStack() as stack:
        clients: list[zkv.Client] = []

        def one_more() -> None:
            clients.append(stack.enter_context(who(cluster, "polite", retry=AT_ONCE)))
            clients[-1].get("a", serializable=True)

        assert until_refused(one_more, errors.LimitExceeded).detail == "connections"
        assert CONNECTIONS // 2 < len(clients) <= CONNECTIONS + 1
        clients[0].close()
        with who(cluster, "polite") as patient:
            patient.put("connected", "x")
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(etcd(cluster, "polite"))
        with EtcdApi(cluster.etcd_endpoints[0]) as too_many, pytest.raises(grpc.RpcError) as refused:
            too_many.Status()
        assert refusal(refused.value) == 1_000
    with EtcdApi(cluster.etcd_endpoints[0]) as api:
        token = patiently(lambda: api.Authenticate(name="polite", password="pw")).token
        assert api.future("Range", metadata=(("token", token),), key=b"connected").result().count == 1


def test_a_crowd_that_logs_in_anew_keeps_nobody_from_writing() -> None:
    """Each on a connection of its own, at both doors; another client's puts go on meanwhile. Their password is looked
    at for all of them together: the doors spend less than half of what it would cost for each.
    """
    crowd, cost = 60, 11
    began = time.thread_time()
    hash_ = passwords.hashed("rootpw", cost)
    passwords.fits("rootpw", hash_)
    one_look = (time.thread_time() - began) / 2
    with LocalCluster(nodes=1, storage="memory", etcd_api=True, arguments=("--bcrypt-cost", str(cost))) as cluster:
        with zkv.Client(cluster.endpoints, timeout=60) as plain:
            plain.user_add("root", "rootpw")
            plain.role_add("root")
            plain.user_grant_role("root", "root")
            plain.auth_enable()
        root: dict[str, Any] = {"user": "root", "password": "rootpw", "timeout": 60}
        body = b'{"name":"root","password":"rootpw"}'

        async def native() -> None:
            async with zkv.AsyncClient(cluster.endpoints, **root) as client:
                await client.get("a", serializable=True)

        async def etcds() -> bytes:
            host, port = cluster.etcd_endpoints[0].removeprefix("http://").split(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"POST /v3/auth/authenticate HTTP/1.0\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            answer = await reader.read(-1)
            writer.close()
            return answer

        async def all_at_once() -> int:
            async with zkv.AsyncClient(cluster.endpoints, **root) as writer:
                await writer.put("a", "x")
                logins = asyncio.gather(*(native() for _ in range(crowd)), *(etcds() for _ in range(crowd)))
                puts = 0
                while not logins.done():
                    await writer.put("a", "x")
                    puts += 1
                answers = await logins
                assert all(b'"token":' in answer for answer in answers if answer is not None)
                return puts

        before = cpu_seconds([cluster.pid(0)])
        assert asyncio.run(all_at_once()) > 0
        spent = {name: seconds - before[name] for name, seconds in cpu_seconds([cluster.pid(0)]).items()}
        doors = {name: seconds for name, seconds in spent.items() if name.startswith(("gateway", "grpc"))}
        assert len(doors) == 2
        assert max(doors.values()) < crowd * one_look / 2


def test_strangers_are_told_apart_by_where_they_come_from() -> None:
    """At both doors: what one address has, another may have as well."""
    grant = codec.pack((m.PROTOCOL_VERSION, m.ClientKind.REQUESTS, b"", 0, ((1, m.Op.LEASE_GRANT, (600, 0)),)))
    with LocalCluster(nodes=1, storage="memory", etcd_api=True, arguments=("--max-client-leases", "2")) as cluster:
        at, etcds = (url.rpartition("//")[2] for url in (cluster.endpoints[0], cluster.etcd_endpoints[0]))

        def native(source: str) -> int:
            with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
                socket.connect(f"tcp://{source}:0;{at}")
                socket.send(grant)
                assert socket.poll(30_000)
                return int(codec.unpack(socket.recv())[4][0][1])

        def json_(source: str) -> int:
            connection = http.client.HTTPConnection(etcds, timeout=30, source_address=(source, 0))
            with contextlib.closing(connection):
                connection.request("POST", "/v3/lease/grant", b'{"TTL":"600"}')
                return connection.getresponse().status

        for ask, served, refused in ((native, 0, errors.LimitExceeded.code), (json_, 200, 429)):
            for source in ("127.0.0.1", "127.0.0.2"):
                assert [ask(source) for _ in range(3)] == [served, served, refused], ask


def test_certificates_are_told_apart_by_their_names(tmp_path: Path) -> None:
    """From one address, and whatever keys they introduce."""
    pki = make_pki(tmp_path / "pki")
    pki.write("other", make_leaf(pki.authority, "client", "other", (), days=5, now=dt.datetime.now(dt.UTC)))
    arguments = ("--max-client-leases", "2")
    with LocalCluster(
        nodes=1, certificates=pki.directory, storage="memory", etcd_api=True, arguments=arguments
    ) as cluster:

        def native(name: str) -> int:
            files = {"cacert": "ca.pem", "cert": f"{name}.pem", "key": f"{name}-key.pem"}
            options: dict[str, Any] = {word: pki.directory / file for word, file in files.items()}
            with zkv.Client(cluster.endpoints, timeout=60, retry=AT_ONCE, **options) as client:
                try:
                    client.grant(600)
                except errors.LimitExceeded:
                    return 429
            return 200

        def json_(name: str) -> int:
            context = ssl.create_default_context(cafile=str(pki.directory / "ca.pem"))
            context.load_cert_chain(pki.directory / f"{name}.pem", pki.directory / f"{name}-key.pem")
            url = f"{cluster.etcd_endpoints[0]}/v3/lease/grant"
            try:
                with urllib.request.urlopen(url, b'{"TTL":"600"}', timeout=30, context=context) as answer:  # noqa: S310
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                with error:
                    return error.code

        for ask in (native, json_):
            for name in ("client", "other"):
                assert [ask(name) for _ in range(3)] == [200, 200, 429], ask
