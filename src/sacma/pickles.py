"""Pickles read as data: arrays, tensors, text, numbers, lists and dictionaries; nothing is ever executed.

A pickle is a program, so loading one from the internet hands over the computer. The reader here knows the
few instructions that data needs, builds arrays itself, and refuses everything else. Arrays are views of the
file, so that reading takes little memory however large the file is. Protocols 2 to 5, from numpy 1 and 2 and
from torch.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from sacma.errors import one_line, printable
from sacma.files import RefusedError, reading

Array = NDArray[Any]


def load(path: Path, *, start: int = 0) -> Any:
    """Content of a pickle file: dictionaries, lists, tuples, text, bytes, numbers, arrays.

    Arrays and tensors come as numpy arrays, most of them read-only views of the file; so do long bytes.

    Args:
        path: the file.
        start: where in it the pickle begins.

    Raises:
        SacmaError: no such file, damaged, of another kind, or asking for code to be run.
    """
    with reading(path):
        return _resolved(_Unpickler(_Bytes(path, start)).load(), {})


class _Bytes:
    """A memory-mapped file, read from front to back; long stretches are handed out without copying them."""

    def __init__(self, path: Path, start: int) -> None:
        with path.open("rb") as file:
            self._view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self._position = start

    def read(self, size: int) -> Any:
        end = self._position + size
        if size < 0 or end > len(self._view):
            raise EOFError(f"{size} bytes expected at byte {self._position} of {len(self._view)}")
        taken = self._view[self._position : end]
        self._position = end
        return taken if size >= 1024 else bytes(taken)

    def readline(self) -> bytes:
        line = bytearray()
        while not line.endswith(b"\n"):
            line += self.read(1)
        return bytes(line)


# --- What stands in for the functions that pickles of arrays and tensors name ---------------------


class _Dtype:
    """A numpy data type while it is put together."""

    def __init__(self, code: object, *_: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[biufSU]\d{1,7}|O8?", code):
            raise RefusedError(f"the data type {printable(code)}")
        self.code = code
        self.order = "="

    def set_state(self, state: Any) -> None:
        order, subtype, names, fields = state[1:5]
        if order not in ("<", ">", "=", "|") or subtype or names or fields:
            raise RefusedError("a structured data type")
        self.order = order

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array:
    """A numpy array while it is put together."""

    value: Array | None = None

    def set_state(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _array(content, dtype, shape, "F" if fortran else "C")


_MOST_ITEMS = 1 << 48


def _are_sizes(values: object) -> bool:
    """True for a tuple of whole numbers that may be a shape; a nest of tuples has a product without end."""
    if not isinstance(values, tuple) or len(values) > 32:
        return False
    return all(type(n) is int and 0 <= n <= _MOST_ITEMS for n in values)


def _product(shape: Any) -> int:
    """Number of items of an array; the shape is checked before it is multiplied.

    Raises:
        ValueError: it is no shape.
    """
    if not _are_sizes(shape):
        raise ValueError(f"an array of shape {printable(shape)}")
    return math.prod(shape)


def _array(content: Any, dtype: Any, shape: Any, order: Any, *_: object) -> Array:
    if not isinstance(dtype, _Dtype):
        raise ValueError(f"an array of the type {printable(dtype)}")
    if dtype.code.startswith("O"):
        return _object_array(content, shape)
    if isinstance(content, str):  # bytes in a pickle of Python 2
        content = content.encode("latin-1")
    kind = dtype.numpy()
    if len(content) != kind.itemsize * _product(shape):
        raise ValueError(f"{len(content)} bytes for an array of shape {printable(shape)}")
    return np.frombuffer(content, kind).reshape(shape, order=order)


def _object_array(content: Any, shape: Any) -> Array:
    if len(content) != _product(shape) or not isinstance(content, list):
        raise ValueError(f"an array of objects of shape {printable(shape)} without its objects")
    array = np.empty(len(content), dtype=object)
    for position, item in enumerate(content):
        array[position] = item
    return array.reshape(shape)


def _new_array(*_: object) -> _Array:
    return _Array()


def _scalar(dtype: _Dtype, content: Any) -> Any:
    return _array(content, dtype, (1,), "C")[0]


def _encode(text: str, encoding: str) -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise RefusedError(f"the encoding {printable(encoding)}")
    return text.encode("latin-1")


def _no_bytes() -> bytes:
    return b""


def _no_items() -> dict[Any, Any]:
    return {}


def _storage(content: Any) -> Array:
    """(N,) the numbers of a torch storage, which a pickle holds as the bytes of another file."""
    if bytes(content[:2]) == b"PK":
        raise RefusedError("a torch archive inside a tensor")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch announces that typed storages will go
        try:
            storage = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            asked = re.search(r"GLOBAL (\S+)", one_line(error))
            raise RefusedError(
                f"{printable(asked[1])} inside a tensor" if asked else "more than a tensor"
            ) from error
        if not isinstance(storage, torch.storage.TypedStorage):
            raise ValueError("a tensor without its numbers")
        numbers: Array = torch.empty(0, dtype=storage.dtype).set_(storage).numpy()
    return numbers


def _tensor(numbers: Array, offset: Any, size: Any, stride: Any, *_: object) -> Array:
    if not all(map(_are_sizes, (size, (offset,), stride))):
        raise ValueError(f"a tensor of shape {printable(size)} from {printable(offset)} on")
    count = math.prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
    if count and max(last + 1, count) > len(numbers):
        raise ValueError(f"a tensor of shape {printable(size)} in {len(numbers)} numbers")
    if not count:
        return np.empty(size, numbers.dtype)
    strides = tuple(step * numbers.itemsize for step in stride)
    return np.lib.stride_tricks.as_strided(numbers[offset:], size, strides, writeable=False)


_ARRAY_CLASS = object()  # for numpy.ndarray, which is named but never called

# All that a file can reach.
_GLOBALS: dict[tuple[str, str], object] = {
    ("numpy", "ndarray"): _ARRAY_CLASS,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _new_array,
    ("numpy._core.multiarray", "_reconstruct"): _new_array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _array,
    ("numpy._core.numeric", "_frombuffer"): _array,
    ("_codecs", "encode"): _encode,
    ("builtins", "bytes"): _no_bytes,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): _no_items,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
}

# --- The reader -----------------------------------------------------------------------------------

# These build lists, tuples, text and numbers, and call one of the functions above.
_INSTRUCTIONS = """
    PROTO STOP MARK POP NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT
    SHORT_BINBYTES BINBYTES BINBYTES8 SHORT_BINUNICODE BINUNICODE BINUNICODE8
    EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT
    GLOBAL STACK_GLOBAL REDUCE BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET
