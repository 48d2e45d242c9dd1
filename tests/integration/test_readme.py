"""README.md's tour: every line of it, in order, in one shell, against a real node."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from zkv.testing import LocalCluster

PAGE = (Path(__file__).parents[2] / "README.md").read_text()
TOUR = PAGE.partition("## A tour")[2].partition("\n## ")[0]
BY_HAND = ("export PATH=", "zkv server &")
"""What puts the command within reach, and starts the node: here that is done otherwise."""
MARK = "@@ "


class Line(NamedTuple):
    """A command, and what the page says that it prints; nothing said: anything."""

    command: str
    shown: str


def lines_of(text: str) -> list[Line]:
    """Of all console blocks. A command goes on to the end of its here-document."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for piece in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            first, _, rest = piece.partition("\n")
            if here := re.search(r"<<'(\w+)'$", first):
                body, _, rest = rest.partition(f"\n{here[1]}\n")
                first = f"{first}\n{body}\n{here[1]}"
            found.append(Line(first, rest.strip()))
    return found


def test_the_tour_of_the_command_is_as_told() -> None:
    """Each command succeeds, and prints what stands below it."""
    lines = [line for line in lines_of(TOUR) if not line.command.startswith(BY_HAND)]
    if not shutil.which("jq"):
        lines = [line for line in lines if "| jq" not in line.command]
    assert len(lines) > 10
    script = "".join(f"{line.command}\ncode=$?\necho\necho '{MARK}'$code\n" for line in lines)
    with LocalCluster(1, storage="memory") as cluster:
        environment = {
            **os.environ,
            "ZKV_ENDPOINTS": cluster.endpoints[0],
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            ["bash"], input=script, env=environment, capture_output=True, text=True, check=True, timeout=60
        )
    printed = re.split(rf"^{MARK}(\d+)\n", done.stdout, flags=re.MULTILINE)
    for line, out, code in zip(lines, printed[::2], printed[1::2], strict=False):
        assert code == "0", line.command + done.stderr
        assert line.shown in {"", out.strip()}, line.command
    assert len(printed) == 2 * len(lines) + 1


@pytest.mark.parametrize("code", re.findall(r"^```python\n(.*?)^```", TOUR, re.MULTILINE | re.DOTALL))
def test_the_tour_of_the_library_runs(code: str) -> None:
    """Each block, as it stands but for the address."""
    with LocalCluster(1, storage="memory") as cluster:
        exec(compile(code.replace("tcp://127.0.0.1:2378", cluster.endpoints[0]), "README.md", "exec"), {})  # noqa: S102
