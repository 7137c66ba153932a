"""ESZSL and the ridge with cosine against their equations, and the search of their ridges."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch

from folders import FEATURES, NAME, write_folder
from sacma.data import batches
from sacma.data.benchmark import Benchmark, Split
from sacma.errors import SacmaError
from sacma.metrics.gzsl import best_bias, evaluate
from sacma.metrics.nearest import nearest
from sacma.models.closed_form import ClosedForm
from sacma.models.cosine_ridge import CosineRidge
from sacma.models.eszsl import ESZSL
from sacma.models.eszsl_first import ESZSLFirst
from sacma.types import Batch, ClassSet

BOTH = pytest.mark.parametrize("cls", [ESZSL, CosineRidge])


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    root = write_folder(tmp_path_factory.mktemp("toy") / "root")
    return Benchmark.open(root, NAME, FEATURES)


def build(cls: type[ClosedForm], split: Split, **changes: Any) -> ClosedForm:
    features = split.features
    widths = {"audio_width": features.audio.width, "video_width": features.video.width}
    return cls(**widths, text_width=split.classes.vectors.shape[1], **changes).eval()


def all_of(split: Split) -> Batch:
    return batches.gather(split, torch.arange(len(split)))


def unit(x: torch.Tensor) -> torch.Tensor:
    return x / x.norm(dim=1, keepdim=True)


def written_out(split: Split, test: Split, gamma: float) -> tuple[torch.Tensor, ...]:
    """Balanced covariance with its ridge, class means, centred vectors, centred test clips, candidates."""
    x, z = (
        torch.cat([unit(b.video.mean().double()), unit(b.audio.mean().double())], dim=1)
        for b in (all_of(split), all_of(test))
    )
    k = len(split.classes)
    means = torch.stack([x[split.labels == c].mean(0) for c in range(k)])
    within = sum(torch.outer(d, d) for d in x - means[split.labels]) / len(x)
    means, z = means - means.mean(0), z - means.mean(0)
    covariance = means.T @ means / k + within
    covariance = covariance + gamma * covariance.trace() * torch.eye(len(covariance))
    vectors = split.classes.vectors.double()
    words, candidates = (unit(v.double() - vectors.mean(0)) for v in (vectors, test.classes.vectors))
    return covariance, means, words, z, candidates


def test_the_ridge_with_cosine_is_its_equation(toy: Benchmark) -> None:
    training, test = toy.split("train_val").averaged(), toy.split("test").averaged()
    model = build(CosineRidge, training, gamma=0.02)
    model.fit([all_of(training)], training.classes)
    covariance, means, words, z, candidates = written_out(training, test, 0.02)
    expected = -unit(z @ torch.linalg.inv(covariance) @ means.T @ words) @ candidates.T
    torch.testing.assert_close(
        model.distances(all_of(test), test.classes).double(), expected, atol=1e-4, rtol=0
    )


def test_eszsl_is_its_equation(toy: Benchmark) -> None:
    training, test = toy.split("train_val").averaged(), toy.split("test").averaged()
    model = build(ESZSL, training, gamma=0.02, lambda_=0.5)
    model.fit([all_of(training)], training.classes)
    covariance, means, words, z, candidates = written_out(training, test, 0.02)
    scatter = words.T @ words
    right = torch.linalg.inv(scatter + 0.5 * scatter.trace() * torch.eye(len(scatter)))
    matrix = torch.linalg.inv(covariance) @ means.T @ (2 * words - words.sum(0)) @ right
    expected = -z @ matrix @ candidates.T / (means @ matrix @ words.T).std(correction=0)
    torch.testing.assert_close(
        model.distances(all_of(test), test.classes).double(), expected, atol=1e-3, rtol=0
    )


@BOTH
def test_the_ridges_are_those_near_the_best_on_validation(cls: type[ClosedForm], toy: Benchmark) -> None:
    training, validation = toy.split("train").averaged(), toy.split("val").averaged()
    batch, classes = all_of(validation), validation.classes
    model = build(cls, training)
    model.fit([all_of(training)], classes_of(training, classes))
    model.calibrate([batch], classes)
    other = build(cls, training)
    other.fit([all_of(training)], classes)

    def quality(point: tuple[float, ...]) -> float:
        other.take_validated({"ridges": torch.tensor([point])})
        near = nearest(other.distances(batch, classes), classes.seen)
        bias, _ = best_bias(near, batch.labels, classes.seen)
        return evaluate(near, batch.labels, classes, bias=bias, bias_search="exact").harmonic_mean

    found = {point: quality(point) for point in product(*cls.RIDGES)}
    least = 0.9 * max(found.values())
    chosen = {tuple(point) for point in model.ridges.tolist()}
    assert all(point in chosen for point, value in found.items() if value > least + 1e-6)
    assert all(found[point] > least - 1e-6 for point in chosen)
    assert len(chosen) < len(found)
    again = build(cls, training)
    again.load_state_dict(model.state_dict())
    again.fit([all_of(training)], classes_of(training, classes))
    torch.testing.assert_close(again.compatibility, model.compatibility)
    assert str(len(chosen)) in str(model.choices()[0].count(";") + 1)


@BOTH
def test_several_points_give_the_mean_of_their_maps(cls: type[ClosedForm], toy: Benchmark) -> None:
    training = toy.split("train").averaged()
    model = build(cls, training)
    model.fit([all_of(training)], training.classes)
    points = torch.tensor([[grid[place] for grid in cls.RIDGES] for place in (2, 5)], dtype=torch.float64)
    maps = []
    for point in points:
        model.take_validated({"ridges": point[None]})
        maps.append(model.compatibility.clone())
    model.take_validated({"ridges": points})
    torch.testing.assert_close(model.compatibility, (maps[0] + maps[1]) / 2)
    assert not torch.allclose(maps[0], maps[1])


def classes_of(training: Split, candidates: ClassSet) -> ClassSet:
    """The candidates; the toy's training classes stand first among them."""
    assert candidates.names[: len(training.classes)] == training.classes.names
    return candidates


