"""Time of training several small models: one after another, or stacked into one by ``torch.func``.

The network resembles the averaged-feature methods: three linear layers, 512 wide, with LayerNorm (the
statistics of BatchNorm do not stack). Prints the processor time of one step of all models, the fastest of a
few repetitions.

    python speed/many.py
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from sacma.models.layers import Linear

WIDTH, HIDDEN, OUT = 512, 300, 64


def network(linear: type[nn.Linear]) -> nn.Module:
    """(B, 512) -> (B, 64)."""
    return nn.Sequential(
        *(linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.ReLU()),
        *(linear(WIDTH, HIDDEN), nn.LayerNorm(HIDDEN), nn.ReLU()),
        linear(HIDDEN, OUT),
    )


def in_turn(models: Sequence[nn.Module], x: Tensor, y: Tensor) -> Callable[[], None]:
    """A step of each model on its own (B, 512) of ``x``."""
    optimisers = [torch.optim.Adam(model.parameters(), fused=True) for model in models]

    def step() -> None:
        for model, optimiser, inputs, targets in zip(models, optimisers, x, y, strict=True):
            optimiser.zero_grad()
            (model(inputs) - targets).square().mean().backward()
            optimiser.step()

    return step


def stacked(models: Sequence[nn.Module], x: Tensor, y: Tensor) -> Callable[[], None]:
    """A step of all models at once, stacked into one."""
    base = copy.deepcopy(models[0]).to("meta")
    parameters = {k: v.detach().requires_grad_() for k, v in stack_module_state(list(models))[0].items()}
    optimiser = torch.optim.Adam(parameters.values(), fused=True)

    def step() -> None:
        found = vmap(lambda own, inputs: functional_call(base, own, (inputs,)))(parameters, x)
        optimiser.zero_grad()
        (found - y).square().mean(dim=(1, 2)).sum().backward()
        optimiser.step()

    return step


def fastest(step: Callable[[], None], repeats: int = 6) -> float:
    """Milliseconds of processor time of the fastest repetition."""
    step()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
    return 1e3 * min(times)


def main() -> None:
    """Print a line for each size."""
    torch.set_num_threads(1)
    for batch in (64, 256):
        for count in (5, 10):
            x, y = torch.randn(count, batch, WIDTH), torch.randn(count, batch, OUT)
            ours = fastest(in_turn([network(Linear) for _ in range(count)], x, y))
            plain = [network(nn.Linear) for _ in range(count)]
            theirs, together = fastest(in_turn(plain, x, y)), fastest(stacked(plain, x, y))
            print(
                f"batch {batch}, {count} models: in turn {ours:.1f} ms (with nn.Linear {theirs:.1f} ms), "
                f"stacked {together:.1f} ms"
            )


if __name__ == "__main__":
    main()
