"""A record of a shard of YouTube-8M as a video: its topics, and its features once they are wanted.

Video level: an ``Example`` with ``id``, ``labels``, ``mean_rgb`` (1,024) and ``mean_audio`` (128). Frame
level: a ``SequenceExample`` with ``id`` and ``labels`` as context and the lists ``rgb`` and ``audio``, one
string of 8-bit values a second. See https://research.google.com/youtube8m/download.html.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacma.data.tfrecord import decode, records
from sacma.errors import SacmaError, printable

WIDTHS = {"audio": 128, "video": 1024}
TOPICS = 3_862  # of the 2018 release; earlier ones number other topics, and more of them

_IDS = ("id", "video_id")
_MEANS = {"audio": "mean_audio", "video": "mean_rgb"}
_FRAMES = {"audio": "audio", "video": "rgb"}


@dataclass(frozen=True)
class Video:
    """A video of a shard.

    Attributes:
        name: its random name of four letters.
        labels: numbers of its topics.
        level: ``video`` or ``frame``.
        message: the decoded record.
    """

    name: str
    labels: tuple[int, ...]
    level: str
    message: Any

    def features(self, modality: str) -> NDArray[np.float32]:
        """The features, (T, 128) of ``audio`` or (T, 1024) of ``video``; T is 1 at video level.

        Raises:
            ValueError: they are missing, or of another width.
        """
        if self.level == "video":
            found = [self.message.context.feature[_MEANS[modality]].float_list.value]
            values = np.array(found, dtype=np.float32)
        else:
            steps = self.message.feature_lists.feature_list[_FRAMES[modality]].feature
            values = _frames([step.bytes_list.value for step in steps], modality)
        if values.shape[1:] != (WIDTHS[modality],):
            raise ValueError(
                f"its {modality} features are {values.shape[-1]} wide, expected {WIDTHS[modality]}"
            )
        return values


def _frames(steps: list[Any], modality: str) -> NDArray[np.float32]:
    width = WIDTHS[modality]
    if any(len(step) != 1 or len(step[0]) != width for step in steps):
        raise ValueError(f"a second of its {modality} features is not one string of {width} bytes")
    joined = b"".join(step[0] for step in steps)
    return dequantised(np.frombuffer(joined, dtype=np.uint8).reshape(-1, width))


def dequantised(values: NDArray[np.uint8]) -> NDArray[np.float32]:
    """8-bit values as the numbers from -2 to 2 that they stand for, the middles of 256 equal intervals."""
    return values.astype(np.float32) * np.float32(4 / 255) + np.float32(4 / 512 - 2)


def videos(shard: Path) -> Iterator[Video]:
    """The videos of a shard, one at a time.

    Raises:
        SacmaError: the file is damaged, is no such shard, or is of the test part, which has no labels.
    """
    level = None
    for place, content in enumerate(records(shard)):
        try:
            video = _video(decode(content))
        except ValueError as error:
            raise SacmaError(f"{shard}: record {place} is no video of YouTube-8M, {error}") from error
        if not video.labels:
            raise SacmaError(
                f"{shard}: video {printable(video.name)} has no labels, as in the test part; give "
                "shards of the "
                "training or validation part"
            )
        if level not in (None, video.level):
            raise SacmaError(f"{shard}: record {place} is at {video.level} level, those before are not")
        level = video.level
        yield video
    if level is None:
        raise SacmaError(f"{shard}: no records in it; fetch it again")


def _video(message: Any) -> Video:
    context, lists = message.context.feature, message.feature_lists.feature_list
    names = [context[key].bytes_list.value for key in _IDS if key in context]
    if not names or len(names[0]) != 1 or not names[0][0]:
        raise ValueError(f"its features are {_some([*context, *lists])} without a name of the video in id")
    if set(_FRAMES.values()) <= set(lists):
        level = "frame"
    elif set(_MEANS.values()) <= set(context):
        level = "video"
    else:
        raise ValueError(
            f"its features are {_some([*context, *lists])}; expected mean_rgb and mean_audio, or the lists "
            "rgb and audio"
        )
    labels = tuple(context["labels"].int64_list.value) if "labels" in context else ()
    if any(not 0 <= label < TOPICS for label in labels):
        raise ValueError(f"its labels {labels[:8]} are not below {TOPICS:,}, as in the 2018 release")
    return Video(names[0][0].decode("utf-8", "backslashreplace"), labels, level, message)


def _some(names: list[str]) -> str:
    return ", ".join(sorted(names)[:6]) or "none"
