"""Candidate names and the answers of a ``Predictor``, with their JSON and CSV forms."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, overload

from sacma.frames import SHOWN_ROWS, Columns, FrameKind, html_table
from sacma.predict.timeline import Segment

if TYPE_CHECKING:  # a library is asked without torch
    from torch import Tensor

    from sacma.types import ClassSet

CSV_COLUMNS = (
    "clip",
    "part",
    "start",
    "end",
    "rank",
    "name",
    "probability",
    "seen",
    "carried_by",
    "status",
    "note",
)


@dataclass(frozen=True)
class Candidates:
    """Class names with their vectors.

    Attributes:
        classes: K names and vectors; ``seen`` marks the names that the run was trained on.
        known: the names that are classes of the run's benchmark, seen or unseen.
        notes: remarks on names.
    """

    classes: ClassSet
    known: frozenset[str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """One name for a clip or a window.

    Attributes:
        name: spelled as the user gave it.
        probability: 0 to 1.
        seen: True if the run was trained on this name.
    """

    name: str
    probability: float
    seen: bool


@dataclass(frozen=True)
class Window:
    """A part of a clip with its answers.

    Attributes:
        start: seconds from the beginning of the clip, where the part begins that the answers stand for.
        end: seconds from the beginning of the clip, where it ends.
        answers: the most probable names, best first.
        alone: modality (``audio`` or ``video``) -> the best name of the output that reads this modality
            alone. A modality that the window lacks is left out. Empty for methods without such outputs.
        carried_by: which modality supports the best name. ``both``, ``audio`` or ``video``: that output alone
            gives the same name. ``neither``: only both together give it. For a window with one modality, that
            modality. None for methods without such outputs.
        seen: seconds between which the model looked for this answer, in whose middle the part lies; None
            where that is the part.
    """

    start: float
    end: float
    answers: tuple[Answer, ...]
    alone: Mapping[str, Answer]
    carried_by: str | None
    seen: tuple[float, float] | None = None


@dataclass(frozen=True)
class Prediction:
    """The answers for a clip.

    Attributes:
        clip: the file.
        answers: the most probable names over all windows, best first.
        windows: in order of time; a single one for a clip that was not cut.
        calibrated: True if the temperature was fitted on validation; otherwise probabilities only rank.
        notes: remarks about the file and about the answers.
        model: the frozen model that answered; None for a trained run.
        because: what speaks most for the best name, where the model can tell.
        fit: how well the names fit at all, see ``sacma.frozen.rejection``; None where it was not asked for.
        rejected: none of the names fits.
        timeline: the course of a clip that was cut into windows: which name holds from when to when.
    """

    clip: str
    answers: tuple[Answer, ...]
    windows: tuple[Window, ...]
    calibrated: bool
    notes: tuple[str, ...] = ()
    model: str | None = None
    because: tuple[str, ...] = ()
    fit: float | None = None
    rejected: bool = False
    timeline: tuple[Segment, ...] = ()

    @property
    def best(self) -> Answer:
        """The most probable name."""
        return self.answers[0]

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)

    def to_frame(self, kind: FrameKind = "pandas") -> Any:
        """A data frame with the columns and rows of the CSV form.

        Args:
            kind: ``pandas`` or ``polars``.

        Raises:
            SacmaError: the library is not installed.
        """
        return table_of([self]).to_frame(kind)

    def _repr_html_(self) -> str:
        rows = [
            (rank, one.name, f"{100 * one.probability:.1f} %") for rank, one in enumerate(self.answers, 1)
        ]
        return html_table(("", "name", "probability"), rows, head=self.clip, note=_remarks(self))


class Predictions(Sequence[Prediction]):
    """The answers for several clips, in the order of the clips.

    Args:
        made: the predictions.
        failed: clip -> why there is no prediction.

    Attributes:
        failed: as given.

    Example:
        >>> found = model.predict(["a.mp4", "b.mp4"], ["rain", "wind"])  # doctest: +SKIP
        >>> [one.best.name for one in found], found.failed  # doctest: +SKIP
        (['rain', 'wind'], {})
        >>> found.to_frame().groupby("clip").first()  # doctest: +SKIP
    """

    def __init__(self, made: Iterable[Prediction], failed: Mapping[str, str] | None = None) -> None:
        self._made, self.failed = tuple(made), dict(failed or {})

    @overload
    def __getitem__(self, place: int) -> Prediction: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Prediction, ...]: ...
    def __getitem__(self, place: int | slice) -> Prediction | tuple[Prediction, ...]:
        return self._made[place]

    def __len__(self) -> int:
        return len(self._made)

    def __repr__(self) -> str:
        return f"Predictions({len(self)} clips, {len(self.failed)} failed)"

    def to_frame(self, kind: FrameKind = "pandas") -> Any:
        """A data frame with the columns and rows of the CSV form; clips that failed have a row as well.

        Args:
            kind: ``pandas`` or ``polars``.

        Raises:
            SacmaError: the library is not installed.
        """
        return table_of(self._made, self.failed).to_frame(kind)

    def _repr_html_(self) -> str:
        common = [note for note in self[0].notes if len(self) > 1 and all(note in one.notes for one in self)]
        rows = [
            (one.clip, one.best.name, f"{100 * one.best.probability:.1f} %", _remarks(one, but=common))
            for one in self
        ]
        rows += [(clip, "", "", f"failed: {why}") for clip, why in self.failed.items()]
        more = [f"{SHOWN_ROWS} of {len(rows):,} clips"] if len(rows) > SHOWN_ROWS else []
        titles = ("clip", "name", "probability", "note")
        return html_table(titles, rows[:SHOWN_ROWS], note="; ".join((*more, *common)))


def _remarks(one: Prediction, *, but: Sequence[str] = ()) -> str:
    notes = [note for note in one.notes if note not in but]
    return "; ".join((*(("none of these fits",) if one.rejected else ()), *notes))


def ranked(probability: Tensor, classes: ClassSet, top: int) -> tuple[Answer, ...]:
    """The ``top`` most probable of K classes, best first; ``probability`` is (K,)."""
    best = probability.topk(min(top, len(classes)))
    rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple(Answer(classes.names[row], value, bool(classes.seen[row])) for row, value in rows)


def merged(windows: Sequence[Window]) -> tuple[Segment, ...]:
    """Windows in a row with the same best name as one segment each."""
    told = []
    for name, group in groupby(windows, key=lambda window: window.answers[0].name):
        some = list(group)
        mean = sum(window.answers[0].probability for window in some) / len(some)
        carried = Counter(window.carried_by for window in some if window.carried_by)
        most = carried.most_common(1)[0][0] if carried else None
        told.append(Segment(some[0].start, some[-1].end, name, mean, most))
    return tuple(told)


def modality_of(output: str) -> str | None:
    """The modality that an output reads alone, by its name: ``phi_a`` and ``theta_a`` read audio."""
    for modality in ("audio", "video"):
        if output == modality or output.endswith(f"_{modality[0]}"):
            return modality
    return None


def carried_by(best: Answer, alone: Mapping[str, Answer]) -> str | None:
    """The modality that supports the best name of a window; see ``Window``."""
    if len(alone) < 2:
        return next(iter(alone), None)  # a clip of one modality
    agree = [modality for modality, answer in alone.items() if answer.name == best.name]
    return {0: "neither", 1: agree[0] if agree else "", 2: "both"}[len(agree)]


def to_json(predictions: Sequence[Prediction], failed: Mapping[str, str]) -> str:
    """Predictions and failures as JSON text.

    Args:
        predictions: one for each clip that was answered.
        failed: clip -> the reason why there is no prediction.
    """
    content = {"predictions": [one.to_dict() for one in predictions], "failed": dict(failed)}
    return json.dumps(content, indent=1) + "\n"


def _cell(text: str) -> str:
    """Text of a CSV cell that no spreadsheet takes for a formula: it gets an apostrophe in front."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _as_window(of: Prediction, segment: Segment) -> Window:
    seen = {answer.name: answer.seen for w in of.windows for answer in w.answers}
    answer = Answer(segment.name, segment.probability, seen.get(segment.name, False))
    return Window(segment.start, segment.end, (answer,), {}, segment.carried_by)


