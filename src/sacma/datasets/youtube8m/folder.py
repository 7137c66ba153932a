"""Shards of YouTube-8M -> a benchmark folder in our format, streamed, resumable, one shard a commit.

A video is kept if it carries exactly one of the topics and none of those excluded, up to a number a class,
in the order of the shards' names. Of a class that is trained on, every tenth video is for the test; of one
that stage 1 trains on, every tenth other is for validation. ``yt8m`` itself takes its listed videos alone.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sacma.data.class_lists import PARTITIONS, write_class_split
from sacma.data.clips_file import INDEX_FILE
from sacma.data.features import Features
from sacma.data.features_writer import FeaturesWriter
from sacma.datasets.youtube8m.topics import EXCLUDED, Topic, TopicSet
from sacma.datasets.youtube8m.videos import WIDTHS, Video, videos
from sacma.errors import SacmaError, printable
from sacma.files import replacing, write_text
from sacma.text.encoders import open_encoder
from sacma.text.vectors import TextTable

FOLDERS = {"video": "yt8m_video_level", "frame": "yt8m_frame_level"}
STEP_SECONDS = 1.0
NOTICE = """Features of YouTube-8M (2018 release), https://research.google.com/youtube8m/, Google LLC,
licensed under CC BY 4.0, https://creativecommons.org/licenses/by/4.0/.
Changed: videos chosen and split as "provenance" in clips.json says; 8-bit values mapped back.
"""

_TRAIN, _VAL_SEEN, _VAL_UNSEEN, _TEST_SEEN, _TEST_UNSEEN = PARTITIONS
# Stored as they come: means are float32, and half precision tells 8-bit values apart.
_DTYPES = {"video": torch.float32, "frame": torch.float16}


@dataclass(frozen=True)
class Converted:
    """Result of a conversion.

    Attributes:
        root: the folder with ``class-split/`` and ``features/``.
        name: of the benchmark.
        features: the folder under ``features/``.
        clips: partition -> its number of clips.
        without_videos: topics that no video was found for.
        not_found: how many of the listed videos the shards do not have; 0 where a rule decides.
        skipped: what was wrong with the shards that were left out.
    """

    root: Path
    name: str
    features: str
    clips: Mapping[str, int]
    without_videos: tuple[str, ...]
    not_found: int
    skipped: tuple[str, ...]


def convert(
    shards: Path,
    out: Path,
    topics: TopicSet,
    *,
    encoder: Mapping[str, Any],
    per_class: int = 400,
    keep_going: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Make a benchmark folder; when it is interrupted, the next call goes on after the last whole shard.

    Args:
        shards: a folder of ``*.tfrecord`` files, at any depth, or one such file; all at one level.
        out: the folder to make.
        topics: which topics are classes.
        encoder: text encoder of the class vectors, as ``open_encoder`` takes it.
        per_class: most videos of a class, where a rule decides.
        keep_going: leave out shards that cannot be used and topics without videos, and name them.
        on_progress: called with the shards done and all.

    Raises:
        SacmaError: a shard cannot be used, topics have no videos, listed videos are not there (these three
            unless ``keep_going``), the disk is full, or ``out`` is taken.
    """
    if per_class < 3:
        raise SacmaError(f"{per_class} videos a class; at least 3 are needed to train, validate and test")
    if (out / "class-split").exists():
        raise SacmaError(f"{out} holds a benchmark already; choose another place")
    files = find_shards(shards)
    skipped: dict[Path, str] = {}
    level = _level(files, keep_going, skipped)
    folder = out / "features" / FOLDERS[level]
    opened = open_encoder(encoder)
    texts = tuple(dict.fromkeys(topic.text_name for topic in topics.topics))
    table = TextTable(texts, opened(texts), f"class vectors of {topics.name}", opened.provenance)
    if not (folder / INDEX_FILE).is_file():
        with _writer(folder, topics, level, per_class) as writer:
            intake = _Intake(writer, topics, level, per_class, keep_going, skipped)
            for done, file in enumerate(files):
                if on_progress:
                    on_progress(done, len(files))
                if file not in skipped and file.name not in writer.committed:
                    intake.add(file)
            if not keep_going:
                _complete(topics, [label for _, label, _ in writer.added])
    return _finish(out, topics, level, table, tuple(skipped.values()))


