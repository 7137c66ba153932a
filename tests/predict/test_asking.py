"""Several clips, open files and arrays are asked about as one file is."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sacma
from clip_files import tone, write_film
from frozen_toys import GreyAndPitch
from sacma.errors import SacmaError

pytest.importorskip("av")
NAMES = ["dark", "white"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    made = [folder / "dark.mp4", folder / "white.mp4"]
    write_film(made[0], [(1.0, 25, 100.0)])
    write_film(made[1], [(1.0, 255, 1_000.0)])
    return made


@pytest.fixture
def model() -> sacma.ZeroShot:
    return sacma.ZeroShot(GreyAndPitch())


def test_a_list_is_answered_in_its_order(model: sacma.ZeroShot, clips: list[Path]) -> None:
    found = model.predict(clips, NAMES, top=1)
    assert [one.best.name for one in found] == NAMES
    assert found[0] == model.predict(clips[0], NAMES, top=1)
    assert model.predict(tuple(clips), NAMES)[1:] == (model.predict(clips[1], NAMES),)


def test_a_bad_clip_does_not_end_the_others(model: sacma.ZeroShot, clips: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad<b>.mp4"
    bad.write_bytes(b"no film")
    found = model.predict([bad, clips[1], io.BytesIO(b"no film"), io.BytesIO(b"none")], NAMES, top=1)
    assert [one.best.name for one in found] == ["white"]
    assert list(found.failed) == [str(bad), "open file", "open file (4)"]
    assert repr(found) == "Predictions(1 clips, 3 failed)"
    frame = pytest.importorskip("pandas") and found.to_frame()
    assert list(frame["status"]) == ["ok", "failed", "failed", "failed"]
    assert list(frame["clip"])[1] == str(bad)
    html = found._repr_html_()
    assert "bad&lt;b&gt;.mp4" in html
    assert "failed: " in html
    with pytest.raises(SacmaError, match="none of 2 clips can be used"):
        model.predict([bad, bad], NAMES)
    with pytest.raises(SacmaError, match="no clips in the list"):
        model.predict([], NAMES)


def test_arrays_and_open_files(model: sacma.ZeroShot, clips: list[Path]) -> None:
    frames = np.full((10, 8, 8, 3), 255, np.uint8)
    recording = sacma.Recording(
        frames=frames, frame_rate=10, samples=tone(1.0, rate=8_000, pitch=1_000), sample_rate=8_000
    )
    made = model.predict(recording, NAMES)
    assert (made.clip, made.best.name) == ("recording", "white")
    with clips[0].open("rb") as file:
        made = model.predict(file, NAMES, window=1.0)
    assert (made.clip, made.best.name) == (str(clips[0]), "dark")


def test_a_long_table_is_cut_in_a_notebook(model: sacma.ZeroShot, clips: list[Path]) -> None:
    one = model.predict(clips[0], NAMES)
    html = sacma.Predictions([one] * 12)._repr_html_()
    assert html.count("dark.mp4") == 10
    assert "10 of 12 clips" in html
    noted = replace(one, notes=("said once",))
    assert sacma.Predictions([noted, noted])._repr_html_().count("said once") == 1
