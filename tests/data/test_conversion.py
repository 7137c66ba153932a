"""Features are opened with the right seconds a step; official ones are converted first."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark_folders import (
    write_clips,
    write_lists,
    write_text_table,
    write_ucf,
    write_zoo,
)
from sacma.data.benchmark import Benchmark
from sacma.data.official import importing
from sacma.errors import SacmaError


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_zoo(tmp_path_factory.mktemp("zoo"))


def official_folder(root: Path, name: str, folder: str) -> Path:
    """Only the outside of an official folder."""
    if name == "zoo":
        write_lists(root)
        write_text_table(root / "features" / folder)
    else:
        write_ucf(root, folder)
        for file in (root / "features" / folder).glob("clips.*"):
            file.unlink()
    for modality in ("audio", "video"):
        (root / "features" / folder / modality).mkdir()
    return root


@pytest.mark.parametrize(
    ("name", "folder", "features", "given", "steps"),
    [
        ("ucf", "main_features", "selavi", (None, None), (1.0, 1.0)),
        ("ucf", "cls_features", "c3d-vggish", (None, None), (0.96, 0.64)),
        ("ucf", "cls_features_non_averaged", "cls_features_non_averaged", (None, None), (0.96, 0.64)),
        ("zoo", "main_features", "selavi", (None, None), (1.0, 1.0)),
        ("zoo", "main_features", "selavi", (0.48, None), (0.48, 1.0)),
        ("zoo", "main_features", "main_features", (0.48, 2.0), (0.48, 2.0)),
        ("zoo", "main_features", "main_features", (0.48, None), None),
        ("zoo", "main_features", "main_features", (None, None), None),
        ("ucf", "other", "other", (None, None), None),
        ("ucf", "main_features", "selavi", (0.0, None), None),
    ],
)
def test_length_of_a_step(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    folder: str,
    features: str,
    given: tuple[float | None, float | None],
    steps: tuple[float, float] | None,
) -> None:
    root = official_folder(tmp_path / "official", name, folder)
    imported = tmp_path / "imported"
    write_clips(imported / "features" / folder)
    asked = []

    def cached_import(root: Path, **arguments: object) -> Path:
        asked.append((root, arguments))
        return imported

    monkeypatch.setattr(importing, "cached_import", cached_import)

    def open_it() -> Benchmark:
        return Benchmark.open(root, name, features, audio_step=given[0], video_step=given[1])

    if steps is None:
        with pytest.raises(SacmaError, match=r"--audio-step and --video-step|positive numbers"):
            open_it()
        assert not asked
        return
    assert open_it().features.path == imported / "features" / folder
    ((source, arguments),) = asked
    assert source == root
    assert (arguments["benchmark"], arguments["folder"]) == (name, folder)
    assert (arguments["audio_step"], arguments["video_step"]) == steps


def test_our_own_features_carry_their_steps(zoo: Path) -> None:
    opened = Benchmark.open(zoo, "zoo", "own", audio_step=0.5)
    assert (opened.features.audio.step_seconds, opened.features.video.step_seconds) == (0.5, 1.0)
    with pytest.raises(SacmaError, match=r"clips\.json: video steps are 1\.0 s, not 0\.64 s"):
        Benchmark.open(zoo, "zoo", "own", video_step=0.64)
