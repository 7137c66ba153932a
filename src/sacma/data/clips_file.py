"""The format of a set of clips: the tensors of ``clips.safetensors`` and the index ``clips.json``.

``clips.safetensors`` holds the steps of all clips one after another, with the offsets that separate clips,
labels, partitions, names and, where known, groups. ``clips.json`` holds the class names, the length of a
step, the origin of the features and a checksum of each tensor. The index is written last: a folder without it
is not finished. The tensors are stored as in https://github.com/huggingface/safetensors: 8 bytes with
the length of a JSON header, the header, the tensors. ``features`` reads such a set, ``features_writer``
writes one.
"""

from __future__ import annotations

import hashlib
import json
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sacma.data.class_lists import PARTITIONS
from sacma.errors import SacmaError, one_line, printable
from sacma.files import read_json

CLIPS_FILE = "clips.safetensors"
INDEX_FILE = "clips.json"
FORMAT = "sacma-clips"
VERSION = 1

DTYPES: Mapping[str, np.dtype[Any]] = {
    code: np.dtype(kind)
    for code, kind in {"F32": "<f4", "F16": "<f2", "I64": "<i8", "I8": "i1", "U8": "u1"}.items()
}
"""Code of a type in safetensors -> numpy type."""
STORED: Mapping[torch.dtype, np.dtype[Any]] = {torch.float32: DTYPES["F32"], torch.float16: DTYPES["F16"]}
"""Types in which the values of features may be stored."""
_CODES = {dtype: code for code, dtype in DTYPES.items()}
TENSORS: Mapping[str, tuple[tuple[str, ...], int]] = {
    "video.values": (("F32", "F16"), 2),
    "audio.values": (("F32", "F16"), 2),
    "name.bytes": (("U8",), 1),
    "video.offsets": (("I64",), 1),
    "audio.offsets": (("I64",), 1),
    "name.offsets": (("I64",), 1),
    "label": (("I64",), 1),
    "partition": (("I8",), 1),
}
"""Name of a tensor -> its permitted types and its number of dimensions."""
OPTIONAL: Mapping[str, tuple[tuple[str, ...], int]] = {"group": (("I64",), 1)}
"""The same for tensors that a file may lack."""
CHUNK = 1 << 24
"""Bytes read at once when a whole file is read."""
_LARGEST_INDEX = 256 << 20
"""Bytes of ``clips.json``, which lists the groups of clips."""


