"""Wrong clips are refused, and a writer that was interrupted leaves nothing half-written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clip_sets import clips, stopped, write, writer
from sacma.data import features_writer
from sacma.data.features import Features
from sacma.data.features_writer import FeaturesWriter
from sacma.errors import SacmaError

# --- Wrong input ----------------------------------------------------------------------------------

GOOD = {"name": "x", "label": 1, "partition": 0, "audio": torch.ones(2, 2), "video": torch.ones(1, 5)}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"audio": torch.ones(2, 3)}, r"'x' of class 'bee': audio features are .* \(2, 3\), expected .*2\)"),
        ({"video": torch.ones(5)}, "video features are .* shape"),
        ({"video": np.array([["a"] * 5])}, "expected numbers"),
        ({"audio": torch.tensor([[1, 2], [1, torch.nan]])}, "'x' of class 'bee': step 1 of its audio .* NaN"),
        ({"video": torch.full((1, 5), -torch.inf)}, "step 0 of its video .* infinite"),
        ({"video": np.full((1, 5), 1e300)}, "step 0 of its video .* infinite"),
        ({"audio": torch.ones(0, 2), "video": torch.ones(0, 5)}, "'x' of class 'bee' has neither"),
        ({"name": "first"}, "'first' of class 'bee' is there twice in stage_1_train"),
        ({"label": 3}, "class 3"),
        ({"partition": 5}, "partition 5"),
        ({"partition": -2}, "partition -2"),
    ],
)
def test_wrong_clips_are_refused_and_the_rest_is_kept(
    tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    with writer(tmp_path) as open_writer:
        open_writer.add(**(GOOD | {"name": "first"}))
        with pytest.raises(SacmaError, match=message):
            open_writer.add(**(GOOD | wrong))
        open_writer.add(**(GOOD | {"name": "first", "partition": 1}))
        open_writer.add(**(GOOD | {"name": "first", "label": 0}))
    features = Features.open(tmp_path)
    features.verify()
    assert list(features.names) == ["first"] * 3


@pytest.mark.parametrize("wrong", [{"audio_width": 0}, {"video_step": 0.0}, {"audio_step": float("nan")}])
def test_wrong_arguments(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(SacmaError, match="expected positive numbers"):
        writer(tmp_path / "a", **wrong)
    assert not (tmp_path / "a").exists()


def test_class_names_must_differ(tmp_path: Path) -> None:
    with pytest.raises(SacmaError, match="'a' is there twice"):
        FeaturesWriter(
            tmp_path, ["a", "a"], audio_width=1, video_width=1, audio_step=1, video_step=1, provenance={}
        )


def test_a_set_is_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path, clips())
    before = (tmp_path / "clips.safetensors").read_bytes()
    with pytest.raises(SacmaError, match="holds a set of clips already"):
        writer(tmp_path)
    assert (tmp_path / "clips.safetensors").read_bytes() == before


# --- Interruptions --------------------------------------------------------------------------------


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    stopped(tmp_path / "set", clips())
    assert list(tmp_path.iterdir()) == []
    stopped(tmp_path / "set", clips(), resume=True)  # nothing committed
    assert list(tmp_path.iterdir()) == []


def test_a_set_without_clips(tmp_path: Path) -> None:
    with pytest.raises(SacmaError, match="no clips were added"):
        write(tmp_path / "set", [])
    assert list(tmp_path.iterdir()) == []


def test_other_files_of_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    stopped(tmp_path, clips())
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_full_disk(tmp_path: Path) -> None:
    """A limit on the size of files, reached in the values, in the audio after them, and in what follows."""
    program = f"""
        import resource, sys
        sys.path[:0] = {[str(Path(__file__).parents[1]), str(Path(__file__).parent)]!r}
        import torch
        from pathlib import Path
        from sacma.errors import SacmaError
        from test_features import writer

        for limit in (200_000, 3_050_000, 3_100_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            try:
                with writer(Path({str(tmp_path / "set")!r})) as open_writer:
                    for number in range(1000):
                        open_writer.add(str(number), 0, 0, torch.ones(10, 2), torch.ones(150, 5))
            except SacmaError as error:
                print(error)
    """
    said = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    lines = said.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"cannot write {tmp_path / 'set'}: File too large; free") for line in lines)
    assert said.stderr == ""
    assert list(tmp_path.iterdir()) == []


class Full:
    """A file on a full disk."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def write(self, content: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.mark.parametrize("which", ["_video", "_audio", "_journal"])
def test_no_space_left(tmp_path: Path, which: str) -> None:
    open_writer = writer(tmp_path / "set")
    setattr(open_writer, which, Full(getattr(open_writer, which)))
    with pytest.raises(SacmaError, match=r"set: No space left on device; free some space or choose"):
        open_writer.add(*clips()[0])
    assert list(tmp_path.iterdir()) == []


def test_no_space_left_for_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(target: Path, text: str) -> None:
        raise SacmaError(f"cannot write {target}")

    monkeypatch.setattr(features_writer, "write_text", full)
    with pytest.raises(SacmaError, match="cannot write"):
        write(tmp_path / "set", clips())
    assert list(tmp_path.iterdir()) == []


def test_a_writer_goes_on_after_the_last_commit(tmp_path: Path) -> None:
    given = clips()
    whole = write(tmp_path / "whole", given)
    names = (given[1][0], given[2][0])
    stopped(tmp_path / "set", [*given[:3], given[4]], names, resume=True)
    assert not (tmp_path / "set" / "clips.safetensors").exists()
    with writer(tmp_path / "set", resume=True) as second:
        assert second.committed == names
        with pytest.raises(SacmaError, match="twice"):
            second.add(*given[0])
        second.add(*given[3])
        second.add(*given[4])
    assert list(tmp_path.glob("set/.*")) == []
    assert_same(tmp_path / "set", whole.path)


def assert_same(one: Path, other: Path) -> None:
    assert (one / "clips.safetensors").read_bytes() == (other / "clips.safetensors").read_bytes()
    assert (one / "clips.json").read_text() == (other / "clips.json").read_text()


@pytest.mark.parametrize("kept", [0, 1])
def test_a_writer_goes_back(tmp_path: Path, kept: int) -> None:
    given = clips()
    with writer(tmp_path / "set", resume=True) as open_writer:
        for clip in (given[0], given[3], given[1]):
            open_writer.add(*clip)
            open_writer.commit(clip[0])
        open_writer.add(*given[2])
        open_writer.rewind(kept)
        assert len(open_writer.committed) == kept
        for clip in given[kept:2]:  # less than was taken back
            open_writer.add(*clip)
    assert_same(tmp_path / "set", write(tmp_path / "whole", given[:2]).path)


@pytest.mark.parametrize("kept", [0, 1, 2, 3])
@pytest.mark.parametrize("file", ["journal", "audio", "clips.safetensors"])
def test_files_cut_by_a_crash(tmp_path: Path, file: str, kept: int) -> None:
    """Whatever reached the disk, what is gone on from is whole."""
    given = clips(((2, 3), (1, 1), (4, 2), (1, 1)))
    path = stopped(tmp_path / "set", given[:3], [clip[0] for clip in given], resume=True) / file
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * kept // 3 - 1] if kept else b"")
    with writer(tmp_path / "set", resume=True) as open_writer:
        assert len(open_writer.committed) <= kept
        for clip in given[len(open_writer.committed) :]:
            open_writer.add(*clip)
    assert_same(tmp_path / "set", write(tmp_path / "whole", given).path)


def test_a_writer_with_other_arguments_begins_anew(tmp_path: Path) -> None:
    stopped(tmp_path / "set", clips(), [clips()[2][0]], resume=True)
    with writer(tmp_path / "set", resume=True, audio_step=1.0) as open_writer:
        assert open_writer.committed == ()
        open_writer.add(*clips()[0])
    assert len(Features.open(tmp_path / "set")) == 1
