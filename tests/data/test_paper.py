"""The facts about the three benchmarks, against the specification's numbers and the official files."""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from sacma.data.class_lists import PARTITIONS
from sacma.data.paper import SPLITS, info_rows, info_table, published_benchmarks

NAMES = ("ucf", "vggsound", "activitynet")
# Classes and clips: the five partitions in main, then test unseen in cls.
SIZES = {
    "ucf": ((30, 30, 12, 42, 9, 6), (3174, 353, 1467, 555, 1267, 845)),
    "activitynet": ((99, 99, 51, 150, 50, 48), (9204, 1023, 4307, 1615, 4199, 4052)),
    "vggsound": ((138, 138, 69, 207, 69, 64), (70351, 7817, 3102, 9032, 3450, 3200)),
}
STAGE_2_TRAIN = {"ucf": (42, 4994), "activitynet": (150, 14534), "vggsound": (207, 81270)}
ALL = {"ucf": 101, "vggsound": 309, "activitynet": 200}
DROPPED = {
    "ucf": {"BandMarching", "BrushingTeeth", "Typing"},
    "activitynet": {"Brushingteeth", "Knitting"},
    "vggsound": {"airplane", "helicopter", "sharpen knife", "thunder", "wind chime"},
}


def test_names() -> None:
    assert tuple(published_benchmarks()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_sizes(name: str) -> None:
    facts = published_benchmarks()[name]
    assert len(facts.classes) == ALL[name]
    assert list(facts.classes) == sorted(facts.classes)
    classes, clips = SIZES[name]
    last = PARTITIONS[-1]
    found = [facts.partition_classes(partition, "main") for partition in PARTITIONS]
    assert tuple(map(len, (*found, facts.partition_classes(last, "cls")))) == classes
    counts = [facts.clips(partition, "main") for partition in PARTITIONS]
    assert (*counts, facts.clips(last, "cls")) == clips
    assert set(found[-1]) - set(facts.partition_classes(last, "cls")) == DROPPED[name]


@pytest.mark.parametrize("name", ["ucf", "activitynet"])
def test_clips_of_classes_add_up(name: str) -> None:
    facts = published_benchmarks()[name]
    for partition in PARTITIONS:
        for split in SPLITS:
            classes = facts.partition_classes(partition, split)
            assert sum(facts.class_clips[partition][one] for one in classes) == facts.clips(partition, split)
        assert set(facts.class_clips[partition]) == set(facts.partition_classes(partition, "main"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("split", SPLITS)
def test_class_lists_are_the_official_ones(name: str, split: str, data_dir: Path) -> None:
    facts = published_benchmarks()[name]
    lists = data_dir / "benchmarks" / facts.folder / "class-split"
    assert set((lists / "all_class.txt").read_text().split("\n")) - {""} == set(facts.classes)
    for partition in PARTITIONS:
        official = (lists / f"{split}_split" / f"{partition}.txt").read_text().splitlines()
        ours = facts.partition_classes(partition, split)
        # The UCF lists spell one class differently from its list of all classes.
        assert sorted(map(str.lower, official)) == sorted(map(str.lower, ours))


@pytest.mark.parametrize("name", NAMES)
def test_text_names_are_the_official_ones(name: str, data_dir: Path) -> None:
    facts = published_benchmarks()[name]
    path = data_dir / "benchmarks" / facts.folder / "class-split" / f"{name}_w2v_class_names.csv"
    with path.open(newline="") as file:
        assert {row["original"]: row["manual"] for row in csv.DictReader(file)} == facts.text_names


@pytest.mark.parametrize("name", ["ucf", "activitynet"])
@pytest.mark.parametrize("partition", PARTITIONS)
def test_clips_of_classes_are_those_of_the_official_lists(name: str, partition: str, data_dir: Path) -> None:
    facts = published_benchmarks()[name]
    path = data_dir / "benchmarks" / facts.folder / "class-split" / "main_split" / f"{partition}.csv"
    with path.open(newline="") as file:
        listed = Counter(row["label"].lower() for row in csv.DictReader(file))
    ours = {one.lower(): count for one, count in facts.class_clips[partition].items()}
    assert ours == listed
    assert listed.total() == facts.clips(partition, "main")


@pytest.mark.parametrize("name", NAMES)
def test_table_1(name: str) -> None:
    main, cls = (row for row in info_rows() if row.benchmark == name)
    assert (main.split, cls.split) == ("main", "cls")
    train, val_seen, val_unseen, test_seen, test_unseen, test_unseen_cls = SIZES[name][0]
    stage_2, clips = STAGE_2_TRAIN[name]
    expected = {
        "classes": stage_2 + test_unseen,
        "seen": train,
        "unseen": val_unseen + test_unseen,
        "train": train,
        "val_seen": val_seen,
        "val_unseen": val_unseen,
        "train_val": stage_2,
        "test_seen": test_seen,
        "test_unseen": test_unseen,
    }
    assert dict(main.classes) == expected
    assert main.clips["stage_2_train"] == cls.clips["stage_2_train"] == clips
    fewer = test_unseen - test_unseen_cls
    assert cls.classes["classes"] == expected["classes"] - fewer
    assert cls.classes["unseen"] == expected["unseen"] - fewer
    assert cls.classes["test_unseen"] == test_unseen_cls


def test_the_paper_differs_in_one_value() -> None:
    differing = {(row.benchmark, row.split): dict(row.printed) for row in info_rows() if row.printed}
    assert differing == {("vggsound", "main"): {"val_unseen": 138}}
    (note,) = (note for row in info_rows() for note in row.notes)
    assert note == "VGGSound-GZSL, val_u: 69, where the paper prints 138"


def test_table_on_screen() -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(info_table())
    shown = console.export_text()
    for text in ("69*", "where the paper prints 138", "81270", "845", "14534", "ActivityNet-GZSL", "stage 2"):
        assert text in shown
