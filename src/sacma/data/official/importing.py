"""The official benchmark folders of AVCA-GZSL and TCAF-GZSL, read without running anything that they contain.

Their features come as pickles, HDF5 files and pickled numpy dictionaries, one file for each class, stage and
modality; the training code there leaves caches of whole stages. ``import_folder`` converts a folder into the
format of ``sacma.data.features``; ``cached_import`` does so once and keeps the result. The folders come from
https://github.com/ExplainableML/TCAF-GZSL and https://github.com/ExplainableML/AVCA-GZSL.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from filelock import FileLock

from sacma import pickles
from sacma.data.class_lists import PARTITIONS
from sacma.data.clips_file import CLIPS_FILE, INDEX_FILE, VERSION
from sacma.data.features_writer import FeaturesWriter
from sacma.errors import SacmaError
from sacma.files import cache_folder, remove, replacing
from sacma.pickles import Array, RefusedError, reading
from sacma.text.names import decoded
from sacma.text.vector_files import read_word_vectors
from sacma.version import __version__

Progress = Callable[[int, int], None]

# --- Files of features ----------------------------------------------------------------------------


@dataclass(frozen=True)
class ClipTable:
    """One modality of some clips, as a file has it.

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
        """The given clips, in the given order."""
        chosen = list(rows)
        return ClipTable(
            self.path,
            tuple(self.names[row] for row in chosen),
            tuple(self.sequences[row] for row in chosen),
        )


def _clip_table(path: Path, names: Sequence[object], sequences: Sequence[object]) -> ClipTable:
    """Checks what a file has under names and features."""
    if len(names) != len(sequences):
        raise SacmaError(
            f"{path}: {len(names)} clip names but {len(sequences)} sequences; get the file again"
        )
    table = ClipTable(path, tuple(decoded(name) for name in names), tuple(map(_sequence, sequences)))
    for name, sequence in zip(table.names, table.sequences, strict=True):
        if sequence.ndim != 2 or sequence.dtype.kind not in "fiu":
            raise SacmaError(
                f"{path}: clip {name!r} has {sequence.dtype} of shape {sequence.shape}, expected numbers of "
                "shape (steps, width); get the file again"
            )
    return table


def _sequence(value: object) -> Array:
    """(T, D); a vector averaged over time is one step."""
    if not isinstance(value, np.ndarray):
        raise ValueError(f"features are {type(value).__name__}, expected arrays")
    return value[None] if value.ndim == 1 else value


def read_temporal(path: Path) -> ClipTable:
    """The clips of a class and stage in TCAF's format, a pickle with ``features`` and ``video_names``.

    Raises:
        SacmaError: no such file, damaged, of another kind, or asking for code to be run.
    """
    with reading(path):
        content = pickles.load(path)
        _expect_keys(path, content, ("features", "video_names"))
        return _clip_table(path, _listed(content["video_names"]), _listed(content["features"]))


def read_averaged(path: Path) -> ClipTable:
    """The clips of a class and stage in AVCA's format, HDF5 with ``data`` (N, D) and ``video_urls`` (N,).

    A vector averaged over time becomes a sequence of one step.

    Raises:
        SacmaError: no such file, damaged or of another kind.
    """
    with reading(path):
        size = path.stat().st_size
        with h5py.File(path, "r") as file:
            data = _dataset(file, "data", size)
            names = _dataset(file, "video_urls", size)
        if data.ndim != 2:
            raise SacmaError(f"{path}: 'data' has shape {data.shape}, expected (clips, width); get it again")
        return _clip_table(path, names.tolist(), list(data))


def _dataset(file: h5py.File, name: str, file_size: int) -> Array:
    """All of a dataset that lies in the file itself."""
    link = file.get(name, getlink=True)
    dataset = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"no dataset {name!r}; there are {', '.join(sorted(file)) or 'none'}")
    if dataset.external or dataset.is_virtual:
        raise RefusedError(f"another file, for {name!r}")
    # Deflate packs at most 1032 to 1, so more than that is a false statement.
    if dataset.nbytes > 1100 * file_size:
        raise ValueError(f"{name!r} claims {dataset.nbytes} bytes in a file of {file_size}")
    values: Array = dataset[()]
    return values


_READERS: Mapping[str, Callable[[Path], ClipTable]] = {".pkl": read_temporal, ".h5": read_averaged}


