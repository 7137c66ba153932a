"""Official folders are imported whole or not at all, and an import that was interrupted goes on."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from official_folders import (
    CLASSES,
    FOLDER,
    Evil,
    assert_same,
    check_import,
    imported,
    stop_after,
    write_averaged,
    write_root,
)
from sacma.data.class_lists import PARTITIONS, read_class_list, read_clip_list
from sacma.data.features import Features
from sacma.data.features_writer import FeaturesWriter
from sacma.data.official import class_files
from sacma.data.official.feature_files import ClipTable, read_temporal
from sacma.data.official.importing import import_folder
from sacma.errors import SacmaError
from sacma.text.vector_files import read_word_vectors


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "zoo")


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
        read_word_vectors(top / "features" / FOLDER / "text" / f"word_embeddings_zoo_normed.{suffix}")
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
        ("other benchmark", "class-split: benchmark park, not 'zoo'"),
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
    assert read_class_list(root / "class-split" / "all_class.txt") == CLASSES


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
            official.convert_text = die
        if killed == "before the end":
            official.copy_class_split = die
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

    def counted(path: Path) -> ClipTable:
        read.append(path)
        return read_temporal(path)

    monkeypatch.setattr(class_files, "read_class_file", counted)
    resumed = imported(root, out)
    check_import(resumed)
    # The first class is looked at again for the widths; what was finished is not converted again.
    converted = {"between classes": 6, "within a class": 6, "while it is completed": 0}.get(killed)
    assert len(read) == (0 if converted is None else 2 + 2 * converted)
    assert list(out.rglob(".*")) == []
    assert_same(resumed, imported(root, tmp_path / "whole"))


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
        listed = read_clip_list(root / "class-split" / "main_split" / f"{stage}.csv")
        here = (features.partitions == partition).nonzero().squeeze(1).tolist()
        assert {(features.names[row], features.classes[features.labels[row]]) for row in here} == set(listed)
    reference = pickle.loads(
        (root / "features" / folder / "audio" / "stage_1_train" / "Dog.pkl").read_bytes()
    )
    row = features.names[:].index(reference["video_names"][3].decode())
    np.testing.assert_array_equal(features.audio.gather(torch.tensor([row])).values, reference["features"][3])
