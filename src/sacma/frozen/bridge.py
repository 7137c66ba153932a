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
from sacma.frozen.label_scores import (
    CONSTANTS,
    TEMPERATURE,
    WEIGHTS,
    Reading,
    compared,
    label_weights,
    reasons,
    unit_means,
)
from sacma.frozen.labels import Labels, audioset, imagenet
from sacma.frozen.scores import Matrix, Names, Nothing, Scores, Window, joined, mean_steps
from sacma.media.backbones import Backbone, Steps, looks
from sacma.media.backbones.lite import EfficientNetLite0
from sacma.media.backbones.yamnet import YAMNet
from sacma.media.decode import Limits
from sacma.media.extract import ClipFeatures, extract_clip
from sacma.media.sources import ClipSource
from sacma.progress import OnProgress
from sacma.text.minilm import Sentences

_AT_ONCE = 2048
"""Names that are scored at a time."""


@dataclass(frozen=True)
class LabelReader:
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


NAMES = 256
"""Names that are encoded at a time."""


class LabelBridge:
    """Names clips by labels of pretrained classifiers, see the head of this file.

    Args:
        audio_weights: YAMNet's TensorFlow Lite file; without it, sound is not listened to.
        device: where the picture network runs.

    Attributes:
        readers: modality (``video``, ``audio``) -> its classifier with its labels.

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
        self._text = Sentences()
        self.readers = {"video": _reader(pictures, imagenet(), self._text)}
        if sound is not None:
            self.readers["audio"] = _reader(sound, audioset(), self._text)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that it reads."""
        return tuple(sorted(self.readers))

    def features(
        self, clip: ClipSource, *, start: float | None, end: float | None, limits: Limits
    ) -> ClipFeatures:
        """Features of a clip, see ``sacma.media.extract.extract_clip``."""
        return extract_clip(clip, self.backbone, start=start, end=end, limits=limits, advice=self.advice)

    def names(self, given: Sequence[ClassName], *, on_progress: OnProgress | None = None) -> Names:
        """Encode class names with their descriptions, some hundred at a time.

        Args:
            given: the names.
            on_progress: called with the names done and all names.
        """
        parts = []
        for start in range(0, len(given), NAMES):
            some = given[start : start + NAMES]
            parts.append(unit_means(self._text, [one.texts for one in some]))
            if on_progress is not None:
                on_progress(start + len(some), len(given))
        return Names(tuple(given), {"text": np.concatenate(parts)})

    def scores(self, features: ClipFeatures, windows: Sequence[Window], names: Names) -> Scores:
        """Scores of windows of a clip for names.

        Raises:
            SacmaError: the clip has no modality that the bridge reads.
        """
        alone = {
            modality: self._compared(modality, evidence, names) / TEMPERATURE
            for modality, evidence in self.evidence(features, windows).items()
        }
        return Scores(joined(alone, WEIGHTS), alone)

    def label_probabilities(self, modality: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, L) probabilities of the labels, from (N, D) features of steps of a modality that it reads."""
        return np.asarray(self.readers[modality].encoder.label_probabilities(values), dtype=np.float32)

    def scores_of(self, modality: str, probability: Matrix, names: Names) -> Matrix:
        """s_m (B, K), from (B, L) mean probabilities of the labels of a modality."""
        return self._compared(modality, self.readers[modality].labels.evidence(probability), names)

    def _compared(self, modality: str, evidence: Matrix, names: Names) -> Matrix:
        """s_m (B, K) from evidence (B, N), some names at a time."""
        labels, vectors = self.readers[modality].vectors, names.vectors["text"]
        parts = [
            compared(evidence, labels, vectors[k : k + _AT_ONCE], CONSTANTS[modality])
            for k in range(0, len(vectors), _AT_ONCE)
        ]
        return np.concatenate(parts, axis=1)

    def because(self, features: ClipFeatures, window: Window, names: Names, best: int) -> tuple[str, ...]:
        """The labels that speak most for a name, at most three."""
        vector = names.vectors["text"][best]
        return reasons(
            Reading(evidence[0], reader.labels.names, label_weights(modality, reader.vectors, vector))
            for modality, evidence in self.evidence(features, [window]).items()
            if (reader := self.readers[modality])
        )

    @property
    def label_vectors(self) -> dict[str, NDArray[np.float32]]:
        """Vectors (N, E) of the labels and groups of each modality that it reads."""
        return {modality: reader.vectors for modality, reader in self.readers.items()}

    def evidence(self, features: ClipFeatures, windows: Sequence[Window]) -> dict[str, Matrix]:
        """Evidence (B, N) of each modality that the clip has and the bridge reads; NaN without a step.

        Raises:
            SacmaError: the clip has no modality that the bridge reads.
        """
        steps = {"audio": features.audio, "video": features.video}
        found = {
            modality: reader.evidence(some, windows)
            for modality, reader in self.readers.items()
            if (some := steps[modality]) is not None
        }
        if not found:
            raise SacmaError(
                f"{BRIDGE} has no labels of sounds here, and the clip has no pictures; get them with "
                "sacma models get yamnet, or take another model"
            )
        return found


def _reader(encoder: Any, labels: Labels, text: Sentences) -> LabelReader:
    return LabelReader(encoder, labels, encoded_labels(labels, text))


def encoded_labels(labels: Labels, text: Sentences) -> NDArray[np.float32]:
    """(N, E), encoded once and kept in the cache."""
    made_of = repr((labels.texts, text.version))
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
