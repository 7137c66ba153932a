"""Damaged, missing, contradicting and hostile files: one line that names them, soon; nothing half done."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import commands
import folders
from commands import contents, on, result, sacma, start, train, trained, wait, write_official
from sacma.data.features import Features
from sacma.testing import toy_benchmark

STEPS = ["--audio-step=0.5", "--video-step=1"]
FEATURES = Path("features") / folders.FEATURES
LISTS = Path("class-split") / "main_split"
TEXT = FEATURES / "text" / f"word_embeddings_{folders.NAME}_normed.npz"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.write_folder(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def whole_official(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_official(whole, tmp_path_factory.mktemp("official") / "toy")


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A folder in our own format, to be damaged."""
    return Path(shutil.copytree(whole, tmp_path / "toy"))


@pytest.fixture
def official(whole_official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the official format, to be damaged; what is imported goes to a cache of its own."""
    monkeypatch.setenv("SACMA_CACHE", str(tmp_path / "cache"))
    return Path(shutil.copytree(whole_official, tmp_path / "official"))


@pytest.fixture(scope="module")
def finished(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(whole, tmp_path_factory.mktemp("runs") / "run", "--checkpoint-seconds=0")


@pytest.fixture(scope="module")
def stopped(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed when its second checkpoint of stage 1 was in place."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    arguments = ["train", *on(whole), f"--out={run}", *commands.SMALL, "--checkpoint-seconds=0"]
    assert wait(start(*arguments, fault=(commands.die_at_write, 5, True))) == -9
    assert (run / "stage-1" / "checkpoint.pt").exists()
    return run


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run, to be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def unfinished(stopped: Path, tmp_path: Path) -> Path:
    """A run in stage 1, to be damaged."""
    return Path(shutil.copytree(stopped, tmp_path / "run"))


@pytest.fixture
def between(run: Path) -> Path:
    """A run with stage 2 before it, to be damaged."""
    for name in ("result.json", "predictions.parquet", "model.safetensors", "config.json"):
        (run / name).unlink()
    return run


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def refused(tmp_path: Path, *arguments: object) -> str:
    """The line of a command that fails within a moment and leaves every file as it was."""
    before, started = listing(tmp_path), time.monotonic()
    line = sacma(*arguments).line
    assert time.monotonic() - started < 30
    assert listing(tmp_path) == before
    assert len(line) < 1000
    return line


def train_refused(tmp_path: Path, root: Path, *more: object) -> str:
    out = tmp_path / "made"
    line = refused(tmp_path, "train", *on(root), *commands.SMALL, f"--out={out}", *more)
    assert not out.exists()
    return line


def import_refused(tmp_path: Path, root: Path) -> str:
    """The line of ``data import``; training on the folder fails with the same one.

    What was imported before the damaged file may be kept out of sight, for the next attempt.
    """
    out, run = tmp_path / "made", tmp_path / "run"
    line = refused(root, "data", "import", *on(root), *STEPS, f"--out={out}")
    assert not (out / "class-split").exists()
    assert all(path.name.startswith(".") for path in out.glob("features/*"))
    assert sacma("train", *on(root), *STEPS, f"--out={run}").line == line
    assert not run.exists()
    return line


# --- What is missing ------------------------------------------------------------------------------


FOLDERS = [".", "class-split", str(LISTS), "features", str(FEATURES)]
FILES = [
    "class-split/all_class.txt",
    *(str(LISTS / f"{name}.txt") for name in ("stage_1_train", "stage_1_val_unseen", "stage_2_test_seen")),
    *(str(FEATURES / name) for name in ("clips.safetensors", "clips.json")),
    str(TEXT),
]


@pytest.mark.parametrize(
    ("path", "instead"),
    [
        *((path, instead) for path in FOLDERS for instead in ("nothing", "an empty folder", "a file")),
        *((path, instead) for path in FILES for instead in ("nothing", "an empty folder")),
    ],
)
def test_missing_or_of_another_kind(path: str, instead: str, root: Path, tmp_path: Path) -> None:
    place = root / path
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    if instead == "an empty folder":
        place.mkdir()
    if instead == "a file":
        place.write_text("?")
    line = train_refused(tmp_path, root)
    assert str(place) in line or place.name.split(".")[0] in line


@pytest.mark.parametrize(
    "path", ["class-split/all_class.txt", str(FEATURES / "clips.safetensors"), str(TEXT)]
)
def test_files_that_may_not_be_read(path: str, root: Path, tmp_path: Path) -> None:
    (root / path).chmod(0)
    if os.access(root / path, os.R_OK):
        pytest.skip("this user may read everything")
    assert str(root / path) in train_refused(tmp_path, root)


# --- What contradicts itself ----------------------------------------------------------------------


def test_class_without_clips(root: Path, tmp_path: Path) -> None:
    """Of test alone: it is found out before anything is trained."""
    for file in (root / "class-split" / "all_class.txt", root / LISTS / "stage_2_test_unseen.txt"):
        file.write_text(file.read_text() + "kea\n")
    table = np.load(root / TEXT)
    names = np.append(table["names"], "a kea")
    np.savez(root / TEXT, names=names, vectors=np.vstack([table["vectors"], np.ones(folders.TEXT_WIDTH)]))
    with (root / "class-split" / f"{folders.NAME}_w2v_class_names.csv").open("a") as file:
        file.write("kea,a kea\n")
    line = train_refused(tmp_path, root)
    assert "no clips of kea in stage_2_test_seen or stage_2_test_unseen" in line


def test_class_without_a_vector(root: Path, tmp_path: Path) -> None:
    table = np.load(root / TEXT)
    keep = table["names"] != "a jay"
    np.savez(root / TEXT, names=table["names"][keep], vectors=table["vectors"][keep])
    line = train_refused(tmp_path, root)
    assert "jay" in line
    assert str(root / TEXT) in line


def test_class_without_a_text_name(root: Path, tmp_path: Path) -> None:
    file = root / "class-split" / f"{folders.NAME}_w2v_class_names.csv"
    file.write_text(file.read_text().replace("jay,a jay\n", ""))
    assert "jay" in train_refused(tmp_path, root)


def test_class_with_a_single_clip_is_no_mistake(whole_official: Path, tmp_path: Path) -> None:
    """In training and in none of the clips to validate with, as in the published lists."""
    root = Path(shutil.copytree(whole_official, tmp_path / "official"))
    for modality in ("audio", "video"):
        file = root / FEATURES / modality / "stage_1_train" / "ant.pkl"
        content = pickle.loads(file.read_bytes())
        file.write_bytes(pickle.dumps({name: values[:1] for name, values in content.items()}))
        (root / FEATURES / modality / "stage_1_val_seen" / "ant.pkl").unlink()
    names = root / LISTS / "stage_1_val_seen.txt"
    names.write_text(names.read_text().replace("ant\n", ""))
    out = tmp_path / "imported"
    outcome = sacma("data", "import", *on(root), *STEPS, f"--out={out}")
    assert outcome.status == 0, outcome.err
    for method in ("sacma", "eszsl", "f-vaegan-d2"):
        quick = {"sacma": commands.SMALL, "f-vaegan-d2": ["--synthesised-per-class=4"]}.get(method, [])
        few = [] if method == "eszsl" else ["--epochs=1", "--batches-per-epoch=2", "--batch-size=8"]
        run = tmp_path / method
        outcome = sacma("train", *on(out), f"--method={method}", f"--out={run}", *quick, *few)
        assert outcome.status == 0, outcome.err
        assert "ant" not in result(run)["validation"]["per_class"]
        assert "ant" in result(run)["test"]["per_class"]


def test_unseen_class_that_is_trained_on(root: Path, tmp_path: Path) -> None:
    file = root / LISTS / "stage_2_test_unseen.txt"
    file.write_text(file.read_text() + "ant\n")
    line = train_refused(tmp_path, root)
    assert "ant" in line
    assert str(file) in line


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_audio_and_video_of_other_clips(modality: str, official: Path, tmp_path: Path) -> None:
    file = official / FEATURES / modality / "stage_1_val_seen" / "bee.pkl"
    content = pickle.loads(file.read_bytes())
    content["video_names"][1] = "stranger"
    file.write_bytes(pickle.dumps(content))
    line = import_refused(tmp_path, official)
    assert str(file) in line
    assert "'stranger'" in line


def test_audio_of_a_class_without_its_video(official: Path, tmp_path: Path) -> None:
    (official / FEATURES / "video" / "stage_2_test_unseen" / "hen.pkl").unlink()
    line = import_refused(tmp_path, official)
    assert "'hen'" in line
    assert str(FEATURES / "video" / "stage_2_test_unseen") in line


@pytest.mark.parametrize("kind", ["audio features", "video features", "class vectors"])
def test_evaluation_on_features_of_another_width(
    kind: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = {"audio": "AUDIO_WIDTH", "video": "VIDEO_WIDTH", "class": "TEXT_WIDTH"}[kind.split(maxsplit=1)[0]]
    trained_on = getattr(folders, name)
    monkeypatch.setattr(toy_benchmark, name, 5)
    other = folders.write_folder(tmp_path / "other")
    line = refused(tmp_path, "evaluate", run, f"--root={other}")
    assert f"{kind} are 5 wide, but the run was trained on {trained_on}" in line
    assert str(other) in line


def test_resuming_on_features_of_another_width(
    unfinished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy_benchmark, "AUDIO_WIDTH", 5)
    other = folders.write_folder(tmp_path / "other")
    file = unfinished / "config.yaml"
    root = next(line for line in file.read_text().splitlines() if line.startswith("root:"))
    file.write_text(file.read_text().replace(root, f"root: {other}"))
    assert "checkpoint.pt" in sacma("train", "--resume", unfinished).line


# --- What a method cannot use ---------------------------------------------------------------------

FEW = ("--epochs=1", "--batches-per-epoch=1")


@pytest.mark.parametrize("method", ["tcaf", "perceiver", "ale"])
def test_averages_over_time(method: str, official: Path, tmp_path: Path) -> None:
    """Methods of sequences read one step, and say so; the others need no more."""
    for file in (official / FEATURES).glob("*/*/*.pkl"):
        content = pickle.loads(file.read_bytes())
        content["features"] = [clip.mean(0) for clip in content["features"]]
        file.write_bytes(pickle.dumps(content))
    outcome = sacma("train", *on(official), *STEPS, f"--method={method}", f"--out={tmp_path / 'run'}", *FEW)
    assert outcome.status == 0, outcome.err
    assert ("one step a clip" in outcome.out) == (method != "ale")


@pytest.mark.parametrize(
    ("method", "said"), [("avmst", "one width, not 12 and 16"), ("f-vaegan-d2", "features of 0 or more")]
)
def test_features_that_released_code_cannot_use(method: str, said: str, whole: Path, tmp_path: Path) -> None:
    if method == "avmst":
        pytest.importorskip("snntorch")
    options = [f"--method={method}", "--variant=published", *FEW]
    assert said in sacma("train", *on(whole), f"--out={tmp_path / 'run'}", *options).line
    assert method != "avmst" or not (tmp_path / "run").exists()  # known before anything is written


@pytest.mark.parametrize("method", ["cjme", "avgzslnet", "avca"])
def test_no_other_class_for_negatives(method: str, root: Path, tmp_path: Path) -> None:
    kept = {"stage_1": ["ant"], "stage_2": ["ant", "fox", "gnu"]}
    for name in ("stage_1_train", "stage_1_val_seen", "stage_2_train", "stage_2_test_seen"):
        (root / LISTS / f"{name}.txt").write_text("\n".join(kept[name[:7]]) + "\n")
    options = [f"--method={method}", *FEW]
    line = sacma("train", *on(root), f"--out={tmp_path / 'run'}", *options).line
    assert "only 1 class has clips" in line


# --- Values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("modality", ["audio", "video"])
def test_values_that_are_no_numbers_in_official_files(
    value: float, modality: str, official: Path, tmp_path: Path
) -> None:
    file = official / FEATURES / modality / "stage_2_test_unseen" / "jay.pkl"
    content = pickle.loads(file.read_bytes())
    content["features"][2][0, 3] = value
    file.write_bytes(pickle.dumps(content))
    line = import_refused(tmp_path, official)
    assert str(file) in line
    assert "jay_2" in line
    assert modality in line


def with_value(root: Path, partition: int, value: float) -> str:
    """Puts a value into a clip in our own format; returns the clip's class."""
    features = Features.open(root / FEATURES)
    clip = int((features.partitions == partition).nonzero()[0])
    row = int(features.video.offsets[clip])
    label = features.classes[int(features.labels[clip])]
    del features
    file = root / FEATURES / "clips.safetensors"
    arrays = load_file(file)
    arrays["video.values"][row, 0] = value
    save_file(arrays, file, metadata={"format": "sacma-clips", "version": "1"})
    return label


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("partition", [0, 1, 4])
def test_values_that_are_no_numbers_in_our_own_format(
    value: float, partition: int, root: Path, tmp_path: Path
) -> None:
    with_value(root, partition, value)
    line = train(root, tmp_path / "run").line
    assert "features" in line
    assert not (tmp_path / "run" / "result.json").exists()
    assert "checksum" in sacma("data", "check", *on(root)).line


def test_a_vector_that_is_no_number(root: Path, tmp_path: Path) -> None:
    table = dict(np.load(root / TEXT))
    table["vectors"][2, 1] = np.nan
    np.savez(root / TEXT, **table)
    line = train_refused(tmp_path, root)
    assert str(root / TEXT) in line
    assert "NaN" in line


@pytest.mark.parametrize("modality", ["audio", "video"])
def test_a_sequence_without_steps_in_official_files(modality: str, official: Path, tmp_path: Path) -> None:
    file = official / FEATURES / modality / "stage_1_train" / "cat.pkl"
    content = pickle.loads(file.read_bytes())
    content["features"][3] = content["features"][3][:0]
    file.write_bytes(pickle.dumps(content))
    line = import_refused(tmp_path, official)
    assert str(file) in line
    assert "clip 'cat_3' of class 'cat' has no steps" in line


def test_a_clip_of_another_width_in_official_files(official: Path, tmp_path: Path) -> None:
    file = official / FEATURES / "audio" / "stage_1_train" / "cat.pkl"
    content = pickle.loads(file.read_bytes())
    content["features"][3] = np.zeros((2, 3), np.float32)
    file.write_bytes(pickle.dumps(content))
    assert "cat_3" in import_refused(tmp_path, official)


@pytest.mark.parametrize(
    "options", [["--learning-rate=1e30"], ["--temperature=0"], ["--weight-reg=1e38"]], ids=str
)
def test_a_loss_that_diverges(options: list[str], whole: Path, tmp_path: Path) -> None:
    line = train(whole, tmp_path / "run", *options).line
    assert "the loss term" in line
    assert "lower learning_rate" in line
    assert not (tmp_path / "run" / "result.json").exists()
    assert sacma("train", "--resume", tmp_path / "run").line == line


def test_a_huge_learning_rate_ends_in_a_result_or_a_line(whole: Path, tmp_path: Path) -> None:
    outcome = train(whole, tmp_path / "run", "--learning-rate=1e9")
    assert outcome.status == 0 or outcome.line


# --- Damaged and hostile benchmark files ----------------------------------------------------------

Damage = Callable[[bytes], bytes]
DAMAGES: dict[str, Damage] = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "noise": lambda content: np.random.default_rng(0).bytes(len(content)),
    "text": lambda content: b"<!DOCTYPE html><title>Not found</title>",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "path", [str(FEATURES / "clips.safetensors"), str(FEATURES / "clips.json"), str(TEXT)]
)
def test_damaged_files_of_our_own(path: str, damage: str, root: Path, tmp_path: Path) -> None:
    file = root / path
    if path.endswith(".json") and damage == "one byte short":
        pytest.skip("the last byte is a line's end")
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert str(file) in train_refused(tmp_path, root)


