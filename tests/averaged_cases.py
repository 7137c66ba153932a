"""Parity vectors of methods that read averages: one file of vectors, its parameters and weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from sacma.types import Batch, ClassSet, Sequences
from vectors import Vectors


class AveragedCase(Vectors):
    """One file of vectors, with its parameters and weights."""

    @property
    def kind(self) -> str:
        return str(self.described["kind"])

    @property
    def training_classes(self) -> ClassSet:
        names = tuple(map(str, self.arrays["train_class_ids"]))
        return ClassSet(names, self["train_w"], torch.ones(len(names), dtype=torch.bool))

    @property
    def candidates(self) -> ClassSet:
        numbers = self["class_ids"]
        seen = torch.isin(numbers, self["seen_ids"])
        return ClassSet(tuple(map(str, numbers.tolist())), self["class_w"], seen)

    @property
    def evaluated(self) -> Batch:
        labels = torch.searchsorted(self["class_ids"], self["e2e/targets"])
        return clips(self["e2e/audio"], self["e2e/video"], labels, self["class_w"][labels])


def without_dropout(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def clips(
    audio: Tensor, video: Tensor, labels: Tensor, text: Tensor, negatives: Batch | None = None
) -> Batch:
    """Averaged features as sequences of one step."""
    one = torch.ones(len(labels), dtype=torch.long)
    sequences = (Sequences.from_padded(x[:, None], one) for x in (audio, video))
    return Batch(*sequences, labels, text, negatives)


def parametrize(
    metafunc: pytest.Metafunc, arguments: Mapping[str, str], cases: Sequence[AveragedCase]
) -> None:
    """Give a test the cases that have the vectors which its argument stands for, by their prefix."""
    for argument, prefix in arguments.items():
        if argument in metafunc.fixturenames:
            fitting = [case for case in cases if case.names(prefix)]
            metafunc.parametrize(argument, fitting, ids=[case.path.stem for case in fitting])


def close(found: Tensor, expected: Tensor, tolerance: float, name: str = "") -> None:
    torch.testing.assert_close(
        found.to(expected.dtype),
        expected,
        rtol=tolerance,
        atol=tolerance,
        msg=lambda text: f"{name}: {text}",
    )
