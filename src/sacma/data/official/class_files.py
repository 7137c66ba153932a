"""Official folders with one file for each class, stage and modality."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from sacma.data.class_lists import PARTITIONS, read_class_list
from sacma.data.official.feature_files import (
    ClipTable,
    aligned,
    class_files,
    read_class_file,
)
from sacma.data.official.source import Source, Sources, stamp
from sacma.errors import SacmaError, printable, some_of
from sacma.text.names import Spelling, normal


def class_file_sources(root: Path, features: Path) -> Sources:
    """Find the class files of a folder: one piece for each class of each partition, sorted by name.

    ``stage_2_train`` is never read: it repeats the partitions of stage 1.

    Args:
        root: the folder with ``class-split/``.
        features: the folder with ``audio/`` and ``video/``.

    Raises:
        SacmaError: a file is missing, or its class is not in the class lists.
    """
    stages = {
        stage: (_some_class_files(features / "audio" / stage), _some_class_files(features / "video" / stage))
        for stage in PARTITIONS
    }
    classes = _all_classes(root, sorted({stem for audio, _ in stages.values() for stem in audio}))
    spelling = Spelling(classes)
    sources: list[Source] = []
    read: list[Path] = []
    for partition, (stage, (audio, video)) in enumerate(stages.items()):
        _check_same_classes(features, stage, audio, video)
        labels = {stem: classes.index(_class_of(spelling, stem, path)) for stem, path in audio.items()}
        _check_complete(root, features / "audio" / stage, [classes[label] for label in labels.values()])
        for stem, label in labels.items():
            paths = (audio[stem], video[stem])
            key = json.dumps([stage, stem, *map(stamp, paths)])
            sources.append(Source(key, partition, partial(_load_class, label, *paths)))
            read.extend(paths)
    return Sources(classes, tuple(sources), tuple(read))


def _class_of(spelling: Spelling, stem: str, path: Path) -> str:
    name = spelling.find(stem)
    if name is None:
        raise SacmaError(
            f"{path}: class {printable(stem)} is not in class-split/all_class.txt; correct the name"
        )
    return name


def _some_class_files(folder: Path) -> dict[str, Path]:
    files = class_files(folder)
    if not files:
        found = "empty" if folder.is_dir() else "no such folder"
        raise SacmaError(f"{folder}: {found}; expected a .pkl or .h5 file for each class")
    return files


def _all_classes(root: Path, otherwise: Sequence[str]) -> tuple[str, ...]:
    path = root / "class-split" / "all_class.txt"
    return read_class_list(path) if path.is_file() else tuple(otherwise)


def _check_same_classes(features: Path, stage: str, audio: Iterable[str], video: Iterable[str]) -> None:
    for here, there, missing in (
        ("audio", "video", set(audio) - set(video)),
        ("video", "audio", set(video) - set(audio)),
    ):
        if missing:
            raise SacmaError(
                f"{features / there / stage}: no file for {some_of(sorted(map(printable, missing)))}, "
                f"which {here}/{stage} has; "
                "get the folder again"
            )


def _check_complete(root: Path, folder: Path, found: Sequence[str]) -> None:
    """Check that the folder has a file for each class of the stage in at least one class split.

    Folders of ``cls`` may lack the unseen classes that only ``main`` has.
    """
    absent = []
    for path in sorted((root / "class-split").glob(f"*/{folder.name}.txt")):
        listed = read_class_list(path)
        present = {normal(name) for name in found}
        absent.append((path, [name for name in listed if normal(name) not in present]))
    if absent and all(missing for _, missing in absent):
        path, missing = min(absent, key=lambda entry: len(entry[1]))
        raise SacmaError(
            f"{folder}: no file for {some_of(sorted(map(printable, missing)))} of {path.relative_to(root)}; "
            "get the folder again"
        )


def _load_class(label: int, audio: Path, video: Path) -> Iterator[tuple[int, ClipTable, ClipTable]]:
    sound, picture = read_class_file(audio), read_class_file(video)
    if not len(sound):
        raise SacmaError(f"{audio}: no clips; get the file again")
    yield label, sound, aligned(sound, picture)
