"""Figures of clips with several right classes: those of single ones are the same, others by slow loops."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

import commands
import folders
from sacma.errors import SacmaError
from sacma.metrics.gzsl import evaluate
from sacma.metrics.multilabel import evaluate_multilabel
from sacma.metrics.nearest import nearest
from sacma.types import ClassSet

SEEN = torch.tensor([True, True, True, False, False])


def drawn(clips: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(clips) % 5
    distances = torch.rand(clips, 5, generator=generator, dtype=torch.float64)
    distances[torch.arange(clips), labels] -= 0.3
    return distances, labels


def test_with_one_class_a_clip_they_are_those_of_the_protocol() -> None:
    distances, labels = drawn()
    classes = ClassSet(tuple("abcde"), torch.zeros(5, 1), SEEN)
    expected = evaluate(nearest(distances, SEEN), labels, classes, bias=0.2, bias_search="none")
    right = torch.nn.functional.one_hot(labels, 5).bool()
    found = evaluate_multilabel(distances, right, SEEN, bias=0.2)
    for name in ("seen", "unseen", "harmonic_mean", "zsl"):
        assert getattr(found, name) == pytest.approx(getattr(expected, name))


def test_several_classes_by_loops() -> None:
    distances, labels = drawn()
    right = torch.nn.functional.one_hot(labels, 5).bool() | (torch.arange(300).reshape(60, 5) % 7 == 0)
    found = evaluate_multilabel(distances, right, SEEN, bias=0.1)
    of_class: dict[int, list[bool]] = {k: [] for k in range(5)}
    alone: dict[int, list[bool]] = {3: [], 4: []}
    hits = top = 0
    for row, own in zip(distances + 0.1 * SEEN, right, strict=True):
        answer = int(row.argmin())
        hits += bool(own[answer])
        top += bool(own[row.argsort()[:5]].any())
        for k in own.nonzero()[:, 0].tolist():
            of_class[k].append(bool(own[answer]))
            if k in alone:
                alone[k].append(bool(own[3 + int(row[3:].argmin())]))
    means = {k: sum(some) / len(some) for k, some in of_class.items()}
    assert found.seen == pytest.approx((means[0] + means[1] + means[2]) / 3)
    assert found.unseen == pytest.approx((means[3] + means[4]) / 2)
    assert found.zsl == pytest.approx(sum(sum(some) / len(some) for some in alone.values()) / 2)
    assert found.hit == pytest.approx(hits / 60)
    assert found.hit_top == top / 60 == 1
    assert found.classes_per_clip == pytest.approx(float(right.sum()) / 60)
    sklearn = pytest.importorskip("sklearn.metrics")
    precision = [sklearn.average_precision_score(right[:, k], -distances[:, k]) for k in (3, 4)]
    assert found.map_unseen == pytest.approx(sum(precision) / 2)


def test_without_unseen_classes_there_is_no_zsl_and_a_clip_needs_a_class() -> None:
    distances, labels = drawn()
    right = torch.nn.functional.one_hot(labels.clamp(max=2), 5).bool()
    found = evaluate_multilabel(distances, right, SEEN, bias=0.0)
    assert math.isnan(found.zsl)
    assert found.to_dict()["zsl"] is None
    right[7] = False
    with pytest.raises(SacmaError, match="clip 7 has no right class"):
        evaluate_multilabel(distances, right, SEEN, bias=0.0)


def test_the_command_tells_them(tmp_path: Path) -> None:
    root = folders.write_folder(tmp_path / "root")
    run = commands.trained(root, tmp_path / "run", "--epochs=2")
    names = [f"{name}_{clip}" for name in folders.ALL for clip in range(4)]
    every = "".join(f"{clip},{label}\n" for clip in names for label in folders.ALL)
    (tmp_path / "all.csv").write_text("video_id,label\n" + every)
    outcome = commands.sacma("evaluate", run, f"--labels={tmp_path / 'all.csv'}", "--json")
    assert outcome.status == 0, outcome.err
    found = json.loads(outcome.out)["several_classes"]
    assert (found["seen"], found["unseen"], found["zsl"], found["hit"]) == (1, 1, 1, 1)
    assert found["classes_per_clip"] == 10
    own = "".join(f"{clip},{clip.partition('_')[0]}\n" for clip in names)
    (tmp_path / "own.csv").write_text("video_id,label\n" + own)
    told = json.loads(commands.sacma("evaluate", run, f"--labels={tmp_path / 'own.csv'}", "--json").out)
    assert told["several_classes"]["harmonic_mean"] == pytest.approx(told["harmonic_mean"])
