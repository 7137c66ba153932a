"""The methods of averaged features: against literal formulas, and what must hold whatever the weights."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from sacma.errors import SacmaError
from sacma.metrics.gzsl import evaluate
from sacma.metrics.nearest import nearest
from sacma.models.apn import APN
from sacma.models.avca import AVCA
from sacma.models.avgzslnet import AVGZSLNet
from sacma.models.avmst import AVMST, SpikingBranch, one_step
from sacma.models.base import Method
from sacma.models.bilinear import ALE, SJE, DeViSE
from sacma.models.cjme import CJME
from sacma.models.eszsl_first import ESZSLFirst
from sacma.options import TrainingConfig, options_of
from sacma.types import Batch, ClassSet, Sequences

METHODS: dict[str, type[Method]] = {
    "devise": DeViSE,
    "ale": ALE,
    "sje": SJE,
    "apn": APN,
    "cjme": CJME,
    "avgzslnet": AVGZSLNet,
    "avca": AVCA,
    "avmst": AVMST,
    "eszsl-0.1": ESZSLFirst,
}
AUDIO, VIDEO, TEXT, SEEN, UNSEEN, CLIPS = 6, 9, 7, 5, 3, 24
SMALL: dict[type[Method], dict[str, Any]] = {
    CJME: {"common_width": 8, "hidden": 12, "text_hidden": 10},
    AVGZSLNet: {"common_width": 8, "hidden": 12, "text_hidden": 10, "decoder_hidden": 11},
    AVCA: {"width": 10, "common_width": 8, "encoder_hidden": 12, "decoder_hidden": 11, "head_width": 4},
}
SMALL[AVMST] = SMALL[AVCA] | {"spiking_hidden": 13}

every_method = pytest.mark.parametrize("cls", METHODS.values(), ids=METHODS)
every_trained = pytest.mark.parametrize(
    "cls",
    [cls for cls in METHODS.values() if cls is not ESZSLFirst],
    ids=[n for n in METHODS if n != "eszsl-0.1"],
)


def build(cls: type[Method], *, variant: str = "corrected", dropout: bool = False, **changes: Any) -> Method:
    """A small model with random statistics; without dropout unless asked for."""
    torch.manual_seed(0)
    widths = {"audio_width": AUDIO, "video_width": VIDEO, "text_width": TEXT}
    model = cls(**{**widths, **SMALL.get(cls, {}), **cls.VARIANTS[variant], **changes})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
        if isinstance(module, nn.Dropout) and not dropout:
            module.p = 0.0
    return model


def make_classes(seen: int = SEEN, unseen: int = UNSEEN, *, seed: int = 1) -> ClassSet:
    draw = torch.Generator().manual_seed(seed)
    vectors = F.normalize(torch.randn(seen + unseen, TEXT, generator=draw), dim=1)
    names = tuple(f"class {k}" for k in range(seen + unseen))
    return ClassSet(names, vectors, torch.arange(seen + unseen) < seen)


def make_sequences(meaning: Tensor, width: int, draw: torch.Generator, *, seed: int) -> Sequences:
    """One to four steps that scatter around a linear image of ``meaning`` (B, E)."""
    mixing = torch.randn(meaning.shape[1], width, generator=torch.Generator().manual_seed(seed))
    lengths = torch.randint(1, 5, (len(meaning),), generator=draw)
    noise = 0.2 * torch.randn(len(meaning), 4, width, generator=draw)
    return Sequences.from_padded(2 * (meaning @ mixing)[:, None] + noise, lengths)


def make_batch(classes: ClassSet, labels: Tensor, *, seed: int = 2, video_width: int = VIDEO) -> Batch:
    draw = torch.Generator().manual_seed(seed)
    text = classes.vectors[labels]
    audio = make_sequences(text, AUDIO, draw, seed=3)
    video = make_sequences(text, video_width, draw, seed=4)
    return Batch(audio, video, labels, text)


def training_batch(
    *, seed: int = 2, clips: int = CLIPS, video_width: int = VIDEO, seen: int = SEEN
) -> tuple[Batch, ClassSet]:
    """Clips of the seen classes, each with a clip of another one, and these classes."""
    classes = make_classes(seen)
    labels = torch.arange(clips) % seen
    others = (labels + 1 + torch.arange(clips) % (seen - 1)) % seen
    negatives = make_batch(classes, others, seed=seed + 100, video_width=video_width)
    batch = make_batch(classes, labels, seed=seed, video_width=video_width)
    return replace(batch, negatives=negatives), classes.only(classes.seen)


def total(terms: Mapping[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


# What holds for all of them


@every_method
def test_features_are_averaged_over_each_clips_own_steps(cls: type[Method]) -> None:
    model = build(cls).eval()
    batch, classes = training_batch()
    one = torch.ones(CLIPS, dtype=torch.long)
    rows = [
        torch.stack([steps.values[steps.clip == clip].mean(0) for clip in range(CLIPS)])
        for steps in (batch.audio, batch.video)
    ]
    by_hand = replace(
        batch,
        audio=Sequences.from_padded(rows[0][:, None], one),
        video=Sequences.from_padded(rows[1][:, None], one),
    )
    if cls is ESZSLFirst:
        model.fit([batch], classes)
    torch.testing.assert_close(model.distances(by_hand, classes), model.distances(batch, classes))


@every_method
def test_scaling_comes_after_the_average(cls: type[Method]) -> None:
    batch, _ = training_batch()
    model = build(cls, feature_scaling="standardise").eval()
    model.fit_scaling([batch.audio.mean()], [batch.video.mean()])
    for features in model.averaged(batch):
        torch.testing.assert_close(features.mean(0), torch.zeros(features.shape[1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(features.std(0, correction=0), torch.ones(features.shape[1]))


@every_method
@torch.no_grad()
def test_distances_know_neither_label_nor_company(cls: type[Method]) -> None:
    model, classes = build(cls).eval(), make_classes()
    labels = torch.arange(CLIPS) % SEEN
    batch = make_batch(classes, labels)
    if cls is ESZSLFirst:
        model.fit([batch], classes)
    whole = model.distances(batch, classes)
    assert whole.shape == (CLIPS, SEEN + UNSEEN)
    assert whole.std() > 0
    blind = Batch(batch.audio, batch.video, torch.zeros_like(labels), torch.zeros_like(batch.text))
    torch.testing.assert_close(model.distances(blind, classes), whole)
    first = Batch(*(_head(s, 3) for s in (batch.audio, batch.video)), labels[:3], batch.text[:3])
    torch.testing.assert_close(model.distances(first, classes), whole[:3])
    torch.testing.assert_close(model.distances(batch, classes.only(~classes.seen)), whole[:, ~classes.seen])


def _head(sequences: Sequences, count: int) -> Sequences:
    keep, lengths = sequences.clip < count, sequences.lengths[:count]
    return Sequences(sequences.values[keep], lengths, sequences.seconds[keep], int(lengths.max()))


@every_method
@torch.no_grad()
def test_save_and_load(cls: type[Method], tmp_path: Path) -> None:
    model, (batch, classes) = build(cls), training_batch()
    if cls is ESZSLFirst:
        model.fit([batch], classes)
    model.eval().save_pretrained(tmp_path)
    loaded = cls.from_pretrained(tmp_path).eval()
    assert loaded.config == model.config
    assert torch.equal(loaded.distances(batch, classes), model.distances(batch, classes))


@every_trained
def test_clips_of_unseen_classes_are_told_apart_after_training(cls: type[Method]) -> None:
    model, seen = build(cls).train(), 20
    batch, classes = training_batch(clips=60, seen=seen)
    optimisers = model.optimisers(TrainingConfig(learning_rate=1e-2, weight_decay=0.0))
    first = total(model.step(batch, classes, optimisers))
    for number in range(60):
        batch, _ = training_batch(seed=number, clips=60, seen=seen)
        last = total(model.step(batch, classes, optimisers))
    assert last < first
    candidates = make_classes(seen)
    labels = torch.arange(5 * len(candidates)) % len(candidates)
    test = make_batch(candidates, labels, seed=999)
    with torch.no_grad():
        found = nearest(model.eval().distances(test, candidates), candidates.seen)
    result = evaluate(found, labels, candidates, bias=0.0, bias_search="none")
    assert result.seen > 5 / len(candidates)
    assert result.zsl > 1.5 / UNSEEN


@every_trained
def test_every_trained_parameter_gets_a_gradient(cls: type[Method]) -> None:
    model, (batch, classes) = build(cls).train(), training_batch()
    total(model(batch, classes)).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


@every_trained
def test_a_clip_without_sound_is_a_clip_of_zeros(cls: type[Method]) -> None:
    model, (batch, classes) = build(cls).eval(), training_batch()
    nothing = Sequences.from_padded(torch.zeros(CLIPS, 1, AUDIO), torch.zeros(CLIPS, dtype=torch.long))
    zeros = Sequences.from_padded(torch.zeros(CLIPS, 1, AUDIO), torch.ones(CLIPS, dtype=torch.long))
    silent = model.distances(replace(batch, audio=nothing), classes)
    assert silent.isfinite().all()
    assert torch.equal(silent, model.distances(replace(batch, audio=zeros), classes))


@pytest.mark.parametrize("cls", [CJME, AVGZSLNet, AVCA, AVMST])
def test_missing_negatives_are_named(cls: type[Method]) -> None:
    batch, classes = training_batch()
    assert cls.needs_negatives
    with pytest.raises(SacmaError, match=r"batch\.negatives is None"):
        build(cls).loss(replace(batch, negatives=None), classes)


@every_method
def test_features_of_another_width_are_refused(cls: type[Method]) -> None:
    classes = make_classes()
    batch = make_batch(classes, torch.arange(4), video_width=VIDEO + 1)
    with pytest.raises(SacmaError, match=f"video features {VIDEO} wide, not {VIDEO + 1}"):
        build(cls).distances(batch, classes)


@every_trained
def test_released_weights_with_wrong_keys_or_sizes_are_named(cls: type[Method]) -> None:
    model = build(cls, **({"video_width": AUDIO} if cls is AVMST else {}), variant="published")
    with pytest.raises(
        SacmaError, match=rf"published {cls.__name__} state: missing .* unknown \['nonsense'\]"
    ):
        model.load_published({"nonsense": torch.zeros(1)})


def released(model: Method) -> dict[str, Tensor]:
    """Our state under the names of the released code."""
    state: dict[str, Tensor] = {}
    for key, own in model.state_dict().items():
        name, value = key, own
        for pattern, replacement in RELEASED:
            name = re.sub(pattern, replacement, name)
        if "to_queries" in name:
            keys_values = model.state_dict()[key.replace("to_queries", "to_keys_values")]
            name, value = name.replace("to_queries", "to_qkv"), torch.cat([value, keys_values])
        if not ("to_keys_values" in name or any(part in key for part in model.UNPUBLISHED)):
            state[name] = value[..., None, None] if isinstance(model, APN) else value
    return state


RELEASED = [
    (r"^audio_net", "triplet_net.embedding_net1.fc"),
    (r"^video_net", "triplet_net.embedding_net2.fc"),
    (r"^text_net", "triplet_net.embedding_net3.fc"),
    (r"^decoder", "decoder_net.embedding_net.fc"),
    (r"^attention\.", "attention_model."),
    (r"^attributes\.weight", "ALE_vector"),
    (r"^prototypes\.weight", "prototype_vectors.layer4"),
    (r"^position", "pos_emb1D"),
    (r"^audio_encoder", "A_enc.fc"),
    (r"^video_encoder", "V_enc.fc"),
    (r"^audio_projection", "A_proj.fc"),
    (r"^video_projection", "V_proj.fc"),
    (r"^text_projection", "W_proj.fc"),
    (r"^audio_reconstruction", "A_rec.fc"),
    (r"^video_reconstruction", "V_rec.fc"),
    (r"^text_reconstruction", "D.fc"),
    (r"^(audio|video)_spiking\.hidden\.", r"SNNbranch\1.fc.0."),
    (r"^(audio|video)_spiking\.out\.", r"SNNbranch\1.fc.2."),
    (r"^transformer\.(\d+)\.norm", r"cross_attention.layers.\1.0.norm"),
    (r"^transformer\.(\d+)\.second_norm", r"cross_attention.layers.\1.1.norm"),
    (r"^transformer\.(\d+)\.out", r"cross_attention.layers.\1.0.fn.to_out.0"),
    (r"^transformer\.(\d+)\.feed_forward", r"cross_attention.layers.\1.1.fn.net"),
    (r"^transformer\.(\d+)\.to_", r"cross_attention.layers.\1.0.fn.to_"),
]


@every_trained
def test_released_weights_of_any_depth_are_read(cls: type[Method]) -> None:
    changes: dict[str, Any] = {"depth": 3} if issubclass(cls, AVCA) else {}
    one_width = {"video_width": AUDIO, "variant": "published"}
    model = build(cls, **one_width, **changes)
    torch.manual_seed(5)
    other = cls(**{**vars(model.config)})
    other.load_published(released(model))
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key
    wrong = {key: value[..., None] if value.ndim == 1 else value for key, value in released(model).items()}
    wrong |= {key: value[:-1] for key, value in wrong.items() if value.ndim > 1}
    with pytest.raises(SacmaError, match=r"of other sizes: .* set the widths"):
        other.load_published(wrong)


@pytest.mark.parametrize("name", METHODS)
def test_presets_fit_the_method(name: str) -> None:
    table = yaml.safe_load(resources.files("sacma").joinpath(f"presets/{name}.yaml").read_text())
    benchmarks = {f"{b}/{f}" for b in ("ucf", "activitynet", "vggsound") for f in ("selavi", "c3d-vggish")}
    assert set(table) == {"not_in_paper", "small"} | benchmarks
    run = set(TrainingConfig.__dataclass_fields__)
    known = run | set(options_of(METHODS[name].Config))
    assert set(table["not_in_paper"]) <= known
    for key in benchmarks | {"small"}:
        options = table[key]
        TrainingConfig(**{k: v for k, v in options.items() if k in run})
        METHODS[name](
            audio_width=4, video_width=4, text_width=4, **{k: v for k, v in options.items() if k not in run}
        )
        assert key == "small" or set(options) <= set(table["not_in_paper"])


# DeViSE, ALE, SJE


@pytest.mark.parametrize("cls", [DeViSE, ALE, SJE])
def test_bilinear_loss_by_hand(cls: type[Method]) -> None:
    model, (batch, classes) = build(cls, norm_inputs=True), training_batch()
    x = torch.cat([batch.video.mean(), batch.audio.mean()], dim=1)
    weight, costs = model.bilinear.weight, []
    for clip, label in enumerate(batch.labels.tolist()):
        unit = x[clip] / x[clip].norm()
        s = [torch.dot(weight.detach() @ unit, vector) for vector in classes.vectors]
        c = [max(0.0, float(0.1 + s[j] - s[label])) for j in range(SEEN) if j != label]
        rank = sum(cost > 0 for cost in c)
        weights = {DeViSE: 1.0, SJE: 1.0, ALE: sum(1 / (r + 1) for r in range(rank)) / max(rank, 1)}
        costs.append(max(c) if cls is SJE else weights[cls] * sum(c))
    assert total(model.loss(batch, classes)).item() == pytest.approx(sum(costs) / CLIPS, rel=1e-5)


def test_bilinear_methods_test_by_the_score_that_they_train() -> None:
    batch, classes = training_batch()
    longer = replace(classes, vectors=classes.vectors * torch.arange(1, SEEN + 1)[:, None])
    corrected, published = build(DeViSE).eval(), build(DeViSE, variant="published").eval()
    x = torch.cat([batch.video.mean(), batch.audio.mean()], dim=1) @ corrected.bilinear.weight.T
    torch.testing.assert_close(corrected.distances(batch, longer), -(x @ longer.vectors.T))
    expected = (x[:, None] - longer.vectors).norm(dim=2)
    torch.testing.assert_close(published.distances(batch, longer), expected)


# APN


@pytest.mark.parametrize("variant", ["corrected", "published"])
def test_apn_loss_by_hand(variant: str) -> None:
    model, (batch, classes) = build(APN, variant=variant), training_batch()
    for weight in model.parameters():
        nn.init.normal_(weight)
    x = torch.cat([batch.video.mean(), batch.audio.mean()], dim=1)
    expected = torch.zeros(())
    for weight in (model.attributes.weight, model.prototypes.weight):
        f = x @ weight.T
        p = (f @ classes.vectors.T).softmax(dim=1)
        p = p.softmax(dim=1) if variant == "published" else p
        expected = expected - p[torch.arange(CLIPS), batch.labels].log().mean()
        expected = expected + ((f - batch.text) ** 2).mean()
    torch.testing.assert_close(total(model.loss(batch, classes)), expected)


# CJME


def euclid(x: Tensor, y: Tensor) -> float:
    return math.sqrt(sum((a - b + 1e-6) ** 2 for a, b in zip(x.tolist(), y.tolist(), strict=True)))


def triplets(anchor: Tensor, positive: Tensor, negative: Tensor) -> list[float]:
    return [
        max(0.0, 1 + euclid(a, p) - euclid(a, n)) for a, p, n in zip(anchor, positive, negative, strict=True)
    ]


@pytest.mark.parametrize("variant", ["corrected", "published"])
@torch.no_grad()
def test_cjme_weighs_each_clip_by_its_own_attention(variant: str) -> None:
    model, (batch, classes) = build(CJME, variant=variant).eval(), training_batch()
    assert batch.negatives is not None
    nn.init.normal_(model.attention[1].weight)
    audio, video = batch.audio.mean(), batch.video.mean()
    t, a, v = model.text_net(batch.text), model.audio_net(audio), model.video_net(video)
    t_a = triplets(t, a, model.audio_net(batch.negatives.audio.mean()))
    t_v = triplets(t, v, model.video_net(batch.negatives.video.mean()))
    alpha = model.attend(audio, video).tolist()
    each = [(1 - w) * x + w * y for w, x, y in zip(alpha, t_a, t_v, strict=True)]
    mixed = [(1 - w) * x + w * y for w in alpha for x, y in zip(t_a, t_v, strict=True)]
    wanted = each if variant == "corrected" else mixed
    found = float(model.loss(batch, classes)["triplet"])
    assert found == pytest.approx(sum(wanted) / len(wanted), rel=1e-4)
    assert sum(each) / len(each) != pytest.approx(sum(mixed) / len(mixed), rel=1e-3)


def test_cjme_supervision_follows_the_surer_modality() -> None:
    model = build(CJME)
    text = torch.eye(3)
    sure, vague = torch.tensor([9.0, 0, 0]), torch.tensor([0.1, 0, 0])
    a = torch.stack([sure, vague, sure, vague])
    v = torch.stack([vague, sure, sure, vague])
    assert model.supervision(a, v, text).tolist() == [0, 1, 0.5, 0.5]


@torch.no_grad()
def test_cjme_attention_picks_the_modality_that_decides() -> None:
    model, (batch, classes) = build(CJME).eval(), training_batch()
    nn.init.normal_(model.attention[1].weight)
    alpha = model.attend(*model.averaged(batch))
    assert 0 < (alpha >= 0.5).sum() < CLIPS
    found = {output: model.distances(batch, classes, output=output) for output in model.OUTPUTS}
    for clip, share in enumerate(alpha):
        assert torch.equal(found["both"][clip], found["video" if share >= 0.5 else "audio"][clip])


# AVGZSLNet


@torch.no_grad()
def test_avgzslnet_loss_by_hand() -> None:
    model, (batch, classes) = build(AVGZSLNet).eval(), training_batch()
    assert batch.negatives is not None
    positive, negative = (
        {
            "a": model.audio_net(b.audio.mean()),
            "v": model.video_net(b.video.mean()),
            "t": model.text_net(b.text),
        }
        for b in (batch, batch.negatives)
    )
    g = {x: F.normalize(model.decoder(positive[x]), dim=1) for x in "avt"}
    other_g = {x: F.normalize(model.decoder(negative[x]), dim=1) for x in "av"}
    expected = sum(float((g[x] - batch.text).norm(dim=1).mean()) for x in "avt")
    for x in "av":
        for anchor, near, far in (
            (g["t"], g[x], other_g[x]),
            (positive["t"], positive[x], negative[x]),
            (positive[x], positive["t"], negative["t"]),
        ):
            expected += sum(triplets(anchor, near, far)) / CLIPS
    assert float(total(model.loss(batch, classes))) == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_avgzslnet_distance_is_the_sum_over_modalities() -> None:
    model, (batch, classes) = build(AVGZSLNet).eval(), training_batch()
    both = model.distances(batch, classes)
    parts = [model.distances(batch, classes, output=output) for output in ("audio", "video")]
    torch.testing.assert_close(both, parts[0] + parts[1])


# AVCA


def avca_loss_by_hand(model: AVCA, phi: list[dict[str, Tensor]], batch: Batch) -> float:
    """The loss from phi of the clips and of their negatives, both {"a", "v"}, in eval mode."""
    assert batch.negatives is not None
    theta: list[dict[str, Tensor]] = []
    for part, text in zip(phi, (batch.text, batch.negatives.text), strict=True):
        tokens = torch.stack([part["a"], part["v"]], dim=1) + model.position  # (B, 2, D)
        out = tokens
        for layer in model.transformer:
            normed = layer.norm(out)
            heads = [x.chunk(3, dim=2) for x in (layer.to_queries(normed), *_halves(layer, normed))]
            mixed = [
                (q @ k.transpose(1, 2) / math.sqrt(q.shape[2])).softmax(dim=2) @ v
                for q, k, v in zip(*heads, strict=True)
            ]
            out = out + layer.out(torch.cat(mixed, dim=2))
            out = out + layer.feed_forward(layer.second_norm(out))
        a, v = part["a"] + out[:, 0], part["v"] + out[:, 1]
        theta.append(
            {"a": model.audio_projection(a), "v": model.video_projection(v), "w": model.text_projection(text)}
        )
    near, far = theta
    rho, other_rho = ({x: model.text_reconstruction(t[x]) for x in "avw"} for t in theta)
    rebuild = {"a": model.audio_reconstruction, "v": model.video_reconstruction}
    mse = [(rho[x], batch.text) for x in "avw"]
    three = []
    for x in "av":
        mse += [(rebuild[x](near[x]), phi[0][x]), (near[x], near["w"])]
        three += [
            (rho["w"], rho[x], other_rho[x]),
            (near["w"], near[x], far[x]),
            (near[x], near["w"], far["w"]),
            (near[x], near["w"], far[x]),
            (near["w"], near[x], far["w"]),
        ]
    return sum(float(((x - y) ** 2).mean()) for x, y in mse) + sum(sum(triplets(*t)) / CLIPS for t in three)


def _halves(layer: nn.Module, normed: Tensor) -> tuple[Tensor, ...]:
    return layer.to_keys_values(normed).chunk(2, dim=2)


@pytest.mark.parametrize("depth", [1, 2])
@torch.no_grad()
def test_avca_loss_by_hand(depth: int) -> None:
    model, (batch, classes) = build(AVCA, depth=depth).eval(), training_batch()
    assert isinstance(model, AVCA)
    assert batch.negatives is not None
    phi = [
        {"a": model.audio_encoder(b.audio.mean()), "v": model.video_encoder(b.video.mean())}
        for b in (batch, batch.negatives)
    ]
    expected = avca_loss_by_hand(model, phi, batch)
    assert float(total(model.loss(batch, classes))) == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_avca_scores_with_the_video() -> None:
    model, (batch, classes) = build(AVCA).eval(), training_batch()
    theta, text = model.embed(batch), model.text_projection(classes.vectors)
    assert model.default_output == "theta_v"
    torch.testing.assert_close(model.distances(batch, classes), torch.cdist(theta["theta_v"], text))
    by_audio = model.distances(batch, classes, output="theta_a")
    torch.testing.assert_close(by_audio, torch.cdist(theta["theta_a"], text))


def passes_of_a_step(variant: str) -> dict[str, int]:
    """Number of times that one step updates the statistics of each network's last BatchNorm."""
    model, (batch, classes) = build(AVCA, variant=variant).train(), training_batch()
    model.step(batch, classes, model.optimisers(TrainingConfig()))
    state = model.state_dict()
    ends = [key for key in state if key.endswith("num_batches_tracked")]
    return {key.split(".")[0]: int(state[key]) for key in ends}


