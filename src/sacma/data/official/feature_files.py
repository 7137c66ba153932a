"""The feature files of AVCA-GZSL and TCAF-GZSL, read without running anything that they contain.

Features come as pickles or HDF5 files, one for each class, stage and modality. The training code there leaves
caches of whole stages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sacma import pickles
from sacma.data.official import hdf5
from sacma.errors import SacmaError, printable, some_of
from sacma.files import reading
from sacma.pickles import Array
from sacma.text.names import decoded


@dataclass(frozen=True)
class ClipTable:
    """One modality of the clips of a file.

    Attributes:
        path: the file.
        names: N clip names.
        sequences: N arrays (T, D), views of the file.
    """

    path: Path
    names: tuple[str, ...]
    sequences: tuple[Array, ...]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: Iterable[int]) -> ClipTable:
        """Return the clips at some rows, in the order of the rows."""
        chosen = list(rows)
        return ClipTable(
            self.path,
            tuple(self.names[row] for row in chosen),
            tuple(self.sequences[row] for row in chosen),
        )


def _clip_table(path: Path, names: Sequence[object], sequences: Sequence[object]) -> ClipTable:
    """Make a table from the names and features of a file, and check it."""
    if len(names) != len(sequences):
        raise SacmaError(
            f"{path}: {len(names)} clip names but {len(sequences)} sequences; get the file again"
        )
    table = ClipTable(path, tuple(decoded(name) for name in names), tuple(map(_sequence, sequences)))
    for name, sequence in zip(table.names, table.sequences, strict=True):
        if sequence.ndim != 2 or sequence.dtype.kind not in "fiu":
            raise SacmaError(
                f"{path}: clip {printable(name)} has {sequence.dtype} of shape {sequence.shape}, "
                "expected numbers of "
                "shape (steps, width); get the file again"
            )
    return table


def _sequence(value: object) -> Array:
    """Return an array as (T, D); a vector averaged over time becomes one step."""
    if not isinstance(value, np.ndarray):
        raise ValueError(f"features are {type(value).__name__}, expected arrays")
    return value[None] if value.ndim == 1 else value


def read_temporal(path: Path) -> ClipTable:
    """Read a class and stage in TCAF's format, a pickle with ``features`` and ``video_names``.

    Raises:
        SacmaError: no such file, damaged, of another kind, or asking for code to be run.
    """
    with reading(path):
        content = pickles.load(path)
        _expect_keys(path, content, ("features", "video_names"))
        return _clip_table(path, _listed(content["video_names"]), _listed(content["features"]))


def read_averaged(path: Path) -> ClipTable:
    """Read a class and stage in AVCA's format, HDF5 with ``data`` (N, D) and ``video_urls`` (N,).

    A vector averaged over time becomes a sequence of one step.

    Raises:
        SacmaError: no such file, damaged or of another kind.
    """
    with reading(path):
        path.stat()  # tells what is missing or closed to us
        names, data = hdf5.read_tables(path)
        if data.ndim != 2:
            raise SacmaError(f"{path}: 'data' has shape {data.shape}, expected (clips, width); get it again")
        return _clip_table(path, names, list(data))


def _listed(value: object) -> Sequence[Any]:
    """Return the items of a list or of an array."""
    if isinstance(value, np.ndarray) and value.ndim:
        return list(value) if value.dtype.kind in "fiu" else value.tolist()
    if isinstance(value, list | tuple):
        return value
    raise ValueError(f"found {type(value).__name__}, expected a list")


def _expect_keys(path: Path, content: object, keys: Sequence[str]) -> None:
    if not isinstance(content, dict) or not all(key in content for key in keys):
        found = sorted(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise SacmaError(
            f"{path}: expected a dictionary with {', '.join(keys)}, found {found}; get the file again"
        )


@dataclass(frozen=True)
class CachedClips:
    """A file of ``_features_processed``: the clips of a stage, classes mixed.

    Attributes:
        audio: audio features.
        video: visual features of the same clips in the same order.
        labels: (N,) int64, positions in the sorted list of all classes.
    """

    audio: ClipTable
    video: ClipTable
    labels: Array


def read_cache(path: Path) -> CachedClips:
    """Read a cache of the published training code, with temporal or averaged features.

    Raises:
        SacmaError: no such file, damaged, of another kind, or asking for code to be run.
    """
    with reading(path):
        content = pickles.load(path)
        _expect_keys(path, content, ("audio", "video"))
        tables, labels = zip(*(_cached(path, content[key]) for key in ("audio", "video")), strict=True)
        audio, video = tables
        if len(audio) != len(video) or not np.array_equal(*labels):
            raise SacmaError(
                f"{path}: audio and video are not of the same clips; remove it and make it again"
            )
        return CachedClips(audio, aligned(audio, video), labels[0])


def _cached(path: Path, content: Any) -> tuple[ClipTable, Array]:
    _expect_keys(path, content, ("data", "target", "url"))
    table = _clip_table(path, _listed(content["url"]), _listed(content["data"]))
    labels = np.array(_listed(content["target"]), dtype=np.int64).reshape(-1)
    if len(labels) != len(table):
        raise SacmaError(f"{path}: {len(labels)} labels for {len(table)} clips; remove it and make it again")
    return table, labels


def aligned(audio: ClipTable, video: ClipTable) -> ClipTable:
    """Return the visual features in the order of the audio, by clip name.

    Raises:
        SacmaError: the two are not of the same clips.
    """
    if audio.names == video.names:
        return video
    rows = {name: row for row, name in enumerate(video.names)}
    if len(audio) != len(video) or len(rows) != len(video) or set(audio.names) != set(rows):
        only = set(audio.names) ^ set(rows)
        detail = (
            f"only one of them has {some_of(sorted(map(printable, only)))}"
            if only
            else "one of them has a name twice"
        )
        raise SacmaError(f"{audio.path} and {video.path} differ in their clips: {detail}; get both again")
    return video.take(rows[name] for name in audio.names)


_READERS: dict[str, Callable[[Path], ClipTable]] = {".pkl": read_temporal, ".h5": read_averaged}


def read_class_file(path: Path) -> ClipTable:
    """Read the clips of a class, stage and modality, by the ending of the file name.

    Raises:
        SacmaError: as ``read_temporal`` and ``read_averaged``.
    """
    return _READERS[path.suffix](path)


def class_files(folder: Path) -> dict[str, Path]:
    """Find the files of a stage and modality: name before the ending -> file, sorted; none without a folder.

    Raises:
        SacmaError: a class has two files.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.suffix not in _READERS or path.name.startswith("."):
            continue
        if path.stem in files:
            raise SacmaError(f"{path}: there is {files[path.stem].name} as well; keep one of them")
        files[path.stem] = path
    return dict(sorted(files.items()))
