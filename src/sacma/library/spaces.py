"""Content of a library for each window, by the model that it was made with.

    of_audio, of_video, of_joint   comparable with text: unit means of embeddings of a joint encoder, or the
                                   label bridge's evidence for each label
    like_audio, like_video         comparable with each other: unit means of the features

A joint encoder's embeddings serve for both. A trained run has the second kind alone; it answers text from the
features themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sacma.frozen.bridge import LabelBridge
from sacma.frozen.scores import FrozenFeatures, FrozenModel, Window, mean_steps
from sacma.library.store import Array
from sacma.media.backbones import Backbone, Steps, looks
from sacma.media.extract import ClipFeatures


def rows_of(
    model: FrozenModel | None, backbone: Backbone, features: ClipFeatures, windows: Sequence[Window]
) -> dict[str, Array]:
    """Name of a space -> (W, D) of W windows of a clip, for the spaces that the clip has.

    Args:
        model: the library's frozen model; None for a trained run.
        backbone: what made the features.
        features: of the clip.
        windows: start and end of each, in seconds from the beginning of the features.
    """
    steps = {"audio": features.audio, "video": features.video}
    if isinstance(features, FrozenFeatures):
        steps["joint"] = features.joint
    encoders = {"audio": backbone.audio, "video": backbone.video}
    looked = {name: looks(encoder) for name, encoder in encoders.items()}
    there = {name: (some, looked.get(name)) for name, some in steps.items() if some is not None}
    if isinstance(model, LabelBridge):
        of_text = {f"of_{name}": rows for name, rows in model.evidence(features, windows).items()}
    elif model is not None:
        of_text = {f"of_{name}": unit_mean(*some, windows) for name, some in there.items()}
        return {name: np.asarray(rows, np.float32) for name, rows in of_text.items()}
    else:
        of_text = {}
    alike = {f"like_{name}": unit_mean(*some, windows) for name, some in there.items()}
    return {name: np.asarray(rows, np.float32) for name, rows in (of_text | alike).items()}


def unit_mean(steps: Steps, seen: float | None, windows: Sequence[Window]) -> NDArray[np.float64]:
    """(W, D) unit means of the unit vectors of the steps in each window; NaN where there is none.

    Args:
        steps: of a clip.
        seen: seconds that a step looks at, as ``mean_steps`` takes them.
        windows: start and end of each.
    """
    seconds = steps.seconds
    step = float(seconds[1] - seconds[0]) if len(seconds) > 1 else windows[-1][1] or 1.0
    lengths = np.linalg.norm(steps.values, axis=1, keepdims=True)
    means = mean_steps(steps.values / np.maximum(lengths, 1e-12), step, windows, looks=seen)
    return np.asarray(means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12))
