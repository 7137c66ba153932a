"""Cost of extraction beside that of decoding alone, and its memory: ``python speed/extraction.py``.

Decoding alone is FFmpeg with one thread that decodes all pictures and all sound and does nothing with them.
The cost of a clip is that of the clips after the first few of a run, so that starting the processes does not
count. All is processor time of all processes. Each round decodes alone before and after it extracts, and has
its own ratio; the median of the rounds is given, as it is of how busy the processors are. Clips are made by
x264 (``films.py``), with and without pictures that no other one refers to, or named on the command line.

The film is one clip many times behind each other; its memory is the sum over the processes, in which
libraries count more than once. How busy the processors are is the system's own count, other programs' work
included; the share of ours stands beside it. It is counted from the first clip that is done to the moment
when a process finds no clip left: what the others still do then depends on the number of clips alone.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import av
import psutil  # type: ignore[import-untyped]

from films import repeated, write_clip
from sacma.files import write_text
from sacma.machine import processors
from sacma.media import workers
from sacma.media.containers import LIMITS
from sacma.media.listing import ClipFile
from sacma.media.workers import Task

RATIO, BUSY, TIMES_REAL, GROWTH = 1.25, 0.95, 20.0, 1.1
"""Targets: cost by decoding, share of the processors' time, a film's speed, memory at twice the length."""
KINDS: dict[str, dict[str, Any]] = {
    "x264": {},
    "phone": {"b_frames": 0, "group": 30, "fps": 30},
    "no-b-frames": {"b_frames": 0},
}


@dataclass(frozen=True)
class Cost:
    """Work of an extraction.

    Attributes:
        processor: seconds of the processors, all processes, their start included.
        clip: seconds of the processors for a clip, after the first ones.
        wall: seconds by the clock, from the first clip to the moment when a process finds none left.
        busy: share of the time of the processors that are used by anyone meanwhile.
        ours: the same, by our processes alone.
        memory: bytes that all processes together held at most.
    """

    processor: float
    clip: float
    wall: float
    busy: float
    ours: float
    memory: int


def decoding(path: Path) -> float:
    """Processor seconds of decoding a clip and nothing else."""
    start = time.process_time()
    with av.open(str(path)) as container:
        found = [stream for stream in container.streams if stream.type in ("audio", "video")]
        for stream in found:
            stream.codec_context.thread_count = 1
        for packet in container.demux(found):
            packet.decode()
    return time.process_time() - start


def extraction(clips: Sequence[Path], task: Task, *, jobs: int, first: int = 1) -> Cost:
    """Work of extracting clips, in that order, by so many processes.

    Args:
        clips: paths; their lengths should be alike.
        task: as of ``workers.run``.
        jobs: processes.
        first: clips after which the cost of a clip is counted.
    """
    marks: list[_Moment] = []
    with _watched() as seen:
        for outcome in workers.run((ClipFile(path, "") for path in clips), task, jobs=jobs):
            assert outcome.failure is None, outcome.failure
            marks.append(_now())
            if len(marks) == len(clips):
                break  # while the processes can still be counted
    begun, out, last = marks[0], marks[-jobs], marks[-1]
    wall = max(1e-9, out.wall - begun.wall)
    idle = (out.idle - begun.idle) / max(1e-9, out.all - begun.all)
    ours = (out.processor - begun.processor) / wall / processors()
    clip = (last.processor - marks[min(first, len(marks)) - 1].processor) / max(1, len(clips) - first)
    return Cost(last.processor, clip, wall, 1 - idle, ours, max(seen))


@dataclass(frozen=True)
class _Moment:
    wall: float
    processor: float
    idle: float
    all: float


def _now() -> _Moment:
    system = psutil.cpu_times()
    spent = 0.0
    for process in psutil.Process().children(recursive=True):
        used = process.cpu_times()
        spent += used.user + used.system
    whole = sum(system) - getattr(system, "guest", 0.0) - getattr(system, "guest_nice", 0.0)
    return _Moment(time.monotonic(), spent, system.idle + getattr(system, "iowait", 0.0), whole)


@contextmanager
def _watched() -> Iterator[list[int]]:
    """Collect the memory of all processes below this one, five times a second."""
    seen, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            held = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    held += process.memory_info().rss
                except psutil.Error:
                    continue
            seen.append(held)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def cost_of_a_clip(path: Path, task: Task, *, repeats: int, few: int = 2, many: int = 8) -> dict[str, float]:
    """Processor seconds of decoding a clip alone and of extracting it, and their ratio: medians of rounds."""
    rounds = []
    for _ in range(repeats):
        before = decoding(path)
        extracted = extraction([path] * (few + many), task, jobs=1, first=few).clip
        alone = (before + decoding(path)) / 2
        rounds.append((alone, extracted, extracted / alone))
    found = (median(values) for values in zip(*rounds, strict=True))
    return dict(zip(("decoding", "extraction", "ratio"), found, strict=True))


def _verdict(value: float, target: float, *, most: bool = False) -> str:
    kept = value <= target if most else value >= target
    return f"target {target:g}: {'reached' if kept else 'missed'}"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, 1 if a target is missed."""
    options = _parser().parse_args(arguments)
    task = Task(options.backbone, {}, LIMITS)
    found: dict[str, Any] = {"clips": {}, "backbone": options.backbone, "processors": processors()}
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        clips = {path.name: path for path in options.clips} or {
            kind: write_clip(Path(folder) / f"{kind}.mp4", seconds=options.seconds, **wanted)
            for kind, wanted in KINDS.items()
        }
        for name, path in clips.items():
            one = found["clips"][name] = cost_of_a_clip(path, task, repeats=options.repeats)
            bits = 8 * path.stat().st_size / options.seconds / 1e6
            verdict = _verdict(one["ratio"], RATIO, most=True)
            lines.append(
                f"{name} ({bits:.1f} Mbit/s): decoding alone {one['decoding']:.3f} s, extraction "
                f"{one['extraction']:.3f} s, ratio {one['ratio']:.2f} ({verdict})"
            )
            print(lines[-1], flush=True)
        path = next(iter(clips.values()))
        rounds = [
            extraction([path] * 8 * processors(), task, jobs=processors()) for _ in range(options.repeats)
        ]
        many = sorted(rounds, key=lambda cost: cost.busy)[len(rounds) // 2]
        found["many"] = asdict(many)
        lines.append(
            f"{8 * processors()} clips by {processors()} processes: processors busy {many.busy:.1%} "
            f"({_verdict(many.busy, BUSY)}), by ours {many.ours:.1%}"
        )
        print(lines[-1], flush=True)
        if options.film:
            lines += _film(path, options, task, found, Path(folder))
    if options.json:
        write_text(options.json, json.dumps(found, indent=2) + "\n")
    return any("missed" in line for line in lines)


def _film(path: Path, options: Any, task: Task, found: dict[str, Any], folder: Path) -> list[str]:
    costs = []
    for part in (0.5, 1.0):
        times = max(1, round(options.film * part / options.seconds))
        film = repeated(folder / "film.mp4", path, times)
        begun = time.monotonic()
        cost = extraction([film], task, jobs=1)
        costs.append((times * options.seconds, time.monotonic() - begun, cost))
        film.unlink()
    (half, sooner, smaller), (whole, later, larger) = costs
    speed = (whole - half) / (later - sooner)
    growth = larger.memory / smaller.memory
    found["film"] = {"seconds": whole, "times_real": speed, "memory": larger.memory, "growth": growth}
    lines = [
        f"a film of {whole / 60:.0f} minutes: {speed:.1f} times as fast as it plays "
        f"({_verdict(speed, TIMES_REAL)}), {larger.processor / whole:.4f} s of the processors for a second",
        f"its memory: {larger.memory >> 20} MiB, {growth:.2f} of that of half of it "
        f"({_verdict(growth, GROWTH, most=True)})",
    ]
    print("\n".join(lines), flush=True)
    return lines


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Cost of extraction beside decoding alone.")
    parser.add_argument("clips", nargs="*", type=Path, help="clips of --seconds; by default some are made")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a clip (10)")
    parser.add_argument("--backbone", default="lite", help="that extracts (lite)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (3)")
    parser.add_argument(
        "--film", type=float, default=0.0, metavar="SECONDS", help="length of a film, 0 for none"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
