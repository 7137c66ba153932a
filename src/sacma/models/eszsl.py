"""ESZSL: a bilinear compatibility in closed form, with a ridge on both sides.

Romera-Paredes and Torr, An embarrassingly simple approach to zero-shot learning, ICML 2015; chapter of Visual
Attributes, 2017, https://doi.org/10.1007/978-3-319-50077-5_2, reference [4] of the SACMA paper.

With features x and class vectors w as in ``closed_form``, W (k, E) those of the training classes and Y 1 at a
clip's class and -1 elsewhere, every class with the same weight,

    V = (C + gamma tr(C) I)^-1  M^T (2 I - 1 1^T) W / k  (W^T W + lambda tr(W^T W) I)^-1

and a clip gets the class of the largest x^T V w. Scores are divided by their standard deviation over class
means and training classes: a bias then means the same in both stages, which have other numbers of classes.

The authors standardise nothing and pick both ridges from 0.001 to 1000 on validation; ``eszsl-0.1`` does.
Not in paper (SACMA): everything here; the paper names the method and has no row of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

import torch
from torch import Tensor

from sacma.models.base import Method
from sacma.models.closed_form import FEATURE_RIDGES, TEXT_RIDGES, ClosedForm, Solved
from sacma.models.configs.fitted import ESZSLConfig
from sacma.models.eszsl_first import ESZSLFirst


class ESZSL(ClosedForm):
    """One matrix between the features and the class vectors, from the training clips by linear algebra."""

    Config = ESZSLConfig

    RIDGES = (FEATURE_RIDGES, TEXT_RIDGES)
    config: ESZSLConfig

    @classmethod
    def for_saved(cls, config: Mapping[str, Any]) -> type[Method]:
        """Version 0.1 saved its models under the same name."""
        return ESZSLFirst if ESZSLFirst.is_own(config) else cls

    def _given(self) -> Sequence[float | None]:
        return self.config.gamma, self.config.lambda_

    def solutions(self, solved: Solved, points: Iterable[Sequence[float]]) -> Iterator[Tensor]:
        """(r, E) of each: V, scaled. Points share what gamma alone or lambda alone decides."""
        words = solved.known
        scatter = words.T @ words
        unit = torch.eye(len(scatter), dtype=scatter.dtype)

        @lru_cache(maxsize=1)  # points come by gamma
        def left(gamma: float) -> Tensor:
            return solved.ridged(gamma, 2 * words - words.sum(0))  # (r, E)

        @cache
        def right(ridge: float) -> tuple[Tensor, Tensor]:
            return torch.linalg.lu_factor(scatter + ridge * scatter.trace() * unit)

        for gamma, ridge in points:
            matrix = torch.linalg.lu_solve(*right(ridge), left(gamma).T).T
            scores = solved.means @ matrix @ words.T  # (k, k)
            yield matrix / scores.std(correction=0).clamp(min=1e-12)

    def compare(self, clips: Tensor, classes: Tensor) -> Tensor:
        """(B, K): the negative score."""
        return -clips @ classes.T
