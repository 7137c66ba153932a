"""SACMA, variant published, against outputs of the authors' model file: embeddings, losses, gradients."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sacma.models.packing import join
from sacma.models.sacma import SACMA, from_published
from sacma.options import TrainingConfig
from vectors import SequenceVectors

EVAL, TRAIN = 1e-5, 1e-4
STREAM_OF = {"theta_o": "m", "theta_o_a": "a", "theta_o_v": "v"}


class SACMAVectors(SequenceVectors):
    """One model's file, with its parameters and weights."""

    def model(self, **changes: object) -> SACMA:
        settings = {**self.settings, **SACMA.VARIANTS["published"], "extra_train_forward": False}
        model = SACMA(**{**settings, **changes})
        model.load_published(self.state)
        return model


@pytest.fixture
def vectors(vectors_file: Path) -> SACMAVectors:
    return SACMAVectors(vectors_file)


models = pytest.mark.vectors("sacma_*.npz", excluding=("*_state.npz",))


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=tolerance, atol=tolerance)


@models
def test_embeddings_in_eval(vectors: SACMAVectors) -> None:
    model = vectors.model(eval_time="seconds").eval()
    phi = model.embed(vectors.batch)
    for name, stream in STREAM_OF.items():
        close(phi[stream], vectors[f"eval/{name}"], EVAL)
    close(model.text_projection(vectors["w"]), vectors["eval/theta_w"], EVAL)


@models
def test_eval_by_index_is_what_the_code_reports(vectors: SACMAVectors) -> None:
    model = vectors.model().eval()
    close(model.embed(vectors.batch, streams="m")["m"], vectors["eval_emb/theta_o"], EVAL)
    close(model.text_projection(vectors["class_w"]), vectors["eval_emb/theta_w_classes"], EVAL)
    expected = torch.cdist(vectors["eval_emb/theta_o"], vectors["eval_emb/theta_w_classes"])
    close(model.distances(vectors.batch, vectors.classes), expected, EVAL)


@models
def test_one_output_alone_equals_all_three(vectors: SACMAVectors) -> None:
    model = vectors.model().eval()
    together = model.embed(vectors.batch)
    for stream in "avm":
        close(model.embed(vectors.batch, streams=stream)[stream], together[stream], 1e-6)


