"""Run folders as the report reads them: an edited file is shown as it is, or refused in one error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import trained
from edits import edited, refusal
from folders import write_folder
from sacma import files
from sacma.results import charts
from sacma.results.page import render
from sacma.results.run_groups import collect

pytest.importorskip("jinja2")

JSON_FILES = ("result.json", "environment.json", "metrics.jsonl")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    return trained(write_folder(folder / "toy"), folder / "run", "--epochs=1")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, to be edited."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture
def text_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without charts, of a config.yaml that is parsed once: the two take most of their time."""
    monkeypatch.setattr(files, "parse_yaml", cache(files.parse_yaml))
    for name in ("curves", "seen_unseen", "seen_unseen_of_all", "comparison"):
        monkeypatch.setattr(charts, name, lambda *_, **__: "")


def report(run: Path) -> str:
    """The page of a run, without t-SNE."""
    return render(*collect([run]), root=str(run / "nowhere"))[0]


def without_classes(content: Mapping[str, Any]) -> dict[str, Any]:
    """A result with one class a part: all are read alike."""
    parts = {
        part: content[part]
        | {name: dict(list(content[part][name].items())[:1]) for name in ("per_class", "per_class_zsl")}
        for part in ("validation", "test")
    }
    return {**content, **parts}


@pytest.mark.parametrize("name", JSON_FILES)
@pytest.mark.usefixtures("text_alone")
def test_an_edited_field_is_shown_or_refused_in_one_error_that_names_the_file(name: str, run: Path) -> None:
    path = run / name
    first, *others = path.read_text().splitlines() if name.endswith("l") else [path.read_text()]
    content = json.loads(first)
    if name == "result.json":
        content = without_classes(content)
    refused: set[str] = set()
    for field, value, text in edited(content):
        if field.startswith("validation.") and name == "result.json":
            continue  # read like test
        path.write_text("\n".join([text, *others]) + "\n")
        said = refusal(lambda: report(run))
        if said is not None:
            assert str(path) in said or "not of the same run" in said, (field, value)
            assert "\n" not in said, (field, value)
            refused.add(field.partition(".")[0])
    shown = set() if name == "environment.json" else set(content)
    assert refused == shown


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("epochs", "1", "epochs is not a whole number"),
        ("seed", True, "seed is not a whole number"),
        ("text", 5, "text is not text"),
        ("test", {"per_class": 5}, "test: per_class"),
        ("test", {"bias": [1]}, "test: bias"),
        ("test", {"per_class_zsl": {"hen": "x"}}, "test: per_class_zsl"),
        ("validation", {"warnings": 1}, "validation: warnings"),
    ],
)
def test_the_error_names_the_field(run: Path, field: str, value: Any, named: str) -> None:
    content = json.loads((run / "result.json").read_text())
    content[field] = content[field] | value if isinstance(value, dict) else value
    (run / "result.json").write_text(json.dumps(content))
    said = refusal(lambda: collect([run]))
    assert said is not None
    assert f"{run / 'result.json'} is damaged: {named}" in said


@pytest.mark.usefixtures("text_alone")
def test_an_edited_column_of_the_predictions_is_shown_or_refused(run: Path) -> None:
    path = run / "predictions.parquet"
    columns = pq.ParquetFile(path).read().to_pydict()
    rows = len(columns["clip"])
    values: tuple[Any, ...] = (
        None,
        True,
        7,
        -0.5,
        float("nan"),
        float("inf"),
        "text",
        b"\xff",
        [1],
        {"a": 1},
    )
    refused = set()
    for name in columns:
        for value in values:
            pq.write_table(pa.table(columns | {name: [value] * rows}), path)
            said = refusal(lambda: report(run))
            if said is not None:
                assert str(run) in said, (name, value)
                refused.add(name)
        pq.write_table(pa.table({key: column for key, column in columns.items() if key != name}), path)
        assert refusal(lambda: report(run)) is not None, name
    assert refused == set(columns)


def test_a_run_that_is_as_it_was_is_shown(run: Path) -> None:
    assert refusal(lambda: collect([run])) is None
