"""Groups of clips that belong together, such as those of one recording or of one object.

A split keeps a group on one side: else a clip of the test has a sibling in training. Groups are known from
features (``sacma extract`` of a table with a column ``group``), from a column ``group`` of the lists of clips
in ``class-split/``, or from a table of one's own. Parts of one file are a group in any case.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from sacma.data.class_lists import PARTITIONS, clip_key
from sacma.data.features import Features
from sacma.errors import SacmaError
from sacma.files import MOST_TABLE, read_text

Groups = Mapping[tuple[str, str], str]
"""Class in lower case and ``clip_key`` of a clip -> its group."""


def recordings(features: Features) -> list[str]:
    """Recording of each clip: its group, or else the file that it is a part of."""
    pairs = zip(features.groups(), features.names, strict=True)
    return [f"file {file_of(name)}" if group is None else f"group {group}" for group, name in pairs]


def file_of(clip: str) -> str:
    """The file that a clip is a part of: what stands before ``@START-END``."""
    return re.sub(r"@[\d.e+]+-[\d.e+]*$", "", clip)


def read_groups(path: Path, column: str = "group") -> dict[tuple[str, str], str]:
    """Read groups from a table with the columns ``filename``, ``label`` and that of the groups.

    Raises:
        SacmaError: no such file, or not such a table.
    """
    needed = ("filename", "label", column)
    try:
        rows = csv.DictReader(StringIO(read_text(path, limit=MOST_TABLE), newline=""))
        if missing := [name for name in needed if name not in (rows.fieldnames or ())]:
            raise SacmaError(f"{path}: no column {missing[0]}; expected {', '.join(needed)}")
        cells = ([(row[name] or "").strip() for name in needed] for row in rows)
        return {(label.casefold(), clip_key(name)): group for name, label, group in cells if group}
    except csv.Error as error:
        raise SacmaError(f"{path}: cannot be read as CSV in UTF-8 ({error})") from error


def listed_groups(folder: Path) -> dict[tuple[str, str], str]:
    """Read the groups of the lists of clips in ``class-split/SPLIT_split``; empty where they have none.

    Raises:
        SacmaError: a list with groups is damaged.
    """
    groups: dict[tuple[str, str], str] = {}
    for partition in PARTITIONS:
        groups |= _groups_of(folder / f"{partition}.csv")
    return groups


def _groups_of(path: Path) -> dict[tuple[str, str], str]:
    """Groups of a list of clips; none where there is no list, or it has no such column."""
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        return read_groups(path) if b"group" in file.readline() else {}


@dataclass(frozen=True)
class Siblings:
    """Clips of the test that are not independent of training.

    Attributes:
        test: clips of the test that have a group.
        siblings: those of them whose group has clips in training or validation too.
    """

    test: int = 0
    siblings: int = 0

    def __str__(self) -> str:
        return f"groups: {self.siblings} of {self.test} clips of the test share one with clips of stage 1"


def listed_siblings(folder: Path) -> Siblings:
    """Count clips of the test that share a group with stage 1, by the lists in ``class-split/SPLIT_split``.

    Raises:
        SacmaError: a list with groups is damaged.
    """
    of: dict[str, list[tuple[str, str]]] = {}
    for partition in PARTITIONS:
        groups = _groups_of(folder / f"{partition}.csv")
        of[partition] = [(label, group) for (label, _), group in groups.items()]
    stage_1 = {group for partition in PARTITIONS[:3] for group in of[partition]}
    test = [group for partition in PARTITIONS[3:] for group in of[partition]]
    return Siblings(len(test), sum(group in stage_1 for group in test))


def with_groups(features: Features, groups: Groups, *, source: Path | None = None) -> Features:
    """Return the features with the groups of a table; clips that it does not name keep theirs.

    Args:
        features: the clips.
        groups: as ``read_groups`` gives them.
        source: the table, where it has to name a clip at least.

    Raises:
        SacmaError: the table names no clip of the features.
    """
    if not groups and source is None:
        return features
    labels = [features.classes[label].casefold() for label in features.labels.tolist()]
    keys = zip(labels, map(clip_key, features.names), strict=True)
    found = [groups.get(key) for key in keys]
    if source is not None and not any(found):
        raise SacmaError(f"{source}: names no clip of {features.path} by filename and label; give its table")
    return features.grouped([own or before for own, before in zip(found, features.groups(), strict=True)])
