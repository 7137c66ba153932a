"""The nearest seen and the nearest unseen class of clips: all that the metrics need of their distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sacma.errors import SacmaError

NO_CLASS = -1  # stands for the nearest class where there is no candidate


@dataclass(frozen=True)
class Nearest:
    """The nearest seen and the nearest unseen class of N clips.

    The metrics want them ``on_host``. Before, they stay where they were computed, in that precision.

    Attributes:
        seen_distance: (N,) float64; +inf where no candidate is seen.
        seen_class: (N,) int64 position of the class; -1 where there is none.
        unseen_distance: (N,) float64; +inf where no candidate is unseen.
        unseen_class: (N,) int64 position of the class; -1 where there is none.
    """

    seen_distance: Tensor
    seen_class: Tensor
    unseen_distance: Tensor
    unseen_class: Tensor

    def __len__(self) -> int:
        return len(self.seen_class)

    @property
    def margin(self) -> Tensor:
        """(N,) float64: with a smaller bias the answer is a seen class, with a larger one an unseen class."""
        return self.unseen_distance - self.seen_distance

    def predicts_seen(self, bias: float | Tensor) -> Tensor:
        """Return True where the answer is the nearest seen class; at equal distance the lower position wins.

        A bias of shape (M, 1) gives (M, N).
        """
        wins_tie = self.seen_class < self.unseen_class
        return (bias < self.margin) | ((bias == self.margin) & wins_tie)

    @staticmethod
    def concatenate(parts: Sequence[Nearest]) -> Nearest:
        """Join several batches of clips."""
        return Nearest(
            torch.cat([part.seen_distance for part in parts]),
            torch.cat([part.seen_class for part in parts]),
            torch.cat([part.unseen_distance for part in parts]),
            torch.cat([part.unseen_class for part in parts]),
        )

    def on_host(self) -> Nearest:
        """Return the same in the memory of the host, distances in float64. This waits for a GPU, once."""
        return Nearest(
            # To the CPU before the change of type: not every device has double precision.
            self.seen_distance.cpu().double(),
            self.seen_class.cpu(),
            self.unseen_distance.cpu().double(),
            self.unseen_class.cpu(),
        )

    def closer(self, other: Nearest) -> Nearest:
        """Return the nearer of two sets of candidates for the same clips, as evaluation in slices needs."""
        seen = _closer(self.seen_distance, self.seen_class, other.seen_distance, other.seen_class)
        unseen = _closer(self.unseen_distance, self.unseen_class, other.unseen_distance, other.unseen_class)
        return Nearest(*seen, *unseen)


def nearest(distances: Tensor, seen: Tensor, *, positions: Tensor | None = None) -> Nearest:
    """Find the nearest seen and unseen class of each clip.

    Args:
        distances: (N, K), smaller is nearer.
        seen: (K,) bool, True for seen classes.
        positions: (K,) int64 positions of the columns in the class set, where they are only some of it, in
            ascending order; None for 0 to K - 1.

    Raises:
        SacmaError: a distance is infinite or not a number.
    """
    if distances.ndim != 2 or distances.shape[1] != len(seen) or len(seen) == 0:
        raise SacmaError(
            f"distances have shape {tuple(distances.shape)} for {len(seen)} classes; "
            "expected one row a clip, one column a class and at least one class"
        )
    candidates = ClassColumns.of(seen, positions=positions, device=distances.device)
    finite = torch.isfinite(distances)
    if not bool(finite.all()):
        clip, column = (~finite).nonzero()[0].tolist()
        value, position = distances[clip, column].item(), int(candidates.positions[column])
        raise SacmaError(
            f"the distance of clip {clip} to class {position} is {value}, one of {int((~finite).sum())} "
            "that are not finite; check the features and whether training diverged"
        )
    return candidates.nearest(distances).on_host()


@dataclass(frozen=True)
class ClassColumns:
    """Columns of the seen and of the unseen classes, computed once for many batches of distances.

    Attributes:
        seen: (S,) int64 columns of the seen classes.
        unseen: (U,) int64 columns of the others.
        positions: (S + U,) int64 position of each column in the class set.
    """

    seen: Tensor
    unseen: Tensor
    positions: Tensor

    @classmethod
    def of(
        cls, seen: Tensor, *, positions: Tensor | None = None, device: torch.device | str = "cpu"
    ) -> ClassColumns:
        """Make the columns from (K,) bool ``seen``, and ``positions`` as in ``nearest``."""
        seen = seen.cpu()
        positions = torch.arange(len(seen)) if positions is None else positions
        of_seen, of_unseen = (mask.nonzero().squeeze(1).to(device) for mask in (seen, ~seen))
        return cls(of_seen, of_unseen, positions.to(device))

    def nearest(self, distances: Tensor) -> Nearest:
        """Do the same as the function ``nearest``, on the device of the distances and without waiting for it.

        A clip with a distance that is not finite gets NaN.
        """
        # The extremes of a row show what is not finite, at a fifth of the time that all its numbers take.
        finite = torch.isfinite(distances.amin(dim=1)) & torch.isfinite(distances.amax(dim=1))
        return Nearest(
            *_smallest(distances, self.seen, self.positions, finite),
            *_smallest(distances, self.unseen, self.positions, finite),
        )


def _smallest(distances: Tensor, columns: Tensor, positions: Tensor, finite: Tensor) -> tuple[Tensor, Tensor]:
    """Return distance and position of the nearest of the candidates in ``columns``, (N,) each."""
    clips = distances.shape[0]
    if not len(columns):
        return distances.new_full((clips,), torch.inf), positions.new_full((clips,), NO_CLASS)
    smallest = distances.index_select(1, columns).min(dim=1)  # the first of equals
    return smallest.values.masked_fill(~finite, torch.nan), positions[columns[smallest.indices]]


def _closer(a: Tensor, a_class: Tensor, b: Tensor, b_class: Tensor) -> tuple[Tensor, Tensor]:
    take_b = (b < a) | ((b == a) & (b_class < a_class)) | b.isnan()
    return torch.where(take_b, b, a), torch.where(take_b, b_class, a_class)
