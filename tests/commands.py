"""Runs sacma's commands for tests: in this process, or in one of its own that can be killed."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import multiprocessing
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.numpy import load_file

import folders
from sacma.cli import main
from sacma.data.class_lists import PARTITIONS
from sacma.data.features import Features
from sacma.training import protocol

SMALL = (
    *("--epochs=3", "--batches-per-epoch=2", "--batch-size=8", "--learning-rate=0.003"),
    *("--width=12", "--common-width=8", "--encoder-hidden=12", "--decoder-hidden=12"),
    *("--feed-forward-hidden=12", "--depth=1", "--heads=2", "--head-width=6"),
)


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    status: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of a user's mistake."""
        assert self.status == 2, (self.status, self.out[-500:], self.err[-2000:])
        assert self.err.count("\n") == 1, self.err
        assert "Traceback" not in self.err
        return self.err.strip()


def sacma(*arguments: object) -> Outcome:
    """Run a command here."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
    return Outcome(status, out.getvalue(), err.getvalue())


def console_script(*arguments: object, cwd: Path | None = None) -> Outcome:
    """Run the installed command in a process of its own."""
    script = Path(sys.executable).with_name("sacma")
    done = subprocess.run(
        [script, *map(str, arguments)], capture_output=True, text=True, timeout=120, cwd=cwd, check=False
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def on(root: Path) -> list[str]:
    """The options that name the toy folder at ``root``."""
    return [f"--benchmark={folders.NAME}", f"--features={folders.FEATURES}", f"--root={root}"]


def train(root: Path, out: Path, *more: object) -> Outcome:
    """Train on the toy folder, small and quick; later options win."""
    return sacma("train", *on(root), f"--out={out}", *SMALL, *more)


def trained(root: Path, out: Path, *more: object) -> Path:
    """The folder of a finished run."""
    outcome = train(root, out, *more)
    assert outcome.status == 0, outcome.err
    return out


def write_official(root: Path, out: Path) -> Path:
    """The toy folder at ``root`` as the official ones are: a pickle for each class, stage and modality."""
    features = Features.open(root / "features" / folders.FEATURES)
    folder = out / "features" / folders.FEATURES
    for number, partition in enumerate(PARTITIONS):
        for label, name in enumerate(features.classes):
            clips = ((features.labels == label) & (features.partitions == number)).nonzero()[:, 0].tolist()
            for modality, track in (("audio", features.audio), ("video", features.video)):
                if clips:
                    file = folder / modality / partition / f"{name}.pkl"
                    file.parent.mkdir(parents=True, exist_ok=True)
                    values = [track.gather(torch.tensor([clip])).values.numpy() for clip in clips]
                    names = [features.names[clip] for clip in clips]
                    file.write_bytes(pickle.dumps({"features": values, "video_names": names}))
    for part in ("class-split", f"features/{folders.FEATURES}/text"):
        shutil.copytree(root / part, out / part)
    return out


# --- A process that can be killed -----------------------------------------------------------------

Fault = tuple[Any, ...]

# A server that has imported all that is slow to import, torch's own late imports among it; each of its
# children is a fresh process.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    ["sacma.cli", "sacma.training.protocol", "torch._dynamo", "torch.distributed.tensor"]
)


def start(*arguments: object, fault: Fault | None = None, log: Path | None = None) -> BaseProcess:
    """Start a command in a process of its own; what it has to say on stderr goes to ``log``.

    A fault is a function and its arguments, called there first.
    """
    process = _processes.Process(target=_work, args=([str(a) for a in arguments], fault, log))
    process.start()
    return process


def _work(arguments: list[str], fault: Fault | None, log: Path | None) -> None:
    if fault is not None:
        fault[0](*fault[1:])
    outcome = sacma(*arguments)
    if log is not None:
        log.write_text(outcome.err)
    os._exit(outcome.status)


def wait(process: BaseProcess, *, seconds: float = 60) -> int:
    """The exit status; minus the signal's number for a killed process."""
    process.join(seconds)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"still running after {seconds} s")
    return process.exitcode


def wait_until(true: Callable[[], bool], process: BaseProcess, *, seconds: float = 60) -> None:
    """Return as soon as something is true, or the process is over."""
    end = time.monotonic() + seconds
    while not true() and process.is_alive():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.001)


def die_at_write(number: int, after: bool) -> None:
    """A fault: SIGKILL just before or just after the file that is put in place as number so many."""
    replace, count = os.replace, 0

    def counting(source: Any, target: Any, **keywords: Any) -> None:
        nonlocal count
        count += 1
        if count == number and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target, **keywords)
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    os.replace = counting


def die_at_call(number: int) -> None:
    """A fault: SIGKILL at the call of a function, Python's or C's, that is number so many of a run."""

    def die(count: int) -> None:
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    _at_each_call(die)


def calls(*arguments: object) -> int:
    """How many functions a command that trains calls from the beginning of the run to its end."""
    total = 0

    def note(count: int) -> None:
        nonlocal total
        total = count

    _at_each_call(note)
    try:
        outcome = sacma(*arguments)
    finally:
        sys.setprofile(None)
    assert outcome.status == 0, outcome.err
    return total


def _at_each_call(act: Callable[[int], None]) -> None:
    """Tell ``act`` the number of each call in this thread, from the beginning of a run on."""
    numbers, begun = itertools.count(1), False

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal begun
        begun = begun or frame.f_code is protocol.run.__code__
        if begun and event in ("call", "c_call"):
            act(next(numbers))

    sys.setprofile(profile)


def limit_file_size(size: int) -> None:
    """A fault: no file can grow beyond so many bytes, as if the disk were full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


# --- What a run left ------------------------------------------------------------------------------


def contents(run: Path) -> dict[str, Any]:
    """All of a finished run that must not depend on when and where it was trained."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    weights = {part: (run / part / "model.safetensors").read_bytes() for part in (".", "stage-1")}
    return {
        "files": sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()),
        "result": (run / "result.json").read_bytes(),
        "selection": (run / "stage-1" / "selection.json").read_bytes(),
        "predictions": (run / "predictions.parquet").read_bytes(),
        "metrics": [{name: value for name, value in row.items() if name != "seconds"} for row in rows],
        "weights": weights,
    }


def result(run: Path) -> dict[str, Any]:
    """What result.json says."""
    content: dict[str, Any] = json.loads((run / "result.json").read_text())
    return content


def weights(run: Path, part: str = ".") -> dict[str, Any]:
    """The saved arrays by name; part is ``stage-1`` for those that stage 1 chose."""
    return load_file(run / part / "model.safetensors")
