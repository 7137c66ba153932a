"""From a folder of clips to a model, in one go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sacma.errors import SacmaError, one_line, some_of
from sacma.frozen.descriptions import ClassName, read_class_names
from sacma.learn.choice import FEW, Share, held_back_figures
from sacma.learn.store import LOG, Taught
from sacma.learn.taught import Learned, new_model
from sacma.media.decode import LIMITS, Limits
from sacma.media.listing import ClipFile
from sacma.text.names import normal


@dataclass(frozen=True)
class Lesson:
    """Result of ``learn``.

    Attributes:
        model: the model.
        figures: which clips that were held back were named rightly, see ``held_back_figures``.
        left_out: clip -> why it could not be read.
        warnings: what makes the figures less sure.
    """

    model: Learned
    figures: dict[str, Share]
    left_out: dict[str, str]
    warnings: tuple[str, ...]


def learn(
    clips: Sequence[ClipFile],
    out: str | Path,
    *,
    names: Sequence[str | ClassName] = (),
    model: str | None = None,
    audio_weights: str | Path | None = None,
    prompts: str | None = None,
    limits: Limits = LIMITS,
    device: str = "cpu",
    on_progress: Callable[[int, int], None] | None = None,
) -> Lesson:
    """Learn classes from clips and names, and write a model's folder.

    What was interrupted goes on where it stopped when it is repeated.

    Args:
        clips: clips with their classes, see ``sacma.media.listing.find_clips``; may be none.
        out: folder to make.
        names: classes beside those of the clips, or their descriptions, ``erhu: Chinese fiddle``.
        model: the frozen model beneath, by default the best one at hand.
        audio_weights: weights for sound, where it needs a file for it.
        prompts: that names are put into, see ``sacma.frozen.prompts``.
        limits: what a clip may ask of us.
        device: where its networks run.
        on_progress: called with the clips done and all clips.

    Raises:
        SacmaError: there is something else at ``out``, no class, no clip that can be read, or a name or the
            model cannot be used.
    """
    folder = Path(out)
    if (folder / LOG).is_file():
        raise SacmaError(
            f"{folder} has learned already; teach it more with sacma teach, or choose another place"
        )
    read = [one for name in names for one in (read_class_names([name]) if isinstance(name, str) else [name])]
    given = {normal(one.name): one for one in read}
    labelled = _classes([clip.class_name for clip in clips])
    classes = {key: given.get(key, ClassName(name)) for key, name in labelled.items()} | given
    if not classes:
        raise SacmaError("no classes; give folders of clips, one a class, or names (--names)")
    learned = new_model(
        folder, model=model, audio_weights=audio_weights, prompts=prompts, limits=limits, device=device
    )
    taught: list[tuple[Taught, str]] = []
    left_out: dict[str, str] = {}
    for number, clip in enumerate(clips, start=1):
        try:
            kept = learned.keep(clip.path, start=clip.start, end=clip.end)
            taught.append((kept, classes[normal(_spelt(clip.class_name))].name))
        except SacmaError as error:
            left_out[clip.shown] = one_line(error)
        if on_progress is not None:
            on_progress(number, len(clips))
    if clips and not taught:
        raise SacmaError(f"none of {len(clips)} clips could be read: {next(iter(left_out.values()))}")
    warnings = _twice(taught)
    learned.store.add(
        "learn", tuple(classes.values()), list({one.id: (one, of) for one, of in taught}.values())
    )
    learned.refresh()
    figures = measured(learned)
    warnings += _doubts(figures)
    learned.store.keep_facts(figures={name: _told(one) for name, one in figures.items()}, warnings=warnings)
    return Lesson(learned, figures, left_out, tuple(warnings))


def empty_folders(sources: Sequence[str]) -> tuple[list[str], list[str]]:
    """Class names of the folders without files in some folders, and the sources that have files."""
    names, rest = [], []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            below = [one for one in sorted(path.iterdir()) if one.is_dir() and not one.name.startswith(".")]
            names += [_spelt(one.name) for one in below if not any(f.is_file() for f in one.rglob("*"))]
        if not path.is_dir() or any(one.is_file() for one in path.rglob("*")) or not names:
            rest.append(source)
    return names, rest


def measured(model: Learned) -> dict[str, Share]:
    """Figures of clips that are held back, of a model as it stands; none without clips."""
    labels = list(model.state.labels.values())
    if not labels:
        return {}
    keys = list(model.state.classes)
    x, frozen = model.gathered()
    return held_back_figures(x, frozen, np.array([keys.index(key) for key in labels]), len(keys))


def _spelt(folder: str) -> str:
    """A class name of a folder's: blanks for underscores."""
    return " ".join(folder.replace("_", " ").split())


def _classes(folders: Sequence[str]) -> dict[str, str]:
    """Normal form -> name of each class of the folders."""
    names = dict.fromkeys(_spelt(folder) for folder in folders)
    return {normal(one.name): one.name for one in read_class_names(list(names))} if names else {}


def _twice(taught: Sequence[tuple[Taught, str]]) -> list[str]:
    """Warnings about clips of the same content in several places."""
    places: dict[str, list[tuple[Taught, str]]] = {}
    for clip, of in taught:
        places.setdefault(clip.id, []).append((clip, of))
    twice = [some for some in places.values() if len(some) > 1]
    unlike = [some for some in twice if len({of for _, of in some}) > 1]
    told = []
    if twice:
        told.append(f"{len(twice)} clips come more than once, and count once: "
                    f"{some_of([Path(some[0][0].path).name for some in twice], limit=3)}")  # fmt: skip
    if unlike:
        told.append(f"{len(unlike)} of them in different classes; the last one counts")
    return told


def _doubts(figures: dict[str, Share]) -> list[str]:
    if not figures:
        return ["no clips: nothing tells how often the model is right; give it some with sacma teach"]
    if not figures["model"].of:
        return ["one clip a class: none can be held back, so nothing tells how much the clips help"]
    if figures["model"].of < FEW:
        return [f"fewer than {FEW} clips were held back: the figures say little; look at the intervals"]
    return []


def _told(share: Share) -> dict[str, Any]:
    return {"right": share.right, "of": share.of, "interval": list(share.interval), "chance": share.chance}
