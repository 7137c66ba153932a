"""``sacma predict`` on many clips: row by row, after a kill, in several processes, with unknown names."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import commands
import descriptor_run
from commands import sacma as run_command
from sacma import load
from sacma.commands import predicting
from sacma.datasets import avshapes
from sacma.errors import SacmaError
from sacma.frozen.descriptions import ClassName
from sacma.predict.class_names import placed
from sacma.predict.outputs import Outcome
from sacma.text.minilm import open_minilm
from sacma.text.vectors import TextTable

pytest.importorskip("av")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return descriptor_run.trained(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    avshapes.write_mp4(descriptor_run.TRAIN[0], 2, folder / "a.mp4", size=64, fps=12)
    for name in ("b", "d"):
        shutil.copy(folder / "a.mp4", folder / f"{name}.mp4")
    (folder / "c.mp4").write_bytes(b"no media file")
    return folder


def names_in(out: Path) -> list[str]:
    if out.suffix == ".csv":
        return list(dict.fromkeys(Path(row["clip"]).name for row in csv.DictReader(out.open())))
    return [Path(json.loads(line)["clip"]).name for line in out.read_text().splitlines()]


def stop_at(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """Ctrl-C at a clip; what is returned gets the clips that are asked for."""
    asked: list[str] = []
    ask = predicting.Asker.ask

    def ask_or_stop(self: predicting.Asker, clip: Any) -> Outcome:
        asked.append(clip.path.name)
        if clip.path.name == name:
            raise KeyboardInterrupt
        return ask(self, clip)

    monkeypatch.setattr(predicting.Asker, "ask", ask_or_stop)
    return asked


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json"])
def test_what_was_interrupted_goes_on(
    run: Path, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    whole, out = tmp_path / f"whole.{ending}", tmp_path / f"answers.{ending}"
    arguments = ("predict", clips, "--run", run, "--top", 2, "--out")
    assert run_command(*arguments, whole).status == 2  # c.mp4 is no clip
    with monkeypatch.context() as patch:
        stop_at(patch, "d.mp4")
        assert run_command(*arguments, out).status == 130
    if ending != "json":
        assert names_in(out) == ["a.mp4", "b.mp4", "c.mp4"]  # row by row
    journal = tmp_path / f"answers.{ending}.unfinished"
    journal.write_text(journal.read_text() + '{"clip": "cut sh')  # a kill while it was written
    other = run_command("predict", clips, "--run", run, "--top", 3, "--out", out)
    assert "asked for something else" in other.line
    with monkeypatch.context() as patch:
        asked = stop_at(patch, "nothing")
        again = run_command(*arguments, out)
    assert asked == ["d.mp4"]
    assert "3 clips were done before" in again.err
    assert "1 of 4 clips were left out" in again.err
    assert out.read_text() == whole.read_text()
    assert not journal.exists()


def test_a_killed_command_leaves_whole_rows(run: Path, clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.csv"
    process = commands.start(
        "predict", clips, "--run", run, "--out", out, fault=(die_at_row, 3), log=tmp_path / "log"
    )
    assert commands.wait(process) == -signal.SIGKILL
    assert run_command("predict", clips, "--run", run, "--out", out).status == 2
    assert names_in(out) == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]


def die_at_row(number: int) -> None:
    """A fault: SIGKILL between the two writes of a clip's rows."""
    import os

    rows, count = predicting.rows, 0

    def counting(*arguments: Any) -> str:
        nonlocal count
        count += 1
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return rows(*arguments)

    predicting.rows = counting


@pytest.mark.slow
def test_several_processes_give_the_same(run: Path, clips: Path, tmp_path: Path) -> None:
    arguments = ("predict", clips, "--run", run, "--out")
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    assert run_command(*arguments, one).status == 2
    assert run_command(*arguments, two, "--jobs", 2).status == 2
    assert two.read_text() == one.read_text()


