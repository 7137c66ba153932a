"""A small run on features of the descriptors, its classes those of AV-Shapes; the features are made up.

What it answers means little; that it is the same by every way does.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import commands
from sacma.data.class_lists import PARTITIONS
from sacma.data.features_writer import FeaturesWriter
from sacma.datasets import avshapes
from sacma.media.backbones import Backbone, open_backbone
from sacma.text.avshapes_words import TEXT_PROVENANCE, class_vector
from sacma.text.vectors import TextTable

NAME, FEATURES = avshapes.NAME, "descriptors"
TRAIN, VAL_UNSEEN, TEST_UNSEEN = avshapes.TRAIN[:5], avshapes.VAL_UNSEEN[:2], avshapes.TEST_UNSEEN[:3]
ALL = tuple(sorted(TRAIN + VAL_UNSEEN + TEST_UNSEEN))
_CLASSES = dict(zip(PARTITIONS, (TRAIN, TRAIN, VAL_UNSEEN, TRAIN + VAL_UNSEEN, TEST_UNSEEN), strict=True))
_CLIPS = dict(zip(PARTITIONS, (8, 3, 5, 3, 4), strict=True))


def write_folder(root: Path, *, backbone: Backbone | None = None) -> Path:
    """A benchmark of made-up features as wide, and with steps as long, as a backbone's."""
    backbone = backbone or open_backbone("descriptors")
    draw = np.random.default_rng(0)
    lists = root / "class-split"
    (lists / "main_split").mkdir(parents=True)
    (lists / "all_class.txt").write_text("\n".join(ALL) + "\n")
    for partition, classes in _CLASSES.items():
        (lists / "main_split" / f"{partition}.txt").write_text("\n".join(classes) + "\n")
    folder = root / "features" / FEATURES
    vectors = np.stack([class_vector(name) for name in ALL])
    table = TextTable(ALL, vectors, NAME, TEXT_PROVENANCE)
    table.write(folder / "text" / f"word_embeddings_{NAME}_normed.npz")
    widths = (backbone.audio.width, backbone.video.width)
    to_features = [draw.standard_normal((vectors.shape[1], width)) for width in widths]
    with FeaturesWriter(
        folder,
        ALL,
        audio_width=widths[0],
        video_width=widths[1],
        audio_step=backbone.audio.step_seconds,
        video_step=backbone.video.step_seconds,
        provenance={"source": "made up", **backbone.provenance},
    ) as writer:
        for number, partition in enumerate(PARTITIONS):
            for name in _CLASSES[partition]:
                for clip in range(_CLIPS[partition]):
                    parts = [
                        (class_vector(name) @ to + draw.standard_normal((draw.integers(1, 7), width)))
                        for to, width in zip(to_features, widths, strict=True)
                    ]
                    label, name_of_clip = ALL.index(name), f"{partition}/{name}-{clip}"
                    writer.add(name_of_clip, label, number, *(part.astype(np.float32) for part in parts))
    return root


def trained(folder: Path, *more: object, backbone: Backbone | None = None) -> Path:
    """A finished run in ``folder``."""
    root = write_folder(folder / "root", backbone=backbone)
    options = (f"--benchmark={NAME}", f"--features={FEATURES}", f"--root={root}", f"--out={folder / 'run'}")
    outcome = commands.sacma("train", *options, *commands.SMALL, *more)
    assert outcome.status == 0, outcome.err
    return folder / "run"
