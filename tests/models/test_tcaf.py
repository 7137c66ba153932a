"""TCAF and its fusion baselines: what the variants change, who sees whom, and that training learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sacma.errors import SacmaError
from sacma.models.attention_fusion import AttentionFusion
from sacma.models.base import Method
from sacma.models.layers import EmbeddingNet
from sacma.models.perceiver import Perceiver
from sacma.models.steps import encode_steps
from sacma.models.tcaf import TCAF
from sacma.options import TrainingConfig
from sacma.types import Batch, ClassSet, Sequences

WIDTHS = {"audio_width": 6, "video_width": 8, "text_width": 12}
SMALL: dict[type[Method], dict[str, Any]] = {
    TCAF: {"depth": 2, "heads": 2, "head_width": 8, "feed_forward_hidden": 16},
    Perceiver: {"depth": 2, "heads": 2, "head_width": 8, "feed_forward_hidden": 16, "latents": 5},
    AttentionFusion: {"attention_hidden": 8},
}
SPACE = {"width": 24, "common_width": 10, "encoder_hidden": 16, "decoder_hidden": 16}
methods = pytest.mark.parametrize("method", SMALL, ids=lambda method: method.__name__)


def build(method: type[Method], **changes: Any) -> Any:
    torch.manual_seed(0)
    return method(**{**WIDTHS, **SPACE, **SMALL[method], **changes})


def sequences(lengths: list[int], width: int, seed: int, *, seconds: float = 1.0) -> Sequences:
    generator = torch.Generator().manual_seed(seed)
    longest = max(lengths)
    values = torch.randn(len(lengths), longest, width, generator=generator)
    times = (torch.arange(longest) * seconds).expand(len(lengths), longest)
    return Sequences.from_padded(values, torch.tensor(lengths), times)


def classes_of(count: int = 4) -> ClassSet:
    vectors = torch.randn(count, WIDTHS["text_width"], generator=torch.Generator().manual_seed(7))
    names = tuple(f"class {k}" for k in range(count))
    return ClassSet(names, vectors, torch.ones(count, dtype=torch.bool))


def batch_of(audio: list[int], video: list[int], *, seed: int = 0, seconds: float = 1.0) -> Batch:
    labels = torch.arange(len(audio)) % 4
    return Batch(
        sequences(audio, WIDTHS["audio_width"], seed, seconds=seconds),
        sequences(video, WIDTHS["video_width"], seed + 1),
        labels,
        classes_of().vectors[labels],
    )


def one(batch: Batch, clip: int) -> Batch:
    """One clip of a batch."""

    def pick(s: Sequences) -> Sequences:
        keep = s.clip == clip
        length = s.lengths[clip : clip + 1]
        return Sequences(s.values[keep], length, s.seconds[keep], int(length))

    return Batch(
        pick(batch.audio), pick(batch.video), batch.labels[clip : clip + 1], batch.text[clip : clip + 1]
    )


@methods
def test_distances_do_not_depend_on_the_other_clips(method: type[Method]) -> None:
    model = build(method).eval()
    batch, classes = batch_of([3, 1, 5, 2], [2, 4, 1, 6]), classes_of()
    together = model.distances(batch, classes)
    assert together.shape == (4, 4)
    for clip in range(4):
        torch.testing.assert_close(model.distances(one(batch, clip), classes)[0], together[clip])


@methods
def test_clips_without_a_modality_or_without_any_step(method: type[Method]) -> None:
    model = build(method).eval()
    batch = batch_of([0, 3, 0], [2, 0, 0])
    distances = model.distances(batch, classes_of())
    assert torch.isfinite(distances).all()
    assert not torch.allclose(distances[0], distances[2])
    model.train()
    terms = model.loss(batch, classes_of())
    torch.stack(list(terms.values())).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)


@methods
def test_every_parameter_learns(method: type[Method]) -> None:
    model = build(method)
    terms = model.loss(batch_of([3, 2, 5, 2] * 3, [2, 4, 1, 6] * 3), classes_of())
    torch.stack(list(terms.values())).sum().backward()
    # The last layer's queries of steps, and biases before BatchNorm, have none to speak of; none may be None.
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@methods
def test_training_learns_to_tell_classes_apart(method: type[Method]) -> None:
    none = {f"{name}_dropout": 0.0 for name in ("encoder", "decoder", "text", "position")}
    model, classes = build(method, feature_scaling="unit", **none), classes_of()
    batch = batch_of([3, 2, 4, 2] * 6, [2, 4, 1, 3] * 6)
    marks = 3 * torch.eye(4)[batch.labels]
    audio = batch.audio.values.clone()
    audio[:, :4] += marks[batch.audio.clip]
    batch = replace(batch, audio=batch.audio.with_values(audio))
    optimisers = model.optimisers(TrainingConfig(learning_rate=5e-3))
    losses = [sum(map(float, model.step(batch, classes, optimisers).values())) for _ in range(60)]
    assert losses[-1] < 0.5 * losses[0]
    model.eval()
    correct = model.distances(batch, classes).argmin(dim=1) == batch.labels
    assert correct.float().mean() > 0.9


@methods
def test_saved_and_loaded(method: type[Method], tmp_path: Path) -> None:
    model = build(method).eval()
    model.save_pretrained(tmp_path)
    loaded = method.from_pretrained(tmp_path).eval()
    assert loaded.config == model.config
    batch, classes = batch_of([3, 1], [2, 4]), classes_of()
    assert torch.equal(loaded.distances(batch, classes), model.distances(batch, classes))


@methods
def test_weights_of_zero_leave_terms_out(method: type[Method]) -> None:
    batch, classes = batch_of([3, 2, 5, 2], [2, 4, 1, 6]), classes_of()
    terms = build(method, weight_ce=0.0, weight_rec=0.0).loss(batch, classes)
    assert set(terms) == {"regression"}
    with pytest.raises(SacmaError, match="weight_ce"):
        build(method, weight_ce=0.0, weight_rec=0.0, weight_reg=0.0).loss(batch, classes)


def test_loss_is_the_sum_of_its_definitions() -> None:
    model = build(TCAF).eval()
    batch, classes = batch_of([3, 2, 5, 2], [2, 4, 1, 6]), classes_of()
    theta = model.space.projection(model.fused(batch))
    theta_w = model.space.text_projection(batch.text)
    scores = theta @ model.space.text_projection(classes.vectors).T
    rows = [scores[i].softmax(0)[label].log() for i, label in enumerate(batch.labels.tolist())]
    expected = {
        "cross_entropy": -sum(rows) / len(rows),
        "regression": ((theta - theta_w) ** 2).mean(),
        "reconstruction": ((model.space.reconstruction(theta) - batch.text) ** 2).mean(),
        "reconstruction_text": ((model.space.text_reconstruction(theta_w) - batch.text) ** 2).mean(),
    }
    found = model.loss(batch, classes)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_published_evaluation_does_not_look_at_seconds() -> None:
    near, far = (batch_of([3, 2], [2, 4], seconds=s) for s in (1.0, 0.37))
    classes = classes_of()
    for variant, looks in (("published", False), ("corrected", True)):
        model = build(TCAF, **TCAF.VARIANTS[variant]).eval()
        same = torch.allclose(model.distances(near, classes), model.distances(far, classes))
        assert same is not looks


def encoder_mean(model: TCAF, batch: Batch) -> Tensor:
    """Running mean of the audio encoder's first BatchNorm after one pass of training."""
    model.train()
    model.loss(batch, classes_of())
    mean = model.trunk.steps.audio[1].running_mean  # type: ignore[union-attr]
    assert isinstance(mean, Tensor)
    return mean


