"""The file of a snapshot: what is written is read, and nothing else is."""

from __future__ import annotations

import io

import pytest

from zkv import snapshot_file
from zkv.errors import CorruptionError
from zkv.snapshot_file import DIGEST_BYTES, PAGE_BYTES, SnapshotWriter


def written(size: int) -> bytes:
    out = io.BytesIO()
    writer = SnapshotWriter(out)
    writer.add(((b"E1", b"x" * size), (b"l", b"")))
    writer.end(cluster_id=1, member_id=2, revision=3)
    return out.getvalue()


@pytest.mark.parametrize("size", [0, 1, 300, 511, 512, 5_000])
def test_a_file_is_as_long_as_etcdctl_takes_for_whole(size: int) -> None:
    """A multiple of 512 bytes, and a digest; and it is read again."""
    data = written(size)
    assert len(data) % PAGE_BYTES == DIGEST_BYTES
    summary, _ = snapshot_file.verify(io.BytesIO(data))
    assert (summary.keys, summary.pairs, summary.revision) == (1, 2, 3)


@pytest.mark.parametrize("size", [0, 480])
def test_any_change_of_a_file_is_found(size: int) -> None:
    """Each byte of it, padding included; a byte more, and any end that is missing."""
    data = written(size)
    for at in range(len(data)):
        changed = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        with pytest.raises(CorruptionError):
            snapshot_file.verify(io.BytesIO(changed))
    for stop in range(len(data)):
        with pytest.raises(CorruptionError):
            snapshot_file.verify(io.BytesIO(data[:stop]))
    with pytest.raises(CorruptionError):
        snapshot_file.verify(io.BytesIO(data + b"\0"))