def test_unknown_names_are_left_out_where_that_is_asked_for(run: Path, clips: Path) -> None:
    known = descriptor_run.TRAIN[0]
    arguments = ("predict", clips / "a.mp4", "--run", run, "--classes", f"{known}, yak")
    assert "yak" in run_command(*arguments).line
    found = run_command(*arguments, "--skip-unknown", "--json")
    assert found.status == 0, found.err
    assert "left out: yak" in found.err
    assert [one["name"] for one in json.loads(found.out)["predictions"][0]["answers"]] == [known]
    nothing = run_command("predict", clips / "a.mp4", "--run", run, "--classes", "yak", "--skip-unknown")
    assert "none of the names is known" in nothing.line


def test_unknown_names_stand_near_those_that_mean_nearly_the_same(
    run: Path, clips: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = descriptor_run.TRAIN[:2]

    def encode(self: object, names: Sequence[str]) -> np.ndarray:
        return np.array([[0.0, 1.0] if name in (known[0], "yak") else [1.0, 0.0] for name in names])

    monkeypatch.setattr("sacma.text.minilm.Sentences.__init__", lambda self: None)
    monkeypatch.setattr("sacma.text.minilm.Sentences.__call__", encode)
    plain = load(run)
    with pytest.raises(SacmaError, match="yak"):
        plain.candidates(["yak"])
    candidates = load(run, near_unknown=True).candidates([*known, "yak"])
    vectors = candidates.classes.vectors
    cosines = torch.nn.functional.cosine_similarity(vectors[2:], vectors[:2])
    assert cosines[0] > 0.999
    assert cosines[1] < 0.9
    assert candidates.known == frozenset(known)
    assert known[0] in candidates.notes[0]
    arguments = ("predict", clips / "a.mp4", "--run", run, "--classes", f"{known[0]}, yak")
    told = run_command(*arguments, "--near-unknown", "--json")
    assert told.status == 0, told.err
    assert any("does not know 'yak'" in one for one in json.loads(told.out)["predictions"][0]["notes"])


@pytest.mark.skipif("SACMA_DATA" not in os.environ, reason="SACMA_DATA names no folder of real clips")
@pytest.mark.parametrize("table", ["UCF/*ucf*", "VGGSound/*vggsound*", "ActivityNet/*activity*"])
def test_published_names_that_are_taken_for_unknown(table: str) -> None:
    """Figures in the docs: the rank of a name's own vector near the one that it is given without it."""
    folder, file = table.split("/")
    root = Path(os.environ["SACMA_DATA"]) / "benchmarks" / folder
    known = TextTable.read(next(root.glob(f"features/*/text/{file}")))
    sentences = open_minilm()([ClassName(name).texts[0] for name in known.names])
    own = known.vectors / np.linalg.norm(known.vectors, axis=1, keepdims=True)
    ranks = []
    for k in range(len(own)):
        others = np.arange(len(own)) != k
        vector, _ = placed(sentences[others] @ sentences[k], own[others])
        ranks.append(1 + int((own @ vector > own[k] @ vector).sum()))
    print(f"{folder}: median rank {np.median(ranks):.0f} of {len(own)}")
    assert np.median(ranks) < len(own) / 5


def test_rows_come_on_standard_output_too(run: Path, clips: Path) -> None:
    told = run_command("predict", clips, "--run", run, "--format", "jsonl")
    lines = [json.loads(line) for line in told.out.splitlines()]
    assert [line["status"] for line in lines] == ["ok", "ok", "failed", "ok"]
    assert "c.mp4" in lines[2]["note"]


def test_subtitles_are_of_one_clip(run: Path, clips: Path, tmp_path: Path) -> None:
    assert "name one clip" in run_command("predict", clips, "--run", run, "--out", tmp_path / "a.srt").line
    out = tmp_path / "b.srt"
    assert run_command("predict", clips / "a.mp4", "--run", run, "--out", out, "--window", 1).status == 0
    assert out.read_text().startswith("1\n00:00:00,000 --> ")
