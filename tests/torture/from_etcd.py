"""A large etcd brought into zkv, by its snapshot and live: how long it takes, and in how much memory.

.venv/bin/python -m tests.torture.from_etcd --keys 1000000
"""

from __future__ import annotations

import argparse
import base64
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.harness.etcd import EtcdCluster
from zkv.testing import LocalCluster

VALUE = base64.b64encode(b"v" * 300).decode()
PER_TXN = 128


def fill(etcd: EtcdCluster, keys: int) -> None:
    for start in range(0, keys, PER_TXN):
        names = (base64.b64encode(b"key/%09d" % number).decode() for number in range(start, start + PER_TXN))
        etcd.call("/v3/kv/txn", {"success": [{"requestPut": {"key": name, "value": VALUE}} for name in names]})


def run(keys: int, *arguments: str) -> None:
    began = time.monotonic()
    _, status, usage = os.wait4(subprocess.Popen([sys.executable, "-m", "zkv", *arguments]).pid, 0)
    took = time.monotonic() - began
    assert status == 0, status
    print(f"{arguments[0]}: {took:.1f} s, {keys / took:.0f} keys/s; at most {usage.ru_maxrss / 1024:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    keys = parser.parse_args().keys
    with tempfile.TemporaryDirectory() as home, EtcdCluster(Path(home), nodes=1) as etcd:
        fill(etcd, keys)
        path = Path(home) / "snapshot.db"
        etcd.ctl("snapshot", "save", str(path))
        print(f"{keys} keys, a snapshot of {path.stat().st_size / 1e6:.0f} MB")
        run(keys, "snapshot", "import-etcd", str(path), "--data-dir", f"{home}/new")
        with LocalCluster(1) as cluster:
            source, to = etcd.nodes[0].client_url, cluster.endpoints[0]
            run(keys, "migrate", "--from", source, "--endpoints", to, "--once")
            print("the same, with all keys there:")
            run(keys, "migrate", "--from", source, "--endpoints", to, "--once", "--overwrite")


if __name__ == "__main__":
    main()
