"""The embedded benchmark: its classes and lists, what it renders, and the folder that it leaves behind."""

from __future__ import annotations

import csv
import itertools
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sacma.data.benchmark import Benchmark
from sacma.data.features import Features
from sacma.datasets.avshapes import folder as avshapes
from sacma.datasets.avshapes.folder import (
    CLASSES,
    PARTITIONS,
    TEST_UNSEEN,
    TRAIN,
    VAL_UNSEEN,
    clip_seed,
    listed_clips,
    render_clip,
)
from sacma.errors import SacmaError
from sacma.media.backbones.descriptors import AudioDescriptors, VideoDescriptors
from sacma.text.avshapes_words import BINDINGS, MOTIONS, SHAPES, TIMBRES, class_vector

ORDERED = (
    "stage_1_train",
    "stage_1_val_seen",
    "stage_1_val_unseen",
    "stage_2_test_seen",
    "stage_2_test_unseen",
)

GOLDEN = ("1", 58, 38_667, 76.797, 27.85, 0.09355)  # frames, samples, mean and deviation of one frame, level


# --- The definition -----------------------------------------------------------------------------------


def test_the_classes_split_like_ucf() -> None:
    assert (len(TRAIN), len(VAL_UNSEEN), len(TEST_UNSEEN)) == (30, 12, 9)
    assert len(set(CLASSES)) == 51


@pytest.mark.parametrize("unseen", [VAL_UNSEEN, TEST_UNSEEN])
def test_unseen_classes_are_new_combinations_of_words_that_stage_1_trains_on(unseen: tuple[str, ...]) -> None:
    known = {word for name in TRAIN for word in name.split()}
    assert {word for name in unseen for word in name.split()} <= known
    assert not set(unseen) & set(TRAIN)


def test_classes_differ_in_two_words_or_in_the_binding_alone() -> None:
    alone = 0
    for one, other in itertools.combinations(CLASSES, 2):
        differing = [a for a, b in zip(one.split(), other.split(), strict=True) if a != b]
        alone += len(differing) == 1
        assert len(differing) > 1 or differing[0] in BINDINGS
    assert alone == 8


def test_the_lists_have_the_documented_sizes() -> None:
    clips = listed_clips()
    sizes = [sum(clip.partition == name for clip in clips) for name in ORDERED]
    assert sizes == [480, 120, 168, 126, 90]
    assert sum(sizes[:3]) < 1000
    assert len({clip.name for clip in clips}) == len({clip.seed for clip in clips}) == len(clips) == 984


# --- Rendering ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CLASSES[::10])
def test_a_clip_has_pictures_and_sound_of_the_same_length(name: str) -> None:
    frames, fps, waveform, rate = render_clip(name, 7)
    assert (frames.dtype, frames.shape[1:], waveform.dtype) == (np.uint8, (48, 48, 3), np.float32)
    assert len(frames) / fps == pytest.approx(len(waveform) / rate, abs=1 / rate)
    assert 2 <= len(frames) / fps <= 8
    assert 0.1 < np.abs(waveform).max() <= 1