def find_shards(given: Path) -> list[Path]:
    """The shards in a folder, in the order of their names.

    Raises:
        SacmaError: there are none, or two have the same name.
    """
    if given.is_file():
        return [given]
    files = sorted(given.rglob("*.tfrecord"), key=lambda path: (path.name, path))
    if not files:
        raise SacmaError(
            f"{given}: no such file, or no *.tfrecord files in it; "
            "docs/howto/youtube8m.md says how to fetch them"
        )
    twice = [name for name, times in Counter(file.name for file in files).items() if times > 1]
    if twice:
        raise SacmaError(f"{given}: {twice[0]} is there more than once; give each shard once")
    return files


def _level(files: Iterable[Path], keep_going: bool, skipped: dict[Path, str]) -> str:
    """The level of the first shard that can be used."""
    for file in files:
        try:
            return next(videos(file)).level
        except SacmaError as error:
            if not keep_going:
                raise
            skipped[file] = str(error)
    raise SacmaError(f"none of the {len(skipped)} shards can be used; first: {next(iter(skipped.values()))}")


def _writer(folder: Path, topics: TopicSet, level: str, per_class: int) -> FeaturesWriter:
    """A writer that goes on where one of the same choices stopped."""
    videos_kept = "listed" if topics.videos else f"exactly one topic, at most {per_class} a class"
    writer = FeaturesWriter(
        folder,
        [topic.name for topic in topics.topics],
        audio_width=WIDTHS["audio"],
        video_width=WIDTHS["video"],
        audio_step=STEP_SECONDS,
        video_step=STEP_SECONDS,
        provenance={
            "source": "YouTube-8M, 2018 release, https://research.google.com/youtube8m/",
            "licence": "CC BY 4.0, Google LLC",
            "level": level,
            "topics": topics.rule,
            "videos": videos_kept,
        },
        dtype=_DTYPES[level],
        resume=True,
    )
    # What decides which videos are kept is the key of the first commit.
    chosen = json.dumps([videos_kept, [[topic.name, topic.label, topic.part] for topic in topics.topics]])
    if writer.committed[:1] != (chosen,):
        writer.rewind(0)
        writer.commit(chosen)
    return writer


class _Intake:
    """Adds shards to a writer: the videos that are wanted, and a commit a shard."""

    def __init__(
        self,
        writer: FeaturesWriter,
        topics: TopicSet,
        level: str,
        per_class: int,
        keep_going: bool,
        skipped: dict[Path, str],
    ) -> None:
        self._writer = writer
        self._level = level
        self._keep_going = keep_going
        self._skipped = skipped
        self._choose = lambda: _Choice(topics, per_class, writer.added)
        self._choice = self._choose()

    def add(self, file: Path) -> None:
        """Add a shard, or nothing of it.

        Raises:
            SacmaError: it cannot be used, unless it is to be left out then.
        """
        try:
            for video in videos(file):
                self._add_video(file, video)
        except SacmaError as error:
            if not self._keep_going:
                raise
            self._skipped[file] = str(error)
            self._writer.rewind(len(self._writer.committed))
            self._choice = self._choose()
        else:
            self._writer.commit(file.name)

    def _add_video(self, file: Path, video: Video) -> None:
        if video.level != self._level:
            raise SacmaError(
                f"{file}: at {video.level} level, but the first shard is at {self._level} level; convert "
                "them apart"
            )
        try:
            if (place := self._choice.place(video)) is not None:
                label, partition = place
                audio, picture = video.features("audio"), video.features("video")
                self._writer.add(video.name, label, PARTITIONS.index(partition), audio, picture)
        except ValueError as error:
            raise SacmaError(
                f"{file}: video {printable(video.name)}: {error}; fetch the shard again"
            ) from error
        except SacmaError as error:
            raise SacmaError(f"{file}: {error}") from error


