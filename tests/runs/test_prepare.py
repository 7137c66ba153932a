"""One way to prepare a run: options in, complete configuration and opened benchmark out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import folders
from sacma.errors import SacmaError
from sacma.progress import Silent
from sacma.runs import config
from sacma.runs.prepare import benchmark_of, configure, prepare


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = folders.write_folder(tmp_path_factory.mktemp("toy"))
    return {"benchmark": folders.NAME, "features": folders.FEATURES, "root": str(root)}


def test_the_number_of_training_clips_decides_on_the_preset(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, benchmark = prepare(options)
    assert chosen.preset == "small"
    monkeypatch.setattr(config, "SMALL_BELOW", len(benchmark.split("train_val")))
    assert configure(options, benchmark).preset == "medium"
    assert configure({**options, "preset": "small"}, benchmark).preset == "small"


def test_what_is_given_is_kept(options: dict[str, Any]) -> None:
    chosen, benchmark = prepare({**options, "depth": 3, "variant": "published"})
    assert (chosen.model["depth"], chosen.variant, chosen.data.root) == (3, "published", options["root"])
    assert chosen.data.text_alignment == benchmark.text_alignment == "published"


def test_the_reporter_is_told_of_the_import(options: dict[str, Any]) -> None:
    told: list[str] = []

    class Listening(Silent):
        def counting(self, title: str) -> Any:
            told.append(title)
            return super().counting(title)

    benchmark_of(options, Listening())
    assert told == ["importing features"]


def test_a_folder_is_needed(options: dict[str, Any]) -> None:
    with pytest.raises(SacmaError, match="--root is missing"):
        prepare({**options, "root": None})


def test_an_unknown_option_opens_nothing(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SacmaError, match="unknown option 'depht'"):
        prepare({**options, "root": str(tmp_path / "nowhere"), "depht": 3})