def test_avca_passes_without_effect_only_in_the_published_variant() -> None:
    both = {"audio_encoder": 2, "video_encoder": 2, "audio_projection": 2, "video_projection": 2}
    both |= {"text_projection": 2, "audio_reconstruction": 1, "video_reconstruction": 1}
    assert passes_of_a_step("corrected") == both | {"text_reconstruction": 5}
    more = {"audio_encoder": 3, "video_encoder": 3, "audio_projection": 4, "video_projection": 4}
    assert passes_of_a_step("published") == both | more | {"text_projection": 3, "text_reconstruction": 6}


def test_avca_momentum_is_of_the_second_batchnorm_only() -> None:
    model = build(AVCA, momentum=0.99)
    found = {name: m.momentum for name, m in model.named_modules() if isinstance(m, nn.BatchNorm1d)}
    assert {name for name, momentum in found.items() if momentum == 0.99} == {
        f"{x}_{net}.5" for x in ("audio", "video") for net in ("encoder", "projection")
    }


@pytest.mark.parametrize("cls", [AVCA, AVMST])
@pytest.mark.parametrize("variant", ["corrected", "published"])
def test_what_is_frozen_stays_as_drawn(cls: type[Method], variant: str) -> None:
    model = build(cls, variant=variant, video_width=AUDIO)
    batch, classes = training_batch(video_width=AUDIO)
    before = {name: p.clone() for name, p in model.named_parameters()}
    model.train().step(batch, classes, model.optimisers(TrainingConfig(learning_rate=1e-2)))
    still = {name for name, p in model.named_parameters() if torch.equal(p, before[name])}
    frozen = {name for name in before if name == "position" or "_spiking." in name}
    assert still == (frozen if variant == "published" else set())


