"""Simulated features that share a space with the class vectors, as those of joint encoders do.

The definition stands in ``docs/explanation/simulation.md`` and in ``VERSION``; what is drawn depends on it
and on the seed alone. A clip tells of its class in two ways, with noise of their own: by a direction that its
class vector has, which a frozen encoder knows for every class, and by a nonlinear map of the class vector,
which has to be learnt. All clips of the classes that stage 1 trains on are moved by one vector, the gap
between domains.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

VERSION = 1
HIDDEN = 256  # of the nonlinear map
GAIN = 2.0  # of its hidden layer: how far its tanh leaves the linear range
STEP_SHARE = 0.5  # noise of a step, relative to that of a clip
GAP = 0.5  # length of the gap; the direction and the map are of about unit length

Floats = NDArray[np.float32]


class AlignedMaps:
    """The maps from meanings to features of both modalities, and the class vectors that belong to them."""

    def __init__(self, vectors: Floats, *, aligned: float, shifted: frozenset[int]) -> None:
        """Take what sets the scale of noise and features.

        Args:
            vectors: (K, E) of all classes, of unit length.
            aligned: share of the direction in a feature; the rest is that of the map.
            shifted: labels of the classes that are moved by the gap.
        """
        self.vectors, self.aligned, self.shifted = vectors, np.float32(aligned), shifted
        self.spread = (vectors - vectors.mean(axis=0)) / np.sqrt(np.float32(len(vectors)))  # (K, E)
        width = vectors.shape[1]
        self.rotations, self.maps, self.gaps = [], [], []
        for modality in range(2):
            generator = np.random.default_rng([VERSION, modality])
            rotation, _ = np.linalg.qr(generator.standard_normal((width, width)))
            into = GAIN * generator.standard_normal((width, HIDDEN), np.float32)
            out = generator.standard_normal((HIDDEN, width), np.float32) / np.sqrt(np.float32(HIDDEN))
            centres = np.tanh(vectors @ into) @ out  # (K, E)
            gap = generator.standard_normal(width, np.float32)
            self.rotations.append(rotation.astype(np.float32))
            self.maps.append((into, out, centres.mean(axis=0), centres.std(axis=0)))
            self.gaps.append(np.float32(GAP) * gap / np.linalg.norm(gap))

    def class_vectors(self, vectors: Floats) -> Floats:
        """(K, E) to (K, 2 E): the directions in the space of video, then those in the space of audio."""
        audio, video = self.rotations
        return np.concatenate([vectors @ video, vectors @ audio], axis=1)

    def clips(
        self, label: int, seconds: NDArray[np.int64], noise: float, generator: np.random.Generator
    ) -> list[tuple[Floats, Floats]]:
        """Audio and video features of clips of a class that last so many seconds, steps of unit length."""
        shared = [self._noise(len(seconds), generator) for _ in range(2)]  # of the direction, of the map
        audio_steps = np.maximum(seconds - generator.integers(0, 2, len(seconds)), 1)
        both = []
        for modality, steps in enumerate((audio_steps, seconds)):
            direction, meaning = (
                self._meanings(label, common, steps, noise, generator) for common in shared
            )  # (S, E) each
            into, out, mean, std = self.maps[modality]
            learnt = (np.tanh(meaning @ into) @ out - mean) / std / np.sqrt(np.float32(len(mean)))
            values = self.aligned * (direction @ self.rotations[modality]) + (1 - self.aligned) * learnt
            if label in self.shifted:
                values = values + self.gaps[modality]
            values /= np.linalg.norm(values, axis=1, keepdims=True)
            both.append([values[a:b] for a, b in pairwise(np.cumsum([0, *steps]))])
        return list(zip(*both, strict=True))

    def _meanings(
        self,
        label: int,
        common: Floats,
        steps: NDArray[np.int64],
        noise: float,
        generator: np.random.Generator,
    ) -> Floats:
        """(S, E): the class vector with the noise of clips, half of it in both modalities, and of steps."""
        own = self._noise(len(steps), generator)
        clips = self.vectors[label] + np.float32(noise / np.sqrt(2)) * (common + own)
        each = np.repeat(clips, steps, axis=0)
        return np.asarray(each + np.float32(STEP_SHARE * noise) * self._noise(len(each), generator))

    def _noise(self, count: int, generator: np.random.Generator) -> Floats:
        """(count, E) vectors with the covariance of the class vectors."""
        return generator.standard_normal((count, len(self.spread)), np.float32) @ self.spread
