"""Commands on models that a user teaches: learn from clips, teach more, correct, take back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sacma.commands import console, note, progress


def learn(
    clips: list[str],
    out: Path,
    classes: str | None = None,
    model: str | None = None,
    audio_weights: str | None = None,
    prompts: str | None = None,
    device: str = "cpu",
    max_pixels: int = 50_000_000,
    max_seconds: float = 14_400.0,
    clip_timeout: float = 600.0,
    follow_links: bool = False,
) -> dict[str, Any]:
    """Learn classes from a folder of clips, one folder a class; from names alone, one clip a class, or many.

    Args:
        clips: files, folders (a class each), patterns, or CSV files with columns path, class, start, end; an
            empty folder is a class by its name alone.
        out: folder for the model.
        classes: names of more classes, or descriptions of those of the clips (erhu: Chinese fiddle), in CSV,
            or @FILE with one a line.
        model: the frozen model beneath, see sacma models.
        audio_weights: weights for sound, where it needs a file for it.
        prompts: that names are put into, see sacma predict.
        device: where networks run, such as cpu or cuda.
        max_pixels: of a frame.
        max_seconds: of a clip, or of the part of it.
        clip_timeout: seconds of decoding a stream before it is given up, for each ten minutes that it plays.
        follow_links: accept symbolic links as clips, and look into folders that are links.

    Examples:
        sacma learn clips/ --out mine
        sacma learn --classes "dog barking, rain" --out mine
        sacma predict film.mp4 --model mine --window 3
    """
    from rich.console import Console

    from sacma.commands import show as screen
    from sacma.commands.clip_sources import list_clips
    from sacma.frozen.descriptions import read_class_names
    from sacma.learn import empty_folders, learn
    from sacma.media.decode import Limits

    empty, sources = empty_folders(clips)
    listed = list_clips(sources, None, None, follow_links, sys.stderr) if sources else []
    given = () if classes is None else read_class_names(classes)
    limits = Limits(pixels=max_pixels, seconds=max_seconds, follow_links=follow_links, patience=clip_timeout)
    with screen.counting(Console(stderr=True, quiet=progress.quiet), "reading clips") as on_progress:
        lesson = learn(
            listed,
            out,
            names=[*empty, *given],
            model=model,
            audio_weights=audio_weights,
            prompts=prompts,
            limits=limits,
            device=device,
            on_progress=on_progress,
        )
    for clip, why in lesson.left_out.items():
        note(f"left out: {clip}: {why}")
    examples = {name: len(some) for name, some in lesson.model.examples.items()}
    console.print(f"{len(examples)} classes, {sum(examples.values())} clips: {out}", soft_wrap=True)
    for name, share in lesson.figures.items():
        if share.of:
            console.print(f"{FIGURES[name]}: {share}", soft_wrap=True, highlight=False)
    for line in lesson.warnings:
        console.print(f"note: {line}", soft_wrap=True, highlight=False)
    facts = lesson.model.store.facts
    return {
        "folder": str(out),
        "classes": examples,
        "figures": facts["figures"],
        "warnings": facts["warnings"],
        "left_out": lesson.left_out,
    }


FIGURES = {
    "model": "held back, the model",
    "examples": "held back, examples alone",
    "frozen": "held back, names alone",
    "frozen, all clips": "all clips, names alone",
}


def add_clips(
    model: Path,
    name: str,
    clips: list[str],
    start: float | None = None,
    end: float | None = None,
    audio_weights: str | None = None,
    device: str = "cpu",
    follow_links: bool = False,
) -> dict[str, Any]:
    """Teach a model clips of a class, known or new; nothing else is read again.

    Args:
        model: folder of the model.
        name: of the class, perhaps with descriptions (erhu: Chinese fiddle).
        clips: files, folders or patterns.
        start: seconds where the part of each clip begins.
        end: seconds where it ends.
        audio_weights: weights for sound, where the model beneath needs a file for it.
        device: where networks run, such as cpu or cuda.
        follow_links: accept symbolic links as clips, and look into folders that are links.

    Examples:
        sacma teach add-clips mine "playing harp" harp-1.mp4 harp-2.mp4
    """
    from sacma.commands.clip_sources import list_clips

    listed = [clip.path for clip in list_clips(clips, None, None, follow_links, sys.stderr)]
    opened = _opened(model, audio_weights, device)
    count = opened.add_clips(name, listed, start=start, end=end)
    return _told(opened, f"{count} clips of {name} added")


def add_class(
    model: Path, name: str, audio_weights: str | None = None, device: str = "cpu"
) -> dict[str, Any]:
    """Teach a model a new class by its name alone.

    Args:
        model: folder of the model.
        name: of the class, perhaps with descriptions (erhu: Chinese fiddle).
        audio_weights: weights for sound, where the model beneath needs a file for it.
        device: where networks run, such as cpu or cuda.

    Examples:
        sacma teach add-class mine "playing harp"
    """
    opened = _opened(model, audio_weights, device)
    opened.add_class(name)
    return _told(opened, f"class {name} added")


def correct(
    model: Path,
    clip: Path,
    name: str,
    start: float | None = None,
    end: float | None = None,
    audio_weights: str | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Tell a model what a clip is; it gives the clip that name from now on, and learns from it.

    Args:
        model: folder of the model.
        clip: the file.
        name: of the class, known or new.
        start: seconds where the part that is meant begins.
        end: seconds where it ends.
        audio_weights: weights for sound, where the model beneath needs a file for it.
        device: where networks run, such as cpu or cuda.

    Examples:
        sacma teach correct mine clip.mp4 "playing harp"
    """
    opened = _opened(model, audio_weights, device)
    opened.correct(clip, name, start=start, end=end)
    return _told(opened, f"{clip} is {name}")


def undo(model: Path, audio_weights: str | None = None, device: str = "cpu") -> dict[str, Any]:
    """Take back the last thing that a model was taught.

    Args:
        model: folder of the model.
        audio_weights: weights for sound, where the model beneath needs a file for it.
        device: where networks run, such as cpu or cuda.

    Examples:
        sacma teach undo mine
    """
    opened = _opened(model, audio_weights, device)
    return _told(opened, f"taken back: {_lesson(opened.undo())}")


def log(model: Path) -> dict[str, Any]:
    """List what a model was taught, oldest first.

    Args:
        model: folder of the model.

    Examples:
        sacma teach log mine
    """
    from sacma.learn.store import Store

    lessons = Store(model).lessons()
    for lesson in lessons:
        console.print(f"{lesson['time']}  {_lesson(lesson)}", soft_wrap=True, highlight=False)
    return {"lessons": lessons}


def _lesson(lesson: dict[str, Any]) -> str:
    """A line of the log for people."""
    clips = lesson["clips"]
    names = list(dict.fromkeys([one["name"] for one in lesson["classes"]] + [one["class"] for one in clips]))
    if lesson["do"] == "correct":
        return f"correct: {clips[0]['path']} is {clips[0]['class']}"
    return f"{lesson['do'].replace('_', ' ')}: {', '.join(names)}, {len(clips)} clips"


def _opened(folder: Path, audio_weights: str | None, device: str) -> Any:
    from sacma.learn import load_model

    return load_model(folder, audio_weights=audio_weights, device=device)


def _told(model: Any, what: str) -> dict[str, Any]:
    console.print(what, soft_wrap=True, highlight=False)
    examples = {name: len(some) for name, some in model.examples.items()}
    if not any(examples.values()):
        note("no clips yet: names alone answer")
    return {"folder": str(model.path), "done": what, "classes": examples}