# AVMST


def fire(
    layers: list[nn.Linear], x: Tensor, steps: int, state: list[Tensor] | None = None
) -> tuple[Any, Any]:
    """Spike counts of a branch by the definition of integrate-and-fire, neuron by neuron in float lists."""
    volts = state or [torch.zeros(len(x), layer.out_features) for layer in layers]
    count = torch.zeros(len(x), layers[-1].out_features)
    for _ in range(steps):
        values = x
        for index, layer in enumerate(layers):
            volts[index] = volts[index] + layer(values)
            values = (volts[index] >= 1).float()
            volts[index] = torch.where(volts[index] >= 1, 0.0, volts[index])
        count = count + values
    return count, volts


def lively(variant: str) -> tuple[AVMST, Batch, ClassSet]:
    """A model whose branches fire, with features of one width."""
    model = build(AVMST, variant=variant, video_width=AUDIO)
    assert isinstance(model, AVMST)
    with torch.no_grad():
        for branch in (model.audio_spiking, model.video_spiking):
            branch.hidden.weight.mul_(2)
            branch.out.weight.mul_(4)
    return (model.eval(), *training_batch(video_width=AUDIO))


def layers_of(branch: SpikingBranch) -> list[nn.Linear]:
    return [branch.hidden, branch.out]


