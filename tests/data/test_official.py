"""Official folders: every format is read, imports are complete or not there, errors name the file."""

from __future__ import annotations

import builtins
import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from sacma.data.class_lists import PARTITIONS
from sacma.data.features import Features
from sacma.data.features_writer import FeaturesWriter
from sacma.data.official import importing as official
from sacma.data.official.importing import ClipTable, cached_import, import_folder
from sacma.errors import SacmaError

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


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "zoo")


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


# --- Single files ---------------------------------------------------------------------------------


def same_clips(table: ClipTable, names: Sequence[str], sequences: Sequence[Any]) -> None:
    assert table.names == tuple(names)
    for one, other in zip(table.sequences, sequences, strict=True):
        np.testing.assert_array_equal(one, other)


SEQUENCES = [np.full((length, 2), length, np.float32) for length in (1, 3)]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_temporal_features(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a.pkl"
    write_temporal(path, ["v_x", "é"], SEQUENCES, protocol)
    same_clips(official.read_temporal(path), ["v_x", "é"], SEQUENCES)


def test_names_written_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    names = [str(b"v_x"), str("é'".encode()), "b'", "plain"]
    path.write_bytes(pickle.dumps({"features": SEQUENCES * 2, "video_names": names}))
    assert official.read_temporal(path).names == ("v_x", "é'", "b'", "plain")


def test_averaged_features(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    sequences = [np.full((1, 2), number, np.float32) for number in range(3)]
    write_averaged(path, ["a", "b", "é"], sequences)
    same_clips(official.read_averaged(path), ["a", "b", "é"], sequences)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected a dictionary with features, video_names, found list"),
        ({"features": []}, r"found \['features'\]"),
        ({"features": SEQUENCES, "video_names": [b"a"]}, "1 clip names but 2 sequences"),
        ({"features": [np.zeros((2, 2, 2))], "video_names": [b"a"]}, r"clip 'a' has .* shape \(2, 2, 2\)"),
        ({"features": [np.array([["x"]])], "video_names": [b"a"]}, "clip 'a' has"),
        ({"features": ["x"], "video_names": [b"a"]}, "features are str"),
        ({"features": [np.zeros((1, 1))], "video_names": [3]}, "a name is int"),
        ({"features": [np.zeros((1, 1))], "video_names": [b"\xff"]}, "utf-8"),
        ({"features": 3, "video_names": []}, "found int, expected a list"),
    ],
)
def test_pickles_of_something_else(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(SacmaError, match=rf"a\.pkl: .*{message}"):
        official.read_temporal(path)


def write_h5(path: Path, **datasets: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value


def test_hdf5_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    names = np.array([b"a"])
    for datasets, message in (
        ({"video_urls": names}, "no dataset 'data'; there are video_urls"),
        ({"data": np.zeros((2, 2)), "video_urls": names}, "1 clip names but 2"),
        ({"data": np.zeros(2), "video_urls": names}, r"shape \(2,\)"),
        ({"data": h5py.SoftLink("/video_urls"), "video_urls": names}, "no dataset 'data'"),
        ({"data": h5py.ExternalLink("b.h5", "/data"), "video_urls": names}, "no dataset 'data'"),
    ):
        write_h5(path, **datasets)
        with pytest.raises(SacmaError, match=rf"a\.h5: .*{message}"):
            official.read_averaged(path)


def test_hdf5_does_not_reach_for_other_files(tmp_path: Path) -> None:
    path, secret = tmp_path / "a.h5", tmp_path / "secret"
    secret.write_bytes(bytes(64))
    with h5py.File(path, "w") as file:
        file["video_urls"] = np.array([b"a"])
        file.create_dataset("data", (1, 2), "f4", external=[(str(secret), 0, 8)])
    with pytest.raises(SacmaError, match=r"refuses .* another file"):
        official.read_averaged(path)


def test_hdf5_that_claims_too_much(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["video_urls"] = np.array([b"a"])
        file.create_dataset("data", (2**40, 512), "f4", chunks=(1, 512))
    with pytest.raises(SacmaError, match="claims"):
        official.read_averaged(path)


READERS: Mapping[str, Callable[[Path], object]] = {
    "a.pkl": official.read_temporal,
    "a.h5": official.read_averaged,
    "a.npy": official.read_word_vectors,
    "a.npz": official.read_word_vectors,
    "cache.pkl": official.read_cache,
}


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


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.6, 0.97])
@pytest.mark.parametrize("name", READERS)
def test_files_cut_short(tmp_path: Path, name: str, kept: float) -> None:
    path = tmp_path / name
    write_any(path)
    READERS[name](path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(SacmaError, match=str(path)) as error:
        READERS[name](path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", READERS)
def test_files_that_are_not_there_or_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(SacmaError, match=f"{name}: no such file"):
        READERS[name](tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(SacmaError, match=f"{name}: "):
        READERS[name](tmp_path / name)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.code = f"open({str(mark)!r}, 'w')"

    def __reduce__(self) -> Any:
        return builtins.eval, (self.code,)


@pytest.mark.parametrize("name", ["a.pkl", "a.npy", "cache.pkl"])
def test_nothing_runs(tmp_path: Path, name: str) -> None:
    path, mark = tmp_path / name, tmp_path / "mark"
    if name == "a.npy":
        np.save(path, {"a": np.ones(3), "b": Evil(mark)})  # type: ignore[arg-type]
    else:
        path.write_bytes(
            pickle.dumps({"features": [Evil(mark)], "video_names": [b"a"], "audio": {}, "video": {}})
        )
    with pytest.raises(SacmaError, match=rf"{name}: sacma refuses to run code .*builtins\.eval"):
        READERS[name](path)
    assert not mark.exists()
    if name == "a.npy":  # else this would prove nothing
        np.load(path, allow_pickle=True)
        assert mark.exists()


# --- Words and lists ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_word_vectors(tmp_path: Path, name: str) -> None:
    write_any(tmp_path / name)
    words = official.read_word_vectors(tmp_path / name)
    assert list(words) == ["a", "b"]
    assert words["a"].dtype == np.float32
    np.testing.assert_array_equal(words["a"], np.ones(3))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((2, 3)), "expected a saved dictionary"),
        (np.array([{"a": 1}], dtype=object), "expected a saved dictionary"),
        ({}, "expected vectors of one width"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, "expected vectors of one width"),
        ({"a": np.zeros((2, 2))}, "expected vectors of one width"),
        ({"a": np.array([1, np.nan])}, "the vector of 'a' has NaN"),
    ],
)
def test_word_vectors_that_are_none(tmp_path: Path, content: Any, message: str) -> None:
    np.save(tmp_path / "a.npy", content)
    with pytest.raises(SacmaError, match=message):
        official.read_word_vectors(tmp_path / "a.npy")


def test_class_lists(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\ufeffZebra \r\n\r\n  ant, red\r\nBee\n", encoding="utf-8")
    assert official.read_class_list(path) == ("Bee", "Zebra", "ant, red")
    for content, message in ((b"\n \n", "empty"), (b"a\nb\na\n", "'a' is there twice"), (b"\xff", "damaged")):
        path.write_bytes(content)
        with pytest.raises(SacmaError, match=message):
            official.read_class_list(path)
    with pytest.raises(SacmaError, match="no such file"):
        official.read_class_list(tmp_path / "b.txt")


def test_name_mapping(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('original,manual,category\n"heart sounds, heartbeat","heart, beat",people\nb,c,d\n')
    assert official.read_name_mapping(path) == {"heart sounds, heartbeat": "heart, beat", "b": "c"}
    for content, message in (
        ("", "columns none; expected original and manual"),
        ("a,b\n1,2\n", "columns a, b; expected original and manual"),
        ("original,manual\na,b\na,c\n", "'a' is there twice"),
        ("original,manual\na,b\nc\n", "line 3: no original or no manual"),
    ):
        path.write_text(content)
        with pytest.raises(SacmaError, match=message):
            official.read_name_mapping(path)


@pytest.mark.parametrize(
    "header",
    [
        "filename,label,label_code",
        "filename,label_code,label",
        "youtube_id,start_seconds,label,split,filename,label_code,category",
    ],
)
def test_clip_lists(tmp_path: Path, header: str) -> None:
    path = tmp_path / "a.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header.split(","), restval="x")
        writer.writeheader()
        writer.writerow({"filename": "v_1", "label": "dog, barking"})
    assert official.read_clip_list(path) == [("v_1", "dog, barking")]


# --- Import ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("averaged", [False, True])
def test_import(tmp_path: Path, averaged: bool) -> None:
    root = write_root(tmp_path / "zoo", averaged=averaged)
    seen: list[tuple[int, int]] = []
    features = imported(root, tmp_path / "out", on_progress=lambda done, total: seen.append((done, total)))
    check_import(features, averaged=averaged)
    assert (features.audio.step_seconds, features.video.step_seconds) == (0.5, 2.0)
    assert seen == [(done, 10) for done in range(1, 11)]
    provenance = features.provenance
    assert (provenance["source"], provenance["benchmark"], provenance["folder"]) == (str(root), "zoo", FOLDER)
    assert f"features/{FOLDER}/audio/stage_1_train/Bee.{'h5' if averaged else 'pkl'}" in provenance["files"]


def test_the_new_folder_has_the_same_layout(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    imported(root, out)
    lists = {path.relative_to(root) for path in (root / "class-split").rglob("*.*")}
    found = {path.relative_to(out) for path in out.rglob("*") if path.is_file()}
    ours = {Path("features", FOLDER, name) for name in ("clips.json", "clips.safetensors")}
    assert found == lists | ours | {Path("features", FOLDER, "text", "word_embeddings_zoo_normed.npz")}
    assert all((out / path).read_bytes() == (root / path).read_bytes() for path in lists)
    old, new = (
        official.read_word_vectors(
            top / "features" / FOLDER / "text" / f"word_embeddings_zoo_normed.{suffix}"
        )
        for top, suffix in ((root, "npy"), (out, "npz"))
    )
    assert list(old) == list(new)
    assert all(np.array_equal(old[name], new[name]) for name in old)


def test_the_training_folder_of_stage_2_is_not_read(root: Path, tmp_path: Path) -> None:
    for modality in ("audio", "video"):
        path = root / "features" / FOLDER / modality / "stage_2_train" / "Bee.pkl"
        path.parent.mkdir()
        path.write_bytes(b"rubbish")
    check_import(imported(root, tmp_path / "out"))


def test_other_files_between_the_class_files(root: Path, tmp_path: Path) -> None:
    stage = root / "features" / FOLDER / "audio" / "stage_1_train"
    for name in (".DS_Store", "._Bee.pkl", "notes.txt"):
        (stage / name).write_bytes(b"rubbish")
    check_import(imported(root, tmp_path / "out"))


def test_a_folder_for_the_smaller_test_set(root: Path, tmp_path: Path) -> None:
    """Folders of cls may lack the classes that only main has."""
    for modality in ("audio", "video"):
        (root / "features" / FOLDER / modality / "stage_2_test_unseen" / "Elk.pkl").unlink()
    check_import(imported(root, tmp_path / "out"), without=["Elk"])


def test_class_files_in_another_case(root: Path, tmp_path: Path) -> None:
    for path in (root / "features" / FOLDER).rglob("Dog.pkl"):
        path.rename(path.with_name("DOG.pkl"))
    check_import(imported(root, tmp_path / "out"))


def test_without_class_lists(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "class-split")
    check_import(imported(root, tmp_path / "out"))
    assert not (tmp_path / "out" / "class-split").exists()


def test_a_second_folder_of_features_beside_the_first(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "features" / FOLDER, root / "features" / "more")
    imported(root, tmp_path / "out")
    imported(root, tmp_path / "out", folder="more")
    check_import(Features.open(tmp_path / "out" / "features" / "more"))
    with pytest.raises(SacmaError, match="exists already"):
        imported(root, tmp_path / "out")
    (root / "class-split" / "all_class.txt").write_text("\n".join([*CLASSES, "Fox"]))
    shutil.copytree(root / "features" / FOLDER, root / "features" / "third")
    with pytest.raises(SacmaError, match=r"all_class\.txt is not as"):
        imported(root, tmp_path / "out", folder="third")
    assert not (tmp_path / "out" / "features" / "third").exists()


def change_class(
    root: Path, modality: str, change: Callable[[dict[str, Any]], object], name: str = "Bee"
) -> Path:
    path = root / "features" / FOLDER / modality / "stage_1_train" / f"{name}.pkl"
    content = pickle.loads(path.read_bytes())
    change(content)
    path.write_bytes(pickle.dumps(content))
    return path


def drop_first(content: dict[str, Any]) -> None:
    for values in content.values():
        del values[0]


def set_nan(content: dict[str, Any]) -> None:
    content["features"][1] = np.array([[0, 0, np.nan]], np.float32)


CHANGES: Mapping[str, tuple[str, Callable[[dict[str, Any]], object], str]] = {
    "a clip less": ("video", drop_first, r"audio/.*Bee\.pkl and .*video/.*Bee\.pkl differ .* 'Bee_02'"),
    "another name": (
        "video",
        lambda c: c["video_names"].__setitem__(0, b"new"),
        "only one of them has 'Bee_02', 'new'",
    ),
    "a name twice": ("audio", lambda c: c["video_names"].__setitem__(0, b"Bee_01"), "differ in their clips"),
    "nan": ("video", set_nan, r"Bee\.pkl.* clip 'Bee_01' of class 'Bee': step 0 of its video .* NaN"),
    "no steps": (
        "audio",
        lambda c: c["features"].__setitem__(2, np.zeros((0, 2))),
        "'Bee_02' of class 'Bee' has no steps",
    ),
    "width": ("audio", lambda c: c["features"].__setitem__(2, np.zeros((1, 3))), "'Bee_02' .* expected .* 2"),
    "no clips": ("both", lambda c: [values.clear() for values in c.values()], r"Bee\.pkl: no clips"),
    "evil": ("audio", lambda c: c.update(extra=Evil(Path("mark"))), r"Bee\.pkl: sacma refuses to run code"),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_bad_class_files(root: Path, tmp_path: Path, kind: str) -> None:
    modality, change, message = CHANGES[kind]
    for each in ("audio", "video") if modality == "both" else (modality,):
        change_class(root, each, change)
    with pytest.raises(SacmaError, match=message) as error:
        imported(root, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
    assert not Path("mark").exists()


def test_the_same_name_twice_in_both_files(root: Path, tmp_path: Path) -> None:
    for modality in ("audio", "video"):
        change_class(root, modality, lambda c: c["video_names"].__setitem__(slice(None), [b"x", b"x", b"y"]))
    with pytest.raises(SacmaError, match="clip 'x' of class 'Bee' is there twice in stage_1_train"):
        imported(root, tmp_path / "out")


def damage(root: Path, kind: str) -> None:
    features = root / "features" / FOLDER
    stage = features / "audio" / "stage_2_test_unseen"
    match kind:
        case "no root":
            shutil.rmtree(root)
        case "no folder":
            features.rename(features.with_name("other"))
        case "no stage":
            shutil.rmtree(stage)
        case "empty stage":
            shutil.rmtree(stage)
            stage.mkdir()
        case "video without audio":
            (stage / "Ape.pkl").unlink()
        case "class missing":
            for modality in ("audio", "video"):
                (features / modality / "stage_1_train" / "Cat.pkl").unlink()
        case "unknown class":
            for modality in ("audio", "video"):
                folder = features / modality / "stage_1_train"
                shutil.copy(folder / "Cat.pkl", folder / "Gnu.pkl")
        case "two formats":
            write_averaged(stage / "Ape.h5", ["a"], [np.zeros((1, 2))])
        case "other benchmark":
            names = root / "class-split" / "zoo_w2v_class_names.csv"
            names.rename(names.with_name("park_w2v_class_names.csv"))
        case "cut":
            path = stage / "Elk.pkl"
            path.write_bytes(path.read_bytes()[:-20])
        case "words":
            (features / "text" / "word_embeddings_zoo_normed.npy").write_bytes(b"rubbish")
        case "ours":
            (features / "clips.safetensors").touch()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no root", "zoo: no such folder"),
        ("no folder", r"own_features: no clips here; .* features/ has other"),
        ("no stage", "stage_2_test_unseen: no such folder"),
        ("empty stage", "stage_2_test_unseen: empty"),
        ("video without audio", r"audio/stage_2_test_unseen: no file for 'Ape', which video"),
        ("class missing", r"no file for 'Cat' of class-split/\w+_split/stage_1_train\.txt"),
        ("unknown class", r"Gnu\.pkl: class 'Gnu' is not in"),
        ("two formats", r"Ape\.pkl: there is Ape\.h5 as well"),
        ("other benchmark", "no zoo_w2v_class_names.csv, but that of park"),
        ("cut", r"Elk\.pkl: damaged"),
        ("words", r"zoo_normed\.npy: damaged"),
        ("ours", "imported already"),
    ],
)
def test_bad_folders(root: Path, tmp_path: Path, kind: str, message: str) -> None:
    damage(root, kind)
    with pytest.raises(SacmaError, match=message):
        imported(root, tmp_path / "out")
    assert not (tmp_path / "out" / "features" / FOLDER).exists()


def test_import_into_the_folder_itself(root: Path) -> None:
    with pytest.raises(SacmaError, match="exists already"):
        imported(root, root)
    assert official.read_class_list(root / "class-split" / "all_class.txt") == CLASSES


# --- Interruptions --------------------------------------------------------------------------------


def start_import(root: Path, out: Path, killed: str) -> int:
    """An import in a process of its own, that kills itself. Returns its exit status."""
    program = f"""
        import os, signal
        from sacma.data import features_writer
        from sacma.data.official import importing as official

        def die(*_):
            os.kill(os.getpid(), signal.SIGKILL)

        killed = {killed!r}
        add, calls = features_writer.FeaturesWriter.add, []

        def add_and_die(self, *clip):
            calls.append(clip)
            add(self, *clip)
            if killed == "within a class" and len(calls) == 14:
                self._video.flush()
                self._journal.flush()
                die()

        features_writer.FeaturesWriter.add = add_and_die
        if killed == "while it is completed":
            features_writer.file_header = die
        if killed == "before the words":
            official._convert_text = die
        if killed == "before the end":
            official._copy_class_split = die
        official.import_folder(
            {str(root)!r}, {str(out)!r}, benchmark="zoo", folder={FOLDER!r}, audio_step=0.5, video_step=2.0,
            on_progress=lambda done, total: killed == "between classes" and done == 4 and die(),
        )
    """
    return subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False).returncode


KILLS = ["between classes", "within a class", "while it is completed", "before the words", "before the end"]


@pytest.mark.slow
@pytest.mark.parametrize("killed", KILLS)
def test_a_killed_import_goes_on(
    root: Path, tmp_path: Path, killed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert start_import(root, out, killed) == -9
    assert not (out / "features" / FOLDER).exists()
    read: list[Path] = []
    counted = {".pkl": lambda path: (read.append(path), official.read_temporal(path))[1]}
    monkeypatch.setattr(official, "_READERS", counted)
    resumed = imported(root, out)
    check_import(resumed)
    # The first class is looked at again for the widths; what was finished is not converted again.
    converted = {"between classes": 6, "within a class": 6, "while it is completed": 0}.get(killed)
    assert len(read) == (0 if converted is None else 2 + 2 * converted)
    assert list(out.rglob(".*")) == []
    assert_same(resumed, imported(root, tmp_path / "whole"))


def assert_same(one: Features, other: Features) -> None:
    assert (one.path / "clips.safetensors").read_bytes() == (other.path / "clips.safetensors").read_bytes()
    indices = [json.loads((path / "clips.json").read_text()) for path in (one.path, other.path)]
    for index in indices:
        del index["provenance"]["date"]
    assert indices[0] == indices[1]


def stop_after(pieces: int) -> Callable[[int, int], None]:
    def stop(done: int, _: int) -> None:
        if done == pieces:
            raise KeyboardInterrupt

    return stop


def test_an_import_does_not_go_on_from_files_that_changed(root: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        imported(root, tmp_path / "out", on_progress=stop_after(4))
    assert not (tmp_path / "out" / "features" / FOLDER).exists()
    path = change_class(
        root, "audio", lambda c: c["features"].__setitem__(0, np.full((1, 2), 7.0)), name="Cat"
    )
    os.utime(path, ns=(1, 1))
    resumed = imported(root, tmp_path / "out")
    changed = resumed.names[:].index("Cat_00")
    assert resumed.audio.gather(torch.tensor([changed])).values.tolist() == [[7.0, 7.0]]
    assert_same(resumed, imported(root, tmp_path / "whole"))


def test_an_import_goes_on_after_an_error(root: Path, tmp_path: Path) -> None:
    path = root / "features" / FOLDER / "video" / "stage_2_test_seen" / "Dog.pkl"
    good = path.read_bytes()
    path.write_bytes(good[:-20])
    with pytest.raises(SacmaError, match=r"Dog\.pkl: damaged"):
        imported(root, tmp_path / "out")
    path.write_bytes(good)
    check_import(imported(root, tmp_path / "out"))


def test_a_full_disk(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = FeaturesWriter.commit

    def full(self: FeaturesWriter, key: str) -> None:
        if len(self.committed) == 3:
            with self._writing():
                raise OSError(28, os.strerror(28))
        commit(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(FeaturesWriter, "commit", full)
        with pytest.raises(SacmaError, match=r"No space left on device; .* run the same command again"):
            imported(root, tmp_path / "out")
    assert not (tmp_path / "out" / "features" / FOLDER).exists()
    check_import(imported(root, tmp_path / "out"))


def test_a_place_that_cannot_be_written(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SacmaError, match="cannot write"):
        imported(root, tmp_path / "file" / "out")


# --- Caches of the official code ------------------------------------------------------------------


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


# --- The cache folder -----------------------------------------------------------------------------


def cached(root: Path, **changes: Any) -> Features:
    arguments = {"benchmark": "zoo", "folder": FOLDER, "audio_step": 0.5, "video_step": 2.0}
    return Features.open(cached_import(root, **(arguments | changes)) / "features" / FOLDER)


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The roots that were imported, with the cache folder in a place of its own."""
    monkeypatch.setenv("SACMA_CACHE", str(tmp_path / "cache"))
    roots: list[Path] = []
    whole = official.import_folder

    def counted(root: Path, *arguments: Any, **more: Any) -> Path:
        roots.append(root)
        return whole(root, *arguments, **more)

    monkeypatch.setattr(official, "import_folder", counted)
    return roots


def test_an_import_is_kept(
    root: Path, imports: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached(root)
    check_import(first)
    assert first.path.is_relative_to(tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    assert cached(Path("zoo")).path == first.path
    assert len(imports) == 1


def touch(root: Path) -> None:
    os.utime(root / "features" / FOLDER / "video" / "stage_1_train" / "Bee.pkl", ns=(1, 1))


def change_list(root: Path) -> None:
    with (root / "class-split" / "all_class.txt").open("a") as file:
        file.write("Fox\n")


def remove_class(root: Path) -> None:
    for path in (root / "features" / FOLDER).rglob("Elk.pkl"):
        path.unlink()


def add_words(root: Path) -> None:
    np.save(root / "features" / FOLDER / "text" / "more.npy", {"a": np.zeros(2)})  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [touch, change_list, remove_class, add_words])
def test_an_import_is_made_again_when_a_file_changes(
    root: Path, imports: list[Path], change: Callable[[Path], None]
) -> None:
    before = cached(root)
    change(root)
    after = cached(root)
    assert len(imports) == 2
    assert after.path == before.path
    assert after.provenance["stamp"] != before.provenance["stamp"]
    cached(root)
    assert len(imports) == 2


def test_an_import_is_made_again_when_a_step_changes(root: Path, imports: list[Path]) -> None:
    assert cached(root).audio.step_seconds == 0.5
    assert cached(root, audio_step=0.25).audio.step_seconds == 0.25
    assert len(imports) == 2


def test_another_root_has_another_place(root: Path, imports: list[Path], tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "elsewhere" / "zoo")
    assert cached(root).path != cached(tmp_path / "elsewhere" / "zoo").path


def test_a_folder_in_our_format_is_used_as_it_is(root: Path, imports: list[Path], tmp_path: Path) -> None:
    imported(root, tmp_path / "out")
    found = cached_import(tmp_path / "out", benchmark="zoo", folder=FOLDER, audio_step=0.5, video_step=2.0)
    assert found == tmp_path / "out"


def test_a_kept_import_that_was_interrupted(root: Path, imports: list[Path]) -> None:
    with pytest.raises(KeyboardInterrupt):
        cached(root, on_progress=stop_after(3))
    change_list(root)
    check = cached(root)
    assert check.classes == (*CLASSES, "Fox")
    check.verify()


@pytest.mark.slow
def test_two_processes_at_once(root: Path, tmp_path: Path) -> None:
    program = f"""
        import time
        from sacma.data.official.importing import cached_import
        made = []
        cached_import(
            {str(root)!r}, benchmark="zoo", folder={FOLDER!r}, audio_step=0.5, video_step=2.0,
            on_progress=lambda done, total: (made.append(done), time.sleep(0.1)),
        )
        print(len(made))
    """
    environment = {**os.environ, "SACMA_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    runs = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(run.communicate()[0].strip() for run in runs) == ["0", "10"]


# --- Real files -----------------------------------------------------------------------------------


def test_sightsound(data_dir: Path, tmp_path: Path) -> None:
    root, folder = data_dir / "sightsound", "main_features_non_averaged"
    out = import_folder(
        root, tmp_path / "out", benchmark="sightsound", folder=folder, audio_step=0.48, video_step=1
    )
    features = Features.open(out / "features" / folder)
    features.verify()
    assert torch.bincount(features.partitions.long()).tolist() == [169, 23, 95, 36, 133]
    counts = dict(zip(features.classes, torch.bincount(features.labels).tolist(), strict=True))
    assert {name: count for name, count in counts.items() if count != 36} == {"Frog": 35, "Monkey": 25}
    assert (features.audio.width, features.video.width) == (1024, 1280)
    assert (int(features.audio.lengths.min()), int(features.audio.lengths.max())) == (1, 9)
    assert int((features.audio.lengths == 1).sum()) == 83
    assert set(features.video.lengths.tolist()) == {6}
    for partition, stage in enumerate(PARTITIONS):
        listed = official.read_clip_list(root / "class-split" / "main_split" / f"{stage}.csv")
        here = (features.partitions == partition).nonzero().squeeze(1).tolist()
        assert {(features.names[row], features.classes[features.labels[row]]) for row in here} == set(listed)
    reference = pickle.loads(
        (root / "features" / folder / "audio" / "stage_1_train" / "Dog.pkl").read_bytes()
    )
    row = features.names[:].index(reference["video_names"][3].decode())
    np.testing.assert_array_equal(features.audio.gather(torch.tensor([row])).values, reference["features"][3])


@pytest.mark.parametrize(
    ("benchmark", "folder", "vectors", "classes"),
    [
        ("ucf", "UCF", "ucf", 101),
        ("activitynet", "ActivityNet", "activity", 200),
        ("vggsound", "VGGSound", "vggsound", 309),
    ],
)
def test_lists_and_words_of_the_benchmarks(
    data_dir: Path, benchmark: str, folder: str, vectors: str, classes: int
) -> None:
    root = data_dir / "benchmarks" / folder
    path = root / "features" / "main_features_non_averaged" / "text" / f"word_embeddings_{vectors}_normed.npy"
    words = official.read_word_vectors(path)
    mapping = official.read_name_mapping(root / "class-split" / f"{benchmark}_w2v_class_names.csv")
    assert len(words) == len(mapping) == classes
    assert set(mapping.values()) == set(words)
    assert len(official.read_class_list(root / "class-split" / "all_class.txt")) == classes
    norms = [float(np.linalg.norm(vector)) for vector in words.values()]
    np.testing.assert_allclose(norms, 1, atol=1e-6)
    assert {vector.shape for vector in words.values()} == {(300,)}
