"""Input of a method: packed sequences, a batch of them, and the candidate classes.

Sequences are packed: the valid steps of all clips stand one after another, without padding. A linear layer
then works on real steps alone (with the lengths of UCF101 a padded batch is seven eighths padding), and a
clip without one of its modalities is simply a length of zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor


def _mover(device: torch.device | str) -> Callable[[Tensor], Tensor]:
    """Moves tensors; to a GPU without waiting for it, which is safe in that direction."""
    waits = torch.device(device).type != "cuda"
    return lambda tensor: tensor.to(device, non_blocking=not waits)


@dataclass(frozen=True)
class Sequences:
    """The sequences of one modality for B clips, N steps in all.

    Attributes:
        values: (N, D) features, the steps of clip 0 first, then those of clip 1, and so on.
        lengths: (B,) int64, steps per clip; 0 where the clip lacks the modality. Sums to N.
        seconds: (N,) time of each step, in seconds from the start of its sequence.
        longest: the largest of ``lengths``, kept on the host so that padding needs no synchronisation. Where
            several processes share a batch, the largest of all of them.
        host_lengths: ``lengths`` in the memory of the host, where these are on a GPU and this is known.
    """

    values: Tensor
    lengths: Tensor
    seconds: Tensor
    longest: int
    host_lengths: Tensor | None = None

    @classmethod
    def from_padded(cls, values: Tensor, lengths: Tensor, seconds: Tensor | None = None) -> Sequences:
        """Pack (B, T, D) values; ``seconds`` is (B, T), or None for 0, 1, 2, ... seconds."""
        steps = torch.arange(values.shape[1], device=values.device)
        if seconds is None:
            seconds = steps.to(values.dtype).expand(values.shape[:2])
        valid = steps < lengths[:, None]  # (B, T)
        longest = int(lengths.max()) if len(lengths) else 0
        return cls(values[valid], lengths, seconds[valid].to(values.dtype), longest)

    @property
    def on_host(self) -> Tensor:
        """(B,) the lengths in the memory of the host, without waiting for a GPU where they are kept there."""
        return self.lengths.cpu() if self.host_lengths is None else self.host_lengths

    @property
    def places(self) -> Tensor:
        """(B,) rows of ``values`` that belong to each clip: its steps, and no padding."""
        return self.lengths

    @cached_property
    def clip(self) -> Tensor:
        """(N,) position in the batch of the clip that each step belongs to."""
        rows = torch.arange(len(self.lengths), device=self.lengths.device)
        return torch.repeat_interleave(rows, self.lengths, output_size=len(self.values))

    @cached_property
    def step(self) -> Tensor:
        """(N,) position of each step within its own sequence: 0, 1, 2, ..."""
        first = self.lengths.cumsum(0) - self.lengths
        return torch.arange(len(self.values), device=self.lengths.device) - first[self.clip]

    @cached_property
    def valid(self) -> Tensor:
        """(B, T) bool, T = ``longest``: True at real steps, the mask that belongs to ``padded``."""
        return torch.arange(self.longest, device=self.lengths.device) < self.lengths[:, None]

    def padded(self, values: Tensor | None = None) -> Tensor:
        """(B, T, D): ``values`` (N, D), by default our own, with zeros after the end of each sequence."""
        values = self.values if values is None else values
        out = values.new_zeros(len(self.lengths), self.longest, *values.shape[1:])
        out[self.clip, self.step] = values
        return out

    def mean(self) -> Tensor:
        """(B, D): the average over the steps of each clip; zeros where there are none."""
        total = self.values.new_zeros(len(self.lengths), self.values.shape[1])
        total = total.index_add(0, self.clip, self.values)
        return total / self.lengths.clamp(min=1)[:, None]

    def averaged(self) -> Sequences:
        """One step a clip, at time 0: the average over its steps; none where there are none."""
        has = self.lengths > 0
        mean = self.mean()[has]
        return Sequences(mean, has.to(self.lengths.dtype), mean.new_zeros(len(mean)), min(1, self.longest))

    def with_values(self, values: Tensor) -> Sequences:
        """The same steps with other features, (N, D')."""
        return replace(self, values=values)

    def by_index(self) -> Sequences:
        """The same steps one second apart, wherever they were."""
        return replace(self, seconds=self.step.to(self.seconds.dtype))

    def to(self, device: torch.device | str) -> Sequences:
        move = _mover(device)
        return replace(
            self,
            values=move(self.values),
            lengths=move(self.lengths),
            seconds=move(self.seconds),
            host_lengths=self.on_host,
        )


@dataclass(frozen=True)
class Padded(Sequences):
    """Sequences laid out with padding, T steps a clip, in which no shape depends on a value.

    That is what exporters need. It is for evaluation alone: padding would enter BatchNorm's statistics.
    ``values`` is (B * T, D) and ``seconds`` (B * T,); steps at and beyond a clip's length count for nothing.
    """

    @classmethod
    def from_padded(cls, values: Tensor, lengths: Tensor, seconds: Tensor | None = None) -> Padded:
        """Take (B, T, D) values; ``seconds`` is (T,), or None for 0, 1, 2, ... seconds."""
        batch, longest, _ = values.shape
        steps = torch.arange(longest, device=values.device)
        seconds = steps.to(values.dtype) if seconds is None else seconds
        padding = steps >= lengths[:, None]  # (B, T)
        kept = values.masked_fill(padding[..., None], 0.0)  # whatever stands in the padding, be it NaN
        return cls(kept.flatten(0, 1), lengths, seconds.expand(batch, -1).flatten(), longest)

    # Sizes by ``shape``: exporters make a constant of ``len``.
    @property
    def places(self) -> Tensor:
        return torch.full_like(self.lengths, self.longest)

    @property
    def clip(self) -> Tensor:  # type: ignore[override]
        rows = torch.arange(self.lengths.shape[0], device=self.lengths.device)
        return rows[:, None].expand(-1, self.longest).flatten()

    @property
    def step(self) -> Tensor:  # type: ignore[override]
        steps = torch.arange(self.longest, device=self.lengths.device)
        return steps.expand(self.lengths.shape[0], -1).flatten()

    def mean(self) -> Tensor:
        steps = self.values.unflatten(0, (self.lengths.shape[0], self.longest))  # (B, T, D)
        total = steps.masked_fill(~self.valid[..., None], 0.0).sum(dim=1)
        return total / self.lengths.clamp(min=1)[:, None]

    def averaged(self) -> Padded:
        return Padded(self.mean(), self.lengths.clamp(max=1), self.values.new_zeros(self.lengths.shape[0]), 1)


@dataclass(frozen=True)
class Batch:
    """B clips.

    Attributes:
        audio: audio sequences.
        video: visual sequences.
        labels: (B,) int64, position of each clip's class in the class set that goes with the batch.
        text: (B, E) the class vector of each clip.
        negatives: one clip of another class for each clip, where the method asks for them.
        groups: (B,) int64, a number for each group of clips that belong together, -1 for a clip without one;
            None where no groups are known.
    """

    audio: Sequences
    video: Sequences
    labels: Tensor
    text: Tensor
    negatives: Batch | None = None
    groups: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def by_index(self) -> Batch:
        """The same clips with steps one second apart, wherever they were."""
        return replace(self, audio=self.audio.by_index(), video=self.video.by_index())

    def to(self, device: torch.device | str) -> Batch:
        move = _mover(device)
        negatives = None if self.negatives is None else self.negatives.to(device)
        groups = None if self.groups is None else move(self.groups)
        return Batch(
            self.audio.to(device),
            self.video.to(device),
            move(self.labels),
            move(self.text),
            negatives,
            groups,
        )


@dataclass(frozen=True)
class ClassSet:
    """The K classes that clips are told apart among.

    Attributes:
        names: K names.
        vectors: (K, E) float32, one class vector a row.
        seen: (K,) bool, True for the classes that training has clips of.
    """

    names: tuple[str, ...]
    vectors: Tensor
    seen: Tensor

    def __len__(self) -> int:
        return len(self.names)

    def only(self, keep: Tensor) -> ClassSet:
        """The classes where ``keep`` (K,) bool is True, in the same order."""
        names = tuple(name for name, kept in zip(self.names, keep.tolist(), strict=True) if kept)
        return ClassSet(names, self.vectors[keep], self.seen[keep])

    def to(self, device: torch.device | str) -> ClassSet:
        return ClassSet(self.names, self.vectors.to(device), self.seen.to(device))