def read_index(folder: Path) -> dict[str, Any]:
    """Read ``clips.json``.

    Raises:
        SacmaError: one of the two files is missing, or the index is damaged, of another format or of a newer
            version.
    """
    path = folder / INDEX_FILE
    if not folder.is_dir():
        raise SacmaError(f"{folder}: no such folder; expected one with {CLIPS_FILE} and {INDEX_FILE}")
    if not (folder / CLIPS_FILE).is_file():
        raise SacmaError(f"{folder / CLIPS_FILE}: no such file; write the features first")
    if not path.is_file():
        raise SacmaError(
            f"{path}: no such file, though {CLIPS_FILE} is there: it was not finished or not copied; "
            "write or copy it again"
        )
    index = read_json(path, limit=_LARGEST_INDEX)
    if index.get("format") != FORMAT or type(index.get("version")) is not int:
        raise SacmaError(f'{path}: not an index of clips; expected "format": "{FORMAT}" and a version')
    if index["version"] > VERSION:
        version = printable(index["version"])
        raise SacmaError(
            f"{path}: format version {version}, but this sacma reads up to {VERSION}; update sacma"
        )
    for key in ("classes", "groups"):
        names = index.get(key, [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise damaged(path, f"{key} is not a list of names")
    if type(index.get("clips")) is not int:
        raise damaged(path, "clips is not a whole number")
    return index


def map_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Map ``clips.safetensors`` into memory.

    ``safe_open`` checks the file, but does not map it: its map is private and writable, which Linux refuses
    for a file larger than the memory.

    Returns:
        Name of a tensor -> read-only view of the file.

    Raises:
        SacmaError: the file is damaged, or a tensor is missing or of another type.
    """
    try:
        with safe_open(path, framework="np") as checked:
            found = set(checked.keys())
        with path.open("rb") as file:
            (header_size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(header_size))
        whole = np.memmap(path, dtype=np.uint8, mode="r")
    except (SafetensorError, OSError, ValueError) as error:
        raise damaged(path, one_line(error, limit=200)) from error
    if missing := sorted(TENSORS.keys() - found):
        raise SacmaError(
            f"{path}: not a set of clips, it has no {', '.join(missing)}; write the features again"
        )
    names = [*TENSORS, *(name for name in OPTIONAL if name in found)]
    return {name: _view(path, whole, header_size, name, header[name]) for name in names}


def check_structure(tensors: Mapping[str, Tensor], index: Mapping[str, Any]) -> None:
    """Check that the tensors fit each other and the index.

    Raises:
        ValueError: they do not; the message names the tensor.
    """
    clips = index["clips"]
    for name in ("label", "partition", *(name for name in OPTIONAL if name in tensors)):
        if len(tensors[name]) != clips:
            raise ValueError(f"{name} is for {len(tensors[name])} clips, not {clips}")
    for name, rows in (("audio", "values"), ("video", "values"), ("name", "bytes")):
        offsets, held = tensors[f"{name}.offsets"], len(tensors[f"{name}.{rows}"])
        last = int(offsets[-1]) if len(offsets) else -1
        # The bytes of the names are padded at the end.
        fits = last == held or (name == "name" and 0 <= last <= held)
        if len(offsets) != clips + 1 or int(offsets[0]) != 0 or not fits or bool((offsets.diff() < 0).any()):
            raise ValueError(f"{name}.offsets do not fit {clips} clips and {held} rows")
    for modality in ("audio", "video"):
        width = tensors[f"{modality}.values"].shape[1]
        if width != index[modality]["width"]:
            raise ValueError(f"{modality} is {width} wide, not {index[modality]['width']}")
    ranges = [("label", 0, len(index["classes"])), ("partition", -1, len(PARTITIONS))]
    ranges += [("group", -1, len(index["groups"]))] if "group" in tensors else []
    for name, low, high in ranges:
        if bool(((tensors[name] < low) | (tensors[name] >= high)).any()):
            raise ValueError(f"{name} has values outside {low}..{high - 1}")


def as_tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor that shares the memory of a read-only array."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(array)


def checksum(array: NDArray[Any]) -> str:
    """Return the SHA-256 of the values of an array, in hexadecimal."""
    digest = hashlib.sha256()
    flat = array.reshape(-1).view(np.uint8)
    for begin in range(0, len(flat), CHUNK):
        digest.update(flat[begin : begin + CHUNK].data)
    return digest.hexdigest()


def file_header(layout: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], size: int) -> bytes:
    """Return the beginning of a safetensors file.

    Args:
        layout: name of each tensor -> its type and shape, in the order of the file.
        size: bytes to fill; the header is padded with blanks, as the format allows.
    """
    entries: dict[str, Any] = {"__metadata__": {"format": FORMAT, "version": str(VERSION)}}
    end = 0
    for name, (dtype, shape) in layout.items():
        begin, end = end, end + dtype.itemsize * int(np.prod(shape))
        entries[name] = {"dtype": _CODES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode().ljust(size - 8)
    return struct.pack("<Q", len(text)) + text


def damaged(path: Path, detail: str) -> SacmaError:
    """Return the error for a file that cannot be read."""
    return SacmaError(f"{path}: damaged or cut short ({detail}); write or copy it again")


def not_finite(name: str, label: str, modality: str, step: int) -> str:
    """Return the message for a clip with NaN or infinite values, without the name of the file."""
    clip = f"clip {printable(name)} of class {printable(label)}"
    return f"{clip}: step {step} of its {modality} features has NaN or infinite values"


def _view(
    path: Path, whole: NDArray[np.uint8], header_size: int, name: str, entry: Mapping[str, Any]
) -> NDArray[Any]:
    codes, dimensions = {**TENSORS, **OPTIONAL}[name]
    if entry["dtype"] not in codes or len(entry["shape"]) != dimensions:
        raise SacmaError(
            f"{path}: {name} is {entry['dtype']} of shape {entry['shape']}, expected {' or '.join(codes)} "
            f"with {'two dimensions' if dimensions == 2 else 'one'}; write the features again"
        )
    begin, end = (8 + header_size + offset for offset in entry["data_offsets"])
    return whole[begin:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
