"""Targets for the measurements of ``bench.py``, and the verdict on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
        """True if the measurement keeps the limit."""
        value = float(getattr(measured, self.measure))
        return value <= self.limit if self.most else value >= self.limit

    def __str__(self) -> str:
        return f"{self.shape} {self.program} {SPOKEN[self.measure]}"


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


TARGETS: dict[str, list[Target]] = {
    "cpu": [
        *_targets("ucf", "published", 4.0, 6.0),
        *_targets("ucf", "bfloat16", 10.0, 15.0),
        *_targets("vggsound", "published", 1.8, 2.5),
        *_targets("vggsound", "bfloat16", 4.0, 6.0),
        *(
            Target(shape, "published", f"{phase}_products", 0.8)
            for shape in ("ucf", "vggsound")
            for phase in ("train", "evaluate")
        ),
        *(Target(shape, "published", "load_share", 0.03, most=True) for shape in SHAPES),
        *(Target(shape, "save_memory", "kept_ratio", 0.5, most=True) for shape in SHAPES),
    ],
    "cuda": [Target("ucf", "bfloat16", measure, 10.0) for measure in ("train_ratio", "evaluate_ratio")],
}


def summary(measured: dict[str, dict[str, Measurement]], targets: Sequence[Target]) -> str:
    """The targets of the measured programs, reached and missed; empty where nothing was measured."""
    tried = [one for one in targets if one.program in measured.get(one.shape, {})]
    missed = [one for one in tried if not one.reached(measured[one.shape][one.program])]
    if not tried:
        return ""
    lines = [f"targets: {len(tried) - len(missed)} reached, {len(missed)} missed"]
    for verdict, of in (("reached", [one for one in tried if one not in missed]), ("missed", missed)):
        if of:
            lines.append(f"{verdict}: {', '.join(map(str, of))}")
    return "\n".join(lines)