def test_padding_moves_batch_statistics_only_as_published() -> None:
    batch = batch_of([5, 1, 1, 1], [2, 2, 2, 2])
    means = {}
    for choice in ("excluded", "included"):
        model = build(TCAF, padding_in_batchnorm=choice, feature_scaling="unit")
        first = model.trunk.steps.audio[0]
        values = torch.nn.functional.normalize(batch.audio.values, dim=1)
        if choice == "included":
            values = batch.audio.padded(values).flatten(0, 1)
        means[choice] = encoder_mean(model, batch)
        torch.testing.assert_close(means[choice], 0.1 * first(values).mean(dim=0))
    assert not torch.allclose(means["excluded"], means["included"])


def test_extra_forward_moves_statistics_and_nothing_else() -> None:
    batch, classes = batch_of([3, 2, 5, 2], [2, 4, 1, 6]), classes_of()
    states = []
    for extra in (False, True):
        model = build(TCAF, extra_train_forward=extra)
        torch.manual_seed(1)
        model.step(batch, classes, model.optimisers(TrainingConfig()))
        states.append(model.state_dict())
    once, twice = states
    changed = {name for name, value in once.items() if not torch.equal(value, twice[name])}
    assert changed
    assert all("running" in name or "num_batches" in name for name in changed)
    assert twice["trunk.steps.audio.1.num_batches_tracked"] == 2
    assert twice["space.reconstruction.1.num_batches_tracked"] == 1


