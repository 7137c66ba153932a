"""The shapes that ``bench.py`` measures: networks of published sizes, and synthetic clips to feed them.

Clips have the lengths of the real ones, as far as they are known:
- UCF: log-normal, with UCF101's mean of 7.2 s and its longest, 71 s, as one in 13,320; nothing below 1 s;
- VGGSound: 10 s, all of them;
- ActivityNet: uniform from 10 to 225 s, so that the mean is 117 s; cut to their middle 60 steps in training
  and 300 in evaluation, as published (which cuts at random in training: the same work).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from reference import Clips, D, NetworkSizes
from sacma.data.features import Features, Track
from sacma.data.features_writer import FeaturesWriter
from sacma.types import Batch, ClassSet, Sequences


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A configuration of the paper with synthetic data of one kind.

    Attributes:
        sizes: the network.
        durations: (number of clips, generator) -> seconds of each clip.
        audio_step: seconds per step.
        video_step: seconds per step.
        classes: number of classes.
        clips: number of different clips.
        batch: clips of a training batch.
        batch_test: clips of an evaluation batch; the published value is 64, less shortens the run.
        longest_train: most steps of a clip in training, the rest is cut; None for no limit.
        longest_test: most steps of a clip in evaluation.
    """

    sizes: NetworkSizes
    durations: Callable[[int, torch.Generator], Tensor]
    audio_step: float = 1.0
    video_step: float = 1.0
    classes: int
    clips: int = 256
    batch: int = 64
    batch_test: int = 64
    longest_train: int | None = None
    longest_test: int | None = None


def ucf_durations(clips: int, generator: torch.Generator) -> Tensor:
    """Log-normal seconds with the mean of UCF101 and its longest clip as the 1 - 1/13,320 quantile."""
    # mean = exp(mu + sigma^2 / 2) and longest = exp(mu + z sigma), solved for sigma
    z, spread = 3.79, math.log(71 / 7.2)
    sigma = z - math.sqrt(z * z - 2 * spread)
    mu = math.log(7.2) - sigma**2 / 2
    return torch.exp(mu + sigma * torch.randn(clips, generator=generator)).clamp(1, 71)


def vggsound_durations(clips: int, generator: torch.Generator) -> Tensor:
    """Ten seconds each."""
    return torch.full((clips,), 10.0)


def activitynet_durations(clips: int, generator: torch.Generator) -> Tensor:
    """Uniform seconds with the mean of ActivityNet."""
    return torch.empty(clips).uniform_(10, 225, generator=generator)


SELAVI = {"audio_width": 512, "video_width": 512}
C3D_VGGISH = {"audio_width": 128, "video_width": 4096}
SHAPES = {
    "ucf": Shape(
        sizes=NetworkSizes(**SELAVI, hidden=256, depth=5, heads=8, head_width=64),
        durations=ucf_durations,
        classes=51,
    ),
    "vggsound": Shape(
        sizes=NetworkSizes(**SELAVI, hidden=128, depth=8, heads=6, head_width=128),
        durations=vggsound_durations,
        classes=276,
    ),
    "activitynet": Shape(
        sizes=NetworkSizes(**SELAVI, hidden=128, depth=8, heads=3, head_width=128),
        durations=activitynet_durations,
        classes=200,
        clips=128,
        batch_test=16,
        longest_train=60,
        longest_test=300,
    ),
    "ucf-c3d": Shape(
        sizes=NetworkSizes(**C3D_VGGISH, hidden=512, depth=6, heads=8, head_width=64),
        durations=ucf_durations,
        audio_step=0.96,
        video_step=0.64,
        classes=48,
    ),
}


def tiny(shape: Shape) -> Shape:
    """A small copy of a shape, for a smoke test."""
    widths = {"audio_width": 16, "video_width": 24, "hidden": 16, "decoder_hidden": 32, "feed_forward": 24}
    sizes = replace(shape.sizes, **widths, depth=2, heads=2, head_width=16)
    return replace(
        shape,
        sizes=sizes,
        classes=6,
        clips=24,
        batch=8,
        batch_test=8,
        longest_train=shape.longest_train and 6,
        longest_test=shape.longest_test and 30,
    )


@dataclass(frozen=True)
class Data:
    """Synthetic clips in two forms: our feature folder, and the arrays of the published loader.

    Attributes:
        features: the folder, opened.
        clips: the arrays.
        words: (K, D) class vectors of unit length.
        chosen: (B,) the clips of the batch.
    """

    features: Features
    clips: Clips
    words: Tensor
    chosen: Tensor

    @property
    def classes(self) -> ClassSet:
        """The candidates, all of them seen."""
        return ClassSet(self.features.classes, self.words, torch.ones(len(self.words), dtype=torch.bool))

    def on(self, device: torch.device) -> Data:
        """These data with the features in the memory of a GPU."""
        if device.type != "cuda":
            return self
        audio, video = self.features.audio.to(device), self.features.video.to(device)
        return replace(self, features=replace(self.features, audio=audio, video=video))

    def batch(self, clips: Tensor, longest: int | None) -> Batch:
        """A batch of clips (B,) for a method, the middle ``longest`` steps of each."""
        labels = self.features.labels[clips]
        audio = _gather(self.features.audio, clips, longest)
        video = _gather(self.features.video, clips, longest)
        return Batch(audio, video, labels, self.words[labels])


def _gather(track: Track, clips: Tensor, longest: int | None) -> Sequences:
    if longest is None:
        return track.gather(clips)
    lengths = track.lengths[clips]
    starts = (lengths - longest).clamp(min=0) // 2
    return track.gather(clips, starts=starts, lengths=lengths.clamp(max=longest))


def synthesise(shape: Shape, folder: Path, generator: torch.Generator) -> Data:
    """Write clips of this shape to ``folder`` and keep them in memory too.

    The batch is one of 101 draws: the one whose longest clip is the median.
    """
    seconds = shape.durations(shape.clips, generator)
    audio_steps = (seconds / shape.audio_step).round().clamp(min=1).long().tolist()
    video_steps = (seconds / shape.video_step).round().clamp(min=1).long().tolist()
    audio = [torch.randn(steps, shape.sizes.audio_width, generator=generator) for steps in audio_steps]
    video = [torch.randn(steps, shape.sizes.video_width, generator=generator) for steps in video_steps]
    words = nn.functional.normalize(torch.randn(shape.classes, D, generator=generator))
    labels = [clip % shape.classes for clip in range(shape.clips)]
    with FeaturesWriter(
        folder,
        [f"class {number}" for number in range(shape.classes)],
        audio_width=shape.sizes.audio_width,
        video_width=shape.sizes.video_width,
        audio_step=shape.audio_step,
        video_step=shape.video_step,
        provenance={"source": "synthetic"},
    ) as writer:
        for clip, label in enumerate(labels):
            writer.add(f"clip {clip}", label, 0, audio[clip].numpy(), video[clip].numpy())
    step = {"audio": shape.audio_step, "video": shape.video_step}
    clips = Clips(audio, video, labels, words, step)
    return Data(Features.open(folder), clips, words, _typical(torch.tensor(video_steps), shape, generator))


def _typical(lengths: Tensor, shape: Shape, generator: torch.Generator) -> Tensor:
    draws = [torch.randperm(shape.clips, generator=generator)[: shape.batch] for _ in range(101)]
    return sorted(draws, key=lambda clips: int(lengths[clips].max()))[len(draws) // 2]
