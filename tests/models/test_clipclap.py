"""ClipClap's options and each part of HSP-MoE against a literal reference."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sacma.errors import SacmaError
from sacma.models.clipclap import ClipClap
from sacma.models.hsp_moe import (
    HSPMoE,
    Routing,
    distribution_preservation,
    relation_preservation,
    uniformity,
)
from sacma.types import Batch, ClassSet, Sequences

AUDIO, VIDEO, B, K = 7, 5, 6, 4
SIZES = {"audio_width": AUDIO, "video_width": VIDEO, "text_width": AUDIO + VIDEO}
SMALL: dict[str, Any] = {"width": 9, "common_width": 8, "decoder_hidden": 10}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def some_clips() -> tuple[Batch, ClassSet]:
    vectors = torch.randn(K, AUDIO + VIDEO)
    labels = torch.tensor([0, 1, 1, 2, 3, 0])
    one = torch.ones(B, dtype=torch.long)
    audio, video = (Sequences.from_padded(torch.randn(B, 1, width), one) for width in (AUDIO, VIDEO))
    classes = ClassSet(tuple("abcd"), vectors, torch.tensor([True, True, False, True]))
    return Batch(audio, video, labels, vectors[labels]), classes


def cosine(x: Tensor, y: Tensor) -> float:
    return float(x @ y / (x.norm() * y.norm()))


# --- ClipClap -------------------------------------------------------------------------------------


@pytest.mark.parametrize("modality", ["both", "audio", "video"])
@pytest.mark.parametrize("words", ["both", "clip", "wavcaps"])
def test_modality_and_words_choose_what_is_read(modality: str, words: str) -> None:
    model = ClipClap(**SIZES, **SMALL, modality=modality, words=words).eval()
    batch, classes = some_clips()
    kept = {"both": words, "audio": "wavcaps", "video": "clip"}[modality]
    with torch.no_grad():
        before = model.distances(batch, classes)
        for name, width in (("audio", AUDIO), ("video", VIDEO)):
            sequences = getattr(batch, name)
            other = sequences.with_values(torch.randn(B, width))
            changed = Batch(**{**vars(batch), name: other})
            same = torch.equal(model.distances(changed, classes), before)
            assert same == (modality not in (name, "both"))
        for part, columns in (("clip", slice(0, VIDEO)), ("wavcaps", slice(VIDEO, None))):
            vectors = classes.vectors.clone()
            vectors[:, columns] = torch.randn_like(vectors[:, columns])
            changed_classes = ClassSet(classes.names, vectors, classes.seen)
            same = torch.equal(model.distances(batch, changed_classes), before)
            assert same == (kept not in (part, "both"))


def test_class_vectors_of_another_kind_have_no_parts() -> None:
    assert (
        ClipClap(**{**SIZES, "text_width": 30}, **SMALL, modality="audio").text_encoder[0].in_features == 30
    )
    with pytest.raises(SacmaError, match=r"words is 'clip'.*30 wide.*leave words out"):
        ClipClap(**{**SIZES, "text_width": 30}, **SMALL, words="clip")


def test_a_weight_of_zero_leaves_its_term_out() -> None:
    batch, classes = some_clips()
    terms = {"ce": {"cross_entropy"}, "reg": {"regression"}, "rec": {"reconstruction", "reconstruction_text"}}
    everything = set().union(*terms.values())
    for name, of_weight in terms.items():
        model = ClipClap(**SIZES, **SMALL, **{f"weight_{name}": 0.0})
        assert set(model.loss(batch, classes)) == everything - of_weight
    with pytest.raises(SacmaError, match="all weights of the loss are 0"):
        ClipClap(**SIZES, **SMALL, weight_ce=0.0, weight_reg=0.0, weight_rec=0.0).loss(batch, classes)


# --- The terms of HSP-MoE -------------------------------------------------------------------------


def test_distribution_preservation() -> None:
    student, teacher, T = torch.rand(B, K, requires_grad=True), torch.rand(B, K, requires_grad=True), 2.0
    expected = 0.0
    for i in range(B):
        told = [math.exp(student[i, k].item() / T) for k in range(K)]
        known = [math.exp(teacher[i, k].item() / T) for k in range(K)]
        for k in range(K):
            p, q = known[k] / sum(known), told[k] / sum(told)
            expected += p * math.log(p / q) * T * T / B
    found = distribution_preservation(student, teacher, temperature=T)
    assert found.item() == pytest.approx(expected, abs=1e-6)
    found.backward()
    assert student.grad is not None
    assert teacher.grad is None
    assert distribution_preservation(teacher, teacher, temperature=T).item() == pytest.approx(0, abs=1e-6)


def test_relation_preservation() -> None:
    trained, frozen = torch.randn(B, 8), torch.randn(B, AUDIO + VIDEO)
    pairs = [(i, j) for i in range(B) for j in range(B) if i != j]
    each = [(cosine(trained[i], trained[j]) - cosine(frozen[i], frozen[j])) ** 2 for i, j in pairs]
    assert float(relation_preservation(trained, frozen)) == pytest.approx(sum(each) / len(pairs), abs=1e-6)
    assert float(relation_preservation(trained[:1], frozen[:1])) == pytest.approx(0, abs=1e-6)


def test_uniformity() -> None:
    directions, labels, t = F.normalize(torch.randn(B, 8), dim=1), torch.tensor([0, 1, 1, 2, 3, 0]), 2.0
    pairs = [(i, j) for i in range(B) for j in range(B) if labels[i] != labels[j]]
    terms = [math.exp(-t * float((directions[i] - directions[j]).square().sum())) for i, j in pairs]
    expected = max(0.0, math.log(sum(terms) / len(terms)) + 4 * t)
    assert float(uniformity(directions, labels, scale=t)) == pytest.approx(expected, abs=1e-5)
    assert float(uniformity(directions, torch.zeros(B), scale=t)) == 0
    poles = torch.tensor([[1.0, 0], [-1.0, 0]])
    assert float(uniformity(poles, torch.tensor([0, 1]), scale=t)) == pytest.approx(0, abs=1e-5)


def test_routing() -> None:
    net = Routing(AUDIO, VIDEO, 8, dropout=0.1, temperature=0.7).eval()
    audio, video = torch.randn(B, AUDIO), torch.randn(B, VIDEO)
    with torch.no_grad():
        found = net(audio, video)
        for i in range(B):
            a, v = audio[i], video[i]
            told = []
            for expert, x in ((net.both, torch.cat([v, a])), (net.video, v), (net.audio, a)):
                first, norm, _, _, second = expert
                h = first.weight @ x + first.bias
                h = (h - h.mean()) / (h.var(correction=0) + norm.eps).sqrt() * norm.weight + norm.bias
                h = torch.tensor([0.5 * float(e) * (1 + math.erf(float(e) / math.sqrt(2))) for e in h])
                y = second.weight @ h + second.bias
                told.append(y / y.norm())
            seen = []
            for net_in, x in ((net.describe_video, v), (net.describe_audio, a)):
                y = net_in.weight @ x + net_in.bias
                seen.append(y / y.norm())
            h = torch.cat(seen)
            for layer in (net.router[0], net.router[3]):
                h = (layer.weight @ h + layer.bias).clamp(min=0)
            logits = net.router[5].weight @ h + net.router[5].bias
            weights = [math.exp(float(one) / 0.7) for one in logits]
            mixed = sum(w / sum(weights) * e for w, e in zip(weights, told, strict=True))
            torch.testing.assert_close(found[i], mixed / mixed.norm(), rtol=1e-5, atol=1e-6)


def plain(**changes: Any) -> HSPMoE:
    return HSPMoE(**SIZES, **{**SMALL, "expert_dropout": 0.0, **changes}).eval()


def test_the_loss_is_the_sum_of_its_parts() -> None:
    model, (batch, classes) = plain(weight_relation=0.3, weight_uniformity=0.2), some_clips()
    x = torch.cat([batch.video.values, batch.audio.values], dim=1)
    with torch.no_grad():
        terms = model.loss(batch, classes)
        theta = model.projection(model.encoder(x))
        theta_w = model.text_projection(model.text_encoder(batch.text))
        known = model.text_projection(model.text_encoder(classes.vectors))
        assert model.experts is not None
        expert = model.experts(batch.audio.values, batch.video.values)
        direction = F.normalize(0.5 * F.normalize(theta, dim=1) + 0.5 * expert, dim=1)
        cosines = torch.tensor([[cosine(row, other) for other in known] for row in direction])
        raw = torch.tensor([[cosine(row, other) for other in classes.vectors] for row in x])
        ce = sum(
            math.log(sum(math.exp(float(c) / 0.1) for c in cosines[i]))
            - float(cosines[i, batch.labels[i]]) / 0.1
            for i in range(B)
        )
    assert float(terms["cross_entropy"]) == pytest.approx(ce / B, rel=1e-5)
    assert float(terms["regression"]) == pytest.approx(float((theta - theta_w).square().mean()), rel=1e-5)
    kept = 0.001 * distribution_preservation(cosines, raw, temperature=2.0)
    assert float(terms["distribution"]) == pytest.approx(float(kept), rel=1e-4)
    assert float(terms["relation"]) == pytest.approx(
        0.3 * float(relation_preservation(direction, x)), rel=1e-5
    )
    spread = 0.2 * uniformity(direction, batch.labels, scale=2.0)
    assert float(terms["uniformity"]) == pytest.approx(float(spread), rel=1e-5)
    assert len(terms) == 7


def test_raw_distances_score_too_with_the_scale_of_validation() -> None:
    model, (batch, classes) = plain(adapted_weight=0.3), some_clips()
    x = F.normalize(torch.cat([batch.video.values, batch.audio.values], dim=1), dim=1)
    w = F.normalize(classes.vectors, dim=1)
    with torch.no_grad():
        theta = model.direction(model.projection(model.encoder(model.observed(batch))), batch)
        phi = F.normalize(model.text_projection(model.text_encoder(classes.vectors)), dim=1)
    adapted = torch.tensor([[float((row - other).norm()) for other in phi] for row in theta])
    raw = torch.tensor([[float((row - other).norm()) for other in w] for row in x])
    model.calibrate([batch], classes)
    scale = float(adapted.mean() / raw.mean())
    assert float(model.raw_scale) == pytest.approx(scale, rel=1e-5)
    with torch.no_grad():
        found = model.distances(batch, classes)
        torch.testing.assert_close(found, 0.3 * adapted + 0.7 * scale * raw, rtol=1e-5, atol=1e-5)
        # Who is scored together makes no difference from then on.
        alone = model.distances(Batch(*(one_clip(batch))), classes)
    torch.testing.assert_close(alone, found[:1], rtol=1e-5, atol=1e-6)


def one_clip(batch: Batch) -> tuple[Sequences, Sequences, Tensor, Tensor]:
    one = torch.ones(1, dtype=torch.long)
    audio, video = (Sequences.from_padded(part.values[:1, None], one) for part in (batch.audio, batch.video))
    return audio, video, batch.labels[:1], batch.text[:1]


def test_without_the_hypersphere_it_is_clipclap() -> None:
    model, (batch, classes) = plain(hypersphere=False), some_clips()
    clipclap = ClipClap(**SIZES, **SMALL).eval()
    state = {key: value for key, value in model.state_dict().items() if key != "raw_scale"}
    clipclap.load_state_dict(state)
    with torch.no_grad():
        assert torch.equal(model.distances(batch, classes), clipclap.distances(batch, classes))
        ours, theirs = model.loss(batch, classes), clipclap.loss(batch, classes)
    assert ours == theirs


def test_spaces_that_differ_leave_the_raw_branch_out_or_are_refused() -> None:
    other = {**SIZES, "text_width": 30}
    batch, classes = some_clips()
    vectors = torch.randn(K, 30)
    classes = ClassSet(classes.names, vectors, classes.seen)
    batch = Batch(batch.audio, batch.video, batch.labels, vectors[batch.labels])
    model = HSPMoE(**other, **SMALL)
    assert "distribution" not in model.loss(batch, classes)
    assert model.eval().embed_clips(batch).shape == (B, 8)
    for option, value in (("weight_distribution", 0.001), ("adapted_weight", 0.5)):
        with pytest.raises(SacmaError, match=r"12 wide with class vectors 30 wide.*share a space"):
            HSPMoE(**other, **SMALL, **{option: value})
    with pytest.raises(SacmaError, match=r"mix is 1\.5"):
        HSPMoE(**SIZES, mix=1.5)
