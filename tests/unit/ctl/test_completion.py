"""The completion scripts. bash is asked for real; zsh and fish too where they are installed."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from zkv.ctl.completion import SCRIPTS
from zkv.ctl.main import COMMANDS

NO_EXECUTION = {"bash": "-n", "zsh": "-n", "fish": "--no-execute"}


def complete(*words: str) -> set[str]:
    """What bash offers for the last of the words."""
    ask = f"{SCRIPTS['bash']()}\nCOMP_WORDS=({' '.join(map(repr, words))})\nCOMP_CWORD={len(words) - 1}\n_zkv\n"
    done = subprocess.run(
        ["bash", "-c", ask + 'printf "%s\\n" "${COMPREPLY[@]}"'], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


needs_bash = pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_shell_can_read_its_script(shell: str) -> None:
    """It parses."""
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    subprocess.run([shell, NO_EXECUTION[shell]], input=SCRIPTS[shell](), text=True, check=True)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_every_script_knows_every_command(shell: str) -> None:
    """Also the words of groups."""
    script = SCRIPTS[shell]()
    assert all(word in script for name in COMMANDS for word in name.split())


@needs_bash
def test_commands_are_offered_first() -> None:
    """By the letters typed so far."""
    assert complete("zkv", "p") == {"put"}
    assert complete("zkv", "--hex", "me") == {"member"}
    assert complete("zkv", "endpoint", "h") == {"health", "hashkv"}
    assert complete("zkv", "completion", "") >= set(SCRIPTS)
    assert complete("zkv", "benchmark", "r") == {"range"}
    assert complete("zkv", "help", "e") == {"elect", "endpoint"}
    assert complete("zkv", "lease", "") >= {"grant", "keep-alive", "list", "revoke", "timetolive"}


@needs_bash
def test_flags_are_those_of_the_command() -> None:
    """Its own and the global ones, not another's."""
    offered = complete("zkv", "put", "a", "--")
    assert {"--prev-kv", "--lease", "--ttl", "--endpoints"} <= offered
    assert "--prefix" not in offered


@needs_bash
def test_values_are_offered_where_there_are_few() -> None:
    """In the next word, or behind `=`, which bash takes for a word of its own."""
    assert complete("zkv", "get", "a", "-w", "") == {"fields", "json", "simple", "table"}
    assert complete("zkv", "get", "a", "--order", "=", "D") == {"DESCEND"}
    assert complete("zkv", "get", "a", "--order", "=") == {"ASCEND", "DESCEND"}
    assert complete("zkv", "get", "a", "--rev", "") == set()