INDEXES = {
    "a list": [],
    "another format": {"format": "other", "version": 1},
    "a later version": {"version": 99},
    "more clips": {"clips": 10**9},
    "clips that are text": {"clips": "many"},
    "no classes": {"classes": []},
    "classes that are a number": {"classes": 3},
    "another width": {"audio": {"width": 3, "step_seconds": 1}},
    "a step that is text": {"audio": {"width": folders.AUDIO_WIDTH, "step_seconds": "long"}},
}


@pytest.mark.parametrize("kind", INDEXES)
def test_an_index_that_says_something_else(kind: str, root: Path, tmp_path: Path) -> None:
    file = root / FEATURES / "clips.json"
    content: Any = INDEXES[kind]
    if isinstance(content, dict):
        content = json.loads(file.read_text()) | content
    file.write_text(json.dumps(content))
    assert str(file) in train_refused(tmp_path, root)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_pickles(damage: str, official: Path, tmp_path: Path) -> None:
    file = official / FEATURES / "video" / "stage_2_test_seen" / "fox.pkl"
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert str(file) in import_refused(tmp_path, official)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_hdf5(damage: str, official: Path, tmp_path: Path) -> None:
    for modality, width in (("audio", folders.AUDIO_WIDTH), ("video", folders.VIDEO_WIDTH)):
        (official / FEATURES / modality / "stage_1_train" / "ant.pkl").unlink()
        file = official / FEATURES / modality / "stage_1_train" / "ant.h5"
        with h5py.File(file, "w") as content:
            content["data"] = np.ones((3, width), np.float32)
            content["video_urls"] = np.array([b"x", b"y", b"z"])
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert str(file) in import_refused(tmp_path, official)


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_word_vectors(damage: str, official: Path, tmp_path: Path) -> None:
    table = dict(np.load(official / TEXT))
    (official / TEXT).unlink()
    file = (official / TEXT).with_suffix(".npy")
    pairs = dict(zip(table["names"].tolist(), table["vectors"], strict=True))
    np.save(file, np.array(pairs, dtype=object), allow_pickle=True)
    good = sacma("data", "import", *on(official), *STEPS, f"--out={tmp_path / 'good'}")
    assert good.status == 0, good.err
    file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert str(file) in import_refused(tmp_path, official)


