"""Commands that last (watch, lock, elect, keep-alive), as processes of their own, of `zkv` or of `etcdctl`."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from itertools import count
from typing import TYPE_CHECKING, Self

from tests.harness.ctl import Outcome, Step, play_etcdctl, play_zkv
from tests.harness.etcd import binary
from tests.harness.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

WAIT_S = 60.0
BY_SIGNAL = 128


class Running:
    """One process; its output is looked at while it runs."""

    def __init__(
        self, words: Sequence[str], directory: Path, environment: Mapping[str, str], stdout: int | None = None
    ) -> None:
        self._words = words
        self._paths = directory / "out", directory / "err"
        directory.mkdir()
        with self._paths[0].open("wb") as out, self._paths[1].open("wb") as err:
            self.process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=out if stdout is None else stdout,
                stderr=err,
                env={**os.environ, **environment},
            )

    @property
    def stdout(self) -> str:
        return self._paths[0].read_text()

    @property
    def stderr(self) -> str:
        return self._paths[1].read_text()

    def wait_for(self, pattern: str, times: int = 1) -> Self:
        """Until it has printed this so often."""

        def is_there() -> bool:
            return len(re.findall(pattern, self.stdout, re.MULTILINE)) >= times

        try:
            wait_until(is_there, f"{pattern!r} is printed {times} times", WAIT_S)
        except AssertionError as error:
            error.add_note(f"{' '.join(self._words)}\n{self.stdout}\n{self.stderr}")
            raise
        return self

    def say(self, line: str) -> Self:
        """Into its stdin."""
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return self

    def hear_no_more(self) -> Self:
        assert self.process.stdin
        self.process.stdin.close()
        return self

    def end(self, signum: int = signal.SIGINT) -> Outcome:
        self.process.send_signal(signum)
        return self.ended()

    def ended(self) -> Outcome:
        """Once it has ended by itself. The exit code is what a shell shows of it."""
        code = self.process.wait(WAIT_S)
        if self.process.stdin:
            self.process.stdin.close()
        return Outcome(self.stdout, self.stderr, code if code >= 0 else BY_SIGNAL - code)


class Player:
    """Runs command lines of one of the two programs on one cluster, and ends what was left running."""

    def __init__(
        self, program: Sequence[str], endpoints: str, directory: Path, play: Callable[[str, Step], Outcome]
    ) -> None:
        directory.mkdir(exist_ok=True)
        self._program = [*program, "--endpoints", endpoints]
        self._play = play
        self._endpoints = endpoints
        self._directory = directory
        self._numbers = count()
        self._running: list[Running] = []
        self.before: tuple[str, ...] = ()
        """Words of the program that is to start the program."""

    @classmethod
    def of_zkv(cls, endpoints: str, directory: Path) -> Self:
        return cls([sys.executable, "-m", "zkv.ctl.main"], endpoints, directory, play_zkv)

    @classmethod
    def of_etcdctl(cls, endpoints: str, directory: Path) -> Self:
        return cls([str(binary("etcdctl"))], endpoints, directory, play_etcdctl)

    def do(self, line: str) -> Outcome:
        """What is over at once, and runs no command."""
        return self._play(self._endpoints, Step(line))

    def revision(self) -> int:
        """The store's."""
        found = re.search(r'"revision":(\d+)', self.do("get nothing -w json").stdout)
        assert found
        return int(found[1])

    def keys_below(self, prefix: str) -> list[str]:
        return self.do(f"get --prefix {prefix} --keys-only").stdout.split()

    def start(self, line: str, stdout: int | None = None, **environment: str) -> Running:
        words = [*self.before, *self._program, *shlex.split(line)]
        running = Running(words, self._directory / str(next(self._numbers)), environment, stdout)
        self._running.append(running)
        return running

    def run(self, line: str, **environment: str) -> Outcome:
        """To its end, with nothing to read."""
        return self.start(line, None, **environment).hear_no_more().ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for running in self._running:
            running.end(signal.SIGKILL)
