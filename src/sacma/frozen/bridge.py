"""The label bridge: zero-shot recognition by two classifiers with named labels and a sentence encoder.

Pictures go through EfficientNet-Lite0 with its ImageNet head, sound through YAMNet with its AudioSet labels,
names through all-MiniLM-L6-v2. Its relatives are ConSE (Norouzi et al., "Zero-Shot Learning by Convex
Combination of Semantic Embeddings", ICLR 2014) and DAP (Lampert et al., CVPR 2009). For a window and a name n

    e_l  evidence for label or group l, see ``sacma.frozen.labels``; probabilities are means over the steps
    q_l  softmax over l of cos(label l, name n) / tau: which labels speak for the name
    c    (max_l cos(label l, name n) - c_0) / (1 - c_0), at least 0.02: how well the labels cover the name
    s_m  c^a (sum_l q_l e_l - b), for modality m; b is the evidence that speaks neither for nor against

and the score is the weighted mean of s_m over the modalities that there are. A name that no label covers gets
a score near zero, and wins where the covered ones do not fit. The vector of a label is the unit mean of its
name and of its name with its kind; that of a name the unit mean of the name and its descriptions.

The constants were chosen on 104 clips of 34 names, on a plateau; the accuracy hardly depends on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError
from sacma.files import cache_folder, replacing
from sacma.frozen.catalogue import BRIDGE
from sacma.frozen.descriptions import ClassName
from sacma.frozen.labels import Labels, audioset, imagenet
from sacma.frozen.scores import Matrix, Names, Nothing, Scores, Window, joined, mean_steps
from sacma.media.backbones import Backbone, Steps, looks
from sacma.media.backbones.lite import EfficientNetLite0
from sacma.media.backbones.yamnet import YAMNet
from sacma.media.decode import Limits
from sacma.media.extract import ClipFeatures, extract_clip
from sacma.text.encoders import TextEncoder, open_encoder


@dataclass(frozen=True)
class Constants:
    """The constants of a modality, named as in the head of this file.

    Attributes:
        tau: temperature of the softmax over labels.
        power: a, the exponent of the coverage.
        neutral: b, evidence that speaks neither for nor against a name.
        weight: of the modality, where both are there.
    """

    tau: float
    power: float
    neutral: float
    weight: float


CONSTANTS = {
    "audio": Constants(tau=0.035, power=0.5, neutral=0.35, weight=0.55),
    "video": Constants(tau=0.05, power=0.25, neutral=0.2, weight=0.45),
}
WEIGHTS = {modality: constants.weight for modality, constants in CONSTANTS.items()}
UNCOVERED = 0.2
"""c_0: a cosine at which a label tells nothing of a name."""
TEMPERATURE = 0.07
"""Of the softmax over names; fitted on the clips of the module's heading."""

_AT_ONCE = 2048
"""Names that are scored at a time."""
_REASONS = 3
_LEAST_REASON = 0.1
"""The least share of a reason in what speaks for a name."""


@dataclass(frozen=True)
class _Reader:
    """One modality: its classifier, its labels, and their vectors (N, E)."""

    encoder: Any
    labels: Labels
    vectors: NDArray[np.float32]

    def evidence(self, steps: Steps, windows: Sequence[Window]) -> Matrix:
        """(B, N); NaN where a window has no step."""
        probability = self.encoder.label_probabilities(steps.values)  # (T, L)
        return self.labels.evidence(
            mean_steps(probability, self.encoder.step_seconds, windows, looks=looks(self.encoder))
        )