@pytest.mark.parametrize("path", ["class-split/all_class.txt", str(LISTS / "stage_1_train.txt")])
def test_class_lists_that_are_no_text(path: str, root: Path, tmp_path: Path) -> None:
    (root / path).write_bytes(b"\xff\xfe\x00ant")
    assert str(root / path) in train_refused(tmp_path, root)
    (root / path).write_bytes(b"\n \n")
    assert str(root / path) in train_refused(tmp_path, root)


class Evil:
    """What a pickle has to hold so that loading it runs a command."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.flag}'",)


def test_evil_is_evil(tmp_path: Path) -> None:
    """Else the tests below would show nothing."""
    pickle.loads(pickle.dumps(Evil(tmp_path / "flag")))
    assert (tmp_path / "flag").exists()


def test_a_class_file_that_runs_code(official: Path, tmp_path: Path) -> None:
    file = official / FEATURES / "audio" / "stage_1_val_unseen" / "gnu.pkl"
    content = pickle.loads(file.read_bytes())
    file.write_bytes(pickle.dumps({**content, "more": Evil(tmp_path / "flag")}))
    line = import_refused(tmp_path, official)
    assert f"{file}: sacma refuses to run code from a file" in line
    assert "system" in line
    assert not (tmp_path / "flag").exists()


def test_word_vectors_that_run_code(official: Path, tmp_path: Path) -> None:
    (official / TEXT).unlink()
    file = (official / TEXT).with_suffix(".npy")
    np.save(file, np.array({"a ant": Evil(tmp_path / "flag")}, dtype=object), allow_pickle=True)
    line = import_refused(tmp_path, official)
    assert f"{file}: sacma refuses to run code from a file" in line
    assert not (tmp_path / "flag").exists()


@pytest.mark.parametrize("stage", ["training", "val", "test"])
def test_a_cache_of_the_official_code_that_runs_code(stage: str, official: Path, tmp_path: Path) -> None:
    for modality in ("audio", "video"):
        shutil.rmtree(official / FEATURES / modality)
    caches = official / "_features_processed" / folders.FEATURES
    caches.mkdir(parents=True)
    partitions = {
        "training": ["stage_1_train"],
        "val": ["stage_1_val_seen", "stage_1_val_unseen"],
        "test": ["stage_2_test_seen", "stage_2_test_unseen"],
    }
    for name, parts in partitions.items():
        labels = [folders.ALL.index(label) for part in parts for label in folders.PARTITION_CLASSES[part]]
        modalities = {
            kind: {
                "data": [np.ones((2, width), np.float32) for _ in labels],
                "target": labels,
                "url": [f"clip {number}" for number, _ in enumerate(labels)],
            }
            for kind, width in (("audio", folders.AUDIO_WIDTH), ("video", folders.VIDEO_WIDTH))
        }
        file = caches / f"{name}main_split.pkl"
        evil = {"more": Evil(tmp_path / "flag")} if name == stage else {}
        file.write_bytes(pickle.dumps({**modalities, **evil}))
    line = import_refused(tmp_path, official)
    assert f"{caches / f'{stage}main_split.pkl'}: sacma refuses to run code from a file" in line
    assert not (tmp_path / "flag").exists()


# --- A full disk ----------------------------------------------------------------------------------


def test_full_disk_while_importing(whole_official: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    arguments = ["data", "import", *on(whole_official), *STEPS, f"--out={out}"]
    size = 20_000
    assert wait(start(*arguments, fault=(commands.limit_file_size, size), log=log)) == 2
    (line,) = log.read_text().splitlines()
    assert str(out) in line
    assert "File too large" in line
    assert not (out / FEATURES).exists()
    assert sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) < 4 * size
    assert sacma(*arguments).status == 0
    assert not [path for path in out.rglob("*") if path.name.startswith(".")]


# --- Run folders ----------------------------------------------------------------------------------

CHECKPOINTS: dict[str, Callable[[Path, Path], object]] = {
    "empty": lambda file, _: file.write_bytes(b""),
    "half": lambda file, _: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "noise": lambda file, _: file.write_bytes(np.random.default_rng(0).bytes(1000)),
    "text": lambda file, _: file.write_text("hello"),
    "a list": lambda file, _: torch.save([1, 2], file),
    "a tensor": lambda file, _: torch.save(torch.ones(3), file),
    "nothing in it": lambda file, _: torch.save({}, file),
    "other weights": lambda file, _: torch.save(
        torch.load(file, weights_only=True) | {"method": {"x": torch.ones(1)}}, file
    ),
    "other progress": lambda file, _: torch.save(
        torch.load(file, weights_only=True) | {"progress": {"epochs": 3}}, file
    ),
    "other random state": lambda file, _: torch.save(
        torch.load(file, weights_only=True) | {"random": torch.zeros(3)}, file
    ),
    "hostile": lambda file, flag: torch.save({"progress": Evil(flag)}, file),
    "hostile, old format": lambda file, flag: torch.save(
        {"progress": Evil(flag)}, file, _use_new_zipfile_serialization=False
    ),
    "a plain pickle": lambda file, flag: file.write_bytes(pickle.dumps(Evil(flag))),
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_damaged_checkpoints(kind: str, unfinished: Path, finished: Path, tmp_path: Path) -> None:
    file = unfinished / "stage-1" / "checkpoint.pt"
    CHECKPOINTS[kind](file, tmp_path / "flag")
    line = sacma("train", "--resume", unfinished).line
    assert f"cannot continue from the checkpoint {file}: " in line
    assert "delete it" in line
    assert not (tmp_path / "flag").exists()
    file.unlink()
    assert sacma("train", "--resume", unfinished).status == 0
    assert contents(unfinished)["weights"] == contents(finished)["weights"]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
CONFIGS: dict[str, Callable[[str], str | bytes]] = {
    "empty": lambda text: "",
    "noise": lambda text: b"\xff\x00\xfe",
    "a list": lambda text: "- 1\n- 2\n",
    "text": lambda text: "hello",
    "no YAML": lambda text: "epochs: [1, 2\nfoo: }{",
    "half": lambda text: text[: len(text) // 2],
    "without its last line": lambda text: "\n".join(text.splitlines()[:-1]) + "\n",
    "unknown option": lambda text: text + "no_such: 3\n",
    "method that is no text": lambda text: text.replace("method: sacma", "method: 3"),
    "unknown method": lambda text: text.replace("method: sacma", "method: nope"),
    "a method that is a list": lambda text: text.replace("method: sacma", "method: [sacma]"),
    "unknown variant": lambda text: text.replace("variant: paper", "variant: nope"),
    "unknown preset": lambda text: text.replace("preset: small", "preset: 3"),
    "wrong type": lambda text: text.replace("epochs: 3", "epochs: many"),
    "a switch": lambda text: text.replace("same_class: negative", "same_class: both"),
    "precision": lambda text: text.replace("precision: float32", "precision: float16"),
    "a date": lambda text: text.replace("seed: 0", "seed: 2020-01-01"),
    "no date": lambda text: text.replace("seed: 0", "seed: 2020-99-99"),
    "truth for a number": lambda text: text.replace("epochs: 3", "epochs: true"),
    "out of range": lambda text: text.replace("width: 12", "width: 0"),
    "infinite": lambda text: text.replace("learning_rate: 0.003", "learning_rate: .inf"),
    "too large to compute with": lambda text: text.replace("seed: 0", "seed: 1" + "0" * 400),
    "code": lambda text: text + "x: !!python/object/apply:os.system ['touch flag']\n",
    "a bomb": lambda text: text + BOMB,
    "a bomb in an option": lambda text: BOMB + text.replace("epochs: 3", "epochs: *i"),
    "deep": lambda text: text + "x: " + "[" * 5_000,
    "itself": lambda text: text + "x: &x [*x]\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("command", ["resume", "evaluate", "--config"])
def test_damaged_configurations(
    kind: str, command: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if command == "--config" and kind in ("half", "without its last line"):
        pytest.skip("a file of options need not have them all")
    monkeypatch.chdir(tmp_path)
    file = run / "config.yaml"
    damaged = CONFIGS[kind](file.read_text())
    assert damaged != file.read_text()
    file.write_bytes(damaged.encode() if isinstance(damaged, str) else damaged)
    arguments = {
        "resume": ["train", "--resume", run],
        "evaluate": ["evaluate", run],
        "--config": ["train", "--config", file, "--out", tmp_path / "made"],
    }[command]
    refused(tmp_path, *arguments)


def test_a_damaged_configuration_is_named(run: Path, tmp_path: Path) -> None:
    file = run / "config.yaml"
    file.write_text(file.read_text().replace("epochs: 3", "epochs: many"))
    assert f"{file}: epochs is 'many'; it must be a whole number" in refused(tmp_path, "evaluate", run)
    file.write_text("\n".join(line for line in file.read_text().splitlines() if "seed:" not in line))
    assert str(file) in refused(tmp_path, "evaluate", run)


RESULTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda content: [content],
    "empty": lambda content: {},
    "no test": lambda content: {**content, "test": {}},
    "test that is text": lambda content: {**content, "test": "good"},
    "a figure that is text": lambda content: {**content, "test": {**content["test"], "seen": "all"}},
    "no figure": lambda content: {**content, "test": {**content["test"], "bias": None}},
    "one more figure": lambda content: {**content, "test": {**content["test"], "more": 1}},
    "no method": lambda content: {name: value for name, value in content.items() if name != "method"},
    "another format": lambda content: {**content, "format": 99},
}


@pytest.mark.parametrize("kind", [*RESULTS, "noise", "half", "deep"])
@pytest.mark.parametrize("command", [["evaluate"], ["train", "--resume"]], ids=" ".join)
def test_damaged_results(kind: str, command: list[str], run: Path, tmp_path: Path) -> None:
    file = run / "result.json"
    text = file.read_text()
    whole = {"noise": "\x00\x01", "half": text[: len(text) // 2], "deep": "[" * 5_000}
    file.write_text(whole[kind] if kind in whole else json.dumps(RESULTS[kind](json.loads(text))))
    assert str(file) in refused(tmp_path, *command, run)


def test_a_damaged_result_stops_a_summary(whole: Path, tmp_path: Path) -> None:
    out = trained(whole, tmp_path / "runs", "--seeds=1")
    (out / "seed-0" / "result.json").write_text("{}")
    assert str(out / "seed-0" / "result.json") in train(whole, out, "--seeds=1").line


SELECTIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a list": lambda content: [],
    "empty": lambda content: {},
    "no epochs": lambda content: {**content, "epochs": None},
    "epochs that are text": lambda content: {**content, "epochs": "three"},
    "more epochs than rates": lambda content: {**content, "epochs": 99},
    "no epoch": lambda content: {**content, "epochs": 0},
    "rates that are a number": lambda content: {**content, "learning_rates": 3},
    "rates that are numbers": lambda content: {**content, "learning_rates": [0.1, 0.1, 0.1]},
    "no validation": lambda content: {**content, "validation": {}},
}


@pytest.mark.parametrize("kind", SELECTIONS)
def test_damaged_selections(kind: str, between: Path) -> None:
    file = between / "stage-1" / "selection.json"
    file.write_text(json.dumps(SELECTIONS[kind](json.loads(file.read_text()))))
    assert str(file) in sacma("train", "--resume", between).line


@pytest.mark.parametrize(
    "rows",
    ["{}\n", "[1]\n", "no json\n", '{"stage": 1}\n', "[" * 5_000 + "\n"],
    ids=["empty", "list", "text", "short", "deep"],
)
def test_damaged_metrics(rows: str, unfinished: Path, finished: Path) -> None:
    file = unfinished / "metrics.jsonl"
    file.write_text(rows)
    line = sacma("train", "--resume", unfinished).line
    assert str(file) in line
    assert "remove it" in line
    file.unlink()
    assert sacma("train", "--resume", unfinished).status == 0
    assert result(unfinished) == result(finished)


MODELS: dict[str, Callable[[Path], object]] = {
    "no weights": lambda run: (run / "model.safetensors").unlink(),
    "half of the weights": lambda run: (run / "model.safetensors").write_bytes(
        (run / "model.safetensors").read_bytes()[:-100]
    ),
    "noise": lambda run: (run / "model.safetensors").write_bytes(np.random.default_rng(0).bytes(1000)),
    "a pickle": lambda run: torch.save({"x": torch.ones(1)}, run / "model.safetensors"),
    "other weights": lambda run: save_file({"x": np.ones(3)}, run / "model.safetensors"),
    "no config": lambda run: (run / "config.json").unlink(),
    "an empty config": lambda run: (run / "config.json").write_text("{}"),
    "a config that is a list": lambda run: (run / "config.json").write_text("[]"),
    "a deep config": lambda run: (run / "config.json").write_text("[" * 5_000),
    "another width": lambda run: change_json(run / "config.json", width=24),
    "a width that is text": lambda run: change_json(run / "config.json", width="wide"),
    "a negative width": lambda run: change_json(run / "config.json", width=-1),
    "an immense width": lambda run: change_json(run / "config.json", width=10**15),
    "something unknown": lambda run: change_json(run / "config.json", colour="red"),
    "a wrong switch": lambda run: change_json(run / "config.json", streams="xyz"),
}


def change_json(file: Path, **changed: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


@pytest.mark.parametrize("kind", MODELS)
def test_damaged_models(kind: str, run: Path, tmp_path: Path) -> None:
    MODELS[kind](run)
    assert str(run) in refused(tmp_path, "evaluate", run)


def test_weights_of_stage_1_are_needed_for_another_output(run: Path, tmp_path: Path) -> None:
    (run / "stage-1" / "model.safetensors").unlink()
    assert sacma("evaluate", run).status == 0
    line = refused(tmp_path, "evaluate", run, "--output=phi_a")
    assert str(run / "stage-1") in line


def test_a_benchmark_that_is_gone(run: Path, tmp_path: Path) -> None:
    file = run / "config.yaml"
    root = next(line for line in file.read_text().splitlines() if line.startswith("root:"))
    file.write_text(file.read_text().replace(root, "root: /no/such/folder"))
    assert "/no/such/folder" in refused(tmp_path, "evaluate", run)
    (run / "result.json").unlink()
    assert "/no/such/folder" in refused(tmp_path, "train", "--resume", run)
