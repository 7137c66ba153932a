"""Pickles read as data: everything that data needs, nothing that runs, whatever the file says."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sacma import pickles
from sacma.errors import SacmaError


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# --- Data -----------------------------------------------------------------------------------------

ARRAYS = {
    "float": np.arange(6.0, dtype=np.float32).reshape(2, 3),
    "large": np.arange(40000.0).reshape(200, 200),
    "columns first": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
    "big endian": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 3), np.float32),
    "text": np.array(["a", "bcd", "é"]),
    "bytes": np.array([b"a", b"bcd"]),
    "objects": np.array(["a", None, 3], dtype=object),
    "no dimension": np.array(4.0),
    "bits": np.array([True, False]),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ARRAYS)
def test_arrays(tmp_path: Path, kind: str, protocol: int) -> None:
    array = ARRAYS[kind]
    read = pickles.load(written(tmp_path / "a.pkl", pickle.dumps({"x": [array, array]}, protocol)))["x"]
    assert all(isinstance(one, np.ndarray) for one in read)
    np.testing.assert_array_equal(read[1], array)
    assert read[0].dtype == array.dtype
    assert read[0].shape == array.shape


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_other_values(tmp_path: Path, protocol: int) -> None:
    value = {
        "numbers": [0, -1, 255, 70000, 2**40, -(2**70), 1.5, np.float32(2.5), np.int64(7)],
        "text": ["", "é", "x" * 2000],
        "flags": (True, False, None),
        "bytes": [b"", b"name", b"n" * 300],
        "nested": {"a": [[], {}, (), (1, (2,))]},
        3: "number as key",
    }
    path = written(tmp_path / "a.pkl", pickle.dumps(value, protocol))
    assert pickles.load(path) == value


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_tensors(tmp_path: Path, protocol: int) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    value = {
        "whole": whole,
        "part": whole[1:, ::2],
        "turned": whole.T,
        "labels": torch.tensor([3, 1]),
        "none": whole[:0],
    }
    read = pickles.load(written(tmp_path / "a.pkl", pickle.dumps(value, protocol)))
    for name, tensor in value.items():
        np.testing.assert_array_equal(read[name], tensor.numpy())
        assert read[name].dtype == tensor.numpy().dtype


def test_names_of_numpy_1_and_2(tmp_path: Path) -> None:
    for protocol in (2, 4, 5):
        content = pickle.dumps(np.arange(3), protocol)
        old = content.replace(b"numpy._core", b"numpy.core")
        if protocol >= 4:  # the length stands before the text
            length = content[content.index(b"numpy._core") - 1]
            old = old.replace(bytes([length]) + b"numpy.core", bytes([length - 1]) + b"numpy.core")
        for each in (content, old):
            np.testing.assert_array_equal(pickles.load(written(tmp_path / "a.pkl", each)), np.arange(3))


def test_text_of_python_2(tmp_path: Path) -> None:
    array = np.arange(3, dtype="<f4")
    # dumps(numpy.arange(3, dtype='f4'), 2) as Python 2 wrote it
    content = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03("
        b"K\x01K\x03\x85cnumpy\ndtype\nq\x04U\x02f4K\x00K\x01\x87Rq\x05(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xff"
        b"K\x00tb\x89" + b"T" + struct.pack("<i", 12) + array.tobytes() + b"tb."
    )
    np.testing.assert_array_equal(pickles.load(written(tmp_path / "a.pkl", content)), array)


def test_arrays_are_views_of_the_file(tmp_path: Path) -> None:
    arrays = [np.full((50, 100), number, np.float32) for number in range(20)]
    for protocol in (4, 5):
        read = pickles.load(written(tmp_path / f"{protocol}.pkl", pickle.dumps(arrays, protocol)))
        assert not any(array.flags.owndata or array.flags.writeable for array in read)


@settings(deadline=None, max_examples=50)
@given(
    array=hnp.arrays(
        st.sampled_from([np.float32, np.float64, np.uint8, np.int64, np.bool_]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5),
    ),
    protocol=st.sampled_from([2, 3, 4, 5]),
)
def test_any_array(
    tmp_path_factory: pytest.TempPathFactory, array: np.ndarray[Any, Any], protocol: int
) -> None:
    path = written(tmp_path_factory.mktemp("p") / "a.pkl", pickle.dumps(array, protocol))
    np.testing.assert_array_equal(pickles.load(path), array)


# --- Hostile files --------------------------------------------------------------------------------


class Calls:
    """Pickles to a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def attacks(mark: Path) -> dict[str, Any]:
    """Objects that make a file at ``mark`` when they are unpickled."""
    code = f"open({str(mark)!r}, 'w')"
    evil = Calls(builtins.eval, code)
    in_objects = np.empty(2, dtype=object)
    in_objects[:] = [1.0, evil]
    return {
        "system": Calls(os.system, f"touch {mark}"),
        "eval": evil,
        "exec": Calls(builtins.exec, code),
        "getattr": Calls(getattr, Calls(__import__, "os"), "system"),
        "open": Calls(open, str(mark), "w"),
        "load again": Calls(pickle.loads, pickle.dumps(evil)),
        "load an array": Calls(np.load, io.BytesIO(pickle.dumps(evil)), None, True),
        "load a tensor": Calls(torch.load, str(mark)),
        "in a list": {"features": [np.zeros((1, 2)), evil]},
        "as a key": {"features": OrderedDict([("a", evil)])},
        "in an array of objects": in_objects,
        "bytes of a size": Calls(bytearray, 10),
    }


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("attack", attacks(Path("x")))
def test_nothing_runs(tmp_path: Path, attack: str, protocol: int) -> None:
    mark = tmp_path / "mark"
    path = written(tmp_path / "a.pkl", pickle.dumps(attacks(mark)[attack], protocol))
    with pytest.raises(SacmaError, match=r"a\.pkl: sacma refuses to run code .* asks for '[\w.]+'") as error:
        pickles.load(path)
    assert not mark.exists()
    assert "\n" not in str(error.value)


