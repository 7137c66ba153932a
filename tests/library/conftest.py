"""A small library, made with a run on descriptors, which need no weights."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import pytest

import descriptor_run
from clip_files import write_clip
from sacma.library.store import FILE


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return descriptor_run.trained(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, run: Path) -> Path:
    """A folder with two clips of 6 s and a sound, and their library."""
    folder = tmp_path_factory.mktemp("made")
    write_clip(folder / "clips/low/a.mp4", seconds=6, pitch=220, quadrant=0)
    write_clip(folder / "clips/high/b.mp4", seconds=6, pitch=1760, quadrant=2)
    write_clip(folder / "clips/high/c.wav", seconds=2, video=False, sound_codec="pcm_s16le", pitch=1500)
    from sacma.library.index import update
    from sacma.library.maker import Making

    pytest.importorskip("av")
    done = update(folder / "library", [folder / "clips"], Making(run=run, jobs=1))
    assert (done.added, done.failed) == (3, 0)
    return folder


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """A copy of it for a test alone; the library knows the clips of the copy."""
    shutil.copytree(made / "clips", tmp_path / "clips")
    shutil.copytree(made / "library", tmp_path / "library")
    with sqlite3.connect(tmp_path / "library" / FILE) as database:
        for path, number in database.execute("SELECT path, id FROM clips").fetchall():
            new = tmp_path / Path(os.fsdecode(path)).relative_to(made)
            values = (os.fsencode(new), new.stat().st_mtime_ns, number)
            database.execute("UPDATE clips SET path = ?, modified = ? WHERE id = ?", values)
    return tmp_path