class LabelBridge:
    """Names clips by labels of pretrained classifiers, see the head of this file.

    Args:
        audio_weights: YAMNet's TensorFlow Lite file; without it, sound is not listened to.
        device: where the picture network runs.

    Raises:
        SacmaError: a package is missing, or the file is not YAMNet's.
    """

    name = BRIDGE
    calibrated = True
    sigmoid_bias = None
    advice = ": get its labels of sounds with sacma models get yamnet"

    def __init__(self, *, audio_weights: str | Path | None = None, device: str = "cpu") -> None:
        """Load the networks."""
        pictures = EfficientNetLite0(device=device)
        sound = None if audio_weights is None else YAMNet(audio_weights)
        self.backbone = Backbone(BRIDGE, sound or Nothing(), pictures)
        self._text = open_encoder({"encoder": "sentence"})
        self._readers = {"video": _reader(pictures, imagenet(), self._text)}
        if sound is not None:
            self._readers["audio"] = _reader(sound, audioset(), self._text)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that it reads."""
        return tuple(sorted(self._readers))

    def features(
        self, clip: str | Path, *, start: float | None, end: float | None, limits: Limits
    ) -> ClipFeatures:
        """Features of a clip, see ``sacma.media.extract.extract_clip``."""
        return extract_clip(clip, self.backbone, start=start, end=end, limits=limits)

    def names(self, given: Sequence[ClassName]) -> Names:
        """Encode class names with their descriptions."""
        return Names(tuple(given), {"text": unit_means(self._text, [one.texts for one in given])})

    def scores(self, features: ClipFeatures, windows: Sequence[Window], names: Names) -> Scores:
        """Scores of windows of a clip for names.

        Raises:
            SacmaError: the clip has no modality that the bridge reads.
        """
        alone = {
            modality: self._compared(modality, evidence, names) / TEMPERATURE
            for modality, evidence in self._evidence(features, windows).items()
        }
        return Scores(joined(alone, WEIGHTS), alone)

    def label_probabilities(self, modality: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, L) probabilities of the labels, from (N, D) features of steps of a modality that it reads."""
        return np.asarray(self._readers[modality].encoder.label_probabilities(values), dtype=np.float32)

    def scores_of(self, modality: str, probability: Matrix, names: Names) -> Matrix:
        """s_m (B, K), from (B, L) mean probabilities of the labels of a modality."""
        return self._compared(modality, self._readers[modality].labels.evidence(probability), names)

    def _compared(self, modality: str, evidence: Matrix, names: Names) -> Matrix:
        """s_m (B, K) from evidence (B, N), some names at a time."""
        labels, vectors = self._readers[modality].vectors, names.vectors["text"]
        parts = [
            _scores(evidence, labels, vectors[k : k + _AT_ONCE], CONSTANTS[modality])
            for k in range(0, len(vectors), _AT_ONCE)
        ]
        return np.concatenate(parts, axis=1)

    def because(self, features: ClipFeatures, window: Window, names: Names, best: int) -> tuple[str, ...]:
        """The labels that speak most for a name, at most three."""
        vector = names.vectors["text"][best : best + 1]  # (1, E)
        shares: dict[str, float] = {}
        for modality, evidence in self._evidence(features, [window]).items():
            reader = self._readers[modality]
            relation, coverage = _relation(reader.vectors, vector, CONSTANTS[modality])
            parts = CONSTANTS[modality].weight * coverage[0] * relation[:, 0] * np.nan_to_num(evidence[0])
            for place in np.argsort(-parts)[: 2 * _REASONS]:
                name = reader.labels.names[place]
                shares[name] = shares.get(name, 0.0) + max(0.0, float(parts[place]))
        total = sum(shares.values())
        ranked = sorted(shares, key=lambda name: -shares[name])
        return tuple(name for name in ranked[:_REASONS] if shares[name] > _LEAST_REASON * total)

    def _evidence(self, features: ClipFeatures, windows: Sequence[Window]) -> dict[str, Matrix]:
        steps = {"audio": features.audio, "video": features.video}
        found = {
            modality: reader.evidence(some, windows)
            for modality, reader in self._readers.items()
            if (some := steps[modality]) is not None
        }
        if not found:
            raise SacmaError(
                f"{BRIDGE} has no labels of sounds here, and the clip has no pictures; get them with "
                "sacma models get yamnet, or take another model"
            )
        return found


def unit_means(encoder: TextEncoder, texts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """(K, E) unit means of the unit vectors of each entry's texts."""
    flat = [text for some in texts for text in some]
    vectors = encoder(flat)
    ends = np.cumsum([len(some) for some in texts])
    sums = np.add.reduceat(vectors, np.concatenate([[0], ends[:-1]]), axis=0)
    return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), dtype=np.float32)


def _relation(labels: NDArray[np.float32], names: NDArray[np.float32], c: Constants) -> tuple[Matrix, Matrix]:
    """Q (N, K) and c^a (K,) of labels (N, E) and names (K, E)."""
    cosine = labels.astype(np.float64) @ names.T.astype(np.float64)  # (N, K)
    q = np.exp((cosine - cosine.max(axis=0)) / c.tau)
    covered = (cosine.max(axis=0) - UNCOVERED) / (1 - UNCOVERED)
    return q / q.sum(axis=0), np.clip(covered, 0.02, 1.0) ** c.power


def _scores(
    evidence: Matrix, labels: NDArray[np.float32], names: NDArray[np.float32], c: Constants
) -> Matrix:
    """s_m (B, K) from evidence (B, N)."""
    q, coverage = _relation(labels, names, c)
    return np.asarray(coverage * (evidence @ q - c.neutral))


def _reader(encoder: Any, labels: Labels, text: TextEncoder) -> _Reader:
    return _Reader(encoder, labels, _label_vectors(labels, text))


def _label_vectors(labels: Labels, text: TextEncoder) -> NDArray[np.float32]:
    """(N, E), encoded once and kept in the cache."""
    made_of = repr((labels.texts, text.provenance["sha256"]))
    path = cache_folder() / f"label-vectors-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}.npy"
    try:
        kept = np.load(path, allow_pickle=False)
        if kept.ndim == 2 and len(kept) == len(labels.names) and np.isfinite(kept).all():
            return np.asarray(kept, dtype=np.float32)
    except (OSError, ValueError):
        pass  # not there, or damaged: it is made again
    vectors = unit_means(text, labels.texts)
    with replacing(path) as partial, partial.open("wb") as file:
        np.save(file, vectors)
    return vectors
