"""Ends a process at one of its writes, as a kill would, and repeats what it did."""

from __future__ import annotations

import builtins
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

KILLED = 9
_CHANGES = ("fsync", "mkdir", "replace", "rename", "rmdir", "truncate", "unlink")


def killed_at_every_write(work: Callable[[Path], None], folder: Path) -> Iterator[tuple[int, Path]]:
    """Do something in a process that is killed at its first write, then at its second, until none is left.

    Args:
        work: what to do in a folder of its own.
        folder: where these folders go.

    Yields:
        The number of the write, and the folder that the killed process left.
    """
    moment, ended = 0, KILLED
    while ended == KILLED:
        place = folder / f"killed-{moment}"
        place.mkdir(parents=True)
        ended = _in_a_process(work, place, moment)
        assert ended in (0, KILLED), ended
        if ended == KILLED:
            yield moment, place
        moment += 1


def _in_a_process(work: Callable[[Path], None], place: Path, moment: int) -> int:
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        die_at(moment)
        work(place)
        os._exit(0)
    finally:
        os._exit(1)


def die_at(moment: int) -> None:
    """End this process at so many writes, synchronisations, renames and removals.

    A write is cut in the middle; what Python still holds back is lost, as in a kill.
    """
    left = moment

    def due() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    def counted(function: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if due():
                os._exit(KILLED)
            return function(*arguments, **options)

        return call

    for name in _CHANGES:
        setattr(os, name, counted(getattr(os, name)))

    class Raw(io.FileIO):
        def write(self, data: Any, /) -> int:
            if due():
                super().write(memoryview(data).cast("B")[: len(data) // 2])
                os._exit(KILLED)
            return super().write(data)

        def truncate(self, size: int | None = None, /) -> int:
            if due():
                os._exit(KILLED)
            return super().truncate(size)

    real = io.open

    def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if not set(mode) & set("wax+"):
            return real(file, mode, *arguments, **options)
        raw = Raw(file, mode.replace("b", "").replace("t", ""))
        if "b" in mode:
            return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        known = {key: options[key] for key in ("encoding", "errors", "newline") if key in options}
        return io.TextIOWrapper(io.BufferedWriter(raw), **known)

    io.open = builtins.open = opened  # type: ignore[assignment]
