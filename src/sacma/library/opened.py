"""A library that is open for reading."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

import numpy as np

from sacma.frozen.scores import clip_features
from sacma.library.arrays import Arrays, open_arrays, spaces_of
from sacma.library.store import Entry, Store
from sacma.media.backbones import Steps
from sacma.media.decode import LIMITS, Limits
from sacma.media.extract import ClipFeatures

MODALITIES = ("audio", "video")


class Opened:
    """The clips, features and windows of an open library.

    Args:
        store: its file.
        limits: what an example that is read may ask of us.

    Attributes:
        model: the model that made it, once it was opened again.
    """

    def __init__(self, store: Store, *, limits: Limits = LIMITS) -> None:
        self.store, self.path, self.facts, self.limits = store, store.folder, store.facts, limits
        self.model: Any = None  # a Maker, which would load torch
        self._read(store.generation)

    def _read(self, generation: int) -> None:
        self._generation = generation
        self._entries = {entry.id: entry for entry in self.store.entries()}
        self._opened: dict[tuple[str, ...], Arrays] = {}
        self._spaces: frozenset[str] | None = None

    def close(self) -> None:
        """Close its file."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def clips(self) -> list[Entry]:
        """The clips that could be read."""
        return [entry for entry in self._entries.values() if entry.failure is None]

    @property
    def failed(self) -> dict[str, str]:
        """Clip -> why it could not be read."""
        return {
            str(entry.path): entry.failure for entry in self._entries.values() if entry.failure is not None
        }

    def arrays(self, *spaces: str) -> Arrays:
        """The windows of all clips in some spaces, as the library is now."""
        if (now := self.store.generation) != self._generation:
            self._read(now)
        if spaces not in self._opened:
            self._opened[spaces] = open_arrays(self.store, spaces)
        return self._opened[spaces]

    @property
    def spaces(self) -> frozenset[str]:
        """The spaces that windows have rows in."""
        if self._spaces is None:
            self._spaces = spaces_of(self.store)
        return self._spaces

    def features(self, clip: Entry) -> ClipFeatures:
        """The features of a clip of the library, as they were extracted."""
        kept, step = self.store.of_clip(clip.id), self.facts["step_seconds"]
        steps = {
            name: Steps(
                kept[name].copy(),
                np.arange(len(kept[name]), dtype=np.float64) * step.get(name, step["video"]),
            )
            for name in (*MODALITIES, "joint")
            if name in kept
        }
        return clip_features(steps, clip.notes, clip.seconds)

    def entry(self, clip: int) -> Entry:
        """The clip of a number."""
        return self._entries[clip]

    def entry_of(self, path: str | Path) -> Entry | None:
        """The clip of a file, if the library has the whole file as it is now."""
        absolute = Path(os.path.abspath(path))
        for entry in self.clips:
            if entry.key == (absolute, None, None) and not status_of(entry):
                return entry
        return None


def status_of(entry: Entry) -> str:
    """Empty, ``gone`` or ``changed``, for the file of a clip."""
    try:
        status = os.stat(entry.path)
    except OSError:
        return "gone"
    return "" if (status.st_size, status.st_mtime_ns) == (entry.size, entry.modified) else "changed"