def test_the_attacks_work_without_protection(tmp_path: Path) -> None:
    """Else the test above would prove nothing."""
    for name in ("system", "eval", "in an array of objects"):
        mark = tmp_path / f"mark {name}".replace(" ", "_")
        pickle.loads(pickle.dumps(attacks(mark)[name]))
        assert mark.exists()


def tensor_with(content: bytes) -> bytes:
    """A pickled tensor whose numbers are the given bytes."""

    class Numbers:
        def __reduce__(self) -> Any:
            return torch.storage._load_from_bytes, (content,)

    class Whole:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (Numbers(), 0, (1,), (1,), False, OrderedDict())

    return pickle.dumps(Whole())


def test_nothing_runs_inside_a_tensor(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    evil = Calls(os.system, f"touch {mark}")
    archive = io.BytesIO()
    torch.save({"x": evil}, archive)
    legacy = io.BytesIO()
    torch.save({"x": evil}, legacy, _use_new_zipfile_serialization=False)
    for content in (pickle.dumps(evil), archive.getvalue(), legacy.getvalue()):
        with pytest.raises(SacmaError, match="refuses to run code"):
            pickles.load(written(tmp_path / "a.pkl", tensor_with(content)))
        assert not mark.exists()


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_archives_inside_a_tensor(tmp_path: Path) -> None:
    """Archives can be compressed, so a small file could fill the memory; pickled tensors never hold one."""
    archive = io.BytesIO()
    torch.save(torch.zeros(1).storage(), archive)
    with pytest.raises(SacmaError, match=r"refuses .* torch archive"):
        pickles.load(written(tmp_path / "a.pkl", tensor_with(archive.getvalue())))


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04cbuiltins\neval\n}b.",  # sets the state of a function
        b"\x80\x04c_codecs\nencode\n}\x8c\x01a\x8c\x01bsb.",
        b"\x80\x04cnumpy\nndarray\n}b.",
        b"\x80\x04c_codecs\nencode\n\x8c\x01a\x8c\x04rot5\x86R.",  # another codec
        b"\x80\x02(cbuiltins\neval\n\x8c\x011o.",  # OBJ
        b"\x80\x02cbuiltins\neval\n)\x81.",  # NEWOBJ
        b"(S'1'\nibuiltins\neval\n.",  # INST
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x02\x8c\x01xQ.",  # a persistent id
        b"\x80\x04\x8c\x03a\nb\x8c\x01c\x93.",  # a name over two lines
    ],
)
def test_instructions_that_data_does_not_need(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SacmaError, match="refuses to run code") as error:
        pickles.load(written(tmp_path / "a.pkl", content))
    assert "\n" not in str(error.value)


