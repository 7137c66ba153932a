"""The benchmark folder of AV-Shapes, rendered once and kept in the cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sacma.data.class_lists import PARTITIONS, write_class_split
from sacma.datasets.avshapes import definition
from sacma.datasets.avshapes.definition import (
    CLASSES,
    FEATURES,
    FPS,
    RATE,
    SIZE,
    listed_clips,
)
from sacma.datasets.avshapes.shards import render_all, shard_values
from sacma.errors import SacmaError
from sacma.files import cache_folder, remove, replacing
from sacma.media.backbones.descriptors import AudioDescriptors, VideoDescriptors
from sacma.text.avshapes_words import (
    NAME,
    TEXT_PROVENANCE,
    TEXT_WIDTH,
    VERSION,
    WORDS,
    class_vector,
)


def prepare(on_progress: Callable[[int, int], None] | None = None) -> Path:
    """Return the folder of the benchmark; the first call makes it, in under a minute, and keeps it.

    The work is spread over the processors, whose number does not change the result. A run that was
    interrupted goes on where it stopped; two at a time do no harm.

    Args:
        on_progress: called with the clips done and all clips.

    Returns:
        A root with ``class-split/`` and ``features/descriptors/``.

    Raises:
        SacmaError: the cache folder cannot be written to.
    """
    root = cache_folder() / f"{NAME}-{VERSION}-{_fingerprint()}"
    if _complete(root):
        return root
    shards = root.with_name(f"{root.name}.shards")
    render_all(shards, on_progress)
    if root.exists() and not _complete(root):
        remove(root)
    try:
        with replacing(root) as partial:
            _write_root(partial, shards)
    except SacmaError:
        if not _complete(root):  # else another process was first, with the same content
            raise
    remove(shards)
    return root


def _complete(root: Path) -> bool:
    return (root / "features" / FEATURES / "clips.json").is_file() and (root / "class-split").is_dir()


def _fingerprint() -> str:
    """Identify the definition, so that another one never meets old files."""
    versions = (AudioDescriptors().version, VideoDescriptors().version)
    text = sorted(TEXT_PROVENANCE.items())
    facts = (VERSION, versions, WORDS, definition.PARTITIONS, TEXT_WIDTH, text, SIZE, FPS, RATE)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:8]


def _write_root(root: Path, shards: Path) -> None:
    from sacma.data.features_writer import FeaturesWriter  # here, because both load torch
    from sacma.text.vectors import TextTable

    clips = [(clip.name, clip.class_name, clip.partition) for clip in listed_clips()]
    write_class_split(root / "class-split", NAME, {name: name for name in CLASSES}, clips)
    folder = root / "features" / FEATURES
    vectors = np.stack([class_vector(name) for name in CLASSES])
    table = TextTable(CLASSES, vectors, NAME, TEXT_PROVENANCE)
    table.write(folder / "text" / f"word_embeddings_{NAME}_normed.npz")
    audio, video = AudioDescriptors(), VideoDescriptors()
    with FeaturesWriter(
        folder,
        CLASSES,
        audio_width=audio.width,
        video_width=video.width,
        audio_step=audio.step_seconds,
        video_step=video.step_seconds,
        provenance=_provenance(),
    ) as writer:
        for clip, (heard, seen) in zip(listed_clips(), shard_values(shards), strict=True):
            label, partition = CLASSES.index(clip.class_name), PARTITIONS.index(clip.partition)
            writer.add(clip.name, label, partition, heard, seen)


def _provenance() -> dict[str, Any]:
    extractors = {"audio": AudioDescriptors(), "video": VideoDescriptors()}
    facts = ("name", "version", "licence", "checksum")
    return {
        "source": f"AV-Shapes {VERSION}, rendered",
        "definition": _fingerprint(),
        **{kind: {fact: getattr(made_by, fact) for fact in facts} for kind, made_by in extractors.items()},
    }
