"""A ridge regression from features to class vectors; the nearest class vector by cosine is the answer.

The plainest zero-shot learner that there is, as a row to measure others by. With features, class vectors and
C, M and W as in ``closed_form``, a clip is mapped to W^T M (C + gamma tr(C) I)^-1 x. Not in paper.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor
from torch.nn import functional as F

from sacma.models.closed_form import ClosedForm, Solved


class CosineRidge(ClosedForm):
    """One matrix from the features to the class vectors, compared by cosine."""

    def solutions(self, solved: Solved, points: Iterable[Sequence[float]]) -> Iterator[Tensor]:
        """(r, E) of each, such that class means are of mean square 1."""
        for (ridge,) in points:
            matrix = solved.ridged(ridge, solved.known)
            yield matrix / (solved.means @ matrix).square().mean().sqrt().clamp(min=1e-12)

    def compare(self, clips: Tensor, classes: Tensor) -> Tensor:
        """(B, K): the negative cosine."""
        return F.normalize(-clips, dim=1) @ classes.T
