"""Visitors: what is kept for each, and what they are told."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("jinja2")

from sacma.app import view, visitors
from sacma.app.advice import for_visitors
from sacma.app.uploads import Uploads
from sacma.app.visitors import LONGEST_TEXT, Visitors
from sacma.errors import SacmaError
from sacma.media.decode import Clip, Limits
from sacma.media.extract import ClipFeatures

LIMITS = Limits(seconds=2.0, pixels=64 * 64, patience=1e-9)


class Model:
    """Reads a file and answers with what is in it."""

    limits = LIMITS
    backbone = SimpleNamespace(
        audio=SimpleNamespace(step_seconds=1.0), video=SimpleNamespace(step_seconds=1.0)
    )

    def __init__(self) -> None:
        self.read = 0

    def candidates(self, names: list[str]) -> list[str]:
        return names

    def features(self, path: Path, *, start: float | None, end: float | None) -> str:
        self.read += 1
        self.part = (start, end)
        text = path.read_text()
        if text == "bad":
            raise SacmaError(f"{path}: no clip")
        return text

    def seconds(self, features: str) -> float:
        return 1.0

    def answer(self, features: str, names: list[str], **options: Any) -> Any:
        return SimpleNamespace(text=f"{options['clip']} {features} {names}")

    def attention(self, features: str) -> None: ...

    def places(self, features: str, names: list[str]) -> None: ...


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Visitors:
    monkeypatch.setattr(view, "look_at", lambda *_, **__: SimpleNamespace(seconds=1.0, frames=()))
    monkeypatch.setattr(view, "render_answer", lambda prediction, *_, **__: prediction.text)
    monkeypatch.setattr(view, "render_answers", lambda cards, *_, **__: " | ".join(cards))
    model: Any = Model()
    return Visitors(model, Uploads(tmp_path / "uploads"), remembered=3)


def put(asked: Visitors, text: str = "x") -> str:
    path = asked.uploads.place("clip.mp4")
    path.write_text(text)
    return str(path)


def test_what_is_kept_does_not_grow_with_the_sessions(asked: Visitors) -> None:
    clips = [put(asked, f"clip {number}") for number in range(10)]
    for number, clip in enumerate(clips):
        assert f"clip {number}" in asked.answer(clip, "ant", f"s{number}")
    assert len(asked) == 3
    assert asked.predictor.read == 10
    assert "clip 9" in asked.answer(clips[9], "bee", "s9")
    assert asked.predictor.read == 10
    assert "clip 0" in asked.answer(clips[0], "bee", "s0")  # forgotten, not lost
    assert asked.predictor.read == 11
    asked.sweep(-1)
    assert len(asked) == 0
    assert "no longer here" in asked.answer(clips[0], "bee", "s0")


def test_one_visitor_does_not_remove_the_equal_clip_of_another(asked: Visitors) -> None:
    mine, yours = put(asked), put(asked)
    asked.answer(mine, "ant", "A")
    asked.answer(put(asked, "new"), "ant", "A")
    assert not Path(mine).exists()
    asked.drop("A")
    assert "no longer here" in asked.answer(yours + "x", "ant", "B")
    assert "clip.mp4 x" in asked.answer(yours, "ant", "B")
    assert "no longer here" in asked.answer(yours, "ant", "A")


def test_several_clips_are_answered_one_after_another(asked: Visitors) -> None:
    clips = [put(asked, text) for text in ("first", "bad", "third")]
    told = list(asked.answers(clips, "ant", "A", start="0:05", end="7.5"))
    assert len(told) == 3
    assert "first" in told[0]
    assert "third" not in told[1]
    for part in ("first", "no clip", "third"):
        assert part in told[2]
    model: Any = asked.predictor
    assert model.part == (5.0, 7.5)
    assert [Path(clip).exists() for clip in clips] == [True, False, True]
    more = [put(asked, f"more {number}") for number in range(5)]
    asked.answer(more, "ant", "B")
    assert sum(map(len, asked._held.values())) == 3  # however many one asks about
    asked.answer([clips[0], clips[2]], "ant", "A", start="0:05", end="7.5")
    read = model.read
    again = asked.answer([clips[0], clips[2]], "bee", "A", start="0:05", end="7.5")
    assert "third" in again
    assert model.read == read  # what was read is kept
    assert "write seconds" in asked.answer(clips[0], "bee", "A", start="x")


def test_the_clips_of_another_tab_stay(asked: Visitors) -> None:
    other = Visitors(asked.predictor, asked.uploads, name="other")
    mine, theirs = put(asked), put(asked)
    other.claim(theirs, "A")
    asked.answer(mine, "ant", "A")
    assert Path(theirs).exists()
    assert "no longer here" in asked.answer(theirs, "ant", "A")
    other.drop("A")
    assert [Path(one).exists() for one in (mine, theirs)] == [True, False]


def test_a_model_that_can_be_taught_is_corrected_by_those_who_may(asked: Visitors) -> None:
    learned: list[Any] = []
    model: Any = asked.predictor
    model.correct = lambda clip, name, **part: learned.append((clip, name, part))
    here = Visitors(model, asked.uploads, teach=True)
    clip = put(asked)
    lesson = json.dumps({"clip": clip, "name": " harp <b>"})
    assert "clip.mp4 is harp &lt;b&gt;" in here.teach(lesson, "A", start="1:00")
    assert learned == [(Path(clip), "harp <b>", {"start": 60.0, "end": None})]
    assert "no longer here" in here.teach(lesson, "B")
    assert "takes no corrections" in Visitors(model, asked.uploads).teach(lesson, "A")
    for bad in ("", "[]", "{}", '{"clip": 1}', "[" * 10_000):
        assert "sx-error" in here.teach(bad, "A")
    for name in (" ", "x" * 201):
        assert "Write what it is" in here.teach(json.dumps({"clip": clip, "name": name}), "A")
    assert "no longer here" in here.teach(json.dumps({"clip": "/etc/passwd", "name": "x"}), "A")
    assert len(learned) == 1


def test_a_clip_goes_with_its_visitor_asked_or_not(asked: Visitors) -> None:
    uploaded, mistaken = put(asked), put(asked)
    asked.claim(uploaded, "A")
    asked.claim("/etc/passwd", "A")
    asked.claim(None, "A")
    assert "no class names" in asked.answer(mistaken, " ", "B")
    for clip, session in ((uploaded, "A"), (mistaken, "B")):
        asked.drop(session)
        assert not Path(clip).exists()


def test_a_bad_clip_is_removed_and_named_without_its_place(asked: Visitors) -> None:
    clip = put(asked, "bad")
    said = asked.answer(clip, "ant", "A")
    assert "clip.mp4: no clip" in said
    assert str(asked.uploads.folder) not in said
    assert not Path(clip).exists()
    assert asked.answer(clip, "bee", "A") == said
    assert asked.predictor.read == 1
    assert "give fewer" in asked.answer(clip, "a" * (LONGEST_TEXT + 1), "A")
    assert "Drop or record" in asked.answer(None, "ant", "A")


OPTIONS = re.compile(r"--\w|raise|\bpart\b|start and|allow links|@FILE")


def test_errors_of_clips_advise_what_a_visitor_can_do(tmp_path: Path) -> None:
    pytest.importorskip("av")
    from clip_files import write_clip

    path = write_clip(tmp_path / "clip.mp4", seconds=3.0)

    def error(limits: Limits) -> str:
        with pytest.raises(SacmaError) as caught:
            list(Clip.open(path, limits=limits).frames(rate=2))
        said = for_visitors(str(caught.value), limits)
        assert said != str(caught.value)
        assert not OPTIONS.search(said), said
        return said

    assert "set Start and End closer, or cut it to 1 s or less" in error(Limits(seconds=1.0))
    assert "scale it down" in error(Limits(pixels=100))
    assert "scale it down" in error(Limits(patience=1e-9))


def test_a_visitor_cannot_fetch_models() -> None:
    from sacma.frozen.bridge import LabelBridge

    note = f"label-bridge does not use sound here{LabelBridge.advice}"
    assert for_visitors(note, LIMITS) == "label-bridge does not use sound here"
    bridge: Any = SimpleNamespace(readers={})
    with pytest.raises(SacmaError) as caught:
        LabelBridge.evidence(bridge, ClipFeatures(None, None), [])
    said = for_visitors(str(caught.value), LIMITS)
    assert "no labels of sounds here" in said
    assert "sacma" not in said


def test_every_message_about_clips_or_names_is_fit_for_the_page() -> None:
    """Those of the sources that the page can show, as they are written there."""
    root = Path(visitors.__file__).parents[1]
    shown = ("media/reader", "media/process", "media/worker", "media/pictures", "media/containers")
    files = [root / f"{name}.py" for name in (*shown, "media/extract", "text/names", "predict/predictor")]
    said = []
    for file in files:
        raised = re.findall(r'(?:SacmaError\(|"error": )\s*((?:f?"[^"]*"\s*)+)', file.read_text())
        said += ["".join(re.findall(r'"([^"]*)"', one)) for one in raised]
    assert len(said) > 20
    options = re.compile(r"--\w+|\braise the limit|start and end|allow links")
    starts = ("{path}: no finished run", "{clip}: a window", "{path}:", "{path / FACTS}")
    left = [one for one in said if options.search(for_visitors(one, LIMITS)) and not one.startswith(starts)]
    assert left == []
    assert [one for one in said if options.search(one)]


def test_answers_that_nobody_fetches_are_forgotten() -> None:
    pytest.importorskip("gradio")
    from gradio.queueing import Queue

    from sacma.app.server import forget_unread

    blocks = SimpleNamespace(blocks={1: SimpleNamespace(temp_files={"a", "b"}), 2: SimpleNamespace()})
    queue = blocks._queue = Queue(False, 1, 1, 10, blocks)
    for number in range(30):
        queue.pending_messages_per_session[f"s{number}"] = [f"answer {number}"]
        queue.pending_event_ids_session[f"s{number}"] = {f"e{number}"}
    queue.event_ids_to_events["e0"] = SimpleNamespace(session_hash="s0")  # at work
    forget_unread(blocks, sessions=10)
    left = ["s0", *(f"s{number}" for number in range(21, 30))]
    assert list(queue.pending_messages_per_session) == left
    assert list(queue.pending_event_ids_session) == left
    assert blocks.blocks[1].temp_files == set()
