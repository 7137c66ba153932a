"""Class lists: the files of ``class-split/``, read and written in the layout of the published benchmarks.

all_class.txt                   all classes, one a line
NAME_w2v_class_names.csv        class and the name under which its vector is kept
SPLIT_split/PARTITION.txt       classes of a partition in a class split, ``main`` or ``cls``
SPLIT_split/PARTITION.csv       its clips: file name, class, position of the class in all_class.txt

A list of clips may have a column ``group`` as well: clips of a group belong together, such as those of one
recording or of one object, and a split keeps them together.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from sacma.errors import SacmaError, printable, some_of
from sacma.files import MOST_TABLE, read_text, reading, write_text
from sacma.text.names import check_distinct

PARTITIONS = (
    "stage_1_train",
    "stage_1_val_seen",
    "stage_1_val_unseen",
    "stage_2_test_seen",
    "stage_2_test_unseen",
)
"""The groups of clips of the two-stage protocol; each has a list of its classes in ``SPLIT_split``."""

_STAGE_2_TRAIN = PARTITIONS[:3]
_TEXT_NAMES = "_w2v_class_names.csv"
_EXTENSIONS = frozenset(
    {"avi", "mp4", "mkv", "webm", "mov", "m4v", "flv", "mpg", "mpeg", "wav", "npy", "pkl", "h5"}
)


def read_class_list(path: Path) -> tuple[str, ...]:
    """Read the class names of a ``.txt`` file, one a line: stripped, without blank lines, sorted.

    Raises:
        SacmaError: no such file, not text, empty, or a class is there twice, in any spelling.
    """
    with reading(path):
        lines = read_text(path).splitlines()
        names = sorted(line.strip() for line in lines if line.strip())
        if not names:
            raise SacmaError(f"{path}: empty, expected class names, one a line")
        check_distinct(names, str(path))
        return tuple(names)


def read_name_mapping(path: Path, *, column: str = "manual") -> dict[str, str]:
    """Read class name -> text name from the columns ``original`` and ``column`` of ``*_class_names.csv``.

    Raises:
        SacmaError: no such file, not such a table, or a class is there twice.
    """
    mapping: dict[str, str] = {}
    for original, manual in _columns(path, "original", column):
        if original in mapping:
            raise SacmaError(f"{path}: class {printable(original)} is there twice; take one out")
        mapping[original] = manual
    return mapping


def read_clip_list(path: Path) -> list[tuple[str, str]]:
    """Read (clip name, class name) from the columns ``filename`` and ``label`` of a ``stage_*.csv``.

    The order of the columns differs between UCF, ActivityNet and VGGSound, so they are found by their header.

    Raises:
        SacmaError: no such file or not such a table.
    """
    return _columns(path, "filename", "label")


def _columns(path: Path, first: str, second: str) -> list[tuple[str, str]]:
    with reading(path):
        rows = csv.DictReader(io.StringIO(read_text(path, limit=MOST_TABLE), newline=""))
        if not {first, second} <= set(rows.fieldnames or ()):
            raise SacmaError(
                f"{path}: columns {some_of([name[:60] for name in rows.fieldnames or ['none']])}; "
                f"expected {first} and {second} among them"
            )
        pairs = []
        for row in rows:
            if not row[first] or not row[second]:
                raise SacmaError(
                    f"{path}, line {rows.line_num}: no {first} or no {second}; complete the line"
                )
            pairs.append((row[first].strip(), row[second].strip()))
        return pairs


def check_benchmark(lists: Path, benchmark: str) -> None:
    """Check that class lists are those of a benchmark.

    Args:
        lists: a ``class-split`` folder; one without a table of text names may be of any benchmark.
        benchmark: the NAME in ``NAME_w2v_class_names.csv``.

    Raises:
        SacmaError: the folder has such tables, but none of this benchmark.
    """
    found = sorted(path.name.removesuffix(_TEXT_NAMES) for path in lists.glob(f"*{_TEXT_NAMES}"))
    if found and benchmark not in found:
        raise SacmaError(
            f"{lists}: benchmark {some_of(found)}, not {printable(benchmark)}; name that one, or "
            "another folder"
        )


def text_names_file(lists: Path, benchmark: str) -> Path:
    """Return the path of a benchmark's table of text names."""
    return lists / f"{benchmark}{_TEXT_NAMES}"


def write_class_names(
    folder: Path,
    name: str,
    text_names: Mapping[str, str],
    splits: Mapping[str, Mapping[str, Sequence[str]]],
) -> None:
    """Write the lists of classes.

    Args:
        folder: ``class-split`` of a benchmark.
        name: the NAME of ``NAME_w2v_class_names.csv``.
        text_names: class -> name under which its vector is kept, for all classes.
        splits: class split -> partition -> its classes in ascending order.
    """
    _write_lines(folder / "all_class.txt", list(text_names))
    write_table(text_names_file(folder, name), ("original", "manual"), list(text_names.items()))
    for split, partitions in splits.items():
        for partition, classes in partitions.items():
            _write_lines(folder / f"{split}_split" / f"{partition}.txt", classes)


def write_class_split(
    folder: Path,
    name: str,
    text_names: Mapping[str, str],
    clips: Sequence[tuple[str, str, str]],
    groups: Sequence[str | None] | None = None,
    split: str = "main",
) -> None:
    """Write the lists of classes and of clips of a class split.

    Args:
        folder: ``class-split`` of a benchmark.
        name: the NAME of ``NAME_w2v_class_names.csv``.
        text_names: class -> name under which its vector is kept, for all classes.
        clips: name, class and partition of each clip.
        groups: group of each clip, None for a clip without one; no column where none has one.
        split: name of the class split.
    """
    classes = list(text_names)
    grouped = groups is not None and any(groups)
    column = [(group or "",) if grouped else () for group in groups or [None] * len(clips)]
    header = ("filename", "label", "label_code", *(("group",) if grouped else ()))
    listed = list(zip(clips, column, strict=True))
    members = {part: [one for one in listed if one[0][2] == part] for part in PARTITIONS}
    members["stage_2_train"] = [one for one in listed if one[0][2] in _STAGE_2_TRAIN]
    names = {partition: sorted({of for (_, of, _), _ in some}) for partition, some in members.items()}
    write_class_names(folder, name, text_names, {split: names})
    for partition, some in members.items():
        rows = [(clip, of, str(classes.index(of)), *group) for (clip, of, _), group in some]
        write_table(folder / f"{split}_split" / f"{partition}.csv", header, rows)


def _write_lines(target: Path, lines: Sequence[str]) -> None:
    write_text(target, "".join(f"{line}\n" for line in lines))


def write_table(target: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a CSV file, whole or not at all."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    write_text(target, text.getvalue())


def clip_key(name: str) -> str:
    """Return a clip's name in the form by which lists and feature files are compared.

    The published code keeps the ``b'...'`` that Python's ``str`` puts around bytes; lists may have a folder
    in front or the file's extension at the end. Only extensions of media and feature files are taken off, as
    a dot may belong to a name.
    """
    if len(name) > 3 and name[0] == "b" and name[1] in "'\"" and name[-1] == name[1]:
        name = name[2:-1]
    name = PurePosixPath(name.replace("\\", "/")).name
    stem, dot, extension = name.rpartition(".")
    return stem if dot and stem and extension.lower() in _EXTENSIONS else name