def test_extra_forward_counts_steps_as_published() -> None:
    names = ("encoder", "decoder", "text", "transformer", "position")
    none = {f"{name}_dropout": 0.0 for name in names}
    batch, classes = batch_of([3, 2, 5, 2], [2, 4, 1, 6], seconds=0.37), classes_of()
    model = build(TCAF, extra_train_forward=True, feature_scaling="unit", **none)
    first = model.space.projection[0]
    means = [first(model.fused(b)).mean(dim=0) for b in (batch, batch.by_index())]
    assert not torch.allclose(*means)
    model.step(batch, classes, model.optimisers(TrainingConfig(learning_rate=0.0)))
    expected = 0.9 * 0.1 * means[0] + 0.1 * means[1]
    torch.testing.assert_close(model.space.projection[1].running_mean, expected)


@pytest.mark.parametrize("attention", ["cross", "within", "both"])
def test_who_sees_whom(attention: str) -> None:
    """One layer shows it: an audio step's token depends on the video exactly where it may see it."""
    from sacma.models.packing import join

    model = build(TCAF).eval()
    batch = batch_of([2], [3])

    def audio_tokens(batch: Batch) -> Tensor:
        audio, video = model.trunk.steps(*model.scaled(batch), published_scaling=False, with_padding=False)
        tokens = join(model.trunk.class_token, [audio, video], attention=attention)  # type: ignore[arg-type]
        return model.trunk.transformer.layers[0](tokens.values, [tokens])[1:3]

    before = audio_tokens(batch)
    other_video = replace(batch, video=batch.video.with_values(batch.video.values + 1))
    values = batch.audio.values.clone()
    values[1] += 1
    other_audio = replace(batch, audio=batch.audio.with_values(values))
    assert torch.allclose(audio_tokens(other_video), before) is (attention == "within")
    # Of the first audio step, when only the second one changes.
    assert torch.allclose(audio_tokens(other_audio)[0], before[0]) is (attention == "cross")


def test_published_weights_need_the_published_variant() -> None:
    with pytest.raises(SacmaError, match="published"):
        build(TCAF).load_published({})
    with pytest.raises(SacmaError, match="missing"):
        build(TCAF, layer_norms="shared").load_published({"cls_token": torch.zeros(1, 1, 24)})


def test_attention_fusion_lies_between_the_modalities() -> None:
    model = build(AttentionFusion).eval()
    batch = batch_of([3, 0, 2], [2, 4, 0])
    audio, video = model.steps(*model.scaled(batch), published_scaling=True, with_padding=False)
    a, v, c = audio.mean(), video.mean(), model.fused(batch)
    assert (c[0] >= torch.minimum(a, v)[0] - 1e-6).all()
    assert (c[0] <= torch.maximum(a, v)[0] + 1e-6).all()
    torch.testing.assert_close(c[1], v[1])
    torch.testing.assert_close(c[2], a[2])


def test_perceiver_reads_a_set_of_timed_steps() -> None:
    model = build(Perceiver, feature_scaling="unit").eval()
    batch, classes = batch_of([4], [3]), classes_of()
    order = torch.tensor([2, 0, 3, 1])
    audio = batch.audio
    shuffled = replace(audio, values=audio.values[order], seconds=audio.seconds[order])
    expected = model.distances(batch, classes)
    torch.testing.assert_close(model.distances(replace(batch, audio=shuffled), classes), expected)
    untimed = replace(audio, values=audio.values[order])
    assert not torch.allclose(model.distances(replace(batch, audio=untimed), classes), expected)


def test_encoding_among_padding_is_encoding_the_padded_batch() -> None:
    """Rows, gradients and statistics, although the first layer does not see the padding."""
    torch.manual_seed(0)
    steps = Sequences.from_padded(torch.randn(4, 5, 6), torch.tensor([5, 0, 1, 3]))
    found = []
    for padded in (False, True):
        torch.manual_seed(1)
        net = EmbeddingNet(6, 4, hidden=7, dropout=0.3).double()
        values = steps.values.double().requires_grad_()
        own = steps.with_values(values)
        if padded:
            rows = net(own.padded().flatten(0, 1))[own.clip * own.longest + own.step]
        else:
            rows = encode_steps(net, own, with_padding=True)
        gradients = torch.autograd.grad(rows.square().sum(), [values, *net.parameters()])
        found.append([rows, *gradients, *net.buffers()])
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain)
