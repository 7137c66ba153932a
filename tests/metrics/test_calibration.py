"""Temperature and reliability, against slow literal computations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sacma.errors import SacmaError
from sacma.metrics.calibration import Reliability, fit_temperature, probabilities, reliability


def made_up(clips: int = 400, classes: int = 6, sharpness: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    """Distances whose true temperature is 1 / sharpness, labels drawn by it, and which classes are seen."""
    generator = torch.Generator().manual_seed(0)
    distances = torch.rand(clips, classes, generator=generator, dtype=torch.float64)
    seen = torch.arange(classes) < classes // 2
    chance = (-(distances + 0.3 * seen) * sharpness).softmax(dim=1)
    labels = torch.multinomial(chance, 1, generator=generator).squeeze(1)
    return distances, labels, seen


def nll(distances: Tensor, labels: Tensor, seen: Tensor, bias: float, temperature: float) -> float:
    scores = probabilities(distances, seen, bias=bias, temperature=temperature)
    return -scores[torch.arange(len(labels)), labels].log().mean().item()


def test_probabilities_by_the_formula() -> None:
    distances, seen = torch.tensor([[1.0, 2.0, 4.0]]), torch.tensor([True, False, False])
    weights = [math.exp(-(1.0 + 0.5) / 2), math.exp(-2.0 / 2), math.exp(-4.0 / 2)]
    found = probabilities(distances, seen, bias=0.5, temperature=2.0)[0].tolist()
    assert found == pytest.approx([weight / sum(weights) for weight in weights])


def test_temperature_has_the_least_likelihood_loss() -> None:
    distances, labels, seen = made_up()
    fitted = fit_temperature(distances, labels, seen, bias=0.3)
    best = nll(distances, labels, seen, 0.3, fitted)
    others = [nll(distances, labels, seen, 0.3, fitted * factor) for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2)]
    assert best < min(others)
    assert fitted == pytest.approx(1 / 3, rel=0.25)  # what the labels were drawn by


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_temperature_has_the_scale_of_the_distances(scale: float) -> None:
    distances, labels, seen = made_up()
    one = fit_temperature(distances, labels, seen, bias=0.3)
    assert fit_temperature(scale * distances, labels, seen, bias=scale * 0.3) == pytest.approx(scale * one)


def test_certain_and_hopeless_answers_end_at_the_ends() -> None:
    distances, seen = torch.eye(4).neg(), torch.zeros(4, dtype=torch.bool)
    right, wrong = torch.arange(4), torch.arange(4).roll(1)
    assert fit_temperature(distances, right, seen, bias=0.0) < 0.01
    assert fit_temperature(distances, wrong, seen, bias=0.0) > 100
    assert fit_temperature(torch.ones(4, 4), right, seen, bias=0.0) == 1.0


def test_reliability_by_hand() -> None:
    scores = torch.tensor([[0.95, 0.05], [0.92, 0.08], [0.45, 0.55], [0.6, 0.4]])
    labels = torch.tensor([0, 1, 1, 0])
    found = reliability(scores, labels)
    assert (found.clips, found.accuracy) == (4, 0.75)
    assert found.confidence == pytest.approx((0.95 + 0.92 + 0.55 + 0.6) / 4)
    gaps = [2 * abs(0.5 - 0.935), abs(1 - 0.55), abs(1 - 0.6)]
    assert found.ece == pytest.approx(sum(gaps) / 4)
    assert found.nll == pytest.approx(-sum(math.log(p) for p in (0.95, 0.08, 0.55, 0.6)) / 4)
    assert found.bin_clips == (0, 0, 0, 0, 0, 1, 1, 0, 0, 2)
    assert found.bin_accuracy[9] == 0.5
    assert found.bin_accuracy[0] is None


def test_reliability_of_certainty_and_back_from_json() -> None:
    found = reliability(torch.eye(3), torch.tensor([0, 1, 0]))  # a probability of 0 for what was right
    assert math.isfinite(found.nll)
    assert found.bin_clips[-1] == 3
    assert Reliability.from_dict(found.to_dict()) == found
    with pytest.raises(SacmaError):
        Reliability.from_dict({"clips": 3})


def test_what_the_temperature_is_for() -> None:
    distances, labels, seen = made_up(clips=4000)
    fitted = fit_temperature(distances, labels, seen, bias=0.3)

    def ece(temperature: float) -> float:
        scores = probabilities(distances, seen, bias=0.3, temperature=temperature)
        return reliability(scores, labels).ece

    assert ece(fitted) < 0.03 < ece(fitted / 4)
