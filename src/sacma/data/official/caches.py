"""Caches that the training code of AVCA-GZSL and TCAF-GZSL leaves: the clips of a stage in one file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from sacma.data.class_lists import PARTITIONS, read_class_list
from sacma.data.official.feature_files import (
    CachedClips,
    ClipTable,
    read_cache,
)
from sacma.data.official.source import Source, Sources, stamp
from sacma.errors import SacmaError
from sacma.text.names import Spelling

_DATASETS = {"ucf": "UCF", "vggsound": "VGGSound", "activitynet": "ActivityNet"}
_COLLECTIONS = ("avgzsl_benchmark_non_averaged_datasets", "avgzsl_benchmark_datasets")
_CACHE_PARTITIONS = {
    "training": PARTITIONS[:1],
    "val": PARTITIONS[1:3],
    "test": PARTITIONS[3:],
}


def cache_sources(root: Path, benchmark: str, folder: str) -> Sources:
    """Find the caches of a folder: one piece for each partition.

    ``training`` is stage_1_train. ``val`` and ``test`` hold a seen and an unseen partition, which the class
    lists separate. ``train_val`` repeats the first two and is not read.

    Args:
        root: the folder with ``class-split/``; caches lie in it, or beside it as the training code has them.
        benchmark: ``ucf``, ``vggsound``, ``activitynet`` or another name.
        folder: the name under ``features/``.

    Raises:
        SacmaError: there are no caches, or no class lists.
    """
    split, paths = _find_caches(root, benchmark, folder)
    classes = read_class_list(root / "class-split" / "all_class.txt")
    spelling = Spelling(classes)
    load = lru_cache(maxsize=1)(read_cache)
    sources = []
    for stage, partitions in _CACHE_PARTITIONS.items():
        lists = {
            partition: {
                classes.index(found)
                for name in read_class_list(root / "class-split" / split / f"{partition}.txt")
                if (found := spelling.find(name)) is not None
            }
            for partition in partitions
        }
        for partition in partitions:
            key = json.dumps([partition, str(paths[stage]), stamp(paths[stage])])
            everyone = set[int]().union(*lists.values())
            loader = partial(_load_partition, load, paths[stage], lists[partition], everyone)
            sources.append(Source(key, PARTITIONS.index(partition), loader))
    return Sources(classes, tuple(sources), tuple(paths.values()))


def _find_caches(root: Path, benchmark: str, folder: str) -> tuple[str, dict[str, Path]]:
    """Find the class split, preferably main, and the file of each stage."""
    names = (root.resolve().name, _DATASETS.get(benchmark, benchmark))
    parents = [root.resolve().parent, root.resolve().parent.parent]
    places = [root]
    places += [parent / kind / name for parent in parents for kind in _COLLECTIONS for name in names]
    for place in places:
        caches = place / "_features_processed" / folder
        for split in ("main_split", "cls_split"):
            paths = {stage: caches / f"{stage}{split}.pkl" for stage in _CACHE_PARTITIONS}
            if all(path.is_file() for path in paths.values()):
                return split, paths
    found = sorted(path.name for path in (root / "features").glob("*") if path.is_dir())
    raise SacmaError(
        f"{root / 'features' / folder}: no clips here; expected audio/ and video/ in it, or caches of the "
        f"published code in {root / '_features_processed' / folder}; "
        f"features/ has {', '.join(found) or 'nothing'}"
    )


def _load_partition(
    load: Callable[[Path], CachedClips], path: Path, wanted: set[int], known: set[int]
) -> Iterator[tuple[int, ClipTable, ClipTable]]:
    cached = load(path)
    labels = cached.labels.tolist()
    if strange := set(labels) - known:
        raise SacmaError(
            f"{path}: clips of class number {min(strange)}, which the class lists do not have here; "
            "remove it and make it again with these lists"
        )
    for label in sorted(set(labels) & wanted):
        rows = np.flatnonzero(cached.labels == label).tolist()
        yield label, cached.audio.take(rows), cached.video.take(rows)
