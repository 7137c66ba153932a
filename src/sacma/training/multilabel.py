"""Figures of a finished run on test clips that have several right classes."""

from __future__ import annotations

from pathlib import Path

from sacma.data.batches import trimming_of
from sacma.data.benchmark import Benchmark
from sacma.data.label_tables import Modality, read_labels, right_classes
from sacma.metrics.multilabel import MultiLabelResult, evaluate_multilabel
from sacma.runs.folder import RunFolder
from sacma.training.evaluation import distances_by_output
from sacma.training.scoring import load_run_model


def multilabel_of_run(
    folder: RunFolder,
    benchmark: Benchmark,
    table: Path,
    *,
    output: str | None = None,
    modality: Modality = "all",
    bias: float,
) -> tuple[MultiLabelResult, str]:
    """Figures over the test clips of a run with the right classes of a table.

    Args:
        folder: a finished run.
        benchmark: the run's benchmark, opened.
        table: see ``sacma.data.label_tables``.
        output: the embedding that scores, by default the method's own.
        modality: which classes of the table count.
        bias: of the run's calibration.

    Returns:
        The figures, and a note on clips and labels that do not match; empty where all do.

    Raises:
        SacmaError: the table cannot be used, the method has no such output, or the weights cannot be read.
    """
    labels = read_labels(table, modality=modality)
    method, test = load_run_model(folder, benchmark), benchmark.split("test")
    found = right_classes(test, labels, source=table)
    scoring = method.scoring_output(output)
    training = folder.config().training
    distances = distances_by_output(
        method,
        test,
        batch_size=training.eval_batch_size,
        trimming=trimming_of(training, training=False),
        outputs=[scoring],
    )[scoring]
    seen = test.classes.seen.cpu()
    return evaluate_multilabel(distances[found.clips], found.right, seen, bias=bias), found.note
