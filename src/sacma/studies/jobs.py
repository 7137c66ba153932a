"""Runs in parallel processes: each in one of its own, so that one that dies takes no other with it.

The processes start from a server that has imported what is slow to import, so a short run costs no more than
its training.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path

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
    """How processes start: from a server with the heavy imports done; anew where there is none (Windows)."""
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


def _end_with_the_study() -> None:
    """A study that is killed cannot stop its processes; they would go on and keep their folders locked."""
    study = multiprocessing.parent_process()
    if study is not None:
        study.join()
        os._exit(1)
