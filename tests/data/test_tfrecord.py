"""TFRecord files: what is written byte by byte is read back, and damage is named."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from sacma.data.tfrecord import decode, masked_crc, records
from sacma.errors import SacmaError
from shards import crc32c, field, frame_level, named, record, video_level, write_shard


def test_checksums_are_those_of_the_standard() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    crc = 0xE3069283
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def test_records_come_back_in_order(tmp_path: Path) -> None:
    contents = [b"", b"a", bytes(range(256)) * 40]
    assert list(records(write_shard(tmp_path / "x.tfrecord", contents))) == contents


def test_a_video_level_record(tmp_path: Path) -> None:
    rgb = np.arange(5, dtype=np.float32) - 2
    message = decode(video_level({"id": b"AbCd", "labels": [3, 3861, -1], "mean_rgb": rgb}))
    held = message.context.feature
    assert held["id"].bytes_list.value[0] == b"AbCd"
    assert list(held["labels"].int64_list.value) == [3, 3861, -1]
    np.testing.assert_array_equal(held["mean_rgb"].float_list.value, rgb)
    assert not message.feature_lists.feature_list


def test_a_frame_level_record() -> None:
    message = decode(
        frame_level({"id": b"x", "labels": [1]}, {"rgb": [b"\x00\xff", b"\x01\x02"], "audio": [b"z"]})
    )
    lists = message.feature_lists.feature_list
    assert [step.bytes_list.value[0] for step in lists["rgb"].feature] == [b"\x00\xff", b"\x01\x02"]
    assert [step.bytes_list.value[0] for step in lists["audio"].feature] == [b"z"]


def test_numbers_that_are_not_packed_are_read_too() -> None:
    floats = b"".join(b"\x0d" + struct.pack("<f", value) for value in (0.5, -1.5))  # field 1, wire type 5
    message = decode(field(1, named({"mean_rgb": field(2, floats)})))
    assert list(message.context.feature["mean_rgb"].float_list.value) == [0.5, -1.5]


@pytest.mark.parametrize("kept", [4, 15, 20, 75])
def test_a_file_cut_short_is_named(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "x.tfrecord"
    path.write_bytes(record(b"a" * 60)[:kept])
    with pytest.raises(SacmaError, match=r"x\.tfrecord: cut short in the record at byte 0"):
        list(records(path))


def test_a_second_record_cut_short_is_named_by_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    path.write_bytes(record(b"a" * 60) + record(b"b" * 60)[:-1])
    found = records(path)
    assert next(found) == b"a" * 60
    with pytest.raises(SacmaError, match="at byte 76"):
        next(found)


@pytest.mark.parametrize(
    ("byte", "message"), [(3, "length is wrong"), (9, "length is wrong"), (30, "is wrong"), (-1, "is wrong")]
)
def test_a_changed_byte_is_found(tmp_path: Path, byte: int, message: str) -> None:
    content = bytearray(record(b"a" * 60))
    content[byte] ^= 1
    path = tmp_path / "x.tfrecord"
    path.write_bytes(content)
    with pytest.raises(SacmaError, match=message):
        list(records(path))


def test_a_length_beyond_all_memory_is_not_believed(tmp_path: Path) -> None:
    length = struct.pack("<Q", 1 << 60)
    crc = struct.pack("<I", masked_crc(length))
    path = tmp_path / "x.tfrecord"
    path.write_bytes(length + crc + b"abc")
    with pytest.raises(SacmaError, match="cut short"):
        list(records(path))


def test_compressed_shards_and_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.gz").write_bytes(b"\x1f\x8b\x08\x00" + bytes(40))
    with pytest.raises(SacmaError, match="compressed with gzip"):
        list(records(tmp_path / "x.gz"))
    (tmp_path / "x.txt").write_text("<html>Not found</html>")
    with pytest.raises(SacmaError, match="no TFRecord file"):
        list(records(tmp_path / "x.txt"))


def test_content_that_is_no_message_is_refused() -> None:
    with pytest.raises(ValueError, match="parsing"):
        decode(b"\x0a\xff\xff\xff\xff\x0f")
