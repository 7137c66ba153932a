"""Scoring in blocks of candidates gives what all distances at once give, to the last bit, in less memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from test_contract import Made
from torch import Tensor

import folders
from sacma.data import batches
from sacma.data.benchmark import Benchmark
from sacma.errors import SacmaError
from sacma.metrics.gzsl import best_bias
from sacma.metrics.nearest import Nearest, nearest
from sacma.models import METHODS
from sacma.models.base import Method
from sacma.training import evaluation
from sacma.training.evaluation import distances_by_output, score
from sacma.types import Batch

# A matrix product may round otherwise in narrow blocks; a distance is computed by itself.
PRODUCTS = ("ale", "devise", "sje", "eszsl", "eszsl-0.1", "cosine-ridge", "frozen")
STREAMING = [name for name, method in METHODS.items() if method.distances is Method.distances]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    root = folders.write_folder(tmp_path_factory.mktemp("toy") / "root", joint=True)
    return Benchmark.open(root, folders.NAME, folders.FEATURES)


def assert_same(found: Nearest, expected: Nearest, *, tolerance: float = 0.0) -> None:
    for name, value in vars(expected).items():
        torch.testing.assert_close(getattr(found, name), value, rtol=tolerance, atol=tolerance, msg=name)


def test_the_methods_that_compare_embeddings_stream() -> None:
    assert {"sacma", "tcaf", "avca", "avmst", "avgzslnet", "cjme", "apn", *PRODUCTS} <= set(STREAMING)
    assert not {"f-vaegan-d2", "avfs"} & set(STREAMING)  # probabilities among all candidates


@pytest.mark.parametrize("name", STREAMING)
def test_blocks_of_classes_are_all_classes_at_once(
    name: str, toy: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made(name, next(iter(METHODS[name].VARIANTS)), toy)
    method, split = made.fitted(), made.val
    if not method.temporal:
        split = split.averaged()
    with torch.inference_mode():
        dense = nearest(
            method.distances(batches.gather(split, torch.arange(len(split))), split.classes),
            split.classes.seen,
        )
    monkeypatch.setattr(evaluation, "CLASSES_AT_ONCE", 3)
    assert len(split.classes) % 3
    found = score(method, split, batch_size=len(split)).gzsl
    if name in PRODUCTS:
        assert_same(found, dense, tolerance=1e-6)
        return
    assert_same(found, dense)
    labels, seen = split.labels, split.classes.seen
    assert best_bias(found, labels, seen) == best_bias(dense, labels, seen)


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_one_pass_gives_the_distances_of_every_output(name: str, toy: Benchmark) -> None:
    made = Made(name, next(iter(METHODS[name].VARIANTS)), toy)
    method, split = made.fitted().train(), made.val
    found = distances_by_output(method, split, batch_size=5)
    assert method.training
    assert list(found) == list(method.OUTPUTS)
    for output, distances in found.items():
        expected = score(method, split, batch_size=5, output=output).gzsl
        assert_same(nearest(distances, split.classes.seen), expected)


@pytest.mark.parametrize("block", [1, 7, 100, 1000])
def test_many_classes_with_ties(block: int) -> None:
    generator = torch.Generator().manual_seed(0)
    distances = torch.randint(0, 50, (40, 500), generator=generator).float()
    seen = torch.rand(500, generator=generator) < 0.5
    parts = [nearest(distances[:, p], seen[p], positions=p) for p in torch.arange(500).split(block)]
    found = parts[0]
    for part in parts[1:]:
        found = found.closer(part)
    assert_same(found, nearest(distances, seen))


def test_no_tensor_of_all_clips_or_all_classes_by_clips(
    toy: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made("apn", "corrected", toy)
    method = made.fitted()
    sizes = []
    compare = Method.compare

    def recording(self: Method, clips: Any, classes: Any) -> torch.Tensor:
        distances = compare(self, clips, classes)
        sizes.append(tuple(distances.shape))
        return distances

    monkeypatch.setattr(Method, "compare", recording)
    monkeypatch.setattr(evaluation, "CLASSES_AT_ONCE", 2)
    score(method, made.val, batch_size=4)
    assert max(rows for rows, _ in sizes) == 4
    assert max(columns for _, columns in sizes) == 2
    assert sum(rows * columns for rows, columns in sizes) == len(made.val) * len(made.val.classes)


def test_results_leave_the_device_once(toy: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made("apn", "corrected", toy)
    method = made.fitted()
    copies: list[int] = []
    on_host = Nearest.on_host

    def spy(found: Nearest) -> Nearest:
        copies.append(len(found))
        return on_host(found)

    expected = score(method, made.val, batch_size=len(made.val)).gzsl
    monkeypatch.setattr(Nearest, "on_host", spy)
    found = score(method, made.val, batch_size=2).gzsl
    assert copies == [len(made.val)]
    assert_same(found, expected, tolerance=1e-6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("at_once", [1, 100])
def test_a_distance_that_is_not_finite_is_refused_and_its_clip_named(
    value: float, at_once: int, toy: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, clips = Made("apn", "corrected", toy), [0]
    method = made.fitted()
    compare = method.compare

    def broken(rows: Tensor, classes: Tensor) -> Tensor:
        distances = compare(rows, classes)
        if clips[0] == 2:  # the second batch
            distances[0, -1] = value
        return distances

    def counted(batch: Batch, *, output: str | None) -> Tensor:
        embedded = embed(batch, output=output)
        clips[0] += 1
        return embedded

    embed = method.embed_clips
    monkeypatch.setattr(method, "compare", broken)
    monkeypatch.setattr(method, "embed_clips", counted)
    monkeypatch.setattr(evaluation, "CLASSES_AT_ONCE", at_once)
    name = made.val.features.names[int(made.val.clips[2])]
    with pytest.raises(SacmaError, match=rf"of 1 clips, first '{name}'.* not finite"):
        score(method, made.val, batch_size=2)


@pytest.mark.parametrize("track", ["audio", "video"])
def test_a_clip_whose_features_went_bad_is_named_and_not_its_neighbour(track: str, toy: Benchmark) -> None:
    made = Made("sacma", "paper", toy)
    method = made.fitted()
    features = made.val.features
    own = getattr(features, track)
    for clip in made.val.clips.tolist():
        values = own.values.clone()
        values[int(own.offsets[clip])] = torch.nan
        broken = replace(features, **{track: replace(own, values=values)})
        with pytest.raises(SacmaError, match=rf"features of clip '{features.names[clip]}' are not finite"):
            score(method, replace(made.val, features=broken), batch_size=len(made.val))
