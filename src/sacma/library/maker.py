"""The model that a library is made with: a frozen model or a trained run, and what is noted of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from sacma.errors import SacmaError
from sacma.files import sha256
from sacma.frozen.bridge import LabelBridge
from sacma.frozen.catalogue import BRIDGE, best_here, sound_labels
from sacma.frozen.joint import JointModel
from sacma.frozen.opening import open_frozen
from sacma.library.store import Array, consistent
from sacma.media.backbones import Backbone
from sacma.media.decode import LIMITS, Limits
from sacma.media.extract import ClipFeatures
from sacma.media.listing import ClipFile
from sacma.media.workers import Outcome, Task
from sacma.predict import Predictor, ZeroShot, load
from sacma.predict.run_backbone import recorded_backbone


@dataclass(frozen=True, kw_only=True)
class Making:
    """Settings by which a library is made.

    Attributes:
        model: name of a frozen model; None for the best one on this machine, or that of the library.
        run: folder of a trained run instead.
        audio_weights: file, folder or hub name, for models that bring no weights.
        video_weights: the same for pictures.
        window: seconds of a moment.
        hop: seconds from one moment to the next.
        engine: ``local`` or ``ray``.
        jobs: processes; None for one a processor.
        device: where networks run.
        limits: what a clip may ask of us.
        clip_timeout: seconds of work on a clip before it is given up.
    """

    model: str | None = None
    run: Path | None = None
    audio_weights: str | None = None
    video_weights: str | None = None
    window: float = 4.0
    hop: float = 2.0
    engine: str = "local"
    jobs: int | None = None
    device: str = "cpu"
    limits: Limits = LIMITS
    clip_timeout: float = 600.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            SacmaError: one is out of range.
        """
        if not (0 < self.hop < math.inf and 0 < self.window < math.inf):
            raise SacmaError(f"a window of {self.window:g} s every {self.hop:g} s; both must be above 0")
        if self.jobs is not None and self.jobs < 1:
            raise SacmaError(f"{self.jobs} processes; choose at least 1")
        if self.model is not None and self.run is not None:
            raise SacmaError("--model with --run; a library is made with one of them")

    def of_library(self, folder: Path, facts: Mapping[str, Any]) -> Self:
        """The same with the model and windows of a library that is there.

        Raises:
            SacmaError: another model was asked for.
        """
        asked = str(self.run.absolute()) if self.run else self.model
        with consistent(folder):
            return self._of_facts(folder, facts, asked)

    def _of_facts(self, folder: Path, facts: Mapping[str, Any], asked: str | None) -> Self:
        if asked not in (None, facts["model"], facts["run"]):
            raise SacmaError(
                f"{folder}: made with {facts['run'] or facts['model']}, not with {asked}; leave the model "
                "out, or index into a new folder"
            )
        return replace(
            self,
            model=None if facts["run"] else facts["model"],
            run=Path(facts["run"]) if facts["run"] else None,
            audio_weights=self.audio_weights or facts["audio_weights"],
            video_weights=self.video_weights or facts["video_weights"],
            window=facts["window"],
            hop=facts["hop"],
        )


class Maker:
    """A model with its weights loaded, for making a library.

    Args:
        making: which model, and how.
        reject: as in ``sacma.predict.ZeroShot``.

    Raises:
        SacmaError: it cannot be opened, or its text vectors depend on the clip.
    """

    def __init__(self, making: Making, *, reject: float | None = None) -> None:
        if making.model is None and making.run is None:
            making = replace(making, model=best_here())
        if making.model == BRIDGE and making.audio_weights is None:
            found = sound_labels()
            making = replace(making, audio_weights=None if found is None else str(found.absolute()))
        self.making, self.model = making, None
        weights: dict[str, Any] = {"audio_weights": making.audio_weights, "device": making.device}
        if making.run is not None and reject is not None:
            raise SacmaError("--reject with a library of a trained run; it is an option of frozen models")
        if making.run is not None:
            run = load(making.run, **weights, video_weights=making.video_weights, limits=making.limits)
            self.predictor: Predictor | ZeroShot = run
            name, options, opener = (
                recorded_backbone(run.deployment),
                weights | {"video_weights": making.video_weights},
                {},
            )
        else:
            model = open_frozen(making.model, **weights)
            _check_searchable(model)
            self.model = model
            self.predictor = ZeroShot(model, limits=making.limits, reject=reject)
            name, options = str(making.model), weights
            opener = {"opener": "sacma.frozen.opening:frozen_backbone"}
        self.task = Task(name, options, making.limits, making.clip_timeout, **opener)

    @property
    def backbone(self) -> Backbone:
        """Backbone that makes the features."""
        return self.predictor.backbone

    @property
    def least(self) -> float:
        """Seconds of the shortest window, one step."""
        return max(self.backbone.audio.step_seconds, self.backbone.video.step_seconds)

    @property
    def facts(self) -> dict[str, Any]:
        """Facts about the model that a library notes, as JSON types."""
        making = self.making
        run = None if making.run is None else making.run.absolute()
        return {
            "model": making.model,
            "run": None if run is None else str(run),
            "weights": None if run is None else sha256(run / "model.safetensors"),
            "audio_weights": making.audio_weights,
            "video_weights": making.video_weights,
            "provenance": self.backbone.provenance,
            "step_seconds": {
                "audio": self.backbone.audio.step_seconds,
                "video": self.backbone.video.step_seconds,
            },
            "window": making.window,
            "hop": making.hop,
        }

    @property
    def arrays(self) -> dict[str, Array]:
        """Arrays of the model that a library keeps: the vectors of the label bridge's labels."""
        if not isinstance(self.model, LabelBridge):
            return {}
        return {f"labels_{modality}": vectors for modality, vectors in self.model.label_vectors.items()}

    def check(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Find out whether a library was made with this very model.

        Raises:
            SacmaError: it was not.
        """
        own = self.facts
        for name in ("provenance", "weights", "step_seconds"):
            if own[name] != facts[name]:
                raise SacmaError(
                    f"{folder}: made with another version or other weights of "
                    f"{facts['run'] or facts['model']}; index the clips into a new folder"
                )

    def seconds(self, features: ClipFeatures) -> float:
        """Length of a clip in seconds."""
        return self.predictor.seconds(features)

    @property
    def together(self) -> bool:
        """Sound and pictures have an embedding together, so that a clip is read here and not in processes."""
        model = self.model
        return isinstance(model, JointModel) and any(
            "joint" in tower.scales for tower in model.towers.values()
        )

    def features(self, clip: ClipFile) -> Outcome | ClipFeatures:
        """The features of a clip, read in this process."""
        try:
            return self.predictor.features(clip.path, start=clip.start, end=clip.end)
        except SacmaError as error:
            return Outcome(failure=str(error))


def _check_searchable(model: object) -> None:
    if not isinstance(model, JointModel):
        return
    import numpy as np

    for tower in model.towers.values():
        for space, rows in tower.texts(["a clip"])[0].items():
            if tower.cosines(space, np.zeros((0, rows.shape[1]), np.float32), rows) is not None:
                raise SacmaError(
                    f"{model.name}: its text vectors depend on the clip, so that a library cannot keep what "
                    "it needs; take another model"
                )
