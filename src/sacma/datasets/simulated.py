"""Simulated benchmarks: the classes, clip counts and class vectors of a published one, with features drawn
around a fixed nonlinear map of the class vectors. For load tests, scale tests and studies of class vectors.

The definition stands in ``docs/explanation/simulation.md`` and in ``VERSION``: what is drawn depends on it
and on the seed alone. Such features carry the class vectors by construction, so no accuracy on them says
anything about real videos; they are labelled as simulated in their provenance and by the name of their
folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sacma.data.class_lists import PARTITIONS, write_class_names
from sacma.data.features_writer import FeaturesWriter
from sacma.data.layout import find_root
from sacma.data.paper import Published, published_benchmarks
from sacma.datasets.aligned import VERSION as ALIGNED_VERSION
from sacma.datasets.aligned import AlignedMaps
from sacma.errors import SacmaError, printable
from sacma.text.vectors import TextTable, class_vectors
from sacma.version import __version__

VERSION = 1
FOLDER = "simulated"
WIDTH, HIDDEN = 512, 256  # of a feature vector, as SeLaVi's; of the map
GAIN = 2.0  # of the map's hidden layer: how far its tanh leaves the linear range
STEP_SHARE = 0.5  # noise of a step, relative to that of a clip
CHANNEL_NOISE = 0.5  # relative to the spread of a channel over the classes
STEP_SECONDS = 1.0
TEXT_WIDTH = 300  # of class vectors that are made up

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Lengths:
    """Distribution of the seconds of clips: log-normal, rounded and clipped; constant where ``spread`` is 0.

    Attributes:
        mean: of the log-normal distribution.
        spread: standard deviation of the logarithm.
        least: shortest clip.
        most: longest clip.
    """

    mean: float
    spread: float
    least: int
    most: int

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw the seconds of some clips, (count,)."""
        centre = np.log(self.mean) - self.spread**2 / 2
        seconds = np.exp(centre + self.spread * generator.standard_normal(count))
        return np.clip(np.rint(seconds), self.least, self.most).astype(np.int64)


LENGTHS: Mapping[str, Lengths] = {
    "ucf": Lengths(7.2, 0.6, 1, 71),
    "vggsound": Lengths(10, 0.0, 10, 10),
    "activitynet": Lengths(117, 0.6, 2, 300),
}


