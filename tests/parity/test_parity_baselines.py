"""The compared methods, variant published, against outputs of released code: scores, losses, steps.

Every .json in a folder ``baselines`` of the parity vectors is a case; its ``kind`` says which method it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from averaged_cases import AveragedCase, clips, close, parametrize, without_dropout
from parity_folder import parity_root
from sacma.metrics.gzsl import best_bias, evaluate
from sacma.metrics.nearest import nearest
from sacma.models import losses
from sacma.models.apn import APN
from sacma.models.avca import AVCA
from sacma.models.avgzslnet import AVGZSLNet
from sacma.models.avmst import AVMST
from sacma.models.base import Method
from sacma.models.bilinear import ALE, SJE, DeViSE
from sacma.models.cjme import CJME, entropy
from sacma.options import TrainingConfig
from sacma.types import Batch, ClassSet

EVAL, TRAIN, METRIC = 1e-5, 1e-4, 1e-6
CLASSES: dict[str, type[Method]] = {
    "ale": ALE,
    "devise": DeViSE,
    "sje": SJE,
    "apn": APN,
    "cjme": CJME,
    "avgzslnet": AVGZSLNet,
    "avca": AVCA,
    "avmst": AVMST,
}
BILINEAR = ("ale", "devise", "sje")


class Case(AveragedCase):
    """A case with its model and training batch."""

    def model(self, *, dropout: bool = False, **changes: object) -> Method:
        """The published variant with the case's sizes and weights; without dropout unless asked for."""
        cls = CLASSES[self.kind]
        widths = {
            "audio_width": self["audio"].shape[1],
            "video_width": self["video"].shape[1],
            "text_width": self["w"].shape[1],
        }
        model = cls(**{**widths, **self.hyperparameters(), **cls.VARIANTS["published"], **changes})
        model.load_published(self.state)
        if not dropout:
            without_dropout(model)
        return model

    def hyperparameters(self) -> dict[str, Any]:
        """Ours, from the names and sizes of the released code."""
        p, state = self.params, self.state
        if self.kind in (*BILINEAR, "apn"):
            norm = {"norm_inputs": p["norm_inputs"]}
            return norm if self.kind == "apn" else norm | {"dropout": p["dropout_baselines"]}
        if self.kind in ("cjme", "avgzslnet"):
            text = state["triplet_net.embedding_net3.fc.4.weight"]
            shared = {
                "hidden": p["embeddings_hidden_size"],
                "margin": p["margin"],
                "common_width": text.shape[0],
                "text_hidden": text.shape[1],
            }
            if self.kind == "cjme":
                return shared | {"dropout": p["dropout_baselines"]}
            return shared | {
                "dropout": p["embedding_dropout"],
                "decoder_hidden": p["decoder_hidden_size"],
                "decoder_dropout": p["decoder_dropout"],
                "normalise_decoded": p["normalize_decoder_outputs"],
            }
        avca = {
            "width": state["pos_emb1D"].shape[1],
            "common_width": p["dim_out"],
            "encoder_hidden": p["encoder_hidden_size"],
            "decoder_hidden": p["decoder_hidden_size"],
            "encoder_dropout": p["dropout_encoder"],
            "decoder_dropout": p["dropout_decoder"],
            "text_dropout": p["additional_dropout"],
            "momentum": p["momentum"],
            "depth": p["depth_transformer"],
            "feed_forward_hidden": len(state["cross_attention.layers.0.1.fn.net.0.weight"]),
        }
        return avca | ({"spiking_hidden": p["encoder_hidden_size"]} if self.kind == "avmst" else {})

    @property
    def batch(self) -> Batch:
        position = {int(number): place for place, number in enumerate(self["train_class_ids"])}
        labels = {
            end: torch.tensor([position[int(number)] for number in self[f"labels{end}"]])
            for end in ("", "_neg")
        }
        negatives = clips(self["audio_neg"], self["video_neg"], labels["_neg"], self["w_neg"])
        return clips(self["audio"], self["video"], labels[""], self["w"], negatives)


@cache
def cases() -> list[Case]:
    found = [Case(path) for path in sorted(parity_root().rglob("baselines/*.json"))]
    return [case for case in found if case.kind in CLASSES]


