"""How storage becomes durable beside its loop: what it asks for, and the thread that does it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from zkv.core.mvcc.engine import Engine


class Flusher(Protocol):
    """Makes an engine durable beside the loop."""

    def begin(self, engine: Engine) -> None: ...

    def is_done(self) -> bool:
        """Has the flush that was begun ended? Raises what it raised."""


class ThreadFlusher:
    """RocksDB flushes without the interpreter's lock, so a thread is enough."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def begin(self, engine: Engine) -> None:
        self._thread = threading.Thread(target=self._run, args=(engine,), name="flush")
        self._thread.start()

    def _run(self, engine: Engine) -> None:
        try:
            engine.flush()
        except BaseException as error:  # noqa: BLE001 - raised again where the loop asks
            self._error = error

    def is_done(self) -> bool:
        if self._thread is not None and self._thread.is_alive():
            return False
        if self._error is not None:
            raise self._error
        return True
