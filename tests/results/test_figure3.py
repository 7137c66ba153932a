"""Figure 3: which clips and classes it shows, its numbers, and the files that it writes."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from commands import SMALL, on, sacma, trained
from folders import FEATURES, NAME, write_folder
from sacma.data.batches import gather
from sacma.data.benchmark import Benchmark
from sacma.data.features import Track
from sacma.results.figure3 import embed_run, reproduce_figure
from sacma.runs.folder import RunFolder
from sacma.studies import study as studies
from sacma.training.scoring import load_run_model

for _package in ("matplotlib", "sklearn"):
    pytest.importorskip(_package)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def run(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(root, tmp_path_factory.mktemp("runs") / "run", "--epochs=2")


@pytest.fixture(scope="module")
def benchmark(root: Path) -> Benchmark:
    return Benchmark.open(root, NAME, FEATURES)


def test_vectors_are_those_of_the_paper(run: Path, benchmark: Benchmark) -> None:
    silhouette = pytest.importorskip("sklearn.metrics").silhouette_score
    folder = RunFolder.open(run)
    found = embed_run(folder, benchmark, classes=["bee", "cat", "gnu"])
    split = benchmark.split("test")
    rows = torch.cat([(split.labels == split.classes.names.index(n)).nonzero()[:, 0] for n in found.classes])
    batch = gather(split, rows)
    model: Any = load_run_model(folder, benchmark)
    with torch.inference_mode():
        phi_m = model.embed(batch, streams="m")["m"]
    expected = {
        "mean audio input": batch.audio.mean(),
        "mean visual input": batch.video.mean(),
        "phi_m": phi_m,
    }
    assert found.clips == tuple(split.features.names[clip] for clip in split.clips[rows].tolist())
    assert [panel.title for panel in found.panels] == list(expected)
    for panel, vectors in zip(found.panels, expected.values(), strict=True):
        assert panel.silhouette == pytest.approx(silhouette(vectors.numpy(), found.labels), abs=1e-5)
        assert panel.silhouette_of_points == pytest.approx(silhouette(panel.points, found.labels), abs=1e-5)


def test_the_same_seed_gives_the_same_figure(run: Path, benchmark: Benchmark) -> None:
    first, again = (embed_run(RunFolder.open(run), benchmark, seed=3) for _ in range(2))
    for a, b in zip(first.panels, again.panels, strict=True):
        np.testing.assert_array_equal(a.points, b.points)


def test_six_classes_with_the_most_clips(run: Path, benchmark: Benchmark) -> None:
    found = embed_run(RunFolder.open(run), benchmark)
    assert found.classes == ("ant", "bee", "cat", "dog", "eel", "fox")  # four clips each: the first six
    assert len(found.clips) == 24


def test_clips_without_a_modality_are_left_out(run: Path, benchmark: Benchmark) -> None:
    track = benchmark.features.audio
    clip = int(benchmark.split("test").clips[0])  # an ant
    lengths = track.lengths.clone()
    lengths[clip] = 0
    kept = track.gather((lengths > 0).nonzero()[:, 0]).values
    silent = Track(kept, torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]), track.step_seconds)
    changed = replace(benchmark, features=replace(benchmark.features, audio=silent))
    found = embed_run(RunFolder.open(run), changed, classes=["ant", "bee"])
    assert len(found.clips) == 7
    assert benchmark.features.names[clip] not in found.clips


def test_methods_without_a_joint_embedding(root: Path, benchmark: Benchmark, tmp_path: Path) -> None:
    out = tmp_path / "ale"
    done = sacma("train", *on(root), "--method=ale", "--epochs=1", "--batches-per-epoch=2", f"--out={out}")
    assert done.status == 0, done.err
    assert embed_run(RunFolder.open(out), benchmark).panels[2].title == "distances to the classes"


def test_the_command(run: Path, root: Path) -> None:
    done = sacma("reproduce", "figure3", f"--run={run}", '--classes=ant, "bee",CAT', f"--root={root}")
    assert done.status == 0, done.err
    assert "classes: ant, bee, cat" in done.out
    assert done.out.count("silhouette") == 3
    assert (run / "figure3.png").read_bytes().startswith(b"\x89PNG")
    svg = (run / "figure3.svg").read_text()
    assert svg.rstrip().endswith("</svg>")
    rows = list(csv.DictReader((run / "figure3.csv").open()))
    assert len(rows) == 3 * 12
    assert {row["class"] for row in rows} == {"ant", "bee", "cat"}
    assert {row["panel"] for row in rows} == {"mean audio input", "mean visual input", "phi_m"}
    before = {kind: (run / f"figure3.{kind}").read_bytes() for kind in ("png", "svg", "csv")}
    sacma("reproduce", "figure3", f"--run={run}", "--classes=ant,bee,cat")
    assert {kind: (run / f"figure3.{kind}").read_bytes() for kind in before} == before


def test_the_study_trains_sacma(root: Path, tmp_path: Path) -> None:
    small = dict(option.removeprefix("--").replace("-", "_").split("=") for option in SMALL)
    options = {name: float(v) if "." in v else int(v) for name, v in small.items()}
    given = {"benchmark": NAME, "features": FEATURES, "root": str(root), **options, "epochs": 1}
    out = tmp_path / "study"
    embedding, paths = reproduce_figure(given, run=None, classes=None, like="ours", out=out)
    setting = out / studies.setting_name([given], "ours")
    assert (setting / "sacma" / "seed-0" / "result.json").is_file()
    assert all(path.parent == setting and path.stat().st_size for path in paths)
    assert len(embedding.classes) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--classes=ant,be"], "no class 'be' among the test classes; nearest: 'bee'"),
        (["--classes=ant,hen"], "class 'hen' is unseen; Figure 3 shows seen classes"),
        (["--classes=ant"], "1 classes; choose from 2 to 12"),
        (["--classes=ant,ANT"], "class name 'ANT' is there twice"),
        (["--classes="], "no class names"),
        (['--classes="ant'], "a quotation mark is not closed"),
    ],
)
def test_classes_that_cannot_be_shown(options: list[str], message: str, run: Path) -> None:
    assert message in sacma("reproduce", "figure3", f"--run={run}", *options).line


def test_runs_that_cannot_be_shown(run: Path, tmp_path: Path) -> None:
    assert "is not a run folder" in sacma("reproduce", "figure3", f"--run={tmp_path}").line
    assert "--root is missing" in sacma("reproduce", "figure3").line
