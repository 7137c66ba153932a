"""The file of a run's answers on test, ``predictions.parquet``: a row for each clip."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sacma.errors import SacmaError, one_line
from sacma.files import replacing

COLUMNS = pa.schema(
    {
        "clip": pa.string(),
        "class": pa.string(),
        "seen": pa.bool_(),
        "prediction": pa.string(),
        "prediction_zsl": pa.string(),
        "nearest_seen": pa.string(),
        "nearest_seen_distance": pa.float64(),
        "nearest_unseen": pa.string(),
        "nearest_unseen_distance": pa.float64(),
    }
)
_NEVER_EMPTY = ("clip", "class", "seen", "prediction")


def write(path: Path, columns: Mapping[str, Iterable[Any]]) -> None:
    """Write the columns, all at once or not at all."""
    with replacing(path) as partial:
        pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), partial)


def read(path: Path) -> dict[str, list[Any]]:
    """Read the columns; see ``training.scoring.predictions``.

    Raises:
        SacmaError: the file is missing or damaged, or a column is missing or of another type.
    """
    try:
        # One file, not a data set: a folder name such as "seed=1" is no column.
        table = pq.ParquetFile(path).read(columns=list(COLUMNS.names)).cast(COLUMNS)
    except (OSError, KeyError, ValueError, pa.ArrowException) as error:
        detail = one_line(error)[:200]
        raise SacmaError(
            f"cannot read {path}: {detail}; sacma evaluate tells the figures without it"
        ) from error
    columns: dict[str, list[Any]] = table.to_pydict()
    if not table.num_rows or any(None in columns[name] for name in _NEVER_EMPTY):
        raise SacmaError(
            f"{path} has no clips, or clips without a class or a prediction; train again with --force"
        )
    return columns
