"""The one place that says which version this is; pyproject.toml reads it from here."""

from __future__ import annotations

VERSION = "0.1.0"
ETCD_SERVER = "3.5.1"
"""The etcd whose behaviour this version has, as those are told who ask for etcd's version."""
ETCD_CLUSTER = "3.5.0"


def is_compiled() -> bool:
    """Whether the modules of the hot path are machine code here (setup.py)."""
    from importlib.util import find_spec

    spec = find_spec("zkv.mailbox")
    assert spec is not None
    return not str(spec.origin).endswith(".py")