class _Choice:
    """Decides which videos are kept, and for which partition; it counts what was kept."""

    def __init__(self, topics: TopicSet, per_class: int, kept: Iterable[tuple[str, int, int]]) -> None:
        self._topics = topics
        self._per_class = per_class
        self._row_of = {topic.label: row for row, topic in enumerate(topics.topics)}
        self._listed = {topic.name: row for row, topic in enumerate(topics.topics)}
        self._names: set[str] = set()
        self._counts: Counter[int] = Counter()
        for name, row, _ in kept:
            self._keep(name, row)

    def place(self, video: Video) -> tuple[int, str] | None:
        """Row of the class and name of the partition; None for a video that is not kept.

        Raises:
            ValueError: the video is there twice, or it is listed for a topic that it does not carry.
        """
        place = self._by_rule(video) if self._topics.videos is None else self._by_list(video)
        if place is not None:
            if video.name in self._names:
                raise ValueError("it is there twice")
            self._keep(video.name, place[0])
        return place

    def _by_list(self, video: Video) -> tuple[int, str] | None:
        listed = (self._topics.videos or {}).get(video.name)
        if listed is None:
            return None
        row = self._listed[listed[0]]
        label = self._topics.topics[row].label
        if label not in video.labels:
            raise ValueError(f"it is listed as {listed[0]} but lacks label {label}; use the 2018 release")
        return row, listed[1]

    def _by_rule(self, video: Video) -> tuple[int, str] | None:
        rows = {self._row_of[label] for label in video.labels if label in self._row_of}
        if len(rows) != 1 or EXCLUDED & set(video.labels):
            return None
        (row,) = rows
        count = self._counts[row]
        return None if count >= self._per_class else (row, _partition(self._topics.topics[row], count))

    def _keep(self, name: str, row: int) -> None:
        self._names.add(name)
        self._counts[row] += 1


def _partition(topic: Topic, count: int) -> str:
    """The partition of a video of a topic that has ``count`` before it."""
    if topic.part == "test_unseen":
        return _TEST_UNSEEN
    if count % 10 == 1:
        return _TEST_SEEN
    if topic.part == "val_unseen":
        return _VAL_UNSEEN
    return _VAL_SEEN if count % 10 == 2 else _TRAIN


def _missing(topics: TopicSet, labels: Sequence[int]) -> tuple[tuple[str, ...], int]:
    """Topics that have no videos, and the number of listed videos that are not there."""
    present = set(labels)
    without = tuple(topic.name for row, topic in enumerate(topics.topics) if row not in present)
    return without, len(topics.videos) - len(labels) if topics.videos else 0


def _complete(topics: TopicSet, labels: Sequence[int]) -> None:
    without, not_found = _missing(topics, labels)
    advice = "give the other shards too, or --keep-going to go without"
    if without:
        more = f" and {len(without) - 8} more" if len(without) > 8 else ""
        raise SacmaError(f"{topics.name}: no videos of {', '.join(without[:8])}{more}; {advice}")
    if not_found:
        raise SacmaError(
            f"{topics.name}: {not_found} of the {len(topics.videos or ())} listed videos are not in the "
            f"shards; they are of the validation part; {advice}"
        )


def _finish(out: Path, topics: TopicSet, level: str, table: TextTable, skipped: tuple[str, ...]) -> Converted:
    """Write class vectors, class lists and notice beside the clips; the class lists come last."""
    folder = out / "features" / FOLDERS[level]
    features = Features.open(folder)
    rows = zip(features.names, features.labels.tolist(), features.partitions.tolist(), strict=True)
    clips = [(name, features.classes[label], PARTITIONS[part]) for name, label, part in rows]
    table.write(folder / "text" / f"word_embeddings_{topics.name}_normed.npz")
    write_text(out / "NOTICE.txt", NOTICE)
    text_names = {topic.name: topic.text_name for topic in topics.topics}
    with replacing(out / "class-split") as partial:
        write_class_split(partial, topics.name, text_names, clips)
    counts = Counter(part for _, _, part in clips)
    without, not_found = _missing(topics, features.labels.tolist())
    return Converted(
        out,
        topics.name,
        FOLDERS[level],
        {part: counts[part] for part in PARTITIONS},
        without,
        not_found,
        skipped,
    )
