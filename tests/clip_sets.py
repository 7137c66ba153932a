"""Sets of clips that tests write and read: two values of audio and five of video a step."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sacma.data.features import Features
from sacma.data.features_writer import FeaturesWriter

CLASSES = ("ant", "bee", "cat")
Clip = tuple[str, int, int, Tensor, Tensor]


def clips(lengths: Sequence[tuple[int, int]] = ((2, 3), (0, 1), (4, 0), (1, 1), (3, 2))) -> list[Clip]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            f"clip {number} é",
            number % 3,
            number % 6 - 1,
            torch.randn(audio, 2, generator=generator),
            torch.randn(video, 5, generator=generator),
        )
        for number, (audio, video) in enumerate(lengths)
    ]


def writer(folder: Path, **changes: Any) -> FeaturesWriter:
    arguments = {
        "audio_width": 2,
        "video_width": 5,
        "audio_step": 0.5,
        "video_step": 2.0,
        "provenance": {"extractor": "a test"},
    }
    return FeaturesWriter(folder, CLASSES, **(arguments | changes))


def write(folder: Path, given: Sequence[Clip], **changes: Any) -> Features:
    with writer(folder, **changes) as open_writer:
        for clip in given:
            open_writer.add(*clip)
    return Features.open(folder)


def sequence(features: Features, modality: str, clip: int) -> Tensor:
    return getattr(features, modality).gather(torch.tensor([clip])).values


def stopped(folder: Path, given: Sequence[Clip], commits: Sequence[str] = (), **changes: Any) -> Path:
    """The working folder of a writer that an error stopped, with commits after the clips of these names."""
    with suppress(RuntimeError), writer(folder, **changes) as open_writer:
        for clip in given:
            open_writer.add(*clip)
            if clip[0] in commits:
                open_writer.commit(clip[0])
        raise RuntimeError
    return folder / ".clips.partial"


def change_index(folder: Path, **changes: Any) -> None:
    path = folder / "clips.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
