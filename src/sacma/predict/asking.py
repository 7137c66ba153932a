"""One question about one clip or about several, for all predictors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypedDict, Unpack

from sacma.errors import SacmaError, one_line
from sacma.media.decode import Limits
from sacma.media.extract import ClipFeatures
from sacma.media.sources import ClipSource, name_of, settled
from sacma.predict.answers import Prediction, Predictions
from sacma.predict.windows import check_windows

Several = list[Any] | tuple[Any, ...]
"""Clips, each as a single one is given."""


class Part(TypedDict, total=False):
    """Part, windows and length of an answer; the attributes are arguments of ``predict``."""

    start: float | None
    end: float | None
    window: float | None
    hop: float | None
    top: int


class Asked(Protocol):
    """Interface of a predictor."""

    limits: Limits

    @property
    def shortest(self) -> float:
        """Seconds of the shortest window, one step."""
        ...

    def features(
        self, clip: ClipSource, *, start: float | None = None, end: float | None = None
    ) -> ClipFeatures: ...

    @property
    def answer(self) -> Callable[..., Prediction]: ...


def answered(
    model: Asked, clip: ClipSource | Several, candidates: Any, **part: Unpack[Part]
) -> Prediction | Predictions:
    """The answer for a clip, or the answers for several.

    Args:
        model: answers.
        clip: the clip, or a list of clips.
        candidates: names, as the model's ``answer`` takes them.
        part: arguments of ``predict``.

    Raises:
        SacmaError: the clip (of a list: every clip) or a number cannot be used.
    """
    if (top := part.get("top", 1)) < 1:
        raise SacmaError(f"top is {top}; it must be at least 1")
    if isinstance(clip, list | tuple):
        return each(lambda one: ask(model, one, candidates, **part), clip)
    return ask(model, clip, candidates, **part)


def ask(model: Asked, clip: ClipSource, candidates: Any, **part: Unpack[Part]) -> Prediction:
    """The answer for one clip; arguments and errors as in ``answered``."""
    start, end = part.pop("start", None), part.pop("end", None)
    window, hop = part.get("window"), part.get("hop")
    with settled(clip) as source:
        check_windows(
            source, start=start, end=end, window=window, hop=hop, least=model.shortest, limits=model.limits
        )
        features = model.features(source, start=start, end=end)
    return model.answer(features, candidates, clip=name_of(clip), start=start or 0.0, **part)


def each(ask_one: Callable[[ClipSource], Prediction], clips: Sequence[ClipSource]) -> Predictions:
    """The answers for several clips; a clip that cannot be used does not end the others.

    Args:
        ask_one: answers for one clip.
        clips: at least one.

    Raises:
        SacmaError: there are no clips, or none of them can be used.
    """
    if not clips:
        raise SacmaError("no clips in the list; give at least one")
    made: list[Prediction] = []
    failed: dict[str, str] = {}
    for number, clip in enumerate(clips, start=1):
        try:
            made.append(ask_one(clip))
        except SacmaError as error:
            name = name_of(clip)
            failed[f"{name} ({number})" if name in failed else name] = one_line(error)
    if not made:
        raise SacmaError(f"none of {len(clips)} clips can be used: {next(iter(failed.values()))}")
    return Predictions(made, failed)
