"""Methods fused with the frozen score: the formula, the choice on validation, the run folder, prediction."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import folders
from folders import FEATURES, NAME
from sacma.data import batches
from sacma.data.benchmark import Benchmark
from sacma.errors import SacmaError
from sacma.frozen.prior import VECTORS, open_prior, prior_kind
from sacma.metrics.gzsl import best_bias, evaluate
from sacma.metrics.nearest import nearest
from sacma.models import METHODS
from sacma.models.eszsl import ESZSL
from sacma.models.frozen import Frozen
from sacma.models.fused import WEIGHTS, Fused, fused_from, scale_ratio
from sacma.runs.config import resolve
from sacma.runs.folder import RunFolder, load_model, save_model
from sacma.runs.records import RunResult
from sacma.training import fusion
from sacma.training.episodes import episode_splits
from sacma.training.fusion import fuse
from sacma.training.loop import build, fit, fit_scaling
from sacma.training.protocol import run
from sacma.training.scoring import evaluate_method, evaluate_run

WIDTHS = {"audio_width": folders.AUDIO_WIDTH, "video_width": folders.VIDEO_WIDTH}
WIDTHS["text_width"] = sum(WIDTHS.values())


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    root = folders.write_folder(tmp_path_factory.mktemp("toy") / "root", joint=True)
    return Benchmark.open(root, NAME, FEATURES)


def trained(toy: Benchmark, out: Path, method: str, **options: Any) -> tuple[RunFolder, RunResult]:
    quick = {"epochs": 2, "batches_per_epoch": 4, "preset": "small"}
    quick |= {"epochs": 1, "batches_per_epoch": 0} if method == "kite" else {}
    given = {"benchmark": NAME, "features": FEATURES, "root": str(toy.root), "method": method}
    config = resolve({**given, **quick, "prior": "frozen", **options})
    folder = RunFolder.create(out, config)
    return folder, run(config, toy, folder)


@torch.no_grad()
def test_the_distance_is_the_weighted_sum(toy: Benchmark) -> None:
    torch.manual_seed(0)
    method = ESZSL(**WIDTHS)
    method.compatibility.normal_()
    fused, val = Fused(method, Frozen(**WIDTHS), kind=VECTORS, weight=0.3, ratio=2.5), toy.split("val")
    batch = batches.gather(val, torch.arange(9))
    own, frozen = method.distances(batch, val.classes), fused.prior.distances(batch, val.classes)
    torch.testing.assert_close(fused.distances(batch, val.classes), 0.7 * own + 0.3 * 2.5 * frozen)
    for weight, alone in ((0.0, own), (1.0, 2.5 * frozen)):
        fused.weight = weight
        assert torch.equal(fused.distances(batch, val.classes), alone)
    assert torch.equal(fused.distances(batch, val.classes, output="embedding"), own)
    assert torch.equal(fused.distances(batch, val.classes, output="frozen"), frozen)


def test_the_ratio_brings_both_to_one_scale() -> None:
    distances = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    assert scale_ratio(6 * distances + 3, 2 * distances) == pytest.approx(3, rel=1e-6)
    assert scale_ratio(distances, torch.ones(50, 7)) == 1.0


@pytest.mark.parametrize("method", ["eszsl", "sacma", "f-vaegan-d2", "cjme"])
def test_the_weight_is_the_best_on_validation(method: str, toy: Benchmark, tmp_path: Path) -> None:
    folder, result = trained(toy, tmp_path / "run", method)
    stage_1 = load_model(method, folder.stage(1))
    assert isinstance(stage_1, Fused)
    val, search = toy.split("val"), folder.config().protocol.bias_search
    seen, means = val.classes.seen, {}
    with torch.no_grad():
        batch = batches.gather(val, torch.arange(len(val)))
        parts = {name: stage_1.distances(batch, val.classes, output=name) for name in ("frozen", None)}
        own = stage_1.method.distances(batch, val.classes)
    for weight in WEIGHTS:
        distances = (1 - weight) * own + weight * stage_1.ratio * parts["frozen"]
        close = nearest(distances, seen)
        calibrated = weight > 0 or stage_1.method.calibrated
        bias = best_bias(close, val.labels, seen, search=search)[0] if calibrated else 0.0
        means[weight] = evaluate(close, val.labels, val.classes, bias=bias, bias_search="exact").harmonic_mean
    assert means[stage_1.weight] == pytest.approx(max(means.values()), abs=1e-6)
    assert result.validation.harmonic_mean == pytest.approx(max(means.values()), abs=1e-6)
    final = load_model(method, folder.path)
    assert isinstance(final, Fused)
    assert final.chosen() == stage_1.chosen() == json.loads((folder.path / "prior.json").read_text())
    notes = folder.selection().validation.warnings
    assert any(
        f"the frozen score has the weight {final.weight:g}, chosen on validation" in note for note in notes
    )


@pytest.mark.slow
def test_kite_has_its_weight_from_episodes_and_not_from_validation(
    toy: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fusion, "EPISODES", 3)
    folder, result = trained(toy, tmp_path / "run", "kite")
    stage_1 = load_model("kite", folder.stage(1))
    assert isinstance(stage_1, Fused)
    assert any("by episodes" in note for note in result.validation.warnings)
    assert result.validation.bias_search == "episodes"
    training, val, config = toy.split("train"), toy.split("val"), folder.config()
    other = replace(val, labels=val.labels.flip(0))
    fused, on_other = fuse(stage_1.method, training, other, config)
    assert fused.chosen() == stage_1.chosen()
    assert on_other.bias == result.validation.bias == result.test.bias
    # The mean over the episodes at the chosen weight and bias is that of a repetition, and the largest.
    distances = []
    for seed in range(fusion.EPISODES):
        fitted, query = episode_splits(training, seed=seed)
        kite = build(METHODS["kite"], fitted, config)
        fit_scaling(kite, fitted)
        fit(kite, fitted, query.classes, torch.device("cpu"))
        batch = batches.gather(query, torch.arange(len(query)))
        with torch.no_grad():
            each = [method.distances(batch, query.classes) for method in (kite, Frozen(**WIDTHS))]
        distances.append((query, *each))

    def mean(weight: float, bias: float) -> float:
        found = []
        for query, own, frozen in distances:
            close = nearest((1 - weight) * own + weight * fused.ratio * frozen, query.classes.seen)
            found.append(evaluate(close, query.labels, query.classes, bias=bias, bias_search="given"))
        return sum(one.harmonic_mean for one in found) / len(found)

    best = mean(fused.weight, on_other.bias)
    assert best >= max(mean(weight, on_other.bias) for weight in WEIGHTS) - 1e-9
    assert f"{fused.weight:g}: {100 * best:.1f}" in result.validation.warnings[-1]


def test_each_part_can_be_evaluated_alone(toy: Benchmark, tmp_path: Path) -> None:
    folder, result = trained(toy, tmp_path / "run", "eszsl")
    again, _ = evaluate_run(folder, toy)
    assert again.harmonic_mean == result.test.harmonic_mean
    config = folder.config()
    frozen, _ = evaluate_run(folder, toy, output="frozen")
    prior = Frozen(**WIDTHS)
    bias = evaluate_method(prior, toy.split("val"), config, bias=None)[0].bias
    expected, _ = evaluate_method(prior, toy.split("test"), config, bias=bias)
    assert (frozen.seen, frozen.unseen, frozen.zsl) == (expected.seen, expected.unseen, expected.zsl)
    own, _ = evaluate_run(folder, toy, output="embedding")
    plain = resolve({**config.options(), "prior": "none"})
    without = RunFolder.create(tmp_path / "plain", plain)
    alone = run(plain, toy, without)
    assert not (without.path / "prior.json").exists()
    assert own.harmonic_mean == pytest.approx(alone.test.harmonic_mean)


@pytest.mark.parametrize("name", METHODS)
def test_saving_and_loading_keep_the_prior(name: str, tmp_path: Path) -> None:
    config = resolve(
        {"method": name, "preset": "small", "benchmark": NAME, "features": FEATURES, "root": "x"}
    )
    method = METHODS[name](**WIDTHS, **config.model)
    fused = Fused(method, open_prior(method, VECTORS), kind=VECTORS, weight=0.4, ratio=1.5)
    save_model(fused, tmp_path)
    again = load_model(name, tmp_path)
    assert isinstance(again, Fused)
    assert again.chosen() == fused.chosen()
    for key, value in method.state_dict().items():
        assert torch.equal(again.method.state_dict()[key], value)


@pytest.mark.parametrize(
    "chosen",
    [{}, {"prior": "frozen", "weight": 2, "ratio": 1}, {"prior": "frozen", "weight": 0.5, "ratio": "one"}],
)
def test_a_damaged_prior_is_named(chosen: dict[str, Any]) -> None:
    with pytest.raises(SacmaError, match="the prior is damaged"):
        fused_from(ESZSL(**WIDTHS), Frozen(**WIDTHS), chosen)


def test_features_of_another_space_are_refused() -> None:
    with pytest.raises(SacmaError, match=r"the frozen score needs features .* or features of lite"):
        prior_kind({}, audio_width=3, video_width=4, text_width=5)
    with pytest.raises(SacmaError, match="the prior 'other' is unknown"):
        open_prior(ESZSL(**WIDTHS), "other")
