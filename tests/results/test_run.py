"""A finished run, opened to look at: it agrees with what the run kept and with what the method computes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import commands
import folders
import sacma
from sacma.errors import SacmaError
from sacma.metrics.gzsl import MEASURES
from sacma.results.run import Run, load_run

CLIPS = 4 * (len(folders.CLASSES["train"]) + len(folders.CLASSES["val_unseen"]) + 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    root = folders.write_folder(folder / "root")
    return load_run(commands.trained(root, folder / "run"))


def test_configuration_result_and_course(run: Run) -> None:
    assert (run.config.method, run.config.data.benchmark) == ("sacma", folders.NAME)
    stored = commands.result(run.path)
    assert run.result.test.harmonic_mean == stored["test"]["harmonic_mean"]
    assert list(run.history["stage"][:3]) == [1, 1, 1]
    assert {"epoch", "loss", "seconds", "learning_rate", "validation/harmonic_mean"} <= set(run.history)
    best = max(one for one in run.history["validation/harmonic_mean"] if one is not None)
    assert best == run.result.validation.harmonic_mean


def test_predictions_are_those_that_the_run_kept(run: Run) -> None:
    table = run.predictions(top=3)
    assert list(table) == ["clip", "class", "seen", "rank", "name", "probability", "distance", "right"]
    assert table.rows == 3 * CLIPS
    kept = run.folder.predictions()
    assert table["clip"][::3] == kept["clip"]
    assert table["class"][::3] == kept["class"]
    assert table["seen"][::3] == kept["seen"]
    assert table["name"][::3] == kept["prediction"]
    assert list(table["rank"][:3]) == [1, 2, 3]
    assert table["right"] == [a == b for a, b in zip(table["class"], table["name"], strict=True)]
    shares = np.array(run.predictions(top=99)["probability"]).reshape(CLIPS, -1)
    assert shares.shape[1] == len(folders.ALL)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (np.diff(shares, axis=1) <= 0).all()


def test_embeddings_have_the_distances_of_the_answers(run: Run) -> None:
    found = run.embeddings("test", "phi_a")
    assert found.values.shape == (CLIPS, found.class_values.shape[1])
    far = torch.cdist(torch.from_numpy(found.values), torch.from_numpy(found.class_values))
    table = run.predictions(top=1, output="phi_a")
    for row, (clip, name, distance) in enumerate(
        zip(table["clip"], table["name"], table["distance"], strict=True)
    ):
        assert found.clips[row] == clip
        assert float(far[row, found.classes.index(name)]) == pytest.approx(distance, rel=1e-4)
    assert len(run.embeddings("train").clips) == 8 * 5
    frame = pytest.importorskip("pandas") and found.to_frame()
    assert frame.shape == (CLIPS, 2 + found.values.shape[1])


def test_confusion_counts_each_clip_once(run: Run) -> None:
    confusion = run.confusion()
    assert confusion.counts.sum() == CLIPS
    kept = run.folder.predictions()
    right = sum(a == b for a, b in zip(kept["class"], kept["prediction"], strict=True))
    assert np.trace(confusion.counts) == right
    pairs = confusion.pairs()
    assert sum(pairs["clips"]) == CLIPS - right
    assert list(pairs["clips"]) == sorted(pairs["clips"], reverse=True)
    unseen = run.confusion(zsl=True)
    assert set(unseen.names) <= set(folders.CLASSES["test_unseen"])
    assert unseen.counts.sum() == 4 * 3
    for kind in ("pandas", "polars"):
        if pytest.importorskip(kind):
            assert len(confusion.to_frame(kind)) == len(confusion.names)  # type: ignore[arg-type]


def test_evaluation_repeats_the_result(run: Run) -> None:
    again = run.evaluate()
    for name in MEASURES:
        assert getattr(again, name) == getattr(run.result.test, name)
    assert run.evaluate(output="phi_v").harmonic_mean >= 0


def test_what_cannot_be_given_is_one_error(run: Run, tmp_path: Path) -> None:
    with pytest.raises(SacmaError, match="no split 'valid'; there are: train, val"):
        run.embeddings("valid")
    with pytest.raises(SacmaError, match="top is 0"):
        run.predictions(top=0)
    with pytest.raises(SacmaError, match="cannot score with 'phi_x'"):
        run.predictions(output="phi_x")
    with pytest.raises(SacmaError, match="not a run folder"):
        sacma.load_run(tmp_path)


def test_a_method_without_embeddings_says_so(tmp_path: Path) -> None:
    root = folders.write_folder(tmp_path / "root")
    outcome = commands.sacma("train", *commands.on(root), "--method=kite", f"--out={tmp_path / 'run'}")
    assert outcome.status == 0, outcome.err
    run = load_run(tmp_path / "run")
    assert run.predictions(top=1)["name"] == run.folder.predictions()["prediction"]
    with pytest.raises(SacmaError, match="kite does not compare embeddings"):
        run.embeddings()


def test_it_shows_itself_in_a_notebook(run: Run) -> None:
    html = run._repr_html_()
    assert f"{100 * run.result.test.zsl:.1f}" in html
    assert run.result.headline in html
    assert run.confusion()._repr_html_().startswith("<table>")
    assert "Run(sacma (paper) on toy" in repr(run)
