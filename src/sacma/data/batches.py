"""Batches: class-balanced draws, clips of other classes, trimming, and gathering of clips into a ``Batch``.

The protocol of TCAF and AVCA. Draws and windows are computed for all clips of a batch at once; no
Python loop goes over clips. Random draws come from a generator on the CPU, so that they do not depend on the
device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor

from sacma.errors import SacmaError, printable
from sacma.types import Batch, Sequences

if TYPE_CHECKING:
    from sacma.data.benchmark import Split
    from sacma.data.features import Track
    from sacma.options import TrainingConfig


def class_balanced(
    labels: Tensor, *, batches: int, batch_size: int, generator: torch.Generator | None = None
) -> Tensor:
    """Draw the batches of an epoch: first a class, then a clip of it, both uniformly and with replacement.

    The same random state gives the draws of the published code.

    Args:
        labels: (N,) int64, the class of each clip; classes without clips are not drawn.
        batches: number of batches.
        batch_size: clips of a batch.
        generator: random state; None takes torch's own.

    Returns:
        (batches, batch_size) int64 positions in ``labels``.

    Raises:
        SacmaError: there are no clips.
    """
    if not len(labels):
        raise SacmaError("no clips to train on; check the split's class lists against the features")
    weights = 1 / torch.bincount(labels).double()[labels]  # (N,) of one class they sum to 1
    if batches == 0:  # a method that only fits
        return torch.empty(0, batch_size, dtype=torch.long)
    rows = torch.multinomial(weights, batches * batch_size, replacement=True, generator=generator)
    return rows.view(batches, batch_size)


def other_class(labels: Tensor, chosen: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw a clip of another class for each chosen clip: first a class, then a clip of it, both uniformly.

    Args:
        labels: (N,) int64, the class of each clip.
        chosen: positions in ``labels``, any shape.
        generator: random state; None takes torch's own.

    Returns:
        Positions in ``labels``, of the shape of ``chosen``.

    Raises:
        SacmaError: fewer than two classes have clips.
    """
    _, dense, counts = labels.unique(return_inverse=True, return_counts=True)  # (C,) classes with clips
    if len(counts) < 2:
        raise SacmaError(
            f"clips of another class were asked for, but only {len(counts)} class has clips; "
            "this method needs training clips of at least two"
        )
    own = dense[chosen]
    drawn = torch.randint(len(counts) - 1, chosen.shape, generator=generator)
    drawn = drawn + (drawn >= own)  # skips the own class
    position = torch.rand(chosen.shape, generator=generator, dtype=torch.float64)
    position = (position * counts[drawn]).long()  # of the clip within its class
    first = counts.cumsum(0) - counts  # of each class in the order of classes
    return dense.argsort(stable=True)[first[drawn] + position]


class Windows(NamedTuple):
    """First steps and lengths of the windows of B clips, (B,) int64 each."""

    audio_starts: Tensor
    audio_lengths: Tensor
    video_starts: Tensor
    video_lengths: Tensor


