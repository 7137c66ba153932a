"""Commands on libraries: make one of clips, and search it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from sacma.commands import console, note, progress
from sacma.errors import SacmaError, one_line

_BETWEEN_LOOKS = 5.0
"""Seconds between two looks at the clips with --watch."""
_CHANGES = ("added", "changed", "moved", "removed", "failed")


def index(
    clips: list[str],
    out: Path,
    model: str | None = None,
    run: Path | None = None,
    audio_weights: str | None = None,
    video_weights: str | None = None,
    window: float = 4.0,
    hop: float = 2.0,
    engine: Literal["local", "ray"] = "local",
    jobs: int | None = None,
    device: str = "cpu",
    max_pixels: int = 50_000_000,
    max_seconds: float = 14_400.0,
    clip_timeout: float = 600.0,
    follow_links: bool = False,
    retry: bool = False,
    watch: bool = False,
) -> dict[str, Any]:
    """Make a library of clips, or bring one up to date: each clip is read once, then searched at once.

    Args:
        clips: files, folders (a class each), patterns, or CSV files with columns path, class, start, end.
        out: folder of the library.
        model: frozen model, see sacma models; by default the best one on this machine.
        run: folder of a finished run instead of a frozen model.
        audio_weights: file, folder or hub name, for models that bring no weights.
        video_weights: the same for pictures.
        window: seconds of a moment that search can find.
        hop: seconds from one moment to the next.
        engine: local, or ray for many machines.
        jobs: processes; by default one a processor.
        device: where networks run, such as cpu or cuda.
        max_pixels: of a frame.
        max_seconds: of a clip, or of the part of it.
        clip_timeout: seconds of work on a clip before it is given up, for each ten minutes that it plays.
        follow_links: accept symbolic links as clips, and look into folders that are links.
        retry: read clips again that could not be read before.
        watch: look for new, changed and removed clips every few seconds until interrupted.

    Examples:
        sacma index clips/ --out clips.library
        sacma index clips/ --out clips.library --watch
    """
    from sacma.commands.show import counting
    from sacma.library.index import Update, update
    from sacma.library.maker import Making
    from sacma.media.decode import Limits
    from sacma.media.listing import skipped_lines

    making = Making(
        model=model,
        run=run,
        audio_weights=audio_weights,
        video_weights=video_weights,
        window=window,
        hop=hop,
        engine=engine,
        jobs=jobs,
        device=device,
        limits=Limits(
            pixels=max_pixels, seconds=max_seconds, follow_links=follow_links, patience=clip_timeout
        ),
        clip_timeout=clip_timeout,
    )

    def trouble(clip: str, reason: str) -> None:
        print(f"{clip}: {' '.join(reason.removeprefix(f'{clip}: ').split())}", file=sys.stderr)

    def once(*, retry: bool) -> Update:
        with counting(progress, "reading clips") as on_progress:
            return update(out, clips, making, retry=retry, on_progress=on_progress, on_trouble=trouble)

    done = once(retry=retry)
    for line in skipped_lines(done.skipped):
        note(f"left out: {' '.join(line.split())}")
    console.print(f"{_counts(done)}; library: {out}", soft_wrap=True)
    while watch:
        _wait()
        try:
            done = once(retry=False)
        except SacmaError as error:
            print(one_line(error), file=sys.stderr)
            continue
        if not done.nothing:
            console.print(_counts(done), soft_wrap=True)
    return {"library": str(out), **{name: getattr(done, name) for name in (*_CHANGES, "same")}}


def search(
    library: Path,
    text: str | None = None,
    like: Path | None = None,
    top: int = 20,
    each: int = 1,
    sound: bool = False,
    pictures: bool = False,
    csv: bool = False,
    html: Path | None = None,
) -> dict[str, Any]:
    """Find moments in a library by words, by an example clip or sound, or by both.

    Args:
        library: folder that sacma index made.
        text: what is looked for, such as "dog barking in the rain".
        like: a clip or sound that is looked like.
        top: moments to tell.
        each: moments of one clip at most.
        sound: go by sound alone.
        pictures: go by pictures alone.
        csv: print CSV.
        html: write a page with pictures of the moments.

    Examples:
        sacma search clips.library "dog barking in the rain"
        sacma search clips.library --like bark.wav --sound --top 5
        sacma search clips.library "playing violin" --html found.html
    """
    from sacma.library import tables
    from sacma.library.search import open_library

    if sound and pictures:
        raise SacmaError("--sound with --pictures; without both, both count")
    modality = "audio" if sound else "video" if pictures else None
    with open_library(library) as opened:
        moments = opened.search(text, like=like, top=top, each=each, modality=modality)
    asked = " and ".join([*([f'"{text}"'] if text else []), *([f"like {like}"] if like else [])])
    if html is not None:
        from sacma.library.page import write_page

        write_page(html, moments, title=asked)
        note(f"page: {html}")
    if moments.note:
        note(f"{asked}: {moments.note}")
    if csv:
        sys.stdout.write(tables.to_csv(moments))
    elif html is None:
        console.print(tables.to_table(moments))
    return tables.to_dict(moments, asked)


def answered(
    clips: Sequence[str],
    asked: Mapping[str, Any],
    *,
    model: str | None,
    run: Path | None,
    of_clips: Mapping[str, object],
) -> list[Any]:
    """The answers for the clips of a library.

    Args:
        clips: the library, alone.
        asked: arguments of ``sacma.library.answers.predictions``.
        model: the model that was asked for: the library's, or a taught one on the same features.
        run: the run that was asked for; the same.
        of_clips: options that do not go with a library, None where not given.

    Raises:
        SacmaError: one of them is given, there is something beside the library, or it cannot answer.
    """
    from sacma.library.answers import predictions
    from sacma.library.search import open_library

    if len(clips) > 1:
        raise SacmaError(f"{clips[0]} and {clips[1]}: give a library alone")
    if given := [name for name, value in of_clips.items() if value is not None]:
        raise SacmaError(f"--{given[0].replace('_', '-')} with a library; it is an option of clips")
    with open_library(clips[0]) as opened:
        predictor = _other_model(opened, model, run, asked["reject"])
        for clip, reason in opened.failed.items():
            told = f"{clip}: {reason.removeprefix(f'{clip}: ')}"
            note(f"left out: {' '.join(told.split())}")
        return list(predictions(opened, predictor=predictor, **asked))


def _other_model(opened: Any, model: str | None, run: Path | None, reject: float | None) -> Any:
    """A taught model or a run that was asked for in place of the library's own; None for that one.

    Raises:
        SacmaError: it cannot be opened, or a frozen model was asked for that is not the library's.
    """
    own = (opened.facts["model"], opened.facts["run"])
    if (model is None or model in own) and (run is None or str(run.absolute()) in own):
        return None
    from sacma.learn import is_learned, load_model
    from sacma.library.maker import Making
    from sacma.predict import load

    taught = next((one for one in (run, model) if is_learned(one)), None)
    if taught is not None:
        return load_model(taught, reject=reject)
    if run is not None:
        return load(run)
    return Making(model=model).of_library(opened.path, opened.facts)


def _counts(done: object) -> str:
    counts = [f"{count} {name}" for name in _CHANGES if (count := getattr(done, name))]
    return ", ".join([*counts, f"{done.same} unchanged"])  # type: ignore[attr-defined]


def _wait() -> None:
    import time

    time.sleep(_BETWEEN_LOOKS)
