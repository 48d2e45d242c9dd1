"""Where storage has its engine: on disk or in memory, and how another one takes its place."""

from __future__ import annotations

import errno
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from zkv.core.mvcc.engine import MemoryEngine
from zkv.core.mvcc.gathering import GatheringEngine

if TYPE_CHECKING:
    from zkv.actors.rocks_engine import RocksEngine
    from zkv.core.mvcc.engine import Engine

LOOK_S: Final = 0.5
"""How often a disk without room to open the store is looked at."""


class Store(Protocol):
    """The engine in use, and how another one takes its place."""

    @property
    def engine(self) -> Engine: ...

    def staging(self) -> Engine:
        """An empty engine beside the one in use."""

    def swap_in(self, staging: Engine) -> None:
        """`staging` becomes `engine`, durably and at once."""


class DiskStore:
    def __init__(self, path: str) -> None:
        from zkv.actors.rocks_engine import RocksEngine

        self._serve(self._opened(Path(path), RocksEngine))

    def _serve(self, engine: RocksEngine) -> None:
        self._rocks = engine
        self.engine: Engine = GatheringEngine(engine)

    @staticmethod
    def _opened(path: Path, engine: type[RocksEngine]) -> RocksEngine:
        """Opening writes a few files: where there is no room even for those, it waits for some."""
        told = False
        while True:
            try:
                return engine(path, serving=True)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                if not told:
                    structlog.get_logger().warning(
                        "no space left on the disk to open the store, waiting for some", actor="storage", path=str(path)
                    )
                told = True
                sleep(LOOK_S)

    def staging(self) -> Engine:
        return self._rocks.staging()

    def swap_in(self, staging: Engine) -> None:
        from zkv.actors.rocks_engine import RocksEngine

        assert isinstance(staging, RocksEngine)
        self._serve(self._rocks.swap_in(staging))


class MemoryStore:
    def __init__(self) -> None:
        self.engine: Engine = MemoryEngine()

    def staging(self) -> Engine:
        return MemoryEngine()

    def swap_in(self, staging: Engine) -> None:
        self.engine.close()
        self.engine = staging
