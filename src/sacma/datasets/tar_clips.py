"""Clips in WebDataset shards: tar files in which files of one name but for the ending are one sample.

A sample has a clip, perhaps its sound in a file of its own, and its class: in ``KEY.cls`` (a name, or a
number that is a line of ``classes.txt`` beside the shards, from 0 on), in ``KEY.json`` (``label``, ``class``
or ``class_name``), or as the folder that the key is in. Shards are named one by one, by a pattern, or by
braces, ``shard-{0000..0011}.tar``. Nothing is unpacked under the names in a shard: the bytes of a clip go to
a file of ours, and our decoder reads that in a process that may crash.
"""

from __future__ import annotations

import glob
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from sacma.datasets.passing_clips import PassingClips
from sacma.errors import SacmaError, one_line, printable
from sacma.files import parse_json, read_text
from sacma.media.containers import SUFFIXES
from sacma.media.listing import ClipFile

SOUNDS = frozenset({".aac", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav"}) & SUFFIXES
"""Endings of the file that is a sample's sound where it has pictures too."""
CLASSES_FILE = "classes.txt"
_NAMES = (".cls", ".json")
_MOST_LABEL = 1 << 20
_PIECE = 1 << 20
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_SHARDS = 1_000_000


@dataclass(frozen=True)
class _Part:
    """Bytes of a file within a shard."""

    offset: int
    size: int


@dataclass(frozen=True)
class _Sample:
    shard: Path
    key: str
    class_name: str
    clip: _Part
    sound: _Part | None


class TarClips(PassingClips):
    """The clips of shards, as files that are written when their turn comes; a context manager.

    Attributes:
        classes: names of the classes, in ascending order.
        total: number of clips.
    """

    def __init__(self, sources: Sequence[str]) -> None:
        """Read the tables of contents and the classes; clips are not read yet.

        Args:
            sources: see the head of this file.

        Raises:
            SacmaError: a shard is missing or damaged, or a sample has no class or no clip of its own.
        """
        self._shards = _shards(sources)
        self._samples = [sample for shard in self._shards for sample in _samples(shard)]
        if not self._samples:
            raise SacmaError(f"{sources[0]}: no clips in it; a sample needs a file such as KEY.mp4")
        self.classes: Sequence[str] = tuple(sorted({one.class_name for one in self._samples}))
        self.total: int | None = len(self._samples)
        super().__init__()

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Origin of the clips: names of the shards, and a checksum of their tables of contents."""
        content = "\n".join(
            f"{one.shard.name} {one.key} {one.class_name} {one.clip}" for one in self._samples
        )
        return {
            "shards": [shard.name for shard in self._shards],
            "contents": sha256(content.encode("utf-8", "surrogateescape")).hexdigest(),
        }

    def files(self, start: int = 0) -> Iterator[tuple[str, ClipFile]]:
        """Names and files of the clips from number ``start`` on, shard after shard.

        Raises:
            SacmaError: a shard cannot be read.
        """
        for number, sample in enumerate(self._samples[start:], start=start):
            clip = self._written(sample, sample.clip, f"{number}.clip")
            sound = None if sample.sound is None else self._written(sample, sample.sound, f"{number}.sound")
            yield f"{sample.shard.stem}/{sample.key}", ClipFile(clip, sample.class_name, sound=sound)

    def _written(self, sample: _Sample, part: _Part, name: str) -> Path:
        target = self._folder / name
        try:
            with sample.shard.open("rb") as shard, target.open("wb") as copy:
                shard.seek(part.offset)
                left = part.size
                while left and (piece := shard.read(min(left, _PIECE))):
                    copy.write(piece)
                    left -= len(piece)
        except OSError as error:
            raise SacmaError(f"cannot read {sample.shard}: {error.strerror or error}") from error
        return target


def _shards(sources: Sequence[str]) -> list[Path]:
    """The files that sources stand for, each once, in order."""
    found: list[Path] = []
    for source in sources:
        named = [Path(one) for one in _expanded(source)]
        if not named[0].exists() and glob.has_magic(source):
            named = [Path(one) for one in sorted(glob.glob(source))]
            if not named:
                raise SacmaError(f"{source}: no such file")
        for path in named:
            if not path.is_file():
                raise SacmaError(f"{path}: no such file")
        found += named
    return list(dict.fromkeys(found))


def _expanded(source: str) -> list[str]:
    """The names that ``{0000..0011}`` in a source stands for."""
    braces = _BRACES.search(source)
    if braces is None:
        return [source]
    first, last = int(braces[1]), int(braces[2])
    if not 0 <= last - first < _MOST_SHARDS:
        raise SacmaError(f"{source}: from {first} to {last} is no range of up to {_MOST_SHARDS:,} shards")
    width, before, after = len(braces[1]), source[: braces.start()], source[braces.end() :]
    return [f"{before}{number:0{width}d}{after}" for number in range(first, last + 1)]


def _samples(shard: Path) -> Iterator[_Sample]:
    """The samples of a shard, in its order; files of no sample of clips are passed over."""
    numbered = _numbered_classes(shard.parent)
    parts: dict[str, dict[str, _Part]] = {}
    labels: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                if not member.isreg() or member.issparse():
                    continue
                key, ending = _split(member.name)
                if ending in SUFFIXES:
                    own = parts.setdefault(key, {})
                    if ending in own:
                        raise SacmaError(f"{shard}: {printable(member.name)} is there twice; write it again")
                    own[ending] = _Part(member.offset_data, member.size)
                elif ending in _NAMES:
                    file = archive.extractfile(member)
                    assert file is not None, "it is a file"
                    labels.setdefault(key, {})[ending] = file.read(_MOST_LABEL)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise SacmaError(f"{shard}: not a readable tar file ({one_line(error, limit=100)})") from error
    for key, files in parts.items():
        name = _class_name(shard, key, labels.get(key, {}), numbered)
        sounds = [ending for ending in files if ending in SOUNDS]
        pictures = [ending for ending in files if ending not in SOUNDS]
        if len(sounds) > 1 or len(pictures) > 1:
            several = ", ".join(sorted(files))
            raise SacmaError(f"{shard}: {printable(key)} has several clips ({several}); keep one")
        clip = files[(pictures or sounds)[0]]
        yield _Sample(shard, key, name, clip, files[sounds[0]] if pictures and sounds else None)


def _split(name: str) -> tuple[str, str]:
    """The key of a file, and its ending from the first dot of its last part on, in lower case."""
    folder, _, last = name.rpartition("/")
    stem, dot, ending = last.partition(".")
    return f"{folder}/{stem}" if folder else stem, (dot + ending).lower()


def _class_name(shard: Path, key: str, labels: Mapping[str, bytes], numbered: Sequence[str] | None) -> str:
    """The class of a sample."""
    label: object = PurePosixPath(key).parent.name
    if ".cls" in labels:
        label = labels[".cls"].decode("utf-8", "replace").strip()
    elif ".json" in labels:
        content = parse_json(labels[".json"].decode("utf-8", "replace"), f"{shard}: {printable(key)}.json")
        fields = content if isinstance(content, dict) else {}
        label = next((fields[name] for name in ("label", "class", "class_name") if name in fields), label)
    text = str(label) if isinstance(label, str | int) else ""
    if numbered is not None and text.isdecimal():
        if int(text) >= len(numbered):
            raise SacmaError(
                f"{shard}: {printable(key)} is of class {text}; {CLASSES_FILE} has {len(numbered)}"
            )
        return numbered[int(text)]
    if not text or not text.isprintable():
        raise SacmaError(
            f"{shard}: {printable(key)} has no class; add KEY.cls, KEY.json with a label, or a folder"
        )
    return text


def _numbered_classes(folder: Path) -> list[str] | None:
    path = folder / CLASSES_FILE
    if not path.is_file():
        return None
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]
