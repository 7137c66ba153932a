"""f-VAEGAN-D2 and AVFS: the game's two sides, synthesis, the classifiers and how they are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sacma.errors import SacmaError
from sacma.models.avfs import AVFS
from sacma.models.base import Method
from sacma.models.fvaegan import FVAEGAN
from sacma.models.generative import Critic, Generator, SoftmaxClassifier, critic_terms, train_softmax
from sacma.options import TrainingConfig
from sacma.types import Batch, ClassSet, Sequences

AUDIO, VIDEO, TEXT = 5, 7, 6
SMALL: dict[type[Method], dict[str, Any]] = {
    FVAEGAN: {"latent_width": 4, "encoder_hidden": 16, "generator_hidden": 16, "critic_hidden": 16},
    AVFS: {"noise_width": 4, "generator_hidden": 16, "critic_hidden": 16, "embedding_width": 8},
}
CLASSIFIERS = {"synthesised_per_class": 20, "classifier_epochs": 20, "classifier_learning_rate": 0.05}
methods = pytest.mark.parametrize("method", SMALL, ids=lambda method: method.__name__)


def build(method: type[Method], **changes: Any) -> Any:
    torch.manual_seed(0)
    widths = {"audio_width": AUDIO, "video_width": VIDEO, "text_width": TEXT}
    return method(**{**widths, **SMALL[method], **CLASSIFIERS, **changes})


def candidates(seen: int = 3, unseen: int = 2) -> ClassSet:
    """Unseen classes stand between seen ones, as in a benchmark."""
    count = seen + unseen
    vectors = F.normalize(torch.randn(count, TEXT, generator=torch.Generator().manual_seed(3)), dim=1)
    flags = torch.ones(count, dtype=torch.bool)
    flags[1 : 2 * unseen : 2] = False
    return ClassSet(tuple(f"class, {k}" for k in range(count)), vectors, flags)


def clips(classes: ClassSet, labels: list[int], *, seed: int = 0) -> Batch:
    """A fixed positive map of the class vector, plus noise; two steps of audio, one of video."""
    generator = torch.Generator().manual_seed(seed)
    text = classes.vectors[torch.tensor(labels)]
    weights = torch.randn(TEXT, AUDIO + VIDEO, generator=torch.Generator().manual_seed(5))
    x = (text @ weights).relu() + 0.05 * torch.rand(len(labels), AUDIO + VIDEO, generator=generator)
    two, one = (torch.full((len(labels),), n) for n in (2, 1))
    audio = torch.stack([x[:, :AUDIO] * 0.5, x[:, :AUDIO] * 1.5], dim=1)
    return Batch(
        Sequences.from_padded(audio, two),
        Sequences.from_padded(x[:, None, AUDIO:], one),
        torch.tensor(labels),
        text,
    )


def seen_clips(classes: ClassSet, each: int = 10) -> Batch:
    positions = classes.seen.nonzero().flatten().tolist()
    return clips(classes, positions * each)


def training_view(classes: ClassSet) -> tuple[Batch, ClassSet]:
    """The same clips as training sees them: labelled among the seen classes alone."""
    seen = classes.only(classes.seen)
    batch = seen_clips(classes)
    own = torch.tensor([int(classes.seen[:position].sum()) for position in batch.labels.tolist()])
    return Batch(batch.audio, batch.video, own, batch.text), seen


@methods
def test_features_are_averaged_over_time_and_of_unit_length(method: type[Method]) -> None:
    batch = clips(candidates(), [0, 2])
    x = build(method).features(batch)
    joint = torch.cat([batch.audio.padded().mean(dim=1), batch.video.values], dim=1)
    torch.testing.assert_close(x, joint / joint.norm(dim=1, keepdim=True))


def test_gradient_of_the_critic() -> None:
    torch.manual_seed(0)
    critic = Critic(AUDIO, TEXT, hidden=9)
    nn.init.normal_(critic.first.weight)
    x, text = torch.randn(4, AUDIO, requires_grad=True), torch.randn(4, TEXT)
    (expected,) = torch.autograd.grad(critic(x, text).sum(), x)
    torch.testing.assert_close(critic.gradient(x, text), expected)


def test_critic_terms_by_hand() -> None:
    torch.manual_seed(0)
    critic = Critic(AUDIO, 0, hidden=9)
    nn.init.normal_(critic.first.weight)
    real, fake, text = torch.randn(4, AUDIO), torch.randn(4, AUDIO), torch.randn(4, TEXT)
    alpha = torch.tensor([[0.0], [1.0], [0.25], [0.5]])
    gap, penalty = critic_terms(critic, real, fake, text, alpha=alpha, penalty=10.0)
    with torch.no_grad():
        scores = [
            float(critic(f[None], text)) - float(critic(r[None], text))
            for f, r in zip(fake, real, strict=True)
        ]
    assert gap.item() == pytest.approx(sum(scores) / 4, abs=1e-6)
    between = [fake[0], real[1], 0.25 * real[2] + 0.75 * fake[2], (real[3] + fake[3]) / 2]
    norms = [critic.gradient(x[None], text[:1]).norm().item() for x in between]
    assert penalty.item() == pytest.approx(10 * sum((n - 1) ** 2 for n in norms) / 4, rel=1e-5)


def test_generator_depends_on_class_and_noise() -> None:
    torch.manual_seed(0)
    generator = Generator(4, TEXT, 8, hidden=16, sigmoid=True)
    text = torch.randn(2, TEXT)
    a, b = generator.sample(text), generator.sample(text)
    assert not torch.allclose(a, b)
    assert not torch.allclose(generator(torch.zeros(2, 4), text)[0], generator(torch.zeros(2, 4), text)[1])
    assert ((a > 0) & (a < 1)).all()


def moved(before: dict[str, Tensor], model: Method) -> set[str]:
    """The networks that changed."""
    return {
        name.split(".")[0]
        for name, value in model.state_dict().items()
        if not torch.equal(value, before[name])
    }


def snapshot(model: Method) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("method", "critics", "generators"),
    [
        (FVAEGAN, {"critic", "unconditional"}, {"generator", "encoder"}),
        (AVFS, {"critic", "embedding", "text_map"}, {"generator"}),
    ],
)
def test_sides_take_turns(method: type[Method], critics: set[str], generators: set[str]) -> None:
    model = build(method, critic_steps=3)
    batch, classes = training_view(candidates())
    optimisers = model.optimisers(TrainingConfig(learning_rate=1e-3))
    turns = []
    for _ in range(4):
        before = snapshot(model)
        terms = model.step(batch, classes, optimisers)
        assert all(torch.isfinite(term) and not term.requires_grad for term in terms.values())
        turns.append(moved(before, model) - {"batches"})
    assert turns == [critics | generators, critics, critics, critics | generators]


@methods
def test_turns_go_on_after_a_restart(method: type[Method]) -> None:
    """A model restored in the middle of a round continues it."""
    batch, classes = training_view(candidates())
    first = build(method, critic_steps=3)
    for _ in range(2):
        first.step(batch, classes, first.optimisers(TrainingConfig()))
    second = build(method, critic_steps=3)
    second.load_state_dict(first.state_dict())
    outcomes = []
    for model in (first, second):
        optimisers = model.optimisers(TrainingConfig())
        torch.manual_seed(4)
        outcomes.append([model.step(batch, classes, optimisers).keys() for _ in range(3)])
    assert outcomes[0] == outcomes[1]
    assert "generator" not in outcomes[0][0]
    assert "generator" in outcomes[0][1]


def test_unconditional_critic_reaches_the_generator_only_when_it_scores() -> None:
    batch, classes = training_view(candidates())
    for choice in ("scores", "idle"):
        model = build(FVAEGAN, unconditional_critic=choice)
        torch.stack(list(model.loss(batch, classes).values())).sum().backward()
        assert (model.unconditional.first.weight.grad is not None) is (choice == "scores")


def test_reconstruction_by_hand() -> None:
    x = torch.rand(3, AUDIO + VIDEO)
    recon = torch.rand(3, AUDIO + VIDEO)
    bernoulli = build(FVAEGAN, likelihood="bernoulli")._reconstruction(recon, x)
    expected = -(x * recon.log() + (1 - x) * (1 - recon).log()).sum()
    torch.testing.assert_close(bernoulli, expected)
    gaussian = build(FVAEGAN)._reconstruction(recon, x)
    density = torch.distributions.Normal(recon, (1 / x.shape[1]) ** 0.5)
    at_best = torch.distributions.Normal(x, (1 / x.shape[1]) ** 0.5)
    torch.testing.assert_close(gaussian, (at_best.log_prob(x) - density.log_prob(x)).sum())


def test_negative_features_need_the_gaussian_likelihood() -> None:
    batch, classes = training_view(candidates())
    negative = Batch(batch.audio.with_values(batch.audio.values - 1), batch.video, batch.labels, batch.text)
    published = build(FVAEGAN, **FVAEGAN.VARIANTS["published"])
    with pytest.raises(SacmaError, match="gaussian"):
        published.step(negative, classes, published.optimisers(TrainingConfig()))
    published.step(batch, classes, published.optimisers(TrainingConfig()))
    corrected = build(FVAEGAN)
    corrected.step(negative, classes, corrected.optimisers(TrainingConfig()))


@methods
def test_critic_steps_must_be_positive(method: type[Method]) -> None:
    with pytest.raises(SacmaError, match="critic_steps is 0"):
        build(method, critic_steps=0)


@pytest.mark.slow
@methods
def test_learns_to_recognise_classes_that_it_never_saw(method: type[Method]) -> None:
    classes = candidates(seen=30, unseen=2)
    model = build(method, critic_steps=1)
    batch, training_classes = training_view(classes)
    optimisers = model.optimisers(TrainingConfig(learning_rate=3e-3, weight_decay=0.0))
    for _ in range(300):
        model.step(batch, training_classes, optimisers)
    model.eval()
    model.fit([seen_clips(classes)], classes)
    unseen = (~classes.seen).nonzero().flatten()
    tested = clips(classes, unseen.tolist() * 20, seed=9)
    among_unseen = model.distances(tested, classes.only(~classes.seen)).argmin(dim=1)
    assert (unseen[among_unseen] == tested.labels).float().mean() > 0.9
    seen = seen_clips(classes, each=2)
    assert (model.distances(seen, classes).argmin(dim=1) == seen.labels).float().mean() > 0.6


@methods
def test_distances_are_negative_log_probabilities_of_the_candidates(method: type[Method]) -> None:
    classes = candidates()
    model = build(method)
    model.fit([seen_clips(classes)], classes)
    tested = clips(classes, [0, 1, 2, 3])
    joint = model.distances(tested, classes)
    assert joint.shape == (4, 5)
    torch.testing.assert_close((-joint).exp().sum(dim=1), torch.ones(4))
    zsl = model.distances(tested, classes.only(~classes.seen))
    assert zsl.shape == (4, 2)
    torch.testing.assert_close((-zsl).exp().sum(dim=1), torch.ones(4))
    # A classifier of its own, not the joint one over fewer columns.
    columns = (-joint[:, ~classes.seen]).softmax(dim=1)
    assert not torch.allclose((-zsl).exp(), columns, atol=1e-3)


@methods
def test_candidates_are_found_by_name(method: type[Method]) -> None:
    classes = candidates()
    model = build(method)
    model.fit([seen_clips(classes)], classes)
    order = [3, 0, 4, 2, 1]
    shuffled = ClassSet(tuple(classes.names[i] for i in order), classes.vectors[order], classes.seen[order])
    tested = clips(classes, [0, 1, 2])
    torch.testing.assert_close(model.distances(tested, shuffled), model.distances(tested, classes)[:, order])


@methods
def test_scoring_classes_without_a_fit_is_an_error(method: type[Method]) -> None:
    classes = candidates()
    model = build(method)
    tested = clips(classes, [0])
    with pytest.raises(SacmaError, match="class, 0"):
        model.distances(tested, classes)
    model.fit([seen_clips(classes)], classes)
    other = ClassSet(("archery", *classes.names[1:]), classes.vectors, classes.seen)
    with pytest.raises(SacmaError, match="archery"):
        model.distances(tested, other)


@methods
def test_fit_is_repeatable_and_leaves_the_networks_alone(method: type[Method]) -> None:
    classes = candidates()
    model = build(method)
    before = snapshot(model)
    outcomes = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        model.fit([seen_clips(classes)], classes)
        outcomes.append(model.distances(clips(classes, [0, 1]), classes))
    assert torch.equal(outcomes[0], outcomes[1])
    assert not torch.equal(outcomes[0], outcomes[2])
    unchanged = {k: v for k, v in before.items() if not k.startswith("classifiers.")}
    assert all(torch.equal(model.state_dict()[k], v) for k, v in unchanged.items())


@methods
def test_fit_works_within_no_grad(method: type[Method]) -> None:
    classes = candidates()
    model = build(method)
    with torch.no_grad():
        model.fit([seen_clips(classes)], classes)
    assert model.classifiers.joint.weight.abs().max() > 0.5


@methods
def test_refit_to_other_candidates_replaces_the_classifiers(method: type[Method]) -> None:
    model = build(method)
    model.fit([seen_clips(candidates())], candidates())
    only_seen = candidates().only(candidates().seen)
    batch, _ = training_view(candidates())
    model.fit([batch], only_seen)
    assert model.classifiers.joint.names == list(only_seen.names)
    assert model.classifiers.unseen.names == []


@methods
def test_saved_with_its_classifiers(method: type[Method], tmp_path: Path) -> None:
    classes = candidates()
    model = build(method)
    tested = clips(classes, [0, 1, 2])
    model.save_pretrained(tmp_path / "unfitted")
    assert method.from_pretrained(tmp_path / "unfitted").classifiers.joint.names == []  # type: ignore[union-attr]
    model.fit([seen_clips(classes)], classes)
    model.save_pretrained(tmp_path / "fitted")
    loaded = method.from_pretrained(tmp_path / "fitted")
    for asked in (classes, classes.only(~classes.seen)):
        assert torch.equal(loaded.distances(tested, asked), model.distances(tested, asked))


@methods
def test_a_state_with_other_candidates_loads(method: type[Method]) -> None:
    model, other = build(method), build(method)
    model.fit([seen_clips(candidates())], candidates())
    many = candidates(seen=6, unseen=3)
    other.fit([seen_clips(many)], many)
    other.load_state_dict(model.state_dict())
    tested = clips(candidates(), [0, 1])
    assert torch.equal(other.distances(tested, candidates()), model.distances(tested, candidates()))
    # And the two no longer share memory.
    other.classifiers.joint.weight.zero_()
    assert model.classifiers.joint.weight.any()


def test_softmax_classifier_against_autograd_by_hand() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(30, 4), torch.arange(30) % 3
    initial, order = 0.1 * torch.randn(3, 4), torch.randperm(30)
    weight, bias = train_softmax(
        x, y, initial=initial, order=order, epochs=7, batch_size=8, learning_rate=0.05
    )
    layer = nn.Linear(4, 3)
    layer.load_state_dict({"weight": initial, "bias": torch.zeros(3)})
    adam = torch.optim.Adam(layer.parameters(), lr=0.05, betas=(0.5, 0.999))
    for _ in range(7):
        for start in range(0, 30, 8):
            rows = order[start : start + 8]
            adam.zero_grad()
            F.nll_loss(layer(x[rows]).log_softmax(1), y[rows]).backward()
            adam.step()
    torch.testing.assert_close(weight, layer.weight.detach())
    torch.testing.assert_close(bias, layer.bias.detach())


def test_classifier_names_survive_any_spelling() -> None:
    classifier = SoftmaxClassifier(2)
    names = ["playing flute", "a, b\nc", "Grüße", ""]
    classifier.assign(names, torch.zeros(4, 2), torch.zeros(4))
    copy = SoftmaxClassifier(2)
    copy.load_state_dict(classifier.state_dict())
    assert copy.names == names


def test_avfs_terms_can_be_left_out() -> None:
    batch, classes = training_view(candidates())
    assert set(build(AVFS, weight_con=0.0, weight_dis=0.0).loss(batch, classes)) == {"generator"}
    both = build(AVFS).loss(batch, classes)
    assert set(both) == {"generator", "contrastive", "discriminative"}
    assert set(build(AVFS).critic_loss(batch, classes)) == {
        "critic",
        "critic_penalty",
        "contrastive_real",
        "discriminative_real",
    }


def test_avfs_terms_by_hand() -> None:
    batch, classes = training_view(candidates())
    model = build(AVFS, weight_con=0.3, weight_dis=0.7, temperature=0.2)
    torch.manual_seed(6)
    found = model.loss(batch, classes)
    torch.manual_seed(6)
    made = model.generator.sample(batch.text)
    h_real = F.normalize(model.embedding(model.features(batch)), dim=1)
    h_made = F.normalize(model.embedding(made), dim=1)
    scores = h_made @ F.normalize(model.text_map(classes.vectors), dim=1).T / 0.2
    discriminative = F.cross_entropy(scores, batch.labels)
    torch.testing.assert_close(found["discriminative"], 0.7 * discriminative)
    logits = h_real @ h_made.T / 0.2
    total = torch.zeros(())
    for rows in (logits, logits.T):
        for clip, label in enumerate(batch.labels.tolist()):
            total = total - rows[clip].log_softmax(0)[batch.labels == label].mean()
    torch.testing.assert_close(found["contrastive"], 0.3 * total / len(batch))
