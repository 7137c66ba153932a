"""A run that is killed, wherever and however often, ends like one that was left alone."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import commands
import folders
from commands import (
    contents,
    die_at_call,
    die_at_write,
    result,
    sacma,
    start,
    train,
    trained,
    wait,
    wait_until,
)
from sacma.data import batches

KILLED = -9
EACH_EPOCH = "--checkpoint-seconds=0"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.write_folder(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def undisturbed(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(root, tmp_path_factory.mktemp("runs") / "run", EACH_EPOCH)


def arguments(root: Path, out: Path, *more: object) -> list[object]:
    return ["train", *commands.on(root), f"--out={out}", *commands.SMALL, EACH_EPOCH, *more]


def again(root: Path, run: Path, *more: object) -> list[object]:
    """How a user goes on: with --resume, or afresh where the kill left no run."""
    return ["train", "--resume", run] if (run / "config.yaml").exists() else arguments(root, run, *more)


def finish(root: Path, run: Path, *more: object) -> None:
    outcome = sacma(*again(root, run, *more))
    assert outcome.status == 0, outcome.err


def assert_like(run: Path, undisturbed: Path) -> None:
    found, expected = contents(run), contents(undisturbed)
    for name, content in expected.items():
        assert found[name] == content, name


# --- The same and not the same --------------------------------------------------------------------


def test_same_seed_same_run_and_other_seed_other_run(root: Path, undisturbed: Path, tmp_path: Path) -> None:
    same, other = trained(root, tmp_path / "same", EACH_EPOCH), trained(root, tmp_path / "other", "--seed=1")
    assert_like(same, undisturbed)
    assert contents(other)["weights"] != contents(undisturbed)["weights"]
    assert contents(other)["metrics"] != contents(undisturbed)["metrics"]


def test_the_seed_decides_on_the_batches(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = batches.class_balanced
    drawn: dict[int, list[list[int]]] = {}

    def recording(*arguments: Any, **named: Any) -> torch.Tensor:
        rows = draw(*arguments, **named)
        drawn[number].append(rows.flatten().tolist())
        return rows

    monkeypatch.setattr(batches, "class_balanced", recording)
    for number, seed in enumerate((0, 1, 0)):
        drawn[number] = []
        trained(root, tmp_path / str(number), f"--seed={seed}", "--epochs=2")
    first, other, same = drawn.values()
    assert first == same
    assert not {tuple(rows) for rows in first[:2]} & {tuple(rows) for rows in other[:2]}
    assert first[0] != first[1]  # each epoch has batches of its own


def test_how_often_is_checkpointed_changes_nothing(root: Path, undisturbed: Path, tmp_path: Path) -> None:
    assert_like(trained(root, tmp_path / "run", "--checkpoint-seconds=1000"), undisturbed)


def test_resuming_a_finished_run_shows_its_result_and_changes_nothing(undisturbed: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*")}
    outcome = sacma("train", "--resume", undisturbed)
    assert outcome.status == 0
    assert f"run folder: {undisturbed}" in outcome.out
    assert {path: path.stat().st_mtime_ns for path in undisturbed.rglob("*") if path in before} == before


# --- Killed ---------------------------------------------------------------------------------------


def rows(run: Path) -> list[dict[str, Any]]:
    """The whole rows of metrics.jsonl so far."""
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "at the start": lambda run: (run / "config.yaml").exists(),
    "in stage 1": lambda run: len(rows(run)) >= 2,
    "between the stages": lambda run: (run / "stage-1" / "selection.json").exists(),
    "in stage 2": lambda run: bool(rows(run)) and rows(run)[-1]["stage"] == 2,
    "at the end": lambda run: (run / "config.json").exists(),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_a_moment(moment: str, root: Path, undisturbed: Path, tmp_path: Path) -> None:
    for attempt in range(10):
        run = tmp_path / str(attempt)
        process = start(*arguments(root, run))
        wait_until(lambda: MOMENTS[moment](run), process)  # noqa: B023
        process.kill()
        if wait(process) == KILLED and not (run / "result.json").exists():
            break  # else it was over before it could be killed
    else:
        pytest.fail("ten runs ended too soon to be killed")
    finish(root, run)
    assert_like(run, undisturbed)


@pytest.fixture(scope="module")
def total(root: Path, undisturbed: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """The number of calls of functions in a run; ``undisturbed`` has loaded what a first run imports."""
    return commands.calls(*arguments(root, tmp_path_factory.mktemp("counted") / "run"))


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_calls_until_it_is_done(
    seed: int, total: int, root: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """Moments are drawn by what a run has done, not by the clock: the machine's load changes nothing."""
    draw, run, statuses = random.Random(seed), tmp_path / "run", [KILLED]
    while statuses[-1] == KILLED and len(statuses) <= 5:
        number = draw.randrange(1, total * 9 // 10)
        statuses.append(wait(start(*again(root, run), fault=(die_at_call, number))))
    assert statuses[1] == KILLED, "nine tenths of a run are not all of it"
    assert set(statuses) <= {KILLED, 0}
    finish(root, run)
    assert_like(run, undisturbed)


@pytest.mark.slow
def test_killed_at_each_write(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file that a run puts in place is a moment at which it may die.

    A copy of the folder just before is what a kill would leave there.
    """
    run, left, replace = tmp_path / "run", list[Path](), os.replace

    def copying(source: Any, target: Any, **keywords: Any) -> None:
        left.append(Path(shutil.copytree(run, tmp_path / f"killed-{len(left)}")))
        replace(source, target, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", copying)
        trained(root, run, EACH_EPOCH, "--epochs=2")
    assert len(left) > 12, "a run of two stages writes more files than this"
    for killed in left:
        finish(root, killed, "--epochs=2")
        assert_like(killed, run)


def test_killed_twice_within_one_file(root: Path, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert wait(start(*arguments(root, run), fault=(die_at_write, 5, False))) == KILLED
    assert wait(start(*again(root, run), fault=(die_at_write, 3, False))) == KILLED
    finish(root, run)
    assert_like(run, undisturbed)


def test_resume_goes_on_from_the_checkpoint(root: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Else a resumed run would be right, and useless."""
    run = tmp_path / "run"
    # config, environment, metrics at the start, then a checkpoint an epoch
    assert wait(start(*arguments(root, run), fault=(die_at_write, 5, True))) == KILLED
    state = torch.load(run / "stage-1" / "checkpoint.pt", weights_only=True)
    assert state["progress"]["epoch"] == 2
    outcome = sacma("train", "--resume", run)
    assert "stage 1 continues after epoch 2" in outcome.out
    assert "stage 1 epoch   2" not in outcome.out
    assert "stage 1 epoch   3" in outcome.out


@pytest.mark.parametrize(
    "options", [["--schedule=plateau", "--stage2-schedule=validation"], ["--method=avca"]]
)
def test_schedules_and_other_methods_resume_too(options: list[str], root: Path, tmp_path: Path) -> None:
    small = [option for option in commands.SMALL if "epoch" in option or "batch" in option]
    common = ["train", *commands.on(root), *small, EACH_EPOCH, *options]
    alone, run = tmp_path / "alone", tmp_path / "run"
    assert sacma(*common, f"--out={alone}").status == 0
    process = start(*common, f"--out={run}")
    wait_until(lambda: len(rows(run)) >= 2, process)
    process.kill()
    assert wait(process) == KILLED
    finish(root, run)
    assert_like(run, alone)


def test_several_seeds_go_on_where_they_were(root: Path, tmp_path: Path) -> None:
    alone, run = tmp_path / "alone", tmp_path / "run"
    trained(root, alone, EACH_EPOCH, "--seeds=2")
    process = start(*arguments(root, run, "--seeds=2"))
    second = run / "seed-1"
    wait_until(lambda: bool(rows(second)), process)
    process.kill()
    assert wait(process) == KILLED
    first = (run / "seed-0" / "result.json").stat().st_mtime_ns
    outcome = sacma(*arguments(root, run, "--seeds=2"))
    assert outcome.status == 0, outcome.err
    assert (run / "seed-0" / "result.json").stat().st_mtime_ns == first
    for seed in ("seed-0", "seed-1"):
        assert_like(run / seed, alone / seed)
    assert (run / "summary.json").read_bytes() == (alone / "summary.json").read_bytes()


# --- A full disk ----------------------------------------------------------------------------------


def test_full_disk_while_training(root: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Room for the small files but not for a checkpoint: one line, and space later is enough to go on."""
    run = tmp_path / "run"
    size = (undisturbed / "model.safetensors").stat().st_size
    log = tmp_path / "log"
    process = start(*arguments(root, run), fault=(commands.limit_file_size, size), log=log)
    assert wait(process) == 2
    (line,) = log.read_text().splitlines()
    assert "checkpoint.pt" in line
    assert not list(run.rglob("*.partial"))
    finish(root, run)
    assert_like(run, undisturbed)


def no_space(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("what", ["os.replace", "os.fsync", "torch.save", "pathlib.Path.write_text"])
def test_full_disk_at_any_writing_function(
    what: str, root: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(what, no_space)
        line = train(root, run, EACH_EPOCH).line
    assert "No space left" in line
    assert str(run) in line
    finish(root, run)
    assert_like(run, undisturbed)


def test_full_disk_for_metrics(
    root: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, opened = tmp_path / "run", Path.open

    def refusing(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        return no_space() if mode == "a" else opened(path, mode, *rest, **named)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refusing)
        assert "metrics.jsonl: No space left" in train(root, run, EACH_EPOCH).line
    finish(root, run)
    assert_like(run, undisturbed)


# --- Two at once ----------------------------------------------------------------------------------


def test_two_processes_do_not_work_in_one_folder(root: Path, undisturbed: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = start(*arguments(root, run))
    wait_until(lambda: bool(rows(run)), process)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)  # it would be done before the others have come to the folder
    try:
        line = sacma("train", "--resume", run).line
        forced = train(root, run, "--force").line
    finally:
        os.kill(process.pid, signal.SIGCONT)
    assert wait(process) == 0
    assert line == forced == f"sacma: another process is at work in {run}; wait for it or stop it"
    assert_like(run, undisturbed)


def test_seeds_of_another_configuration_are_not_mixed(root: Path, undisturbed: Path, tmp_path: Path) -> None:
    out = trained(root, tmp_path / "runs", "--seeds=1")
    assert result(out / "seed-0")["test"] == result(undisturbed)["test"]
    line = train(root, out, "--seeds=2", "--epochs=2").line
    assert f"{out / 'seed-0'} is a run with other options" in line
    assert not (out / "seed-1").exists()
