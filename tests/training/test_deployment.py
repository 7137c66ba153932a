"""Edited files of a run: prediction.json is read as it was written, or refused in one error."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import commands
import folders
from edits import edited, refusal
from sacma.errors import SacmaError
from sacma.training.deployment import FACTS, FILES, Deployment


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    return commands.trained(folders.write_folder(folder / "root"), folder / "run", "--epochs=1")


def test_an_edited_field_of_prediction_json_is_an_error_that_names_the_file(
    run: Path, tmp_path: Path
) -> None:
    for name in FILES:
        shutil.copy(run / name, tmp_path / name)
    content = json.loads((run / FACTS).read_text())
    refused = set()
    for field, value, text in edited(content):
        (tmp_path / FACTS).write_text(text)
        said = refusal(lambda: Deployment.read(tmp_path))
        if said is not None:
            assert str(tmp_path) in said, (field, value)
            assert len(said) < 500, (field, value)
            refused.add(field.split(".")[0])
    assert refused == content.keys()  # a text is refused as a number, and so on


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("audio_step", 10**400, "audio_step is not a number above 0"),
        ("audio_step", 0, "audio_step is not a number above 0"),
        ("method", 5, "method is not text"),
        ("classes", [{"name": "ant", "text_name": 3, "seen": True}], "classes[0].text_name is not text"),
        ("classes", [{"name": "ant", "text_name": "ant", "seen": 1}], "classes[0].seen is not true or false"),
        ("outputs", {"phi_m": 3}, "outputs.phi_m is not an object"),
        ("outputs", {"phi_m": {"bias": "x"}}, "outputs.phi_m.bias is not a finite number"),
    ],
)
def test_the_error_names_the_field(run: Path, tmp_path: Path, field: str, value: object, named: str) -> None:
    for name in FILES:
        shutil.copy(run / name, tmp_path / name)
    content = json.loads((run / FACTS).read_text())
    if field == "classes":
        content["classes"][0] = value[0]  # type: ignore[index]
    else:
        content[field] = value
    (tmp_path / FACTS).write_text(json.dumps(content))
    with pytest.raises(SacmaError) as caught:
        Deployment.read(tmp_path)
    assert named in str(caught.value)
    assert FACTS in str(caught.value)
