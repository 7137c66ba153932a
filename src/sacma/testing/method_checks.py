"""The contract of all methods, as checks of one class on a toy benchmark.

    from sacma.testing import check_method

    def test_contract():
        check_method(MyMethod)

``EACH_VARIANT`` and ``ONCE`` are the checks themselves, for tests with a result each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from accelerate.utils import set_seed
from torch import Tensor

from sacma.data import batches
from sacma.data.benchmark import Benchmark, Split
from sacma.errors import SacmaError, one_line
from sacma.metrics.gzsl import best_bias, harmonic_mean, per_class_accuracy
from sacma.models.base import Method
from sacma.models.lookup import named
from sacma.runs.config import RunConfig, method_class, resolve
from sacma.runs.folder import RunFolder, load_model, save_model
from sacma.testing.toy_benchmark import FEATURES, NAME, write_folder
from sacma.training.evaluation import one_step_note, result_at, score
from sacma.training.loop import build, fit, fit_scaling
from sacma.training.protocol import run
from sacma.training.scoring import evaluate_method
from sacma.types import Batch, Sequences

_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Allowances:
    """Differences that a method's own definition asks for.

    Attributes:
        falling: part of the name of the loss terms that have to fall, where the sum of all rises and falls.
        unmoved: parameters whose gradient is 0 by the form of the loss.
        equal_widths: audio and video features must be equally wide.
        not_negative: features must be 0 or more, and are not scaled.
    """

    falling: str | None = None
    unmoved: frozenset[str] = frozenset()
    equal_widths: bool = False
    not_negative: bool = False


class Case:
    """A method, freshly built, with the clips that it was built for.

    Args:
        name: of the method.
        variant: of the method.
        toy: the benchmark of ``write_folder``, with ``joint``.
        allow: differences that are no mistakes.
    """

    def __init__(self, name: str, variant: str, toy: Benchmark, allow: Allowances = Allowances()) -> None:
        self.name, self.variant, self.toy, self.allow = name, variant, toy, allow
        self.config = self.configured()
        self.train, self.val = (self._suited(toy.split(stage)) for stage in ("train", "val"))
        self.method = build(method_class(name), self.train, self.config)
        fit_scaling(self.method, self.train if self.method.temporal else self.train.averaged())

    def configured(self, **options: Any) -> RunConfig:
        """Preset ``small`` with two epochs, and other options."""
        given = {"benchmark": NAME, "features": FEATURES, "root": str(self.toy.root), "epochs": 2}
        if self.allow.not_negative:
            given["feature_scaling"] = "published"
        return resolve({**given, "method": self.name, "variant": self.variant, "preset": "small", **options})

    def again(self) -> Case:
        """The same case, built anew."""
        return Case(self.name, self.variant, self.toy, self.allow)

    def _suited(self, split: Split) -> Split:
        audio, video = split.features.audio, split.features.video
        if self.allow.equal_widths:
            video = replace(video, values=video.values[:, : audio.width].contiguous())
        if self.allow.not_negative:
            audio, video = (replace(track, values=track.values.abs()) for track in (audio, video))
        return replace(split, features=replace(split.features, audio=audio, video=video))

    def batch(self, rows: Tensor | None = None) -> Batch:
        """Every second training clip, or those of some rows."""
        rows = torch.arange(0, len(self.train), 2) if rows is None else rows
        others = batches.other_class(self.train.labels, rows, torch.Generator().manual_seed(1))
        return batches.gather(self.train, rows, negatives=others if self.method.needs_negatives else None)

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
        """The method after some steps and its fit, in eval mode."""
        if self.method.learns_by_gradient:
            self.trained(steps)
        fit(self.method, self.train, self.val.classes, _CPU)
        return self.method.eval()

    def clips(self, count: int) -> Batch:
        """The first clips of validation."""
        return batches.gather(self.val, torch.arange(count))


Check = Callable[[Case, Path], None]


def check_method(
    method: type[Method], *, variants: Sequence[str] | None = None, allow: Allowances = Allowances()
) -> None:
    """Check that a method keeps the contract that training, evaluation and prediction rely on.

    It takes some seconds on a CPU. Random numbers are drawn from fixed seeds.

    Args:
        method: the class.
        variants: those to check, by default all.
        allow: differences that the method's own definition asks for.

    Raises:
        AssertionError: a check failed; the message lists all that did, with what was found.
        SacmaError: the class is no method.

    Example:
        >>> from sacma.models.eszsl import ESZSL
        >>> check_method(ESZSL)
    """
    failures = []
    with named(method) as name, TemporaryDirectory() as folder:
        root = write_folder(Path(folder) / "root", joint=True)
        toy = Benchmark.open(root, NAME, FEATURES)
        for number, variant in enumerate(variants or method.VARIANTS):
            for check in (*EACH_VARIANT, *(() if number else ONCE)):
                place = Path(folder) / f"{number}-{check.__name__}"
                place.mkdir()
                try:
                    check(Case(name, variant, toy, allow), place)
                except Exception as error:  # what a method does wrong may raise anything
                    kind = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
                    title = check.__name__.replace("_", " ")
                    failures.append(f"{title} ({variant}): {kind}{one_line(error, limit=400)}")
    if failures:
        raise AssertionError(
            f"{method.__name__} does not keep the contract of methods:\n- " + "\n- ".join(failures)
        )


# --- Checks of each variant ---------------------------------------------------------------------------


def distances_have_a_row_a_clip_and_a_column_a_class(case: Case, folder: Path) -> None:
    """``distances`` is (B, K), finite, and not the same for all."""
    method = case.fitted()
    with torch.no_grad():
        distances = method.distances(case.clips(9), case.val.classes)
    expected = (9, len(case.val.classes))
    assert distances.shape == expected, f"distances are {tuple(distances.shape)}, not {expected}"
    assert torch.isfinite(distances).all(), "a distance is not finite"
    assert len(distances.unique()) > 9, "distances hardly differ"


def every_parameter_is_trained(case: Case, folder: Path) -> None:
    """Six steps move each parameter; a closed form has none."""
    method = case.method
    if not method.learns_by_gradient:
        assert not list(method.parameters()), "learns_by_gradient is False, yet it has parameters"
        return
    before = {key: value.clone() for key, value in method.named_parameters()}
    case.trained(6)
    still = [
        key
        for key, value in method.named_parameters()
        if value.requires_grad and torch.equal(value, before[key]) and key not in case.allow.unmoved
    ]
    assert not still, f"never moved: {', '.join(still)}"
    bad = [key for key, value in method.state_dict().items() if not torch.isfinite(value).all()]
    assert not bad, f"not finite: {', '.join(bad)}"


def order_and_size_of_a_batch_change_nothing(case: Case, folder: Path) -> None:
    """A clip's distances do not depend on the other clips of its batch."""
    method, classes = case.fitted(), case.val.classes
    rows = torch.arange(10)
    with torch.no_grad():
        together = method.distances(batches.gather(case.val, rows), classes)
        order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
        shuffled = method.distances(batches.gather(case.val, rows[order]), classes)
        alone = torch.cat([method.distances(batches.gather(case.val, row[None]), classes) for row in rows])
    scale = float(together.abs().max())
    torch.testing.assert_close(shuffled, together[order], rtol=1e-4, atol=1e-5 * scale)
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5 * scale)


