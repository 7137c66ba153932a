"""The model card of a run: its use, training data, results, limits and licence.

The front matter follows https://huggingface.co/docs/hub/model-cards.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from sacma.frozen.leakage import trained_on
from sacma.metrics.gzsl import ACCURACIES
from sacma.metrics.percent import percent
from sacma.models.base import Method
from sacma.runs.records import RunResult
from sacma.training.deployment import Deployment, Scale
from sacma.version import __version__

_LONGEST = 500
"""Characters of a name or fact that are shown."""
PAPER = "https://doi.org/10.1016/j.inffus.2025.103966"


def model_card(
    method: Method, deployment: Deployment, result: RunResult | None, *, licence: str | None = None
) -> ModelCard:
    """The card of a trained model.

    Args:
        method: the model with its weights.
        deployment: class vectors, calibration and feature settings of the run.
        result: of the run; None if its result.json is missing.
        licence: licence of the weights, by a name that the hub knows. By default MIT for AV-Shapes, which
            this project renders, and none for other benchmarks; the card says so.
    """
    own = deployment.benchmark == "avshapes"
    data = ModelCardData(
        license=licence or ("mit" if own else "other"),
        library_name="sacma",
        pipeline_tag="video-classification",
        tags=["zero-shot", "audio-visual", deployment.method],
    )
    sections = [
        _head(deployment),
        _use(deployment),
        _training_data(deployment),
        _results(deployment, result),
        _calibration(method, deployment.scales[method.default_output]),
        _limits(deployment, own=own),
        _licence(deployment, licence, own=own),
    ]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(sections) + "\n")


def _head(d: Deployment) -> str:
    return (
        f"# {escaped(d.method)} on {escaped(d.benchmark)}\n\n"
        "Audio-visual zero-shot classification: tells which of any class names a clip shows and sounds like, "
        f"names that it was not trained on among them. Method `{d.method}`"
        + (f" ([paper]({PAPER}))" if d.method == "sacma" else "")
        + f", made with sacma {__version__}."
    )


def escaped(text: object) -> str:
    """Text from outside as it stands, whatever it means in Markdown or HTML."""
    line = html.escape(" ".join(str(text)[:_LONGEST].split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#!|~$])", r"\\\1", line)


def _use(d: Deployment) -> str:
    names = [json.dumps(str(name), ensure_ascii=False).replace("`", "'") for name in d.classes.names[:2]]
    return (
        "## Use\n\n```python\nfrom sacma import Predictor\n\n"
        'model = Predictor.from_pretrained("NAME OF THIS REPOSITORY OR FOLDER")\n'
        f'model.predict("clip.mp4", [{", ".join(names)}]).answers\n```'
    )


def _training_data(d: Deployment) -> str:
    seen = [name for name, is_seen in zip(d.classes.names, d.classes.seen.tolist(), strict=True) if is_seen]
    origin = [f"- features: {escaped(d.features)}" + _encoders(d.provenance)]
    text = d.table.provenance or {}
    encoder = (
        f"encoder {escaped(text['encoder'])}"
        if "encoder" in text
        else "a table that knows its own names alone"
    )
    origin.append(
        f"- class vectors: {encoder}, {d.classes.vectors.shape[1]} numbers, {escaped(d.text_alignment)}"
    )
    origin.append(f"- steps: audio {d.audio_step:g} s, video {d.video_step:g} s")
    origin.append(f"- trained on {len(seen)} classes: {', '.join(map(escaped, seen))}")
    return f"## Data\n\nBenchmark {escaped(d.benchmark)}.\n\n" + "\n".join(origin)


def _encoders(provenance: Mapping[str, Any]) -> str:
    parts = []
    for kind in ("audio", "video"):
        made_by = provenance.get(kind)
        if isinstance(made_by, dict):
            facts = [
                f"{fact} {escaped(made_by[fact])}"
                for fact in ("version", "licence", "checksum")
                if fact in made_by
            ]
            if learned := trained_on(made_by):
                facts.append(f"trained on {escaped(', '.join(learned))}")
            parts.append(f"{kind} by {escaped(made_by.get('name', 'an encoder'))} ({', '.join(facts)})")
    return f"; {'; '.join(parts)}" if parts else "; their files do not say what made them"


def _results(d: Deployment, result: RunResult | None) -> str:
    if result is None:
        return "## Figures\n\nNone: the run's result.json was not there."
    overlap = d.overlap(result.split)
    mark = f" {overlap.mark}" if overlap else ""
    rows = [
        f"| {part} | "
        + " | ".join(percent(getattr(measured, key)) for key in ACCURACIES.values())
        + f" | {measured.bias:.3g} |"
        for part, measured in (("validation", result.validation), (f"test{mark}", result.test))
    ]
    head = "| | " + " | ".join(ACCURACIES) + " | bias |"
    made = (
        f"{escaped(result.split)} split, {escaped(result.features)} features ({result.feature_scaling}), "
        f"{result.text_alignment} class vectors ({escaped(result.text)}), {result.bias_search} bias search, "
        f"variant {result.variant}, preset {result.preset}, one seed ({result.seed})"
    )
    return "\n".join(
        [
            f"## Figures\n\nPercent; {made}. S and U: mean accuracy over seen and over unseen classes, all "
            "being candidates; HM: their harmonic mean; ZSL: over unseen classes alone.\n",
            head,
            "| --- " * (len(ACCURACIES) + 2) + "|",
            *rows,
            *(["", escaped(overlap.note)] if overlap else []),
        ]
    )


def _calibration(method: Method, scale: Scale) -> str:
    if scale.temperature is None or scale.validation is None or scale.test is None:
        return "## Scores\n\nNot calibrated: probabilities rank and mean nothing else."
    rows = [
        f"| {name} | {one.clips} | "
        + " | ".join(percent(share) for share in (one.accuracy, one.confidence, one.ece))
        + " |"
        for name, one in (("validation, fitted on", scale.validation), ("test", scale.test))
    ]
    return "\n".join(
        [
            f"## Scores\n\nProbabilities by temperature {scale.temperature:.3g} "
            f"of output `{method.default_output}`, bias {scale.bias:.3g} on the names that it was trained on"
            ". Percent; accuracy over clips:\n",
            "| | clips | accuracy | mean probability of the answer | expected calibration error |",
            "| --- " * 5 + "|",
            *rows,
        ]
    )


def _limits(d: Deployment, *, own: bool) -> str:
    limits = [
        "It answers with one of the names that it is given, whether or not any of them is right.",
        "Probabilities were fitted among the candidates of validation; among many more or fewer names, or on "
        "clips of another kind, they are less to be believed.",
        "Names that it was not trained on are told worse than those it was (U and S above).",
        "It has to see features of the backbone that it was trained on; prediction checks that.",
    ]
    if own:
        limits.insert(
            0, "AV-Shapes are rendered shapes and tones: this model knows nothing about real video."
        )
    return "## Limits\n\n" + "\n".join(f"- {limit}" for limit in limits)


def _licence(d: Deployment, licence: str | None, *, own: bool) -> str:
    if licence or own:
        chosen = f"The weights: {licence or 'MIT'}."
    else:
        chosen = (
            f"No licence was chosen for these weights. They were made from {escaped(d.benchmark)}, "
            "whose terms and "
            "those of its clips hold for them."
        )
    return f"## Licence\n\n{chosen} The code, sacma: MIT."
