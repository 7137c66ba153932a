"""The definition of AV-Shapes: its classes, class split and clips.

51 classes are split 30 / 12 / 9 like UCF-GZSL. A class is five words: a shape and a motion, which are only
seen; a timbre and a rhythm, which are only heard; and the binding, which takes both to tell: sound and motion
are in step ("together") or not ("apart"). Size, colour, place, pitch, tempo, background and noise vary from
clip to clip.

docs/explanation/avshapes.md has the definition in words. AV-Shapes is for tests of software: its numbers
say nothing about real video. Any change of a pixel, a sample or a list of clips raises ``VERSION``.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sacma.text.avshapes_words import VERSION

FEATURES = "descriptors"
"""The folder under ``features/``."""
SIZE = 48
"""Pixels along each side of a frame."""
FPS = 12
"""Frames per second."""
RATE = 8_000
"""Samples per second."""

TRAIN = (
    "bar bouncing hissing scattered together",
    "bar circling buzzing paired apart",
    "bar circling humming galloping together",
    "bar pulsing chirping galloping together",
    "bar pulsing ringing scattered apart",
    "circle bouncing humming paired together",
    "circle circling buzzing steady together",
    "circle sliding humming scattered apart",
    "circle spinning chirping scattered together",
    "circle spinning ringing steady apart",
    "square bouncing hissing galloping apart",
    "square bouncing hissing galloping together",
    "square circling chirping galloping apart",
    "square sliding buzzing steady apart",
    "square sliding ringing galloping together",
    "square spinning hissing scattered apart",
    "square spinning hissing scattered together",
    "star bouncing ringing paired apart",
    "star pulsing chirping steady apart",
    "star pulsing chirping steady together",
    "star pulsing hissing galloping together",
    "star sliding humming steady apart",
    "star spinning ringing scattered together",
    "triangle bouncing buzzing paired apart",
    "triangle bouncing buzzing paired together",
    "triangle circling humming galloping apart",
    "triangle pulsing hissing steady together",
    "triangle pulsing humming paired apart",
    "triangle sliding humming galloping together",
    "triangle sliding ringing steady apart",
)
"""The 30 classes that both stages train on."""

VAL_UNSEEN = (
    "bar spinning ringing paired apart",
    "circle sliding hissing galloping apart",
    "circle sliding hissing galloping together",
    "circle sliding humming steady together",
    "square circling buzzing galloping together",
    "square pulsing humming steady together",
    "square spinning humming paired together",
    "star bouncing chirping scattered apart",
    "star bouncing chirping scattered together",
    "star pulsing ringing galloping apart",
    "triangle circling buzzing steady apart",
    "triangle pulsing chirping scattered together",
)
"""The 12 classes that stage 1 has not seen and stage 2 trains on."""

TEST_UNSEEN = (
    "bar circling ringing paired together",
    "bar spinning humming scattered apart",
    "circle bouncing chirping galloping apart",
    "circle bouncing chirping galloping together",
    "square pulsing ringing steady apart",
    "star circling buzzing paired together",
    "star spinning buzzing steady apart",
    "triangle sliding hissing scattered apart",
    "triangle sliding hissing scattered together",
)
"""The 9 classes that nothing is trained on."""

CLASSES = tuple(sorted(TRAIN + VAL_UNSEEN + TEST_UNSEEN))

PARTITIONS: tuple[tuple[str, tuple[str, ...], range], ...] = (
    ("stage_1_train", TRAIN, range(16)),
    ("stage_1_val_seen", TRAIN, range(16, 20)),
    ("stage_1_val_unseen", VAL_UNSEEN, range(14)),
    ("stage_2_test_seen", TRAIN + VAL_UNSEEN, range(20, 23)),
    ("stage_2_test_unseen", TEST_UNSEEN, range(10)),
)
"""Partition, its classes, and the numbers of their clips in it, in the order of the feature files."""


@dataclass(frozen=True)
class ListedClip:
    """One clip of the benchmark.

    Attributes:
        class_name: its class.
        partition: its partition.
        number: its number within the class, from 0; a class has no number twice.
    """

    class_name: str
    partition: str
    number: int

    @property
    def name(self) -> str:
        """Its name in the lists of clips."""
        return f"{file_stem(self.class_name)}-{self.number:02d}"

    @property
    def seed(self) -> int:
        """The seed that ``render_clip`` draws it from."""
        return clip_seed(self.class_name, self.number)


def listed_clips() -> list[ListedClip]:
    """List all clips, in the order of the feature files."""
    return [
        ListedClip(class_name, partition, number)
        for partition, classes, numbers in PARTITIONS
        for class_name in classes
        for number in numbers
    ]


def clip_seed(class_name: str, number: int) -> int:
    """Return the seed of a clip of a class; it is the same on every machine."""
    text = f"AV-Shapes {VERSION}/{class_name}/{number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def file_stem(class_name: str) -> str:
    """Return a class name with hyphens in place of blanks.

    >>> file_stem("star sliding humming paired apart")
    'star-sliding-humming-paired-apart'
    """
    return class_name.replace(" ", "-")
