"""Precision of matrix products on this machine: which types it multiplies in, and how fast.

Processors without instructions for bfloat16 compute it all the same, several times as slowly as float32. So
the processor is asked first, then measured once; the measurement is kept in the cache.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

from sacma.errors import SacmaError
from sacma.files import cache_folder, write_text
from sacma.options import TrainingConfig

CPU = torch.device("cpu")
_SIZE = 512
"""Rows and columns of the product that is measured: it fits into the caches, and takes well under 10 ms."""
_SECONDS = 0.05
_FASTER = 1.1
"""``auto`` takes bfloat16 where it is so many times as fast: less would not be worth its rounding."""


@dataclass(frozen=True)
class Rates:
    """Floating-point operations a second of a matrix product.

    Attributes:
        float32: in float32.
        bfloat16: in bfloat16.
    """

    float32: float
    bfloat16: float

    @property
    def ratio(self) -> float:
        """Rate in bfloat16 divided by the rate in float32."""
        return self.bfloat16 / self.float32


def has_bfloat16(device: torch.device = CPU) -> bool:
    """True if this device has instructions for products in bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def rates() -> Rates:
    """Measure the processor, for 50 ms, or read from the cache what was measured before."""
    file = cache_folder() / f"precision-{_machine()}.json"
    found = _read(file)
    if found is None:
        found = measured()
        write_text(file, json.dumps(asdict(found)))
    return found


def measured(seconds: float = _SECONDS) -> Rates:
    """Measure products in float32 and in bfloat16 in turns, for about so many seconds."""
    pairs = {dtype: torch.randn(2, _SIZE, _SIZE).to(dtype) for dtype in (torch.float32, torch.bfloat16)}
    best = dict.fromkeys(pairs, float("inf"))
    for left, right in pairs.values():
        left @ right  # loads its kernel
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for dtype, (left, right) in pairs.items():
            start = time.perf_counter()
            left @ right
            best[dtype] = min(best[dtype], time.perf_counter() - start)
    operations = 2 * _SIZE**3
    return Rates(operations / best[torch.float32], operations / best[torch.bfloat16])


def chosen(training: TrainingConfig) -> Literal["float32", "bfloat16"]:
    """The precision that ``auto`` stands for on this machine."""
    if not _on_cpu(training):
        return "bfloat16" if has_bfloat16(torch.device("cuda")) else "float32"
    return "bfloat16" if has_bfloat16() and rates().ratio >= _FASTER else "float32"


def check(training: TrainingConfig) -> None:
    """Refuse to train in bfloat16 where that is slower than float32.

    Raises:
        SacmaError: it is slower here, and ``force_precision`` is off.
    """
    if training.precision != "bfloat16" or training.force_precision or not _on_cpu(training):
        return
    found = rates()
    if found.ratio < 1:
        raise SacmaError(
            f"precision is bfloat16, but this processor is {1 / found.ratio:.1f} times as fast in float32 "
            f"({found.float32 / 1e9:.0f} against {found.bfloat16 / 1e9:.0f} GFLOP/s); take --precision auto, "
            "or insist with --force-precision true"
        )


def _on_cpu(training: TrainingConfig) -> bool:
    return training.device == "cpu" or not torch.cuda.is_available()


def _machine() -> str:
    """Key of what the rates depend on: the processor, the number of threads, and torch."""
    facts = (*_processor(), torch.get_num_threads(), torch.__version__)
    return hashlib.sha256("\n".join(map(str, facts)).encode()).hexdigest()[:12]


def _processor() -> tuple[str, ...]:
    capability = torch.backends.cpu.get_cpu_capability()
    return platform.node(), platform.machine(), platform.processor(), capability


def _read(file: Path) -> Rates | None:
    try:
        content = json.loads(file.read_text())
        found = Rates(float(content["float32"]), float(content["bfloat16"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if found.float32 > 0 and found.bfloat16 > 0 else None
