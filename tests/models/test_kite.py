"""KITE against its formulas written out, what its episodes teach, more clips, and what it refuses."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from folders import FEATURES, NAME, write_folder
from sacma.data import batches
from sacma.data.benchmark import Benchmark, Split
from sacma.errors import SacmaError
from sacma.models.kite import KITE, View
from sacma.models.kite_episodes import Asked, draw_episodes, find_offset, first_weights, learn
from sacma.models.kite_features import covariances
from sacma.models.kite_first import KITEFirst
from sacma.models.kite_forms import RIDGES, SCORES, Words
from sacma.models.moments import Statistics
from sacma.runs.config import resolve
from sacma.runs.folder import load_model, save_model
from sacma.training.evaluation import result_at_best, score
from sacma.training.loop import fit
from sacma.types import Batch, ClassSet, Padded, Sequences

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    root = write_folder(tmp_path_factory.mktemp("toy") / "root")
    return Benchmark.open(root, NAME, FEATURES)


def build(split: Split, **hyperparameters: Any) -> KITE:
    features = split.features
    widths = {"audio_width": features.audio.width, "video_width": features.video.width}
    return KITE(**widths, text_width=split.classes.vectors.shape[1], **hyperparameters).eval()


def fitted(training: Split, candidates: ClassSet, **hyperparameters: Any) -> KITE:
    model = build(training, **hyperparameters)
    fit(model, training, candidates, CPU)
    return model


@pytest.fixture(scope="module")
def trained(toy: Benchmark) -> KITE:
    return fitted(toy.split("train_val"), toy.split("test").classes)


def rows_of(split: Split, rows: Tensor) -> Batch:
    return batches.gather(split, rows)


def all_of(split: Split) -> Batch:
    return rows_of(split, torch.arange(len(split)))


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def view_of(batch: Batch, name: str) -> Tensor:
    means = [batch.video.mean().double(), batch.audio.mean().double()]
    if name == "root":
        means = [x.sign() * x.abs().sqrt() for x in means]
    return torch.cat([unit(x) for x in means], dim=1)


def test_distances_are_the_formulas_written_out(toy: Benchmark) -> None:
    training, test = toy.split("train_val"), toy.split("test")
    sigma = 20.0
    model = fitted(training, test.classes, synchrony=0.0, smoothing=sigma)
    model.score_weights += 1  # no score is so light that an error in it is lost
    labels, k = training.labels, len(training.classes)
    vectors = training.classes.vectors.double()
    w = unit(vectors - vectors.mean(0))
    c = unit(test.classes.vectors.double() - vectors.mean(0))
    one, scatter = torch.eye(k, dtype=torch.float64), w.T @ w
    targets = (2 * w - w.sum(0)) @ torch.linalg.inv(scatter + 0.3 * scatter.trace() * torch.eye(len(scatter)))
    mixture = unit(c @ w.T @ torch.linalg.inv(w @ w.T + sigma / k * one))
    smooth = c @ w.T @ torch.linalg.inv(w @ w.T + 2 * one)
    like, among = ((cosines - 1).div(0.4).exp() for cosines in (c @ w.T, w @ w.T))
    neighbours = like @ torch.linalg.inv(among + 0.3 * one)
    scores, gates = [], []
    for name in ("root", "unit"):
        x, z = view_of(all_of(training), name), view_of(all_of(test), name)
        means = torch.stack([x[labels == of].mean(0) for of in range(k)])
        within = (x - means[labels]).T @ (x - means[labels]) / len(x)
        z, means = z - means.mean(0), means - means.mean(0)
        covariance = means.T @ means / k + within
        gates.append(unit(z) @ unit(means).T)
        for rho in RIDGES:
            ridge = rho * covariance.trace() * torch.eye(len(covariance))
            evidence = z @ torch.linalg.inv(covariance + ridge) @ means.T
            own = means @ torch.linalg.inv(covariance + ridge) @ means.T
            bilinear = own @ targets @ w.T
            # Whitened by what is left of the covariance within classes, in the space of the class means.
            values, axes = torch.linalg.eigh(covariance + ridge - means.T @ means / k)
            white = axes / values.sqrt()
            span = torch.linalg.svd(means @ white, full_matrices=False)
            white = white @ span.Vh[: k - 1].T
            scores += [
                unit(evidence) @ mixture.T,
                evidence @ targets @ c.T / bilinear.std(correction=0),
                unit(evidence @ w) @ c.T,
                unit(z @ white) @ unit(smooth @ means @ white).T,
                unit(z @ white) @ unit(neighbours @ means @ white).T,
            ]
            gates += [unit(z @ white) @ unit(means @ white).T, evidence / own.diagonal().mean()]
    total = sum(theta * one for theta, one in zip(model.score_weights.double(), scores, strict=True))
    gate = sum(phi * one for phi, one in zip(model.gate_weights.double(), gates, strict=True))
    assert isinstance(total, Tensor)
    assert isinstance(gate, Tensor)
    for place, name in enumerate(test.classes.names):
        if name in training.classes.names:
            total[:, place] += gate[:, training.classes.names.index(name)] + model.offset
    with torch.no_grad():
        found = model.distances(all_of(test), test.classes).double()
    torch.testing.assert_close(found, -total, rtol=1e-3, atol=1e-4 * float(total.abs().max()))


def test_it_tells_classes_that_it_never_saw(toy: Benchmark, trained: KITE) -> None:
    test = toy.split("test")
    result = result_at_best(score(trained, test, batch_size=50), test, bias_search="exact", calibrated=False)
    assert result.bias == 0
    assert result.zsl > 1 / 3 + 0.2  # three unseen classes
    assert min(result.seen, result.unseen) > 0.2  # the offset leans to neither side


def test_weights_go_to_scores_that_are_right() -> None:
    """Of two scores one names the class and one is noise; the gate tells hidden classes from the others."""
    generator = torch.Generator().manual_seed(0)
    asked = []
    for number in range(4):
        labels = torch.arange(60) % 6
        hidden = torch.arange(6) % 3 == number % 3
        scores = torch.randn(60, 6, 2, generator=generator)
        scores[torch.arange(60), labels, 0] += 2
        gates = torch.randn(60, 6, 1, generator=generator) * 0.1
        gates[:, :, 0] += 3 * (~hidden)[labels][:, None]
        gates[:, hidden] = 0
        asked.append(Asked(scores, gates, hidden, labels))
    every = torch.tensor([True, True])
    first = torch.tensor([1.5, 1.5])
    scores, gates = learn(
        asked, shrinkage=0.001, first=first, use_scores=every, use_gates=torch.tensor([True])
    )
    assert float(scores[0]) > 5 * float(scores[1]) >= 0
    assert float(gates) > 0.2
    alone, none = learn(
        asked, shrinkage=0.001, first=first, use_scores=every, use_gates=torch.tensor([False])
    )
    assert float(none) == 0
    assert float(alone[0]) > 0

    def mean_at(offset: float) -> float:
        total = 0.0
        for one in asked:
            found = one.scores @ scores.float() + one.gates @ gates.float() + offset * ~one.hidden
            right = found.argmax(1) == one.labels
            of_hidden = one.hidden[one.labels]
            s, u = right[~of_hidden].float().mean(), right[of_hidden].float().mean()
            total += float(2 * s * u / (s + u)) if s + u else 0.0
        return total / len(asked)

    best = find_offset(asked, scores, gates)
    assert mean_at(best) > 0.5
    assert all(mean_at(best) >= mean_at(best + step) - 0.02 for step in (-3.0, -1.0, 1.0, 3.0))


def test_few_classes_start_from_the_robust_score() -> None:
    used = torch.tensor([True, True, False, True])
    assert first_weights(used, 1, 8).tolist() == [0, 3, 0, 0]
    many = first_weights(used, 1, 1000)
    torch.testing.assert_close(many, torch.tensor([1.0, 1.0, 0.0, 1.0]).double(), atol=1e-3, rtol=0)
    assert first_weights(used, 2, 8).tolist() == [1, 1, 0, 1]  # where the robust one takes no part
    assert 1 < float(first_weights(used, 1, 20)[1]) < 3


def test_the_offset_keeps_away_from_a_steep_side() -> None:
    """Seen classes are lost all at once below a margin, hidden ones one by one above it."""
    hidden = torch.tensor([False, True])
    labels = torch.cat([torch.zeros(40), torch.ones(40)]).long()

    def episode(shift: float) -> Asked:
        margin = torch.cat([torch.full((40,), 2.0), torch.linspace(-8, 2.2, 40)]) + shift
        scores = torch.stack([margin, torch.zeros(80)], dim=1)[:, :, None]
        return Asked(scores, torch.zeros(80, 2, 1), hidden, labels)

    one, none = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    sure = -find_offset([episode(0.0)] * 3, one, none)
    unsure = -find_offset([episode(shift) for shift in (-1.0, 0.0, 1.0)], one, none)
    assert 1.5 < sure < 2.01
    assert unsure < sure - 0.5


def test_episodes_hold_groups_back_whole() -> None:
    labels = torch.arange(6).repeat_interleave(20)
    groups = torch.arange(120) // 4  # five of each class
    for one in draw_episodes(labels, 6, 8, hide=2, groups=groups):
        back = one.query & ~one.hidden[labels]
        assert int(back.sum()) == 16  # a group of each of four classes
        for group in groups.unique():
            assert len(back[groups == group].unique()) == 1
    spread = draw_episodes(labels, 6, 8, hide=2)
    assert any(len((one.query & ~one.hidden[labels])[groups == 0].unique()) == 2 for one in spread)


def test_groups_of_the_features_reach_the_episodes(toy: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    training = toy.split("train_val")
    names = [f"take {number // 3}" for number in range(len(training.features.names))]
    grouped = replace(training, features=training.features.grouped(names))
    given: list[Tensor | None] = []

    def watched(*args: Any, groups: Tensor | None, **options: Any) -> Any:
        given.append(groups)
        return draw_episodes(*args, groups=groups, **options)

    monkeypatch.setattr("sacma.models.kite.draw_episodes", watched)
    fitted(training, training.classes)
    fitted(grouped, training.classes)
    assert given[0] is None
    assert given[1] is not None
    assert torch.equal(given[1], grouped.features.group[grouped.clips])  # type: ignore[index]


def test_more_clips_give_what_all_clips_give(toy: Benchmark) -> None:
    """After ``add_clips`` statistics are those of all clips along the same axes, and so is the solution."""
    training, test = toy.split("train_val"), toy.split("test")
    order = torch.arange(len(training))
    model = build(training)
    model.fit([rows_of(training, order[::2])], training.classes)
    by_hand = copy.deepcopy(model)
    model.add_clips([rows_of(training, order[1::4]), rows_of(training, order[3::4])], training.classes)
    rows = by_hand._rows(all_of(training), covariance=True)
    words = Words.of(training.classes.vectors, 30.0)
    for (name, view), (_, grown) in zip(by_hand._views(), model._views(), strict=True):
        z = by_hand._view_of_rows(rows, name) @ view.basis
        view.take(Statistics.of(z, training.labels, len(training.classes)), words)
        torch.testing.assert_close(grown.counts, view.counts)
        torch.testing.assert_close(grown.second, view.second, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        found, expected = (one.distances(all_of(test), test.classes) for one in (model, by_hand))
        before = fitted(training, test.classes).distances(all_of(test), test.classes)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(found, before, atol=1e-3)  # axes and weights are those of half of the clips


def test_a_new_class_is_known_once_it_has_clips(toy: Benchmark, trained: KITE) -> None:
    test = toy.split("test")
    model = copy.deepcopy(trained)
    new = int((~test.classes.seen).nonzero()[0])
    rows = (test.labels == new).nonzero().squeeze(1)
    model.add_class([rows_of(test, rows[::2])], test.classes.vectors[new])
    assert len(model.known_vectors) == len(trained.known_vectors) + 1
    seen = test.classes.seen.clone()
    seen[new] = True
    with torch.no_grad():
        answers = model.distances(rows_of(test, rows[1::2]), replace(test.classes, seen=seen)).argmin(1)
    assert float((answers == new).float().mean()) > 0.8
    model.add_class([rows_of(test, rows[:3])], test.classes.vectors[new])  # known by now
    assert len(model.known_vectors) == len(trained.known_vectors) + 1


def test_answers_are_explained_by_training_clips(toy: Benchmark, trained: KITE) -> None:
    training = toy.split("train_val")
    rows = trained.example_row[:4]
    found = trained.explain(rows_of(training, rows), count=3)
    assert torch.equal(found.clips[:, 0], rows)  # a training clip is nearest to itself
    torch.testing.assert_close(found.clip_cosines[:, 0], torch.ones(4), rtol=1e-3, atol=1e-3)
    assert found.classes.shape == (4, 3)
    assert (found.class_cosines.diff(dim=1) <= 0).all()


def test_covariances_are_not_computed_of_one_step(toy: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object) -> Tensor:
        raise AssertionError("clips of one step have no covariance")

    monkeypatch.setattr("sacma.models.kite.covariances", never)
    training = toy.split("train_val").averaged()
    model = fitted(training, training.classes)
    with torch.no_grad():
        model.distances(all_of(training), training.classes)


def test_it_does_not_matter_how_clips_come_in_batches(toy: Benchmark, trained: KITE) -> None:
    """Batches without a step to take a covariance from come before such that have one."""
    training = toy.split("train_val")
    rows = torch.arange(len(training))
    model = build(training)
    model.fit((rows_of(training, some) for some in rows.split(7)), training.classes)
    for key, value in trained.state_dict().items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=1e-3, atol=1e-4)
    mixed = build(training)
    still = rows_of(training.averaged(), rows[:30])
    mixed.fit([still, rows_of(training, rows[30:])], training.classes)
    assert mixed._has_covariance


def test_no_covariance_where_clips_have_one_step(toy: Benchmark, trained: KITE) -> None:
    training, test = toy.split("train_val").averaged(), toy.split("test")
    model = fitted(training, test.classes)
    width = training.features.audio.width + training.features.video.width
    together = trained.audio_projection.shape[1] * trained.video_projection.shape[1]
    for one, columns in ((model, 0), (trained, together)):
        views = [view for _, view in one._views()]
        assert all(isinstance(view, View) and len(view.basis) == width + columns for view in views)
    result = result_at_best(
        score(model, test.averaged(), batch_size=50), test, bias_search="exact", calibrated=False
    )
    assert result.zsl > 1 / 3 + 0.2


def test_padded_clips_have_the_covariance_of_packed_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    audio, video = torch.randn(4, 5, 3, generator=generator), torch.randn(4, 7, 2, generator=generator)
    lengths = torch.tensor([5, 2, 0, 3]), torch.tensor([7, 1, 4, 0])
    found = [
        covariances(kind.from_padded(audio, lengths[0]), kind.from_padded(video, lengths[1]))
        for kind in (Sequences, Padded)
    ]
    torch.testing.assert_close(found[0], found[1])
    assert found[0][0].any()


def test_nothing_is_drawn_and_unseen_vectors_play_no_part(toy: Benchmark, trained: KITE) -> None:
    training, test = toy.split("train_val"), toy.split("test")
    other = replace(test.classes, vectors=torch.where(test.classes.seen[:, None], test.classes.vectors, 9.0))
    second = fitted(training, other)
    for key, value in trained.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def test_one_view_one_score_and_no_gates(toy: Benchmark) -> None:
    training = toy.split("train_val")
    model = fitted(training, training.classes, views="unit", scores="words", gates=False)
    weights = model.score_weights.view(len(RIDGES), len(SCORES))
    assert (weights[:, SCORES.index("words")] > 0).any()
    assert not weights[:, : SCORES.index("words")].any()
    assert not model.gate_weights.any()
    assert float(model.offset) < 0  # seen classes are named too often


def test_models_are_kept_and_those_of_the_first_version_open(
    toy: Benchmark, trained: KITE, tmp_path: Path
) -> None:
    test = toy.split("test")
    save_model(trained, tmp_path / "kite")
    loaded = load_model("kite", tmp_path / "kite")
    with torch.no_grad():
        found, expected = (one.distances(all_of(test), test.classes) for one in (loaded, trained))
    assert torch.equal(found, expected)
    config = trained.config
    first = KITEFirst(
        audio_width=config.audio_width,
        video_width=config.video_width,
        text_width=config.text_width,
        power="root",
    )
    save_model(first, tmp_path / "first")
    assert json.loads((tmp_path / "first" / "config.json").read_text())["power"] == "root"
    assert isinstance(load_model("kite", tmp_path / "first"), KITEFirst)
    assert resolve({"method": "kite", "power": "root", "episodes": 12}).method == "kite-0.1"


def test_a_model_without_the_score_of_neighbours_opens_with_weight_0_for_it(
    toy: Benchmark, trained: KITE
) -> None:
    test = toy.split("test")
    state = {key: value.clone() for key, value in trained.state_dict().items() if key != "word_likeness"}
    state["score_weights"] = state["score_weights"].view(-1, len(SCORES))[:, :-1].flatten()
    model = build(test)
    model.load_state_dict(state)
    rows = model.score_weights.view(-1, len(SCORES))
    assert torch.equal(rows[:, :-1].flatten(), state["score_weights"])
    assert not rows[:, -1].any()
    torch.testing.assert_close(model.word_likeness, trained.word_likeness)
    with torch.no_grad():
        assert torch.isfinite(model.distances(all_of(test), test.classes)).all()


def test_what_it_refuses(toy: Benchmark) -> None:
    training, test = toy.split("train_val"), toy.split("test")
    model = build(training)
    with pytest.raises(SacmaError, match="seen no clips yet"):
        model.distances(all_of(test), test.classes)
    with pytest.raises(SacmaError, match="seen no clips yet"):
        model.add_clips([all_of(test)], test.classes)
    with pytest.raises(SacmaError, match="unseen class"):
        model.fit([all_of(test)], test.classes)
    two = rows_of(training, (training.labels < 2).nonzero().squeeze(1))
    with pytest.raises(SacmaError, match="2 classes; its episodes need at least 3"):
        model.fit([two], training.classes)
    for name, value in (("smoothing", -1.0), ("synchrony", -0.1), ("shrinkage", -1.0)):
        with pytest.raises(SacmaError, match=f"{name} is"):
            build(training, **{name: value})


def test_of_many_classes_episodes_ask_some(toy: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    training = toy.split("train_val")
    k = len(training.classes)
    monkeypatch.setattr("sacma.models.kite.CELLS", 4 * k)
    asked: list[Asked] = []
    monkeypatch.setattr("sacma.models.kite.find_offset", lambda found, *rest: asked.extend(found) or 0.0)
    fitted(training, training.classes)
    for one in asked:
        hidden = one.hidden[one.labels]
        assert (int(hidden.sum()), int((~hidden).sum())) == (2, 2)


def test_three_classes_of_two_clips_are_enough(toy: Benchmark) -> None:
    training = toy.split("train")
    rows = torch.cat([(training.labels == label).nonzero().squeeze(1)[:2] for label in range(3)])
    model = build(training)
    model.fit([rows_of(training, rows)], training.classes)
    with torch.no_grad():
        assert torch.isfinite(model.distances(all_of(training), training.classes)).all()
