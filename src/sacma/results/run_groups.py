"""Finished runs as the report needs them: read, checked, and grouped by all options but the seed."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sacma.errors import SacmaError, printable
from sacma.files import read_json
from sacma.frozen.leakage import Overlap
from sacma.metrics.gzsl import ACCURACIES, seen_unseen_curve
from sacma.metrics.nearest import Nearest
from sacma.metrics.rejection import auroc
from sacma.progress import EpochRow
from sacma.runs.config import RunConfig, method_class
from sacma.runs.folder import RunFolder
from sacma.runs.records import RunResult
from sacma.training.deployment import Deployment

SHOWN = {**ACCURACIES, "AUSUC": "ausuc"}
"""Column of the report -> field of ``GZSLResult``."""


@dataclass(frozen=True)
class Run:
    """The files of a finished run.

    Attributes:
        folder: the run folder.
        config: its configuration.
        result: content of result.json.
        epochs: rows of metrics.jsonl; none for imported weights.
        predictions: columns of predictions.parquet.
        environment: content of environment.json; empty if it cannot be read.
    """

    folder: RunFolder
    config: RunConfig
    result: RunResult
    epochs: Sequence[EpochRow]
    predictions: Mapping[str, Sequence[Any]]
    environment: Mapping[str, Any]

    @property
    def seed(self) -> int:
        """The seed of weights, batches and dropout."""
        return self.config.seed

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes of the test clips and their nearest classes, in ascending order."""
        columns = (self.predictions[name] for name in ("class", "nearest_seen", "nearest_unseen"))
        return tuple(sorted({name for column in columns for name in column if name is not None}))

    @cached_property
    def seen(self) -> dict[str, bool]:
        """Class -> True if it is seen."""
        known = dict(zip(self.predictions["class"], self.predictions["seen"], strict=True))
        known |= dict.fromkeys(filter(None, self.predictions["nearest_seen"]), True)
        return known | dict.fromkeys(filter(None, self.predictions["nearest_unseen"]), False)

    @cached_property
    def scores(self) -> tuple[Nearest, Tensor, Tensor]:
        """Arguments of the metrics: the nearest classes of N clips, their labels (N,), and seen (K,)."""
        position = {name: place for place, name in enumerate(self.classes)}

        def placed(column: str) -> Tensor:
            return torch.tensor([position.get(name, -1) for name in self.predictions[column]])

        def distances(column: str) -> Tensor:
            values = [math.inf if value is None else value for value in self.predictions[column]]
            return torch.tensor(values, dtype=torch.float64)

        nearest = Nearest(
            distances("nearest_seen_distance"),
            placed("nearest_seen"),
            distances("nearest_unseen_distance"),
            placed("nearest_unseen"),
        )
        return nearest, placed("class"), torch.tensor([self.seen[name] for name in self.classes])

    @cached_property
    def rejection(self) -> dict[str, float]:
        """Area under the ROC curve of "none of these", with the seen or the unseen names as candidates."""
        nearest, labels, seen = self.scores
        of_seen = seen[labels]
        return {
            "seen": auroc(nearest.seen_distance, of_seen),
            "unseen": auroc(nearest.unseen_distance, ~of_seen),
        }

    @property
    def test_clips(self) -> tuple[Any, ...]:
        """Benchmark, split and test clips: two runs with equal ones can be compared."""
        clips = sorted(zip(self.predictions["clip"], self.predictions["class"], strict=True))
        return self.result.benchmark, self.result.split, tuple(clips)

    def measure(self, name: str, part: str = "test") -> float:
        return float(getattr(getattr(self.result, part), SHOWN[name]))


@dataclass(frozen=True)
class RunGroup:
    """Runs that differ by their seed.

    Attributes:
        label: the method, and the options that distinguish it from other groups.
        runs: one or more, in order of their seeds.
    """

    label: str
    runs: tuple[Run, ...]

    def values(self, name: str, part: str = "test") -> dict[int, float]:
        """Seed -> value of a column of ``SHOWN``, as a fraction."""
        return {run.seed: run.measure(name, part) for run in self.runs}


def read_run(path: Path) -> Run:
    """Read a finished run.

    Raises:
        SacmaError: the run is not finished, a file is damaged, or the files contradict each other.
    """
    folder = RunFolder.open(path, finished=True)
    try:
        environment = read_json(path / "environment.json")
    except SacmaError:  # nothing but a list on the page needs it
        environment = {}
    run = Run(folder, folder.config(), folder.result(), folder.metrics(), folder.predictions(), environment)
    for row in run.epochs:
        if row.validation and (missing := set(ACCURACIES.values()) - row.validation.keys()):
            raise SacmaError(
                f"{path / 'metrics.jsonl'} is damaged: validation lacks {min(missing)}; remove the file, the "
                "run can do without"
            )
    if unknown := next((name for name in run.predictions["prediction"] if name not in run.seen), None):
        raise SacmaError(
            f"{path / 'predictions.parquet'} is damaged: the prediction {printable(unknown)} is "
            "neither the class "
            "of a clip nor a nearest one; train again with --force"
        )
    nearest, labels, seen = run.scores
    curve = seen_unseen_curve(nearest, labels, seen)
    area, stored = torch.trapezoid(curve.seen, curve.unseen).item(), run.result.test.ausuc
    if not abs(area - stored) < 1e-6:
        raise SacmaError(
            f"{path}: predictions.parquet has an AUSUC of {area:.4f}, result.json of {stored:.4f}; they are "
            "not of the same run, train again with --force"
        )
    return run


