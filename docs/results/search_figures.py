"""Figures of search on a library whose clips lie in a folder for each class: names and clips as questions.

    python docs/results/search_figures.py LIBRARY
    python docs/results/search_figures.py LIBRARY --texts "violin, waterfall"

A name is asked as text; each clip is asked as an example, and is left out of the answers. An answer is right
where its class is that of the question. Told are the share of the first five that are right (of as many as
there can be) and mean average precision, as means over questions, with 95 % intervals by drawing questions
again.

With ``--texts`` each of them is asked; told are the score of the best moment and whether any fits.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sacma import Library, Moment, SacmaError, open_library
from sacma.metrics.retrieval import average_precision
from sacma.text.names import listed

FIRST = 5
MODALITIES = (None, "video", "audio")
_SHOWN = {None: "both", "video": "pictures", "audio": "sound"}


def figures(moments: Sequence[Moment], name: str, right: int) -> tuple[float, float] | None:
    """Precision of the first five and average precision of a question; None where nothing can be right."""
    hits = [one.class_name == name for one in moments]
    if not any(hits) or not right:
        return None
    first = sum(hits[:FIRST]) / min(FIRST, right)
    return first, average_precision(-torch.tensor([one.score for one in moments]), torch.tensor(hits))


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and its 95 % interval over 2,000 draws of the questions."""
    draws = np.random.default_rng(0).choice(np.asarray(values), (2000, len(values)))
    low, high = np.percentile(draws.mean(axis=1), (2.5, 97.5))
    return float(np.mean(values)), float(low), float(high)


def rows(library: Library, how: str, modality: str | None) -> list[tuple[float, float]]:
    """Figures of each question."""
    counts = Counter(clip.class_name for clip in library.clips)
    found = []
    if how == "names":
        for name, count in sorted(counts.items()):
            text = name.replace("_", " ")
            found.append(figures(library.search(text, top=len(library), modality=modality), name, count))
    else:
        for clip in library.clips:
            try:
                moments = library.search(like=clip.path, top=len(library), modality=modality)
            except SacmaError:  # it lacks the modality
                continue
            found.append(figures(moments, clip.class_name, counts[clip.class_name] - 1))
    return [one for one in found if one is not None]


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("library", type=Path)
    parser.add_argument("--texts", type=listed, default=())
    asked = parser.parse_args()
    with open_library(asked.library) as library:
        for text in asked.texts:
            best = library.search(text, top=1)
            print(f"{text},{best[0].score:.3f},{'yes' if best.fits else 'no'}")
        if asked.texts:
            return
        classes = len({clip.class_name for clip in library.clips})
        print(
            f"{len(library)} clips, {classes} classes, model {library.facts['model'] or library.facts['run']}"
        )
        print("| question | by | questions | precision of the first five | mean average precision |")
        print("| --- | --- | --- | --- | --- |")
        for how in ("names", "examples"):
            for modality in MODALITIES:
                found = rows(library, how, modality)
                if not found:
                    continue
                cells = []
                for place in (0, 1):
                    mean, low, high = interval([100 * one[place] for one in found])
                    cells.append(f"{mean:.0f} ({low:.0f} to {high:.0f})")
                print(f"| {how} | {_SHOWN[modality]} | {len(found)} | {cells[0]} | {cells[1]} |")


if __name__ == "__main__":
    main()
