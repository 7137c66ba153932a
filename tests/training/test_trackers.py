"""Trackers are told the options, every epoch and the test figures; one that is missing or fails is one line.

MLflow is used itself, with a store of files, and W&B offline, where they are installed. Elsewhere trackers
are stand-ins: modules with the functions that Accelerate calls.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import accelerate.tracking
import pytest

import commands
import folders


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folders.write_folder(tmp_path_factory.mktemp("toy") / "root")


class Recorded:
    """What a tracker was told."""

    def __init__(self) -> None:
        self.started: dict[str, Any] = {}
        self.options: dict[str, Any] = {}
        self.rows: list[tuple[int | None, dict[str, float]]] = []
        self.finished = 0
        self.fails_after = 1000

    def log(self, values: dict[str, float], step: int | None = None, **_: Any) -> None:
        if len(self.rows) >= self.fails_after:
            raise ConnectionError("no\nnetwork")
        self.rows.append((step, dict(values)))

    def finish(self) -> None:
        self.finished += 1


def stand_in(name: str, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """A module in place of a tracker's package."""
    told, module = Recorded(), types.ModuleType(name)
    module.__spec__ = importlib.util.spec_from_loader(name, None)

    def init(**options: Any) -> Recorded:
        told.started = options
        return told

    if name == "wandb":
        module.init = init  # type: ignore[attr-defined]
        module.config = types.SimpleNamespace(  # type: ignore[attr-defined]
            update=lambda values, **_: told.options.update(values)
        )
    else:
        validation = types.SimpleNamespace(MAX_PARAM_VAL_LENGTH=500, MAX_PARAMS_TAGS_PER_BATCH=100)
        module.utils = types.SimpleNamespace(validation=validation)  # type: ignore[attr-defined]
        module.search_experiments = lambda **_: []  # type: ignore[attr-defined]
        module.create_experiment = lambda **options: told.started.update(options)  # type: ignore[attr-defined]
        module.start_run = lambda **options: told.started.update(options)  # type: ignore[attr-defined]
        module.log_params = told.options.update  # type: ignore[attr-defined]
        module.log_metrics = told.log  # type: ignore[attr-defined]
        module.end_run = told.finish  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    known = accelerate.tracking._available_trackers
    monkeypatch.setattr(
        accelerate.tracking, "_available_trackers", [*known, accelerate.tracking.LoggerType(name)]
    )
    return told


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_is_told_options_epochs_and_test(
    name: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = stand_in(name, monkeypatch)
    run = commands.trained(root, tmp_path / "run", "--epochs=3", f"--tracker={name}")
    assert "sacma" in (told.started.get("project"), told.started.get("name"))
    assert "run" in (told.started.get("name"), told.started.get("run_name"))
    assert (told.options["method"], told.options["epochs"]) == ("sacma", 3)
    epochs = commands.contents(run)["metrics"]
    assert len(told.rows) == len(epochs) + 1
    for (step, values), row in zip(told.rows, epochs, strict=False):
        assert values[f"stage-{row['stage']}/loss"] == row["loss"]
        if name == "wandb":  # its steps must not go back when stage 2 begins
            assert (step, values[f"stage-{row['stage']}/epoch"]) == (None, row["epoch"])
        else:
            assert step == row["epoch"]
    assert "stage-1/validation/harmonic_mean" in told.rows[0][1]
    assert told.rows[-1][1]["test/zsl"] == commands.result(run)["test"]["zsl"]
    assert told.finished == 1


def test_mlflow_keeps_a_run_in_a_store_of_files(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    for name, value in {
        "TRACKING_URI": (tmp_path / "store").as_uri(),
        "ALLOW_FILE_STORE": "true",
        "DISABLE_TELEMETRY": "true",
    }.items():
        monkeypatch.setenv(f"MLFLOW_{name}", value)
    run = commands.trained(root, tmp_path / "run", "--epochs=2", "--tracker=mlflow")
    (kept,) = (tmp_path / "store").glob("*/*/meta.yaml")
    assert "run_name: run\n" in kept.read_text()
    assert (kept.parent / "params" / "epochs").read_text() == "2"
    epochs = [row for row in commands.contents(run)["metrics"] if row["stage"] == 1]
    losses = (kept.parent / "metrics" / "stage-1" / "loss").read_text().splitlines()
    assert [line.split()[1:] for line in losses] == [[str(row["loss"]), str(row["epoch"])] for row in epochs]
    (zsl,) = (kept.parent / "metrics" / "test" / "zsl").read_text().splitlines()
    assert float(zsl.split()[1]) == commands.result(run)["test"]["zsl"]


def test_wandb_keeps_two_seeds_offline(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    seeds = commands.trained(root, tmp_path / "mine", "--epochs=2", "--tracker=wandb", "--seeds=2")
    for seed in (0, 1):
        (kept,) = (seeds / f"seed-{seed}" / "wandb").glob("offline-run-*/run-*.wandb")
        records = kept.read_bytes()  # Protocol Buffers, which keep names and values as they are
        for part in (f"mine/seed-{seed}", "sacma", "stage-1/loss", "stage-1/validation/zsl", "stage-2/epoch"):
            assert part.encode() in records
        assert b"test/zsl" in records
        assert json.dumps(commands.result(seeds / f"seed-{seed}")["test"]["zsl"]).encode() in records


def test_a_tracker_that_fails_is_dropped_and_the_run_ends_well(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = stand_in("mlflow", monkeypatch)
    told.fails_after = 2
    outcome = commands.train(root, tmp_path / "run", "--epochs=3", "--tracker=mlflow")
    assert outcome.status == 0, outcome.err
    said = outcome.out + outcome.err
    assert said.count("note: the tracker mlflow failed and is dropped: no network") == 1
    assert len(told.rows) == 2
    assert (tmp_path / "run" / "result.json").is_file()


def test_a_tracker_that_cannot_start_is_one_line(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in("wandb", monkeypatch)

    def init(**_: Any) -> None:
        raise RuntimeError("not logged\nin")

    monkeypatch.setattr(sys.modules["wandb"], "init", init)
    line = commands.train(root, tmp_path / "run", "--tracker=wandb").line
    assert "the tracker wandb cannot start: not logged in; set it up by its environment variables" in line


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_is_missing_names_its_extra(
    name: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    line = commands.train(root, tmp_path / "run", f"--tracker={name}").line
    assert f"the tracker {name} is not installed; install it with: pip install 'sacma[{name}]'" in line
