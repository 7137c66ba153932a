"""Simulated clips, classes and feature folders for ``scaling.py`` and ``traffic.py``."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sacma.data.benchmark import Split
from sacma.data.class_lists import PARTITIONS
from sacma.data.features import Features
from sacma.data.features_writer import FeaturesWriter
from sacma.types import Batch, ClassSet, Sequences

WIDTH, TEXT_WIDTH = 512, 300


def some_classes(number: int) -> ClassSet:
    """Classes with random vectors of unit length, four in five of them seen."""
    vectors = nn.functional.normalize(torch.randn(number, TEXT_WIDTH))
    return ClassSet(tuple(map(str, range(number))), vectors, torch.arange(number) % 5 > 0)


def simulated(clips: int, steps: int, *, audio_width: int = WIDTH, video_width: int = WIDTH) -> Batch:
    """Clips of equal length."""

    def sequences(width: int) -> Sequences:
        return Sequences.from_padded(torch.rand(clips, steps, width), torch.full((clips,), steps))

    labels = torch.arange(clips) % 51
    return Batch(sequences(audio_width), sequences(video_width), labels, torch.randn(clips, TEXT_WIDTH))


def opened(folder: Path) -> Split:
    """The clips of a folder that ``write_features`` wrote, as a split of 51 classes."""
    features = Features.open(folder / "features")
    return Split("train", features, torch.arange(len(features)), features.labels, some_classes(51))


def averages(folder: Path) -> Split:
    """The clips of a folder that ``write_averages`` wrote; all classes are seen."""
    features = Features.open(folder / "features")
    count = len(features.classes)
    classes = ClassSet(features.classes, torch.randn(count, TEXT_WIDTH), torch.ones(count, dtype=torch.bool))
    return Split("train", features, torch.arange(len(features)), features.labels, classes)


def write_features(folder: Path, clips: int, *, steps: int, width: int) -> None:
    """A feature folder in our format, float16."""
    some = np.random.default_rng(0).random((64, steps, width), dtype=np.float32).astype(np.float16)
    with FeaturesWriter(
        folder,
        list(map(str, range(51))),
        audio_width=width,
        video_width=width,
        audio_step=1.0,
        video_step=1.0,
        provenance={"source": "simulated"},
        dtype=torch.float16,
    ) as writer:
        for clip in range(clips):
            writer.add(f"clip {clip}", clip % 51, 0, some[clip % 64], some[(clip + 1) % 64])


def write_averages(folder: Path, clips: int, *, classes: int, width: int) -> None:
    """A feature folder of one step a clip, float16: clips of normal noise around the mean of their class."""
    random = np.random.default_rng(0)
    means = random.standard_normal((classes, 2, width), dtype=np.float32)
    with FeaturesWriter(
        folder,
        list(map(str, range(classes))),
        audio_width=width,
        video_width=width,
        audio_step=1.0,
        video_step=1.0,
        provenance={"source": "simulated"},
        dtype=torch.float16,
    ) as writer:
        for clip in range(clips):
            noise = random.standard_normal((2, width), dtype=np.float32)
            audio, video = (means[clip % classes] + 3 * noise).astype(np.float16)
            writer.add(f"clip {clip}", clip % classes, 0, audio[None], video[None])


def write_official(root: Path, *, megabytes: int) -> None:
    """A folder like that of TCAF with class files of so many megabytes, without class lists."""
    clip = np.random.default_rng(0).random((100, WIDTH), dtype=np.float32)
    clips = max(1, megabytes * 2**20 // clip.nbytes)
    for partition in PARTITIONS:
        for modality in ("audio", "video"):
            stage = root / "features" / "f" / modality / partition
            stage.mkdir(parents=True)
            for number in range(3 if partition == PARTITIONS[0] else 1):
                features = [clip + row for row in range(clips if partition == PARTITIONS[0] else 1)]
                names = [f"{partition} {row}" for row in range(len(features))]
                content = {"features": features, "video_names": names}
                (stage / f"{number}.pkl").write_bytes(pickle.dumps(content, protocol=4))
