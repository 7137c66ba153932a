"""Decoding processes (``sacma.media.worker``): start them, send them requests, read their answers.

One is started when the first clip is read, serves one stream after another, and is replaced when it died, so
that a clip that crashes or hangs the decoder costs itself alone.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError
from sacma.media.containers import Limits
from sacma.programs import environment

_PROGRAM = ("-P", "-m", "sacma.media.worker")
KEPT = 4
"""Processes that are kept when they have nothing to do; they end by themselves after a while."""
_LONGEST_LINE = 1 << 20
_MOST_SAMPLES = 1 << 26
_DRAINING = 1.0
"""Seconds to wait for a process that is to stop before it is ended."""

Answer = tuple[dict[str, Any], NDArray[Any] | None]


def ask(request: Mapping[str, Any], limits: Limits) -> Iterator[Answer]:
    """Yield the answers to a request: the message, and the frame or the samples that belong to it.

    The last one has ``done``. A process that died while it had nothing to do is replaced.

    Raises:
        SacmaError: the clip cannot be decoded; the decoder crashed, took too long or too much memory.
    """
    process = _borrow()
    try:
        yield from process.answers(request, limits)
    except _LostWhileIdle:
        process = _Process()
        yield from process.answers(request, limits)
    finally:
        _give_back(process)


class _LostWhileIdle(Exception):  # noqa: N818
    """The process ended before it got the request."""


class _Process:
    """A decoding process."""

    def __init__(self) -> None:
        try:
            self._running = subprocess.Popen(
                [sys.executable, *_PROGRAM],
                # Addresses are limited, and each thread would take its own part of them.
                env=environment() | {"MALLOC_ARENA_MAX": "2"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        except OSError as error:
            raise SacmaError(f"no process can be started to decode it ({error.strerror})") from error
        assert self._running.stdout is not None
        self._out = cast(io.FileIO, self._running.stdout)  # as there is no buffer
        _widen(self._out.fileno())
        self._held = bytearray()
        self._used = False
        self.ready = True

    @property
    def alive(self) -> bool:
        return self._running.poll() is None

    def answers(self, request: Mapping[str, Any], limits: Limits) -> Iterator[Answer]:
        """See ``ask``; the process is ``ready`` again when it has given all answers or could be stopped."""
        self.ready, before, self._used = False, self._used, True
        self._left, patience = limits.patience, limits.patience
        started = some = False
        try:
            self._send(dict(request) | {"limits": asdict(limits)})
            while True:
                message = _checked(self._line())
                started = True
                if "error" in message:
                    self.ready = True
                    raise SacmaError(str(message["error"]))
                array = self._array(message, limits)
                if "time" in message and array is None and not some:
                    raise ValueError("a frame that stays, before any")
                some = True
                if "done" in message:
                    self.ready = True
                    yield message, array
                    return
                yield message, array
        except TimeoutError:
            self.stop()
            raise SacmaError(
                f"given up after {patience:g} s of decoding; raise the limit if the file is to be trusted"
            ) from None
        except (OSError, EOFError, ValueError) as error:
            status = self.stop(grace=0.5)  # the end of its output comes first
            if before and not started and status == 0:
                raise _LostWhileIdle from None
            raise SacmaError(
                f"the decoder crashed or ran out of memory (status {status}); encode it again"
            ) from error
        finally:
            if not self.ready and self.alive:
                self._drain()

    def _drain(self) -> None:
        """Stop a request whose caller wants no more answers, so that the process is free again."""
        self._left = _DRAINING
        try:
            self._send({"do": "stop"})
            while True:
                message = _checked(self._line())
                if "error" in message or "done" in message:
                    self.ready = True
                    return
                self._array(message, None)
        except (OSError, EOFError, ValueError):
            self.stop()

    def _send(self, message: Mapping[str, Any]) -> None:
        assert self._running.stdin is not None
        self._running.stdin.write(json.dumps(message).encode() + b"\n")

    def _array(self, message: Mapping[str, Any], limits: Limits | None) -> NDArray[Any] | None:
        """Read the array that follows a line; the line gives its size."""
        if message.get("shape") is not None:
            height, width = message["shape"]
            if limits is not None and not 0 < height * width <= 4 * limits.pixels:
                raise ValueError("a frame that was not asked for")
            frame = np.empty((height, width, 3), np.uint8)
            self._read(frame.data.cast("B"))
            return frame
        if "samples" in message:
            if not 0 < message["samples"] <= _MOST_SAMPLES:
                raise ValueError("sound that was not asked for")
            samples = np.empty(message["samples"], np.float32)
            self._read(samples.data.cast("B"))
            return samples
        if "bytes" in message:
            if not 0 < message["bytes"] <= _MOST_SAMPLES:
                raise ValueError("bytes that were not asked for")
            block = np.empty(message["bytes"], np.uint8)
            self._read(block.data.cast("B"))
            return block
        return None

    def _line(self) -> bytes:
        while (end := self._held.find(b"\n")) < 0:
            if len(self._held) > _LONGEST_LINE:
                raise ValueError("a line without end")
            self._wait()
            if not (some := self._out.read(1 << 16)):
                raise EOFError
            self._held += some
        line = bytes(self._held[:end])
        del self._held[: end + 1]
        return line

    def _read(self, into: memoryview) -> None:
        some = min(len(self._held), len(into))
        into[:some] = self._held[:some]
        del self._held[:some]
        while some < len(into):
            self._wait()
            count = self._out.readinto(into[some:])
            if not count:
                raise EOFError
            some += count

    def _wait(self) -> None:
        """Wait until there is something to read; only time that is spent here counts towards the limit.

        Raises:
            TimeoutError: there is no patience left.
        """
        if not hasattr(select, "poll"):  # pipes cannot be waited for on Windows
            return
        ready = select.poll()
        ready.register(self._out, select.POLLIN | select.POLLHUP)
        begun = time.monotonic()
        some = ready.poll(max(0.0, self._left) * 1000)
        self._left -= time.monotonic() - begun
        if not some:
            raise TimeoutError

    def stop(self, grace: float = 0.0) -> int:
        """End the process, after ``grace`` seconds in which it may end by itself; return its exit status."""
        status = self._running.poll()
        if status is None and grace:
            with suppress(subprocess.TimeoutExpired):
                status = self._running.wait(grace)
        if status is None:
            self._running.kill()
            status = self._running.wait()
        for pipe in (self._running.stdin, self._running.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        return status


def _checked(line: bytes) -> dict[str, Any]:
    """Parse a line, if it is one of those that a worker writes.

    Raises:
        ValueError: it is none; the decoder may have been taken over by a clip.
    """
    try:
        message = json.loads(line)
        kinds = {key: type(value) for key, value in message.items()}
        done = message.get("done")
        fits = kinds in _MESSAGES and (done is None or {key: type(done[key]) for key in done} in _DONE)
        fits = fits and all(type(side) is int for side in message.get("shape") or (0, 0))
        fits = fits and len(message.get("shape") or (0, 0)) == 2
        fits = fits and all(type(note) is str for note in (done or {}).get("notes", ()))
    except (AttributeError, TypeError, RecursionError) as error:
        raise ValueError("no message of a worker") from error
    if not fits:
        raise ValueError("no message of a worker")
    return dict(message)


_MESSAGES: tuple[dict[str, type], ...] = (
    {"error": str},
    {"done": dict},
    {"samples": int},
    {"bytes": int},
    *({"time": number, "shape": shape} for number in (int, float) for shape in (list, type(None))),
)
_DONE: tuple[dict[str, type], ...] = tuple(
    {"seconds": seconds, "jumps": bool, "has_audio": bool, "has_video": bool, "notes": list}
    for seconds in (int, float, type(None))
)
_idle: list[_Process] = []
_lock = threading.Lock()


def _borrow() -> _Process:
    with _lock:
        while _idle:
            process = _idle.pop()
            if process.alive:
                return process
            process.stop()
    return _Process()


def _give_back(process: _Process) -> None:
    with _lock:
        if process.ready and process.alive and len(_idle) < KEPT:
            _idle.append(process)
            return
    process.stop()


def end_all() -> None:
    """End all idle decoding processes; the next request starts a new one."""
    while _idle:
        _idle.pop().stop()


_others: list[_Process] = []


def _forget() -> None:
    """Forget the processes of the parent: a forked process must not use them."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _others.extend(_idle)
    _idle.clear()


atexit.register(end_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _widen(pipe: int) -> None:
    """Let a pipe hold some frames, so that the two processes seldom wait for each other."""
    with suppress(ImportError, OSError, AttributeError):
        import fcntl

        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 1 << 20)
