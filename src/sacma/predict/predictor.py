"""Clips and class names in, ranked names out.

    features    of the whole clip, by the backbone that the run's features were made with
    windows     parts of the clip, each a pair of sequences; a missing modality is a sequence without steps
    names       a name of the run's own classes has the vector that the run was trained with, any other one is
                encoded as these were
    scores      p(k) = softmax of -(d_k + bias [k was trained on]) / T, see ``sacma.metrics.calibration``

Probabilities over the windows of a clip are averaged. What carried an answer is told by the outputs that read
one modality alone: they agree with it or not.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from numpy.typing import NDArray
from torch import Tensor

from sacma.errors import SacmaError
from sacma.files import read_json
from sacma.media.backbones import Backbone, open_backbone
from sacma.media.decode import LIMITS, Limits
from sacma.media.extract import ClipFeatures, extract_clip
from sacma.metrics.calibration import probabilities
from sacma.models.base import Method
from sacma.predict.answers import Candidates, Prediction, Window, carried_by, modality_of, ranked
from sacma.predict.explain import Attention, Places, attention_over_time, places_on_map
from sacma.predict.model_card import model_card
from sacma.predict.run_backbone import check_backbone, recorded_backbone
from sacma.predict.windows import steps_within, windows_of
from sacma.runs.folder import load_model, save_model
from sacma.text.encoders import TextEncoder, encoder_of, open_encoder
from sacma.text.names import normal, read_names
from sacma.training.deployment import FACTS, FILES, Deployment
from sacma.types import Batch, ClassSet

_AT_ONCE = 64
"""Windows that are scored at a time."""
_SAME = 1e-3
"""Largest difference of two vectors of unit length that are to be the same."""

RESULT, KEPT = "result.json", ("config.json", "model.safetensors")

Names = str | Iterable[str]


class Predictor(ModelHubMixin):
    """A trained model with all that it takes to answer for clips.

    ``save_pretrained``, ``from_pretrained`` and ``push_to_hub`` are those of the Hugging Face hub: a folder
    with the weights, what prediction needs beside them, the run's figures and a model card. It holds no path
    of the machine that it was made on.

    Args:
        method: with its weights.
        deployment: what the run knows beside them.
        path: the run folder.
        backbone: name; by default what the features say that made them.
        audio_weights: for backbones that bring no weights.
        video_weights: the same for pictures.
        encoder: of names that are not the run's own, as ``open_encoder`` takes it; by default
            what the class vectors say that made them. It must give the run's own class vectors again.
        bias: added to the distances of names that the run was trained on; by default what stage 1 chose.
        limits: what a clip may ask of us.
        device: where the networks run.

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
        self._encoder_spec = encoder
        self._encoder: TextEncoder | None = None
        self._rows = _known_rows(deployment)

    @property
    def calibrated(self) -> bool:
        """The temperature was fitted on validation; otherwise probabilities only rank."""
        return self.deployment.scales[self.output].temperature is not None

    # --- Clips ----------------------------------------------------------------------------------------

    @property
    def backbone(self) -> Backbone:
        """The backbone of the run's features, loaded when it is first needed.

        Raises:
            SacmaError: it is not known, cannot be opened, or is not the one that the run was trained with.
        """
        if self._backbone is None:
            name, weights = self._backbone_options
            name = name or recorded_backbone(self.deployment)
            opened = open_backbone(name, device=self.device, **weights)
            check_backbone(opened, self.deployment, self.method)
            self._backbone = opened
        return self._backbone

    def features(
        self, clip: str | Path, *, start: float | None = None, end: float | None = None
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
        """Names with their vectors; by default the run's own classes.

        Args:
            names: as ``sacma.text.names.read_names`` takes them.

        Raises:
            SacmaError: see ``read_names``; or a name has no vector, and the nearest known ones are told.
        """
        own = self.deployment.classes
        if names is None:
            return Candidates(own, frozenset(own.names))
        given = read_names(names)
        self._check_fixed(given)
        if self._encoder_spec is not None:
            _ = self.encoder  # whoever names one wants to know that it fits
        rows = [self._rows.get(normal(name)) for name in given]
        vectors = torch.empty(len(given), own.vectors.shape[1])
        for place, row in enumerate(rows):
            if row is not None:
                vectors[place] = own.vectors[row]
        new = [place for place, row in enumerate(rows) if row is None]
        if new:
            vectors[new] = torch.from_numpy(self._encoded([given[place] for place in new]))
        seen = torch.tensor([row is not None and bool(own.seen[row]) for row in rows])
        known = frozenset(name for name, row in zip(given, rows, strict=True) if row is not None)
        return Candidates(ClassSet(given, vectors, seen), known)

    @property
    def encoder(self) -> TextEncoder:
        """What encodes names that are not the run's own.

        Raises:
            SacmaError: it cannot be opened, or was given and does not give the run's own vectors.
        """
        if self._encoder is None:
            if self._encoder_spec is None:
                self._encoder = encoder_of(self.deployment.table)
            else:
                self._encoder = open_encoder(self._encoder_spec)
                _check_encoder(self._encoder, self.deployment)
        return self._encoder

    def _encoded(self, names: Sequence[str]) -> NDArray[np.float32]:
        try:
            return self.encoder(names)
        except SacmaError as error:
            if self._encoder_spec is None and self.deployment.table.provenance is None:
                raise SacmaError(
                    f"{error}; the run's class vectors do not say what made them, so it takes the names of "
                    "their table alone unless you say it with --encoder (and --model)"
                ) from error
            raise

    def _check_fixed(self, names: Sequence[str]) -> None:
        """A classifier knows the candidates that it was fitted to, and no others."""
        if not self.method.fixed_candidates:
            return
        own = set(self.own_names)
        if other := [name for name in names if name not in own]:
            raise SacmaError(
                f"{self.deployment.method} answers by a classifier of its own {len(own)} classes, and "
                f"{other[0]!r} is none of them; use a run of another method, or leave the names out"
            )

    # --- The hub --------------------------------------------------------------------------------------

    def _save_pretrained(self, save_directory: Path) -> None:
        save_model(self.method, save_directory)
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
        """The card that goes with the weights; ``licence`` is theirs, by a name that the hub knows."""
        stored = self.path / RESULT
        result = read_json(stored) if stored.is_file() else None
        return model_card(self.method, self.deployment, result, licence=licence)

    # --- Answers --------------------------------------------------------------------------------------

    def predict(
        self,
        clip: str | Path,
        classes: Names | Candidates | None = None,
        *,
        start: float | None = None,
        end: float | None = None,
        window: float | None = None,
        hop: float | None = None,
        top: int = 5,
    ) -> Prediction:
        """What a clip is taken for.

        Args:
            clip: a media file.
            classes: the names to tell apart, by default the run's own classes; see ``candidates``.
            start: seconds where the part of the clip begins.
            end: seconds where it ends.
            window: seconds of a window that slides over the clip; by default the clip is one.
            hop: seconds from one window to the next, by default half a window.
            top: how many names an answer has at most.

        Raises:
            SacmaError: the clip, a name or a number cannot be used; it says which and why.
        """
        if top < 1:
            raise SacmaError(f"top is {top}; at least one name is to be told")
        chosen = classes if isinstance(classes, Candidates) else self.candidates(classes)
        features = self.features(clip, start=start, end=end)
        return self.answer(
            features, chosen, clip=str(clip), start=start or 0.0, window=window, hop=hop, top=top
        )

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
        """``predict`` for features that are there already; ``start`` is where they begin in the clip."""
        least = max(self.deployment.audio_step, self.deployment.video_step)
        parts = windows_of(self.seconds(features), window=window, hop=hop, least=least, clip=clip)
        windows: list[Window] = []
        total = torch.zeros(len(candidates.classes), dtype=torch.float64)
        for first in range(0, len(parts), _AT_ONCE):
            some = parts[first : first + _AT_ONCE]
            batch = self.batch(features, some)
            scores = self.scores(batch, candidates.classes)
            windows += self._windows(some, batch, scores, candidates.classes, start, top)
            total += scores[self.output].sum(dim=0)
        notes = (*features.notes, *self._notes(features))
        answers = ranked(total / len(parts), candidates.classes, top)
        return Prediction(clip, answers, tuple(windows), self.calibrated, notes)

    def scores(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """(B, K) probabilities by output: the method's own, and those that read one modality alone."""
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
        """Parts of a clip, in seconds from where the features begin; times start at 0 in each."""
        d, c = self.deployment, self.method.config
        return Batch(
            steps_within(features.audio, parts, step_seconds=d.audio_step, width=c.audio_width),
            steps_within(features.video, parts, step_seconds=d.video_step, width=c.video_width),
            torch.zeros(len(parts), dtype=torch.long),  # neither labels nor text have a say in distances
            torch.zeros(len(parts), c.text_width),
        )

    # --- Explanations -----------------------------------------------------------------------------------

    @torch.inference_mode()
    def attention(self, features: ClipFeatures) -> Attention | None:
        """Attention of SACMA's class token over the steps of a clip; None for other methods."""
        return attention_over_time(self.method, self._whole(features))

    @torch.inference_mode()
    def places(self, features: ClipFeatures, candidates: Candidates) -> Places | None:
        """Names and clip on a map of SACMA's embedding space; None for other methods."""
        names, own = (one.vectors.to(self.device) for one in (candidates.classes, self.deployment.classes))
        return places_on_map(self.method, self._whole(features), names=names, own=own)

    def _whole(self, features: ClipFeatures) -> Batch:
        return self.batch(features, [(0.0, self.seconds(features))]).to(self.device)

    def seconds(self, features: ClipFeatures) -> float:
        """How long the steps of a clip last."""
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
        for row, (begin, end) in enumerate(parts):
            answers = ranked(scores[self.output][row], classes, top)
            alone = {
                modality: ranked(rows[row], classes, 1)[0]
                for output, rows in scores.items()
                if (modality := modality_of(output)) and has[modality][row]
            }
            windows.append(Window(start + begin, start + end, answers, alone, carried_by(answers[0], alone)))
        return windows

    def _notes(self, features: ClipFeatures) -> list[str]:
        notes = []
        for kind, steps in (("sound", features.audio), ("pictures", features.video)):
            if steps is None:
                notes.append(f"no {kind} in it: answered without")
        if not self.calibrated:
            notes.append("probabilities are not calibrated: the run has no stage-1 weights")
        return notes


def load(run: str | Path, **options: Any) -> Predictor:
    """Open a finished run for prediction; what a model was saved to by ``save_pretrained`` is one, too.

    Args:
        run: the folder.
        options: see ``Predictor``.

    Raises:
        SacmaError: no finished run, damaged, or of a version that kept nothing for prediction and whose
            benchmark is not there any more.
    """
    path = Path(run)
    if not (path / "model.safetensors").is_file():
        raise SacmaError(f"{path}: no finished run; train one with sacma train --out {path}")
    deployment = Deployment.read(path) if (path / FACTS).is_file() else _deployed_now(path)
    return Predictor(load_model(deployment.method, path), deployment, path, **options)


def _deployed_now(path: Path) -> Deployment:
    """For runs without ``prediction.json``: from the benchmark that they were trained on."""
    from rich.console import Console

    from sacma.runs.folder import RunFolder
    from sacma.training import protocol

    folder = RunFolder.open(path, finished=True)
    config = folder.config()
    try:
        benchmark = protocol.open_benchmark(config.data, Console(stderr=True))
    except SacmaError as error:
        raise SacmaError(f"{path} has no {FACTS}, and its benchmark cannot be opened: {error}") from error
    method, selection = load_model(config.method, path), protocol.read_selection(folder)
    made = protocol.deploy(method, selection, config=config, benchmark=benchmark, folder=folder)
    made.write(path)
    return made


# --- Names --------------------------------------------------------------------------------------------


def _known_rows(deployment: Deployment) -> dict[str, int]:
    """Normal form of the run's class names, and of the names they were looked up as, to their rows."""
    rows = {normal(name): row for row, name in enumerate(deployment.text_names)}
    return rows | {normal(name): row for row, name in enumerate(deployment.classes.names)}


def _check_encoder(encoder: TextEncoder, deployment: Deployment) -> None:
    names = deployment.table.names[:20]
    vectors = deployment.table.vectors[: len(names)]
    found = encoder(names)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if found.shape != vectors.shape or np.abs(found - vectors / lengths).max() > _SAME:
        raise SacmaError(
            f"text encoder {encoder.provenance['encoder']} does not give the class vectors that the run was "
            f"trained with ({deployment.table.source}); name the one that made them"
        )