def csv_head() -> str:
    """The line with the names of the columns."""
    return ",".join(CSV_COLUMNS) + "\n"


def csv_rows(clip: str, prediction: Prediction | None, *, status: str, note: str) -> str:
    """The rows of a clip: one for each of its names, or one that says why there are none.

    A clip that was cut into several windows has rows for each segment of its timeline and for each window as
    well.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if prediction is None:
        empty = [""] * (len(CSV_COLUMNS) - 3)
        writer.writerow((_cell(clip), *empty, status, _cell(note)))
        return text.getvalue()
    for _, part, start, end, rank, name, probability, seen, carried, *_ in _rows(prediction):
        facts = (_cell(name), f"{probability:.6g}", seen, carried or "", status, _cell(note))
        writer.writerow((_cell(clip), part, f"{start:g}", f"{end:g}", rank, *facts))
    return text.getvalue()


def to_csv(predictions: Sequence[Prediction]) -> str:
    """Predictions as CSV text, see ``csv_rows``."""
    rows = (csv_rows(one.clip, one, status=status_of(one), note="; ".join(one.notes)) for one in predictions)
    return csv_head() + "".join(rows)


def status_of(one: Prediction) -> str:
    """``ok``, or ``none fits``."""
    return "none fits" if one.rejected else "ok"


def table_of(predictions: Sequence[Prediction], failed: Mapping[str, str] | None = None) -> Columns:
    """Predictions as a table with the columns and rows of the CSV form.

    ``carried_by`` is None for methods that do not tell it.

    Args:
        predictions: one for each clip that was answered.
        failed: clip -> why there is no prediction; each is a row.
    """
    rows = [row for one in predictions for row in _rows(one)]
    empty = (None,) * (len(CSV_COLUMNS) - 3)
    rows += [(clip, *empty, "failed", why) for clip, why in (failed or {}).items()]
    return Columns({name: [row[place] for row in rows] for place, name in enumerate(CSV_COLUMNS)})


def _rows(one: Prediction) -> Iterator[tuple[Any, ...]]:
    """The rows of a prediction: values of ``CSV_COLUMNS``."""
    parts = [("clip", replace(one.windows[0], end=one.windows[-1].end, answers=one.answers))]
    if len(one.windows) > 1:
        parts = [("clip", replace(parts[0][1], carried_by=None))]
        parts += [("segment", _as_window(one, segment)) for segment in one.timeline]
        parts += [("window", w) for w in one.windows]
    for part, w in parts:
        for rank, answer in enumerate(w.answers, start=1):
            facts = (answer.name, answer.probability, answer.seen, w.carried_by)
            yield (one.clip, part, w.start, w.end, rank, *facts, status_of(one), "; ".join(one.notes))
