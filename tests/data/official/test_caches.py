"""Caches of the official training code give the same clips as class files."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from official_folders import (
    CLASSES,
    FOLDER,
    LISTS,
    check_import,
    clips_of,
    imported,
    write_lists,
    write_root,
    write_words,
)
from sacma.data.class_lists import PARTITIONS
from sacma.errors import SacmaError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "zoo")


def write_caches(folder: Path, *, averaged: bool = False, split: str = "main_split") -> None:
    """Class files come in any order there, and names as Python shows bytes."""
    without = ["Elk"] if split == "cls_split" else []
    for stage, partitions in {
        "training": PARTITIONS[:1],
        "val": PARTITIONS[1:3],
        "train_val": PARTITIONS[:3],
        "test": PARTITIONS[3:],
    }.items():
        audio, video, labels, names = [], [], [], []
        for partition in reversed(partitions):
            for name in reversed([name for name in LISTS[partition] if name not in without]):
                for clip, pair in clips_of(partition, name, averaged=averaged).items():
                    audio.append(pair[0])
                    video.append(pair[1])
                    labels.append(CLASSES.index(name))
                    names.append(str(clip.encode()))
        content = {}
        for modality, data in (("audio", audio), ("video", video)):
            whole = torch.from_numpy(np.concatenate(data)) if averaged else data
            content[modality] = {"data": whole, "target": torch.tensor(labels), "url": np.array(names)}
        folder.mkdir(parents=True, exist_ok=True)
        content["text"] = {"data": [np.ones(4)], "target": torch.tensor([0]), "url": np.array([])}
        (folder / f"{stage}{split}.pkl").write_bytes(pickle.dumps(content, pickle.HIGHEST_PROTOCOL))


@pytest.mark.parametrize(
    "place", ["zoo", "avgzsl_benchmark_non_averaged_datasets/zoo", "avgzsl_benchmark_datasets/zoo"]
)
@pytest.mark.parametrize("averaged", [False, True])
def test_caches(tmp_path: Path, averaged: bool, place: str) -> None:
    root = tmp_path / "zoo"
    write_lists(root)
    write_caches(tmp_path / place / "_features_processed" / FOLDER, averaged=averaged)
    features = imported(root, tmp_path / "out")
    check_import(features, averaged=averaged)


def test_caches_beside_empty_folders(tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    write_lists(root)
    write_words(root / "features" / FOLDER)
    (root / "features" / FOLDER / "audio" / "stage_1_train").mkdir(parents=True)
    write_caches(root / "_features_processed" / FOLDER)
    features = imported(root, tmp_path / "out")
    check_import(features)
    assert (features.path / "text" / "word_embeddings_zoo_normed.npz").is_file()


def test_caches_of_the_smaller_test_set(tmp_path: Path) -> None:
    root = tmp_path / "zoo"
    write_lists(root)
    write_caches(root / "_features_processed" / FOLDER, split="cls_split")
    check_import(imported(root, tmp_path / "out"), without=["Elk"])


def test_caches_and_class_files_give_the_same(root: Path, tmp_path: Path) -> None:
    write_lists(tmp_path / "other")
    write_caches(tmp_path / "other" / "_features_processed" / FOLDER)
    one, other = imported(root, tmp_path / "a"), imported(tmp_path / "other", tmp_path / "b")
    assert (one.path / "clips.safetensors").read_bytes() == (other.path / "clips.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["video"].update(target=torch.tensor([1] * 6)), "not of the same clips"),
        (lambda c: c["video"].update(target=torch.tensor([1])), "1 labels for 6 clips"),
        (lambda c: c.update(audio=3), "expected a dictionary with data"),
        (
            lambda c: [c[key].update(target=torch.tensor([1, 1, 1, 4, 4, 4])) for key in ("audio", "video")],
            "class number 4",
        ),
        (lambda c: c["video"].update(url=np.array(list("abcdef"))), "differ in their clips"),
    ],
)
def test_bad_caches(tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    root = tmp_path / "zoo"
    write_lists(root)
    write_caches(root / "_features_processed" / FOLDER)
    path = root / "_features_processed" / FOLDER / "trainingmain_split.pkl"
    content = pickle.loads(path.read_bytes())
    change(content)
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(SacmaError, match=rf"trainingmain_split\.pkl.*{message}"):
        imported(root, tmp_path / "out")
