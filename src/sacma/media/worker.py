"""The program that decodes: ``python -m sacma.media.worker``, started by ``sacma.media.process``.

A clip is a file that somebody else made, and what reads it is a large library in C. So it is read by a
process of its own, which may crash. It takes a request a line from its standard input, JSON, and answers on
its standard output with lines of JSON, each followed by the bytes of a frame or of sound; there are no
pickles.

While it decodes it can open no file and no socket, write no file, and has limits on memory and on time. It
ends when whoever asks is gone, and when nobody has asked for a while.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import queue
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from sacma import machine
from sacma.errors import SacmaError
from sacma.media.arrays import Waveform
from sacma.media.containers import Limits
from sacma.media.reader import Reader
from sacma.media.remux import remuxed

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

IDLE = 60.0
"""Seconds without a request after which it ends."""
_FULL = 1 << 30
"""Bytes of memory that are still taken after a clip, by which it ends to make room; another one follows."""


def main() -> None:
    """Serve until standard input ends."""
    # What libraries print must not get between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asks, whose end is noticed
    requests: queue.Queue[dict[str, Any]] = queue.Queue()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(sys.stdin.buffer, requests, stop), daemon=True).start()
    _import_all()
    _lock_up()
    with suppress(queue.Empty, BrokenPipeError):
        while machine.memory_in_use()[1] < _FULL:
            request = requests.get(timeout=IDLE)
            stop.clear()
            _answer(request, answers, stop)
    os._exit(0)  # the thread that listens cannot be ended otherwise


def _listen(asked: IO[bytes], requests: queue.Queue[dict[str, Any]], stop: threading.Event) -> None:
    for line in asked:
        request = json.loads(line)
        if request["do"] == "stop":
            stop.set()
        else:
            requests.put(request)
    os._exit(0)  # nobody is left to answer, and a decoder may be at work


def _import_all() -> None:
    """Import all modules that decoding needs: later no file can be opened."""
    with suppress(ImportError):  # told when a clip is opened
        import av

        for module in pkgutil.walk_packages(av.__path__, "av."):
            if module.name.rpartition(".")[2] not in ("__main__", "datasets"):
                importlib.import_module(module.name)


def _answer(request: Mapping[str, Any], answers: IO[bytes], stop: threading.Event) -> None:
    limits = Limits(**request["limits"])
    path = Path(os.fsdecode(bytes.fromhex(request["path"])))
    reader = Reader(path, limits, **request["known"])
    try:
        _bound(limits)
        if request["do"] == "open":
            reader.open()
        elif request["do"] == "remux":
            for block in remuxed(path, limits):
                _write(answers, {"bytes": len(block)}, np.frombuffer(block, np.uint8))
        else:
            _stream(reader, request, answers, stop)
    except SacmaError as error:
        _write(answers, {"error": str(error)})
        return
    except MemoryError:
        _write(
            answers, {"error": "the decoder ran out of memory; raise the limit if the file is to be trusted"}
        )
        return
    except Exception as error:  # what a library makes of a file that nobody thought of
        _write(answers, {"error": f"cannot be decoded ({type(error).__name__}: {error}); encode it again"})
        return
    found = {key: getattr(reader, key) for key in ("seconds", "jumps", "has_audio", "has_video", "notes")}
    _write(answers, {"done": found})


def _stream(reader: Reader, request: Mapping[str, Any], answers: IO[bytes], stop: threading.Event) -> None:
    part = {"start": request["start"], "end": request["end"], "rate": request["rate"]}
    if request["do"] == "waveform":
        for block in _longer(reader.waveform(**part), request["rate"] // 2):
            _write(answers, {"samples": len(block)}, block)
            if stop.is_set():
                return
        return
    last = None
    for time, frame in reader.frames(size=request["size"], **part):
        shape = None if frame is last else frame.shape[:2]  # one that stays is not sent again
        _write(answers, {"time": time, "shape": shape}, None if frame is last else frame)
        last = frame
        if stop.is_set():
            return


def _longer(blocks: Iterable[Waveform], least: int) -> Iterator[Waveform]:
    """Join blocks of sound until each has at least ``least`` samples, because each message costs time."""
    held: list[Waveform] = []
    for block in blocks:
        held.append(block)
        if sum(map(len, held)) >= least:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def _write(answers: IO[bytes], message: Mapping[str, Any], array: np.ndarray[Any, Any] | None = None) -> None:
    answers.write(json.dumps(message).encode() + b"\n")
    if array is not None:
        answers.write(np.ascontiguousarray(array).data.cast("B"))
    answers.flush()


def _lock_up() -> None:
    """Allow this process one more open file, the clip, and no file to write."""
    if resource is None:
        return
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, free + 1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _bound(limits: Limits) -> None:
    """Limit memory and time for a request; a decoder that exceeds the time is ended by a signal."""
    if resource is None:
        return
    machine.limit_growth(limits.memory)
    # Seconds of all threads together; whoever asks counts those on the clock.
    signal.setitimer(signal.ITIMER_PROF, (limits.patience + 5) * (limits.threads or os.cpu_count() or 1))


if __name__ == "__main__":
    main()
