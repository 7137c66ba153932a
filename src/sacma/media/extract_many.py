"""A set of clips to a set of features: parallel, resumable, and one bad clip costs only itself."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from sacma.data.class_lists import write_table
from sacma.data.clips_file import CLIPS_FILE, INDEX_FILE
from sacma.data.features_writer import FeaturesWriter
from sacma.errors import SacmaError, printable
from sacma.files import remove
from sacma.machine import processors
from sacma.media import workers
from sacma.media.backbones import Backbone
from sacma.media.listing import ClipFile, names, plain_text
from sacma.media.workers import Outcome, Task

ENGINES = ("local", "ray")
FAILURES_FILE = "failures.csv"
_LEFT_OUT, _DAMAGED = "left out", "damaged, used as far as it goes"


@dataclass(frozen=True)
class Trouble:
    """A clip that is left out, or is damaged and used as far as it can be read.

    Attributes:
        clip: the clip.
        left_out: there are no features of it.
        reason: what is wrong with it.
    """

    clip: ClipFile
    left_out: bool
    reason: str


@dataclass(frozen=True)
class Extraction:
    """Result of an extraction.

    Attributes:
        folder: of the features.
        clips: how many clips it has.
        troubles: what was wrong with some, as in ``failures``.
    """

    folder: Path
    clips: int
    troubles: tuple[Trouble, ...]

    @property
    def failures(self) -> Path:
        """Path of the list of troubles; the file does not exist where there were none."""
        return self.folder / FAILURES_FILE


def extract_set(
    clips: Sequence[ClipFile],
    out: Path,
    task: Task,
    *,
    engine: str = "local",
    jobs: int | None = None,
    force: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    on_length: Callable[[float], None] | None = None,
    on_trouble: Callable[[Trouble], None] | None = None,
) -> Extraction:
    """Extract clips and write their features to ``out``, in the order of ``clips``, without partitions.

    An extraction that was interrupted, by whatever, goes on after the last clip that was written when it is
    repeated, and ends with the same bytes; clips that have changed since, and what comes after them, are done
    again. A clip that fails is left out and listed in ``failures.csv``.

    Args:
        clips: the clips.
        out: folder for the features.
        task: backbone and limits.
        engine: ``local`` for processes of this machine, ``ray`` for Ray Data over many machines, which must
            see the clips under the same paths.
        jobs: processes; by default one a processor.
        force: overwrite features that are there.
        on_progress: called with the clips done and all clips.
        on_length: called before it with the seconds of the clip, where its file says how long it is.
        on_trouble: called for each clip that is left out or damaged.

    Raises:
        SacmaError: features are there already, the backbone cannot be opened, no clip could be extracted, or
            the disk is full.
    """
    if engine not in ENGINES:
        raise SacmaError(f"engine {printable(engine)} is unknown; expected {' or '.join(ENGINES)}")
    if jobs is not None and jobs < 1:
        raise SacmaError(f"{jobs} processes; choose at least 1")
    backbone = task.open()
    if force:
        clear_features(out)
    classes = sorted({clip.class_name for clip in clips})
    named = names(clips)
    keys = [_key(clip, name, task, backbone) for clip, name in zip(clips, named, strict=True)]
    record = Record(on_trouble, on_length)
    with writer_of(out, classes, backbone, task.provenance(backbone)) as writer:
        done = _done_before(writer, keys)
        for clip, (failure, notes) in zip(clips, done, strict=False):
            record.note(clip, failure, notes)
        for number, outcome in enumerate(_outcomes(clips[len(done) :], task, engine, jobs), start=len(done)):
            clip = clips[number]
            failure = add_clip(writer, named[number], classes.index(clip.class_name), clip.group, outcome)
            writer.commit(json.dumps([keys[number], failure, outcome.notes]))
            record.note(clip, failure, outcome.notes)
            record.read(outcome)
            if on_progress is not None:
                on_progress(number + 1, len(clips))
        made = record.finished(writer, len(clips))
    return made


class Record:
    """Troubles of an extraction while it goes on.

    Args:
        on_trouble: called for each of them.
        on_length: called with the seconds of each clip that was read now, where its file says them.
    """

    def __init__(
        self,
        on_trouble: Callable[[Trouble], None] | None,
        on_length: Callable[[float], None] | None = None,
    ) -> None:
        self._on_trouble, self._on_length = on_trouble, on_length
        self._troubles: list[Trouble] = []

    def note(self, clip: ClipFile, failure: str | None, notes: Sequence[str]) -> None:
        """Take down why a clip is left out, or what is wrong with it."""
        for reason in notes if failure is None else (failure,):
            self._troubles.append(Trouble(clip, failure is not None, plain_text(reason)))
            if self._on_trouble is not None:
                self._on_trouble(self._troubles[-1])

    def read(self, outcome: Outcome) -> None:
        """Tell the length of a clip that was read now."""
        if self._on_length is not None and outcome.seconds is not None:
            self._on_length(outcome.seconds)

    def finished(self, writer: FeaturesWriter, clips: int) -> Extraction:
        """The result when so many clips are done; to be called before the set is complete.

        Raises:
            SacmaError: all of them are left out; the set is as if none had been done.
        """
        left_out = sum(trouble.left_out for trouble in self._troubles)
        if left_out == clips:
            writer.rewind(0)
            first = f"; the first: {self._troubles[0].reason}" if self._troubles else ""
            raise SacmaError(f"none of {left_out} clips could be extracted{first}")
        made = Extraction(writer.folder, clips - left_out, tuple(self._troubles))
        _write_failures(made)  # what is complete is not begun again
        return made


def writer_of(
    out: Path, classes: Sequence[str], backbone: Backbone, provenance: Mapping[str, Any]
) -> FeaturesWriter:
    """A writer for the features of a backbone, which goes on where another one was interrupted."""
    return FeaturesWriter(
        out,
        classes,
        audio_width=backbone.audio.width,
        video_width=backbone.video.width,
        audio_step=backbone.audio.step_seconds,
        video_step=backbone.video.step_seconds,
        provenance=provenance,
        resume=True,
    )


def clear_features(folder: Path) -> None:
    """Remove the features that a folder holds."""
    for name in (INDEX_FILE, CLIPS_FILE):
        remove(folder / name)


def _done_before(writer: FeaturesWriter, keys: Sequence[str]) -> list[tuple[str | None, list[str]]]:
    """Failures and notes of clips that an interrupted extraction finished, up to the first changed clip."""
    committed = [json.loads(commit) for commit in writer.committed]
    same = takewhile(lambda pair: pair[0][0] == pair[1], zip(committed, keys, strict=False))
    done = [(failure, notes) for (_, failure, notes), _ in same]
    if len(done) < len(committed):
        writer.rewind(len(done))
    return done


def _outcomes(clips: Sequence[ClipFile], task: Task, engine: str, jobs: int | None) -> Iterator[Outcome]:
    if not clips:
        return iter(())
    if engine == "local":
        return workers.run(clips, task, jobs=min(jobs or processors(), len(clips)))
    from sacma.media import on_ray

    return on_ray.run(clips, task, jobs=jobs)


def add_clip(
    writer: FeaturesWriter, name: str, label: int, group: str | None, outcome: Outcome
) -> str | None:
    """Write a clip; return the reason if it is left out, else None."""
    if outcome.audio is None or outcome.video is None:
        return outcome.failure
    try:
        writer.add(name, label, -1, outcome.audio, outcome.video, group=group)
    except SacmaError as error:
        if isinstance(error.__cause__, OSError):  # the disk, not the clip
            raise
        return str(error)
    return None


def _key(clip: ClipFile, name: str, task: Task, backbone: Backbone) -> str:
    """Key of a clip: it changes when the clip would give other features."""
    try:
        status = os.lstat(clip.path)
        file = (status.st_size, status.st_mtime_ns)
    except OSError:
        file = (-1, -1)
    limits = (task.limits.pixels, task.limits.seconds, task.limits.follow_links, task.seconds)
    whole = (
        task.provenance(backbone),
        limits,
        os.fspath(clip.path),
        name,
        clip.class_name,
        clip.start,
        clip.end,
        clip.group,
        file,
    )
    return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()


def _write_failures(made: Extraction) -> None:
    """Write the list of what was wrong; remove an older one where nothing was."""
    if not made.troubles:
        remove(made.failures)
        return
    rows = [
        (
            *(of.clip.shown, of.clip.class_name, of.clip.start, of.clip.end),
            *(_LEFT_OUT if of.left_out else _DAMAGED, of.reason),
        )
        for of in made.troubles
    ]
    write_table(made.failures, ("path", "class", "start", "end", "outcome", "reason"), rows)
