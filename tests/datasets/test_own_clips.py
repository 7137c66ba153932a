"""sacma data split: a benchmark of one's own, laid out as the published ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from commands import sacma
from sacma.data.benchmark import Benchmark
from sacma.data.class_lists import PARTITIONS
from sacma.data.features import Features
from sacma.data.features_writer import FeaturesWriter
from sacma.datasets.own_clips import make_benchmark, own_encoder
from sacma.errors import SacmaError
from sacma.text.vectors import TextTable

FILES = {"cat": 12, "dog": 10, "grey_wolf": 10, "eel": 4, "fox": 2, "gnu": 1, "nothing": 0}


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Features:
    """Clips of some classes; each second file is in two parts."""
    folder = tmp_path_factory.mktemp("features") / "mine"
    draw = np.random.default_rng(0)
    classes = sorted(FILES)
    with FeaturesWriter(
        folder,
        classes,
        audio_width=3,
        video_width=5,
        audio_step=0.4,
        video_step=1.0,
        provenance={"backbone": "lite"},
    ) as writer:
        for label, name in enumerate(classes):
            for number in range(FILES[name]):
                for part in ("@0-5", "@5-") if number % 2 else ("",):
                    audio, video = draw.random((number % 3, 3)), draw.random((2, 5))
                    writer.add(f"{name}/{number}.mp4{part}", label, -1, audio, video)
    return Features.open(folder)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A table of the class names."""
    path = tmp_path_factory.mktemp("text") / "names.npz"
    names = tuple(name.replace("_", " ") for name in FILES)
    vectors = np.random.default_rng(0).random((len(names), 4)).astype(np.float32)
    TextTable(names, vectors, str(path)).write(path)
    return {"encoder": "table", "model": str(path)}


def test_it_is_a_benchmark(features: Features, encoder: dict[str, str], tmp_path: Path) -> None:
    made = make_benchmark(
        features, tmp_path / "own", unseen=["gnu", "Eel"], val_unseen=["fox"], held_out=0.2, encoder=encoder
    )
    assert (made.name, made.features, made.without_clips) == ("own", "lite", ("nothing",))
    opened = Benchmark.open(tmp_path / "own", "own", "lite")
    opened.features.verify()
    assert opened.classes == ("cat", "dog", "eel", "fox", "gnu", "grey_wolf")
    assert opened.features.provenance == features.provenance
    seen = {"train": 3, "val": 3, "train_val": 4, "test": 4}
    for stage, classes in seen.items():
        split = opened.split(stage)
        assert int(split.classes.seen.sum()) == classes
    test = opened.split("test").classes
    assert {name for name, known in zip(test.names, test.seen.tolist(), strict=True) if not known} == {
        "gnu",
        "eel",
    }


def test_clips_keep_their_features_and_parts_of_a_file_stay_together(
    features: Features, encoder: dict[str, str], tmp_path: Path
) -> None:
    made = make_benchmark(features, tmp_path / "own", encoder=encoder)
    split = Features.open(made.root / "features/lite")
    assert list(split.names) == list(features.names)
    assert torch.equal(split.video.values, features.video.values)
    assert torch.equal(split.audio.offsets, features.audio.offsets)
    where: dict[str, set[int]] = {}
    for name, partition in zip(split.names, split.partitions.tolist(), strict=True):
        where.setdefault(name.split("@")[0], set()).add(partition)
    assert all(len(partitions) == 1 for partitions in where.values())
    assert sum(made.clips.values()) == len(features)


def test_classes_with_few_files_are_drawn_as_the_unseen_ones(
    features: Features, encoder: dict[str, str], tmp_path: Path
) -> None:
    for seed in range(5):
        made = make_benchmark(features, tmp_path / f"own-{seed}", seed=seed, encoder=encoder)
        assert "gnu" in made.classes["stage_2_test_unseen"]
        assert "fox" in made.classes["stage_1_val_unseen"]


def test_the_seed_decides_and_nothing_else(
    features: Features, encoder: dict[str, str], tmp_path: Path
) -> None:
    def written(name: str, seed: int) -> list[bytes]:
        made = make_benchmark(features, tmp_path / name, name="own", seed=seed, encoder=encoder)
        return [path.read_bytes() for path in sorted(made.root.rglob("*.*"))]

    assert written("a", 0) == written("b", 0)
    assert written("c", 1) != written("d", 0)


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        ({"unseen": ["unicorn"]}, "no clips of class 'unicorn'"),
        ({"unseen": ["nothing"]}, "no clips of class 'nothing'"),
        ({"unseen": ["cat"], "val_unseen": ["cat"]}, "'cat' is named twice"),
        ({"unseen": ["cat", "dog", "eel", "fox"], "val_unseen": ["grey_wolf"]}, "fewer than two classes"),
        ({"unseen": ["cat"], "val_unseen": ["dog"]}, "class 'fox' has 2 files, but 3 are needed"),
        ({"unseen": ["cat"], "val_unseen": ["gnu"]}, "class 'fox' has 2 files, but 3 are needed"),
        ({"held_out": 0.5}, "0.5 of the clips"),
        ({"encoder": {"encoder": "magic"}}, "no text encoder 'magic'"),
    ],
)
def test_what_cannot_be_split(
    features: Features, encoder: dict[str, str], tmp_path: Path, given: dict[str, object], wrong: str
) -> None:
    arguments = {"encoder": encoder} | given
    with pytest.raises(SacmaError, match=wrong):
        make_benchmark(features, tmp_path / "own", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "own").exists()


