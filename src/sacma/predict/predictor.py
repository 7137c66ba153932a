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

import csv
import io
import json
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import ModelCard, ModelHubMixin, snapshot_download
from numpy.typing import NDArray
from torch import Tensor

from sacma.errors import SacmaError
from sacma.files import read_json
from sacma.media.backbones import BACKBONES, Backbone, Steps, open_backbone
from sacma.media.decode import LIMITS, Limits
from sacma.media.extract import ClipFeatures, extract_clip
from sacma.metrics.calibration import probabilities
from sacma.models.base import Method
from sacma.models.sacma import SACMA
from sacma.predict.model_card import model_card
from sacma.runs.folder import load_model, save_model
from sacma.text.encoders import TextEncoder, encoder_of, open_encoder
from sacma.text.names import normal, read_names
from sacma.training.deployment import FACTS, FILES, Deployment
from sacma.types import Batch, ClassSet, Sequences

LONGEST = 300.0
"""Seconds that are taken for one clip: attention grows with the square of the length."""
MOST_WINDOWS = 100_000
_AT_ONCE = 64
"""Windows that are scored at a time."""
_SAME = 1e-3
"""Largest difference of two vectors of unit length that are to be the same."""

RESULT, KEPT = "result.json", ("config.json", "model.safetensors")

Names = str | Iterable[str]


@dataclass(frozen=True)
class Candidates:
    """Class names with their vectors.

    Attributes:
        classes: ``seen`` are the names that the run was trained on.
        known: names that are classes of the run's benchmark, seen or not.
    """

    classes: ClassSet
    known: frozenset[str]


@dataclass(frozen=True)
class Answer:
    """One name for a clip or a window.

    Attributes:
        name: as it was given.
        probability: 0 to 1.
        seen: the run was trained on it.
    """

    name: str
    probability: float
    seen: bool


@dataclass(frozen=True)
class Window:
    """A part of a clip and what it is taken for.

    Attributes:
        start: seconds from the beginning of the clip.
        end: likewise.
        answers: the most probable names, best first.
        alone: by modality, audio or video, the best name of the output that reads it alone; a modality that
            the window lacks is left out, and all are where the method has no such outputs.
        carried_by: ``both``, ``audio`` or ``video`` where that output alone has the same best name,
            ``neither`` where it takes both together; of a window with one modality, that one; None where the
            method has no such outputs.
    """

    start: float
    end: float
    answers: tuple[Answer, ...]
    alone: Mapping[str, Answer]
    carried_by: str | None


@dataclass(frozen=True)
class Prediction:
    """What a clip is taken for.

    Attributes:
        clip: the file.
        answers: the most probable names over all windows, best first.
        windows: in order of time; one for a clip that was not cut.
        calibrated: the temperature was fitted on validation; otherwise probabilities only rank.
        notes: what was wrong with the file or is to be known about the answers.
    """

    clip: str
    answers: tuple[Answer, ...]
    windows: tuple[Window, ...]
    calibrated: bool
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Answer:
        return self.answers[0]

    def to_dict(self) -> dict[str, Any]:
        """What JSON can hold."""
        return asdict(self)


@dataclass(frozen=True)
class Attention:
    """Attention of the class token that reads sound and pictures together: last layer, mean over heads.

    Attributes:
        audio: (Ta,) of each audio step.
        video: (Tv,) of each video step.
        own: of the class token itself; all three sum to 1.
    """

    audio: NDArray[np.float64]
    video: NDArray[np.float64]
    own: float


