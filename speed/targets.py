"""Targets for the measurements of ``bench.py``, and the verdict on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from measurement import Measurement
from shapes import SHAPES


@dataclass(frozen=True)
class Target:
    """A limit for one measure of a program on a shape.

    Attributes:
        shape: key of ``SHAPES``.
        program: ``published``, ``bfloat16`` or ``save_memory``.
        measure: attribute of ``Measurement``.
        limit: the value to reach.
        most: True if the limit is an upper one.
    """

    shape: str
    program: str
    measure: str
    limit: float
    most: bool = False

    def reached(self, measured: Measurement) -> bool:
        """True if the measurement keeps the limit, or comes near to what the machine's rate allows."""
        value, bound = float(getattr(measured, self.measure)), self.bound(measured)
        if self.most:
            return value <= self.limit
        return value >= self.limit or (bound is not None and value >= NEAR_BOUND * bound)

    def bound(self, measured: Measurement) -> float | None:
        """The measure if products ran at the machine's rate and all else took no time; None without one."""
        if self.measure in _SHARES:
            share = float(getattr(measured, _SHARES[self.measure]))
            return float(getattr(measured, self.measure)) / share if share else None
        return 1.0 if self.measure.endswith("_products") else None

    def why(self, measured: Measurement) -> str:
        """What keeps a measurement from its bound; empty where that is not known."""
        phase = self.measure.removesuffix("_ratio")
        if self.measure not in _SHARES:
            return ""
        whole, alone = getattr(measured, f"{phase}_share"), getattr(measured, f"{phase}_products")
        floor = getattr(measured, f"{phase}_floor") / getattr(measured, phase)
        return (
            f"products take {whole / alone:.0%} of the time, at {alone:.0%} of the machine's rate; bound "
            "with attention, norms, GELU, random numbers and Adam as fast as they are: "
            f"{getattr(measured, self.measure) / floor:.3g}, {floor:.0%} of it"
        )

    def told(self, measured: Measurement) -> str:
        """Target, figure, bound and verdict in a line."""
        value, bound = float(getattr(measured, self.measure)), self.bound(measured)
        verdict = "reached" if self.reached(measured) else "missed"
        parts = [f"{self}: {value:.3g}, target {'at most ' if self.most else ''}{self.limit:g}"]
        if bound is not None:
            parts.append(f"bound {bound:.3g}, {value / bound:.0%} of it")
        why = self.why(measured)
        return ", ".join([*parts, verdict]) + (f" ({why})" if why and verdict == "missed" else "")

    def __str__(self) -> str:
        return f"{self.shape} {self.program} {SPOKEN[self.measure]}"


NEAR_BOUND = 0.9
"""Share of its bound at which a measurement counts as reached, whatever the target."""
_SHARES = {"train_ratio": "train_share", "evaluate_ratio": "evaluate_share"}
SPOKEN = {  # attribute of Measurement -> its name in the summary
    "train_ratio": "training",
    "evaluate_ratio": "evaluation",
    "train_products": "products of training",
    "evaluate_products": "products of evaluation",
    "kept_ratio": "memory",
    "load_share": "loading",
}


def _targets(shape: str, program: str, train: float, evaluate: float) -> list[Target]:
    return [
        Target(shape, program, "train_ratio", train),
        Target(shape, program, "evaluate_ratio", evaluate),
        Target(shape, program, "kept_ratio", 0.5, most=True),
    ]


_ANY_PROCESSOR = [
    *(
        Target(shape, "published", f"{phase}_products", 0.8)
        for shape in ("ucf", "vggsound")
        for phase in ("train", "evaluate")
    ),
    *(Target(shape, "published", "load_share", 0.03, most=True) for shape in SHAPES),
    *(Target(shape, "save_memory", "kept_ratio", 0.5, most=True) for shape in SHAPES),
]
TARGETS: dict[str, list[Target]] = {
    "cpu": [
        *_targets("ucf", "published", 4.0, 6.0),
        *_targets("ucf", "bfloat16", 10.0, 15.0),
        *_targets("vggsound", "published", 1.8, 2.5),
        *_targets("vggsound", "bfloat16", 4.0, 6.0),
        *_ANY_PROCESSOR,
    ],
    "avx2": [
        *_targets("ucf", "published", 7.0, 10.0),
        *_targets("vggsound", "published", 1.9, 3.0),
        *_ANY_PROCESSOR,
    ],
    "cuda": [Target("ucf", "bfloat16", measure, 10.0) for measure in ("train_ratio", "evaluate_ratio")],
}


def kind(device: str) -> str:
    """Key of ``TARGETS`` for a device; processors without AVX-512 have targets of their own."""
    return "avx2" if device == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX2" else device


def summary(measured: dict[str, dict[str, Measurement]], targets: Sequence[Target]) -> str:
    """The targets of the measured programs, a line each; empty where nothing was measured.

    A bound is what the ratio would be if the products ran at the machine's rate and all else took no time.
    """
    tried = [one for one in targets if one.program in measured.get(one.shape, {})]
    missed = [one for one in tried if not one.reached(measured[one.shape][one.program])]
    if not tried:
        return ""
    lines = [f"targets: {len(tried) - len(missed)} reached, {len(missed)} missed"]
    return "\n".join(lines + [one.told(measured[one.shape][one.program]) for one in tried])
