"""Damaged and malicious files: a seeded fuzzer of each reader of foreign bytes.

A case is a small file with some bytes changed, moved, cut, or mixed with another one; text also gets values
of other types. Right is that it is read or refused by one ``SacmaError``, soon and in little memory. Cases
run in a process of their own, so that a crash or an endless loop is a failure and not the end of the suite.
``SACMA_FUZZ_SECONDS`` sets for how long cases are tried, all kinds together; by default each kind gets a few.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import resource
import struct
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
import yaml

from sacma.checkpoints import read_checkpoint
from sacma.data import tfrecord
from sacma.data.class_lists import read_class_list, read_clip_list, read_name_mapping
from sacma.data.download import read_archives
from sacma.data.features import Features
from sacma.data.features_writer import FeaturesWriter
from sacma.data.groups import read_groups
from sacma.data.official.feature_files import read_averaged, read_cache, read_temporal
from sacma.data.unpacking import extract_zip
from sacma.errors import SacmaError
from sacma.metrics.gzsl import GZSLResult
from sacma.runs.config import load_options, resolve
from sacma.runs.records import RunResult, StageSelection
from sacma.studies.tuning import read_space
from sacma.text.vector_files import read_word_vectors
from sacma.text.vectors import TextTable

SECONDS = float(os.environ.get("SACMA_FUZZ_SECONDS", "0"))
CASES = 60
"""Of each kind of file where no time is set."""
SLOWEST = 20.0
"""Seconds of processor time of a case."""
MEMORY = 1 << 30
"""Bytes that a case may take beside what the imports took."""
BYTES = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
MEASURED = GZSLResult(
    seen=0.5, unseen=0.4, harmonic_mean=0.44, zsl=0.5, bias=0.1, ausuc=0.3, bias_search="exact",
    per_class={"a": 0.5}, per_class_zsl={"a": 0.5}, warnings=(),
).to_dict()  # fmt: skip


def write_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"features": [BYTES, BYTES], "video_names": ["a", "b"]}, protocol=4))


def write_cache(path: Path) -> None:
    one = {"data": [BYTES], "target": torch.tensor([1]), "url": np.array(["a"])}
    path.write_bytes(pickle.dumps({"audio": one, "video": one}, protocol=2))


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=BYTES, compression="gzip")
        file.create_dataset("video_urls", data=["a", "b", "c"], dtype=h5py.string_dtype())


def write_npy(path: Path) -> None:
    np.save(path, np.array({"a": BYTES[0], "b": BYTES[1]}, dtype=object), allow_pickle=True)


def write_npz(path: Path) -> None:
    TextTable(("a", "b", "c"), BYTES, str(path), {"encoder": "glove", "words": "mean"}).write(path)


def write_set(path: Path) -> None:
    writer = FeaturesWriter(
        path.parent / "set",
        ["a", "b"],
        audio_width=4,
        video_width=4,
        audio_step=1,
        video_step=1,
        provenance={},
    )
    with writer:
        writer.add("clip", 0, 1, BYTES, BYTES, group="one")


def write_result(path: Path) -> None:
    texts = "benchmark features feature_scaling split text text_alignment method variant preset bias_search"
    content = {"format": 1, "seed": 0, "epochs": 1, "validation": MEASURED, "test": MEASURED}
    path.write_text(json.dumps(content | dict.fromkeys(texts.split(), "x")))


def write_record(path: Path) -> None:
    message = tfrecord._sequence_example()()
    message.context.feature["id"].bytes_list.value.append(b"abcd")
    message.context.feature["labels"].int64_list.value.extend([1, 2])
    path.write_bytes(message.SerializeToString())


def write_records(path: Path) -> None:
    write_record(path)
    content = path.read_bytes()
    length = struct.pack("<Q", len(content))
    checks = [struct.pack("<I", tfrecord.masked_crc(part)) for part in (length, content)]
    path.write_bytes(length + checks[0] + content + checks[1])


def read_records(path: Path) -> None:
    for content in tfrecord.records(path):
        decode(content)


def decode(content: bytes) -> None:
    try:
        tfrecord.decode(content)
    except ValueError as error:
        raise SacmaError(f"wrong record: {error}") from error


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("class-split/all_class.txt", "ant\nbee\n" * 20)
        archive.writestr("features/a.txt", "x" * 100)


def read_set(path: Path) -> None:
    (path.parent / "set" / "clips.json").write_bytes(path.read_bytes())
    Features.open(path.parent / "set").verify()


def read_values(path: Path) -> None:
    """The tensors of a set whose index is whole."""
    (path.parent / "set" / "clips.safetensors").write_bytes(path.read_bytes())
    Features.open(path.parent / "set").verify()


def written(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(text) and None


def copied(name: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        write_set(path)
        path.write_bytes((path.parent / "set" / name).read_bytes())

    return write


ARCHIVES = "ucf:\n  selavi: {urls: ['http://a/b'], sha256: " + "a" * 64 + "}\n"
CLIPS = "filename,label,group\nclip a,ant,one\nclip b,bee,two\n"
SELECTION = json.dumps({"epochs": 1, "validation": MEASURED, "learning_rates": [[0.1]]})
KINDS: dict[str, tuple[str, Callable[[Path], Any], Callable[[Path], Any]]] = {
    "pickle": ("ant.pkl", write_pickle, read_temporal),
    "cache": ("cache.pkl", write_cache, read_cache),
    "hdf5": ("ant.h5", write_hdf5, read_averaged),
    "npy": ("words.npy", write_npy, read_word_vectors),
    "npz": ("words.npz", write_npz, TextTable.read),
    "list": ("all_class.txt", written("ant\nbee\nCamelCase\n"), read_class_list),
    "csv": ("clips.csv", written(CLIPS), read_clip_list),
    "groups": ("groups.csv", written(CLIPS), read_groups),
    "names": ("names.csv", written("original,manual\nant,an ant\nbee,a bee\n"), read_name_mapping),
    "yaml": ("archives.yaml", written(ARCHIVES), read_archives),
    "space": (
        "space.yaml",
        written("width: [1, 2]\nlr: {low: 0.1, high: 1.0}\n"),
        lambda p: read_space(str(p)),
    ),
    "config": ("config.yaml", lambda path: resolve({}).save(path), lambda path: resolve(load_options(path))),
    "result": ("result.json", write_result, RunResult.read),
    "selection": ("selection.json", written(SELECTION), StageSelection.read),
    "index": ("clips.json", copied("clips.json"), read_set),
    "tensors": ("clips.safetensors", copied("clips.safetensors"), read_values),
    "checkpoint": (
        "a.pt",
        lambda path: torch.save({"model": {"w": torch.ones(2, 3)}}, path),
        read_checkpoint,
    ),
    "records": ("a.tfrecord", write_records, read_records),
    "record": ("record", write_record, lambda path: decode(path.read_bytes())),
    "zip": ("a.zip", write_zip, lambda path: extract_zip(path, path.parent / f"out{time.monotonic_ns()}")),
}
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF)
ODD = (
    "null", "-1", "NaN", "Infinity", "1e999", "9" * 400, "9" * 5000, "true", "[]", "{}", '"x"', "[" * 5000,
    "\\ud800",
    "&a [*a]", "!!int x", "2001-99-99", "=1+1", "\ufeff", "\x00", "a\n" * 50, ",", '"', "'",
)  # fmt: skip


def changed(whole: bytes, other: bytes, draw: np.random.Generator, *, text: bool) -> bytes:
    """A file with some of it changed."""
    data = bytearray(whole)
    for _ in range(int(draw.choice([1, 1, 2, 4, 16]))):
        at, length = int(draw.integers(0, max(1, len(data)))), int(draw.choice([1, 4, 16, 100]))
        match draw.choice(["byte", "bit", "number", "cut", "twice", "mix", "end", *["odd"] * (3 * text)]):
            case "byte":
                data[at : at + 1] = draw.bytes(1)
            case "bit":
                data[at : at + 1] = bytes(b ^ (1 << int(draw.integers(8))) for b in data[at : at + 1])
            case "number":
                number, size = int(draw.choice(NUMBERS)), int(draw.choice([1, 2, 4, 8]))
                data[at : at + size] = (number % (1 << (8 * size))).to_bytes(size, "little")
            case "cut":
                del data[at : at + length]
            case "twice":
                data[at:at] = data[at : at + length]
            case "mix":
                start = int(draw.integers(0, len(other)))
                data[at : at + length] = other[start : start + length]
            case "end":
                del data[max(at, len(data) // 4) :]
            case "odd":
                ends = [place for place, value in enumerate(data) if value in b" :,\n[]{}\"'"]
                first = int(draw.choice(ends)) + 1 if ends else at
                last = next((place for place in ends if place >= first), first)
                data[first:last] = ODD[int(draw.integers(len(ODD)))].encode("utf-8", "surrogatepass")
    return bytes(data)


def judged(read: Callable[[Path], Any], path: Path) -> str:
    """How reading a file ends; empty where it is as it should be."""
    started = time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    how = ""
    try:
        read(path)
    except SacmaError as error:
        if len(str(error)) > 1500:
            how = f"a message of {len(str(error))} characters"
    except BaseException as error:
        how = f"{type(error).__name__}: {str(error)[:200]}"
    if time.process_time() - started > SLOWEST:
        how = f"{time.process_time() - started:.0f} s"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before > MEMORY >> 10:
        how = "too much memory"
    return how


def attack(kind: str, folder: Path, first: int, last: int | None, until: float, told: Any) -> None:
    """Try cases until the time is over; the number of each is told before it is read, for a crash."""
    name, write, read = KINDS[kind]
    folder.mkdir()
    path = folder / name
    write(path)
    assert judged(read, path) == "", "a whole file is read"
    read(path)
    whole = path.read_bytes()
    other = bytes(np.random.default_rng(1).bytes(200)) + pickle.dumps(KINDS.__doc__) + yaml.dump([1]).encode()
    text = Path(name).suffix in (".txt", ".csv", ".yaml", ".json")
    for number in count(first):
        if (last is not None and number >= last) or time.monotonic() > until:
            break
        draw = np.random.default_rng([sum(kind.encode()), number])
        path.write_bytes(changed(whole, other, draw, text=text))
        told.send((number, None))
        told.send((number, judged(read, path)))
    told.send(None)


def tried(kind: str, folder: Path, seconds: float, most: int | None) -> tuple[int, list[str]]:
    """Number of cases, and the failures."""
    failures: list[str] = []
    first, rounds, until = 0, 0, time.monotonic() + seconds
    while True:
        here, there = multiprocessing.get_context("fork").Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=attack, args=(kind, folder / str(rounds), first, most, until, there), daemon=True
        )
        process.start()
        there.close()
        number, done = first - 1, False
        try:
            while here.poll(6 * SLOWEST):
                message = here.recv()
                if message is None:
                    done = True
                    break
                number, how = message
                if how:
                    failures.append(f"{kind} {number}: {how}")
        except EOFError:
            pass
        if not done:
            process.kill()
            failures.append(f"{kind} {number}: it crashed or did not end")
        process.join()
        first, rounds = number + 1, rounds + 1
        if done or len(failures) > 20 or number < 0:
            return first, failures


@pytest.mark.parametrize("kind", KINDS)
def test_changed_files_are_read_or_refused(kind: str, tmp_path: Path) -> None:
    if kind in ("records", "record"):
        pytest.importorskip("google_crc32c")
    seconds = SECONDS / len(KINDS) or 20
    cases, failures = tried(kind, tmp_path, seconds, None if SECONDS else CASES)
    print(f"{kind}: {cases} cases, {len(failures)} failures")
    assert not failures, "\n".join(failures)
    assert cases > 0


def test_a_reader_that_is_wrong_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a wrong exception, a crash and an endless loop, each is a failure of its own."""
    readers = {
        "raises": lambda path: path.read_bytes() == b"ant\n" or json.loads("?"),
        "crashes": lambda path: path.read_bytes() == b"ant\n" or os.abort(),
        "talks": lambda path: path.read_bytes() == b"ant\n" or talk(),
    }
    for name, read in readers.items():
        monkeypatch.setitem(KINDS, name, ("a.txt", written("ant\n"), read))
        (tmp_path / name).mkdir()
        cases, failures = tried(name, tmp_path / name, 20, 3)
        assert cases == 3
        assert 2 <= len(failures) <= 3, Counter(failures)


def talk() -> None:
    raise SacmaError("x" * 5000)
