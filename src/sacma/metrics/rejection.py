"""Area under the ROC curve of rejection: whether a score tells clips that a name fits from others."""

from __future__ import annotations

import torch
from torch import Tensor


def auroc(distances: Tensor, fits: Tensor) -> float:
    """Probability that a clip with a right name among the candidates is nearer to its nearest name.

    Of a clip that one of the names fits and one that none fits, both drawn at random; ties count half (Mann
    and Whitney, 1947). 0.5 is chance, 1 a perfect separation.

    Args:
        distances: (N,) to the nearest candidate; infinite ones are allowed.
        fits: (N,) bool, True where the class of the clip is among the candidates.

    Returns:
        The area; nan where all clips fit or none does.

    >>> auroc(torch.tensor([1.0, 3.0, 2.0, 4.0]), torch.tensor([True, True, False, False]))
    0.75
    """
    count, others = int(fits.sum()), int((~fits).sum())
    if not count or not others:
        return float("nan")
    _, place, ties = torch.unique(distances, return_inverse=True, return_counts=True)
    last = ties.cumsum(0).double()
    rank = last - (ties.double() - 1) / 2  # mean rank of equal distances
    below = rank[place][fits].sum() - count * (count + 1) / 2
    return float(1 - below / (count * others))
