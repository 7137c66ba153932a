"""Methods over many random class splits of one folder; ``sacma.results.draws`` makes the table.

A result on one split of few classes says little: another choice of unseen classes moves it more than another
seed or another method does. So every row of a study runs on many draws of the classes, and the first row is
compared with each of the others: the mean over draws of its figure less theirs, with an interval of
Student's t over draws. Draws share classes and clips, so it speaks of other splits of the same data.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sacma.data.benchmark import Benchmark
from sacma.data.class_lists import PARTITIONS, write_class_split
from sacma.data.groups import read_groups, recordings, with_groups
from sacma.data.layout import Layout
from sacma.datasets.own_clips import class_partitions, write_features
from sacma.errors import SacmaError
from sacma.files import replacing
from sacma.frozen.leakage import Overlap, overlap
from sacma.metrics.gzsl import ACCURACIES
from sacma.progress import SILENT, Reporter
from sacma.runs.config import method_class
from sacma.runs.prepare import benchmark_of
from sacma.studies.choice import run_chosen
from sacma.studies.jobs import in_words
from sacma.studies.study import Row, why_absent
from sacma.training.evaluation import one_step_note

FIGURES = {**ACCURACIES, "AUSUC": "ausuc"}
HELD_OUT = 0.1  # of the recordings of a seen class for validation, and as many for the test
LEAST_CLIPS = 3
TEST = ("stage_2_test_seen", "stage_2_test_unseen")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Numbers of classes in a draw.

    Attributes:
        train: seen classes of stage 1.
        val: unseen classes of stage 1, which stage 2 trains on as well.
        test: unseen classes of stage 2.
    """

    train: int
    val: int
    test: int


def chosen_sizes(train: int | None, val: int | None, test: int | None) -> Sizes | None:
    """The sizes that a user gives; None for a folder's own, where none is given.

    Raises:
        SacmaError: some are given and others not.
    """
    if train is None and val is None and test is None:
        return None
    if train is None or val is None or test is None:
        raise SacmaError("--train, --val and --test go together; give all three, or none")
    return Sizes(train=train, val=val, test=test)


def sizes_of(benchmark: Benchmark) -> Sizes:
    """The sizes of a folder's own split."""
    of = {partition: len(names) for partition, names in benchmark.partition_classes.items()}
    return Sizes(train=of["stage_1_train"], val=of["stage_1_val_unseen"], test=of["stage_2_test_unseen"])


def draw(benchmark: Benchmark, sizes: Sizes, *, seed: int, without_test: bool = False) -> dict[int, str]:
    """Row of a clip -> its partition, for a random choice of classes and of the clips held out.

    The same for the same seed. Clips of one group, and parts of one file, stay together.
    Which classes and clips the folder itself holds out plays no part, but for ``without_test``.

    Args:
        benchmark: to draw from.
        sizes: numbers of classes.
        seed: of the choice.
        without_test: classes and clips of the folder's own test are left out, so that it stays unread.

    Raises:
        SacmaError: there are not enough classes, or a class has too few clips.
    """
    if min(sizes.train, sizes.val, sizes.test) < 1:
        raise SacmaError(f"{sizes}: expected at least one class each")
    features, names = benchmark.features, benchmark.classes
    held = TEST if without_test else ()
    if without_test:
        of_test = set(benchmark.partition_classes["stage_2_test_unseen"])
        names = tuple(name for name in names if name not in of_test)
    wanted = sizes.train + sizes.val + sizes.test
    if wanted > len(names):
        raise SacmaError(
            f"{features.path}: {wanted} classes are to be drawn, but there are {len(names)}"
            + (" outside of the test; give --train, --val and --test" if without_test else "")
        )
    random = np.random.default_rng(seed)
    groups = ["train"] * sizes.train + ["val_unseen"] * sizes.val + ["unseen"] * sizes.test
    drawn = dict(zip(random.permutation(names).tolist(), groups, strict=False))
    groups_of = recordings(features)
    usable = ~np.isin(features.partitions.numpy(), [PARTITIONS.index(name) for name in held])
    labels = np.where(usable, features.labels.numpy(), -1)
    partitions: dict[int, str] = {}
    for name, group in sorted(drawn.items()):
        rows = np.flatnonzero(labels == features.classes.index(name)).tolist()
        if len({groups_of[row] for row in rows}) < LEAST_CLIPS:
            raise SacmaError(
                f"{features.path}: class {name} has clips of fewer than {LEAST_CLIPS} recordings, too few"
            )
        partitions |= class_partitions(rows, groups_of, group, HELD_OUT, random)
    return partitions


