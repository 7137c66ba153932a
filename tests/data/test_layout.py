"""Class lists and folders of a benchmark are found where the layout has them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmark_folders import (
    write_clips,
    write_ucf,
    write_zoo,
)
from sacma.data.benchmark import Benchmark
from sacma.data.class_lists import PARTITIONS
from sacma.data.paper import published_benchmarks
from sacma.files import write_text
from sacma.text.vectors import TextTable


def test_the_folder_may_be_inside_the_root(tmp_path: Path) -> None:
    write_zoo(tmp_path / "zoo")
    assert Benchmark.open(tmp_path, "zoo", "own").root == tmp_path / "zoo"


@pytest.mark.parametrize("inside", [True, False])
def test_published_lists_stand_in_for_missing_ones(tmp_path: Path, inside: bool) -> None:
    write_ucf(tmp_path / "UCF")
    opened = Benchmark.open(tmp_path if inside else tmp_path / "UCF", "ucf", "selavi")
    assert len(opened.classes) == 51
    test = opened.split("test")
    assert (len(test.classes), int(test.classes.seen.sum()), len(test)) == (51, 42, 51)
    cls = Benchmark.open(tmp_path, "ucf", "selavi", split="cls").split("test")
    assert (len(cls.classes), len(cls)) == (48, 48)
    flute = test.classes.names.index("PlayingFlute")
    own = published_benchmarks()["ucf"].classes.index("PlayingFlute")
    assert int(test.classes.vectors[flute].argmax()) == own
    mixed = Benchmark.open(tmp_path, "ucf", "selavi", text_alignment="published").split("test").classes
    differ = (mixed.vectors != test.classes.vectors).any(dim=1)
    assert (int(differ[~mixed.seen].sum()), int(differ[mixed.seen].sum())) == (5, 31)


def test_handstand_pushups_are_spelt_in_two_ways(tmp_path: Path) -> None:
    write_ucf(tmp_path)
    facts = published_benchmarks()["ucf"]
    write_text(tmp_path / "class-split" / "all_class.txt", "\n".join(facts.classes))
    for partition in PARTITIONS:
        names = [
            name.replace("HandstandPushups", "HandStandPushups")
            for name in facts.partition_classes(partition, "main")
        ]
        write_text(tmp_path / "class-split" / "main_split" / f"{partition}.txt", "\n".join(names))
    train = Benchmark.open(tmp_path, "ucf", "selavi").split("train").classes
    assert "HandstandPushups" in train.names
    row = train.vectors[train.names.index("HandstandPushups")]
    assert int(row.argmax()) == facts.classes.index("HandstandPushups")


def test_activitynet_has_its_own_name_for_vectors(tmp_path: Path) -> None:
    facts = published_benchmarks()["activitynet"]
    clips = {one: dict.fromkeys(facts.partition_classes(one, "main"), 1) for one in PARTITIONS}
    write_clips(tmp_path / "features" / "own", clips)
    table = TextTable(tuple(facts.text_names.values()), torch.rand(200, 2).numpy())
    table.write(tmp_path / "features" / "own" / "text" / "word_embeddings_activity_normed.npz")
    assert len(Benchmark.open(tmp_path, "activitynet", "own").split("train_val").classes) == 150


@pytest.mark.parametrize(
    ("features", "present", "chosen"),
    [
        ("selavi", ("main_features", "main_features_non_averaged"), "main_features_non_averaged"),
        ("selavi", ("main_features", "cls_features"), "main_features"),
        ("c3d-vggish", ("cls_features_non_averaged", "cls_features"), "cls_features_non_averaged"),
        ("c3d-vggish", ("cls_features", "main_features"), "cls_features"),
        ("clip-clap", ("clip-clap", "main_features"), "clip-clap"),
        ("own", ("own",), "own"),
    ],
)
def test_names_of_features(tmp_path: Path, features: str, present: tuple[str, ...], chosen: str) -> None:
    for folder in present:
        write_ucf(tmp_path, folder)
    assert Benchmark.open(tmp_path, "ucf", features).features.path.name == chosen
