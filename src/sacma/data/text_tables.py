"""Tables of class vectors made by a text encoder and kept in the folder of a benchmark."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sacma.data.layout import Layout, features_folder
from sacma.errors import SacmaError, printable
from sacma.text.encoders import open_encoder
from sacma.text.vectors import TextTable

_NAME = re.compile(r"\w[\w.-]*")


def build_table(
    root: Path,
    benchmark: str,
    features: str,
    *,
    name: str,
    spec: Mapping[str, Any],
    out: Path | None = None,
    force: bool = False,
) -> tuple[TextTable, Path]:
    """Encode the text names of all classes of a benchmark and write the table where ``--text NAME`` finds it.

    Args:
        root: the folder with ``class-split/`` and ``features/``.
        benchmark: ``ucf``, ``vggsound``, ``activitynet`` or another NAME.
        features: ``selavi``, ``c3d-vggish`` or the name of a folder under ``features/``.
        name: of the table, the NAME in ``text/word_embeddings_NAME_normed.npz``.
        spec: as ``open_encoder`` takes it.
        out: write the ``.npz`` there instead.
        force: replace a table that is there.

    Returns:
        The table and its file.

    Raises:
        SacmaError: as ``open_encoder``; a class cannot be encoded; the name is that of the benchmark's own
            table or taken; or the file cannot be written.
    """
    layout = Layout.find(root, benchmark, "main")
    path = out or _table_path(layout, features, name)
    if path.suffix != ".npz":
        raise SacmaError(f"{path}: a table of class vectors is a .npz file; name it so")
    if path.with_suffix(".npy").exists():  # it would be read no longer
        raise SacmaError(f"{path.with_suffix('.npy')} has that name already; choose another --name")
    if path.exists() and not force:
        raise SacmaError(f"{path} exists already; choose another --name, or replace it with --force")
    if out is None and _is_read_only(path.parent):
        raise SacmaError(f"{path.parent} is read-only; pass --out FILE.npz, and --text FILE.npz to train")
    encoder = open_encoder(spec)
    names = tuple(dict.fromkeys(layout.text_names.get(one, one) for one in layout.all_classes))
    table = TextTable(names, encoder(names), str(path), encoder.provenance)
    table.write(path)
    return table, path


def _is_read_only(folder: Path) -> bool:
    """True where nobody is meant to write. A superuser could, so the mode is read too."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return not there.stat().st_mode & 0o222 or not os.access(there, os.W_OK)


def _table_path(layout: Layout, features: str, name: str) -> Path:
    own = layout.facts.vectors if layout.facts else layout.name
    if not _NAME.fullmatch(name):
        raise SacmaError(f"--name {printable(name)} should be letters, digits, dots, hyphens and underscores")
    if name == own:
        raise SacmaError(
            f"--name {name} is that of the benchmark's own table of class vectors; choose another"
        )
    folder = layout.root / "features" / features_folder(layout.root, features)
    return folder / "text" / f"word_embeddings_{name}_normed.npz"
