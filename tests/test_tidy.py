"""The house rules, as tests (CONTRIBUTING.md tells them to people)."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import TYPE_CHECKING

import pytest
from importlinter import cli as import_linter

from tests.harness.source_tree import (
    OUTSIDE_ZKV,
    ROOT,
    compiled_modules,
    files,
    imports,
    modules,
    pyproject,
    reached_from,
    syntax,
)

if TYPE_CHECKING:
    from pathlib import Path

LINES_MAX = 700
LONGER: dict[str, str] = {}  # file: why it reads better whole

# What a pure module may not know: the outside, time, chance, and whoever runs it.
IMPURE = {
    "asyncio", "concurrent", "ctypes", "datetime", "fcntl", "glob", "importlib", "io", "logging", "mmap",
    "multiprocessing", "os", "pathlib", "random", "rocksdict", "secrets", "select", "selectors", "shutil", "signal",
    "socket", "ssl", "structlog", "subprocess", "sys", "tempfile", "threading", "time", "urllib", "uuid", "zmq",
}  # fmt: skip
IMPURE_CALLS = {"open", "input", "print", "__import__", "id", "hash"}  # the last two differ from run to run
CHANCE = "random.Random"  # handed over with its seed, or made from one

PURE_CLIENT = {
    "answers", "contest", "endpoints", "keeper", "lanes", "ledger", "login", "recipes", "records", "retry", "session",
    "steps", "stm", "stream", "ticket",
}  # fmt: skip
ENTRY_POINTS = {"zkv", "zkv.__main__", "zkv.ctl.main", "zkv.testing"}  # where users and the `zkv` command come in
WRAPPERS = {
    "bcrypt": {"zkv.gateway.passwords"},
    "grpc": {"zkv.ctl.etcd_source"},
    "jwt": {"zkv.gateway.jwt_tokens"},
    "msgpack": {"zkv.wire.codec", "zkv.gateway.envelope"},
    "rocksdict": {"zkv.actors.rocks_engine"},
}

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
# Written in two halves, so that this file does not name what it forbids.
FOREIGN = re.compile(
    "|".join(("/wo" + "rk/", "/ro" + "ot/", "/ho" + "me/", r"pypi\." + "org", "pythonhosted" + r"\.org"))
)
TEXTS = (".py", ".md", ".toml", ".txt", ".in", ".yaml", ".yml", ".sh", ".proto", ".cfg", "")


def _shown(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _pure_modules() -> list[str]:
    client = {f"zkv.client.{name}" for name in PURE_CLIENT}
    return sorted(name for name in modules() if name.startswith(("zkv.core", "zkv.wire")) or name in client)


def test_imports_go_down_only(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The layers of ARCHITECTURE.md hold (import-linter's contracts in pyproject.toml)."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT))
    broken = import_linter.lint_imports(no_cache=True, no_logo=True)
    assert not broken, capsys.readouterr().out


def test_every_package_is_shipped() -> None:
    """Each folder with an `__init__.py` stands in pyproject's `packages`, and those at the top are mapped."""
    found = {name for name, path in modules().items() if path.name == "__init__.py" and not name.startswith("tests")}
    setuptools = pyproject()["tool"]["setuptools"]
    assert found == set(setuptools["packages"])
    assert setuptools["package-dir"] == {f"zkv.{name}": name for name in OUTSIDE_ZKV}


@pytest.mark.parametrize("name", OUTSIDE_ZKV)
def test_links_show_tools_what_the_mapping_says(name: str) -> None:
    """`zkv/actors` and its like lead to the folders at the top."""
    assert (ROOT / "zkv" / name).resolve() == ROOT / name


