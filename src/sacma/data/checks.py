"""Checks a benchmark folder against the published counts and against its own lists of clips."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.text import Text

from sacma.data.class_lists import PARTITIONS, clip_key, read_clip_list
from sacma.data.conversion import open_features
from sacma.data.features import Features
from sacma.data.groups import Siblings, listed_siblings
from sacma.data.layout import Layout, features_folder, has_class_files, is_our_format
from sacma.data.official.feature_files import class_files, read_class_file
from sacma.errors import SacmaError
from sacma.text.names import Spelling


@dataclass(frozen=True)
class Difference:
    """A class of a partition that is not as expected.

    Attributes:
        partition: where.
        class_name: the class.
        found: clips that the folder has of it.
        expected: clips that it should have; None where only "at least one" is known.
        missing: names of clips that are listed and not there.
        surplus: names of clips that are there and not listed; empty where no list is known.
        audio_only: names of clips without a visual counterpart, in official files; they are not in ``found``.
        video_only: names of clips without an audio counterpart, likewise.
    """

    partition: str
    class_name: str
    found: int
    expected: int | None
    missing: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()
    audio_only: tuple[str, ...] = ()
    video_only: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """Return lines of text: one with the counts, and one for each clip that is known by name."""
        if self.expected is None:
            counts = f"{self.found} clips" if self.found else "no clips"
        else:
            counts = f"{self.found} clips, expected {self.expected}"
        lines = [f"{self.class_name}: {counts}"]
        for kind in ("missing", "surplus", "audio_only", "video_only"):
            lines += [f"  {kind.replace('_', ' ')} {name}" for name in getattr(self, kind)]
        return lines


@dataclass(frozen=True)
class PartitionCheck:
    """Found and expected classes and clips of a partition.

    Attributes:
        partition: name.
        classes: classes of its list that have clips.
        expected_classes: classes of its list; the published number where there is one.
        clips: clips of these classes.
        expected_clips: as published, else as the folder's own list of clips has them, else None.
        source: origin of the expected numbers.
        class_list: differences between the folder's class list and the published one.
        differences: the classes that are not as expected, in ascending order.
        share: of the clips that the folder has on purpose; None for all.
    """

    partition: str
    classes: int
    expected_classes: int
    clips: int
    expected_clips: int | None
    source: str
    class_list: tuple[str, ...]
    differences: tuple[Difference, ...]
    share: float | None = None

    @property
    def ok(self) -> bool:
        """True where the partition is as expected."""
        whole = self.classes == self.expected_classes and not self.class_list
        return self._counted and whole and not self.differences

    @property
    def _counted(self) -> bool:
        if self.expected_clips is None:
            return True
        if self.share is None:
            return self.clips == self.expected_clips
        # Rounding within classes, which keep one clip at least, moves a share by a clip a class.
        aim = self.share * self.expected_clips
        return aim / 2 - self.classes <= self.clips <= min(2 * aim + self.classes, self.expected_clips)

    def lines(self) -> list[str]:
        """Return a line of text for the partition, and indented lines for its differences."""
        clips = f"{self.clips}" if self.expected_clips is None else f"{self.clips} of {self.expected_clips}"
        share = ""
        if self.share is not None and self.expected_clips:
            share = f", {100 * self.clips / self.expected_clips:.1f} % on purpose"
        verdict = "ok" if self.ok else "NOT as expected"
        classes = f"{self.classes} of {self.expected_classes} classes"
        head = f"{self.partition}: {classes}, {clips} clips ({self.source}{share}): {verdict}"
        lines = [*self.class_list, *(line for difference in self.differences for line in difference.lines())]
        return [head, *(f"  {line}" for line in lines)]


@dataclass(frozen=True)
class CheckReport:
    """Result of ``check``: one entry for each partition, and how many clips of the test have siblings."""

    benchmark: str
    path: Path
    split: str
    partitions: tuple[PartitionCheck, ...]
    siblings: Siblings = field(default_factory=Siblings)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __rich__(self) -> Text:
        return Text(str(self))

    @property
    def ok(self) -> bool:
        """True where all partitions are as expected."""
        return all(partition.ok for partition in self.partitions)

    def lines(self) -> list[str]:
        """Return the report as lines of text, by partition and class."""
        head = f"{self.path}: {self.benchmark}, split {self.split}"
        body = [line for partition in self.partitions for line in partition.lines()]
        body += [str(self.siblings)] if self.siblings.test else []
        return [head, *body, "complete" if self.ok else "not complete"]


def check(
    root: str | Path,
    benchmark: str,
    features: str,
    *,
    split: str = "main",
    audio_step: float | None = None,
    video_step: float | None = None,
    share: float | None = None,
) -> CheckReport:
    """Compare a folder of features, official or ours, with the expected classes and clips.

    For the three benchmarks of the paper that are the published counts of classes and clips; for any folder,
    its own class lists and, where it has them, the lists of clips beside these (``stage_*.csv``), which name
    every clip and may name groups of clips that belong together. Official files
    are only listed, not converted; of ours the checksums are compared as well.

    Args:
        root: as for ``Benchmark.open``, and so are the others.
        benchmark: name of the benchmark.
        features: name of the features.
        split: ``main`` or ``cls``.
        audio_step: only for caches of the published code, whose clips have to be converted to be listed.
        video_step: likewise.
        share: of the clips that the folder has on purpose, above 0 and at most 1; by default what the
            features say of it, else all. Every class then needs a clip, and none more than expected; what
            is missing is not listed.

    Raises:
        SacmaError: ``share`` is out of range, or as ``Benchmark.open``; what is merely missing or too much is
            in the report.
    """
    if share is not None and not 0 < share <= 1:
        raise SacmaError(f"the share is {share}; it must be above 0 and at most 1")
    layout = Layout.find(Path(root), benchmark, split)
    folder = features_folder(layout.root, features)
    path = layout.root / "features" / folder
    if has_class_files(path) and not is_our_format(path):
        found = _in_class_files(path, layout.all_classes)
    else:
        opened = open_features(layout, features, audio_step=audio_step, video_step=video_step)
        opened.verify()
        found = _in_our_format(opened, layout.all_classes)
        share = share or _recorded_share(opened)
    share = None if share == 1 else share
    checks = tuple(_check_partition(layout, part, found[part], share) for part in PARTITIONS)
    siblings = listed_siblings(layout.root / "class-split" / f"{split}_split")
    return CheckReport(benchmark, path, split, checks, siblings)


def _recorded_share(features: Features) -> float | None:
    """The share of the clips that features say they have; None where they say nothing."""
    share = features.provenance.get("clips_share")
    return float(share) if isinstance(share, float) and 0 < share <= 1 else None


@dataclass(frozen=True)
class _Found:
    """Names of the clips of a class in a partition: with both modalities, and in one file only."""

    clips: Sequence[str] = ()
    audio_only: tuple[str, ...] = ()
    video_only: tuple[str, ...] = ()


_Inventory = dict[str, dict[str, _Found]]  # partition -> class -> clips


def _in_our_format(features: Features, all_classes: Sequence[str]) -> _Inventory:
    spelling = Spelling(all_classes)
    classes = [spelling.find(name) or name for name in features.classes]
    names: dict[tuple[int, int], list[str]] = defaultdict(list)
    rows = zip(features.partitions.tolist(), features.labels.tolist(), features.names, strict=True)
    for partition, label, name in rows:
        names[partition, label].append(name)
    inventory: _Inventory = {partition: {} for partition in PARTITIONS}
    for (partition, label), clips in names.items():
        if partition >= 0:
            inventory[PARTITIONS[partition]][classes[label]] = _Found(clips)
    return inventory


def _in_class_files(folder: Path, all_classes: Sequence[str]) -> _Inventory:
    """Read the official files one at a time; only the names are kept."""
    spelling = Spelling(all_classes)
    inventory: _Inventory = {}
    for partition in PARTITIONS:
        audio, video = (
            _class_files(folder / modality / partition, spelling) for modality in ("audio", "video")
        )
        inventory[partition] = {
            name: _paired(_clip_names(audio.get(name)), _clip_names(video.get(name)))
            for name in sorted(audio.keys() | video.keys())
        }
    return inventory


def _class_files(folder: Path, spelling: Spelling) -> dict[str, Path]:
    return {spelling.find(stem) or stem: path for stem, path in class_files(folder).items()}


def _clip_names(path: Path | None) -> tuple[str, ...]:
    return () if path is None else read_class_file(path).names


def _paired(audio: Sequence[str], video: Sequence[str]) -> _Found:
    heard, seen = set(audio), set(video)
    return _Found(
        [name for name in audio if name in seen], tuple(sorted(heard - seen)), tuple(sorted(seen - heard))
    )


@dataclass(frozen=True)
class _Expected:
    """Expected classes and clips of a partition; ``None`` where they are not known."""

    classes: tuple[str, ...]
    clips: int | None
    class_clips: Mapping[str, int] | None
    names: Mapping[str, Sequence[str]] | None
    source: str


def _expected(layout: Layout, partition: str) -> _Expected:
    classes = layout.partition_classes[partition]
    names = _listed_clips(layout, partition)
    if layout.facts is not None:
        return _Expected(
            layout.facts.partition_classes(partition, layout.split),
            layout.facts.clips(partition, layout.split),
            layout.facts.class_clips.get(partition),
            names,
            "as published",
        )
    if names is None:
        return _Expected(classes, None, None, None, "class list")
    counts = {name: len(names.get(name, ())) for name in classes}
    return _Expected(classes, sum(counts.values()), counts, names, "lists of the folder")


def _listed_clips(layout: Layout, partition: str) -> Mapping[str, Sequence[str]] | None:
    """Read the lists of clips by class; a folder without those of ``cls`` has them in those of ``main``."""
    for split in dict.fromkeys((layout.split, "main")):
        path = layout.root / "class-split" / f"{split}_split" / f"{partition}.csv"
        if path.is_file():
            spelling = Spelling(layout.all_classes)
            listed: dict[str, list[str]] = defaultdict(list)
            for clip, name in read_clip_list(path):
                listed[spelling.find(name) or name].append(clip)
            return listed
    return None


def _check_partition(
    layout: Layout, partition: str, found: Mapping[str, _Found], share: float | None
) -> PartitionCheck:
    expected = _expected(layout, partition)
    of_other_split = set(_main_classes(layout, partition)) - set(expected.classes)
    names = sorted({*expected.classes, *found} - of_other_split)
    differences = [_difference(partition, name, found.get(name, _Found()), expected, share) for name in names]
    counts = {name: len(found.get(name, _Found()).clips) for name in expected.classes}
    return PartitionCheck(
        partition=partition,
        classes=sum(1 for name in expected.classes if counts[name]),
        expected_classes=len(expected.classes),
        clips=sum(counts.values()),
        expected_clips=expected.clips,
        source=expected.source,
        class_list=_list_differences(layout.partition_classes[partition], expected.classes),
        differences=tuple(difference for difference in differences if difference),
        share=share,
    )


def _main_classes(layout: Layout, partition: str) -> Sequence[str]:
    """Return the classes of the partition in ``main``, which features have even where ``cls`` has fewer."""
    if layout.facts is not None:
        return layout.facts.partition_classes(partition, "main")
    if not (layout.root / "class-split" / "main_split").is_dir():
        return ()
    return Layout.find(layout.root, layout.name, "main").partition_classes[partition]


def _list_differences(listed: Sequence[str], expected: Sequence[str]) -> tuple[str, ...]:
    lacking = [f"class list lacks {name}" for name in sorted(set(expected) - set(listed))]
    return (*lacking, *(f"class list has {name} too" for name in sorted(set(listed) - set(expected))))


def _difference(
    partition: str, name: str, found: _Found, expected: _Expected, share: float | None
) -> Difference | None:
    """Compare one class; None where it is as expected."""
    missing: list[str] = []
    surplus: list[str] = []
    if name not in expected.classes:
        count: int | None = 0
    else:
        count = None if expected.class_clips is None else expected.class_clips.get(name, 0)
        if expected.names is not None:
            missing, surplus = _compare(expected.names.get(name, ()), found.clips)
    have = len(found.clips)
    as_it_should = have > 0 if count is None else have == count
    if share is not None and count:
        as_it_should, missing = 0 < have <= count, []
    if as_it_should and not (missing or surplus or found.audio_only or found.video_only):
        return None
    return Difference(
        partition, name, have, count, tuple(missing), tuple(surplus), found.audio_only, found.video_only
    )


def _compare(listed: Sequence[str], found: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the names that are missing, and those that are not listed or there more than once."""
    expected = {clip_key(name): name for name in listed}
    there = Counter(clip_key(name) for name in found)
    missing = sorted(name for key, name in expected.items() if key not in there)
    return missing, sorted((there - Counter(expected.keys())).elements())
