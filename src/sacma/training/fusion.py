"""The weight of the frozen score beside a trained method, chosen on validation: the option ``prior``."""

from __future__ import annotations

import dataclasses

from sacma.data.benchmark import Split
from sacma.metrics.gzsl import GZSLResult
from sacma.models.base import Method
from sacma.models.fused import WEIGHTS, Fused, prior_of, scale_ratio
from sacma.runs.config import RunConfig
from sacma.training.evaluation import distances_by_output
from sacma.training.loop import trimming_of
from sacma.training.scoring import evaluate_method


def fuse_on_validation(method: Method, validation: Split, config: RunConfig) -> tuple[Fused, GZSLResult]:
    """The method with the frozen score at the weight with the largest harmonic mean on validation.

    Args:
        method: with the weights that stage 1 chose.
        validation: the clips of stage 1's validation.
        config: of the run.

    Returns:
        Both together, and their result on validation at its best bias; a note tells the weight.

    Raises:
        SacmaError: features and class vectors are of different spaces.
    """
    fused = Fused(method, prior_of(method))
    trimming = trimming_of(config.training, training=False)
    distances = distances_by_output(
        fused, validation, batch_size=config.training.eval_batch_size, trimming=trimming
    )
    fused.ratio = scale_ratio(distances[method.default_output], distances["frozen"])
    results: dict[float, GZSLResult] = {}
    for weight in WEIGHTS:
        fused.weight = weight
        results[weight], _ = evaluate_method(fused, validation, config, bias=None)
    best = max(result.harmonic_mean for result in results.values())
    fused.weight = max(weight for weight, result in results.items() if result.harmonic_mean == best)
    tried = ", ".join(f"{weight:g}: {100 * result.harmonic_mean:.1f}" for weight, result in results.items())
    note = f"the frozen score has the weight {fused.weight:g}, chosen on validation: HM by weight {tried}"
    chosen = results[fused.weight]
    return fused, dataclasses.replace(chosen, warnings=(*chosen.warnings, note))
