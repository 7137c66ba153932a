"""A small benchmark folder, "zoo", for tests: all partitions, a class that no split uses, unsorted words."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from sacma.data.class_lists import PARTITIONS
from sacma.data.features_writer import FeaturesWriter
from sacma.data.paper import published_benchmarks
from sacma.files import write_text
from sacma.text.vectors import TextTable

TRAIN = ("Cat", "Dog", "ant")
VAL_UNSEEN = ("Bee", "Fox")
TEST_UNSEEN = ("Ape", "Eel")
LISTS = {
    "stage_1_train": TRAIN,
    "stage_1_val_seen": TRAIN,
    "stage_1_val_unseen": VAL_UNSEEN,
    "stage_2_test_seen": (*TRAIN, *VAL_UNSEEN),
    "stage_2_test_unseen": TEST_UNSEEN,
}
CLS_TEST_UNSEEN = ("Ape",)
TEXT_NAMES = {
    "Ape": "z ape",
    "Bee": "bee",
    "Cat": "cat",
    "Dog": "a dog",
    "Eel": "eel",
    "Fox": "fox",
    "Yak": "yak",
    "ant": "ant",
}
ALL_CLASSES = tuple(sorted(TEXT_NAMES))
CLIPS = {partition: dict.fromkeys(classes, 2) for partition, classes in LISTS.items()}


def vector(name: str) -> list[float]:
    """The vector of a class: its place among all classes and a constant."""
    return [float(ALL_CLASSES.index(name)), 1.0, -1.0]


def write_lists(
    root: Path, name: str = "zoo", lists: Mapping[str, tuple[str, ...]] = LISTS, split: str = "main"
) -> None:
    folder = root / "class-split"
    write_text(folder / "all_class.txt", "\n".join(reversed(ALL_CLASSES)) + "\n")
    rows = "".join(f"{original},{manual}\n" for original, manual in TEXT_NAMES.items())
    write_text(folder / f"{name}_w2v_class_names.csv", "original,manual\n" + rows)
    for partition, classes in lists.items():
        write_text(folder / f"{split}_split" / f"{partition}.txt", "\n".join(classes))


def write_clip_lists(root: Path, clips: Mapping[str, Mapping[str, int]] = CLIPS, split: str = "main") -> None:
    for partition, classes in clips.items():
        with (root / "class-split" / f"{split}_split" / f"{partition}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["filename", "label", "label_code"])
            for name, count in classes.items():
                for number in range(count):
                    writer.writerow([clip_name(partition, name, number), name, 0])


def clip_name(partition: str, name: str, number: int) -> str:
    return f"{name}_{PARTITIONS.index(partition)}{number:02}"


def write_text_table(folder: Path, name: str = "zoo") -> None:
    table = TextTable.from_mapping({text: np.array(vector(one)) for one, text in TEXT_NAMES.items()})
    table.write(folder / "text" / f"word_embeddings_{name}_normed.npz")


def write_clips(
    folder: Path, clips: Mapping[str, Mapping[str, int]] = CLIPS, classes: tuple[str, ...] | None = None
) -> None:
    """Features 2 and 3 wide in steps of 0.5 s and 1 s; the value of every step is the place of its clip.

    Lengths go round 1, 2, 3 for audio; every fourth clip has no video.
    """
    found = sorted({name for counts in clips.values() for name in counts}, reverse=True)
    classes = classes or tuple(found)
    place = 0
    with FeaturesWriter(
        folder, classes, audio_width=2, video_width=3, audio_step=0.5, video_step=1.0, provenance={}
    ) as writer:
        for partition, counts in clips.items():
            for name, count in counts.items():
                for number in range(count):
                    audio = np.full((place % 3 + 1, 2), place)
                    video = np.full((0 if place % 4 == 3 else 2, 3), place)
                    key = clip_name(partition, name, number)
                    writer.add(key, classes.index(name), PARTITIONS.index(partition), audio, video)
                    place += 1


def write_zoo(root: Path) -> Path:
    """The whole folder, with the splits main and cls."""
    write_lists(root)
    write_lists(root, lists={**LISTS, "stage_2_test_unseen": CLS_TEST_UNSEEN}, split="cls")
    write_text_table(root / "features" / "own")
    write_clips(root / "features" / "own")
    return root


def write_ucf(root: Path, folder: str = "main_features_non_averaged", table: str = "ucf") -> Path:
    """UCF with one clip a class and no class lists."""
    facts = published_benchmarks()["ucf"]
    clips = {one: dict.fromkeys(facts.partition_classes(one, "main"), 1) for one in PARTITIONS}
    write_clips(root / "features" / folder, clips)
    vectors = {text: torch.eye(101)[row].numpy() for row, text in enumerate(facts.text_names.values())}
    path = root / "features" / folder / "text" / f"word_embeddings_{table}_normed.npz"
    TextTable.from_mapping(vectors).write(path)
    return root
