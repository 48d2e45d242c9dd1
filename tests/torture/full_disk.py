"""A single member whose disk somebody else fills to the last byte, again and again, under heavy writes.

    python tests/torture/full_disk.py --rounds 5

Nothing acknowledged may be lost; each time writes are refused (no space) and, once there is room, taken again without
anybody touching the member. In every other round the member is killed while the disk is full. It mounts a tmpfs, for
which it must be root.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.harness.ctl import Step, play_zkv
from tests.harness.processes import wait_until
from tests.harness.small_disk import MEBIBYTE, small_disk
from tests.harness.writers import Writers
from zkv.errors import ZkvError
from zkv.testing import LocalCluster

if TYPE_CHECKING:
    import zkv

DISK_BYTES = 512 * MEBIBYTE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as directory,
        small_disk(Path(directory) / "n1", DISK_BYTES) as disk,
        LocalCluster(1, data_dir=directory) as cluster,
        cluster.client() as kv,
    ):
        for number in range(arguments.rounds):
            with Writers(cluster.client, count=4, value_bytes=32 << 10) as writers:
                writers.wait_for(300)
                disk.fill()
                time.sleep(3)
                killed = number % 2 == 1
                if killed:
                    cluster.kill(0)
                    cluster.start(0, wait=False)
                    time.sleep(1)
                disk.free()
                freed = time.monotonic()
                took = writers.wait_resumed(freed, 60)
            verdict = writers.verdict()
            verdict.assert_clean()
            refused = sum("NoSpace" in error for error in verdict.errors)
            print(
                f"round {number + 1}{', killed' if killed else ''}: {verdict.acknowledged} acknowledged, none lost; "
                f"{refused} refused for space; taken again after {took:.1f} s"
            )
            wait_until(lambda: deleted(kv), "there is room to delete", 60)
            play_zkv(cluster.endpoints[0], Step("defrag --command-timeout 60s"))
        told = cluster.log(0).count("no space left on the disk")
        print(f"the member said {told} times that there was no space")


def deleted(kv: zkv.Client) -> bool:
    try:
        revision = kv.delete(prefix="w/").revision
        kv.compact(revision, physical=True, timeout=60)
    except ZkvError:
        return False
    return True


if __name__ == "__main__":
    main()
