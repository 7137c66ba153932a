"""The numbers that ``bench.py`` measures for one program on one shape."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """One program on one shape; medians over the rounds, of one batch.

    Attributes:
        load: seconds to bring a training batch into memory.
        train: seconds of a training iteration, without loading.
        evaluate: seconds of an evaluation pass, without loading.
        train_ratio: the reference's time / this one's.
        evaluate_ratio: the same for evaluation.
        train_flops: operations of the matrix products.
        evaluate_flops: the same for evaluation.
        train_share: operations by the whole iteration's time / the machine's rate in the same rounds.
        evaluate_share: the same for evaluation.
        train_products: operations by the time of the products alone / the machine's rate.
        evaluate_products: the same for evaluation.
        kept_bytes: what training keeps from its forward for its backward pass.
        kept_ratio: the same / that of the reference.
    """

    load: float
    train: float
    evaluate: float
    train_ratio: float
    evaluate_ratio: float
    train_flops: int
    evaluate_flops: int
    train_share: float
    evaluate_share: float
    train_products: float
    evaluate_products: float
    kept_bytes: int
    kept_ratio: float

    @property
    def load_share(self) -> float:
        """The part of loading in the time of loading a batch and training on it."""
        return self.load / (self.load + self.train)