def _listed(value: object) -> Sequence[Any]:
    """The items of a list, or of an array of them."""
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
    """A cache as the official training code leaves it, with temporal or averaged features.

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
        return CachedClips(audio, _aligned(audio, video), labels[0])


def _cached(path: Path, content: Any) -> tuple[ClipTable, Array]:
    _expect_keys(path, content, ("data", "target", "url"))
    table = _clip_table(path, _listed(content["url"]), _listed(content["data"]))
    labels = np.array(_listed(content["target"]), dtype=np.int64).reshape(-1)
    if len(labels) != len(table):
        raise SacmaError(f"{path}: {len(labels)} labels for {len(table)} clips; remove it and make it again")
    return table, labels


# --- Class lists ----------------------------------------------------------------------------------


def read_class_list(path: Path) -> tuple[str, ...]:
    """Class names of a ``.txt`` file, one a line: stripped, without blank lines, sorted.

    Raises:
        SacmaError: no such file, not text, empty, or a name is there twice.
    """
    with reading(path):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        names = sorted(line.strip() for line in lines if line.strip())
        if not names:
            raise SacmaError(f"{path}: empty, expected class names, one a line")
        for name, following in pairwise(names):
            if name == following:
                raise SacmaError(f"{path}: class {name!r} is there twice; take one out")
        return tuple(names)


def read_name_mapping(path: Path, *, column: str = "manual") -> dict[str, str]:
    """Class name -> text name, from the columns ``original`` and ``column`` of ``*_class_names.csv``.

    Raises:
        SacmaError: no such file, not such a table, or a class is there twice.
    """
    mapping: dict[str, str] = {}
    for original, manual in _columns(path, "original", column):
        if original in mapping:
            raise SacmaError(f"{path}: class {original!r} is there twice; take one out")
        mapping[original] = manual
    return mapping


def read_clip_list(path: Path) -> list[tuple[str, str]]:
    """(clip name, class name) pairs from the columns ``filename`` and ``label`` of a ``stage_*.csv``.

    The order of the columns differs between UCF, ActivityNet and VGGSound, so they are found by their header.

    Raises:
        SacmaError: no such file or not such a table.
    """
    return _columns(path, "filename", "label")


def _columns(path: Path, first: str, second: str) -> list[tuple[str, str]]:
    with reading(path), path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if not {first, second} <= set(rows.fieldnames or ()):
            raise SacmaError(
                f"{path}: columns {', '.join(rows.fieldnames or ['none'])}; "
                f"expected {first} and {second} among them"
            )
        pairs = []
        for row in rows:
            if not row[first] or not row[second]:
                raise SacmaError(
                    f"{path}, line {rows.line_num}: no {first} or no {second}; complete the line"
                )
            pairs.append((row[first].strip(), row[second].strip()))
        return pairs


# --- What is in a folder --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """A piece of the import: the clips of a partition in one file (or one for each modality).

    Attributes:
        key: what is read, with sizes and times of the files; equal keys mean equal clips.
        load: gives the clips, a class at a time: label, audio, video.
    """

    key: str
    partition: int
    load: Callable[[], Iterable[tuple[int, ClipTable, ClipTable]]]


@dataclass(frozen=True)
class _Plan:
    """All that an import will read.

    Attributes:
        classes: names of all classes, sorted.
        sources: the pieces in the order in which they are written.
        provenance: what is read, with size and time of change (ns) of every file.
        stamp: digest of the files and of the lengths of a step.
    """

    classes: tuple[str, ...]
    sources: tuple[_Source, ...]
    provenance: Mapping[str, Any]
    stamp: str


def _plan(root: Path, benchmark: str, folder: str, steps: tuple[float, float]) -> _Plan:
    features = root / "features" / folder
    if not root.is_dir():
        raise SacmaError(f"{root}: no such folder; expected one with class-split/ and features/")
    if (features / CLIPS_FILE).is_file():
        raise SacmaError(f"{features} holds {CLIPS_FILE}, so it is imported already; use {root} as it is")
    _check_benchmark(root, benchmark)
    if any(path.suffix in _READERS for path in features.glob("*/stage_*/*")):
        classes, sources, read = _class_file_sources(root, features)
    else:
        classes, sources, read = _cache_sources(root, benchmark, folder)
    others = [*_class_split_files(root), *_text_files(features)]
    files = {_name_of(path, root): _stamp(path) for path in [*read, *others]}
    content = json.dumps([VERSION, sorted(files.items()), steps])
    stamp = hashlib.sha256(content.encode()).hexdigest()
    provenance = {
        "extractor": "official features",
        "source": str(root.resolve()),
        "benchmark": benchmark,
        "folder": folder,
        "stamp": stamp,
        "files": files,
    }
    return _Plan(classes, tuple(sources), provenance, stamp)


def _check_benchmark(root: Path, benchmark: str) -> None:
    suffix = "_w2v_class_names.csv"
    found = sorted(path.name.removesuffix(suffix) for path in (root / "class-split").glob(f"*{suffix}"))
    if found and benchmark not in found:
        raise SacmaError(
            f"{root / 'class-split'}: no {benchmark}{suffix}, but that of {', '.join(found)}; "
            f"name that benchmark or add the file"
        )


def _class_split_files(root: Path) -> list[Path]:
    found = (root / "class-split").glob("**/*")
    return sorted(path for path in found if path.suffix in (".txt", ".csv") and not path.name.startswith("."))


def _text_files(features: Path) -> list[Path]:
    found = (features / "text").glob("*.np[yz]")
    return sorted(path for path in found if not path.name.startswith("."))


def _stamp(path: Path) -> tuple[int, int]:
    with reading(path):
        status = path.stat()
    return status.st_size, status.st_mtime_ns


def _name_of(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)


_Found = tuple[tuple[str, ...], list[_Source], list[Path]]


def _class_file_sources(root: Path, features: Path) -> _Found:
    """One source for each class file of each partition, sorted by name. ``stage_2_train`` is never read."""
    stages = {
        stage: (_class_files(features / "audio" / stage), _class_files(features / "video" / stage))
        for stage in PARTITIONS
    }
    classes = _all_classes(root, sorted({stem for audio, _ in stages.values() for stem in audio}))
    find = _spelling(classes)
    sources: list[_Source] = []
    read: list[Path] = []
    for partition, (stage, (audio, video)) in enumerate(stages.items()):
        _check_same_classes(features, stage, audio, video)
        labels = {stem: _label(find, stem, path) for stem, path in audio.items()}
        _check_complete(root, features / "audio" / stage, [classes[label] for label in labels.values()])
        for stem, label in labels.items():
            paths = (audio[stem], video[stem])
            key = json.dumps([stage, stem, *map(_stamp, paths)])
            sources.append(_Source(key, partition, partial(_load_class, label, *paths)))
            read.extend(paths)
    return classes, sources, read


def _label(find: Callable[[str], int | None], stem: str, path: Path) -> int:
    label = find(stem)
    if label is None:
        raise SacmaError(f"{path}: class {stem!r} is not in class-split/all_class.txt; correct the name")
    return label


def _class_files(folder: Path) -> dict[str, Path]:
    """Class name -> its file, sorted."""
    if not folder.is_dir():
        raise SacmaError(f"{folder}: no such folder; expected a .pkl or .h5 file for each class")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        stem, suffix = path.name[: -len(path.suffix)], path.suffix
        if suffix not in _READERS or path.name.startswith("."):
            continue
        if stem in files:
            raise SacmaError(f"{path}: there is {files[stem].name} as well; keep one of them")
        files[stem] = path
    if not files:
        raise SacmaError(f"{folder}: empty, expected a .pkl or .h5 file for each class")
    return dict(sorted(files.items()))


def _all_classes(root: Path, otherwise: Sequence[str]) -> tuple[str, ...]:
    path = root / "class-split" / "all_class.txt"
    return read_class_list(path) if path.is_file() else tuple(otherwise)


def _spelling(classes: Sequence[str]) -> Callable[[str], int | None]:
    """Finds the position of a class; the official code does not tell upper from lower case."""
    exact = {name: position for position, name in enumerate(classes)}
    folded: dict[str, int | None] = {}
    for name, position in exact.items():
        folded[name.casefold()] = None if name.casefold() in folded else position
    return lambda name: exact.get(name, folded.get(name.casefold()))


def _check_same_classes(features: Path, stage: str, audio: Iterable[str], video: Iterable[str]) -> None:
    for here, there, missing in (
        ("audio", "video", set(audio) - set(video)),
        ("video", "audio", set(video) - set(audio)),
    ):
        if missing:
            raise SacmaError(
                f"{features / there / stage}: no file for {_some(missing)}, which {here}/{stage} has; "
                "get the folder again"
            )


def _check_complete(root: Path, folder: Path, found: Sequence[str]) -> None:
    """The folder has a file for each class of the stage in at least one split.

    Folders of ``cls`` may lack the unseen classes that only ``main`` has.
    """
    absent = []
    for path in sorted((root / "class-split").glob(f"*/{folder.name}.txt")):
        listed = read_class_list(path)
        present = {name.casefold() for name in found}
        absent.append((path, [name for name in listed if name.casefold() not in present]))
    if absent and all(missing for _, missing in absent):
        path, missing = min(absent, key=lambda entry: len(entry[1]))
        raise SacmaError(
            f"{folder}: no file for {_some(missing)} of {path.relative_to(root)}; get the folder again"
        )


def _load_class(label: int, audio: Path, video: Path) -> Iterator[tuple[int, ClipTable, ClipTable]]:
    sound, picture = _READERS[audio.suffix](audio), _READERS[video.suffix](video)
    if not len(sound):
        raise SacmaError(f"{audio}: no clips; get the file again")
    yield label, sound, _aligned(sound, picture)


def _aligned(audio: ClipTable, video: ClipTable) -> ClipTable:
    """The visual features in the order of the audio, by name."""
    if audio.names == video.names:
        return video
    rows = {name: row for row, name in enumerate(video.names)}
    if len(audio) != len(video) or len(rows) != len(video) or set(audio.names) != set(rows):
        only = set(audio.names) ^ set(rows)
        detail = f"only one of them has {_some(only)}" if only else "one of them has a name twice"
        raise SacmaError(f"{audio.path} and {video.path} differ in their clips: {detail}; get both again")
    return video.take(rows[name] for name in audio.names)


def _some(names: Iterable[str], limit: int = 3) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(map(repr, listed[:limit])) + more


# --- Caches of the official code ------------------------------------------------------------------

_DATASETS = {"ucf": "UCF", "vggsound": "VGGSound", "activitynet": "ActivityNet"}
_COLLECTIONS = ("avgzsl_benchmark_non_averaged_datasets", "avgzsl_benchmark_datasets")
_CACHE_PARTITIONS = {
    "training": PARTITIONS[:1],
    "val": PARTITIONS[1:3],
    "test": PARTITIONS[3:],
}


def _cache_sources(root: Path, benchmark: str, folder: str) -> _Found:
    """One source for each partition, from the files that the official training code keeps.

    ``training`` is stage_1_train; ``val`` and ``test`` hold a seen and an unseen partition, told apart by the
    class lists; ``train_val`` repeats the first two.
    """
    split, paths = _find_caches(root, benchmark, folder)
    classes = read_class_list(root / "class-split" / "all_class.txt")
    find = _spelling(classes)
    load = lru_cache(maxsize=1)(read_cache)
    sources = []
    for stage, partitions in _CACHE_PARTITIONS.items():
        lists = {
            partition: {
                find(name) for name in read_class_list(root / "class-split" / split / f"{partition}.txt")
            }
            for partition in partitions
        }
        for partition in partitions:
            key = json.dumps([partition, str(paths[stage]), _stamp(paths[stage])])
            everyone = set[int | None]().union(*lists.values())
            loader = partial(_load_partition, load, paths[stage], lists[partition], everyone)
            sources.append(_Source(key, PARTITIONS.index(partition), loader))
    return classes, sources, list(paths.values())


def _find_caches(root: Path, benchmark: str, folder: str) -> tuple[str, dict[str, Path]]:
    """The split, preferably main, and stage -> file."""
    names = (root.resolve().name, _DATASETS.get(benchmark, benchmark))
    parents = [root.resolve().parent, root.resolve().parent.parent]
    places = [root]
    places += [parent / kind / name for parent in parents for kind in _COLLECTIONS for name in names]
    for place in places:
        caches = place / "_features_processed" / folder
        for split in ("main_split", "cls_split"):
            paths = {stage: caches / f"{stage}{split}.pkl" for stage in _CACHE_PARTITIONS}
            if all(path.is_file() for path in paths.values()):
                return split, paths
    found = sorted(path.name for path in (root / "features").glob("*") if path.is_dir())
    raise SacmaError(
        f"{root / 'features' / folder}: no clips here; expected audio/ and video/ in it, or caches of the "
        f"official code in {root / '_features_processed' / folder}; "
        f"features/ has {', '.join(found) or 'nothing'}"
    )


def _load_partition(
    load: Callable[[Path], CachedClips], path: Path, wanted: set[int | None], known: set[int | None]
) -> Iterator[tuple[int, ClipTable, ClipTable]]:
    cached = load(path)
    labels = cached.labels.tolist()
    if strange := set(labels) - known:
        raise SacmaError(
            f"{path}: clips of class number {min(strange)}, which the class lists do not have here; "
            "remove it and make it again with these lists"
        )
    for label in sorted(set(labels) & wanted):
        rows = np.flatnonzero(cached.labels == label).tolist()
        yield label, cached.audio.take(rows), cached.video.take(rows)


# --- Import ---------------------------------------------------------------------------------------


def import_folder(
    root: str | Path,
    out: str | Path,
    *,
    benchmark: str,
    folder: str,
    audio_step: float,
    video_step: float,
    on_progress: Progress | None = None,
) -> Path:
    """Convert the official features of a benchmark into our format, in a new folder of the same layout.

    ``OUT/features/<folder>`` appears when all is done. An import that was interrupted goes on where it
    stopped when it is called again, as long as the files that it had read are as they were.

    Args:
        root: the folder with ``class-split/`` and ``features/``. Without class files under
            ``features/<folder>``, the caches of the official training code are looked for.
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
    plan = _plan(root, benchmark, folder, (audio_step, video_step))
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
    plan: _Plan,
    root: Path,
    target: Path,
    audio_step: float,
    video_step: float,
    on_progress: Progress | None,
) -> None:
    """Fills a folder beside the target, going on with what is there, and puts it in place."""
    working = target.with_name(f".{target.name}.partial")
    if _imported_stamp(working) != plan.stamp:
        remove(working / INDEX_FILE)
        _convert(plan, working, audio_step, video_step, on_progress)
    _convert_text(root / "features" / target.name, working)
    _copy_class_split(root, target.parent.parent)
    with _saving(target):
        working.replace(target)


