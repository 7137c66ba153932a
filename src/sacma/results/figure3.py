"""Figure 3 of the paper: t-SNE of mean audio input, mean visual input and phi_m for six seen classes.

t-SNE (van der Maaten and Hinton, JMLR 2008) by scikit-learn, seeded, started from the principal components.
Each panel has the silhouette score (Rousseeuw, 1987) of its vectors, so that "clearly clustered" is a number,
and that of its points. The paper does not name its six classes; ours are those with the most test clips.
"""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sacma.data.batches import gather, trimming_of
from sacma.data.benchmark import Benchmark, Split
from sacma.errors import SacmaError, printable, requires
from sacma.files import replacing, write_text
from sacma.models.base import Method
from sacma.models.sacma import SACMA
from sacma.progress import SILENT, Reporter
from sacma.results import charts
from sacma.runs.folder import RunFolder
from sacma.runs.prepare import benchmark_of, open_benchmark
from sacma.studies.study import chosen_rows, read_study, row_config, row_options, setting_name
from sacma.text.names import Spelling, read_names
from sacma.text.vectors import nearest_words
from sacma.training.scoring import load_run_model, spelt_out
from sacma.training.seeds import run_seed

CLASSES = 6
MOST_CLASSES = 12
CLIPS = 100  # of a class, evenly spaced, at most: more points than that hide each other
PERPLEXITY = 30


@dataclass(frozen=True)
class Panel:
    """The t-SNE of one kind of vector of N clips.

    Attributes:
        title: name of the vectors.
        points: (N, 2) coordinates.
        silhouette: of the vectors, -1 to 1.
        silhouette_of_points: of the points.
    """

    title: str
    points: NDArray[np.float64]
    silhouette: float
    silhouette_of_points: float


@dataclass(frozen=True)
class Embedding:
    """The panels of the figure.

    Attributes:
        classes: their names.
        labels: (N,) position of each clip's class in ``classes``.
        clips: names of the N clips.
        panels: mean audio input, mean visual input, what the method scores by.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    clips: tuple[str, ...]
    panels: tuple[Panel, ...]

    def csv(self) -> str:
        """The points as CSV: a row for each panel and clip."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("panel", "clip", "class", "x", "y"))
        for panel in self.panels:
            for clip, label, (x, y) in zip(self.clips, self.labels, panel.points, strict=True):
                writer.writerow((panel.title, clip, self.classes[label], f"{x:.4f}", f"{y:.4f}"))
        return text.getvalue()


def embed_run(
    folder: RunFolder, benchmark: Benchmark, *, classes: Sequence[str] | None = None, seed: int = 0
) -> Embedding:
    """The panels of a finished run, over test clips of seen classes.

    Args:
        folder: the run.
        benchmark: its benchmark, opened.
        classes: seen classes; by default the six with the most test clips.
        seed: of t-SNE.

    Raises:
        SacmaError: a class is unknown or unseen, they have too few clips, scikit-learn is not installed, or
            the weights cannot be read.
    """
    method = load_run_model(folder, benchmark)
    split = benchmark.split("test")
    chosen = _seen_classes(split, classes)
    rows = _clips_of(split, chosen)
    if len(rows) < len(chosen) + 2:
        raise SacmaError(
            f"{len(rows)} clips of {', '.join(chosen)} with sound and pictures are too few for t-SNE"
        )
    config = folder.config()
    labels = np.array([chosen.index(split.classes.names[label]) for label in split.labels[rows].tolist()])
    vectors = _vectors(method, split, rows, trimming_of(config.training, training=False))
    panels = tuple(_panel(title, values, labels, seed) for title, values in vectors.items())
    names = tuple(spelt_out(split.features.names[clip]) for clip in split.clips[rows].tolist())
    return Embedding(tuple(chosen), labels, names, panels)