@torch.no_grad()
def test_spike_rates_of_the_corrected_variant() -> None:
    model, batch, _ = lively("corrected")
    assert batch.negatives is not None
    groups = [model.averaged(batch), model.averaged(batch.negatives)]
    rates = model.spike_rates([a for a, _ in groups], [v for _, v in groups])
    for number, (audio, video) in enumerate(groups):
        for x, branch, found in (
            (audio, model.audio_spiking, rates[0]),
            (video, model.video_spiking, rates[1]),
        ):
            count, _ = fire(layers_of(branch), x, 10)
            assert 0.02 < count.mean() / 10 < 0.9
            torch.testing.assert_close(found[number], count / 10)


@torch.no_grad()
def test_spike_rates_of_the_published_variant_depend_on_what_came_before() -> None:
    model, batch, _ = lively("published")
    assert batch.negatives is not None
    groups = [model.averaged(batch), model.averaged(batch.negatives)]
    rates = model.spike_rates([a for a, _ in groups], [v for _, v in groups])
    audio_layers, video_layers = layers_of(model.audio_spiking), layers_of(model.video_spiking)
    audio_state = video_state = None
    for number, (audio, video) in enumerate(groups):
        count, audio_state = fire(audio_layers, audio, 10, audio_state)
        torch.testing.assert_close(rates[0][number], count / 10)
        count, video_state = fire(video_layers, video, 1, video_state)
        more, audio_state = fire(audio_layers, video, 9, audio_state)
        torch.testing.assert_close(rates[1][number], (count + more) / 10)


