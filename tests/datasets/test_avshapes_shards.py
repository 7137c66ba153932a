"""Shards of AV-Shapes, rendered in processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from sacma.datasets.avshapes import shards


def test_a_process_of_its_own_renders_the_same(tmp_path: Path) -> None:
    last = shards.shard_count() - 1
    worker = shards.start_worker(tmp_path / "there", last, last + 1)
    assert worker is not None
    shards.render_shard(tmp_path / "here", last)
    assert worker.wait(timeout=60) == 0
    with (
        np.load(tmp_path / "here" / f"{last:03d}.npz") as here,
        np.load(tmp_path / "there" / f"{last:03d}.npz") as there,
    ):
        assert set(here) == set(there)
        for name in here:
            np.testing.assert_array_equal(here[name], there[name])


def test_without_an_interpreter_no_process_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    assert shards.start_worker(tmp_path, 1, 2) is None


def test_a_process_whose_parent_is_gone_ends(tmp_path: Path) -> None:
    shards.work([str(tmp_path / "shards"), "0", "1", "1"])
    assert not (tmp_path / "shards").exists()
