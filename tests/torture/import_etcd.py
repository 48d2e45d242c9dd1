"""A large etcd database imported: how long it takes, and in how much memory.

.venv/bin/python -m tests.torture.import_etcd --keys 1000000
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

VALUE = base64.b64encode(b"v" * 300).decode()
PER_TXN = 128


def fill(etcd: EtcdCluster, keys: int) -> None:
    for start in range(0, keys, PER_TXN):
        names = (base64.b64encode(b"key/%09d" % number).decode() for number in range(start, start + PER_TXN))
        etcd.call("/v3/kv/txn", {"success": [{"requestPut": {"key": name, "value": VALUE}} for name in names]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=100_000)
    keys = parser.parse_args().keys
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "snapshot.db"
        with EtcdCluster(Path(home), nodes=1) as etcd:
            fill(etcd, keys)
            etcd.ctl("snapshot", "save", str(path))
        began = time.monotonic()
        command = [sys.executable, "-m", "zkv", "snapshot", "import-etcd", str(path), "--data-dir", f"{home}/new"]
        _, status, usage = os.wait4(subprocess.Popen(command).pid, 0)
        took = time.monotonic() - began
        assert status == 0, status
        peak = usage.ru_maxrss / 1024
        size = path.stat().st_size / 1e6
        print(f"{keys} keys, {size:.0f} MB: {took:.1f} s, {keys / took:.0f} keys/s; at most {peak:.0f} MB")


if __name__ == "__main__":
    main()
