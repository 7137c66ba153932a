"""Features on disk: what is written is read, wrong input and damage are found, nothing half-written stays."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from sacma.data import features as module
from sacma.data.features import PARTITIONS, Features, FeaturesWriter
from sacma.errors import SacmaError

CLASSES = ("ant", "bee", "cat")
Clip = tuple[str, int, int, Tensor, Tensor]


def clips(lengths: Sequence[tuple[int, int]] = ((2, 3), (0, 1), (4, 0), (1, 1), (3, 2))) -> list[Clip]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            f"clip {number} é",
            number % 3,
            number % 6 - 1,
            torch.randn(audio, 2, generator=generator),
            torch.randn(video, 5, generator=generator),
        )
        for number, (audio, video) in enumerate(lengths)
    ]


def writer(folder: Path, **changes: Any) -> FeaturesWriter:
    arguments = {
        "audio_width": 2,
        "video_width": 5,
        "audio_step": 0.5,
        "video_step": 2.0,
        "provenance": {"extractor": "a test"},
    }
    return FeaturesWriter(folder, CLASSES, **(arguments | changes))


def write(folder: Path, given: Sequence[Clip], **changes: Any) -> Features:
    with writer(folder, **changes) as open_writer:
        for clip in given:
            open_writer.add(*clip)
    return Features.open(folder)


def sequence(features: Features, modality: str, clip: int) -> Tensor:
    return getattr(features, modality).gather(torch.tensor([clip])).values


# --- Round trip -----------------------------------------------------------------------------------


def test_what_was_written_is_read(tmp_path: Path) -> None:
    given = clips()
    features = write(tmp_path / "a" / "b", given)
    assert len(features) == len(given)
    assert features.classes == CLASSES
    assert list(features.names) == [clip[0] for clip in given]
    assert features.labels.tolist() == [clip[1] for clip in given]
    assert features.partitions.tolist() == [clip[2] for clip in given]
    assert (features.labels.dtype, features.partitions.dtype) == (torch.int64, torch.int8)
    assert (features.audio.width, features.video.width) == (2, 5)
    assert (features.audio.step_seconds, features.video.step_seconds) == (0.5, 2.0)
    assert features.audio.lengths.tolist() == [len(clip[3]) for clip in given]
    assert features.provenance == {"extractor": "a test"}
    for number, clip in enumerate(given):
        assert torch.equal(sequence(features, "audio", number), clip[3])
        assert torch.equal(sequence(features, "video", number), clip[4])
    features.verify()
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == [
        "clips.json",
        "clips.safetensors",
    ]


def test_names_are_a_sequence(tmp_path: Path) -> None:
    names = write(tmp_path, clips()).names
    assert names[-1] == "clip 4 é"
    assert names[1:3] == ["clip 1 é", "clip 2 é"]
    assert "clip 3 é" in names
    with pytest.raises(IndexError):
        names[5]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")  # of a file whose name is not UTF-8
    audio, video = torch.zeros(1, 2), torch.zeros(1, 5)
    assert write(tmp_path, [(name, 0, 0, audio, video)]).names[0] == name


@settings(deadline=None, max_examples=25)
@given(
    lengths=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(any), min_size=1, max_size=8),
    half=st.booleans(),
    widths=st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_any_lengths_and_widths(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[tuple[int, int]],
    half: bool,
    widths: tuple[int, int],
) -> None:
    folder = tmp_path_factory.mktemp("set")
    given = [
        (str(n), 0, n % 5, torch.full((a, widths[0]), float(n)), torch.full((v, widths[1]), float(-n)))
        for n, (a, v) in enumerate(lengths)
    ]
    dtype = torch.float16 if half else torch.float32
    features = write(folder, given, audio_width=widths[0], video_width=widths[1], dtype=dtype)
    features.verify()
    for number, clip in enumerate(given):
        assert torch.equal(sequence(features, "audio", number), clip[3])
        assert torch.equal(sequence(features, "video", number), clip[4])
    # The library reads the file too, and all integers are aligned.
    tensors = load_file(folder / "clips.safetensors")
    assert tensors["video.values"].dtype == dtype
    assert torch.equal(tensors["audio.offsets"], features.audio.offsets)
    assert features.audio.offsets.data_ptr() % 8 == features.labels.data_ptr() % 8 == 0


def test_numbers_of_any_kind_and_layout(tmp_path: Path) -> None:
    values = np.arange(20).reshape(4, 5)
    with writer(tmp_path) as open_writer:
        open_writer.add("a", np.int64(1), np.int8(2), np.zeros((1, 2), np.uint8), values)
        open_writer.add("b", torch.tensor(1), 2, np.zeros((0, 2)), np.asfortranarray(values[:, ::-1] / 2))
        open_writer.add("c", 1, 2, torch.ones(1, 2, requires_grad=True), values[::2].astype(">f8"))
    features = Features.open(tmp_path)
    assert features.labels.tolist() == [1, 1, 1]
    np.testing.assert_array_equal(sequence(features, "video", 0), values)
    np.testing.assert_array_equal(sequence(features, "video", 1), values[:, ::-1] / 2)
    np.testing.assert_array_equal(sequence(features, "video", 2), values[::2])


def test_worker_processes_map_the_file_again(tmp_path: Path) -> None:
    features = write(tmp_path, [("a", 0, 0, torch.zeros(1, 2), torch.zeros(10000, 5))])
    sent = pickle.dumps(features)
    assert len(sent) < 1000
    assert torch.equal(pickle.loads(sent).video.values, features.video.values)


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
        file.write(module._header(layout, 4096))
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


# --- gather ---------------------------------------------------------------------------------------


def test_gather_packs_the_clips_asked_for(tmp_path: Path) -> None:
    given = clips()
    features = write(tmp_path, given)
    wanted = [4, 1, 0, 4, 2]
    found = features.audio.gather(torch.tensor(wanted))
    assert found.lengths.tolist() == [3, 0, 2, 3, 4]
    assert found.longest == 4
    assert torch.equal(found.values, torch.cat([given[clip][3] for clip in wanted]))
    assert found.seconds.tolist() == [0, 0.5, 1, 0, 0.5, 0, 0.5, 1, 0, 0.5, 1, 1.5]
    assert found.values.dtype == found.seconds.dtype == torch.float32


def test_gather_trims(tmp_path: Path) -> None:
    given = clips(((6, 1), (5, 1), (3, 1)))
    audio = write(tmp_path, given).audio
    wanted = torch.tensor([2, 0, 1])
    starts, lengths = torch.tensor([1, 4, 0]), torch.tensor([2, 1, 0])
    found = audio.gather(wanted, starts=starts, lengths=lengths)
    assert torch.equal(found.values, torch.cat([given[2][3][1:3], given[0][3][4:5]]))
    assert found.lengths.tolist() == [2, 1, 0]
    assert found.seconds.tolist() == [0, 0.5, 0]
    assert audio.gather(wanted, starts=starts).lengths.tolist() == [2, 2, 5]
    assert torch.equal(
        audio.gather(wanted, lengths=lengths).values, torch.cat([given[2][3][:2], given[0][3][:1]])
    )


def test_gather_converts_halves(tmp_path: Path) -> None:
    features = write(tmp_path, clips(), dtype=torch.float16)
    assert features.audio.values.dtype == torch.float16
    found = features.audio.gather(torch.tensor([0])).values
    assert found.dtype == torch.float32
    assert torch.equal(found, clips()[0][3].half().float())


def test_gather_of_nothing(tmp_path: Path) -> None:
    found = write(tmp_path, clips()).audio.gather(torch.zeros(0, dtype=torch.int64))
    assert found.values.shape == (0, 2)
    assert found.longest == 0


def test_a_set_without_sound(tmp_path: Path) -> None:
    features = write(tmp_path, clips(((0, 1), (0, 2))))
    features.verify()
    assert features.audio.gather(torch.tensor([1, 0])).values.shape == (0, 2)


@pytest.mark.parametrize(
    ("clip", "start", "length"),
    [(0, 0, 3), (0, 1, 2), (0, -1, 1), (0, 3, None), (0, 0, -1), (5, 0, 0), (-1, 0, 0)],
)
def test_gather_does_not_reach_beyond_a_clip(
    tmp_path: Path, clip: int, start: int, length: int | None
) -> None:
    audio = write(tmp_path, clips()).audio
    lengths = None if length is None else torch.tensor([length])
    with pytest.raises(IndexError):
        audio.gather(torch.tensor([clip]), starts=torch.tensor([start]), lengths=lengths)


def test_gather_has_no_loop_over_clips(
    tmp_path: Path, count_calls: Callable[[Callable[[], Any]], int]
) -> None:
    audio = write(tmp_path, clips()).audio
    few, many = torch.zeros(2, dtype=torch.int64), torch.zeros(500, dtype=torch.int64)
    audio.gather(few)
    assert count_calls(lambda: audio.gather(few)) == count_calls(lambda: audio.gather(many))


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
    with pytest.raises(SacmaError, match="each once"):
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


def stopped(folder: Path, given: Sequence[Clip], commits: Sequence[str] = (), **changes: Any) -> Path:
    """The working folder of a writer that an error stopped, with commits after the clips of these names."""
    with suppress(RuntimeError), writer(folder, **changes) as open_writer:
        for clip in given:
            open_writer.add(*clip)
            if clip[0] in commits:
                open_writer.commit(clip[0])
        raise RuntimeError
    return folder / ".clips.partial"


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

    monkeypatch.setattr(module, "write_text", full)
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


# --- Damage ---------------------------------------------------------------------------------------


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


def change_index(folder: Path, **changes: Any) -> None:
    path = folder / "clips.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


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


def test_a_changed_byte_is_found(folder: Path) -> None:
    path = folder / "clips.safetensors"
    content = bytearray(path.read_bytes())
    for place, name in ((4096, "video.values"), (len(content) - 1, "partition")):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        with pytest.raises(SacmaError, match=f"checksum of {name} does not match"):
            Features.open(folder).verify()


def test_checksums_that_are_not_there(folder: Path) -> None:
    change_index(folder, sha256={})
    with pytest.raises(SacmaError, match="checksum of video"):
        Features.open(folder).verify()


def test_values_that_are_not_finite(folder: Path) -> None:
    """In a file of another writer, with right checksums."""
    path = folder / "clips.safetensors"
    tensors = {key: value.clone() for key, value in load_file(path).items()}
    tensors["audio.values"][7, 1] = torch.nan  # clips of 2, 0, 4, 1, 3 steps
    save_file(tensors, path)
    checksums = {name: module._checksum(tensor.numpy()) for name, tensor in tensors.items()}
    change_index(folder, sha256=checksums)
    with pytest.raises(SacmaError, match="'clip 4 é' of class 'bee': step 0 of its audio"):
        Features.open(folder).verify()


def test_an_unfinished_set_is_not_taken_for_one(tmp_path: Path) -> None:
    working = stopped(tmp_path / "set", clips(), [clips()[2][0]], resume=True)
    with pytest.raises(SacmaError, match="no such file"):
        Features.open(tmp_path / "set")
    shutil.copy(working / "clips.safetensors", tmp_path / "set")
    with pytest.raises(SacmaError, match="not finished"):
        Features.open(tmp_path / "set")
