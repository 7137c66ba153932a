"""Ways to learn classes from a few clips, compared: class means, the ridge, the ridge with names, KITE.

    sacma models get yamnet
    python docs/results/learn_methods.py CLIPS [--draws 10]

``CLIPS`` has a folder of clips for each class. So many clips of each class are learned, one fewer at most
than there are; asked for are the others. The label bridge is beneath. Draws differ in clips.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

import sacma
from sacma.frozen.catalogue import sound_labels
from sacma.frozen.scores import Matrix, unit
from sacma.learn.choice import choose
from sacma.learn.shots import Shots, fused, together, vectors
from sacma.media.extract import ClipFeatures
from sacma.media.listing import find_clips
from sacma.models.kite import KITE
from sacma.text.minilm import open_minilm
from sacma.types import Batch, ClassSet, Sequences

SHOTS = (2, 3, 5)
Rows = NDArray[np.int64]


def drawn(labels: Rows, shots: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """Mask of the clips that are learned."""
    learned = np.zeros(len(labels), dtype=bool)
    for k in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == k))
        learned[rows[: min(shots, len(rows) - 1)]] = True
    return learned


def by_means(x: Mapping[str, Matrix], labels: Rows, learned: NDArray[np.bool_]) -> Matrix:
    """Cosines with class means of centred vectors."""
    alone = {}
    for modality, rows in x.items():
        own = rows[learned]
        classes = [labels[learned] == k for k in np.unique(labels)]
        centre = np.mean([own[members].mean(axis=0) for members in classes], axis=0)
        means = np.array([unit(own[members] - centre).mean(axis=0) for members in classes])
        alone[modality] = unit(rows[~learned] - centre) @ means.T
    return together(alone)


def by_kite(clips: Sequence[ClipFeatures], names: Sequence[str], labels: Rows, learned: Rows) -> Matrix:
    """Negative distances by KITE; sentence vectors of the names stand for the classes."""
    text = torch.from_numpy(open_minilm()(list(names)))
    classes = ClassSet(tuple(names), text, torch.ones(len(names), dtype=torch.bool))

    def batch(rows: Rows) -> Batch:
        of = torch.from_numpy(labels[rows])
        return Batch(
            _joined([clips[k].audio for k in rows]), _joined([clips[k].video for k in rows]), of, text[of]
        )

    first = batch(learned)
    widths = {"audio_width": first.audio.values.shape[1], "video_width": first.video.values.shape[1]}
    kite = KITE(**widths, text_width=text.shape[1])
    kite.fit([first], classes)
    others = np.setdiff1d(np.arange(len(labels)), learned)
    with torch.inference_mode():
        return np.asarray(-kite.distances(batch(others), classes).numpy())


def _joined(steps: Sequence[object]) -> Sequences:
    values = [np.asarray(one.values, np.float32) for one in steps]  # type: ignore[attr-defined]
    lengths = torch.tensor([len(one) for one in values])
    seconds = torch.cat([torch.arange(len(one)).float() for one in values])
    return Sequences(torch.from_numpy(np.concatenate(values)), lengths, seconds, int(lengths.max()))


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--draws", type=int, default=10)
    asked = parser.parse_args()
    warnings.simplefilter("ignore", RuntimeWarning)
    zero_shot = sacma.zero_shot("label-bridge", audio_weights=sound_labels())
    model = zero_shot.model
    listed = [clip for clip in find_clips([asked.clips]) if clip.path.suffix == ".mp4"]
    names = sorted({clip.class_name for clip in listed})
    labels = np.array([names.index(clip.class_name) for clip in listed])
    names = [name.replace("_", " ") for name in names]
    clips = [zero_shot.features(clip.path) for clip in listed]
    windows = [(0.0, zero_shot.seconds(one)) for one in clips]
    parts = [vectors(one, [window], model.backbone) for one, window in zip(clips, windows, strict=True)]
    x = {m: np.concatenate([part[m] for part in parts]) for m in ("audio", "video")}
    candidates = zero_shot.candidates(names)
    pairs = zip(clips, windows, strict=True)
    frozen = np.concatenate([model.scores(one, [window], candidates).joint for one, window in pairs])
    print("| clips a class | by | right, % |\n| --- | --- | --- |")
    for shots in SHOTS:
        right: dict[str, list[float]] = {}
        for seed in range(asked.draws):
            learned = drawn(labels, shots, np.random.default_rng(seed))
            rest = {m: rows[learned] for m, rows in x.items()}
            ridge = Shots(rest, labels[learned], len(names))
            own = together(ridge.scores({m: rows[~learned] for m, rows in x.items()}))
            weights = choose(rest, frozen[learned], labels[learned], len(names))
            by = {
                "names alone": frozen[~learned],
                "class means": by_means(x, labels, learned),
                "the ridge": own,
                "the ridge and names": fused(frozen[~learned], own, ridge.expected, weights),
                "KITE": by_kite(clips, names, labels, np.flatnonzero(learned)),
            }
            for name, scores in by.items():
                right.setdefault(name, []).append(
                    100 * float((scores.argmax(axis=1) == labels[~learned]).mean())
                )
        for name, shares in right.items():
            print(f"| {shots} | {name} | {np.mean(shares):.1f} ± {np.std(shares, ddof=1):.1f} |", flush=True)


if __name__ == "__main__":
    main()
