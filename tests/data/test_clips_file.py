"""The files of a set of clips: damaged and foreign ones are named, large ones open at once."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from clip_sets import change_index, clips, stopped, write
from sacma.data.class_lists import PARTITIONS
from sacma.data.clips_file import file_header
from sacma.data.features import Features
from sacma.errors import SacmaError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "set", clips()).path


def test_missing_files(folder: Path) -> None:
    with pytest.raises(SacmaError, match="nowhere: no such folder"):
        Features.open(folder / "nowhere")
    (folder / "clips.json").rename(folder / "aside")
    with pytest.raises(SacmaError, match=r"clips\.json: no such file, .* not finished"):
        Features.open(folder)
    (folder / "aside").rename(folder / "clips.json")
    (folder / "clips.safetensors").unlink()
    with pytest.raises(SacmaError, match=r"clips\.safetensors: no such file"):
        Features.open(folder)


@pytest.mark.parametrize("kept", [0, 4, 100, 4096, 4200, -1])
def test_a_file_cut_short(folder: Path, kept: int) -> None:
    path = folder / "clips.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(SacmaError, match=r"clips\.safetensors: damaged or cut short") as error:
        Features.open(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"format": "other", "version": 1}', '{"format": "sacma-clips"}']
)
def test_an_index_of_another_kind(folder: Path, text: str) -> None:
    (folder / "clips.json").write_text(text)
    with pytest.raises(SacmaError, match=r"clips\.json: "):
        Features.open(folder)


def test_a_newer_version(folder: Path) -> None:
    change_index(folder, version=2)
    with pytest.raises(SacmaError, match=r"format version 2, .* update sacma"):
        Features.open(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"clips": 4},
        {"clips": None},
        {"classes": ["ant"]},
        {"audio": {}},
        {"audio": {"width": 3, "step_seconds": 1}},
    ],
)
def test_files_that_do_not_belong_together(folder: Path, changes: dict[str, Any]) -> None:
    change_index(folder, **changes)
    with pytest.raises(SacmaError, match=r"clips\.json: damaged"):
        Features.open(folder)


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("label", None, "has no label"),
        ("label", torch.zeros(5), "label is F32"),
        ("label", torch.full((5,), 3), "label has values"),
        ("partition", torch.full((5,), len(PARTITIONS), dtype=torch.int8), "partition has values"),
        ("audio.values", torch.zeros(10), "audio.values is F32 of shape"),
        ("audio.values", torch.zeros(9, 2), "audio.offsets do not fit"),
        ("audio.offsets", torch.tensor([0, 3, 2, 6, 7, 10]), "audio.offsets do not fit"),
        ("video.offsets", torch.tensor([1, 3, 4, 4, 5, 7]), "video.offsets do not fit"),
        ("name.offsets", torch.zeros(0, dtype=torch.int64), "name.offsets do not fit"),
    ],
)
def test_tensors_that_make_no_set(folder: Path, name: str, tensor: Tensor | None, message: str) -> None:
    path = folder / "clips.safetensors"
    tensors = {key: value.clone() for key, value in load_file(path).items()}
    tensors.pop(name)
    save_file(tensors if tensor is None else tensors | {name: tensor}, path)
    with pytest.raises(SacmaError, match=message):
        Features.open(folder)


def test_an_unfinished_set_is_not_taken_for_one(tmp_path: Path) -> None:
    working = stopped(tmp_path / "set", clips(), [clips()[2][0]], resume=True)
    with pytest.raises(SacmaError, match="no such file"):
        Features.open(tmp_path / "set")
    shutil.copy(working / "clips.safetensors", tmp_path / "set")
    with pytest.raises(SacmaError, match="not finished"):
        Features.open(tmp_path / "set")


def write_sparse(folder: Path, clips: int, steps: int, width: int) -> None:
    """A set as large as VGGSound's or larger; the values are a hole in the file, all zero."""
    write(folder, [("a", 0, 0, torch.zeros(0, 2), torch.zeros(1, 5))])
    small = {
        "name.bytes": np.full(clips + -clips % 8, ord("x"), np.uint8),
        "video.offsets": np.arange(clips + 1) * steps,
        "audio.offsets": np.zeros(clips + 1, np.int64),
        "name.offsets": np.arange(clips + 1),
        "label": np.arange(clips) % 3,
        "partition": np.zeros(clips, np.int8),
    }
    values = {"video.values": (clips * steps, width), "audio.values": (0, 2)}
    layout = {name: (np.dtype(np.float32), shape) for name, shape in values.items()}
    layout |= {name: (array.dtype, array.shape) for name, array in small.items()}
    with (folder / "clips.safetensors").open("wb") as file:
        file.write(file_header(layout, 4096))
        file.seek(4096 + 4 * clips * steps * width)
        for array in small.values():
            file.write(array.tobytes())
    change_index(folder, clips=clips, video={"width": width, "step_seconds": 1})


def test_a_set_larger_than_the_memory_opens_at_once(tmp_path: Path) -> None:
    clips, steps, width = 94_000, 100, 4096  # 154 GB
    write_sparse(tmp_path, clips, steps, width)
    begin = time.perf_counter()
    video = Features.open(tmp_path).video
    assert time.perf_counter() - begin < 1
    last = video.gather(torch.tensor([clips - 1]), starts=torch.tensor([steps - 3]))
    assert last.values.shape == (3, width)
