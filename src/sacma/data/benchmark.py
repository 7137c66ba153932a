"""Benchmarks: a folder of features with its class lists, read as the stages of the protocol.

A benchmark folder has ``class-split/`` (class lists) and ``features/<folder>/`` (clips and class vectors), as
the AVCA and TCAF repositories publish them. Clips stand in five partitions; a stage of the two-stage protocol
reads some of them and tells a set of candidate classes apart:

    stage      clips                                             seen classes              unseen classes
    train      stage_1_train                                     stage_1_train             none
    val        stage_1_val_seen, stage_1_val_unseen              stage_1_val_seen          stage_1_val_unseen
    train_val  stage_1_train and both of val                     train and val_unseen      none
    test       stage_2_test_seen, stage_2_test_unseen            stage_2_test_seen         stage_2_test_unseen

``main`` and ``cls`` differ in ``stage_2_test_unseen`` alone. For UCF, VGGSound and ActivityNet the class
lists and text names are in ``sacma.data.paper`` too, so a folder of these needs its features only.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sacma.data.class_lists import PARTITIONS
from sacma.data.clips_file import CLIPS_FILE, INDEX_FILE
from sacma.data.features import Features, Track
from sacma.data.joined_vectors import has_two_tables, names_for, read_table
from sacma.data.official import importing as official
from sacma.data.paper import SPLITS, Published, info_rows, info_table, known_benchmarks
from sacma.errors import SacmaError
from sacma.text.vectors import TextTable, class_vectors
from sacma.types import ClassSet

__all__ = [
    "SPLITS",
    "STAGES",
    "Benchmark",
    "Layout",
    "Spelling",
    "Split",
    "features_folder",
    "find_root",
    "has_class_files",
    "has_one_step",
    "info_rows",
    "info_table",
    "is_our_format",
    "open_features",
]

STAGES = ("train", "val", "train_val", "test")

_TRAIN, _VAL_SEEN, _VAL_UNSEEN, _TEST_SEEN, _TEST_UNSEEN = PARTITIONS


@dataclass(frozen=True)
class _Stage:
    clips: tuple[str, ...]
    seen: tuple[str, ...]
    unseen: tuple[str, ...] = ()


# stage_2_train is never read: it repeats the three stage_1 partitions.
_STAGES = {
    "train": _Stage((_TRAIN,), (_TRAIN,)),
    "val": _Stage((_VAL_SEEN, _VAL_UNSEEN), (_VAL_SEEN,), (_VAL_UNSEEN,)),
    "train_val": _Stage((_TRAIN, _VAL_SEEN, _VAL_UNSEEN), (_TRAIN, _VAL_UNSEEN)),
    "test": _Stage((_TEST_SEEN, _TEST_UNSEEN), (_TEST_SEEN,), (_TEST_UNSEEN,)),
}


@dataclass(frozen=True)
class _Preset:
    folders: tuple[str, ...]
    audio_step: float
    video_step: float


# The official files do not say how long a step is. SeLaVi and VGGish have windows of 1 s and 0.96 s, C3D has
# 16 frames at 25 a second. YouTube-8M has a vector a second, or one a video, where the step means nothing;
# ClipClap's release has one a video.
_PRESETS = {
    "selavi": _Preset(("main_features_non_averaged", "main_features"), 1.0, 1.0),
    "c3d-vggish": _Preset(("cls_features_non_averaged", "cls_features"), 0.96, 0.64),
    "clip-clap": _Preset(("clip-clap", "cls_features_non_averaged"), 1.0, 1.0),
    "yt8m": _Preset(("yt8m_frame_level", "yt8m_video_level"), 1.0, 1.0),
}


@dataclass(frozen=True)
class Split:
    """The clips of a stage and the classes to tell them apart among.

    Attributes:
        stage: ``train``, ``val``, ``train_val`` or ``test``.
        features: the features of all clips of the benchmark.
        clips: (N,) int64, the clips of the stage as rows of ``features``, in ascending order.
        labels: (N,) int64, position of each clip's class in ``classes``.
        classes: the candidates in ascending order of names; in train and train_val all of them are seen.
    """

    stage: str
    features: Features
    clips: Tensor
    labels: Tensor
    classes: ClassSet

    def __len__(self) -> int:
        return len(self.clips)

    def averaged(self) -> Split:
        """The same clips with one step a modality, the average over time; computed once, kept in memory.

        A clip that lacks a modality still lacks it. Rows of clips outside the split are empty.
        """
        return self._averaged

    @cached_property
    def _averaged(self) -> Split:
        if isinstance(self.features, _Averaged):
            return self
        tracks = {
            "audio": _averaged_track(self.features.audio, self.clips),
            "video": _averaged_track(self.features.video, self.clips),
        }
        kept = {part.name: getattr(self.features, part.name) for part in fields(self.features)}
        return replace(self, features=_Averaged(**{**kept, **tracks}))


class _Averaged(Features):
    """Features that are not those of the file they come from."""

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, part.name) for part in fields(self))


def _averaged_track(track: Track, clips: Tensor) -> Track:
    have = clips[track.lengths[clips] > 0]
    values = torch.cat([track.gather(some).mean() for some in have.split(64)])  # (len(have), D)
    lengths = torch.zeros_like(track.lengths)
    lengths[have] = 1
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    return Track(values, offsets, track.step_seconds)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark folder, opened: features, class lists of one split, class vectors.

    Attributes:
        name: ``ucf``, ``vggsound``, ``activitynet`` or any other.
        root: the folder with ``class-split/`` and ``features/``.
        features: the clips.
        split_name: ``main``, ``cls`` or another that the folder has.
        text_source: the TEXT of the table of class vectors, ``word_embeddings_TEXT_normed``, or its path.
        text_table: that table; ``sacma.text.encoders.encoder_of`` encodes other names as it was made.
        text_alignment: ``aligned``, ``published`` or ``rotated``, see ``sacma.text.vectors.class_vectors``.
        classes: the K classes of the split, in ascending order.
        vectors: (K, E) float32, their vectors.
        partition_classes: partition -> its classes, in ascending order.
    """

    name: str
    root: Path
    features: Features
    split_name: str
    text_source: str
    text_table: TextTable
    text_alignment: str
    classes: tuple[str, ...]
    vectors: Tensor
    partition_classes: Mapping[str, tuple[str, ...]]

    @classmethod
    def open(
        cls,
        root: str | Path,
        benchmark: str,
        features: str,
        *,
        split: str = "main",
        text_alignment: str = "aligned",
        text: str | None = None,
        audio_step: float | None = None,
        video_step: float | None = None,
        on_progress: official.Progress | None = None,
    ) -> Benchmark:
        """Open a folder; features in the official format are first converted, once, into the cache folder.

        Args:
            root: the folder with ``class-split/`` and ``features/``, or the one that holds it as ``UCF/``,
                ``VGGSound/``, ``ActivityNet/`` or ``<benchmark>/``.
            benchmark: ``ucf``, ``vggsound``, ``activitynet`` or the NAME in ``NAME_w2v_class_names.csv``.
            features: ``selavi``, ``c3d-vggish`` or the name of a folder under ``features/``.
            split: ``main`` or ``cls``; the folder on disk is called ``<split>_split``.
            text_alignment: ``aligned``, ``published`` or ``rotated``.
            text: other class vectors: the TEXT in ``text/word_embeddings_TEXT_normed.npz`` or ``.npy``, or
                the path of such a file.
            audio_step: seconds from one audio step to the next, where the official files do not say.
            video_step: the same for video.
            on_progress: handed to the conversion.

        Raises:
            SacmaError: a file or folder is missing or damaged, a name is unknown, the class lists contradict
                each other, a class has no vector, or the length of a step is not known.
        """
        layout = Layout.find(Path(root), benchmark, split)
        folder = features_folder(layout.root, features)
        names = (text,) if text else ((layout.facts.vectors, benchmark) if layout.facts else (benchmark,))
        text, table = read_table(layout.root / "features" / folder, names)
        classes = tuple(sorted({name for names in layout.partition_classes.values() for name in names}))
        vectors = _vectors(classes, layout, table, text_alignment)
        opened = open_features(
            layout, features, audio_step=audio_step, video_step=video_step, on_progress=on_progress
        )
        return cls(
            name=benchmark,
            root=layout.root,
            features=opened,
            split_name=split,
            text_source=text,
            text_table=table,
            text_alignment=text_alignment,
            classes=classes,
            vectors=vectors,
            partition_classes=layout.partition_classes,
        )

    def split(self, stage: str) -> Split:
        """The clips and candidate classes of ``train``, ``val``, ``train_val`` or ``test``.

        Clips whose class is no candidate are left out.

        Raises:
            SacmaError: the stage is unknown, or a candidate has no clip.
        """
        if stage not in _STAGES:
            raise SacmaError(f"stage {stage!r} is unknown; expected one of {', '.join(STAGES)}")
        parts = _STAGES[stage]
        seen = {name for partition in parts.seen for name in self.partition_classes[partition]}
        unseen = {name for partition in parts.unseen for name in self.partition_classes[partition]}
        candidates = sorted(seen | unseen)
        clips, labels = self._clips(parts.clips, candidates)
        present = torch.bincount(labels, minlength=len(candidates)) > 0
        if not bool(present.all()):
            absent = [name for name, there in zip(candidates, present.tolist(), strict=True) if not there]
            raise SacmaError(
                f"{self.features.path}: no clips of {_some(absent)} in {' or '.join(parts.clips)}; "
                "add them, or correct the class lists (sacma data check says what else is missing)"
            )
        row_of = {name: row for row, name in enumerate(self.classes)}
        rows = torch.tensor([row_of[name] for name in candidates])
        is_seen = torch.tensor([name in seen for name in candidates])
        return Split(
            stage, self.features, clips, labels, ClassSet(tuple(candidates), self.vectors[rows], is_seen)
        )

    def _clips(self, partitions: Sequence[str], candidates: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Rows of ``features`` in the partitions and of the candidates, and their positions among these."""
        position = {name: place for place, name in enumerate(candidates)}
        spelling = Spelling(candidates)
        of_class = [position.get(spelling.find(name) or "", -1) for name in self.features.classes]  # (C,)
        labels = torch.tensor(of_class)[self.features.labels]  # (M,)
        wanted = torch.tensor([PARTITIONS.index(partition) for partition in partitions])
        taken = torch.isin(self.features.partitions.long(), wanted) & (labels >= 0)
        clips = taken.nonzero().squeeze(1)  # (N,)
        return clips, labels[clips]


def has_one_step(features: Features) -> bool:
    """Whether no clip has more than one step, as in features that are averages over time."""
    return max(int(track.lengths.max()) for track in (features.audio, features.video)) <= 1


class Spelling:
    """Finds class names whatever their case: UCF has HandstandPushups, but its lists say HandStandPushups."""

    def __init__(self, names: Iterable[str]) -> None:
        self._exact = frozenset(names)
        folded: dict[str, list[str]] = defaultdict(list)
        for name in sorted(self._exact):
            folded[name.casefold()].append(name)
        self._folded = {key: same[0] for key, same in folded.items() if len(same) == 1}

    def find(self, name: str) -> str | None:
        return name if name in self._exact else self._folded.get(name.casefold())


@dataclass(frozen=True)
class Layout:
    """The class lists of one split of a folder, the published ones where the folder has none.

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
        facts = known_benchmarks().get(benchmark)
        root = find_root(root, benchmark)
        lists = root / "class-split"
        all_classes = _all_classes(lists, facts)
        partitions = _partition_classes(lists, split, facts, all_classes)
        _consistent(partitions, lists / f"{split}_split")
        text_names = _text_names(lists, benchmark, facts, all_classes)
        return cls(root, benchmark, split, facts, all_classes, partitions, text_names)


def find_root(root: Path, benchmark: str) -> Path:
    """The folder with ``class-split/`` and ``features/``: ``root`` itself or the benchmark's folder in it.

    Raises:
        SacmaError: there is none, or it is of another benchmark.
    """
    if not root.is_dir():
        raise SacmaError(f"{root}: no such folder; expected one with class-split/ and features/")
    facts = known_benchmarks().get(benchmark)
    names = [benchmark] if facts is None else [facts.folder, benchmark]
    for candidate in (root, *(root / name for name in names)):
        if _is_benchmark_folder(candidate):
            _of_this_benchmark(candidate, benchmark)
            return candidate
    found = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    raise SacmaError(
        f"{root}: no benchmark {benchmark!r}; expected class-split/ and features/ in it or in {names[0]}/, "
        f"found {_some(found) or 'no folders'}"
    )


def _is_benchmark_folder(folder: Path) -> bool:
    return (folder / "features").is_dir() or (folder / "class-split").is_dir()


def _of_this_benchmark(root: Path, benchmark: str) -> None:
    suffix = "_w2v_class_names.csv"
    found = sorted(path.name.removesuffix(suffix) for path in (root / "class-split").glob(f"*{suffix}"))
    if found and benchmark not in found:
        raise SacmaError(
            f"{root}: benchmark {_some(found)}, not {benchmark!r}; name that one, or another folder"
        )


def _all_classes(lists: Path, facts: Published | None) -> tuple[str, ...]:
    path = lists / "all_class.txt"
    if path.is_file():
        return tuple(sorted(set(official.read_class_list(path))))
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
            f"split {split!r}: no folder {folder}; the splits here are {_some(sorted(known)) or 'none'}"
        )
    return {partition: facts.partition_classes(partition, split) for partition in PARTITIONS}


