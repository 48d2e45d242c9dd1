"""The file in which a member keeps what it knows of the cluster clock over restarts of its processes (raft/clock.py).

    DATA-DIR/member/clock      checksum, then (boot id, term, time, seen)

It is an aid: where it is missing, torn, or of another boot of the machine, the clock goes on from the last log entry's
time. So it is renamed into place and not synced; a power loss that harms it ends the boot it speaks of, too.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Final, Protocol

import structlog

from zkv.core.raft.clock import Anchor
from zkv.errors import CorruptionError
from zkv.wire import codec

BEHIND_MS: Final = 20
"""What is kept of the cluster clock says so much less than what is known, at most."""
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Anchors(Protocol):
    """Keeps one anchor for as long as its machine runs."""

    def load(self) -> Anchor | None: ...
    def save(self, anchor: Anchor) -> None: ...


def boot_id() -> str:
    """Another after each boot of the machine; empty where nobody tells."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


class AnchorKeeper:
    """Sees to it that what is kept is nearly what is known; without `anchors` nothing is."""

    def __init__(self, anchors: Anchors | None) -> None:
        self._anchors = anchors
        self._kept: Anchor | None = None

    def load(self) -> Anchor | None:
        self._kept = self._anchors.load() if self._anchors else None
        return self._kept

    def keep(self, anchor: Anchor, now: int) -> None:
        kept = self._kept
        if self._anchors and (
            kept is None or anchor.term != kept.term or anchor.bound(now) - kept.bound(now) > BEHIND_MS
        ):
            self._anchors.save(anchor)
            self._kept = anchor


class AnchorFile:
    """`boot`: as `boot_id`; without one nothing is kept, for whose clock it was could not be told."""

    def __init__(self, path: Path, boot: str) -> None:
        self._path = path
        self._boot = boot

    def load(self) -> Anchor | None:
        try:
            data = self._path.read_bytes()
            if zlib.crc32(data[4:]).to_bytes(4, "big") != data[:4]:
                return None
            boot, term, time, seen = codec.unpack(data[4:])
        except (OSError, CorruptionError, TypeError, ValueError):
            return None
        return Anchor(term, time, seen) if boot == self._boot != "" else None

    def save(self, anchor: Anchor) -> None:
        if not self._boot:
            return
        body = codec.pack((self._boot, *anchor.fields()))
        aside = self._path.with_suffix(".new")
        try:
            aside.write_bytes(zlib.crc32(body).to_bytes(4, "big") + body)
            aside.rename(self._path)
        except OSError as error:
            log = structlog.get_logger().bind(actor="raft")
            log.warning("the cluster clock is not kept", path=str(self._path), reason=error.strerror)
