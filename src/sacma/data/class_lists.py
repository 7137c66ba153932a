"""Writes ``class-split/``, the class lists of a benchmark, in the layout of the published benchmarks."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from sacma.files import write_text

PARTITIONS = (
    "stage_1_train",
    "stage_1_val_seen",
    "stage_1_val_unseen",
    "stage_2_test_seen",
    "stage_2_test_unseen",
)
_STAGE_2_TRAIN = PARTITIONS[:3]


def write_class_split(
    folder: Path,
    name: str,
    text_names: Mapping[str, str],
    clips: Sequence[tuple[str, str, str]],
) -> None:
    """Write the lists of classes and of clips.

    Args:
        folder: ``class-split`` of a benchmark.
        name: the NAME of ``NAME_w2v_class_names.csv``.
        text_names: class -> name that its vector is kept under, for all classes.
        clips: name, class and partition of each clip.
    """
    classes = list(text_names)
    _write_lines(folder / "all_class.txt", classes)
    write_table(folder / f"{name}_w2v_class_names.csv", ("original", "manual"), list(text_names.items()))
    lists = {partition: [clip for clip in clips if clip[2] == partition] for partition in PARTITIONS}
    lists["stage_2_train"] = [clip for clip in clips if clip[2] in _STAGE_2_TRAIN]
    for partition, members in lists.items():
        rows = [(clip, of, str(classes.index(of))) for clip, of, _ in members]
        _write_lines(folder / "main_split" / f"{partition}.txt", sorted({of for _, of, _ in members}))
        write_table(folder / "main_split" / f"{partition}.csv", ("filename", "label", "label_code"), rows)


def _write_lines(target: Path, lines: Sequence[str]) -> None:
    write_text(target, "".join(f"{line}\n" for line in lines))


def write_table(target: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV file, whole or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(target, text.getvalue())
