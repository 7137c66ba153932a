"""Teaching a model: clips, classes, corrections, undo; what a kill leaves behind."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sacma
from frozen_toys import GreyAndPitch
from sacma.errors import SacmaError
from sacma.frozen.opening import open_frozen
from sacma.frozen.scores import Names, Scores, Window
from sacma.learn import Learned, learn, load_model, taught
from sacma.learn.store import FITTED, LOG, clip_id, found_id
from sacma.media.extract import ClipFeatures
from sacma.media.listing import find_clips

pytest.importorskip("av")
from clip_files import write_film

# The toy's own names for these greys are others: what it knows of "ant" is that it is like "bee".
GREY = {"ant": 0.15, "bee": 0.5, "cat": 0.85}


def write(path: Path, name: str, *, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = GREY[name] + 0.01 * shade
    return write_film(path, [(2.0, int(255 * grey), 1000 * grey)])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("clips")
    for name in ("ant", "bee"):
        for shade in range(3):
            write(root / name / f"{shade}.mp4", name, shade=shade)
    write(root.parent / f"{root.name}-more" / "cat-0.mp4", "cat")
    write(root.parent / f"{root.name}-more" / "cat-1.mp4", "cat", shade=1)
    return root


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> GreyAndPitch:
    model = GreyAndPitch()
    monkeypatch.setattr(taught, "open_frozen", lambda *_, **__: model)
    return model


@pytest.fixture
def model(clips: Path, toy: GreyAndPitch, tmp_path: Path) -> Learned:
    return learn(find_clips([clips]), tmp_path / "mine").model


def more(clips: Path, name: str) -> Path:
    return clips.parent / f"{clips.name}-more" / name


def test_from_a_folder_to_answers(model: Learned, clips: Path) -> None:
    assert model.own_names == ("ant", "bee")
    assert {name: len(some) for name, some in model.examples.items()} == {"ant": 3, "bee": 3}
    assert model(clips / "ant" / "1.mp4").best.name == "ant"
    assert model(clips / "bee" / "2.mp4").best.name == "bee"
    assert model.candidates().given == model.candidates("ant, bee").given


def test_a_class_from_one_clip_and_back(model: Learned, clips: Path, toy: GreyAndPitch) -> None:
    seen = model(more(clips, "cat-1.mp4")).best.name
    assert seen in ("ant", "bee")
    opened = toy.opened
    assert model.add_clips("cat", [more(clips, "cat-0.mp4")]) == 1
    assert toy.opened == opened + 1  # nothing else is read again
    assert model(more(clips, "cat-1.mp4")).best.name == "cat"
    assert model(clips / "ant" / "0.mp4").best.name == "ant"
    again = load_model(model.path)
    assert again.own_names == ("ant", "bee", "cat")
    before = again(more(clips, "cat-1.mp4"))
    assert before.answers == model(more(clips, "cat-1.mp4")).answers
    assert again.undo()["do"] == "add_clips"
    assert again(more(clips, "cat-1.mp4")).best.name == seen
    with pytest.raises(SacmaError, match="nothing to take back"):
        again.undo()


def test_a_correction_holds_for_the_clip_and_can_be_undone(model: Learned, clips: Path) -> None:
    clip = clips / "ant" / "1.mp4"
    model.correct(clip, "bee")
    assert model(clip).best.name == "bee"
    assert model(clip).best.probability > 0.9
    assert len(model.examples["bee"]) == 4
    assert [lesson["do"] for lesson in model.log] == ["learn", "correct"]
    model.correct(clip, "wasp: yellow and black", start=0.0, end=1.0)
    assert model.own_names == ("ant", "bee", "wasp")
    assert model.predict(clip, start=0.0, end=1.0).best.name == "wasp"
    model.undo()
    model.undo()
    assert model(clip).best.name == "ant"
    assert len((model.path / LOG).read_text().splitlines()) == 5  # lines are only added


def test_a_clip_that_the_model_has_is_not_read_again(model: Learned, clips: Path, toy: GreyAndPitch) -> None:
    opened = toy.opened
    assert model(clips / "ant" / "1.mp4").best.name == "ant"
    assert toy.opened == opened
    model.predict(clips / "ant" / "1.mp4", start=0.0, end=1.0)  # another part is another clip
    assert toy.opened == opened + 1


def test_a_file_is_read_for_its_id_only_where_its_size_is_known(
    model: Learned, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def counted(path: str | Path, start: float | None, end: float | None) -> str:
        read.append(Path(path).name)
        return clip_id(path, start, end)

    monkeypatch.setattr("sacma.learn.store.clip_id", counted)
    known, moved, other = clips / "ant" / "0.mp4", tmp_path / "moved.mp4", tmp_path / "other.mp4"
    clip = clip_id(known, None, None)
    shutil.copy(known, moved)
    other.write_bytes(known.read_bytes() + b"more")
    assert found_id(model.state.clips.values(), known, None, None) == clip
    assert found_id(model.state.clips.values(), other, None, None) is None
    assert read == []
    assert found_id(model.state.clips.values(), moved, None, None) == clip
    other.write_bytes(known.read_bytes()[:-1] + b"?")  # of the same size
    assert found_id(model.state.clips.values(), other, None, None) is None
    assert read == ["moved.mp4", "other.mp4"]
    assert found_id(model.state.clips.values(), known, 0.5, None) is None


def test_a_class_by_its_name_alone(model: Learned) -> None:
    assert model.add_class("dark") == 0
    assert model.own_names == ("ant", "bee", "dark")
    with pytest.raises(SacmaError, match="'Dark' is a class already"):
        model.add_class("Dark")
    assert model.candidates("DARK").given[0].name == "DARK"


def test_a_bad_clip_teaches_nothing(model: Learned, clips: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no film")
    lines = (model.path / LOG).read_bytes()
    with pytest.raises(SacmaError, match=r"bad\.mp4"):
        model.add_clips("cat", [more(clips, "cat-0.mp4"), bad])
    with pytest.raises(SacmaError, match="no such file"):
        model.correct(tmp_path / "none.mp4", "ant")
    assert (model.path / LOG).read_bytes() == lines
    assert model.own_names == ("ant", "bee")


def test_two_who_teach_see_each_other(model: Learned, clips: Path) -> None:
    other = load_model(model.path)
    model.add_clips("cat", [more(clips, "cat-0.mp4")])
    other.add_class("dark")
    assert other.own_names == ("ant", "bee", "cat", "dark")
    model.refresh()
    assert model.own_names == other.own_names


@pytest.mark.parametrize("cut", [1, 40])
def test_a_line_cut_short_by_a_kill_counts_as_not_written(model: Learned, clips: Path, cut: int) -> None:
    clip = clips / "ant" / "1.mp4"
    whole = (model.path / LOG).read_bytes()
    model.correct(clip, "bee")
    written = (model.path / LOG).read_bytes()
    (model.path / LOG).write_bytes(written[:-cut])
    again = load_model(model.path)
    assert again(clip).best.name == "ant"
    again.correct(clip, "bee")
    assert load_model(model.path)(clip).best.name == "bee"
    assert (model.path / LOG).read_bytes().startswith(whole)


def test_what_was_fitted_is_made_again_where_it_is_lost_or_old(model: Learned, clips: Path) -> None:
    clip = more(clips, "cat-1.mp4")
    old = (model.path / FITTED).read_bytes()
    model.add_clips("cat", [more(clips, "cat-0.mp4")])
    found = model(clip)
    for content in (old, b"", old[:100]):
        (model.path / FITTED).write_bytes(content)
        assert load_model(model.path)(clip).answers == found.answers


def test_a_lesson_scores_what_is_new_alone(
    model: Learned, clips: Path, toy: GreyAndPitch, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    scores = toy.scores

    def counted(features: ClipFeatures, windows: Sequence[Window], names: Names) -> Scores:
        asked.append(len(names))
        return scores(features, windows, names)

    again = load_model(model.path)
    monkeypatch.setattr(toy, "scores", counted)
    again.correct(clips / "ant" / "1.mp4", "bee")
    assert asked == []
    again.add_class("dark")
    assert asked == [1] * 6  # the new class for each clip
    again.add_clips("dark", [more(clips, "cat-0.mp4")])
    assert asked == [1] * 6 + [3]  # the new clip for each class
    monkeypatch.undo()
    x, frozen = again.gathered()
    monkeypatch.setattr(taught, "open_frozen", lambda *_, **__: toy)
    (model.path / FITTED).unlink()
    fresh_x, fresh = load_model(model.path).gathered()
    assert frozen == pytest.approx(fresh)
    for modality, rows in fresh_x.items():
        assert x[modality] == pytest.approx(rows, nan_ok=True)


def test_a_folder_of_another_encoder_or_version_is_refused(model: Learned, tmp_path: Path) -> None:
    facts = json.loads((model.path / "learned.json").read_text())
    facts["provenance"]["video"]["version"] = "0"
    (model.path / "learned.json").write_text(json.dumps(facts))
    with pytest.raises(SacmaError, match="read by another model or version"):
        load_model(model.path)
    facts["format"] = 99
    (model.path / "learned.json").write_text(json.dumps(facts))
    with pytest.raises(SacmaError, match="of format 99"):
        load_model(model.path)
    with pytest.raises(SacmaError, match="no taught model there"):
        load_model(tmp_path)


def test_a_damaged_log_says_where(model: Learned) -> None:
    with (model.path / LOG).open("a") as file:
        file.write("{}\n")
    with pytest.raises(SacmaError, match=r"log.jsonl, line 2: damaged"):
        load_model(model.path)


def test_other_names_are_scored_as_without_teaching(model: Learned, clips: Path, toy: GreyAndPitch) -> None:
    clip = more(clips, "cat-0.mp4")
    assert model(clip, "dark, white").best.name == sacma.ZeroShot(toy)(clip, "dark, white").best.name
    assert np.isfinite(model(clip, "dark, ant").best.probability)


@pytest.mark.parametrize("step", ["correct", "undo", "add_class"])
def test_killed_at_any_write_the_model_stays_usable(
    model: Learned, clips: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Ended before each write that puts a file in place or reaches the disk: the old state or the new."""
    clip = more(clips, "cat-1.mp4")
    model.correct(more(clips, "cat-0.mp4"), "cat")
    before = (model.own_names, len(model.log))
    ended = 0
    for number in range(20):
        left = number

        def end_there(real: Any) -> Any:
            def call(*arguments: Any, **keywords: Any) -> Any:
                nonlocal left
                left -= 1
                if left < 0:
                    raise KeyboardInterrupt
                return real(*arguments, **keywords)

            return call

        with monkeypatch.context() as patch:
            for module, name in ((os, "fsync"), (os, "replace"), (Path, "replace")):
                patch.setattr(module, name, end_there(getattr(module, name)))
            opened = load_model(model.path)
            try:
                if step == "correct":
                    opened.correct(clip, "ant")
                elif step == "undo":
                    opened.undo()
                else:
                    opened.add_class("dark")
            except KeyboardInterrupt:
                ended += 1
            else:
                break
        again = load_model(model.path)
        assert again(clips / "ant" / "0.mp4").best.name == "ant"
        if len(again.log) != before[1]:
            if step == "undo":
                again.correct(more(clips, "cat-0.mp4"), "cat")
            else:
                again.undo()
        assert load_model(model.path).own_names == before[0]
    assert ended >= 2


