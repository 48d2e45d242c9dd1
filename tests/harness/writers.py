"""Clients that write in a loop, remember every acknowledged write, and can tell afterwards what was lost or doubled.

Each write puts a key of its own, once. So after any faults: every acknowledged key must be there with the value written
(else it was *lost*), with version 1 (else it was applied *twice*), at the revision the answer named.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zkv.errors import ZkvError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    import zkv


@dataclass
class Verdict:
    acknowledged: int = 0
    lost: list[bytes] = field(default_factory=list)
    doubled: list[bytes] = field(default_factory=list)
    moved: list[bytes] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def assert_clean(self) -> None:
        assert self.acknowledged > 0, "nothing was written at all"
        assert not self.lost, f"lost acknowledged writes: {self.lost[:5]} ({len(self.lost)})"
        assert not self.doubled, f"writes applied twice: {self.doubled[:5]} ({len(self.doubled)})"
        assert not self.moved, f"writes at another revision than answered: {self.moved[:5]} ({len(self.moved)})"


class Writers:
    """`count` threads, each with a client of its own, writing through all endpoints until stopped."""

    def __init__(self, client: Callable[[], zkv.Client], count: int = 3, value_bytes: int = 64) -> None:
        self._client = client
        self._value_bytes = value_bytes
        self._stop = threading.Event()
        self._acknowledged: list[tuple[bytes, bytes, int]] = []
        self._times: list[float] = []
        self._errors: list[str] = []
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._write, args=(number,), daemon=True) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=60)
            assert not thread.is_alive(), "a writer hangs"

    def _write(self, writer: int) -> None:
        with self._client() as kv:
            number = 0
            while not self._stop.is_set():
                key = f"w/{writer}/{number:08d}".encode()
                value = key.ljust(self._value_bytes, b".")
                try:
                    revision = kv.put(key, value).revision
                except ZkvError as error:
                    with self._lock:
                        self._errors.append(f"{type(error).__name__}: {error}")
                else:
                    with self._lock:
                        self._acknowledged.append((key, value, revision))
                        self._times.append(time.monotonic())
                number += 1

    @property
    def acknowledged(self) -> int:
        with self._lock:
            return len(self._acknowledged)

    def wait_for(self, count: int, timeout_s: float = 30.0) -> None:
        """Until `count` more writes are acknowledged than now."""
        target = self.acknowledged + count
        deadline = time.monotonic() + timeout_s
        while self.acknowledged < target:
            assert time.monotonic() < deadline, f"no progress: {self._errors[-3:]}"
            time.sleep(0.01)

    def wait_resumed(self, since: float, timeout_s: float = 30.0) -> float:
        """Seconds from `since` to the first acknowledgement later than it that was also asked for later.

        The very first may have been on its way already, so the second of each writer would do; three are taken.
        """
        deadline = time.monotonic() + timeout_s
        needed = len(self._threads) + 1
        while True:
            with self._lock:
                later = [at for at in self._times[-200:] if at > since]
            if len(later) >= needed:
                return later[needed - 1] - since
            assert time.monotonic() < deadline, f"writes did not resume: {self._errors[-3:]}"
            time.sleep(0.005)

    def verdict(self) -> Verdict:
        """Read every acknowledged key back, linearizably, through any member."""
        verdict = Verdict(acknowledged=len(self._acknowledged), errors=list(self._errors))
        with self._client() as kv:
            found = {record.key: record for record in kv.range(prefix="w/")}
        for key, value, revision in self._acknowledged:
            record = found.get(key)
            if record is None or record.value != value:
                verdict.lost.append(key)
            elif record.mod_revision != revision:
                verdict.moved.append(key)
        verdict.doubled = [key for key, record in found.items() if record.version != 1]
        return verdict
