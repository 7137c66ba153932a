"""A trained method together with the frozen score of its features, so that training does not lose to it.

    distance = (1 - weight) d + weight ratio d_frozen

d are the method's distances, d_frozen those of the frozen score. ``ratio`` brings both to one scale: the mean
over clips of the deviation of a clip's distances, the method's over the frozen score's. The weight is the one
of 0, 0.1, ..., 1 with the largest harmonic mean at its best bias, of equals the largest; on which clips, says
``sacma.training.fusion``. At 0 the method is alone, at 1 the frozen score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from sacma.errors import SacmaError
from sacma.models.base import Method
from sacma.types import Batch, ClassSet

WEIGHTS = tuple(number / 10 for number in range(11))


class Fused(Method):
    """A method and the frozen score.

    Args:
        method: trained.
        prior: the frozen score of the same features.
        kind: of frozen score, for ``sacma.frozen.prior.open_prior``.
        weight: of the frozen score, 0 to 1.
        ratio: brings its distances to the scale of the method's.
    """

    OUTPUTS: ClassVar[Sequence[str]] = ("fused", "frozen")
    compares_embeddings = False
    takes_averages = True

    def __init__(
        self, method: Method, prior: Method, *, kind: str, weight: float = 0.0, ratio: float = 1.0
    ) -> None:
        nn.Module.__init__(self)
        self.method, self.prior, self.config = method, prior, method.config
        self.kind, self.weight, self.ratio = kind, weight, ratio
        setattr(self, "fixed_candidates", method.fixed_candidates)  # noqa: B010  (of this instance)

    @property
    def outputs(self) -> Sequence[str]:
        """The fused score, the frozen one, and what the method alone can score with."""
        return (*self.OUTPUTS, *self.method.outputs)

    @property
    def rescored_for_zsl(self) -> bool:
        """As the method."""
        return self.method.rescored_for_zsl

    @property
    def known_vectors(self) -> Tensor | None:
        """Those of the method."""
        return self.method.known_vectors

    def bias_outputs(self, output: str | None = None) -> Sequence[str]:
        """As the method for its own outputs, else the one that scores."""
        return (
            self.method.bias_outputs(output)
            if output in self.method.outputs
            else super().bias_outputs(output)
        )

    def searches_bias(self, output: str | None = None) -> bool:
        """As the method for its own outputs; fused scores are calibrated on validation."""
        if output in self.method.outputs or (output in (None, "fused") and self.weight == 0):
            return self.method.searches_bias(None if output == "fused" else output)
        return True

    def distances(self, batch: Batch, classes: ClassSet, *, output: str | None = None) -> Tensor:
        """(B, K) distances; ``output`` is fused, frozen, or one of the method's."""
        output = self.scoring_output(output)
        if output == "frozen":
            return self.prior.distances(batch, classes)
        if output != "fused":
            return self.method.distances(batch, classes, output=output)
        parts = []
        if self.weight < 1:
            parts.append((1 - self.weight) * self.method.distances(batch, classes))
        if self.weight > 0:
            parts.append(self.weight * self.ratio * self.prior.distances(batch, classes))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def embed_clips(self, batch: Batch, *, output: str | None = None) -> Tensor:
        """The method's embeddings of clips, for figures; ``distances`` scores."""
        own = output if output in self.method.outputs else None
        return self.method.embed_clips(batch, output=own)

    def embed_classes(self, classes: ClassSet) -> Tensor:
        """The method's embeddings of classes, for figures."""
        return self.method.embed_classes(classes)

    def chosen(self) -> dict[str, Any]:
        """State that ``fused_from`` needs beside the method."""
        return {"prior": "frozen", "kind": self.kind, "weight": self.weight, "ratio": self.ratio}


def fused_from(method: Method, prior: Method, chosen: Mapping[str, Any]) -> Fused:
    """The method with the frozen score, as ``Fused.chosen`` tells.

    Raises:
        SacmaError: what was chosen is damaged.
    """
    try:
        weight, ratio = float(chosen["weight"]), float(chosen["ratio"])
        whole = chosen["prior"] == "frozen" and 0 <= weight <= 1 and 0 < ratio < float("inf")
    except (KeyError, TypeError, ValueError):
        whole = False
    if not whole:
        raise SacmaError("the prior is damaged; train again with --force")
    return Fused(method, prior, kind=str(chosen.get("kind")), weight=weight, ratio=ratio).eval()


def scale_ratio(distances: Tensor, frozen: Tensor) -> float:
    """Mean deviation within a clip of (N, K) distances, over that of the frozen ones; 1 where one is 0."""
    spreads = [one.double().std(dim=1, correction=0).mean().item() for one in (distances, frozen)]
    return spreads[0] / spreads[1] if min(spreads) > 0 else 1.0
