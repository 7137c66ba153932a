"""Predictions for other programs: lines of JSON, subtitles, Label Studio, FiftyOne, a page of strips."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from sacma.errors import SacmaError
from sacma.predict.answers import Answer, Prediction, Window, csv_head, csv_rows, status_of, to_json
from sacma.predict.timeline import Segment

SUFFIXES = {
    ".label-studio.json": "label-studio",
    ".fiftyone.json": "fiftyone",
    ".jsonl": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".srt": "srt",
    ".html": "html",
}
"""Ending of a file's name -> the format of its content; longer ones first."""
STREAMED = ("csv", "jsonl")
"""Formats that are written clip by clip."""
FRAME_RATE = 25.0
"""Frames a second of Label Studio's time lines: ``framerate`` of its ``Video`` tag."""
_HUES = 12


@dataclass(frozen=True)
class Outcome:
    """Outcome of a clip.

    Attributes:
        clip: the file.
        prediction: None where there is none.
        failure: why there is none.
    """

    clip: str
    prediction: Prediction | None = None
    failure: str | None = None

    @property
    def status(self) -> str:
        """``ok``, ``none fits`` or ``failed``."""
        if self.prediction is None:
            return "failed"
        return status_of(self.prediction)

    @property
    def note(self) -> str:
        """Remarks, or why there is no prediction."""
        return self.failure or "" if self.prediction is None else "; ".join(self.prediction.notes)

    def line(self) -> str:
        """A line of JSON."""
        told = {} if self.prediction is None else self.prediction.to_dict()
        return json.dumps({"clip": self.clip, "status": self.status, "note": self.note, **told}) + "\n"

    @classmethod
    def of_line(cls, line: str) -> Outcome:
        """Outcome that ``line`` was made of.

        Raises:
            ValueError: it was made of nothing such.
        """
        try:
            told: dict[str, Any] = json.loads(line)
            if told.pop("status") == "failed":
                return cls(told["clip"], failure=told["note"])
            told.pop("note")
            return cls(told["clip"], _prediction(told))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from error


def _prediction(told: dict[str, Any]) -> Prediction:
    windows = [
        Window(
            **{
                **one,
                "answers": tuple(Answer(**answer) for answer in one["answers"]),
                "alone": {modality: Answer(**answer) for modality, answer in one["alone"].items()},
                "seen": None if one["seen"] is None else tuple(one["seen"]),
            }
        )
        for one in told["windows"]
    ]
    made: dict[str, Any] = {
        **told,
        "answers": tuple(Answer(**one) for one in told["answers"]),
        "windows": tuple(windows),
        "timeline": tuple(Segment(**one) for one in told["timeline"]),
        "notes": tuple(told["notes"]),
        "because": tuple(told["because"]),
    }
    return Prediction(**made)


def head(kind: str) -> str:
    """Text before the first clip in a format that is written clip by clip."""
    return csv_head() if kind == "csv" else ""


def rows(kind: str, outcome: Outcome) -> str:
    """Text of one clip in such a format."""
    if kind == "jsonl":
        return outcome.line()
    return csv_rows(outcome.clip, outcome.prediction, status=outcome.status, note=outcome.note)


def document(kind: str, outcomes: Sequence[Outcome]) -> str:
    """All clips in one of the formats."""
    if kind in STREAMED:
        return head(kind) + "".join(rows(kind, one) for one in outcomes)
    made = [one.prediction for one in outcomes if one.prediction is not None]
    if kind == "json":
        return to_json(made, {one.clip: one.note for one in outcomes if one.prediction is None})
    if kind == "srt":
        return "\n".join(subtitles(one) for one in made)
    if kind == "html":
        return strips(made)
    content: Any = label_studio(made) if kind == "label-studio" else fiftyone(made)
    return json.dumps(content, indent=1) + "\n"


def course(one: Prediction) -> tuple[Segment, ...]:
    """The timeline; of a clip that was not cut, its best name from beginning to end."""
    if one.timeline:
        return one.timeline
    whole = one.windows[0]
    return (Segment(whole.start, whole.end, one.best.name, one.best.probability, whole.carried_by),)


def subtitles(one: Prediction) -> str:
    """SubRip text: the name of each segment, with its probability."""
    told = [
        f"{number}\n{_stamp(part.start)} --> {_stamp(part.end)}\n"
        f"{' '.join(part.name.split())} ({100 * part.probability:.0f} %)\n"
        for number, part in enumerate(course(one), start=1)
    ]
    return "\n".join(told)