REAL = pytest.mark.skipif("SACMA_DATA" not in os.environ, reason="SACMA_DATA names no folder of real clips")


@REAL
def test_seven_instruments_four_by_one_clip_and_three_corrections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures in the docs: half of the clips of seven instruments, one clip of four others, 5 draws."""
    data = Path(os.environ["SACMA_DATA"])
    bridge = open_frozen("label-bridge", audio_weights=data / "models/yamnet_spectra_in.tflite")
    monkeypatch.setattr(taught, "open_frozen", lambda *_, **__: bridge)
    listed = [clip for clip in find_clips([data / "music"]) if clip.path.suffix == ".mp4"]
    first = learn(listed, tmp_path / "all")
    print({name: str(share) for name, share in first.figures.items()})
    names = {clip.class_name.replace("_", " ") for clip in listed}
    read = {clip.path: clip for clip in listed}
    steps: dict[str, list[tuple[int, int]]] = {}
    for seed in range(5):
        random = np.random.default_rng(seed)
        order = random.permutation(sorted(names)).tolist()
        members = {
            name: random.permutation(
                [str(c.path) for c in listed if c.class_name.replace("_", " ") == name]
            ).tolist()
            for name in order
        }
        old, new = order[:7], order[7:]
        given = [read[Path(p)] for name in old for p in members[name][: len(members[name]) // 2]]
        tests = {name: members[name][len(members[name]) // 2 :] for name in old}
        tests |= {name: members[name][1:] for name in new}
        folder = tmp_path / f"draw-{seed}"
        shutil.copytree(first.model.path / "clips", folder / "clips")
        model = learn(given, folder).model

        def wrong(
            some: list[str], model: Learned = model, tests: dict[str, list[str]] = tests
        ) -> dict[str, str]:
            asked = model.candidates()
            found = {}
            for name in some:
                for path in tests[name]:
                    features = model.store.features(clip_id(path, None, None))
                    if model.answer(features, asked).best.name != name:
                        found[path] = name
            return found

        count = sum(len(tests[name]) for name in old)
        steps.setdefault("seven", []).append((count - len(wrong(old)), count))
        for name in new:
            model.add_class(name)
        count = sum(len(tests[name]) for name in order)
        steps.setdefault("four by name", []).append((count - len(wrong(order)), count))
        for name in new:
            model.add_clips(name, members[name][:1])
        mistakes = wrong(order)
        steps.setdefault("four by one clip", []).append((count - len(mistakes), count))
        for path in sorted(mistakes)[:3]:
            model.correct(path, mistakes[path])
            tests[mistakes[path]].remove(path)
        rest = count - min(3, len(mistakes))
        steps.setdefault("others, before", []).append((count - len(mistakes), rest))
        steps.setdefault("others, after three corrections", []).append((rest - len(wrong(order)), rest))
    shares = {}
    for step, counts in steps.items():
        each = [right / of for right, of in counts]
        shares[step] = float(np.mean(each))
        print(
            f"{step}: {100 * np.mean(each):.1f} +- {100 * np.std(each, ddof=1):.1f} % of {counts[0][1]} clips"
        )
    assert shares["seven"] > 0.85
    assert shares["four by one clip"] > shares["four by name"] - 0.01
    assert shares["others, after three corrections"] > shares["others, before"] - 0.03
