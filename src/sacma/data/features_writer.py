"""Writes features of clips one by one; an interrupted set can be continued.

``sacma.data.clips_file`` describes the format.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sacma.data.class_lists import PARTITIONS
from sacma.data.clips_file import (
    CHUNK,
    CLIPS_FILE,
    FORMAT,
    INDEX_FILE,
    STORED,
    VERSION,
    checksum,
    file_header,
    map_tensors,
    not_finite,
)
from sacma.errors import SacmaError, printable
from sacma.files import clear_partials, remove, write_text
from sacma.text.names import check_distinct

Steps = Tensor | NDArray[Any]

# Video values, mostly the larger ones, are written where they stay, after this much room for the header.
_RESERVED = 4096


@dataclass(frozen=True)
class _Clip:
    name: str
    label: int
    partition: int
    audio: int
    video: int
    group: str | None = None


@dataclass(frozen=True)
class _Commit:
    key: str
    clips: int
    journal: int


class FeaturesWriter:
    """Writes a set clip by clip; a context manager. Values go to disk at once, so it needs little memory.

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
        """Begin a set, or continue one.

        Args:
            folder: where the two files will be; made if it is not there.
            classes: names of the classes; no two of one canonical form (``sacma.text.names.normal``).
            audio_width: width of an audio feature vector.
            video_width: width of a visual feature vector.
            audio_step: seconds from one audio step to the next.
            video_step: the same for video.
            provenance: origin of the features, as JSON can hold it.
            dtype: how values are stored, float32 or float16.
            resume: keep the committed clips after an interruption, and continue after them.

        Raises:
            SacmaError: there is a set in ``folder`` already, an argument makes no sense, or the disk is full.
        """
        self.folder = Path(folder)
        self.classes = tuple(classes)
        self._widths = {"audio": audio_width, "video": video_width}
        self._seconds = {"audio": float(audio_step), "video": float(video_step)}
        self._provenance = dict(provenance)
        self._dtype: np.dtype[Any] = STORED[dtype]
        self._resume = resume
        self._clips: list[_Clip] = []
        self._known: set[tuple[int, int, str]] = set()
        self._commits: list[_Commit] = []
        self._files: list[BinaryIO] = []
        self._ended = False
        suffix = "" if resume else f".{os.getpid()}"
        self._work = self.folder / f".clips{suffix}.partial"
        self._take_back()
        self._check_arguments()
        self._made = not self.folder.exists()
        with self._writing():
            self._begin()

    def _check_arguments(self) -> None:
        if (self.folder / INDEX_FILE).exists():
            raise SacmaError(f"{self.folder} holds a set of clips already; remove it or choose another place")
        if not self.classes:
            raise SacmaError(f"{self.folder}: no class names; give at least one")
        check_distinct(self.classes, str(self.folder))
        for modality, width in self._widths.items():
            if width < 1 or not 0 < self._seconds[modality] < float("inf"):
                raise SacmaError(
                    f"{self.folder}: {modality} features {width} wide every {self._seconds[modality]} s; "
                    "expected positive numbers"
                )

    def _take_back(self) -> None:
        """Clear what killed writers left; where one was putting the set in place, let it be done again."""
        clear_partials(self.folder, ".clips")
        placed = self.folder / CLIPS_FILE
        if (self._work / "journal").is_file() and not (self._work / CLIPS_FILE).exists() and placed.is_file():
            remove(self.folder / INDEX_FILE)
            placed.replace(self._work / CLIPS_FILE)

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
        """Read the journal of an interrupted writer; [] where nothing was committed."""
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
        """Return the bytes of the video file and of the audio file with the first ``clips`` clips."""
        audio = sum(clip.audio for clip in self._clips[:clips]) * self._widths["audio"]
        video = sum(clip.video for clip in self._clips[:clips]) * self._widths["video"]
        return _RESERVED + video * self._dtype.itemsize, audio * self._dtype.itemsize

    def _truncate(self) -> None:
        """Return the files to the last commit, or to the beginning."""
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

    def add(
        self,
        name: str,
        label: int,
        partition: int,
        audio: Steps,
        video: Steps,
        *,
        group: str | None = None,
    ) -> None:
        """Append a clip.

        Args:
            name: name of the clip, different from those of the other clips of its class and partition.
            label: position of its class in ``classes``.
            partition: position in ``PARTITIONS``, -1 for none.
            audio: (Ta, Da), with Ta = 0 where the clip has no sound.
            video: (Tv, Dv), with Tv = 0 where the clip has no picture.
            group: what it belongs to together with other clips, such as a recording; None where not known.

        Raises:
            SacmaError: a width is wrong, a value is NaN or infinite, both sequences are empty, the name is
                taken, or the disk is full.
        """
        label, partition = int(label), int(partition)  # numbers of numpy and torch are welcome
        if not 0 <= label < len(self.classes) or not -1 <= partition < len(PARTITIONS):
            raise SacmaError(
                f"clip {printable(name)}: class {label} or partition {partition} is no position among the "
                f"{len(self.classes)} classes or the {len(PARTITIONS)} partitions"
            )
        key = (label, partition, name)
        if key in self._known:
            raise SacmaError(
                f"clip {printable(name)} of class {printable(self.classes[label])} is there twice in "
                f"{PARTITIONS[partition] if partition >= 0 else 'no partition'}; names must differ"
            )
        sound = self._steps(name, label, "audio", audio)
        picture = self._steps(name, label, "video", video)
        if not len(sound) and not len(picture):
            raise SacmaError(
                f"clip {printable(name)} of class {printable(self.classes[label])} has neither audio "
                "nor video steps"
            )
        with self._writing():
            self._audio.write(sound.data)
            self._video.write(picture.data)
            self._log([name, label, partition, len(sound), len(picture), group])
        self._known.add(key)
        self._clips.append(_Clip(name, label, partition, len(sound), len(picture), group))

    def _steps(self, name: str, label: int, modality: str, values: Steps) -> NDArray[Any]:
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
        width = self._widths[modality]
        if array.ndim != 2 or array.shape[1] != width or array.dtype.kind not in "fiu":
            raise SacmaError(
                f"clip {printable(name)} of class {printable(self.classes[label])}: {modality} "
                f"features are {array.dtype} of "
                f"shape {array.shape}, expected numbers of shape (steps, {width})"
            )
        with np.errstate(over="ignore"):  # what does not fit becomes infinite and is refused below
            array = np.ascontiguousarray(array, dtype=self._dtype)
        finite = np.isfinite(array).all(axis=1)
        if not finite.all():
            raise SacmaError(not_finite(name, self.classes[label], modality, int(np.argmin(finite))))
        return array

    @property
    def committed(self) -> tuple[str, ...]:
        """The keys of the commits that the set has so far."""
        return tuple(commit.key for commit in self._commits)

    def commit(self, key: str) -> None:
        """Secure all clips added so far against an interruption; the next writer finds them by ``key``."""
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
        """Keep the first ``commits`` commits and remove all clips added after them."""
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
            self._video.write(file_header(layout, _RESERVED))
            self._video.flush()
            os.fsync(self._video.fileno())
            checksums = {
                name: checksum(array) for name, array in map_tensors(self._work / CLIPS_FILE).items()
            }
            self._close_files()
            (self._work / CLIPS_FILE).replace(self.folder / CLIPS_FILE)
        try:
            write_text(self.folder / INDEX_FILE, json.dumps(self._index(checksums), indent=1) + "\n")
        except SacmaError:
            remove(self.folder / CLIPS_FILE)
            self.abort()
            raise
        # Gone at once, so that a half removed journal is never taken for one to go on with.
        done = self.folder / f".clips.{os.getpid()}.partial"
        if self._work != done:
            self._work.replace(done)
        remove(done)
        self._ended = True

    def _append_rest(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """Write all tensors after the first; return type and shape of each, in the order of the file."""
        video, audio = self._sizes(len(self._clips))
        self._video.seek(video)
        self._video.truncate()
        self._audio.flush()
        self._audio.seek(0)
        shutil.copyfileobj(self._audio, self._video, CHUNK)
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
        place = {name: row for row, name in enumerate(self._groups())}
        groups = [-1 if clip.group is None else place[clip.group] for clip in self._clips]
        return {
            "name.bytes": np.frombuffer(joined + padding, dtype=np.uint8),
            **{name: np.array([0, *accumulate(counts)], dtype="<i8") for name, counts in lengths.items()},
            "label": np.array([clip.label for clip in self._clips], dtype="<i8"),
            **({"group": np.array(groups, dtype="<i8")} if any(place >= 0 for place in groups) else {}),
            "partition": np.array([clip.partition for clip in self._clips], dtype=np.int8),
        }

    def _groups(self) -> list[str]:
        return list(dict.fromkeys(clip.group for clip in self._clips if clip.group is not None))

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
            **({"groups": groups} if (groups := self._groups()) else {}),
            "provenance": self._provenance,
            "sha256": dict(checksums),
        }

    def _close_files(self) -> None:
        for file in self._files:
            with suppress(OSError):  # what could not be written cannot be flushed either
                file.close()

    def abort(self) -> None:
        """Stop without a set: remove the clips, or with ``resume`` keep the committed ones."""
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
