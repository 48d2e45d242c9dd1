"""The core is pure: what it knows, it is told."""

from __future__ import annotations

import ast

import pytest

from tests.harness.source_tree import imports, modules, syntax

CORE = sorted(name for name in modules() if name.startswith("zkv.gateway.http2"))
KNOWN = {
    "__future__", "base64", "binascii", "collections", "enum", "hpack", "librt", "re", "struct", "typing", "zkv",
    "zlib",
}  # fmt: skip


@pytest.mark.parametrize("name", CORE)
def test_the_core_knows_no_socket_clock_thread_or_chance(name: str) -> None:
    """Of the standard library only what computes; of zkv only itself."""
    known = imports(name, types=False)
    assert {each.split(".")[0] for each in known} <= KNOWN
    assert all(each.startswith("zkv.gateway.http2") for each in known if each.startswith("zkv"))
    calls = (node.func for node in ast.walk(syntax(name)) if isinstance(node, ast.Call))
    assert not {each.id for each in calls if isinstance(each, ast.Name)} & {"open", "input", "print", "id", "hash"}
