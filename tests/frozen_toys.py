"""A frozen model that tells greys and pitches apart, for films of known content."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sacma.frozen.descriptions import ClassName
from sacma.frozen.scores import Names, Scores, Window, joined, mean_steps
from sacma.media.backbones import Backbone, Steps, TimedFrame, Waveform, looks, regular_steps, windows
from sacma.media.decode import Limits
from sacma.media.extract import ClipFeatures, extract_clip

GREYS = {"dark": 0.1, "middle": 0.4, "bright": 0.7, "white": 1.0}
"""Name -> grey (1 is white) and pitch (1 is 1,000 Hz) of what it names."""


def described(value: float) -> np.ndarray:
    """(1, 12): a value, and how near it is to each of eleven."""
    return np.array([[value, *3 * np.exp(-(((value - np.arange(11) / 10) / 0.07) ** 2))]], np.float32)


class Grey:
    """Pictures to their mean grey, one a second, of a single frame each."""

    name, version, licence, checksum = "grey", "1", "none", "none"
    width, step_seconds, looks, rate, size = 12, 1.0, 0.0, 1.0, None

    def encode(self, frames: Iterable[TimedFrame]) -> Steps | None:
        return regular_steps([described(f.mean() / 255) for _, f in frames], 1.0)


class Pitch:
    """Sound to its pitch in kHz, every 0.48 s of 0.96 s, as YAMNet hears it."""

    name, version, licence, checksum = "pitch", "1", "none", "none"
    width, step_seconds, looks, rate = 12, 0.48, 0.96, 16_000

    def encode(self, blocks: Iterable[Waveform]) -> Steps | None:
        made = []
        for window in windows(blocks, 15_360, 7_680):
            strength = np.abs(np.fft.rfft(window))
            made.append(described(strength.argmax() / 960))
        return regular_steps(made, self.step_seconds)


class GreyAndPitch:
    """Scores a name by how near a window's mean is to the name's value, sound and pictures alike."""

    name = "grey-and-pitch"
    modalities = ("audio", "video")
    calibrated = True
    sigmoid_bias = None
    advice = ""

    def __init__(self) -> None:
        self.backbone = Backbone(self.name, Pitch(), Grey())
        self.opened = 0

    def features(
        self, clip: str | Path, *, start: float | None, end: float | None, limits: Limits
    ) -> ClipFeatures:
        self.opened += 1
        return extract_clip(clip, self.backbone, start=start, end=end, limits=limits)

    def names(self, given: Sequence[ClassName], *, on_progress: Any = None) -> Names:
        values = np.array([[GREYS.get(one.name, 0.55)] for one in given], np.float32)
        return Names(tuple(given), {"text": values})

    def scores(self, features: ClipFeatures, windows: Sequence[Window], names: Names) -> Scores:
        alone = {}
        for modality, steps in (("audio", features.audio), ("video", features.video)):
            if steps is None:
                continue
            encoder = getattr(self.backbone, modality)
            near = np.exp(-(((steps.values[:, :1] - names.vectors["text"].T) / 0.1) ** 2))  # (T, K)
            means = mean_steps(near, encoder.step_seconds, windows, looks=looks(encoder))
            alone[modality] = 5.0 * means
        return Scores(joined(alone, {"audio": 0.5, "video": 0.5}), alone)

    def because(self, features: ClipFeatures, window: Window, names: Names, best: int) -> tuple[str, ...]:
        return ()
