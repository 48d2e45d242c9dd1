"""New clusters of real processes, made of a backup as an operator makes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.harness.ctl import Step, play_zkv
from zkv.testing import LocalCluster, free_ports

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness.ctl import Outcome


def zkv_command(line: str, endpoint: str = "") -> Outcome:
    return play_zkv(endpoint, Step(line))


def restored(source: Path, home: Path, nodes: int, options: str = "", command: str = "restore") -> LocalCluster:
    """The data directories of a new cluster of so many, made from a backup; to be used in a `with`."""
    ports = free_ports(2 * nodes)
    home.mkdir()
    (home / "ports").write_text(" ".join(map(str, ports)))
    peers = [f"tcp://127.0.0.1:{port}" for port in ports[nodes:]]
    cluster = ",".join(f"n{number}={url}" for number, url in enumerate(peers, 1))
    for number, url in enumerate(peers, 1):
        done = zkv_command(
            f"snapshot {command} {source} --name n{number} --data-dir {home}/n{number} --initial-cluster {cluster} "
            f"--initial-advertise-peer-urls {url} --initial-cluster-token again {options}"
        )
        assert done.code == 0, done.stderr
    return LocalCluster(nodes, data_dir=home)