"""

_Instruction = Callable[[Any], None]


class _Unpickler(pickle._Unpickler):
    """The Python twin of ``pickle.Unpickler``, with an allow-list of functions and one of instructions.

    Unlike the one in C, it lets instructions be left out or replaced, takes what the file's ``read`` returns
    as it is (views instead of copies), and reserves no memory for a length that a file merely states.
    """

    stack: list[Any]
    append: Callable[[Any], None]
    read: Callable[[int], Any]
    pop_mark: Callable[[], list[Any]]

    dispatch: ClassVar[dict[int, _Instruction]] = {  # type: ignore[assignment]
        code: pickle._Unpickler.dispatch[code]
        for code in (getattr(pickle, name)[0] for name in _INSTRUCTIONS.split())
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _GLOBALS[module, name]
        except KeyError as error:
            raise RefusedError(printable(f"{module}.{name}")) from error

    def load(self) -> Any:
        try:
            return super().load()
        except KeyError as error:
            code = error.args[0]
            if isinstance(code, int) and 0 <= code < 256 and code not in self.dispatch:
                raise RefusedError(f"the pickle instruction {printable(chr(code))}") from error
            raise

    def _frame(self) -> None:
        self.read(8)  # only a hint of how much to read ahead

    def _build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if not isinstance(target, _Array | _Dtype):
            raise RefusedError(f"changing a {type(target).__name__}")
        target.set_state(state)

    def _set_items(self) -> None:
        self._update(self.pop_mark())

    def _set_item(self) -> None:
        value = self.stack.pop()
        self._update([self.stack.pop(), value])

    def _update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        # Deeply nested tuples as keys would overflow the stack of the interpreter.
        if not isinstance(target, dict) or not all(isinstance(key, str | bytes | int) for key in items[::2]):
            raise ValueError("a dictionary with keys other than text and numbers")
        target.update(zip(items[::2], items[1::2], strict=True))

    def _byte_array(self) -> None:
        (size,) = struct.unpack("<Q", self.read(8))
        self.append(self.read(size))

    def _text_of_python_2(self) -> None:
        (size,) = struct.unpack("<i", self.read(4))
        self.append(str(self.read(size), "latin-1"))

    def _short_text_of_python_2(self) -> None:
        self.append(str(self.read(self.read(1)[0]), "latin-1"))

    dispatch |= {
        pickle.FRAME[0]: _frame,
        pickle.BUILD[0]: _build,
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.BYTEARRAY8[0]: _byte_array,
        pickle.BINSTRING[0]: _text_of_python_2,
        pickle.SHORT_BINSTRING[0]: _short_text_of_python_2,
    }


def _resolved(value: Any, seen: dict[int, Any]) -> Any:
    """``value`` with the arrays in place of those that were put together."""
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, _Array):
        if value.value is None:
            raise ValueError("an array without content")
        return _resolved(value.value, seen)
    if isinstance(value, tuple):
        seen[id(value)] = tuple(_resolved(item, seen) for item in value)
        return seen[id(value)]
    seen[id(value)] = value
    if isinstance(value, dict):
        value.update({key: _resolved(item, seen) for key, item in value.items()})
    elif isinstance(value, list):
        value[:] = [_resolved(item, seen) for item in value]
    elif isinstance(value, np.ndarray) and value.dtype == object:
        flat = value.reshape(-1)  # a view
        for position, item in enumerate(flat):
            flat[position] = _resolved(item, seen)
    elif callable(value) or isinstance(value, _Dtype) or value is _ARRAY_CLASS:
        raise ValueError("a function or type where data is expected")
    return value
