"""The benchmarks of the paper, and ours, as data: class lists, text names, published counts, and Table 1.

The facts stand in ``facts/``: a table of classes for each benchmark, and ``published.yaml``. Class
lists and counts are those of the AVCA and TCAF repositories, taken from their lists; Table 1 is the paper's.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import yaml

from sacma.data.class_lists import PARTITIONS

if TYPE_CHECKING:
    from rich.table import Table

SPLITS = ("main", "cls")

_TRAIN, _VAL_SEEN, _VAL_UNSEEN, _TEST_SEEN, _TEST_UNSEEN = PARTITIONS


@dataclass(frozen=True)
class Published:
    """Published facts about a benchmark.

    Attributes:
        name: ``ucf``, ``vggsound``, ``activitynet`` or ``yt8m``.
        title: the name in papers.
        folder: its folder in the official archives.
        vectors: the part of the name of its table of class vectors that names the benchmark.
        classes: all classes of the source data set in ascending order, also those that no split uses.
        text_names: class -> the name under which its vector is kept.
        parts: class -> ``train``, ``val_unseen``, ``test_unseen``, ``test_unseen_main_only`` or ``unused``.
        class_clips: partition -> class -> clips; empty where no list of clips is published (VGGSound).
        partition_clips: partition -> clips, an integer or one for each split.
        printed: Table 1 of the SACMA paper as printed; empty for a benchmark that is not of the paper.
    """

    name: str
    title: str
    folder: str
    vectors: str
    classes: tuple[str, ...]
    text_names: Mapping[str, str]
    parts: Mapping[str, str]
    class_clips: Mapping[str, Mapping[str, int]]
    partition_clips: Mapping[str, int | Mapping[str, int]]
    printed: Mapping[str, int]

    def partition_classes(self, partition: str, split: str) -> tuple[str, ...]:
        """The classes of a partition in ``main`` or ``cls``, in ascending order."""
        members = {
            _TRAIN: ("train",),
            _VAL_SEEN: ("train",),
            _VAL_UNSEEN: ("val_unseen",),
            _TEST_SEEN: ("train", "val_unseen"),
            _TEST_UNSEEN: ("test_unseen",) if split == "cls" else ("test_unseen", "test_unseen_main_only"),
        }[partition]
        return tuple(name for name in self.classes if self.parts[name] in members)

    @property
    def splits(self) -> tuple[str, ...]:
        """The class splits that are published: ``main`` and, where it differs, ``cls``."""
        differs = any(not isinstance(count, int) for count in self.partition_clips.values())
        return SPLITS if differs else SPLITS[:1]

    def clips(self, partition: str, split: str) -> int:
        """Number of clips of a partition in ``main`` or ``cls``."""
        count = self.partition_clips[partition]
        return count if isinstance(count, int) else count[split]


@cache
def published_benchmarks() -> Mapping[str, Published]:
    """The three benchmarks of the paper by name."""
    return {name: facts for name, facts in known_benchmarks().items() if facts.printed}


@cache
def known_benchmarks() -> Mapping[str, Published]:
    """The benchmarks of the paper and YT8M-GZSL by name, read once from ``facts/``."""
    folder = resources.files("sacma") / "data" / "facts"
    facts = yaml.safe_load((folder / "published.yaml").read_text(encoding="utf-8"))
    return {
        name: _published(name, fact, (folder / f"{name}.csv").read_text(encoding="utf-8"))
        for name, fact in facts.items()
    }


def _published(name: str, fact: Mapping[str, Any], table: str) -> Published:
    rows = list(csv.DictReader(table.splitlines()))
    counts = {
        partition: {row["class"]: int(row[partition]) for row in rows if row[partition]}
        for partition in PARTITIONS
        if partition in rows[0]
    }
    return Published(
        name=name,
        title=fact["title"],
        folder=fact["folder"],
        vectors=fact["vectors"],
        classes=tuple(row["class"] for row in rows),
        text_names={row["class"]: row["text_name"] for row in rows},
        parts={row["class"]: row["part"] for row in rows},
        class_clips=counts,
        partition_clips=fact["clips"],
        printed=fact["printed"],
    )


@dataclass(frozen=True)
class InfoRow:
    """One line of Table 1, computed from our data.

    Attributes:
        benchmark: name.
        title: name in papers.
        split: ``main`` or ``cls``; the paper's table is ``main``.
        classes: numbers of classes by column: classes, seen, unseen, train, val_seen, val_unseen, train_val,
            test_seen, test_unseen (C, S, U, tr_s, val_s, val_u, tr_s of stage 2, te_s, te_u in the paper).
        clips: clips by partition, and ``stage_2_train``, the sum of the three of stage 1.
        printed: the paper's value for the columns of ``classes`` where it differs.
    """

    benchmark: str
    title: str
    split: str
    classes: Mapping[str, int]
    clips: Mapping[str, int]
    printed: Mapping[str, int]

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each value that the paper prints differently."""
        return tuple(
            f"{self.title}, {_COLUMNS[column]}: {self.classes[column]}, where the paper prints {value}"
            for column, value in self.printed.items()
        )


