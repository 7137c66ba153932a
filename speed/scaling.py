"""Growth of time and memory with clips, classes, steps and batch size, by simulation: a table and a plot.

One size is varied at a time, the others stay small. A point is measured in a fresh process with one thread:
the processor time of the fastest of a few repetitions, which other programs disturb little, and the largest
anonymous memory above that at the start (``RssAnon`` of Linux, the memory of a process without the pages of
mapped files, which the system can drop).

    python speed/scaling.py                 # some minutes; writes table and plot to docs/results/
    python speed/scaling.py --full          # up to 1e6 clips, 50,000 classes, 1,000 steps
    python speed/scaling.py --axis import --axis resident --full     # needs 4 GB in --folder
    python speed/scaling.py --traffic       # data that several processes exchange in a step

``import`` reads official pickles, ``resident`` trains on a float16 set with the steps of VGGSound-GZSL.
``fit`` solves closed forms on averages of 1,000 + 1,000 numbers and 500 classes, ``score`` compares clips of
256 + 256 numbers with 10,000 names. Under the table stand exponents of growth, from the smallest to the
largest size.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass, fields
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sacma.data import batches
from sacma.data.batches import class_balanced
from sacma.data.benchmark import Split
from sacma.data.official import importing as official
from sacma.files import replacing, write_text
from sacma.metrics.gzsl import best_bias, evaluate
from sacma.metrics.nearest import Nearest
from sacma.models.cosine_ridge import CosineRidge
from sacma.models.eszsl import ESZSL
from sacma.models.kite import KITE
from sacma.models.sacma import SACMA
from sacma.options import TrainingConfig
from sacma.runs.config import resolve
from sacma.training.evaluation import score
from sacma.training.loop import fit, fit_scaling
from sacma.types import ClassSet
from simulated_clips import (
    TEXT_WIDTH,
    WIDTH,
    averages,
    opened,
    simulated,
    some_classes,
    write_averages,
    write_features,
    write_official,
)
from traffic import traffic

SIZES = {
    "clips": ((1_000, 10_000, 100_000), (1_000_000,)),
    "classes": ((50, 500, 5_000), (50_000,)),
    "steps": ((10, 30, 100), (300, 1_000)),
    "batch": ((16, 64, 256), (1_024,)),
    "import": ((32, 128), (512,)),
    "resident": ((5_000,), (81_270,)),
    "fit": ((1_000, 10_000), (100_000,)),
    "score": ((1_000, 10_000), (100_000, 1_000_000)),
}
DEFAULT = ("clips", "classes", "steps", "batch")
MARK = "<!-- measured by speed/scaling.py -->"
UNITS = {"import": "MB a class file", "resident": "clips of 10 + 10 steps", "fit": "clips", "score": "clips"}
FIT_CLASSES, FIT_WIDTH = 500, 1_000
NAMES, SCORE_WIDTH = 10_000, 256


@dataclass(frozen=True)
class Point:
    """One measurement.

    Attributes:
        axis: the size that is varied.
        size: its value.
        work: the timed action.
        seconds: processor time of one thread.
        megabytes: largest anonymous memory above that at the start.
    """

    axis: str
    size: int
    work: str
    seconds: float
    megabytes: float


# --- Measurements -------------------------------------------------------------------------------


def anonymous_megabytes() -> float:
    """Memory of this process in MB, without mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


class Memory:
    """The largest anonymous memory during a watch, above that at its start."""

    @contextmanager
    def watched(self) -> Iterator[Memory]:
        self.start = self.largest = anonymous_megabytes()
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(ended,))
        watcher.start()
        try:
            yield self
        finally:
            ended.set()
            watcher.join()

    def _watch(self, ended: threading.Event) -> None:
        while not ended.wait(0.005):
            self.largest = max(self.largest, anonymous_megabytes())

    @property
    def added(self) -> float:
        return self.largest - self.start


def timed(action: Callable[[], object], repeats: int = 3) -> float:
    """Seconds of the fastest of some repetitions."""
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        action()
        times.append(time.thread_time() - start)
    return min(times)