def _spelt(path: Path, spelling: Spelling) -> tuple[str, ...]:
    """The classes in a file, spelt as in ``all_class.txt``, in ascending order."""
    if not path.is_file():
        raise SacmaError(f"{path}: no such file; expected class names, one a line")
    names = []
    for written in official.read_class_list(path):
        name = spelling.find(written)
        if name is None:
            raise SacmaError(
                f"{path}: class {written!r} is not in all_class.txt; add it there or correct it here"
            )
        names.append(name)
    return tuple(sorted(set(names)))


def _consistent(partitions: Mapping[str, tuple[str, ...]], folder: Path) -> None:
    """No unseen class may be trained on, and every seen one must be: else the numbers mean nothing."""
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
                f"{folder / partition}.txt: {_some(wrong)} {verb} in {where} as well; correct the lists"
            )


def _text_names(
    lists: Path, benchmark: str, facts: Published | None, all_classes: Sequence[str]
) -> Mapping[str, str]:
    path = lists / f"{benchmark}_w2v_class_names.csv"
    if path.is_file():
        named: Mapping[str, str] = official.read_name_mapping(path)
    else:
        named = facts.text_names if facts else {}
    spelling = Spelling(all_classes)
    return {spelling.find(original) or original: manual for original, manual in named.items()}


