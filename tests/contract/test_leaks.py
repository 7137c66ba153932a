"""Nothing that is chosen or learned looks at what it must not: test clips, unseen classes, validation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import folders
from commands import contents, on, result, sacma, trained, weights
from sacma.data import batches
from sacma.data.benchmark import STAGES, Benchmark
from sacma.data.class_lists import PARTITIONS
from sacma.data.features import Features
from sacma.data.features_writer import FeaturesWriter
from sacma.models import METHODS
from sacma.models.base import Method
from sacma.runs.folder import RunFolder, load_model
from sacma.training.evaluation import result_at
from sacma.training.protocol import evaluate_method

Values = NDArray[np.float32]
Clip = tuple[str, Values, Values]
# Partition, class, audio and video of a clip -> what is written in place of the last three.
Change = Callable[[str, str, Values, Values], Clip]


# Enough to learn something, so that there is an epoch and a bias to choose.
LEARNING = (
    *("--epochs=4", "--batches-per-epoch=8", "--batch-size=24", "--learning-rate=0.005", "--width=24"),
    *("--common-width=16", "--encoder-hidden=64", "--decoder-hidden=64", "--encoder-dropout=0.1"),
    *("--decoder-dropout=0.1", "--transformer-dropout=0.1", "--position-dropout=0"),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.write_folder(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(root, tmp_path_factory.mktemp("runs") / "run", *LEARNING)


def test_the_run_that_all_is_compared_with_has_learned(run: Path) -> None:
    content = result(run)
    assert content["validation"]["harmonic_mean"] > 0.3
    assert content["test"]["harmonic_mean"] > 0.1
    assert content["validation"]["bias"] > 0


def with_clips(root: Path, out: Path, change: Change) -> Path:
    """A copy of the folder with other clips."""
    features = Features.open(root / "features" / folders.FEATURES)
    shutil.copytree(root, out, ignore=shutil.ignore_patterns("clips.*"))
    with FeaturesWriter(
        out / "features" / folders.FEATURES,
        features.classes,
        audio_width=features.audio.width,
        video_width=features.video.width,
        audio_step=features.audio.step_seconds,
        video_step=features.video.step_seconds,
        provenance={},
    ) as writer:
        for row, name in enumerate(features.names):
            clip, partition = torch.tensor([row]), int(features.partitions[row])
            audio, video = (track.gather(clip).values.numpy() for track in (features.audio, features.video))
            label = features.classes[int(features.labels[row])]
            label, audio, video = change(PARTITIONS[partition], label, audio, video)
            writer.add(name, features.classes.index(label), partition, audio, video)
    return out


def with_vectors(root: Path, out: Path, changed: tuple[str, ...]) -> Path:
    """A copy of the folder in which these classes have other vectors."""
    shutil.copytree(root, out)
    file = out / "features" / folders.FEATURES / "text" / f"word_embeddings_{folders.NAME}_normed.npz"
    with np.load(file) as table:
        names, vectors = table["names"], table["vectors"].copy()
    for row, name in enumerate(names):
        if name.removeprefix("a ") in changed:
            vectors[row] = -2 * vectors[row] + 0.1
    np.savez(file, names=names, vectors=vectors)
    return out


def assert_same_training(found: Path, expected: Path) -> None:
    """Epoch, bias, learning rates, curves and all weights."""
    one, other = contents(found), contents(expected)
    for part in ("selection", "metrics", "weights"):
        assert one[part] == other[part], part
    assert result(found)["validation"] == result(expected)["validation"]
    assert result(found)["epochs"] == result(expected)["epochs"]


# --- Test clips -----------------------------------------------------------------------------------


def test_other_test_clips_change_neither_epoch_nor_bias_nor_weights(run: Path, tmp_path: Path) -> None:
    other = folders.write_folder(tmp_path / "toy", test_seed=5)
    again = trained(other, tmp_path / "run", *LEARNING)
    assert_same_training(again, run)
    assert result(again)["test"] != result(run)["test"]
    assert result(again)["test"]["bias"] == result(run)["test"]["bias"]


@pytest.mark.parametrize("method", ["tcaf", "avca", "eszsl", "f-vaegan-d2", "avfs", "devise"])
def test_other_test_clips_change_nothing_in_other_methods(method: str, root: Path, tmp_path: Path) -> None:
    """Those that fit classifiers or closed forms for their candidates included."""
    quick = [] if method == "eszsl" else ["--epochs=2", "--batches-per-epoch=2", "--batch-size=8"]
    if method in ("f-vaegan-d2", "avfs"):
        quick += ["--synthesised-per-class=4", "--classifier-epochs=2"]
    runs = []
    for name, place in {"one": root, "other": folders.write_folder(tmp_path / "toy", test_seed=5)}.items():
        out = tmp_path / name
        outcome = sacma("train", *on(place), "--method", method, "--out", out, *quick)
        assert outcome.status == 0, outcome.err
        runs.append(out)
    assert_same_training(runs[1], runs[0])
    assert contents(runs[1])["predictions"] != contents(runs[0])["predictions"]


def test_other_test_labels_change_neither_epoch_nor_bias_nor_weights(
    root: Path, run: Path, tmp_path: Path
) -> None:
    """Test clips go by the names of other classes, seen ones and unseen ones."""
    turned = {"hen": "ibis", "ibis": "jay", "jay": "hen", "ant": "fox", "fox": "ant"}

    def rename(partition: str, label: str, audio: Values, video: Values) -> Clip:
        return turned.get(label, label) if "test" in partition else label, audio, video

    other = with_clips(root, tmp_path / "toy", rename)
    again = trained(other, tmp_path / "run", *LEARNING)
    assert_same_training(again, run)
    assert result(again)["test"]["per_class"] != result(run)["test"]["per_class"]


@pytest.mark.slow
def test_the_bias_of_test_is_that_of_validation_though_another_is_better(root: Path, tmp_path: Path) -> None:
    """Among several seeds one must score better on test with test's own bias; none may use it."""
    better = 0
    for seed in range(4):
        out = trained(root, tmp_path / str(seed), *LEARNING, f"--seed={seed}", "--epochs=2")
        content, folder = result(out), RunFolder.open(out)
        assert content["test"]["bias"] == content["validation"]["bias"]
        config = folder.config()
        benchmark = Benchmark.open(root, folders.NAME, folders.FEATURES)
        method, test = load_model("sacma", out), benchmark.split("test")
        own, scores = evaluate_method(method, test, config, bias=None)
        fixed = result_at(scores, test, bias=content["validation"]["bias"], bias_search="exact")
        assert fixed.harmonic_mean == content["test"]["harmonic_mean"]
        better += own.harmonic_mean > fixed.harmonic_mean
    assert better


