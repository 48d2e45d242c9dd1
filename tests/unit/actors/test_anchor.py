"""What a member knows of the cluster clock outlives its processes, and not its machine's boot."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from zkv.actors.anchor import AnchorFile, boot_id
from zkv.core.raft.clock import Anchor

if TYPE_CHECKING:
    from pathlib import Path

ANCHOR = Anchor(7, 123_456, 99)


def test_an_anchor_comes_back_in_the_same_boot_only(tmp_path: Path) -> None:
    """Monotonic clocks of two boots have nothing to do with each other."""
    path = tmp_path / "clock"
    assert AnchorFile(path, "one").load() is None
    AnchorFile(path, "one").save(ANCHOR)
    AnchorFile(path, "one").save(Anchor(8, 123_456, 99))
    kept = AnchorFile(path, "one").load()
    assert kept is not None
    assert kept.fields() == (8, 123_456, 99)
    assert AnchorFile(path, "two").load() is None


def test_without_a_boot_id_nothing_is_kept(tmp_path: Path) -> None:
    """Two unknown boots are not the same one."""
    path = tmp_path / "clock"
    AnchorFile(path, "").save(ANCHOR)
    assert not path.exists()
    AnchorFile(path, "one").save(ANCHOR)
    assert AnchorFile(path, "").load() is None


@pytest.mark.parametrize("cut", range(0, 30, 3))
def test_a_damaged_file_is_none(tmp_path: Path, cut: int) -> None:
    """It is an aid; what it says wrongly would end leases early."""
    path = tmp_path / "clock"
    AnchorFile(path, "one").save(ANCHOR)
    data = path.read_bytes()
    cut = min(cut, len(data) - 1)
    path.write_bytes(data[:cut])
    assert AnchorFile(path, "one").load() is None
    path.write_bytes(data[:cut] + bytes((data[cut] ^ 1,)) + data[cut + 1 :])
    assert AnchorFile(path, "one").load() is None


def test_a_disk_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    """The clock then goes on from the last entry's time after a restart."""
    AnchorFile(tmp_path / "missing" / "clock", "one").save(ANCHOR)


def test_this_machine_has_a_boot_id() -> None:
    """As Linux writes it: a uuid, the same each time."""
    assert len(boot_id()) == 36
    assert boot_id() == boot_id()
