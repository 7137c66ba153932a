"""The HTML of an answer, without a server."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sacma.app.view import BUCKETS, FRAMES, Look, look_at, render_answer, render_error, render_head
from sacma.datasets import avshapes
from sacma.media.backbones import Steps
from sacma.media.decode import LIMITS
from sacma.media.extract import ClipFeatures
from sacma.predict import Answer, Attention, Candidates, Places, Prediction, Window
from sacma.types import ClassSet

pytest.importorskip("jinja2")

HOSTILE = "<script>alert('x')</script>"


def answered(names: tuple[str, ...], places: Any = None, attention: Attention | None = None) -> str:
    answers = tuple(Answer(name, 1 / len(names), row == 0) for row, name in enumerate(names))
    prediction = Prediction("clip", answers, (Window(0.0, 4.0, answers, {}, None),), True)
    seen = torch.arange(len(names)) == 0
    candidates = Candidates(ClassSet(names, torch.zeros(len(names), 2), seen), frozenset())
    predictor: Any = SimpleNamespace(deployment=SimpleNamespace(audio_step=1.0, video_step=2.0))
    look = Look(4.0, ("data:image/jpeg;base64,",), None)
    return render_answer(prediction, candidates, look, attention, places, predictor)


def test_names_and_errors_are_text() -> None:
    for html in (answered((HOSTILE, "bee")), render_error(HOSTILE)):
        assert "<script>" not in html
        assert "&lt;script&gt;" in html


def test_attention_is_drawn_over_time() -> None:
    attention = Attention(np.array([0.1, 0.2, 0.1, 0.0]), np.array([0.4, 0.1]), 0.1)
    html = answered(("ant", "bee"), attention=attention)
    bars = re.findall(r"left: ([\d.]+)%; width: ([\d.]+)%", html)
    assert bars == [("0.00", "50.00"), ("50.00", "50.00"), *((f"{25 * k}.00", "25.00") for k in range(4))]
    assert "pictures 56 %" in html
    assert "sound 44 %" in html
    assert "Attention is shown for SACMA alone" in answered(("ant", "bee"))


def test_labels_of_the_map_do_not_overlap() -> None:
    names = tuple(f"name number {number}" for number in range(8))
    draw = np.random.default_rng(0)
    places = Places(draw.normal(0, 0.2, (8, 2)), draw.normal(0, 1, (20, 2)), np.zeros(2))
    html = answered(names, places)
    labels = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="(?:sx-label-best)?">([^<]+)<', html)
    assert len(labels) > 3
    boxes = [(float(x), float(y) - 7, float(x) + 3.9 * len(text), float(y) + 2) for x, y, text in labels]
    for number, (left, top, right, bottom) in enumerate(boxes):
        assert 0 <= left <= right <= 320
        assert 0 <= top <= bottom <= 220
        for other in boxes[:number]:
            assert left >= other[2] or right <= other[0] or top >= other[3] or bottom <= other[1]


def test_a_frozen_model_says_why_and_claims_no_training() -> None:
    from sacma.frozen.scores import Names
    from sacma.predict import ZeroShot

    model: Any = SimpleNamespace(name="label-bridge", modalities=("video",))
    alone = {"video": Answer("a trumpet", 0.8, False)}
    window = Window(0.0, 4.0, (Answer("a trumpet", 0.8, False),), alone, "video")
    prediction = Prediction(
        "clip", window.answers, (window,), True, model=model.name, because=("cornet", HOSTILE)
    )
    look = Look(4.0, (), np.ones(BUCKETS, np.float32))
    shown = render_answer(prediction, Names((), {}), look, None, None, ZeroShot(model))
    assert "Because: cornet, &lt;script&gt;" in shown
    assert "trained on" not in shown
    assert "Attention" not in shown
    assert "no sound" not in shown  # the model does not listen, and the clip may well have some
    blind = Look(4.0, (), None)
    assert "no pictures" in render_answer(prediction, Names((), {}), blind, None, None, ZeroShot(model))
    assert "label-bridge, which reads video" in render_head(ZeroShot(model))


def test_two_names_have_no_map() -> None:
    places = Places(np.zeros((2, 2)), np.zeros((1, 2)), np.zeros(2))
    assert "sx-map" not in answered(("ant", "bee"), places)


def test_pictures_and_waveform_of_a_clip(tmp_path: Path) -> None:
    pytest.importorskip("av")
    name = avshapes.TEST_UNSEEN[0]
    avshapes.write_mp4(name, 3, tmp_path / "clip.mp4", size=64, fps=12)
    steps = Steps(np.zeros((10, 3), np.float32), np.arange(10.0))
    look = look_at(tmp_path / "clip.mp4", ClipFeatures(steps, steps), 10.0, LIMITS)
    assert 5 <= len(look.frames) <= FRAMES
    assert all(frame.startswith("data:image/jpeg;base64,") for frame in look.frames)
    assert look.waveform is not None
    assert look.waveform.shape == (BUCKETS,)
    assert 0.9 < look.waveform.max() <= 1
    silent = look_at(tmp_path / "clip.mp4", ClipFeatures(None, steps), 10.0, LIMITS)
    assert silent.waveform is None