def point(axis: str, size: int, folder: Path, number: int) -> Point | None:
    """Measurement ``number`` at one size, None after the last; ``folder`` holds what ``prepare`` wrote."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for work, action, repeats in islice(_WORK[axis](size, folder), number, None):
        with Memory().watched() as memory:
            seconds = timed(action, repeats)
        return Point(axis, size, work, seconds, memory.added)
    return None


Work = Iterator[tuple[str, Callable[[], object], int]]


def _clips(size: int, folder: Path) -> Work:
    split = opened(folder)
    rows = class_balanced(split.labels, batches=1, batch_size=64)[0]
    yield "open a set and its labels", partial(opened, folder), 3
    yield "draw an epoch of 300 batches of 64, with negatives", lambda: _draw(split), 3
    yield "load a batch", lambda: batches.gather(split, rows), 5
    labels = torch.arange(size) % 51
    distances = torch.rand(2, size, dtype=torch.float64)
    near = Nearest(distances[0], labels % 40, distances[1], 40 + labels % 11)
    classes = some_classes(51)
    yield "search the bias exactly, all metrics", lambda: _metrics(near, labels, classes), 1


def _draw(split: Split) -> Tensor:
    rows = class_balanced(split.labels, batches=300, batch_size=64)
    return batches.other_class(split.labels, rows)


def _metrics(near: Nearest, labels: Tensor, classes: ClassSet) -> object:
    bias, _ = best_bias(near, labels, classes.seen)
    return evaluate(near, labels, classes, bias=bias, bias_search="exact")


def _classes(size: int, folder: Path) -> Work:
    method, classes = SACMA(audio_width=WIDTH, video_width=WIDTH, text_width=TEXT_WIDTH), some_classes(size)
    clips = opened(folder)
    split = Split("test", clips.features, clips.clips, clips.labels % size, classes)
    yield "score 256 clips of 2 + 2 steps", lambda: score(method, split, batch_size=64), 1


def _steps(size: int, folder: Path) -> Work:
    yield "train on 4 clips", training(4, size), 1
    yield "score 4 clips", scoring(4, size), 1


def _batch(size: int, folder: Path) -> Work:
    yield "train on a batch of 10 + 10 steps", training(size, 10), 2
    yield "score a batch of 10 + 10 steps", scoring(size, 10), 2


def _import(size: int, folder: Path) -> Work:
    out = folder / "imported"
    yield (
        "import official pickles of 3 classes",
        lambda: official.import_folder(
            folder / "official", out, benchmark="toy", folder="f", audio_step=1, video_step=1
        ),
        1,
    )


def _resident(size: int, folder: Path) -> Work:
    split = opened(folder)
    options = {"benchmark": "vggsound", "feature_scaling": "standardise"}
    config = resolve({**options, "root": "."})
    method = SACMA(audio_width=WIDTH, video_width=WIDTH, text_width=TEXT_WIDTH, **config.model)
    yield "fit the scaling of the features", lambda: fit_scaling(method, split), 1
    optimisers = method.optimisers(config.training)
    generator = torch.Generator().manual_seed(0)

    def train() -> None:
        method.train()
        for rows in class_balanced(split.labels, batches=5, batch_size=64, generator=generator):
            method.step(batches.gather(split, rows), split.classes, optimisers)

    yield "train on 5 batches of 64", train, 1
    part = Split(split.stage, split.features, split.clips[:640], split.labels[:640], split.classes)
    yield "score 640 clips", lambda: score(method, part, batch_size=256), 1


def _fit(size: int, folder: Path) -> Work:
    split = averages(folder)
    for method in (KITE, ESZSL, CosineRidge):
        built = method(audio_width=FIT_WIDTH, video_width=FIT_WIDTH, text_width=TEXT_WIDTH)
        yield f"fit {method.__name__}", partial(fit, built, split, split.classes, torch.device("cpu")), 1


def _score(size: int, folder: Path) -> Work:
    clips = averages(folder)
    split = Split("test", clips.features, clips.clips, clips.labels, some_classes(NAMES))
    method = ESZSL(audio_width=SCORE_WIDTH, video_width=SCORE_WIDTH, text_width=TEXT_WIDTH)
    torch.nn.init.normal_(method.compatibility)
    yield f"score among {NAMES:,} names", lambda: score(method, split, batch_size=512), 1


_WORK: dict[str, Callable[[int, Path], Work]] = {
    "clips": _clips,
    "classes": _classes,
    "steps": _steps,
    "batch": _batch,
    "import": _import,
    "resident": _resident,
    "fit": _fit,
    "score": _score,
}


def training(clips: int, steps: int) -> Callable[[], object]:
    """A training iteration of SACMA as published for UCF-GZSL."""
    method = SACMA(audio_width=WIDTH, video_width=WIDTH, text_width=TEXT_WIDTH).train()
    optimisers = method.optimisers(TrainingConfig())
    batch, classes = simulated(clips, steps), some_classes(51)
    return lambda: method.step(batch, classes, optimisers)


def scoring(clips: int, steps: int) -> Callable[[], object]:
    """An evaluation pass among 51 classes."""
    method = SACMA(audio_width=WIDTH, video_width=WIDTH, text_width=TEXT_WIDTH).eval()
    batch, classes = simulated(clips, steps), some_classes(51)

    @torch.inference_mode()
    def distances() -> Tensor:
        return method.distances(batch, classes)

    return distances


def prepare(axis: str, size: int, folder: Path) -> None:
    """Write the data of an axis; called in a process of its own, so that its memory does not count."""
    if axis == "import":
        write_official(folder / "official", megabytes=size)
    elif axis == "resident":
        write_features(folder / "features", size, steps=10, width=WIDTH)
    elif axis == "fit":
        write_averages(folder / "features", size, classes=FIT_CLASSES, width=FIT_WIDTH)
    elif axis == "score":
        write_averages(folder / "features", size, classes=51, width=SCORE_WIDTH)
    elif axis == "clips":
        write_features(folder / "features", size, steps=2, width=16)
    elif axis == "classes":
        write_features(folder / "features", 256, steps=2, width=WIDTH)


# --- Table, plot and command line -----------------------------------------------------------------


def measure(axis: str, size: int, folder: Path) -> Iterator[Point]:
    """Prepare and measure one size, each measurement in a fresh process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sacma.models", "sacma.training.loop", "sacma.training.evaluation"])

    def apart(work: Callable[..., Any], *arguments: object) -> Any:
        with context.Pool(1) as pool:
            return pool.apply(work, arguments)

    apart(prepare, axis, size, folder)
    for number in count():
        found: Point | None = apart(point, axis, size, folder, number)
        if found is None:
            return
        yield found