@torch.no_grad()
def test_video_rates_ignore_the_audio_unless_published() -> None:
    for variant, same in (("corrected", True), ("published", False)):
        model, batch, _ = lively(variant)
        audio, video = model.averaged(batch)
        _, (first,) = model.spike_rates([audio], [video])
        _, (second,) = model.spike_rates([audio.flip(0)], [video])
        assert torch.equal(first, second) is same


@pytest.mark.parametrize("variant", ["corrected", "published"])
@torch.no_grad()
def test_avmst_loss_by_hand(variant: str) -> None:
    model, batch, classes = lively(variant)
    assert batch.negatives is not None
    groups = [model.averaged(batch), model.averaged(batch.negatives)]
    rates = model.spike_rates([a for a, _ in groups], [v for _, v in groups])
    phi = []
    for number, (audio, video) in enumerate(groups):
        a, v = model.audio_encoder(audio), model.video_encoder(video)
        g_a, g_v = a * rates[0][number].softmax(dim=1), v * rates[1][number].softmax(dim=1)
        p_a, p_v = model.position
        first, _ = model.transform(a + p_a, g_a + p_a)
        _, second = model.transform(v + p_v, g_v + p_v)
        phi.append({"a": first, "v": second})
    expected = avca_loss_by_hand(model, phi, batch)
    assert float(total(model.loss(batch, classes))) == pytest.approx(expected, rel=1e-4)


