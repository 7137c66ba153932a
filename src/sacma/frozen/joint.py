"""Clips against names by joint encoders: one for pictures, one for sound, or one for both.

For the unit mean x_m of a window's embeddings and the unit text vector t_m of a name, score = s * sum of
w_m cos(x_m, t_m) over the modalities that the window has, with weights w of sum 1, equal by default, and s
the mean of the towers' own scales. A model with an embedding of sound and pictures together is scored by that
one where a window has both. A name's text vector is the unit mean over its prompts and descriptions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError, printable
from sacma.frozen.descriptions import ClassName
from sacma.frozen.encoders import Tower, Vectors, unit
from sacma.frozen.prompts import prompted
from sacma.frozen.scores import FrozenFeatures, Matrix, Names, Nothing, Scores, Window, joined, mean_steps
from sacma.media.backbones import Backbone, Steps, looks
from sacma.media.decode import Limits
from sacma.media.extract import ClipFeatures, extract_clip
from sacma.media.sources import ClipSource
from sacma.progress import OnProgress

FULL = "full"
PRECISIONS = {FULL: "float32", "bfloat16": "bfloat16", "half": "float16"}
"""Precision -> type of numbers in PyTorch."""
NAMES = 256
"""Names that are encoded at a time, each with all of its prompts."""


class JointModel:
    """Joint encoders behind the interface of frozen models.

    Args:
        name: what users call it.
        towers: modality -> the model that reads it; one model may read both.
        prompts: see ``sacma.frozen.prompts``.
        weights: of the modalities, by default equal.
        precision: of the networks' products, a key of ``PRECISIONS``; sums and weights stay in full.
        device: where the towers run.

    Raises:
        SacmaError: there is no tower, or the device does not have the precision.
    """

    calibrated = False
    advice = ""

    def __init__(
        self,
        name: str,
        towers: Mapping[str, Tower],
        *,
        prompts: str = "plain",
        weights: Mapping[str, float] | None = None,
        precision: str = FULL,
        device: str = "cpu",
    ) -> None:
        if not towers:
            raise SacmaError(f"{name}: no encoder in it")
        if precision not in PRECISIONS:
            raise SacmaError(f"precision {printable(precision)} is unknown; one of {', '.join(PRECISIONS)}")
        if precision == "half" and device == "cpu":
            raise SacmaError("half precision needs a GPU; take --precision bfloat16 on a processor")
        self.precision, self.device = precision, device
        self.name, self.towers, self.prompts = name, dict(towers), prompts
        self.modalities = tuple(sorted(self.towers))
        self.weights = dict(weights or dict.fromkeys(("audio", "video"), 0.5))
        audio = self.towers["audio"].audio if "audio" in self.towers else None
        video = self.towers["video"].video if "video" in self.towers else None
        self.backbone = Backbone(name, audio or Nothing(), video or Nothing())

    @property
    def sigmoid_bias(self) -> float | None:
        """The mean bias of the spaces that are scored, where all towers have a sigmoid for each name."""
        towers = list(dict.fromkeys(self.towers.values()))
        if not all(tower.sigmoid for tower in towers):
            return None
        biases = [tower.scales.get("joint", next(iter(tower.scales.values())))[1] for tower in towers]
        return float(np.mean(biases))

    def features(
        self, clip: ClipSource, *, start: float | None, end: float | None, limits: Limits
    ) -> ClipFeatures:
        """Features of a clip, see ``sacma.media.extract.extract_clip``."""
        with self._computing():
            for tower in self.towers.values():
                made = tower.features(clip, start=start, end=end, limits=limits)
                if made is not None:
                    return made
            return extract_clip(clip, self.backbone, start=start, end=end, limits=limits, advice=self.advice)

    def _computing(self) -> AbstractContextManager[Any]:
        """Within, networks compute at the model's precision."""
        if self.precision == FULL:
            return nullcontext()
        import torch

        return torch.autocast(torch.device(self.device).type, getattr(torch, PRECISIONS[self.precision]))

    def names(self, given: Sequence[ClassName], *, on_progress: OnProgress | None = None) -> Names:
        """Text vectors of class names in each space; some hundred names at a time.

        Args:
            given: the names.
            on_progress: called with the names done and all names.

        Raises:
            SacmaError: see ``prompted``.
        """
        towers, cut = list(dict.fromkeys(self.towers.values())), dict.fromkeys(self.towers.values(), 0)
        parts: dict[str, list[Vectors]] = {}
        for start in range(0, len(given), NAMES):
            some = given[start : start + NAMES]
            for tower in towers:
                found, more = self._vectors(tower, some)
                cut[tower] += more
                for space, rows in found.items():
                    parts.setdefault(space, []).append(rows)
            if on_progress is not None:
                on_progress(start + len(some), len(given))
        notes = [
            f"{more} texts are longer than {self.name} takes and were cut" for more in cut.values() if more
        ]
        return Names(
            tuple(given), {space: np.concatenate(rows) for space, rows in parts.items()}, tuple(notes)
        )

    def _vectors(self, tower: Tower, given: Sequence[ClassName]) -> tuple[dict[str, Vectors], int]:
        """Vectors of names in each space of a tower, and how many texts were cut."""
        texts = [prompted(one, self.prompts, tower.modalities) for one in given]
        with self._computing():
            made, cut = tower.texts([text for some in texts for text in some])
        ends = np.cumsum([len(some) for some in texts])
        vectors = {}
        for space, rows in made.items():
            sums = np.add.reduceat(rows, np.concatenate([[0], ends[:-1]]), axis=0)
            plain = tower.cosines(space, np.zeros((0, rows.shape[1]), np.float32), rows) is None
            means = np.asarray(sums / np.diff(ends, prepend=0)[:, None], dtype=np.float32)
            vectors[space] = unit(means) if plain else means
        return vectors, cut

    def scores(self, features: ClipFeatures, windows: Sequence[Window], names: Names) -> Scores:
        """Scores of windows of a clip for names.

        Raises:
            SacmaError: the clip has none of the modalities that the model reads.
        """
        steps = {"audio": features.audio, "video": features.video}
        cosines = {
            modality: self._cosines(modality, some, windows, names)
            for modality in self.modalities
            if (some := steps[modality]) is not None
        }
        if not cosines:
            raise SacmaError(
                f"{self.name} reads {' and '.join(self.modalities)}, and the clip has none of it"
            )
        alone = {m: cosine * self._scale(m) for m, cosine in cosines.items()}
        joint = joined(cosines, self.weights) * np.mean([self._scale(m) for m in cosines])
        together = features.joint if isinstance(features, FrozenFeatures) else None
        if together is not None:
            both = self._cosines("joint", together, windows, names) * self._scale("joint")
            joint = np.where(np.isnan(both), joint, both)
        return Scores(joint, alone)

    def because(self, features: ClipFeatures, window: Window, names: Names, best: int) -> tuple[str, ...]:
        """Nothing: embeddings have no words."""
        return ()

    def _tower(self, space: str) -> Tower:
        return self.towers.get(space) or next(iter(self.towers.values()))

    def _scale(self, space: str) -> float:
        return self._tower(space).scales[space][0]

    def _cosines(self, space: str, steps: Steps, windows: Sequence[Window], names: Names) -> Matrix:
        """(B, K); NaN where a window has no step."""
        tower, text = self._tower(space), names.vectors[space]
        step = steps.seconds[1] - steps.seconds[0] if len(steps.seconds) > 1 else windows[-1][1]
        encoder = {"audio": self.backbone.audio, "video": self.backbone.video}.get(space)
        seen = None if encoder is None else looks(encoder)
        own = tower.cosines(space, steps.values, text)
        if own is not None:
            return mean_steps(own, step, windows, looks=seen)
        means: NDArray[np.float64] = mean_steps(unit(steps.values), step, windows, looks=seen)  # (B, D)
        return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True) @ text.T.astype(np.float64))
