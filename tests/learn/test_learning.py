"""From a folder of clips to a model by commands; figures of clips that are held back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from commands import sacma as run_command
from frozen_toys import GREYS, GreyAndPitch
from sacma.errors import SacmaError
from sacma.learn import learn, load_model, taught
from sacma.learn.choice import Share, choose, held_back_figures
from sacma.learn.shots import RIDGE, Shots, Weights, certain, fused, together
from sacma.media.listing import find_clips

pytest.importorskip("av")
from clip_files import write_film


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> GreyAndPitch:
    model = GreyAndPitch()
    monkeypatch.setattr(taught, "open_frozen", lambda *_, **__: model)
    return model


def write(path: Path, grey: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_film(path, [(1.0, int(255 * grey), 1000 * grey)])


def test_the_commands(toy: GreyAndPitch, tmp_path: Path) -> None:
    root, out = tmp_path / "clips", tmp_path / "mine"
    for name in ("dark", "white"):
        for number in range(2):
            write(root / name / f"{number}.mp4", GREYS[name] - 0.02 * number)
    (root / "dark" / "broken.mp4").write_bytes(b"no film")
    (root / "middle").mkdir()
    made = run_command("learn", root, "--out", out, "--classes", "grey day: sky with clouds", "--json")
    assert made.status == 0, made.err
    told = json.loads(made.out)
    assert told["classes"] == {"dark": 2, "white": 2, "middle": 0, "grey day": 0}
    assert told["figures"]["frozen, all clips"]["right"] == 4
    assert told["figures"]["model"]["of"] == 4
    assert any("fewer than 30" in line for line in told["warnings"])
    assert list(told["left_out"]) == [str(root / "dark" / "broken.mp4")]
    again = run_command("learn", root, "--out", out)
    assert again.status == 2
    assert "has learned already" in again.err

    film = write(tmp_path / "film.mp4", 0.3)
    for arguments, said in (
        (("add-class", out, "dusk"), "class dusk added"),
        (("correct", out, film, "dusk"), f"{film} is dusk"),
        (("add-clips", out, "dawn", film), "1 clips of dawn added"),
        (("undo", out), "taken back: add clips: dawn, 1 clips"),
    ):
        done = run_command("teach", *arguments)
        assert done.status == 0, done.err
        assert said in done.out
    log = run_command("teach", "log", out)
    assert len(log.out.splitlines()) == 3
    assert "is dusk" in log.out
    for option in ("--model", "--run"):
        found = run_command("predict", film, option, out, "--json")
        assert found.status == 0, found.err
        assert json.loads(found.out)["predictions"][0]["answers"][0]["name"] == "dusk"
    wrong = run_command("predict", film, "--model", out, "--bias", 1)
    assert wrong.status == 2
    assert "leave it out" in wrong.err


def test_names_alone(toy: GreyAndPitch, tmp_path: Path) -> None:
    lesson = learn([], tmp_path / "mine", names=["dark", "white: bright"])
    assert lesson.figures == {}
    assert "nothing tells how often" in lesson.warnings[0]
    assert load_model(tmp_path / "mine")(write(tmp_path / "a.mp4", 0.98)).best.name == "white"
    with pytest.raises(SacmaError, match="no classes"):
        learn([], tmp_path / "other")


def test_what_was_interrupted_goes_on(toy: GreyAndPitch, tmp_path: Path) -> None:
    root, out = tmp_path / "clips", tmp_path / "mine"
    for number, name in enumerate(("dark", "white")):
        write(root / name / "a.mp4", GREYS[name] - 0.01 * number)
    listed = find_clips([root])

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(listed, out, on_progress=stop)
    assert toy.opened == 1
    lesson = learn(listed, out)
    assert toy.opened == 2  # the first clip was not read again
    assert any("one clip a class" in line for line in lesson.warnings)
    shutil.rmtree(out)
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(SacmaError, match=r"has 'thesis.txt' in it"):
        learn(listed, out)


def test_the_same_clip_in_two_classes_is_told(toy: GreyAndPitch, tmp_path: Path) -> None:
    first = write(tmp_path / "clips" / "dark" / "a.mp4", 0.1)
    (tmp_path / "clips" / "white").mkdir()
    shutil.copy(first, tmp_path / "clips" / "white" / "b.mp4")
    write(tmp_path / "clips" / "dark" / "c.mp4", 0.12)
    lesson = learn(find_clips([tmp_path / "clips"]), tmp_path / "mine")
    assert [line for line in lesson.warnings if "more than once" in line or "different classes" in line]
    assert sum(len(some) for some in lesson.model.examples.values()) == 2


# --- Scores and figures ------------------------------------------------------------------------------


def clouds(
    random: np.random.Generator, per_class: int, *, far: float
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    labels = np.repeat(np.arange(4), per_class)
    middles = random.normal(size=(4, 16)) * far
    rows = middles[labels] + random.normal(size=(len(labels), 16))
    return {
        "audio": np.full((len(labels), 3), np.nan),
        "video": rows / np.linalg.norm(rows, axis=1)[:, None],
    }, labels


def test_weights_follow_what_tells_classes_apart() -> None:
    random = np.random.default_rng(0)
    x, labels = clouds(random, 10, far=3.0)
    noise, truth = 3 * random.normal(size=(40, 4)), np.eye(4)[labels] * 6
    useless_frozen = choose(x, noise, labels, 4)
    assert useless_frozen.examples / max(useless_frozen.frozen, 0.1) > 10
    nothing, _ = clouds(random, 10, far=0.0)
    useless_examples = choose(nothing, truth, labels, 4)
    assert useless_examples.frozen > 0
    assert useless_examples.examples <= 5


def test_figures_are_of_clips_that_were_held_back() -> None:
    """Chance level where nothing can be learned, though the taught clips themselves are all named rightly."""
    random = np.random.default_rng(1)
    nothing, labels = clouds(random, 25, far=0.0)
    figures = held_back_figures(nothing, random.normal(size=(100, 4)), labels, 4)
    low, high = figures["model"].interval
    assert low < 0.25 < high
    assert figures["model"].chance == 0.25
    itself = Shots(nothing, labels, 4).itself(nothing)
    assert (itself == labels).all()
    x, labels = clouds(random, 25, far=3.0)
    assert held_back_figures(x, random.normal(size=(100, 4)), labels, 4)["model"].share > 0.9


def test_an_interval_is_wilsons() -> None:
    low, high = Share(8, 10, 0.1).interval
    assert (low, high) == (pytest.approx(0.4902, abs=1e-4), pytest.approx(0.9433, abs=1e-4))
    assert Share(0, 0, 0.5).interval == (0.0, 1.0)
    assert "80 % of 10 clips (49 to 94 % at 95 % confidence; chance 10 %)" in str(Share(8, 10, 0.1))


def test_the_ridge_by_hand() -> None:
    x = {"video": np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])}
    shots = Shots(x, np.array([0, 0, 1]), 3)
    centre = (np.array([0.8, 0.4]) + np.array([0.0, 1.0])) / 2
    rows = np.array([(row - centre) / np.linalg.norm(row - centre) for row in x["video"]])
    wanted = np.array([[0.5, -0.5, 0.0], [0.5, -0.5, 0.0], [-0.5, 0.5, 0.0]])
    w = np.diag([0.75, 0.75, 1.5])  # both classes count alike
    solved = np.linalg.inv(rows.T @ w @ rows + RIDGE * np.eye(2)) @ rows.T @ w @ wanted
    found = shots.scores({"video": x["video"][:1]})["video"][0]
    assert found == pytest.approx(rows[0] @ solved)
    mean = (2 / 3 + 1 / 2) / 2
    assert shots.expected == pytest.approx(np.array([2 / 3 / mean, 1 / 2 / mean, 0.0]))
    scores = fused(np.array([[1.0, 2.0, 3.0]]), found[None], shots.expected, Weights(0.5, 2.0, 0.1))
    wanted_scores = [0.5 + 2 * (found[0] - 0.1 * 2 / 3 / mean), 1 + 2 * (found[1] - 0.1 / 2 / mean), 1.5]
    assert scores[0] == pytest.approx(wanted_scores)
    sure = certain(scores, np.array([1]))
    assert sure.argmax() == 1
    assert (sure[0, [0, 2]] == scores[0, [0, 2]]).all()


def test_both_ways_to_solve_the_ridge_agree() -> None:
    random = np.random.default_rng(0)
    few, labels = random.normal(size=(6, 9)), np.array([0, 0, 0, 1, 1, 2])
    wide = {
        "video": np.hstack([few, np.zeros((6, 1))])
    }  # six equations; below, eighteen clips of ten numbers
    many = {"video": np.repeat(wide["video"], 3, axis=0)}
    once = Shots(wide, labels, 3).scores(wide)["video"]
    assert Shots(many, np.repeat(labels, 3), 3).scores(wide)["video"] == pytest.approx(
        _ridge_of(wide["video"], labels, RIDGE / 3, wide["video"])
    )
    assert once == pytest.approx(_ridge_of(wide["video"], labels, RIDGE, wide["video"]))


def _ridge_of(x: np.ndarray, labels: np.ndarray, ridge: float, asked: np.ndarray) -> np.ndarray:
    centre = np.mean([x[labels == k].mean(axis=0) for k in range(3)], axis=0)
    rows, queries = ((m - centre) / np.linalg.norm(m - centre, axis=1)[:, None] for m in (x, asked))
    w = 6 / 3 / np.bincount(labels)[labels]
    inverse = np.linalg.inv((rows.T * w) @ rows + ridge * np.eye(x.shape[1]))
    return queries @ inverse @ (rows.T * w) @ (np.eye(3)[labels] - 1 / 3)


def test_corrected_clips_do_not_choose_weights() -> None:
    """The model was wrong about them, so they would speak against it."""
    random = np.random.default_rng(0)
    x, labels = clouds(random, 10, far=3.0)
    frozen = np.eye(4)[labels] * 6
    fair = np.ones(40, dtype=bool)
    hard = np.flatnonzero(np.arange(40) % 5 == 0)
    frozen[hard] = np.eye(4)[(labels[hard] + 1) % 4] * 60
    fair[hard] = False
    assert choose(x, frozen, labels, 4).frozen == 0
    assert choose(x, frozen, labels, 4, fair=fair).frozen > 0


def test_defaults_stay_where_few_clips_speak_against_them() -> None:
    random = np.random.default_rng(3)
    x, labels = clouds(random, 10, far=1.2)
    frozen = np.eye(4)[labels] * 2 + random.normal(size=(40, 4))
    chosen = choose(x, frozen, labels, 4)  # other weights are better, by less than a standard error
    assert (chosen.frozen, chosen.examples) == (Weights().frozen, Weights().examples)
    for m, rows in x.items():
        x[m] = np.repeat(rows, 25, axis=0)  # the same again and again is no doubt any more
    many = choose(x, np.repeat(frozen, 25, axis=0), np.repeat(labels, 25), 4)
    assert (many.frozen, many.examples) != (Weights().frozen, Weights().examples)


def test_a_missing_modality_does_not_count() -> None:
    alone = {"audio": np.array([[np.nan, np.nan], [0.2, 0.4]]), "video": np.array([[0.5, 0.1], [0.4, 0.0]])}
    assert together(alone) == pytest.approx(np.array([[0.5, 0.1], [0.3, 0.2]]))