def table(found: Sequence[Point]) -> str:
    """Markdown: a line for each work, with its sizes and what they take behind each other."""
    lines = ["| varied | work | size | seconds | memory, MB |", "| --- | --- | --- | --- | --- |"]
    for axis, work in dict.fromkeys((one.axis, one.work) for one in found):
        line = [one for one in found if (one.axis, one.work) == (axis, work)]
        sizes = " / ".join(f"{one.size:,}" for one in line)
        seconds = " / ".join(f"{one.seconds:.3g}" for one in line)
        memory = " / ".join(f"{one.megabytes:.0f}" for one in line)
        unit = f" {UNITS[axis]}" if axis in UNITS else ""
        lines.append(f"| {axis} | {work} | {sizes}{unit} | {seconds} | {memory} |")
    return "\n".join(lines)


def exponents(found: Sequence[Point]) -> str:
    """One line for each work measured at several sizes: the power of the size that its time grows with."""
    lines = []
    for axis, work in dict.fromkeys((one.axis, one.work) for one in found):
        line = sorted(
            (one for one in found if (one.axis, one.work) == (axis, work)), key=lambda one: one.size
        )
        first, last = line[0], line[-1]
        if last.size > first.size:
            power = math.log(last.seconds / first.seconds) / math.log(last.size / first.size)
            lines.append(
                f"{axis}, {work}: time grows with size^{power:.2f} ({first.size:,} to {last.size:,})"
            )
    return "\n".join(lines)