@dataclass(frozen=True, kw_only=True)
class Trimming:
    """Trimming of long clips, as in the published TCAF code.

    Attributes:
        mode: ``max`` keeps clips whole; ``fixed`` keeps at most ``max_video`` steps of video and a number of
            audio steps that follows from it. An audio window starts with its video window, so audio is cut at
            its end where the video is not cut at its start.
        max_video: steps of video kept; the published values are 60 in training and 300 in evaluation.
        audio_len_rule: audio steps kept. ``mul``: max_video x video step x audio step, as published;
            ``div``: max_video x video step / audio step, the steps that last as long as the video's. They
            differ where an audio step is not one second.
        trim: ``random`` draws the start of a cut video, never its last window, as published; ``center``
            takes the middle.
    """

    mode: Literal["max", "fixed"] = "max"
    max_video: int = 60
    audio_len_rule: Literal["mul", "div"] = "mul"
    trim: Literal["random", "center"] = "random"

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("trimming mode", self.mode, ("max", "fixed")),
            ("audio_len_rule", self.audio_len_rule, ("mul", "div")),
            ("trim", self.trim, ("random", "center")),
        ):
            if value not in choices:
                raise SacmaError(f"{name} is {printable(value)}; it must be one of {', '.join(choices)}")
        if self.max_video < 1:
            raise SacmaError(f"max_video is {self.max_video}; at least 1 step of video must be kept")

    def max_audio(self, *, audio_step: float, video_step: float) -> int:
        """Return the number of audio steps to keep, at least 1; arguments are the seconds of a step."""
        seconds = self.max_video * video_step
        kept = seconds * audio_step if self.audio_len_rule == "mul" else seconds / audio_step
        return max(round(kept), 1)

    def windows(
        self,
        audio_lengths: Tensor,
        video_lengths: Tensor,
        *,
        audio_step: float,
        video_step: float,
        generator: torch.Generator | None = None,
        starts: Tensor | None = None,
    ) -> Windows:
        """Choose the windows of B clips.

        Args:
            audio_lengths: (B,) int64, steps of audio.
            video_lengths: (B,) int64, steps of video.
            audio_step: seconds of an audio step.
            video_step: seconds of a video step.
            generator: random state for ``random``; None takes torch's own.
            starts: (B,) starts of the video windows in place of drawn ones; ignored where nothing is cut.
        """
        whole = torch.zeros_like(video_lengths)
        if self.mode == "max":
            return Windows(whole, audio_lengths, whole, video_lengths)
        max_audio = self.max_audio(audio_step=audio_step, video_step=video_step)
        over_audio = (audio_lengths - max_audio).clamp(min=0)  # (B,) steps too many
        over_video = (video_lengths - self.max_video).clamp(min=0)
        if starts is None:
            starts = self._starts(over_video, generator)
        video_starts = torch.minimum(starts, over_video)
        along = (video_starts.double() * video_step / audio_step).round().long()  # half to even, as published
        return Windows(
            torch.minimum(along, over_audio),
            audio_lengths - over_audio,
            video_starts,
            video_lengths - over_video,
        )

    def _starts(self, over: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.trim == "center":
            return over // 2
        share = torch.rand(over.shape, generator=generator, dtype=torch.float64)  # below 1: never all of it
        return (share * over).long()


def trimming_of(config: TrainingConfig, *, training: bool) -> Trimming:
    """Random windows of the training length, or the central one of the test length."""
    return Trimming(
        mode=config.trimming,
        max_video=config.max_steps_train if training else config.max_steps_test,
        audio_len_rule=config.audio_len_rule,
        trim="random" if training else "center",
    )


def gather(
    split: Split,
    rows: Tensor,
    *,
    trimming: Trimming | None = None,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    negatives: Tensor | None = None,
    part: slice = slice(None),
) -> Batch:
    """Gather clips of a split into a batch, in the order of ``rows``.

    Args:
        split: clips, labels and classes.
        rows: (B,) int64 positions in ``split.clips``.
        trimming: what to cut; None keeps clips whole.
        generator: random state for random trimming.
        device: where the batch is to be.
        negatives: (B,) positions of the clips of other classes that go with them, or None.
        part: of the rows, to be read; draws and padding are still those of all, as several processes that
            share a batch need them.
    """
    audio, video, clips = split.features.audio, split.features.video, split.clips[rows]
    windows = (trimming or Trimming()).windows(
        audio.lengths_of(clips),
        video.lengths_of(clips),
        audio_step=audio.step_seconds,
        video_step=video.step_seconds,
        generator=generator,
    )
    labels = split.labels[rows[part]]
    batch = Batch(
        _gather(audio, clips, windows.audio_starts, windows.audio_lengths, part),
        _gather(video, clips, windows.video_starts, windows.video_lengths, part),
        labels,
        split.classes.vectors[labels],
        None
        if negatives is None
        else gather(split, negatives, trimming=trimming, generator=generator, part=part),
        None if split.features.group is None else split.features.group[clips[part]],
    )
    return batch.to(device)


def _gather(track: Track, clips: Tensor, starts: Tensor, lengths: Tensor, part: slice) -> Sequences:
    sequences = track.gather(clips[part], starts=starts[part], lengths=lengths[part])
    return replace(sequences, longest=int(lengths.max()) if len(lengths) else 0)
