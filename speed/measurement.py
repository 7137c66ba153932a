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
        train_ratio: training time of the reference / training time of this program.
        evaluate_ratio: evaluation time of the reference / evaluation time of this program.
        train_flops: operations of the matrix products in a training iteration.
        evaluate_flops: operations of the matrix products in evaluation.
        train_share: operations a second of the whole iteration / rate of the machine in the same round.
        evaluate_share: likewise for evaluation.
        train_products: operations a second of the products alone / rate of the machine.
        evaluate_products: likewise for evaluation.
        train_floor: seconds of the products of a training iteration at the machine's rate, and of the kernels
            that no implementation can leave out (``rates.KERNELS``) as fast as they are.
        evaluate_floor: likewise for evaluation.
        kept_bytes: memory that the forward pass keeps for the backward pass.
        kept_ratio: kept_bytes of this program / kept_bytes of the reference.
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
    train_floor: float
    evaluate_floor: float
    kept_bytes: int
    kept_ratio: float

    @property
    def load_share(self) -> float:
        """Loading time / time of loading a batch and training on it."""
        return self.load / (self.load + self.train)