def find_runs(path: Path) -> list[Path]:
    """The run folders of a path: the path itself, or those up to two levels below.

    Raises:
        SacmaError: there are none.
    """
    if not path.is_dir():
        raise SacmaError(f"{path}: no such run folder")
    if (path / "config.yaml").is_file():
        return [path]
    found = [config.parent for depth in ("*", "*/*") for config in path.glob(f"{depth}/config.yaml")]
    if not found:
        raise SacmaError(f"{path} has no run in it; name a run folder, or a folder of seeds or methods")
    return sorted(found)


def collect(paths: Sequence[Path]) -> tuple[list[RunGroup], list[str]]:
    """The groups of all runs below ``paths``, and a note for each run that is left out.

    Raises:
        SacmaError: there is no run, or none can be read.
    """
    runs: list[Run] = []
    notes: list[str] = []
    for folder in dict.fromkeys(found.resolve() for path in paths for found in find_runs(path)):
        try:
            runs.append(read_run(folder))
        except SacmaError as error:
            notes.append(f"Left out: {error}")
    if not runs:
        raise SacmaError("; ".join(notes).replace("Left out: ", "").strip())
    groups: dict[tuple[Any, ...], dict[int, Run]] = defaultdict(dict)
    for run in runs:
        seeds = groups[_identity(run)]
        if run.seed in seeds:
            notes.append(f"Left out: {run.folder.path} repeats {seeds[run.seed].folder.path}")
        seeds.setdefault(run.seed, run)
    ordered = [tuple(seeds[seed] for seed in sorted(seeds)) for seeds in groups.values()]
    ordered.sort(key=lambda members: members[0].config.method != "sacma")  # stable: the rest as given
    return [RunGroup(label, members) for label, members in zip(_labels(ordered), ordered, strict=True)], notes


def _identity(run: Run) -> tuple[Any, ...]:
    """All options except the seed and the folder of the data, and the test clips."""
    options = replace(run.config, seed=0, data=replace(run.config.data, root=None)).options()
    return (*sorted((name, str(value)) for name, value in options.items()), run.test_clips)


def _labels(groups: Sequence[Sequence[Run]]) -> list[str]:
    """The method, its variant where it is not the default, the benchmark where there are several test sets,
    and the options in which namesakes differ.
    """
    firsts = [members[0] for members in groups]
    several = len({run.test_clips for run in firsts}) > 1
    tests = [f" on {run.result.benchmark} ({len(run.test_clips[-1])} test clips)" for run in firsts]
    plain = [
        _plain_label(run.config) + (test if several else "") for run, test in zip(firsts, tests, strict=True)
    ]
    options = [
        run.config.options() | {"root": None, "seed": None, "text": Path(run.result.text).name}
        for run in firsts
    ]
    labels = []
    for label, own in zip(plain, options, strict=True):
        alike = [other for name, other in zip(plain, options, strict=True) if name == label]
        differing = [key for key in own if len({str(other.get(key)) for other in alike}) > 1]
        shown = ", ".join(f"{key} {own[key]}" for key in differing[:3])
        labels.append(f"{label}, {shown}" if shown else label)
    return labels


def _plain_label(config: RunConfig) -> str:
    default = next(iter(method_class(config.method).VARIANTS))
    return config.method if config.variant == default else f"{config.method} ({config.variant})"


def mean_and_values(values: Iterable[float]) -> dict[str, Any]:
    given = list(values)
    spread = statistics.stdev(given) if len(given) > 1 else None
    return {"mean": statistics.fmean(given), "std": spread, "values": given}


def overlap_of(run: Run) -> Overlap | None:
    """Overlap of the training data of the features' encoders with the test; None where it is not known."""
    try:
        return Deployment.read(run.folder.path).overlap(run.result.split)
    except SacmaError:
        return None


def made_up(group: RunGroup) -> str:
    """Note for readers about data that are not real; empty for real data, and where it is not known."""
    run = group.runs[0]
    if run.result.benchmark == "avshapes":
        return "AV-Shapes is rendered by sacma itself to test the software"
    try:
        provenance = Deployment.read(run.folder.path).provenance
    except SacmaError:
        return ""
    if provenance.get("simulated") is True:
        return f"The features of {run.result.benchmark} are simulated, drawn around its class vectors"
    return ""


def settings_of(group: RunGroup) -> str:
    """Features, class vectors, bias search and preset of a group in words."""
    result = group.runs[0].result
    return (
        f"{result.features} features ({result.feature_scaling}), {result.text_alignment} class "
        f"vectors ({result.text}), {result.bias_search} bias search, preset {result.preset}"
    )
