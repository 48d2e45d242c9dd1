"""What is answered to a range of one key as it is now, kept packed for the keys that were asked for lately.

Few keys are asked for often: a leader's, a setting's. Their answers are the same until the key is written, so they are
kept as bytes, and neither the engine is asked nor anything packed again. Whoever writes to the engine says which keys
(`forget`). Nothing here decides: what is not kept is read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from zkv.core.mvcc.layout import CURRENT, CURRENT_HEAD_BYTES, current_head
from zkv.wire.codec import pack
from zkv.wire.messages import RangeAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zkv.core.mvcc.engine import Reader

KEPT_BYTES_MAX: Final = 1 << 20
"""Of all answers together: some thousand keys. With eight times as much, keys that are never asked for again would cost
more, for what is kept of them pushes all else out of a core's cache."""
BODY_BYTES_MAX: Final = 8 << 10
"""An answer larger than this is not kept: packing it costs little, beside sending it."""
_OVERHEAD_BYTES: Final = 256
"""What keeping an answer takes beside its bytes, about."""
_NOTHING: Final = pack(RangeAnswer((), False, 0))


class Lately:
    """`reader`: the engine, always as it is now. `bytes_max`: beyond it, all answers are forgotten."""

    def __init__(self, reader: Reader, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._reader = reader
        self._bytes_max = bytes_max
        self._kept: dict[bytes, bytes] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def bodies(self, keys: Sequence[bytes]) -> list[bytes]:
        """The packed `RangeAnswer` of each."""
        kept = self._kept
        unknown = [key for key in keys if key not in kept]
        if not unknown:
            return [kept[key] for key in keys]
        if len(unknown) == 1:
            records = [self._reader.get(CURRENT + unknown[0])]
        else:
            records = self._reader.get_many([CURRENT + key for key in unknown])
        found = {key: _body(key, record) for key, record in zip(unknown, records, strict=True)}
        bodies = [found[key] if key in found else kept[key] for key in keys]
        self._keep(found)
        return bodies

    def _keep(self, found: dict[bytes, bytes]) -> None:
        for key, body in found.items():
            if len(key) + len(body) > BODY_BYTES_MAX:
                continue
            if self._bytes > self._bytes_max:
                self._kept.clear()
                self._bytes = 0
            self._kept[key] = body
            self._bytes += len(key) + len(body) + _OVERHEAD_BYTES

    def forget(self, keys: Iterable[bytes]) -> None:
        """They have been written."""
        kept = self._kept
        if kept:
            for key in keys:
                body = kept.pop(key, None)
                if body is not None:
                    self._bytes -= len(key) + len(body) + _OVERHEAD_BYTES


def _body(key: bytes, record: bytes | None) -> bytes:
    if record is None:
        return _NOTHING
    mod, _, create, version, lease = current_head(record)
    return pack((((key, create, mod, version, record[CURRENT_HEAD_BYTES:], lease),), False, 1))