def cached_import(
    root: str | Path,
    *,
    benchmark: str,
    folder: str,
    audio_step: float,
    video_step: float,
    on_progress: Progress | None = None,
) -> Path:
    """The folder to open for official features: an import kept in the cache folder, made when it is needed.

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
    plan = _plan(root, benchmark, folder, (audio_step, video_step))
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
    """Only one process at a time; the others wait. The lock of a killed process is free."""
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
    """The stamp of what was imported to a folder of features, None where that is not complete."""
    try:
        index = json.loads((features / INDEX_FILE).read_text(encoding="utf-8"))
        return str(index["provenance"]["stamp"]) if (features / CLIPS_FILE).is_file() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _convert(
    plan: _Plan,
    working: Path,
    audio_step: float,
    video_step: float,
    on_progress: Progress | None,
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


def _widths(plan: _Plan) -> tuple[int, int]:
    """Widths of the first clip; the writer holds all others to them."""
    for source in plan.sources:
        for _, audio, video in source.load():
            return audio.sequences[0].shape[1], video.sequences[0].shape[1]
    raise SacmaError("the folder has no clips; get it again")


def _same_beginning(first: Sequence[str], second: Sequence[str]) -> int:
    """How many items agree before the first that does not."""
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
                    f"{table.path}: clip {name!r} of class {writer.classes[label]!r} has no steps; "
                    "take it out or get the file again"
                )
        try:
            writer.add(name, label, partition, sound, picture)
        except SacmaError as error:
            raise SacmaError(f"{_place(audio, video)}: {error}") from error


def _place(audio: ClipTable, video: ClipTable) -> str:
    return str(audio.path) if audio.path == video.path else f"{audio.path} and {video.path}"


def _convert_text(features: Path, working: Path) -> None:
    """Writes all tables of class vectors as ``.npz``, which holds no objects."""
    remove(working / "text")
    with replacing(working / "text") as folder:
        folder.mkdir(parents=True)
        for path in _text_files(features):
            vectors = read_word_vectors(path)
            with (folder / f"{path.stem}.npz").open("wb") as file:
                names = np.array(list(vectors), dtype=np.str_)
                np.savez(file, names=names, vectors=np.stack(list(vectors.values())))


def _copy_class_split(root: Path, out: Path) -> None:
    theirs, ours = root / "class-split", out / "class-split"
    if not theirs.is_dir():
        return
    if ours.exists():
        _check_same_lists(theirs, ours)
        return
    with replacing(ours) as folder:
        for path in _class_split_files(root):
            copy = folder / path.relative_to(theirs)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _check_same_lists(theirs: Path, ours: Path) -> None:
    for path in _class_split_files(theirs.parent):
        copy = ours / path.relative_to(theirs)
        if not copy.is_file() or copy.read_bytes() != path.read_bytes():
            raise SacmaError(f"{copy} is not as {path}; choose another place for these features")
