"""Making a library of clips, and keeping it up to date.

Clips that are there already are known by path, size and time of change, and where these differ by their
SHA-256, so that a file that was moved is not read again. Each clip is written when it is finished.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sacma.errors import SacmaError
from sacma.files import sha256
from sacma.library.arrays import BOTH, MOMENT, WHOLE, WINDOWS, write_arrays
from sacma.library.maker import Maker, Making
from sacma.library.spaces import rows_of
from sacma.library.store import Array, Entry, Store, check_empty, is_library, only_writer
from sacma.machine import processors
from sacma.media import workers
from sacma.media.backbones import Steps
from sacma.media.extract import ClipFeatures
from sacma.media.listing import ClipFile, Skipped, find_clips, plain_text
from sacma.media.workers import Outcome
from sacma.predict.windows import windows_of

OnTrouble = Callable[[str, str], None]
"""Called with a clip and what is wrong with it."""


@dataclass
class Update:
    """Result of ``update``, in numbers of clips.

    Attributes:
        added: new ones.
        changed: with other content than before.
        moved: with the same content at another place, or under another class.
        removed: that are gone.
        same: that were left alone.
        failed: that could not be read; they are listed, and read again when they change.
        skipped: what was left out of folders.
    """

    added: int = 0
    changed: int = 0
    moved: int = 0
    removed: int = 0
    same: int = 0
    failed: int = 0
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def nothing(self) -> bool:
        """The library was up to date."""
        return not (self.added or self.changed or self.moved or self.removed or self.failed)


def update(
    folder: Path,
    sources: Sequence[str | Path],
    making: Making,
    *,
    retry: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    on_trouble: OnTrouble | None = None,
) -> Update:
    """Make a library of clips, or bring one up to date.

    Args:
        folder: of the library.
        sources: as ``sacma.media.listing.find_clips`` takes them.
        making: the model and how clips are read.
        retry: read clips again that could not be read before.
        on_progress: called with the clips read and those to read.
        on_trouble: called for each clip that is left out or damaged.

    Raises:
        SacmaError: no clips there, another process is writing, the library was made with another model, its
            file is damaged, or the disk is full; what was finished stays.
    """
    done = Update()
    listed = find_clips(sources, follow_links=making.limits.follow_links, left_out=done.skipped)
    maker = None
    with only_writer(folder):
        if is_library(folder):
            store = Store.open(folder)
            making = making.of_library(folder, store.facts)
        else:
            check_empty(folder)
            maker = Maker(making)
            store = Store.create(folder, maker.facts, maker.arrays)
        with store:
            wanted = _compare(store, listed, sources, retry, done, on_trouble)
            if wanted:
                maker = maker or Maker(making)
                maker.check(folder, store.facts)
                _read(store, maker, wanted, done, on_progress, on_trouble)
            write_arrays(store)
    return done


@dataclass(frozen=True)
class _Wanted:
    clip: ClipFile
    entry: Entry
    known: bool


def _compare(
    store: Store,
    listed: Sequence[ClipFile],
    sources: Sequence[str | Path],
    retry: bool,
    done: Update,
    on_trouble: OnTrouble | None,
) -> list[_Wanted]:
    """The clips to read; moved and removed ones are dealt with."""
    known = {entry.key: entry for entry in store.entries()}
    clips = {_key(clip): clip for clip in listed}
    folders = [Path(os.path.abspath(source)) for source in sources if Path(source).is_dir()]
    gone = [
        entry
        for key, entry in known.items()
        if key not in clips
        and any(entry.path.is_relative_to(one) for one in folders)
        and not entry.path.exists()
    ]
    lost = {(entry.sha256, entry.start, entry.end): entry for entry in gone if entry.failure is None}
    wanted = []
    for key, clip in clips.items():
        entry = known.get(key)
        try:
            status = os.stat(key[0])
            same = entry is not None and (entry.size, entry.modified) == (status.st_size, status.st_mtime_ns)
            checksum = entry.sha256 if same and entry is not None else sha256(key[0])
        except OSError as error:
            done.failed += 1
            _tell(on_trouble, clip, f"cannot be read ({error.strerror})")
            continue
        new = Entry(
            key[0], clip.class_name, clip.start, clip.end, status.st_size, status.st_mtime_ns, checksum
        )
        if entry is not None and entry.sha256 == checksum and not (retry and entry.failure):
            done.same += 1
            if (entry.modified, entry.class_name) != (new.modified, new.class_name):
                store.move(entry, new)
        elif entry is None and (was := lost.pop((checksum, clip.start, clip.end), None)) is not None:
            store.move(was, new)
            gone.remove(was)
            done.moved += 1
        else:
            wanted.append(_Wanted(clip, new, entry is not None))
    if gone:
        store.remove(gone)
        done.removed = len(gone)
    return wanted


def _read(
    store: Store,
    maker: Maker,
    wanted: Sequence[_Wanted],
    done: Update,
    on_progress: Callable[[int, int], None] | None,
    on_trouble: OnTrouble | None,
) -> None:
    clips = [one.clip for one in wanted]
    for number, (one, outcome) in enumerate(zip(wanted, _outcomes(clips, maker), strict=True), start=1):
        entry, arrays = _finished(one.entry, outcome, maker)
        store.put(entry, arrays)
        if entry.failure is not None:
            done.failed += 1
        elif one.known:
            done.changed += 1
        else:
            done.added += 1
        for reason in (entry.failure,) if entry.failure else entry.notes:
            _tell(on_trouble, one.clip, reason)
        if on_progress is not None:
            on_progress(number, len(wanted))


def _outcomes(clips: Sequence[ClipFile], maker: Maker) -> Iterator[Outcome | ClipFeatures]:
    making = maker.making
    if maker.together:
        return (maker.features(clip) for clip in clips)
    if making.engine == "ray":
        from sacma.media import on_ray

        return on_ray.run(clips, maker.task, jobs=making.jobs)
    return workers.run(clips, maker.task, jobs=min(making.jobs or processors(), len(clips)))


def _finished(entry: Entry, outcome: Outcome | ClipFeatures, maker: Maker) -> tuple[Entry, dict[str, Array]]:
    """The entry of a clip, and what is kept of it."""
    if isinstance(outcome, Outcome):
        if outcome.audio is None or outcome.video is None:
            return replace(entry, failure=plain_text(outcome.failure or "no features")), {}
        audio = _steps(outcome.audio, maker.backbone.audio.step_seconds)
        video = _steps(outcome.video, maker.backbone.video.step_seconds)
        features = ClipFeatures(audio, video, outcome.notes, outcome.seconds)
    else:
        features = outcome
    try:
        seconds = maker.seconds(features)
        windows, roles = _windows(seconds, maker, str(entry.path))
        rows = rows_of(maker.model, maker.backbone, features, windows)
    except SacmaError as error:
        return replace(entry, failure=plain_text(str(error))), {}
    arrays = {WINDOWS: np.column_stack([np.asarray(windows), roles]).astype(np.float32), **rows}
    made = {"audio": features.audio, "video": features.video, "joint": getattr(features, "joint", None)}
    arrays |= {name: some.values for name, some in made.items() if some is not None}
    return replace(entry, seconds=seconds, notes=tuple(map(plain_text, features.notes))), arrays


def _steps(values: Array, step_seconds: float) -> Steps | None:
    return (
        Steps(values.copy(), np.arange(len(values), dtype=np.float64) * step_seconds) if len(values) else None
    )


def _windows(seconds: float, maker: Maker, clip: str) -> tuple[list[tuple[float, float]], list[int]]:
    """The windows for the clip as a whole, then the moments, and the role of each."""
    making, least = maker.making, maker.least
    whole = windows_of(seconds, window=None, hop=None, least=least, clip=clip)
    window = max(making.window, least)
    if seconds <= window:
        return whole, [BOTH] * len(whole)
    moments = windows_of(seconds, window=window, hop=max(making.hop, least / 2), least=least, clip=clip)
    return whole + moments, [WHOLE] * len(whole) + [MOMENT] * len(moments)


def _key(clip: ClipFile) -> tuple[Path, float | None, float | None]:
    return Path(os.path.abspath(clip.path)), clip.start, clip.end


def _tell(on_trouble: OnTrouble | None, clip: ClipFile, reason: str) -> None:
    if on_trouble is not None:
        on_trouble(clip.shown + clip.part, reason)
