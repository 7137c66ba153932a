"""The toy benchmark that ships with the package, under its short name."""

from sacma.testing.toy_benchmark import (
    ALL,
    AUDIO_WIDTH,
    CLASSES,
    CLIPS,
    FEATURES,
    NAME,
    PARTITION_CLASSES,
    TEXT_WIDTH,
    VIDEO_WIDTH,
    write_folder,
)

__all__ = [
    "ALL",
    "AUDIO_WIDTH",
    "CLASSES",
    "CLIPS",
    "FEATURES",
    "NAME",
    "PARTITION_CLASSES",
    "TEXT_WIDTH",
    "VIDEO_WIDTH",
    "write_folder",
]
