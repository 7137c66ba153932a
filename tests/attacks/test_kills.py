"""Whole commands, killed at every write and repeated: the same bytes, and nothing is left of the dead."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import descriptor_run
from killing import killed_at_every_write
from sacma.commands import clips as commands
from sacma.data.features_writer import FeaturesWriter
from sacma.errors import SacmaError
from sacma.media import workers
from sacma.media.backbones import open_backbone
from sacma.media.workers import Outcome

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no processes to kill here")


def files_of(folder: Path) -> dict[str, bytes]:
    """All files below a folder; a folder counts as one without content."""
    return {str(p.relative_to(folder)): b"" if p.is_dir() else p.read_bytes() for p in folder.rglob("*")}


def write_set(folder: Path, *, resume: bool) -> None:
    with FeaturesWriter(
        folder / "set",
        ["a", "b"],
        audio_width=2,
        video_width=2,
        audio_step=1,
        video_step=1,
        provenance={},
        resume=resume,
    ) as writer:
        for row in range(len(writer.committed), 2):
            writer.add(f"clip {row}", 0, -1, np.full((2, 2), row), np.full((1, 2), row))
            writer.commit(str(row))


def repeat_set(folder: Path, *, resume: bool) -> None:
    """Repeat it; a complete set refuses, and what a dead process left beside it goes all the same."""
    with suppress(SacmaError):
        write_set(folder, resume=resume)


@pytest.mark.parametrize("resume", [False, True])
def test_a_set_of_clips(resume: bool, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    write_set(tmp_path / "whole", resume=resume)
    whole, kills = files_of(tmp_path / "whole"), 0
    for moment, folder in killed_at_every_write(lambda place: write_set(place, resume=resume), tmp_path):
        repeat_set(folder, resume=resume)
        assert files_of(folder) == whole, moment
        kills += 1
    assert kills > 15


class _Extraction:
    """``sacma extract`` of three clips, of which one fails and one is damaged; none is decoded."""

    def __init__(self, source: Path) -> None:
        self.source = source
        self.done = 0
        backbone = open_backbone("descriptors")
        self.widths = (backbone.audio.width, backbone.video.width)
        for name in ("dog/a.mp4", "dog/b.mp4", "cat/c.mp4"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(name.encode())

    def run(self, clips: Sequence[Any], task: Any, *, jobs: int) -> Iterator[Outcome]:
        for clip in clips:
            self.done += 1
            match clip.path.name:
                case "a.mp4":
                    yield Outcome(failure="a.mp4: damaged")
                case name:
                    fill = float(name == "c.mp4")
                    audio, video = (np.full((2, width), fill, np.float32) for width in self.widths)
                    yield Outcome(audio, video, ("its picture is damaged",) if fill else ())

    def __call__(self, folder: Path) -> None:
        commands.extract([str(self.source)], folder / "features", backbone="descriptors", jobs=1)


def test_extract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extract = _Extraction(tmp_path / "clips")
    monkeypatch.setattr(workers, "run", extract.run)
    (tmp_path / "whole").mkdir()
    extract(tmp_path / "whole")
    whole = files_of(tmp_path / "whole")
    assert set(whole) == {
        "features",
        *(f"features/{n}" for n in ("clips.json", "clips.safetensors", "failures.csv")),
    }
    refused = kills = extract.done = 0
    for moment, folder in killed_at_every_write(extract, tmp_path):
        complete = files_of(folder).items() >= whole.items()
        told = ""
        try:
            extract(folder)
        except SacmaError as error:
            told = str(error)
        # Where only what is removed at the end was left, the set may be complete for the repetition, too.
        assert not told or (complete and "holds a set of clips already" in told)
        refused += bool(told)
        assert files_of(folder) == whole, moment
        kills += 1
    assert kills > 25
    assert refused <= 6
    assert extract.done < 2 * kills  # most of the repetitions went on, and did not begin again


@pytest.mark.slow
def test_export(tmp_path: Path) -> None:
    run = descriptor_run.trained(tmp_path / "run")
    (tmp_path / "whole").mkdir()

    def export(folder: Path) -> None:
        commands.export(run, folder=folder / "model", licence="mit")

    export(tmp_path / "whole")
    whole, kills, complete = files_of(tmp_path / "whole"), 0, 0
    assert "model/README.md" in whole
    for moment, folder in killed_at_every_write(export, tmp_path / "killed"):
        if (folder / "model").exists():  # whole or not at all
            assert files_of(folder / "model") == files_of(tmp_path / "whole" / "model"), moment
            complete += 1
        else:
            export(folder)
        assert files_of(folder) == whole, moment
        kills += 1
    assert kills > 10
    assert complete <= 1
