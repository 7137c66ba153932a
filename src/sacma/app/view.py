"""The HTML of answers on the web page: ranked bars, the clip over time, the map of names.

It is made from templates, with inline SVG. Jinja escapes all text of a user. The page fetches nothing from
other hosts: pictures are data within it.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacma.app.advice import for_visitors
from sacma.app.playable import Player
from sacma.app.timeline import stretches
from sacma.app.times import shown as moment
from sacma.errors import requires
from sacma.frozen.scores import Names
from sacma.library.search import Moment
from sacma.media.decode import Clip, Limits
from sacma.media.extract import ClipFeatures
from sacma.predict import Attention, Candidates, Places, Prediction, Predictor, ZeroShot
from sacma.predict.answers import to_csv

FRAMES = 10
"""Pictures of a clip in the strip."""
BUCKETS = 240
"""Points of the waveform."""
_WIDE, _HIGH = 320, 220
_LETTER, _LETTERS = 3.9, 44
"""Width of a letter on the map, and the most letters of a label."""
TOP = 10
"""Names of an answer."""
_TITLE = 4
"""Names of a timeline in the title of its answer."""
_RATE = 4000
"""Samples a second from which the waveform is drawn."""
_HEIGHT = 72
"""Height of a picture in the strip, in pixels."""


@dataclass(frozen=True)
class Look:
    """Pictures and waveform of a clip.

    Attributes:
        seconds: length of the clip, or of the part of it.
        frames: JPEG pictures as data addresses, evenly spaced; empty for a clip without pictures.
        waveform: (BUCKETS,) loudest sample of each part, 0 to 1; None for a clip without sound.
        start: seconds where the part begins in the clip.
    """

    seconds: float
    frames: tuple[str, ...]
    waveform: NDArray[np.float32] | None
    start: float = 0.0


def look_at(
    path: Path, features: ClipFeatures, seconds: float, limits: Limits, *, start: float = 0.0
) -> Look:
    """Decode the pictures and the waveform of a clip.

    Args:
        path: the media file.
        features: of the clip; they say whether it has pictures and sound.
        seconds: length of the features.
        limits: largest size and length of a clip.
        start: seconds where the part begins.

    Raises:
        SacmaError: the file cannot be decoded or exceeds a limit.
    """
    clip = Clip.open(path, limits=limits)
    part = {"start": start or None, "end": None if not start else start + seconds}
    frames: tuple[str, ...] = ()
    if features.video is not None:
        spaced = clip.frames(rate=FRAMES / seconds, size=_HEIGHT, **part)
        frames = tuple(_jpeg(frame) for _, (_, frame) in zip(range(FRAMES), spaced, strict=False))
    waveform = None
    if features.audio is not None:
        waveform = _loudest(list(clip.waveform(rate=_RATE, **part)), seconds)
    return Look(seconds, frames, waveform, start)


def _jpeg(frame: NDArray[np.uint8]) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(frame).save(file, format="JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _loudest(blocks: Sequence[NDArray[np.float32]], seconds: float) -> NDArray[np.float32] | None:
    if not blocks:
        return None
    samples = np.abs(np.concatenate(blocks))
    place = np.minimum(np.arange(len(samples)) / _RATE / seconds * BUCKETS, BUCKETS - 1).astype(np.int64)
    loudest = np.zeros(BUCKETS, np.float32)
    np.maximum.at(loudest, place, samples)
    return loudest / max(float(loudest.max()), 0.05)


def render_answer(
    prediction: Prediction,
    candidates: Candidates | Names,
    look: Look,
    attention: Attention | None,
    places: Places | None,
    predictor: Predictor | ZeroShot,
    *,
    player: Player | None = None,
    lesson: str | None = None,
) -> str:
    """The HTML of the answer for one clip; ``lesson`` is its path where the model can be corrected."""
    shown = None
    if attention is not None and not isinstance(predictor, ZeroShot):
        d = predictor.deployment
        shown = _attention(attention, look, d.audio_step, d.video_step)
    # Of a modality that the model does not use, a note tells; that the clip lacks it would be wrong.
    used = predictor.model.modalities if isinstance(predictor, ZeroShot) else ("audio", "video")
    drawn = None
    if places is not None and not isinstance(candidates, Names) and len(candidates.classes) >= 3:
        drawn = _map(places, candidates, prediction)
    return _template("answer.html.j2").render(
        prediction=prediction,
        notes=[for_visitors(note, predictor.limits) for note in prediction.notes],
        used=used,
        window=prediction.windows[0],
        best=prediction.best,
        look=look,
        ticks=_ticks(look.seconds, look.start),
        wave=_wave(look.waveform),
        attention=shown,
        map=drawn,
        player=player,
        lesson=lesson,
        stretches=stretches(prediction.timeline),
        several=_several(prediction),
    )


def _several(prediction: Prediction) -> tuple[str, ...]:
    """The names of the timeline in their order, where they differ; at most ``_TITLE``, then dots."""
    names = tuple(dict.fromkeys(part.name for part in prediction.timeline))
    if len(names) < 2:
        return ()
    return names if len(names) <= _TITLE else (*names[:_TITLE], "…")


def render_answers(cards: Sequence[str], predictions: Sequence[Prediction], *, left: int = 0) -> str:
    """The HTML of the answers for some clips.

    Args:
        cards: an answer or an error for each clip that is done.
        predictions: the answers.
        left: clips that are still to come.
    """
    table = base64.b64encode(to_csv(predictions).encode("utf-8-sig")).decode() if predictions else ""
    return _template("answers.html.j2").render(
        cards=cards, predictions=predictions, left=left, csv=table, several=len(cards) + left > 1
    )


def render_moments(text: str, found: Sequence[tuple[Moment, Player | None]], *, note: str = "") -> str:
    """The HTML of what a search found.

    Args:
        text: what was looked for.
        found: moments, the best first, and what plays each.
        note: remark on all of them.
    """
    return _template("moments.html.j2").render(text=text, found=found, note=note)


def render_empty() -> str:
    """The HTML before the first answer."""
    return _template("empty.html.j2").render()


def render_error(message: str) -> str:
    """The HTML of an error."""
    return _template("message.html.j2").render(message=message, kind="error")


def render_message(message: str) -> str:
    """The HTML of good news."""
    return _template("message.html.j2").render(message=message, kind="done")


def render_head() -> str:
    """The HTML at the top of the page."""
    return _template("head.html.j2").render()


def render_model(predictor: Predictor | ZeroShot) -> str:
    """The HTML that says which model answers, and what it was trained on."""
    if isinstance(predictor, ZeroShot):
        return _template("model_frozen.html.j2").render(model=predictor.model, own=predictor.own_names)
    d = predictor.deployment
    trained = [str(n) for n, seen in zip(d.classes.names, d.classes.seen.tolist(), strict=True) if seen]
    new = [str(n) for n, seen in zip(d.classes.names, d.classes.seen.tolist(), strict=True) if not seen]
    return _template("model.html.j2").render(d=d, trained=trained, new=new, demo=d.benchmark == "avshapes")


@dataclass(frozen=True)
class _Bar:
    """A step on the time line.

    Attributes:
        left: where it begins, in percent of the clip.
        width: in percent of the clip.
        weight: attention, as a fraction of the largest.
        share: attention.
        start: where it begins, in seconds.
    """

    left: float
    width: float
    weight: float
    share: float
    start: float


def _attention(attention: Attention, look: Look, audio_step: float, video_step: float) -> dict[str, Any]:
    largest = max([*attention.audio, *attention.video, 1e-12])

    def bars(weights: NDArray[np.float64], step: float) -> list[_Bar]:
        scale = 100 / look.seconds
        ends = [min((k + 1) * step, look.seconds) for k in range(len(weights))]
        return [
            _Bar(k * step * scale, max(0.0, ends[k] - k * step) * scale, w / largest, w, k * step)
            for k, w in enumerate(weights.tolist())
        ]

    total = attention.audio.sum() + attention.video.sum()
    return {
        "audio": bars(attention.audio, audio_step),
        "video": bars(attention.video, video_step),
        "audio_share": float(attention.audio.sum() / total) if total else 0.0,
        "video_share": float(attention.video.sum() / total) if total else 0.0,
        "audio_most": float(attention.audio.argmax() * audio_step) if len(attention.audio) else None,
        "video_most": float(attention.video.argmax() * video_step) if len(attention.video) else None,
    }


def _ticks(seconds: float, start: float) -> list[tuple[float, str]]:
    """Marks on the time line: position in percent, and label."""
    steps = (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600)
    step = next(s for s in steps if seconds / s <= 8 or s == steps[-1])
    return [(100 * k * step / seconds, moment(start + k * step)) for k in range(int(seconds / step) + 1)]


def _wave(waveform: NDArray[np.float32] | None) -> str:
    """The outline of the waveform as points of an SVG polygon of 240 x 40."""
    if waveform is None:
        return ""
    top = [f"{x},{20 - 19 * y:.1f}" for x, y in enumerate(waveform.tolist())]
    bottom = [f"{x},{20 + 19 * y:.1f}" for x, y in enumerate(waveform.tolist())]
    return " ".join(top + bottom[::-1])


def _map(places: Places, candidates: Candidates, prediction: Prediction) -> dict[str, Any]:
    """Points in a box of 320 x 220 with equal scales, and labels that do not overlap."""
    points = np.vstack([places.names, places.own, places.clip])
    low, high = points.min(axis=0), points.max(axis=0)
    scale = min(250 / max(high[0] - low[0], 1e-9), 180 / max(high[1] - low[1], 1e-9))
    at = (points - (low + high) / 2) * scale * [1, -1] + [_WIDE / 2, _HIGH / 2]
    count, classes = len(candidates.classes), candidates.classes
    at_names, at_own, at_clip = at[:count], at[count:-1], at[-1]
    ranked = [answer.name for answer in prediction.answers]
    names = [
        {"x": x, "y": y, "name": name, "seen": seen, "best": name == ranked[0]}
        for (x, y), name, seen in zip(at_names.tolist(), classes.names, classes.seen.tolist(), strict=True)
    ]
    where = {one["name"]: (one["x"], one["y"]) for one in names}
    return {
        "names": names,
        "own": at_own.tolist(),
        "clip": {"x": float(at_clip[0]), "y": float(at_clip[1])},
        "ranks": [
            {"rank": rank, "x": where[name][0], "y": where[name][1]}
            for rank, name in enumerate(ranked, start=1)
        ],
        "labels": _labels([(name, *where[name]) for name in ranked], (float(at_clip[0]), float(at_clip[1]))),
    }


def _labels(points: Sequence[tuple[str, float, float]], clip: tuple[float, float]) -> list[dict[str, Any]]:
    """A label for each named point, at the first free one of several places; none if no place is free."""
    taken = [(clip[0] - 9, clip[1] - 9, clip[0] + 9, clip[1] + 9)]
    taken += [(x - 4, y - 4, x + 4, y + 4) for _, x, y in points]
    labels: list[dict[str, Any]] = []
    for name, x, y in points:
        text = name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…"
        width = _LETTER * len(text)
        spots = [(x + 7, y + 3), (x - 7 - width, y + 3)]
        spots += [(min(max(x - width / 2, 2), _WIDE - 2 - width), y + dy) for dy in (-8, 14, -18, 24)]
        for left, base in spots:
            box = (left, base - 7, left + width, base + 2)
            inside = box[0] >= 0 and box[2] <= _WIDE and box[1] >= 0 and box[3] <= _HIGH
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                labels.append({"text": text, "x": left, "y": base, "best": not labels})
                break
    return labels


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@cache
def _environment() -> Any:
    with requires("app", "the page needs another package"):
        from jinja2 import Environment, PackageLoader, StrictUndefined
    environment = Environment(
        loader=PackageLoader("sacma.app"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["moment"] = moment
    environment.filters["file_name"] = lambda path: Path(path).name
    environment.filters["percent"] = lambda share: f"{100 * share:.0f} %" if share >= 0.005 else "< 1 %"
    return environment


def _template(name: str) -> Any:
    return _environment().get_template(name)
