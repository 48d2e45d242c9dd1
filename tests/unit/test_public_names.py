"""What `import zkv` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import zkv


def test_all_names_are_there_and_no_other_is_promised() -> None:
    """`__all__` is what a user may rely on."""
    assert set(zkv.__all__) == {
        "AsyncCache",
        "AsyncClient",
        "AsyncElection",
        "AsyncLease",
        "AsyncLock",
        "AsyncStm",
        "AsyncWatch",
        "Cache",
        "Client",
        "Election",
        "KeyValue",
        "Lease",
        "Lock",
        "Member",
        "Quota",
        "RangeOptions",
        "RetryPolicy",
        "Stm",
        "Watch",
        "WatchEvent",
        "WatchOptions",
        "WatchResponse",
        "ZkvError",
        "create_revision",
        "delete",
        "errors",
        "get",
        "lease_of",
        "mod_revision",
        "put",
        "value",
        "version",
    }
    for name in zkv.__all__:
        assert getattr(zkv, name) is not None
        assert name in dir(zkv)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = zkv.nonsense


def _loaded_by(code: str) -> set[str]:
    """The modules a fresh interpreter has after running `code`."""
    script = f"import sys; before = set(sys.modules); {code}; print(*(set(sys.modules) - before))"
    return set(
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_zkv_imports_nothing_else_of_it() -> None:
    """The command pays for what it uses."""
    ours = {name for name in _loaded_by("import zkv") if name.partition(".")[0] in {"zkv", "zmq", "msgpack"}}
    assert ours == {"zkv"}


def test_the_synchronous_client_does_without_asyncio_and_logging() -> None:
    """They cost more to import than all the rest."""
    loaded = _loaded_by("import zkv; zkv.Client")
    assert not loaded & {"asyncio", "structlog", "logging", "cryptography", "click", "hashlib"}