def array_of(shape: tuple[int, ...], content: bytes, code: str = "f4") -> bytes:
    """A pickled array with a shape of our choice."""
    honest = pickle.dumps(np.zeros(1, np.float32), 2)
    assert honest.count(b"K\x01\x85") == 1
    body = honest.replace(b"K\x01\x85", pickle.dumps(shape, 2)[2:-1].replace(b"q\x00", b""))
    return body.replace(
        b"X\x04\x00\x00\x00\x00\x00\x00\x00", b"X" + struct.pack("<I", len(content)) + content
    )


@pytest.mark.parametrize(
    "content",
    [
        array_of((2**50,), b"0000"),
        array_of((-1,), b"0000"),
        array_of((-1, -1), b"0000"),
        array_of((2,), b"0000"),
        b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b".",  # a byte array
        b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".",  # bytes
        b"\x80\x04N" + b"r\xff\xff\xff\xff" + b"r\xfe\xff\xff\xff" + b"0.",  # far places in the memo
        b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"K\x01",  # a frame, and no end
        b"\x80\x04" + b"(" * 10**5,
        b"\x80\x04}" + b")" + b"\x85" * 10**5 + b"Ns.",  # a deep tuple as key
        b"\x80\x04)" + b"\x85" * 10**5 + b".",  # a deep tuple
        b"\x80\x04]a.",
        b"\x80\x04h\x05.",
        b"\x80\x04.",
        b"\x80\x63N.",
        b"\x80",
        b"",
        b"not a pickle",
        b"\x80\x04cnumpy\nndarray\n.",  # a type where data is expected
    ],
)
def test_false_statements_and_rubbish(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(SacmaError, match=r"a\.pkl: ") as error:
        pickles.load(written(tmp_path / "a.pkl", content))
    assert "\n" not in str(error.value)


def test_shared_tuples_take_no_time(tmp_path: Path) -> None:
    """Each of 60 tuples holds the one before it twice: 2**60 if they were gone through one by one."""
    doubling = b"".join(
        b"r" + struct.pack("<I", number) + b"j" + struct.pack("<I", number) + b"\x86" for number in range(60)
    )
    pickles.load(written(tmp_path / "a.pkl", b"\x80\x04)" + doubling + b"."))


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
@pytest.mark.parametrize(
    ("offset", "size", "stride"), [(0, (9,), (1,)), (5, (2,), (4,)), (-1, (1,), (1,)), (0, (10**9,), (0,))]
)
def test_tensors_that_reach_beyond_their_numbers(tmp_path: Path, offset: int, size: Any, stride: Any) -> None:
    storage = torch.zeros(8).storage()

    class Whole:
        def __reduce__(self) -> Any:
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, False, OrderedDict())

    with pytest.raises(SacmaError, match="a tensor of shape"):
        pickles.load(written(tmp_path / "a.pkl", pickle.dumps(Whole())))


# Made once: a pickled tensor names its storage by an address, which differs from tensor to tensor.
PICKLES = {
    protocol: pickle.dumps(
        {"features": [np.ones((2, 3), np.float32)], "names": [b"a"], "t": torch.ones(2)}, protocol
    )
    for protocol in (2, 4, 5)
}


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_changed_byte_or_a_cut_is_an_error_or_data(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(PICKLES[data.draw(st.sampled_from(sorted(PICKLES)))])
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content[place] = data.draw(st.integers(0, 255))
    else:
        del content[place:]
    path = written(tmp_path_factory.mktemp("p") / "a.pkl", bytes(content))
    with suppress(SacmaError):  # and no other exception
        pickles.load(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(SacmaError, match="no such file"):
        pickles.load(tmp_path / "a.pkl")