# --- Unseen classes -------------------------------------------------------------------------------


def test_vectors_of_test_classes_change_nothing_before_test(root: Path, run: Path, tmp_path: Path) -> None:
    other = with_vectors(root, tmp_path / "toy", folders.CLASSES["test_unseen"])
    again = trained(other, tmp_path / "run", *LEARNING)
    assert_same_training(again, run)
    assert result(again)["test"] != result(run)["test"]


def test_vectors_of_validation_classes_change_no_weights_of_stage_1(root: Path, tmp_path: Path) -> None:
    """One epoch, so that there is nothing to choose: they change the choice, and stage 2 learns from them."""
    other = with_vectors(root, tmp_path / "toy", folders.CLASSES["val_unseen"])
    one, two = (trained(place, tmp_path / name, "--epochs=1") for name, place in (("a", root), ("b", other)))
    assert same(weights(one, "stage-1"), weights(two, "stage-1"))
    assert not same(weights(one), weights(two))
    assert result(one)["validation"] != result(two)["validation"]


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    assert one.keys() == other.keys()
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_stages_train_on_seen_classes_only(root: Path) -> None:
    benchmark = Benchmark.open(root, folders.NAME, folders.FEATURES)
    for stage, unseen in (("train", ("val_unseen", "test_unseen")), ("train_val", ("test_unseen",))):
        split = benchmark.split(stage)
        assert bool(split.classes.seen.all())
        for kind in unseen:
            assert not set(split.classes.names) & set(folders.CLASSES[kind])


