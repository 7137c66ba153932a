"""Clips to features over Ray Data, for many machines: https://docs.ray.io/en/latest/data/data.html.

Where ``RAY_ADDRESS`` is set, that cluster does the work, else this machine. All machines must have this
package and see the clips under the same paths. A machine that is lost costs nothing but time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sacma.errors import requires
from sacma.media.listing import ClipFile
from sacma.media.workers import Outcome, Task, extracted

_BLOCKS = 4096
"""Pieces that the list of clips is cut into at most; a piece that is lost is done again as a whole."""


class _Extractor:
    """State of one process of the cluster: the backbone, loaded once."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._backbone = task.open()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        clip = ClipFile(Path(os.fsdecode(row["path"])), "", *(_time(row[key]) for key in ("start", "end")))
        outcome = extracted(clip, self._backbone, self._task.limits)
        arrays = {"audio": outcome.audio, "video": outcome.video}
        return {
            "failure": outcome.failure or "",
            "notes": "\n".join(outcome.notes),
            "seconds": _number(outcome.seconds),
            **{kind: b"" if array is None else array.tobytes() for kind, array in arrays.items()},
            **{f"{kind}_width": 0 if array is None else array.shape[1] for kind, array in arrays.items()},
        }


def run(clips: Sequence[ClipFile], task: Task, *, jobs: int | None = None) -> Iterator[Outcome]:
    """Yield the outcome of each clip, in the order of the clips.

    Args:
        clips: the clips.
        task: backbone and limits; the limit on the time of a clip does not apply here.
        jobs: processes of the cluster; by default up to one a processor.

    Raises:
        SacmaError: Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with requires("dist"):
        import ray
        import ray.data
    if not ray.is_initialized():
        here: dict[str, Any] = {}
        if "RAY_ADDRESS" not in os.environ:
            # Named local: Ray would join a cluster that somebody started here, or look for one that is gone.
            here = {"address": "local", "num_cpus": jobs, "include_dashboard": False}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **here)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    rows = [
        {"path": os.fsencode(clip.path), "start": _number(clip.start), "end": _number(clip.end)}
        for clip in clips
    ]
    processes = jobs or max(1, int(ray.cluster_resources().get("CPU", 1)))
    pool = ray.data.ActorPoolStrategy(min_size=1, max_size=processes)
    made = ray.data.from_items(rows, override_num_blocks=min(len(rows), _BLOCKS)).map(
        _Extractor, fn_constructor_args=(task,), compute=pool, num_cpus=1
    )
    for row in made.iter_rows():
        yield _outcome(row)


def _outcome(row: dict[str, Any]) -> Outcome:
    notes = tuple(row["notes"].split("\n")) if row["notes"] else ()
    if row["failure"]:
        return Outcome(failure=row["failure"], notes=notes)
    audio, video = (
        np.frombuffer(row[kind], np.float32).reshape(-1, row[f"{kind}_width"]) for kind in ("audio", "video")
    )
    return Outcome(audio, video, notes, seconds=_time(row["seconds"]))


def _number(time: float | None) -> float:
    """Replace None by NaN, because a column of numbers cannot hold None."""
    return np.nan if time is None else time


def _time(number: float) -> float | None:
    return None if np.isnan(number) else number
