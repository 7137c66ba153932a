"""Contract of all methods: the same tests for each entry of METHODS and each of its variants."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.utils import set_seed
from torch import Tensor

from folders import FEATURES, NAME, write_folder
from sacma.data import batches
from sacma.data.benchmark import Benchmark, Split
from sacma.errors import SacmaError
from sacma.metrics.gzsl import best_bias, harmonic_mean, per_class_accuracy
from sacma.models import METHODS
from sacma.models.base import Method
from sacma.runs.config import RunConfig, method_class, resolve
from sacma.runs.folder import RunFolder, load_model, save_model
from sacma.runs.prepare import prepare
from sacma.training.evaluation import one_step_note, result_at, score
from sacma.training.loop import build, fit, fit_scaling
from sacma.training.protocol import run
from sacma.training.scoring import evaluate_method
from sacma.types import Batch, Sequences

CPU = torch.device("cpu")
VARIANTS = [(name, variant) for name, cls in METHODS.items() for variant in cls.VARIANTS]
each_variant = pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=["-".join(v) for v in VARIANTS])
each_method = pytest.mark.parametrize("name", METHODS)

# Inputs that a published variant refuses, as its code would; the message says which it takes.
EQUAL_WIDTHS = {("avmst", "published")}
NOT_NEGATIVE = {("f-vaegan-d2", "published")}
# These have nothing that a gradient step trains.
CLOSED_FORM = {"cosine-ridge", "eszsl", "eszsl-0.1", "frozen", "kite", "kite-0.1"}
# The sum of adversarial terms rises and falls; these of their terms have to fall.
FALLING = {"f-vaegan-d2": "critic_penalty", "avfs": "discriminative_real"}
# Their published variants average the biases of audio, video and both.
THREE_SEARCHES = {"cjme", "avgzslnet"}
# A critic is trained on the difference of two of its values: its last bias cancels out.
CANCELS = {"critic.last.bias", "unconditional.last.bias"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    root = write_folder(tmp_path_factory.mktemp("toy") / "root", joint=True)
    return Benchmark.open(root, NAME, FEATURES)


def configured(name: str, variant: str, toy: Benchmark, **options: Any) -> RunConfig:
    given = {"benchmark": NAME, "features": FEATURES, "root": str(toy.root), "epochs": 2}
    # A non-default scaling would hide what the published variant refuses.
    return resolve({**given, "method": name, "variant": variant, "preset": "small", **options})


def suited(split: Split, name: str, variant: str) -> Split:
    """The split with inputs that the variant can take."""
    features = split.features
    audio, video = features.audio, features.video
    if (name, variant) in EQUAL_WIDTHS:
        video = replace(video, values=video.values[:, : audio.width].contiguous())
    if (name, variant) in NOT_NEGATIVE:
        audio, video = (replace(track, values=track.values.abs()) for track in (audio, video))
    return replace(split, features=replace(features, audio=audio, video=video))


def options_of(name: str, variant: str) -> dict[str, Any]:
    return {"feature_scaling": "published"} if (name, variant) in NOT_NEGATIVE else {}


class Made:
    """A method with the split that it was made for."""

    def __init__(self, name: str, variant: str, toy: Benchmark) -> None:
        self.config = configured(name, variant, toy, **options_of(name, variant))
        self.train = suited(toy.split("train"), name, variant)
        self.val = suited(toy.split("val"), name, variant)
        self.method = build(method_class(name), self.train, self.config)
        fit_scaling(self.method, self.train if self.method.temporal else self.train.averaged())

    def batch(self, rows: Tensor | None = None) -> Batch:
        rows = torch.arange(0, len(self.train), 2) if rows is None else rows
        needs = self.method.needs_negatives
        others = batches.other_class(self.train.labels, rows, torch.Generator().manual_seed(1))
        return batches.gather(self.train, rows, negatives=others if needs else None)

    def trained(self, steps: int) -> list[dict[str, float]]:
        """Take steps on one batch; the terms of the loss at each."""
        self.method.train()
        # Weight decay would move what no gradient reaches.
        optimisers = self.method.optimisers(replace(self.config.training, weight_decay=0.0))
        batch = self.batch()
        losses = []
        for _ in range(steps):
            terms = self.method.step(batch, self.train.classes, optimisers)
            losses.append({key: float(value) for key, value in terms.items()})
        return losses

    def fitted(self, steps: int = 2) -> Method:
        if self.config.method not in CLOSED_FORM:
            self.trained(steps)
        fit(self.method, self.train, self.val.classes, CPU)
        return self.method.eval()


@pytest.fixture
def made(name: str, variant: str, toy: Benchmark) -> Made:
    return Made(name, variant, toy)


@each_variant
def test_distances_have_a_row_a_clip_and_a_column_a_class(made: Made) -> None:
    method = made.fitted()
    batch = batches.gather(made.val, torch.arange(9))
    with torch.no_grad():
        distances = method.distances(batch, made.val.classes)
    assert distances.shape == (9, len(made.val.classes))
    assert torch.isfinite(distances).all()
    assert len(distances.unique()) > 9  # they tell something


@each_variant
def test_every_parameter_is_trained(made: Made, name: str) -> None:
    if name in CLOSED_FORM:
        assert not list(made.method.parameters())
        return
    before = {key: value.clone() for key, value in made.method.named_parameters()}
    made.trained(6)
    still = [
        key
        for key, value in made.method.named_parameters()
        if value.requires_grad and torch.equal(value, before[key]) and key not in CANCELS
    ]
    assert not still, f"never moved: {still}"
    assert all(torch.isfinite(value).all() for value in made.method.state_dict().values())


@each_variant
def test_order_and_size_of_a_batch_change_nothing(made: Made) -> None:
    method, classes = made.fitted(), made.val.classes
    rows = torch.arange(10)
    with torch.no_grad():
        together = method.distances(batches.gather(made.val, rows), classes)
        order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
        shuffled = method.distances(batches.gather(made.val, rows[order]), classes)
        alone = torch.cat([method.distances(batches.gather(made.val, row[None]), classes) for row in rows])
    scale = float(together.abs().max())
    torch.testing.assert_close(shuffled, together[order], rtol=1e-4, atol=1e-5 * scale)
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5 * scale)


@each_variant
def test_padding_changes_nothing(made: Made) -> None:
    method, classes = made.fitted(), made.val.classes
    batch = batches.gather(made.val, torch.arange(6))

    def repacked(sequences: Sequences) -> Sequences:
        padded = torch.cat([sequences.padded(), torch.full((6, 4, sequences.values.shape[1]), 7.0)], dim=1)
        times = torch.cat([sequences.padded(sequences.seconds[:, None]), torch.zeros(6, 4, 1)], dim=1)
        return Sequences.from_padded(padded, sequences.lengths, times.squeeze(-1))

    with torch.no_grad():
        expected = method.distances(batch, classes)
        found = method.distances(
            replace(batch, audio=repacked(batch.audio), video=repacked(batch.video)), classes
        )
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@each_variant
def test_a_missing_modality_is_no_data(made: Made) -> None:
    """A clip without sound or pictures gets an answer, others keep theirs; zeros are something else."""
    method, classes = made.fitted(), made.val.classes
    batch = batches.gather(made.val, torch.arange(6))

    def without(sequences: Sequences, clip: int) -> Sequences:
        kept = sequences.clip != clip
        lengths = sequences.lengths.clone()
        lengths[clip] = 0
        return Sequences(sequences.values[kept], lengths, sequences.seconds[kept], int(lengths.max()))

    def silent(sequences: Sequences, clip: int) -> Sequences:
        return sequences.with_values(sequences.values * (sequences.clip != clip)[:, None])

    with torch.no_grad():
        whole = method.distances(batch, classes)
        lacking = method.distances(
            replace(batch, audio=without(batch.audio, 0), video=without(batch.video, 1)), classes
        )
        zeros = method.distances(
            replace(batch, audio=silent(batch.audio, 0), video=silent(batch.video, 1)), classes
        )
    assert torch.isfinite(lacking).all()
    torch.testing.assert_close(lacking[2:], whole[2:], rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
    assert not torch.equal(lacking[:2], whole[:2])
    if method.temporal and not method.takes_averages:
        assert not torch.allclose(lacking[:2], zeros[:2])


@each_variant
def test_saving_and_loading_change_nothing(made: Made, name: str, tmp_path: Path) -> None:
    method, classes = made.fitted(), made.val.classes
    save_model(method, tmp_path)
    loaded = load_model(name, tmp_path)
    batch = batches.gather(made.val, torch.arange(6))
    with torch.no_grad():
        assert torch.equal(method.distances(batch, classes), loaded.distances(batch, classes))


@each_variant
def test_same_seed_same_result(name: str, variant: str, toy: Benchmark) -> None:
    states = []
    for _ in range(2):
        method = Made(name, variant, toy).fitted(steps=3)
        states.append(method.state_dict())
    assert states[0].keys() == states[1].keys()
    for key, value in states[0].items():
        assert torch.equal(value, states[1][key]), key


@each_variant
def test_the_loss_falls(made: Made, name: str) -> None:
    if name in CLOSED_FORM:
        pytest.skip("a closed form has no loss that falls")
    set_seed(0)
    term = FALLING.get(name)
    steps = [one for one in made.trained(30) if term is None or term in one]
    losses = [one[term] if term else sum(one.values()) for one in steps]
    few = len(losses) // 5
    assert sum(losses[-few:]) < sum(losses[:few])


@each_method
def test_wrong_width_is_one_clear_error(name: str, toy: Benchmark) -> None:
    made = Made(name, next(iter(METHODS[name].VARIANTS)), toy)
    method = made.fitted()
    batch = batches.gather(made.val, torch.arange(3))
    for modality in ("audio", "video"):
        whole: Sequences = getattr(batch, modality)
        narrow = whole.with_values(whole.values[:, :-1])
        with pytest.raises(SacmaError, match=rf"{modality}.*wide"), torch.no_grad():
            method.distances(replace(batch, **{modality: narrow}), made.val.classes)


@each_method
def test_features_averaged_over_time_are_for_all_methods(name: str, toy: Benchmark) -> None:
    made = Made(name, next(iter(METHODS[name].VARIANTS)), toy)
    method, averages = made.fitted(), made.val.averaged()
    assert bool(one_step_note({"a row": METHODS[name]}, averages.features)) == (
        method.temporal and not method.takes_averages
    )
    assert not one_step_note({"a row": METHODS[name]}, made.val.features)
    assert build(METHODS[name], averages, made.config) is not None
    found = score(method, averages, batch_size=7).gzsl.margin
    if method.temporal:
        assert torch.isfinite(found).all()
    else:
        assert torch.equal(found, score(method, made.val, batch_size=7).gzsl.margin)


@each_method
def test_bias_search_is_that_of_the_reference(name: str, toy: Benchmark) -> None:
    made = Made(name, next(iter(METHODS[name].VARIANTS)), toy)
    method = made.fitted(steps=10)
    if not method.calibrated:
        pytest.skip("scored by a classifier without a bias")
    scores = score(method, made.val, batch_size=7)
    seen = made.val.classes.seen
    bias, _ = best_bias(scores.gzsl, scores.labels, seen)
    with torch.no_grad():
        distances = torch.cat(
            [
                method.distances(batches.gather(made.val, rows), made.val.classes).double()
                for rows in torch.arange(len(made.val)).split(7)
            ]
        )

    def at(value: float) -> float:
        answer = (distances + value * seen).argmin(1)
        accuracy = per_class_accuracy(answer == scores.labels, scores.labels, len(seen))
        return float(harmonic_mean(accuracy[seen].nanmean(), accuracy[~seen].nanmean()))

    near = scores.gzsl.margin.sort().values
    tried = [0.0, *((near[1:] + near[:-1]) / 2).clamp(min=0).tolist()]
    assert at(bias) == pytest.approx(max(at(value) for value in tried), abs=1e-9)


@each_method
def test_a_class_says_what_it_overrides(name: str) -> None:
    cls = METHODS[name]
    assert cls.needs_fit == (cls.fit is not Method.fit)
    assert cls.compares_embeddings == (cls.distances is Method.distances)


@each_method
def test_an_output_that_does_not_exist(name: str, toy: Benchmark) -> None:
    made = Made(name, next(iter(METHODS[name].VARIANTS)), toy)
    if len(made.method.outputs) == 1:
        pytest.skip("there is nothing to choose")
    with pytest.raises(SacmaError, match="cannot score with 'loudness'; choose one of"):
        score(made.method, made.val, batch_size=64, output="loudness")


@each_variant
def test_the_bias_for_test_is_the_mean_of_what_the_method_asks_for(made: Made, name: str) -> None:
    method = made.fitted(steps=10)
    if not method.calibrated:
        pytest.skip("scored by a classifier without a bias")
    result, scores = evaluate_method(method, made.val, made.config, bias=None)
    search = made.config.protocol.bias_search
    biases = []
    for output in method.bias_outputs():
        found = score(method, made.val, batch_size=64, output=output)
        biases.append(best_bias(found.gzsl, found.labels, made.val.classes.seen, search=search)[0])
    three = made.config.variant == "published" and name in THREE_SEARCHES
    assert len(biases) == (3 if three else 1)
    assert result.bias == pytest.approx(sum(biases) / len(biases))
    assert any("mean of the best ones" in warning for warning in result.warnings) == three
    at_bias = result_at(scores, made.val, bias=result.bias, bias_search=search)
    assert (result.seen, result.unseen, result.zsl) == (at_bias.seen, at_bias.unseen, at_bias.zsl)


@pytest.mark.parametrize("name", sorted(THREE_SEARCHES))
def test_a_published_run_is_tested_with_the_mean_of_three_biases(
    name: str, toy: Benchmark, tmp_path: Path
) -> None:
    config = configured(name, "published", toy, batches_per_epoch=4)
    folder = RunFolder.create(tmp_path / "run", config)
    result = run(config, toy, folder)
    chosen = load_model(name, folder.stage(1))
    validation, _ = evaluate_method(chosen, toy.split("val"), config, bias=None)
    assert folder.selection().validation == validation
    assert result.test.bias == result.validation.bias == validation.bias
    assert "for audio, " in validation.warnings[-1]


@each_method
def test_test_clips_have_no_influence(name: str, toy: Benchmark, tmp_path: Path) -> None:
    """Other test clips, same weights, epoch and bias."""
    kept = []
    for test_seed in (None, 5):
        root = write_folder(tmp_path / f"root-{test_seed}", test_seed=test_seed, joint=True)
        config = configured(
            name, next(iter(METHODS[name].VARIANTS)), toy, root=str(root), batches_per_epoch=2
        )
        if name in CLOSED_FORM:
            config = replace(config, training=replace(config.training, epochs=1, batches_per_epoch=0))
        folder = RunFolder.create(tmp_path / f"run-{test_seed}", config)
        result = run(config, Benchmark.open(root, NAME, FEATURES), folder)
        answers = (folder.path / "predictions.parquet").read_bytes()
        kept.append((result, load_model(name, folder.path).state_dict(), answers))
    (first, weights, answers), (second, other_weights, other_answers) = kept
    assert first.validation == second.validation
    assert first.epochs == second.epochs
    assert first.test.bias == second.test.bias
    assert answers != other_answers  # the test clips did change
    for key, value in weights.items():
        assert torch.equal(value, other_weights[key]), key


@pytest.mark.slow
@each_method
def test_above_chance_on_avshapes(name: str, tmp_path: Path) -> None:
    """ZSL of the default variant at seed 0, two standard errors above chance after a few epochs."""
    if METHODS[name].needs_joint_space:
        pytest.skip("features and class vectors of AV-Shapes are of different spaces")
    options = {"method": name, "preset": "small"} | ({} if name in CLOSED_FORM else {"epochs": 8})
    config, benchmark = prepare(options)
    result = run(config, benchmark, RunFolder.create(tmp_path / "run", config))
    test = benchmark.split("test")
    unseen = ~test.classes.seen
    chance = 1 / int(unseen.sum())
    clips = int(unseen[test.labels].sum())
    error = (chance * (1 - chance) / clips) ** 0.5
    assert result.test.zsl > chance + 2 * error
