"""Accuracy that ``sacma extract --fast`` costs: ``python speed/key_frames.py FEATURES FAST_FEATURES``.

Both folders hold the same clips, the second one extracted with ``--fast``. Each clip is named by the class
whose other clips are nearest on average, by the cosine of the mean picture features, each clip left out in
turn; clips of classes of one do not count. Nothing is chosen by the answers, so the two can be compared.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sacma.data.features import Features


def means(features: Features, *, modality: str) -> Tensor:
    """(N, D) mean feature of each clip, of unit length; zeros for clips without."""
    track = getattr(features, modality)
    steps = [track.gather(torch.tensor([clip])).values for clip in range(len(features))]
    return normalize(
        torch.stack([one.float().mean(0) if len(one) else one.new_zeros(track.width) for one in steps])
    )


def left_out_accuracy(vectors: Tensor, labels: Tensor) -> tuple[int, int]:
    """How many clips (N,) are named right by the others, and how many are asked."""
    right = asked = 0
    for clip, label in enumerate(labels.tolist()):
        others = torch.arange(len(labels)) != clip
        if not (labels[others] == label).any():
            continue
        asked += 1
        classes = labels[others].unique()
        centres = torch.stack([vectors[others][labels[others] == one].mean(0) for one in classes])
        right += int(classes[(normalize(centres) @ vectors[clip]).argmax()] == label)
    return right, asked


def main(arguments: list[str]) -> int:
    """The command line; returns the exit status."""
    whole, fast = (Features.open(Path(folder)) for folder in arguments)
    pictures = [means(one, modality="video") for one in (whole, fast)]
    alike = (pictures[0] * pictures[1]).sum(1)
    alike = alike[pictures[0].any(1)]
    print(f"cosine of the mean picture features: median {alike.median():.4f}, least {alike.min():.4f}")
    for name, vectors in zip(("all pictures", "--fast"), pictures, strict=True):
        right, asked = left_out_accuracy(vectors, whole.labels)
        print(f"{name}: {right} of {asked} clips named right, {right / asked:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
