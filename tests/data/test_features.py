"""Features that were written are read, and damaged values are found."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from clip_sets import CLASSES, change_index, clips, sequence, write, writer
from sacma.data.clips_file import checksum
from sacma.data.features import Features
from sacma.errors import SacmaError


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


# --- verify ---------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "set", clips()).path


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
    checksums = {name: checksum(tensor.numpy()) for name, tensor in tensors.items()}
    change_index(folder, sha256=checksums)
    with pytest.raises(SacmaError, match="'clip 4 é' of class 'bee': step 0 of its audio"):
        Features.open(folder).verify()
