"""The weight of the frozen score beside a trained method: the option ``prior`` of a run.

Most methods have it chosen on validation, by the weights of stage 1. A closed form that calibrates itself
(KITE) looks at no validation clips; its weight and bias come from episodes within the training clips, those
of ``sacma.training.episodes``. Where these are not possible, validation chooses for it too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

from sacma.data.batches import trimming_of
from sacma.data.benchmark import Split
from sacma.errors import SacmaError
from sacma.frozen.prior import open_prior
from sacma.metrics.gzsl import GZSLResult, evaluate
from sacma.metrics.nearest import Nearest, nearest
from sacma.models.base import Method
from sacma.models.fused import WEIGHTS, Fused, scale_ratio
from sacma.runs.config import RunConfig
from sacma.training.episodes import episode_splits
from sacma.training.evaluation import distances_by_output
from sacma.training.loop import build, fit, fit_scaling, prior_kind_of
from sacma.training.scoring import evaluate_method

EPISODES = 6
OFFSETS = 49  # biases that are tried for each weight: quantiles of the margins, from 0 on


def fuse(method: Method, training: Split, validation: Split, config: RunConfig) -> tuple[Fused, GZSLResult]:
    """The method with the frozen score at the weight with the largest harmonic mean.

    Args:
        method: with the weights that stage 1 chose.
        training: the clips that stage 1 trains on.
        validation: the clips of stage 1's validation.
        config: of the run.

    Returns:
        Both together, and their result on validation at the chosen bias; a note tells the weight.

    Raises:
        SacmaError: features and class vectors are of different spaces.
    """
    if method.needs_fit and not method.calibrated and not method.fixed_candidates:
        with suppress(SacmaError):  # too few classes, or a class of one recording
            return _by_episodes(method, training, validation, config)
    return _on_validation(method, validation, config)


def _on_validation(method: Method, validation: Split, config: RunConfig) -> tuple[Fused, GZSLResult]:
    fused = _unweighted(method, validation)
    distances = _distances(fused, validation, config)
    fused.ratio = scale_ratio(distances[method.default_output], distances["frozen"])
    results: dict[float, GZSLResult] = {}
    for weight in WEIGHTS:
        fused.weight = weight
        results[weight], _ = evaluate_method(fused, validation, config, bias=None)
    means = {weight: result.harmonic_mean for weight, result in results.items()}
    fused.weight = _best(means)
    return fused, _noted(results[fused.weight], means, "on validation")


def _by_episodes(
    method: Method, training: Split, validation: Split, config: RunConfig
) -> tuple[Fused, GZSLResult]:
    drawn = [episode_splits(training, seed=seed) for seed in range(EPISODES)]
    told = [_tell(method, fitted, query, config) for fitted, query in drawn]
    ratio = sum(scale_ratio(one.own, one.frozen) for one in told) / len(told)
    chosen = {weight: _best_bias([one.at(weight, ratio) for one in told], told) for weight in WEIGHTS}
    means = {weight: mean for weight, (mean, _) in chosen.items()}
    fused = _unweighted(method, validation)
    fused.weight, fused.ratio = _best(means), ratio
    result, _ = evaluate_method(fused, validation, config, bias=chosen[fused.weight][1])
    return fused, _noted(dataclasses.replace(result, bias_search="episodes"), means, "by episodes")


def _unweighted(method: Method, split: Split) -> Fused:
    kind = prior_kind_of(split)
    return Fused(method, open_prior(method, kind), kind=kind)


def _best(means: Mapping[float, float]) -> float:
    """The weight of the largest mean; of equals, the largest."""
    return max(weight for weight, mean in means.items() if mean == max(means.values()))


def _noted(result: GZSLResult, means: Mapping[float, float], how: str) -> GZSLResult:
    tried = ", ".join(f"{weight:g}: {100 * mean:.1f}" for weight, mean in means.items())
    note = f"the frozen score has the weight {_best(means):g}, chosen {how}: HM by weight {tried}"
    return dataclasses.replace(result, warnings=(*result.warnings, note))


def _distances(fused: Fused, split: Split, config: RunConfig) -> Mapping[str, Tensor]:
    trimming = trimming_of(config.training, training=False)
    return distances_by_output(fused, split, batch_size=config.training.eval_batch_size, trimming=trimming)


@dataclass(frozen=True)
class _Told:
    """The distances of an episode's queries.

    Attributes:
        query: the queries.
        own: (q, K) of the method.
        frozen: (q, K) of the frozen score.
    """

    query: Split
    own: Tensor
    frozen: Tensor

    def at(self, weight: float, ratio: float) -> Nearest:
        return nearest((1 - weight) * self.own + weight * ratio * self.frozen, self.query.classes.seen)


def _tell(method: Method, fitted: Split, query: Split, config: RunConfig) -> _Told:
    fresh = build(type(method), fitted, config).to(method.device)
    fit_scaling(fresh, fitted)
    fit(fresh, fitted, query.classes, method.device)
    found = _distances(_unweighted(fresh, query), query, config)
    return _Told(query, found[fresh.default_output], found["frozen"])


def _best_bias(found: Sequence[Nearest], told: Sequence[_Told]) -> tuple[float, float]:
    """Mean harmonic mean over the episodes at the best bias, and this bias, 0 or more."""
    margins = torch.cat([one.margin for one in found]).clamp(min=0)
    tried = margins.quantile(torch.linspace(0, 1, OFFSETS, dtype=margins.dtype)).unique().tolist()
    means = {}
    for bias in dict.fromkeys([0.0, *tried]):
        results = [
            evaluate(near, one.query.labels, one.query.classes, bias=bias, bias_search="given")
            for near, one in zip(found, told, strict=True)
        ]
        means[bias] = sum(result.harmonic_mean for result in results) / len(results)
    best = max(means, key=lambda bias: means[bias])  # the first of equals, the lowest
    return means[best], best
