"""Rates of the matrix products of a training iteration by library: ``python speed/products.py``.

Each kind of product of a transformer layer, at the sizes of a batch of a shape of ``shapes.py``, by PyTorch's
own product (MKL, where it is built in), by oneDNN and by NumPy's (OpenBLAS, as its wheels have it). One
thread, processor time, the best of some rounds in turns. Environment variables hold the libraries to AVX2:

    ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 ONEDNN_MAX_CPU_ISA=AVX2 OPENBLAS_CORETYPE=Haswell
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import torch

from reference import D
from shapes import SHAPES

ROWS = {"ucf": 2165, "vggsound": 2752}
"""Tokens of all three inputs of a batch of 64 clips, rows that are laid out for attention."""


class Product(NamedTuple):
    """A product of (rows, inner) by (inner, columns)."""

    kind: str
    rows: int
    inner: int
    columns: int

    @property
    def flops(self) -> int:
        """Floating-point operations."""
        return 2 * self.rows * self.inner * self.columns


def products(shape: str) -> list[Product]:
    """The products of a layer: forward, and for the gradients of tokens and of weights."""
    sizes, tokens = SHAPES[shape].sizes, ROWS[shape]
    inner, hidden = sizes.heads * sizes.head_width, sizes.feed_forward
    layers = {
        "queries": (D, inner),
        "keys and values": (D, 2 * inner),
        "output": (inner, D),
        "feed-forward, first": (D, hidden),
        "feed-forward, second": (hidden, D),
    }
    found = []
    for name, (width_in, width_out) in layers.items():
        found += [
            Product(name, tokens, width_in, width_out),
            Product(f"{name}, gradients of tokens", tokens, width_out, width_in),
            Product(f"{name}, gradients of weights", width_out, tokens, width_in),
        ]
    return found


def rates(product: Product, repeats: int) -> dict[str, float]:
    """Operations a second of a product by library, factors laid out as training has them."""
    rows, inner, columns = product.rows, product.inner, product.columns
    left, right = torch.randn(rows, inner), torch.randn(inner, columns)
    if "weights" in product.kind:
        left = left.t().contiguous().t()
    elif "gradients" not in product.kind:
        right = right.t().contiguous().t()
    out = np.empty((rows, columns), np.float32)
    by_onednn = torch.ops.mkldnn._linear_pointwise
    ways: dict[str, Callable[[], object]] = {
        "PyTorch": lambda: left @ right,
        "oneDNN": lambda: by_onednn(left, right.t(), None, "none", [], ""),
        "NumPy": lambda: np.matmul(left.numpy(), right.numpy(), out=out),
    }
    least = dict.fromkeys(ways, float("inf"))
    for number in range(repeats + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            spent = time.process_time() - start
            if number:  # the first one makes kernels
                least[name] = min(least[name], spent)
    return {name: product.flops / spent for name, spent in least.items()}


@torch.inference_mode()
def main() -> int:
    """Print a line a product, and the shares of the sum of all; returns the exit status."""
    parser = argparse.ArgumentParser(description="Rates of matrix products by library.")
    parser.add_argument("--shape", choices=list(ROWS), default="ucf")
    parser.add_argument("--repeats", type=int, default=9, help="rounds (9)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    square = rates(Product("square", 1024, 1024, 1024), options.repeats)
    print(f"{torch.backends.cpu.get_cpu_capability()}, GFLOP/s; a square product of 1,024: {_told(square)}")
    seconds = dict.fromkeys(square, 0.0)
    operations = 0
    for product in products(options.shape):
        found = rates(product, options.repeats)
        print(f"{product.kind} ({product.rows} x {product.inner} x {product.columns}): {_told(found)}")
        operations += product.flops
        seconds = {name: spent + product.flops / found[name] for name, spent in seconds.items()}
    print(f"all: {_told({name: operations / spent for name, spent in seconds.items()})}")
    return 0


def _told(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in found.items())


if __name__ == "__main__":
    sys.exit(main())
