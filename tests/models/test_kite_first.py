"""KITE 0.1 against its formulas written out, its episodes, and what it refuses."""

from __future__ import annotations

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
from sacma.models.kite_episodes import draw_episodes, shares
from sacma.models.kite_features import principal, projection
from sacma.models.kite_first import KITEFirst
from sacma.predict.export import check_exportable
from sacma.training.evaluation import result_at_best, score
from sacma.training.loop import fit
from sacma.types import Batch, ClassSet, Sequences

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    root = write_folder(tmp_path_factory.mktemp("toy") / "root")
    return Benchmark.open(root, NAME, FEATURES)


def fitted(training: Split, candidates: ClassSet, **hyperparameters: Any) -> KITEFirst:
    model = KITEFirst(
        audio_width=training.features.audio.width,
        video_width=training.features.video.width,
        text_width=training.classes.vectors.shape[1],
        **hyperparameters,
    )
    fit(model, training, candidates, CPU)
    return model.eval()


def all_of(split: Split) -> Batch:
    return batches.gather(split, torch.arange(len(split)))


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def rooted(batch: Batch) -> Tensor:
    parts = []
    for sequences in (batch.video, batch.audio):
        mean = sequences.mean().double()
        parts.append(unit(mean.sign() * mean.abs().sqrt()))
    return torch.cat(parts, dim=1)


def together(batch: Batch, model: KITEFirst) -> Tensor:
    """The covariance of sound and picture, step by step and clip by clip."""
    rows = []
    for clip in range(len(batch.labels)):
        steps = []
        narrow = (model.audio_projection, model.video_projection)
        for sequences, projected in zip((batch.audio, batch.video), narrow, strict=True):
            own = sequences.clip == clip
            values = sequences.values[own].double()
            rooted = unit(values.sign() * values.abs().sqrt())
            steps.append((rooted @ projected.double(), sequences.seconds[own]))
        (audio, heard), (video, seen) = steps
        beside = torch.stack([video[int((seen - time).abs().argmin())] for time in heard])
        covariance = (audio - audio.mean(0)).T @ (beside - beside.mean(0)) / len(audio)
        rows.append(covariance.flatten() / covariance.norm().clamp(min=1e-3))
    return torch.stack(rows)


def test_distances_are_the_formulas_written_out(toy: Benchmark) -> None:
    training, test = toy.split("train_val"), toy.split("test")
    rho, sigma, eta, beta = 0.03, 20.0, 0.7, 0.6
    model = fitted(training, test.classes, ridge=rho, smoothing=sigma, gate=eta, synchrony=beta)
    tau = float(model.chosen[2])
    x, queries = (
        torch.cat([rooted(batch), beta * together(batch, model)], dim=1)
        for batch in (all_of(training), all_of(test))
    )
    labels, k = training.labels, len(training.classes)
    means = torch.stack([x[labels == c].mean(0) for c in range(k)])
    # The gate's centre is taken along the axes of the training clips, which are fewer than the dimensions.
    at_gate = queries - model.centre.double()
    z, means, queries = (rows - means.mean(0) for rows in (x, means, queries))
    y = torch.zeros(len(z), k, dtype=torch.float64)
    for row, c in enumerate(labels.tolist()):
        y[row, c] = len(z) / k / int((labels == c).sum())
    y -= y.mean(0)
    ridge = rho * z.square().sum() * torch.eye(z.shape[1])
    evidence = queries @ torch.linalg.inv(z.T @ z + ridge) @ z.T @ y
    vectors = training.classes.vectors.double()
    known = unit(vectors - vectors.mean(0))
    expected = torch.empty(len(queries), len(test.classes), dtype=torch.float64)
    for c, name in enumerate(test.classes.names):
        w = unit(test.classes.vectors[c].double() - vectors.mean(0))
        mixture = torch.linalg.inv(known @ known.T + sigma / k * torch.eye(k)) @ known @ w
        expected[:, c] = -torch.cosine_similarity(evidence, mixture[None])
        if name in training.classes.names:
            near = torch.cosine_similarity(at_gate, means[training.classes.names.index(name)][None])
            expected[:, c] -= eta * near - tau
    with torch.no_grad():
        found = model.distances(all_of(test), test.classes)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_the_offset_is_where_the_episodes_are_told_best(toy: Benchmark) -> None:
    """The mean harmonic mean over the episodes, worked out clip by clip at other offsets, is not above."""
    training = toy.split("train_val")
    model = fitted(training, training.classes, ridge=0.1, gate=1.0)
    tau = float(model.chosen[2])
    features = model.features(all_of(training))
    z = features.double() @ principal(features, 512)
    told = [
        next(model._tell(one, z, training.labels, training.classes.vectors.double(), [0.1], [1.0]))
        for one in draw_episodes(
            training.labels, len(training.classes), 12, hide=round(len(training.classes) / 3)
        )
    ]

    def at(offset: float) -> float:
        total = 0.0
        for one in told:
            says_seen = one.margin > offset
            s, u = float(one.seen_right[says_seen].sum()), float(one.hidden_right[~says_seen].sum())
            total += 2 * s * u / (s + u) if s + u else 0.0
        return total / len(told)

    assert at(tau) > 0.3
    for other in torch.cat([one.margin for one in told]).quantile(torch.linspace(0, 1, 49).double()).tolist():
        assert at(tau) >= at(other) - 1e-9


