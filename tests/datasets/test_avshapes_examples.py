"""Clips of AV-Shapes as files that play."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sacma.datasets import avshapes
from sacma.datasets.avshapes.definition import (
    CLASSES,
    clip_seed,
)
from sacma.datasets.avshapes.render import render_clip
from sacma.errors import SacmaError


def test_examples_are_files_that_play(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    written = avshapes.write_examples(tmp_path, 2, size=64)
    assert [path.name for path in written] == [f"{name.replace(' ', '-')}-00.mp4" for name in CLASSES[:2]]
    assert sorted(tmp_path.iterdir()) == sorted([*written, tmp_path / "clips.csv"])
    rows = (tmp_path / "clips.csv").read_text().splitlines()
    assert rows == [
        "path,class",
        *(f"{path.name},{name}" for path, name in zip(written, CLASSES, strict=False)),
    ]
    frames, _, waveform, _ = render_clip(CLASSES[0], clip_seed(CLASSES[0], 0), size=64, fps=24)
    with av.open(str(written[0])) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(decoded) == len(frames)
    assert np.abs(decoded[20].astype(float) - frames[20]).mean() < 12
    with av.open(str(written[0])) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert len(sound) == pytest.approx(len(waveform), abs=2100)
    assert np.abs(sound).max() == pytest.approx(np.abs(waveform).max(), rel=0.5)


def test_without_pyav_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SacmaError, match=r"pip install 'sacma\[media\]'"):
        avshapes.write_examples(tmp_path, 1)


@pytest.mark.parametrize(
    "call",
    [
        lambda out: avshapes.write_examples(out, 0),
        lambda out: avshapes.write_mp4(CLASSES[0], 1, out / "a.mp4", size=63),
    ],
)
def test_impossible_examples_are_told(tmp_path: Path, call: Callable[[Path], object]) -> None:
    pytest.importorskip("av")
    with pytest.raises(SacmaError, match="choose"):
        call(tmp_path)
    assert list(tmp_path.iterdir()) == []
