"""Runs in parallel processes: each in one of its own, so that one that dies takes no other with it.

The processes start from a server that has imported what is slow to import, so a short run costs no more than
its training.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from sacma.errors import SacmaError, one_line
from sacma.runs.config import RunConfig
from sacma.runs.folder import RunFolder
from sacma.runs.prepare import open_benchmark
from sacma.runs.records import RunResult
from sacma.training.scoring import run_output
from sacma.training.seeds import run_seed

# torch imports the last two in the middle of training.
PRELOADED = ["sacma.studies.jobs", "torch._dynamo", "torch.distributed.tensor"]


@dataclass(frozen=True)
class Job:
    """One run: one configuration, one seed.

    Attributes:
        config: of the run.
        path: its folder.
        outputs: embeddings that score besides the method's own.
    """

    config: RunConfig
    path: Path
    outputs: tuple[str, ...] = ()

    def is_finished(self) -> bool:
        """True where nothing is left to compute; the content of the files is not looked at."""
        parts = ["result.json", *(f"result-{output}.json" for output in self.outputs)]
        return all((self.path / part).is_file() for part in parts)

    def results(self) -> dict[str, RunResult]:
        """Results by output; that of the method's own output under the empty name.

        Raises:
            SacmaError: a file of results is missing or damaged.
        """
        return {output: RunFolder(self.path).result(output) for output in ("", *self.outputs)}

    def run(self) -> str:
        """Run the job, going on from the content of its folder; returns the reason of a failure, or ''."""
        try:
            self.work()
        except SacmaError as error:
            return one_line(error)
        except Exception as error:  # a defect in one run must not lose the others
            return f"{type(error).__name__}: {one_line(error)}"
        return ""

    def work(self) -> None:
        """Do what is left of the job.

        Raises:
            SacmaError: it cannot be done, or the folder holds a run with other options.
        """
        if self.is_finished() and RunFolder.open(self.path).config() == self.config:
            self.results()
            return
        benchmark = open_benchmark(self.config.data)
        run_seed(self.config, benchmark, self.path)
        for output in self.outputs:
            run_output(RunFolder.open(self.path), benchmark, output)


class TimeLeft:
    """Estimate of the time that a queue of jobs still takes.

    Args:
        jobs: the queue; those that are finished already do not count.
        clock: seconds that pass.
    """

    def __init__(self, jobs: Sequence[Job], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._ready, self._clock = len(jobs), sum(map(Job.is_finished, jobs)), clock
        self._start = clock()

    def after(self, done: int) -> str:
        """``, about 12 min left`` after so many jobs of the queue; empty where nothing is left or known."""
        ran = done - self._ready
        if ran < 1 or done >= self._total:
            return ""
        return in_words((self._clock() - self._start) / ran * (self._total - done))


def in_words(left: float) -> str:
    """Seconds that are left, as the end of a line on progress.

    Example:
        >>> in_words(90), in_words(1500)
        (', about 90 s left', ', about 25 min left')
    """
    for size, unit in ((3600, "h"), (60, "min")):
        if left >= 2 * size:
            return f", about {left / size:.0f} {unit} left"
    return f", about {left:.0f} s left"


def run_jobs(
    jobs: Sequence[Job], *, processes: int, on_end: Callable[[Job, str], None] | None = None
) -> dict[Path, str]:
    """Run all jobs, at most so many at a time; the processor's threads are shared among them.

    Args:
        jobs: to run, in this order; first those that are finished are looked at.
        processes: at a time.
        on_end: called with each job that ends and why it failed, or nothing.

    Returns:
        Why a job failed, by its path; empty text for those that did not.
    """
    context = _context()
    threads = max(1, torch.get_num_threads() // processes)
    failures: dict[Path, str] = {}
    running: dict[Connection, tuple[Job, BaseProcess]] = {}

    def ended(job: Job, failure: str) -> None:
        failures[job.path] = failure
        if on_end is not None:
            on_end(job, failure)

    for job in filter(Job.is_finished, jobs):
        ended(job, job.run())
    waiting = [job for job in jobs if job.path not in failures]
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                job = waiting.pop(0)
                receiver, sender = context.Pipe(duplex=False)
                process: BaseProcess = context.Process(target=_work, args=(sender, job, threads))
                process.start()
                sender.close()  # the process has its own end; with it closes the last
                running[receiver] = job, process
            ready = wait(list(running))
            for receiver in [one for one in running if one in ready]:
                job, process = running.pop(receiver)
                ended(job, _answer(process, receiver))
    finally:  # after an interruption: a run can be killed at any moment
        for _, process in running.values():
            process.terminate()
            process.join()
    return failures


def _context() -> ForkServerContext | SpawnContext:
    """Context of new processes: a server with the heavy imports done, or spawning (Windows)."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def _answer(process: BaseProcess, receiver: Connection) -> str:
    try:
        failure: str = receiver.recv()
    except EOFError:
        process.join()
        return f"its process ended with status {process.exitcode}; run the study again"
    process.join()
    return failure


def _work(sender: Connection, job: Job, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the study that is interrupted stops its processes
    threading.Thread(target=_end_with_the_study, daemon=True).start()
    torch.set_num_threads(threads)
    sender.send(job.run())


@contextmanager
def processes_of(
    work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]
) -> Iterator[Iterator[tuple[str, str]]]:
    """Processes that work side by side until the context ends, and what they tell.

    Args:
        work: a function of a module; its first argument is called with each pair of texts to be told.
        arguments: the other arguments, of one process each.

    Yields:
        The pairs that any of them tells, as they come; of a process that died, ``failed`` and its status.
    """
    context = _context()
    running: dict[Connection, BaseProcess] = {}
    for own in arguments:
        receiver, sender = context.Pipe(duplex=False)
        process: BaseProcess = context.Process(target=_tell, args=(sender, work, own))
        process.start()
        sender.close()
        running[receiver] = process

    def told() -> Iterator[tuple[str, str]]:
        while running:
            for receiver in wait(list(running)):
                assert isinstance(receiver, Connection)
                try:
                    yield receiver.recv()
                except EOFError:
                    process = running.pop(receiver)
                    process.join()
                    if process.exitcode:
                        yield "failed", f"a process ended with status {process.exitcode}; repeat the command"

    try:
        yield told()
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def _tell(sender: Connection, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command that is interrupted stops its processes
    threading.Thread(target=_end_with_the_study, daemon=True).start()
    work(sender.send, *arguments)


def _end_with_the_study() -> None:
    """A study that is killed cannot stop its processes; they would go on and keep their folders locked."""
    study = multiprocessing.parent_process()
    if study is not None:
        study.join()
        os._exit(1)