def test_a_clip_is_the_same_every_time_and_another_for_another_seed() -> None:
    first, again, other = (render_clip(TRAIN[0], seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[2], again[2])
    assert first[0].shape != other[0].shape or (first[0] != other[0]).any()


def test_the_pixels_and_samples_of_this_version() -> None:
    """Values of version 1. Where this fails, the benchmark has changed and needs another VERSION."""
    name = "star circling buzzing paired together"
    frames, _, waveform, _ = render_clip(name, clip_seed(name, 3))
    assert (avshapes.VERSION, len(frames), len(waveform)) == GOLDEN[:3]
    assert frames[20].astype(float).mean() == pytest.approx(GOLDEN[3], abs=0.02)
    assert frames[20].astype(float).std() == pytest.approx(GOLDEN[4], abs=0.02)
    assert float(np.sqrt((waveform**2).mean())) == pytest.approx(GOLDEN[5], rel=1e-3)


def test_a_larger_clip_shows_the_same_scene() -> None:
    name = "square circling chirping galloping apart"
    small = render_clip(name, 3)[0].astype(float)
    large = render_clip(name, 3, size=192)[0].astype(float)
    averaged = large.reshape(len(large), 48, 4, 48, 4, 3).mean(axis=(2, 4))
    assert np.abs(averaged - small).mean() < 10
    smooth = render_clip(name, 3, fps=24)[0].astype(float)
    assert len(smooth) == 2 * len(small)
    assert np.abs(smooth[::2] - small).mean() < 10


def test_every_shape_looks_different_and_has_about_the_same_area() -> None:
    pictures, areas = [], []
    for shape in SHAPES:
        frame = render_clip(f"{shape} bouncing humming steady apart", 1, size=96)[0][0].astype(float)
        background = np.median(frame, axis=(0, 1))
        inside = np.abs(frame - background).mean(axis=2) > 40
        pictures.append(inside)
        areas.append(inside.mean())
    assert max(areas) < 1.4 * min(areas)
    for one, other in itertools.combinations(pictures, 2):
        assert (one ^ other).sum() > 0.15 * one.sum()


def centre_path(motion: str) -> np.ndarray:
    """(F, 3) place of the shape and its area, in each frame."""
    frames = render_clip(f"square {motion} humming steady together", 2, size=96)[0].astype(float)
    inside = np.abs(frames - np.median(frames, axis=(0, 1, 2))).mean(axis=3) > 40
    area = inside.sum(axis=(1, 2))
    y, x = np.mgrid[:96, :96]
    return np.stack([(inside * x).sum((1, 2)) / area, (inside * y).sum((1, 2)) / area, area], axis=1)


def test_every_motion_moves_as_its_word_says() -> None:
    spread = {motion: np.ptp(centre_path(motion), axis=0) for motion in MOTIONS}
    across, down = 0, 1
    assert spread["bouncing"][down] > 3 * spread["bouncing"][across] + 10
    assert spread["sliding"][across] > 3 * spread["sliding"][down] + 10
    assert min(spread["circling"][:2]) > 10
    assert max(spread["spinning"][:2]) < 5
    mean_area = centre_path("pulsing")[:, 2].min()
    assert spread["pulsing"][2] > 0.5 * mean_area


def test_every_timbre_sounds_different() -> None:
    heard = []
    for timbre in TIMBRES:
        name = f"square sliding {timbre} steady apart"
        clips = [render_clip(name, seed)[2] for seed in range(6)]
        heard.append(
            np.mean([AudioDescriptors()(clip, avshapes.RATE).values[:, :40].mean(0) for clip in clips], 0)
        )
    centred = np.stack(heard) - np.mean(heard, axis=0)
    for one, other in itertools.combinations(centred, 2):
        assert np.abs(one - other).mean() > 0.1
    loud = {timbre: bands.argmax() for timbre, bands in zip(TIMBRES, heard, strict=True)}
    assert loud["hissing"] > loud["humming"] + 15


def gaps(rhythm: str, seed: int) -> np.ndarray:
    """Time from beat to beat, as a fraction of the time of a bar without the silent ones."""
    scene = avshapes._scene(["bar", "sliding", "humming", rhythm, "together"], seed)
    between = np.diff(scene.notes)
    return between / between.min() if len(between) else between


def test_every_rhythm_beats_as_documented() -> None:
    allowed = {"steady": {1.0}, "paired": {1.0, 3.0}, "galloping": {1.0, 2.0}}
    for rhythm, ratios in allowed.items():
        for seed in range(20):
            found = set(np.round(gaps(rhythm, seed), 6))
            within_a_bar = {gap for gap in found if gap <= max(ratios)}  # longer ones: a silent bar
            assert within_a_bar <= ratios
    irregular = {gap for seed in range(5) for gap in np.round(gaps("scattered", seed), 3)}
    assert len(irregular) > 10


def test_together_is_in_step_and_apart_is_not() -> None:
    near = []
    for seed in range(200):
        joined = avshapes._scene(["star", "sliding", "humming", "paired", "together"], seed)
        assert joined.strokes is joined.notes
        split = avshapes._scene(["star", "sliding", "humming", "paired", "apart"], seed)
        near.append((np.abs(split.strokes[:, None] - split.notes).min(axis=1) < 0.1).mean())
        assert len(split.notes)
        assert len(split.strokes)
    assert np.mean(near) < 0.2


def agreement(name: str) -> float:
    """How far onsets and motion agree in time, from pixels and samples alone."""
    found = []
    for seed in range(12):
        frames, fps, waveform, rate = render_clip(name, seed)
        heard = AudioDescriptors()(waveform, rate).values[:, 88:96].ravel()
        seen = VideoDescriptors()(frames, np.arange(len(frames)) / fps).values[:, 60:68].ravel()
        # A frame shows a stroke that has begun, so the picture lags by about an eighth.
        found.append(np.corrcoef(heard[:-1], seen[1:])[0, 1])
    return float(np.mean(found))


def test_pictures_and_sound_together_tell_together_from_apart() -> None:
    joined = agreement("square sliding buzzing scattered together")
    split = agreement("square sliding buzzing scattered apart")
    assert joined > 0.3
    assert split < 0.15


@pytest.mark.parametrize(
    "name", ["", "circle", "circle bouncing buzzing fast together", "bouncing circle buzzing steady apart"]
)
def test_a_name_that_is_no_class_is_told(name: str) -> None:
    with pytest.raises(SacmaError, match="no AV-Shapes class"):
        render_clip(name, 0)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_told(seed: int) -> None:
    with pytest.raises(SacmaError, match="seed"):
        render_clip(TRAIN[0], seed)


# --- The folder ---------------------------------------------------------------------------------------


@pytest.fixture
def few_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One clip of each class in each partition, shards of 20, one processor; returns the cache folder."""
    few = tuple((name, classes, numbers[:1]) for name, classes, numbers in PARTITIONS)
    monkeypatch.setattr(avshapes, "PARTITIONS", few)
    monkeypatch.setattr(avshapes, "_CLIPS_PER_SHARD", 20)
    monkeypatch.setattr(avshapes, "_processors", lambda: 1)
    monkeypatch.setenv("SACMA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features without rendering: their values tell the clip."""

    def described(clip: avshapes.ListedClip) -> tuple[np.ndarray, np.ndarray]:
        random = np.random.RandomState(clip.seed)
        steps = 2 + clip.seed % 7
        return random.rand(steps, 104).astype(np.float32), random.rand(steps, 76).astype(np.float32)

    monkeypatch.setattr(avshapes, "_described", described)


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
    folder = avshapes.prepare() / "class-split"
    assert tuple((folder / "all_class.txt").read_text().splitlines()) == CLASSES
    with (folder / "avshapes_w2v_class_names.csv").open(newline="") as file:
        assert next(csv.DictReader(file)) == {"original": CLASSES[0], "manual": CLASSES[0]}
    lists = folder / "main_split"
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
    monkeypatch.setattr(avshapes, "_render_shard", broken)
    assert avshapes.prepare() == root


@pytest.mark.usefixtures("quick")
def test_another_definition_is_another_folder(few_clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = avshapes.prepare()
    monkeypatch.setattr(avshapes, "VERSION", "other")
    assert avshapes.prepare() != first
    assert len(list(few_clips.iterdir())) == 2


def broken(*_: object) -> None:
    raise RuntimeError("stopped")


@pytest.mark.usefixtures("quick")
def test_after_an_interruption_it_goes_on(few_clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    render, rendered = avshapes._render_shard, []

    def third_fails(shards: Path, shard: int) -> None:
        if len(rendered) == 3:
            raise KeyboardInterrupt
        rendered.append(shard)
        render(shards, shard)

    monkeypatch.setattr(avshapes, "_render_shard", third_fails)
    with pytest.raises(KeyboardInterrupt):
        avshapes.prepare()
    assert not any((path / "class-split").exists() for path in few_clips.iterdir())

    described, left = avshapes._described, []

    def counted(clip: avshapes.ListedClip) -> tuple[np.ndarray, np.ndarray]:
        left.append(clip)
        return described(clip)

    monkeypatch.setattr(avshapes, "_render_shard", render)
    monkeypatch.setattr(avshapes, "_described", counted)
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
    write = avshapes._write_root

    def while_another_finishes(partial: Path, shards: Path) -> None:
        monkeypatch.setattr(avshapes, "_write_root", write)
        avshapes.prepare()  # the other: it puts the folder in place and removes the shards
        write(partial, shards)

    monkeypatch.setattr(avshapes, "_write_root", while_another_finishes)
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

    def start(shards: Path, worker: int, workers: int) -> Finished | None:
        if starts == "workers":
            avshapes._work([str(shards), str(worker), str(workers), str(os.getppid())])
        return None if starts == "no workers" else Finished()

    monkeypatch.setattr(avshapes, "_processors", lambda: 3)
    monkeypatch.setattr(avshapes, "_start_worker", start)
    together = avshapes.prepare()
    name = "features/descriptors/clips.safetensors"
    assert (together / name).read_bytes() == (alone / name).read_bytes()
    assert len(killed) == (0 if starts == "no workers" else 2)  # none is left running


def test_a_process_of_its_own_renders_the_same(tmp_path: Path) -> None:
    last = avshapes._shard_count() - 1
    worker = avshapes._start_worker(tmp_path / "there", last, last + 1)
    assert worker is not None
    avshapes._render_shard(tmp_path / "here", last)
    assert worker.wait(timeout=60) == 0
    with (
        np.load(tmp_path / "here" / f"{last:03d}.npz") as here,
        np.load(tmp_path / "there" / f"{last:03d}.npz") as there,
    ):
        assert set(here) == set(there)
        for name in here:
            np.testing.assert_array_equal(here[name], there[name])


def test_without_an_interpreter_no_process_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    assert avshapes._start_worker(tmp_path, 1, 2) is None


def test_a_process_whose_parent_is_gone_ends(tmp_path: Path) -> None:
    avshapes._work([str(tmp_path / "shards"), "0", "1", "1"])
    assert not (tmp_path / "shards").exists()


@pytest.mark.usefixtures("quick")
def test_a_cache_that_cannot_be_written_is_told(few_clips: Path) -> None:
    few_clips.write_text("a file where the folder should be")
    with pytest.raises(SacmaError, match="cannot write"):
        avshapes.prepare()


@pytest.mark.slow
def test_ridge_regression_beats_chance_on_unseen_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    some = (("stage_1_train", TRAIN, range(5)), ("stage_2_test_unseen", TEST_UNSEEN, range(4)))
    monkeypatch.setattr(avshapes, "PARTITIONS", some)
    clips = listed_clips()
    described = [avshapes._described(clip) for clip in clips]
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


# --- Clips to look at ---------------------------------------------------------------------------------


def test_examples_are_files_that_play(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    written = avshapes.write_examples(tmp_path, 2, size=64)
    assert [path.name for path in written] == [f"{name.replace(' ', '-')}-00.mp4" for name in CLASSES[:2]]
    assert sorted(tmp_path.iterdir()) == sorted([*written, tmp_path / "clips.csv"])
    rows = (tmp_path / "clips.csv").read_text().splitlines()
    assert rows == [
        "path,class",
        *(f"{path.name},{name}" for path, name in zip(written, CLASSES, strict=False)),
    ]
    frames, _, waveform, _ = render_clip(CLASSES[0], clip_seed(CLASSES[0], 0), size=64, fps=24)
    with av.open(str(written[0])) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(decoded) == len(frames)
    assert np.abs(decoded[20].astype(float) - frames[20]).mean() < 12
    with av.open(str(written[0])) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(sound) == pytest.approx(len(waveform), abs=2100)
    assert np.abs(sound).max() == pytest.approx(np.abs(waveform).max(), rel=0.5)


def test_without_pyav_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SacmaError, match=r"pip install 'sacma\[media\]'"):
        avshapes.write_examples(tmp_path, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda out: avshapes.write_examples(out, 0),
        lambda out: avshapes.write_mp4(CLASSES[0], 1, out / "a.mp4", size=63),
    ],
)
def test_impossible_examples_are_told(tmp_path: Path, call: Callable[[Path], object]) -> None:
    pytest.importorskip("av")
    with pytest.raises(SacmaError, match="choose"):
        call(tmp_path)
    assert list(tmp_path.iterdir()) == []
