"""Search in large libraries: time beside recall, exact search as reference; and the time of a whole command.

    python speed/library_search.py windows [--windows 1000000] [--width 512] [--lancedb]
    python speed/library_search.py command LIBRARY [--text "playing violin"] [--repeats 5]
    python speed/library_search.py predict LIBRARY [--clips 1000]

``windows`` makes unit vectors up: clusters with directions of falling strength, as encoders give, or, with
``--noise``, alike in all directions, which nothing can shorten. Queries are such vectors too. Recall is the
share of the exact first ten that is found. ``--lancedb`` builds its index (IVF-PQ) on the same vectors.
``command`` starts ``sacma search`` in a process of its own. ``predict`` copies the clips of a library until
there are enough.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sacma.library.arrays import ROUGH, leading_basis
from sacma.library.search import largest

Array = NDArray[np.float32]
TOP = 10
CLUSTERS = 2000


def drawn(count: int, width: int, rng: np.random.Generator, *, noise: bool, centres: Array | None) -> Array:
    """Unit vectors (count, width)."""
    rows = rng.standard_normal((count, width), dtype=np.float32)
    if not noise and centres is not None:
        strength = (1 / np.sqrt(1 + np.arange(width))).astype(np.float32)
        rows = centres[rng.integers(0, len(centres), count)] + 0.7 * rows * strength
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def windows(folder: Path, count: int, width: int, *, noise: bool, lancedb: bool, queries: int) -> None:
    """Exact and rough search over mapped files, and the index of LanceDB if asked for."""
    rng = np.random.default_rng(0)
    strength = (1 / np.sqrt(1 + np.arange(width))).astype(np.float32)
    centres = rng.standard_normal((CLUSTERS, width), dtype=np.float32) * strength
    rows = np.lib.format.open_memmap(folder / "rows.npy", mode="w+", dtype=np.float32, shape=(count, width))
    for first in range(0, count, 50_000):
        some = min(50_000, count - first)
        rows[first : first + some] = drawn(some, width, rng, noise=noise, centres=centres)
    asked = drawn(queries, width, rng, noise=noise, centres=centres)
    began = time.perf_counter()
    basis = leading_basis(rows)
    rough = np.lib.format.open_memmap(folder / "rough.npy", mode="w+", dtype=np.float32, shape=(count, ROUGH))
    for first in range(0, count, 65_536):
        rough[first : first + 65_536] = rows[first : first + 65_536] @ basis
    told("rough rows made", time.perf_counter() - began, "s")

    def exact(v: Array) -> NDArray[np.int64]:
        return best(rows @ v, TOP)

    def through_rough(v: Array, first: int) -> NDArray[np.int64]:
        places = largest(rough @ (v @ basis), first)
        return places[best(rows[places] @ v, TOP)]

    wanted = [set(exact(v).tolist()) for v in asked]
    measured("exact", exact, asked, wanted)
    for first in (1024, 4096, 16384):
        measured(f"rough, {first} exact", partial(through_rough, first=first), asked, wanted)
    told("largest memory of the process", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, "GiB")
    if lancedb:
        of_lancedb(folder, rows, asked, wanted)


def of_lancedb(folder: Path, rows: Array, asked: Array, wanted: list[set[int]]) -> None:
    """The same vectors in LanceDB: search without an index, and with IVF-PQ by numbers of probes."""
    began = time.process_time(), time.perf_counter()
    import lancedb  # type: ignore[import-not-found, unused-ignore]
    import pyarrow as pa

    told("import lancedb, processor", time.process_time() - began[0], "s")
    told("import lancedb, clock", time.perf_counter() - began[1], "s")
    database = lancedb.connect(folder / "lance")

    def batches() -> object:
        for first in range(0, len(rows), 50_000):
            some = np.asarray(rows[first : first + 50_000])
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(some.reshape(-1)), some.shape[1])
            ids = pa.array(np.arange(first, first + len(some)))
            yield pa.RecordBatch.from_arrays([ids, vectors], ["id", "vector"])

    schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32(), rows.shape[1]))])
    table = database.create_table("windows", batches(), schema=schema)

    def ask(v: Array, probes: int = 0) -> NDArray[np.int64]:
        started: Any = table.search(v)
        query = started.distance_type("dot").limit(TOP).select(["id", "_distance"])
        if probes:
            query = query.nprobes(probes).refine_factor(20)
        return query.to_arrow()["id"].to_numpy()

    measured("LanceDB, no index", ask, asked, wanted)
    began = time.process_time(), time.perf_counter()
    table.create_index("vector", config=lancedb.index.IvfPq(distance_type="dot"))
    told("LanceDB index made, clock", time.perf_counter() - began[1], "s")
    for probes in (20, 100):
        measured(f"LanceDB IVF-PQ, {probes} probes", partial(ask, probes=probes), asked, wanted)


def best(scores: Array, top: int) -> NDArray[np.int64]:
    """Places of the best scores."""
    places = largest(scores, top)
    return places[np.argsort(-scores[places])]


def measured(
    name: str, search: Callable[[Array], NDArray[np.int64]], asked: Array, wanted: list[set[int]]
) -> None:
    """Print the time of a query, median and slowest, and the recall."""
    search(asked[0])
    clock, processor, found = [], [], []
    for v, right in zip(asked, wanted, strict=True):
        began = time.perf_counter(), time.process_time()
        some = search(v)
        clock.append(1000 * (time.perf_counter() - began[0]))
        processor.append(1000 * (time.process_time() - began[1]))
        found.append(len(right & set(some.tolist())) / len(right))
    times = f"{statistics.median(clock):8.1f} ms, slowest {max(clock):8.1f} ms, processor "
    times += f"{statistics.median(processor):8.1f} ms"
    print(f"{name:28} {times}, recall {statistics.mean(found):.3f}", flush=True)


def told(name: str, value: float, unit: str) -> None:
    """Print one figure."""
    print(f"{name:28} {value:8.2f} {unit}", flush=True)


def command(library: Path, text: str, repeats: int) -> None:
    """Time of ``sacma search`` from its start to its end."""
    code = "import sys; from sacma.cli import main; sys.exit(main())"
    clock, processor = [], []
    for _ in range(repeats + 1):
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        arguments = [sys.executable, "-c", code, "search", str(library), text]
        subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
        clock.append(time.perf_counter() - began)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    told("sacma search, clock", statistics.median(clock[1:]), "s")
    told("sacma search, processor", statistics.median(processor[1:]), "s")


def predict(library: Path, clips: int, classes: str) -> None:
    """Time of the answers for many clips of a library, after loading."""
    from sacma.library.answers import predictions
    from sacma.library.arrays import write_arrays
    from sacma.library.search import open_library
    from sacma.library.store import Store

    with tempfile.TemporaryDirectory() as folder, open_library(library) as source:
        made = Store.create(Path(folder) / "library", source.facts, source.store.of_clip(0))
        entries = source.clips
        for number in range(clips):
            entry = entries[number % len(entries)]
            other = entry.path.with_name(f"{number}-{entry.path.name}")
            facts = (entry.class_name, None, None, entry.size, entry.modified, entry.sha256, entry.seconds)
            made.put(type(entry)(other, *facts), source.store.of_clip(entry.id))
        write_arrays(made)
        made.close()
        with open_library(Path(folder) / "library") as opened:
            next(iter(predictions(opened, classes)))
            began = time.process_time(), time.perf_counter()
            count = sum(1 for _ in predictions(opened, classes))
            told(f"{count} clips answered, clock", time.perf_counter() - began[1], "s")
            told(f"{count} clips answered, processor", time.process_time() - began[0], "s")


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("windows", "command", "predict"))
    parser.add_argument("library", type=Path, nargs="?")
    parser.add_argument("--windows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--queries", type=int, default=30)
    parser.add_argument("--noise", action="store_true", help="vectors alike in all directions")
    parser.add_argument("--lancedb", action="store_true")
    parser.add_argument("--folder", type=Path, help="where the vectors are written")
    parser.add_argument("--text", default="playing violin")
    parser.add_argument("--classes", default="violin, tuba, flute, accordion, cello")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clips", type=int, default=1000)
    given = parser.parse_args()
    if given.what == "windows":
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            size = {"windows": given.windows, "width": given.width, "noise": given.noise}
            print(json.dumps(size))
            windows(
                Path(folder),
                given.windows,
                given.width,
                noise=given.noise,
                lancedb=given.lancedb,
                queries=given.queries,
            )
    elif given.library is None:
        parser.error("give a library")
    elif given.what == "command":
        command(given.library, given.text, given.repeats)
    else:
        predict(given.library, given.clips, given.classes)


if __name__ == "__main__":
    main()
