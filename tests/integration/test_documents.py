"""The commands in the documents, run as they stand, give what the documents show.

A `console` block is a piece of one bash session: lines after `$ ` (and `> `) are typed, the others are the output. What
differs with each run (ids, hashes, sizes, times, the order of members) is masked on both sides.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
MASKS = (
    (r"\bn\d=http[^,\"]+", "MEMBER"),
    (r"\b[0-9a-f]{16}\b", "ID"),
    (r"\b[0-9a-f]{15}\b", "ID"),
    (r"\b[\d.]+(ms|µs|s)$", "TIME"),
    (r"\| [0-9a-f]{8} \|", "| HASH |"),
    (r"\b(entry|term|up to) \d+", r"\1 N"),
    (r"\bID \(n\d\), ID \(n\d\)", "IDS"),
    (r" *[\d.]+ k?B\b", " SIZE"),
    (r"up to entry \d+$", "up to entry N"),
)
END = "@@ end of command @@"
SESSION_S = 250


class Step(NamedTuple):
    command: str
    output: list[str]


def steps(document: str) -> Iterator[Step]:
    text = (ROOT / document).read_text()
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        found: list[Step] = []
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:], []))
            elif line.startswith("> ") and not found[-1].output:
                found[-1] = Step(f"{found[-1].command}\n{line[2:]}", [])
            else:
                found[-1].output.append(line)
        yield from found


def masked(lines: list[str]) -> list[str]:
    """Sorted: members come in the order of their ids."""
    for pattern, mask in MASKS:
        lines = [re.sub(pattern, mask, line) for line in lines]
    return sorted(line.rstrip() for line in lines)


@pytest.mark.parametrize("document", ["docs/OPERATIONS.md", "docs/SECURITY.md"])
def test_commands_give_what_the_document_shows(document: str, tmp_path: Path) -> None:
    session = list(steps(document))
    script = "".join(f"{{ {step.command}\n}} 2>&1\necho '{END}'\n" for step in session)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "LC_ALL": "C.UTF-8",
    }
    (tmp_path / "session").write_text(script)
    with subprocess.Popen(
        ["bash", "session"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        cwd=tmp_path, env=environment, start_new_session=True,
    ) as shell:  # fmt: skip
        try:
            printed, _ = shell.communicate(timeout=SESSION_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    parts = printed.split(f"{END}\n")
    assert len(parts) == len(session) + 1, f"the session ended early:\n{printed}"
    for step, part in zip(session, parts, strict=False):
        assert masked(part.splitlines()) == masked(step.output), f"$ {step.command}\n{part}"