def test_spikes_have_the_slope_of_a_sigmoid_and_survive_deep_voltages() -> None:
    branch = SpikingBranch(1, 1, 1)
    with torch.no_grad():
        branch.hidden.weight.fill_(1.0)
        branch.hidden.bias.zero_()
        branch.out.weight.fill_(1.0)
        branch.out.bias.zero_()
    for current in (0.9, -60.0):
        x = torch.tensor([[current]], requires_grad=True)
        branch(x, 1)[0].sum().backward()
        assert x.grad is not None
        slope = [4 * s * (1 - s) for s in (torch.tensor(4 * (u - 1)).sigmoid() for u in (current, 0.0))]
        assert x.grad.item() == pytest.approx(float(slope[0] * slope[1]), rel=1e-4)
    count, _ = branch(torch.tensor([[1.0]]), 3)
    assert count.item() == 3  # at the threshold it fires


def test_a_step_of_a_neuron_is_snntorchs_to_the_last_bit() -> None:
    def pass_over(step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, ...]:
        current = torch.linspace(-3, 3, 60).view(5, 12).requires_grad_()
        voltage, fired = torch.zeros(5, 12), []
        for _ in range(7):
            spikes, voltage = step(current, voltage)
            fired.append(spikes)
        weights = torch.linspace(-1, 1, 420).view(7, 5, 12)
        total = (torch.stack(fired) * weights).sum() + voltage.square().sum()
        return torch.stack(fired), voltage.detach(), *torch.autograd.grad(total, current)

    neurons = SpikingBranch(2, 12, 4).hidden_neurons
    ours, theirs = pass_over(lambda c, v: one_step(neurons, c, v)), pass_over(neurons)
    assert 0 < ours[0].mean() < 1
    assert ours[0].equal(theirs[0])
    assert ours[1].equal(theirs[1])
    torch.testing.assert_close(ours[2], theirs[2], rtol=1e-6, atol=1e-6)


