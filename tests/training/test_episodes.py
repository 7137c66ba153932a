"""The bias from episodes within the training clips."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from commands import sacma
from folders import FEATURES, NAME, write_folder
from sacma.data.benchmark import Benchmark
from sacma.errors import SacmaError
from sacma.runs.folder import RunFolder
from sacma.training.episodes import EPISODES, episode_splits

QUICK = ("--epochs=2", "--batches-per-epoch=4", "--batch-size=16", "--method=ale")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("episodes") / "root")


@pytest.fixture(scope="module")
def toy(root: Path) -> Benchmark:
    return Benchmark.open(root, NAME, FEATURES)


def train(root: Path, out: Path, *more: str) -> dict[str, object]:
    outcome = sacma(
        *("train", f"--root={root}", f"--benchmark={NAME}", f"--features={FEATURES}", f"--out={out}"),
        *QUICK,
        *more,
    )
    assert outcome.status == 0, outcome.err
    return json.loads((out / "result.json").read_text())


def test_an_episode_hides_classes_and_holds_clips_back(toy: Benchmark) -> None:
    whole = toy.split("train_val")
    training, held = episode_splits(whole, seed=0)
    assert sorted([*training.clips.tolist(), *held.clips.tolist()]) == whole.clips.tolist()
    assert held.classes.names == whole.classes.names
    assert int((~held.classes.seen).sum()) == round(len(whole.classes) / 3)
    assert training.classes.names == held.classes.only(held.classes.seen).names
    assert bool(training.classes.seen.all())
    of_clip = dict(zip(whole.clips.tolist(), whole.labels.tolist(), strict=True))
    for split in (training, held):
        for clip, label in zip(split.clips.tolist(), split.labels.tolist(), strict=True):
            assert split.classes.names[label] == whole.classes.names[of_clip[clip]]
    assert not set(training.labels.tolist()) ^ set(range(len(training.classes)))
    assert set(held.labels.tolist()) == set(range(len(held.classes)))
    assert torch.equal(episode_splits(whole, seed=0)[0].clips, training.clips)
    assert not torch.equal(episode_splits(whole, seed=1)[0].labels, training.labels)


def test_a_group_is_held_back_whole(toy: Benchmark) -> None:
    groups = [f"{row % 2}" for row in range(len(toy.features))]
    whole = replace(toy.split("train_val"), features=toy.features.grouped(groups))
    training, held = episode_splits(whole, seed=0)
    for label, name in enumerate(training.classes.names):
        there = {groups[clip] for clip in training.clips[training.labels == label].tolist()}
        back = {groups[clip] for clip in held.clips[held.labels == held.classes.names.index(name)].tolist()}
        assert not there & back
    alone = replace(whole, features=toy.features.grouped(["one"] * len(toy.features)))
    with pytest.raises(SacmaError, match="has clips of one recording alone"):
        episode_splits(alone, seed=0)


def test_the_bias_changes_and_nothing_else(root: Path, tmp_path: Path) -> None:
    carried = train(root, tmp_path / "carried")
    found = train(root, tmp_path / "found", "--bias-from=episodes")
    biases = json.loads((tmp_path / "found" / "bias.json").read_text())["biases"]
    assert len(biases) == EPISODES
    assert found["test"]["bias"] == pytest.approx(sum(biases) / EPISODES)
    assert found["test"]["bias"] != carried["test"]["bias"]
    assert found["validation"] == carried["validation"]
    for key in ("zsl", "ausuc"):
        assert found["test"][key] == carried["test"][key]
    assert any("3 episodes" in warning for warning in found["test"]["warnings"])
    assert not (tmp_path / "carried" / "bias.json").exists()
    assert (tmp_path / "carried" / "model.safetensors").read_bytes() == (
        tmp_path / "found" / "model.safetensors"
    ).read_bytes()


def test_the_weights_alone_give_the_same_figures(root: Path, tmp_path: Path) -> None:
    found = train(root, tmp_path / "found", "--bias-from=episodes")
    again = sacma("evaluate", tmp_path / "found")
    assert again.status == 0, again.err
    assert f"{100 * found['test']['harmonic_mean']:.1f}" in again.out
    assert RunFolder(tmp_path / "found").test_bias() == pytest.approx(found["test"]["bias"])
    (tmp_path / "found" / "bias.json").write_text('{"biases": ["x"]}')
    assert "bias.json is damaged" in sacma("evaluate", tmp_path / "found").line