def test_episodes_hide_classes_and_hold_clips_back() -> None:
    labels = torch.arange(7).repeat_interleave(torch.tensor([1, 2, 3, 5, 8, 13, 21]))
    drawn = draw_episodes(labels, 7, 9, hide=2)
    assert len(drawn) == 9
    hidden = torch.stack([one.hidden for one in drawn])
    assert (hidden.sum(1) == 2).all()
    assert (hidden.sum(0) >= 1).all()
    for one in drawn:
        assert not (one.training & one.query).any()
        assert (one.training | one.query).all()
        assert not one.training[one.hidden[labels]].any()
        assert set(labels[one.training].tolist()) == set((~one.hidden).nonzero().flatten().tolist())
        kept = torch.bincount(labels[one.query], minlength=7)[~one.hidden]
        assert (kept <= torch.bincount(labels)[~one.hidden] / 5 + 1).all()
    again = draw_episodes(labels, 7, 9, hide=2)
    assert all(torch.equal(a.query, b.query) for a, b in zip(drawn, again, strict=True))


def test_shares_make_classes_count_alike() -> None:
    hidden = torch.tensor([False, True, False, True, False])  # nobody asks for the last
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 3])
    found = shares(labels, hidden)
    assert found.tolist() == pytest.approx([1 / 6] * 3 + [1 / 4] * 2 + [1 / 2, 1 / 2])


@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_principal_directions_keep_all_products(shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    centred = x - x.mean(0)
    basis = principal(x, 100)
    torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]).double())
    torch.testing.assert_close((centred @ basis) @ (centred @ basis).T, centred @ centred.T)
    _, strengths, rows = torch.linalg.svd(centred)
    first = principal(x, 2)
    torch.testing.assert_close((first.T @ rows[:2].T).abs(), torch.eye(2).double(), rtol=0, atol=1e-6)
    assert strengths[0] > strengths[1]


def test_it_tells_classes_that_it_never_saw(toy: Benchmark) -> None:
    test = toy.split("test")
    model = fitted(toy.split("train_val"), test.classes)
    result = result_at_best(
        score(model, test, batch_size=50), test, bias_search="exact", calibrated=model.calibrated
    )
    assert result.bias == 0
    assert result.zsl > 1 / 3 + 0.2  # three unseen classes
    assert min(result.seen, result.unseen) > 0.2  # the gate leans to neither side


def test_unseen_vectors_play_no_part_in_the_fit(toy: Benchmark) -> None:
    training, test = toy.split("train_val"), toy.split("test")
    other = replace(test.classes, vectors=torch.where(test.classes.seen[:, None], test.classes.vectors, 9.0))
    first, second = fitted(training, test.classes), fitted(training, other)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def test_a_class_of_any_name_can_be_a_candidate(toy: Benchmark) -> None:
    """No list of names is kept: a user may ask for classes that nobody thought of in training."""
    test = toy.split("test")
    model = fitted(toy.split("train_val"), test.classes)
    names = (*test.classes.names, "new")
    vectors = torch.cat([test.classes.vectors, torch.randn(1, test.classes.vectors.shape[1])])
    wider = ClassSet(names, vectors, torch.cat([test.classes.seen, torch.tensor([False])]))
    with torch.no_grad():
        before = model.distances(all_of(test), test.classes)
        after = model.distances(all_of(test), wider)
    assert not model.fixed_candidates
    torch.testing.assert_close(after[:, :-1], before)


def test_a_clip_without_sound_is_told_by_its_picture(toy: Benchmark) -> None:
    test = toy.split("test")
    model = fitted(toy.split("train_val"), test.classes)
    batch = all_of(test)
    silent = replace(
        batch.audio, values=batch.audio.values[:0], lengths=torch.zeros_like(batch.audio.lengths)
    )
    with torch.no_grad():
        assert torch.isfinite(model.distances(replace(batch, audio=silent), test.classes)).all()