def test_a_branch_keeps_no_graph_of_its_last_pass() -> None:
    branch = SpikingBranch(2, 3, 4)
    branch(torch.ones(5, 2), 2)
    for neurons in (branch.hidden_neurons, branch.out_neurons):
        assert neurons.mem.numel() == 0


def test_published_avmst_needs_features_of_one_width() -> None:
    with pytest.raises(SacmaError, match="video_uses_audio_snn needs audio and video features of one width"):
        build(AVMST, variant="published")


def test_without_snntorch_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "snntorch", None)
    with pytest.raises(SacmaError, match=r"pip install .sacma\[spiking\]"):
        build(AVMST)


# ESZSLFirst


def eszsl_objective(matrix: Tensor, batch: Batch, classes: ClassSet, gamma: float, ridge: float) -> Tensor:
    """|XVS' - Y|^2 + gamma |VS'|^2 + lambda |XV|^2 + gamma lambda |V|^2 over the seen classes."""
    x = torch.cat([batch.video.mean(), batch.audio.mean()], dim=1).double()
    s = classes.vectors[classes.seen].double()
    y = torch.full((CLIPS, SEEN), -1.0, dtype=torch.double)
    y[torch.arange(CLIPS), batch.labels] = 1
    fit = (x @ matrix @ s.T - y).square().sum()
    both = gamma * (matrix @ s.T).square().sum() + ridge * (x @ matrix).square().sum()
    return fit + both + gamma * ridge * matrix.square().sum()


