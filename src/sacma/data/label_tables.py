"""Tables of the right classes of clips that have several: a row for each class of a clip.

The form is that of VGGSounder's ``vggsounder.csv``: columns ``video_id`` and ``label``, and, where known,
``modality``, in which a class can be told: ``A`` audible, ``V`` visible, ``AV`` both.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sacma.data.benchmark import Split
from sacma.data.class_lists import clip_key
from sacma.errors import SacmaError, printable, some_of
from sacma.files import MOST_TABLE, read_text
from sacma.text.names import Spelling

Modality = Literal["all", "audible", "visible"]
CLIP_COLUMNS = ("video_id", "filename", "clip")
_KEPT: Mapping[str, tuple[str, ...]] = {
    "all": ("A", "V", "AV"),
    "audible": ("A", "AV"),
    "visible": ("V", "AV"),
}


@dataclass(frozen=True)
class RightClasses:
    """The right classes of the clips of a split.

    Attributes:
        clips: (M,) int64, rows of the split that have a right class among its candidates.
        right: (M, K) bool.
        unlisted: clips of the split that the table does not have; they keep their one class.
        unknown: labels of the table that are no candidate, in ascending order.
    """

    clips: Tensor
    right: Tensor
    unlisted: int
    unknown: tuple[str, ...]

    @property
    def note(self) -> str:
        """Note for readers of the figures; empty where nothing is special."""
        parts = []
        if self.unlisted:
            parts.append(f"{self.unlisted} clips are not in the table and keep their one class")
        if self.unknown:
            parts.append(f"no candidates, so they are left out: {some_of(self.unknown)}")
        return "; ".join(parts)


def read_labels(path: Path, *, modality: Modality = "all") -> dict[str, tuple[str, ...]]:
    """Read the classes of each clip.

    Args:
        path: of the table.
        modality: ``audible`` or ``visible`` keeps the classes that can be heard or seen.

    Returns:
        ``clip_key`` of a clip -> its classes, in the order of the table.

    Raises:
        SacmaError: no such file, or not such a table.
    """
    try:
        rows = csv.DictReader(StringIO(read_text(path, limit=MOST_TABLE), newline=""))
        columns = rows.fieldnames or []
        name = next((one for one in CLIP_COLUMNS if one in columns), None)
        if name is None or "label" not in columns:
            raise SacmaError(
                f"{path}: columns {some_of([one[:60] for one in columns] or ['none'])}; expected label and "
                f"one of {', '.join(CLIP_COLUMNS)}"
            )
        if modality != "all" and "modality" not in columns:
            raise SacmaError(f"{path}: no column modality, so it does not say what is {modality}")
        found: dict[str, list[str]] = {}
        for row in rows:
            clip, label = (row[name] or "").strip(), (row["label"] or "").strip()
            if not clip or not label:
                raise SacmaError(f"{path}, line {rows.line_num}: no {name} or no label; complete the line")
            kind = (row.get("modality") or "AV").strip().upper()
            if kind not in _KEPT["all"]:
                raise SacmaError(
                    f"{path}, line {rows.line_num}: modality {printable(kind)}; it must be A, V or AV"
                )
            of_clip = found.setdefault(clip_key(clip), [])
            if kind in _KEPT[modality] and label not in of_clip:
                of_clip.append(label)
    except csv.Error as error:
        raise SacmaError(f"{path}: cannot be read as CSV ({error})") from error
    if not found:
        raise SacmaError(f"{path}: no clips in it")
    return {clip: tuple(labels) for clip, labels in found.items()}


def right_classes(split: Split, labels: Mapping[str, tuple[str, ...]], *, source: Path) -> RightClasses:
    """Match a table with a split.

    Args:
        split: N clips and K candidates.
        labels: from ``read_labels``.
        source: of the table, for errors.

    Raises:
        SacmaError: the table has none of the split's clips.
    """
    names = split.classes.names
    spelling, place = Spelling(names), {name: row for row, name in enumerate(names)}
    right = torch.zeros(len(split), len(names), dtype=torch.bool)
    unlisted, unknown = 0, set()
    for row, clip in enumerate(split.clips.tolist()):
        own = labels.get(clip_key(split.features.names[clip]))
        if own is None:
            unlisted += 1
            right[row, split.labels[row]] = True
            continue
        for label in own:
            name = spelling.find(label)
            if name is None:
                unknown.add(label)
            else:
                right[row, place[name]] = True
    if unlisted == len(split):
        example = printable(split.features.names[int(split.clips[0])])
        raise SacmaError(f"{source}: none of the test clips is in it, such as {example}")
    kept = right.any(dim=1).nonzero().squeeze(1)
    return RightClasses(kept, right[kept], unlisted, tuple(sorted(unknown)))
