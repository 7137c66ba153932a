"""ClipClap, variant published, against outputs of its released code: scores, losses, gradients, a step.

Every .json in a folder ``baselines`` of the parity vectors whose ``kind`` is ``clipclap`` is a case.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from averaged_cases import AveragedCase, clips, close, parametrize, without_dropout
from parity_folder import parity_root
from sacma.metrics.gzsl import GRIDS, best_bias, evaluate
from sacma.metrics.nearest import nearest
from sacma.models.clipclap import ClipClap
from sacma.options import TrainingConfig
from sacma.runs.config import resolve
from sacma.types import Batch

EVAL, TRAIN, METRIC, ROUNDED = 1e-5, 1e-4, 1e-6, 3e-5
# Networks that the extra pass after a step goes through, with weights that the step has changed.
AFTER_STEP = ("encoder", "text_encoder", "projection", "text_projection")


class Case(AveragedCase):
    """A case with its model and training batch."""

    def model(self, *, dropout: bool = False, **changes: Any) -> ClipClap:
        """The published variant with the case's sizes and weights; without dropout unless asked for."""
        p = self.params
        given = {
            "audio_width": self["audio"].shape[1],
            "video_width": self["video"].shape[1],
            "text_width": self["w"].shape[1],
            "modality": p["modality"],
            "words": p["word_embeddings"],
            "width": len(self.state["O_enc.fc.0.bias"]),
            "common_width": p["dim_out"],
            "decoder_hidden": p["decoder_hidden_size"],
            "decoder_dropout": p["dropout_decoder"],
            "text_dropout": p["additional_dropout"],
            "weight_ce": float(p["cross_entropy_loss"]),
            "weight_reg": float(p["reg_loss"]),
            "weight_rec": float(p["rec_loss"]),
        }
        model = ClipClap(**{**given, **ClipClap.VARIANTS["published"], **changes})
        model.load_published(self.state)
        if not dropout:
            without_dropout(model)
        return model

    @property
    def batch(self) -> Batch:
        labels = torch.searchsorted(self["train_class_ids"], self["labels"])
        return clips(self["audio"], self["video"], labels, self["w"])


@cache
def cases() -> list[Case]:
    found = [Case(path) for path in sorted(parity_root().rglob("baselines/*.json"))]
    return [case for case in found if case.kind == "clipclap"]


# Argument of a test -> the vectors that a case must have for it: small fixtures lack some.
ARGUMENTS = {"case": "w", "derived": "grad_norm/", "stepped": "after_step/"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc, ARGUMENTS, cases())


@torch.no_grad()
def test_embeddings_and_distances(case: Case) -> None:
    model = case.model().eval()
    close(model.embed_clips(case.evaluated), case["e2e/emb"], EVAL, "clips")
    close(model.embed_classes(case.candidates), case["e2e/class_emb"], EVAL, "classes")
    found = model.distances(case.evaluated, case.candidates)
    # The released code computes distances from squared norms and products, whose rounding is up to 2e-5 here:
    # ours are compared with the exact ones of its embeddings, and more loosely with its own.
    embedded = case["e2e/emb"].double(), case["e2e/class_emb"].double()
    close(found, torch.cdist(*embedded, compute_mode="donot_use_mm_for_euclid_dist").float(), EVAL, "exact")
    close(found, case["e2e/distance"], ROUNDED, "distances")


@torch.no_grad()
def test_metrics_at_each_bias_and_the_best(case: Case) -> None:
    batch, classes = case.evaluated, case.candidates
    found = nearest(case.model().eval().distances(batch, classes), classes.seen)
    close(GRIDS["fine-grid"], case["betas"], METRIC)
    for bias, row in zip(GRIDS["fine-grid"].tolist(), case["curve"], strict=True):
        result = evaluate(found, batch.labels, classes, bias=bias, bias_search="given")
        ours = [result.seen, result.unseen, result.harmonic_mean, result.zsl]
        close(torch.tensor(ours, dtype=row.dtype), row, METRIC, f"bias {bias}")
    bias, _ = best_bias(found, batch.labels, classes.seen, search="fine-grid")
    result = evaluate(found, batch.labels, classes, bias=bias, bias_search="fine-grid")
    ours = [result.seen, result.unseen, result.harmonic_mean, result.zsl, result.bias]
    close(torch.tensor(ours, dtype=torch.double), case["best_both"], METRIC, "best")
    zsl = {int(number): share for number, share in result.per_class_zsl.items()}
    for number in case["unseen_ids"].tolist():
        assert zsl.get(number, 0.0) == pytest.approx(float(case["best_recall"][number]), abs=METRIC)


TERMS = {
    "total_loss": ("reconstruction", "reconstruction_text", "regression", "cross_entropy"),
    "loss_reg": ("regression",),
    "loss_cmd_rec": ("reconstruction", "reconstruction_text"),
    "cross_entropy": ("cross_entropy",),
}


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_every_term_of_the_loss(case: Case, mode: str) -> None:
    model = case.model().train(mode == "train")
    found = model.loss(case.batch, case.training_classes)
    expected = case.names(f"{mode}_loss/")
    assert set(TERMS) == set(expected)
    for name in expected:
        ours = torch.stack([found.get(term, torch.zeros(())) for term in TERMS[name]]).sum()
        close(ours, case[f"{mode}_loss/{name}"], EVAL, name)


