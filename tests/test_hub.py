"""What goes to the hub is what its own mixin would write, though that is imported at first use."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from torch import nn

from sacma.hub import OnHub


class Ours(nn.Module, OnHub):
    HUB_MIXIN: ClassVar[str] = "PyTorchModelHubMixin"

    def __init__(self, width: int = 3, **more: Any) -> None:
        super().__init__()
        self.layer, self.more = nn.Linear(width, 2), more


class Theirs(nn.Module, PyTorchModelHubMixin):
    def __init__(self, width: int = 3, **more: Any) -> None:
        super().__init__()
        self.layer, self.more = nn.Linear(width, 2), more


def test_the_same_files_as_by_the_mixin(tmp_path: Path) -> None:
    ours, theirs = Ours(4, steps=7, kept=object()), Theirs(4, steps=7, kept=object())
    theirs.load_state_dict(ours.state_dict())
    ours.save_pretrained(tmp_path / "ours")
    theirs.save_pretrained(tmp_path / "theirs")
    written = {path.name: path.read_bytes() for path in (tmp_path / "theirs").iterdir()}
    assert set(written) == {"README.md", "config.json", "model.safetensors"}
    for name, content in written.items():
        assert (tmp_path / "ours" / name).read_bytes() == content, name


def test_what_is_read_back_is_of_our_class_and_can_be_written_again(tmp_path: Path) -> None:
    first = Ours(4, steps=7)
    first.save_pretrained(tmp_path / "first")
    second = Ours.from_pretrained(tmp_path / "first")
    assert type(second) is Ours
    assert not second.training
    assert second.more == {"steps": 7}
    assert torch.equal(second.layer.weight, first.layer.weight)
    for number, model in enumerate((second, copy.deepcopy(second), pickle.loads(pickle.dumps(second)))):
        model.save_pretrained(tmp_path / str(number))
        config = (tmp_path / str(number) / "config.json").read_text()
        assert config == (tmp_path / "first" / "config.json").read_text()


class Own(OnHub):
    """A thing that writes itself, with a card of its own."""

    def _save_pretrained(self, save_directory: Path) -> None:
        (save_directory / "own.txt").write_text("own")

    @classmethod
    def _from_pretrained(cls, *, model_id: str, **options: Any) -> Own:
        assert (Path(model_id) / "own.txt").read_text() == "own"
        return Own()

    def generate_model_card(self, *, licence: str = "none") -> ModelCard:
        return ModelCard(f"---\nlicense: {licence}\n---\nour own card\n")


def test_methods_of_a_class_are_used_where_it_has_its_own(tmp_path: Path) -> None:
    Own().save_pretrained(tmp_path / "own", model_card_kwargs={"licence": "mit"})
    assert (tmp_path / "own" / "README.md").read_text() == "---\nlicense: mit\n---\nour own card\n"
    assert type(Own.from_pretrained(tmp_path / "own")) is Own


def test_a_push_uploads_what_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    class Hub:
        def __init__(self, **options: Any) -> None: ...

        def create_repo(self, repo_id: str, **options: Any) -> Any:
            return type("Repository", (), {"repo_id": repo_id})()

        def upload_folder(self, folder_path: Path, **options: Any) -> str:
            seen["files"] = {path.name for path in Path(folder_path).iterdir()}
            return "https://hub.example/commit"

    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", Hub)
    assert Ours().push_to_hub("somebody/toy") == "https://hub.example/commit"
    assert seen["files"] == {"README.md", "config.json", "model.safetensors"}
