"""Clients that come by the thousand, each with a new connection and a password; what does that cost another's puts?

    python tests/torture/logins.py --rate 1000 --seconds 6

Three members, and everything on this machine. Native logins come over tcp://, for a new CURVE key has to be introduced
first, and of introductions a member takes so many a second only; JSON ones by HTTP/1.1.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import statistics
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import zkv
from zkv.testing import LocalCluster
from zkv.wire import codec
from zkv.wire import messages as m

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

AT_ONCE = 256
PAUSE_MS = 5
ALONE_S = 3.0
USER, PASSWORD = "alice", "pw"
LOGIN = codec.pack(
    (m.PROTOCOL_VERSION, int(m.ClientKind.REQUESTS), b"", 0, ((1, int(m.Op.AUTHENTICATE), (USER, PASSWORD)),))
)
BODY = b'{"name":"%s","password":"%s"}' % (USER.encode(), PASSWORD.encode())
POST = b"POST /v3/auth/authenticate HTTP/1.1\r\nHost: zkv\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (
    len(BODY),
    BODY,
)


def native(endpoints: list[str], rate: int, seconds: float) -> tuple[int, int]:
    """How many logins succeeded, how many did not."""
    poller, context = zmq.Poller(), zmq.Context()
    waiting: set[zmq.Socket[bytes]] = set()
    begun = good = bad = 0
    since = time.monotonic()
    while (passed := time.monotonic() - since) < seconds:
        while begun < passed * rate and len(waiting) < AT_ONCE:
            one = context.socket(zmq.DEALER)
            one.linger = 0
            one.connect(endpoints[begun % len(endpoints)])
            one.send(LOGIN)
            poller.register(one, zmq.POLLIN)
            waiting.add(one)
            begun += 1
        for one, _ in poller.poll(PAUSE_MS):
            [(_, code, *_)] = codec.unpack(one.recv())[4]
            good, bad = (good, bad + 1) if code else (good + 1, bad)
            poller.unregister(one)
            waiting.discard(one)
            one.close()
    for one in waiting:
        one.close()
    context.term()
    return good, bad


def by_json(endpoints: list[str], rate: int, seconds: float) -> tuple[int, int]:
    """The same at etcd's door."""
    selector = selectors.DefaultSelector()
    begun = good = bad = waiting = 0
    since = time.monotonic()
    while (passed := time.monotonic() - since) < seconds:
        while begun < passed * rate and waiting < AT_ONCE:
            host, _, port = endpoints[begun % len(endpoints)].removeprefix("http://").rpartition(":")
            one = socket.create_connection((host, int(port)))
            one.sendall(POST)
            selector.register(one, selectors.EVENT_READ, bytearray())
            begun, waiting = begun + 1, waiting + 1
        for key, _ in selector.select(PAUSE_MS / 1000):
            assert isinstance(key.fileobj, socket.socket)
            data = key.fileobj.recv(65_536)
            key.data.extend(data)
            if not data:
                well = key.data.startswith(b"HTTP/1.1 200 ")
                good, bad, waiting = good + well, bad + (not well), waiting - 1
                selector.unregister(key.fileobj)
                key.fileobj.close()
    for key in list(selector.get_map().values()):
        assert isinstance(key.fileobj, socket.socket)
        key.fileobj.close()
    return good, bad


@contextmanager
def putting(cluster: LocalCluster) -> Iterator[list[float]]:
    """Another client puts, one put after the other; milliseconds."""
    took: list[float] = []
    stop = threading.Event()

    def put() -> None:
        with zkv.Client(cluster.endpoints, user="root", password=PASSWORD, timeout=30) as kv:
            kv.put("beside", "")
            while not stop.is_set():
                begun = time.monotonic()
                kv.put("beside", "v" * 256)
                took.append((time.monotonic() - begun) * 1e3)

    thread = threading.Thread(target=put)
    thread.start()
    try:
        yield took
    finally:
        stop.set()
        thread.join()


def shown(took: list[float], seconds: float) -> str:
    cuts = statistics.quantiles(took, n=100)
    return f"{len(took) / seconds:.0f} puts/s, p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=6)
    options = parser.parse_args()
    with LocalCluster(nodes=3, etcd_api=True) as cluster:
        with cluster.client() as kv:
            kv.user_add("root", PASSWORD)
            kv.role_add("root")
            kv.user_grant_role("root", "root")
            kv.user_add(USER, PASSWORD)
            kv.auth_enable()
        with putting(cluster) as took:
            time.sleep(ALONE_S)
        print(f"nobody logs in: {shown(took, ALONE_S)}", flush=True)
        doors: dict[str, tuple[Callable[[list[str], int, float], tuple[int, int]], list[str]]] = {
            "native": (native, list(cluster.endpoints)),
            "JSON": (by_json, list(cluster.etcd_endpoints)),
        }
        for door, (come, endpoints) in doors.items():
            with putting(cluster) as took:
                good, bad = come(endpoints, options.rate, options.seconds)
            rate = good / options.seconds
            print(f"{door}: {rate:.0f} logins/s, {bad} refused; {shown(took, options.seconds)}", flush=True)


if __name__ == "__main__":
    main()
