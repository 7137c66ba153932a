"""Features on disk: variable-length audio and visual sequences of many clips, memory-mapped and checksummed.

A set is two files in one folder. ``clips.safetensors`` holds the steps of all clips one after another, with
the offsets that tell clips apart, labels, partitions and names; ``clips.json`` holds the class names, the
length of a step, where the features come from and a checksum of each tensor. It is written last: a folder
without it is not finished. The format is that of https://github.com/huggingface/safetensors: 8 bytes with the
length of a JSON header, the header, the tensors.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sacma.data.class_lists import PARTITIONS
from sacma.errors import SacmaError
from sacma.files import remove, write_text
from sacma.types import Sequences

CLIPS_FILE = "clips.safetensors"
INDEX_FILE = "clips.json"
FORMAT = "sacma-clips"
VERSION = 1

Steps = Tensor | NDArray[Any]

_DTYPES: Mapping[str, np.dtype[Any]] = {
    code: np.dtype(kind)
    for code, kind in {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I8": "i1", "U8": "u1"}.items()
}
_STORED: Mapping[torch.dtype, np.dtype[Any]] = {torch.float32: _DTYPES["F32"], torch.float16: _DTYPES["F16"]}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
# Tensor -> its dtypes and number of dimensions.
_TENSORS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "video.values": (("F32", "F16"), 2),
    "audio.values": (("F32", "F16"), 2),
    "name.bytes": (("U8",), 1),
    "video.offsets": (("I64",), 1),
    "audio.offsets": (("I64",), 1),
    "name.offsets": (("I64",), 1),
    "label": (("I64",), 1),
    "partition": (("I8",), 1),
}
_CHUNK = 1 << 24  # bytes read at once where a whole file is gone through


# --- Reading ------------------------------------------------------------------------------------------


class Names(Sequence[str]):
    """Clip names, decoded from the file when asked for."""

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
        """(B,) steps of some clips, by their rows (B,), without looking at the others."""
        return self.offsets[clips + 1] - self.offsets[clips]

    def to(self, device: torch.device | str) -> Track:
        """The same clips with their steps in the memory of a device; offsets stay with the host."""
        return replace(self, values=self.values.to(device))

    def gather(
        self, clips: Tensor, *, starts: Tensor | None = None, lengths: Tensor | None = None
    ) -> Sequences:
        """Copy the sequences of B clips out of the file, float32, packed; to where ``values`` are.

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
    """A set of N clips, opened. Nothing but offsets, labels and names is read before it is asked for.

    Attributes:
        path: the folder of the two files.
        classes: names of the classes.
        labels: (N,) int64, position of each clip's class in ``classes``.
        partitions: (N,) int8, position of each clip's partition in ``PARTITIONS``, -1 for none.
        names: the N names of the clips.
        audio: audio features.
        video: visual features.
        provenance: where the features come from, as the writer put it.
    """

    path: Path
    classes: tuple[str, ...]
    labels: Tensor
    partitions: Tensor
    names: Names
    audio: Track
    video: Track
    provenance: dict[str, Any]

    def __len__(self) -> int:
        return len(self.labels)

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
        index = _read_index(folder)
        path = folder / CLIPS_FILE
        mapped = {name: _tensor(array) for name, array in _map(path).items()}
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
            _check_structure(mapped, index)
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise _damaged(folder / INDEX_FILE, repr(error)) from error
        names = Names(mapped["name.bytes"], mapped["name.offsets"])
        return cls(
            folder, classes, mapped["label"], mapped["partition"], names, provenance=provenance, **tracks
        )

    def verify(self) -> None:
        """Read the whole file: compare each tensor with its checksum and look for NaN and infinite values.

        Raises:
            SacmaError: a tensor is not what was written, or a clip (named, with its class) has such values.
        """
        path = self.path / CLIPS_FILE
        checksums = _read_index(self.path).get("sha256", {})
        for name, array in _map(path).items():
            if _checksum(array) != checksums.get(name):
                raise SacmaError(
                    f"{path}: the checksum of {name} does not match {INDEX_FILE}, so the file was changed or "
                    "damaged; write or copy it again"
                )
        for modality, track in (("audio", self.audio), ("video", self.video)):
            self._check_finite(modality, track)

    def _check_finite(self, modality: str, track: Track) -> None:
        rows = max(1, _CHUNK // (4 * track.width))
        for begin in range(0, len(track.values), rows):
            finite = torch.isfinite(track.values[begin : begin + rows]).all(dim=1)
            if not bool(finite.all()):
                row = begin + int((~finite).nonzero()[0])
                clip = int(torch.searchsorted(track.offsets, row, right=True)) - 1
                step = row - int(track.offsets[clip])
                raise SacmaError(
                    f"{self.path / CLIPS_FILE}: "
                    + _not_finite(self.names[clip], self.classes[int(self.labels[clip])], modality, step)
                )


def _read_index(folder: Path) -> dict[str, Any]:
    path = folder / INDEX_FILE
    if not folder.is_dir():
        raise SacmaError(f"{folder}: no such folder; expected one with {CLIPS_FILE} and {INDEX_FILE}")
    if not (folder / CLIPS_FILE).is_file():
        raise SacmaError(f"{folder / CLIPS_FILE}: no such file; write the features first")
    if not path.is_file():
        raise SacmaError(
            f"{path}: no such file, though {CLIPS_FILE} is there: it was not finished or not copied; "
            "write or copy it again"
        )
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if (
        not isinstance(index, dict)
        or index.get("format") != FORMAT
        or not isinstance(index.get("version"), int)
    ):
        raise SacmaError(f'{path}: not an index of clips; expected "format": "{FORMAT}" and a version')
    if index["version"] > VERSION:
        raise SacmaError(
            f"{path}: format version {index['version']}, but this sacma reads up to {VERSION}; update sacma"
        )
    return index


def _map(path: Path) -> dict[str, NDArray[Any]]:
    """The tensors as read-only views of one map of the file.

    The library checks the file. The map is our own, because ``safe_open`` maps privately and writably for
    torch, which Linux refuses for a file larger than the memory.
    """
    try:
        with safe_open(path, framework="np") as checked:
            found = set(checked.keys())
        with path.open("rb") as file:
            (header_size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(header_size))
        whole = np.memmap(path, dtype=np.uint8, mode="r")
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path, str(error)) from error
    if missing := sorted(_TENSORS.keys() - found):
        raise SacmaError(
            f"{path}: not a set of clips, it has no {', '.join(missing)}; write the features again"
        )
    return {name: _view(path, whole, header_size, name, header[name]) for name in _TENSORS}