def features_folder(root: Path, features: str) -> str:
    """The folder under ``features/`` that a name on the command line means."""
    tried = (*_PRESETS[features].folders, features) if features in _PRESETS else (features,)
    tried = tuple(dict.fromkeys(tried))
    for name in tried:
        folder = root / "features" / name
        # ClipClap's release has the folder name of C3D and VGGish; its two tables of class vectors tell.
        if folder.is_dir() and (features != "clip-clap" or name == features or has_two_tables(folder)):
            return name
    found = sorted(path.name for path in (root / "features").glob("*") if path.is_dir())
    raise SacmaError(
        f"{root / 'features'}: no folder {' or '.join(tried)} for features {features!r}; "
        f"found {_some(found) or 'none'}"
    )


def open_features(
    layout: Layout,
    features: str,
    *,
    audio_step: float | None = None,
    video_step: float | None = None,
    on_progress: official.Progress | None = None,
) -> Features:
    """Open the features of a folder, converting official ones first; arguments as in ``Benchmark.open``."""
    folder = features_folder(layout.root, features)
    path = layout.root / "features" / folder
    if is_our_format(path):
        opened = Features.open(path)
        _same_step(path, "audio", opened.audio, audio_step)
        _same_step(path, "video", opened.video, video_step)
        return opened
    audio_seconds, video_seconds = _steps(layout, features, folder, audio_step, video_step)
    imported = official.cached_import(
        layout.root,
        benchmark=layout.name,
        folder=folder,
        audio_step=audio_seconds,
        video_step=video_seconds,
        on_progress=on_progress,
    )
    return Features.open(imported / "features" / folder)


