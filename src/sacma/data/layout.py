"""The layout of a benchmark folder: its class lists, and its folders of features and class vectors.

A folder has ``class-split/`` (class lists) and ``features/FOLDER/`` (clips and class vectors), as the AVCA
and TCAF repositories publish them. The class lists of the benchmarks in ``sacma.data.paper`` are part of this
package, so a folder of these needs its features only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sacma.data.class_lists import (
    PARTITIONS,
    check_benchmark,
    read_class_list,
    read_name_mapping,
    text_names_file,
)
from sacma.data.clips_file import CLIPS_FILE, INDEX_FILE
from sacma.data.joined_vectors import has_two_tables
from sacma.data.paper import SPLITS, Published, known_benchmarks
from sacma.errors import SacmaError, printable, some_of
from sacma.text.names import Spelling

_TRAIN, _VAL_SEEN, _VAL_UNSEEN, _TEST_SEEN, _TEST_UNSEEN = PARTITIONS


@dataclass(frozen=True)
class Preset:
    """A name of features on the command line: its folders under ``features/``, and seconds of a step."""

    folders: tuple[str, ...]
    audio_step: float
    video_step: float


# The official files do not say how long a step is. SeLaVi and VGGish have windows of 1 s and 0.96 s, C3D has
# 16 frames at 25 a second. YouTube-8M has a vector a second, or one a video, where the step means nothing;
# ClipClap's published features have one a video.
PRESETS = {
    "selavi": Preset(("main_features_non_averaged", "main_features"), 1.0, 1.0),
    "c3d-vggish": Preset(("cls_features_non_averaged", "cls_features"), 0.96, 0.64),
    "clip-clap": Preset(("clip-clap", "cls_features_non_averaged"), 1.0, 1.0),
    "yt8m": Preset(("yt8m_frame_level", "yt8m_video_level"), 1.0, 1.0),
}


@dataclass(frozen=True)
class Layout:
    """The class lists of one class split of a folder; the published ones where the folder has none.

    Attributes:
        root: the folder with ``features/``.
        name: name of the benchmark.
        split: ``main`` or ``cls``.
        facts: what is published, for the three of the paper and YT8M-GZSL.
        all_classes: all classes of the source data set, in ascending order.
        partition_classes: partition -> classes in ascending order, spelt as in ``all_classes``.
        text_names: class -> text name.
    """

    root: Path
    name: str
    split: str
    facts: Published | None
    all_classes: tuple[str, ...]
    partition_classes: Mapping[str, tuple[str, ...]]
    text_names: Mapping[str, str]

    @classmethod
    def find(cls, root: Path, benchmark: str, split: str) -> Layout:
        """Read the class lists; arguments as in ``Benchmark.open``.

        Raises:
            SacmaError: a list is missing, or the lists contradict each other.
        """
        facts = known_benchmarks().get(benchmark)
        root = find_root(root, benchmark)
        lists = root / "class-split"
        all_classes = _all_classes(lists, facts)
        partitions = _partition_classes(lists, split, facts, all_classes)
        _consistent(partitions, lists / f"{split}_split")
        text_names = _text_names(lists, benchmark, facts, all_classes)
        return cls(root, benchmark, split, facts, all_classes, partitions, text_names)


def find_root(root: Path, benchmark: str) -> Path:
    """Find the folder with ``class-split/`` and ``features/``: ``root`` or the benchmark's folder in it.

    Raises:
        SacmaError: there is none, or it is of another benchmark.
    """
    if not root.is_dir():
        raise SacmaError(f"{root}: no such folder; expected one with class-split/ and features/")
    facts = known_benchmarks().get(benchmark)
    names = [benchmark] if facts is None else [facts.folder, benchmark]
    for candidate in (root, *(root / name for name in names)):
        if _is_benchmark_folder(candidate):
            check_benchmark(candidate / "class-split", benchmark)
            return candidate
    found = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    raise SacmaError(
        f"{root}: no benchmark {printable(benchmark)}; expected class-split/ and features/ in it or "
        f"in {names[0]}/, "
        f"found {some_of(found) or 'no folders'}"
    )


def _is_benchmark_folder(folder: Path) -> bool:
    return (folder / "features").is_dir() or (folder / "class-split").is_dir()


def _all_classes(lists: Path, facts: Published | None) -> tuple[str, ...]:
    path = lists / "all_class.txt"
    if path.is_file():
        return tuple(sorted(set(read_class_list(path))))
    if facts is None:
        raise SacmaError(f"{path}: no such file; expected the names of all classes, one a line")
    return facts.classes


def _partition_classes(
    lists: Path, split: str, facts: Published | None, all_classes: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    folder = lists / f"{split}_split"
    spelling = Spelling(all_classes)
    if folder.is_dir():
        named = {partition: folder / f"{partition}.txt" for partition in PARTITIONS}
        return {partition: _spelt(path, spelling) for partition, path in named.items()}
    if facts is None or split not in SPLITS:
        known = {path.name.removesuffix("_split") for path in lists.glob("*_split")}
        known |= set(SPLITS if facts else ())
        raise SacmaError(
            f"split {printable(split)}: no folder {folder}; the splits here are "
            f"{some_of(sorted(known)) or 'none'}"
        )
    return {partition: facts.partition_classes(partition, split) for partition in PARTITIONS}


def _spelt(path: Path, spelling: Spelling) -> tuple[str, ...]:
    """Read the classes in a file, in ascending order and spelt as in ``all_class.txt``."""
    if not path.is_file():
        raise SacmaError(f"{path}: no such file; expected class names, one a line")
    names = []
    for written in read_class_list(path):
        name = spelling.find(written)
        if name is None:
            raise SacmaError(
                f"{path}: class {printable(written)} is not in all_class.txt; add it there or correct it here"
            )
        names.append(name)
    return tuple(sorted(set(names)))


def _consistent(partitions: Mapping[str, tuple[str, ...]], folder: Path) -> None:
    """Check that no unseen class is trained on, and that every seen class is."""
    trained = set(partitions[_TRAIN])
    later = trained | set(partitions[_VAL_UNSEEN])
    rules = (
        (_VAL_UNSEEN, trained, False, "stage_1_train"),
        (_TEST_UNSEEN, later, False, "stage_1_train or stage_1_val_unseen"),
        (_VAL_SEEN, trained, True, "stage_1_train"),
        (_TEST_SEEN, later, True, "stage_1_train or stage_1_val_unseen"),
    )
    for partition, training, inside, where in rules:
        wrong = sorted(name for name in partitions[partition] if (name in training) != inside)
        if wrong:
            verb = "must be" if inside else "must not be"
            raise SacmaError(
                f"{folder / partition}.txt: {some_of(wrong)} {verb} in {where} as well; correct the lists"
            )


def _text_names(
    lists: Path, benchmark: str, facts: Published | None, all_classes: Sequence[str]
) -> Mapping[str, str]:
    path = text_names_file(lists, benchmark)
    if path.is_file():
        named: Mapping[str, str] = read_name_mapping(path)
    else:
        named = facts.text_names if facts else {}
    spelling = Spelling(all_classes)
    return {spelling.find(original) or original: manual for original, manual in named.items()}


def features_folder(root: Path, features: str) -> str:
    """Return the name of the folder under ``features/`` for a name on the command line.

    Raises:
        SacmaError: there is no such folder.
    """
    tried = (*PRESETS[features].folders, features) if features in PRESETS else (features,)
    tried = tuple(dict.fromkeys(tried))
    for name in tried:
        folder = root / "features" / name
        # ClipClap's folder has the name of that with C3D and VGGish; its two tables of class vectors tell.
        if folder.is_dir() and (features != "clip-clap" or name == features or has_two_tables(folder)):
            return name
    found = sorted(path.name for path in (root / "features").glob("*") if path.is_dir())
    raise SacmaError(
        f"{root / 'features'}: no folder {' or '.join(tried)} for features {printable(features)}; "
        f"found {some_of(found) or 'none'}"
    )


def is_our_format(folder: Path) -> bool:
    """Return True where a folder under ``features/`` has clips in our format, perhaps incomplete."""
    return (folder / CLIPS_FILE).is_file() or (folder / INDEX_FILE).is_file()


def has_class_files(folder: Path) -> bool:
    """Return True where a folder under ``features/`` has clips in the official format."""
    return (folder / "audio").is_dir() and (folder / "video").is_dir()
