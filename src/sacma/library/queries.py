"""Scores of all windows of a library for a text or for an example.

For the label bridge, text goes through the sentence encoder in numpy and the kept evidence, so that neither
torch nor a network is loaded. Joint encoders load their text side. A trained run computes distances from the
kept features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError
from sacma.frozen.catalogue import BRIDGE
from sacma.frozen.descriptions import ClassName, read_class_names
from sacma.frozen.label_scores import CONSTANTS, WEIGHTS, relation, unit_means
from sacma.frozen.scores import joined
from sacma.library.arrays import WHOLE, Arrays
from sacma.library.opened import MODALITIES, Opened
from sacma.library.store import Array, Entry

Values = NDArray[np.float64]
"""(W,) scores of windows; NaN for those that have nothing to go by."""
_EQUAL = {"audio": 0.5, "video": 0.5, "joint": 1.0}
_WHAT = {"audio": "sound", "video": "pictures", None: "sound or pictures"}


def text_scores(library: Opened, text: str, modality: str | None) -> Values:
    """Scores of all windows for a text.

    Args:
        library: the library.
        text: what is looked for; ``name: description`` brings an explanation.
        modality: the one to go by; None for both.

    Raises:
        SacmaError: the model cannot encode the text, does not read the modality, or cannot be opened.
    """
    (name,) = read_class_names([" ".join(text.split())], files=False)
    if library.facts["run"] is not None:
        return _run_scores(library, name, modality)
    if library.facts["model"] == BRIDGE:
        return _bridge_scores(library, name, modality)
    return _joint_scores(library, name, modality)


def like_scores(library: Opened, example: str | Path, modality: str | None, entry: Entry | None) -> Values:
    """Cosines of all windows with an example, the mean over the modalities that both have.

    Args:
        library: the library.
        example: the file.
        modality: the one to go by; None for both.
        entry: the example as a clip of the library, which saves reading it; None where it is none.

    Raises:
        SacmaError: the example cannot be read, lacks the modality, or nothing in the library has it.
    """
    kind = "of" if library.facts["run"] is None and library.facts["model"] != BRIDGE else "like"
    if entry is not None:
        arrays = _opened(library, modality, kind)
        places = np.flatnonzero((arrays.clips == entry.id) & (arrays.windows[:, 2] != 0))
        rows = {name: np.asarray(space[places]).mean(axis=0) for name, space in arrays.spaces.items()}
        query = {name: row for name, row in rows.items() if np.isfinite(row).all()}
    else:
        from sacma.library.examples import rows_of_example

        query = {
            name: row for name, row in rows_of_example(library, example).items() if name.startswith(kind)
        }
        arrays = _opened(library, modality, kind)
    shared = query.keys() & arrays.spaces.keys()
    if not shared:
        raise SacmaError(f"{example}: no {_WHAT[modality]} to compare by; leave --sound or --pictures out")
    cosines = {name.partition("_")[2]: _product(arrays.spaces[name], _unit(query[name])) for name in shared}
    return _mean(cosines, _EQUAL)


def _opened(library: Opened, modality: str | None, kind: str) -> Arrays:
    """The arrays of the modalities in question that the library has."""
    there = library.spaces
    names = [f"{kind}_{one}" for one in (MODALITIES if modality is None else (modality,))]
    if kind == "of" and modality is None:
        names.append("of_joint")
    known = [name for name in names if name in there]
    if not known:
        raise SacmaError(
            f"{library.path}: {library.facts['model'] or 'its model'} keeps no {_WHAT[modality]} to "
            "search by; leave --sound or --pictures out"
        )
    return library.arrays(*known)


def _bridge_scores(library: Opened, name: ClassName, modality: str | None) -> Values:
    from sacma.text.minilm import open_minilm

    arrays = _opened(library, modality, "of")
    vector, labels = unit_means(open_minilm(), [name.texts]), library.store.of_clip(0)
    alone = {}
    for space, evidence in arrays.spaces.items():
        kind = space.removeprefix("of_")
        q, coverage = relation(labels[f"labels_{kind}"], vector, CONSTANTS[kind])  # (N, 1), (1,)
        alone[kind] = coverage[0] * (_product(evidence, q[:, 0]) - CONSTANTS[kind].neutral)
    return _mean(alone, WEIGHTS)


def _joint_scores(library: Opened, name: ClassName, modality: str | None) -> Values:
    from sacma.frozen.opening import open_frozen

    arrays = _opened(library, modality, "of")
    vectors = open_frozen(library.facts["model"]).names([name]).vectors
    cosines = {
        space.removeprefix("of_"): _product(rows, vectors[space.removeprefix("of_")][0])
        for space, rows in arrays.spaces.items()
    }
    together = cosines.pop("joint", None)
    apart = _mean(cosines, _EQUAL) if cosines else together
    assert apart is not None
    return apart if together is None else np.where(np.isnan(together), apart, together)


def _run_scores(library: Opened, name: ClassName, modality: str | None) -> Values:
    """Negative distances to the name, from the kept features, by a trained run."""
    import torch

    from sacma.library.examples import open_run
    from sacma.predict.answers import modality_of

    predictor, arrays = open_run(library), library.arrays()
    classes = predictor.candidates([name.name]).classes
    outputs = {modality_of(one): one for one in predictor.method.outputs}
    if modality is not None and modality not in outputs:
        raise SacmaError(f"{library.facts['run']}: reads both together; leave --sound and --pictures out")
    output = predictor.output if modality is None else outputs[modality]
    values = np.full(len(arrays.clips), np.nan)
    for clip in library.clips:
        rows = np.flatnonzero((arrays.clips == clip.id) & (arrays.windows[:, 2] != WHOLE))
        features, moments = library.features(clip), arrays.windows[rows, :2].tolist()
        with torch.inference_mode():
            for first in range(0, len(rows), 64):
                batch = predictor.batch(features, [(a, b) for a, b in moments[first : first + 64]])
                distances = predictor.method.distances(batch, classes, output=output)[:, 0]
                values[rows[first : first + 64]] = -distances.double().numpy()
    return values


def _product(rows: Array, vector: NDArray[np.floating]) -> Values:
    """(W,) products of mapped rows (W, D) with a vector (D,)."""
    return np.asarray(rows @ vector.astype(np.float32), dtype=np.float64)


def _mean(alone: Mapping[str, Values], weights: Mapping[str, float]) -> Values:
    """Weighted means over the modalities that each window has."""
    with np.errstate(invalid="ignore"):
        return joined({name: values[:, None] for name, values in alone.items()}, weights)[:, 0]


def _unit(row: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(row / max(float(np.linalg.norm(row)), 1e-12))
