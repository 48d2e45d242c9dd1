"""The repository's own source, as the tidy tests look at it: its modules, and who imports whom."""

from __future__ import annotations

import ast
import re
import runpy
import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE_ZKV = ("actors", "gateway", "ctl")  # folders at the top that are packages of zkv (pyproject.toml maps them)
LIBRARIES = ("CLIENT", "NODE")  # of machine code, as setup.py names them
SKIPPED = {".git", ".venv", "build", "dist", "__pycache__"}
MODULE_NAME = re.compile(r"((?:zkv|tests)(?:\.\w+)+)(?::\w+)?")  # with what is meant in it, or without


@cache
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def compiled_modules(*libraries: str) -> list[str]:
    """Those that `make compiled` makes machine code of, by their names; of all its libraries, or of these."""
    setup = runpy.run_path(str(ROOT / "setup.py"))
    paths: list[str] = [path for name in libraries or LIBRARIES for path in setup["modules"](setup[name])]
    return [path.removesuffix(".py").replace("/", ".") for path in paths]


def files(*suffixes: str) -> Iterator[Path]:
    """Every file of the repository with one of the suffixes; without any, every file. Links are not followed."""
    pending = [ROOT]
    while pending:
        for path in sorted(pending.pop().iterdir()):
            hidden = path.name.startswith(".") and path.name != ".ci"
            if path.is_symlink() or path.name in SKIPPED or path.name.endswith((".egg-info", ".zkv")) or hidden:
                continue
            if path.is_dir():
                pending.append(path)
            elif not suffixes or path.suffix in suffixes:
                yield path


def module_name(path: Path) -> str:
    """`actors/wal.py` is zkv.actors.wal; an `__init__.py` is its package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] in OUTSIDE_ZKV:
        parts = ("zkv", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Every module of zkv and of its tests, by its name."""
    return {module_name(path): path for path in files(".py") if path.parent != ROOT}


@cache
def syntax(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text())


def _nodes(tree: ast.AST, *, types: bool) -> Iterator[ast.AST]:
    """Every node below `tree`; without `types` none of what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if types or not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from _nodes(node, types=types)


def imports(name: str, *, types: bool = True) -> set[str]:
    """All names that a module's import statements could mean: `from a import b` is a, and a.b.

    Without `types` what is imported for type checkers only does not count.
    """
    found: set[str] = set()
    for node in _nodes(syntax(name), types=types):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute here"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def mentions(name: str) -> set[str]:
    """Modules named in full in a module's strings: what is imported late, or started as a process."""
    strings = [
        node.value for node in ast.walk(syntax(name)) if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return {match[1] for match in map(MODULE_NAME.fullmatch, strings) if match}


def reached_from(roots: set[str]) -> set[str]:
    """The modules of `modules()` that the roots import or mention, directly or not; a module brings its packages."""
    known = modules()
    reached: set[str] = set()
    pending = [root for root in roots if root in known]
    while pending:
        name = pending.pop()
        if name in reached:
            continue
        reached.add(name)
        parents = {name.rsplit(".", count)[0] for count in range(1, name.count(".") + 1)}
        pending += [other for other in imports(name) | mentions(name) | parents if other in known]
    return reached