def write(benchmark: Benchmark, partitions: Mapping[int, str], out: Path) -> None:
    """Write a draw as a folder: class lists, class vectors, and a copy of the clips.

    Args:
        benchmark: that was drawn from.
        partitions: what ``draw`` gave.
        out: the new folder; it opens under the same names of benchmark and features, as split main.

    Raises:
        SacmaError: ``out`` is there already, or the disk is full.
    """
    features, folder = benchmark.features, benchmark.features.path.name
    names = Layout.find(benchmark.root, benchmark.name, benchmark.split_name).text_names
    once = Counter(features.names)  # the source may have a name in several partitions
    clips = {
        row: (
            features.names[row] if once[features.names[row]] == 1 else f"{row}/{features.names[row]}",
            features.classes[int(features.labels[row])],
            partition,
        )
        for row, partition in sorted(partitions.items())
    }
    with replacing(out) as partial:
        write_features(partial / "features" / folder, features, clips, features.classes)
        text = benchmark.root / "features" / folder / "text"
        shutil.copytree(text, partial / "features" / folder / "text")
        text_names = {name: names.get(name, name) for name in features.classes}
        groups = features.groups()
        drawn_groups = [groups[row] for row in clips]
        lists = partial / "class-split"
        write_class_split(lists, benchmark.name, text_names, list(clips.values()), drawn_groups)


@dataclass(frozen=True)
class DrawnRow:
    """Results of a row over the draws.

    Attributes:
        row: which.
        figures: name of a figure -> its mean over seeds, one a draw, as fractions.
    """

    row: Row
    figures: Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Drawn:
    """Results of all rows over the draws.

    Attributes:
        rows: in the order given.
        notes: what a reader of the figures has to know.
        overlap: of the training data of the features' encoders with the classes, each of which is unseen in
            some draw.
    """

    rows: Sequence[DrawnRow]
    notes: Sequence[str]
    overlap: Overlap | None = None


def run_draws(
    rows: Sequence[Row],
    given: Mapping[str, Any],
    *,
    sizes: Sizes | None,
    first: int,
    draws: int,
    like: str,
    seeds: int,
    jobs: int,
    out: Path,
    reporter: Reporter = SILENT,
    groups: Path | None = None,
    group_column: str = "group",
    without_test: bool = False,
    choices: Sequence[Mapping[str, Any]] = (),
) -> Drawn:
    """Run rows on draws; finished runs are kept, what was broken off continues.

    Args:
        rows: to run.
        given: options for all rows: benchmark, features, root.
        sizes: classes of a draw; those of the folder's own split where None.
        first: seed of the first draw; the others count on from it.
        draws: how many.
        like: ``published`` or ``ours``.
        seeds: of each row on each draw.
        jobs: processes at a time.
        out: a draw and its runs are in ``out/draw-SEED``.
        reporter: told of each run that ends.
        groups: table of the groups of clips, as ``sacma.data.groups.read_groups`` reads it; those of the
            folder by default.
        group_column: its column of the groups.
        without_test: draw from classes and clips outside of the folder's own test alone.
        choices: options of which each row takes those that are best on the validation of a draw.

    Raises:
        SacmaError: fewer than one draw, a draw is not possible, or a row fails.
    """
    if draws < 1:
        raise SacmaError(f"--draws is {draws}; it must be at least 1")
    source = benchmark_of(given, reporter)
    if groups is not None:
        grouped = with_groups(source.features, read_groups(groups, group_column), source=groups)
        source = replace(source, features=grouped)
    sizes = sizes or sizes_of(source)
    # A draw is in our own format: it says itself how long a step is.
    options = {key: value for key, value in given.items() if key not in ("split", "audio_step", "video_step")}
    rows = [row for row in rows if not why_absent(row, options, source)]
    figures: list[list[Mapping[str, float]]] = [[] for _ in rows]
    for number, seed in enumerate(range(first, first + draws), start=1):
        began = time.monotonic()
        folder = out / f"draw-{seed}"
        if not (folder / "data").exists():
            drawn = draw(source, sizes, seed=seed, without_test=without_test)
            write(source, drawn, folder / "data")
        setting = {**options, "root": str(folder / "data")}
        (result,) = run_chosen(
            rows, [setting], choices, like=like, seeds=seeds, jobs=jobs, out=folder, reporter=reporter
        )
        for of_row, found in zip(figures, result.rows, strict=True):
            if found.summary is None:
                raise SacmaError(f"draw {seed}, {found.row.label}: {found.failure}")
            of_row.append(found.summary.test.mean)
        # By the last draw: those before it may have been finished by an earlier call.
        took = time.monotonic() - began
        left = f"{in_words(took * (draws - number))} for the others" if number < draws and took > 1 else ""
        reporter.say(f"draw {number} of {draws} done{left}")
    done = [
        DrawnRow(row, {name: [mean[key] for mean in means] for name, key in FIGURES.items()})
        for row, means in zip(rows, figures, strict=True)
    ]
    methods = {row.label: method_class(str(row.options["method"])) for row in rows}
    note = one_step_note(methods, source.features)
    shared = overlap(
        source.features.provenance,
        benchmark=source.name,
        features=str(given["features"]),
        split="draws",
        unseen=source.classes,
    )
    return Drawn(done, [note] if note else [], shared)
