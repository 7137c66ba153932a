"""Features of clips, read: variable-length audio and visual sequences, memory-mapped and checksummed.

``sacma.data.clips_file`` describes the format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from sacma.data.clips_file import (
    CHUNK,
    CLIPS_FILE,
    INDEX_FILE,
    as_tensor,
    check_structure,
    checksum,
    damaged,
    map_tensors,
    not_finite,
    read_index,
)
from sacma.errors import SacmaError, one_line
from sacma.types import Sequences


class Names(Sequence[str]):
    """Clip names, decoded from the file on access."""

    def __init__(self, text: Tensor, offsets: Tensor) -> None:
        self._text = text  # (bytes,) uint8
        self._offsets = offsets  # (N+1,) int64

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, position: int) -> str: ...
    @overload
    def __getitem__(self, position: slice) -> list[str]: ...
    def __getitem__(self, position: int | slice) -> str | list[str]:
        if isinstance(position, slice):
            return [self[row] for row in range(*position.indices(len(self)))]
        row = range(len(self))[position]
        start, end = self._offsets[row : row + 2].tolist()
        return self._text[start:end].numpy().tobytes().decode("utf-8", "surrogateescape")


@dataclass(frozen=True, eq=False)
class Track:
    """One modality of all N clips. The tensors are a read-only map of the file: copy before changing them.

    Attributes:
        values: (M, D) float32 or float16, the steps of clip 0 first, then those of clip 1, and so on.
        offsets: (N+1,) int64, clip i has the rows from ``offsets[i]`` up to ``offsets[i+1]``; none where it
            lacks the modality.
        step_seconds: seconds from one step to the next.
    """

    values: Tensor
    offsets: Tensor
    step_seconds: float

    @property
    def width(self) -> int:
        """D, the width of a feature vector."""
        return self.values.shape[1]

    @property
    def lengths(self) -> Tensor:
        """(N,) int64, steps of each clip."""
        return self.offsets.diff()

    def lengths_of(self, clips: Tensor) -> Tensor:
        """Return the steps (B,) of the clips at some rows (B,), without reading the others."""
        return self.offsets[clips + 1] - self.offsets[clips]

    def to(self, device: torch.device | str) -> Track:
        """Return the same clips with their values in the memory of a device; offsets stay on the host."""
        return replace(self, values=self.values.to(device))

    def gather(
        self, clips: Tensor, *, starts: Tensor | None = None, lengths: Tensor | None = None
    ) -> Sequences:
        """Copy the sequences of B clips, packed, as float32, on the device of ``values``.

        Args:
            clips: (B,) int64, rows of the set; a clip may come more than once.
            starts: (B,) int64, the step to begin with; by default 0.
            lengths: (B,) int64, steps to take; by default all from ``starts`` on.

        Returns:
            The sequences; seconds count from the first step taken, so they restart at 0 after trimming.

        Raises:
            IndexError: there is no such clip, or a window reaches beyond its clip.
        """
        first = self.offsets[clips]  # (B,)
        available = self.offsets[clips + 1] - first  # (B,)
        starts = torch.zeros_like(first) if starts is None else starts
        lengths = available - starts if lengths is None else lengths
        if bool(((starts < 0) | (lengths < 0) | (starts + lengths > available) | (clips < 0)).any()):
            raise IndexError("a window reaches beyond its clip")
        rows = torch.repeat_interleave(first + starts, lengths)  # (S,)
        begins = lengths.cumsum(0) - lengths  # (B,)
        step = torch.arange(len(rows)) - torch.repeat_interleave(begins, lengths)  # (S,)
        taken = (rows + step).to(self.values.device, non_blocking=True)
        values = self.values.index_select(0, taken).float()  # (S, D)
        longest = int(lengths.max()) if len(lengths) else 0
        return Sequences(values, lengths, step.float() * self.step_seconds, longest)


@dataclass(frozen=True, eq=False)
class Features:
    """An open set of N clips. Values are read on access only.

    Attributes:
        path: the folder of the two files.
        classes: names of the classes.
        labels: (N,) int64, position of each clip's class in ``classes``.
        partitions: (N,) int8, position of each clip's partition in ``PARTITIONS``, -1 for none.
        names: the N names of the clips.
        audio: audio features.
        video: visual features.
        provenance: origin of the features, as the writer stored it.
        group: (N,) int64, position of each clip's group in ``group_names``, -1 for none; None where no
            groups are known. Clips of a group belong together, such as those of one recording or object.
        group_names: names of the groups.
    """

    path: Path
    classes: tuple[str, ...]
    labels: Tensor
    partitions: Tensor
    names: Names
    audio: Track
    video: Track
    provenance: dict[str, Any]
    group: Tensor | None = None
    group_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def groups(self) -> list[str | None]:
        """Name of each clip's group, None where it is not known."""
        if self.group is None:
            return [None] * len(self)
        return [self.group_names[place] if place >= 0 else None for place in self.group.tolist()]

    def grouped(self, groups: Sequence[str | None]) -> Features:
        """Return the same clips with other groups, one a clip, None where it is not known."""
        names = tuple(dict.fromkeys(name for name in groups if name is not None))
        place: dict[str | None, int] = {name: row for row, name in enumerate(names)}
        group = torch.tensor([place.get(name, -1) for name in groups], dtype=torch.int64)
        return replace(self, group=group if names else None, group_names=names)

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker process maps the file again; pickling the tensors would copy all of it.
        return Features.open, (self.path,)

    @classmethod
    def open(cls, folder: str | Path) -> Features:
        """Open the set in ``folder``.

        Raises:
            SacmaError: a file is missing, damaged, not of this format or of a newer version.
        """
        folder = Path(folder)
        index = read_index(folder)
        path = folder / CLIPS_FILE
        mapped = {name: as_tensor(array) for name, array in map_tensors(path).items()}
        try:
            classes = tuple(index["classes"])
            tracks = {
                modality: Track(
                    mapped[f"{modality}.values"],
                    mapped[f"{modality}.offsets"],
                    float(index[modality]["step_seconds"]),
                )
                for modality in ("audio", "video")
            }
            provenance = dict(index["provenance"])
            group_names = tuple(index.get("groups", ()))
            check_structure(mapped, index)
            for modality, track in tracks.items():
                if not 0 < track.step_seconds < float("inf"):
                    raise ValueError(f"a step of {modality} is not a number of seconds above 0")
        except (IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise damaged(folder / INDEX_FILE, one_line(error)) from error
        names = Names(mapped["name.bytes"], mapped["name.offsets"])
        return cls(
            folder,
            classes,
            mapped["label"],
            mapped["partition"],
            names,
            provenance=provenance,
            group=mapped.get("group"),
            group_names=group_names,
            **tracks,
        )

    def verify(self) -> None:
        """Read the whole file: compare each tensor with its checksum and look for NaN and infinite values.

        Raises:
            SacmaError: a tensor is not what was written, or a clip (named, with its class) has such values.
        """
        path = self.path / CLIPS_FILE
        checksums = read_index(self.path).get("sha256", {})
        for name, array in map_tensors(path).items():
            if checksum(array) != checksums.get(name):
                raise SacmaError(
                    f"{path}: the checksum of {name} does not match {INDEX_FILE}, so the file was changed or "
                    "damaged; write or copy it again"
                )
        for modality, track in (("audio", self.audio), ("video", self.video)):
            self._check_finite(modality, track)

    def _check_finite(self, modality: str, track: Track) -> None:
        rows = max(1, CHUNK // (4 * track.width))
        for begin in range(0, len(track.values), rows):
            finite = torch.isfinite(track.values[begin : begin + rows]).all(dim=1)
            if not bool(finite.all()):
                row = begin + int((~finite).nonzero()[0])
                clip = int(torch.searchsorted(track.offsets, row, right=True)) - 1
                step = row - int(track.offsets[clip])
                raise SacmaError(
                    f"{self.path / CLIPS_FILE}: "
                    + not_finite(self.names[clip], self.classes[int(self.labels[clip])], modality, step)
                )