SMALLER: dict[str, dict[str, Any]] = {
    "sacma": {"width": 12, "common_width": 8, "depth": 1, "heads": 2, "head_width": 6},
    "perceiver": {"width": 12, "common_width": 8, "depth": 1, "latents": 4},
    "f-vaegan-d2": {"synthesised_per_class": 4, "classifier_epochs": 1},
    "avfs": {"synthesised_per_class": 4, "classifier_epochs": 1},
}


SOLVED = ("cosine-ridge", "eszsl", "eszsl-0.1", "frozen", "kite", "kite-0.1")


@pytest.mark.parametrize("name", [name for name in METHODS if name not in SOLVED])
def test_vectors_of_unseen_classes_get_no_gradient_in_stage_1(name: str, root: Path) -> None:
    """The vectors of the benchmark are one leaf, of which a stage's are rows; its gradient tells."""
    benchmark = Benchmark.open(root, folders.NAME, folders.FEATURES)
    benchmark.vectors.requires_grad_()
    train = benchmark.split("train")
    torch.manual_seed(0)
    method: Method = METHODS[name](
        audio_width=folders.AUDIO_WIDTH,
        video_width=folders.VIDEO_WIDTH,
        text_width=folders.TEXT_WIDTH,
        **SMALLER.get(name, {}),
    )
    split = train if method.temporal else train.averaged()
    generator = torch.Generator().manual_seed(0)
    rows = batches.class_balanced(train.labels, batches=1, batch_size=32, generator=generator)[0]
    others = batches.other_class(train.labels, rows, generator) if method.needs_negatives else None
    batch = batches.gather(split, rows, negatives=others)
    sum(method.loss(batch, split.classes).values()).backward()  # type: ignore[union-attr]
    gradient = benchmark.vectors.grad
    assert gradient is not None
    moved = {name for name, row in zip(benchmark.classes, gradient, strict=True) if bool(row.any())}
    assert moved
    assert moved <= set(folders.CLASSES["train"])


# --- Validation clips -----------------------------------------------------------------------------


def louder(*partitions: str) -> Change:
    """Changes the clips of some partitions beyond recognition."""

    def change(partition: str, label: str, audio: Values, video: Values) -> Clip:
        return (label, 50 - 9 * audio, 70 + 5 * video) if partition in partitions else (label, audio, video)

    return change