def grouped(terms: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our terms summed to those that the released code logs."""
    parts = {"loss_reg": ("regression",), "loss_cmd_rec": ("reconstruction",)}
    parts["cross_entropy"] = ("contrastive", "cosine")
    sums = {
        name: torch.stack([t for key, t in terms.items() if key.startswith(prefixes)]).sum()
        for name, prefixes in parts.items()
    }
    return sums | {"total_loss": torch.stack(list(terms.values())).sum()}


@models
def test_losses_in_eval(vectors: SACMAVectors) -> None:
    model = vectors.model(eval_time="seconds").eval()
    found = grouped(model.loss(vectors.batch, vectors.classes))
    for name in vectors.names("eval_loss/"):
        close(found[name], vectors[f"eval_loss/{name}"], EVAL)


@models
def test_losses_and_gradients_in_training(vectors: SACMAVectors) -> None:
    model = vectors.model().train()
    terms = model.loss(vectors.batch, vectors.classes)
    found = grouped(terms)
    for name, value in found.items():
        close(value, vectors[f"train_loss/{name}"], TRAIN)
    found["total_loss"].backward()
    ours = {name: parameter.grad for name, parameter in model.named_parameters()}
    # A bias in front of BatchNorm has no gradient but rounding noise, which grows with the largest ones.
    norms = [float(vectors[f"grad_norm/{name}"]) for name in vectors.names("grad_norm/")]
    noise = max(TRAIN, 1e-5 * max(norms))
    checked = 0
    for name, fused in published_parameters(vectors.state):
        gradient = ours[fused.name]
        assert gradient is not None, name
        norm = gradient[fused.rows].norm()
        torch.testing.assert_close(norm.double(), vectors[f"grad_norm/{name}"], rtol=TRAIN, atol=noise)
        if f"grad/{name}" in vectors.arrays:
            expected = vectors[f"grad/{name}"]
            part = gradient[fused.rows].reshape(expected.shape)
            torch.testing.assert_close(part, expected, rtol=TRAIN, atol=noise)
        checked += 1
    assert checked == len([n for n in vectors.names("grad_norm/") if not is_alias(n)])


@models
def test_one_adam_step(vectors: SACMAVectors) -> None:
    model = vectors.model().train()
    rate = vectors.params["lr"]
    optimisers = model.optimisers(TrainingConfig(learning_rate=rate, weight_decay=1e-5))
    model.step(vectors.batch, vectors.classes, optimisers)
    after = model.state_dict()
    named = dict(published_parameters(vectors.state))
    checked = 0
    for key in vectors.names("after_step/"):
        if is_alias(key) or key.endswith("num_batches_tracked"):
            continue
        expected = vectors[f"after_step/{key}"]
        if "running" in key:
            (ours,) = from_published({key: expected})
            close(after[ours], expected, 1e-5)
        elif key in named:
            part = after[named[key].name][named[key].rows].reshape(expected.shape)
            # Adam moves a parameter without a gradient by up to the rate, in any direction. A bias in front
            # of BatchNorm has rounding noise alone.
            flat = float(vectors[f"grad_norm/{key}"]) <= 1e-4 or key.endswith(("fc.0.bias", "fc.4.bias"))
            if flat:
                close(part, expected, 2 * rate + 1e-6)
            else:
                moved = vectors[f"grad/{key}"].abs() > 1e-4 if f"grad/{key}" in vectors.arrays else None
                close(
                    part if moved is None else part[moved],
                    expected if moved is None else expected[moved],
                    1e-5,
                )
        checked += 1
    assert checked > 0


@models
def test_masks(vectors: SACMAVectors) -> None:
    batch, width = vectors.batch, 4
    token = torch.zeros(width)
    audio, video = (
        one.with_values(torch.zeros(len(one.values), width)) for one in (batch.audio, batch.video)
    )
    la, lv = batch.audio.lengths.tolist(), batch.video.lengths.tolist()
    joint = join(token, [audio, video], attention="cross").blocks[0].mask[:, 0]
    expected = vectors["attnmask_ca"]
    longest = vectors["audio"].shape[1]
    for clip, (a, v) in enumerate(zip(la, lv, strict=True)):
        theirs = [0, *range(1, 1 + a), *range(1 + longest, 1 + longest + v)]
        assert torch.equal(joint[clip, : 1 + a + v, : 1 + a + v], expected[clip][theirs][:, theirs])
        assert not joint[clip, :, 1 + a + v :].any()
    for one, name, lengths in ((audio, "sa_audio", la), (video, "sa_video", lv)):
        mask = join(token, [one]).blocks[0].mask[:, 0, 0]
        for clip, steps in enumerate(lengths):
            rows = vectors[f"attnmask_{name}"][clip, : 1 + steps]
            assert torch.equal(mask[clip].expand(1 + steps, -1), rows)


@models
def test_number_of_parameters(vectors: SACMAVectors) -> None:
    # We leave out the embedding of padding, which no result depends on.
    ours = sum(parameter.numel() for parameter in vectors.model().parameters())
    assert (
        ours
        == vectors.described["n_params"]
        - vectors.state["position_encoder_block.pad_embedding.weight"].numel()
    )


class Fused:
    """A published parameter as rows of one of ours: keys and values are one matrix here."""

    def __init__(self, name: str, rows: slice) -> None:
        self.name, self.rows = name, rows


def is_alias(key: str) -> bool:
    return (
        key.startswith(("audiovisual_embeddings.", "Audio_visual_transformer.layer_"))
        or "pad_embedding" in key
    )


def published_parameters(state: dict[str, Tensor]) -> list[tuple[str, Fused]]:
    """Names of the published parameters with their place among ours."""
    found = []
    for key, value in state.items():
        if is_alias(key) or "running" in key or "tracked" in key or "fourier_randn" in key:
            continue
        if ".to_v." in key:
            keys = key.replace(".to_v.", ".to_k.")
            (name,) = from_published({keys: value, key: value})
            rows = slice(len(value), None)
        else:
            (name,) = from_published({key: value, key.replace(".to_k.", ".to_v."): value})
            rows = slice(0, len(value)) if ".to_k." in key else slice(None)
        found.append((key, Fused(name, slice(None) if key == "cls_token" else rows)))
    return found
