"""Typed records of a run: its result, the choice of stage 1, and the summary over seeds.

They are dataclasses from where they are made to where they are shown. JSON is written and read here alone;
reading checks every field, so that an edited or damaged file is one error that names the file and the field.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from sacma.errors import SacmaError
from sacma.files import is_number, read_json
from sacma.metrics.gzsl import MEASURES, GZSLResult

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class RunIdentity:
    """Data, method and protocol of a run: without them its numbers mean nothing.

    Attributes:
        benchmark: name of the benchmark.
        features: name of the features.
        feature_scaling: published, standardise or unit.
        split: the class split, main or cls.
        text: source of the class vectors.
        text_alignment: aligned, published or rotated.
        method: name of the method.
        variant: variant of the method.
        preset: published, medium or small.
        bias_search: exact, smooth, grid or fine-grid.
    """

    benchmark: str
    features: str
    feature_scaling: str
    split: str
    text: str
    text_alignment: str
    method: str
    variant: str
    preset: str
    bias_search: str

    @property
    def headline(self) -> str:
        """One line that says what was run on what."""
        return (
            f"{self.method} ({self.variant}) on {self.benchmark}, {self.features} features "
            f"({self.feature_scaling}), {self.split} split, {self.text_alignment} class vectors "
            f"({self.text}), {self.bias_search} bias search"
        )

    def _identity(self) -> dict[str, str]:
        names = ("benchmark", "features", "feature_scaling", "split", "text", "text_alignment")
        return {name: getattr(self, name) for name in (*names, "method", "variant", "preset")}


_TEXTS = tuple(RunIdentity.__dataclass_fields__)


@dataclass(frozen=True, kw_only=True)
class RunResult(RunIdentity):
    """The result of a finished run, as result.json keeps it.

    Attributes:
        seed: of weights, batches and dropout.
        epochs: epochs that stage 1 chose.
        validation: of stage 1, at the chosen epoch and bias.
        test: of stage 2, at the bias that stage 1 chose.
    """

    seed: int
    epochs: int
    validation: GZSLResult
    test: GZSLResult

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; nan becomes None."""
        return {
            "format": FORMAT,
            **self._identity(),
            "seed": self.seed,
            "bias_search": self.bias_search,
            "epochs": self.epochs,
            "validation": self.validation.to_dict(),
            "test": self.test.to_dict(),
        }

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read result.json, or result-OUTPUT.json.

        Raises:
            SacmaError: the file is missing or damaged, or a field is of another type; both are named.
        """
        fields = Fields.read(path, "remove the run, or train with --force")
        if fields.content.get("format") != FORMAT:
            raise SacmaError(f"{path} is of another version of sacma; {fields.advice}")
        return cls(
            **{name: fields.text(name) for name in _TEXTS},
            seed=fields.whole("seed", least=0),
            epochs=fields.whole("epochs", least=1),
            validation=fields.measured("validation"),
            test=fields.measured("test"),
        )


@dataclass(frozen=True)
class StageSelection:
    """The choice of stage 1, and its grounds.

    Attributes:
        epochs: epochs that the best weights had seen.
        validation: the result on validation, bias included, that chose them.
        learning_rates: of each epoch, one a parameter group.
    """

    epochs: int
    validation: GZSLResult
    learning_rates: Sequence[Sequence[float]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; nan becomes None."""
        return {
            "epochs": self.epochs,
            "validation": self.validation.to_dict(),
            "learning_rates": [list(rates) for rates in self.learning_rates],
        }

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read selection.json.

        Raises:
            SacmaError: the file is missing or damaged, or a field is of another type; both are named.
        """
        fields = Fields.read(path, "train again with --force")
        epochs = fields.whole("epochs", least=1)
        rates = fields.content.get("learning_rates")
        if (
            not isinstance(rates, list)
            or len(rates) < epochs
            or not all(isinstance(one, list) and all(map(is_number, one)) for one in rates)
        ):
            raise fields.wrong("learning_rates", "a list of numbers for each epoch")
        return cls(epochs, fields.measured("validation"), rates)


@dataclass(frozen=True)
class Spread:
    """Mean and sample standard deviation over seeds.

    Attributes:
        mean: name of a measure -> its mean, as a fraction.
        std: name of a measure -> its standard deviation; None for a single seed.
    """

    mean: Mapping[str, float]
    std: Mapping[str, float | None]

    @classmethod
    def of(cls, results: Sequence[GZSLResult]) -> Self:
        """The spread of the measures of several results."""
        rows = [[getattr(one, name) for name in MEASURES] for one in results]
        values = torch.tensor(rows, dtype=torch.float64)  # (seeds, measures)
        deviations = values.std(dim=0).tolist() if len(results) > 1 else [None] * len(MEASURES)
        return cls(
            dict(zip(MEASURES, values.mean(dim=0).tolist(), strict=True)),
            dict(zip(MEASURES, deviations, strict=True)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"mean": dict(self.mean), "std": dict(self.std)}


@dataclass(frozen=True, kw_only=True)
class RunSummary(RunIdentity):
    """One configuration over several seeds, as summary.json keeps it.

    Attributes:
        seeds: the seeds.
        epochs: epochs that stage 1 chose, one a seed.
        validation: spread of the results on validation.
        test: spread of the results on test.
    """

    seeds: Sequence[int]
    epochs: Sequence[int]
    validation: Spread
    test: Spread

    @classmethod
    def of(cls, results: Sequence[RunResult]) -> Self:
        """The summary of runs that differ by their seed alone."""
        return cls(
            **{name: getattr(results[0], name) for name in _TEXTS},
            seeds=[one.seed for one in results],
            epochs=[one.epochs for one in results],
            validation=Spread.of([one.validation for one in results]),
            test=Spread.of([one.test for one in results]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "format": FORMAT,
            **self._identity(),
            "bias_search": self.bias_search,
            "seeds": list(self.seeds),
            "epochs": list(self.epochs),
            "validation": self.validation.to_dict(),
            "test": self.test.to_dict(),
        }


class Fields:
    """Fields of a JSON object, each checked when it is taken.

    Args:
        content: the object.
        path: its file, for errors.
        advice: the end of an error, what to do.
        within: name of the object in the file, such as ``outputs.phi_m``; empty for the file's own object.

    Raises:
        SacmaError: ``content`` is not an object. The methods raise it where a field is of another type.
    """

    def __init__(self, content: object, *, path: Path, advice: str, within: str = "") -> None:
        self.path, self.advice, self._within = path, advice, within
        if not isinstance(content, dict):
            raise SacmaError(f"{path} is damaged: {within} is not an object; {advice}")
        self.content: dict[str, Any] = content

    @classmethod
    def read(cls, path: Path, advice: str) -> Self:
        """The fields of a file.

        Raises:
            SacmaError: the file is missing, damaged or not a JSON object.
        """
        return cls(read_json(path), path=path, advice=advice)

    def _full(self, name: str) -> str:
        return f"{self._within}.{name}" if self._within else name

    def wrong(self, name: str, expected: str) -> SacmaError:
        """The error for a field that is not as expected."""
        return SacmaError(f"{self.path} is damaged: {self._full(name)} is not {expected}; {self.advice}")

    def text(self, name: str) -> str:
        """A text."""
        value = self.content.get(name)
        if not isinstance(value, str):
            raise self.wrong(name, "text")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.content.get(name)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def whole(self, name: str, *, least: int) -> int:
        """A whole number, ``least`` or more."""
        value = self.content.get(name)
        if type(value) is not int or value < least:
            raise self.wrong(name, f"a whole number, {least} or more")
        return value

    def number(self, name: str, *, positive: bool = False) -> float:
        """A finite number."""
        value: Any = self.content.get(name)
        if not is_number(value) or (positive and value <= 0):
            raise self.wrong(name, "a number above 0" if positive else "a finite number")
        return float(value)

    def given(self, name: str) -> bool:
        """True if the field is there and not null."""
        return self.content.get(name) is not None

    def object(self, name: str) -> Self:
        """The fields of an object within this one."""
        content = self.content.get(name)
        return type(self)(content, path=self.path, advice=self.advice, within=self._full(name))

    def objects(self, name: str) -> list[Self]:
        """The fields of each object of a list."""
        rows = self.content.get(name)
        if not isinstance(rows, list):
            raise self.wrong(name, "a list")
        return [
            type(self)(row, path=self.path, advice=self.advice, within=f"{self._full(name)}[{place}]")
            for place, row in enumerate(rows)
        ]

    def measured(self, name: str) -> GZSLResult:
        """A result on clips of seen and of unseen classes, so that each of its measures is a number."""
        try:
            result = GZSLResult.from_dict(self.content.get(name))
        except SacmaError as error:
            raise SacmaError(f"{self.path} is damaged: {self._full(name)}: {error}; {self.advice}") from error
        for measure in MEASURES:
            if not math.isfinite(getattr(result, measure)):
                raise self.wrong(f"{name}.{measure}", "a finite number")
        return result
