"""Processes that turn clips into features. A clip that crashes or hangs a process costs only itself.

Each is a program of its own, ``python -m sacma.media.workers``, which reads a clip a line from its standard
input and answers with a line of JSON and the bytes of the features. When the one who asks is gone, it ends.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sacma import machine
from sacma.errors import SacmaError, printable
from sacma.media.backbones import Backbone, Steps
from sacma.media.decode import Limits
from sacma.media.extract import extract_clip
from sacma.media.listing import ClipFile
from sacma.programs import command, environment

_KEEPS_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(256 << 20)}
"""For glibc: freed memory is used again. Asking the system for it each time takes a fifth of the time."""
_AHEAD = 4
"""Clips per process that may be done before an earlier one is."""
_LONG = 60.0
"""Seconds from which on a clip may use a second processor, for decoding beside the networks."""


@dataclass(frozen=True)
class Task:
    """Settings that a worker process gets once.

    Attributes:
        backbone: name of the backbone.
        options: arguments of ``open_backbone``.
        limits: of a clip.
        seconds: of work on a clip before it is given up, for each ten minutes that it plays.
        opener: ``module:function`` that opens the backbone by its name and the options.
    """

    backbone: str
    options: Mapping[str, Any]
    limits: Limits
    seconds: float = 600.0
    opener: str = "sacma.media.backbones:open_backbone"

    def provenance(self, backbone: Backbone) -> dict[str, Any]:
        """Origin of the features that ``backbone`` makes under this task."""
        return {**backbone.provenance, **({"pictures": "key frames"} if self.limits.key_frames else {})}

    def open(self) -> Backbone:
        module, _, function = self.opener.partition(":")
        opened: Backbone = getattr(import_module(module), function)(self.backbone, **self.options)
        return opened


@dataclass(frozen=True)
class Outcome:
    """Outcome of one clip.

    Attributes:
        audio: (T, D), T = 0 where there is no sound, None where it failed.
        video: (T, D), T = 0 where there are no pictures, None where it failed.
        notes: what was wrong with it and did not stop it.
        failure: why there are no features, None where there are.
        seconds: how long the clip, or the part of it, is; None where the file does not say.
    """

    audio: NDArray[np.float32] | None = None
    video: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()
    failure: str | None = None
    seconds: float | None = None


def extracted(
    clip: ClipFile,
    backbone: Backbone,
    limits: Limits,
    *,
    on_open: Callable[[float | None], None] | None = None,
) -> Outcome:
    """Extract a clip: its features, or the reason why there are none; ``on_open`` as in ``extract_clip``."""
    try:
        made = extract_clip(
            clip.source, backbone, start=clip.start, end=clip.end, limits=limits, on_open=on_open
        )
    except SacmaError as error:
        return Outcome(failure=str(error))
    except Exception as error:  # what a library makes of a file that nobody thought of
        return Outcome(failure=f"{clip.path}: {type(error).__name__}: {error}")
    return Outcome(
        _values(made.audio, backbone.audio.width),
        _values(made.video, backbone.video.width),
        made.notes,
        seconds=made.seconds,
    )


def _values(steps: Steps | None, width: int) -> NDArray[np.float32]:
    return np.zeros((0, width), np.float32) if steps is None else steps.values


def run(clips: Iterable[ClipFile], task: Task, *, jobs: int) -> Iterator[Outcome]:
    """Yield the outcome of each clip, in the order of the clips; ``jobs`` processes work ahead.

    Raises:
        SacmaError: the backbone cannot be opened.
    """
    idle: SimpleQueue[_Process] = SimpleQueue()
    processes = [_Process(task, home) for home in _homes(jobs)]
    for process in processes:
        idle.put(process)

    def work(clip: ClipFile) -> Outcome:
        process = idle.get()
        try:
            return process.ask(clip)
        finally:
            idle.put(process)

    waiting: deque[Future[Outcome]] = deque()
    threads = ThreadPoolExecutor(jobs)
    try:
        for clip in clips:
            waiting.append(threads.submit(work, clip))
            if len(waiting) >= _AHEAD * jobs:
                yield waiting.popleft().result()
        while waiting:
            if len(waiting) <= jobs:  # some have nothing left to do, and their processors are free
                for process in processes:
                    process.leave_home()
            yield waiting.popleft().result()
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.close()


def _homes(jobs: int) -> list[frozenset[int]]:
    """Processors of each process where there is one for each, empty sets for any.

    A process and its decoder take turns more than they work at the same time. Left to the system, two pairs
    often share one processor while another is idle for some milliseconds: a twentieth of the time.
    """
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return [frozenset({one}) for one in usable] if 1 < len(usable) == jobs else [frozenset()] * jobs


class _Process:
    """A working process, started again after it was lost.

    Args:
        task: what it does.
        home: processors on which it and its decoder work, except on long clips; empty for any.
    """

    def __init__(self, task: Task, home: frozenset[int]) -> None:
        self._task, self._home = task, home
        self._running: subprocess.Popen[bytes] | None = None
        self._held: frozenset[int] = frozenset()
        self._closed = False

    def ask(self, clip: ClipFile) -> Outcome:
        """Return the outcome of one clip.

        Raises:
            SacmaError: the process does not get as far as asking for a clip.
        """
        if self._running is not None and self._running.poll() is not None:
            self.stop()  # it was lost while it had nothing to do
        process = self._running or self._start()
        watch = _Watch(process)
        watch.give(self._task.seconds)
        self._hold(process, self._home)
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            _write(process.stdin, _request(clip))
            message = _read(process.stdout)
            if "plays" in message:
                watch.give(self._task.limits.stretched(self._task.seconds, message["plays"]))
                if message["plays"] is None or message["plays"] > _LONG:
                    self._hold(process, frozenset())
                message = _read(process.stdout)
            return _read_outcome(message, process.stdout)
        except (OSError, ValueError):
            how = self.stop()
            if watch.over:
                return Outcome(failure=f"{clip.path}: given up after {watch.seconds:g} s; raise the limit")
            return Outcome(failure=f"{clip.path}: the decoder crashed or ran out of memory (status {how})")
        finally:
            watch.end()
            if watch.over:
                self.stop()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._closed:
            raise SacmaError("interrupted")
        # One thread each: processes keep the processors busy, and the features do not depend on their number.
        process = subprocess.Popen(
            [*command("sacma.media.workers"), json.dumps(asdict(self._task))],
            env=_KEEPS_MEMORY | environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._running = process
        assert process.stdout is not None
        try:
            failure = _read(process.stdout)["failure"]
        except (OSError, ValueError):
            failure = (
                f"a process for backbone {printable(self._task.backbone)} ended as soon as it was started"
            )
        if failure is not None:
            self.stop()
            raise SacmaError(failure)
        return process

    def _hold(self, process: subprocess.Popen[bytes], on: frozenset[int]) -> None:
        if on != self._held:
            self._held = on
            machine.hold(process.pid, on)

    def leave_home(self) -> None:
        """Let the process run on any processor from now on."""
        self._home, process = frozenset(), self._running
        if process is not None:
            self._hold(process, self._home)

    def close(self) -> None:
        self._closed = True
        self.stop()

    def stop(self) -> int | None:
        """End the process; return its exit status."""
        process, self._running, self._held = self._running, None, frozenset()
        if process is None:
            return None
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        return process.wait()


class _Watch:
    """Ends a process that takes too long.

    Attributes:
        seconds: that were given last.
        over: they are over, and the process was ended.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process, self._timer = process, threading.Timer(0, self._give_up)
        self.seconds, self.over = 0.0, False

    def give(self, seconds: float) -> None:
        """Give the process so many seconds from now on."""
        self.end()
        self.seconds, self._timer = seconds, threading.Timer(seconds, self._give_up)
        self._timer.start()

    def end(self) -> None:
        """Stop to watch."""
        self._timer.cancel()
        if self._timer.ident is not None:
            self._timer.join()

    def _give_up(self) -> None:
        self.over = True
        self._process.kill()