@pytest.mark.parametrize(("gamma", "ridge"), [(1.0, 1.0), (0.03, 5.0)])
def test_eszsl_is_where_the_objective_has_no_slope(gamma: float, ridge: float) -> None:
    classes = make_classes()
    batch = make_batch(classes, torch.arange(CLIPS) % SEEN)
    model = build(ESZSLFirst, gamma=gamma, lambda_=ridge)
    model.fit([batch], classes)
    matrix = model.compatibility.double().requires_grad_(True)
    (slope,) = torch.autograd.grad(eszsl_objective(matrix, batch, classes, gamma, ridge), matrix)
    scale = eszsl_objective(torch.zeros_like(matrix), batch, classes, gamma, ridge)
    assert slope.abs().max() < 1e-5 * scale
    off = (1.01 * model.compatibility.double()).requires_grad_(True)
    (slope,) = torch.autograd.grad(eszsl_objective(off, batch, classes, gamma, ridge), off)
    assert slope.abs().max() > 1e-4 * scale


def test_eszsl_does_not_look_at_unseen_candidates() -> None:
    classes = make_classes()
    batch = make_batch(classes, torch.arange(CLIPS) % SEEN)
    others = replace(classes, vectors=torch.where(classes.seen[:, None], classes.vectors, 7.0))
    first, second = build(ESZSLFirst), build(ESZSLFirst)
    first.fit([batch], classes)
    second.fit([batch], others)
    assert torch.equal(first.compatibility, second.compatibility)
    with pytest.raises(SacmaError, match="unseen class"):
        first.fit([make_batch(classes, torch.full((CLIPS,), SEEN))], classes)


def test_eszsl_tells_unseen_classes_apart() -> None:
    classes = make_classes()
    model = build(ESZSLFirst, gamma=1.0, lambda_=1.0)
    model.fit([make_batch(classes, torch.arange(60) % SEEN)], classes)
    labels = torch.arange(90) % (SEEN + UNSEEN)
    test = make_batch(classes, labels, seed=999)
    found = nearest(model.distances(test, classes), classes.seen)
    result = evaluate(found, labels, classes, bias=0.0, bias_search="none")
    assert result.seen > 0.5
    assert result.zsl > 1.3 / UNSEEN


def test_eszsl_tries_another_pair_of_ridges_in_each_epoch() -> None:
    model, (batch, classes) = build(ESZSLFirst), training_batch()
    pairs, matrices = [], []
    for _ in range(49):
        model.step(batch, classes, [])
        model.fit([batch], classes)
        pairs.append(model.ridges())
        matrices.append(model.compatibility.clone())
    assert pairs[0] == (1e3, 1e3)
    assert len(set(pairs)) == 49
    fixed = build(ESZSLFirst, gamma=pairs[30][0], lambda_=pairs[30][1])
    fixed.fit([batch], classes)
    torch.testing.assert_close(fixed.compatibility, matrices[30])


def test_eszsl_has_nothing_to_step() -> None:
    model, (batch, classes) = build(ESZSLFirst), training_batch()
    model.fit([batch], classes)
    before = model.compatibility.clone()
    optimisers = model.optimisers(TrainingConfig())
    terms = model.step(batch, classes, optimisers)
    assert optimisers == []
    assert torch.equal(model.compatibility, before)
    untrained = build(ESZSLFirst).step(batch, classes, [])
    assert total(terms) < total(untrained)


@pytest.mark.parametrize("option", ["gamma", "lambda_"])
def test_eszsl_needs_ridges_above_zero(option: str) -> None:
    with pytest.raises(SacmaError, match=f"{option} is 0"):
        build(ESZSLFirst, **{option: 0})
