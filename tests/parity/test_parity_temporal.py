"""TCAF, variant published, against outputs of the released code: embeddings, losses, gradients, one step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sacma.models.packing import join
from sacma.models.tcaf import TCAF
from sacma.options import TrainingConfig
from vectors import SequenceVectors

EVAL, TRAIN = 1e-5, 1e-4
LOSSES = {
    "cross_entropy": ("cross_entropy",),
    "loss_reg": ("regression",),
    "loss_cmd_rec": ("reconstruction", "reconstruction_text"),
}
ATTENTION = {(True, False): "within", (False, True): "cross", (True, True): "both"}
MASKS = {"attnmask": None, "attnmask_ca": "cross", "attnmask_sa": "within", "attnmask_both": "both"}

pytestmark = pytest.mark.vectors("tcaf_*.npz", excluding=("*_state.npz",))


class TCAFVectors(SequenceVectors):
    """One file, with the parameters and weights beside it."""

    @property
    def attention(self) -> str:
        flags = ("self", "cross")
        used = tuple(bool(self.params[f"transformer_attention_use_{flag}_attention"]) for flag in flags)
        return ATTENTION[used]

    def model(self, **changes: object) -> TCAF:
        settings = {**self.settings, **TCAF.VARIANTS["published"], "attention": self.attention}
        model = TCAF(**{**settings, "extra_train_forward": False, **changes})
        model.load_published(self.state)
        return model

    @property
    def gradient_noise(self) -> float:
        """A bias before BatchNorm has no gradient but rounding noise, which grows with the largest ones."""
        return max(TRAIN, 1e-5 * float(max(self.under("grad_norm/").values())))

    def by_published_name(self, ours: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Our tensors under the names and in the shapes of the released state dict."""
        for key, value in self.state.items():
            keys = key.replace(".to_v.", ".to_k.")  # keys and values are one matrix of ours
            for name in TCAF.rename_published({keys: value, keys.replace(".to_k.", ".to_v."): value}):
                if name not in ours:
                    continue
                rows = slice(None)
                if ".to_k." in key:
                    rows = slice(None, len(value))
                elif ".to_v." in key:
                    rows = slice(len(value), None)
                yield key, ours[name] if rows == slice(None) else ours[name][rows]


@pytest.fixture
def vectors(vectors_file: Path) -> TCAFVectors:
    return TCAFVectors(vectors_file)


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    expected = expected.to(found.dtype).reshape(found.shape)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_embeddings_in_evaluation(vectors: TCAFVectors) -> None:
    model = vectors.model(eval_time="seconds").eval()
    theta = model.space.projection(model.fused(vectors.batch))
    theta_w = model.space.text_projection(vectors["w"])
    close(theta, vectors["eval/theta_o"], EVAL)
    close(theta_w, vectors["eval/theta_w"], EVAL)
    close(model.space.reconstruction(theta), vectors["eval/rho_o"], EVAL)
    close(model.space.text_reconstruction(theta_w), vectors["eval/rho_w"], EVAL)


def test_published_evaluation_counts_steps(vectors: TCAFVectors) -> None:
    model = vectors.model().eval()
    close(model.space.projection(model.fused(vectors.batch)), vectors["eval_emb/theta_o"], EVAL)
    theta_w = vectors["eval_emb/theta_w_classes"]
    expected = (vectors["eval_emb/theta_o"][:, None] - theta_w).norm(dim=2)
    close(model.distances(vectors.batch, vectors.classes), expected, EVAL)


def check_losses(terms: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float) -> None:
    for published, ours in LOSSES.items():
        close(sum(terms[name] for name in ours), expected[published], tolerance)  # type: ignore[arg-type]
    close(torch.stack(list(terms.values())).sum(), expected["total_loss"], tolerance)


def test_losses_in_evaluation(vectors: TCAFVectors) -> None:
    model = vectors.model(eval_time="seconds").eval()
    check_losses(model.loss(vectors.batch, vectors.classes), vectors.under("eval_loss/"), EVAL)


def test_losses_and_gradients_in_training(vectors: TCAFVectors) -> None:
    model = vectors.model().train()
    terms = model.loss(vectors.batch, vectors.classes)
    check_losses(terms, vectors.under("train_loss/"), TRAIN)
    torch.stack(list(terms.values())).sum().backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    norms, noise = vectors.under("grad_norm/"), vectors.gradient_noise
    compared = set()
    for key, gradient in vectors.by_published_name(gradients):
        compared.add(key)
        torch.testing.assert_close(gradient.norm().double(), norms[key].double(), rtol=TRAIN, atol=noise)
        if f"grad/{key}" in vectors:
            expected = vectors[f"grad/{key}"].reshape(gradient.shape)
            torch.testing.assert_close(gradient, expected, rtol=TRAIN, atol=noise)
    unseen = {key for key in norms if "pad_embedding" in key or key.startswith("audiovisual_embeddings.")}
    assert compared == norms.keys() - unseen


def test_one_adam_step(vectors: TCAFVectors) -> None:
    model = vectors.model().train()
    rate = float(vectors.params["lr"])
    model.step(
        vectors.batch,
        vectors.classes,
        model.optimisers(TrainingConfig(learning_rate=rate, weight_decay=1e-5)),
    )
    compared = set()
    for key, found in vectors.by_published_name(model.state_dict()):
        if f"after_step/{key}" not in vectors:
            continue
        compared.add(key)
        expected = vectors[f"after_step/{key}"].reshape(found.shape)
        if "running" in key or "tracked" in key or f"grad_norm/{key}" not in vectors:
            close(found, expected, EVAL)
            continue
        # Adam moves an entry without a gradient by up to the rate, in any direction.
        close(found, expected, 2 * rate + 1e-6)
        if f"grad/{key}" in vectors:
            sure = (vectors[f"grad/{key}"].abs() > vectors.gradient_noise).reshape(found.shape)
            close(found[sure], expected[sure], EVAL)
    assert any("running" in key for key in compared)


def test_masks(vectors: TCAFVectors) -> None:
    batch, width = vectors.batch, 4
    audio, video = (s.with_values(torch.zeros(len(s.values), width)) for s in (batch.audio, batch.video))
    longest = vectors["audio"].shape[1]
    checked = 0
    for name, attention in MASKS.items():
        if name not in vectors:
            continue
        ours = (
            join(
                torch.zeros(width),
                [audio, video],
                attention=attention or vectors.attention,  # type: ignore[arg-type]
            )
            .blocks[0]
            .mask[:, 0]
        )
        for clip, theirs in enumerate(vectors[name].bool()):
            a, v = int(audio.lengths[clip]), int(video.lengths[clip])
            real = [0, *range(1, 1 + a), *range(1 + longest, 1 + longest + v)]
            here = ours[clip].expand(ours.shape[-1], -1)
            assert torch.equal(here[: 1 + a + v, : 1 + a + v], theirs[real][:, real])
            assert not here[:, 1 + a + v :].any()
        checked += 1
    assert checked
