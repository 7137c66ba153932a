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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sacma.data.class_lists import PARTITIONS
from sacma.data.conversion import open_features
from sacma.data.features import Features, Track
from sacma.data.groups import listed_groups, with_groups
from sacma.data.joined_vectors import names_for, read_table
from sacma.data.layout import Layout, features_folder
from sacma.errors import SacmaError, printable, some_of
from sacma.progress import OnProgress
from sacma.text.names import Spelling
from sacma.text.vectors import TextTable, class_vectors
from sacma.types import ClassSet

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
class Split:
    """The clips of a stage and its candidate classes.

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
        """Return the same clips with one step a modality, the average over time; computed once, then kept.

        A clip that lacks a modality still lacks it. Clips outside the split are empty.
        """
        return self._averaged

    @cached_property
    def _averaged(self) -> Split:
        if isinstance(self.features, _Averaged) or has_one_step(self.features):
            return self  # a copy of many clips would only cost memory
        tracks = {
            "audio": _averaged_track(self.features.audio, self.clips),
            "video": _averaged_track(self.features.video, self.clips),
        }
        kept = {part.name: getattr(self.features, part.name) for part in fields(self.features)}
        return replace(self, features=_Averaged(**{**kept, **tracks}))


class _Averaged(Features):
    """Features in memory; they differ from those of their file, so pickling must keep the values."""

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
    """An open benchmark folder: features, class lists of one class split, class vectors.

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
        on_progress: OnProgress | None = None,
    ) -> Benchmark:
        """Open a folder; features in the official format are converted first, once, into the cache folder.

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
        if opened.group is None:
            opened = with_groups(opened, listed_groups(layout.root / "class-split" / f"{split}_split"))
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
        """Return the clips and candidate classes of ``train``, ``val``, ``train_val`` or ``test``.

        Clips whose class is no candidate are left out.

        Raises:
            SacmaError: the stage is unknown, or a candidate has no clip.
        """
        if stage not in _STAGES:
            raise SacmaError(f"stage {printable(stage)} is unknown; expected one of {', '.join(STAGES)}")
        parts = _STAGES[stage]
        seen = {name for partition in parts.seen for name in self.partition_classes[partition]}
        unseen = {name for partition in parts.unseen for name in self.partition_classes[partition]}
        candidates = sorted(seen | unseen)
        clips, labels = self._clips(parts.clips, candidates)
        present = torch.bincount(labels, minlength=len(candidates)) > 0
        if not bool(present.all()):
            absent = [name for name, there in zip(candidates, present.tolist(), strict=True) if not there]
            raise SacmaError(
                f"{self.features.path}: no clips of {some_of(absent)} in {' or '.join(parts.clips)}; "
                "add them, or correct the class lists (sacma data check says what else is missing)"
            )
        row_of = {name: row for row, name in enumerate(self.classes)}
        rows = torch.tensor([row_of[name] for name in candidates])
        is_seen = torch.tensor([name in seen for name in candidates])
        return Split(
            stage, self.features, clips, labels, ClassSet(tuple(candidates), self.vectors[rows], is_seen)
        )

    def _clips(self, partitions: Sequence[str], candidates: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Find clips by partition and class: rows of ``features``, and positions of their classes."""
        position = {name: place for place, name in enumerate(candidates)}
        spelling = Spelling(candidates)
        of_class = [position.get(spelling.find(name) or "", -1) for name in self.features.classes]  # (C,)
        labels = torch.tensor(of_class)[self.features.labels]  # (M,)
        wanted = torch.tensor([PARTITIONS.index(partition) for partition in partitions])
        taken = torch.isin(self.features.partitions.long(), wanted) & (labels >= 0)
        clips = taken.nonzero().squeeze(1)  # (N,)
        return clips, labels[clips]


def has_one_step(features: Features) -> bool:
    """Return True where no clip has more than one step, as in features that are averages over time."""
    return max(int(track.lengths.max()) for track in (features.audio, features.video)) <= 1


def _vectors(classes: Sequence[str], layout: Layout, table: TextTable, alignment: str) -> Tensor:
    """Return the class vectors, (K, E); the published pairing needs all classes of the data set first."""
    names = names_for(table, layout.root / "class-split", layout.name, layout.text_names)
    if alignment == "aligned":
        return torch.from_numpy(class_vectors(classes, names, table))
    paired = class_vectors(layout.all_classes, names, table, alignment=alignment)
    rows = {name: row for row, name in enumerate(layout.all_classes)}
    return torch.from_numpy(paired[[rows[name] for name in classes]])