def _view(
    path: Path, whole: NDArray[np.uint8], header_size: int, name: str, entry: Mapping[str, Any]
) -> NDArray[Any]:
    codes, dimensions = _TENSORS[name]
    if entry["dtype"] not in codes or len(entry["shape"]) != dimensions:
        raise SacmaError(
            f"{path}: {name} is {entry['dtype']} of shape {entry['shape']}, expected {' or '.join(codes)} "
            f"with {'two dimensions' if dimensions == 2 else 'one'}; write the features again"
        )
    begin, end = (8 + header_size + offset for offset in entry["data_offsets"])
    return whole[begin:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])


def _tensor(array: NDArray[Any]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def _check_structure(tensors: Mapping[str, Tensor], index: Mapping[str, Any]) -> None:
    """The tensors agree with each other and with the index.

    Raises:
        ValueError: they do not.
    """
    clips = int(index["clips"])
    for name in ("label", "partition"):
        if len(tensors[name]) != clips:
            raise ValueError(f"{name} is for {len(tensors[name])} clips, not {clips}")
    for name, rows in (("audio", "values"), ("video", "values"), ("name", "bytes")):
        offsets, held = tensors[f"{name}.offsets"], len(tensors[f"{name}.{rows}"])
        last = int(offsets[-1]) if len(offsets) else -1
        # The bytes of the names are padded at the end.
        fits = last == held or (name == "name" and 0 <= last <= held)
        if len(offsets) != clips + 1 or int(offsets[0]) != 0 or not fits or bool((offsets.diff() < 0).any()):
            raise ValueError(f"{name}.offsets do not fit {clips} clips and {held} rows")
    for modality in ("audio", "video"):
        width = tensors[f"{modality}.values"].shape[1]
        if width != index[modality]["width"]:
            raise ValueError(f"{modality} is {width} wide, not {index[modality]['width']}")
    for name, low, high in (("label", 0, len(index["classes"])), ("partition", -1, len(PARTITIONS))):
        if bool(((tensors[name] < low) | (tensors[name] >= high)).any()):
            raise ValueError(f"{name} has values outside {low}..{high - 1}")


def _checksum(array: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    flat = array.reshape(-1).view(np.uint8)
    for begin in range(0, len(flat), _CHUNK):
        digest.update(flat[begin : begin + _CHUNK].data)
    return digest.hexdigest()


def _damaged(path: Path, detail: str) -> SacmaError:
    return SacmaError(f"{path}: damaged or cut short ({detail}); write or copy it again")


def _not_finite(name: str, label: str, modality: str, step: int) -> str:
    return (
        f"clip {name!r} of class {label!r}: step {step} of its {modality} features has NaN or infinite values"
    )


# --- Writing ------------------------------------------------------------------------------------------

# Video values, mostly the larger ones, are written where they stay, after this much room for the header.
_RESERVED = 4096


@dataclass(frozen=True)
class _Clip:
    name: str
    label: int
    partition: int
    audio: int
    video: int


@dataclass(frozen=True)
class _Commit:
    key: str
    clips: int
    journal: int


class FeaturesWriter:
    """Writes a set clip by clip; use it as a context manager. Memory stays small: values go to disk at once.

    All is written to a hidden folder inside ``folder`` and put in place by ``close``; when the ``with`` block
    ends with an exception, nothing is left behind. With ``resume`` that hidden folder stays instead, and the
    next writer with the same arguments goes on after the last ``commit``.
    """

    def __init__(
        self,
        folder: str | Path,
        classes: Sequence[str],
        *,
        audio_width: int,
        video_width: int,
        audio_step: float,
        video_step: float,
        provenance: Mapping[str, Any],
        dtype: torch.dtype = torch.float32,
        resume: bool = False,
    ) -> None:
        """Begin a set, or go on with one.

        Args:
            folder: where the two files will be; made if it is not there.
            classes: names of the classes, all different.
            audio_width: width of an audio feature vector.
            video_width: width of a visual feature vector.
            audio_step: seconds from one audio step to the next.
            video_step: the same for video.
            provenance: where the features come from, anything that JSON can hold.
            dtype: how values are stored, float32 or float16.
            resume: keep what was committed, and go on from it.

        Raises:
            SacmaError: there is a set in ``folder`` already, an argument makes no sense, or the disk is full.
        """
        self.folder = Path(folder)
        self.classes = tuple(classes)
        self._widths = {"audio": audio_width, "video": video_width}
        self._seconds = {"audio": float(audio_step), "video": float(video_step)}
        self._provenance = dict(provenance)
        self._dtype: np.dtype[Any] = _STORED[dtype]
        self._resume = resume
        self._clips: list[_Clip] = []
        self._known: set[tuple[int, int, str]] = set()
        self._commits: list[_Commit] = []
        self._files: list[BinaryIO] = []
        self._ended = False
        self._check_arguments()
        suffix = "" if resume else f".{os.getpid()}"
        self._work = self.folder / f".clips{suffix}.partial"
        self._made = not self.folder.exists()
        with self._writing():
            self._begin()

    def _check_arguments(self) -> None:
        if (self.folder / INDEX_FILE).exists():
            raise SacmaError(f"{self.folder} holds a set of clips already; remove it or choose another place")
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise SacmaError(f"{self.folder}: {len(self.classes)} class names; expected some, each once")
        for modality, width in self._widths.items():
            if width < 1 or not 0 < self._seconds[modality] < float("inf"):
                raise SacmaError(
                    f"{self.folder}: {modality} features {width} wide every {self._seconds[modality]} s; "
                    "expected positive numbers"
                )

    # The journal has a line for the arguments, one for each clip, and one for each commit.

    def _arguments(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "classes": list(self.classes),
            "widths": self._widths,
            "seconds": self._seconds,
            "dtype": self._dtype.str,
        }

    def _begin(self) -> None:
        commits = self._recover() if self._resume else []
        if not commits:
            self._clips = []
            remove(self._work)
            self._work.mkdir(parents=True)
            for name in ("journal", "audio", CLIPS_FILE):
                (self._work / name).touch()
        self._journal = self._opened("journal")
        self._audio = self._opened("audio")
        self._video = self._opened(CLIPS_FILE)
        self._commits = commits
        if commits:
            self._truncate()
        else:
            self._log(self._arguments())
            self._video.write(bytes(_RESERVED))

    def _opened(self, name: str) -> BinaryIO:
        file = (self._work / name).open("r+b")
        self._files.append(file)
        return file

    def _recover(self) -> list[_Commit]:
        """Reads the journal of an interrupted writer; [] where there is nothing to go on from."""
        path = self._work / "journal"
        lines = path.read_bytes().splitlines(keepends=True) if path.is_file() else []
        commits: list[_Commit] = []
        clips: list[_Clip] = []
        position = 0
        with suppress(ValueError, TypeError):  # the last line may be torn
            for number, line in enumerate(lines):
                entry = json.loads(line)
                position += len(line)
                if number == 0:
                    if entry != self._arguments():
                        return []
                elif isinstance(entry, str):
                    commits.append(_Commit(entry, len(clips), position))
                else:
                    clips.append(_Clip(*entry))
        self._clips = clips
        while commits and not self._on_disk(commits[-1].clips):
            commits.pop()
        return commits

    def _on_disk(self, clips: int) -> bool:
        video, audio = self._sizes(clips)
        sizes = {self._work / CLIPS_FILE: video, self._work / "audio": audio}
        return all(path.is_file() and path.stat().st_size >= size for path, size in sizes.items())

    def _sizes(self, clips: int) -> tuple[int, int]:
        """Bytes of the video file and the audio file with the first ``clips`` clips."""
        audio = sum(clip.audio for clip in self._clips[:clips]) * self._widths["audio"]
        video = sum(clip.video for clip in self._clips[:clips]) * self._widths["video"]
        return _RESERVED + video * self._dtype.itemsize, audio * self._dtype.itemsize

    def _truncate(self) -> None:
        """Goes back to the last commit, or to the beginning."""
        last = self._commits[-1] if self._commits else None
        sizes = self._sizes(last.clips if last else 0)
        del self._clips[last.clips if last else 0 :]
        self._known = {(clip.label, clip.partition, clip.name) for clip in self._clips}
        for file, size in zip((self._video, self._audio), sizes, strict=True):
            file.truncate(size)
            file.seek(size)
        self._journal.truncate(last.journal if last else 0)
        self._journal.seek(0, os.SEEK_END)
        if last is None:
            self._log(self._arguments())

    def _log(self, entry: object) -> None:
        self._journal.write(json.dumps(entry).encode() + b"\n")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.abort()
            advice = "and run the same command again to go on" if self._resume else "or choose another place"
            raise SacmaError(
                f"cannot write {self.folder}: {error.strerror or error}; free some space {advice}"
            ) from error

    def add(self, name: str, label: int, partition: int, audio: Steps, video: Steps) -> None:
        """Append a clip.

        Args:
            name: name of the clip, different from those of the other clips of its class and partition.
            label: position of its class in ``classes``.
            partition: position in ``PARTITIONS``, -1 for none.
            audio: (Ta, Da), with Ta = 0 where the clip has no sound.
            video: (Tv, Dv), with Tv = 0 where the clip has no picture.

        Raises:
            SacmaError: a width is wrong, a value is NaN or infinite, both sequences are empty, the name is
                taken, or the disk is full.
        """
        label, partition = int(label), int(partition)  # numbers of numpy and torch are welcome
        if not 0 <= label < len(self.classes) or not -1 <= partition < len(PARTITIONS):
            raise SacmaError(
                f"clip {name!r}: class {label} or partition {partition} is no position among the "
                f"{len(self.classes)} classes or the {len(PARTITIONS)} partitions"
            )
        key = (label, partition, name)
        if key in self._known:
            raise SacmaError(
                f"clip {name!r} of class {self.classes[label]!r} is there twice in "
                f"{PARTITIONS[partition] if partition >= 0 else 'no partition'}; names must differ"
            )
        sound = self._steps(name, label, "audio", audio)
        picture = self._steps(name, label, "video", video)
        if not len(sound) and not len(picture):
            raise SacmaError(
                f"clip {name!r} of class {self.classes[label]!r} has neither audio nor video steps"
            )
        with self._writing():
            self._audio.write(sound.data)
            self._video.write(picture.data)
            self._log([name, label, partition, len(sound), len(picture)])
        self._known.add(key)
        self._clips.append(_Clip(name, label, partition, len(sound), len(picture)))

    def _steps(self, name: str, label: int, modality: str, values: Steps) -> NDArray[Any]:
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
        width = self._widths[modality]
        if array.ndim != 2 or array.shape[1] != width or array.dtype.kind not in "fiu":
            raise SacmaError(
                f"clip {name!r} of class {self.classes[label]!r}: {modality} features are {array.dtype} of "
                f"shape {array.shape}, expected numbers of shape (steps, {width})"
            )
        with np.errstate(over="ignore"):  # what does not fit becomes infinite and is refused below
            array = np.ascontiguousarray(array, dtype=self._dtype)
        finite = np.isfinite(array).all(axis=1)
        if not finite.all():
            raise SacmaError(_not_finite(name, self.classes[label], modality, int(np.argmin(finite))))
        return array

    @property
    def committed(self) -> tuple[str, ...]:
        """The keys of the commits that the set has so far."""
        return tuple(commit.key for commit in self._commits)

    def commit(self, key: str) -> None:
        """Make what was added so far safe against an interruption, under a key for the next writer to see."""
        with self._writing():
            for file in (self._video, self._audio):
                file.flush()
                os.fsync(file.fileno())
            self._log(key)
            self._journal.flush()
            os.fsync(self._journal.fileno())
            self._commits.append(_Commit(key, len(self._clips), self._journal.tell()))

    @property
    def added(self) -> list[tuple[str, int, int]]:
        """Name, label and partition of each clip that the set has so far."""
        return [(clip.name, clip.label, clip.partition) for clip in self._clips]

    def rewind(self, commits: int) -> None:
        """Keep the first ``commits`` commits and take back all that was added after them."""
        with self._writing():
            del self._commits[commits:]
            self._truncate()

    def close(self) -> None:
        """Complete the set and put it in place.

        Raises:
            SacmaError: it has no clips, or the disk is full.
        """
        if self._ended:
            return
        if not self._clips:
            self.abort()
            raise SacmaError(f"{self.folder}: no clips were added, so there is nothing to write")
        with self._writing():
            layout = self._append_rest()
            self._video.seek(0)
            self._video.write(_header(layout, _RESERVED))
            self._video.flush()
            os.fsync(self._video.fileno())
            checksums = {name: _checksum(array) for name, array in _map(self._work / CLIPS_FILE).items()}
            self._close_files()
            (self._work / CLIPS_FILE).replace(self.folder / CLIPS_FILE)
        try:
            write_text(self.folder / INDEX_FILE, json.dumps(self._index(checksums), indent=1) + "\n")
        except SacmaError:
            remove(self.folder / CLIPS_FILE)
            self.abort()
            raise
        remove(self._work)
        self._ended = True

    def _append_rest(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Writes all tensors after the first. Returns dtype and shape of each, in the order of the file."""
        video, audio = self._sizes(len(self._clips))
        self._video.seek(video)
        self._video.truncate()
        self._audio.flush()
        self._audio.seek(0)
        shutil.copyfileobj(self._audio, self._video, _CHUNK)
        layout: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {
            "video.values": (self._dtype, (sum(clip.video for clip in self._clips), self._widths["video"])),
            "audio.values": (self._dtype, (sum(clip.audio for clip in self._clips), self._widths["audio"])),
        }
        for name, array in self._small_tensors(filled=video + audio).items():
            self._video.write(array.data)
            layout[name] = (array.dtype, array.shape)
        return layout

    def _small_tensors(self, filled: int) -> dict[str, NDArray[Any]]:
        texts = [clip.name.encode("utf-8", "surrogateescape") for clip in self._clips]
        joined = b"".join(texts)
        padding = bytes(-(filled + len(joined)) % 8)  # so that the 8-byte integers after it are aligned
        lengths: dict[str, list[int]] = {
            "video.offsets": [clip.video for clip in self._clips],
            "audio.offsets": [clip.audio for clip in self._clips],
            "name.offsets": [len(text) for text in texts],
        }
        return {
            "name.bytes": np.frombuffer(joined + padding, dtype=np.uint8),
            **{name: np.array([0, *accumulate(counts)], dtype="<i8") for name, counts in lengths.items()},
            "label": np.array([clip.label for clip in self._clips], dtype="<i8"),
            "partition": np.array([clip.partition for clip in self._clips], dtype=np.int8),
        }

    def _index(self, checksums: Mapping[str, str]) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "clips": len(self._clips),
            "partitions": list(PARTITIONS),
            **{
                modality: {"width": self._widths[modality], "step_seconds": self._seconds[modality]}
                for modality in ("audio", "video")
            },
            "classes": list(self.classes),
            "provenance": self._provenance,
            "sha256": dict(checksums),
        }

    def _close_files(self) -> None:
        for file in self._files:
            with suppress(OSError):  # what could not be written cannot be flushed either
                file.close()

    def abort(self) -> None:
        """Stop without a set: what was written is removed, or what was committed kept for the next writer."""
        if self._ended:
            return
        self._ended = True
        self._close_files()
        if not self._resume or not self._commits:
            remove(self._work)
            if self._made:
                with suppress(OSError):
                    self.folder.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.close()
        finally:
            self.abort()  # which has nothing to do after close


def _header(layout: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], size: int) -> bytes:
    """The beginning of a safetensors file, padded with blanks to ``size`` bytes, as the format allows."""
    entries: dict[str, Any] = {"__metadata__": {"format": FORMAT, "version": str(VERSION)}}
    end = 0
    for name, (dtype, shape) in layout.items():
        begin, end = end, end + dtype.itemsize * int(np.prod(shape))
        entries[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode().ljust(size - 8)
    return struct.pack("<Q", len(text)) + text
