"""Clients with leases on real processes, and what is held against them: no lease ends early, and none late.

Each thread takes a lease with a key, keeps it alive as irregularly as it likes, leaves it alone some day, and takes the
next. A watcher notes when the keys go. A prober writes all the while: the gaps between its answers are when
nothing could be logged, neither a keep-alive nor an expiry, and so do not count.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.harness.processes import wait_until
from zkv.errors import LeaseNotFound, ZkvError

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    import zkv

TTL_S = 2
LATE_S = 1.0
"""The slack that the log gives, and what it takes to log."""
RESTART_S = 1.0
"""What the restart of a lease actor may cost on top, as much as an election: nothing ends while there is none, though
other writes go on and so do not show it."""
GAP_S = 0.1
"""A write that takes longer than this was waiting for something."""
PREFIX = b"held/"


@dataclass
class Held:
    promised: float = 0.0
    """It lives until then, at least: a TTL after the last keep-alive was sent that was answered."""
    due: float = 0.0
    """It lives no longer: a TTL after the last answer came, or the last keep-alive without one was given up."""
    ended: float | None = None


@dataclass
class LeaseVerdict:
    ended: int = 0
    kept: int = 0
    early: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)
    worst_s: float = 0.0
    """How late a lease ended at most, not counting the time in which nothing could be logged."""

    def assert_clean(self) -> None:
        assert self.ended > 0, "no lease has ended at all"
        assert not self.early, f"ended early: {self.early[:5]} ({len(self.early)})"
        assert not self.late, f"ended late: {self.late[:5]} ({len(self.late)})"


class Holders:
    """`count` threads with a lease each, and those that they have left alone."""

    def __init__(self, client: Callable[[], zkv.Client], count: int = 6, seed: int = 1) -> None:
        self._client = client
        self._stop = threading.Event()
        self._stop_watching = threading.Event()
        self._leases: dict[bytes, Held] = {}
        self._kept = 0
        self._wrong: list[str] = []
        self._probes: list[float] = []
        self._errors: list[BaseException] = []
        self._rng = random.Random(seed)
        loops = [self._watch, self._probe, *[self._hold] * count]
        self._threads = [threading.Thread(target=self._guarded, args=(loop,), daemon=True) for loop in loops]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_for(self, ends: int, timeout_s: float = 60.0) -> None:
        """Until so many more leases have ended."""
        goal = self._ended() + ends
        wait_until(lambda: self._ended() >= goal or bool(self._errors), f"{ends} leases have ended", timeout_s)

    def _ended(self) -> int:
        return sum(held.ended is not None for held in list(self._leases.values()))

    def stop(self) -> None:
        """Take no more leases, and wait until all have ended."""
        self._stop.set()
        for thread in self._threads[2:]:
            thread.join()
        deadline = time.monotonic() + 60
        while any(held.ended is None for held in self._leases.values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._stop_watching.set()
        for thread in self._threads[:2]:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _guarded(self, loop: Callable[[zkv.Client, random.Random], None]) -> None:
        try:
            with self._client() as kv:
                loop(kv, random.Random(self._rng.random()))
        except BaseException as error:  # noqa: BLE001 - told by `stop`
            self._errors.append(error)

    def _hold(self, kv: zkv.Client, rng: random.Random) -> None:
        while not self._stop.is_set():
            held = Held()
            sent = time.monotonic()
            try:
                lease = kv.grant(TTL_S, timeout=3).id
            except ZkvError:
                continue
            self._answered(held, sent)
            key = PREFIX + b"%d" % lease
            self._leases[key] = held
            try:
                kv.put(key, b"", lease=lease, timeout=3)
            except ZkvError as error:  # there may be a key, or not: nothing can be said of its end
                if isinstance(error, LeaseNotFound) and time.monotonic() < held.promised:
                    self._wrong.append(f"{lease} is said not to be, and was granted for longer")
                del self._leases[key]
            else:
                self._keep(kv, rng, lease, held)

    def _keep(self, kv: zkv.Client, rng: random.Random, lease: int, held: Held) -> None:
        while not self._stop.wait(rng.choice((0.05, 0.3, 0.6, 1.2))) and rng.random() < 0.8:
            sent = time.monotonic()
            try:
                kv.keep_alive(lease, timeout=3)
            except LeaseNotFound:
                if time.monotonic() < held.promised:
                    self._wrong.append(f"{lease} is said not to be, and promised for longer")
                return
            except ZkvError:
                held.due = max(held.due, time.monotonic() + TTL_S)  # it may have been logged
            else:
                self._kept += 1
                self._answered(held, sent)

    def _answered(self, held: Held, sent: float) -> None:
        held.promised = max(held.promised, sent + TTL_S)
        held.due = max(held.due, time.monotonic() + TTL_S)

    def _watch(self, kv: zkv.Client, _: random.Random) -> None:
        with kv.watch(prefix=PREFIX, from_revision=1, puts=False) as watch:
            threading.Thread(target=self._cancel, args=(watch,), daemon=True).start()
            for event in watch.events:
                if (held := self._leases.get(event.kv.key)) is not None:
                    held.ended = time.monotonic()

    def _cancel(self, watch: zkv.Watch) -> None:
        self._stop_watching.wait()
        watch.cancel()

    def _probe(self, kv: zkv.Client, _: random.Random) -> None:
        while not self._stop_watching.is_set():
            kv.put("probe", b"", timeout=60)
            self._probes.append(time.monotonic())
            time.sleep(GAP_S / 10)

    # --- judgement -------------------------------------------------------------------------------------

    def _idle(self, begun: float, ended: float) -> float:
        """Seconds of that time in which nothing could be logged."""
        idle = 0.0
        for before, after in zip(self._probes, self._probes[1:], strict=False):
            if after - before > GAP_S:
                idle += max(0.0, min(after, ended) - max(before, begun))
        return idle

    def verdict(self, late_s: float = LATE_S) -> LeaseVerdict:
        verdict = LeaseVerdict(kept=self._kept, early=self._wrong)
        for key, held in self._leases.items():
            if held.ended is None:
                verdict.late.append(f"{key!r} has not ended at all")
                continue
            verdict.ended += 1
            if held.ended < held.promised:
                verdict.early.append(f"{key!r}: {held.promised - held.ended:.3f} s")
            late = held.ended - held.due - self._idle(held.due, held.ended)
            verdict.worst_s = max(verdict.worst_s, late)
            if late > late_s:
                verdict.late.append(f"{key!r}: {late:.3f} s")
        return verdict
