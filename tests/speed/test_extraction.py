"""The measuring of extraction; the figures themselves are no test."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "speed"))

from extraction import decoding, extraction
from films import repeated, write_clip
from key_frames import left_out_accuracy
from sacma.media.containers import LIMITS
from sacma.media.reader import Reader
from sacma.media.workers import Task

TINY = Task("descriptors", {}, LIMITS)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return write_clip(path, seconds=2.0, size=(96, 64), fps=10)


def test_a_film_is_a_clip_again_and_again(clip: Path, tmp_path: Path) -> None:
    film = Reader(repeated(tmp_path / "film.mp4", clip, 3), LIMITS)
    film.open()
    assert film.seconds == pytest.approx(6.0, abs=0.2)
    times = [time for time, _ in film.frames(rate=1.0, size=None, start=None, end=None)]
    assert times[:6] == [0, 1, 2, 3, 4, 5]
    assert not film.notes


def test_work_is_that_of_all_processes(clip: Path) -> None:
    cost = extraction([clip] * 3, TINY, jobs=1)
    assert cost.processor > cost.clip > 0
    assert cost.processor > 3 * decoding(clip)
    assert cost.memory > 50 << 20  # a Python with NumPy and FFmpeg, at least


def test_clips_are_named_by_the_others_of_their_class() -> None:
    vectors = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [1.0, 0.1], [-1.0, 0.0]])
    labels = torch.tensor([0, 0, 1, 1, 1, 2])  # one is among the others, one is alone in its class
    assert left_out_accuracy(vectors, labels) == (4, 5)
