"""Scores the clips of a split: distances to the candidates, of which each clip keeps the nearest ones.

Clips come in batches and candidates in blocks, so that memory does not grow with their product. Results stay
on the device until the pass ends: no batch waits for a GPU. Where several processes train together, each
scores some of the batches, and all get all scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from sacma import distributed
from sacma.batches import Trimming, gather, sequential
from sacma.benchmarks import Split
from sacma.errors import SacmaError
from sacma.metrics import BiasSearch, Candidates, GZSLResult, Nearest, best_bias, evaluate
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
    only_unseen = split.classes.only(~is_seen).to(device)
    unseen = Candidates.of(only_unseen.seen, positions=(~is_seen).nonzero().squeeze(1), device=device)
    alone = not method.calibrated and len(only_unseen) > 0
    gzsl: list[Nearest] = []
    zsl: list[Nearest] = []
    batches_of_rows = distributed.own(torch.arange(len(split)).split(batch_size))
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=bfloat16):
        nearest_to = _nearest_to(method, classes)
        for rows in batches_of_rows:
            batch = gather(split, rows, trimming=trimming, device=device)
            gzsl.append(nearest_to(batch))
            if alone:
                zsl.append(unseen.nearest(method.distances(batch, only_unseen)))
    method.train(training)
    whole = _of_all(gzsl, split, batches_of_rows)
    return Scores(whole, _of_all(zsl, split, batches_of_rows) if alone else whole, split.labels)


def _of_all(found: list[Nearest], split: Split, batches_of_rows: Sequence[Tensor]) -> Nearest:
    """What all processes found, on the host."""
    own = [Nearest.concatenate(found).on_host()] if found else []
    for one in own:
        bad = (one.seen_distance.isnan() | one.unseen_distance.isnan()).nonzero().squeeze(1)
        if len(bad):
            clip = int(split.clips[torch.cat(list(batches_of_rows))[bad[0]]])
            raise SacmaError(
                f"the distances of {len(bad)} clips, first {split.features.names[clip]!r}, to the classes "
                "are not finite; check the features (sacma data check) and whether training diverged"
            )
    return Nearest.concatenate(distributed.from_all(own))


def _nearest_to(method: Method, classes: ClassSet) -> Callable[[Batch], Nearest]:
    """What finds the nearest candidates of a batch: block by block, where the method compares embeddings."""
    device = classes.vectors.device
    if type(method).distances is not Method.distances:
        candidates = Candidates.of(classes.seen, device=device)
        return lambda batch: candidates.nearest(method.distances(batch, classes))
    positions = torch.arange(len(classes)).split(CLASSES_AT_ONCE)
    blocks = [
        (embedded, Candidates.of(seen, positions=block, device=device))
        for embedded, seen, block in zip(
            method.embed_classes(classes).split(CLASSES_AT_ONCE),
            classes.seen.cpu().split(CLASSES_AT_ONCE),
            positions,
            strict=True,
        )
    ]

    def in_blocks(batch: Batch) -> Nearest:
        clips = method.embed_clips(batch)
        return reduce(
            Nearest.closer, (one.nearest(method.compare(clips, embedded)) for embedded, one in blocks)
        )

    return in_blocks


@torch.inference_mode()
def all_distances(
    method: Method, split: Split, *, batch_size: int, trimming: Trimming | None = None
) -> Tensor:
    """(N, K) float32 distances of every clip of a split to every candidate, in eval mode, on the CPU."""
    device = next(iter(method.state_dict().values())).device
    training = method.training
    method.eval()
    split = split if method.temporal else split.averaged()
    classes = split.classes.to(device)
    batches = sequential(split, batch_size, trimming=trimming)
    distances = [method.distances(batch.to(device), classes).float().cpu() for batch in batches]
    method.train(training)
    return torch.cat(distances)


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
