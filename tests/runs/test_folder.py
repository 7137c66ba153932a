"""The run folder: created whole, opened only if it is one, written to by one process at a time."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

import commands
import folders
from commands import die_at_write, start, trained, wait
from sacma.data.features import Features
from sacma.data.features_writer import FeaturesWriter
from sacma.errors import SacmaError
from sacma.files import read_json, write_json
from sacma.metrics.gzsl import MEASURES, GZSLResult
from sacma.models import METHODS
from sacma.progress import EpochRow
from sacma.runs.config import LATER, RunConfig, load_options, resolve
from sacma.runs.folder import RunFolder, environment, load_model, save_model
from sacma.runs.records import RunIdentity, RunResult, RunSummary

CONFIG = resolve({"benchmark": "toy", "features": "toyfeatures", "root": "/somewhere"})
FIGURE = GZSLResult(0.5, 0.25, 1 / 3, 0.75, 1.5, 0.1, "exact", {"ant": 1.0}, {"hen": 0.5}).to_dict()


TEXTS: dict[str, Any] = dict.fromkeys(RunIdentity.__dataclass_fields__, "x")


def finished(path: Path) -> RunFolder:
    """A folder with all that makes a run finished."""
    folder = RunFolder.create(path, CONFIG)
    content: dict[str, Any] = TEXTS | {"format": 1, "seed": 0, "epochs": 3}
    write_json(path / "result.json", content | {"validation": FIGURE, "test": FIGURE})
    return folder


# --- Creating and opening -------------------------------------------------------------------------


def test_created_it_reads_back(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "a" / "run", CONFIG)
    assert RunFolder.open(tmp_path / "a" / "run") == folder
    assert folder.config() == CONFIG
    assert not folder.finished
    kept = read_json(folder.path / "environment.json")
    assert kept["packages"].keys() == {"torch", "numpy", "accelerate", "safetensors"}
    assert {"sacma", "python", "platform", "threads", "command", "started"} <= kept.keys()
    assert kept.keys() == environment().keys()


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path, CONFIG).config() == CONFIG


def test_a_run_is_not_overwritten_unless_forced(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", CONFIG)
    with pytest.raises(SacmaError, match=r"holds an unfinished run; .*--resume .*--force"):
        RunFolder.create(folder.path, CONFIG)
    (folder.path / "stage-1").mkdir()
    finished(tmp_path / "other")
    with pytest.raises(SacmaError, match=r"holds a finished run; choose another --out, or overwrite"):
        RunFolder.create(tmp_path / "other", CONFIG)
    other = resolve({"seed": 8})
    assert RunFolder.create(folder.path, other, force=True).config() == other
    assert sorted(path.name for path in folder.path.iterdir()) == ["config.yaml", "environment.json"]


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_run_is_never_overwritten(force: bool, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(SacmaError, match="is not a run folder"):
            RunFolder.create(place, CONFIG, force=force)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_a_killed_start_left_is_no_hindrance(tmp_path: Path) -> None:
    for name in (".config.yaml.123.partial", ".lock", "environment.json"):
        (tmp_path / name).write_text("")
    assert RunFolder.create(tmp_path, CONFIG).config() == CONFIG


def test_opening_what_is_no_run(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(SacmaError, match=f"{place} is not a run folder: it has no config.yaml"):
            RunFolder.open(place)
    RunFolder.create(tmp_path, CONFIG)
    with pytest.raises(SacmaError, match=f"not finished; continue it with sacma train --resume {tmp_path}"):
        RunFolder.open(tmp_path, finished=True)


def test_a_run_of_version_0_1_has_no_younger_options(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "default", CONFIG)
    assert not LATER.keys() & load_options(tmp_path / "default" / "config.yaml").keys()
    assert folder.config() == CONFIG
    other = replace(CONFIG, protocol=replace(CONFIG.protocol, prior="frozen"))
    assert RunFolder.create(tmp_path / "other", other).config() == other


def test_every_option_must_be_in_the_file(tmp_path: Path) -> None:
    """One that is missing would be filled in with a value that the run was not made with."""
    folder = RunFolder.create(tmp_path, CONFIG)
    file = tmp_path / "config.yaml"
    lines = file.read_text().splitlines()
    for option in ("bias_search", "weight_cos", "seed", "root"):
        file.write_text("\n".join(line for line in lines if not line.startswith(option)))
        with pytest.raises(SacmaError, match=f"{file} lacks {option}"):
            folder.config()


# --- Result and metrics ---------------------------------------------------------------------------


def test_a_result_is_whole(tmp_path: Path) -> None:
    folder = finished(tmp_path)
    content = read_json(tmp_path / "result.json")
    assert folder.result().to_dict() == content
    for name in content:
        write_json(tmp_path / "result.json", {key: value for key, value in content.items() if key != name})
        with pytest.raises(SacmaError, match=r"result\.json is (damaged|of another version)"):
            folder.result()


@pytest.mark.parametrize("name", MEASURES)
@pytest.mark.parametrize("value", [None, "x", [1], True, float("inf"), 10**400])
def test_measures_are_numbers(name: str, value: Any, tmp_path: Path) -> None:
    folder = finished(tmp_path)
    content = read_json(tmp_path / "result.json")
    write_json(tmp_path / "result.json", content | {"test": {**FIGURE, name: value}})
    with pytest.raises(SacmaError, match=rf"result\.json is damaged: test.*{name}"):
        folder.result()


def test_metrics_and_what_is_forgotten_of_them(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.metrics() == []
    rows = [
        EpochRow(
            stage=stage,
            epoch=epoch,
            learning_rate=0.1,
            loss=0.1 * epoch,
            losses={"ccl": 0.1 * epoch},
            validation={"zsl": 0.5} if stage == 1 else None,
            seconds=1.5,
        )
        for stage in (1, 2)
        for epoch in (1, 2, 3)
    ]
    for row in rows:
        folder.add_metrics(row)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"stage": 2, "epo')  # cut short by a kill
    assert folder.metrics() == rows
    folder.forget_metrics_after(2, 1)
    assert folder.metrics() == rows[:4]
    assert (tmp_path / "metrics.jsonl").read_text().endswith("}\n")
    folder.forget_metrics_after(1, 2)
    assert folder.metrics() == rows[:2]
    folder.forget_metrics_after(1, 0)
    assert folder.metrics() == []


@pytest.mark.parametrize("content", ["", "no json", "[]", "3", '{"a": ', "[" * 100_000])
def test_json_that_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(SacmaError, match=r"x\.json"):
        read_json(tmp_path / "x.json")


def test_json_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "x.json"
    write_json(file, {"a": 0.1 + 0.2, "b": "ü"})
    assert read_json(file) == {"a": 0.1 + 0.2, "b": "ü"}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(SacmaError, match=f"cannot write {file}: No space left on device"):
        write_json(file, {"a": 2})
    assert read_json(file)["b"] == "ü"
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_mean_and_spread_over_seeds() -> None:
    found = [GZSLResult.from_dict({**FIGURE, "seen": seen}) for seen in (0.1, 0.4)]
    results = [
        RunResult(**TEXTS, seed=seed, epochs=3, validation=one, test=one) for seed, one in enumerate(found)
    ]
    summary = RunSummary.of(results).to_dict()
    assert summary["seeds"] == [0, 1]
    assert "seed" not in summary
    assert summary["test"]["mean"]["seen"] == pytest.approx(0.25)
    assert summary["test"]["std"]["seen"] == pytest.approx(0.15 * 2**0.5)  # of a sample
    assert summary["test"]["std"]["zsl"] == 0
    assert RunSummary.of(results[:1]).test.std["seen"] is None
    json.dumps(summary)


# --- The lock -------------------------------------------------------------------------------------


def test_one_at_a_time(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG)
    with folder.locked(), pytest.raises(SacmaError, match="another process is at work"), folder.locked():
        pass
    with pytest.raises(ZeroDivisionError), folder.locked():
        raise ZeroDivisionError
    with folder.locked():
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "environment.json"]


def test_the_lock_clears_what_was_half_written(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, CONFIG)
    (tmp_path / "stage-1").mkdir()
    (tmp_path / ".model.xyz.partial").mkdir()
    for name in (".result.json.12.partial", "stage-1/.checkpoint.pt.12.partial", ".model.xyz.partial/x"):
        (tmp_path / name).write_text("half")
    (tmp_path / "stage-1" / "checkpoint.pt").write_text("whole")
    with folder.locked():
        kept = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert kept == {"config.yaml", "environment.json", ".lock", "stage-1/checkpoint.pt"}


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    root, run = folders.write_folder(tmp_path / "toy"), tmp_path / "run"
    arguments = ["train", *commands.on(root), f"--out={run}", *commands.SMALL]
    assert wait(start(*arguments, fault=(die_at_write, 4, False))) == -9
    assert (run / ".lock").exists()
    with RunFolder.open(run).locked():
        pass
    assert not (run / ".lock").exists()


# --- Models and predictions -----------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_saved_and_loaded(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    method = METHODS[name](audio_width=3, video_width=4, text_width=7)
    method.fit_scaling([torch.randn(9, 3)], [torch.randn(9, 4)])
    save_model(method, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    loaded = load_model(name, str(tmp_path))
    assert type(loaded) is type(method)
    assert loaded.config == method.config
    assert not loaded.training
    state, saved = method.state_dict(), loaded.state_dict()
    assert state.keys() == saved.keys()
    assert all(torch.equal(state[key], saved[key]) for key in state)


def test_weights_of_another_method(tmp_path: Path) -> None:
    save_model(METHODS["devise"](audio_width=3, video_width=4, text_width=5), tmp_path)
    with pytest.raises(SacmaError, match=str(tmp_path)):
        load_model("sacma", tmp_path)


def test_a_model_is_saved_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    method = METHODS["devise"](audio_width=3, video_width=4, text_width=5)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(SacmaError, match="No space left"):
        save_model(method, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(SacmaError, match="cannot write the model"):
        save_model(method, Path("/dev/null/x"))


def test_names_of_clips_need_not_be_text(tmp_path: Path) -> None:
    """File names are bytes; what is no text in them is spelt out in the table of predictions."""
    root = folders.write_folder(tmp_path / "toy")
    place = root / "features" / folders.FEATURES
    features = Features.open(place)
    with FeaturesWriter(
        tmp_path / "copy",
        features.classes,
        audio_width=features.audio.width,
        video_width=features.video.width,
        audio_step=0.5,
        video_step=1,
        provenance={},
    ) as writer:
        for row, name in enumerate(features.names):
            tracks = (features.audio, features.video)
            steps = [track.gather(torch.tensor([row])).values for track in tracks]
            partition = int(features.partitions[row])
            writer.add(f"{name}\udcff", int(features.labels[row]), partition, *steps)
    for file in ("clips.safetensors", "clips.json"):
        shutil.copy(tmp_path / "copy" / file, place / file)
    run = trained(root, tmp_path / "run", "--epochs=1")
    names = pq.read_table(run / "predictions.parquet")["clip"].to_pylist()
    assert names[0].endswith(r"\udcff")


def test_configuration_of_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    config = RunConfig(data=CONFIG.data, model=CONFIG.model, seed=4, preset="small")
    assert RunFolder.create(tmp_path, config).config() == config
