"""Answers: their order, the modality that supports them, and their CSV and JSON forms."""

from __future__ import annotations

import csv
import io
import json

import pytest
import torch

from sacma.predict.answers import (
    CSV_COLUMNS,
    Answer,
    Prediction,
    Window,
    carried_by,
    modality_of,
    ranked,
    table_of,
    to_csv,
    to_json,
)
from sacma.types import ClassSet

ANT, BEE = Answer("ant", 0.75, True), Answer("bee, or wasp", 0.25, False)


def prediction(windows: int) -> Prediction:
    parts = tuple(Window(float(k), k + 2.0, (ANT, BEE), {}, "both") for k in range(windows))
    return Prediction("clip.mp4", (ANT, BEE), parts, True)


def test_the_most_probable_names_come_first() -> None:
    classes = ClassSet(("ant", "bee", "cat"), torch.zeros(3, 2), torch.tensor([True, False, True]))
    found = ranked(torch.tensor([0.2, 0.5, 0.3]), classes, 2)
    assert [(one.name, one.seen) for one in found] == [("bee", False), ("cat", True)]
    assert len(ranked(torch.tensor([0.2, 0.5, 0.3]), classes, 9)) == 3


@pytest.mark.parametrize(
    ("output", "modality"),
    [("phi_a", "audio"), ("theta_v", "video"), ("audio", "audio"), ("phi_m", None), ("embedding", None)],
)
def test_an_output_is_of_one_modality_by_its_name(output: str, modality: str | None) -> None:
    assert modality_of(output) == modality


@pytest.mark.parametrize(
    ("alone", "expected"),
    [
        ({"audio": ANT, "video": ANT}, "both"),
        ({"audio": ANT, "video": BEE}, "audio"),
        ({"audio": BEE, "video": ANT}, "video"),
        ({"audio": BEE, "video": BEE}, "neither"),
        ({"video": BEE}, "video"),
        ({}, None),
    ],
)
def test_the_modality_that_supports_an_answer(alone: dict[str, Answer], expected: str | None) -> None:
    assert carried_by(ANT, alone) == expected


def test_a_csv_row_for_each_name_and_window() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv([prediction(1), prediction(2)]))))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert [(row["part"], row["start"], row["end"], row["rank"], row["name"]) for row in rows] == [
        ("clip", "0", "2", "1", "ant"),
        ("clip", "0", "2", "2", "bee, or wasp"),
        ("clip", "0", "3", "1", "ant"),
        ("clip", "0", "3", "2", "bee, or wasp"),
        ("window", "0", "2", "1", "ant"),
        ("window", "0", "2", "2", "bee, or wasp"),
        ("window", "1", "3", "1", "ant"),
        ("window", "1", "3", "2", "bee, or wasp"),
    ]
    assert [row["carried_by"] for row in rows[::2]] == ["both", "", "both", "both"]


def test_json_has_predictions_and_failures() -> None:
    content = json.loads(to_json([prediction(1)], {"bad.mp4": "no media file"}))
    assert content["failed"] == {"bad.mp4": "no media file"}
    assert content["predictions"] == [json.loads(json.dumps(prediction(1).to_dict()))]


def test_a_table_has_the_rows_of_the_csv_form() -> None:
    predictions = [prediction(1), prediction(2)]
    table = table_of(predictions)
    rows = list(csv.DictReader(io.StringIO(to_csv(predictions))))
    assert tuple(table) == CSV_COLUMNS
    for name in ("part", "name", "rank"):
        assert [str(value) for value in table[name]] == [row[name] for row in rows]
    assert len(predictions[1].to_frame()) == 6


def test_a_notebook_shows_a_prediction_as_text() -> None:
    hostile = Prediction("<i>.mp4", (Answer("<b>", 0.5, True),), prediction(1).windows, True, ("a & b",))
    html = hostile._repr_html_()
    assert "&lt;i&gt;.mp4" in html
    assert "&lt;b&gt;" in html
    assert "50.0 %" in html
    assert "a &amp; b" in html
