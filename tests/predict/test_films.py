"""The timeline of a film: boundaries lie where the content changes."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sacma
from frozen_toys import GREYS, GreyAndPitch
from sacma.media.backbones import Steps
from sacma.predict import Prediction
from sacma.predict.timeline import DEAREST, best_path, cells, prices, segments

pytest.importorskip("av")
from clip_files import write_film


def changes(found: Prediction) -> list[float]:
    """Seconds at which the name changes."""
    return [one.start for one in found.timeline[1:]]


@pytest.mark.parametrize(("window", "hop"), [(4.0, 1.0), (5.0, 2.0), (3.0, 0.5)])
def test_boundaries_of_a_film_of_known_content(tmp_path: Path, window: float, hop: float) -> None:
    lengths = [7.3, 5.6, 8.4, 6.2, 5.9, 7.7, 6.6, 5.3]
    order = ["dark", "bright", "middle", "white", "dark", "middle", "bright", "white"]
    parts = [(s, int(255 * GREYS[n]), 1000 * GREYS[n]) for s, n in zip(lengths, order, strict=True)]
    film = write_film(tmp_path / "film.mp4", parts)
    found = sacma.ZeroShot(GreyAndPitch()).predict(film, list(GREYS), window=window, hop=hop)
    assert [one.name for one in found.timeline] == order
    off = np.array(changes(found)) - np.cumsum(lengths)[:-1]
    assert np.abs(off).mean() < 0.5
    assert abs(off.mean()) < 0.25  # neither early nor late
    assert found.timeline[0].start == 0.0
    assert found.timeline[-1].end == pytest.approx(found.windows[-1].end)
    assert all(first.end == second.start for first, second in pairwise(found.timeline))
    assert {one.carried_by for one in found.timeline} == {"both"}
    # Windows answer for what lies around their middle, and cover the film once.
    by_windows = [b.start for a, b in pairwise(found.windows) if a.answers[0].name != b.answers[0].name]
    assert abs((np.array(by_windows) - np.cumsum(lengths)[:-1]).mean()) < 0.5
    assert all(first.end == second.start for first, second in pairwise(found.windows))


def test_a_path_changes_where_it_pays() -> None:
    rows = np.array([[0.9, 0.1]] * 8 + [[0.1, 0.9]] + [[0.9, 0.1]] * 3 + [[0.1, 0.9]] * 8)
    assert best_path(rows, price=1.0).tolist() == [0] * 12 + [1] * 8
    assert best_path(rows, price=0.1).tolist() == [0] * 8 + [1] + [0] * 3 + [1] * 8
    rows[10] = np.nan
    assert best_path(rows, price=1.0).tolist() == [0] * 12 + [1] * 8


def test_a_change_is_cheap_where_features_change() -> None:
    values = np.array([[1.0, 0.0]] * 6 + [[0.0, 1.0]] * 6)
    steps = Steps(values, np.arange(12.0))
    price = prices([(steps, 1.0, 1.0)], cells(12.0), window=2.0)
    assert price.shape == (48,)
    assert abs(price.argmin() - 24) <= 1
    assert price[24] == pytest.approx(0.0, abs=1e-9)
    assert price[[4, 40]] == pytest.approx(3.0)
    still = Steps(np.array([[1.0, 0.0], [1.0, 0.001]] * 6), np.arange(12.0))  # noise is no change
    assert prices([(still, 1.0, 1.0)], cells(12.0), window=9.0)[2:-8].min() > 0.99 * DEAREST
    # Where both names are as likely for a second, the name changes with the features.
    rows = np.array([[0.9, 0.1]] * 22 + [[0.5, 0.5]] * 4 + [[0.1, 0.9]] * 22)
    assert abs(best_path(rows, price).tolist().index(1) - 24) <= 1


def test_segments_tell_what_carries_them() -> None:
    path = [0, 0, 0, 1]
    both = np.array([[0.8, 0.2], [0.6, 0.4], [0.7, 0.3], [0.1, 0.9]])
    video = np.array([[0.2, 0.8], [0.2, 0.8], [0.9, 0.1], [np.nan, np.nan]])
    parts = [(0.25 * k, 0.25 * k + 0.25) for k in range(4)]
    first, second = segments(parts, path, both, {"audio": both, "video": video}, ["a", "b"])
    assert (first.name, first.start, first.end, first.carried_by) == ("a", 0.0, 0.75, "audio")
    assert first.probability == pytest.approx(0.7)
    assert (second.name, second.end, second.carried_by) == ("b", 1.0, "audio")


def test_cells_cover_a_clip() -> None:
    assert cells(1.0) == [(0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)]
    assert cells(1.06)[-1] == (0.75, 1.06)
    assert cells(0.1) == [(0.0, 0.1)]


def join_clips(path: Path, clips: list[Path]) -> list[float]:
    """Clips behind each other, at four frames a second; seconds where each but the first begins."""
    import av

    ends = [0.0]
    with av.open(str(path), "w") as film:
        pictures: Any = film.add_stream("mpeg4", rate=4)
        pictures.width = pictures.height = 224
        pictures.pix_fmt, pictures.bit_rate = "yuv420p", 2_000_000
        sound: Any = film.add_stream("aac", rate=16_000, layout="mono")
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=16_000)
        done = heard = 0
        for clip in clips:
            with av.open(str(clip)) as source:
                shown = [(float(f.time), f.to_ndarray(format="rgb24")) for f in source.decode(video=0)]
            with av.open(str(clip)) as source:
                waves = [o.to_ndarray() for f in source.decode(audio=0) for o in resampler.resample(f)]
            wave = np.concatenate(waves, axis=1)
            seconds = int(wave.shape[1] / 16_000 * 4) / 4
            ends.append(ends[-1] + seconds)
            while done < ends[-1] * 4:
                moment = done / 4 - ends[-2]
                picture = [p for time, p in shown if time <= moment + 1e-3][-1]
                film.mux(pictures.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                done += 1
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(wave[:, : round(seconds * 16_000)]), format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts = 16_000, heard
            heard += frame.samples
            film.mux(sound.encode(frame))
        film.mux(pictures.encode(None))
        film.mux(sound.encode(None))
    return ends[1:-1]


@pytest.mark.skipif("SACMA_DATA" not in os.environ, reason="SACMA_DATA names no folder of real clips")
@pytest.mark.parametrize("first", [0, 30])
def test_boundaries_of_a_film_of_thirty_real_clips(first: int, tmp_path: Path) -> None:
    """Figures in the docs: for each true boundary the nearest change of the name."""
    data = Path(os.environ["SACMA_DATA"])
    folders = sorted(folder for folder in (data / "music").iterdir() if folder.is_dir())
    by_class = [sorted(folder.glob("*.mp4")) for folder in folders]
    clips = [clips[k] for k in range(99) for clips in by_class if k < len(clips)][first : first + 30]
    truth = join_clips(tmp_path / "film.mp4", clips)
    zero_shot = sacma.zero_shot("label-bridge", audio_weights=data / "models/yamnet_spectra_in.tflite")
    names = sorted({clip.parent.name.replace("_", " ") for clip in clips})
    found = zero_shot.predict(tmp_path / "film.mp4", names, window=3.0)
    at = np.array(changes(found))
    off = np.array([at[np.abs(at - moment).argmin()] - moment for moment in truth])
    print(
        f"{len(at)} changes for {len(truth)} boundaries; off by {np.abs(off).mean():.2f} s on average "
        f"(median {np.median(np.abs(off)):.2f}), late by {off.mean():+.2f} s"
    )
    assert np.abs(off).mean() < 0.6
    assert abs(off.mean()) < 0.25