@pytest.mark.parametrize("name", _pure_modules())
def test_pure_modules_know_nothing_outside(name: str) -> None:
    """No socket, file, clock, thread or unseeded chance where state machines live."""
    known = imports(name, types=False)
    if CHANCE in known:
        known -= {CHANCE, "random"}
    assert not {each.split(".")[0] for each in known} & IMPURE
    calls = {
        node.func.id
        for node in ast.walk(syntax(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not calls & IMPURE_CALLS


@pytest.mark.parametrize("library", WRAPPERS)
def test_a_wrapped_library_is_used_by_its_wrapper_only(library: str) -> None:
    """Others go through the wrapper, so that there is one place to change."""
    users = {
        name for name in modules() if name.startswith("zkv") and any(i.split(".")[0] == library for i in imports(name))
    }
    assert users <= WRAPPERS[library]


def test_files_can_be_read_to_their_end() -> None:
    """None is longer than a sitting, but for those with a reason."""
    long = {_shown(path) for path in modules().values() if len(path.read_text().splitlines()) > LINES_MAX}
    assert long == set(LONGER)


def test_nothing_is_left_for_later() -> None:
    """What is to be done stands in the issues, not in the source."""
    here = "tests/test_tidy.py"
    marked = {_shown(path) for path in files(*TEXTS) if UNFINISHED.search(path.read_text(errors="replace"))}
    assert marked <= {here}


def test_no_module_is_dead() -> None:
    """Each is reached from where users come in, from a test that pytest collects, or from a program of the tests."""
    entries = {
        name
        for name in modules()
        if name.split(".")[-1].startswith("test_")
        or name.endswith((".__main__", "conftest"))
        or name.startswith(
            ("tests.compiled.", "tests.compose.", "tests.conformance.clients.")
        )  # run by make, and by test_python_clients
    }
    ours = {name for name in modules() if name.startswith("zkv")}
    dead = ours - reached_from(ENTRY_POINTS)
    assert not dead, "nothing that users start leads there"
    helpers = {name for name in modules() if not name.startswith("zkv")}
    assert not helpers - reached_from(entries | {name for name in modules() if _is_program(name)})


def _is_program(name: str) -> bool:
    """Whether a module of the tests is started by hand: it has a `__main__` guard."""
    return any(
        isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'" for node in syntax(name).body
    )


def test_no_file_names_the_machine_it_was_written_on() -> None:
    """No home directory, no checkout's path, no package registry: another machine has others."""
    named = {_shown(path) for path in files(*TEXTS) if FOREIGN.search(path.read_text(errors="replace"))}
    assert not named


PURE = ("len(", "max(", "min(")
"""What a slice may be bounded by."""
LAZY = {"chain", "enumerate", "filter", "islice", "iter", "map", "merge", "zip"}


@cache
def _classes_compiled() -> set[str]:
    return {
        node.name for name in compiled_modules() for node in ast.walk(syntax(name)) if isinstance(node, ast.ClassDef)
    }


def _caught_twice(function: ast.AST, classes: set[str]) -> list[str]:
    """Names of errors, the first of a class that is compiled, under which the same function catches others."""
    seen: dict[str, str] = {}
    twice = []
    for node in ast.walk(function):
        if isinstance(node, ast.ExceptHandler) and node.name is not None and node.type is not None:
            if seen.get(node.name) in classes:
                twice.append(node.name)
            seen.setdefault(node.name, ast.unparse(node.type).split(".")[-1])
    return twice


@pytest.mark.parametrize("name", compiled_modules())
def test_what_is_compiled_does_the_same_as_what_is_not(name: str) -> None:
    """Nothing of what mypyc takes without a word and makes something else of (CONTRIBUTING.md)."""
    classes = _classes_compiled()
    for node in ast.walk(syntax(name)):
        where = f"{name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ExceptHandler):
            inner = [child for child in ast.walk(node) if isinstance(child, ast.Yield | ast.YieldFrom)]
            assert not inner, f"{where}: a yield within an except"
        if isinstance(node, ast.FunctionDef):
            assert not _caught_twice(node, classes), f"{where}: two errors of one name, the first of a compiled class"
        if any(isinstance(child, ast.GeneratorExp) for child in ast.iter_child_nodes(node)):
            called = ast.unparse(node.func).split(".")[-1] if isinstance(node, ast.Call) else ""
            kept = isinstance(node, ast.Return | ast.Assign | ast.AnnAssign | ast.Yield) or called in LAZY
            assert not kept, f"{where}: what is to be lazy is a function with yields"
        if isinstance(node, ast.Slice):
            asked = [child for child in ast.walk(node) if isinstance(child, ast.Call | ast.NamedExpr)]
            doers = [ast.unparse(call) for call in asked if not ast.unparse(call).startswith(PURE)]
            assert not doers, f"{where}: what bounds a slice may be done twice"


def test_a_client_loads_no_machine_code_of_a_node() -> None:
    """Whoever imports one compiled module loads the library that it is in; a command lives for a moment."""
    used = {other for name in compiled_modules("CLIENT") for other in imports(name)}
    assert used.isdisjoint(compiled_modules("NODE"))


def test_what_is_imported_is_locked() -> None:
    """requirements/run.txt pins, with hashes, what pyproject.toml depends on; dev.txt pins the same versions."""
    run, dev = (_pins(ROOT / "requirements" / name) for name in ("run.txt", "dev.txt"))
    wanted = {re.split(r"[<>=~! \[;]", line)[0].lower() for line in pyproject()["project"]["dependencies"]}
    assert wanted <= set(run)
    assert run.items() <= dev.items()


def _pins(path: Path) -> dict[str, str]:
    text = path.read_text()
    pins = dict(re.findall(r"^([\w-]+)==(\S+)", text, re.MULTILINE))
    assert all("--hash=sha256:" in block for block in re.split(r"\n(?=\S)", text.strip()))
    return pins


def test_ci_runs_what_the_readme_says() -> None:
    """.ci/run begins with the README's own command."""
    commands = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make")]
    assert commands[0] == "make test"
    assert "make test" in (ROOT / "README.md").read_text()
