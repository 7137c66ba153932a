"""Imports that are kept in the cache folder: made once, and again after a change."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from official_folders import (
    CLASSES,
    FOLDER,
    check_import,
    imported,
    stop_after,
    write_root,
)
from sacma.data.features import Features
from sacma.data.official import importing as official
from sacma.data.official.importing import cached_import


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_root(tmp_path / "zoo")


def cached(root: Path, **changes: Any) -> Features:
    arguments = {"benchmark": "zoo", "folder": FOLDER, "audio_step": 0.5, "video_step": 2.0}
    return Features.open(cached_import(root, **(arguments | changes)) / "features" / FOLDER)


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """The roots that were imported, with the cache folder in a place of its own."""
    monkeypatch.setenv("SACMA_CACHE", str(tmp_path / "cache"))
    roots: list[Path] = []
    whole = official.import_folder

    def counted(root: Path, *arguments: Any, **more: Any) -> Path:
        roots.append(root)
        return whole(root, *arguments, **more)

    monkeypatch.setattr(official, "import_folder", counted)
    return roots


def test_an_import_is_kept(
    root: Path, imports: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cached(root)
    check_import(first)
    assert first.path.is_relative_to(tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    assert cached(Path("zoo")).path == first.path
    assert len(imports) == 1


def touch(root: Path) -> None:
    os.utime(root / "features" / FOLDER / "video" / "stage_1_train" / "Bee.pkl", ns=(1, 1))


def change_list(root: Path) -> None:
    with (root / "class-split" / "all_class.txt").open("a") as file:
        file.write("Fox\n")


def remove_class(root: Path) -> None:
    for path in (root / "features" / FOLDER).rglob("Elk.pkl"):
        path.unlink()


def add_words(root: Path) -> None:
    np.save(root / "features" / FOLDER / "text" / "more.npy", {"a": np.zeros(2)})  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [touch, change_list, remove_class, add_words])
def test_an_import_is_made_again_when_a_file_changes(
    root: Path, imports: list[Path], change: Callable[[Path], None]
) -> None:
    before = cached(root)
    change(root)
    after = cached(root)
    assert len(imports) == 2
    assert after.path == before.path
    assert after.provenance["stamp"] != before.provenance["stamp"]
    cached(root)
    assert len(imports) == 2


def test_an_import_is_made_again_when_a_step_changes(root: Path, imports: list[Path]) -> None:
    assert cached(root).audio.step_seconds == 0.5
    assert cached(root, audio_step=0.25).audio.step_seconds == 0.25
    assert len(imports) == 2


def test_another_root_has_another_place(root: Path, imports: list[Path], tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "elsewhere" / "zoo")
    assert cached(root).path != cached(tmp_path / "elsewhere" / "zoo").path


def test_a_folder_in_our_format_is_used_as_it_is(root: Path, imports: list[Path], tmp_path: Path) -> None:
    imported(root, tmp_path / "out")
    found = cached_import(tmp_path / "out", benchmark="zoo", folder=FOLDER, audio_step=0.5, video_step=2.0)
    assert found == tmp_path / "out"


def test_a_kept_import_that_was_interrupted(root: Path, imports: list[Path]) -> None:
    with pytest.raises(KeyboardInterrupt):
        cached(root, on_progress=stop_after(3))
    change_list(root)
    check = cached(root)
    assert check.classes == (*CLASSES, "Fox")
    check.verify()


@pytest.mark.slow
def test_two_processes_at_once(root: Path, tmp_path: Path) -> None:
    program = f"""
        import time
        from sacma.data.official.importing import cached_import
        made = []
        cached_import(
            {str(root)!r}, benchmark="zoo", folder={FOLDER!r}, audio_step=0.5, video_step=2.0,
            on_progress=lambda done, total: (made.append(done), time.sleep(0.1)),
        )
        print(len(made))
    """
    environment = {**os.environ, "SACMA_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    runs = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(run.communicate()[0].strip() for run in runs) == ["0", "10"]


# --- Real files -----------------------------------------------------------------------------------
