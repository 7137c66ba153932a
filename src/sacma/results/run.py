"""A finished run, opened to look at: its figures, its course, answers with probabilities, embeddings.

    run = sacma.load_run("runs/mine")
    run.result.test.harmonic_mean
    run.predictions(top=5).to_frame()

What the run folder holds is read from there. The benchmark is opened when an answer needs the clips.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sacma.data.batches import trimming_of
from sacma.data.benchmark import STAGES, Benchmark, Split
from sacma.errors import SacmaError, printable
from sacma.frames import Columns, FrameKind, frame_of, html_table
from sacma.metrics.calibration import probabilities
from sacma.metrics.gzsl import ACCURACIES, GZSLResult
from sacma.models.base import Method
from sacma.runs.config import RunConfig
from sacma.runs.folder import RunFolder
from sacma.runs.prepare import open_benchmark
from sacma.runs.records import RunResult
from sacma.training.deployment import Deployment
from sacma.training.evaluation import clip_embeddings, distances_by_output
from sacma.training.scoring import evaluate_run, load_run_model, spelt_out


def load_run(path: str | Path, *, root: str | Path | None = None) -> Run:
    """Open a finished run.

    Args:
        path: the run folder, as ``sacma train`` wrote it.
        root: where the benchmark is now, if it has moved.

    Raises:
        SacmaError: it is not the folder of a finished run.

    Example:
        >>> run = load_run("runs/mine")  # doctest: +SKIP
        >>> run.predictions(top=3).to_frame()  # doctest: +SKIP
    """
    return Run(RunFolder.open(Path(path), finished=True), root=None if root is None else str(root))


class Run:
    """A finished run; ``load_run`` opens it.

    Args:
        folder: of the run.
        root: where the benchmark is now, if it has moved.
    """

    def __init__(self, folder: RunFolder, *, root: str | None = None) -> None:
        self.folder, self._root = folder, root

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @cached_property
    def config(self) -> RunConfig:
        """Every option of the run."""
        return self.folder.config()

    @cached_property
    def result(self) -> RunResult:
        """The figures of the run, on validation and on test."""
        return self.folder.result()

    @cached_property
    def history(self) -> Columns:
        """Rows of epochs: stage, epoch, learning_rate, loss, seconds, ``loss/TERM``, ``validation/MEASURE``.

        A term or measure that an epoch lacks is None.
        """
        rows = []
        for row in self.folder.metrics():
            plain = row.to_dict()
            terms = {f"loss/{name}": value for name, value in plain.pop("losses").items()}
            measures = {f"validation/{name}": one for name, one in (plain.pop("validation") or {}).items()}
            rows.append({**plain, **terms, **measures})
        names = dict.fromkeys(name for row in rows for name in row)
        return Columns({name: [row.get(name) for row in rows] for name in names})

    @cached_property
    def benchmark(self) -> Benchmark:
        """The run's benchmark, opened on first use.

        Raises:
            SacmaError: it is not where it was; ``load_run(..., root=FOLDER)`` says where it is now.
        """
        data = self.config.data
        return open_benchmark(dataclasses.replace(data, root=self._root or data.root))

    @cached_property
    def method(self) -> Method:
        """The model with the final weights, in eval mode."""
        return load_run_model(self.folder, self.benchmark)

    @cached_property
    def _deployment(self) -> Deployment:
        return Deployment.read(self.path)

    def predictions(self, *, top: int = 5, split: str = "test", output: str | None = None) -> Columns:
        """Rank all candidates of a stage for each of its clips, with calibrated probabilities.

        Args:
            top: names a clip.
            split: ``test``, ``val``, ``train`` or ``train_val``. The weights are the final ones, which were
                trained on the clips of all but ``test``.
            output: the embedding that scores, by default the method's own.

        Returns:
            ``top`` rows a clip. ``clip`` is its name, ``class`` the right class, ``seen`` True where training
            had clips of that class; ``rank`` counts from 1; ``name`` is an answer, ``probability`` its share
            of 1 over all candidates, ``distance`` what the method computed, before the bias of seen classes;
            ``right`` is True where the answer is the class.

        Raises:
            SacmaError: ``top`` is below 1, or the method has no such output.
        """
        if top < 1:
            raise SacmaError(f"top is {top}; it must be at least 1")
        output = self.method.scoring_output(output)
        clips, scale = self._split(split), self._deployment.scales.get(output)
        if scale is None:
            raise SacmaError(
                f"{self.path} has no calibration of {printable(output)}; train again with --force"
            )
        distances = self._distances(clips, output)
        is_seen = clips.classes.seen
        shares = probabilities(distances, is_seen, bias=scale.bias, temperature=scale.temperature or 1.0)
        best = shares.topk(min(top, shares.shape[1]), dim=1)  # (N, top)
        count = best.indices.shape[1]
        names = np.array(clips.classes.names, dtype=object)
        right = clips.labels[:, None] == best.indices

        def repeated(values: list[Any]) -> list[Any]:
            return [value for value in values for _ in range(count)]

        return Columns(
            {
                "clip": repeated(clip_names(clips)),
                "class": repeated(names[clips.labels.numpy()].tolist()),
                "seen": repeated(is_seen[clips.labels].tolist()),
                "rank": list(range(1, count + 1)) * len(clips),
                "name": names[best.indices.flatten().numpy()].tolist(),
                "probability": best.values.flatten().tolist(),
                "distance": distances.gather(1, best.indices).flatten().tolist(),
                "right": right.flatten().tolist(),
            }
        )

    def embeddings(self, split: str = "test", output: str | None = None) -> Embeddings:
        """The embeddings of clips and of candidate classes that the method compares.

        Args:
            split: ``test``, ``val``, ``train`` or ``train_val``.
            output: one of the method's outputs, by default its own.

        Raises:
            SacmaError: the method does not compare embeddings, or has no such output.
        """
        method = self.method
        if not method.compares_embeddings:
            raise SacmaError(
                f"{self.config.method} does not compare embeddings; predictions() has its answers"
            )
        output = method.scoring_output(output)
        clips = self._split(split)
        found = clip_embeddings(method, clips, output=output, batch_size=self._batch, trimming=self._trimming)
        with torch.inference_mode():
            classes = method.embed_classes(clips.classes.to(method.device)).float().cpu()
        names = clips.classes.names
        return Embeddings(
            clips=tuple(clip_names(clips)),
            labels=tuple(names[label] for label in clips.labels.tolist()),
            values=found.numpy(),
            classes=names,
            class_values=classes.numpy(),
            seen=tuple(clips.classes.seen.tolist()),
        )

    def confusion(self, *, zsl: bool = False) -> Confusion:
        """Count the answers to the test clips of each class, as the run kept them.

        Args:
            zsl: answers with unseen classes as the only candidates, for clips of unseen classes.
        """
        kept = self.folder.predictions()
        answers = kept["prediction_zsl" if zsl else "prediction"]
        pairs = [
            (label, answer)
            for label, answer, seen in zip(kept["class"], answers, kept["seen"], strict=True)
            if not (zsl and seen)
        ]
        names = tuple(sorted({name for pair in pairs for name in pair}))
        place = {name: row for row, name in enumerate(names)}
        counts = np.zeros((len(names), len(names)), np.int64)
        for (label, answer), clips in Counter(pairs).items():
            counts[place[label], place[answer]] = clips
        return Confusion(names, counts)

    def evaluate(self, *, output: str | None = None) -> GZSLResult:
        """Compute the test figures again from the weights.

        Args:
            output: the embedding that scores, by default the method's own; for another one the bias is chosen
                again on validation.

        Raises:
            SacmaError: the method has no such output, or the weights cannot be read.
        """
        return evaluate_run(self.folder, self.benchmark, output=output)[0]

    @property
    def _batch(self) -> int:
        return self.config.training.eval_batch_size

    @property
    def _trimming(self) -> Any:
        return trimming_of(self.config.training, training=False)

    def _split(self, stage: str) -> Split:
        if stage not in STAGES:
            raise SacmaError(f"no split {printable(stage)}; there are: {', '.join(STAGES)}")
        return self.benchmark.split(stage)

    def _distances(self, clips: Split, output: str) -> torch.Tensor:
        return distances_by_output(
            self.method, clips, batch_size=self._batch, trimming=self._trimming, outputs=(output,)
        )[output]

    def __repr__(self) -> str:
        return f"Run({self.result.headline}, seed {self.result.seed}: {self.result.test})"

    def _repr_html_(self) -> str:
        parts = {"validation": self.result.validation, "test": self.result.test}
        rows = [
            (name, *(f"{100 * getattr(one, field):.1f}" for field in ACCURACIES.values()))
            for name, one in parts.items()
        ]
        head = f"{self.result.headline}, seed {self.result.seed}"
        return html_table(("percent", *ACCURACIES), rows, head=head, note=str(self.path))


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Embeddings of N clips and of K candidate classes.

    Attributes:
        clips: names of the clips.
        labels: class of each clip.
        values: (N, D) float32, one clip a row.
        classes: names of the candidates.
        class_values: (K, D) float32, one class a row.
        seen: K times, True where training had clips of the class.
    """

    clips: tuple[str, ...]
    labels: tuple[str, ...]
    values: NDArray[np.float32]
    classes: tuple[str, ...]
    class_values: NDArray[np.float32]
    seen: tuple[bool, ...]

    def to_frame(self, kind: FrameKind = "pandas") -> Any:
        """A data frame with clip, class and one column ``e0``, ``e1``, ... for each dimension.

        Args:
            kind: ``pandas`` or ``polars``.

        Raises:
            SacmaError: the library is not installed.
        """
        parts = {f"e{place}": column for place, column in enumerate(self.values.T)}
        return frame_of({"clip": list(self.clips), "class": list(self.labels), **parts}, kind)

    def __repr__(self) -> str:
        clips, width = self.values.shape
        return f"Embeddings({clips} clips, {len(self.classes)} classes, {width} wide)"


