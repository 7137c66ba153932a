"""f-VAEGAN-D2, variant published, against AVCA's script: nets, losses, one step, synthesis, classifiers.

The script's random numbers are in the vectors and are used in place of fresh ones.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sacma.metrics.gzsl import harmonic_mean, per_class_accuracy
from sacma.models.fvaegan import FVAEGAN, Draws
from sacma.models.generative import SoftmaxClassifier, critic_terms, train_softmax
from sacma.options import TrainingConfig
from sacma.types import Batch, ClassSet, Sequences
from vectors import Vectors

EVAL, TRAIN = 1e-5, 1e-4

pytestmark = pytest.mark.vectors("fvaegan*.npz", excluding=("*_state.npz",))


class FVAEGANVectors(Vectors):
    """One file, with the parameters and weights beside it."""

    def model(self) -> FVAEGAN:
        p = self.params
        settings = {
            **FVAEGAN.VARIANTS["published"],
            "audio_width": self["audio"].shape[1],
            "video_width": self["video"].shape[1],
            "text_width": self["w"].shape[1],
            "latent_width": p["latent_size"],
            "encoder_hidden": len(self.state["Encoder.MLP.L0.bias"]),
            "generator_hidden": len(self.state["netG.MLP.L0.bias"]),
            "critic_hidden": p["ndh"],
            "gradient_penalty": p["lambda1"],
            "gan_weight": p["gan_weight"],
            "vae_weight": p["vae_weight"],
            "unconditional_weight": p["ud_weight"],
        }
        model = FVAEGAN(**settings)
        model.load_published(self.state)
        return model

    @property
    def batch(self) -> Batch:
        return averaged(self["audio"], self["video"], self["labels"], self["w"])

    @property
    def classes(self) -> ClassSet:
        ids = self["class_ids"]
        return ClassSet(tuple(str(int(i)) for i in ids), self["class_w"], torch.isin(ids, self["seen_ids"]))

    def draws(self, part: str) -> Draws:
        if part == "fixed":
            alpha = self["fixed/alpha"]
            return Draws(self["fixed/noise"], self["fixed/eps"], alpha, alpha)
        return Draws(*(self[f"step/{name}"] for name in ("noise", "eps", "alpha_D", "alpha_D2")))


def averaged(audio: Tensor, video: Tensor, labels: Tensor, text: Tensor) -> Batch:
    """Clips of a single step, which is its own average."""
    one = torch.ones(len(labels), dtype=torch.long)
    a, v = (Sequences.from_padded(x[:, None], one) for x in (audio, video))
    return Batch(a, v, labels, text)


@pytest.fixture
def vectors(vectors_file: Path) -> FVAEGANVectors:
    return FVAEGANVectors(vectors_file)


def close(found: Tensor, expected: Tensor, tolerance: float) -> None:
    expected = expected.to(found.dtype).reshape(found.shape)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_features(vectors: FVAEGANVectors) -> None:
    close(vectors.model().features(vectors.batch), vectors["x"], 1e-6)


def test_networks(vectors: FVAEGANVectors) -> None:
    model, x, w = vectors.model(), vectors["x"], vectors["w"]
    mean, log_variance = model.encoder(x, w)
    close(mean, vectors["fixed/mean"], EVAL)
    close(log_variance, vectors["fixed/log_var"], EVAL)
    recon, made = (model.generator(vectors[f"fixed/{z}"], w) for z in ("z", "noise"))
    close(recon, vectors["fixed/recon"], EVAL)
    close(made, vectors["fixed/gen"], EVAL)
    for name, features in (("real", x), ("gen", made), ("rec", recon)):
        close(model.critic(features, w), vectors[f"fixed/D_{name}"], EVAL)
        if name != "rec":
            close(model.unconditional(features, w), vectors[f"fixed/D2_{name}"], EVAL)
    between = vectors["fixed/interp"]
    close(model.critic.gradient(between, w), vectors["fixed/interp_grad"], EVAL)
    real_or_made = vectors["fixed/alpha"] * x + (1 - vectors["fixed/alpha"]) * made
    close(real_or_made, between, EVAL)


def test_losses(vectors: FVAEGANVectors) -> None:
    model, x, w = vectors.model(), vectors["x"], vectors["w"]
    terms = model.critic_loss(x, w, vectors.draws("fixed"))
    close(terms["critic_penalty"], vectors["fixed/gp_D"], EVAL)
    close(terms["critic"] + terms["critic_penalty"], vectors["fixed/critic_loss_D"], EVAL)
    close(terms["unconditional_penalty"], vectors["fixed/gp_D2"], EVAL)
    both = terms["unconditional"] + terms["unconditional_penalty"]
    close(both, vectors["fixed/critic_loss_D2"], EVAL)
    made = model.generator_loss(x, w, vectors.draws("fixed"))
    weight = vectors.params["vae_weight"]
    close(made["reconstruction"] / weight, vectors["fixed/bce_sum"], EVAL)
    close(made["divergence"] / weight, vectors["fixed/kld"], EVAL)
    close(torch.stack(list(made.values())).sum(), vectors["fixed/gen_loss"], EVAL)


def test_gradient_penalty_is_differentiable_by_the_weights(vectors: FVAEGANVectors) -> None:
    model, x, w = vectors.model(), vectors["x"], vectors["w"]
    fake, alpha = vectors["fixed/gen"], vectors["fixed/alpha"]
    for critic in (model.critic, model.unconditional):
        _, penalty = critic_terms(critic, x, fake, w, alpha=alpha, penalty=10.0)
        between = (alpha * x + (1 - alpha) * fake).requires_grad_()
        (slope,) = torch.autograd.grad(critic(between, w).sum(), between, create_graph=True)
        reference = 10 * (slope.norm(dim=1) - 1).square().mean()
        weights = [critic.first.weight, critic.last.weight]
        ours, theirs = (torch.autograd.grad(p, weights) for p in (penalty, reference))
        for mine, other in zip(ours, theirs, strict=True):
            close(mine, other, EVAL)


def optimisers(vectors: FVAEGANVectors, model: FVAEGAN) -> list[torch.optim.Optimizer]:
    return model.optimisers(TrainingConfig(learning_rate=vectors.params["lr"], weight_decay=0.0))


def test_step_of_the_critics(vectors: FVAEGANVectors) -> None:
    model = vectors.model()
    terms = model.step(vectors.batch, vectors.classes, optimisers(vectors, model), vectors.draws("step"))
    step = vectors.under("step/")
    close(terms["critic"], -step["Wasserstein_D"], EVAL)
    close(terms["critic_penalty"], step["gradient_penalty"], EVAL)
    close(terms["critic"] + terms["critic_penalty"], step["D_cost"], EVAL)
    close(terms["unconditional"] + terms["unconditional_penalty"], step["D_cost_v2"], EVAL)
    check_gradients(vectors, model, ("critic.", "unconditional."))
    check_weights(vectors, model, ("critic.", "unconditional."))


def test_step_of_generator_and_encoder_on_the_updated_critic(vectors: FVAEGANVectors) -> None:
    model = vectors.model()
    # Adam turns rounding noise into full steps, so our own updated critic may differ in a few weights.
    ours = model.step(vectors.batch, vectors.classes, optimisers(vectors, model), vectors.draws("step"))
    p, step = vectors.params, vectors.under("step/")
    assert float(ours["generator"]) == pytest.approx(p["gan_weight"] * float(step["G_cost"]), rel=0.01)
    model = vectors.model()
    after = model.rename_published(vectors.under("after_step/"))
    critic = {name: value for name, value in after.items() if name.startswith("critic.")}
    if len(critic) < len(list(model.critic.parameters())):
        pytest.skip("the weights of the updated critic are not among these vectors")
    model.load_state_dict({**model.state_dict(), **critic})
    terms = model.generator_loss(vectors["x"], vectors["w"], vectors.draws("step"))
    close(terms["generator"], p["gan_weight"] * step["G_cost"], EVAL)
    close(terms["reconstruction"] + terms["divergence"], p["vae_weight"] * step["vae_loss"], EVAL)
    total = torch.stack(list(terms.values())).sum()
    close(total, step["loss"], EVAL)
    _, optimiser = optimisers(vectors, model)
    total.backward()
    optimiser.step()
    check_gradients(vectors, model, ("generator.", "encoder."))
    check_weights(vectors, model, ("generator.", "encoder."))


def check_gradients(vectors: FVAEGANVectors, model: FVAEGAN, nets: tuple[str, ...]) -> None:
    norms = model.rename_published(vectors.under("grad_norm/"))
    arrays = model.rename_published(vectors.under("grad/"))
    compared = 0
    for name, parameter in model.named_parameters():
        if not name.startswith(nets):
            continue
        gradient = parameter.grad
        assert gradient is not None
        torch.testing.assert_close(gradient.norm().double(), norms[name].double(), rtol=TRAIN, atol=EVAL)
        if name in arrays:
            scale = max(1.0, float(arrays[name].abs().max()))
            torch.testing.assert_close(gradient, arrays[name], rtol=TRAIN, atol=EVAL * scale)
        compared += 1
    assert compared == sum(name.startswith(nets) for name in norms) > 0


def check_weights(vectors: FVAEGANVectors, model: FVAEGAN, nets: tuple[str, ...]) -> None:
    arrays = model.rename_published(vectors.under("grad/"))
    ours = model.state_dict()
    for name, expected in model.rename_published(vectors.under("after_step/")).items():
        if not name.startswith(nets):
            continue
        # Adam moves an entry without a gradient by up to the rate, in any direction.
        close(ours[name], expected, 2 * vectors.params["lr"] + 1e-6)
        if name in arrays:
            sure = arrays[name].abs() > EVAL * max(1.0, float(arrays[name].abs().max()))
            close(ours[name][sure], expected[sure], EVAL)


def test_synthesis_with_the_updated_generator(vectors: FVAEGANVectors) -> None:
    model = vectors.model()
    after = model.rename_published(vectors.under("after_step/"))
    updated = {name: value for name, value in after.items() if name.startswith("generator.")}
    if len(updated) < len(list(model.generator.parameters())):
        model.step(vectors.batch, vectors.classes, optimisers(vectors, model), vectors.draws("step"))
    model.load_state_dict({**model.state_dict(), **updated})
    ids = vectors["class_ids"].tolist()
    made, labels = [], []
    for noise, class_id in zip(vectors["syn/noise"], vectors["syn/classes"].tolist(), strict=True):
        text = vectors["class_w"][ids.index(class_id)].expand(len(noise), -1)
        made.append(model.generator(noise, text))
        labels += [class_id] * len(noise)
    close(torch.cat(made), vectors["syn/features"], TRAIN)
    assert labels == vectors["syn/labels"].tolist()


def classifier_data(vectors: FVAEGANVectors, kind: str) -> tuple[Tensor, Tensor, list[int]]:
    """Training rows of unit length, their output indices, and the class id of each output."""
    made, labels = vectors["syn/features"], vectors["syn/labels"]
    if kind == "gzsl":
        real = torch.cat([vectors["gzsl/train_audio"], vectors["gzsl/train_video"]], dim=1)
        made = torch.cat([real, made])
        labels = torch.cat([vectors["gzsl/train_targets"], labels])
    output = dict(zip(vectors[f"{kind}/map_from"].tolist(), vectors[f"{kind}/map_to"].tolist(), strict=True))
    mapped = torch.tensor([output[label] for label in labels.tolist()])
    return F.normalize(made, dim=1), mapped, sorted(output, key=lambda i: output[i])


@pytest.mark.parametrize("kind", ["gzsl", "zsl"])
def test_classifier(vectors: FVAEGANVectors, kind: str) -> None:
    features, labels, ids = classifier_data(vectors, kind)
    weight, bias = train_softmax(
        features,
        labels,
        initial=vectors[f"{kind}/init_weight"],
        order=vectors[f"{kind}/perm"],
        epochs=vectors.params["nepoch_classifier"],
        batch_size=vectors.params["syn_num"],
        learning_rate=vectors.params["classifier_lr"],
    )
    close(weight, vectors[f"{kind}/weight"], TRAIN)
    close(bias, vectors[f"{kind}/bias"], TRAIN)
    classifier = SoftmaxClassifier(features.shape[1])
    classifier.assign([str(i) for i in ids], weight, bias)
    tested = F.normalize(torch.cat([vectors["gzsl/test_audio"], vectors["gzsl/test_video"]], dim=1), dim=1)
    if kind == "zsl":
        tested = tested[vectors["zsl/test_index"]]
    # Ask in ascending order of the class ids, as a set of candidates does.
    ascending = sorted(ids)
    distances = classifier.distances(tested, [str(i) for i in ascending])
    logprob = vectors[f"{kind}/logprob"][:, [ids.index(i) for i in ascending]]
    close(-distances, logprob, TRAIN)
    top = logprob.topk(2, dim=1).values
    clear = top[:, 0] - top[:, 1] > TRAIN
    predicted = torch.tensor([ids.index(ascending[i]) for i in distances.argmin(dim=1).tolist()])
    assert torch.equal(predicted[clear], vectors[f"{kind}/pred"][clear])
    check_accuracy(vectors, kind, torch.where(clear, predicted, vectors[f"{kind}/pred"]))


def check_accuracy(vectors: FVAEGANVectors, kind: str, predicted: Tensor) -> None:
    """Per-class accuracies of the last classifier epoch."""
    truth = vectors[f"{kind}/test_labels_mapped"]

    by_class = per_class_accuracy(predicted == truth, truth, len(vectors[f"{kind}/map_to"]))

    def accuracy(outputs: Tensor) -> float:
        return float(by_class[outputs].mean())

    last = vectors[f"{kind}/epochs"][-1].tolist()
    if kind == "zsl":
        assert accuracy(vectors["zsl/map_to"]) == pytest.approx(last[0], abs=1e-6)
        return
    unseen, seen = accuracy(vectors["gzsl/unseen_mapped"]), accuracy(vectors["gzsl/seen_mapped"])
    assert [unseen, seen] == pytest.approx(last[1:], abs=1e-6)


def test_per_class_accuracy(vectors: FVAEGANVectors) -> None:
    pca = vectors.under("pca/")
    count = int(pca["labels"].max()) + 1
    by_class = per_class_accuracy(pca["labels"] == pca["pred"], pca["labels"], count)
    seen, unseen = by_class[pca["seen"]].mean(), by_class[pca["unseen"]].mean()
    assert float(seen) == pytest.approx(float(pca["acc_seen"]), abs=1e-6)
    assert float(unseen) == pytest.approx(float(pca["acc_unseen"]), abs=1e-6)
    assert float(harmonic_mean(seen, unseen)) == pytest.approx(float(pca["hm"]), abs=1e-6)
    assert float(by_class.mean()) == pytest.approx(float(pca["acc_all_9"]), abs=1e-6)
