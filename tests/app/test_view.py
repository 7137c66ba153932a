"""The HTML of an answer, without a server."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from sacma.app.playable import Player
from sacma.app.view import (
    BUCKETS,
    FRAMES,
    Look,
    look_at,
    render_answer,
    render_answers,
    render_error,
    render_model,
)
from sacma.datasets import avshapes
from sacma.frozen.scores import Names
from sacma.media.backbones import Steps
from sacma.media.decode import LIMITS
from sacma.media.extract import ClipFeatures
from sacma.predict import Answer, Attention, Candidates, Places, Prediction, Segment, Window, ZeroShot
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
    assert "Where it looked" in html
    assert "Where it looked" not in answered(("ant", "bee"))


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
    assert "Model: label-bridge, which uses pictures" in render_model(ZeroShot(model))
    rejected = replace(prediction, rejected=True)
    shown = render_answer(rejected, Names((), {}), look, None, None, ZeroShot(model))
    assert "None of these" in shown
    assert "Because" not in shown


def test_a_long_clip_has_a_timeline_and_answers_a_table() -> None:
    names = ("dog", "dog", "=cat")
    answers = [(Answer(name, 0.9, False), Answer("other", 0.1, False)) for name in names]
    windows = tuple(Window(5.0 * k, 5.0 * k + 10, one, {}, None) for k, one in enumerate(answers))
    course = (Segment(0.0, 12.5, "dog", 0.9), Segment(12.5, 20.0, "=cat", 0.9))
    prediction = Prediction("film.mkv", answers[0], windows, True, timeline=course)
    model: Any = SimpleNamespace()
    player = Player("/gradio_api/file=/x/film%20a.mp4", pictures=True)
    look = Look(20.0, (), np.ones(BUCKETS, np.float32))
    card = render_answer(prediction, Names((), {}), look, None, None, model, player=player)
    assert re.findall(r'class="sx-stretch sx-c(\d)".*?data-seek="([\d.]+)"', card) == [
        ("0", "0.00"),
        ("1", "12.50"),
    ]
    assert 'src="/gradio_api/file=/x/film%20a.mp4#t=0.10"' in card
    assert "<span>dog, =cat</span></h2>" in card
    rejected = replace(prediction, rejected=True)  # as a whole it is none of them, and that says little
    shown = render_answer(rejected, Names((), {}), look, None, None, model)
    assert "<span>dog, =cat</span></h2>" in shown
    assert "which no name fits alone" in shown
    assert "Browsers cannot play" in render_answer(prediction, Names((), {}), look, None, None, model)
    whole = render_answers([card, "<p>bad</p>"], [prediction])
    assert "2 of 2 clips" in whole
    table = base64.b64decode(re.findall(r"base64,([^\"]+)", whole)[-1]).decode("utf-8-sig")
    assert "film.mkv,window,10,20,1,'=cat,0.9" in table
    assert "Download" not in render_answers([card], [prediction], left=1)


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
    part = look_at(tmp_path / "clip.mp4", ClipFeatures(steps, steps), 2.0, LIMITS, start=1.0)
    assert part.start == 1.0
    silent = look_at(tmp_path / "clip.mp4", ClipFeatures(None, steps), 10.0, LIMITS)
    assert silent.waveform is None
