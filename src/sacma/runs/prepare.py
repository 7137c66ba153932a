"""Options in, configuration and opened benchmark out: the one way to prepare a run.

The default preset depends on the number of training clips, so a configuration is complete only when its
benchmark has been opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sacma.data.benchmark import STAGES, Benchmark
from sacma.datasets import avshapes
from sacma.errors import SacmaError
from sacma.options import DataConfig
from sacma.progress import SILENT, Reporter
from sacma.runs.config import RunConfig, resolve


def prepare(options: Mapping[str, Any], reporter: Reporter = SILENT) -> tuple[RunConfig, Benchmark]:
    """Open the benchmark that ``options`` name, and complete the configuration with its size.

    Args:
        options: values by option name, from a file and the command line.
        reporter: told how rendering and importing go.

    Raises:
        SacmaError: an option is unknown or out of range, the benchmark cannot be opened, or a stage lacks
            clips.
    """
    benchmark = benchmark_of(options, reporter)
    check_stages(benchmark)
    return configure(options, benchmark), benchmark


def benchmark_of(options: Mapping[str, Any], reporter: Reporter = SILENT) -> Benchmark:
    """Open the benchmark that ``options`` name.

    Raises:
        SacmaError: an option is unknown or out of range, or the benchmark cannot be opened.
    """
    return open_benchmark(resolve(options).data, reporter)


def configure(options: Mapping[str, Any], benchmark: Benchmark) -> RunConfig:
    """The configuration of a run on a benchmark that is open already.

    Raises:
        SacmaError: an option is unknown or out of range, or stage 2 has no training clips.
    """
    return resolve(options, training_clips=len(benchmark.split("train_val")))


def check_stages(benchmark: Benchmark) -> None:
    """Make sure that all stages have clips: a missing one is better known before training.

    Raises:
        SacmaError: a class of a stage has no clip.
    """
    for stage in STAGES:
        benchmark.split(stage)


def open_benchmark(data: DataConfig, reporter: Reporter = SILENT) -> Benchmark:
    """Open the benchmark of a run; AV-Shapes is rendered first where that has not happened yet.

    Raises:
        SacmaError: no root is given, or the folder lacks something.
    """
    root = data.root
    if data.benchmark == "avshapes" and root is None:
        with reporter.counting("rendering AV-Shapes") as on_progress:
            root = str(avshapes.prepare(on_progress))
    if root is None:
        raise SacmaError(
            f"--root is missing: the folder of {data.benchmark} that holds class-split/ and features/"
        )
    with reporter.counting("importing features") as on_progress:
        return Benchmark.open(
            root,
            data.benchmark,
            data.features,
            split=data.split,
            text_alignment=data.text_alignment,
            text=data.text,
            audio_step=data.audio_step,
            video_step=data.video_step,
            on_progress=on_progress,
        )
