"""Official folders that tests write and import: five classes, all partitions, class files or caches."""

from __future__ import annotations

import builtins
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from sacma.data.class_lists import PARTITIONS
from sacma.data.features import Features
from sacma.data.official.importing import import_folder

CLASSES = ("Ape", "Bee", "Cat", "Dog", "Elk")
LISTS = {
    "stage_1_train": ("Bee", "Cat"),
    "stage_1_val_seen": ("Bee", "Cat"),
    "stage_1_val_unseen": ("Dog",),
    "stage_2_test_seen": ("Bee", "Cat", "Dog"),
    "stage_2_test_unseen": ("Ape", "Elk"),
}
FOLDER = "own_features"
Clips = dict[str, tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]


def clips_of(partition: str, name: str, *, averaged: bool = False) -> Clips:
    """Three clips of a class in a partition, audio 2 and video 3 wide."""
    seed = [PARTITIONS.index(partition), CLASSES.index(name)]
    draw = np.random.default_rng(seed)
    clips = {}
    for number in range(3):
        lengths = (1, 1) if averaged else draw.integers(1, 5, size=2)
        audio, video = (
            draw.standard_normal((length, width)).astype(np.float32)
            for length, width in zip(lengths, (2, 3), strict=True)
        )
        clips[f"{name}_{seed[0]}{number}"] = (audio, video)
    return clips


def write_temporal(path: Path, names: Sequence[str], sequences: Sequence[Any], protocol: int = 4) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "features": list(sequences),
        "video_names": [name.encode() for name in names],
        "fps": [25] * len(names),
    }
    path.write_bytes(pickle.dumps(content, protocol))


def write_averaged(path: Path, names: Sequence[str], sequences: Sequence[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["data"] = np.concatenate(sequences)
        file["video_urls"] = np.array([name.encode() for name in names], dtype="S80")


def write_lists(root: Path) -> None:
    lists = root / "class-split"
    for split in ("main_split", "cls_split"):
        (lists / split).mkdir(parents=True)
        for partition, names in LISTS.items():
            kept = [name for name in names if split == "main_split" or name != "Elk"]
            (lists / split / f"{partition}.txt").write_text("\n".join(kept) + "\n")
    (lists / "all_class.txt").write_text("\n".join(reversed(CLASSES)) + "\n\n")
    (lists / "zoo_w2v_class_names.csv").write_text(
        "original,manual\n" + "".join(f'{name},"a {name}, wild"\n' for name in CLASSES)
    )


def write_words(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    words = {f"a {name}, wild": np.full(4, place, np.float32) for place, name in enumerate(CLASSES)}
    (folder / "text").mkdir(parents=True)
    np.save(folder / "text" / "word_embeddings_zoo_normed.npy", words)
    return words


def write_root(root: Path, *, averaged: bool = False) -> Path:
    """A whole official folder; visual files have their clips in reverse order."""
    write_lists(root)
    features = root / "features" / FOLDER
    write_words(features)
    write, suffix = (write_averaged, "h5") if averaged else (write_temporal, "pkl")
    for partition, names in LISTS.items():
        for name in names:
            clips = clips_of(partition, name, averaged=averaged)
            audio = [pair[0] for pair in clips.values()]
            video = [pair[1] for pair in clips.values()]
            write(features / "audio" / partition / f"{name}.{suffix}", list(clips), audio)
            write(features / "video" / partition / f"{name}.{suffix}", list(clips)[::-1], video[::-1])
    return root


def imported(root: Path, out: Path, **changes: Any) -> Features:
    arguments = {"benchmark": "zoo", "folder": FOLDER, "audio_step": 0.5, "video_step": 2.0}
    assert import_folder(root, out, **(arguments | changes)) == out
    return Features.open(out / "features" / FOLDER)


def check_import(features: Features, *, averaged: bool = False, without: Sequence[str] = ()) -> None:
    features.verify()
    assert features.classes == CLASSES
    expected = [
        (partition, name, clip, *pair)
        for partition, names in LISTS.items()
        for name in names
        if name not in without
        for clip, pair in clips_of(partition, name, averaged=averaged).items()
    ]
    assert len(features) == len(expected)
    for row, (partition, name, clip, audio, video) in enumerate(expected):
        assert PARTITIONS[features.partitions[row]] == partition
        assert features.classes[features.labels[row]] == name
        assert features.names[row] == clip
        here = torch.tensor([row])
        np.testing.assert_array_equal(features.audio.gather(here).values, audio)
        np.testing.assert_array_equal(features.video.gather(here).values, video)


def assert_same(one: Features, other: Features) -> None:
    assert (one.path / "clips.safetensors").read_bytes() == (other.path / "clips.safetensors").read_bytes()
    indices = [json.loads((path / "clips.json").read_text()) for path in (one.path, other.path)]
    for index in indices:
        del index["provenance"]["date"]
    assert indices[0] == indices[1]


def write_any(path: Path) -> None:
    sequences = [np.full((1, 2), number, np.float32) for number in range(3)]
    words = {"a": np.ones(3, np.float32), "b": np.zeros(3, np.float32)}
    if path.name == "a.pkl":
        write_temporal(path, ["a", "b", "c"], sequences)
    elif path.name == "a.h5":
        write_averaged(path, ["a", "b", "c"], sequences)
    elif path.name == "a.npy":
        np.save(path, words)  # type: ignore[arg-type]
    elif path.name == "a.npz":
        np.savez(path, names=np.array(list(words)), vectors=np.stack(list(words.values())))
    else:
        half = {"data": sequences, "target": torch.tensor([0, 0, 1]), "url": np.array(["a", "b", "c"])}
        path.write_bytes(pickle.dumps({"audio": half, "video": half}))


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.code = f"open({str(mark)!r}, 'w')"

    def __reduce__(self) -> Any:
        return builtins.eval, (self.code,)


def stop_after(pieces: int) -> Callable[[int, int], None]:
    def stop(done: int, _: int) -> None:
        if done == pieces:
            raise KeyboardInterrupt

    return stop