_COLUMNS = {
    "classes": "C",
    "seen": "S",
    "unseen": "U",
    "train": "tr_s",
    "val_seen": "val_s",
    "val_unseen": "val_u",
    "train_val": "tr_s (stage 2)",
    "test_seen": "te_s",
    "test_unseen": "te_u",
}


def info_rows() -> list[InfoRow]:
    """Table 1 of the paper for ``main`` and ``cls``, and YT8M-GZSL, computed from class lists."""
    return [_info_row(facts, split) for facts in known_benchmarks().values() for split in facts.splits]


def _info_row(facts: Published, split: str) -> InfoRow:
    sizes = {partition: len(facts.partition_classes(partition, split)) for partition in PARTITIONS}
    clips = {partition: facts.clips(partition, split) for partition in PARTITIONS}
    classes = {
        "classes": sizes[_TEST_SEEN] + sizes[_TEST_UNSEEN],
        "seen": sizes[_TRAIN],
        "unseen": sizes[_VAL_UNSEEN] + sizes[_TEST_UNSEEN],
        "train": sizes[_TRAIN],
        "val_seen": sizes[_VAL_SEEN],
        "val_unseen": sizes[_VAL_UNSEEN],
        "train_val": sizes[_TRAIN] + sizes[_VAL_UNSEEN],
        "test_seen": sizes[_TEST_SEEN],
        "test_unseen": sizes[_TEST_UNSEEN],
    }
    stage_2_train = sum(clips[partition] for partition in (_TRAIN, _VAL_SEEN, _VAL_UNSEEN))
    printed = facts.printed if split == "main" else {}
    return InfoRow(
        benchmark=facts.name,
        title=facts.title,
        split=split,
        classes=classes,
        clips={**clips, "stage_2_train": stage_2_train},
        printed={column: value for column, value in printed.items() if value != classes[column]},
    )


def info_table(rows: Sequence[InfoRow] | None = None) -> Table:
    """``info_rows`` for a screen of 80 columns: classes, below them clips, and where the paper differs."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    rows = info_rows() if rows is None else rows
    notes = [note for row in rows for note in row.notes]
    table = Table(
        title="Classes, and below them clips, of each benchmark and split",
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        leading=1,
        caption="\n".join(f"* {note}" for note in notes) or None,
        caption_justify="left",
    )
    table.add_column("benchmark")
    table.add_column("split")
    for header in _COLUMNS.values():
        table.add_column(header.replace(" (", "\n").rstrip(")"), justify="right", no_wrap=True)
    clips_of = {
        "train": _TRAIN,
        "val_seen": _VAL_SEEN,
        "val_unseen": _VAL_UNSEEN,
        "train_val": "stage_2_train",
        "test_seen": _TEST_SEEN,
        "test_unseen": _TEST_UNSEEN,
    }
    for row in rows:
        cells = []
        for column in _COLUMNS:
            mark = "*" if column in row.printed else ""
            clips = f"\n{row.clips[clips_of[column]]}" if column in clips_of else ""
            cells.append(f"{row.classes[column]}{mark}{clips}")
        table.add_row(row.title, row.split, *cells)
    return table