def simulate(
    like: str,
    root: Path,
    *,
    text: Path | None = None,
    clips_share: float = 1.0,
    noise: float = 1.0,
    aligned: float | None = None,
    seed: int = 0,
    features: str = FOLDER,
    on_progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a simulated benchmark; an interrupted one is continued.

    Args:
        like: ucf, vggsound or activitynet, whose classes and clip counts it has.
        root: folder to write to: ``class-split/`` and ``features/FEATURES/``.
        text: table of class vectors, or an official folder that has one; by default one that ``root`` has.
            Where there is none either, class vectors are made up.
        clips_share: of the clips of each class, above 0; every class keeps at least one in each partition.
        noise: standard deviation within a class relative to that between classes, 0 or more.
        aligned: share of the class vector's direction in the features, 0 to 1: they then share a space with
            the class vectors, as ``sacma.datasets.aligned`` says. None for features that do not.
        seed: of all draws but the map.
        features: name of the folder under ``features/``; it begins with ``simulated``.
        on_progress: called with clips written and all clips.

    Returns:
        The folder of the features.

    Raises:
        SacmaError: an argument is out of range, a class has no vector, or the folder cannot be written to.
    """
    facts = _facts(like)
    if not 0 < clips_share <= 1:
        raise SacmaError(f"clips_share is {clips_share}; it must be above 0 and at most 1")
    if not 0 <= noise < float("inf"):
        raise SacmaError(f"noise is {noise}; it must be a finite number, 0 or more")
    if aligned is not None and not 0 <= aligned <= 1:
        raise SacmaError(f"aligned is {aligned}; it must be a share, from 0 to 1")
    if seed < 0:
        raise SacmaError(f"seed is {seed}; it must be 0 or more")
    if not features.startswith(FOLDER) or Path(features).name != features:
        raise SacmaError(
            f"features is {printable(features)}; the name must begin with {printable(FOLDER)}, as a label"
        )
    clips_share, noise = (
        float(clips_share),
        float(noise),
    )  # what is recorded does not depend on how it is written
    table = _table(facts, text, root)
    vectors = class_vectors(facts.classes, facts.text_names, table)  # (K, E)
    counts = list(clip_counts(facts, clips_share))
    if not (root / "class-split").exists():
        splits = {split: _partition_classes(facts, split) for split in facts.splits}
        write_class_names(root / "class-split", facts.name, facts.text_names, splits)
    folder = root / "features" / features
    maps, width = _maps(facts, vectors, aligned)
    if isinstance(maps, AlignedMaps):
        table = TextTable(table.names, maps.class_vectors(table.vectors), table.source)
    key = f"{VERSION}/{like}/{clips_share}/{noise}/{seed}" + ("" if aligned is None else f"/{aligned}")
    provenance = {
        "source": f"simulated: drawn around a map of class vectors, not extracted from {facts.title}",
        "simulated": True,
        "definition": VERSION,
        "like": like,
        "clips_share": clips_share,
        "noise": noise,
        "seed": seed,
        "class_vectors": table.source,
        "sacma": __version__,
    }
    if aligned is not None:
        provenance |= {"definition": f"aligned {ALIGNED_VERSION}", "aligned": float(aligned)}
    with FeaturesWriter(
        folder,
        facts.classes,
        audio_width=width,
        video_width=width,
        audio_step=STEP_SECONDS,
        video_step=STEP_SECONDS,
        provenance=provenance,
        resume=True,
    ) as writer:
        table.write(folder / "text" / f"word_embeddings_{facts.vectors}_normed.npz")
        _write_clips(writer, maps, counts, key, LENGTHS[like], noise, seed, on_progress)
    return folder


def _maps(facts: Published, vectors: Floats, aligned: float | None) -> tuple[Maps | AlignedMaps, int]:
    """Return the map that draws the clips, and the width of their features."""
    if aligned is None:
        return Maps(vectors), WIDTH
    trained = facts.partition_classes(PARTITIONS[0], "main")
    shifted = frozenset(facts.classes.index(name) for name in trained)
    return AlignedMaps(vectors, aligned=aligned, shifted=shifted), vectors.shape[1]


class Maps:
    """The map from the space of class vectors to audio and to video features, and the noise in that space."""

    def __init__(self, vectors: Floats) -> None:
        """Take the (K, E) vectors of all classes, which set the scale of noise and features."""
        self.vectors = vectors
        self.spread = (vectors - vectors.mean(axis=0)) / np.sqrt(np.float32(len(vectors)))  # (K, E)
        self.weights = []
        for modality in range(2):
            generator = np.random.default_rng([VERSION, modality])
            into = GAIN * generator.standard_normal((vectors.shape[1], HIDDEN), np.float32)
            out = generator.standard_normal((HIDDEN, WIDTH), np.float32) / np.sqrt(np.float32(HIDDEN))
            centres = np.tanh(vectors @ into) @ out  # (K, D)
            self.weights.append((into, out, centres.mean(axis=0), centres.std(axis=0)))

    def noise(self, count: int, generator: np.random.Generator) -> Floats:
        """Draw (count, E) vectors with the covariance of the class vectors."""
        return generator.standard_normal((count, len(self.spread)), np.float32) @ self.spread

    def clips(
        self, label: int, seconds: NDArray[np.int64], noise: float, generator: np.random.Generator
    ) -> list[tuple[Floats, Floats]]:
        """Draw audio and video features of clips of a class; ``seconds`` (N,) are their lengths."""
        shared = self.noise(len(seconds), generator)
        audio_steps = np.maximum(seconds - generator.integers(0, 2, len(seconds)), 1)
        both = []
        for modality, steps in enumerate((audio_steps, seconds)):
            own = self.noise(len(seconds), generator)
            meaning = self.vectors[label] + np.float32(noise / np.sqrt(2)) * (shared + own)  # (N, E)
            each = np.repeat(meaning, steps, axis=0)  # (S, E)
            each += np.float32(STEP_SHARE * noise) * self.noise(len(each), generator)
            into, out, mean, std = self.weights[modality]
            values = (np.tanh(each @ into) @ out - mean) / std  # (S, D)
            values += np.float32(CHANNEL_NOISE) * generator.standard_normal(values.shape, np.float32)
            both.append([values[a:b] for a, b in pairwise(np.cumsum([0, *steps]))])
        return list(zip(*both, strict=True))


def _write_clips(
    writer: FeaturesWriter,
    maps: Maps | AlignedMaps,
    counts: Sequence[tuple[int, int, int]],
    key: str,
    lengths: Lengths,
    noise: float,
    seed: int,
    on_progress: Callable[[int, int], None] | None,
) -> None:
    keys = [f"{key}/{partition}/{label}" for partition, label, _ in counts]
    done = 0
    while done < min(len(writer.committed), len(keys)) and writer.committed[done] == keys[done]:
        done += 1
    writer.rewind(done)  # what an interrupted simulation with other arguments left goes
    written, total = 0, sum(count for _, _, count in counts)
    for position, (partition, label, count) in enumerate(counts):
        if position >= done:
            generator = np.random.default_rng([VERSION, seed, partition, label])
            clips = maps.clips(label, lengths.draw(count, generator), noise, generator)
            for number, (audio, video) in enumerate(clips):
                writer.add(f"simulated_{partition}_{label}_{number}", label, partition, audio, video)
            writer.commit(keys[position])
        written += count
        if on_progress is not None:
            on_progress(written, total)


def _facts(like: str) -> Published:
    known = published_benchmarks()
    if like not in known:
        raise SacmaError(f"--like is {printable(like)}; it must be one of {', '.join(known)}")
    return known[like]


def clip_counts(facts: Published, share: float) -> Iterator[tuple[int, int, int]]:
    """Yield partition, class and number of clips, spread evenly where only the sum is published."""
    for number, partition in enumerate(PARTITIONS):
        classes = facts.partition_classes(partition, "main")
        least, rest = divmod(facts.clips(partition, "main"), len(classes))
        published = facts.class_clips.get(partition, {})
        for position, name in enumerate(classes):
            count = published.get(name, least + (position < rest))
            yield number, facts.classes.index(name), max(1, round(share * count))


def _table(facts: Published, text: Path | None, root: Path) -> TextTable:
    if text is not None and not text.is_dir():
        return TextTable.read(text)
    folder = root if text is None else find_root(text, facts.name)
    tables = sorted((folder / "features").glob(f"*/text/word_embeddings_{facts.vectors}_normed.np[yz]"))
    # Those of simulated features may be made up.
    found = [path for path in tables if not path.parents[1].name.startswith(FOLDER)]
    if found:
        return TextTable.read(found[0])
    if text is not None:
        raise SacmaError(f"{folder}: no features/*/text/word_embeddings_{facts.vectors}_normed.npy or .npz")
    names = tuple(sorted(facts.text_names.values()))
    vectors = np.random.default_rng(VERSION).standard_normal((len(names), TEXT_WIDTH), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return TextTable(names, vectors, "made up: random directions, as no table of class vectors was given")


def _partition_classes(facts: Published, split: str) -> dict[str, tuple[str, ...]]:
    return {partition: facts.partition_classes(partition, split) for partition in PARTITIONS}
