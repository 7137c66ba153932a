"""Renders AV-Shapes in shards of some clips, spread over the processors.

A shard is the unit of work of a process, and what an interrupted run keeps. Workers import this module, so it
must not import torch, which they do not need.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacma.datasets.avshapes.definition import (
    ListedClip,
    listed_clips,
)
from sacma.datasets.avshapes.render import render_clip
from sacma.files import replacing
from sacma.machine import processors
from sacma.media.backbones.descriptors import AudioDescriptors, VideoDescriptors

CLIPS_PER_SHARD = 24


def _shard_path(shards: Path, shard: int) -> Path:
    return shards / f"{shard:03d}.npz"


def shard_count() -> int:
    """Return the number of shards."""
    return -(-len(listed_clips()) // CLIPS_PER_SHARD)


def render_all(shards: Path, on_progress: Callable[[int, int], None] | None) -> None:
    """Render all shards that are missing, in this process and in others where they can be started.

    Args:
        shards: folder to write them to.
        on_progress: called with the clips done and all clips.
    """
    count, clips = shard_count(), len(listed_clips())
    workers = min(processors(), count)
    others = [process for worker in range(1, workers) if (process := start_worker(shards, worker, workers))]

    def report() -> None:
        if on_progress is not None:
            done = sum(_shard_path(shards, shard).is_file() for shard in range(count))
            on_progress(min(done * CLIPS_PER_SHARD, clips), clips)

    try:
        # The others go up from their own first shard. When this process is through with its share, it takes
        # from the far end what they have not come to, so that nothing waits for a slow or a dead one.
        for shard in (*range(0, count, workers), *reversed(range(count))):
            render_shard(shards, shard)
            report()
    finally:
        for process in others:
            process.kill()
            process.wait()


def start_worker(shards: Path, worker: int, workers: int) -> subprocess.Popen[bytes] | None:
    """Start a process that renders every ``workers``-th shard from ``worker`` on; None where that fails."""
    # A program of its own, not a fork: safe beside threads and devices, and scripts need no main guard.
    command = [
        sys.executable,
        "-c",
        "import sys; from sacma.datasets.avshapes.shards import work; work(sys.argv[1:])",
        str(shards),
        str(worker),
        str(workers),
        str(os.getpid()),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    quiet: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    try:
        return subprocess.Popen(command, env=environment, **quiet)
    except OSError:  # no interpreter to start, no process left: this process does it all
        return None


def work(arguments: Sequence[str]) -> None:
    """Render the shards of one process that ``start_worker`` started; stop when its parent has ended.

    Args:
        arguments: folder of the shards, number of the worker, number of workers, process id of the parent.
    """
    shards, worker, workers, parent = Path(arguments[0]), *map(int, arguments[1:])
    with suppress(KeyboardInterrupt):
        for shard in range(worker, shard_count(), workers):
            if os.getppid() != parent:
                return
            render_shard(shards, shard)


def render_shard(shards: Path, shard: int) -> None:
    """Write one shard, if it is missing: ``audio`` and ``video`` (N, D) of its clips, and their lengths."""
    target = _shard_path(shards, shard)
    if target.is_file():
        return
    start = shard * CLIPS_PER_SHARD
    described = [describe(clip) for clip in listed_clips()[start : start + CLIPS_PER_SHARD]]
    arrays: dict[str, Any] = {}
    for name, values in zip(("audio", "video"), zip(*described, strict=True), strict=True):
        arrays[name] = np.concatenate(values)
        arrays[f"{name}_lengths"] = np.array([len(value) for value in values])
    with replacing(target) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)


def describe(clip: ListedClip) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Render a clip and extract its features, audio (T, Da) and video (T, Dv)."""
    frames, fps, waveform, rate = render_clip(clip.class_name, clip.seed)
    audio = AudioDescriptors()(waveform, rate)
    video = VideoDescriptors()(frames, np.arange(len(frames)) / fps)
    return audio.values, video.values


def shard_values(shards: Path) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield the features of all clips, audio (T, Da) and video (T, Dv), in the order of ``listed_clips``."""
    for shard in range(shard_count()):
        render_shard(shards, shard)  # there already, unless another process has finished and tidied up
        with np.load(_shard_path(shards, shard), allow_pickle=False) as arrays:
            parts = [np.split(arrays[n], np.cumsum(arrays[f"{n}_lengths"])[:-1]) for n in ("audio", "video")]
        yield from zip(*parts, strict=True)
