"""Features averaged over time, from HDF5 files of strangers: another process reads them.

The library in C may crash, or loop for ever, on a damaged file. One process reads file after file; it has
limits on time and memory, and is replaced when it has died. It is asked by a line of JSON and answers with
one, followed by the bytes of the features; there are no pickles.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sacma import machine
from sacma.errors import one_line, printable
from sacma.files import RefusedError
from sacma.programs import command, environment
from sacma.text.names import decoded

try:
    import resource
except ImportError:  # on Windows
    resource = None  # type: ignore[assignment]

SECONDS = 60.0
"""Of reading a file; those of the benchmarks take a fraction of one."""
MEMORY = 2 << 30
"""Bytes that reading a file may take, besides four times its size."""
_TEXTS = 4096
"""Texts of varying length that are read at once, at most."""

Array = NDArray[Any]

_PROGRAM = "sacma.data.official.hdf5"
_lock = threading.Lock()
_worker: subprocess.Popen[bytes] | None = None


def read_tables(path: Path) -> tuple[list[str], Array]:
    """Read the names (N,) and the features (N, D) of a file.

    Raises:
        ValueError: damaged, of another kind, or it took too long or too much memory.
        RefusedError: it asks for another file.
    """
    with _lock:
        worker = _running()
        assert worker.stdin is not None
        assert worker.stdout is not None
        given_up = threading.Event()

        def give_up() -> None:
            given_up.set()
            worker.kill()

        late = threading.Timer(SECONDS, give_up)
        late.start()
        try:
            worker.stdin.write(json.dumps(os.fsencode(os.path.abspath(path)).hex()).encode() + b"\n")
            worker.stdin.flush()
            answer = json.loads(worker.stdout.readline())
            if "names" in answer:
                return answer["names"], _received(worker.stdout, answer["type"], answer["shape"])
        except (OSError, ValueError, EOFError) as error:
            _stop()
            if given_up.is_set():
                raise ValueError(f"given up after {SECONDS:g} s of reading") from error
            raise ValueError("the HDF5 library crashed, or ran out of memory") from error
        finally:
            late.cancel()
    if "refused" in answer:
        raise RefusedError(answer["refused"])
    raise ValueError(answer["error"])


def _received(stream: IO[bytes], dtype: str, shape: list[int]) -> Array:
    array = np.empty(shape, np.dtype(dtype))
    left = array.reshape(-1).view(np.uint8).data
    while left:
        count = stream.readinto(left)  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        left = left[count:]
    return array


def _running() -> subprocess.Popen[bytes]:
    global _worker  # noqa: PLW0603
    if _worker is None or _worker.poll() is not None:
        _stop()
        _worker = subprocess.Popen(
            command(_PROGRAM),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
        )
    return _worker


def _stop() -> None:
    global _worker  # noqa: PLW0603
    if _worker is not None:
        _worker.kill()
        _worker.wait()
        for pipe in (_worker.stdin, _worker.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        _worker = None


_of_parent: list[object] = []


def _forget() -> None:
    """A forked process has none of its parent's."""
    global _worker, _lock
    _of_parent.append(_worker)
    _worker, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


# --- The other process --------------------------------------------------------------------------------


def main() -> None:
    """Serve until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    if resource is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asks, whose end is noticed
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in sys.stdin.buffer:
        _answer(Path(os.fsdecode(bytes.fromhex(json.loads(line)))), answers)


def _answer(path: Path, answers: IO[bytes]) -> None:
    data = None
    try:
        _bound(path)
        names, data = _read(path)
        message: dict[str, Any] = {"names": names, "type": data.dtype.str, "shape": data.shape}
    except RefusedError as error:
        message = {"refused": str(error)}
    except MemoryError:
        message = {"error": "it takes too much memory"}
    except Exception as error:  # what the library makes of a file that nobody thought of
        message = {"error": one_line(error, limit=200) or type(error).__name__}
    answers.write(json.dumps(message).encode() + b"\n")
    if data is not None:
        answers.write(np.ascontiguousarray(data).reshape(-1).view(np.uint8).data)
    answers.flush()


def _bound(path: Path) -> None:
    """Limit the time and the memory of reading a file."""
    if resource is None:
        return
    signal.setitimer(signal.ITIMER_PROF, SECONDS + 5)  # also where nobody is left who waits
    with suppress(OSError):  # of a file that is gone; told when it is opened
        machine.limit_growth(MEMORY + 4 * path.stat().st_size)


def _read(path: Path) -> tuple[list[str], Array]:
    size = path.stat().st_size
    with h5py.File(path, "r") as file:
        data = _dataset(file, "data", size)
        names = _dataset(file, "video_urls", size)
    if data.dtype.kind not in "fiu":
        raise ValueError(f"'data' holds {data.dtype}, expected numbers")
    return [decoded(name) for name in names.tolist()], data


def _dataset(file: h5py.File, name: str, file_size: int) -> Array:
    """Read a dataset that lies in the file itself, not in another one."""
    link = file.get(name, getlink=True)
    dataset = file[name] if isinstance(link, h5py.HardLink) else None
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"no dataset {printable(name)}; there are {', '.join(sorted(file)) or 'none'}")
    if dataset.external or dataset.is_virtual:
        raise RefusedError(f"another file, for {printable(name)}")
    if dataset.dtype.hasobject:
        return _texts(dataset, name, file_size)
    # Deflate packs at most 1032 to 1, so more than that is a false statement.
    if dataset.nbytes > 1100 * file_size:
        raise ValueError(f"{printable(name)} claims {dataset.nbytes} bytes in a file of {file_size}")
    values: Array = dataset[()]
    return values


def _texts(dataset: h5py.Dataset, name: str, file_size: int) -> Array:
    """Read texts of varying length, counted by what they hold: many references may point to one long text.

    They lie in the file unpacked, so all of them together are no longer than the file.
    """
    if h5py.check_string_dtype(dataset.dtype) is None or dataset.ndim != 1 or len(dataset) > file_size:
        raise ValueError(f"{printable(name)} is no list of texts")
    texts: list[Any] = []
    left, longest = file_size, 1024
    while len(texts) < len(dataset):
        most = min(_TEXTS, 16 + 2 * len(texts), left // (4 * longest))
        some = dataset[len(texts) : len(texts) + max(1, most)]
        texts += list(some)
        left -= sum(map(len, some))
        longest = max(longest, *map(len, some))
        if left < 0:
            raise ValueError(f"{printable(name)} claims more text than a file of {file_size} bytes holds")
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


if __name__ == "__main__":
    main()
