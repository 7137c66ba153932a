"""A frozen model that was taught: by names, by a few clips, and by corrections."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError, printable
from sacma.files import reading, replacing
from sacma.frozen.descriptions import ClassName, read_class_names
from sacma.frozen.opening import open_frozen
from sacma.frozen.scores import FrozenModel, Matrix, Names, Scores, Window
from sacma.learn.choice import choose
from sacma.learn.rows import NO_ROWS, Rows, gathered
from sacma.learn.shots import Shots, Weights, certain, fused, together, vectors
from sacma.learn.store import FACTS, FITTED, State, Store, Taught, clip_id, found_id
from sacma.media.backbones import Backbone
from sacma.media.decode import LIMITS, Limits
from sacma.media.extract import ClipFeatures
from sacma.media.sources import ClipSource
from sacma.predict.frozen_predictor import ZeroShot
from sacma.progress import OnProgress
from sacma.text.names import normal

FIT = "ridge"
"""Way in which clips are fitted; what another one fitted is made again."""


class TaughtModel:
    """A frozen model whose scores count taught clips too, behind the interface of frozen models.

    Args:
        model: the frozen model beneath.
    """

    def __init__(self, model: FrozenModel) -> None:
        self.beneath = model
        self.name = f"{model.name}, taught"
        self.classes: dict[str, int] = {}
        self.shots: Shots | None = None
        self.weights = Weights()

    @property
    def backbone(self) -> Backbone:
        """The backbone of the model beneath."""
        return self.beneath.backbone

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that the model beneath reads."""
        return self.beneath.modalities

    @property
    def calibrated(self) -> bool:
        """As the model beneath, while no clip was taught."""
        return self.beneath.calibrated and self.shots is None

    @property
    def sigmoid_bias(self) -> float | None:
        """As the model beneath, while no clip was taught."""
        return self.beneath.sigmoid_bias if self.shots is None else None

    @property
    def advice(self) -> str:
        """As the model beneath."""
        return self.beneath.advice

    def features(
        self, clip: ClipSource, *, start: float | None, end: float | None, limits: Limits
    ) -> ClipFeatures:
        """Features of a clip, by the model beneath."""
        return self.beneath.features(clip, start=start, end=end, limits=limits)

    def names(self, given: Sequence[ClassName], *, on_progress: OnProgress | None = None) -> Names:
        """Encode class names."""
        return self.beneath.names(given, on_progress=on_progress)

    def scores(self, features: ClipFeatures, windows: Sequence[Window], names: Names) -> Scores:
        """Scores of windows of a clip for names, taught ones or others.

        Raises:
            SacmaError: the clip has none of the modalities that the model reads.
        """
        found = self.beneath.scores(features, windows, names)
        if self.shots is None:
            return found
        places = np.array([self.classes.get(normal(one.name), -1) for one in names.given])
        known = places >= 0
        row = np.where(known, places, 0)
        expected = np.where(known, self.shots.expected[row], 0.0)
        x = vectors(features, windows, self.backbone)
        alone = {
            m: np.where(known, rows[:, row], rows[:, :1] * 0.0) for m, rows in self.shots.scores(x).items()
        }
        itself = self._place(self.shots.itself(x), places)
        joint = certain(fused(found.joint, together(alone), expected, self.weights), itself)
        return Scores(
            joint, {m: fused(own, alone[m], expected, self.weights) for m, own in found.alone.items()}
        )

    def because(self, features: ClipFeatures, window: Window, names: Names, best: int) -> tuple[str, ...]:
        """Reasons of the model beneath."""
        return self.beneath.because(features, window, names, best)

    @staticmethod
    def _place(classes: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
        """(B,) positions among names of taught classes; -1 where there is none."""
        where = {int(place): row for row, place in enumerate(places) if place >= 0}
        return np.array([where.get(int(one), -1) for one in classes])


class Learned(ZeroShot):
    """A taught model of a folder: it answers like ``sacma.ZeroShot``, and can be taught more.

    Args:
        store: the folder.
        model: the frozen model beneath.
        limits: what a clip may ask of us.
        reject: as ``ZeroShot`` takes it.

    Raises:
        SacmaError: the folder's clips were read by another model.

    Example:
        >>> model = sacma.load_model("mine")  # doctest: +SKIP
        >>> model.correct("clip.mp4", "harp")  # doctest: +SKIP
        >>> model("clip.mp4").best.name  # doctest: +SKIP
        'harp'
    """

    def __init__(
        self, store: Store, model: FrozenModel, *, limits: Limits = LIMITS, reject: float | None = None
    ) -> None:
        made_by, here = store.facts.get("provenance"), provenance(model)
        if made_by is not None and made_by != here:
            raise SacmaError(
                f"{store.folder}: its clips were read by another model or version "
                f"({printable(store.facts.get('model'))}); open it with the weights of then, or learn it anew"
            )
        self._taught = TaughtModel(model)
        super().__init__(self._taught, limits=limits, reject=reject)
        self.store, self.state = store, State()
        self._kept = NO_ROWS
        self.refresh()

    @property
    def path(self) -> Path:
        """The model's folder."""
        return self.store.folder

    @property
    def own_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The names that it was taught."""
        return tuple(one.name for one in self.state.classes.values())

    @property
    def examples(self) -> dict[str, tuple[Taught, ...]]:
        """Name -> its clips."""
        found: dict[str, list[Taught]] = {key: [] for key in self.state.classes}
        for clip, key in self.state.labels.items():
            found[key].append(self.state.clips[clip])
        return {self.state.classes[key].name: tuple(clips) for key, clips in found.items()}

    @property
    def log(self) -> list[dict[str, Any]]:
        """The lessons that stand, oldest first."""
        return self.store.lessons()

    def candidates(
        self, names: str | Iterable[str] | Names | None = None, *, on_progress: OnProgress | None = None
    ) -> Names:
        """Class names, encoded once for many clips; by default those that it was taught."""
        if names is None:
            return self.model.names(tuple(self.state.classes.values()))
        if isinstance(names, Names):
            return names
        given = [self._known(one) for one in read_class_names(names)]
        return self.model.names(given, on_progress=on_progress)

    def _known(self, given: ClassName) -> ClassName:
        """A name with the descriptions that it was taught with, where it brings none of its own."""
        known = self.state.classes.get(normal(given.name))
        return given if known is None or given.descriptions else ClassName(given.name, known.descriptions)

    def features(
        self, clip: ClipSource, *, start: float | None = None, end: float | None = None
    ) -> ClipFeatures:
        """The features of a clip, or of its part; a file that the model has is not read again.

        Raises:
            SacmaError: see ``sacma.media.extract.extract_clip``.
        """
        if isinstance(clip, str | Path) and Path(clip).is_file():
            known = found_id(self.state.clips.values(), clip, start, end)
            if known is not None and self.store.has(known):
                return self.store.features(known)
        return super().features(clip, start=start, end=end)

    # --- Teaching -------------------------------------------------------------------------------------

    def add_clips(
        self,
        name: str,
        clips: str | Path | Iterable[str | Path],
        *,
        start: float | None = None,
        end: float | None = None,
    ) -> int:
        """Teach clips of a class, known or new; clips that are there already get this class.

        Args:
            name: of the class, perhaps with descriptions, ``erhu: Chinese fiddle``.
            clips: media files.
            start: seconds where the part of each begins.
            end: seconds where it ends.

        Returns:
            How many clips it was.

        Raises:
            SacmaError: a clip or the name cannot be used; nothing was taught then.
        """
        return self._teach("add_clips", name, clips, start, end)

    def add_class(self, name: str, clips: str | Path | Iterable[str | Path] = ()) -> int:
        """Teach a new class, by its name alone or with clips; see ``add_clips``.

        Raises:
            SacmaError: the class is there already; or see ``add_clips``.
        """
        (given,) = read_class_names([name])
        if normal(given.name) in self.state.classes and not given.descriptions:
            raise SacmaError(f"{printable(given.name)} is a class already; add clips to it with add_clips")
        return self._teach("add_class", name, clips, None, None)

    def correct(
        self, clip: str | Path, name: str, *, start: float | None = None, end: float | None = None
    ) -> None:
        """Say what a clip is. The model gives this clip that name from now on, and learns from it.

        Args:
            clip: a media file.
            name: of a class, known or new.
            start: seconds where the part that is meant begins.
            end: seconds where it ends.

        Raises:
            SacmaError: the clip or the name cannot be used.
        """
        self._teach("correct", name, [clip], start, end)

    def undo(self) -> dict[str, Any]:
        """Take back the last lesson that stands.

        Returns:
            What it was: ``do``, ``time``, ``classes`` and ``clips``.

        Raises:
            SacmaError: there is none but what ``sacma learn`` taught.
        """
        lessons = self.store.lessons()
        if not lessons or lessons[-1]["do"] == "learn":
            raise SacmaError(f"{self.path}: nothing to take back but what it learned first")
        self.store.add("undo")
        self.refresh()
        return lessons[-1]

    def _teach(
        self,
        do: str,
        name: str,
        clips: str | Path | Iterable[str | Path],
        start: float | None,
        end: float | None,
    ) -> int:
        (given,) = read_class_names([name])
        listed = [clips] if isinstance(clips, str | Path) else list(clips)
        taught = [self.keep(clip, start=start, end=end) for clip in listed]
        known = self.state.classes.get(normal(given.name))
        new = [given] if known is None or (given.descriptions and given != known) else []
        self.store.add(do, new, [(clip, given.name) for clip in taught])
        self.refresh()
        return len(taught)

    def keep(self, clip: str | Path, *, start: float | None = None, end: float | None = None) -> Taught:
        """Read a clip, if it is not there yet, and keep its features; nothing is taught by that.

        Raises:
            SacmaError: the clip cannot be read.
        """
        path = Path(clip)
        with reading(path):
            status = path.stat()
        known = found_id(self.state.clips.values(), path, start, end) or clip_id(path, start, end)
        facts = status.st_size, status.st_mtime_ns
        found = Taught(known, str(path.absolute()), start, end, *facts)
        if not self.store.has(found.id):
            self.store.keep(found.id, super().features(clip, start=start, end=end))
        return found

    # --- Fitting --------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Take over what the folder says; another process may have taught it.

        Raises:
            SacmaError: features of a taught clip are missing or damaged.
        """
        self.state = self.store.state()
        keys = list(self.state.classes)
        self._taught.classes = {key: place for place, key in enumerate(keys)}
        if not self.state.labels:
            self._taught.shots, self._taught.weights = None, Weights()
            return
        labels = np.array([self._taught.classes[key] for key in self.state.labels.values()])
        digest = self.store.digest()
        kept = self._fitted(digest)
        x, self._taught.weights = kept or self._fit(digest, labels, len(keys))
        self._taught.shots = Shots(x, labels, len(keys))

    def whole(self, features: ClipFeatures) -> Window:
        """The window of a whole clip."""
        return (0.0, self.seconds(features))

    def gathered(self) -> tuple[dict[str, Matrix], Matrix]:
        """Vectors (N, D) of the taught clips by modality, and their frozen scores (N, K)."""
        rows = self._rows()
        return dict(rows.x), rows.frozen

    def _rows(self) -> Rows:
        self._kept = gathered(
            self._taught.beneath,
            tuple(self.state.labels),
            tuple(self.state.classes.values()),
            self.store.features,
            self.whole,
            before=self._kept,
        )
        return self._kept

    def _fit(self, digest: str, labels: NDArray[np.int64], classes: int) -> tuple[dict[str, Matrix], Weights]:
        rows = self._rows()
        fair = np.array([clip not in self.state.corrected for clip in self.state.labels])
        weights = choose(rows.x, rows.frozen, labels, classes, fair=fair)
        facts = json.dumps({"digest": digest, "model": self._model_id, **asdict(weights)})
        with replacing(self.path / FITTED) as partial, partial.open("wb") as file:
            np.savez(file, facts=np.array(facts), **rows.arrays())  # type: ignore[arg-type]
        return dict(rows.x), weights

    def _fitted(self, digest: str) -> tuple[dict[str, Matrix], Weights] | None:
        """Result that was fitted for this log before; None where there is none.

        Rows that were made with this model for another log are kept for the next fit.
        """
        try:
            with np.load(self.path / FITTED, allow_pickle=False) as kept:
                facts = json.loads(str(kept["facts"]))
                if facts.pop("model") != self._model_id:
                    return None
                self._kept = Rows.of_arrays(kept)
                if facts.pop("digest") != digest:
                    return None
                return dict(self._kept.x), Weights(**facts)
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
            return None

    @property
    def _model_id(self) -> str:
        """The same for the same model beneath and the same way to fit."""
        made = [FIT, *(self.store.facts.get(name) for name in ("model", "prompts", "provenance"))]
        return hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()


def provenance(model: FrozenModel) -> dict[str, Any]:
    """Facts on which the features of a model depend."""
    made: dict[str, Any] = json.loads(json.dumps(model.backbone.provenance, default=str))
    return made


def is_learned(path: str | Path | None) -> bool:
    """True for the folder of a taught model."""
    return path is not None and (Path(path) / FACTS).is_file()


def new_model(
    folder: str | Path,
    *,
    model: str | None = None,
    audio_weights: str | Path | None = None,
    prompts: str | None = None,
    reject: float | None = None,
    limits: Limits = LIMITS,
    device: str = "cpu",
) -> Learned:
    """Make a folder for a model that was taught nothing yet.

    Args:
        folder: to make.
        model: the frozen model beneath; by default the best one at hand.
        audio_weights: weights for sound, where it needs a file for it.
        prompts: that it puts names into, see ``sacma.frozen.prompts``.
        reject: as ``load_model`` takes it.
        limits: what a clip may ask of us.
        device: where its networks run.

    Raises:
        SacmaError: something else is there, or the model's weights are not here.
    """
    frozen = open_frozen(model, audio_weights=audio_weights, prompts=prompts, device=device)
    facts = {
        "model": frozen.name,
        "audio_weights": None if audio_weights is None else str(audio_weights),
        "prompts": prompts,
        "provenance": provenance(frozen),
    }
    return Learned(Store.make(Path(folder), facts), frozen, limits=limits, reject=reject)


def load_model(
    folder: str | Path,
    *,
    audio_weights: str | Path | None = None,
    reject: float | None = None,
    limits: Limits = LIMITS,
    device: str = "cpu",
) -> Learned:
    """Open a taught model.

    Args:
        folder: that ``sacma learn`` made.
        audio_weights: weights for sound, where the model beneath needs a file for it.
        reject: tell where none of the names fits; the share of clips for which this may be wrong.
        limits: what a clip may ask of us.
        device: where its networks run.

    Raises:
        SacmaError: no such folder, damaged, or the model beneath is not here or another one.
    """
    store = Store(folder)
    model = open_frozen(
        store.facts.get("model"),
        audio_weights=audio_weights or store.facts.get("audio_weights"),
        prompts=store.facts.get("prompts"),
        device=device,
    )
    return Learned(store, model, limits=limits, reject=reject)
