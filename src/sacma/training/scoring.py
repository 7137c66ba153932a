"""Scores of a method on a split under the configuration of a run, and of finished runs from their weights."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from sacma.data.batches import trimming_of
from sacma.data.benchmark import Benchmark, Split
from sacma.errors import SacmaError, printable
from sacma.files import write_json
from sacma.metrics.gzsl import GZSLResult, best_bias
from sacma.models.base import Method
from sacma.models.fused import Fused
from sacma.runs.config import RunConfig, method_class
from sacma.runs.folder import RunFolder, load_model
from sacma.runs.records import RunResult
from sacma.training.evaluation import Scores, result_at, result_at_best, score

Predictions = Mapping[str, Sequence[Any]]
"""Column of predictions.parquet -> its values, one a clip."""


def evaluate_method(
    method: Method, split: Split, config: RunConfig, *, bias: float | None, output: str | None = None
) -> tuple[GZSLResult, Scores]:
    """Score a split with a method; at ``bias``, or at the split's own best where it is None.

    The best is the mean over the method's ``bias_outputs``, where these are several. ``output`` is the one of
    the method's outputs that scores, by default its default.
    """
    scores = _scored(method, split, config, output)
    search = config.protocol.bias_search
    if bias is not None:
        return result_at(scores, split, bias=bias, bias_search=search), scores
    if len(outputs := method.bias_outputs(output)) > 1:
        bias, notes = _mean_bias(method, split, config, outputs)
        result = result_at(scores, split, bias=bias, bias_search=search)
        return dataclasses.replace(result, warnings=(*result.warnings, *notes)), scores
    calibrated = method.searches_bias(output)
    return result_at_best(scores, split, bias_search=search, calibrated=calibrated), scores


def _scored(method: Method, split: Split, config: RunConfig, output: str | None) -> Scores:
    return score(
        method,
        split,
        batch_size=config.training.eval_batch_size,
        output=output,
        trimming=trimming_of(config.training, training=False),
        bfloat16=config.training.precision == "bfloat16",
    )


def _mean_bias(
    method: Method, split: Split, config: RunConfig, outputs: Sequence[str]
) -> tuple[float, list[str]]:
    """The mean of the best biases of ``outputs``; which they were, and warnings on them."""
    search = config.protocol.bias_search
    biases: dict[str, float] = {}
    notes: list[str] = []
    for output in outputs:
        found = _scored(method, split, config, output)
        biases[output], warnings = best_bias(found.gzsl, found.labels, split.classes.seen, search=search)
        notes += [f"{output}: {warning}" for warning in warnings]
    each = ", ".join(f"{bias:.4g} for {output}" for output, bias in biases.items())
    return statistics.fmean(biases.values()), [*notes, f"the bias is the mean of the best ones: {each}"]


def evaluate_run(
    folder: RunFolder, benchmark: Benchmark, *, output: str | None = None
) -> tuple[GZSLResult, Predictions]:
    """Repeat a run's test result from its saved weights.

    Args:
        folder: a finished run.
        benchmark: the run's benchmark, opened.
        output: the embedding that scores, by default the method's own. For another one the bias is chosen
            again on stage-1 validation, with stage 1's weights.

    Raises:
        SacmaError: the method has no such output, or the weights cannot be read.
    """
    _, result, table = _evaluate(folder, benchmark, output)
    return result, table


def run_output(folder: RunFolder, benchmark: Benchmark, output: str) -> RunResult:
    """The result of a finished run scored by one of its embeddings, kept in result-OUTPUT.json (Table 7).

    Raises:
        SacmaError: the method has no such output, the weights cannot be read, or a file cannot be written.
    """
    path = folder.result_path(output)
    if not path.is_file():
        validation, test, _ = _evaluate(folder, benchmark, output)
        result = dataclasses.replace(folder.result(), validation=validation, test=test)
        write_json(path, result.to_dict())
    return folder.result(output)


def _evaluate(
    folder: RunFolder, benchmark: Benchmark, output: str | None
) -> tuple[GZSLResult, GZSLResult, Predictions]:
    """Results on validation and on test, and the predictions on test."""
    config = folder.config()
    method = load_run_model(folder, benchmark)
    validation = _validation(folder, benchmark, output or method.default_output)
    test = benchmark.split("test")
    bias = folder.test_bias() if output in (None, method.default_output) else validation.bias
    result, scores = evaluate_method(method, test, config, bias=bias, output=output)
    return validation, result, predictions(scores, test, bias)


def _validation(folder: RunFolder, benchmark: Benchmark, output: str) -> GZSLResult:
    """Result of stage 1's weights on validation with an output, at the bias that is best for it."""
    config = folder.config()
    known = outputs_of(config)
    if output not in known:
        raise SacmaError(f"{config.method} has no output {printable(output)}; it has: {', '.join(known)}")
    if output == known[0]:
        return folder.selection().validation
    stage_1 = load_model(config.method, folder.stage(1))
    return evaluate_method(stage_1, benchmark.split("val"), config, bias=None, output=output)[0]


def outputs_of(config: RunConfig) -> Sequence[str]:
    """Names of what can score in a run, the default first."""
    own = method_class(config.method).OUTPUTS
    return own if config.protocol.prior == "none" else (*Fused.OUTPUTS, *own)


def load_run_model(folder: RunFolder, benchmark: Benchmark) -> Method:
    """The final weights of a run, for features and class vectors as wide as those that it was trained on.

    Raises:
        SacmaError: the weights cannot be read, or the benchmark is of other widths.
    """
    method = load_model(folder.config().method, folder.path)
    _check_widths(method, benchmark)
    return method


def _check_widths(method: Method, benchmark: Benchmark) -> None:
    found = {
        "audio": benchmark.features.audio.width,
        "video": benchmark.features.video.width,
        "text": benchmark.vectors.shape[1],
    }
    for kind, width in found.items():
        expected = getattr(method.config, f"{kind}_width")
        if width != expected:
            what = "class vectors" if kind == "text" else f"{kind} features"
            raise SacmaError(
                f"{benchmark.features.path}: {what} are {width} wide, but the run was trained on "
                f"{expected}; use what it was trained on"
            )


def predictions(scores: Scores, split: Split, bias: float) -> Predictions:
    """Columns of predictions.parquet: clip, class, answers among all and among unseen classes, distances."""
    names = split.classes.names

    def named(positions: Tensor) -> list[str | None]:
        return [names[p] if p >= 0 else None for p in positions.tolist()]

    near = scores.gzsl
    return {
        "clip": [spelt_out(split.features.names[clip]) for clip in split.clips.tolist()],
        "class": named(scores.labels),
        "seen": split.classes.seen[scores.labels].tolist(),
        "prediction": named(torch.where(near.predicts_seen(bias), near.seen_class, near.unseen_class)),
        "prediction_zsl": named(scores.zsl.unseen_class),
        "nearest_seen": named(near.seen_class),
        "nearest_seen_distance": near.seen_distance.tolist(),
        "nearest_unseen": named(near.unseen_class),
        "nearest_unseen_distance": near.unseen_distance.tolist(),
    }


def spelt_out(name: str) -> str:
    """Escape the bytes of a file name that are not text, as Parquet holds nothing else."""
    return name.encode("utf-8", "backslashreplace").decode()