@dataclass(frozen=True, eq=False)
class Confusion:
    """Answers to test clips.

    Attributes:
        names: the K classes that clips have or that were answered.
        counts: (K, K) int64; row: the right class, column: the answer.
    """

    names: tuple[str, ...]
    counts: NDArray[np.int64]

    def pairs(self) -> Columns:
        """The mistakes, most frequent first: ``class``, ``answer``, ``clips``, ``share`` of the class."""
        totals = self.counts.sum(axis=1)
        found = sorted(
            (-int(clips), self.names[row], self.names[column], int(totals[row]))
            for (row, column), clips in np.ndenumerate(self.counts)
            if row != column and clips
        )
        return Columns(
            {
                "class": [label for _, label, _, _ in found],
                "answer": [answer for _, _, answer, _ in found],
                "clips": [-clips for clips, _, _, _ in found],
                "share": [-clips / total for clips, _, _, total in found],
            }
        )

    def to_frame(self, kind: FrameKind = "pandas") -> Any:
        """A data frame with a row a right class and a column an answer; the first column names the class.

        Args:
            kind: ``pandas`` or ``polars``.

        Raises:
            SacmaError: the library is not installed.
        """
        answers = {name: self.counts[:, place] for place, name in enumerate(self.names)}
        if kind == "pandas":
            return frame_of(answers, kind).set_axis(list(self.names), axis=0)
        return frame_of({"class": list(self.names), **answers}, kind)

    def _repr_html_(self) -> str:
        return self.pairs()._repr_html_()


def clip_names(split: Split) -> list[str]:
    """Names of the clips of a split, as predictions.parquet spells them."""
    return [spelt_out(split.features.names[clip]) for clip in split.clips.tolist()]
