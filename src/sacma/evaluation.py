"""Scores the clips of a split: distances to the candidates, of which each clip keeps the nearest ones."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from sacma.batches import Trimming, sequential
from sacma.benchmarks import Split
from sacma.metrics import BiasSearch, GZSLResult, Nearest, best_bias, evaluate, nearest
from sacma.models.base import Method


@dataclass(frozen=True)
class Scores:
    """What the metrics need to know of N scored clips.

    Attributes:
        gzsl: nearest seen and nearest unseen candidate of each clip.
        zsl: the same with the unseen classes as the only candidates; ``gzsl`` itself for methods whose
            distances do not depend on the other candidates.
        labels: (N,) positions in the class set.
    """

    gzsl: Nearest
    zsl: Nearest
    labels: Tensor


@torch.inference_mode()
def score(
    method: Method,
    split: Split,
    *,
    batch_size: int,
    trimming: Trimming | None = None,
    device: torch.device | str = "cpu",
    bfloat16: bool = False,
) -> Scores:
    """Score every clip of a split, in eval mode; the method's mode is put back afterwards.

    Raises:
        SacmaError: the method reads sequences and there are none, or a distance is not finite.
    """
    if method.temporal:
        split.require_sequences()
    else:
        split = split.averaged()
    training = method.training
    method.eval()
    classes, is_seen = split.classes.to(device), split.classes.seen
    unseen = (~is_seen).nonzero().squeeze(1)  # positions of the unseen candidates
    alone = not method.calibrated and len(unseen) > 0
    gzsl, zsl = [], []
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=bfloat16):
        for batch in sequential(split, batch_size, trimming=trimming):
            moved = batch.to(device)
            gzsl.append(nearest(method.distances(moved, classes).cpu(), is_seen))
            if alone:
                distances = method.distances(moved, classes.only(~classes.seen)).cpu()
                zsl.append(nearest(distances, is_seen[unseen], positions=unseen))
    method.train(training)
    whole = Nearest.concatenate(gzsl)
    return Scores(whole, Nearest.concatenate(zsl) if alone else whole, split.labels)


def result_at(scores: Scores, split: Split, *, bias: float, bias_search: str) -> GZSLResult:
    """S, U, HM, ZSL of scored clips at a given bias."""
    result = evaluate(scores.gzsl, scores.labels, split.classes, bias=bias, bias_search=bias_search)
    if scores.zsl is scores.gzsl:
        return result
    alone = evaluate(scores.zsl, scores.labels, split.classes, bias=0.0, bias_search=bias_search)
    return dataclasses.replace(result, zsl=alone.zsl, per_class_zsl=alone.per_class_zsl)


def result_at_best(scores: Scores, split: Split, *, bias_search: BiasSearch, calibrated: bool) -> GZSLResult:
    """S, U, HM, ZSL of scored clips at their own best bias; at 0 for methods without calibration."""
    if not calibrated:
        return result_at(scores, split, bias=0.0, bias_search="none")
    bias, warnings = best_bias(scores.gzsl, scores.labels, split.classes.seen, search=bias_search)
    result = result_at(scores, split, bias=bias, bias_search=bias_search)
    return dataclasses.replace(result, warnings=(*result.warnings, *warnings))
