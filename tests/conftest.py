"""For every test: a temporary directory nobody else uses, and the rule that nothing outlives the test."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from tests.harness import leaks
from zkv.testing import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("zkv", deadline=None)
settings.load_profile("zkv")  # no test fails for a busy machine


@pytest.fixture(scope="session", autouse=True)
def temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where `tempfile` and child processes put things: a short path, since socket paths are limited."""
    tmp_path_factory.getbasetemp()  # pytest's own stays where failed tests' files are looked for
    before = os.environ.get("TMPDIR"), tempfile.tempdir
    path = Path(tempfile.mkdtemp(prefix="zkv-test-"))
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background job, which no child of ours is to be
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # of nohup: what is ignored is so in children, too
        signal.signal(signal.SIGHUP, lambda *_: None)
    free_ports(1)  # from now on this process holds its block of them, which is no test's leftover
    os.environ["TMPDIR"] = tempfile.tempdir = str(path)
    yield path
    tempfile.tempdir = before[1]
    if before[0] is None:
        del os.environ["TMPDIR"]
    else:
        os.environ["TMPDIR"] = before[0]
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(autouse=True)
def nothing_left_behind(temporary_directory: Path) -> Iterator[None]:
    """A process, socket or socket file that outlives its test fails it, and is ended before the next one.

    What fixtures of a wider scope hold was there before.
    """
    before = leaks.look(temporary_directory)
    yield
    found = leaks.wait_none_since(before, temporary_directory)
    if any(found):
        for pid, _ in found.processes:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        pytest.fail(f"left behind:\n{found}", pytrace=False)
