"""Scores of all windows of a library for a text or for an example.

For the label bridge, text goes through the sentence encoder in numpy and the kept evidence, so that neither
torch nor a network is loaded. Joint encoders load their text side. A trained run computes distances from the
kept features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sacma.errors import SacmaError
from sacma.frozen.catalogue import BRIDGE
from sacma.frozen.descriptions import ClassName, read_class_names
from sacma.frozen.label_scores import CONSTANTS, WEIGHTS, relation, unit_means
from sacma.frozen.scores import FrozenModel
from sacma.library.arrays import Arrays
from sacma.library.opened import MODALITIES, Opened
from sacma.library.store import Entry

Values = NDArray[np.float32]
"""Scores of windows; NaN for those that have nothing to go by."""
Rows = NDArray[np.int64] | None
"""Windows by number; None for all, of which large libraries give rough scores."""
Query = Callable[[Rows], Values]
_EQUAL = {"audio": 0.5, "video": 0.5, "joint": 1.0}
_WHAT = {"audio": "sound", "video": "pictures", None: "sound or pictures"}


def text_query(library: Opened, text: str, modality: str | None) -> Query:
    """Scores of windows for a text.

    Args:
        library: the library.
        text: what is looked for; ``name: description`` brings an explanation.
        modality: the one to go by; None for both.

    Raises:
        SacmaError: the model cannot encode the text, does not read the modality, or cannot be opened.
    """
    (name,) = read_class_names([" ".join(text.split())], files=False)
    if library.facts["run"] is not None:
        return _of_run(library, name, modality)
    if library.facts["model"] == BRIDGE:
        return _of_bridge(library, name, modality)
    return joint_query(library, name, modality)


def fits_from(library: Opened) -> float | None:
    """Score from which on a moment fits a text; None where the model gives scores for comparing alone.

    Of the label bridge it is 0, evidence that speaks neither for nor against the text. In a library of 79
    clips of instruments and in one of 25 clips of sounds and sports, the best moment lay below it for 2 of 34
    texts that were right, for 20 of 20 texts about what instruments are not, and for 7 of 11 instruments in
    the second library, of which the others are like what is in it.
    """
    return 0.0 if library.facts["run"] is None and library.facts["model"] == BRIDGE else None


def like_query(library: Opened, example: str | Path, modality: str | None, entry: Entry | None) -> Query:
    """Cosines of windows with an example, the mean over the modalities that both have.

    Args:
        library: the library.
        example: the file.
        modality: the one to go by; None for both.
        entry: the example as a clip of the library, which saves reading it; None where it is none.

    Raises:
        SacmaError: the example cannot be read, lacks the modality, or nothing in the library has it.
    """
    kind = "of" if library.facts["run"] is None and library.facts["model"] != BRIDGE else "like"
    arrays = _opened(library, modality, kind)
    if entry is not None:
        places = np.flatnonzero((arrays.clips == entry.id) & arrays.whole)
        rows = {name: np.asarray(space[places]).mean(axis=0) for name, space in arrays.spaces.items()}
    else:
        from sacma.library.examples import rows_of_example

        rows = rows_of_example(library, example)
    shared = [name for name in arrays.spaces if name in rows and np.isfinite(rows[name]).all()]
    if not shared:
        raise SacmaError(f"{example}: no {_WHAT[modality]} to compare by; leave --sound or --pictures out")
    return lambda some: _mean(
        {name.partition("_")[2]: arrays.product(name, _unit(rows[name]), some) for name in shared}, _EQUAL
    )


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


def _of_bridge(library: Opened, name: ClassName, modality: str | None) -> Query:
    from sacma.text.minilm import open_minilm

    arrays = _opened(library, modality, "of")
    vector, labels = unit_means(open_minilm(), [name.texts]), library.store.of_clip(0)
    relations = {
        kind: relation(labels[f"labels_{kind}"], vector, CONSTANTS[kind])  # (N, 1), (1,)
        for kind in (space.removeprefix("of_") for space in arrays.spaces)
    }

    def scores(rows: Rows) -> Values:
        alone = {}
        for kind, (q, coverage) in relations.items():
            speaks = arrays.product(f"of_{kind}", q[:, 0], rows)
            alone[kind] = np.float32(coverage[0]) * (speaks - np.float32(CONSTANTS[kind].neutral))
        return _mean(alone, WEIGHTS)

    return scores


def joint_query(
    library: Opened, name: ClassName, modality: str | None, model: FrozenModel | None = None
) -> Query:
    """Cosines with the text vector of a joint encoder, which is the library's unless it is given."""
    from sacma.frozen.opening import open_frozen

    arrays = _opened(library, modality, "of")
    vectors = (model or open_frozen(library.facts["model"])).names([name]).vectors

    def scores(rows: Rows) -> Values:
        cosines = {
            (kind := space.removeprefix("of_")): arrays.product(space, vectors[kind][0], rows)
            for space in arrays.spaces
        }
        together = cosines.pop("joint", None)
        if together is None or not cosines:
            return _mean(cosines, _EQUAL) if together is None else together
        return np.where(np.isnan(together), _mean(cosines, _EQUAL), together)

    return scores


def _of_run(library: Opened, name: ClassName, modality: str | None) -> Query:
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
    values = np.full(len(arrays.clips), np.nan, np.float32)
    for clip in library.clips:
        rows = np.flatnonzero((arrays.clips == clip.id) & arrays.moments)
        features, moments = library.features(clip), arrays.windows[rows, :2].tolist()
        with torch.inference_mode():
            for first in range(0, len(rows), 64):
                batch = predictor.batch(features, [(a, b) for a, b in moments[first : first + 64]])
                distances = predictor.method.distances(batch, classes, output=output)[:, 0]
                values[rows[first : first + 64]] = -distances.float().numpy()
    return lambda rows: values if rows is None else values[rows]


def _mean(alone: Mapping[str, Values], weights: Mapping[str, float]) -> Values:
    """Weighted means over the modalities that each window has."""
    if len(alone) == 1:
        return next(iter(alone.values()))
    total = np.zeros(len(next(iter(alone.values()))), np.float32)
    weight = np.zeros_like(total)
    for name, values in alone.items():
        there = ~np.isnan(values)
        total += np.where(there, values, 0) * np.float32(weights[name])
        weight += there * np.float32(weights[name])
    with np.errstate(invalid="ignore"):
        return np.asarray(total / weight)


def _unit(row: NDArray[np.floating]) -> NDArray[np.floating]:
    return np.asarray(row / max(float(np.linalg.norm(row)), 1e-12))
