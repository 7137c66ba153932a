"""Class names of a run: their rows in its table of class vectors, and the encoder that made the table."""

from __future__ import annotations

import numpy as np

from sacma.errors import SacmaError
from sacma.text.encoders import TextEncoder
from sacma.text.names import normal
from sacma.training.deployment import Deployment

_SAME = 1e-3
"""Largest difference between unit vectors that count as equal."""


def known_rows(deployment: Deployment) -> dict[str, int]:
    """Normal form of each class name, and of its text name -> row of its class vector."""
    rows = {normal(name): row for row, name in enumerate(deployment.text_names)}
    return rows | {normal(name): row for row, name in enumerate(deployment.classes.names)}


def check_encoder(encoder: TextEncoder, deployment: Deployment) -> None:
    """Make sure that an encoder gives the class vectors that the run was trained with.

    Raises:
        SacmaError: it gives others.
    """
    names = deployment.table.names[:20]
    vectors = deployment.table.vectors[: len(names)]
    found = encoder(names)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if found.shape != vectors.shape or np.abs(found - vectors / lengths).max() > _SAME:
        raise SacmaError(
            f"text encoder {encoder.provenance['encoder']} does not give the class vectors that the run was "
            f"trained with ({deployment.table.source}); name the one that made them"
        )