def _stamp(seconds: float) -> str:
    """00:01:02,500 for 62.5 seconds."""
    whole, milliseconds = divmod(round(1000 * seconds), 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d},{milliseconds:03d}"


def label_studio(predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
    """Tasks with predictions for Label Studio's video template with ``TimelineLabels``.

    The tags are ``<Video name="video" value="$video" framerate="25"/>`` and ``<TimelineLabels name="names"
    toName="video">``.
    """
    return [
        {
            "data": {"video": one.clip},
            "predictions": [
                {
                    "model_version": one.model or "sacma",
                    "score": one.best.probability,
                    "result": [_range(number, part) for number, part in enumerate(course(one))],
                }
            ],
        }
        for one in predictions
    ]


def _range(number: int, part: Segment) -> dict[str, Any]:
    first = round(part.start * FRAME_RATE) + 1
    frames = {"start": first, "end": max(first, round(part.end * FRAME_RATE))}
    return {
        "id": f"segment-{number}",
        "from_name": "names",
        "to_name": "video",
        "type": "timelinelabels",
        "score": part.probability,
        "value": {"ranges": [frames], "timelinelabels": [part.name]},
    }


def fiftyone(predictions: Sequence[Prediction]) -> dict[str, Any]:
    """``labels.json`` of a FiftyOneTemporalDetectionDataset; clips go by their file names without suffix."""
    names = dict.fromkeys(part.name for one in predictions for part in course(one))
    labels: Mapping[str, Any] = {
        Path(one.clip).stem: [
            {
                "label": part.name,
                "timestamps": [part.start, part.end],
                "confidence": part.probability,
            }
            for part in course(one)
        ]
        for one in predictions
    }
    return {"classes": list(names), "labels": labels}


def strips(predictions: Sequence[Prediction]) -> str:
    """A page with a coloured strip for each clip; what a colour stands for is written into it and below."""
    names = list(dict.fromkeys(part.name for one in predictions for part in course(one)))
    body = "".join(_strip(one, names) for one in predictions)
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>Timelines</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><style>'
        "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;"
        "color-scheme:light dark}.strip{display:flex;height:2.5rem;color:#000}"
        ".strip span{overflow:hidden;white-space:nowrap;padding:.5rem 0 0 .3rem;box-sizing:border-box}"
        "table{border-collapse:collapse;margin:.5rem 0 2rem}"
        "td{padding:.1rem 1rem .1rem 0;font-variant-numeric:tabular-nums}i{display:inline-block;width:.8em;"
        f"height:.8em;margin-right:.4em}}</style>\n{body}</html>\n"
    )


def _strip(one: Prediction, names: Sequence[str]) -> str:
    parts = course(one)
    length = max(parts[-1].end - parts[0].start, 1e-9)
    boxes, lines = [], []
    for part in parts:
        width = 100 * (part.end - part.start) / length
        colour, name = _colour(names.index(part.name)), escape(part.name)
        said = f"{name}, {part.start:.1f} to {part.end:.1f} s, {100 * part.probability:.0f} %"
        boxes.append(f'<span style="width:{width:.2f}%;background:{colour}" title="{said}">{name}</span>')
        lines.append(
            f'<tr><td>{part.start:.1f} s<td>{part.end:.1f} s<td><i style="background:{colour}"></i>{name}'
            f"<td>{100 * part.probability:.0f} %</tr>"
        )
    return (
        f"<h2>{escape(Path(one.clip).name)}</h2>"
        f'<div class="strip">{"".join(boxes)}</div><table>{"".join(lines)}</table>\n'
    )


def _colour(number: int) -> str:
    return f"hsl({360 * (number * 5 % _HUES) // _HUES} 65% {72 - 8 * (number // _HUES % 3)}%)"


def format_of(out: Path | None, chosen: str | None) -> str:
    """The format of a file by its name, or as chosen.

    Raises:
        SacmaError: neither says one.
    """
    if chosen is not None and (out is None or chosen != "table"):
        return chosen
    if out is None:
        return "table"
    found = next((kind for ending, kind in SUFFIXES.items() if out.name.endswith(ending)), None)
    if found is None:
        raise SacmaError(f"--out {out}: name it something{', something'.join(SUFFIXES)}, or give --format")
    return found
