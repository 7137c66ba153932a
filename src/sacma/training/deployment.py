"""What a trained model needs beside its weights to answer for new clips and names: kept in the run folder.

prediction.json      which names were trained on, bias and temperature of each output with their reliability,
                     steps and origin of the features
class_vectors.npz    the vectors of the benchmark's classes, as trained with
text_table.npz       the table that they were taken from, with what other names can be encoded by

Bias and temperature come from the validation of stage 1, whose unseen classes nothing was trained on; the
final weights take over both. Reliability is given there, where the temperature was fitted, and on test.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sacma.data.benchmark import Benchmark, Split
from sacma.data.layout import Layout
from sacma.errors import SacmaError
from sacma.files import write_text
from sacma.metrics.calibration import Reliability, fit_temperature, probabilities, reliability
from sacma.metrics.gzsl import best_bias, nearest
from sacma.models.base import Method
from sacma.runs.config import RunConfig
from sacma.text.vectors import TextTable
from sacma.training.evaluation import distances_by_output
from sacma.training.loop import trimming_of
from sacma.types import ClassSet

FORMAT = 1
FACTS, VECTORS, TABLE = FILES = ("prediction.json", "class_vectors.npz", "text_table.npz")


@dataclass(frozen=True)
class Scale:
    """How the distances of one output become probabilities.

    Attributes:
        bias: added to the distances of seen names.
        temperature: of ``calibration.probabilities``; None where there were no stage-1 weights to fit it.
        validation: reliability on the clips that it was fitted on.
        test: reliability of the final weights on test.
    """

    bias: float
    temperature: float | None = None
    validation: Reliability | None = None
    test: Reliability | None = None


@dataclass(frozen=True)
class Deployment:
    """See the head of this file.

    Attributes:
        method: name of the method.
        benchmark: name of the benchmark, for people.
        features: name of its features.
        classes: all classes of the benchmark; ``seen`` are those that stage 2 was trained on.
        text_names: what each class was looked up as in ``table``.
        table: text names and their vectors.
        text_alignment: aligned or published, see ``sacma.text.vectors.class_vectors``.
        scales: by output of the method; those that it cannot score with are left out.
        audio_step: seconds of an audio step.
        video_step: seconds of a video step.
        provenance: of the features.
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
        """Gather it when a run ends.

        Args:
            method: the final weights.
            stage_1: those that stage 1 chose, None where there are none.
            bias: that stage 1 chose for the method's own output.
            config: of the run.
            benchmark: that it was trained on.
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

    def portable(self) -> Deployment:
        """The same without the folders of this machine: of a path in what made it, the name is left."""
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
        """Read it back.

        Raises:
            SacmaError: a file is missing or damaged, or they do not belong together.
        """
        path = folder / FACTS
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise SacmaError(f"{path} is of another version of sacma; remove it, or train again")
            vectors = TextTable.read(folder / VECTORS)
            names = tuple(entry["name"] for entry in content["classes"])
            if vectors.names != names:
                raise SacmaError(f"{folder / VECTORS} is not of the same classes as {path}")
            seen = torch.tensor([entry["seen"] is True for entry in content["classes"]])
            steps = [float(content[f"{kind}_step"]) for kind in ("audio", "video")]
            if not all(0 < step < math.inf for step in steps):
                raise ValueError(f"steps of {steps} s")
            return cls(
                method=str(content["method"]),
                benchmark=str(content["benchmark"]),
                features=str(content["features"]),
                classes=ClassSet(names, torch.from_numpy(vectors.vectors), seen),
                text_names=tuple(entry["text_name"] for entry in content["classes"]),
                table=TextTable.read(folder / TABLE),
                text_alignment=str(content["text_alignment"]),
                scales={output: _scale_from_dict(one) for output, one in content["outputs"].items()},
                audio_step=steps[0],
                video_step=steps[1],
                provenance=dict(content["provenance"]),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SacmaError(f"{path} is missing or damaged ({error!r}); copy the run again") from error


def _without_folders(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_folders(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_without_folders(value) for value in content]
    return Path(content).name if isinstance(content, str) and Path(content).is_absolute() else content


def _scales(
    method: Method, stage_1: Method | None, bias: float, config: RunConfig, benchmark: Benchmark
) -> dict[str, Scale]:
    """By each output that can score; ``bias`` is the own output's, validation gives that of the others."""
    if stage_1 is None:
        return {output: Scale(bias if output == method.default_output else 0.0) for output in method.outputs}
    val, test = benchmark.split("val"), benchmark.split("test")
    on_val, on_test = (_distances(one, split, config) for one, split in ((stage_1, val), (method, test)))
    scales = {}
    for output in method.outputs:
        own = output == method.default_output
        chosen = bias if own else _best_bias(stage_1, on_val[output], val, config)
        scales[output] = _scale(on_val[output], on_test[output], chosen, val=val, test=test)
    return scales


def _distances(method: Method, split: Split, config: RunConfig) -> dict[str, Tensor]:
    trimming = trimming_of(config.training, training=False)
    return distances_by_output(method, split, batch_size=config.training.eval_batch_size, trimming=trimming)


def _best_bias(method: Method, distances: Tensor, split: Split, config: RunConfig) -> float:
    if not method.calibrated:
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


def _scale_from_dict(content: Mapping[str, Any]) -> Scale:
    bias, temperature = float(content["bias"]), content["temperature"]
    temperature = None if temperature is None else float(temperature)
    if not math.isfinite(bias) or not (temperature is None or 0 < temperature < math.inf):
        raise ValueError(f"bias {bias}, temperature {temperature}")
    parts = {part: content[part] and Reliability.from_dict(content[part]) for part in ("validation", "test")}
    return Scale(bias, temperature, **parts)
