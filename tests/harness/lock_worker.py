"""A process that competes for a lock or an election: tests stop it, kill it, and look at what it wrote.

    python -m tests.harness.lock_worker ROLE NAME TTL ENDPOINT...

It says on standard output what it does, line by line, and takes a line on standard input as its leave to go on.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import zkv
from tests.harness.source_tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self


def say(*words: object) -> None:
    print(*words, flush=True)


def hold(kv: zkv.Client, name: str, ttl: int) -> None:
    """Take the lock; when told to go on, say whether it is still held, and write what it guards."""
    lock = kv.lock(name, ttl).acquire()
    say("held", lock.token)
    sys.stdin.readline()
    say("sure" if lock.held else "unsure")
    try:
        kv.put(f"{name}.written", f"by {lock.token}", guard=lock)
        say("wrote")
    except zkv.errors.LockLost:
        say("refused")
    try:
        lock.release()
        say("released")
    except zkv.errors.LockLost:
        say("lost")


def compete(kv: zkv.Client, name: str, ttl: int) -> None:
    """Five times: take the lock, note in a key that only its holder writes who came and who went."""
    for _ in range(5):
        with kv.lock(name, ttl) as lock:
            for what in ("in", "out"):
                log = kv.get(f"{name}.log")
                line = f"{what} {lock.token}\n".encode()
                kv.put(f"{name}.log", (log.value if log else b"") + line, guard=lock)
    say("done")


def lead(kv: zkv.Client, name: str, ttl: int) -> None:
    """Lead, until killed."""
    election = kv.election(name, ttl).campaign(name)
    say("leads", election.token)
    sys.stdin.readline()


class Worker:
    """Such a process, as its test sees it. A context manager; on leaving it is killed."""

    def __init__(self, role: str, name: str, ttl: int, endpoints: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.harness.lock_worker", role, name, str(ttl), *endpoints],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def heard(self) -> str:
        """The next line it says."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream
            stream.close()


if __name__ == "__main__":
    with zkv.Client(sys.argv[4:], timeout=20) as kv:
        {"hold": hold, "compete": compete, "lead": lead}[sys.argv[1]](kv, sys.argv[2], int(sys.argv[3]))
