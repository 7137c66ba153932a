"""Streams in another container, undecoded."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("av")

from clip_files import write_clip
from sacma.errors import SacmaError
from sacma.media.decode import Clip


@pytest.mark.parametrize("ending", ["mkv", "mov", "ts"])
def test_pictures_and_sound_stay_as_they_were(ending: str, tmp_path: Path) -> None:
    source = write_clip(tmp_path / f"clip.{ending}", seconds=2.0, codec="libx264")
    made = tmp_path / "made.mp4"
    made.write_bytes(b"".join(Clip.open(source).remuxed()))
    before, after = Clip.open(source), Clip.open(made)
    assert (after.has_audio, after.has_video) == (before.has_audio, before.has_video)
    frames = [list(one.frames(rate=10)) for one in (before, after)]
    assert abs(len(frames[0]) - len(frames[1])) <= 1
    assert (frames[0][3][1] == frames[1][3][1]).all()


def test_the_copy_begins_where_the_clip_does(tmp_path: Path) -> None:
    import av

    times = [5 + k / 10 for k in range(20)]
    source = write_clip(tmp_path / "late.mkv", seconds=7.0, times=times, sound_from=5.0, codec="libx264")
    made = tmp_path / "made.mp4"
    made.write_bytes(b"".join(Clip.open(source).remuxed()))
    with av.open(str(source)) as container:
        assert container.start_time > 4_900_000
    with av.open(str(made)) as container:
        assert all((one.start_time or 0) * one.time_base < 0.2 for one in container.streams)


def test_what_browsers_do_not_play_is_left_out(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "clip.wav", video=False, sound_codec="pcm_s16le")
    with pytest.raises(SacmaError, match="no stream in it that browsers play"):
        list(Clip.open(source).remuxed())