@pytest.mark.parametrize("mode", ["eval", "train"])
@torch.no_grad()
def test_intermediate_results(case: Case, mode: str) -> None:
    model, batch = case.model().train(mode == "train"), case.batch
    theta, encoded = model.embed_clips(batch), model.encode_text(batch.text)
    theta_w = model.text_projection(encoded)
    found = {"theta_o": theta, "theta_w": theta_w, "w": encoded}
    found |= {"rho_o": model.reconstruction(theta), "rho_w": model.text_reconstruction(theta_w)}
    assert set(case.names(f"{mode}/")) == set(found)
    for name, value in found.items():
        close(value, case[f"{mode}/{name}"], EVAL if mode == "eval" else TRAIN, name)


def gradients(case: Case) -> dict[str, Tensor]:
    model = case.model().train()
    torch.stack(list(model.loss(case.batch, case.training_classes).values())).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_gradients(derived: Case) -> None:
    found = gradients(derived)
    norms = ClipClap.rename_published({n: derived[f"grad_norm/{n}"] for n in derived.names("grad_norm/")})
    assert set(norms) == set(found)
    # A bias in front of BatchNorm has no gradient but rounding noise, which grows with the largest ones.
    noise = EVAL * max(1.0, *map(float, norms.values()))
    for name, norm in norms.items():
        assert float(found[name].norm()) == pytest.approx(float(norm), rel=TRAIN, abs=noise), name
    given = ClipClap.rename_published({n: derived[f"grad/{n}"] for n in derived.names("grad/")})
    for name, expected in given.items():
        torch.testing.assert_close(found[name], expected, rtol=TRAIN, atol=noise)


def test_one_step(stepped: Case) -> None:
    model, slopes, rate = stepped.model().train(), gradients(stepped), stepped.described["lr"]
    before = {key: value.clone() for key, value in model.state_dict().items()}
    config = TrainingConfig(learning_rate=rate, weight_decay=stepped.described["weight_decay"])
    model.step(stepped.batch, stepped.training_classes, model.optimisers(config))
    after = model.state_dict()
    expected = ClipClap.rename_published(
        {name: stepped[f"after_step/{name}"] for name in stepped.names("after_step/")}
    )
    for name, value in expected.items():
        if name not in slopes:  # statistics of BatchNorm
            close(after[name] - arbitrary_shift(name, model, after, expected), value, EVAL, name)
            continue
        sure = slopes[name].abs() > EVAL
        close(after[name][sure], value[sure], EVAL, name)
        assert (after[name] - before[name]).abs().max() <= 1.01 * rate, name


def arbitrary_shift(
    name: str, model: ClipClap, ours: dict[str, Tensor], theirs: dict[str, Tensor]
) -> Tensor | float:
    """The part of a running mean from the bias in front of it, which Adam moves by the sign of rounding."""
    if not (name.endswith(".running_mean") and name.split(".", maxsplit=1)[0] in AFTER_STEP):
        return 0.0
    norm = name.removesuffix(".running_mean")
    net, index = norm.split(".")
    bias = f"{net}.{int(index) - 1}.bias"
    momentum: float = model.get_submodule(norm).momentum
    return momentum * (ours[bias] - theirs[bias])


def test_sizes_and_dropouts(case: Case) -> None:
    model = case.model(dropout=True)
    assert sum(p.numel() for p in model.parameters()) == case.described["n_params"]
    p = case.params
    rounds = {"encoder": 1, "text_encoder": 1, "projection": 2, "reconstruction": 2}
    rounds |= {"text_projection": 1, "text_reconstruction": 1}
    rates = {"encoder": 0.1, "text_encoder": 0.1}
    rates |= dict.fromkeys(("projection", "reconstruction"), p["dropout_decoder"])
    rates |= dict.fromkeys(("text_projection", "text_reconstruction"), p["additional_dropout"])
    for name, count in rounds.items():
        found = [m.p for m in model.get_submodule(name).modules() if isinstance(m, nn.Dropout)]
        assert found == [rates[name]] * count, name


def test_earlier_checkpoints_call_the_encoders_otherwise(case: Case) -> None:
    for encoder in ("input_proj", "audio_proj"):
        renamed = {
            key.replace("O_enc.", f"{encoder}.").replace("W_enc.", "w_emb."): value
            for key, value in case.state.items()
        }
        assert any(key.startswith("w_emb.") for key in renamed)
        model = case.model()
        model.load_published(renamed)
        assert torch.equal(model.encoder[0].weight, case.state["O_enc.fc.0.weight"])


def test_a_published_run_searches_the_bias_on_this_grid() -> None:
    config = resolve({"method": "clipclap", "variant": "published", "features": "clip-clap", "root": "x"})
    assert config.protocol.bias_search == "fine-grid"
