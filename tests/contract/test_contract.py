"""Contract of all methods: the checks of ``sacma.testing`` for each of METHODS and each of its variants."""

from __future__ import annotations

from pathlib import Path

import pytest

from folders import FEATURES, NAME, write_folder
from sacma.data.benchmark import Benchmark
from sacma.models import METHODS
from sacma.runs.folder import RunFolder, load_model
from sacma.runs.prepare import prepare
from sacma.testing import EACH_VARIANT, ONCE, Allowances, Case
from sacma.testing.method_checks import Check
from sacma.training.protocol import run
from sacma.training.scoring import evaluate_method

VARIANTS = [(name, variant) for name, cls in METHODS.items() for variant in cls.VARIANTS]
each_method = pytest.mark.parametrize("name", METHODS)

# Their published variants average the biases of audio, video and both.
THREE_SEARCHES = {"cjme", "avgzslnet"}
# After two epochs they answer hardly better than chance yet.
SLOW_LEARNERS = {"attention-fusion", "avfs", "f-vaegan-d2", "tcaf"}
# Five batches an epoch are enough for these.
QUICK_LEARNERS = {"avca", "clipclap", "hsp-moe", "perceiver"}
# These have nothing that a gradient step trains.
CLOSED_FORM = {"cosine-ridge", "eszsl", "eszsl-0.1", "frozen", "kite", "kite-0.1"}


def allowances(name: str, variant: str) -> Allowances:
    """What the definition of a method makes different, as its published code has it."""
    return Allowances(
        # The sum of adversarial terms rises and falls.
        falling={"f-vaegan-d2": "critic_penalty", "avfs": "discriminative_real"}.get(name),
        # A critic is trained on the difference of two of its values: its last bias cancels out.
        unmoved=frozenset({"critic.last.bias", "unconditional.last.bias"}),
        equal_widths=(name, variant) == ("avmst", "published"),
        not_negative=(name, variant) == ("f-vaegan-d2", "published"),
    )


class Made(Case):
    """A method of ours with its allowances."""

    def __init__(self, name: str, variant: str, toy: Benchmark) -> None:
        super().__init__(name, variant, toy, allowances(name, variant))


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    root = write_folder(tmp_path_factory.mktemp("toy") / "root", joint=True)
    return Benchmark.open(root, NAME, FEATURES)


@pytest.mark.parametrize("check", EACH_VARIANT, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "variant"), VARIANTS, ids=["-".join(v) for v in VARIANTS])
def test_each_variant(name: str, variant: str, check: Check, toy: Benchmark, tmp_path: Path) -> None:
    check(Made(name, variant, toy), tmp_path)


@pytest.mark.parametrize("check", ONCE, ids=lambda check: check.__name__)
@each_method
def test_default_variant(name: str, check: Check, toy: Benchmark, tmp_path: Path) -> None:
    check(Made(name, next(iter(METHODS[name].VARIANTS)), toy), tmp_path)


def test_which_methods_learn_by_batches_and_average_biases(toy: Benchmark) -> None:
    assert {name for name, cls in METHODS.items() if not cls.learns_by_gradient} == CLOSED_FORM
    for name, variant in VARIANTS:
        several = len(Made(name, variant, toy).method.bias_outputs()) > 1
        assert several == (variant == "published" and name in THREE_SEARCHES), name


@pytest.mark.parametrize("name", sorted(THREE_SEARCHES))
def test_a_published_run_is_tested_with_the_mean_of_three_biases(
    name: str, toy: Benchmark, tmp_path: Path
) -> None:
    config = Made(name, "published", toy).configured(batches_per_epoch=4)
    folder = RunFolder.create(tmp_path / "run", config)
    result = run(config, toy, folder)
    chosen = load_model(name, folder.stage(1))
    validation, _ = evaluate_method(chosen, toy.split("val"), config, bias=None)
    assert folder.selection().validation == validation
    assert result.test.bias == result.validation.bias == validation.bias
    assert "for audio, " in validation.warnings[-1]


@pytest.mark.slow
@each_method
def test_above_chance_on_avshapes(name: str, tmp_path: Path) -> None:
    """ZSL of the default variant at seed 0, two standard errors above chance after a few epochs."""
    if METHODS[name].needs_joint_space:
        pytest.skip("features and class vectors of AV-Shapes are of different spaces")
    epochs = {"epochs": 4 if name in SLOW_LEARNERS else 2} if METHODS[name].learns_by_gradient else {}
    few = {"batches_per_epoch": 5} if name in QUICK_LEARNERS else {}
    options = {"method": name, "preset": "small"} | epochs | few
    config, benchmark = prepare(options)
    result = run(config, benchmark, RunFolder.create(tmp_path / "run", config))
    test = benchmark.split("test")
    unseen = ~test.classes.seen
    chance = 1 / int(unseen.sum())
    clips = int(unseen[test.labels].sum())
    error = (chance * (1 - chance) / clips) ** 0.5
    assert result.test.zsl > chance + 2 * error