def padding_changes_nothing(case: Case, folder: Path) -> None:
    """Steps beyond a clip's length do not count, whatever their values."""
    method, classes = case.fitted(), case.val.classes
    batch = case.clips(6)

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


def a_missing_modality_is_no_data(case: Case, folder: Path) -> None:
    """A clip without sound or pictures gets an answer, others keep theirs; zeros are something else."""
    method, classes = case.fitted(), case.val.classes
    batch = case.clips(6)

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
    assert torch.isfinite(lacking).all(), "a clip without a modality has a distance that is not finite"
    torch.testing.assert_close(lacking[2:], whole[2:], rtol=1e-4, atol=1e-5 * float(whole.abs().max()))
    assert not torch.equal(lacking[:2], whole[:2]), "a missing modality changes nothing"
    if method.temporal and not method.takes_averages:
        assert not torch.allclose(lacking[:2], zeros[:2]), "no steps and steps of zeros are the same"


def saving_and_loading_change_nothing(case: Case, folder: Path) -> None:
    """A model that was saved and loaded gives the same distances, to the last bit."""
    method, classes = case.fitted(), case.val.classes
    save_model(method, folder)
    loaded = load_model(case.name, folder)
    with torch.no_grad():
        before, after = (one.distances(case.clips(6), classes) for one in (method, loaded))
    assert torch.equal(before, after), "distances differ after saving and loading"


