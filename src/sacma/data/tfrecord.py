"""Reads TFRecord files of ``tf.train.Example`` and ``tf.train.SequenceExample`` without TensorFlow.

A file is a row of records: length (8 bytes, little-endian), masked CRC-32C of the length (4), the content,
masked CRC-32C of the content (4). The format is described at
https://www.tensorflow.org/tutorials/load_data/tfrecord, the two messages in TensorFlow's ``example.proto``
and ``feature.proto``. Google's own packages do the work: ``protobuf`` decodes the messages, whose types are
declared here, and ``google-crc32c`` computes checksums. The package ``tfrecord`` checks none when it reads.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sacma.errors import SacmaError, requires

with requires("youtube8m", "TFRecord files need protobuf and google-crc32c"):
    import google_crc32c
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    from google.protobuf.message import DecodeError, Message

_LENGTH = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_GZIP = b"\x1f\x8b"

# Message -> its fields: number, name, type, whether it is repeated. A type that is no scalar is a message.
_MESSAGES: Mapping[str, tuple[tuple[int, str, str, bool], ...]] = {
    "BytesList": ((1, "value", "bytes", True),),
    "FloatList": ((1, "value", "float", True),),
    "Int64List": ((1, "value", "int64", True),),
    "Feature": (
        (1, "bytes_list", "BytesList", False),
        (2, "float_list", "FloatList", False),
        (3, "int64_list", "Int64List", False),
    ),
    "Features": ((1, "feature", "Feature", True),),
    "FeatureList": ((1, "feature", "Feature", True),),
    "FeatureLists": ((1, "feature_list", "FeatureList", True),),
    "SequenceExample": ((1, "context", "Features", False), (2, "feature_lists", "FeatureLists", False)),
}
_MAPS = {("Features", "feature"), ("FeatureLists", "feature_list")}
"""Fields that are maps from a name to a message."""


def records(path: Path) -> Iterator[bytes]:
    """The contents of the records of a file, one at a time; only one is held in memory.

    Raises:
        SacmaError: the file is cut short, compressed, or a checksum does not match; the file is named, and
            where it happened.
    """
    size = path.stat().st_size
    position = 0
    with path.open("rb") as file:
        while head := file.read(_LENGTH.size):
            if position == 0 and head.startswith(_GZIP):
                raise SacmaError(f"{path}: compressed with gzip; unpack it first")
            if len(head) < _LENGTH.size:
                raise _cut_short(path, position)
            length, checksum = _LENGTH.unpack(head)
            if masked_crc(head[:8]) != checksum:
                raise SacmaError(
                    f"{path}: no record begins at byte {position}, the checksum of its length is wrong; "
                    "it is damaged or no TFRecord file; fetch it again"
                )
            if position + _LENGTH.size + length + _CRC.size > size:
                raise _cut_short(path, position)
            content = file.read(length)
            if masked_crc(content) != _CRC.unpack(file.read(_CRC.size))[0]:
                raise SacmaError(
                    f"{path}: the checksum of the record at byte {position} is wrong; fetch it again"
                )
            yield content
            position += _LENGTH.size + length + _CRC.size


def masked_crc(content: bytes) -> int:
    """The CRC-32C of bytes, rotated and shifted as the format has it."""
    crc = int(google_crc32c.value(content))
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def decode(content: bytes) -> Any:
    """A record as a ``SequenceExample``: ``context.feature`` and ``feature_lists.feature_list`` by name.

    An ``Example`` is read by the same type: its ``features`` have the field number of ``context``.

    Raises:
        ValueError: it is neither.
    """
    message = _sequence_example()()
    try:
        message.ParseFromString(content)
    except DecodeError as error:
        raise ValueError(str(error)) from error
    return message


@cache
def _sequence_example() -> type[Message]:
    # A pool of our own, as TensorFlow registers the same names where it is installed.
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if name == "Feature":
            message.oneof_decl.add(name="kind")
        for field in fields:
            _add_field(message, name, field)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.SequenceExample"))


def _add_field(message: Any, parent: str, field: tuple[int, str, str, bool]) -> None:
    number, name, kind, repeated = field
    proto = descriptor_pb2.FieldDescriptorProto
    added = message.field.add(name=name, number=number)
    added.label = proto.LABEL_REPEATED if repeated else proto.LABEL_OPTIONAL
    if (parent, name) in _MAPS:
        entry = message.nested_type.add(name="".join(part.title() for part in name.split("_")) + "Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=proto.TYPE_STRING, label=proto.LABEL_OPTIONAL)
        value = entry.field.add(name="value", number=2, type=proto.TYPE_MESSAGE, label=proto.LABEL_OPTIONAL)
        value.type_name = f".tensorflow.{kind}"
        added.type, added.type_name = proto.TYPE_MESSAGE, f".tensorflow.{parent}.{entry.name}"
    elif kind in _MESSAGES:
        added.type, added.type_name = proto.TYPE_MESSAGE, f".tensorflow.{kind}"
        if parent == "Feature":
            added.oneof_index = 0
    else:
        added.type = proto.Type.Value(f"TYPE_{kind.upper()}")
        if kind != "bytes":
            added.options.packed = True


def _cut_short(path: Path, position: int) -> SacmaError:
    return SacmaError(f"{path}: cut short in the record at byte {position}; fetch it again")
