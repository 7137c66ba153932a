"""Rough rows of large libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sacma.frozen.catalogue import BRIDGE
from sacma.library import arrays as arrays_module
from sacma.library import search as search_module
from sacma.library.arrays import BOTH, WHOLE, open_arrays, write_arrays
from sacma.library.search import Library
from sacma.library.store import Entry, Store


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    """400 windows of rank 3 in 100 dimensions, of which 8 rough ones are kept."""
    monkeypatch.setattr(arrays_module, "LARGE", 300)
    monkeypatch.setattr(search_module, "LARGE", 300)
    monkeypatch.setattr(search_module, "_FIRST", 40)
    monkeypatch.setattr(arrays_module, "ROUGH", 8)
    draw = np.random.default_rng(0)
    shape = draw.standard_normal((3, 100))
    facts = {"model": BRIDGE, "run": None, "step_seconds": {"audio": 1.0, "video": 1.0}}
    store = Store.create(tmp_path / "library", facts, {})
    for number in range(200):
        rows = draw.standard_normal((2, 3)) @ shape + 0.01 * draw.standard_normal((2, 100))
        rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        windows = np.array([[0, 2, WHOLE if number % 2 else BOTH], [2, 4, BOTH]], np.float32)
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(b"")
        facts_of_file = (path, "x", None, None, 0, path.stat().st_mtime_ns, "")
        store.put(Entry(*facts_of_file), {"windows": windows, "like_video": rows})
    write_arrays(store)
    return Library(store)


def test_rough_scores_choose_and_exact_ones_are_told(large: Library) -> None:
    kept = large.arrays("like_video")
    assert kept.rough["like_video"][0].shape == (400, 8)
    rows, first = kept.spaces["like_video"], np.asarray(kept.spaces["like_video"][0])
    assert np.abs(kept.product("like_video", first, None) - rows @ first).max() < 0.1
    mean = rows[kept.whole & (kept.clips == large.clips[0].id)].mean(axis=0)
    exact = rows @ (mean / np.linalg.norm(mean))
    exact[~kept.moments | (kept.clips == large.clips[0].id)] = -np.inf
    best = large.search(like=large.clips[0].path, top=5, each=2)
    wanted = np.sort(exact)[::-1][:5]
    assert [one.score for one in best] == pytest.approx(wanted.tolist(), abs=1e-5)
    assert len(large.search(like=large.clips[0].path, top=500, each=2)) == 298  # all moments but its own


def test_arrays_of_an_older_library_are_removed(large: Library) -> None:
    (before,) = large.path.glob("arrays-*")
    large.store.remove(large.clips[:1])
    assert len(open_arrays(large.store, ["like_video"]).clips) == 398  # in memory
    write_arrays(large.store)
    (after,) = large.path.glob("arrays-*")
    assert before != after
    assert len(open_arrays(large.store, ["like_video"]).clips) == 398
