"""``sacma text``: class vectors from a text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sacma.commands import console, progress
from sacma.errors import SacmaError


def build(
    encoder: str,
    name: str,
    root: Path | None = None,
    benchmark: str = "avshapes",
    features: str = "descriptors",
    model: str | None = None,
    prompt: list[str] | None = None,
    words: Literal["mean", "whole"] | None = None,
    unknown_words: Literal["error", "skip"] | None = None,
    out: Path | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Encode the class names of a benchmark; sacma train --text NAME then uses these class vectors.

    Args:
        encoder: clip, clip-clap, sentence, glove, word2vec, fasttext, table or avshapes.
        name: of the table, the NAME in text/word_embeddings_NAME_normed.npz.
        root: folder that holds class-split/ and features/; AV-Shapes has its own.
        benchmark: ucf, vggsound, activitynet, avshapes or another NAME.
        features: selavi, c3d-vggish or the name of a folder under features/.
        model: of the encoder: a file or folder, for clip and sentence also a hub name.
        prompt: text around a name, such as "a photo of a {}."; repeat it to average over several.
        words: mean of the vectors of a name's words, or one vector of the whole name (default of fasttext).
        unknown_words: skip leaves words without a vector out of the mean.
        out: write this .npz file instead, which --text FILE then reads.
        force: replace a table that is there.

    Examples:
        sacma text build --encoder sentence --name mine --root data/ucf --benchmark ucf --features selavi
    """
    from sacma.commands.show import counting
    from sacma.data.text_tables import build_table
    from sacma.datasets import avshapes

    if root is None and benchmark == avshapes.NAME:
        with counting(progress, "rendering AV-Shapes") as on_progress:
            root = avshapes.prepare(on_progress)
    if root is None:
        raise SacmaError(f"--root is missing: the folder of {benchmark} with class-split/ and features/")
    spec = {"encoder": encoder, "model": model, "prompts": prompt, "words": words}
    spec |= {"unknown_words": unknown_words}
    given = {key: value for key, value in spec.items() if value is not None}
    table, path = build_table(root, benchmark, features, name=name, spec=given, out=out, force=force)
    for key, value in (table.provenance or {}).items():
        console.print(f"{key}: {value}", soft_wrap=True, highlight=False)
    console.print(f"{len(table.names)} names, {table.vectors.shape[1]} numbers each: {path}", soft_wrap=True)
    return {"file": str(path), "names": len(table.names), "width": int(table.vectors.shape[1])}
