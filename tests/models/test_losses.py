"""Every loss against a literal reference with loops, values and gradients in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from sacma.errors import SacmaError
from sacma.models.losses import contrastive, cosine_distance_loss, ranking, regression, triplet

PAIRS = {("text", "audio"): 0.8, ("audio", "video"): 0.1}
LABELS = {1: [0], 2: [3, 3], 6: [0, 1, 0, 2, 2, 0]}
SIZES = sorted(LABELS)


def rows(clips: int, *, seed: int, width: int = 5, zero: bool = False) -> Tensor:
    values = torch.randn(clips, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    if zero:
        values[clips // 2] = 0
    return values.requires_grad_()


def check(ours: Tensor, reference: Tensor, inputs: Sequence[Tensor]) -> None:
    """Same value, same gradients."""
    torch.testing.assert_close(ours, reference, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(value, inputs, retain_graph=True) for value in (ours, reference)]
    for a, b in zip(*gradients, strict=True):
        assert torch.isfinite(a).all()
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def cosine(x: Tensor, y: Tensor) -> Tensor:
    def floored(v: Tensor) -> Tensor:
        return v.square().sum().sqrt() if bool(v.any()) else torch.tensor(1e-8, dtype=v.dtype)

    return (x * y).sum() / (floored(x) * floored(y))


def mean(values: Sequence[Tensor]) -> Tensor:
    return sum(values, start=torch.zeros((), dtype=torch.float64)) / len(values)


def literal_direction(x: Tensor, y: Tensor, tau: float, mode: str, labels: Sequence[int]) -> Tensor:
    clips = range(len(x))
    costs = []
    for i in clips:
        same = [j for j in clips if labels[j] == labels[i]]
        similar = {j: (cosine(x[i], y[j]) / tau).exp() for j in clips}
        against = [j for j in clips if j == i or j not in same] if mode == "masked" else list(clips)
        total = sum(similar[j] for j in against)
        positives = same if mode == "positive" else [i]
        costs.append(mean([-(similar[j] / total).log() for j in positives]))
    return mean(costs)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("mode", ["negative", "masked", "positive"])
@pytest.mark.parametrize("clips", SIZES)
def test_contrastive_is_the_literal_double_loop(clips: int, mode: str, zero: bool) -> None:
    embeddings = {
        "text": rows(clips, seed=1),
        "audio": rows(clips, seed=2, zero=zero),
        "video": rows(clips, seed=3),
    }
    labels = LABELS[clips]
    ours = contrastive(embeddings, PAIRS, temperature=0.3, same_class=mode, labels=torch.tensor(labels))
    assert list(ours) == ["text-audio", "audio-video"]
    for (first, second), weight in PAIRS.items():
        x, y = embeddings[first], embeddings[second]
        there = literal_direction(x, y, 0.3, mode, labels)
        back = literal_direction(y, x, 0.3, mode, labels)
        check(ours[f"{first}-{second}"], weight * (there + back), [x, y])


def test_contrastive_defaults_are_the_papers() -> None:
    embeddings = {"text": rows(6, seed=1), "audio": rows(6, seed=2)}
    pair = {("text", "audio"): 1.0}
    written_out = contrastive(embeddings, pair, temperature=0.05, same_class="negative")
    torch.testing.assert_close(contrastive(embeddings, pair), written_out)


def test_without_repeated_classes_the_same_class_choices_agree() -> None:
    embeddings = {"text": rows(6, seed=1), "audio": rows(6, seed=2)}
    pair = {("text", "audio"): 1.0}
    plain = contrastive(embeddings, pair)["text-audio"]
    for mode in ("masked", "positive"):
        other = contrastive(embeddings, pair, same_class=mode, labels=torch.arange(6))["text-audio"]
        check(other, plain, list(embeddings.values()))


def test_masked_has_nothing_to_push_apart_within_one_class() -> None:
    embeddings = {"text": rows(6, seed=1), "audio": rows(6, seed=2)}
    loss = contrastive(
        embeddings, {("text", "audio"): 1.0}, same_class="masked", labels=torch.zeros(6, dtype=torch.long)
    )
    assert loss["text-audio"].item() == 0


def test_scale_of_the_embeddings_does_not_matter_to_cosines() -> None:
    x, y = rows(6, seed=1), rows(6, seed=2)
    torch.testing.assert_close(cosine_distance_loss(x * 1e3, y * 1e-3), cosine_distance_loss(x, y))


def test_contrastive_names_what_is_missing() -> None:
    embeddings = {"text": rows(2, seed=1)}
    with pytest.raises(SacmaError, match="audio"):
        contrastive(embeddings, {("text", "audio"): 1.0})
    embeddings["audio"] = rows(2, seed=2)
    with pytest.raises(SacmaError, match="labels"):
        contrastive(embeddings, {("text", "audio"): 1.0}, same_class="masked")
    with pytest.raises(SacmaError, match="'ignored'"):
        contrastive(embeddings, {("text", "audio"): 1.0}, same_class="ignored", labels=torch.arange(2))


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("clips", SIZES)
def test_cosine_distance(clips: int, zero: bool) -> None:
    x, y = rows(clips, seed=1, zero=zero), rows(clips, seed=2)
    check(cosine_distance_loss(x, y), mean([1 - cosine(a, b) for a, b in zip(x, y, strict=True)]), [x, y])


@pytest.mark.parametrize("clips", SIZES)
def test_regression_averages_over_all_elements(clips: int) -> None:
    x, y = rows(clips, seed=1), rows(clips, seed=2)
    squares = [(x[i, d] - y[i, d]) ** 2 for i in range(clips) for d in range(5)]
    check(regression(x, y), mean(squares), [x, y])


@pytest.mark.parametrize("clips", SIZES)
def test_triplet(clips: int) -> None:
    anchor, near, far = rows(clips, seed=1), rows(clips, seed=2), rows(clips, seed=3)
    costs = []
    for a, p, n in zip(anchor, near, far, strict=True):
        difference = (a - p + 1e-6).square().sum().sqrt() - (a - n + 1e-6).square().sum().sqrt()
        costs.append((1 + difference).clamp(min=0))
    assert any(cost > 0 for cost in costs)
    check(triplet(anchor, near, far), mean(costs), [anchor, near, far])
    torch.testing.assert_close(triplet(anchor, near, far, reduction="none"), torch.stack(costs))


def test_triplet_of_equal_rows_costs_the_margin() -> None:
    x = rows(2, seed=1)
    assert triplet(x, x, x, margin=0.25).item() == pytest.approx(0.25)


def literal_ranking(scores: Tensor, labels: Sequence[int], kind: str, margin: float) -> Tensor:
    costs = []
    for s, y in zip(scores, labels, strict=True):
        c = [(margin + s[j] - s[y]).clamp(min=0) for j in range(len(s)) if j != y]
        if kind == "sje":
            costs.append(max(c))
            continue
        cost = sum(c, start=torch.zeros((), dtype=torch.float64))
        if kind == "ale":
            r = sum(bool(value > 0) for value in c)
            cost = cost * (sum(1 / k for k in range(1, r + 1)) / r if r else 0.0)
        costs.append(cost)
    return mean(costs)


@pytest.mark.parametrize("kind", ["devise", "sje", "ale"])
@pytest.mark.parametrize("clips", SIZES)
def test_ranking(clips: int, kind: str) -> None:
    scores, labels = rows(clips, seed=4, width=7), LABELS[clips]
    for margin in (0.1, 1.0):
        ours = ranking(scores, torch.tensor(labels), kind=kind, margin=margin)
        check(ours, literal_ranking(scores, labels, kind, margin), [scores])
    torch.testing.assert_close(
        ranking(scores, torch.tensor(labels), kind=kind), literal_ranking(scores, labels, kind, 0.1)
    )


@pytest.mark.parametrize("kind", ["devise", "sje", "ale"])
def test_ranking_is_zero_where_the_right_class_leads_by_the_margin(kind: str) -> None:
    scores = torch.tensor([[0.0, 0.5, 0.3]], requires_grad=True)
    loss = ranking(scores, torch.tensor([1]), kind=kind)
    assert loss.item() == 0
    assert torch.autograd.grad(loss, scores)[0].abs().max() == 0


@pytest.mark.parametrize(
    "loss",
    [
        lambda x, y: contrastive({"x": x, "y": y}, {("x", "y"): 1.0})["x-y"],
        cosine_distance_loss,
        regression,
        lambda x, y: triplet(x, y, y.flip(0)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_are_compared_in_single(
    loss: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype
) -> None:
    x = rows(6, seed=1, zero=True).detach().to(dtype)
    y = rows(6, seed=2).detach().to(dtype)
    value = loss(x, y)
    assert value.dtype == torch.float32
    assert math.isfinite(value)
    torch.testing.assert_close(value, loss(x.float(), y.float()), rtol=0, atol=0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(loss(x.float(), y.float()), value, rtol=0, atol=0)


@pytest.mark.parametrize("loss", [regression, cosine_distance_loss, lambda x, y: triplet(x, y, x)])
def test_shapes_that_would_broadcast_are_refused(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    with pytest.raises(SacmaError, match=r"\(6, 5\) and \(1, 5\)"):
        loss(rows(6, seed=1), rows(1, seed=2))
