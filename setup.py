"""What pyproject.toml cannot say: with ZKV_COMPILE=1 the modules of `CLIENT` and `NODE` become machine code, by mypyc.

    pip install -r requirements/compile.txt         (and a C compiler, with Python's headers)
    ZKV_COMPILE=1 pip wheel --no-deps --no-build-isolation .

An editable install has none: a compiled module beside its source would be taken for it after the next edit, too.
What compiled code does otherwise than interpreted code, CONTRIBUTING.md tells; what it is worth, docs/decisions/0012.
"""

from __future__ import annotations

import glob
import os
import shutil
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from setuptools import setup
from setuptools.command.build_ext import build_ext

CLIENT = {
    "zkv": "connection curve line monotonic zmtp",
    "zkv/wire": "codec doors shapes",
    "zkv/client": "answers carrier clock endpoints fields keeper lanes ledger session stream ticket transport",
    "zkv/ctl": "bench_engine bench_lines bench_watchers bench_watching",
}
"""What each request and answer passes in a client, and how they lie on the wire. A library of its own: who imports one
module loads the library that it is in, and a command lives for a moment."""
NODE = {
    "zkv": "courier door gauges guests loop_mailbox mailbox",
    "zkv/wire": "groups raft_codec",
    "zkv/core": "*",
    "zkv/core/mvcc": "*",
    "zkv/core/raft": "*",
    "zkv/core/watch": "*",
    "zkv/actors": """acquaintances auditor auth_feed disk event_feed flows lease_actor lease_feed pacing peers
        raft_actor raft_door reads rejoin relays rocks_engine stages storage_actor storage_feed wal wal_format
        watch_actor""",
    "zkv/gateway": """asking callers doors envelope group grpc_api grpc_desk grpc_lease grpc_line grpc_status grpc_tally
        grpc_watch leaving looking native passwords roster sampling shares slow space_saving tally threshold translate
        validate watches""",
    "zkv/gateway/http2": "*",
}
"""What each request, answer and event passes on its way through a node: the rest is not worth the time to build."""
INTERPRETED = {
    "zkv/core/mvcc/engine.py",  # ports, whose twins in memory ...
    "zkv/core/raft/log.py",  # ... tests make subclasses of
    "zkv/core/agreement.py",  # seldom asked, as are those below
    "zkv/core/auto_compaction.py",
    "zkv/core/health.py",
    "zkv/core/recovery.py",
}


class BuildInParallel(build_ext):  # type: ignore[misc] # setuptools tells no types
    """One C compiler per core."""

    def build_extensions(self) -> None:
        compiler: Any = self.compiler
        compile_one, link = compiler._compile, compiler.link  # noqa: SLF001 - there is no other way in
        pending: list[Future[None]] = []

        def link_compiled(*args: Any, **options: Any) -> None:
            for compiling in pending:
                compiling.result()
            pending.clear()
            link(*args, **options)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            compiler._compile = lambda *args: pending.append(pool.submit(compile_one, *args))  # noqa: SLF001
            compiler.link = link_compiled
            super().build_extensions()


def modules(library: dict[str, str]) -> list[str]:
    """The files to compile."""
    here = os.path.dirname(os.path.abspath(__file__))
    patterns = [f"{folder}/{name}.py" for folder, names in library.items() for name in names.split()]
    paths = {path for pattern in patterns for path in glob.glob(pattern, root_dir=here)} - INTERPRETED
    return sorted(path for path in paths if not path.endswith("__init__.py"))


def options() -> dict[str, Any]:
    if not shutil.which(os.environ.get("CC", "cc").split()[0]):
        raise SystemExit("zkv is compiled by a C compiler, and there is none here (or $CC names none)")
    try:
        from mypyc.build import mypycify
    except ImportError:
        raise SystemExit(
            "zkv is compiled by mypyc: install requirements/compile.txt, and build without isolation"
        ) from None
    extensions: Any = mypycify(
        modules(CLIENT) + modules(NODE),
        opt_level="1",
        debug_level="0",
        multi_file=True,
        separate=[(modules(CLIENT), "zkv_client"), (modules(NODE), "zkv_node")],
        target_dir="build/c",
    )
    for extension in extensions:
        # mypyc defines a library's table in each file that uses it; and what is hidden is reached without a table.
        extension.extra_compile_args += ["-fcommon", "-fvisibility=hidden"]
    return {"ext_modules": extensions, "cmdclass": {"build_ext": BuildInParallel}}


if __name__ == "__main__":
    wanted = os.environ.get("ZKV_COMPILE") == "1" and "bdist_wheel" in sys.argv  # not where only metadata is asked for
    setup(**(options() if wanted else {}))
