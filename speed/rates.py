"""Time, operations and memory of a piece of PyTorch code, and the rate of the machine that it runs on."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.profiler import profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from sacma.models.layers import Linear

CPU = torch.device("cpu")
Result = TypeVar("Result")
aten = torch.ops.aten
PRODUCTS = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm, torch.ops.mkldnn._linear_pointwise}
KERNELS = {
    aten._scaled_dot_product_flash_attention_for_cpu,
    aten._scaled_dot_product_flash_attention_for_cpu_backward,
    aten._softmax,
    aten._softmax_backward_data,
    aten.native_layer_norm,
    aten.native_layer_norm_backward,
    aten.native_batch_norm,
    aten.native_batch_norm_backward,
    aten.gelu,
    aten.gelu_backward,
    aten.random_,
    aten._fused_adam_,
}
"""What no implementation leaves out beside products; sums and dropout's factors could be parts of these."""


def timed(
    action: Callable[[], Result], clock: Callable[[], float] = time.perf_counter
) -> tuple[float, Result]:
    """Seconds that an action takes, the work of a GPU included, and its result."""
    start = clock()
    result = action()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start, result


@torch.no_grad()
def matrix_rate(
    dtype: torch.dtype,
    device: torch.device = CPU,
    *,
    size: int = 1024,
    repeats: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Floating-point operations a second of a square product: the fastest of PyTorch's and of ours."""
    left = torch.randn(size, size).to(device, dtype)
    linear = Linear(size, size, bias=False).to(device, dtype)
    products = (lambda: left @ linear.weight.t(), lambda: linear(left))
    return 2 * size**3 / min(timed(product, clock)[0] for product in products for _ in range(repeats))


def count_flops(action: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products in ``action``, forward and backward.

    PyTorch's counter does not know oneDNN's products and the attention kernel for CPUs; they are added.
    """
    kernels = {
        torch.ops.mkldnn._linear_pointwise: _linear_flops,
        aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
        aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward_flops,
    }
    with FlopCounterMode(display=False, custom_mapping=kernels) as counter:
        action()
    return int(counter.get_total_flops())


def _linear_flops(rows: Any, weight: Any, *_: object, **__: object) -> int:
    return 2 * math.prod(rows) * int(weight[0])


def _attention_flops(query: Any, key: Any, value: Any, *_: object, **__: object) -> int:
    return int(sdpa_flop_count(query, key, value))


def _attention_backward_flops(
    gradient: Any, query: Any, key: Any, value: Any, *_: object, **__: object
) -> int:
    return int(sdpa_backward_flop_count(gradient, query, key, value))


class ProductClock(TorchDispatchMode):
    """Context that adds up operations and time of the matrix products within it, attention kernels excluded.

    Attributes:
        flops: operations.
        seconds: processor time of this process; on a GPU, time until the products are done.
        kernels: likewise, of ``KERNELS``.
    """

    def __init__(self, device: torch.device = CPU) -> None:
        super().__init__()
        self.flops, self.seconds, self.kernels, self.clock = 0, 0.0, 0.0, processor_clock(device)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.overloadpacket not in PRODUCTS | KERNELS:
            with self:  # in inference mode composed operations arrive undivided
                parts = func.decompose(*args, **(kwargs or {}))
            return func(*args, **(kwargs or {})) if parts is NotImplemented else parts
        spent, result = timed(lambda: func(*args, **(kwargs or {})), self.clock)
        if func.overloadpacket in KERNELS:
            self.kernels += spent
            return result
        inner = args[1] if func.overloadpacket in (aten.addmm, aten.baddbmm) else args[0]
        self.flops += 2 * result.numel() * inner.shape[-1]
        self.seconds += spent
        return result


def processor_clock(device: torch.device) -> Callable[[], float]:
    """Processor time on a CPU, which other programs share; wall time on a GPU, which they do not."""
    return time.perf_counter if device.type == "cuda" else time.process_time


def clocked(action: Callable[[], object], device: torch.device = CPU) -> ProductClock:
    """Operations and times of the products and kernels of ``action``."""
    with ProductClock(device) as clock:
        action()
    return clock


def bytes_kept(loss: Callable[[], dict[str, Tensor]]) -> int:
    """Bytes that a forward pass keeps for the backward pass: allocated less freed."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # the profiler prints its stages otherwise
    with profile(profile_memory=True, use_kineto=False) as memory:
        terms = loss()
    events = memory.key_averages()
    del terms
    return int(sum(event.self_cpu_memory_usage + event.self_device_memory_usage for event in events))
