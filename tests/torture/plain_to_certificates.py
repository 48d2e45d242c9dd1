"""A cluster that speaks in the clear moves to certificates, member by member, while a client writes.

    python -m tests.torture.plain_to_certificates

As docs/OPERATIONS.md tells: each member is started anew with certificates for peers, its url still plain; then each is
given an https:// url at the same port, and started anew with it. At the end any two members make a quorum over CURVE.
It takes half a minute, and ends with an error should a write have failed.
"""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness.strangers import make_pki
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    from zkv.client.client import Client

MEMBERS = 3


class Writer(threading.Thread):
    def __init__(self, client: Client) -> None:
        super().__init__(daemon=True)
        self.written = 0
        self._client = client
        self._over = threading.Event()
        self._more = threading.Condition()

    def run(self) -> None:
        while not self._over.is_set():
            self._client.put("k", str(self.written), timeout=30)  # what fails ends this thread, and the run
            with self._more:
                self.written += 1
                self._more.notify_all()

    def goes_on(self, what: str) -> None:
        with self._more:
            goal = self.written + 100
            assert self._more.wait_for(lambda: self.written >= goal, 60), f"no writes any more: {what}"
        print(f"{what}: {self.written} writes")

    def stop(self) -> None:
        self._over.set()
        self.join()


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="zkv-move-") as directory, LocalCluster(MEMBERS) as cluster:
        at = make_pki(Path(directory) / "pki").directory
        files = ["--peer-cert-file", f"{at}/peer.pem", "--peer-key-file", f"{at}/peer-key.pem"]
        files += ["--peer-trusted-ca-file", f"{at}/ca.pem"]
        writer = Writer(cluster.client())
        writer.start()
        writer.goes_on("in the clear")
        for number in range(MEMBERS):
            cluster.stop(number)
            cluster.member_arguments[number] = files
            cluster.start(number)
            writer.goes_on(f"member {number} has certificates")
        with cluster.client() as client:
            ids = {member.peer_urls[0]: member.id for member in client.members().members}
            for number in range(MEMBERS):
                plain = f"tcp://127.0.0.1:{cluster._peer_ports[number]}"
                secure = plain.replace("tcp:", "https:")
                client.member_update(ids[plain], [secure], timeout=30)
                cluster.stop(number)
                urls = ["--listen-peer-urls", secure, "--initial-advertise-peer-urls", secure]
                cluster.member_arguments[number] = [*files, *urls, "--initial-cluster", f"n{number + 1}={secure}"]
                cluster.start(number)
                writer.goes_on(f"member {number} is at {secure}")
        for number in range(MEMBERS):
            cluster.stop(number)
            writer.goes_on(f"without member {number}")
            cluster.start(number)
        writer.stop()
    print("every write succeeded")


if __name__ == "__main__":
    main()
