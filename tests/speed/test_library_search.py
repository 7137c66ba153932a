"""The measurement of libraries runs and finds what it measures."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "speed"))

import library_search as speed


def test_rough_search_finds_what_exact_search_finds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speed.windows(tmp_path, 3000, 80, noise=False, lancedb=False, queries=4)
    told = capsys.readouterr().out
    recalls = {m[1].strip(): float(m[2]) for m in re.finditer(r"(.*?) +[0-9.]+ ms,.* recall ([0-9.]+)", told)}
    assert recalls["exact"] == 1.0
    assert recalls["rough, 4096 exact"] == 1.0
    assert 0.5 < recalls["rough, 1024 exact"] <= 1.0


def test_noise_has_no_clusters() -> None:
    rows = speed.drawn(200, 50, np.random.default_rng(0), noise=True, centres=None)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1)
    assert np.abs(rows @ rows.T - np.eye(200)).max() < 0.7


def test_it_asks_for_a_library() -> None:
    script = Path(speed.__file__)
    done = subprocess.run(
        [sys.executable, str(script), "command"], check=False, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "give a library" in done.stderr