def _request(clip: ClipFile) -> dict[str, Any]:
    files = [os.fsencode(path).hex() for path in (clip.path, clip.sound) if path is not None]
    return {"files": files, "start": clip.start, "end": clip.end}


def _clip(request: Mapping[str, Any]) -> ClipFile:
    path, *sound = (Path(os.fsdecode(bytes.fromhex(name))) for name in request["files"])
    return ClipFile(path, "", request["start"], request["end"], sound=sound[0] if sound else None)


def _write(pipe: IO[bytes], message: Mapping[str, Any]) -> None:
    pipe.write(json.dumps(message).encode() + b"\n")
    pipe.flush()


def _read(pipe: IO[bytes]) -> dict[str, Any]:
    message: dict[str, Any] = json.loads(pipe.readline())
    return message


def _write_outcome(pipe: IO[bytes], outcome: Outcome) -> None:
    arrays = [array for array in (outcome.audio, outcome.video) if array is not None]
    message = {
        "failure": outcome.failure,
        "notes": outcome.notes,
        "seconds": outcome.seconds,
        "shapes": [array.shape for array in arrays],
    }
    pipe.write(json.dumps(message).encode() + b"\n" + b"".join(array.tobytes() for array in arrays))
    pipe.flush()


def _read_outcome(message: Mapping[str, Any], pipe: IO[bytes]) -> Outcome:
    notes, failure = tuple(message["notes"]), message["failure"]
    if failure is not None:
        return Outcome(notes=notes, failure=failure)
    audio, video = (
        np.frombuffer(pipe.read(4 * rows * width), np.float32).reshape(rows, width)
        for rows, width in message["shapes"]
    )
    return Outcome(audio, video, notes, seconds=message["seconds"])


def _serve(task: Task, asked: IO[bytes], answers: IO[bytes]) -> None:
    try:
        backbone = task.open()
    except SacmaError as error:
        _write(answers, {"failure": str(error)})
        return
    _write(answers, {"failure": None})

    def give(seconds: float) -> None:
        if hasattr(signal, "alarm"):  # to end as well where nobody is left to end it
            signal.alarm(round(seconds) + 10 if seconds else 0)

    def opened(plays: float | None) -> None:
        give(task.limits.stretched(task.seconds, plays))
        _write(answers, {"plays": plays})

    for line in asked:
        give(task.seconds)
        made = extracted(_clip(json.loads(line)), backbone, task.limits, on_open=opened)
        _write_outcome(answers, made)
        give(0)


if __name__ == "__main__":
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    given = json.loads(sys.argv[1])
    with suppress(KeyboardInterrupt, BrokenPipeError):
        _serve(Task(**given | {"limits": Limits(**given["limits"])}), sys.stdin.buffer, answers)