@dataclass(frozen=True)
class Places:
    """The space in which clips and names are compared, along the two axes in which the names differ most.

    Attributes:
        names: (K, 2) phi_t of each candidate, in the first two principal components.
        own: (C, 2) likewise of the classes of the run's benchmark, for orientation.
        clip: (2,) phi_m of the clip, in the same projection.
    """

    names: NDArray[np.float64]
    own: NDArray[np.float64]
    clip: NDArray[np.float64]


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
        parts = self._parts(features, clip, window, hop)
        windows: list[Window] = []
        total = torch.zeros(len(candidates.classes), dtype=torch.float64)
        for first in range(0, len(parts), _AT_ONCE):
            some = parts[first : first + _AT_ONCE]
            batch = self.batch(features, some)
            scores = self.scores(batch, candidates.classes)
            windows += self._windows(some, batch, scores, candidates.classes, start, top)
            total += scores[self.output].sum(dim=0)
        notes = (*features.notes, *self._notes(features))
        answers = _ranked(total / len(parts), candidates.classes, top)
        return Prediction(clip, answers, tuple(windows), self.calibrated, notes)

    def scores(self, batch: Batch, classes: ClassSet) -> dict[str, Tensor]:
        """(B, K) probabilities by output: the method's own, and those that read one modality alone."""
        scores = {}
        outputs = [self.output, *(output for output in self.deployment.scales if _modality(output))]
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
            _sequences(features.audio, parts, d.audio_step, c.audio_width),
            _sequences(features.video, parts, d.video_step, c.video_width),
            torch.zeros(len(parts), dtype=torch.long),  # neither labels nor text have a say in distances
            torch.zeros(len(parts), c.text_width),
        )

    # --- A look inside SACMA ------------------------------------------------------------------------------

    @torch.inference_mode()
    def attention(self, features: ClipFeatures) -> Attention | None:
        """Where the class token of the joint input looked; None for methods other than SACMA."""
        if not isinstance(self.method, SACMA) or "m" not in self.method.config.streams:
            return None
        batch = self.batch(features, [(0.0, self.seconds(features))])
        weights = self.method.attention(batch.to(self.device))["m"][0].double().cpu().numpy()
        audio, video = batch.audio.longest, batch.video.longest
        return Attention(weights[1 : 1 + audio], weights[1 + audio : 1 + audio + video], float(weights[0]))

    @torch.inference_mode()
    def places(self, features: ClipFeatures, candidates: Candidates) -> Places | None:
        """Names and clip in the plane; None for methods other than SACMA."""
        if not isinstance(self.method, SACMA) or "m" not in self.method.config.streams:
            return None
        batch = self.batch(features, [(0.0, self.seconds(features))]).to(self.device)
        vectors = torch.cat([candidates.classes.vectors, self.deployment.classes.vectors])
        phi_t = self.method.text_projection(vectors.to(self.device)).double().cpu()  # (K + C, d)
        phi_m = self.method.embed(batch, streams="m")["m"].double().cpu()  # (1, d)
        centre = phi_t.mean(dim=0)
        axes = torch.linalg.svd(phi_t - centre, full_matrices=False).Vh[:2]  # (2 or 1, d)
        both = (torch.cat([phi_t, phi_m]) - centre) @ axes.T
        both = torch.nn.functional.pad(both, (0, 2 - both.shape[1])).numpy()
        count = len(candidates.classes)
        return Places(both[:count], both[count:-1], both[-1])

    def seconds(self, features: ClipFeatures) -> float:
        """How long the steps of a clip last."""
        d = self.deployment
        return max(
            0.0 if steps is None else len(steps.values) * step
            for steps, step in ((features.audio, d.audio_step), (features.video, d.video_step))
        )

    def _parts(
        self, features: ClipFeatures, clip: str, window: float | None, hop: float | None
    ) -> list[tuple[float, float]]:
        d, seconds = self.deployment, self.seconds(features)
        if window is None:
            if hop is not None:
                raise SacmaError(f"a hop of {hop:g} s without a window; give the window too")
            if seconds > LONGEST:
                raise SacmaError(
                    f"{clip}: {seconds:.0f} s, at most {LONGEST:.0f} s are taken as one clip; slide over it "
                    "with --window 10, or choose a part by --start and --end"
                )
            return [(0.0, seconds)]
        hop = window / 2 if hop is None else hop
        least = max(d.audio_step, d.video_step)
        if not least <= window <= LONGEST:
            raise SacmaError(f"a window of {window:g} s; from {least:g} s (one step) to {LONGEST:g} s go")
        if not 0 < hop < math.inf:
            raise SacmaError(f"a hop of {hop:g} s; it must be above 0")
        count = max(1, math.ceil((seconds - window) / hop - 1e-9) + 1)
        if count > MOST_WINDOWS:
            raise SacmaError(f"{clip}: {count:,} windows, at most {MOST_WINDOWS:,} go; take a longer hop")
        return [(hop * k, min(hop * k + window, max(seconds, least))) for k in range(count)]

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
            answers = _ranked(scores[self.output][row], classes, top)
            alone = {
                modality: _ranked(rows[row], classes, 1)[0]
                for output, rows in scores.items()
                if (modality := _modality(output)) and has[modality][row]
            }
            windows.append(Window(start + begin, start + end, answers, alone, _carried_by(answers[0], alone)))
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


def to_json(predictions: Sequence[Prediction], failed: Mapping[str, str]) -> str:
    """All of the predictions, and by clip why there is none."""
    content = {"predictions": [one.to_dict() for one in predictions], "failed": dict(failed)}
    return json.dumps(content, indent=1) + "\n"


CSV_COLUMNS = ("clip", "part", "start", "end", "rank", "name", "probability", "seen", "carried_by")


