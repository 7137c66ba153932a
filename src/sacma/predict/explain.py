"""Explanations of SACMA's answers: attention over time, and a map of the clip among the names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sacma.models.base import Method
from sacma.models.sacma import SACMA
from sacma.types import Batch


@dataclass(frozen=True)
class Attention:
    """Attention weights of the class token of the joint input: last layer, mean over heads. They sum to 1.

    Attributes:
        audio: (Ta,) weight of each audio step.
        video: (Tv,) weight of each video step.
        own: weight of the class token itself.
    """

    audio: NDArray[np.float64]
    video: NDArray[np.float64]
    own: float


@dataclass(frozen=True)
class Places:
    """Names and clip in the plane: the first two principal components of the embedded names.

    Attributes:
        names: (K, 2) phi_t of each candidate.
        own: (C, 2) phi_t of each class of the run's benchmark, for orientation.
        clip: (2,) phi_m of the clip, in the same projection.
    """

    names: NDArray[np.float64]
    own: NDArray[np.float64]
    clip: NDArray[np.float64]


def attention_over_time(method: Method, batch: Batch) -> Attention | None:
    """Attention of the class token over the steps of a clip.

    Args:
        method: in evaluation mode.
        batch: one clip.

    Returns:
        None for methods other than SACMA, and for SACMA without the joint stream.
    """
    if not isinstance(method, SACMA) or "m" not in method.config.streams:
        return None
    weights = method.attention(batch)["m"][0].double().cpu().numpy()  # (1 + Ta + Tv,)
    audio, video = batch.audio.longest, batch.video.longest
    return Attention(weights[1 : 1 + audio], weights[1 + audio : 1 + audio + video], float(weights[0]))


def places_on_map(method: Method, batch: Batch, *, names: Tensor, own: Tensor) -> Places | None:
    """The clip and the names on the two axes along which the names differ most.

    Args:
        method: in evaluation mode.
        batch: one clip.
        names: (K, E) class vectors of the candidates.
        own: (C, E) class vectors of the run's benchmark.

    Returns:
        None for methods other than SACMA, and for SACMA without the joint stream.
    """
    if not isinstance(method, SACMA) or "m" not in method.config.streams:
        return None
    phi_t = method.text_projection(torch.cat([names, own])).double().cpu()  # (K + C, d)
    phi_m = method.embed(batch, streams="m")["m"].double().cpu()  # (1, d)
    centre = phi_t.mean(dim=0)
    axes = torch.linalg.svd(phi_t - centre, full_matrices=False).Vh[:2]  # (2 or 1, d)
    both = (torch.cat([phi_t, phi_m]) - centre) @ axes.T
    both = torch.nn.functional.pad(both, (0, 2 - both.shape[1])).numpy()
    return Places(both[: len(names)], both[len(names) : -1], both[-1])
