"""Real clips and broken ones through every joint encoder, with tiny networks of random weights.

PE-AV is left out: its picture network needs timm and torchvision.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest

import joint_models
from sacma.errors import SacmaError
from sacma.frozen.joint import JointModel
from sacma.frozen.opening import open_tower
from sacma.predict import ZeroShot

pytest.importorskip("transformers")
pytest.importorskip("av")

CLIPS = Path(os.environ.get("SACMA_DATA", "/nowhere")) / "clips"
NAMES = (
    "dog barking",
    "playing harp",
    "\u72ac\u304c\u5420\u3048\u308b",
    "\u0441\u043e\u0431\u0430\u043a\u0430",
)
"""In three scripts."""
BROKEN = {"zero_byte.mp4", "truncated_no_index.mp4"}
DEAF, BLIND = {"no_audio.mp4"}, {"audio_only.m4a"}

pytestmark = pytest.mark.skipif(
    not CLIPS.is_dir(), reason="no real clips: name their folder's parent by SACMA_DATA"
)


@pytest.fixture(scope="module", params=joint_models.MODELS)
def zero_shot(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ZeroShot:
    folder = tmp_path_factory.mktemp("model")
    tower = open_tower(joint_models.MODELS[request.param](folder), request.param)
    return ZeroShot(JointModel(request.param, dict.fromkeys(tower.modalities, tower)))


def reads(zero_shot: ZeroShot, clip: str) -> bool:
    lacking = {"audio": DEAF, "video": BLIND}
    return any(clip not in lacking[modality] for modality in zero_shot.model.modalities)


@pytest.mark.parametrize("clip", sorted(path.name for path in CLIPS.glob("edge/*")) or ["none"])
def test_hard_and_broken_clips(zero_shot: ZeroShot, clip: str) -> None:
    """A defined answer, or one line that names the clip or the modality that is missing."""
    path = CLIPS / "edge" / clip
    if clip in BROKEN or not reads(zero_shot, clip):
        with pytest.raises(SacmaError) as caught:
            zero_shot(path, NAMES)
        assert "\n" not in str(caught.value)
        assert clip in str(caught.value) or "the clip has none of it" in str(caught.value)
        return
    found = zero_shot(path, NAMES)
    probability = [one.probability for one in found.answers]
    assert sum(probability) == pytest.approx(1, abs=1e-5)
    assert np.isfinite(probability).all()
    assert {one.name for one in found.answers} == set(NAMES)


def test_a_real_clip_of_each_kind(zero_shot: ZeroShot) -> None:
    with (CLIPS / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["file"].startswith("real/")]
    shortest = min(rows, key=lambda row: float(row["duration_s"]))
    found = zero_shot(CLIPS / shortest["file"], NAMES)
    assert np.isfinite([one.probability for one in found.answers]).all()
