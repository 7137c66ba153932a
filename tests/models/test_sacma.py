"""SACMA against a slow literal reference; what must not change its embeddings: order, company, padding."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sacma.errors import SacmaError
from sacma.models.sacma import SACMA
from sacma.options import TrainingConfig, options_of, to_options
from sacma.runs.folder import load_model, save_model
from sacma.training.evaluation import score
from sacma.types import Batch, ClassSet, Padded, Sequences

AUDIO, VIDEO, TEXT, CLASSES = 5, 7, 6, 4
SMALL: dict[str, Any] = {
    "audio_width": AUDIO,
    "video_width": VIDEO,
    "text_width": TEXT,
    "width": 12,
    "common_width": 8,
    "encoder_hidden": 10,
    "decoder_hidden": 9,
    "depth": 2,
    "heads": 3,
    "head_width": 5,
    "feed_forward_hidden": 11,
}
# Steps of audio and of video of each clip, clips without one or both of them included.
Lengths = Sequence[tuple[int, int]]
lengths_of_clips = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=5)
MIXED: Lengths = [(3, 2), (1, 1), (0, 4), (5, 0), (2, 6), (0, 0)]
thorough = settings(max_examples=25, deadline=None)


def model(seed: int = 0, **changed: Any) -> SACMA:
    """In eval mode, with BatchNorm statistics and norms that are not those of a fresh one."""
    torch.manual_seed(seed)
    method = SACMA(**{**SMALL, **changed})
    for module in method.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.LayerNorm):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    return method.eval()


def sequences(lengths: Sequence[int], width: int, step: float, seed: int) -> Sequences:
    generator = torch.Generator().manual_seed(seed)
    counts = torch.tensor(list(lengths), dtype=torch.long)
    values = torch.randn(int(counts.sum()), width, generator=generator)
    seconds = torch.cat([step * torch.arange(count) for count in counts.tolist()]).float()
    return Sequences(values, counts, seconds, max(lengths))


def batch(lengths: Lengths, seed: int = 0) -> Batch:
    """Audio every half second, video every second; classes go round."""
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(CLASSES, TEXT, generator=generator)
    labels = torch.arange(len(lengths)) % CLASSES
    return Batch(
        sequences([a for a, _ in lengths], AUDIO, 0.5, seed + 1),
        sequences([v for _, v in lengths], VIDEO, 1.0, seed + 2),
        labels,
        vectors[labels],
    )


def pick(one: Batch, clips: Sequence[int]) -> Batch:
    """Some clips of a batch, in some order."""

    def of(track: Sequences) -> Sequences:
        parts = track.lengths.tolist()
        values, seconds = track.values.split(parts), track.seconds.split(parts)
        return Sequences(
            torch.cat([values[clip] for clip in clips]),
            track.lengths[list(clips)],
            torch.cat([seconds[clip] for clip in clips]),
            max(parts[clip] for clip in clips),
        )

    rows = list(clips)
    return Batch(of(one.audio), of(one.video), one.labels[rows], one.text[rows])


@torch.no_grad()
def embedded(method: SACMA, one: Batch, streams: str = "avm") -> dict[str, Tensor]:
    return method.embed(one, streams=streams)


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for stream, values in found.items():
        torch.testing.assert_close(values, expected[stream], rtol=1e-5, atol=1e-5)


# --- The literal reference ------------------------------------------------------------------------


def net(module: torch.nn.Module, row: Tensor) -> Tensor:
    """Linear, BatchNorm with its running statistics, ReLU, once or twice."""
    for layer in module:  # type: ignore[attr-defined]
        if isinstance(layer, torch.nn.Linear):
            row = layer.weight.double() @ row + layer.bias.double()
        elif isinstance(layer, torch.nn.BatchNorm1d):
            deviation = (layer.running_var.double() + layer.eps).sqrt()
            row = (row - layer.running_mean.double()) / deviation
            row = row * layer.weight.double() + layer.bias.double()
        elif isinstance(layer, torch.nn.ReLU):
            row = row.clamp(min=0)
    return row


def layer_norm(norm: torch.nn.LayerNorm, row: Tensor) -> Tensor:
    centred = row - row.mean()
    scaled = centred / (centred.square().mean() + norm.eps).sqrt()
    return scaled * norm.weight.double() + norm.bias.double()


def tokens_of(method: SACMA, track: Sequences, clip: int, number: int) -> list[Tensor]:
    """(1): the steps of one modality of one clip, encoded, with modality and time; number is 0 for audio."""
    steps = track.values.split(track.lengths.tolist())[clip].double()
    seconds = track.seconds.split(track.lengths.tolist())[clip].tolist()
    position = method.trunk.steps.position
    if number == 0:
        steps = steps / 255
    elif len(steps):
        steps = steps / torch.stack([channel.square().sum().sqrt() for channel in steps.T])
    encoder = (method.trunk.steps.audio, method.trunk.steps.video)[number]
    project = (position.project_audio, position.project_video)[number]
    tokens = []
    for place, row in enumerate(steps):
        time = seconds[place] if method.config.quirks.eval_time == "seconds" else float(place)
        angles = [2 * math.pi * time * float(r) for r in position.frequencies.double().sum(0)]
        waves = torch.tensor([math.sin(a) for a in angles] + [math.cos(a) for a in angles]).double()
        when = position.time.weight.double() @ waves + position.time.bias.double()
        which = position.modality.weight[number].double()
        joined = torch.cat([net(encoder, row), when + which])
        tokens.append(project.weight.double() @ joined + project.bias.double())
    return tokens


def sees(row: int, column: int, kinds: str, stream: str, method: SACMA) -> bool:
    """(3): within the joint input a step sees the class token and the other modality."""
    if stream != "m" or method.config.joint_attention == "self" or "c" in (kinds[row], kinds[column]):
        return True
    return kinds[row] != kinds[column]


def class_token(method: SACMA, tokens: list[Tensor], kinds: str, stream: str) -> Tensor:
    """(2) to (6), a token, a head and a score at a time."""
    c = method.config
    mean = {"a": c.audio_attention, "v": c.video_attention, "m": "self"}[stream] == "mean"
    for layer in method.trunk.transformer.layers:
        d = c.head_width
        normed = [layer_norm(layer.norm, token) for token in tokens]
        queries = [layer.to_queries.weight.double() @ token for token in normed]
        keys_values = [layer.to_keys_values.weight.double() @ token for token in normed]
        after = []
        for i, token in enumerate(tokens):
            heads = []
            for head in range(c.heads):
                part = slice(head * d, (head + 1) * d)
                values_part = slice((c.heads + head) * d, (c.heads + head + 1) * d)
                seen = [j for j in range(len(tokens)) if sees(i, j, kinds, stream, method)]
                scores = [float(queries[i][part] @ keys_values[j][part]) / math.sqrt(d) for j in seen]
                powers = [1.0 if mean else math.exp(s - max(scores)) for s in scores]
                heads.append(
                    sum(
                        p / sum(powers) * keys_values[j][values_part]
                        for p, j in zip(powers, seen, strict=True)
                    )
                )
            out = layer.out.weight.double() @ torch.cat(heads) + layer.out.bias.double()  # type: ignore[arg-type]
            attended = token + out
            first, _, _, second, _ = layer.feed_forward
            norm = layer.norm if c.quirks.layer_norms == "shared" else layer.second_norm
            hidden = first.weight.double() @ layer_norm(norm, attended) + first.bias.double()
            hidden = hidden * (1 + torch.erf(hidden / math.sqrt(2))) / 2
            after.append(attended + second.weight.double() @ hidden + second.bias.double())
        tokens = after
    return tokens[0]


@torch.no_grad()
def reference(method: SACMA, one: Batch) -> dict[str, Tensor]:
    """phi_a, phi_v and phi_m, clip by clip."""
    phi: dict[str, list[Tensor]] = {stream: [] for stream in "avm"}
    for clip in range(len(one)):
        audio, video = (tokens_of(method, t, clip, n) for n, t in enumerate((one.audio, one.video)))
        inputs = {"a": audio, "v": video, "m": audio + video}
        for stream, steps in inputs.items():
            kinds = {"a": "c" + "a" * len(audio), "v": "c" + "v" * len(video)}.get(
                stream, "c" + "a" * len(audio) + "v" * len(video)
            )
            start = method.trunk.class_token.double()
            pooled = class_token(method, [start, *steps], kinds, stream)
            name = "shared" if method.config.quirks.projections == "shared" else stream
            phi[stream].append(net(method.projections[name], pooled).float())
    return {stream: torch.stack(rows) for stream, rows in phi.items()}


@given(lengths=lengths_of_clips, seed=st.integers(0, 100))
@thorough
def test_embeddings_are_those_of_the_literal_reference(lengths: Lengths, seed: int) -> None:
    method, one = model(), batch(lengths, seed)
    assert_close(embedded(method, one), reference(method, one))


@pytest.mark.parametrize(
    "changed",
    [
        {"audio_attention": "mean"},
        {"video_attention": "mean"},
        {"audio_attention": "mean", "video_attention": "mean", "joint_attention": "self"},
        {"joint_attention": "self"},
        {"layer_norms": "shared"},
        {"projections": "shared"},
        {"eval_time": "index"},
        {"depth": 1, "heads": 1},
    ],
    ids=str,
)
def test_ablations_are_those_of_the_literal_reference(changed: dict[str, Any]) -> None:
    method, one = model(**changed), batch(MIXED)
    expected = reference(method, one)
    assert all(float(values.max()) > 0.01 for values in expected.values())  # ReLU has not put all out
    assert_close(embedded(method, one), expected)


def test_published_variant_is_that_of_the_literal_reference() -> None:
    method = model(**SACMA.VARIANTS["published"])
    assert_close(embedded(method, batch(MIXED)), reference(method, batch(MIXED)))


def test_distances_are_euclidean_from_phi_m_to_the_text_of_each_class() -> None:
    method, one = model(), batch(MIXED)
    classes = ClassSet(tuple("wxyz"), torch.randn(CLASSES, TEXT), torch.tensor([True, True, False, False]))
    with torch.no_grad():
        found = method.distances(one, classes)
        phi = embedded(method, one, "m")["m"]
        text = torch.stack([net(method.text_projection, row.double()) for row in classes.vectors]).float()
    expected = torch.tensor([[math.dist(p, t) for t in text.tolist()] for p in phi.tolist()])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# --- What must not matter -------------------------------------------------------------------------


@given(lengths=lengths_of_clips, seed=st.integers(0, 100), data=st.data())
@thorough
def test_order_in_the_batch_does_not_matter(lengths: Lengths, seed: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(lengths))))
    method, one = model(), batch(lengths, seed)
    expected = {stream: values[order] for stream, values in embedded(method, one).items()}
    assert_close(embedded(method, pick(one, order)), expected)


@given(lengths=lengths_of_clips, seed=st.integers(0, 100))
@thorough
def test_a_clip_alone_is_as_among_others(lengths: Lengths, seed: int) -> None:
    method, one = model(), batch(lengths, seed)
    together = embedded(method, one)
    for clip in range(len(one)):
        alone = embedded(method, pick(one, [clip]))
        assert_close(alone, {stream: values[clip : clip + 1] for stream, values in together.items()})


@given(lengths=lengths_of_clips, more=st.integers(1, 4), seed=st.integers(0, 100))
@thorough
def test_what_stands_in_the_padding_does_not_matter(lengths: Lengths, more: int, seed: int) -> None:
    method, one = model(), batch(lengths, seed)

    def padded(track: Sequences) -> Sequences:
        steps = track.longest + more
        values = torch.full((len(track.lengths), steps, track.values.shape[1]), torch.nan)
        seconds = torch.full((len(track.lengths), steps), 1e9)
        valid = torch.arange(steps) < track.lengths[:, None]
        values[valid], seconds[valid] = track.values, track.seconds
        return Sequences.from_padded(values, track.lengths, seconds)

    again = replace(one, audio=padded(one.audio), video=padded(one.video))
    assert_close(embedded(method, again), embedded(method, one))


@pytest.mark.parametrize("missing", ["audio", "video", "both"])
@pytest.mark.parametrize("variant", SACMA.VARIANTS)
def test_a_missing_modality_gives_finite_embeddings_of_the_other(missing: str, variant: str) -> None:
    """All clips without a modality are alike to its stream; the other stream is what it would be with it."""
    method = model(**SACMA.VARIANTS[variant])
    lengths = [(0 if missing != "video" else 3, 0 if missing != "audio" else 3)] * 3
    one = batch(lengths)
    found = embedded(method, one)
    assert all(bool(values.isfinite().all()) for values in found.values())
    for stream, absent in (("a", missing != "video"), ("v", missing != "audio")):
        alike = torch.allclose(found[stream][0], found[stream][1])
        assert alike == absent
    whole = batch([(3, 3)] * 3)
    if missing != "both":
        present, name = ("v", "video") if missing == "audio" else ("a", "audio")
        given_both = embedded(method, replace(whole, **{name: getattr(one, name)}))
        torch.testing.assert_close(found[present], given_both[present])
        assert not torch.allclose(found["m"], given_both["m"])


@pytest.mark.parametrize(
    "lengths",
    [
        [(0, 3), (2, 0), (0, 0), (4, 4)],
        [(0, 3), (0, 2)],  # no audio in the whole batch
        [(0, 3), (1, 0)],  # a single step of audio, which has no variance
        [(5, 0), (0, 1)],
        [(0, 0), (0, 0)],
    ],
    ids=str,
)
@pytest.mark.parametrize("variant", SACMA.VARIANTS)
def test_training_bears_missing_modalities(variant: str, lengths: Lengths) -> None:
    method = SACMA(**{**SMALL, **SACMA.VARIANTS[variant]}).train()
    one = batch(lengths)
    classes = ClassSet(tuple("wxyz"), torch.randn(CLASSES, TEXT), torch.ones(CLASSES, dtype=torch.bool))
    (optimiser,) = method.optimisers(TrainingConfig())
    terms = method.step(one, classes, [optimiser])
    assert all(bool(term.isfinite()) for term in terms.values())
    assert all(bool(value.isfinite().all()) for value in method.state_dict().values())
    assert all(module.training for module in method.modules())


@pytest.mark.parametrize("size", [1, 2, 5, 100])
def test_size_of_evaluation_batches_does_not_matter(size: int, tmp_path: Path) -> None:
    import folders
    from sacma.data.benchmark import Benchmark

    root = folders.write_folder(tmp_path / "toy")
    split = Benchmark.open(root, folders.NAME, folders.FEATURES).split("test")
    method = model(
        audio_width=folders.AUDIO_WIDTH, video_width=folders.VIDEO_WIDTH, text_width=folders.TEXT_WIDTH
    )
    expected, found = score(method, split, batch_size=17), score(method, split, batch_size=size)
    torch.testing.assert_close(found.gzsl.margin, expected.gzsl.margin, rtol=1e-4, atol=1e-5)
    assert found.gzsl.seen_class.tolist() == expected.gzsl.seen_class.tolist()
    assert not method.training


def test_only_the_streams_that_are_asked_for_change_nothing_else() -> None:
    method, one = model(), batch(MIXED)
    everything = embedded(method, one)
    for streams in ("a", "v", "m", "am"):
        assert_close(embedded(method, one, streams), {s: everything[s] for s in streams})


# --- Saving ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["published", "standardise", "unit"])
@pytest.mark.parametrize("variant", SACMA.VARIANTS)
def test_saved_and_loaded_it_is_the_same(variant: str, scaling: str, tmp_path: Path) -> None:
    method, one = model(feature_scaling=scaling, **SACMA.VARIANTS[variant]), batch(MIXED)
    method.fit_scaling([one.audio.values * 3 + 1], [one.video.values * 2])
    method.save_pretrained(tmp_path / "hub")
    save_model(method, tmp_path / "run")
    expected = embedded(method, one)
    for loaded in (SACMA.from_pretrained(tmp_path / "hub"), load_model("sacma", tmp_path / "run")):
        assert isinstance(loaded, SACMA)
        assert loaded.config == method.config
        for stream, values in embedded(loaded.eval(), one).items():
            assert torch.equal(values, expected[stream])


# --- Switches -------------------------------------------------------------------------------------


def stepped(**changed: Any) -> tuple[SACMA, dict[str, Tensor]]:
    """A model after one training step on clips of which two share a class, and the terms of its loss."""
    torch.manual_seed(0)
    method = SACMA(**{**SMALL, **changed}).train()
    one = batch([(3, 2), (1, 5), (0, 4), (5, 1), (2, 6), (4, 3)])
    classes = ClassSet(tuple("wxyz"), one.text[:CLASSES], torch.ones(CLASSES, dtype=torch.bool))
    torch.manual_seed(1)
    return method, method.step(one, classes, method.optimisers(TrainingConfig(learning_rate=0.01)))


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    """Names of the tensors that only one of them has, or that are not equal."""
    shared = one.keys() & other.keys()
    return (one.keys() ^ other.keys()) | {name for name in shared if not torch.equal(one[name], other[name])}


@pytest.mark.parametrize("value", ["masked", "positive"])
def test_same_class_changes_the_contrastive_terms_alone(value: str) -> None:
    changed = differing(stepped(same_class=value)[1], stepped()[1])
    assert changed == {f"contrastive_{pair}" for pair in ("t-m", "t-a", "t-v", "a-v", "a-m", "v-m")}


@pytest.mark.parametrize(
    ("weight", "terms"),
    [
        ("weight_ccl", {f"contrastive_{pair}" for pair in ("t-m", "t-a", "t-v", "a-v", "a-m", "v-m")}),
        ("weight_cos", {f"cosine_{pair}" for pair in ("mt", "at", "vt", "av")}),
        ("weight_reg", {f"regression_{stream}" for stream in "avm"}),
        ("weight_rec", {f"reconstruction_{stream}" for stream in "avmt"}),
    ],
)
def test_weights_scale_their_terms_and_0_leaves_them_out(weight: str, terms: set[str]) -> None:
    without, doubled, plain = (
        stepped(**{weight: factor * getattr(model().config, weight)})[1] for factor in (0, 2, 1)
    )
    assert plain.keys() - without.keys() == terms
    assert all(torch.equal(without[name], plain[name]) for name in without)
    for name in plain:
        factor = 2 if name in terms else 1
        torch.testing.assert_close(doubled[name], factor * plain[name])


@pytest.mark.parametrize("pair", ["tm", "ta", "tv", "av", "am", "vm"])
def test_weights_of_pairs_scale_their_contrastive_term(pair: str) -> None:
    plain, other = stepped()[1], stepped(**{f"weight_{pair}": 5.0})[1]
    name = f"contrastive_{pair[0]}-{pair[1]}"
    assert differing(plain, other) == {name}
    torch.testing.assert_close(other[name], 5 / getattr(model().config, f"weight_{pair}") * plain[name])


def test_a_loss_without_terms_is_refused() -> None:
    with pytest.raises(SacmaError, match="weight_ccl"):
        stepped(weight_ccl=0.0, weight_cos=0.0, weight_reg=0.0, weight_rec=0.0)


def test_temperature() -> None:
    changed = differing(stepped(temperature=0.1)[1], stepped()[1])
    assert changed
    assert all(name.startswith("contrastive_") for name in changed)


def test_projections() -> None:
    separate, shared = model().state_dict().keys(), model(projections="shared").state_dict().keys()
    for group in ("projections", "reconstructions"):
        assert {key.split(".")[1] for key in separate if key.startswith(group)} == set("avm")
        assert {key.split(".")[1] for key in shared if key.startswith(group)} == {"shared"}


def test_layer_norms() -> None:
    separate, shared = model().state_dict().keys(), model(layer_norms="shared").state_dict().keys()
    assert {key.split(".")[-2] for key in separate - shared} == {"second_norm"}
    assert shared < separate


def test_padding_in_batchnorm_matters_in_training_alone() -> None:
    excluded, included = model(), model(padding_in_batchnorm="included")
    assert_close(embedded(excluded, batch(MIXED)), embedded(included, batch(MIXED)))
    changed = differing(stepped(padding_in_batchnorm="included")[0].state_dict(), stepped()[0].state_dict())
    assert "trunk.steps.audio.1.running_mean" in changed
    assert "trunk.steps.video.1.running_var" in changed
    # Without padding there is nothing to let in.
    even = batch([(3, 3)] * 4)
    for method in (excluded, included):
        method.train()
        torch.manual_seed(0)
        method.embed(even)
    assert not differing(excluded.state_dict(), included.state_dict())


def test_eval_time_matters_in_evaluation_and_where_steps_are_not_a_second() -> None:
    seconds, index = model(), model(eval_time="index")
    one = batch([(3, 2), (4, 5)])
    found, other = embedded(seconds, one), embedded(index, one)
    assert not torch.allclose(found["a"], other["a"])  # audio comes twice a second
    torch.testing.assert_close(found["v"], other["v"])
    assert_close(other, embedded(seconds, one.by_index()))
    for method in (seconds, index):
        method.train()
    torch.manual_seed(0)
    in_seconds = embedded(seconds, one)
    torch.manual_seed(0)
    assert_close(embedded(index, one), in_seconds)


@pytest.mark.parametrize(
    ("switch", "value", "stream"),
    [("audio_attention", "mean", "a"), ("video_attention", "mean", "v"), ("joint_attention", "self", "m")],
)
def test_attention_switches_change_their_own_stream(switch: str, value: str, stream: str) -> None:
    one = batch([(3, 2), (4, 5)])
    found, other = embedded(model(**{switch: value}), one), embedded(model(), one)
    assert {s for s in "avm" if not torch.allclose(found[s], other[s])} == {stream}


@pytest.mark.parametrize("streams", ["am", "vm", "m"])
def test_streams(streams: str) -> None:
    method, terms = stepped(streams=streams)
    left_out = set("av") - set(streams)
    named = {name.split("_")[1] for name in terms}
    assert not {letter for name in named for letter in name} & left_out
    assert set(method.projections) == set(streams)
    assert {output.removeprefix("phi_") for output in method.outputs} == set(streams)
    for name in left_out:
        classes = ClassSet(("w",), torch.randn(1, TEXT), torch.tensor([True]))
        with pytest.raises(SacmaError, match=f"phi_{name}"):
            method.distances(batch(MIXED), classes, output=f"phi_{name}")


def test_averaged_stream_moves_statistics_and_nothing_else() -> None:
    plain, terms = stepped(projections="shared")
    moved, moved_terms = stepped(projections="shared", averaged_stream=True)
    changed = differing(plain.state_dict(), moved.state_dict())
    assert "projections.shared.1.running_mean" in changed
    assert int(moved.state_dict()["projections.shared.1.num_batches_tracked"]) == 4
    assert int(plain.state_dict()["projections.shared.1.num_batches_tracked"]) == 3
    with pytest.raises(SacmaError, match="averaged_stream"):
        SACMA(**{**SMALL, "averaged_stream": True})
    assert terms.keys() == moved_terms.keys()


def test_extra_train_forward_moves_statistics_after_the_step() -> None:
    plain, terms = stepped()
    moved, moved_terms = stepped(extra_train_forward=True)
    assert not differing(terms, moved_terms)
    changed = differing(plain.state_dict(), moved.state_dict())
    assert changed
    assert all(
        name.rsplit(".", 1)[1] in ("running_mean", "running_var", "num_batches_tracked") for name in changed
    )


@pytest.mark.parametrize("scaling", ["standardise", "unit"])
def test_feature_scaling_takes_the_place_of_the_published_one(scaling: str) -> None:
    """Loud features: the scaled ones do not get louder embeddings, which a division by 255 lets through."""
    method, one = model(feature_scaling=scaling), batch([(3, 2), (4, 5)])

    def louder(factor: float) -> Batch:
        audio, video = (t.with_values(factor * t.values) for t in (one.audio, one.video))
        return replace(one, audio=audio, video=video)

    results = []
    for factor in (1, 1000):
        method.fit_scaling([louder(factor).audio.values], [louder(factor).video.values])
        results.append(embedded(method, louder(factor)))
    assert_close(results[0], results[1])
    published = model()
    assert not torch.allclose(embedded(published, louder(1000))["a"], embedded(published, one)["a"])


SWITCHES = {
    name: get_args(one.type) for name, one in options_of(SACMA.Config).items() if "Literal" in str(one.type)
}


@pytest.mark.parametrize("switch", SWITCHES)
def test_wrong_values_of_switches_are_refused(switch: str) -> None:
    choices = SWITCHES[switch]
    with pytest.raises(SacmaError, match=f"{switch} is 'nonsense'.*{choices[0]}"):
        SACMA(**{**SMALL, switch: "nonsense"})
    for choice in choices:
        assert to_options(SACMA(**{**SMALL, switch: choice}).config)[switch] == choice


def test_unknown_hyperparameters_are_refused() -> None:
    with pytest.raises(SacmaError, match="colour"):
        SACMA(**SMALL, colour="red")


# --- Learning -------------------------------------------------------------------------------------


def test_every_parameter_learns() -> None:
    method = SACMA(**SMALL).train()
    before = copy.deepcopy(method.state_dict())
    one = batch([(3, 2), (1, 5), (2, 4), (5, 1)])
    classes = ClassSet(tuple("wxyz"), one.text, torch.ones(CLASSES, dtype=torch.bool))
    method.step(one, classes, method.optimisers(TrainingConfig(learning_rate=0.01)))
    still = {name for name, parameter in method.named_parameters() if torch.equal(parameter, before[name])}
    assert not still


def test_labels_and_text_are_not_read_for_distances() -> None:
    method, one = model(), batch(MIXED)
    classes = ClassSet(tuple("wxyz"), torch.randn(CLASSES, TEXT), torch.ones(CLASSES, dtype=torch.bool))
    blind = replace(one, labels=one.labels * 0 - 1, text=torch.full_like(one.text, torch.nan))
    with torch.no_grad():
        assert torch.equal(method.distances(blind, classes), method.distances(one, classes))


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_features_of_another_width_are_refused(kind: str) -> None:
    one = batch(MIXED)
    wrong = sequences([1] * len(one), 3, 1.0, 0)
    with pytest.raises(SacmaError, match=f"{kind} features . wide, not 3"):
        model().embed(replace(one, **{kind: wrong}))


@thorough
@given(lengths_of_clips)
def test_on_averages_it_is_the_same_network_on_one_step_a_clip(lengths: Lengths) -> None:
    clips = batch(lengths)
    one_step = replace(
        clips,
        **{
            name: Sequences(
                torch.stack([part.values[part.clip == clip].mean(0) for clip in has]),
                part.lengths.clamp(max=1),
                torch.zeros(len(has)),
                1,
            )
            for name, part in (("audio", clips.audio), ("video", clips.video))
            if (has := part.lengths.nonzero().flatten().tolist())
        },
    )
    averages = model(input_steps="average")
    expected = model().embed(one_step)
    padded = replace(
        clips,
        audio=Padded.from_padded(clips.audio.padded(), clips.audio.lengths),
        video=Padded.from_padded(clips.video.padded(), clips.video.lengths),
    )
    for kind in (clips, padded):
        found = averages.embed(kind)
        for stream, values in expected.items():
            torch.testing.assert_close(found[stream], values, atol=1e-5, rtol=1e-4)
    if max(max(pair) for pair in lengths) > 1:
        assert not torch.allclose(model().embed(clips)["m"], expected["m"], atol=1e-4)