def same_seed_same_result(case: Case, folder: Path) -> None:
    """Two runs of one seed end with the same weights."""
    first, second = (case.again().fitted(steps=3).state_dict() for _ in range(2))  # building seeds dropout
    assert first.keys() == second.keys(), "the state dicts have other keys"
    different = [key for key, value in first.items() if not torch.equal(value, second[key])]
    assert not different, f"not repeated: {', '.join(different)}"


def the_loss_falls(case: Case, folder: Path) -> None:
    """Fifteen steps on one batch lower the loss."""
    if not case.method.learns_by_gradient:
        return
    set_seed(0)
    term = case.allow.falling
    steps = [one for one in case.trained(15) if term is None or term in one]
    losses = [one[term] if term else sum(one.values()) for one in steps]
    few = len(losses) // 5
    first, last = sum(losses[:few]) / few, sum(losses[-few:]) / few
    assert last < first, f"the loss went from {first:.4g} to {last:.4g}"


def the_bias_is_the_mean_of_what_the_method_asks_for(case: Case, folder: Path) -> None:
    """The bias on test is the mean of the best biases of ``bias_outputs``."""
    method = case.fitted(steps=4)
    if not method.calibrated:
        return
    result, scores = evaluate_method(method, case.val, case.config, bias=None)
    search = case.config.protocol.bias_search
    biases = []
    for output in method.bias_outputs():
        found = score(method, case.val, batch_size=64, output=output)
        biases.append(best_bias(found.gzsl, found.labels, case.val.classes.seen, search=search)[0])
    mean = sum(biases) / len(biases)
    assert abs(result.bias - mean) <= 1e-6 * max(1, abs(mean)), f"the bias is {result.bias}, not {mean}"
    told = any("mean of the best ones" in warning for warning in result.warnings)
    assert told == (len(biases) > 1), "a mean of several biases is not told, or told of one"
    at_bias = result_at(scores, case.val, bias=result.bias, bias_search=search)
    assert (result.seen, result.unseen, result.zsl) == (at_bias.seen, at_bias.unseen, at_bias.zsl)


# --- Checks of the default variant --------------------------------------------------------------------


def a_wrong_width_is_one_clear_error(case: Case, folder: Path) -> None:
    """Narrower features are a SacmaError that names the modality."""
    method = case.fitted()
    batch = case.clips(3)
    for modality in ("audio", "video"):
        whole: Sequences = getattr(batch, modality)
        narrow: Any = {modality: whole.with_values(whole.values[:, :-1])}
        said = ""
        try:
            with torch.no_grad():
                method.distances(replace(batch, **narrow), case.val.classes)
        except SacmaError as error:
            said = str(error)
        assert modality in said, f"{modality} features of a wrong width are accepted; use averaged or scaled"
        assert "wide" in said, f"the error does not say the width: {said}"


def features_averaged_over_time_are_accepted(case: Case, folder: Path) -> None:
    """Averages give finite distances; a method of averages gives the same as from sequences."""
    cls, method = type(case.method), case.fitted()
    averages = case.val.averaged()
    made_for_more = method.temporal and not method.takes_averages
    assert bool(one_step_note({"a row": cls}, averages.features)) == made_for_more
    assert not one_step_note({"a row": cls}, case.val.features)
    build(cls, averages, case.config)
    found = score(method, averages, batch_size=7).gzsl.margin
    if method.temporal:
        assert torch.isfinite(found).all(), "a distance of averages is not finite"
    else:
        same = score(method, case.val, batch_size=7).gzsl.margin
        assert torch.equal(found, same), "averages and their sequences have other distances"


