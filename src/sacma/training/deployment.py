"""Data that prediction needs beside the weights of a run. ``training.protocol`` writes it to the run folder.

prediction.json      seen classes, bias and temperature of each output with their reliability, seconds of a
                     step and origin of the features
class_vectors.npz    the vectors of the benchmark's classes, as trained with
text_table.npz       the table of these vectors, with the text encoder that can encode other names

Bias and temperature come from the validation of stage 1, whose unseen classes have no training clips; the
final weights take over both. Reliability is measured there, where the temperature was fitted, and on test.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sacma.data.batches import trimming_of
from sacma.data.benchmark import Benchmark, Split
from sacma.data.layout import Layout
from sacma.errors import SacmaError
from sacma.files import write_text
from sacma.frozen.leakage import Overlap, overlap
from sacma.metrics.calibration import Reliability, fit_temperature, probabilities, reliability
from sacma.metrics.gzsl import best_bias
from sacma.metrics.nearest import nearest
from sacma.models.base import Method
from sacma.runs.config import RunConfig
from sacma.runs.records import Fields
from sacma.text.vectors import TextTable
from sacma.training.evaluation import distances_by_output
from sacma.types import ClassSet

FORMAT = 1
FACTS, VECTORS, TABLE = FILES = ("prediction.json", "class_vectors.npz", "text_table.npz")


@dataclass(frozen=True)
class Scale:
    """Calibration of one output: from distances to probabilities.

    Attributes:
        bias: added to the distances of seen names.
        temperature: of ``calibration.probabilities``; None if the run has no stage-1 weights to fit it.
        validation: reliability on the clips of the fit.
        test: reliability of the final weights on test.
    """

    bias: float
    temperature: float | None = None
    validation: Reliability | None = None
    test: Reliability | None = None


@dataclass(frozen=True)
class Deployment:
    """Data that prediction needs beside the weights; see the head of this file.

    Attributes:
        method: name of the method.
        benchmark: name of the benchmark.
        features: name of its features.
        classes: all classes of the benchmark; ``seen`` are those that stage 2 was trained on.
        text_names: name of each class in ``table``.
        table: text names and their vectors.
        text_alignment: aligned or published, see ``sacma.text.vectors.class_vectors``.
        scales: output of the method -> its calibration.
        audio_step: seconds of an audio step.
        video_step: seconds of a video step.
        provenance: origin of the features.
    """

    method: str
    benchmark: str
    features: str
    classes: ClassSet
    text_names: tuple[str, ...]
    table: TextTable
    text_alignment: str
    scales: Mapping[str, Scale]
    audio_step: float
    video_step: float
    provenance: Mapping[str, Any]

    @classmethod
    def of_run(
        cls, method: Method, stage_1: Method | None, bias: float, config: RunConfig, benchmark: Benchmark
    ) -> Deployment:
        """The deployment of a run that has just ended.

        Args:
            method: the model with the final weights.
            stage_1: the model with the weights that stage 1 chose; None if there are none.
            bias: chosen by stage 1 for the method's default output.
            config: configuration of the run.
            benchmark: its data.
        """
        trained = set(benchmark.split("train_val").classes.names)
        seen = torch.tensor([name in trained for name in benchmark.classes])
        layout = Layout.find(benchmark.root, benchmark.name, benchmark.split_name)
        features = benchmark.features
        return cls(
            method=config.method,
            benchmark=benchmark.name,
            features=config.data.features,
            classes=ClassSet(benchmark.classes, benchmark.vectors, seen),
            text_names=tuple(layout.text_names.get(name, name) for name in benchmark.classes),
            table=benchmark.text_table,
            text_alignment=benchmark.text_alignment,
            scales=_scales(method, stage_1, bias, config, benchmark),
            audio_step=features.audio.step_seconds,
            video_step=features.video.step_seconds,
            provenance=features.provenance,
        )

    def overlap(self, split: str) -> Overlap | None:
        """Overlap of the training data of the features' encoders with the test; None where nothing is known.

        Args:
            split: the class split of the run.
        """
        names, seen = self.classes.names, self.classes.seen.tolist()
        return overlap(
            self.provenance,
            benchmark=self.benchmark,
            features=self.features,
            split=split,
            unseen=[name for name, known in zip(names, seen, strict=True) if not known],
        )

    def portable(self) -> Deployment:
        """A copy for other machines: absolute paths in the provenance are cut to their last part."""
        known = self.table.provenance
        table = replace(
            self.table,
            source=_without_folders(self.table.source),
            provenance=None if known is None else _without_folders(dict(known)),
        )
        return replace(self, table=table, provenance=_without_folders(dict(self.provenance)))

    def write(self, folder: Path) -> None:
        """Write the three files, each whole or not at all, the JSON last.

        Raises:
            SacmaError: the folder cannot be written to.
        """
        names = self.classes.names
        TextTable(names, self.classes.vectors.numpy()).write(folder / VECTORS)
        self.table.write(folder / TABLE)
        rows = zip(names, self.text_names, self.classes.seen.tolist(), strict=True)
        content = {
            "format": FORMAT,
            "method": self.method,
            "benchmark": self.benchmark,
            "features": self.features,
            "text_alignment": self.text_alignment,
            "audio_step": self.audio_step,
            "video_step": self.video_step,
            "outputs": {output: _scale_to_dict(scale) for output, scale in self.scales.items()},
            "provenance": dict(self.provenance),
            "classes": [{"name": name, "text_name": text, "seen": seen} for name, text, seen in rows],
        }
        write_text(folder / FACTS, json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Deployment:
        """Read the three files.

        Raises:
            SacmaError: a file is missing or damaged, a field is of another type, or the files do not belong
                together.
        """
        fields = Fields.read(folder / FACTS, "copy the run again")
        if fields.content.get("format") != FORMAT:
            raise SacmaError(f"{fields.path} is of another version of sacma; remove it, or train again")
        rows = fields.objects("classes")
        names = tuple(row.text("name") for row in rows)
        vectors = TextTable.read(folder / VECTORS)
        if vectors.names != names:
            raise SacmaError(f"{folder / VECTORS} is not of the same classes as {fields.path}")
        seen = torch.tensor([row.flag("seen") for row in rows])
        outputs = fields.object("outputs")
        return cls(
            method=fields.text("method"),
            benchmark=fields.text("benchmark"),
            features=fields.text("features"),
            classes=ClassSet(names, torch.from_numpy(vectors.vectors), seen),
            text_names=tuple(row.text("text_name") for row in rows),
            table=TextTable.read(folder / TABLE),
            text_alignment=fields.text("text_alignment"),
            scales={output: _read_scale(outputs.object(output)) for output in outputs.content},
            audio_step=fields.number("audio_step", positive=True),
            video_step=fields.number("video_step", positive=True),
            provenance=fields.object("provenance").content,
        )


def _without_folders(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_folders(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_folders(value) for value in content]
    return Path(content).name if isinstance(content, str) and Path(content).is_absolute() else content


def _scales(
    method: Method, stage_1: Method | None, bias: float, config: RunConfig, benchmark: Benchmark
) -> dict[str, Scale]:
    """Calibration of each output; ``bias`` is for the default one, validation gives that of the others."""
    if stage_1 is None:
        return {output: Scale(bias if output == method.default_output else 0.0) for output in method.outputs}
    val, test = benchmark.split("val"), benchmark.split("test")
    on_val, on_test = (_distances(one, split, config) for one, split in ((stage_1, val), (method, test)))
    scales = {}
    for output in method.outputs:
        own = output == method.default_output
        chosen = bias if own else _best_bias(stage_1, on_val[output], val, config, output)
        scales[output] = _scale(on_val[output], on_test[output], chosen, val=val, test=test)
    return scales


def _distances(method: Method, split: Split, config: RunConfig) -> dict[str, Tensor]:
    trimming = trimming_of(config.training, training=False)
    return distances_by_output(method, split, batch_size=config.training.eval_batch_size, trimming=trimming)


def _best_bias(method: Method, distances: Tensor, split: Split, config: RunConfig, output: str) -> float:
    if not method.searches_bias(output):
        return 0.0
    seen = split.classes.seen
    search = config.protocol.bias_search
    return best_bias(nearest(distances, seen), split.labels, seen, search=search)[0]


def _scale(on_val: Tensor, on_test: Tensor, bias: float, *, val: Split, test: Split) -> Scale:
    """Temperature and reliability of an output with (N, K) distances on validation and on test."""
    temperature = fit_temperature(on_val, val.labels, val.classes.seen, bias=bias)

    def believed(distances: Tensor, split: Split) -> Reliability:
        scores = probabilities(distances, split.classes.seen, bias=bias, temperature=temperature)
        return reliability(scores, split.labels)

    return Scale(bias, temperature, believed(on_val, val), believed(on_test, test))


def _scale_to_dict(scale: Scale) -> dict[str, Any]:
    believed = {"validation": scale.validation, "test": scale.test}
    return {
        "bias": scale.bias,
        "temperature": scale.temperature,
        **{part: one and one.to_dict() for part, one in believed.items()},
    }


def _read_scale(fields: Fields) -> Scale:
    temperature = fields.number("temperature", positive=True) if fields.given("temperature") else None
    believed = {}
    for part in ("validation", "test"):
        try:
            believed[part] = Reliability.from_dict(fields.content[part]) if fields.given(part) else None
        except SacmaError as error:
            raise fields.wrong(part, f"a reliability ({error})") from error
    return Scale(fields.number("bias"), temperature, **believed)
