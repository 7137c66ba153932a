"""Scores the clips of a split: distances to the candidates, of which each clip keeps the nearest ones.

Clips come in batches and candidates in blocks, so that memory does not grow with their product. Where several
processes train together, each scores some of the batches, and all get all scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from sacma import distributed
from sacma.batches import Trimming, gather
from sacma.benchmarks import Split
from sacma.metrics import BiasSearch, GZSLResult, Nearest, best_bias, evaluate, nearest
from sacma.models.base import Method
from sacma.types import Batch, ClassSet

CLASSES_AT_ONCE = 4096


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
    bfloat16: bool = False,
) -> Scores:
    """Score every clip of a split, in eval mode; the method's mode is put back afterwards.

    Raises:
        SacmaError: the method reads sequences and there are none, or a distance is not finite.
    """
    is_seen = split.classes.seen
    unseen = (~is_seen).nonzero().squeeze(1)  # positions of the unseen candidates
    alone = not method.calibrated and len(unseen) > 0
    gzsl: list[Nearest] = []
    zsl: list[Nearest] = []
    with _scoring(method, bfloat16=bfloat16):
        classes = split.classes.to(method.device)
        nearest_to = _nearest_to(method, classes)
        for batch in _own_batches(method, split, batch_size, trimming):
            gzsl.append(nearest_to(batch))
            if alone:
                distances = method.distances(batch, classes.only(~classes.seen))
                zsl.append(nearest(distances, is_seen[unseen], positions=unseen))
    whole = Nearest.concatenate(distributed.from_all(gzsl))
    only_unseen = Nearest.concatenate(distributed.from_all(zsl)) if alone else whole
    return Scores(whole, only_unseen, split.labels)


@torch.inference_mode()
def distances_by_output(
    method: Method, split: Split, *, batch_size: int, trimming: Trimming | None = None
) -> dict[str, Tensor]:
    """All distances of a split in one pass, by each output that can score; float32, as in prediction.

    Returns:
        (N, K) float32 on the CPU, by the name of the output.

    Raises:
        SacmaError: the method reads sequences and there are none.
    """
    parts: dict[str, list[Tensor]] = {output: [] for output in method.outputs}
    with _scoring(method):
        classes = split.classes.to(method.device)
        for batch in _own_batches(method, split, batch_size, trimming):
            for output, found in parts.items():
                with method.scoring_with(output):
                    found.append(method.distances(batch, classes).float().cpu())
    return {output: torch.cat(distributed.from_all(found)) for output, found in parts.items()}


@contextmanager
def _scoring(method: Method, *, bfloat16: bool = False) -> Iterator[None]:
    """Within, the method is in eval mode, and computes in bfloat16 where asked to."""
    training = method.training
    method.eval()
    try:
        with torch.autocast(method.device.type, dtype=torch.bfloat16, enabled=bfloat16):
            yield
    finally:
        method.train(training)


def _own_batches(method: Method, split: Split, batch_size: int, trimming: Trimming | None) -> Iterator[Batch]:
    """This process's share of a split in batches, as sequences or averaged, whichever the method reads."""
    if not method.temporal:
        split = split.averaged()
    elif not method.takes_averages:
        split.require_sequences()
    device = method.device
    for rows in distributed.own(torch.arange(len(split)).split(batch_size)):
        yield gather(split, rows, trimming=trimming, device=device)


def _nearest_to(method: Method, classes: ClassSet) -> Callable[[Batch], Nearest]:
    """What finds the nearest candidates of a batch: block by block, where the method compares embeddings."""
    if type(method).distances is not Method.distances:
        return lambda batch: nearest(method.distances(batch, classes), classes.seen)
    embedded, seen = method.embed_classes(classes), classes.seen.cpu()
    blocks = torch.arange(len(classes)).split(CLASSES_AT_ONCE)

    def in_blocks(batch: Batch) -> Nearest:
        clips = method.embed_clips(batch)
        parts = (
            nearest(method.compare(clips, embedded[block[0] : block[-1] + 1]), seen[block], positions=block)
            for block in blocks
        )
        return reduce(Nearest.closer, parts)

    return in_blocks


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
