"""Metrics against loops over clips, classes and biases; whole numbers as distances make ties exact."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from torch import Tensor

from sacma.errors import SacmaError
from sacma.metrics.gzsl import GZSLResult, ausuc, best_bias, evaluate, harmonic_mean, per_class_accuracy
from sacma.metrics.nearest import Nearest, nearest
from sacma.types import ClassSet

CountCalls = Callable[[Callable[[], Any]], int]


@dataclass
class Case:
    """N clips, K classes, of which at least one is seen and has a clip and one is unseen and has a clip."""

    distances: Tensor
    labels: Tensor
    seen: Tensor

    @property
    def nearest(self) -> Nearest:
        return nearest(self.distances, self.seen)

    @property
    def classes(self) -> ClassSet:
        return class_set(self.seen)

    def scaled(self, factor: float) -> Case:
        return Case(self.distances * factor, self.labels, self.seen)


def class_set(seen: Tensor) -> ClassSet:
    return ClassSet(tuple(f"class {k}" for k in range(len(seen))), torch.zeros(len(seen), 1), seen)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    clips, classes = draw(st.integers(2, 14)), draw(st.integers(2, 7))
    largest = draw(st.sampled_from([1, 3, 12, 1000]))
    distances = torch.tensor(generator.integers(0, largest, (clips, classes)), dtype=torch.float64)
    seen = torch.tensor(generator.random(classes) < 0.5)
    seen[0], seen[1] = True, False
    permutation = torch.tensor(generator.permutation(classes))
    labels = torch.tensor(generator.integers(0, classes, clips))
    labels[0], labels[1] = 0, 1
    if draw(st.booleans()):  # as after training: the right class is mostly near
        distances[torch.arange(clips), labels] *= 0.25
    return Case(distances[:, permutation.argsort()], permutation[labels], seen[permutation.argsort()])


def literal(case: Case, bias: float) -> dict[str, float]:
    """S, U, HM and ZSL in plain Python."""
    distances, seen = case.distances.tolist(), case.seen.tolist()

    def answer(row: Sequence[float], candidates: Sequence[int], bias: float) -> int:
        best, found = math.inf, -1
        for k in candidates:
            d = row[k] + bias * seen[k]
            if d < best:
                best, found = d, k
        return found

    everything = range(len(seen))
    unseen_only = [k for k in everything if not seen[k]]

    def mean(of_seen: bool, candidates: Sequence[int], bias: float) -> float:
        accuracies = []
        for k in everything:
            of_class = [n for n, y in enumerate(case.labels.tolist()) if y == k]
            if seen[k] == of_seen and of_class:
                hits = sum(answer(distances[n], candidates, bias) == k for n in of_class)
                accuracies.append(hits / len(of_class))
        return sum(accuracies) / len(accuracies)

    S, U = mean(True, everything, bias), mean(False, everything, bias)
    return {
        "seen": S,
        "unseen": U,
        "harmonic_mean": 2 * S * U / (S + U) if S + U else 0.0,
        "zsl": mean(False, unseen_only, 0.0),
    }


def margins(case: Case) -> set[float]:
    return {(row[~case.seen].min() - row[case.seen].min()).item() for row in case.distances}


def between(case: Case) -> list[float]:
    """A bias below all margins, one between any two neighbouring ones, one above all."""
    ends = sorted(margins(case))
    return [ends[0] - 1, *((a + b) / 2 for a, b in pairwise(ends)), ends[-1] + 1]


def from_zero(case: Case) -> list[float]:
    """The same for the intervals without their part below 0."""
    ends = sorted({margin for margin in margins(case) if margin > 0} | {0.0})
    return [*((a + b) / 2 for a, b in pairwise(ends)), ends[-1] + 1]


def measures(result: GZSLResult) -> dict[str, float]:
    return {name: getattr(result, name) for name in ("seen", "unseen", "harmonic_mean", "zsl")}


@given(cases(), st.integers(-8, 40))
def test_evaluate_is_the_literal_loop_ties_included(case: Case, eighths: int) -> None:
    bias = eighths / 8
    result = evaluate(case.nearest, case.labels, case.classes, bias=bias, bias_search="exact")
    assert measures(result) == pytest.approx(literal(case, bias), abs=1e-12)
    assert (result.bias, result.bias_search) == (bias, "exact")


@settings(max_examples=200)
@given(cases())
def test_exact_search_finds_the_best_of_all_biases(case: Case) -> None:
    bias, warnings = best_bias(case.nearest, case.labels, case.seen)
    assert bias >= 0
    candidates = {b: literal(case, b) for b in from_zero(case)}
    best = max(found["harmonic_mean"] for found in candidates.values())
    if best == 0:
        assert bias == 0
        assert "harmonic mean" in warnings[0]
        return
    assert warnings == ()
    here = evaluate(case.nearest, case.labels, case.classes, bias=bias, bias_search="exact")
    assert here.harmonic_mean == pytest.approx(best, abs=1e-12)
    for lower, found in candidates.items():  # the lowest of equals: only its own interval lies below
        if lower < bias and found["harmonic_mean"] > best - 1e-12:
            assert (found["seen"], found["unseen"]) == pytest.approx((here.seen, here.unseen))


@given(cases(), st.integers(-30, 30))
def test_scale_of_the_distances_changes_the_bias_alone(case: Case, power: int) -> None:
    factor = 2.0**power
    scaled = case.scaled(factor)
    bias, _ = best_bias(case.nearest, case.labels, case.seen)
    bias_scaled, _ = best_bias(scaled.nearest, scaled.labels, scaled.seen)
    assert bias_scaled == bias * factor
    results = [
        evaluate(c.nearest, c.labels, c.classes, bias=b, bias_search="exact")
        for c, b in ((case, bias), (scaled, bias_scaled))
    ]
    assert measures(results[0]) == measures(results[1])
    assert results[0].ausuc == results[1].ausuc


@pytest.mark.parametrize("factor", [1e-9, 1e-3, 7.0, 1e12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_search_works_at_any_scale(factor: float, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    distances = torch.rand(300, 9, generator=generator)
    labels = torch.randint(9, (300,), generator=generator)
    distances[torch.arange(300), labels] *= 0.6
    seen = torch.arange(9) < 6
    distances[:, seen] -= 0.1  # seen classes are nearer, as they are after training
    plain = Case(distances.double(), labels, seen)
    scaled = Case((distances.double() * factor).to(dtype), labels, seen)
    bias, _ = best_bias(plain.nearest, labels, seen)
    bias_scaled, _ = best_bias(scaled.nearest, labels, seen)
    assert bias > 0
    assert bias_scaled == pytest.approx(bias * factor, rel=1e-4)
    at_best = evaluate(scaled.nearest, labels, scaled.classes, bias=bias_scaled, bias_search="exact")
    at_zero = evaluate(scaled.nearest, labels, scaled.classes, bias=0, bias_search="exact")
    assert at_best.harmonic_mean == pytest.approx(literal(plain, bias)["harmonic_mean"])
    assert at_best.harmonic_mean > at_zero.harmonic_mean + 0.05


def test_exact_search_takes_the_middle_of_the_best_interval() -> None:
    # Clip 0 (seen) is right below 5, clip 1 (unseen) above 2; clip 2 (seen), at 3, is always wrong.
    case = Case(
        torch.tensor([[1.0, 6.0, 9.0], [1.0, 3.0, 9.0], [0.0, 3.0, 9.0]]),
        torch.tensor([0, 1, 2]),
        torch.tensor([True, False, True]),
    )
    assert best_bias(case.nearest, case.labels, case.seen) == (3.5, ())
    lower = Case(case.distances - torch.tensor([0.0, 3.0, 0.0]), case.labels, case.seen)
    assert best_bias(lower.nearest, case.labels, case.seen) == (1.0, ())  # of 0 to 2, not of -1 to 2


def test_equal_harmonic_means_are_ties_although_sums_are_rounded() -> None:
    # S = 4/5, U = 6/10 from 1 to 2 and S = 3/5, U = 8/10 from 2 to 3: added up, the second comes out larger.
    seen_margins, unseen_margins = [1.0] + [2.0] + [3.0] * 3, [1.0] * 6 + [2.0] * 2 + [3.0] * 2
    distances = torch.tensor([[0.0, margin] for margin in seen_margins + unseen_margins])
    case = Case(distances, torch.tensor([0] * 5 + [1] * 10), torch.tensor([True, False]))
    assert best_bias(case.nearest, case.labels, case.seen) == (1.5, ())


def test_neighbouring_floats_leave_no_room_for_a_bias() -> None:
    above = np.nextafter(1.0, 2.0)
    distances = torch.tensor([[0.0, above], [0.0, 1.0]], dtype=torch.float64)
    case = Case(distances, torch.tensor([0, 1]), torch.tensor([True, False]))
    bias, warnings = best_bias(case.nearest, case.labels, case.seen)
    assert bias == 0
    assert warnings


@given(cases())
def test_grid_search_takes_the_first_best_of_sixteen(case: Case) -> None:
    case = case.scaled(0.25)  # so that margins fall onto the grid too
    grid = np.linspace(0, 3, 16)
    values = [literal(case, b)["harmonic_mean"] for b in grid]
    first = next(b for b, value in zip(grid, values, strict=True) if value > max(values) - 1e-12)
    bias, warnings = best_bias(case.nearest, case.labels, case.seen, search="grid")
    found = evaluate(case.nearest, case.labels, case.classes, bias=bias, bias_search="grid")
    assert bias == pytest.approx(first)
    assert found.harmonic_mean == pytest.approx(max(values), abs=1e-12)
    assert bool(warnings) == (first == 3)


@given(cases())
def test_smooth_search_takes_the_bias_with_the_best_mean_around_it(case: Case) -> None:
    spread = case.nearest.margin.std(correction=0).item()
    bias, _ = best_bias(case.nearest, case.labels, case.seen, search="smooth")
    if spread == 0:
        assert bias == best_bias(case.nearest, case.labels, case.seen)[0]
        return
    steps = np.linspace(-4, 4, 161)
    weights = np.exp(-(steps**2) / 2) / np.exp(-(steps**2) / 2).sum()
    ends = sorted(margins(case))
    levels = np.array([literal(case, b)["harmonic_mean"] for b in between(case)])

    def mean(value: float) -> float:
        return float(weights @ levels[np.searchsorted(ends, value + spread / 2 * steps)])

    others = np.linspace(0, max(*ends, spread / 2), 41)
    assert 0 <= bias <= others[-1]
    assert mean(bias) >= max(map(mean, others)) - 0.02  # two ways to take a mean


@given(cases(), st.sampled_from([0.001, 1000.0]))
def test_smooth_search_knows_no_scale(case: Case, factor: float) -> None:
    scaled = case.scaled(factor)
    bias, scaled_bias = (
        best_bias(one.nearest, one.labels, one.seen, search="smooth")[0] for one in (case, scaled)
    )
    at = {b: literal(case, b)["harmonic_mean"] for b in (bias, scaled_bias / factor)}
    assert scaled_bias == pytest.approx(factor * bias, rel=1e-6) or len(set(at.values())) == 1


def test_smooth_search_keeps_away_from_a_steep_fall() -> None:
    """S is whole up to 4, then falls; U grows a little near there: the best bias is at the edge."""
    seen_margins, unseen_margins = [4.0, 4.1, 4.2, 4.3], [0.0, 0.5, 1.0, 3.9]
    distances = torch.tensor([[0.0, margin] for margin in seen_margins + unseen_margins], dtype=torch.float64)
    case = Case(distances, torch.tensor([0] * 4 + [1] * 4), torch.tensor([True, False]))
    exact, _ = best_bias(case.nearest, case.labels, case.seen)
    smooth, warnings = best_bias(case.nearest, case.labels, case.seen, search="smooth")
    assert exact == pytest.approx(3.95)
    assert 1.5 < smooth < 3.5
    assert not warnings


def test_the_end_of_the_grid_is_reported() -> None:
    case = Case(torch.tensor([[0.0, 20.0], [0.0, 2.9]]), torch.tensor([0, 1]), torch.tensor([True, False]))
    bias, warnings = best_bias(case.nearest, case.labels, case.seen, search="grid")
    assert bias == 3
    assert "end of the grid" in warnings[0]


@given(cases())
def test_ausuc_is_the_area_under_the_brute_force_curve(case: Case) -> None:
    curve = [literal(case, b) for b in between(case)]
    area = sum((b["unseen"] - a["unseen"]) * (a["seen"] + b["seen"]) / 2 for a, b in pairwise(curve))
    assert ausuc(case.nearest, case.labels, case.seen) == pytest.approx(area, abs=1e-12)


def test_ausuc_of_a_perfect_and_of_a_useless_ranking() -> None:
    perfect = Case(torch.tensor([[0.0, 9.0], [9.0, 0.0]]), torch.tensor([0, 1]), torch.tensor([True, False]))
    assert ausuc(perfect.nearest, perfect.labels, perfect.seen) == 1
    useless = Case(perfect.distances.flip(0), perfect.labels, perfect.seen)
    assert ausuc(useless.nearest, useless.labels, useless.seen) == 0


@given(cases(), st.integers(1, 5), st.integers(1, 5))
def test_streaming_over_clips_and_over_classes_changes_nothing(case: Case, clips: int, classes: int) -> None:
    parts = []
    for rows in case.distances.split(clips):
        found: Nearest | None = None
        for columns in torch.arange(len(case.seen)).split(classes):
            piece = nearest(rows[:, columns], case.seen[columns], positions=columns)
            found = piece if found is None else piece.closer(found)
        parts.append(found)
    streamed, whole = Nearest.concatenate(parts), case.nearest
    assert len(streamed) == len(whole)
    for name in ("seen_distance", "seen_class", "unseen_distance", "unseen_class"):
        assert torch.equal(getattr(streamed, name), getattr(whole, name)), name


def test_mismatched_shapes_are_refused() -> None:
    with pytest.raises(SacmaError, match=r"\(3, 4\) for 2 classes"):
        nearest(torch.zeros(3, 4), torch.tensor([True, False]))
    seen = torch.tensor([True, False])
    found = nearest(torch.zeros(3, 2), seen)
    for labels in ([0, 1], [0, 1, 2], [0, 1, -1]):
        with pytest.raises(SacmaError, match="label"):
            evaluate(found, torch.tensor(labels), class_set(seen), bias=0, bias_search="exact")
    with pytest.raises(SacmaError, match="bias is nan"):
        evaluate(found, torch.tensor([0, 1, 1]), class_set(seen), bias=math.nan, bias_search="exact")
    with pytest.raises(SacmaError, match="'gird'"):
        best_bias(found, torch.tensor([0, 1, 1]), seen, search="gird")
    with pytest.raises(SacmaError, match="at least one clip"):
        best_bias(nearest(torch.zeros(0, 2), seen), torch.zeros(0, dtype=torch.long), seen)


def test_per_class_accuracy() -> None:
    correct, labels = torch.tensor([True, False, True, False, False]), torch.tensor([0, 0, 0, 2, 2])
    accuracy = per_class_accuracy(correct, labels, 4)
    assert accuracy[[0, 2]].tolist() == pytest.approx([2 / 3, 0])
    assert accuracy[[1, 3]].isnan().all()


def test_harmonic_mean_of_zeros_is_zero() -> None:
    values = harmonic_mean(
        torch.tensor([0.0, 0.5, 0.2], dtype=torch.float64), torch.tensor([0.0, 0.0, 0.6], dtype=torch.float64)
    )
    assert values.tolist() == pytest.approx([0, 0, 0.3])


def lopsided() -> Case:
    """Six classes: 0 and 1 seen, 2 seen without clips, 3 and 4 unseen, 5 unseen without clips."""
    labels = torch.tensor([0, 0, 0, 1, 3, 4, 4])
    distances = torch.full((7, 6), 5.0)
    distances[torch.arange(7), labels] = 1
    distances[0, 2] = 0.5  # one clip of class 0 is taken for class 2
    distances[4, 0] = 0.5  # the clip of class 3 for class 0; among unseen ones it is right
    return Case(distances, labels, torch.tensor([True, True, True, False, False, False]))


def test_classes_without_clips_are_left_out_and_reported() -> None:
    case = lopsided()
    result = evaluate(
        case.nearest, case.labels, case.classes, bias=0, bias_search="exact", warnings=["from the search"]
    )
    assert result.per_class == pytest.approx(
        {"class 0": 2 / 3, "class 1": 1.0, "class 3": 0.0, "class 4": 1.0}
    )
    assert result.per_class_zsl == {"class 3": 1.0, "class 4": 1.0}
    assert (result.seen, result.unseen, result.zsl) == pytest.approx((5 / 6, 1 / 2, 1))
    assert result.warnings[0] == "from the search"
    assert "2 of 6 classes" in result.warnings[1]


def test_without_unseen_clips_there_is_no_unseen_accuracy() -> None:
    case = lopsided()
    keep = case.seen[case.labels]
    case = Case(case.distances[keep], case.labels[keep], case.seen)
    bias, warnings = best_bias(case.nearest, case.labels, case.seen)
    assert bias == 0
    assert "unseen" in warnings[0]
    result = evaluate(case.nearest, case.labels, case.classes, bias=0, bias_search="exact")
    assert result.seen == pytest.approx(5 / 6)
    assert all(math.isnan(x) for x in (result.unseen, result.harmonic_mean, result.zsl, result.ausuc))
    assert result.to_dict()["unseen"] is None
    assert "U -" in str(result)
    assert math.isnan(GZSLResult.from_dict(json.loads(json.dumps(result.to_dict()))).unseen)


def test_result_survives_json_and_shows_percent() -> None:
    case = lopsided()
    result = evaluate(case.nearest, case.labels, case.classes, bias=0.25, bias_search="grid")
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert GZSLResult.from_dict(plain) == result
    assert "S 83.33  U 50.00  HM 62.50  ZSL 100.00" in str(result)
    assert "bias 0.25" in str(result)
    console = Console(width=200)
    with console.capture() as screen:
        console.print(result)
    assert all(text in screen.get() for text in ("83.33", "62.50", "2 of 6 classes"))
    with pytest.raises(SacmaError, match="unseen"):
        GZSLResult.from_dict({name: value for name, value in plain.items() if name != "unseen"})


def test_no_python_loop_over_clips_or_biases(count_calls: CountCalls) -> None:
    def work(clips: int) -> None:
        generator = torch.Generator().manual_seed(1)
        case = Case(
            torch.rand(clips, 5, generator=generator),
            torch.arange(clips) % 5,
            torch.tensor([True, True, False, False, True]),
        )
        for search in ("exact", "grid"):
            bias, _ = best_bias(case.nearest, case.labels, case.seen, search=search)
            evaluate(case.nearest, case.labels, case.classes, bias=bias, bias_search=search)

    work(50)
    assert count_calls(lambda: work(5000)) == count_calls(lambda: work(50))
