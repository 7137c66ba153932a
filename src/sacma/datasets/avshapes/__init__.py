"""AV-Shapes, the embedded benchmark: short clips with sound, rendered here, nothing to download."""

from sacma.datasets.avshapes.definition import (
    CLASSES,
    FEATURES,
    PARTITIONS,
    TEST_UNSEEN,
    TRAIN,
    VAL_UNSEEN,
    ListedClip,
    clip_seed,
    listed_clips,
)
from sacma.datasets.avshapes.examples import write_examples, write_mp4
from sacma.datasets.avshapes.folder import prepare
from sacma.datasets.avshapes.render import render_clip
from sacma.text.avshapes_words import NAME, VERSION

__all__ = [
    "CLASSES",
    "FEATURES",
    "NAME",
    "PARTITIONS",
    "TEST_UNSEEN",
    "TRAIN",
    "VAL_UNSEEN",
    "VERSION",
    "ListedClip",
    "clip_seed",
    "listed_clips",
    "prepare",
    "render_clip",
    "write_examples",
    "write_mp4",
]
