"""Converts official folders of AVCA-GZSL and TCAF-GZSL into the format of ``sacma.data.clips_file``.

``import_folder`` converts a folder; ``cached_import`` does so once and keeps the result. Sources:
https://github.com/ExplainableML/TCAF-GZSL and https://github.com/ExplainableML/AVCA-GZSL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock

from sacma.data.clips_file import CLIPS_FILE, INDEX_FILE, read_index
from sacma.data.features_writer import FeaturesWriter
from sacma.data.official.copies import convert_text, copy_class_split
from sacma.data.official.feature_files import (
    ClipTable,
)
from sacma.data.official.plan import Plan, plan_import
from sacma.errors import SacmaError, printable
from sacma.files import cache_folder, remove
from sacma.progress import OnProgress
from sacma.version import __version__


def import_folder(
    root: str | Path,
    out: str | Path,
    *,
    benchmark: str,
    folder: str,
    audio_step: float,
    video_step: float,
    on_progress: OnProgress | None = None,
) -> Path:
    """Convert the official features of a benchmark into our format, in a new folder of the same layout.

    ``OUT/features/<folder>`` appears when all is done. An import that was interrupted goes on where it
    stopped when it is called again, as long as the files that it had read are as they were.

    Args:
        root: the folder with ``class-split/`` and ``features/``. Without class files under
            ``features/<folder>``, the caches of the published training code are used.
        out: the folder to make; one that exists must not have these features yet.
        benchmark: NAME of ``NAME_w2v_class_names.csv``.
        folder: the name under ``features/``.
        audio_step: seconds from one audio step to the next, which official files do not say.
        video_step: the same for video.
        on_progress: called with the number of finished and of all pieces (classes of stages).

    Returns:
        ``out``.

    Raises:
        SacmaError: a file is missing, damaged, or asks for code to be run; audio and video are not of the
            same clips; a value is NaN or infinite; a sequence is empty; ``out`` has these features already;
            the disk is full.
    """
    root, out = Path(root), Path(out)
    plan = plan_import(root, benchmark, folder, (audio_step, video_step))
    target = out / "features" / folder
    lock = target.with_name(f".{folder}.lock")
    try:
        with _locked(lock):
            if target.exists():
                raise SacmaError(f"{target} exists already; remove it or choose another place")
            _import(plan, root, target, audio_step, video_step, on_progress)
    finally:
        remove(lock)
        for made in (target.parent, out):
            with suppress(OSError):  # there is something in it
                made.rmdir()
    return out


def _import(
    plan: Plan,
    root: Path,
    target: Path,
    audio_step: float,
    video_step: float,
    on_progress: OnProgress | None,
) -> None:
    """Fill a folder beside the target, continuing an interrupted import, and put it in place."""
    working = target.with_name(f".{target.name}.partial")
    if _imported_stamp(working) != plan.stamp:
        remove(working / INDEX_FILE)
        _convert(plan, working, audio_step, video_step, on_progress)
    convert_text(root / "features" / target.name, working)
    copy_class_split(root, target.parent.parent)
    with _saving(target):
        working.replace(target)


def cached_import(
    root: str | Path,
    *,
    benchmark: str,
    folder: str,
    audio_step: float,
    video_step: float,
    on_progress: OnProgress | None = None,
) -> Path:
    """Return the folder to open for official features: an import in the cache folder, made if needed.

    It is made again when a file was added, removed or changed (name, size, time), or the steps have another
    length. Where ``root`` has these features in our format already, that is ``root``.

    Args:
        root: as for ``import_folder``.
        benchmark: as for ``import_folder``.
        folder: as for ``import_folder``.
        audio_step: as for ``import_folder``.
        video_step: as for ``import_folder``.
        on_progress: as for ``import_folder``.

    Raises:
        SacmaError: as for ``import_folder``.
    """
    root = Path(root)
    if (root / "features" / folder / CLIPS_FILE).is_file():
        return root
    plan = plan_import(root, benchmark, folder, (audio_step, video_step))
    identity = hashlib.sha256(f"{root.resolve()}\n{folder}".encode()).hexdigest()[:12]
    out = cache_folder() / "imports" / f"{root.resolve().name}-{folder}-{identity}"
    with _locked(out.with_name(f"{out.name}.lock")):
        if _imported_stamp(out / "features" / folder) != plan.stamp:
            remove(out / "features" / folder)
            remove(out / "class-split")
            import_folder(
                root,
                out,
                benchmark=benchmark,
                folder=folder,
                audio_step=audio_step,
                video_step=video_step,
                on_progress=on_progress,
            )
    return out


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time in; others wait. A process that was killed holds no lock."""
    with _saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _saving(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SacmaError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another place"
        ) from error


def _imported_stamp(features: Path) -> str | None:
    """Return the stamp of a complete import; None where the import is not complete."""
    try:
        stamp = read_index(features)["provenance"]["stamp"]
    except (SacmaError, KeyError, TypeError):
        return None
    return stamp if isinstance(stamp, str) else None


def _convert(
    plan: Plan,
    working: Path,
    audio_step: float,
    video_step: float,
    on_progress: OnProgress | None,
) -> None:
    audio_width, video_width = _widths(plan)
    with FeaturesWriter(
        working,
        plan.classes,
        audio_width=audio_width,
        video_width=video_width,
        audio_step=audio_step,
        video_step=video_step,
        provenance={
            **plan.provenance,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "sacma": __version__,
        },
        resume=True,
    ) as writer:
        done = _same_beginning(writer.committed, [source.key for source in plan.sources])
        writer.rewind(done)
        for number, source in enumerate(plan.sources):
            if number >= done:
                for label, audio, video in source.load():
                    _add_clips(writer, source.partition, label, audio, video)
                writer.commit(source.key)
            if on_progress is not None:
                on_progress(number + 1, len(plan.sources))


def _widths(plan: Plan) -> tuple[int, int]:
    """Return the widths of the first clip; the writer refuses other ones."""
    for source in plan.sources:
        for _, audio, video in source.load():
            return audio.sequences[0].shape[1], video.sequences[0].shape[1]
    raise SacmaError("the folder has no clips; get it again")


def _same_beginning(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the common beginning of two sequences."""
    return next(
        (place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other),
        min(len(first), len(second)),
    )


def _add_clips(
    writer: FeaturesWriter, partition: int, label: int, audio: ClipTable, video: ClipTable
) -> None:
    for name, sound, picture in zip(audio.names, audio.sequences, video.sequences, strict=True):
        for table, sequence in ((audio, sound), (video, picture)):
            if not len(sequence):
                raise SacmaError(
                    f"{table.path}: clip {printable(name)} of class "
                    f"{printable(writer.classes[label])} has no steps; "
                    "take it out or get the file again"
                )
        try:
            writer.add(name, label, partition, sound, picture)
        except SacmaError as error:
            raise SacmaError(f"{_place(audio, video)}: {error}") from error


def _place(audio: ClipTable, video: ClipTable) -> str:
    return str(audio.path) if audio.path == video.path else f"{audio.path} and {video.path}"
