"""The benchmark folder of AV-Shapes: made once, whole, by any number of processes."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from sacma.data.benchmark import Benchmark
from sacma.data.features import Features
from sacma.datasets import avshapes
from sacma.datasets.avshapes import definition, folder, shards
from sacma.datasets.avshapes.definition import (
    CLASSES,
    PARTITIONS,
    TEST_UNSEEN,
    TRAIN,
    VAL_UNSEEN,
    ListedClip,
    clip_seed,
    listed_clips,
)
from sacma.datasets.avshapes.render import render_clip
from sacma.errors import SacmaError
from sacma.media.backbones.descriptors import AudioDescriptors, VideoDescriptors
from sacma.text.avshapes_words import class_vector

ORDERED = (
    "stage_1_train",
    "stage_1_val_seen",
    "stage_1_val_unseen",
    "stage_2_test_seen",
    "stage_2_test_unseen",
)


@pytest.fixture
def few_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One clip of each class in each partition, shards of 20, one processor; returns the cache folder."""
    few = tuple((name, classes, numbers[:1]) for name, classes, numbers in PARTITIONS)
    monkeypatch.setattr(definition, "PARTITIONS", few)
    monkeypatch.setattr(shards, "CLIPS_PER_SHARD", 20)
    monkeypatch.setattr(shards, "processors", lambda: 1)
    monkeypatch.setenv("SACMA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features without rendering: their values tell the clip."""

    def described(clip: ListedClip) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.RandomState(clip.seed)
        steps = 2 + clip.seed % 7
        return random.rand(steps, 104).astype(np.float32), random.rand(steps, 76).astype(np.float32)

    monkeypatch.setattr(shards, "describe", described)


@pytest.mark.usefixtures("few_clips")
def test_the_folder_opens_as_a_benchmark() -> None:
    seen = []
    root = avshapes.prepare(lambda done, total: seen.append((done, total)))
    benchmark = Benchmark.open(root, "avshapes", "descriptors")
    benchmark.features.verify()
    assert seen[-1] == (123, 123)
    assert [len(benchmark.split(stage).clips) for stage in ("train", "val", "train_val", "test")] == [
        30,
        42,
        72,
        51,
    ]
    test = benchmark.split("test")
    assert sorted(test.classes.names) == list(CLASSES)
    assert int(test.classes.seen.sum()) == 42
    for name, vector in zip(test.classes.names, test.classes.vectors, strict=True):
        torch.testing.assert_close(vector, torch.from_numpy(class_vector(name)))

    features = benchmark.features
    assert features.provenance["video"]["checksum"] == "none"
    row = list(features.names).index("star-circling-buzzing-paired-together-00")
    assert features.classes[int(features.labels[row])] == "star circling buzzing paired together"
    frames, fps, waveform, rate = render_clip(
        "star circling buzzing paired together", clip_seed("star circling buzzing paired together", 0)
    )
    np.testing.assert_allclose(
        features.audio.gather(torch.tensor([row])).values,
        AudioDescriptors()(waveform, rate).values,
        rtol=1e-5,
    )
    expected = VideoDescriptors()(frames, np.arange(len(frames)) / fps).values
    np.testing.assert_allclose(features.video.gather(torch.tensor([row])).values, expected, rtol=1e-5)


@pytest.mark.usefixtures("few_clips", "quick")
def test_the_class_lists_have_the_official_layout() -> None:
    written = avshapes.prepare() / "class-split"
    assert tuple((written / "all_class.txt").read_text().splitlines()) == CLASSES
    with (written / "avshapes_w2v_class_names.csv").open(newline="") as file:
        assert next(csv.DictReader(file)) == {"original": CLASSES[0], "manual": CLASSES[0]}
    lists = written / "main_split"
    assert {path.stem for path in lists.iterdir()} == {*ORDERED, "stage_2_train"}
    assert (lists / "stage_2_train.txt").read_text().splitlines() == sorted(TRAIN + VAL_UNSEEN)
    with (lists / "stage_2_train.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 72
    assert all(CLASSES[int(row["label_code"])] == row["label"] for row in rows)


@pytest.mark.usefixtures("quick")
def test_it_is_rendered_once(few_clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = avshapes.prepare()
    assert [path.name for path in few_clips.iterdir()] == [root.name]
    monkeypatch.setattr(shards, "render_shard", broken)
    assert avshapes.prepare() == root


@pytest.mark.usefixtures("quick")
def test_another_definition_is_another_folder(few_clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = avshapes.prepare()
    monkeypatch.setattr(folder, "VERSION", "other")
    assert avshapes.prepare() != first
    assert len(list(few_clips.iterdir())) == 2


def broken(*_: object) -> None:
    raise RuntimeError("stopped")


@pytest.mark.usefixtures("quick")
def test_after_an_interruption_it_goes_on(few_clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render, rendered = shards.render_shard, []

    def third_fails(place: Path, shard: int) -> None:
        if len(rendered) == 3:
            raise KeyboardInterrupt
        rendered.append(shard)
        render(place, shard)

    monkeypatch.setattr(shards, "render_shard", third_fails)
    with pytest.raises(KeyboardInterrupt):
        avshapes.prepare()
    assert not any((path / "class-split").exists() for path in few_clips.iterdir())

    described, left = shards.describe, []

    def counted(clip: ListedClip) -> tuple[np.ndarray, np.ndarray]:
        left.append(clip)
        return described(clip)

    monkeypatch.setattr(shards, "render_shard", render)
    monkeypatch.setattr(shards, "describe", counted)
    root = avshapes.prepare()
    assert left == listed_clips()[60:]  # three shards of twenty were there
    assert len(Features.open(root / "features" / "descriptors")) == 123


@pytest.mark.usefixtures("quick")
def test_half_a_folder_is_made_again(few_clips: Path) -> None:
    root = avshapes.prepare()
    (root / "features" / "descriptors" / "clips.json").unlink()
    assert avshapes.prepare() == root
    assert len(Features.open(root / "features" / "descriptors")) == 123


@pytest.mark.usefixtures("few_clips", "quick")
def test_the_second_of_two_at_a_time_takes_what_the_first_made(monkeypatch: pytest.MonkeyPatch) -> None:
    values = folder.shard_values

    def while_another_finishes(place: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        monkeypatch.setattr(folder, "shard_values", values)
        avshapes.prepare()  # the other: it puts the folder in place and removes the shards
        return values(place)

    monkeypatch.setattr(folder, "shard_values", while_another_finishes)
    root = avshapes.prepare()
    assert len(Features.open(root / "features" / "descriptors")) == 123


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("starts", ["workers", "workers that die", "no workers"])
def test_the_number_of_processors_does_not_show(
    few_clips: Path, monkeypatch: pytest.MonkeyPatch, starts: str
) -> None:
    alone = avshapes.prepare().rename(few_clips / "alone")

    killed = []

    class Finished:
        def kill(self) -> None:
            killed.append(self)

        def wait(self) -> None: ...

    def start(place: Path, worker: int, workers: int) -> Finished | None:
        if starts == "workers":
            shards.work([str(place), str(worker), str(workers), str(os.getppid())])
        return None if starts == "no workers" else Finished()

    monkeypatch.setattr(shards, "processors", lambda: 3)
    monkeypatch.setattr(shards, "start_worker", start)
    together = avshapes.prepare()
    name = "features/descriptors/clips.safetensors"
    assert (together / name).read_bytes() == (alone / name).read_bytes()
    assert len(killed) == (0 if starts == "no workers" else 2)  # none is left running


@pytest.mark.usefixtures("quick")
def test_a_cache_that_cannot_be_written_is_told(few_clips: Path) -> None:
    few_clips.write_text("a file where the folder should be")
    with pytest.raises(SacmaError, match="cannot write"):
        avshapes.prepare()


@pytest.mark.slow
def test_ridge_regression_beats_chance_on_unseen_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    some = (("stage_1_train", TRAIN, range(3)), ("stage_2_test_unseen", TEST_UNSEEN, range(3)))
    monkeypatch.setattr(definition, "PARTITIONS", some)
    clips = listed_clips()
    described = [shards.describe(clip) for clip in clips]
    values = np.stack(
        [np.concatenate([heard.mean(0), seen.mean(0)]) for heard, seen in described]
    )  # (N, 180)
    train = np.array([clip.partition == "stage_1_train" for clip in clips])
    values = (values - values[train].mean(0)) / (values[train].std(0) + 1e-6)
    targets = np.stack([class_vector(clip.class_name) for clip in clips])  # (N, 64)
    kernel = values[train].T @ values[train] + 10 * np.eye(values.shape[1])
    weights = np.linalg.solve(kernel, values[train].T @ targets[train])
    scores = values[~train] @ weights @ np.stack([class_vector(name) for name in TEST_UNSEEN]).T
    named = [TEST_UNSEEN.index(clip.class_name) for clip in clips if clip.class_name in TEST_UNSEEN]
    assert (scores.argmax(axis=1) == named).mean() > 3 / 9  # chance is 1/9
