"""Prediction with a trained model: clips and class names in, ranked names with probabilities out.

1. Features: the backbone that made the run's features reads the whole clip.
2. Windows: the clip is cut into parts, each a pair of sequences. A missing modality has length 0.
3. Names: a class of the run keeps the vector that it was trained with; the run's text encoder encodes others.
4. Scores: p(k) = softmax of -(d_k + bias [k is seen]) / T, see ``sacma.metrics.calibration``.
5. Probabilities are averaged over the windows of a clip.

Outputs that read one modality alone say which modality supports an answer: their best name agrees or not.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, overload

import torch
from torch import Tensor

from sacma.errors import SacmaError, printable
from sacma.hub import OnHub
from sacma.media.backbones import Backbone, open_backbone
from sacma.media.decode import LIMITS, Limits
from sacma.media.extract import ClipFeatures, extract_clip
from sacma.media.sources import ClipSource
from sacma.metrics.calibration import probabilities
from sacma.models.base import Method
from sacma.models.lookup import ORIGIN, remember_origin
from sacma.predict.answers import (
    Candidates,
    Prediction,
    Predictions,
    Window,
    carried_by,
    merged,
    modality_of,
    ranked,
)
from sacma.predict.asking import Part, Several, answered
from sacma.predict.class_names import check_encoder, encoded, known_rows
from sacma.predict.explain import Attention, Places, attention_over_time, places_on_map
from sacma.predict.run_backbone import check_backbone, check_installed, recorded_backbone, recorded_looks
from sacma.predict.windows import LONGEST, cut_note, stands_for, steps_within, windows_of
from sacma.runs.folder import PRIOR, load_model, save_model
from sacma.runs.records import RunResult
from sacma.text.encoders import TextEncoder, encoder_of, open_encoder
from sacma.text.names import normal, read_names
from sacma.training.deployment import FACTS, FILES, Deployment
from sacma.types import Batch, ClassSet

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

_AT_ONCE = 64
"""Windows in one batch."""

RESULT, KEPT = "result.json", ("config.json", "model.safetensors", PRIOR, ORIGIN)

Names = str | Iterable[str]
Given = str | Iterable[str] | Candidates | None


class Predictor(OnHub):
    """A trained model that answers for clips.

    ``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` follow the Hugging Face hub. They write and
    read a folder with the weights, the data that prediction needs beside them, the run's results and a model
    card. The folder contains no path of the machine that wrote it.

    Args:
        method: the model with its weights.
        deployment: class vectors, calibration and feature settings of the run.
        path: the run folder.
        backbone: name of the backbone; by default the one that is recorded with the run's features.
        audio_weights: weights of the audio encoder, for backbones that bring none.
        video_weights: weights of the video encoder, for backbones that bring none.
        encoder: text encoder of new names, in the form that ``open_encoder`` takes; by default the one that
            is recorded with the class vectors. It must reproduce the class vectors of the run.
        near_unknown: give names that the text encoder does not know a vector between those of like names.
        bias: added to the distances of seen names; by default the bias that stage 1 chose.
        limits: largest size and length of a clip.
        device: device of the networks, such as ``cpu`` or ``cuda``.

    Raises:
        SacmaError: the bias is not finite.
    """

    def __init__(
        self,
        method: Method,
        deployment: Deployment,
        path: Path,
        *,
        backbone: str | None = None,
        audio_weights: str | Path | None = None,
        video_weights: str | Path | None = None,
        encoder: Mapping[str, Any] | None = None,
        near_unknown: bool = False,
        bias: float | None = None,
        limits: Limits = LIMITS,
        device: str = "cpu",
    ) -> None:
        self.method, self.output = method.to(device).eval(), method.default_output
        self.deployment, self.path, self.limits, self.device = deployment, path, limits, device
        if bias is not None and not math.isfinite(bias):
            raise SacmaError(f"a bias of {bias}; it must be a finite number")
        self._bias = bias
        self._backbone_options = (backbone, {"audio_weights": audio_weights, "video_weights": video_weights})
        self._backbone: Backbone | None = None
        self._encoder_spec, self._near_unknown = encoder, near_unknown
        self._encoder: TextEncoder | None = None
        self._rows = known_rows(deployment)

    @property
    def calibrated(self) -> bool:
        """True if the temperature was fitted on validation; otherwise probabilities only rank."""
        return self.deployment.scales[self.output].temperature is not None

    # --- Clips ----------------------------------------------------------------------------------------

    @property
    def backbone(self) -> Backbone:
        """The backbone of the run's features, loaded on first use.

        Raises:
            SacmaError: it is not recorded, cannot be opened, or does not fit the run's features.
        """
        if self._backbone is None:
            name, weights = self._backbone_options
            name = name or recorded_backbone(self.deployment)
            check_installed(name, self.deployment)
            opened = open_backbone(name, device=self.device, **weights)
            check_backbone(opened, self.deployment, self.method)
            self._backbone = opened
        return self._backbone

    def features(
        self, clip: ClipSource, *, start: float | None = None, end: float | None = None
    ) -> ClipFeatures:
        """The features of a clip, or of its part from ``start`` to ``end`` seconds.

        Raises:
            SacmaError: see ``backbone`` and ``sacma.media.extract.extract_clip``.
        """
        return extract_clip(clip, self.backbone, start=start, end=end, limits=self.limits)

    # --- Names ----------------------------------------------------------------------------------------

    @property
    def own_names(self) -> tuple[str, ...]:
        """The classes of the run's benchmark."""
        return self.deployment.classes.names

    def candidates(self, names: Names | None = None) -> Candidates:
        """Names with their class vectors.

        Args:
            names: in a form that ``sacma.text.names.read_names`` takes; by default the run's own classes.

        Raises:
            SacmaError: see ``read_names``; or a name has no vector, then the message lists the nearest names.
        """
        own = self.deployment.classes
        if names is None:
            return Candidates(own, frozenset(own.names))
        given = read_names(names)
        self._check_fixed(given)
        if self._encoder_spec is not None:
            _ = self.encoder  # checks a given encoder even if all names are known
        rows = [self._rows.get(normal(name)) for name in given]
        vectors = torch.empty(len(given), own.vectors.shape[1])
        for place, row in enumerate(rows):
            if row is not None:
                vectors[place] = own.vectors[row]
        new = [place for place, row in enumerate(rows) if row is None]
        notes: tuple[str, ...] = ()
        if new:
            unknown = [given[place] for place in new]
            how = {"near": self._near_unknown, "chosen": self._encoder_spec is not None}
            made, notes = encoded(unknown, lambda: self.encoder, self.deployment, **how)
            vectors[new] = torch.from_numpy(made)
        seen = torch.tensor([row is not None and bool(own.seen[row]) for row in rows])
        known = frozenset(name for name, row in zip(given, rows, strict=True) if row is not None)
        return Candidates(ClassSet(given, vectors, seen), known, notes)

    @property
    def encoder(self) -> TextEncoder:
        """The text encoder of new names, opened on first use.

        Raises:
            SacmaError: it cannot be opened, or a given one does not reproduce the run's class vectors.
        """
        if self._encoder is None:
            if self._encoder_spec is None:
                self._encoder = encoder_of(self.deployment.table)
            else:
                self._encoder = open_encoder(self._encoder_spec)
                check_encoder(self._encoder, self.deployment)
        return self._encoder

    def _check_fixed(self, names: Sequence[str]) -> None:
        """Refuse new names for methods whose classifier is limited to the candidates of its fit."""
        if not self.method.fixed_candidates:
            return
        own = set(self.own_names)
        if other := [name for name in names if name not in own]:
            raise SacmaError(
                f"{self.deployment.method} answers by a classifier of its own {len(own)} classes, and "
                f"{printable(other[0])} is none of them; use a run of another method, or leave the names out"
            )

    # --- The hub --------------------------------------------------------------------------------------

    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(self.method, save_directory)
        remember_origin(self.deployment.method, save_directory, portable=True)
        self.deployment.portable().write(save_directory)
        if (self.path / RESULT).is_file():
            shutil.copyfile(self.path / RESULT, save_directory / RESULT)

    @classmethod
    def _from_pretrained(
        cls,
        *,
        model_id: str,
        revision: str | None,
        cache_dir: str | Path | None,
        force_download: bool,
        local_files_only: bool,
        token: str | bool | None,
        **options: Any,
    ) -> Predictor:
        if not Path(model_id).is_dir():
            from huggingface_hub import snapshot_download

            model_id = snapshot_download(
                model_id,
                revision=revision,
                cache_dir=cache_dir,
                force_download=force_download,
                local_files_only=local_files_only,
                token=token,
                allow_patterns=[*KEPT, *FILES, RESULT],
            )
        return load(model_id, **options)

    def generate_model_card(self, *, licence: str | None = None) -> ModelCard:
        """The model card; ``licence`` is the licence of the weights, by a name that the hub knows."""
        from sacma.predict.model_card import model_card

        stored = self.path / RESULT
        result = RunResult.read(stored) if stored.is_file() else None
        return model_card(self.method, self.deployment, result, licence=licence)

    # --- Answers --------------------------------------------------------------------------------------

    @overload
    def predict(self, clip: ClipSource, classes: Given = None, **part: Unpack[Part]) -> Prediction: ...
    @overload
    def predict(self, clip: Several, classes: Given = None, **part: Unpack[Part]) -> Predictions: ...
    def predict(
        self,
        clip: ClipSource | Several,
        classes: Given = None,
        *,
        start: float | None = None,
        end: float | None = None,
        window: float | None = None,
        hop: float | None = None,
        top: int = 5,
    ) -> Prediction | Predictions:
        """Rank class names for a clip, or for each of several.

        Args:
            clip: path of a media file, an open one, a ``sacma.Recording`` of arrays, or a list of these.
            classes: the candidate names, by default the run's own classes; see ``candidates``.
            start: seconds at which the part of the clip begins; by default its beginning.
            end: seconds at which the part ends; by default the end of the clip.
            window: seconds of a window that slides over the clip; by default the clip is one
                window, or is cut where it is longer than ``sacma.predict.windows.LONGEST`` seconds.
            hop: seconds from one window to the next; by default half a window.
            top: the number of names of an answer.

        Returns:
            The answer; for a list ``Predictions``, whose ``failed`` says which clips cannot be used and why.

        Raises:
            SacmaError: the clip (of a list: every clip), a name or a number cannot be used; the message says
                which and why.
        """
        chosen = classes if isinstance(classes, Candidates) else self.candidates(classes)
        return answered(self, clip, chosen, start=start, end=end, window=window, hop=hop, top=top)

    @torch.inference_mode()
    def answer(
        self,
        features: ClipFeatures,
        candidates: Candidates,
        *,
        clip: str = "",
        start: float = 0.0,
        window: float | None = None,
        hop: float | None = None,
        top: int = 5,
    ) -> Prediction:
        """Rank class names for the features of a clip.

        Args:
            features: of the clip, or of a part of it.
            candidates: the names.
            clip: name of the clip, for the result and for errors.
            start: seconds at which the features begin in the clip.
            window: as in ``predict``.
            hop: as in ``predict``.
            top: as in ``predict``.

        Raises:
            SacmaError: the features are too long for one window, or window or hop is out of range.
        """
        parts = windows_of(self.seconds(features), window=window, hop=hop, least=self.shortest, clip=clip)
        stands = stands_for(parts)
        windows: list[Window] = []
        total = torch.zeros(len(candidates.classes), dtype=torch.float64)
        for first in range(0, len(parts), _AT_ONCE):
            some = parts[first : first + _AT_ONCE]
            batch = self.batch(features, some)
            scores = self.scores(batch, candidates.classes)
            told = self._windows(stands[first:], batch, scores, candidates.classes, start, top)
            windows += [
                replace(w, seen=(start + begin, start + end))
                for w, (begin, end) in zip(told, some, strict=True)
            ]
            total += scores[self.output].sum(dim=0)
        notes = (*features.notes, *cut_note(parts, window), *self._notes(features), *candidates.notes)
        answers = ranked(total / len(parts), candidates.classes, top)
        course = merged(windows) if len(windows) > 1 else ()
        return Prediction(clip, answers, tuple(windows), self.calibrated, notes, timeline=course)

    def scores(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """Probabilities by the default output and by the outputs that read one modality alone.

        Args:
            batch: B clips.
            classes: K candidates.

        Returns:
            Output -> (B, K) probabilities.
        """
        scores = {}
        outputs = [self.output, *(output for output in self.deployment.scales if modality_of(output))]
        moved, candidates = batch.to(self.device), classes.to(self.device)
        for output in dict.fromkeys(outputs):
            scale = self.deployment.scales[output]
            scores[output] = probabilities(
                self.method.distances(moved, candidates, output=output),
                classes.seen,
                bias=scale.bias if self._bias is None else self._bias,
                temperature=scale.temperature or 1.0,
            )
        return scores

    def batch(self, features: ClipFeatures, parts: Sequence[tuple[float, float]]) -> Batch:
        """Parts of a clip as a batch; times start at 0 in each part.

        Args:
            features: of the clip.
            parts: start and end of each part, in seconds from the first step of the features.
        """
        d, c = self.deployment, self.method.config
        return Batch(
            steps_within(
                features.audio,
                parts,
                step_seconds=d.audio_step,
                width=c.audio_width,
                looks=recorded_looks(d, "audio"),
            ),
            steps_within(
                features.video,
                parts,
                step_seconds=d.video_step,
                width=c.video_width,
                looks=recorded_looks(d, "video"),
            ),
            torch.zeros(len(parts), dtype=torch.long),  # distances depend neither on labels nor on text
            torch.zeros(len(parts), c.text_width),
        )

    # --- Explanations -----------------------------------------------------------------------------------

    @torch.inference_mode()
    def attention(self, features: ClipFeatures) -> Attention | None:
        """Attention of SACMA's class token over a clip's steps; None for other methods and long clips."""
        if self.seconds(features) > LONGEST:
            return None
        return attention_over_time(self.method, self._whole(features))

    @torch.inference_mode()
    def places(self, features: ClipFeatures, candidates: Candidates) -> Places | None:
        """Names and clip on a map of SACMA's embedding space; None for other methods and long clips."""
        if self.seconds(features) > LONGEST:
            return None
        names, own = (one.vectors.to(self.device) for one in (candidates.classes, self.deployment.classes))
        return places_on_map(self.method, self._whole(features), names=names, own=own)

    def _whole(self, features: ClipFeatures) -> Batch:
        return self.batch(features, [(0.0, self.seconds(features))]).to(self.device)

    def seconds(self, features: ClipFeatures) -> float:
        """Length of a clip in seconds, by its features."""
        d = self.deployment
        return max(
            0.0 if steps is None else len(steps.values) * step
            for steps, step in ((features.audio, d.audio_step), (features.video, d.video_step))
        )

    def _windows(
        self,
        parts: Sequence[tuple[float, float]],
        batch: Batch,
        scores: Mapping[str, Tensor],
        classes: ClassSet,
        start: float,
        top: int,
    ) -> list[Window]:
        has = {"audio": (batch.audio.lengths > 0).tolist(), "video": (batch.video.lengths > 0).tolist()}
        windows = []
        for row, (begin, end) in enumerate(parts[: len(batch.labels)]):
            answers = ranked(scores[self.output][row], classes, top)
            alone = {
                modality: ranked(rows[row], classes, 1)[0]
                for output, rows in scores.items()
                if (modality := modality_of(output)) and has[modality][row]
            }
            windows.append(Window(start + begin, start + end, answers, alone, carried_by(answers[0], alone)))
        return windows

    @property
    def shortest(self) -> float:
        """Seconds of the shortest window, one step."""
        return max(self.deployment.audio_step, self.deployment.video_step)

    def _notes(self, features: ClipFeatures) -> list[str]:
        notes = []
        for kind, steps in (("sound", features.audio), ("pictures", features.video)):
            if steps is None:
                notes.append(f"no {kind} in it: answered without")
        if not self.calibrated:
            notes.append("probabilities are not calibrated: the run has no stage-1 weights")
        return notes


def load(run: str | Path, **options: Any) -> Predictor:
    """Open a finished run for prediction.

    Args:
        run: a run folder, or a folder that ``save_pretrained`` wrote.
        options: keyword arguments of ``Predictor``.

    Raises:
        SacmaError: the run is not finished or is damaged; or an early version wrote it, without
            ``prediction.json``, and its benchmark cannot be opened.
    """
    path = Path(run)
    if not (path / "model.safetensors").is_file():
        raise SacmaError(f"{path}: no finished run; train one with sacma train --out {path}")
    deployment = Deployment.read(path) if (path / FACTS).is_file() else _deployed_now(path)
    method = load_model(deployment.method, path)
    width, needed = deployment.classes.vectors.shape[1], method.config.text_width
    if method.default_output not in deployment.scales or width != needed:
        raise SacmaError(
            f"{path / FACTS} does not fit the weights: it has outputs {', '.join(deployment.scales)} and "
            f"class vectors {width} wide, not {method.default_output} and {needed}; copy the run again"
        )
    return Predictor(method, deployment, path, **options)


def _deployed_now(path: Path) -> Deployment:
    """The deployment of a run without ``prediction.json``, made from its benchmark and written to the run."""
    from sacma.runs.folder import RunFolder
    from sacma.runs.prepare import open_benchmark
    from sacma.training.protocol import deploy

    folder = RunFolder.open(path, finished=True)
    config = folder.config()
    try:
        benchmark = open_benchmark(config.data)
    except SacmaError as error:
        raise SacmaError(f"{path} has no {FACTS}, and its benchmark cannot be opened: {error}") from error
    method = load_model(config.method, path)
    made = deploy(method, folder.test_bias(), config=config, benchmark=benchmark, folder=folder)
    made.write(path)
    return made
