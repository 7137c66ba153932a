"""One view of the clips in KITE: its axes, statistics and solution, which grow with what was seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sacma.models.kite_forms import RIDGES, Solution, Words, solve
from sacma.models.moments import Statistics


class View(nn.Module):
    """One view of the clips: axes, statistics and solution, all buffers."""

    basis: Tensor
    counts: Tensor
    sums: Tensor
    second: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("basis", "counts", "sums", "second", *Solution._fields):
            self.register_buffer(name, torch.zeros(0))

    @property
    def statistics(self) -> Statistics:
        """In float64, as they are updated."""
        return Statistics(*(getattr(self, name).double().cpu() for name in Statistics._fields))

    @property
    def solution(self) -> Solution:
        return Solution(*(getattr(self, name) for name in Solution._fields))

    def take(self, statistics: Statistics, words: Words) -> None:
        """Solve for statistics and keep both."""
        solution = solve(statistics, words, RIDGES)
        for name, value in [*statistics._asdict().items(), *solution._asdict().items()]:
            self.keep(name, value)

    def keep(self, name: str, value: Tensor) -> None:
        setattr(self, name, value.to(device=self.basis.device, dtype=torch.float32).contiguous())

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *args: Any) -> None:
        resize_buffers(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *args)


def resize_buffers(module: nn.Module, state: Mapping[str, Any], prefix: str) -> None:
    """Give the module's own buffers the shapes of those in a state dict, so that it can be loaded."""
    for name, own in module.named_buffers(recurse=False):
        saved = state.get(prefix + name)
        if saved is not None and saved.shape != own.shape:
            setattr(module, name, own.new_zeros(saved.shape))