def clips_of(audio: Tensor, video: Tensor) -> Batch:
    """(B, T, 12) and (B, T, 16), a step a second."""
    lengths = torch.full((len(audio),), audio.shape[1])
    return Batch(
        Sequences.from_padded(audio, lengths),
        Sequences.from_padded(video, lengths),
        torch.zeros(len(audio), dtype=torch.long),
        torch.zeros(len(audio), 10),
    )


def test_sound_with_the_picture_differs_from_sound_after_it() -> None:
    """The same steps of each modality, so the same averages: only their order against each other differs."""
    generator = torch.Generator().manual_seed(0)
    audio, video = torch.rand(1, 6, 12, generator=generator), torch.rand(1, 6, 16, generator=generator)
    batch = clips_of(torch.cat([audio, audio.roll(1, dims=1)]), torch.cat([video, video]))
    widths = {"audio_width": 12, "video_width": 16, "text_width": 10}
    with_it, without = (KITEFirst(**widths, synchrony=beta).features(batch) for beta in (0.2, 0.0))
    torch.testing.assert_close(without[0], without[1])
    torch.testing.assert_close(with_it[:, :28], without)
    assert not torch.allclose(with_it[0], with_it[1], atol=0.01)
    assert KITEFirst(**widths, streams="a").features(batch).shape[1] == 28  # it takes two


def test_a_picture_that_stands_still_has_no_covariance() -> None:
    """Neither has what is an average already; the rounding of a mean is not blown up to unit length."""
    generator = torch.Generator().manual_seed(0)
    still = torch.rand(3, 1, 16, generator=generator).expand(3, 7, 16)
    batch = clips_of(torch.rand(3, 7, 12, generator=generator), still)
    model = KITEFirst(audio_width=12, video_width=16, text_width=10)
    assert model.features(batch)[:, 28:].norm(dim=1).max() < 1e-4
    one = clips_of(torch.rand(3, 1, 12, generator=generator), still[:, :1])
    assert not model.features(one)[:, 28:].any()


def test_features_averaged_over_time_do(toy: Benchmark) -> None:
    test = toy.split("test")
    model = fitted(toy.split("train_val").averaged(), test.classes)
    result = result_at_best(
        score(model, test.averaged(), batch_size=50), test, bias_search="exact", calibrated=model.calibrated
    )
    assert result.zsl > 1 / 3 + 0.2


def test_wide_features_are_projected_and_products_kept() -> None:
    assert torch.equal(projection(32, seed=0), torch.eye(32))
    wide = projection(4096, seed=0)
    assert wide.shape == (4096, 32)
    assert torch.equal(wide, projection(4096, seed=0))
    assert not torch.equal(wide, projection(4096, seed=1))
    x = torch.nn.functional.normalize(
        torch.randn(50, 4096, generator=torch.Generator().manual_seed(0)), dim=1
    )
    lengths = (x @ wide).norm(dim=1)
    assert 0.9 < float(lengths.mean()) < 1.1


def test_what_it_refuses(toy: Benchmark) -> None:
    training, test = toy.split("train_val"), toy.split("test")
    widths = {"audio_width": 12, "video_width": 16, "text_width": 10}
    model = KITEFirst(**widths)
    with pytest.raises(SacmaError, match="seen no clips yet"):
        model.distances(all_of(test), test.classes)
    with pytest.raises(SacmaError, match="unseen class"):
        model.fit([all_of(test)], test.classes)
    two = batches.gather(training.averaged(), (training.labels < 2).nonzero().squeeze(1))
    with pytest.raises(SacmaError, match="2 classes; it needs at least 3"):
        model.fit([two], training.classes)
    for name, value in (("ridge", 0.0), ("smoothing", -1.0), ("gate", -0.5), ("synchrony", -0.1)):
        with pytest.raises(SacmaError, match=f"{name} is"):
            KITEFirst(**widths, **{name: value})
    with pytest.raises(SacmaError, match="seen from unseen"):
        check_exportable(model)


def test_three_classes_of_one_clip_are_enough(toy: Benchmark, tmp_path: Path) -> None:
    training = toy.split("train")
    rows = torch.tensor([int((training.labels == label).nonzero()[0]) for label in range(3)])
    model = KITEFirst(audio_width=12, video_width=16, text_width=10)
    model.fit([batches.gather(training.averaged(), rows)], training.classes)
    with torch.no_grad():
        assert torch.isfinite(model.distances(all_of(training), training.classes)).all()
