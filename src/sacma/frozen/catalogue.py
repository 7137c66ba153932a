"""Frozen models by name, and which one answers when nobody names one."""

from __future__ import annotations

import os
from pathlib import Path

from sacma.errors import SacmaError
from sacma.files import cache_folder
from sacma.frozen.scores import FrozenModel

YAMNET_FILE = "yamnet_spectra_in.tflite"
YAMNET_VARIABLE = "SACMA_YAMNET"


def sound_labels() -> Path | None:
    """YAMNet's file: what ``$SACMA_YAMNET`` names, else the one in the cache; None where there is none."""
    named = os.environ.get(YAMNET_VARIABLE)
    path = Path(named) if named else cache_folder() / "models" / YAMNET_FILE
    return path if named or path.is_file() else None


def open_frozen(
    name: str | None = None, *, audio_weights: str | Path | None = None, device: str = "cpu"
) -> FrozenModel:
    """A frozen model with its weights loaded.

    Args:
        name: see ``sacma models``; None for the best one at hand.
        audio_weights: YAMNet's file for the label bridge; by default see ``sound_labels``.
        device: where its networks run.

    Raises:
        SacmaError: no such model, or its weights are not there or cannot be loaded.
    """
    from sacma.frozen.bridge import NAME, LabelBridge

    if name not in (None, NAME):
        raise SacmaError(f"no frozen model {name!r}; there is: {NAME}")
    return LabelBridge(audio_weights=audio_weights or sound_labels(), device=device)
