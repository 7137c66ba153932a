"""The model of a library, opened again: to read an example, and to answer by a trained run."""

from __future__ import annotations

from pathlib import Path

from sacma.errors import SacmaError
from sacma.files import sha256
from sacma.library.maker import Maker, Making
from sacma.library.opened import Opened
from sacma.library.spaces import rows_of
from sacma.library.store import Array
from sacma.predict import Predictor, load


def rows_of_example(library: Opened, example: str | Path) -> dict[str, Array]:
    """Name of a space -> (D,) of a clip as a whole.

    Args:
        library: whose model reads it.
        example: the file.

    Raises:
        SacmaError: the file cannot be read, or the model is not the one of the library any more.
    """
    if not Path(example).exists():
        raise SacmaError(f"{example}: no such file")
    if library.model is None:
        library.model = open_model(library)
    maker: Maker = library.model
    features = maker.predictor.features(example)
    rows = rows_of(maker.model, maker.backbone, features, [(0.0, maker.seconds(features))])
    return {name: one[0] for name, one in rows.items()}


def open_model(library: Opened, *, reject: float | None = None) -> Maker:
    """The model that the library was made with.

    Args:
        library: the library.
        reject: as in ``sacma.predict.ZeroShot``; of frozen models alone.

    Raises:
        SacmaError: it cannot be opened, or is another one by now.
    """
    making = Making(limits=library.limits).of_library(library.path, library.facts)
    maker = Maker(making, reject=reject)
    maker.check(library.path, library.facts)
    return maker


def open_run(library: Opened) -> Predictor:
    """The trained run that the library was made with.

    Raises:
        SacmaError: it is not there any more, or was trained again.
    """
    run = Path(library.facts["run"])
    predictor = load(run)
    if sha256(run / "model.safetensors") != library.facts["weights"]:
        raise SacmaError(
            f"{library.path}: {run} has other weights than it was made with; index into a new folder"
        )
    return predictor