@BOTH
def test_a_fixed_ridge_stays_and_zero_is_refused(cls: type[ClosedForm], toy: Benchmark) -> None:
    training, validation = toy.split("train").averaged(), toy.split("val").averaged()
    model = build(cls, training, gamma=0.3)
    model.fit([all_of(training)], validation.classes)
    model.calibrate([all_of(validation)], validation.classes)
    assert model.ridges[:, 0].tolist() == pytest.approx([0.3] * len(model.ridges))
    with pytest.raises(SacmaError, match="gamma is 0"):
        build(cls, training, gamma=0.0)


@BOTH
def test_unseen_vectors_play_no_part_and_unseen_clips_are_refused(
    cls: type[ClosedForm], toy: Benchmark
) -> None:
    training, test = toy.split("train_val").averaged(), toy.split("test").averaged()
    seen = training.classes.seen
    other = ClassSet(
        (*training.classes.names, "new"),
        torch.cat([training.classes.vectors, torch.ones(1, training.classes.vectors.shape[1])]),
        torch.cat([seen, torch.tensor([False])]),
    )
    first, second = build(cls, training), build(cls, training)
    first.fit([all_of(training)], training.classes)
    second.fit([all_of(training)], other)
    assert torch.equal(first.compatibility, second.compatibility)
    with pytest.raises(SacmaError, match="unseen class"):
        first.fit([all_of(test)], replace(test.classes, seen=torch.zeros(len(test.classes)) > 0))


def test_models_of_the_first_version_are_found_by_their_options() -> None:
    assert ESZSL.for_saved({"norm_inputs": False}) is ESZSLFirst
    assert ESZSL.for_saved({"gamma": None}) is ESZSL
