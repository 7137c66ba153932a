"""Files of official features: every format is read, nothing runs, and errors name the file."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from official_folders import (
    Evil,
    write_any,
    write_averaged,
    write_temporal,
)
from sacma.data.official import hdf5
from sacma.data.official.feature_files import ClipTable, read_averaged, read_cache, read_temporal
from sacma.errors import SacmaError
from sacma.programs import environment
from sacma.text.vector_files import read_word_vectors


def same_clips(table: ClipTable, names: Sequence[str], sequences: Sequence[Any]) -> None:
    assert table.names == tuple(names)
    for one, other in zip(table.sequences, sequences, strict=True):
        np.testing.assert_array_equal(one, other)


SEQUENCES = [np.full((length, 2), length, np.float32) for length in (1, 3)]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_temporal_features(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a.pkl"
    write_temporal(path, ["v_x", "é"], SEQUENCES, protocol)
    same_clips(read_temporal(path), ["v_x", "é"], SEQUENCES)


def test_names_written_as_text(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    names = [str(b"v_x"), str("é'".encode()), "b'", "plain"]
    path.write_bytes(pickle.dumps({"features": SEQUENCES * 2, "video_names": names}))
    assert read_temporal(path).names == ("v_x", "é'", "b'", "plain")


def test_averaged_features(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    sequences = [np.full((1, 2), number, np.float32) for number in range(3)]
    write_averaged(path, ["a", "b", "é"], sequences)
    same_clips(read_averaged(path), ["a", "b", "é"], sequences)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected a dictionary with features, video_names, found list"),
        ({"features": []}, r"found \['features'\]"),
        ({"features": SEQUENCES, "video_names": [b"a"]}, "1 clip names but 2 sequences"),
        ({"features": [np.zeros((2, 2, 2))], "video_names": [b"a"]}, r"clip 'a' has .* shape \(2, 2, 2\)"),
        ({"features": [np.array([["x"]])], "video_names": [b"a"]}, "clip 'a' has"),
        ({"features": ["x"], "video_names": [b"a"]}, "features are str"),
        ({"features": [np.zeros((1, 1))], "video_names": [3]}, "a name is int"),
        ({"features": [np.zeros((1, 1))], "video_names": [b"\xff"]}, "utf-8"),
        ({"features": 3, "video_names": []}, "found int, expected a list"),
    ],
)
def test_pickles_of_something_else(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(SacmaError, match=rf"a\.pkl: .*{message}"):
        read_temporal(path)


def write_h5(path: Path, **datasets: Any) -> None:
    with h5py.File(path, "w") as file:
        for name, value in datasets.items():
            file[name] = value


def test_hdf5_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    names = np.array([b"a"])
    for datasets, message in (
        ({"video_urls": names}, "no dataset 'data'; there are video_urls"),
        ({"data": np.zeros((2, 2)), "video_urls": names}, "1 clip names but 2"),
        ({"data": np.zeros(2), "video_urls": names}, r"shape \(2,\)"),
        ({"data": h5py.SoftLink("/video_urls"), "video_urls": names}, "no dataset 'data'"),
        ({"data": h5py.ExternalLink("b.h5", "/data"), "video_urls": names}, "no dataset 'data'"),
    ):
        write_h5(path, **datasets)
        with pytest.raises(SacmaError, match=rf"a\.h5: .*{message}"):
            read_averaged(path)


def test_hdf5_does_not_reach_for_other_files(tmp_path: Path) -> None:
    path, secret = tmp_path / "a.h5", tmp_path / "secret"
    secret.write_bytes(bytes(64))
    with h5py.File(path, "w") as file:
        file["video_urls"] = np.array([b"a"])
        file.create_dataset("data", (1, 2), "f4", external=[(str(secret), 0, 8)])
    with pytest.raises(SacmaError, match=r"refuses .* another file"):
        read_averaged(path)


def test_hdf5_that_claims_too_much(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["video_urls"] = np.array([b"a"])
        file.create_dataset("data", (2**40, 512), "f4", chunks=(1, 512))
    with pytest.raises(SacmaError, match="claims"):
        read_averaged(path)


READERS: Mapping[str, Callable[[Path], object]] = {
    "a.pkl": read_temporal,
    "a.h5": read_averaged,
    "a.npy": read_word_vectors,
    "a.npz": read_word_vectors,
    "cache.pkl": read_cache,
}


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.6, 0.97])
@pytest.mark.parametrize("name", READERS)
def test_files_cut_short(tmp_path: Path, name: str, kept: float) -> None:
    path = tmp_path / name
    write_any(path)
    READERS[name](path)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(SacmaError, match=str(path)) as error:
        READERS[name](path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", READERS)
def test_files_that_are_not_there_or_folders(tmp_path: Path, name: str) -> None:
    with pytest.raises(SacmaError, match=f"{name}: no such file"):
        READERS[name](tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(SacmaError, match=f"{name}: "):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("name", ["a.pkl", "a.npy", "cache.pkl"])
def test_nothing_runs(tmp_path: Path, name: str) -> None:
    path, mark = tmp_path / name, tmp_path / "mark"
    if name == "a.npy":
        np.save(path, {"a": np.ones(3), "b": Evil(mark)})  # type: ignore[arg-type]
    else:
        path.write_bytes(
            pickle.dumps({"features": [Evil(mark)], "video_names": [b"a"], "audio": {}, "video": {}})
        )
    with pytest.raises(SacmaError, match=rf"{name}: sacma refuses to run code .*builtins\.eval"):
        READERS[name](path)
    assert not mark.exists()
    if name == "a.npy":  # else this would prove nothing
        np.load(path, allow_pickle=True)
        assert mark.exists()


# --- Another process reads HDF5 -------------------------------------------------------------------------


def averaged(path: Path) -> Path:
    write_averaged(path, ["a"], [np.ones((1, 2), np.float32)])
    return path


@pytest.mark.parametrize(
    ("program", "message"),
    [("import time; time.sleep(60)", r"given up after 0\.5 s"), ("import os; os.abort()", "crashed")],
)
def test_a_file_that_hangs_or_crashes_the_library(
    program: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = averaged(tmp_path / "a.h5")
    with monkeypatch.context() as changed:
        hdf5._stop()
        changed.setattr(hdf5, "command", lambda _: [sys.executable, "-c", program])
        changed.setattr(hdf5, "SECONDS", 0.5)
        with pytest.raises(SacmaError, match=rf"a\.h5: damaged.*{message}"):
            read_averaged(path)
    assert read_averaged(path).names == ("a",)
    assert hdf5._worker is not None
    hdf5._worker.kill()
    hdf5._worker.wait()
    assert read_averaged(path).names == ("a",)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is not limited here")
def test_a_file_that_needs_much_memory(tmp_path: Path) -> None:
    """100 MB of zeros, packed: fewer bytes than deflate could pack, and more than this limit."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", (25, 1 << 20), np.float32, compression="gzip", fillvalue=0)[:] = 0
        file["video_urls"] = np.array([b"a"] * 25)
    bounded = "from sacma.data.official import hdf5; hdf5.MEMORY = 50 << 20; hdf5.main()"
    asked = os.fsencode(path).hex()
    ended = subprocess.run(
        [sys.executable, "-P", "-c", bounded],
        input=f'"{asked}"\n',
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == '{"error": "it takes too much memory"}\n'


def test_the_process_that_reads_is_of_one_process(tmp_path: Path) -> None:
    """A forked process has a reader of its own, as answers would be mixed up otherwise."""
    path = averaged(tmp_path / "a.h5")
    read_averaged(path)
    assert hdf5._worker is not None
    ours = hdf5._worker.pid
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(read_averaged, (path,)).names == ("a",)
        assert pool.apply(_reader) != ours
    assert read_averaged(path).names == ("a",)
    assert _reader() == ours


def _reader() -> int:
    return 0 if hdf5._worker is None else hdf5._worker.pid