def import_benchmark(
    root: str | Path,
    out: str | Path,
    benchmark: str,
    features: str,
    *,
    audio_step: float | None = None,
    video_step: float | None = None,
    on_progress: official.Progress | None = None,
) -> Path:
    """Convert the official features of a folder into our format, in a new folder ``out`` of the same layout.

    Arguments are those of ``Benchmark.open``; see ``official.import_folder`` for what is done.
    """
    layout = Layout.find(Path(root), benchmark, "main")
    folder = features_folder(layout.root, features)
    if is_our_format(layout.root / "features" / folder):
        raise SacmaError(f"{layout.root / 'features' / folder} is in our format already; use it as it is")
    audio_seconds, video_seconds = _steps(layout, features, folder, audio_step, video_step)
    return official.import_folder(
        layout.root,
        out,
        benchmark=layout.name,
        folder=folder,
        audio_step=audio_seconds,
        video_step=video_seconds,
        on_progress=on_progress,
    )


def is_our_format(folder: Path) -> bool:
    """Whether a folder under ``features/`` holds clips in our format, perhaps not complete."""
    return (folder / CLIPS_FILE).is_file() or (folder / INDEX_FILE).is_file()


def has_class_files(folder: Path) -> bool:
    """Whether a folder under ``features/`` holds clips in the official format."""
    return (folder / "audio").is_dir() and (folder / "video").is_dir()