def to_csv(predictions: Sequence[Prediction]) -> str:
    """A row for each name of the whole clip and, where it was cut into several, of each of its windows."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for one in predictions:
        parts = [("clip", replace(one.windows[0], end=one.windows[-1].end, answers=one.answers))]
        if len(one.windows) > 1:
            parts = [("clip", replace(parts[0][1], carried_by=None)), *(("window", w) for w in one.windows)]
        for part, w in parts:
            for rank, answer in enumerate(w.answers, start=1):
                facts = (answer.name, f"{answer.probability:.6g}", answer.seen, w.carried_by or "")
                writer.writerow((one.clip, part, f"{w.start:g}", f"{w.end:g}", rank, *facts))
    return text.getvalue()


# --- Backbones ----------------------------------------------------------------------------------------


def recorded_backbone(deployment: Deployment) -> str:
    """The name of the backbone that made the run's features.

    Raises:
        SacmaError: they do not say.
    """
    origin = deployment.provenance
    encoders = {part.get("name") for part in map(origin.get, ("audio", "video")) if isinstance(part, dict)}
    found = origin.get("backbone") or (encoders.pop() if len(encoders) == 1 else None)
    found = found or (deployment.features if deployment.features in BACKBONES else None)
    if found is None:
        raise SacmaError(
            f"the run's features, {deployment.features} of {deployment.benchmark}, do not say which backbone "
            f"made them; name it with --backbone: {', '.join(BACKBONES)}"
        )
    return str(found)


def check_backbone(backbone: Backbone, deployment: Deployment, method: Method) -> None:
    """Clips must get features of the kind that the run was trained on.

    Raises:
        SacmaError: they would not; it says what differs.
    """
    origin, config = deployment.provenance, method.config
    recorded = origin.get("backbone")
    different = [f"backbone {recorded}"] if recorded not in (None, backbone.name) else []
    for kind, encoder in (("audio", backbone.audio), ("video", backbone.video)):
        width, step = getattr(config, f"{kind}_width"), getattr(deployment, f"{kind}_step")
        if encoder.width != width:
            different.append(f"{kind} features {width} wide, not {encoder.width}")
        if not math.isclose(encoder.step_seconds, step, rel_tol=1e-3):
            different.append(f"{kind} steps of {step:g} s, not {encoder.step_seconds:g} s")
        made_by = origin.get(kind)
        for fact in ("name", "version", "checksum"):
            was = made_by.get(fact) if isinstance(made_by, dict) else None
            if was not in (None, getattr(encoder, fact)):
                different.append(f"{kind} encoder of {fact} {was}, not {getattr(encoder, fact)}")
    if different:
        raise SacmaError(
            f"backbone {backbone.name} does not fit the run, which was trained on {'; '.join(different)}; "
            "use the backbone of its features, or train on features of this one (sacma extract)"
        )


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


# --- Scores -------------------------------------------------------------------------------------------


def _modality(output: str) -> str | None:
    """What an output reads alone, by its name: phi_a, theta_a and audio read sound."""
    for modality in ("audio", "video"):
        if output == modality or output.endswith(f"_{modality[0]}"):
            return modality
    return None


def _carried_by(best: Answer, alone: Mapping[str, Answer]) -> str | None:
    if len(alone) < 2:
        return next(iter(alone), None)  # a clip of one modality
    agree = [modality for modality, answer in alone.items() if answer.name == best.name]
    return {0: "neither", 1: agree[0] if agree else "", 2: "both"}[len(agree)]


def _ranked(probability: Tensor, classes: ClassSet, top: int) -> tuple[Answer, ...]:
    best = probability.topk(min(top, len(classes)))
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple(Answer(classes.names[row], value, bool(classes.seen[row])) for row, value in rows)


def _sequences(
    steps: Steps | None, parts: Sequence[tuple[float, float]], step_seconds: float, width: int
) -> Sequences:
    """The steps that begin within each part; none where the clip has none."""
    values = np.zeros((0, width), np.float32) if steps is None else steps.values

    def first_step(seconds: float) -> int:
        return min(len(values), math.ceil(seconds / step_seconds - 1e-6))

    bounds = [(first_step(begin), first_step(end)) for begin, end in parts]
    kept = [torch.from_numpy(np.ascontiguousarray(values[first:last])) for first, last in bounds]
    lengths = torch.tensor([len(one) for one in kept])
    longest = int(lengths.max())
    seconds = torch.cat([torch.arange(len(one)) for one in kept]).float() * step_seconds
    return Sequences(torch.cat(kept), lengths, seconds, longest)
