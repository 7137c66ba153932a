"""Clips of Hugging Face data sets with a column of videos, read as a stream by the library ``datasets``.

A set is named ``hf:NAME`` or ``hf:FOLDER``, with ``#SPLIT`` or ``#SPLIT[:COUNT]`` for a part of it. It needs
a column of videos and a class label, and may have a column of sound, which then takes the place of the
videos' own. Nothing is decoded by the library: the bytes of a clip go to a file, and our decoder reads that
in a process that may crash.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from sacma.datasets.passing_clips import PassingClips
from sacma.errors import SacmaError, one_line, printable, requires
from sacma.media.listing import ClipFile

PREFIX = "hf:"
_NAMED = re.compile(r"(?P<name>[^#]+)(#(?P<split>[\w.-]+)(\[:(?P<count>\d+)\])?)?")
_GROUP = re.compile(r"(?P<group>.+_g\d+)_c\d+")
"""How UCF101 names clips: those of one group show the same scene."""


class HubClips(PassingClips):
    """The clips of a data set, as files that are written when their turn comes; a context manager.

    Attributes:
        name: on the hub, or the folder.
        revision: of the set on the hub, or ``local``.
        classes: names of its classes.
    """

    def __init__(self, source: str) -> None:
        """Open a data set; its clips are not read yet.

        Args:
            source: see the head of this file.

        Raises:
            SacmaError: the library is missing, there is no such set, or it lacks a column.
        """
        found = _NAMED.fullmatch(source.removeprefix(PREFIX))
        if found is None:
            raise SacmaError(f"{printable(source)}: expected hf:NAME, hf:NAME#SPLIT or hf:NAME#SPLIT[:COUNT]")
        self.name = found["name"]
        self._local = Path(self.name).is_dir()
        self.revision = "local" if self._local else _revision(self.name)
        self._splits = self._open(found["split"])
        self._count = int(found["count"]) if found["count"] else None
        first = next(iter(self._splits.values()))
        self._video, self._sound, self._label = self._columns(first.features or {})
        self.classes: Sequence[str] = tuple(first.features[self._label].names)
        super().__init__()

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Origin of the clips, for the features that are made of them."""
        splits = dict.fromkeys(self._splits, self._count)
        return {"dataset": self.name, "dataset_revision": self.revision, "dataset_splits": splits}

    @cached_property
    def total(self) -> int | None:
        """Number of clips; None where the set does not say."""
        known = [(one.info.splits or {}).get(name) for name, one in self._splits.items()]
        if any(split is None for split in known):
            return None
        return sum(min(split.num_examples, self._count or split.num_examples) for split in known if split)

    @property
    def splits(self) -> Sequence[str]:
        """Names of the parts that are read."""
        return tuple(self._splits)

    def files(self, start: int = 0) -> Iterator[tuple[str, ClipFile]]:
        """Names and files of the clips from number ``start`` on, the parts one after another.

        Raises:
            SacmaError: the stream breaks off.
        """
        passed = 0
        for split, rows in self._splits.items():
            number = 0
            try:
                for number, row in enumerate(rows if self._count is None else rows.take(self._count)):
                    if passed + number >= start:
                        name = f"{split}/{number:06d}"
                        yield name, self._file(name, row)
            except (OSError, ValueError, ImportError) as error:
                raise _broken(self.name, error) from error
            passed += number + 1

    def _open(self, split: str | None) -> dict[str, Any]:
        with requires("hub", "Hugging Face data sets need the library datasets"):
            import datasets
        try:
            if self._local and any((Path(self.name) / f).is_file() for f in _SAVED):
                loaded = datasets.load_from_disk(self.name)
                loaded = loaded if isinstance(loaded, dict) else {"train": loaded}
                opened = {name: one.to_iterable_dataset() for name, one in loaded.items()}
            else:
                revision = None if self._local else self.revision
                opened = dict(datasets.load_dataset(self.name, revision=revision, streaming=True))
        except Exception as error:  # of many libraries, from the address to the files
            raise _broken(self.name, error) from error
        if split is not None and split not in opened:
            raise SacmaError(f"{self.name} has no part {printable(split)}; it has: {', '.join(opened)}")
        chosen = opened if split is None else {split: opened[split]}
        return {name: _undecoded(one) for name, one in chosen.items()}

    def _columns(self, features: Mapping[str, Any]) -> tuple[str, str | None, str]:
        """Names of the columns of videos, of sound and of the class."""
        from datasets import Audio, ClassLabel, Video

        found = {
            kind: [name for name, of in features.items() if isinstance(of, kind)]
            for kind in (Video, Audio, ClassLabel)
        }
        for kind, what in ((Video, "videos"), (ClassLabel, "class labels")):
            if not found[kind]:
                raise SacmaError(
                    f"{self.name} has no column of {what}; its columns: {', '.join(features) or 'not known'}"
                )
        return found[Video][0], next(iter(found[Audio]), None), found[ClassLabel][0]

    def _file(self, name: str, row: Mapping[str, Any]) -> ClipFile:
        """Write a clip's bytes to a file, and its sound to another where it has a column of its own."""
        stem = name.replace("/", "-")
        path = self._written(f"{stem}.video", row[self._video])
        sound = None
        if self._sound is not None and row[self._sound] is not None:
            sound = self._written(f"{stem}.sound", row[self._sound])
        label = row[self._label]
        known = label is not None and 0 <= label < len(self.classes)
        if not known:
            raise SacmaError(f"{self.name}: {name} has no class; leave out clips without a label")
        group = _GROUP.fullmatch(Path(str((row[self._video] or {}).get("path") or "")).stem)
        return ClipFile(path, self.classes[label], group=group and group["group"], sound=sound)

    def _written(self, name: str, content: Mapping[str, Any] | None) -> Path:
        given = content or {}
        target = self._folder / name
        if given.get("bytes") is not None:
            target.write_bytes(given["bytes"])
        elif (path := given.get("path")) and self._local and Path(path).is_file():
            return Path(path)
        elif path:
            _download(path, target, self.name)
        else:
            target.touch()  # told as an empty file by the decoder
        return target


_SAVED = ("dataset_dict.json", "dataset_info.json", "state.json")


def _undecoded(rows: Any) -> Any:
    """Rows whose videos and sounds stay bytes."""
    from datasets import Audio, Video

    for name, kind in (rows.features or {}).items():
        if isinstance(kind, Audio | Video):
            rows = rows.cast_column(name, type(kind)(decode=False))
    return rows


def _revision(name: str) -> str:
    """The commit of a data set on the hub."""
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(name).sha)
    except Exception as error:  # of many libraries
        raise _broken(name, error) from error


def _download(path: str, target: Path, name: str) -> None:
    """Write a file of a data set on the hub, which its row names, to ``target``."""
    from huggingface_hub import HfFileSystem

    if not path.startswith("hf://"):
        raise SacmaError(f"{name}: a clip is at {printable(path)}; only files within the data set are read")
    with HfFileSystem().open(path) as source, target.open("wb") as copy:
        shutil.copyfileobj(source, copy)


def _broken(name: str, error: Exception) -> SacmaError:
    detail = one_line(error)[:200] or type(error).__name__
    return SacmaError(f"cannot read the data set {printable(name)}: {detail}")