def as_csv(found: Sequence[Point]) -> str:
    """The points as CSV, one line each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Point)])
    writer.writerows(astuple(one) for one in found)
    return text.getvalue()


def read_csv(path: Path) -> list[Point]:
    """Read the points that ``as_csv`` wrote."""
    with path.open(newline="") as file:
        return [
            Point(row["axis"], int(row["size"]), row["work"], float(row["seconds"]), float(row["megabytes"]))
            for row in csv.DictReader(file)
        ]


def plot(found: Sequence[Point], path: Path) -> None:
    """Plot time (above) and memory (below), one column for each axis, on logarithmic scales."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    axes = list(dict.fromkeys(one.axis for one in found))
    figure, panels = pyplot.subplots(2, len(axes), figsize=(4.2 * len(axes), 7), squeeze=False)
    for column, axis in enumerate(axes):
        own = [one for one in found if one.axis == axis]
        for work in dict.fromkeys(one.work for one in own):
            line = [one for one in own if one.work == work]
            sizes = [one.size for one in line]
            panels[0, column].loglog(sizes, [one.seconds for one in line], "o-", label=work)
            panels[1, column].loglog(sizes, [max(one.megabytes, 0.1) for one in line], "o-", label=work)
        panels[0, column].set_title(UNITS.get(axis, axis))
        panels[0, column].legend(fontsize=7)
        for panel in panels[:, column]:
            panel.grid(visible=True, alpha=0.3)
    panels[0, 0].set_ylabel("seconds")
    panels[1, 0].set_ylabel("anonymous memory, MB")
    figure.tight_layout()
    with replacing(path) as partial_path:
        figure.savefig(partial_path, dpi=110, format="png")


def _insert(measured: str, page: Path) -> None:
    """Replace the table between the two marks of a page, if it has them."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    before, mark, rest = text.partition(MARK)
    if mark:
        after = rest.partition(MARK)[2]
        write_text(page, f"{before}{MARK}\n\n{measured}\n\n{MARK}{after}")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="how time and memory grow")
    parser.add_argument("--axis", action="append", choices=list(SIZES), help="may be repeated")
    parser.add_argument("--full", action="store_true", help="the largest sizes too")
    parser.add_argument("--sizes", type=int, nargs="+", help="these sizes instead, for all axes named")
    parser.add_argument("--out", type=Path, default=Path("docs/results"), help="of scaling.csv and images/")
    parser.add_argument("--folder", type=Path, help="where simulated sets are written, for a while")
    parser.add_argument("--traffic", action="store_true", help="bytes between processes instead")
    options = parser.parse_args(arguments)
    if options.traffic:
        print(traffic())
        return 0
    target = options.out / "scaling.csv"
    axes = options.axis or DEFAULT
    kept = [one for one in read_csv(target) if one.axis not in axes] if target.exists() else []
    found: list[Point] = []
    for axis in axes:
        usual, large = SIZES[axis]
        for size in options.sizes or (usual + large if options.full else usual):
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                for one in measure(axis, size, Path(folder)):
                    found.append(one)
                    print(table([one]).splitlines()[-1], flush=True)
    order = list(dict.fromkeys((one.axis, one.work) for one in kept + found))
    everything = sorted(
        kept + found,
        key=lambda one: (list(SIZES).index(one.axis), order.index((one.axis, one.work)), one.size),
    )
    write_text(target, as_csv(everything))
    _insert(table(everything), options.out / "scaling.md")
    if drawn := [one for one in everything if one.axis in DEFAULT]:
        plot(drawn, options.out / "images" / "scaling.png")
    print(table(everything))
    print(exponents(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