def the_bias_search_is_that_of_the_reference(case: Case, folder: Path) -> None:
    """The bias is as good as the best that a slow search finds."""
    method = case.fitted(steps=4)
    if not method.calibrated:
        return
    scores = score(method, case.val, batch_size=7)
    seen = case.val.classes.seen
    bias, _ = best_bias(scores.gzsl, scores.labels, seen)
    with torch.no_grad():
        distances = torch.cat(
            [
                method.distances(batches.gather(case.val, rows), case.val.classes).double()
                for rows in torch.arange(len(case.val)).split(7)
            ]
        )

    def at(value: float) -> float:
        answer = (distances + value * seen).argmin(1)
        accuracy = per_class_accuracy(answer == scores.labels, scores.labels, len(seen))
        return float(harmonic_mean(accuracy[seen].nanmean(), accuracy[~seen].nanmean()))

    near = scores.gzsl.margin.sort().values
    best = max(at(value) for value in [0.0, *((near[1:] + near[:-1]) / 2).clamp(min=0).tolist()])
    assert abs(at(bias) - best) <= 1e-9, f"HM {at(bias):.6f} at the bias found, {best:.6f} at the best"


def the_class_says_what_it_overrides(case: Case, folder: Path) -> None:
    """``needs_fit`` and ``compares_embeddings`` agree with the methods that the class has."""
    cls = type(case.method)
    assert cls.needs_fit == (cls.fit is not Method.fit), "needs_fit does not agree with fit"
    own = cls.distances is not Method.distances
    assert cls.compares_embeddings != own, "compares_embeddings does not agree with distances"


def an_output_that_does_not_exist_is_one_clear_error(case: Case, folder: Path) -> None:
    """``distances`` refuses an output that is not among ``outputs``."""
    if len(case.method.outputs) == 1:
        return
    said = ""
    try:
        score(case.method, case.val, batch_size=64, output="loudness")
    except SacmaError as error:
        said = str(error)
    assert "cannot score with 'loudness'; choose one of" in said, f"an unknown output: {said or 'accepted'}"


def test_clips_have_no_influence(case: Case, folder: Path) -> None:
    """Other test clips, same weights, epoch and bias."""
    kept = []
    training = {"batches_per_epoch": 2} if case.method.learns_by_gradient else {"batches_per_epoch": 0}
    for test_seed in (None, 5):
        root = write_folder(folder / f"root-{test_seed}", test_seed=test_seed, joint=True)
        config = case.configured(root=str(root), **training)
        if not case.method.learns_by_gradient:
            config = replace(config, training=replace(config.training, epochs=1))
        made = RunFolder.create(folder / f"run-{test_seed}", config)
        result = run(config, Benchmark.open(root, NAME, FEATURES), made)
        answers = (made.path / "predictions.parquet").read_bytes()
        kept.append((result, load_model(case.name, made.path).state_dict(), answers))
    (first, weights, answers), (second, other_weights, other_answers) = kept
    assert first.validation == second.validation, "validation depends on test clips"
    assert first.epochs == second.epochs, "the epoch depends on test clips"
    assert first.test.bias == second.test.bias, "the bias depends on test clips"
    assert answers != other_answers, "other test clips have the same answers"
    different = [key for key, value in weights.items() if not torch.equal(value, other_weights[key])]
    assert not different, f"weights depend on test clips: {', '.join(different)}"


EACH_VARIANT: tuple[Check, ...] = (
    distances_have_a_row_a_clip_and_a_column_a_class,
    every_parameter_is_trained,
    order_and_size_of_a_batch_change_nothing,
    padding_changes_nothing,
    a_missing_modality_is_no_data,
    saving_and_loading_change_nothing,
    same_seed_same_result,
    the_loss_falls,
    the_bias_is_the_mean_of_what_the_method_asks_for,
)
ONCE: tuple[Check, ...] = (
    a_wrong_width_is_one_clear_error,
    features_averaged_over_time_are_accepted,
    the_bias_search_is_that_of_the_reference,
    the_class_says_what_it_overrides,
    an_output_that_does_not_exist_is_one_clear_error,
    test_clips_have_no_influence,
)
"""Checks of the default variant alone."""
