"""ESZSL of version 0.1, kept for its runs: a bilinear compatibility in closed form, ridges on both sides.

Romera-Paredes and Torr, An embarrassingly simple approach to zero-shot learning, ICML 2015; chapter of Visual
Attributes, 2017, https://doi.org/10.1007/978-3-319-50077-5_2, reference [4] of the SACMA paper.

With X (n, d) the averaged features x = (video, audio) of the training clips, S (z, E) the vectors of their
classes and Y (n, z) 1 at a clip's class and -1 elsewhere, V (d, E) minimises

    |X V S^T - Y|^2 + gamma |V S^T|^2 + lambda |X V|^2 + gamma lambda |V|^2

which is solved by V = (X^T X + gamma I)^-1  X^T Y S  (S^T S + lambda I)^-1. A clip gets the class of the
largest x^T V s, so the distance is its negative. Nothing is left for gradient steps: ``fit`` does it all.

The authors pick gamma and lambda from 0.001, 0.01, ..., 1000 on validation. Here each epoch tries another
pair, the strongest first, so that the protocol's choice of an epoch is that choice. Not in paper (SACMA):
everything here; the paper names the method and has no row of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sacma.errors import SacmaError
from sacma.models.base import Method
from sacma.models.configs.fitted import ESZSLFirstConfig
from sacma.models.layers import concatenated
from sacma.types import Batch, ClassSet

RIDGES = (1e3, 1e2, 1e1, 1e0, 1e-1, 1e-2, 1e-3)


class ESZSLFirst(Method):
    """One matrix between the features and the class vectors, from the training clips by linear algebra."""

    Config = ESZSLFirstConfig

    temporal = False
    learns_by_gradient = False
    needs_fit = True
    config: ESZSLFirstConfig
    compatibility: Tensor
    trials: Tensor

    def __init__(self, **hyperparameters: Any) -> None:
        super().__init__(**hyperparameters)
        c = self.config
        # V; zeros, that is no preference, until fit.
        self.register_buffer("compatibility", torch.zeros(c.video_width + c.audio_width, c.text_width))
        self.register_buffer("trials", torch.zeros((), dtype=torch.long))
        self._eigen: tuple[Tensor, Tensor, Tensor] | None = None

    def ridges(self) -> tuple[float, float]:
        """Gamma and lambda: as configured, or the pair whose turn it is."""
        c = self.config
        trial = max(int(self.trials) - 1, 0) % len(RIDGES) ** 2
        gamma, ridge = RIDGES[trial // len(RIDGES)], RIDGES[trial % len(RIDGES)]
        return c.gamma or gamma, c.lambda_ or ridge

    @classmethod
    def is_own(cls, config: Mapping[str, Any]) -> bool:
        """True if hyperparameters are of this version: it alone has ``norm_inputs``."""
        return "norm_inputs" in config

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch], classes: ClassSet) -> None:
        """Solve for V on the training clips; the vectors of unseen candidates play no part.

        Raises:
            SacmaError: a clip is of an unseen class.
        """
        c = self.config
        width = c.video_width + c.audio_width
        vectors = classes.vectors[classes.seen].double().cpu()  # S
        position = classes.seen.cumsum(0) - 1  # of a class among the seen
        # In double precision: gamma may be far below the largest eigenvalue of X^T X.
        gram = torch.zeros(width, width, dtype=torch.float64)
        sums = torch.zeros(len(vectors), width, dtype=torch.float64)  # of the clips of each class
        for batch in batches:
            if not classes.seen[batch.labels].all():
                raise SacmaError("ESZSL 0.1 got a clip of an unseen class; give training clips only")
            x = concatenated(*self.averaged(batch), unit=c.norm_inputs).double().cpu()
            gram += x.T @ x
            sums.index_add_(0, position[batch.labels].cpu(), x)
        targets = 2 * vectors - vectors.sum(0)  # row y of Y S for class y
        gamma, ridge = self.ridges()
        values, rotation = self._eigenvectors(gram)
        rotated = rotation.T @ (sums.T @ targets)
        left = rotation @ (rotated / (values + gamma)[:, None])  # (d, E)
        right = vectors.T @ vectors + ridge * torch.eye(vectors.shape[1])
        self.compatibility.copy_(torch.linalg.solve(right, left.T).T)

    def _eigenvectors(self, gram: Tensor) -> tuple[Tensor, Tensor]:
        """Of the (d, d) Gram matrix; they stay the same while only the ridges change."""
        if self._eigen is None or not torch.equal(self._eigen[0], gram):
            values, rotation = torch.linalg.eigh(gram)
            self._eigen = gram, values.clamp(min=0), rotation
        return self._eigen[1], self._eigen[2]

    def loss(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """Mean squared difference of the scores from Y, for the record; nothing follows its gradient."""
        wanted = 2 * F.one_hot(batch.labels, len(classes)).float() - 1
        return {"squared_error": F.mse_loss(self.scores(batch, classes), wanted)}

    def step(
        self, batch: Batch, classes: ClassSet, optimisers: Sequence[torch.optim.Optimizer]
    ) -> dict[str, Tensor]:
        """The next pair of ridges has its turn; the loss is that of the last fit."""
        self.trials += 1
        return super().step(batch, classes, optimisers)

    def scores(self, batch: Batch, classes: ClassSet) -> Tensor:
        """x^T V s, (B, K); larger is better."""
        return self.embed_clips(batch) @ classes.vectors.T

    def embed_clips(self, batch: Batch, *, output: str | None = None) -> Tensor:
        """x^T V."""
        return concatenated(*self.averaged(batch), unit=self.config.norm_inputs) @ self.compatibility

    def compare(self, clips: Tensor, classes: Tensor) -> Tensor:
        """(B, K): the negative score."""
        return -(clips @ classes.T)