def test_too_few_classes(tmp_path: Path, encoder: dict[str, str]) -> None:
    with FeaturesWriter(
        tmp_path / "few",
        ["a", "b", "c"],
        audio_width=1,
        video_width=1,
        audio_step=1,
        video_step=1,
        provenance={},
    ) as writer:
        for label in range(3):
            writer.add("clip", label, -1, np.ones((1, 1)), np.ones((1, 1)))
    with pytest.raises(SacmaError, match="3 classes with clips; a benchmark needs at least 4"):
        make_benchmark(Features.open(tmp_path / "few"), tmp_path / "own", encoder=encoder)


def test_the_command(features: Features, encoder: dict[str, str], tmp_path: Path) -> None:
    options = [f"--encoder={encoder['encoder']}", f"--model={encoder['model']}"]
    out = tmp_path / "my clips"
    made = sacma("data", "split", features.path, f"--out={out}", "--unseen=eel, gnu", *options)
    assert made.status == 0, made.err
    assert all(partition in made.out for partition in PARTITIONS)
    assert f"sacma train --benchmark my-clips --features lite --root '{out}'" in made.out
    again = sacma("data", "split", features.path, f"--out={out}", *options)
    assert "is there already" in again.line
    assert sacma("data", "split", features.path, f"--out={out}", "--force", *options).status == 0
    (tmp_path / "other").mkdir()
    (tmp_path / "other/precious.txt").touch()
    kept = sacma("data", "split", features.path, f"--out={tmp_path / 'other'}", "--force", *options)
    assert "it is no benchmark, so it stays" in kept.line
    assert (tmp_path / "other/precious.txt").is_file()
    assert "no such folder" in sacma("data", "split", tmp_path / "nowhere").line


def test_the_text_encoder_that_goes_with_the_features(features: Features) -> None:
    assert own_encoder(features) == {"encoder": "glove"}
    features.provenance["video"] = {"name": "clip", "model": "some/model"}
    try:
        assert own_encoder(features) == {"encoder": "clip", "model": "some/model"}
    finally:
        del features.provenance["video"]


def named(folder: Path, *names: str) -> Features:
    """Four clips of each class."""
    with FeaturesWriter(
        folder, names, audio_width=1, video_width=1, audio_step=1, video_step=1, provenance={}
    ) as writer:
        for label in range(len(names)):
            for number in range(4):
                writer.add(f"{label}-{number}", label, -1, torch.ones(1, 1), torch.ones(1, 1))
    return Features.open(folder)


@pytest.mark.parametrize(
    ("written", "given"),
    [("cafe\u0301", "caf\u00e9"), ("caf\u00e9", "cafe\u0301"), ("YoYo", "yoyo"), ("iPhone", "iphone")],
)
def test_classes_are_found_in_other_spellings(tmp_path: Path, written: str, given: str) -> None:
    features = named(tmp_path / "mine", "ant", "bee", "cat", written)
    names = ("ant", "bee", "cat", given)
    table = tmp_path / "names.npz"
    TextTable(names, np.eye(4, dtype=np.float32), str(table)).write(table)
    encoder = {"encoder": "table", "model": str(table)}
    made = make_benchmark(features, tmp_path / "own", unseen=[given], encoder=encoder)
    assert made.classes["stage_2_test_unseen"] == (written,)
    opened = Benchmark.open(tmp_path / "own", "own", "mine")
    np.testing.assert_array_equal(opened.vectors[opened.classes.index(written)], [0, 0, 0, 1])


@pytest.mark.parametrize("same", [("Dog", "dog"), ("playing_flute", "PlayingFlute"), ("YoYo", "yoyo")])
def test_one_class_in_two_spellings_is_an_error(tmp_path: Path, same: tuple[str, str]) -> None:
    with pytest.raises(SacmaError, match=f"mine: '{same[0]}' and '{same[1]}' are one class in two spellings"):
        named(tmp_path / "mine", "ant", "bee", *same)
    assert not (tmp_path / "mine").exists()
