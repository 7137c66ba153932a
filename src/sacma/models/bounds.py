"""Networks that would not fit into memory are not built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook

COPIES = 4
"""Of its parameters, training holds the values, the gradients and two moments of Adam."""


@contextmanager
def parameters_within(most: int) -> Iterator[None]:
    """Stop, within this context, before a network has more parameters than ``most`` bytes.

    A parameter is counted before it is filled, and memory that is not filled is not taken.

    Raises:
        MemoryError: it has more.
    """
    taken = 0

    def count(_module: nn.Module, _name: str, parameter: Any) -> None:
        nonlocal taken
        if parameter is not None:
            taken += parameter.numel() * parameter.element_size()
        if taken > most:
            raise MemoryError(f"the parameters take more than {most / 1e9:.3g} GB")

    counting = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        counting.remove()
