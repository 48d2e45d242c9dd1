"""Giving space back: a thread beside the storage loop has the engine rewrite its files without what was deleted.

RocksDB does this anyway, in its own time; asked to, it does it now and for all files. It works without the
interpreter's lock and blocks neither reads nor writes (etcd's defragmentation blocks both), and rests every few
milliseconds (rocks_engine.py). One runs at a time; whoever asks meanwhile is answered when that one ends.
"""

from __future__ import annotations

import threading
from time import monotonic_ns
from typing import TYPE_CHECKING, NamedTuple

from zkv.gauges import Histogram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zkv.core.mvcc.engine import Engine
    from zkv.gauges import Value

POLL_MS = 50
ASKING_MAX = 1_000


class Asked(NamedTuple):
    """Whom to answer: a gateway's incarnation, its group, and the request in it."""

    incarnation: int
    gid: int
    request: int


class Defragmenter:
    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._asked: list[Asked] = []
        self._durations = Histogram()

    def gauges(self) -> Sequence[Value]:
        return [("defragmenting", "", int(self.is_running)), ("defrag", "", self._durations.counts)]

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    def ask(self, asked: Asked, engine: Engine) -> bool:
        """False: too many wait already."""
        if len(self._asked) >= ASKING_MAX:
            return False
        self._asked.append(asked)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, args=(engine,), name="defragment")
            self._thread.start()
        return True

    def _run(self, engine: Engine) -> None:
        began = monotonic_ns()
        try:
            engine.defragment()
            self._durations.observe(monotonic_ns() - began)
        except BaseException as error:  # noqa: BLE001 - raised again where the loop asks
            self._error = error

    def done(self) -> list[Asked]:
        """Who can be answered now. Raises what the engine raised."""
        if self._thread is None or self._thread.is_alive():
            return []
        self._thread = None
        if self._error is not None:
            raise self._error
        asked, self._asked = self._asked, []
        return asked

    def give_up(self) -> list[Asked]:
        """Who waited for one that failed."""
        self._error = None
        asked, self._asked = self._asked, []
        return asked

    def wait(self) -> None:
        """Until none runs: an engine in use cannot be closed."""
        if self._thread is not None:
            self._thread.join()