@pytest.fixture(scope="module")
def other_validation(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("changed") / "toy"
    return with_clips(root, out, louder("stage_1_val_seen", "stage_1_val_unseen"))


def test_validation_clips_do_not_reach_the_weights_of_stage_1(
    root: Path, other_validation: Path, tmp_path: Path
) -> None:
    """Neither by gradients nor by the statistics that inputs are scaled with; in stage 2 they do both."""
    one = trained(root, tmp_path / "one", "--epochs=1")
    other = trained(other_validation, tmp_path / "other", "--epochs=1")
    assert same(weights(one, "stage-1"), weights(other, "stage-1"))
    losses = [
        [row["losses"] for row in contents(run)["metrics"] if row["stage"] == 1] for run in (one, other)
    ]
    assert losses[0] == losses[1]
    for name in ("audio_scaling.mean", "video_scaling.deviation"):
        assert not np.array_equal(weights(one)[name], weights(other)[name])
    assert result(one)["validation"] != result(other)["validation"]


def test_scaling_is_of_the_clips_that_are_trained_on(root: Path, run: Path) -> None:
    features = Features.open(root / "features" / folders.FEATURES)
    for part, partitions in ((".", 3), ("stage-1", 1)):
        clips = (features.partitions < partitions).nonzero()[:, 0]
        values = features.audio.gather(clips).values
        saved = weights(run, part)
        np.testing.assert_allclose(saved["audio_scaling.mean"], values.mean(0), rtol=1e-4, atol=1e-5)
        deviation = values.std(0, correction=0)
        np.testing.assert_allclose(saved["audio_scaling.deviation"], deviation, rtol=1e-4)


def test_test_clips_do_not_reach_anything_however_loud(root: Path, run: Path, tmp_path: Path) -> None:
    other = with_clips(root, tmp_path / "toy", louder("stage_2_test_seen", "stage_2_test_unseen"))
    again = trained(other, tmp_path / "run", *LEARNING)
    assert_same_training(again, run)
    assert contents(again)["predictions"] != contents(run)["predictions"]


def test_stage_2_trains_on_all_that_is_not_test(root: Path) -> None:
    benchmark = Benchmark.open(root, folders.NAME, folders.FEATURES)
    clips = {stage: set(benchmark.split(stage).clips.tolist()) for stage in STAGES}
    assert clips["train"] | clips["val"] == clips["train_val"]
    assert not clips["train"] & clips["val"]
    assert not clips["train_val"] & clips["test"]
    assert len(clips["test"]) == (5 + 2 + 3) * 4


def test_stage_1_and_2_begin_with_the_same_weights(root: Path, tmp_path: Path) -> None:
    """Stage 2 starts afresh: with a learning rate of 0 its parameters are those that stage 1 ended with."""
    out = trained(root, tmp_path / "run", "--learning-rate=0", "--weight-decay=0", "--epochs=1")
    first, second = weights(out, "stage-1"), weights(out)
    trained_ones = [name for name in first if name.endswith((".weight", ".bias"))]
    assert trained_ones
    for name in trained_ones:
        assert np.array_equal(first[name], second[name]), name


def test_stage_2_repeats_the_learning_rates_of_stage_1(root: Path, tmp_path: Path) -> None:
    """With a plateau schedule that is bound to fall: HM cannot get better without learning."""
    out = tmp_path / "run"
    options = ["--schedule=plateau", "--learning-rate=1e-9", "--epochs=7"]
    trained(root, out, *options)
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    rates = {stage: [row["learning_rate"] for row in rows if row["stage"] == stage] for stage in (1, 2)}
    assert rates[2] == rates[1][: len(rates[2])]
    assert len(rates[2]) == result(out)["epochs"]


def test_the_epoch_is_the_first_with_the_best_harmonic_mean(run: Path) -> None:
    rows = [row for row in contents(run)["metrics"] if row["stage"] == 1]
    means = [row["validation"]["harmonic_mean"] for row in rows]
    content = result(run)
    assert content["epochs"] == means.index(max(means)) + 1
    assert content["validation"]["harmonic_mean"] == max(means)
    assert content["validation"]["bias"] == rows[content["epochs"] - 1]["validation"]["bias"]


def test_of_equal_epochs_the_first_is_chosen(root: Path, tmp_path: Path) -> None:
    """ESZSL is solved anew in each epoch, with the same outcome."""
    out = tmp_path / "run"
    outcome = sacma("train", *on(root), "--method=eszsl", "--epochs=3", f"--out={out}")
    assert outcome.status == 0, outcome.err
    means = [row["validation"]["harmonic_mean"] for row in contents(out)["metrics"] if row["stage"] == 1]
    assert len(means) == 3
    assert len(set(means)) == 1
    assert result(out)["epochs"] == 1


def test_stage_1_keeps_the_weights_of_its_best_epoch(root: Path, run: Path) -> None:
    """They score on validation what selection.json says, so they are not those of a later epoch."""
    config = RunFolder.open(run).config()
    benchmark = Benchmark.open(root, folders.NAME, folders.FEATURES)
    method = load_model("sacma", run / "stage-1")
    found = evaluate_method(method, benchmark.split("val"), config, bias=None)[0]
    assert found.to_dict() == result(run)["validation"]