# Argument of a test -> the vectors that a case must have for it.
ARGUMENTS = {
    "case": "w",
    "embedded": "e2e/emb",
    "scored": "e2e/scores_dot",
    "dropped": "drop/",
    "derived": "grad_norm/",
    "stepped": "after_step/",
    "stepped_twice": "after_optimize/",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    parametrize(metafunc, ARGUMENTS, cases())


@torch.no_grad()
def test_distances(case: Case) -> None:
    model = case.model().eval()
    for output in ("both", "audio", "video"):
        if output in model.OUTPUTS:
            suffix = "" if output == "both" else f"_{output}"
            found = model.distances(case.evaluated, case.candidates, output=output)
            close(found, case[f"e2e/distance{suffix}"], EVAL, output)
    if "both" not in model.OUTPUTS:
        close(model.distances(case.evaluated, case.candidates), case["e2e/distance"], EVAL)


@torch.no_grad()
def test_trained_score_ranks_in_the_corrected_variant(scored: Case) -> None:
    model = scored.model(score="product").eval()
    close(-model.distances(scored.evaluated, scored.candidates), scored["e2e/scores_dot"], EVAL)


@torch.no_grad()
def test_embeddings(embedded: Case) -> None:
    model = embedded.model().eval()
    audio, video = model.averaged(embedded.evaluated)
    match model:
        case DeViSE() | ALE() | SJE():
            found = {"emb": model.embed_clips(embedded.evaluated), "class_emb": embedded.candidates.vectors}
        case APN():
            joint = torch.cat([video, audio], dim=1)
            joint = F.normalize(joint, dim=1) if model.config.norm_inputs else joint
            found = {"emb": model.attributes(joint), "emb_layer4": model.prototypes(joint)}
        case CJME():
            alpha = model.attend(audio, video)[:, None]
            found = {"attention": alpha, "attention_threshold": alpha >= 0.5}
            found |= {"emb_audio": model.audio_net(audio), "emb_video": model.video_net(video)}
        case AVGZSLNet():
            found = {"emb_audio": model.audio_net(audio), "emb_video": model.video_net(video)}
        case AVCA():
            theta = model.embed(embedded.evaluated)
            found = {"emb_audio": theta["theta_a"], "emb_video": theta["theta_v"]}
            found["class_emb"] = model.text_projection(embedded["class_w"])
    if isinstance(model, CJME | AVGZSLNet):
        found["class_emb"] = model.text_net(embedded["class_w"])
    for name, value in found.items():
        close(value, embedded[f"e2e/{name}"], EVAL, name)


def by_output(case: Case) -> dict[str, Tensor]:
    """Our distances that stand for the released code's searches with audio, with video and with both."""
    model, found = case.model().eval(), {}
    for name in ("audio", "video", "both"):
        output = name if name in model.OUTPUTS else None
        found[name] = model.distances(case.evaluated, case.candidates, output=output)
    return found


@torch.no_grad()
def test_metrics_at_each_bias(case: Case) -> None:
    batch, classes = case.evaluated, case.candidates
    found = nearest(case.model().eval().distances(batch, classes), classes.seen)
    for bias, row in zip(case["e2e/betas"], case["e2e/curve"], strict=True):
        result = evaluate(found, batch.labels, classes, bias=float(bias), bias_search="given")
        ours = [result.seen, result.unseen, result.harmonic_mean, result.zsl]
        close(torch.tensor(ours, dtype=row.dtype), row, METRIC, f"bias {bias}")


@torch.no_grad()
def test_bias_search_and_the_mean_of_three_biases(case: Case) -> None:
    batch, classes = case.evaluated, case.candidates
    biases = []
    for name, distances in by_output(case).items():
        found = nearest(distances, classes.seen)
        bias, _ = best_bias(found, batch.labels, classes.seen, search="grid")
        biases.append(bias)
        for key, value in (("best", bias), ("fixed", float(case["e2e/combined_beta"]))):
            result = evaluate(found, batch.labels, classes, bias=value, bias_search="grid")
            ours = [result.seen, result.unseen, result.harmonic_mean, result.zsl, result.bias]
            close(torch.tensor(ours, dtype=torch.double), case[f"e2e/{key}_{name}"], METRIC, f"{key} {name}")
            recall = case["e2e/best_recall"]
            if name == "both":
                zsl = {int(number): share for number, share in result.per_class_zsl.items()}
                for number in case["unseen_ids"].tolist():
                    assert zsl.get(number, 0.0) == pytest.approx(float(recall[number]), abs=METRIC)
    assert np.mean(biases) == pytest.approx(float(case["e2e/combined_beta"]), abs=METRIC)


LOSS_TERMS: dict[str, dict[str, tuple[str, ...]]] = {
    "bilinear": {"cost_s": ("ranking",)},
    "apn": {
        "ce_final": ("cross_entropy_attributes",),
        "mse_final": ("regression_attributes",),
        "ce_layer4": ("cross_entropy_prototypes",),
        "mse_layer4": ("regression_prototypes",),
    },
    "cjme": {"ct_mean": ("triplet",), "l_av": ("regression_av",), "l_supervision": ("attention",)},
    "avgzslnet": {
        "l_rec": ("reconstruction_t", "reconstruction_a", "reconstruction_v"),
        "l_rec_text": ("reconstruction_t",),
        "l_rec_audio": ("reconstruction_a",),
        "l_rec_video": ("reconstruction_v",),
        "l_cta": ("triplet_decoded_ta",),
        "l_ctv": ("triplet_decoded_tv",),
        "l_ta": ("triplet_ta",),
        "l_at": ("triplet_at",),
        "l_tv": ("triplet_tv",),
        "l_vt": ("triplet_vt",),
    },
    "avca": {
        "rec_a": ("reconstruction_a",),
        "rec_v": ("reconstruction_v",),
        "rec_w": ("reconstruction_w",),
        "l_cta": ("triplet_decoded_a",),
        "l_ctv": ("triplet_decoded_v",),
        "l_ta": ("triplet_wa_a",),
        "l_at": ("triplet_aw_w",),
        "l_tv": ("triplet_wv_v",),
        "l_vt": ("triplet_vw_w",),
        "t_a_w_an": ("triplet_aw_a",),
        "t_v_w_vn": ("triplet_vw_v",),
        "t_w_a_wn": ("triplet_wa_w",),
        "t_w_v_wn": ("triplet_wv_w",),
        "r_rec_a": ("regression_phi_a",),
        "r_rec_v": ("regression_phi_v",),
        "r_a_w": ("regression_aw",),
        "r_v_w": ("regression_vw",),
    },
}
LOSS_TERMS["avmst"] = LOSS_TERMS["avca"]
LOSS_TERMS |= dict.fromkeys(BILINEAR, LOSS_TERMS["bilinear"])


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_every_term_of_the_loss(case: Case, mode: str) -> None:
    model = case.model().train(mode == "train")
    found = model.loss(case.batch, case.training_classes)
    expected = case.names(f"{mode}_loss/")
    assert {*LOSS_TERMS[case.kind], "total"} == set(expected)
    for name in expected:
        terms = found if name == "total" else LOSS_TERMS[case.kind][name]
        ours = torch.stack([found[term] for term in terms]).sum()
        close(ours, case[f"{mode}_loss/{name}"], EVAL, name)


class Calls:
    """Results of a model's networks and methods, call by call, while its loss is computed."""

    def __init__(self, model: Method, batch: Batch, classes: ClassSet) -> None:
        self.inputs: dict[str, list[Any]] = {}
        self.outputs: dict[str, list[Any]] = {}
        handles = [child.register_forward_hook(self._hook(name)) for name, child in model.named_children()]
        for name in ("transform", "encode", "spike_rates"):
            if hasattr(model, name):
                setattr(model, name, self._recorded(name, getattr(model, name)))
        model.loss(batch, classes)
        for handle in handles:
            handle.remove()

    def _hook(self, name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            self.inputs.setdefault(name, []).append(inputs[0])
            self.outputs.setdefault(name, []).append(output)

        return hook

    def _recorded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def recorded(*inputs: Any) -> Any:
            self.outputs.setdefault(name, []).append(function(*inputs))
            return self.outputs[name][-1]

        return recorded


def tensors(case: Case, model: Method) -> Mapping[str, Tensor]:
    """The intermediate results that a case has vectors of, by their names there."""
    batch, classes = case.batch, case.training_classes
    if isinstance(model, ALE | DeViSE | SJE):
        scores = model.scores(batch, classes)
        right = batch.labels[:, None]
        cost = (0.1 + scores - scores.gather(1, right)).clamp(min=0).scatter(1, right, 0.0)
        return {
            "logits": scores,
            "projected": model.embed_clips(batch),
            "cost": cost,
            "rank": (cost > 0).sum(1),
        }
    calls = Calls(model, batch, classes)
    out = calls.outputs
    if isinstance(model, APN):
        f, q = out["attributes"][0], out["prototypes"][0]
        scores = {"prob_f": f @ classes.vectors.T, "prob_q": q @ classes.vectors.T}
        return {"f": f, "q": q} | {name: value.softmax(dim=1) for name, value in scores.items()}
    if isinstance(model, CJME | AVGZSLNet):
        embedded = {
            f"{letter}_{end}": out[f"{net}_net"][number]
            for letter, net in (("a", "audio"), ("v", "video"), ("t", "text"))
            for number, end in enumerate("pn")
        }
        return embedded | (of_cjme(model, out, embedded) if isinstance(model, CJME) else of_decoder(out))
    return of_avca(model, calls)


def of_cjme(model: CJME, out: Mapping[str, list[Tensor]], e: Mapping[str, Tensor]) -> dict[str, Tensor]:
    class_emb = out["text_net"][2]
    alpha = out["attention"][0]
    return {
        "attention": alpha,
        "attention_threshold": alpha >= 0.5,
        "class_emb": class_emb,
        "l_ta": losses.triplet(e["t_p"], e["a_p"], e["a_n"], reduction="none"),
        "l_tv": losses.triplet(e["t_p"], e["v_p"], e["v_n"], reduction="none"),
        "entropy_audio": entropy(e["a_p"] @ class_emb.T),
        "entropy_video": entropy(e["v_p"] @ class_emb.T),
        "supervision": model.supervision(e["a_p"], e["v_p"], class_emb),
    }


def of_decoder(out: Mapping[str, list[Tensor]]) -> dict[str, Tensor]:
    order = ("a_p", "v_p", "t_p", "a_n", "v_n")
    return {f"dec_{n}": F.normalize(g, dim=1) for n, g in zip(order, out["decoder"], strict=True)}


def of_avca(model: Method, calls: Calls) -> dict[str, Tensor]:
    out = calls.outputs
    first, second = (x.chunk(2) for x in out["transform"][-1])
    found: dict[str, Tensor] = {
        "phi_attn": torch.stack([first[0], second[0]], dim=1),
        "phi_attn_neg": torch.stack([first[1], second[1]], dim=1),
        "rho_w": out["text_reconstruction"][0],
    }
    decoded = {"a": out["text_reconstruction"][2:4], "v": out["text_reconstruction"][4:6]}
    for index, (x, name) in enumerate((("a", "audio"), ("v", "video"))):
        found[f"{name}_fe_attn"] = calls.inputs[f"{name}_projection"][0]
        found[f"phi_{x}_rec"] = out[f"{name}_reconstruction"][0]
        for number, end in enumerate(("", "_neg")):
            found[f"phi_{x}{end}"] = out["encode"][0][index][number]
            found[f"theta_{x}{end}"] = out[f"{name}_projection"][number]
            found[f"theta_w{end}"] = out["text_projection"][number]
            found[f"rho_{x}{end}"] = decoded[x][number]
            if isinstance(model, AVMST):
                found[f"phi_{x}{end}1"] = out["spike_rates"][0][index][number]
    return found


@pytest.mark.parametrize("mode", ["eval", "train"])
@torch.no_grad()
def test_intermediate_results(case: Case, mode: str) -> None:
    model = case.model().train(mode == "train")
    found = tensors(case, model)
    names = case.names(f"{mode}/")
    assert names
    for name in names:
        close(found[name], case[f"{mode}/{name}"], EVAL if mode == "eval" else TRAIN, name)


def gradients(case: Case) -> dict[str, Tensor]:
    """Of every parameter, those that are not trained included."""
    model = case.model().train().requires_grad_(True)
    torch.stack(list(model.loss(case.batch, case.training_classes).values())).sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_gradients(derived: Case) -> None:
    found = gradients(derived)
    rename = CLASSES[derived.kind].rename_published
    names = derived.names("grad_norm/")
    # A bias in front of BatchNorm has no gradient but rounding noise, which grows with the largest ones.
    norms = {name: float(derived[f"grad_norm/{name}"]) for name in names}
    noise = EVAL * max(1.0, *norms.values())
    for name, norm in norms.items():
        parts = [found.pop(ours) for ours in rename({name: derived.state[name]})]
        ours = torch.stack([part.norm() for part in parts]).norm()
        assert float(ours) == pytest.approx(norm, rel=TRAIN, abs=noise), name
    assert not found
    full = gradients(derived)
    given = {name: derived[f"grad/{name}"] for name in derived.names("grad/")}
    for name, expected in rename(given).items():
        torch.testing.assert_close(full[name], expected, rtol=TRAIN, atol=noise)


def stepped_once(case: Case, **changes: object) -> tuple[Method, dict[str, Tensor]]:
    """A model after its own step on the case's batch, and the weights before."""
    model = case.model(**changes).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    config = TrainingConfig(learning_rate=case.described["lr"], weight_decay=case.described["weight_decay"])
    model.step(case.batch, case.training_classes, model.optimisers(config))
    return model, before


def without_second_forward(case: Case) -> dict[str, Any]:
    """The option that leaves out the forward pass after the step, for methods that have it."""
    return {"extra_train_forward": False} if case.model().extra_train_forward else {}


def test_one_step(stepped: Case) -> None:
    model, before = stepped_once(stepped, **without_second_forward(stepped))
    after, slopes, rate = model.state_dict(), gradients(stepped), stepped.described["lr"]
    expected = CLASSES[stepped.kind].rename_published(
        {name: stepped[f"after_step/{name}"] for name in stepped.names("after_step/")}
    )
    for name, slope in slopes.items():
        assert (after[name] - before[name]).abs().max() <= 1.01 * rate, name
        if name in expected:
            sure = slope.abs() > EVAL
            close(after[name][sure], expected[name][sure], EVAL, name)
            # Where a gradient is rounding noise, Adam moves a weight along its arbitrary sign by the learning
            # rate. The second forward pass sees such weights, so it gets those of the released code.
            after[name] = torch.where(sure, after[name], expected[name])
    if without_second_forward(stepped):
        model.load_state_dict(after)
        with torch.no_grad():
            model.second_forward(stepped.batch)
        after = model.state_dict()
    for name in expected.keys() - slopes.keys():  # statistics of BatchNorm
        close(after[name], expected[name], EVAL, name)
    rename = CLASSES[stepped.kind].rename_published
    for name in filter(None, stepped.arrays["unmoved_keys"].tolist()):
        for ours in rename({name: stepped.state[name]}):
            assert torch.equal(after[ours], before[ours]), ours


def test_statistics_before_the_extra_forward_pass(stepped_twice: Case) -> None:
    model, _ = stepped_once(stepped_twice, extra_train_forward=False)
    after = model.state_dict()
    names = stepped_twice.names("after_optimize/")
    given = {name: stepped_twice[f"after_optimize/{name}"] for name in names}
    for name, value in CLASSES[stepped_twice.kind].rename_published(given).items():
        close(after[name], value, EVAL, name)


def test_the_extra_forward_pass_is_part_of_the_step(stepped_twice: Case) -> None:
    whole, _ = stepped_once(stepped_twice)
    parts, _ = stepped_once(stepped_twice, extra_train_forward=False)
    with torch.no_grad():
        parts.second_forward(stepped_twice.batch)
    for name, value in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[name], value), name


class Masks(nn.Module):
    """Dropout with given masks, one a call."""

    def __init__(self, *masks: Tensor) -> None:
        super().__init__()
        self.masks = iter(masks)

    def forward(self, values: Tensor) -> Tensor:
        return values * next(self.masks)


def test_dropout_falls_on_features_and_class_vectors(dropped: Case) -> None:
    model = dropped.model().train()
    batch, classes = dropped.batch, dropped.training_classes
    masks = dropped["drop/mask_x"], dropped["drop/mask_w"]
    for name, compute in (
        ("loss", lambda: model.loss(batch, classes)["ranking"]),
        ("logits", lambda: model.scores(batch, classes)),
        ("projected", lambda: model.embed_clips(batch)),
    ):
        model.dropout = Masks(*masks)
        close(compute(), dropped[f"drop/{name}"], EVAL, name)


def test_sizes_and_dropouts(case: Case) -> None:
    model = case.model(dropout=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in model.parameters()) == case.described["n_params"]
    qkv = sum(name.endswith("to_qkv.weight") for name in case.state)  # one matrix there, two of ours
    assert len(trained) - qkv == case.described["optimised_params"]
    ours = sorted(m.p for m in model.modules() if isinstance(m, nn.Dropout))
    assert ours == sorted(case.described["dropout_p_in_module_order"])
