"""The bias from episodes within the training clips of stage 2, instead of stage 1's.

Stage 1's bias belongs to stage 1: fewer classes, and scores of another scale. An episode hides a third of
stage 2's training classes and holds back a fifth of the recordings of the others, trains the method anew on
the rest, for as many epochs as stage 1 chose, and looks for the best bias on what was hidden. The mean over
episodes is the bias on test. So methods that carry a bias over can be compared with those that set an offset
by episodes, such as KITE. No clip of the test is read, and no choice of stage 1 is changed.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator

from sacma.data.benchmark import Split
from sacma.data.groups import recordings
from sacma.errors import SacmaError
from sacma.models.base import Method
from sacma.progress import SilentTraining
from sacma.runs.config import RunConfig, method_class
from sacma.runs.records import StageSelection
from sacma.training.loop import Stage, build, train_stage
from sacma.training.scoring import evaluate_method
from sacma.types import ClassSet

EPISODES = 3
HIDDEN_CLASSES = 1 / 3
HELD_BACK = 1 / 5
_LEAST = 6  # classes, so that two are hidden


def episode_biases(
    config: RunConfig,
    split: Split,
    selection: StageSelection,
    *,
    accelerator: Accelerator,
    complete: Callable[[Method], Method],
) -> list[float]:
    """The best bias of each episode.

    Args:
        config: of the run.
        split: training clips of stage 2.
        selection: of stage 1.
        accelerator: device and precision.
        complete: gives a trained method what stage 1 fixed on validation.

    Raises:
        SacmaError: there are too few classes, a class has clips of one recording alone, or training fails.
    """
    if len(split.classes) < _LEAST:
        raise SacmaError(
            f"{len(split.classes)} training classes; --bias-from episodes needs {_LEAST}: take validation's"
        )
    biases = []
    for episode in range(EPISODES):
        training, held = episode_splits(split, seed=config.seed * EPISODES + episode)
        rates = selection.learning_rates[: selection.epochs]
        stage = Stage(2, training, held.classes, selection.epochs, learning_rates=rates)
        method = build(method_class(config.method), training, config)
        with tempfile.TemporaryDirectory(prefix="sacma-episode-") as folder:
            train_stage(
                method,
                stage,
                config=config,
                checkpoint=Path(folder) / "checkpoint.pt",
                accelerator=accelerator,
                reporter=SilentTraining(),
            )
        result, _ = evaluate_method(complete(method), held, config, bias=None)
        biases.append(result.bias)
    return biases


def mean_bias(biases: list[float]) -> tuple[float, tuple[str, ...]]:
    """The bias on test, and the notes of the result on it."""
    each = ", ".join(f"{bias:.4g}" for bias in biases)
    note = f"the bias is the mean of the best ones of {len(biases)} episodes: {each}"
    return statistics.fmean(biases), (note,)


def episode_splits(split: Split, *, seed: int) -> tuple[Split, Split]:
    """Clips to train on, and clips of hidden classes and held-back recordings to find the bias on.

    Raises:
        SacmaError: a class has clips of one recording alone.
    """
    random = np.random.default_rng(seed)
    classes = len(split.classes)
    hidden = np.zeros(classes, dtype=bool)
    hidden[random.permutation(classes)[: round(HIDDEN_CLASSES * classes)]] = True
    labels = split.labels.numpy()
    held = hidden[labels]
    groups = recordings(split.features)
    of_clip = [groups[row] for row in split.clips.tolist()]
    for label in np.flatnonzero(~hidden).tolist():
        rows = np.flatnonzero(labels == label)
        names = sorted({of_clip[row] for row in rows})
        if len(names) < 2:
            raise SacmaError(
                f"class {split.classes.names[label]} has clips of one recording alone; --bias-from episodes "
                "has to hold one back: take validation's"
            )
        back = set(random.permutation(names)[: max(1, round(HELD_BACK * len(names)))].tolist())
        held[[row for row in rows if of_clip[row] in back]] = True
    seen = torch.from_numpy(~hidden)
    candidates = ClassSet(split.classes.names, split.classes.vectors, seen)
    chosen = torch.from_numpy(held)
    place = seen.long().cumsum(0) - 1  # position of a class among those that are trained on
    training = replace(
        split,
        clips=split.clips[~chosen],
        labels=place[split.labels[~chosen]],
        classes=candidates.only(seen),
    )
    return training, replace(
        split, clips=split.clips[chosen], labels=split.labels[chosen], classes=candidates
    )
