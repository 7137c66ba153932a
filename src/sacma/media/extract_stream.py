"""A stream of clips to a set of features: as ``extract_many``, for clips that come one after another."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from sacma.errors import SacmaError
from sacma.machine import processors
from sacma.media import workers
from sacma.media.extract_many import Extraction, Record, Trouble, add_clip, clear_features, writer_of
from sacma.media.listing import ClipFile
from sacma.media.workers import Task


class ClipStream(Protocol):
    """Clips of known classes, in a fixed order, that become files one after another.

    Attributes:
        classes: names of the classes.
        total: how many clips there are; None where nobody knows.
        provenance: origin of the clips; other clips have another one.
    """

    @property
    def classes(self) -> Sequence[str]: ...
    @property
    def total(self) -> int | None: ...
    @property
    def provenance(self) -> Mapping[str, Any]: ...

    def files(self, start: int = 0) -> Iterator[tuple[str, ClipFile]]:
        """Names and files of the clips from number ``start`` on."""
        ...

    def release(self, clip: ClipFile) -> None:
        """Remove the file of a clip that is done."""
        ...


def extract_stream(
    clips: ClipStream,
    out: Path,
    task: Task,
    *,
    jobs: int | None = None,
    force: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    on_length: Callable[[float], None] | None = None,
    on_trouble: Callable[[Trouble], None] | None = None,
) -> Extraction:
    """Extract clips and write their features to ``out``, in their order, without partitions.

    An extraction that was interrupted goes on after the last clip that was written when it is repeated. A
    clip that fails is left out and listed in ``failures.csv``.

    Args:
        clips: the clips.
        out: folder for the features.
        task: backbone and limits.
        jobs: processes; by default one a processor.
        force: overwrite features that are there.
        on_progress: called with the clips done and all clips.
        on_length: called before it with the seconds of the clip, where its file says how long it is.
        on_trouble: called for each clip that is left out or damaged.

    Raises:
        SacmaError: features are there already, the backbone cannot be opened, the stream breaks off, no clip
            could be extracted, or the disk is full.
    """
    if jobs is not None and jobs < 1:
        raise SacmaError(f"{jobs} processes; choose at least 1")
    backbone = task.open()
    if force:
        clear_features(out)
    provenance = {**task.provenance(backbone), **clips.provenance}
    key = json.dumps([provenance, task.limits.pixels, task.limits.seconds], sort_keys=True)
    record = Record(on_trouble, on_length)
    with writer_of(out, clips.classes, backbone, provenance) as writer:
        committed = [json.loads(commit) for commit in writer.committed]
        if any(entry[0] != key for entry in committed):
            writer.rewind(0)
            committed = []
        for _, name, of, failure, notes in committed:
            record.note(ClipFile(Path(name), of), failure, notes)
        done = len(committed)
        waiting: deque[tuple[str, ClipFile]] = deque()

        def coming() -> Iterator[ClipFile]:
            for name, clip in clips.files(done):
                waiting.append((name, clip))
                yield clip

        for outcome in workers.run(coming(), task, jobs=jobs or processors()):
            name, clip = waiting.popleft()
            failure = add_clip(writer, name, clips.classes.index(clip.class_name), clip.group, outcome)
            failure = failure and failure.replace(str(clip.path), name)
            writer.commit(json.dumps([key, name, clip.class_name, failure, outcome.notes]))
            record.note(ClipFile(Path(name), clip.class_name), failure, outcome.notes)
            clips.release(clip)
            done += 1
            record.read(outcome)
            if on_progress is not None:
                on_progress(done, clips.total or done + 1)  # a stream without a total has always one to come
        made = record.finished(writer, done)
    return made
