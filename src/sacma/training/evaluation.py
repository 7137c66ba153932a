"""Scores the clips of a split: distances to the candidates, of which each clip keeps the nearest ones.

Clips come in batches and candidates in blocks, so that memory does not grow with their product. Results stay
on the device until the pass ends: no batch waits for a GPU. Where several processes train together, each
scores some of the batches, and all get all scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from sacma import distributed
from sacma.data.batches import Trimming, gather
from sacma.data.benchmark import Split, has_one_step
from sacma.data.features import Features
from sacma.errors import SacmaError, printable
from sacma.metrics.gzsl import BiasSearch, GZSLResult, best_bias, evaluate
from sacma.metrics.nearest import ClassColumns, Nearest
from sacma.models.base import Method
from sacma.types import Batch, ClassSet

CLASSES_AT_ONCE = 4096


@dataclass(frozen=True)
class Scores:
    """Scores of N clips, as far as the metrics need them.

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
    output: str | None = None,
    trimming: Trimming | None = None,
    bfloat16: bool = False,
) -> Scores:
    """Score every clip of a split, in eval mode; the method's mode is put back afterwards.

    Args:
        method: the method.
        split: N clips and their candidates.
        batch_size: clips at a time.
        output: one of the method's outputs that scores, by default its default.
        trimming: how long clips are cut.
        bfloat16: compute in bfloat16.

    Raises:
        SacmaError: the method reads sequences and there are none, or a distance is not finite.
    """
    is_seen, device = split.classes.seen, method.device
    positions = (~is_seen).nonzero().squeeze(1)  # of the unseen candidates
    alone = method.rescored_for_zsl and len(positions) > 0
    gzsl: list[Nearest] = []
    zsl: list[Nearest] = []
    with _scoring(method, bfloat16=bfloat16):
        classes, only_unseen = (one.to(device) for one in (split.classes, split.classes.only(~is_seen)))
        nearest_to = _nearest_to(method, classes, output)
        unseen = ClassColumns.of(is_seen[positions], positions=positions, device=device)
        for batch in _own_batches(method, split, batch_size, trimming):
            gzsl.append(nearest_to(batch))
            if alone:
                zsl.append(unseen.nearest(method.distances(batch, only_unseen, output=output)))
    rows = _own_rows(split, batch_size)
    whole = _of_all(gzsl, split, rows)
    return Scores(whole, _of_all(zsl, split, rows) if alone else whole, split.labels)


def _of_all(found: Sequence[Nearest], split: Split, rows: Sequence[Tensor]) -> Nearest:
    """Results of all processes, on the host; ``rows`` are the clips of this process's batches."""
    own = [Nearest.concatenate(found).on_host()] if found else []
    for one in own:
        bad = (one.seen_distance.isnan() | one.unseen_distance.isnan()).nonzero().squeeze(1)
        if len(bad):
            raise SacmaError(_not_finite(split.features, split.clips[torch.cat(list(rows))[bad]].tolist()))
    return Nearest.concatenate(distributed.from_all(own))


def _not_finite(features: Features, clips: Sequence[int]) -> str:
    # Short clips share rows of attention: one clip's NaN spoils the distances of its neighbours as well.
    for clip in clips:
        for track in (features.audio, features.video):
            if not torch.isfinite(track.gather(torch.tensor([clip])).values).all():
                return (
                    f"the features of clip {printable(features.names[clip])} are not finite; import "
                    f"{features.path} "
                    "again (sacma data check finds all such clips)"
                )
    return (
        f"the distances of {len(clips)} clips, first {printable(features.names[clips[0]])}, to the "
        "classes are not "
        "finite; check whether training diverged"
    )


@torch.inference_mode()
def distances_by_output(
    method: Method,
    split: Split,
    *,
    batch_size: int,
    trimming: Trimming | None = None,
    outputs: Sequence[str] | None = None,
) -> dict[str, Tensor]:
    """All distances of a split in one pass, by each output that can score; float32, as in prediction.

    Args:
        method: the method.
        split: N clips and their K candidates.
        batch_size: clips at a time.
        trimming: how long clips are cut.
        outputs: the outputs that are wanted, by default all.

    Returns:
        (N, K) float32 on the CPU, by the name of the output.

    Raises:
        SacmaError: the method reads sequences and there are none.
    """
    parts: dict[str, list[Tensor]] = {output: [] for output in outputs or method.outputs}
    with _scoring(method):
        classes = split.classes.to(method.device)
        for batch in _own_batches(method, split, batch_size, trimming):
            for output, found in parts.items():
                found.append(method.distances(batch, classes, output=output).float().cpu())
    return {output: torch.cat(distributed.from_all(found)) for output, found in parts.items()}


@torch.inference_mode()
def clip_embeddings(
    method: Method, split: Split, *, output: str, batch_size: int, trimming: Trimming | None = None
) -> Tensor:
    """The embeddings of the N clips of a split, (N, D) float32 on the CPU.

    Args:
        method: one that compares embeddings.
        split: the clips.
        output: one of the method's outputs.
        batch_size: clips at a time.
        trimming: how long clips are cut.
    """
    with _scoring(method):
        found = [
            method.embed_clips(batch, output=output).float().cpu()
            for batch in _own_batches(method, split, batch_size, trimming)
        ]
    return torch.cat(distributed.from_all(found))


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
    device = method.device
    for rows in _own_rows(split, batch_size):
        yield gather(split, rows, trimming=trimming, device=device)


def one_step_note(methods: Mapping[str, type[Method]], features: Features) -> str:
    """The sentence that figures need where methods of sequences read one step a clip; empty elsewhere.

    Args:
        methods: label of a row -> its method.
        features: what they are run on.
    """
    made_for_more = [
        label for label, method in methods.items() if method.temporal and not method.takes_averages
    ]
    if not made_for_more or not has_one_step(features):
        return ""
    return (
        f"one step a clip, as averages over time have: {', '.join(made_for_more)} read sequences of length "
        "1, so their attention over time has nothing to attend to"
    )


def _own_rows(split: Split, batch_size: int) -> Sequence[Tensor]:
    """This process's share of the clips, batch by batch."""
    return distributed.own(torch.arange(len(split)).split(batch_size))


def _nearest_to(method: Method, classes: ClassSet, output: str | None) -> Callable[[Batch], Nearest]:
    """A function that finds the nearest candidates of a batch, in blocks where the method allows it."""
    device = classes.vectors.device
    if not method.compares_embeddings:
        candidates = ClassColumns.of(classes.seen, device=device)
        return lambda batch: candidates.nearest(method.distances(batch, classes, output=output))
    positions = torch.arange(len(classes)).split(CLASSES_AT_ONCE)
    blocks = [
        (embedded, ClassColumns.of(seen, positions=block, device=device))
        for embedded, seen, block in zip(
            method.embed_classes(classes).split(CLASSES_AT_ONCE),
            classes.seen.cpu().split(CLASSES_AT_ONCE),
            positions,
            strict=True,
        )
    ]

    def in_blocks(batch: Batch) -> Nearest:
        clips = method.embed_clips(batch, output=output)
        return reduce(
            Nearest.closer, (one.nearest(method.compare(clips, embedded)) for embedded, one in blocks)
        )

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
