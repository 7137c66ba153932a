"""Searches: what is drawn, that test is never read, pruning, several processes, going on, bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import commands
import folders
from commands import on, sacma
from sacma.data.benchmark import Benchmark
from sacma.errors import SacmaError
from sacma.progress import EpochRow
from sacma.runs.config import LATER, load_options, resolve
from sacma.runs.folder import RunFolder
from sacma.studies import tuning
from sacma.studies.tuning import distributions, read_space

optuna = pytest.importorskip("optuna")

SMALL = ("--method=devise", "--epochs=3", "--batches-per-epoch=2", "--batch-size=8")
SPACE = "--space={learning_rate: {low: 0.001, high: 0.1, log: true}, batch_size: {low: 4, high: 16}}"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.write_folder(tmp_path_factory.mktemp("toy"))


def search(root: Path, out: Path, *more: object) -> commands.Outcome:
    return sacma("tune", *on(root), *SMALL, f"--out={out}", *more)


def study_in(out: Path) -> Any:
    storage = f"sqlite:///{out / 'search.db'}"
    (name,) = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def test_it_ends_with_options_to_train_with(root: Path, tmp_path: Path) -> None:
    outcome = search(root, tmp_path, SPACE, "--trials=3")
    assert outcome.status == 0, outcome.err
    assert f"train with them: sacma train --config {tmp_path / 'best.yaml'}" in outcome.out
    study, best = study_in(tmp_path), load_options(tmp_path / "best.yaml")
    assert len(study.trials) == 3
    assert {name: best[name] for name in study.best_params} == study.best_params
    assert type(best["batch_size"]) is int
    assert 4 <= best["batch_size"] <= 16
    assert (best["method"], best["epochs"], best["batches_per_epoch"]) == ("devise", 3, 2)
    trained = sacma("train", f"--config={tmp_path / 'best.yaml'}", f"--out={tmp_path / 'run'}")
    assert trained.status == 0, trained.err
    folder = RunFolder.open(tmp_path / "run")
    later = {name: value for name, value in LATER.items() if name != "input_steps"}  # SACMA's alone
    assert folder.config().options() == later | best
    # The trial was stage 1 of that run.
    validation = folder.result().validation.harmonic_mean
    assert study.best_value == pytest.approx(validation)
    assert f"validation HM {100 * validation:.1f}" in outcome.out


def test_precision_can_be_searched(root: Path, tmp_path: Path) -> None:
    outcome = search(
        root, tmp_path, "--space={precision: [float32, bfloat16]}", "--force_precision=true", "--trials=6"
    )
    assert outcome.status == 0, outcome.err
    tried = {trial.params["precision"] for trial in study_in(tmp_path).trials}
    assert tried == {"float32", "bfloat16"}


def test_test_is_never_read(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split, read = Benchmark.split, set()

    def watched(self: Benchmark, stage: str) -> Any:
        assert stage != "test"
        read.add(stage)
        return split(self, stage)

    monkeypatch.setattr(Benchmark, "split", watched)
    assert search(root, tmp_path / "a", SPACE, "--trials=2").status == 0
    assert read == {"train", "val", "train_val"}
    monkeypatch.undo()
    # Nor does it have any influence: other test clips, the same search.
    other = folders.write_folder(tmp_path / "other", test_seed=5)
    assert search(other, tmp_path / "b", SPACE, "--trials=2").status == 0
    found = [
        [(trial.params, trial.value) for trial in study_in(tmp_path / name).trials] for name in ("a", "b")
    ]
    assert found[0] == found[1]


def test_repeating_it_goes_on(root: Path, tmp_path: Path) -> None:
    for trials, expected in ((1, 1), (3, 3), (3, 3), (2, 3)):
        assert search(root, tmp_path, SPACE, f"--trials={trials}").status == 0
        assert len(study_in(tmp_path).trials) == expected
    drawn = [tuple(trial.params.values()) for trial in study_in(tmp_path).trials]
    assert len(set(drawn)) == 3


def _stage_1(values: Callable[[int], list[float]]) -> Any:
    """In place of training: the validation HM of each epoch, by the number of the trial."""
    number = 0

    def run(*_: Any, after_epoch: Callable[[EpochRow], None], **__: Any) -> Any:
        nonlocal number
        number += 1
        hms = values(number - 1)
        for epoch, hm in enumerate(hms, start=1):
            row = EpochRow(
                stage=1,
                epoch=epoch,
                learning_rate=0.1,
                loss=1.0,
                losses={},
                validation={"harmonic_mean": hm},
                seconds=0.1,
            )
            after_epoch(row)

        class Chosen:
            epochs = 1

            class validation:  # noqa: N801
                harmonic_mean = max(hms)

        return Chosen

    return run


def test_hopeless_trials_are_pruned(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        tuning, "run_stage_1", _stage_1(lambda n: [0.1] * 10 if n == 6 else [0.5 + n / 100] * 10)
    )
    outcome = search(root, tmp_path, SPACE, "--trials=8", "--epochs=10")
    assert outcome.status == 0, outcome.err
    trials = study_in(tmp_path).trials
    pruned = [trial.number for trial in trials if trial.state == optuna.trial.TrialState.PRUNED]
    assert pruned == [6]
    assert 1 < len(trials[6].intermediate_values) < 10
    assert "trial 6: pruned" in outcome.out
    assert study_in(tmp_path).best_trial.number == 7


def test_an_interruption_leaves_no_running_trial(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning, "run_stage_1", interrupted)
    assert search(root, tmp_path, SPACE, "--trials=1").status == 130
    assert not (tmp_path / "best.yaml").exists()
    monkeypatch.undo()
    assert search(root, tmp_path, SPACE, "--trials=1").status == 0
    states = [trial.state.name for trial in study_in(tmp_path).trials]
    assert states == ["FAIL", "COMPLETE"]


@pytest.mark.slow
def test_processes_with_one_database_search_together(root: Path, tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'shared' / 'search.db'}"
    processes = [
        commands.start(
            *("tune", *on(root), *SMALL, SPACE, "--trials=4", f"--storage={storage}"),
            f"--out={tmp_path / str(number)}",
            log=tmp_path / f"log-{number}",
        )
        for number in range(2)
    ]
    ended = [commands.wait(process, seconds=240) for process in processes]
    assert ended == [0, 0], [(tmp_path / f"log-{number}").read_text() for number in range(2)]
    study = study_in(tmp_path / "shared")
    assert 4 <= len(study.trials) <= 5  # the other one's last may still have run
    assert {trial.state.name for trial in study.trials} <= {"COMPLETE", "PRUNED"}
    best = [load_options(tmp_path / str(number) / "best.yaml") for number in range(2)]
    assert best[-1].keys() == best[0].keys()


def test_one_command_searches_with_several_processes(root: Path, tmp_path: Path) -> None:
    outcome = search(root, tmp_path, SPACE, "--trials=4", "--jobs=2")
    assert outcome.status == 0, outcome.err
    study = study_in(tmp_path)
    assert 4 <= len(study.trials) <= 5
    drawn = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(drawn)) == len(drawn)
    said = outcome.out + outcome.err
    assert all(f"trial {number}: " in said for number in range(4))
    best = load_options(tmp_path / "best.yaml")
    assert {name: best[name] for name in study.best_params} == study.best_params


def test_processes_that_all_fail_are_one_error(root: Path, tmp_path: Path) -> None:
    failing = search(root, tmp_path, "--space={learning_rate: [1.0e+300]}", "--trials=9", "--jobs=2")
    assert "3 trials in a row failed, the last one thus: " in failing.line


MISTAKES = [
    (["--trials=0"], "--trials 0 and --jobs 1 must both be at least 1"),
    (["--jobs=0"], "--trials 50 and --jobs 0 must both be at least 1"),
    (["--space=[1]"], "search space"),
    (["--space={}"], "search space"),
    (["--space={depth: [1"], "not readable YAML"),
    (["--space=/no/such/space.yaml"], "/no/such/space.yaml"),
    (["--space={heads: [1, 2]}"], "'heads' cannot be searched"),
    (["--space={seed: [1, 2]}"], "'seed' cannot be searched"),
    (["--space={text_alignment: [aligned, published]}"], "'text_alignment' cannot be searched"),
    (["--space={learning_rate: fast}"], "learning_rate is 'fast'"),
    (["--space={learning_rate: {low: 1.0, high: 0.1}}"], "learning_rate"),
    (["--space={learning_rate: {low: 0.1}}"], "learning_rate"),
    (["--space={learning_rate: {least: 0.1, most: 1}}"], "learning_rate"),
    (["--space={learning_rate: []}"], "learning_rate"),
    (["--space={batch_size: {low: 1, high: 4}}"], "batch_size is 1"),
    (["--space={schedule: [constant, cosine]}"], "schedule is 'cosine'"),
    (["--storage=nothing"], "'nothing'"),
    (["--storage=sqlite:////proc/x/search.db"], "/proc/x"),
    (["--method=nope"], "nope"),
    (["--root=/no/such/folder"], "/no/such/folder"),
]


@pytest.mark.parametrize(("wrong", "named"), MISTAKES, ids=lambda given: " ".join(given)[:50])
def test_mistakes(wrong: list[str], named: str, root: Path, tmp_path: Path) -> None:
    line = sacma("tune", *on(root), "--method=devise", f"--out={tmp_path / 'out'}", *wrong).line
    assert named in line
    assert not list(tmp_path.rglob("best.yaml"))


def test_a_study_of_other_options_is_refused(root: Path, tmp_path: Path) -> None:
    assert search(root, tmp_path, SPACE, "--trials=1").status == 0
    line = search(root, tmp_path, SPACE, "--trials=2", "--epochs=4").line
    assert "made with another epochs" in line
    assert len(study_in(tmp_path).trials) == 1


def test_trials_that_fail_one_after_another_end_it(root: Path, tmp_path: Path) -> None:
    line = search(root, tmp_path, "--space={learning_rate: [1.0e+300]}", "--trials=9").line
    assert "3 trials in a row failed" in line
    assert [trial.state.name for trial in study_in(tmp_path).trials] == ["FAIL"] * 3


def test_space_from_a_file_and_the_default_one(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text("temperature: {low: 0.01, high: 0.2, log: true}\ndepth: {low: 1, high: 4}\n")
    options = {"benchmark": "ucf", "features": "selavi", "root": "anywhere"}
    config = resolve(options)
    found = distributions(read_space(str(file)), options, config)
    assert found == {
        "temperature": optuna.distributions.FloatDistribution(0.01, 0.2, log=True),
        "depth": optuna.distributions.IntDistribution(1, 4),
    }
    assert set(distributions({}, options, config)) == set(tuning.DEFAULT_SPACE)
    devise = {**options, "method": "devise"}
    assert set(distributions({}, devise, resolve(devise))) == {"learning_rate"}
    with pytest.raises(SacmaError, match="it should be YAML such as"):
        read_space("depth")