def _seen_classes(split: Split, wanted: Sequence[str] | None) -> list[str]:
    names, seen = split.classes.names, split.classes.seen.tolist()
    known = [name for name, is_seen in zip(names, seen, strict=True) if is_seen]
    if wanted is None:
        clips = torch.bincount(split.labels, minlength=len(names)).tolist()
        by_clips = sorted(known, key=lambda name: (-clips[names.index(name)], name))
        return sorted(by_clips[:CLASSES])
    spelling, chosen = Spelling(names), []
    for written in wanted:
        name = spelling.find(written)
        if name is None:
            near = nearest_words(written, known)
            advice = f"; nearest: {', '.join(map(printable, near))}" if near else ""
            raise SacmaError(f"no class {printable(written)} among the test classes{advice}")
        if name not in known:
            raise SacmaError(f"class {printable(name)} is unseen; Figure 3 shows seen classes")
        chosen.append(name)
    chosen = list(dict.fromkeys(chosen))
    if not 2 <= len(chosen) <= MOST_CLASSES:
        raise SacmaError(f"{len(chosen)} classes; choose from 2 to {MOST_CLASSES} different ones")
    return chosen


def _clips_of(split: Split, classes: Sequence[str]) -> Tensor:
    """Rows of the split, class by class: clips that have both modalities."""
    features = split.features
    both = (features.audio.lengths[split.clips] > 0) & (features.video.lengths[split.clips] > 0)
    rows = []
    for name in classes:
        of_class = (both & (split.labels == split.classes.names.index(name))).nonzero()[:, 0]
        stride = max(1, -(-len(of_class) // CLIPS))
        rows.append(of_class[::stride])
    return torch.cat(rows)


@torch.inference_mode()
def _vectors(method: Method, split: Split, rows: Tensor, trimming: Any) -> dict[str, NDArray[np.float32]]:
    """Title -> (N, D)."""
    averaged = split.averaged()
    scored = split if method.temporal else averaged
    parts: dict[str, list[Tensor]] = {}
    for some in rows.split(64):
        means = gather(averaged, some)
        batch = gather(scored, some, trimming=trimming)
        if isinstance(method, SACMA):
            title, values = "phi_m", method.embed(batch, streams="m")["m"]
        else:
            title, values = "distances to the classes", method.distances(batch, split.classes)
        for name, part in (
            ("mean audio input", means.audio.mean()),
            ("mean visual input", means.video.mean()),
            (title, values),
        ):
            parts.setdefault(name, []).append(part.float())
    return {name: torch.cat(some).numpy() for name, some in parts.items()}


def _panel(title: str, vectors: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> Panel:
    with requires("report", "t-SNE needs scikit-learn"):
        from sklearn.manifold import TSNE
        from sklearn.metrics import silhouette_score
        from threadpoolctl import threadpool_limits
    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    with threadpool_limits(1):  # few points: more threads wait for each other, and would add in another order
        points = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors)
        scores = [float(silhouette_score(values, labels)) for values in (vectors, points)]
    return Panel(title, points.astype(np.float64), *scores)


def reproduce_figure(
    given: Mapping[str, Any],
    *,
    run: Path | None,
    classes: str | None,
    like: str,
    out: Path,
    reporter: Reporter = SILENT,
) -> tuple[Embedding, list[Path]]:
    """Draw the figure of ``run``, or of SACMA trained with seed 0 as in Table 2.

    Args:
        given: options of the run, such as benchmark, features and root.
        run: a finished run, whose root ``given`` may replace.
        classes: names as CSV or ``@FILE``; None for the six with the most test clips.
        like: ``published`` or ``ours``.
        out: folder of the figure of ``run``; else of all studies, and run and figure go to SETTING/ in it.
        reporter: told how the training goes.

    Raises:
        SacmaError: as ``embed_run``; the run cannot be read; the benchmark cannot be opened.
    """
    names = read_names(classes) if classes is not None else None
    if run is not None:
        folder = RunFolder.open(run, finished=True)
        data = folder.config().data
        benchmark = open_benchmark(replace(data, root=given.get("root") or data.root), reporter)
    else:
        out = out / setting_name([given], like)
        folder, benchmark = _trained(given, like, out, reporter, names)
    embedding = embed_run(folder, benchmark, classes=names)
    heading = f"{folder.result().headline}, seed {folder.config().seed}; test clips of seen classes"
    return embedding, write_figure(embedding, out, heading=heading)


def _trained(
    given: Mapping[str, Any], like: str, out: Path, reporter: Reporter, names: Sequence[str] | None
) -> tuple[RunFolder, Benchmark]:
    (row,) = chosen_rows(read_study("table2"), ["sacma"])
    options = row_options(row, given, like=like)
    benchmark = benchmark_of(options, reporter)
    _seen_classes(benchmark.split("test"), names)  # a misspelt name is better known before training
    config, name = row_config(row, given, benchmark, like=like)
    path = out / name / f"seed-{config.seed}"
    run_seed(config, benchmark, path, reporter)
    return RunFolder.open(path, finished=True), benchmark


def write_figure(embedding: Embedding, out: Path, *, heading: str) -> list[Path]:
    """Write ``figure3.png``, ``.svg`` and ``.csv`` (the points) into a folder, each whole or not at all."""
    paths = [out / f"figure3.{kind}" for kind in ("png", "svg", "csv")]
    figure = draw(embedding, heading=heading)
    for path in paths[:2]:
        with replacing(path) as partial:
            charts.save(figure, partial, kind=path.suffix[1:])
    write_text(paths[2], embedding.csv())
    return paths


# --- Drawing -------------------------------------------------------------------------------------------


def draw(embedding: Embedding, *, heading: str) -> Any:
    """Three panels side by side, to be saved."""
    with charts.drawing(page=False) as figure_class:
        figure = figure_class(figsize=(9.6, 3.9))
        axes = figure.subplots(1, len(embedding.panels))
        for axis, panel in zip(axes, embedding.panels, strict=True):
            _scatter(axis, panel.points, embedding)
            axis.set_title(panel.title)
            axis.set_xlabel(f"silhouette {panel.silhouette:.2f}, of the map {panel.silhouette_of_points:.2f}")
        handles, labels = axes[0].get_legend_handles_labels()
        columns = 6 if max(map(len, labels)) < 16 else 3
        figure.legend(handles, labels, loc="outside lower center", ncols=columns)
        figure.suptitle(textwrap.fill(heading, 120), fontsize=8)
    return figure


def draw_panels(embedding: Embedding) -> list[str]:
    """Each panel as inline SVG, without legend."""
    drawn = []
    for panel in embedding.panels:
        with charts.drawing(page=True) as figure_class:
            figure = figure_class(figsize=(3.6, 3.2))
            axis = figure.subplots()
            _scatter(axis, panel.points, embedding)
            drawn.append(charts.inline_svg(figure))
    return drawn


_SHAPES = (
    '<circle cx="7" cy="7" r="5"/>',
    '<path d="M2.5 2.5h9v9h-9z"/>',
    '<path d="M7 2l5.5 10h-11z"/>',
    '<path d="M7 1l6 6-6 6-6-6z"/>',
    '<path d="M7 12l5.5-10h-11z"/>',
    '<path d="M5 1.5h4V5h3.5v4H9v3.5H5V9H1.5V5H5z"/>',
)


def legend_mark(number: int) -> str:
    """The mark of a class in ``draw``, as inline SVG."""
    colour, shape = charts.COLOURS[number % len(charts.COLOURS)], _SHAPES[number % len(_SHAPES)]
    fill = colour if number < len(charts.COLOURS) else "none"
    style = f'fill="{fill}" stroke="{colour}" stroke-width="1.2"'
    return f'<svg viewBox="0 0 14 14" width="14" height="14" aria-hidden="true" {style}>{shape}</svg>'


def _scatter(axis: Any, points: NDArray[np.float64], embedding: Embedding) -> None:
    for number, name in enumerate(embedding.classes):
        x, y = points[embedding.labels == number].T
        colour = charts.COLOURS[number % len(charts.COLOURS)]
        filled = number < len(charts.COLOURS)  # after six, the same again hollow
        axis.scatter(
            x,
            y,
            s=22,
            marker=charts.MARKERS[number % len(charts.MARKERS)],
            facecolors=colour if filled else "none",
            edgecolors=colour,
            linewidths=0.8,
            alpha=0.85,
            label=name,
        )
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    axis.spines[["top", "right"]].set_visible(True)