def _same_step(path: Path, modality: str, track: Track, given: float | None) -> None:
    if given is not None and given != track.step_seconds:
        raise SacmaError(
            f"{path / INDEX_FILE}: {modality} steps are {track.step_seconds} s, not {given} s; "
            f"leave --{modality}-step out"
        )


def _steps(
    layout: Layout, features: str, folder: str, audio_step: float | None, video_step: float | None
) -> tuple[float, float]:
    """Seconds per step of official features: as given, else as known for the name.

    The folder names of the official archives say what they hold only for benchmarks that are known.
    """
    preset = _PRESETS.get(features)
    if preset is None and layout.facts is not None:
        preset = next((known for known in _PRESETS.values() if folder in known.folders), None)
    audio_step = preset.audio_step if audio_step is None and preset else audio_step
    video_step = preset.video_step if video_step is None and preset else video_step
    if audio_step is None or video_step is None:
        path = layout.root / "features" / folder
        if not has_class_files(path):
            raise SacmaError(f"{path}: no clips here; expected {CLIPS_FILE} or the folders audio/ and video/")
        raise SacmaError(
            f"{path}: the files do not say how long a step is; pass --audio-step and --video-step in seconds"
        )
    if not (0 < audio_step < float("inf") and 0 < video_step < float("inf")):
        raise SacmaError(f"steps of {audio_step} s and {video_step} s: expected positive numbers of seconds")
    return audio_step, video_step


def _vectors(classes: Sequence[str], layout: Layout, table: TextTable, alignment: str) -> Tensor:
    """(K, E): where a class's place among all classes decides, all are paired first."""
    names = names_for(table, layout.root / "class-split", layout.name, layout.text_names)
    if alignment == "aligned":
        return torch.from_numpy(class_vectors(classes, names, table))
    paired = class_vectors(layout.all_classes, names, table, alignment=alignment)
    rows = {name: row for row, name in enumerate(layout.all_classes)}
    return torch.from_numpy(paired[[rows[name] for name in classes]])


def _some(names: Sequence[str], limit: int = 5) -> str:
    """The names in a message, a long list cut short."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
