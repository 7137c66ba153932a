"""Class names of a run: their rows in its table of class vectors, and the encoder that made the table.

A name that the encoder cannot encode can get a vector all the same, between those of the table's names that
are like it in meaning (after ConSE, Norouzi et al., ICLR 2014): for unit sentence vectors u of names and
class vectors c of the table,

    c(n) = sum over k of q_k c_k        q = softmax over k of u_n . u_k / TAU
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError, printable
from sacma.frozen.descriptions import ClassName
from sacma.text.encoders import TextEncoder
from sacma.text.names import normal
from sacma.training.deployment import Deployment

_SAME = 1e-3
"""Largest difference between unit vectors that count as equal."""
TAU = 0.05
"""On the names of three benchmarks, 0.03 to 0.05 brought the vectors nearest to the true ones."""
_TOLD = 2
"""Names that are told of those that an unknown one is like."""


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


def encoded(
    names: Sequence[str],
    encoder: Callable[[], TextEncoder],
    deployment: Deployment,
    *,
    near: bool,
    chosen: bool,
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Vectors of new names, (K, E), and remarks on them.

    Args:
        names: K names that are no classes of the run.
        encoder: opens the encoder that made the run's class vectors.
        deployment: of the run.
        near: give a name that the encoder cannot encode a vector between those of like names.
        chosen: the user named the encoder.

    Raises:
        SacmaError: without ``near``, the encoder cannot be opened or does not know a name.
    """
    try:
        return encoder()(names), ()
    except SacmaError as error:
        if not near and not chosen and deployment.table.provenance is None:
            raise SacmaError(
                f"{error}; the run's class vectors do not say what made them, so it takes the names of "
                "their table alone unless you say it with --encoder (and --model), or take --near-unknown"
            ) from error
        if not near:
            raise
    vectors = np.empty((len(names), deployment.table.vectors.shape[1]), dtype=np.float32)
    unknown = []
    for place, name in enumerate(names):
        try:
            vectors[place] = encoder()([name])[0]
        except SacmaError:
            unknown.append(place)
    notes: tuple[str, ...] = ()
    if unknown:
        vectors[unknown], notes = _between([names[place] for place in unknown], deployment)
    return vectors, notes


def _between(names: Sequence[str], deployment: Deployment) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Vectors for unknown names, see the head of this file, and a remark on each."""
    from sacma.text.minilm import Sentences

    table = deployment.table
    sentences = Sentences()([ClassName(one).texts[0] for one in (*table.names, *names)])
    known, new = sentences[: len(table.names)], sentences[len(table.names) :]
    vectors, notes = [], []
    for name, sentence in zip(names, new, strict=True):
        vector, order = placed(known @ sentence, table.vectors)
        like = " and ".join(printable(table.names[k]) for k in order[:_TOLD])
        vectors.append(vector)
        notes.append(f"the run's text encoder does not know {printable(name)}: it stands near {like}")
    return np.stack(vectors), tuple(notes)


def placed(
    cosines: NDArray[np.floating], vectors: NDArray[np.floating]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vector of a name between others, see the head of this file, and the others by weight.

    Args:
        cosines: (K,) of its sentence vector with those of the others.
        vectors: (K, E) class vectors of the others.
    """
    q = np.exp((cosines - cosines.max()) / TAU)
    vector = q @ (vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32), np.argsort(-q, kind="stable")
