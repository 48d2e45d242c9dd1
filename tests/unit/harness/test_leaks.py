"""The rule that nothing outlives its test is kept by something that sees what does."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.harness import leaks

pytestmark = pytest.mark.skipif(not leaks.PROC.exists(), reason="leaks are seen from /proc")


def test_a_process_is_seen_until_it_has_been_waited_for(temporary_directory: Path) -> None:
    """A running child is a leftover, and one that nobody waited for too."""
    before = leaks.look(temporary_directory)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert {pid for pid, _ in leaks.look(temporary_directory).since(before).processes} == {child.pid}
        child.communicate(b"\n")
    assert not leaks.look(temporary_directory).since(before).processes


def test_an_open_socket_is_seen(temporary_directory: Path) -> None:
    """A socket this process holds is a leftover until it is closed."""
    before = leaks.look(temporary_directory)
    with socket.socket():
        assert len(leaks.look(temporary_directory).since(before).sockets) == 1
    assert not leaks.look(temporary_directory).since(before).sockets


def test_a_socket_file_is_seen_after_its_socket_is_closed(temporary_directory: Path) -> None:
    """Closing a unix socket leaves its file; the file is a leftover of its own."""
    before = leaks.look(temporary_directory)
    path = Path(tempfile.mkdtemp()) / "inbox.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    assert leaks.look(temporary_directory).since(before).socket_files == {str(path)}
    path.unlink()
    assert not leaks.look(temporary_directory).since(before).socket_files


def test_what_a_node_of_before_binds_late_is_no_leftover() -> None:
    """A socket file in a directory of its own is one."""
    before = leaks.Leftovers(socket_files=frozenset({"/t/run-1/raft.sock"}))
    late, new = "/t/run-1/insight.sock", "/t/run-2/raft.sock"
    after = leaks.Leftovers(socket_files=before.socket_files | {late, new})
    assert after.since(before) == leaks.Leftovers(socket_files=frozenset({new}))
