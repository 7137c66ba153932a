"""Retrieval figures of a finished run."""

from __future__ import annotations

from sacma.data.batches import trimming_of
from sacma.data.benchmark import Benchmark
from sacma.metrics.retrieval import Retrieval, both_ways
from sacma.runs.folder import RunFolder
from sacma.training.evaluation import distances_by_output
from sacma.training.scoring import load_run_model


def retrieval_of_run(
    folder: RunFolder, benchmark: Benchmark, *, output: str | None = None, bias: float
) -> dict[str, Retrieval]:
    """Retrieval over a run's test clips, see ``sacma.metrics.retrieval.both_ways``.

    Args:
        folder: a finished run.
        benchmark: the run's benchmark, opened.
        output: the embedding that scores, by default the method's own.
        bias: of its calibration.

    Raises:
        SacmaError: the method has no such output, or the weights cannot be read.
    """
    method, test = load_run_model(folder, benchmark), benchmark.split("test")
    scoring = method.scoring_output(output)
    training = folder.config().training
    trimming = trimming_of(training, training=False)
    found = distances_by_output(
        method, test, batch_size=training.eval_batch_size, trimming=trimming, outputs=[scoring]
    )
    return both_ways(found[scoring].double(), test.labels.cpu(), test.classes.seen.cpu(), bias=bias)
