"""The topics of YouTube-8M that are classes of a benchmark, and the part of the class split that each is in.

There are three sets: ``yt8m``, 89 topics and 10,529 videos listed one by one; ``yt8m-large``, drawn from
Google's table of topics by the rule at ``large_topics``; and a list of one's own.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from io import StringIO
from pathlib import Path

from sacma.errors import SacmaError, printable
from sacma.files import MOST_TABLE, read_text
from sacma.text.names import normal

NAME, LARGE = "yt8m", "yt8m-large"
PARTS = ("train", "val_unseen", "test_unseen")
# Game, Video game, Cartoon, Animation and Trailer (promotion): what is seen and heard there is made up.
EXCLUDED = frozenset({0, 1, 5, 16, 25})

_SHARES = {"test_unseen": 16 / 89, "val_unseen": 20 / 89}  # those of the 89 topics
_LEAST = 4
_COLUMNS = ("Index", "TrainVideoCount", "KnowledgeGraphId", "Name", "Vertical1", "WikiDescription")
_LARGE_VERTICALS = frozenset(
    {
        "Autos & Vehicles",
        "Beauty & Fitness",
        "Food & Drink",
        "Hobbies & Leisure",
        "Home & Garden",
        "Pets & Animals",
        "Sports",
    }
)
_LARGE_ARTS = re.compile(r"\b(musical instrument|percussion|dance)")
_LARGE_VIDEOS = (1_000, 20_000)


@dataclass(frozen=True)
class Topic:
    """A topic that is a class.

    Attributes:
        name: of the class.
        text_name: what its class vector is made of.
        label: its number in the shards, ``Index`` in Google's table.
        part: ``train``, ``val_unseen`` or ``test_unseen``.
    """

    name: str
    text_name: str
    label: int
    part: str


@dataclass(frozen=True)
class TopicSet:
    """The classes of a benchmark.

    Attributes:
        name: of the benchmark.
        topics: its classes, in ascending order of names.
        rule: how they were chosen and split, in words.
        videos: video -> class and partition, where only listed videos are taken; None where a rule decides.
    """

    name: str
    topics: tuple[Topic, ...]
    rule: str
    videos: Mapping[str, tuple[str, str]] | None = None


def topic_set(given: str, vocabulary: Path | None = None) -> TopicSet:
    """The set of a name or of a file.

    Args:
        given: ``yt8m``, ``yt8m-large``, or a CSV file as ``read_topics`` reads it.
        vocabulary: Google's table of topics, ``vocabulary.csv``; ``yt8m`` needs none.

    Raises:
        SacmaError: a file is missing or not what it should be, or the table is needed and not given.
    """
    if given == NAME:
        return listed_topics()
    if given != LARGE and not Path(given).is_file():
        raise SacmaError(f"--topics {given}: no such file; give {NAME}, {LARGE} or a CSV file of topics")
    if vocabulary is None:
        raise SacmaError(
            f"--topics {given} needs --vocabulary vocabulary.csv, Google's table of topics; "
            "docs/howto/youtube8m.md says where it is"
        )
    known = read_vocabulary(vocabulary)
    return large_topics(known) if given == LARGE else read_topics(Path(given), known)


@cache
def listed_topics() -> TopicSet:
    """The 89 topics, with the list of their 10,529 videos."""
    folder = resources.files("sacma.data") / "facts"
    rows = csv.DictReader((folder / f"{NAME}.csv").read_text(encoding="utf-8").splitlines())
    topics = tuple(Topic(row["class"], row["text_name"], int(row["label"]), row["part"]) for row in rows)
    lists = csv.DictReader((folder / f"{NAME}_videos.csv").read_text(encoding="utf-8").splitlines())
    videos = {video: (row["class"], row["partition"]) for row in lists for video in row["videos"].split()}
    return TopicSet(NAME, topics, "89 topics and their videos, listed one by one", videos)


# --- Google's table ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """A line of Google's table of topics.

    Attributes:
        label: its number in the shards.
        videos: training videos that carry it.
        name: title of its Wikipedia article; empty for a few topics.
        vertical: the first of its groups.
        description: how its Wikipedia article begins.
    """

    label: int
    videos: int
    name: str
    vertical: str
    description: str


def read_vocabulary(path: Path) -> tuple[Entry, ...]:
    """Read ``vocabulary.csv`` of the 2018 release.

    Raises:
        SacmaError: it cannot be read, lacks a column, or a line is not as it should be.
    """
    try:
        rows = csv.DictReader(StringIO(read_text(path, limit=MOST_TABLE), newline=""))
        if missing := [column for column in _COLUMNS if column not in (rows.fieldnames or ())]:
            raise SacmaError(f"{path}: no column {missing[0]}; expected Google's vocabulary.csv of 2018")
        entries = tuple(_entry(row) for row in rows)
    except (OSError, ValueError, csv.Error) as error:
        raise SacmaError(f"{path}: cannot be read as Google's vocabulary.csv ({error}); fetch it") from error
    if len({entry.label for entry in entries}) != len(entries) or not entries:
        raise SacmaError(f"{path}: {len(entries)} topics, some with the same number or none; fetch it again")
    return entries


def _entry(row: Mapping[str, str | None]) -> Entry:
    text = {column: row[column] or "" for column in _COLUMNS}
    return Entry(
        int(text["Index"]),
        int(text["TrainVideoCount"]),
        text["Name"].strip(),
        text["Vertical1"].strip(),
        text["WikiDescription"],
    )


def large_topics(vocabulary: Sequence[Entry]) -> TopicSet:
    """Topics of things and activities that are neither rare nor general, by a rule without a choice.

    A topic is taken if it has 1,000 to 20,000 training videos; if its first vertical is one of vehicles,
    beauty and fitness, food, hobbies, home, animals and sports, or it is of arts and its description speaks
    of a musical instrument, percussion or a dance; and if its name is no proper name, that is, has no capital
    letter and no digit after its first letter. The class split is drawn as ``draw_parts`` says.

    Raises:
        SacmaError: the table has too few such topics.
    """
    low, high = _LARGE_VIDEOS
    taken = [entry for entry in vocabulary if low <= entry.videos <= high and _is_thing(entry)]
    rule = f"topics with {low:,} to {high:,} training videos, by sacma's rule yt8m-large"
    return _drawn(LARGE, taken, {}, rule)


def _is_thing(entry: Entry) -> bool:
    subject = entry.vertical in _LARGE_VERTICALS or (
        entry.vertical == "Arts & Entertainment" and bool(_LARGE_ARTS.search(entry.description))
    )
    plain = bool(entry.name) and not re.search(r"[A-Z0-9]", entry.name[1:]) and entry.name[0].isalpha()
    return subject and plain and entry.label not in EXCLUDED


def read_topics(path: Path, vocabulary: Sequence[Entry]) -> TopicSet:
    """Read a list of one's own: a CSV file with the column ``topic`` and, if it is to decide, ``part``.

    ``topic`` is a name in Google's table, whatever its case, or a number there; ``part`` is ``train``,
    ``val_unseen`` or ``test_unseen``. Topics without a part get one as ``draw_parts`` says.

    Raises:
        SacmaError: it cannot be read, or a line names no topic, one twice, or no part.
    """
    try:
        table = StringIO(read_text(path, limit=MOST_TABLE), newline="")
        rows = [(line, row) for line, row in enumerate(csv.DictReader(table), start=2)]
    except (OSError, ValueError, csv.Error) as error:
        raise SacmaError(f"{path}: cannot be read as CSV ({error})") from error
    known = {normal(entry.name): entry for entry in vocabulary if entry.name}
    known |= {str(entry.label): entry for entry in vocabulary}
    taken: dict[int, Entry] = {}
    parts: dict[int, str] = {}
    for line, row in rows:
        topic, part = (row.get("topic") or "").strip(), (row.get("part") or "").strip()
        entry = known.get(topic) or known.get(normal(topic))
        if entry is None:
            raise SacmaError(
                f"{path}, line {line}: no topic {printable(topic)} in the table of topics; correct it"
            )
        if entry.label in taken:
            raise SacmaError(f"{path}, line {line}: topic {printable(topic)} is there twice; name it once")
        if part not in ("", *PARTS):
            raise SacmaError(
                f"{path}, line {line}: part {printable(part)}; it must be {', '.join(PARTS)} or empty"
            )
        taken[entry.label] = entry
        if part:
            parts[entry.label] = part
    return _drawn(path.stem, list(taken.values()), parts, f"topics of {path.name}")


def _drawn(name: str, entries: Sequence[Entry], parts: Mapping[int, str], rule: str) -> TopicSet:
    if len(entries) < _LEAST:
        raise SacmaError(f"{len(entries)} topics; a benchmark needs at least {_LEAST}")
    parts = draw_parts([entry.label for entry in entries], parts)
    for part, least in zip(PARTS, (2, 1, 1), strict=True):
        if sum(where == part for where in parts.values()) < least:
            raise SacmaError(f"{name}: fewer than {least} topics in part {part}; add some")
    topics = [Topic(*_names(entry), entry.label, parts[entry.label]) for entry in entries]
    if len({topic.name for topic in topics}) < len(topics):
        raise SacmaError(f"{name}: two topics have the same name without brackets; leave one out")
    return TopicSet(name, tuple(sorted(topics, key=lambda topic: topic.name)), rule)


def draw_parts(labels: Sequence[int], given: Mapping[int, str]) -> dict[int, str]:
    """Label -> part: as given, the others in the order of the SHA-256 of ``yt8m-gzsl:LABEL``.

    Of all topics, 16 of 89 are unseen in the test and 20 of 89 unseen in validation; those given count.
    """
    order = sorted(
        (label for label in labels if label not in given),
        key=lambda label: hashlib.sha256(f"yt8m-gzsl:{label}".encode()).digest(),
    )
    parts = dict(given)
    for part, share in _SHARES.items():
        there = sum(where == part for where in parts.values())
        wanted = max(0, max(1, round(share * len(labels))) - there)
        parts |= dict.fromkeys(order[:wanted], part)
        order = order[wanted:]
    return parts | dict.fromkeys(order, "train")


def _names(entry: Entry) -> tuple[str, str]:
    """Class name and text name of a topic: ``Drifting (motorsport)`` -> ``Drifting_motorsport``."""
    text = " ".join(re.sub(r"[^\w\s-]", "", entry.name or f"topic {entry.label}").split())
    return text.replace(" ", "_"), text
