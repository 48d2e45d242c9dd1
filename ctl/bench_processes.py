"""One load from several processes, for machines where one core's load generator is not enough.

All connect first, and start together when the last has; each has its share of connections, clients and requests.
What they measured is merged: a rate over the longest of their times.
"""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING

from zkv.ctl.bench_engine import Engine
from zkv.ctl.bench_plan import collecting_seldom
from zkv.ctl.bench_report import Results
from zkv.errors import ConnectionFailed, ZkvError

if TYPE_CHECKING:
    from collections.abc import Callable

    from zkv.ctl.bench_plan import Plan, Workload


def run(plan: Plan, workload: Workload, processes: int, progress: Callable[[int], object]) -> list[Results]:
    """What came of each of the workload's parts.

    Raises ConnectionFailed when a connection does not come up, or a process ends early, and ZkvError when preparing
    fails.
    """
    processes = min(processes, plan.conns)
    if processes == 1:
        with Engine(plan, workload) as engine:
            return engine.run(progress)
    spawn = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    workers = []
    for part in range(processes):
        here, there = spawn.Pipe()
        worker = spawn.Process(target=_work, args=(there, plan.share(part, processes), workload), daemon=True)
        worker.start()
        there.close()
        pipes.append(here)
        workers.append(worker)
    try:
        for pipe in pipes:
            _receive(pipe)
        for pipe in pipes:
            pipe.send(None)
        return _gather(pipes, [Results() for _ in workload.parts], progress)
    finally:
        for worker, pipe in zip(workers, pipes, strict=True):
            pipe.close()
            worker.terminate()
            worker.join()


def _gather(pipes: list[Connection], merged: list[Results], progress: Callable[[int], object]) -> list[Results]:
    done = dict.fromkeys(pipes, 0)
    running = set(pipes)
    while running:
        for pipe in wait(list(running)):
            assert isinstance(pipe, Connection)
            said = _receive(pipe)
            if isinstance(said, int):
                done[pipe] = said
            else:
                assert isinstance(said, list)
                for whole, part in zip(merged, said, strict=True):
                    whole.merge(part)
                running.discard(pipe)
        progress(sum(done.values()))
    return merged


def _receive(pipe: Connection) -> object:
    try:
        said: object = pipe.recv()
    except EOFError:
        raise ConnectionFailed("a process of the load generator has ended early") from None
    if isinstance(said, ZkvError):
        raise said
    return said


@collecting_seldom()
def _work(pipe: Connection, plan: Plan, workload: Workload) -> None:
    """What a process does: connect, say so, wait for the word, run, and hand over what it measured."""
    try:
        with Engine(plan, workload) as engine:
            pipe.send(None)
            pipe.recv()
            pipe.send(engine.run(pipe.send))
    except ZkvError as error:
        pipe.send(error)
    except (EOFError, KeyboardInterrupt):
        return  # the run was given up
